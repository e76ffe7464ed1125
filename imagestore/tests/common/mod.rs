//! A whole image service for one test: a namespace of its own in the test cluster, a fresh database, a worker and a
//! server on port 0. Tokens are names: see [`Tokens`].
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "every test binary uses a part of it")]

use api::{Caller, DomainRef, Error, Links, ProjectRef, RoleRef, Scope, Secret, TokenValidator, UserRef};
use async_trait::async_trait;
use imagestore::{Config, Images};
use pool::{ClusterConfig, Clusters, TierConfig, Tiers};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use state::{Db, Timestamp, Worker, WorkerConfig};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// `admin`; `service`, one of the cloud's own; `alice` and `rita` (who only reads) of project p1; `bob` of project p2.
pub struct Tokens;

#[async_trait]
impl TokenValidator for Tokens {
    async fn validate(&self, token: &str) -> Result<Arc<Caller>, Error> {
        let (project, roles): (&str, &[&str]) = match token {
            "admin" => ("p0", &["admin", "manager", "member", "reader"]),
            "alice" => ("p1", &["member", "reader"]),
            "rita" => ("p1", &["reader"]),
            "bob" => ("p2", &["member", "reader"]),
            "service" => ("services", &["service", "reader"]),
            _ => return Err(Error::unauthenticated()),
        };
        let domain = DomainRef { id: "default".into(), name: "Default".into() };
        Ok(Arc::new(Caller {
            user: UserRef { id: token.into(), name: token.into(), domain: domain.clone() },
            scope: Scope::Project(ProjectRef { id: project.into(), name: project.into(), domain }),
            roles: roles.iter().map(|r| RoleRef { id: (*r).into(), name: (*r).into() }).collect(),
            expires_at: Timestamp(i64::MAX),
            audit_ids: Vec::new(),
            token: Secret(token.into()),
        }))
    }
}

pub struct Cloud {
    pub images: Arc<Images>,
    pub db: Db,
    pub tiers: Tiers,
    pub url: String,
    pub namespace: String,
    http: reqwest::Client,
    pub stop: CancellationToken,
}

/// The tiers `images` and `volumes`, both the same place.
pub async fn tiers() -> (Tiers, String) {
    tiers_in("rbd").await
}

pub async fn clusters() -> Clusters {
    Clusters::connect(&[ClusterConfig::new("main", &testbed::ceph().conf)]).await.unwrap()
}

/// The same in another pool.
pub async fn tiers_in(pool: &str) -> (Tiers, String) {
    let clusters = clusters().await;
    let namespace = testbed::unique("image");
    let tier = |name: &str| TierConfig {
        name: name.into(),
        cluster: "main".into(),
        pool: pool.into(),
        data_pool: None,
        namespace: Some(namespace.clone()),
    };
    let tiers = Tiers::new(&clusters, &[tier("images"), tier("volumes")]).unwrap();
    tiers.get("images").unwrap().pool.rbd().namespace_create(&namespace).await.unwrap();
    (tiers, namespace)
}

/// The tiers `images` and `cold`, each in a namespace of its own.
pub async fn two_tiers() -> (Tiers, String) {
    let clusters = clusters().await;
    let namespace = testbed::unique("image");
    let tier = |name: &str, namespace: String| TierConfig {
        name: name.into(),
        cluster: "main".into(),
        pool: "rbd".into(),
        data_pool: None,
        namespace: Some(namespace),
    };
    let further = format!("{namespace}-cold");
    let all = [tier("images", namespace.clone()), tier("cold", further.clone())];
    let tiers = Tiers::new(&clusters, &all).unwrap();
    for one in [&namespace, &further] {
        tiers.get("images").unwrap().pool.rbd().namespace_create(one).await.unwrap();
    }
    (tiers, namespace)
}

/// Both of them are stores.
pub fn two_stores() -> Config {
    Config { stores: vec!["cold".into()], ..Config::default() }
}

