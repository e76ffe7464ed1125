//! The object store: Swift v1 and S3, two doors to one room. A container is a bucket; what is put through one door
//! is read through the other, with its metadata and ETag.
//!
//! - [`ObjectStore`] is the room: accounts, containers, objects, multipart uploads, as plain Rust. It knows no HTTP.
//! - `http/swift` and `http/s3` are the doors: routers over it ([`ObjectStore::swift_router`],
//!   [`ObjectStore::s3_router`]).
//! - [`ObjectStore::sweep`] is what must run beside them in at least one process.
//!
//! Where things are: containers and accounts are rows ([`container`]); an object is a RADOS object, its head, with
//! tails where it is large ([`object`]); what a container lists is an ordered map in RADOS, in shards ([`index`]).
//! Versions of an object that are not the latest are objects beside its head ([`version`]).
//! An object's GET is one RADOS operation, a PUT one on the head and a share of one on the index; no SQL. Any number
//! of processes may serve the same containers at once.

mod access;
mod access_log;
mod account;
mod acl;
mod announce;
mod bucket_policy;
mod cause;
mod codec;
mod config;
mod container;
mod credentials;
mod digest;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod grants;
mod growth;
mod http;
pub mod index;
mod large;
mod lifecycle;
mod link;
mod location;
mod meta;
mod names;
mod notify;
mod object;
mod policy;
mod quota;
mod range;
mod reseller;
mod seal;
mod sharing;
mod store;
mod sweep;
mod sync;
mod upload;
mod version;

pub use access::{Access, Need};
pub use access_log::AccessLog;
pub use account::{
    Account, AccountAcl, AccountGrant, AccountInfo, AccountItem, AccountQuery, PolicyUsage, Usage,
};
pub use config::{Config, Limits, PolicyConfig, ResellerPrefix};
pub use container::{Container, ContainerInfo, Counts, Made, NewContainer, is_bucket_name};
pub use credentials::{Credential, Credentials};
pub use digest::{Algorithm, SumKind, md5_hex};
pub use error::ObjectError;
pub use grants::{Grant, Grantee, Permission};
pub use http::{CnameConfig, RateLimits};
pub use large::{Assembly, Segment};
pub use lifecycle::{
    Expiration, Filter, FilterForm, LifecycleRule, Noncurrent, NoncurrentTransition, SmallMoves, Transition,
    When,
};
pub use location::Location;
pub use meta::{Checksum, Kind, Large, Layout, ObjectMeta, Part};
pub use names::{ContainerId, MAX_OBJECT_NAME, Tag};
pub use notify::{Notification, Topic};
pub use object::{
    Body, Claim, Condition, DeleteVersion, Deleted, Expect, NewObject, Object, Source, Update, Written,
};
pub use policy::{Policies, PolicyId, StoragePolicy};
pub use range::{Ranges, Span};
pub use seal::{CustomerKey, Seal, SealWith, Sealer};
pub use sharing::{CorsRule, Ownership, PublicAccessBlock, RoutingRule, Sharing, Website};
pub use store::MIGRATIONS;
pub use store::scrub::Damage;
pub use sync::{Realm, SyncConfig, SyncKey, SyncWith};
pub use upload::{NamedPart, PartPage, Upload, UploadPage, UploadQuery, Whole};
pub use version::{
    DefaultRetention, History, HistoryMode, Lock, LockMode, ObjectLock, Period, Retention, VersionId,
    Versioning,
};

use crate::container::{Cache, Key};
use crate::credentials::SecretCache;
use crate::index::list_versions::From;
use crate::index::{Index, ListPage, ListQuery, VersionPage, VersionQuery};
use api::TokenValidator;
use pool::Tiers;
use state::Db;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::OnceCell;

