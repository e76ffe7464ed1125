//! A whole cloud's worth of real engines, the services that compute leans on, and one host agent that talks to
//! the controller over HTTP, as in life.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use api::{
    Caller, Context, DomainRef, Error, Links, ProjectRef, RoleRef, Scope, Secret, TokenValidator, UserRef,
};
use async_trait::async_trait;
use compute::{Agent, AgentConfig, CephAccess, Compute};
use engines::{Endpoints, Engines, EnginesConfig, Running, Silent};
use pool::{ClusterConfig, Clusters, TierConfig, Tiers};
use serde_json::{Value, json};
use state::{Db, Timestamp, Worker, WorkerConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const PROJECT: &str = "11111111111111111111111111111111";
pub const OTHER: &str = "22222222222222222222222222222222";

/// Tokens that mean themselves: `member`, `reader`, `admin`, `other`.
pub struct Tokens;

#[async_trait]
impl TokenValidator for Tokens {
    async fn validate(&self, token: &str) -> Result<Arc<Caller>, Error> {
        let (project, roles): (&str, &[&str]) = match token {
            "member" => (PROJECT, &["member", "reader"]),
            "reader" => (PROJECT, &["reader"]),
            "admin" => (PROJECT, &["admin", "manager", "member", "reader"]),
            "other" => (OTHER, &["member", "reader"]),
            _ => return Err(Error::unauthenticated()),
        };
        let domain = DomainRef { id: "default".into(), name: "Default".into() };
        let role = |r: &&str| RoleRef { id: (*r).into(), name: (*r).into() };
        Ok(Arc::new(Caller {
            user: UserRef { id: format!("user-{project}"), name: token.into(), domain: domain.clone() },
            scope: Scope::Project(ProjectRef { id: project.into(), name: token.into(), domain }),
            roles: roles.iter().map(role).collect(),
            expires_at: Timestamp(i64::MAX),
            audit_ids: vec!["audit".into()],
            token: Secret(token.into()),
        }))
    }
}

/// The engines: private ones, in a folder of their own, stopped by [`end`].
pub async fn engines() -> (Running, PathBuf) {
    let dir = std::env::temp_dir().join(format!("aquifer-compute-{}", std::process::id()));
    let running =
        Engines::up(&dir, &EnginesConfig::default(), &Silent).await.expect("the engines do not start");
    (running, dir)
}

pub async fn end((running, dir): (Running, PathBuf)) {
    running.stop().await.unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

/// Where a controller finds its engines.
#[derive(Debug, Clone)]
pub struct Place {
    pub ceph_conf: PathBuf,
    pub ceph_user: String,
    pub keyring: Option<PathBuf>,
    /// The pool of each tier; where absent the tier's own name.
    pub pool: Option<&'static str>,
    pub nb: String,
    pub sb: String,
}

impl Place {
    pub fn of(e: &Endpoints) -> Place {
        Place {
            ceph_conf: e.ceph_conf.clone(),
            ceph_user: e.ceph_user.clone(),
            keyring: Some(e.ceph_keyring.clone()),
            pool: None,
            nb: format!("unix:{}", e.nb_socket.display()),
            sb: format!("unix:{}", e.sb_socket.display()),
        }
    }

    /// The shared test cluster, and no OVN at all: what ports need of it comes later, as for a cloud whose OVN is
    /// away.
    pub fn shared() -> Place {
        let ceph = testbed::ceph();
        Place {
            ceph_conf: ceph.conf.clone(),
            ceph_user: ceph.user.into(),
            keyring: None,
            pool: Some("rbd"),
            nb: "unix:/nonexistent/nb.sock".into(),
            sb: "unix:/nonexistent/sb.sock".into(),
        }
    }
}

/// The controller with everything it leans on, served on a port of its own.
pub struct Controller {
    pub db: Db,
    pub compute: Arc<Compute>,
    pub images: Arc<imagestore::Images>,
    pub volumes: Arc<blockstore::Volumes>,
    pub networks: netagent::Networks,
    pub base: String,
    pub tiers: Tiers,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Controller {
    pub async fn start(e: &Endpoints, database: &Path) -> Controller {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(e, database, listener).await
    }

    pub async fn start_on(e: &Endpoints, database: &Path, listener: tokio::net::TcpListener) -> Controller {
        let db = Db::open(&format!("sqlite://{}", database.display())).await.unwrap();
        let c = Self::build(db, &Place::of(e), listener, compute::Config::default()).await;
        c.networks.ready(Duration::from_secs(20)).await.unwrap();
        c
    }

    pub async fn build(
        db: Db,
        place: &Place,
        listener: tokio::net::TcpListener,
        config: compute::Config,
    ) -> Controller {
        for set in [
            &state::tasks::MIGRATIONS,
            &imagestore::MIGRATIONS,
            &blockstore::MIGRATIONS,
            &compute::MIGRATIONS,
        ] {
            db.migrate(set).await.unwrap();
        }
        let base = format!("http://{}", listener.local_addr().unwrap());
        let links = Links::new(&base);
        let mut cluster = ClusterConfig::new("ceph", &place.ceph_conf);
        cluster.user.clone_from(&place.ceph_user);
        cluster.keyring = place.keyring.clone();
        let clusters = Clusters::connect(&[cluster]).await.unwrap();
        let tier = |name: &str| TierConfig {
            name: name.into(),
            cluster: "ceph".into(),
            pool: place.pool.unwrap_or(name).into(),
            data_pool: None,
            namespace: None,
        };
        let tiers = Tiers::new(&clusters, &["images", "volumes", "vms"].map(tier)).unwrap();
        let images = imagestore::Config::default();
        let images = imagestore::Images::new(db.clone(), tiers.clone(), images, links.clone()).unwrap();
        let volumes = blockstore::Config::default();
        let volumes =
            blockstore::Volumes::new(db.clone(), tiers.clone(), images.clone(), volumes, links.clone());
        let volumes = volumes.await.unwrap();
        let network = netagent::Config {
            ovn_nb: place.nb.clone(),
            ovn_sb: place.sb.clone(),
            ..netagent::Config::default()
        };
        let networks = netagent::Networks::start(db.clone(), network, links.clone()).await.unwrap();
        let config = compute::Config { shutdown_secs: 20, ..config };
        let compute = Compute::new(
            db.clone(),
            tiers.clone(),
            images.clone(),
            volumes.clone(),
            networks.clone(),
            config,
            links,
        );
        let compute = compute.await.unwrap();
        for _ in 0..2 {
            compute.bootstrap().await.unwrap();
        }
        let stop = CancellationToken::new();
        let tokens: Arc<dyn TokenValidator> = Arc::new(Tokens);
        let router = compute::router(compute.clone(), tokens.clone())
            .merge(blockstore::router(&volumes, tokens.clone()))
            .merge(networks.router(tokens));
        let worker = Worker::new(db.clone(), WorkerConfig::new("test"))
            .with_all(compute::operations(&compute))
            .with_all(blockstore::operations(&volumes))
            .with_all(imagestore::operations(&images));
        let (net, until) = (networks.clone(), stop.clone());
        let tasks = vec![
            tokio::spawn(api::server::serve(listener, router, stop.clone())),
            tokio::spawn(worker.run(stop.clone())),
            tokio::spawn(async move { net.run(until).await }),
        ];
        Controller { db, compute, images, volumes, networks, base, tiers, stop, tasks }
    }

    /// Ends at once, as by `kill -9`: nothing gets to finish.
    pub async fn kill(self) {
        for task in &self.tasks {
            task.abort();
        }
        for task in self.tasks {
            let _ = task.await;
        }
        self.db.close().await;
    }

    pub async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
        self.db.close().await;
    }

    pub fn client(&self, token: &'static str) -> Client {
        Client { http: reqwest::Client::new(), base: self.base.clone(), token, version: "2.96" }
    }
}

/// A host agent, with its configuration, so that another life of it can be started.
pub struct Host {
    pub agent: Arc<Agent>,
    pub config: AgentConfig,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Host {
    pub async fn configure(c: &Controller, e: &Endpoints, dir: &Path) -> AgentConfig {
        let secret = c.compute.register_host(&e.chassis).await.unwrap();
        let file = dir.join("agent.secret");
        std::fs::write(&file, format!("{}\n", secret.0)).unwrap();
        let mut config = AgentConfig::new(&c.base, &e.chassis, file, &e.libvirt_uri, dir.join("agent"));
        config.ceph = vec![CephAccess {
            name: "ceph".into(),
            conf: e.ceph_conf.clone(),
            user: e.ceph_user.clone(),
            keyring: Some(e.ceph_keyring.clone()),
        }];
        config.ovs = format!("unix:{}", e.ovs_socket.display());
        config.network_namespace = Some(e.netns.clone());
        config
    }

    pub async fn start(config: AgentConfig) -> Host {
        let agent = Arc::new(Agent::new(config.clone()).await.unwrap());
        let stop = CancellationToken::new();
        let (running, until) = (agent.clone(), stop.clone());
        let task = tokio::spawn(async move { running.run(until).await });
        Host { agent, config, stop, task }
    }

    /// Ends at once; guests are left as they are.
    pub async fn kill(self) -> AgentConfig {
        self.task.abort();
        let _ = self.task.await;
        self.config
    }

    pub fn console(&self, guest: &str) -> PathBuf {
        self.config.state_dir.join("consoles").join(format!("{guest}.log"))
    }
}

/// A user with a token.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: &'static str,
    pub version: &'static str,
}

impl Client {
    /// The same user, in another microversion.
    pub fn at(&self, version: &'static str) -> Client {
        Client { version, ..self.clone() }
    }

    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request =
            self.http.request(method, format!("{}{path}", self.base)).header("X-Auth-Token", self.token);
        for (service, version) in [("compute", self.version), ("placement", self.version), ("volume", "3.71")]
        {
            if path.starts_with(&format!("/{service}")) {
                request = request.header("OpenStack-API-Version", format!("{service} {version}"));
            }
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, None).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call("POST", path, Some(body.clone())).await;
        assert!((200..300).contains(&status), "POST {path} {body}: {status} {answer}");
        answer
    }

    /// How the server's actions of this name have ended, the oldest first; null where one has not.
    pub async fn results(&self, server: &str, action: &str) -> Vec<Value> {
        let path = format!("/compute/v2.1/servers/{server}/os-instance-actions");
        let all = self.get(&path).await["instanceActions"].clone();
        let mut results = Vec::new();
        for one in all.as_array().unwrap().iter().rev().filter(|a| a["action"] == action) {
            let one = self.get(&format!("{path}/{}", one["request_id"].as_str().unwrap())).await;
            let event = &one["instanceAction"]["events"][0];
            assert_eq!(event["event"], format!("compute_{action}"));
            results.push(event["result"].clone());
        }
        results
    }

    pub async fn action(&self, server: &str, body: Value) {
        self.post(&format!("/compute/v2.1/servers/{server}/action"), body).await;
    }

    pub async fn server(&self, id: &str) -> Value {
        self.get(&format!("/compute/v2.1/servers/{id}")).await["server"].clone()
    }

    pub async fn until_status(&self, id: &str, wanted: &str, within: u64) -> Value {
        let began = Instant::now();
        loop {
            let s = self.server(id).await;
            if s["status"] == wanted && s["OS-EXT-STS:task_state"].is_null() {
                return s;
            }
            let state = &s["status"];
            assert!(state != "ERROR" || wanted == "ERROR", "server is ERROR: {}", s["fault"]);
            assert!(began.elapsed() < Duration::from_secs(within), "server is {state}, not {wanted}: {s}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn until_gone(&self, id: &str, within: u64) {
        let began = Instant::now();
        while self.call("GET", &format!("/compute/v2.1/servers/{id}"), None).await.0 != 404 {
            assert!(began.elapsed() < Duration::from_secs(within), "server {id} stays");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn until_console(&self, id: &str, text: &str, within: u64) -> String {
        let began = Instant::now();
        loop {
            let path = format!("/compute/v2.1/servers/{id}/action");
            let (status, out) = self.call("POST", &path, Some(json!({"os-getConsoleOutput": {}}))).await;
            let console = out["output"].as_str().unwrap_or_default().to_owned();
            if console.contains(text) {
                return console;
            }
            assert!(
                began.elapsed() < Duration::from_secs(within),
                "no {text:?} after {within} s ({status}): {console}"
            );
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

/// A network with a subnet and the test image.
pub async fn furnish(c: &Controller, e: &Endpoints) -> (String, String) {
    let user = c.client("member");
    let net = user.post("/network/v2.0/networks", json!({"network": {"name": "net"}})).await;
    let net = net["network"]["id"].as_str().unwrap().to_owned();
    let subnet = json!({"subnet": {"network_id": net, "ip_version": 4, "cidr": "10.77.0.0/24"}});
    user.post("/network/v2.0/subnets", subnet).await;
    let file = e.test_image.clone().expect("the test image was not built");
    let image = c.images.ensure("test", &file, "qcow2", Default::default(), None).await.unwrap();
    (net, image.id)
}

pub fn context() -> Context {
    Context::service_in("test", ProjectRef { id: PROJECT.into(), ..ProjectRef::default() })
}

/// A host that does at once whatever it is told, by the agents' protocol alone.
pub struct Puppet {
    pub name: String,
    http: reqwest::Client,
    base: String,
    pub secret: String,
}

impl Puppet {
    pub async fn register(c: &Controller, name: &str) -> Puppet {
        let secret = c.compute.register_host(name).await.unwrap().0;
        Puppet { name: name.into(), http: reqwest::Client::new(), base: c.base.clone(), secret }
    }

    pub async fn call(&self, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}/compute/agent/v1/hosts/{}/{path}", self.base, self.name);
        let response = self.http.post(url).bearer_auth(&self.secret).json(body).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or(Value::Null))
    }

    pub async fn poll(&self) -> Value {
        let (status, desired) = self.call("poll", &json!({"known": ""})).await;
        assert_eq!(status, 200, "{desired}");
        desired
    }

    /// A document of a guest's metadata, as the door in the guest's network asks for it.
    pub async fn metadata(&self, network: &str, address: &str, path: &str) -> Value {
        let url = format!("{}/compute/agent/v1/hosts/{}/metadata", self.base, self.name);
        let asked = [("network", network), ("address", address), ("path", path)];
        let response = self.http.get(url).query(&asked).bearer_auth(&self.secret).send().await.unwrap();
        response.json().await.unwrap_or(Value::Null)
    }

    /// Everything is as wanted.
    pub async fn obey(&self) -> Value {
        let desired = self.poll().await;
        let guests: Vec<Value> = desired["guests"].as_array().unwrap().iter().map(obedient).collect();
        self.report(json!(guests)).await;
        for ask in desired["consoles"].as_array().unwrap() {
            self.call("consoles", &json!({"request": ask["request"], "text": "one\ntwo\nthree\n"})).await;
        }
        desired
    }

    pub async fn report(&self, guests: Value) {
        let facts = json!({"vcpus": 4, "memory_mib": 8192, "reserved_memory_mib": 512, "free_memory_mib": 7000,
            "disk_gib": 100, "free_disk_gib": 90, "arch": "x86_64", "cpu_model": "m", "cpu_vendor": "v",
            "topology": {"sockets": 1, "cores": 4, "threads": 1}, "virt_type": "qemu",
            "hypervisor_version": 7002000, "agent_version": "0", "address": "127.0.0.1", "uptime_secs": 1,
            "load": "0"});
        let (status, answer) = self.call("report", &json!({"facts": facts, "guests": guests})).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Obeys until `stop`.
    pub fn run(self: Arc<Self>) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut known = String::new();
            loop {
                let (status, desired) = self.call("poll", &json!({"known": known})).await;
                assert_eq!(status, 200, "{desired}");
                known = desired["version"].as_str().unwrap().to_owned();
                self.obey().await;
            }
        })
    }
}

pub fn obedient(g: &Value) -> Value {
    let power = match g["power"].as_str().unwrap() {
        "on" => "running",
        "off" => "shutdown",
        "gone" => "absent",
        other => other,
    };
    let on = matches!(power, "running" | "paused");
    let of = |list: &str, key: &str| -> Vec<Value> {
        if on { g[list].as_array().unwrap().iter().map(|d| d[key].clone()).collect() } else { Vec::new() }
    };
    let grown = g["disks"].as_array().unwrap().iter().filter(|d| on && !d["grown"].is_null());
    let grown: serde_json::Map<_, _> = grown
        .map(|d| (d["serial"].as_str().unwrap().to_owned(), json!({"bytes": d["grown"], "error": null})))
        .collect();
    json!({"id": g["id"], "generation": g["generation"], "incarnation": g["incarnation"], "power": power,
        "disks": of("disks", "serial"), "ports": of("nics", "port_id"), "grown": grown, "error": null})
}

/// An image of one MiB of zeroes.
pub async fn small_image(c: &Controller) -> String {
    let new = imagestore::NewImage {
        name: Some("small".into()),
        disk_format: Some("raw".into()),
        container_format: Some("bare".into()),
        ..imagestore::NewImage::default()
    };
    let image = c.images.create(&context(), new).await.unwrap();
    let bytes = bytes::Bytes::from(vec![0u8; 1 << 20]);
    let body = futures::stream::once(async move { Ok(bytes) });
    c.images.upload(&context(), &image.id, Some(1 << 20), Box::pin(body)).await.unwrap();
    image.id
}
