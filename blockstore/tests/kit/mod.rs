//! A whole volume service for one test: a namespace of its own in the test cluster, a fresh database, a worker and a
//! server on port 0. Tokens are names: see [`Tokens`].
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "every test binary uses a part of it"
)]

use api::{Caller, Context, DomainRef, Error, Links, ProjectRef, RequestId, RoleRef, Scope, Secret, UserRef};
use async_trait::async_trait;
use blockstore::{Config, NewVolume, Source, Volume, VolumeError, VolumeStatus, Volumes};
use bytes::Bytes;
use futures::StreamExt;
use imagestore::Images;
use pool::{ClusterConfig, Clusters, Image, Tier, TierConfig, Tiers};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use state::{Db, Timestamp, Worker, WorkerConfig};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

pub const GIB: u64 = 1 << 30;
/// How long anything may take: bounds what hangs, and says nothing of how long it should take. (Making a key of a passphrase
/// takes seconds of a whole processor, and others may want it.)
pub const PATIENCE: Duration = Duration::from_secs(240);

/// `admin` of project p0; `alice` and `rita` (who only reads) of p1; `bob` of p2. Projects' ids are UUIDs.
pub struct Tokens;

pub fn project(name: &str) -> String {
    let digit = name.as_bytes()[1] as char;
    std::iter::repeat_n(digit, 32).collect()
}

pub fn caller(token: &str) -> Option<Arc<Caller>> {
    let (home, roles): (&str, &[&str]) = match token {
        "admin" => ("p0", &["admin", "manager", "member", "reader"]),
        "alice" => ("p1", &["member", "reader"]),
        "rita" => ("p1", &["reader"]),
        "bob" => ("p2", &["member", "reader"]),
        _ => return None,
    };
    let domain = DomainRef { id: "default".into(), name: "Default".into() };
    Some(Arc::new(Caller {
        user: UserRef { id: token.into(), name: token.into(), domain: domain.clone() },
        scope: Scope::Project(ProjectRef { id: project(home), name: home.into(), domain }),
        roles: roles.iter().map(|r| RoleRef { id: (*r).into(), name: (*r).into() }).collect(),
        expires_at: Timestamp(i64::MAX),
        audit_ids: Vec::new(),
        token: Secret(token.into()),
    }))
}

#[async_trait]
impl api::TokenValidator for Tokens {
    async fn validate(&self, token: &str) -> Result<Arc<Caller>, Error> {
        caller(token).ok_or_else(Error::unauthenticated)
    }
}

pub fn ctx(token: &str) -> Context {
    Context::new(RequestId::new(), caller(token).expect("a known name"))
}

/// The id of what a body shows.
pub fn id(shown: &Value) -> String {
    shown["id"].as_str().unwrap().to_owned()
}

pub struct Kit {
    pub db: Db,
    pub volumes: Arc<Volumes>,
    pub images: Arc<Images>,
    pub tier: Tier,
    pub url: String,
    http: reqwest::Client,
    stop: CancellationToken,
    worker: tokio::task::JoinHandle<()>,
}

