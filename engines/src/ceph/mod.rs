//! A private Ceph: one monitor, one manager and some OSDs, each with BlueStore on a sparse file.
//!
//! What takes time when a cluster is made is one Python start per `ceph` command, and the quarter of a
//! second that BlueStore waits each time it closes its file. So every key goes into the monitor's store
//! when it is made, all remaining commands go through one `ceph` process, OSDs make their stores while the
//! monitor comes up, and readiness is asked of the daemons' admin sockets. A restart needs no command.
//!
//! `HEALTH_OK` says nothing about whether a write would succeed: a cluster is ready when one has.

mod asok;
mod layout;

use crate::error::{EngineError, Result};
use crate::files;
use crate::process::{self, Daemon, EngineStatus, Spec, run_with};
use crate::progress::{Progress, step};
use futures::future::{join_all, try_join_all};
pub(crate) use layout::free_space;
use layout::{Cluster, POOLS};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// From here on a daemon that is not ready will not be.
const START_LIMIT: Duration = Duration::from_secs(90);
const OSD_GRACE: Duration = Duration::from_secs(30);
const MON: &str = "ceph-mon.a";
const MGR: &str = "ceph-mgr.a";

/// Where the daemons listen.
#[derive(Debug, Clone)]
pub enum Bind {
    /// On 127.0.0.1, on ports that are free when the cluster is made: what tests use.
    Loopback,
    /// In a network namespace that exists, on an address in it.
    Namespace { name: String, address: std::net::Ipv4Addr },
}

/// How a cluster is made. All but `bind` count on the first start only. Sizes are bytes.
#[derive(Debug, Clone)]
pub struct Options {
    pub osds: u32,
    /// The most that each OSD's sparse file may grow to. Default: three quarters of the free disk divided
    /// by the number of OSDs, at most 100 GiB.
    pub osd_size: Option<u64>,
    /// BlueStore's cache, each OSD.
    pub osd_cache: u64,
    pub bind: Bind,
}

impl Default for Options {
    fn default() -> Self {
        Self { osds: 1, osd_size: None, osd_cache: 64 << 20, bind: Bind::Loopback }
    }
}

/// A cluster that runs. Dropping it ends the supervision and leaves the daemons.
pub struct Ceph {
    dir: PathBuf,
    mon: Daemon,
    mgr: Daemon,
    osds: Vec<Daemon>,
}

/// Starts the cluster in `dir`, or makes it, or takes it up where it runs; returns when a write has
/// succeeded in every pool.
pub async fn start(dir: &Path, options: &Options, progress: &dyn Progress) -> Result<Ceph> {
    for program in ["ceph-mon", "ceph-mgr", "ceph-osd", "ceph", "rados", "rbd", "monmaptool"] {
        process::find(program).ok_or(EngineError::Missing { program })?;
    }
    let dir = &crate::cloud::prepare(dir)?;
    match Cluster::read(dir)? {
        Some(cluster) if layout::is_complete(dir) => {
            layout::write_conf(dir, &cluster, options)?;
            resume(dir, &cluster, options, progress).await
        }
        half_made => {
            if half_made.is_some() {
                progress.note("an earlier start was cut short while it made Ceph; it is made anew");
                stop(dir).await?;
            }
            layout::wipe(dir)?;
            let cluster = Cluster::plan(dir, options)?;
            create(dir, &cluster, options, progress).await
        }
    }
}

/// Ends what runs of the cluster in `dir`, whoever started it: OSDs first, so that they can still tell the
/// monitor.
pub async fn stop(dir: &Path) -> Result<()> {
    let osds = Cluster::read(dir)?.map_or(0, |cluster| cluster.osds.len());
    let names: Vec<String> = (0..osds).map(osd_name).collect();
    let ends = names.iter().map(|name| process::end_by_name(dir, name, "ceph-osd", OSD_GRACE));
    try_join_all(ends).await?;
    process::end_by_name(dir, MGR, "ceph-mgr", Duration::from_secs(2)).await?;
    process::end_by_name(dir, MON, "ceph-mon", Duration::from_secs(10)).await
}

/// The daemons of the cluster in `dir`: name and program.
pub(crate) fn daemons(dir: &Path) -> Vec<(String, &'static str)> {
    let osds = Cluster::read(dir).ok().flatten().map_or(0, |cluster| cluster.osds.len());
    let fixed = [(MON.to_owned(), "ceph-mon"), (MGR.to_owned(), "ceph-mgr")];
    fixed.into_iter().chain((0..osds).map(|id| (osd_name(id), "ceph-osd"))).collect()
}

fn osd_name(id: usize) -> String {
    format!("ceph-osd.{id}")
}

