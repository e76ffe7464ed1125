//! A private OVN and Open vSwitch: one database server for the three databases, northd, ovn-controller and
//! vswitchd, all in the cloud's namespace.
//!
//! The databases share a server because on one machine they live and die together, and each server more
//! costs memory for nothing. They keep a socket each, so that who connects need not know.

use crate::error::{EngineError, Result};
use crate::files;
use crate::netns::{Namespace, PUBLIC_PORT};
use crate::process::{self, Daemon, EngineStatus, Spec, run};
use futures::future::try_join_all;
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

const START_LIMIT: Duration = Duration::from_secs(30);
const DATABASES: &str = "ovsdb-server";
const SWITCH: &str = "ovs-vswitchd";
const NORTHD: &str = "ovn-northd";
const CONTROLLER: &str = "ovn-controller";
/// In the order in which they end.
pub(crate) const DAEMONS: [&str; 4] = [CONTROLLER, NORTHD, SWITCH, DATABASES];

const SCHEMAS: [(&str, &str); 3] = [
    ("nb.db", "/usr/share/ovn/ovn-nb.ovsschema"),
    ("sb.db", "/usr/share/ovn/ovn-sb.ovsschema"),
    ("conf.db", "/usr/share/openvswitch/vswitch.ovsschema"),
];

pub(crate) struct Ovn {
    databases: Daemon,
    switch: Daemon,
    northd: Daemon,
    controller: Daemon,
}

pub(crate) fn nb_socket(dir: &Path) -> PathBuf {
    run_dir(dir).join("nb.sock")
}

pub(crate) fn sb_socket(dir: &Path) -> PathBuf {
    run_dir(dir).join("sb.sock")
}

pub(crate) fn ovs_socket(dir: &Path) -> PathBuf {
    run_dir(dir).join("db.sock")
}

/// Where the daemons' sockets are: what others see as `/run/openvswitch`.
pub(crate) fn run_dir(dir: &Path) -> PathBuf {
    dir.join("ovs")
}

/// Makes the folder that [`run_dir`] names, which libvirt's mounts need before OVS runs.
pub(crate) fn prepare(dir: &Path) -> Result<()> {
    files::make_dir(&run_dir(dir))
}

/// Starts what does not run. `chassis` is this machine's name in the southbound database.
pub(crate) async fn start(dir: &Path, namespace: &Namespace, chassis: Uuid) -> Result<Ovn> {
    for program in
        [DATABASES, SWITCH, NORTHD, CONTROLLER, "ovs-vsctl", "ovn-nbctl", "ovn-sbctl", "ovsdb-tool"]
    {
        process::find(program).ok_or(EngineError::Missing { program })?;
    }
    let ovn = Starter { dir, namespace, run: run_dir(dir).display().to_string() };
    let databases = ovn.databases().await?;
    let datapath = ovn.datapath(chassis).await?;
    let switch = ovn.daemon(SWITCH, &[&format!("--unixctl={}/vswitchd.ctl", ovn.run), &ovn.remote("db")])?;
    ovn.bridges(&switch, datapath).await?;
    let northd = ovn.daemon(
        NORTHD,
        &[
            &format!("--ovnnb-db={}", ovn.remote("nb")),
            &format!("--ovnsb-db={}", ovn.remote("sb")),
            &format!("--unixctl={}/northd.ctl", ovn.run),
        ],
    )?;
    let controller = ovn.daemon(CONTROLLER, &[&ovn.remote("db")])?;
    ovn.registered(&controller, chassis).await?;
    Ok(Ovn { databases, switch, northd, controller })
}

struct Starter<'a> {
    dir: &'a Path,
    namespace: &'a Namespace,
    run: String,
}

