//! A store of its own for every test: its own database, its own namespaces on the shared cluster.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod wire;

use api::{Caller, DomainRef, Error, ProjectRef, RoleRef, Scope, Secret, TokenValidator, UserRef};
use async_trait::async_trait;
use objectstore::*;
use pool::{ClusterConfig, Clusters, TierConfig, Tiers};
use state::{Db, Timestamp};
use std::sync::Arc;

pub const ACCESS_KEY: &str = "AQUIFERTESTKEY";
pub const SECRET_KEY: &str = "a-secret-for-tests-only";

/// Who the tests' tokens and access keys stand for.
pub fn caller(project: &str, role: &str) -> Arc<Caller> {
    // Projects whose names begin with `far` are of another domain than names in ACLs are.
    let domain = match project.starts_with("far") {
        false => DomainRef { id: "default".into(), name: "Default".into() },
        true => DomainRef { id: "elsewhere".into(), name: "Elsewhere".into() },
    };
    Arc::new(Caller {
        user: UserRef { id: format!("{project}-user"), name: "user".into(), domain: domain.clone() },
        scope: Scope::Project(ProjectRef { id: project.into(), name: project.into(), domain }),
        roles: vec![RoleRef { id: role.into(), name: role.into() }],
        expires_at: Timestamp(i64::MAX),
        audit_ids: Vec::new(),
        token: Secret(String::new()),
    })
}

/// Tokens are `<project>:<role>`; access keys are `AQUIFERTESTKEY` (project `p`) and `KEY-<project>`.
pub struct Seam;

#[async_trait]
impl TokenValidator for Seam {
    async fn validate(&self, token: &str) -> Result<Arc<Caller>, Error> {
        let (project, role) = token.split_once(':').ok_or_else(Error::unauthenticated)?;
        Ok(caller(project, role))
    }
}

#[async_trait]
impl Credentials for Seam {
    async fn credential(&self, access_key: &str) -> Result<Option<Credential>, ObjectError> {
        let project = match access_key {
            ACCESS_KEY => "p",
            other => match other.strip_prefix("KEY-") {
                Some(project) => project,
                None => return Ok(None),
            },
        };
        Ok(Some(Credential { secret: Secret(SECRET_KEY.into()), caller: caller(project, "member") }))
    }
}

pub async fn tiers(namespace: &str) -> Tiers {
    let ceph = testbed::ceph();
    let clusters = Clusters::connect(&[ClusterConfig::new("main", &ceph.conf)]).await.unwrap();
    let tier = |name: &str| TierConfig {
        name: name.into(),
        cluster: "main".into(),
        pool: "rbd".into(),
        data_pool: None,
        namespace: Some(format!("{namespace}.{name}")),
    };
    Tiers::new(&clusters, &[tier("objects"), tier("index"), tier("cold")]).unwrap()
}

pub fn config() -> Config {
    let policy = |name: &str| PolicyConfig {
        name: name.into(),
        tier: if name == "gold" { "objects".into() } else { "cold".into() },
        index_tier: Some("index".into()),
        storage_class: if name == "gold" { "STANDARD".into() } else { "GLACIER".into() },
        aliases: if name == "gold" { vec!["best".into()] } else { Vec::new() },
        deprecated: false,
    };
    Config { policies: vec![policy("gold"), policy("silver")], ..Config::default() }
}

/// A store over a database, in a namespace: several may share both, as processes do.
pub async fn store(db: Db, namespace: &str, config: Config) -> ObjectStore {
    ObjectStore::new(db, &tiers(namespace).await, Arc::new(Seam), Arc::new(Seam), config).await.unwrap()
}

pub struct Room {
    pub store: ObjectStore,
    pub db: Db,
    pub namespace: String,
    pub access: Access,
}

impl Room {
    pub async fn with(config: Config) -> Room {
        let db = testbed::databases().await.remove(0);
        let namespace = testbed::unique("obj");
        let store = store(db.clone(), &namespace, config).await;
        Room { store, db, namespace, access: Access::of(caller("p", "member")) }
    }

    pub async fn new() -> Room {
        Room::with(config()).await
    }

    pub async fn container(&self, name: &str) -> Arc<Container> {
        let new = NewContainer::default();
        let made = self.store.make_container(&self.access, "p", name, &new, &|_| Ok(()));
        made.await.unwrap().container
    }

    /// A second process on the same database and pools.
    pub async fn another(&self, config: Config) -> ObjectStore {
        store(self.db.clone(), &self.namespace, config).await
    }
}

pub async fn put(s: &ObjectStore, c: &Arc<Container>, name: &str, data: impl Into<bytes::Bytes>) -> Written {
    let new = NewObject { name: name.into(), content_type: "text/plain".into(), ..NewObject::default() };
    s.put_object(c, new, Body::of(data), Condition::Always).await.unwrap()
}

pub async fn get(s: &ObjectStore, c: &Arc<Container>, name: &str) -> Result<bytes::Bytes, ObjectError> {
    use futures::TryStreamExt;
    let object = s.open_object(c, name, s.first_read()).await?;
    let span = Span { start: 0, end: object.meta.size };
    let parts: Vec<bytes::Bytes> = s.source(object).await?.stream(span).try_collect().await?;
    Ok(parts.concat().into())
}

pub async fn names(s: &ObjectStore, c: &Container) -> Vec<String> {
    let query = index::ListQuery { limit: 10_000, ..Default::default() };
    s.list_objects(c, &query).await.unwrap().items.iter().map(|i| i.name().to_owned()).collect()
}

/// Bytes that are not all alike, the same for the same seed.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// The names of everything in the data namespace.
pub async fn everything(room: &Room) -> Vec<String> {
    everything_in(room, "objects").await
}

/// The names of everything in a tier.
pub async fn everything_in(room: &Room, tier: &str) -> Vec<String> {
    use futures::TryStreamExt;
    let tier = tiers(&room.namespace).await.get(tier).unwrap();
    let mut all: Vec<String> = tier.pool.list().try_collect().await.unwrap();
    all.sort();
    all
}