/// The object store. Cheap to clone.
#[derive(Clone)]
pub struct ObjectStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) db: Db,
    pub(crate) config: Config,
    pub(crate) policies: Policies,
    pub(crate) index: Arc<Index>,
    pub(crate) containers: Cache<Key, Container>,
    pub(crate) accounts: Cache<String, Account>,
    /// Changes of containers and accounts are heard of, and so they may be remembered.
    pub(crate) standing: Arc<AtomicBool>,
    pub(crate) silence: announce::Silence,
    pub(crate) dirty: account::Dirty,
    pub(crate) sweeper: sweep::Sweeper,
    pub(crate) deliverer: notify::Deliverer,
    pub(crate) syncer: sync::Syncer,
    pub(crate) logs: access_log::AccessLogs,
    pub(crate) rates: http::Rates,
    pub(crate) locations: location::Locations,
    /// Somebody has said whether ETags are quoted, as far as this process knows.
    pub(crate) quotes: AtomicBool,
    pub(crate) growth: growth::Growth,
    /// Names whose versions are changing here, and names whose history is being kept: the latter may wait for the
    /// former, never the other way round.
    pub(crate) names: object::NameLocks,
    pub(crate) known_names: object::KnownNames,
    pub(crate) histories: object::NameLocks,
    /// Bytes of bodies that may yet be held in memory as whole objects.
    pub(crate) budget: object::Budget,
    /// Large bodies that are summed together.
    pub(crate) together: digest::Together,
    pub(crate) tokens: Arc<dyn TokenValidator>,
    pub(crate) secrets: SecretCache,
    /// What wraps the keys of sealed objects, once it was needed.
    pub(crate) root_key: OnceCell<[u8; 32]>,
    /// This process, as others know it.
    pub(crate) process: Tag,
    /// Set once this process is on record as one that writes.
    pub(crate) writing: OnceCell<()>,
}

impl ObjectStore {
    /// Opens the object store over a database (its tables are brought up to date) and the tiers that its
    /// configuration names.
    pub async fn new(
        db: Db,
        tiers: &Tiers,
        tokens: Arc<dyn TokenValidator>,
        credentials: Arc<dyn Credentials>,
        config: Config,
    ) -> Result<Self, ObjectError> {
        db.migrate(&MIGRATIONS).await?;
        reseller::check(&config)?;
        let cached = Duration::from_secs(config.container_cache_s);
        let standing = Arc::new(AtomicBool::new(false));
        let inner = Inner {
            policies: Policies::new(&config, tiers)?,
            index: Arc::default(),
            containers: Cache::new(config.container_cache, cached).while_set(&standing),
            accounts: Cache::new(config.container_cache, cached).while_set(&standing),
            standing,
            silence: announce::Silence::default(),
            dirty: account::Dirty::default(),
            deliverer: notify::Deliverer::default(),
            syncer: sync::Syncer::default(),
            logs: access_log::AccessLogs::default(),
            rates: http::Rates::default(),
            locations: location::Locations::default(),
            quotes: AtomicBool::new(config.quoted_etags),
            names: object::NameLocks::default(),
            known_names: object::KnownNames::default(),
            histories: object::NameLocks::default(),
            growth: growth::Growth::default(),
            sweeper: sweep::Sweeper::new(Duration::from_secs(config.garbage_grace_s)),
            budget: object::Budget::new(config.buffer_bytes),
            together: digest::Together::default(),
            tokens,
            secrets: SecretCache::new(credentials, Duration::from_secs(config.credential_cache_s)),
            process: Tag::new(),
            root_key: OnceCell::new(),
            writing: OnceCell::new(),
            config,
            db,
        };
        let store = ObjectStore { inner: Arc::new(inner) };
        store.listen();
        Ok(store)
    }

    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    pub fn policies(&self) -> &Policies {
        &self.inner.policies
    }

    /// Lists a container.
    pub async fn list_objects(
        &self,
        container: &Container,
        query: &ListQuery,
    ) -> Result<ListPage, ObjectError> {
        index::list::list(&self.inner.index, &container.policy.index, container.shards(), query).await
    }

    /// Lists the versions in a container: by name, and the newest of a name first.
    pub async fn list_versions(
        &self,
        container: &Container,
        query: &VersionQuery,
    ) -> Result<VersionPage, ObjectError> {
        let key = query.key_marker.as_str();
        let from = match query.version_marker {
            None => From::NextName,
            Some(id) if self.listed(container, key).await?.is_some_and(|e| e.id() == id) => From::Behind,
            Some(VersionId::Own(order)) => From::Version(order),
            Some(VersionId::Null) => {
                let behind = self.versions_behind(container, key).await?;
                let null = behind.iter().find(|e| e.id() == VersionId::Null);
                null.map_or(From::NextName, |e| From::Version(e.order()))
            }
        };
        let (index, pool) = (&self.inner.index, &container.policy.index);
        index::list_versions::list(index, pool, container.shards(), query, from).await
    }

    /// Puts this process on record before its first write, so that its end is noticed.
    pub(crate) async fn mark_writing(&self) -> Result<(), ObjectError> {
        self.inner.writing.get_or_try_init(|| self.say_alive()).await.map(drop)
    }
}

/// Passes a failpoint; an error where a test wants one.
pub(crate) async fn fail(name: &str) -> Result<(), ObjectError> {
    match state::failpoint::hit(name).await {
        None => Ok(()),
        Some(_) => Err(ObjectError::Failpoint),
    }
}