impl Drop for Kit {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One service on each database that this run has.
pub async fn kits() -> Vec<Kit> {
    let mut all = Vec::new();
    for db in testbed::databases().await {
        // Room for tests that make many; limits have a test of their own.
        let quota = blockstore::Quota { volumes: 1000, snapshots: 1000, ..blockstore::Quota::default() };
        all.push(kit(db, Config { quota, ..Config::default() }).await);
    }
    all
}

pub async fn kit(db: Db, config: Config) -> Kit {
    kit_at(db, config, testbed::unique("volumes")).await
}

/// A service on a namespace that may have been another's.
pub async fn kit_at(db: Db, config: Config, namespace: String) -> Kit {
    let ceph = testbed::ceph();
    let clusters = Clusters::connect(&[ClusterConfig::new("main", &ceph.conf)]).await.unwrap();
    let place = |name: &str| TierConfig {
        name: name.into(),
        cluster: "main".into(),
        pool: "rbd".into(),
        data_pool: None,
        namespace: Some(namespace.clone()),
    };
    let tiers = Tiers::new(&clusters, &[place("volumes"), place("images")]).unwrap();
    let tier = tiers.get("volumes").unwrap();
    tier.cluster.require_clone_v2().await.unwrap();
    tier.pool.rbd().namespace_create(&namespace).await.unwrap();
    kit_in(db, config, tiers).await
}

pub async fn kit_in(db: Db, config: Config, tiers: Tiers) -> Kit {
    kit_with(db, config, tiers, |_| ()).await
}

/// As [`kit_in`]; `ready` sees the service before anything works on what is left to do.
pub async fn kit_with(db: Db, config: Config, tiers: Tiers, ready: impl FnOnce(&Arc<Volumes>)) -> Kit {
    let tier = tiers.get("volumes").unwrap();
    db.migrate(&imagestore::MIGRATIONS).await.unwrap();
    db.migrate(&blockstore::MIGRATIONS).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let links = Links::new(&url);
    let image_config = imagestore::Config { node: "test".into(), ..imagestore::Config::default() };
    let images = Images::new(db.clone(), tiers.clone(), image_config, links.clone()).unwrap();
    let volumes = Volumes::new(db.clone(), tiers, images.clone(), config, links).await.unwrap();
    ready(&volumes);
    let stop = CancellationToken::new();
    let worker = WorkerConfig { backoff: Duration::from_millis(20), ..WorkerConfig::new("test") };
    let worker = Worker::new(db.clone(), worker)
        .with_all(imagestore::operations(&images))
        .with_all(blockstore::operations(&volumes));
    let worker = tokio::spawn(worker.run(stop.clone()));
    let router = blockstore::router(&volumes, Arc::new(Tokens));
    tokio::spawn(api::server::serve(listener, router, stop.clone()));
    Kit { db, volumes, images, tier, url, http: reqwest::Client::new(), stop, worker }
}

/// Which is here, within [`PATIENCE`].
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not in time");
}

impl Kit {
    /// Ends the service and waits for its worker: another one of the same name may begin.
    pub async fn end(mut self) {
        self.stop.cancel();
        (&mut self.worker).await.unwrap();
    }

    pub async fn create(&self, source: Source, size: Option<i64>) -> Volume {
        let new = NewVolume { size_gib: size, source, ..NewVolume::default() };
        let volume = self.volumes.create(&ctx("alice"), new).await.unwrap();
        assert_eq!(volume.status, VolumeStatus::Creating);
        self.becomes(&volume.id, VolumeStatus::Available).await
    }

    /// An empty volume of a type, 1 GiB.
    pub async fn create_of(&self, kind: &str) -> Volume {
        let new = NewVolume { size_gib: Some(1), volume_type: Some(kind.into()), ..NewVolume::default() };
        let volume = self.volumes.create(&ctx("alice"), new).await.unwrap();
        self.becomes(&volume.id, VolumeStatus::Available).await
    }

    pub async fn becomes(&self, id: &str, status: VolumeStatus) -> Volume {
        let mut signal = self.db.signal(&Volumes::topic(id));
        let began = Instant::now();
        loop {
            let volume = self.volumes.get(&ctx("alice"), id).await.unwrap();
            if volume.status == status {
                return volume;
            }
            let ended = matches!(volume.status, VolumeStatus::Error | VolumeStatus::ErrorDeleting);
            assert!(!ended && began.elapsed() < PATIENCE, "{id} is {}, not {status}", volume.status);
            signal.wait(Duration::from_millis(100)).await;
        }
    }