impl Starter<'_> {
    fn remote(&self, name: &str) -> String {
        format!("unix:{}/{name}.sock", self.run)
    }

    fn daemon(&self, program: &str, args: &[&str]) -> Result<Daemon> {
        let quiet = ["-vsyslog:off", "-vconsole:info"];
        let argv = std::iter::once(program).chain(quiet).chain(args.iter().copied());
        let mut spec = Spec::new(self.dir, program, argv.map(str::to_owned).collect());
        spec.netns = Some(self.namespace.name.clone());
        // These programs look at /sys/class/net, which shows the namespace in which it was mounted.
        spec.mounts = Some("mount -t sysfs sysfs /sys".into());
        for (name, value) in [
            ("OVS_RUNDIR", self.run.as_str()),
            ("OVN_RUNDIR", self.run.as_str()),
            ("OVS_DBDIR", self.run.as_str()),
            ("MALLOC_ARENA_MAX", "1"),
        ] {
            spec.env.push((name.into(), value.into()));
        }
        Daemon::start(spec)
    }

    async fn databases(&self) -> Result<Daemon> {
        try_join_all(SCHEMAS.iter().map(|(file, schema)| self.database(file, schema))).await?;
        let at = |name: &str| format!("--remote=p{}", self.remote(name));
        let files = SCHEMAS.map(|(file, _)| format!("{}/{file}", self.run));
        let control = format!("--unixctl={}/ovsdb.ctl", self.run);
        let server = self.daemon(
            DATABASES,
            &[&at("db"), &at("nb"), &at("sb"), &control, &files[0], &files[1], &files[2]],
        )?;
        let sockets = [nb_socket(self.dir), sb_socket(self.dir), ovs_socket(self.dir)];
        server.wait_ready(START_LIMIT, || connects(&sockets)).await?;
        let (nb, sb) = (format!("--db={}", self.remote("nb")), format!("--db={}", self.remote("sb")));
        let init_nb = ["ovn-nbctl", &nb, "--timeout=10", "init"];
        let init_sb = ["ovn-sbctl", &sb, "--timeout=10", "init"];
        futures::try_join!(run(&init_nb), run(&init_sb))?;
        Ok(server)
    }

    /// Makes a database, or brings an older one to the installed schema. Not while a server has it open.
    async fn database(&self, file: &str, schema: &str) -> Result<()> {
        let path = format!("{}/{file}", self.run);
        if !Path::new(&path).exists() {
            return run(&["ovsdb-tool", "create", &path, schema]).await.map(drop);
        }
        let in_use = process::look(self.dir, DATABASES, DATABASES).pid.is_some();
        if !in_use && run(&["ovsdb-tool", "needs-conversion", &path, schema]).await? == "yes" {
            run(&["ovsdb-tool", "convert", &path, schema]).await?;
        }
        Ok(())
    }

    /// Says what this chassis is, and finds out which datapath it has: the kernel's where one can be made
    /// in this namespace, else the one in user space.
    async fn datapath(&self, chassis: Uuid) -> Result<&'static str> {
        let datapath = if kernel_datapath(&self.namespace.name).await { "system" } else { "netdev" };
        let hostname = hostname()?;
        let ids = [
            ("system-id", chassis.to_string()),
            ("hostname", hostname),
            ("ovn-remote", self.remote("sb")),
            ("ovn-encap-type", "geneve".into()),
            ("ovn-encap-ip", self.namespace.address.to_string()),
            ("ovn-bridge-datapath-type", datapath.into()),
            ("ovn-bridge-mappings", "public:br-ex".into()),
            ("ovn-monitor-all", "true".into()),
            ("ovn-openflow-probe-interval", "0".into()),
        ];
        let ids = ids.map(|(key, value)| format!("external_ids:{key}=\"{value}\""));
        let threads = ["other_config:n-handler-threads=1", "other_config:n-revalidator-threads=1"];
        let set = ids.iter().map(String::as_str).chain(threads);
        let db = format!("--db={}", self.remote("db"));
        let head = ["ovs-vsctl", &db, "--timeout=10", "--no-wait", "init", "--", "set", "Open_vSwitch", "."];
        run(&head.into_iter().chain(set).collect::<Vec<_>>()).await?;
        Ok(datapath)
    }

    async fn bridges(&self, switch: &Daemon, datapath: &str) -> Result<()> {
        let control = [run_dir(self.dir).join("vswitchd.ctl")];
        switch.wait_ready(START_LIMIT, || connects(&control)).await?;
        let (db, kind) = (format!("--db={}", self.remote("db")), format!("datapath_type={datapath}"));
        let argv = format!(
            "ovs-vsctl {db} --timeout=20 -- --may-exist add-br br-int -- set Bridge br-int {kind} fail-mode=secure \
             -- --may-exist add-br br-ex -- set Bridge br-ex {kind} \
             -- --may-exist add-port br-ex {PUBLIC_PORT}"
        );
        run(&argv.split_whitespace().collect::<Vec<_>>()).await.map(drop)
    }

    async fn registered(&self, controller: &Daemon, chassis: Uuid) -> Result<()> {
        let (db, chassis) = (format!("--db={}", self.remote("sb")), chassis.to_string());
        let find = ["ovn-sbctl", &db, "--timeout=5", "--bare", "--columns=name", "find", "Chassis"];
        let name = format!("name=\"{chassis}\"");
        let find = [&find[..], &[&name]].concat();
        let there = async || run(&find).await.is_ok_and(|found| !found.is_empty());
        controller.wait_ready(START_LIMIT, there).await?;
        // A port made in the moment in which ovn-controller registers can be overlooked: let it settle first.
        let nb = format!("--db={}", self.remote("nb"));
        run(&["ovn-nbctl", &nb, "--timeout=20", "--wait=hv", "sync"]).await.map(drop)
    }
}

fn hostname() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/hostname");
    std::fs::read_to_string(path).map(|name| name.trim().to_owned()).map_err(EngineError::file(path))
}

/// Whether all of the sockets take a connection.
async fn connects(sockets: &[PathBuf]) -> bool {
    let connect = async |socket| tokio::net::UnixStream::connect(socket).await;
    try_join_all(sockets.iter().map(connect)).await.is_ok()
}

/// Whether the kernel has Open vSwitch and makes a datapath in the namespace: tried, not assumed.
pub(crate) async fn kernel_datapath(netns: &str) -> bool {
    // Loads the module where there is one; whether it did shows in the next line.
    let _ = run(&["modprobe", "-q", "openvswitch"]).await;
    let enter = format!("--net=/run/netns/{netns}");
    let dpctl = async |verb| run(&["nsenter", &enter, "ovs-dpctl", verb, "aquifer-probe"]).await.is_ok();
    dpctl("add-dp").await && dpctl("del-dp").await
}

impl Ovn {
    pub(crate) fn status(&self) -> Vec<EngineStatus> {
        [&self.databases, &self.switch, &self.northd, &self.controller].map(Daemon::status).into()
    }

    pub(crate) async fn stop(&self) -> Result<()> {
        let controller = self.controller.stop().await;
        let northd = self.northd.stop().await;
        let switch = self.switch.stop().await;
        let databases = self.databases.stop().await;
        controller.and(northd).and(switch).and(databases)
    }
}

/// Ends what runs of it, whoever started it.
pub(crate) async fn stop(dir: &Path) -> Result<()> {
    for name in DAEMONS {
        process::end_by_name(dir, name, name, Duration::from_secs(5)).await?;
    }
    Ok(())
}