async fn create(dir: &Path, cluster: &Cluster, options: &Options, progress: &dyn Progress) -> Result<Ceph> {
    cluster.write(dir)?;
    layout::write_conf(dir, cluster, options)?;
    layout::write_keys(dir, cluster)?;
    let stores = step(progress, "make Ceph's stores", async {
        try_join_all((0..cluster.osds.len()).map(|id| make_osd(dir, cluster, id))).await
    });
    let monitor = step(progress, "make Ceph's monitor", async {
        make_mon(dir, cluster).await?;
        let mon = start_mon(dir, options).await?;
        let mgr = Daemon::start(spec(dir, options, MGR, "ceph-mgr", "a"))?;
        first_commands(dir, cluster).await?;
        Ok::<_, EngineError>((mon, mgr))
    });
    let ((mon, mgr), _) = futures::try_join!(monitor, stores)?;
    let osds = start_osds(dir, cluster, options, progress).await?;
    step(progress, "write to every pool", first_writes(dir)).await?;
    layout::set_complete(dir)?;
    Ok(Ceph { dir: dir.to_owned(), mon, mgr, osds })
}

async fn resume(dir: &Path, cluster: &Cluster, options: &Options, progress: &dyn Progress) -> Result<Ceph> {
    let mon = step(progress, "start Ceph's monitor", start_mon(dir, options)).await?;
    let mgr = Daemon::start(spec(dir, options, MGR, "ceph-mgr", "a"))?;
    let osds = start_osds(dir, cluster, options, progress).await?;
    step(progress, "write to every pool", probe_pools(dir)).await?;
    Ok(Ceph { dir: dir.to_owned(), mon, mgr, osds })
}

fn spec(dir: &Path, options: &Options, name: &str, program: &str, id: &str) -> Spec {
    let conf = layout::conf(dir).display().to_string();
    let argv = [program, "-c", &conf, "-i", id, "-f"].map(str::to_owned).to_vec();
    let mut spec = Spec::new(dir, name, argv);
    if let Bind::Namespace { name, .. } = &options.bind {
        spec.netns = Some(name.clone());
    }
    if let Some(tcmalloc) = tcmalloc().filter(|_| program == "ceph-osd") {
        spec.env.push(("LD_PRELOAD".into(), tcmalloc));
        spec.env.push(("TCMALLOC_RELEASE_RATE".into(), "10".into()));
        return spec;
    }
    // Debian's Ceph allocates through glibc, which by itself gives little back after a busy time.
    for (name, value) in [("ARENA_MAX", "2"), ("TRIM_THRESHOLD_", "131072"), ("MMAP_THRESHOLD_", "1048576")] {
        spec.env.push((format!("MALLOC_{name}"), value.into()));
    }
    spec
}

/// The allocator that Ceph's own builds are linked with and Debian's are not, where it is installed (Ceph's tools
/// depend on it). Beside glibc's an OSD reads a thousand rows in a fifth of the processor time and writes 4 MiB in a half.
fn tcmalloc() -> Option<String> {
    let dirs =
        [format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH), "/usr/lib64".into(), "/usr/lib".into()];
    dirs.into_iter().map(|dir| format!("{dir}/libtcmalloc.so.4")).find(|file| Path::new(file).exists())
}

async fn make_mon(dir: &Path, cluster: &Cluster) -> Result<()> {
    let (conf, map) = (text(&layout::conf(dir)), text(&dir.join("ceph/monmap")));
    let keys = text(&layout::all_keys(dir));
    let (fsid, address) = (cluster.fsid.to_string(), cluster.mon_address());
    process::run(&["monmaptool", "--create", "--clobber", "--fsid", &fsid, "--addv", "a", &address, &map])
        .await?;
    let mkfs = ["ceph-mon", "-c", &conf, "--no-mon-config", "--mkfs", "-i", "a", "--monmap", &map];
    process::run(&[&mkfs[..], &["--keyring", &keys]].concat()).await?;
    // The monitor holds the keys now.
    std::fs::remove_file(&keys).map_err(EngineError::file(keys))
}

async fn start_mon(dir: &Path, options: &Options) -> Result<Daemon> {
    let mon = Daemon::start(spec(dir, options, MON, "ceph-mon", "a"))?;
    let socket = asok::path(dir, "mon.a");
    mon.wait_ready(START_LIMIT, || asok::state_is(&socket, "mon_status", "leader")).await?;
    Ok(mon)
}

async fn make_osd(dir: &Path, cluster: &Cluster, id: usize) -> Result<()> {
    let conf = text(&layout::conf(dir));
    let (id, fsid) = (id.to_string(), cluster.osds[id].to_string());
    // With the usual 250 ms each of the eight times that mkfs closes its file takes that long.
    let poll = "--bdev_aio_poll_ms=5";
    let mkfs = ["ceph-osd", "-c", &conf, "--no-mon-config", poll, "-i", &id, "--mkfs", "--osd-uuid", &fsid];
    process::run(&mkfs).await.map(drop)
}