    pub async fn gone(&self, id: &str) {
        let began = Instant::now();
        loop {
            match self.volumes.get(&ctx("alice"), id).await {
                Err(VolumeError::VolumeNotFound(_)) => return,
                Ok(v) if began.elapsed() > PATIENCE => {
                    panic!("{id} is {} and does not go; left to do: {:?}", v.status, self.left_to_do().await)
                }
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Each task that has not ended: its kind, subject, state, step, attempts, and why the last one failed.
    async fn left_to_do(&self) -> Vec<(String, String, String, i64, i64, String)> {
        sqlx::query_as("SELECT kind, subject, state, step, attempts, reason FROM tasks")
            .fetch_all(self.db.read())
            .await
            .unwrap()
    }

    pub async fn delete(&self, id: &str) {
        let (status, body) = self.call("alice", Method::DELETE, &format!("/volumes/{id}"), Value::Null).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        self.gone(id).await;
    }

    /// No task is left, but those that wait for a clone to go.
    pub async fn settled(&self) {
        until("tasks are done", || async {
            let left: i64 = sqlx::query_scalar(
                "SELECT CAST(COUNT(*) AS BIGINT) FROM tasks WHERE state <> 'failed' AND kind <> 'volume.sweep'",
            )
            .fetch_one(self.db.read())
            .await
            .unwrap();
            (left == 0).then_some(())
        })
        .await;
    }

    pub async fn open(&self, volume_id: &str) -> Image {
        self.tier.pool.rbd().open_read_only(&format!("volume-{volume_id}")).await.unwrap()
    }

    /// The images in the pool, whoever made them.
    pub async fn images_there(&self) -> Vec<String> {
        self.tier.pool.rbd().list().await.unwrap()
    }

    /// How many deleted volumes' images wait in the trash. (Images of the images' service have their own time.)
    pub async fn trash(&self) -> usize {
        let all = self.tier.pool.rbd().trash_list().await.unwrap();
        all.iter().filter(|e| e.name.starts_with("volume-")).count()
    }

    /// An active raw image of alice's with these bytes.
    pub async fn image(&self, bytes: Bytes) -> String {
        let new = imagestore::NewImage {
            name: Some("img".into()),
            visibility: Some(imagestore::Visibility::Community),
            disk_format: Some("raw".into()),
            container_format: Some("bare".into()),
            ..imagestore::NewImage::default()
        };
        let image = self.images.create(&ctx("alice"), new).await.unwrap();
        let len = bytes.len() as u64;
        let body = futures::stream::iter([Ok(bytes)]).boxed();
        self.images.upload(&ctx("alice"), &image.id, Some(len), body).await.unwrap();
        image.id
    }

    pub async fn call(&self, who: &str, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        self.call_at("3.71", who, method, path, body).await
    }

    pub async fn call_at(
        &self,
        version: &str,
        who: &str,
        method: Method,
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let mut request = self
            .http
            .request(method, format!("{}/volume/v3{path}", self.url))
            .header("x-auth-token", who)
            .header("openstack-api-version", format!("volume {version}"));
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn get(&self, who: &str, path: &str) -> Value {
        let (status, body) = self.call(who, Method::GET, path, Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    /// What a POST that succeeds answers.
    pub async fn post(&self, who: &str, path: &str, body: Value) -> Value {
        let (status, body) = self.call(who, Method::POST, path, body).await;
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    /// The resource, once it shows `want` under `key` to an administrator.
    pub async fn shows(&self, path: &str, key: &str, want: &str) -> Value {
        until(&format!("{path}: {key} {want}"), || async {
            let (_, body) = self.call("admin", Method::GET, path, Value::Null).await;
            let shown = body.as_object()?.values().next()?.clone();
            (shown[key] == want).then_some(shown)
        })
        .await
    }

    /// What is being deleted has gone.
    pub async fn absent(&self, path: &str) {
        until(&format!("{path} goes"), || async {
            let (status, _) = self.call("alice", Method::GET, path, Value::Null).await;
            (status == StatusCode::NOT_FOUND).then_some(())
        })
        .await;
    }

    /// A type for everybody; its id.
    pub async fn add_type(&self, name: &str, specs: Value) -> String {
        let body = json!({"volume_type": {"name": name, "extra_specs": specs}});
        id(&self.post("admin", "/types", body).await["volume_type"])
    }

    /// Has the volumes of a type encrypted.
    pub async fn seal_type(&self, kind: &str, encryption: Value) {
        self.post("admin", &format!("/types/{kind}/encryption"), json!({"encryption": encryption})).await;
    }

    /// Asks for a backup of alice's.
    pub async fn ask_backup(&self, backup: Value) -> String {
        id(&self.post("alice", "/backups", json!({"backup": backup})).await["backup"])
    }

    pub async fn backup_becomes(&self, id: &str, status: &str) -> Value {
        self.shows(&format!("/backups/{id}"), "status", status).await
    }

    /// An action that is accepted.
    pub async fn act(&self, who: &str, id: &str, body: Value) -> Value {
        self.post(who, &format!("/volumes/{id}/action"), body).await
    }

    pub async fn snapshot(&self, volume_id: &str) -> String {
        let body = json!({"snapshot": {"volume_id": volume_id}});
        let id = id(&self.post("alice", "/snapshots", body).await["snapshot"]);
        until("snapshot", || async {
            let shown = self.get("alice", &format!("/snapshots/{id}")).await;
            assert_ne!(shown["snapshot"]["status"], "error");
            (shown["snapshot"]["status"] == "available").then_some(())
        })
        .await;
        id
    }

    pub async fn delete_snapshot(&self, id: &str) {
        let path = format!("/snapshots/{id}");
        let (status, body) = self.call("alice", Method::DELETE, &path, Value::Null).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        self.absent(&path).await;
    }
}
