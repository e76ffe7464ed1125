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
        let mut cluster = ClusterConfig::new("ceph", &e.ceph_conf);
        cluster.user.clone_from(&e.ceph_user);
        cluster.keyring = Some(e.ceph_keyring.clone());
        let clusters = Clusters::connect(&[cluster]).await.unwrap();
        let tier = |name: &str| TierConfig {
            name: name.into(),
            cluster: "ceph".into(),
            pool: name.into(),
            data_pool: None,
            namespace: None,
        };
        let tiers = Tiers::new(&clusters, &["images", "volumes", "vms"].map(tier)).unwrap();
        let images =
            imagestore::Images::new(db.clone(), tiers.clone(), imagestore::Config::default(), links.clone())
                .unwrap();
        let volumes = blockstore::Volumes::new(
            db.clone(),
            tiers.clone(),
            images.clone(),
            blockstore::Config::default(),
            links.clone(),
        )
        .await
        .unwrap();
        let network = netagent::Config {
            ovn_nb: format!("unix:{}", e.nb_socket.display()),
            ovn_sb: format!("unix:{}", e.sb_socket.display()),
            ..netagent::Config::default()
        };
        let networks = netagent::Networks::start(db.clone(), network, links.clone()).await.unwrap();
        networks.ready(Duration::from_secs(20)).await.unwrap();
        let compute = Compute::new(
            db.clone(),
            tiers.clone(),
            images.clone(),
            volumes.clone(),
            networks.clone(),
            compute::Config { shutdown_secs: 20, ..compute::Config::default() },
            links,
        )
        .await
        .unwrap();
        compute.bootstrap().await.unwrap();
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
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request =
            self.http.request(method, format!("{}{path}", self.base)).header("X-Auth-Token", self.token);
        if path.starts_with("/compute") {
            request = request.header("OpenStack-API-Version", format!("compute {}", self.version));
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