async fn start_osds(
    dir: &Path,
    cluster: &Cluster,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Daemon>> {
    let one = async |id: usize| {
        let osd = Daemon::start(spec(dir, options, &osd_name(id), "ceph-osd", &id.to_string()))?;
        let socket = asok::path(dir, &format!("osd.{id}"));
        osd.wait_ready(START_LIMIT, || asok::state_is(&socket, "status", "active")).await?;
        Ok::<_, EngineError>(osd)
    };
    let what = if cluster.osds.len() == 1 { "start Ceph's OSD" } else { "start Ceph's OSDs" };
    step(progress, what, try_join_all((0..cluster.osds.len()).map(one))).await
}

/// What a new monitor has to be told, in one Python start.
async fn first_commands(dir: &Path, cluster: &Cluster) -> Result<()> {
    let osds = cluster.osds.iter().enumerate().map(|(id, fsid)| format!("osd new {fsid} {id}\n"));
    let pools = POOLS.iter().map(|pool| {
        let (name, pgs) = (pool.name, pool.pgs);
        let application = pool.application;
        format!("osd pool create {name} {pgs} {pgs}\nosd pool application enable {name} {application}\n")
    });
    // Without Python modules the manager needs a sixth of the memory; that is meant, and no error.
    let mute = std::iter::once("health mute MGR_MODULE_ERROR --sticky\n".to_owned());
    commands(dir, &osds.chain(pools).chain(mute).collect::<String>()).await.map(drop)
}

/// Gives the lines to one `ceph` process, as client.admin. The first that is refused fails all.
async fn commands(dir: &Path, lines: &str) -> Result<String> {
    let script = format!("exec ceph -c {} --connect-timeout 30 2>&1", layout::conf(dir).display());
    let output = run_with(&["sh", "-c", &script], &[], Some(lines)).await?;
    match output.lines().find(|line| line.starts_with("Error ") || line.contains("Invalid command")) {
        Some(refused) => Err(EngineError::Command { command: "ceph".into(), output: refused.to_owned() }),
        None => Ok(output),
    }
}

/// The pools' first writes: RBD's own for its pools, a probe for the others.
async fn first_writes(dir: &Path) -> Result<()> {
    let conf = text(&layout::conf(dir));
    let init = async |pool: &'static str| {
        run_with(&["timeout", "90", "rbd", "-c", &conf, "--id", "admin", "pool", "init", pool], &[], None)
            .await
    };
    let rbd = POOLS.iter().filter(|pool| pool.application == "rbd").map(|pool| init(pool.name));
    let others = POOLS.iter().filter(|pool| pool.application != "rbd").map(|pool| probe(dir, pool.name));
    futures::try_join!(try_join_all(rbd), try_join_all(others)).map(drop)
}

async fn probe_pools(dir: &Path) -> Result<()> {
    try_join_all(POOLS.iter().map(|pool| probe(dir, pool.name))).await.map(drop)
}

/// One object written, in a namespace of its own. librados waits until the placement group takes it.
async fn probe(dir: &Path, pool: &str) -> Result<()> {
    let conf = text(&layout::conf(dir));
    let put = ["timeout", "90", "rados", "-c", &conf, "--id", "admin", "-p", pool, "-N", "aquifer-engines"];
    run_with(&[&put[..], &["put", "probe", "-"]].concat(), &[], Some("ready\n")).await.map(drop)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

impl Ceph {
    /// The configuration for librados clients and QEMU. It names the keyrings of both users.
    pub fn conf(&self) -> PathBuf {
        layout::conf(&self.dir)
    }

    /// The user that services and guests log in as; `admin` has a keyring beside it.
    pub fn user(&self) -> &'static str {
        layout::USER
    }

    pub fn keyring(&self) -> PathBuf {
        layout::keyring(&self.dir, &format!("client.{}", layout::USER))
    }

    /// Whether the daemons ran already when this value was made.
    pub fn adopted(&self) -> bool {
        self.mon.adopted() && self.osds.iter().all(Daemon::adopted)
    }

    /// Monitor, manager, OSDs.
    pub fn status(&self) -> Vec<EngineStatus> {
        [&self.mon, &self.mgr].into_iter().chain(&self.osds).map(Daemon::status).collect()
    }

    /// Sends `signal` to an OSD, for tests of what its absence does (SIGSTOP, SIGCONT, SIGKILL). Says
    /// whether there is such an OSD and it runs.
    pub fn signal_osd(&self, id: usize, signal: nix::sys::signal::Signal) -> bool {
        let pid = self.osds.get(id).and_then(Daemon::pid);
        pid.map(|pid| process::send(pid, signal)).is_some()
    }

    /// [`Self::signal_osd`] for the monitor.
    pub fn signal_mon(&self, signal: nix::sys::signal::Signal) -> bool {
        self.mon.pid().map(|pid| process::send(pid, signal)).is_some()
    }

    /// Ends the cluster in order: OSDs say goodbye to the monitor, which ends last.
    pub async fn stop(&self) -> Result<()> {
        let osds: Result<Vec<()>> = join_all(self.osds.iter().map(Daemon::stop)).await.into_iter().collect();
        let mgr = self.mgr.stop().await;
        let mon = self.mon.stop().await;
        osds.and(mgr).and(mon)
    }
}

/// Removes the cluster's data; the daemons must have ended.
pub fn wipe(dir: &Path) -> Result<()> {
    files::remove_dir(&dir.join("ceph"))
}