/// The URLs of fresh databases, one per engine: for a service that dies, and another one that finds what it has left.
pub async fn urls() -> Vec<String> {
    let file = std::env::temp_dir().join(format!("{}.sqlite", testbed::unique("image-db")));
    let mut all = vec![format!("sqlite://{}", file.display())];
    if std::env::var_os("AQUIFER_TEST_PG").is_some() {
        all.push(testbed::database_url().await);
    }
    all
}

pub async fn open(url: &str) -> Db {
    let db = Db::open(url).await.unwrap();
    db.migrate(&state::tasks::MIGRATIONS).await.unwrap();
    db
}

/// A service in a runtime of its own, with its own connections to the database, that can die.
pub struct Mortal {
    runtime: tokio::runtime::Runtime,
    pub cloud: Cloud,
}

impl Mortal {
    pub async fn start(url: &str, tiers: &Tiers, namespace: &str, config: Config) -> Mortal {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (url, tiers, namespace) = (url.to_owned(), tiers.clone(), namespace.to_owned());
        let started =
            runtime.spawn(async move { Cloud::start(open(&url).await, tiers, namespace, config).await });
        let cloud = started.await.unwrap();
        Mortal { runtime, cloud }
    }

    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// As by `kill -9`: nothing of it goes on, and nothing is cleaned up.
    pub fn die(self) {
        self.runtime.shutdown_background();
    }
}

impl Cloud {
    pub async fn new(db: Db) -> Cloud {
        Cloud::with(db, Config::default()).await
    }

    pub async fn with(db: Db, config: Config) -> Cloud {
        let (tiers, namespace) = tiers().await;
        Cloud::start(db, tiers, namespace, config).await
    }

    /// With the further store `cold`, in a namespace of its own.
    pub async fn with_two_stores(db: Db) -> Cloud {
        let (tiers, namespace) = two_tiers().await;
        Cloud::start(db, tiers, namespace, two_stores()).await
    }

    /// Starts the service over what is there already.
    pub async fn start(db: Db, tiers: Tiers, namespace: String, config: Config) -> Cloud {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .try_init();
        db.migrate(&imagestore::MIGRATIONS).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let node = config.node.clone();
        let images = Images::new(db.clone(), tiers.clone(), config, Links::new(&url)).unwrap();
        let stop = CancellationToken::new();
        let router = imagestore::router(images.clone(), Arc::new(Tokens));
        tokio::spawn(api::server::serve(listener, router, stop.clone()));
        let config = WorkerConfig { backoff: Duration::from_millis(20), ..WorkerConfig::new(node) };
        let worker = Worker::new(db.clone(), config).with_all(imagestore::operations(&images));
        tokio::spawn(worker.run(stop.clone()));
        Cloud { images, db, tiers, url, namespace, http: reqwest::Client::new(), stop }
    }

    pub fn ask(&self, who: &str, method: Method, path: &str) -> RequestBuilder {
        let r = self.http.request(method, format!("{}/image{path}", self.url));
        r.header("x-auth-token", who).header("accept", "application/json")
    }

    pub async fn get(&self, who: &str, path: &str) -> Response {
        self.ask(who, Method::GET, path).send().await.unwrap()
    }

    /// A GET that succeeds, as JSON.
    pub async fn read(&self, who: &str, path: &str) -> Value {
        let r = self.get(who, path).await;
        assert_eq!(r.status(), StatusCode::OK, "{path}");
        body(r).await
    }

    pub async fn post(&self, who: &str, path: &str, body: Value) -> Response {
        self.ask(who, Method::POST, path).body(body.to_string()).send().await.unwrap()
    }

    pub async fn delete(&self, who: &str, path: &str) -> StatusCode {
        self.ask(who, Method::DELETE, path).send().await.unwrap().status()
    }

    pub async fn patch(&self, who: &str, id: &str, changes: Value) -> Response {
        let r = self.ask(who, Method::PATCH, &format!("/v2/images/{id}"));
        let r = r.header("content-type", "application/openstack-images-v2.1-json-patch");
        r.body(changes.to_string()).send().await.unwrap()
    }

