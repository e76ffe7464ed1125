//! Real engines for this crate's tests: OVSDB servers with OVN's schemas, and where packets must flow, a whole
//! OVN and Open vSwitch (user-space datapath) in a network namespace of its own.

#![allow(dead_code, unreachable_pub)] // each test program uses a part of this
#![allow(clippy::unwrap_used, clippy::print_stderr)] // a test may panic, and says why on its error stream

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{
    Caller, Context, DomainRef, Error, Links, ProjectRef, RequestId, RoleRef, Scope, Secret, TokenValidator,
    UserRef,
};
use async_trait::async_trait;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use netagent::{Config, Networks};
use serde_json::{Value, json};
use tower::ServiceExt;

/// Runs a command that must succeed; its output.
pub fn run(command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    run_args(&words)
}

pub fn run_args(words: &[&str]) -> String {
    let done = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{words:?}: {out}{err}");
    out.into_owned()
}

/// Waits for something that another process does.
pub async fn eventually<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < within, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Processes that end with the test.
#[derive(Default)]
pub struct Children(Vec<Child>);

impl Children {
    pub fn spawn(&mut self, namespace: Option<&str>, env: &[(&str, &Path)], words: &[&str], log: &Path) {
        let mut command = match namespace {
            Some(ns) => {
                let mut c = Command::new("ip");
                c.args(["netns", "exec", ns]).args(words);
                c
            }
            None => {
                let mut c = Command::new(words[0]);
                c.args(&words[1..]);
                c
            }
        };
        let log = std::fs::File::create(log).unwrap();
        command.envs(env.iter().map(|(k, v)| (*k, *v))).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.0.push(child);
    }

    pub fn end_last(&mut self) {
        if let Some(mut child) = self.0.pop() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in self.0.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// OVN's databases without the daemons: enough where only rows matter.
pub struct Databases {
    pub dir: tempfile::TempDir,
    children: Children,
}

impl Databases {
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("netagent-").tempdir().unwrap();
        for (db, schema) in [("nb", "ovn-nb"), ("sb", "ovn-sb")] {
            let path = dir.path().join(format!("{db}.db"));
            run_args(&[
                "ovsdb-tool",
                "create",
                path.to_str().unwrap(),
                &format!("/usr/share/ovn/{schema}.ovsschema"),
            ]);
        }
        let mut this = Self { dir, children: Children::default() };
        this.serve().await;
        run(&format!("ovn-nbctl --db=unix:{}/nb.sock init", this.path().display()));
        this
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub async fn serve(&mut self) {
        let dir = self.dir.path().to_owned();
        let d = dir.display();
        let (nb, sb, ctl) = (
            format!("--remote=punix:{d}/nb.sock"),
            format!("--remote=punix:{d}/sb.sock"),
            format!("--unixctl={d}/ctl"),
        );
        let (nbdb, sbdb) = (format!("{d}/nb.db"), format!("{d}/sb.db"));
        let words = ["ovsdb-server", "--no-chdir", &nb, &sb, &ctl, &nbdb, &sbdb];
        self.children.spawn(None, &[], &words, &dir.join("ovsdb.log"));
        wait_socket(&dir.join("nb.sock")).await;
        wait_socket(&dir.join("sb.sock")).await;
    }

    /// Ends the server, as a crash does.
    pub fn kill(&mut self) {
        self.children.end_last();
    }

    pub fn nb(&self, args: &[&str]) -> String {
        let db = format!("--db=unix:{}/nb.sock", self.path().display());
        run_args(&[&["ovn-nbctl", &db][..], args].concat())
    }

    pub fn config(&self) -> Config {
        config(self.path())
    }
}

pub fn config(dir: &Path) -> Config {
    Config {
        ovn_nb: format!("unix:{}/nb.sock", dir.display()),
        ovn_sb: format!("unix:{}/sb.sock", dir.display()),
        ..Config::default()
    }
}

pub async fn wait_socket(path: &Path) {
    eventually(&format!("{} listens", path.display()), Duration::from_secs(15), || {
        std::os::unix::net::UnixStream::connect(path).ok()
    })
    .await;
}

/// A whole OVN on one chassis, in a namespace, with a second namespace as the world outside.
pub struct Lab {
    pub dir: PathBuf,
    pub ns: String,
    pub outside: String,
    guests: Vec<String>,
    databases: Databases,
    children: Children,
}

/// The external network of a lab: the outside's own address, and what is given away.
pub const OUTSIDE: &str = "172.31.77.1";

impl Lab {
    pub async fn start() -> Self {
        let databases = Databases::start().await;
        let dir = databases.path().to_owned();
        let tag = testbed::unique("na").rsplit('-').take(2).collect::<String>();
        let (ns, outside) = (format!("na-{tag}"), format!("na-out-{tag}"));
        run(&format!("ip netns add {ns}"));
        run(&format!("ip netns add {outside}"));
        run(&format!("ip -n {ns} link set lo up"));
        run(&format!("ip -n {ns} link add ext0 type veth peer name out0 netns {outside}"));
        run(&format!("ip -n {ns} link set ext0 up"));
        run(&format!("ip -n {outside} link set out0 up"));
        run(&format!("ip -n {outside} addr add {OUTSIDE}/24 dev out0"));
        for (n, dev) in [(&ns, "ext0"), (&outside, "out0")] {
            run(&format!("ip netns exec {n} ethtool -K {dev} tx off"));
        }
        let mut lab = Self { dir, ns, outside, guests: Vec::new(), databases, children: Children::default() };
        lab.engines().await;
        lab
    }

    async fn engines(&mut self) {
        let dir = self.dir.clone();
        let d = dir.display().to_string();
        let env: Vec<(&str, &Path)> =
            ["OVS_RUNDIR", "OVN_RUNDIR", "OVS_DBDIR"].map(|k| (k, dir.as_path())).to_vec();
        let conf = format!("{d}/conf.db");
        run_args(&["ovsdb-tool", "create", &conf, "/usr/share/openvswitch/vswitch.ovsschema"]);
        let mut start = |name: &str, words: &[&str]| {
            self.children.spawn(Some(&self.ns), &env, words, &dir.join(format!("{name}.log")));
        };
        let (remote, ctl) = (format!("--remote=punix:{d}/db.sock"), format!("--unixctl={d}/conf.ctl"));
        start("conf", &["ovsdb-server", "--no-chdir", &remote, &ctl, &conf]);
        wait_socket(&dir.join("db.sock")).await;
        let chassis = format!("chassis-{}", self.ns);
        let vsctl = format!("ovs-vsctl --db=unix:{d}/db.sock --timeout=20");
        run(&format!("{vsctl} --no-wait init"));
        run(&format!(
            "{vsctl} --no-wait set open . external_ids:system-id={chassis} external_ids:hostname={} \
             external_ids:ovn-remote=unix:{d}/sb.sock external_ids:ovn-encap-type=geneve \
             external_ids:ovn-encap-ip=127.0.0.1 external_ids:ovn-bridge-datapath-type=netdev \
             external_ids:ovn-bridge-mappings=public:br-ex external_ids:ovn-monitor-all=true",
            self.ns
        ));
        start(
            "vswitchd",
            &["ovs-vswitchd", &format!("--unixctl={d}/vswitchd.ctl"), &format!("unix:{d}/db.sock")],
        );
        wait_socket(&dir.join("vswitchd.ctl")).await;
        run(&format!(
            "{vsctl} -- --may-exist add-br br-int -- set bridge br-int datapath_type=netdev fail-mode=secure \
             -- --may-exist add-br br-ex -- set bridge br-ex datapath_type=netdev -- add-port br-ex ext0"
        ));
        let (nb, sb) = (format!("--ovnnb-db=unix:{d}/nb.sock"), format!("--ovnsb-db=unix:{d}/sb.sock"));
        start("northd", &["ovn-northd", &nb, &sb, &format!("--unixctl={d}/northd.ctl")]);
        start("controller", &["ovn-controller", &format!("unix:{d}/db.sock")]);
        // A controller that is still finding itself overlooks ports that come in the same moment.
        let sb = format!("ovn-sbctl --db=unix:{d}/sb.sock --bare --columns=name list chassis");
        eventually("the chassis", Duration::from_secs(20), || (!run(&sb).trim().is_empty()).then_some(()))
            .await;
        self.nb(&["--timeout=20", "--wait=hv", "sync"]);
    }

    pub fn config(&self) -> Config {
        self.databases.config()
    }

    pub fn nb(&self, args: &[&str]) -> String {
        self.databases.nb(args)
    }

    pub fn host(&self) -> &str {
        &self.ns
    }

    /// Plugs a "guest" in: a namespace with a veth into br-int.
    pub fn guest(&mut self, port_id: &str, mac: &str) -> Guest {
        let n = self.guests.len();
        let (name, tap) = (format!("{}-g{n}", self.ns), format!("guest{n}"));
        run(&format!("ip netns add {name}"));
        self.guests.push(name.clone());
        run(&format!("ip -n {} link add {tap} type veth peer name eth0 netns {name}", self.ns));
        run(&format!("ip -n {name} link set lo up"));
        run(&format!("ip -n {name} link set eth0 address {mac} mtu 1442 up"));
        run(&format!("ip -n {} link set {tap} up", self.ns));
        run(&format!("ip netns exec {} ethtool -K {tap} tx off", self.ns));
        run(&format!("ip netns exec {name} ethtool -K eth0 tx off"));
        run(&format!(
            "ovs-vsctl --db=unix:{}/db.sock --timeout=20 add-port br-int {tap} \
             -- set interface {tap} external_ids:iface-id={port_id}",
            self.dir.display()
        ));
        Guest { name }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for command in ["show", "list Logical_Switch_Port"] {
                let nb = format!("ovn-nbctl --timeout=3 --db=unix:{}/nb.sock {command}", self.dir.display());
                eprintln!("--- {nb}\n{}", in_namespace(&self.ns, &nb).1);
            }
            let sb = format!("ovn-sbctl --timeout=3 --db=unix:{}/sb.sock show", self.dir.display());
            eprintln!("--- {sb}\n{}", in_namespace(&self.ns, &sb).1);
            for log in ["northd", "controller", "vswitchd"] {
                let text = std::fs::read_to_string(self.dir.join(format!("{log}.log"))).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(8).collect();
                eprintln!("--- {log}:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
        self.children = Children::default();
        for ns in self.guests.iter().chain([&self.outside, &self.ns]) {
            let _ = Command::new("ip").args(["netns", "del", ns]).status();
        }
    }
}

/// A namespace that plays a guest.
pub struct Guest {
    pub name: String,
}

impl Guest {
    /// Runs a command in the guest; whether it succeeded, and what it said.
    pub fn try_run(&self, command: &str) -> (bool, String) {
        in_namespace(&self.name, command)
    }

    /// Gets a lease as any small system does; the address and what else the server said.
    pub fn dhcp(&self, dir: &Path) -> String {
        let script = dir.join("udhcpc.sh");
        std::fs::write(
            &script,
            "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr add $ip/$mask dev $interface\n\
             echo LEASE ip=$ip mask=$mask router=$router mtu=$mtu dns=$dns staticroutes=$staticroutes\n\
             set -- $staticroutes\nwhile [ $# -gt 1 ]; do ip route replace $1 via $2; shift 2; done\n",
        )
        .unwrap();
        run(&format!("chmod +x {}", script.display()));
        let (ok, out) = self.try_run(&format!(
            "busybox udhcpc -i eth0 -n -q -f -t 10 -T 1 -O staticroutes -O mtu -s {}",
            script.display()
        ));
        assert!(ok, "no lease: {out}");
        out
    }

    pub fn pings(&self, address: &str) -> bool {
        pings(&self.name, address)
    }
}

pub fn pings(namespace: &str, address: &str) -> bool {
    in_namespace(namespace, &format!("busybox ping -c 1 -W 1 {address}")).0
}

pub fn in_namespace(namespace: &str, command: &str) -> (bool, String) {
    let done = Command::new("ip")
        .args(["netns", "exec", namespace])
        .args(command.split_whitespace())
        .output()
        .unwrap();
    let text = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Tokens of the form `role:project`.
pub struct Tokens;

pub fn caller(role: &str, project: &str) -> Arc<Caller> {
    let implied: &[&str] = match role {
        "admin" => &["admin", "manager", "member", "reader"],
        "member" => &["member", "reader"],
        other => &[other],
    };
    Arc::new(Caller {
        user: UserRef { id: format!("u-{project}"), name: "u".into(), domain: DomainRef::default() },
        scope: Scope::Project(ProjectRef {
            id: project.into(),
            name: project.into(),
            domain: DomainRef::default(),
        }),
        roles: implied.iter().map(|r| RoleRef { id: (*r).into(), name: (*r).into() }).collect(),
        expires_at: state::Timestamp(i64::MAX),
        audit_ids: Vec::new(),
        token: Secret(String::new()),
    })
}

pub fn ctx(role: &str, project: &str) -> Context {
    Context::new(RequestId::new(), caller(role, project))
}

#[async_trait]
impl TokenValidator for Tokens {
    async fn validate(&self, token: &str) -> Result<Arc<Caller>, Error> {
        let (role, project) = token.split_once(':').ok_or_else(Error::unauthenticated)?;
        Ok(caller(role, project))
    }
}

/// The API of a service, without a socket.
#[derive(Clone)]
pub struct Client(pub axum::Router);

impl Client {
    pub fn of(networks: &Networks) -> Self {
        Self(networks.router(Arc::new(Tokens)))
    }

    pub async fn call(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        self.call_with(token, method, path, body.map(|b| b.to_string()), &[]).await
    }

    pub async fn call_with(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<String>,
        headers: &[(&str, &str)],
    ) -> (StatusCode, Value) {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(format!("/network{path}"))
            .header("content-type", "application/json");
        if !token.is_empty() {
            request = request.header("x-auth-token", token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(axum::body::Body::from(body.unwrap_or_default())).unwrap();
        let response = self.0.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// A call that must succeed with this status.
    pub async fn ok(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.call(token, method, path, body.clone()).await;
        assert!(status.is_success(), "{method} {path} {body:?}: {status} {answer}");
        answer
    }

    /// A call that must be refused; checks status and type.
    pub async fn refused(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
        status: u16,
        kind: &str,
    ) {
        let (got, answer) = self.call(token, method, path, body.clone()).await;
        assert_eq!(got.as_u16(), status, "{method} {path} {body:?}: {answer}");
        assert_eq!(answer["NeutronError"]["type"], kind, "{method} {path} {body:?}: {answer}");
        assert!(answer["NeutronError"]["message"].as_str().is_some_and(|m| !m.is_empty()));
    }
}

pub fn links() -> Links {
    Links::new("http://cloud.test:5000")
}

pub fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

pub const T: &str = "member:p1";
pub const OTHER: &str = "member:p2";
pub const ADMIN: &str = "admin:root";
pub const SOON: Duration = Duration::from_secs(20);

/// A network service over its own rows and databases.
pub struct World {
    pub ovn: Databases,
    pub networks: Networks,
    pub api: Client,
}

/// One on every database engine.
pub async fn worlds() -> Vec<World> {
    let mut worlds = Vec::new();
    for db in testbed::databases().await {
        let ovn = Databases::start().await;
        let networks = Networks::start(db, ovn.config(), links()).await.unwrap();
        networks.ready(SOON).await.unwrap();
        let api = Client::of(&networks);
        worlds.push(World { ovn, networks, api });
    }
    worlds
}

impl World {
    pub async fn network(&self, body: Value) -> Value {
        self.api.ok(T, "POST", "/v2.0/networks", Some(json!({ "network": body }))).await["network"].clone()
    }

    pub async fn subnet(&self, network: &str, cidr: &str) -> Value {
        let body = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": cidr}});
        self.api.ok(T, "POST", "/v2.0/subnets", Some(body)).await["subnet"].clone()
    }

    pub async fn port(&self, body: Value) -> Value {
        self.api.ok(T, "POST", "/v2.0/ports", Some(json!({ "port": body }))).await["port"].clone()
    }

    pub async fn external(&self) -> (String, String) {
        let body = json!({"network": {"name": "public", "router:external": true, "provider:network_type": "flat",
            "provider:physical_network": "public"}});
        let network = id(&self.api.ok(ADMIN, "POST", "/v2.0/networks", Some(body)).await["network"]);
        let body = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "172.24.0.0/24",
            "allocation_pools": [{"start": "172.24.0.10", "end": "172.24.0.20"}]}});
        let subnet = id(&self.api.ok(ADMIN, "POST", "/v2.0/subnets", Some(body)).await["subnet"]);
        (network, subnet)
    }
}