    /// A new image of `who`'s; its id.
    pub async fn create(&self, who: &str, body: Value) -> String {
        let r = self.post(who, "/v2/images", body).await;
        assert_eq!(r.status(), StatusCode::CREATED);
        let image = self::body(r).await;
        image["id"].as_str().unwrap().to_owned()
    }

    pub async fn raw(&self, who: &str) -> String {
        self.create(who, json!({"name": "raw", "disk_format": "raw", "container_format": "bare"})).await
    }

    pub async fn put(&self, who: &str, id: &str, what: &str, bytes: impl Into<reqwest::Body>) -> Response {
        let r = self.ask(who, Method::PUT, &format!("/v2/images/{id}/{what}"));
        r.header("content-type", "application/octet-stream").body(bytes).send().await.unwrap()
    }

    pub async fn show(&self, id: &str) -> Value {
        self.read("admin", &format!("/v2/images/{id}")).await
    }

    pub async fn file(&self, who: &str, id: &str) -> Vec<u8> {
        let r = self.get(who, &format!("/v2/images/{id}/file")).await;
        assert_eq!(r.status(), StatusCode::OK);
        r.bytes().await.unwrap().to_vec()
    }

    pub fn rbd(&self) -> pool::Rbd {
        self.tiers.get("images").unwrap().pool.rbd()
    }

    /// The disk that a clone of the image would see.
    pub async fn disk(&self, id: &str) -> Vec<u8> {
        let image = self.rbd().open_snapshot(id, "snap").await.unwrap();
        let size = image.size().await.unwrap();
        let mut reader = pool::ImageReader::new(image, 0, size);
        let mut all = Vec::new();
        while let Some(part) = reader.next().await.unwrap() {
            all.extend_from_slice(&part);
        }
        all
    }

    pub async fn until_status(&self, id: &str, status: &str) {
        until(status, async || self.show(id).await["status"] == status).await;
    }

    /// Nothing is in the pool.
    pub async fn until_empty(&self) {
        let rbd = self.rbd();
        until("the pool is empty", async || {
            rbd.list().await.unwrap().is_empty() && rbd.trash_list().await.unwrap().is_empty()
        })
        .await;
    }

    /// Ends the service and takes its namespace away, which must be empty.
    pub async fn end(self) {
        self.until_empty().await;
        self.stop.cancel();
        let rbd = self.rbd();
        until("the namespace goes", async || rbd.namespace_remove(&self.namespace).await.is_ok()).await;
    }
}

/// Asks for an import; the status of the answer.
pub async fn import(c: &Cloud, id: &str, request: Value) -> u16 {
    c.post("alice", &format!("/v2/images/{id}/import"), request).await.status().as_u16()
}

/// A queued image of alice's.
pub async fn new(c: &Cloud, format: &str) -> String {
    c.create("alice", json!({"disk_format": format, "container_format": "bare"})).await
}

/// The image's last task, once it has ended.
pub async fn ended(c: &Cloud, id: &str) -> Value {
    let path = format!("/v2/images/{id}/tasks");
    let last = async || c.read("alice", &path).await["tasks"][0].clone();
    until("the task ends", async || {
        ["success", "failure"].contains(&last().await["status"].as_str().unwrap())
    })
    .await;
    last().await
}

pub async fn body(r: Response) -> Value {
    serde_json::from_slice(&r.bytes().await.unwrap()).unwrap()
}

/// Waits for what must come true within a minute.
pub async fn until(what: &str, check: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !check().await {
        assert!(began.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Bytes that do not repeat soon.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// A disk with data, zeroes and repetitions, that is no multiple of anything.
pub fn disk(len: usize) -> Vec<u8> {
    let mut d = vec![0u8; len];
    let third = len / 3;
    d[..third / 2].copy_from_slice(&noise(third / 2, 7));
    d[third..third + third / 2].fill(0x5a);
    let end = len - len.min(512);
    d[end..].copy_from_slice(&noise(len - end, 9));
    d
}
