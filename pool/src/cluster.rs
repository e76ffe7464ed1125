//! Ceph clusters: connected when first needed, connected anew when lost for good.
//!
//! librados survives monitors and OSDs that come and go; a handle that has connected once heals by itself. Three
//! things it does not survive: that the cluster is away when it connects, being fenced, and a lock-up of its own
//! (`deaf.rs`). All are handled here: every operation asks for the connection, and where there is none, one attempt
//! is made, which all that wait for it share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{info, warn};

use crate::config::ClusterConfig;
use crate::error::{Context, Errno, Error, errno};
use crate::ffi::rados::Rados;
use crate::lanes::Lane;
use crate::rados::Pool;

/// What one permit of the throttle stands for, in bytes, and how many of them a cluster has: together the
/// most that may be in flight to one cluster.
const PERMIT: usize = 16 * 1024;
const PERMITS: usize = 16 * 1024; // 256 MiB, or 16,384 small operations

/// How much memory a blocking call is taken to have gone through.
const CALL: u64 = 64 << 10;

type Attempt = Shared<BoxFuture<'static, Result<Arc<Rados>, Error>>>;

enum Link {
    Down,
    Connecting(Attempt),
    Up(Arc<Rados>),
}

struct Inner {
    config: ClusterConfig,
    link: Mutex<Link>,
    throttle: Arc<Semaphore>,
    /// Bytes that operations have carried since memory was last given back.
    moved: AtomicU64,
    lanes: Mutex<Lanes>,
}

/// The threads for blocking calls, by how long these take.
#[derive(Clone)]
struct Lanes {
    short: Lane,
    long: Lane,
}

impl Lanes {
    fn new() -> Self {
        Self { short: Lane::new("ceph-short", 16), long: Lane::new("ceph-long", 8) }
    }
}

impl Inner {
    fn lane(&self, work: Work) -> Lane {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        match work {
            Work::Short => lanes.short.clone(),
            Work::Long => lanes.long.clone(),
        }
    }
}

/// One Ceph cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster({})", self.name())
    }
}

impl PartialEq for Cluster {
    /// The same configured cluster (not: the same fsid).
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// How full a cluster is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub total: u64,
    pub used: u64,
    pub available: u64,
    pub objects: u64,
}

/// How much a pool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUsage {
    /// Bytes as the clients see them.
    pub stored: u64,
    /// Bytes with replication or coding.
    pub used: u64,
    /// Bytes that can still be written (what the fullest OSD allows).
    pub available: u64,
    pub objects: u64,
}

/// A cluster's own opinion of its health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// `HEALTH_OK`, `HEALTH_WARN` or `HEALTH_ERR`.
    pub status: String,
    /// One line for each complaint that is not muted.
    pub summary: Vec<String>,
}

/// Keeps a share of what may be in flight until librados has given the operation back.
pub(crate) type Permit = OwnedSemaphorePermit;

impl Cluster {
    /// A cluster that connects when it is first used.
    pub fn new(config: ClusterConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            link: Mutex::new(Link::Down),
            throttle: Arc::new(Semaphore::new(PERMITS)),
            moved: AtomicU64::new(0),
            lanes: Mutex::new(Lanes::new()),
        }))
    }

    /// The configured name.
    pub fn name(&self) -> &str {
        &self.0.config.name
    }

    /// How it is reached.
    pub fn config(&self) -> &ClusterConfig {
        &self.0.config
    }

    /// The deadline of an operation that has no other.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.0.config.timeout_s.max(1))
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.0.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lane(&self, work: Work) -> Lane {
        self.0.lane(work)
    }

    /// Leaves what blocks in this cluster's lanes to itself: new calls get new threads.
    pub(crate) fn leave_lanes(&self) {
        *self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner) = Lanes::new();
    }

    /// The connection, within its deadline.
    pub(crate) async fn rados(&self) -> Result<Arc<Rados>, Error> {
        let attempt = {
            let mut link = self.link();
            match &*link {
                Link::Up(r) if !r.is_dead() => return Ok(r.clone()),
                Link::Connecting(a) if a.peek().is_none_or(|r| r.is_ok()) => a.clone(),
                _ => {
                    let attempt = self.attempt();
                    *link = Link::Connecting(attempt.clone());
                    attempt
                }
            }
        };
        let what = || format!("connect to cluster {}", self.name());
        match tokio::time::timeout(self.timeout() + Duration::from_secs(1), attempt).await {
            Ok(result) => result,
            Err(_) => Err(Error::Unreachable { errno: errno::ETIMEDOUT, what: what() }),
        }
    }

    /// One attempt to connect, driven by a task of its own so that it ends whoever waits for it.
    fn attempt(&self) -> Attempt {
        let this = self.clone();
        let task = tokio::spawn(async move {
            let config = this.0.config.clone();
            let result = this.lane(Work::Short).run(move || connect(&config)).await;
            let result = result.unwrap_or(Err(Errno(errno::ECANCELED)));
            let what = || format!("connect to cluster {} as client.{}", this.name(), this.0.config.user);
            match result {
                Ok(rados) => {
                    let rados = Arc::new(rados);
                    info!(cluster = this.name(), client = rados.instance_id(), "connected");
                    *this.link() = Link::Up(rados.clone());
                    tokio::spawn(give_back(Arc::downgrade(&this.0), Arc::downgrade(&rados)));
                    Ok(rados)
                }
                Err(Errno(e)) => {
                    let error = match e {
                        errno::ETIMEDOUT => Error::Unreachable { errno: e, what: what() },
                        _ => Error::from_errno(e, what()),
                    };
                    warn!(cluster = this.name(), %error, "not connected");
                    *this.link() = Link::Down;
                    Err(error)
                }
            }
        });
        let name = self.name().to_owned();
        async move {
            task.await.unwrap_or_else(|_| {
                let what = format!("connect to cluster {name}");
                Err(Error::Unreachable { errno: errno::ECANCELED, what })
            })
        }
        .boxed()
        .shared()
    }

    /// Whether there is a connection now. Says nothing about the cluster's health.
    pub fn is_connected(&self) -> bool {
        matches!(&*self.link(), Link::Up(r) if !r.is_dead())
    }

    /// A place in this cluster. Nothing is asked of the cluster yet: a pool that does not exist is
    /// [`Error::NotFound`] at the first operation. An empty namespace is the default one.
    pub fn pool(&self, name: &str, namespace: Option<&str>) -> Pool {
        Pool::new(self.clone(), name, namespace.unwrap_or_default())
    }

    /// Waits for a share of what may be in flight to this cluster.
    pub(crate) async fn permit(&self, bytes: usize) -> Result<Permit, Error> {
        let n = (bytes / PERMIT + 1).min(PERMITS / 2);
        let n = u32::try_from(n).unwrap_or(1);
        self.0.moved.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Ok(p) = self.0.throttle.clone().try_acquire_many_owned(n) {
            return Ok(p);
        }
        let closed = |_| Error::Unreachable { errno: errno::ECANCELED, what: "throttle".into() };
        self.0.throttle.clone().acquire_many_owned(n).await.map_err(closed)
    }

    /// Runs a blocking call on this cluster's lane for short (or long) work, within a deadline. The call itself
    /// goes on past the deadline; nobody hears of it any more.
    pub(crate) async fn blocking<R: Send + 'static>(
        &self,
        work: Work,
        deadline: Duration,
        what: impl Fn() -> String,
        f: impl FnOnce() -> Result<R, Errno> + Send + 'static,
    ) -> Result<R, Error> {
        self.0.moved.fetch_add(CALL, Ordering::Relaxed);
        match tokio::time::timeout(deadline, self.lane(work).run(f)).await {
            Ok(Some(r)) => r.what(what),
            Ok(None) => Err(Error::Other { errno: errno::ECANCELED, what: what() }),
            Err(_) => Err(Error::TimedOut { what: what() }),
        }
    }

    /// Runs a short blocking call on the connection.
    pub(crate) async fn on_rados<R: Send + 'static>(
        &self,
        what: &'static str,
        f: impl FnOnce(Arc<Rados>) -> Result<R, Errno> + Send + 'static,
    ) -> Result<R, Error> {
        let rados = self.rados().await?;
        let what = || format!("{what} (cluster {})", self.name());
        self.blocking(Work::Short, self.timeout(), what, move || f(rados)).await
    }

    /// The cluster's id.
    pub async fn fsid(&self) -> Result<String, Error> {
        self.on_rados("fsid", |r| r.fsid()).await
    }

    /// This process's client id in the cluster, as watchers and lock owners show it (`client.<id>`).
    pub async fn client_id(&self) -> Result<u64, Error> {
        Ok(self.rados().await?.instance_id())
    }

    /// A value of Ceph's configuration as this client has it.
    pub async fn conf(&self, key: &str) -> Result<String, Error> {
        let key = key.to_owned();
        self.on_rados("configuration", move |r| r.conf(&key)).await
    }

    /// How full the cluster is.
    pub async fn usage(&self) -> Result<Usage, Error> {
        let (total, used, available, objects) = self.on_rados("usage", |r| r.stat()).await?;
        let bytes = |kib: u64| kib.saturating_mul(1024);
        Ok(Usage { total: bytes(total), used: bytes(used), available: bytes(available), objects })
    }

    /// How much a pool holds. From the statistics that the monitors have: some seconds old.
    pub async fn pool_usage(&self, pool: &str) -> Result<PoolUsage, Error> {
        let out = self.mon_command(serde_json::json!({"prefix": "df", "format": "json"})).await?;
        let what = || format!("usage of pool {pool} (cluster {})", self.name());
        let out: serde_json::Value =
            serde_json::from_slice(&out).map_err(|_| Error::Other { errno: errno::EINVAL, what: what() })?;
        let found = out["pools"].as_array().and_then(|all| all.iter().find(|p| p["name"] == pool));
        let Some(stats) = found.map(|p| &p["stats"]) else {
            return Err(Error::NotFound { what: what() });
        };
        let number = |key: &str| stats[key].as_u64().unwrap_or(0);
        Ok(PoolUsage {
            stored: number("stored"),
            used: number("bytes_used"),
            available: number("max_avail"),
            objects: number("objects"),
        })
    }

    /// Runs a monitor command and gives its output. The command is an object with `prefix` and arguments, as
    /// `ceph --verbose` shows them.
    pub async fn mon_command(&self, command: serde_json::Value) -> Result<Vec<u8>, Error> {
        self.mon_command_with(command, Vec::new()).await
    }

    /// Runs a monitor command with an input (a CRUSH map, a keyring).
    pub async fn mon_command_with(
        &self,
        command: serde_json::Value,
        input: Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        let rados = self.rados().await?;
        let json = command.to_string();
        let prefix = command["prefix"].as_str().unwrap_or("?").to_owned();
        let what = || format!("monitor command «{prefix}» (cluster {})", self.name());
        let run = move || Ok(rados.mon_command(&json, &input));
        match self.blocking(Work::Short, self.timeout(), what, run).await? {
            Ok(out) => Ok(out),
            Err((Errno(e), line)) if line.is_empty() => Err(Error::from_errno(e, what())),
            Err((Errno(e), line)) => Err(Error::from_errno(e, format!("{}: {line}", what()))),
        }
    }

    /// The names of all pools.
    pub async fn pools(&self) -> Result<Vec<String>, Error> {
        self.on_rados("list pools", |r| r.pools()).await
    }

    /// Whether there is a pool of this name, in the newest map.
    pub async fn pool_exists(&self, pool: &str) -> Result<bool, Error> {
        let pool = pool.to_owned();
        self.on_rados("look for a pool", move |r| {
            r.refresh_map()?;
            match r.pool_id(&pool) {
                Ok(_) => Ok(true),
                Err(Errno(errno::ENOENT)) => Ok(false),
                Err(e) => Err(e),
            }
        })
        .await
    }

    /// Creates a replicated pool with the cluster's defaults, for an application (`rbd`, `rgw`, or a name of
    /// your own). One that exists already is left as it is.
    pub async fn create_pool(&self, pool: &str, application: &str) -> Result<(), Error> {
        self.create_pool_with(pool, application, serde_json::json!({})).await
    }

    /// Creates a pool with further arguments of `osd pool create` (`pg_num`, `pool_type`,
    /// `erasure_code_profile`, `rule`, `size`).
    pub async fn create_pool_with(
        &self,
        pool: &str,
        application: &str,
        options: serde_json::Value,
    ) -> Result<(), Error> {
        let mut command = serde_json::json!({"prefix": "osd pool create", "pool": pool});
        if let (Some(c), Some(o)) = (command.as_object_mut(), options.as_object()) {
            c.extend(o.clone());
        }
        match self.mon_command(command).await {
            Ok(_) | Err(Error::Exists { .. }) => {}
            Err(e) => return Err(e),
        }
        let enable = serde_json::json!({
            "prefix": "osd pool application enable", "pool": pool, "app": application,
            "yes_i_really_mean_it": true,
        });
        self.mon_command(enable).await?;
        self.on_rados("refresh map", |r| r.refresh_map()).await
    }

    /// Deletes a pool with all that is in it (the monitors must allow it: `mon_allow_pool_delete`). One that
    /// does not exist is no error.
    pub async fn delete_pool(&self, pool: &str) -> Result<(), Error> {
        let command = serde_json::json!({
            "prefix": "osd pool delete", "pool": pool, "pool2": pool,
            "yes_i_really_really_mean_it": true,
        });
        match self.mon_command(command).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Lets clones be of version 2 everywhere (also those that other clients make with their defaults): a
    /// snapshot then needs no protection, and can be removed while clones exist.
    pub async fn require_clone_v2(&self) -> Result<(), Error> {
        let command = serde_json::json!({
            "prefix": "osd set-require-min-compat-client", "version": "mimic",
        });
        self.mon_command(command).await.map(drop)
    }

    /// The cluster's own opinion of its health.
    pub async fn health(&self) -> Result<Health, Error> {
        let out = self.mon_command(serde_json::json!({"prefix": "health", "format": "json"})).await?;
        let out: serde_json::Value = serde_json::from_slice(&out).map_err(|_| Error::Other {
            errno: errno::EINVAL,
            what: format!("health of cluster {}", self.name()),
        })?;
        let complaints = out["checks"].as_object().into_iter().flatten();
        let summary = complaints
            .filter(|(_, c)| c["muted"] != true)
            .filter_map(|(name, c)| Some(format!("{name}: {}", c["summary"]["message"].as_str()?)))
            .collect();
        Ok(Health { status: out["status"].as_str().unwrap_or("HEALTH_UNKNOWN").into(), summary })
    }
}

/// After a burst, once it is quiet, gives back to the system what the C library has kept of the memory that the
/// bytes went through (it keeps 60 MiB and more). Ends with the connection.
async fn give_back(cluster: Weak<Inner>, connection: Weak<Rados>) {
    const QUIET: Duration = Duration::from_secs(10);
    const WORTH: u64 = 8 << 20;
    const LITTLE: u64 = 1 << 20;
    let mut before = 0;
    loop {
        tokio::time::sleep(QUIET).await;
        let (Some(inner), true) = (cluster.upgrade(), connection.strong_count() > 0) else { return };
        let moved = inner.moved.load(Ordering::Relaxed);
        if moved - before < LITTLE && moved > WORTH {
            inner.moved.fetch_sub(moved, Ordering::Relaxed);
            inner.lane(Work::Short).run(crate::ffi::rados::trim).await;
            before = inner.moved.load(Ordering::Relaxed);
        } else {
            before = moved;
        }
    }
}

/// Which lane a blocking call takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Short,
    Long,
}

fn connect(config: &ClusterConfig) -> Result<Rados, Errno> {
    let timeout = config.timeout_s.max(1).to_string();
    let mut options: Vec<(&str, String)> = vec![
        // librados gives up by itself too: that is what gives buffers back, and frees blocking calls.
        ("client_mount_timeout", timeout.clone()),
        ("rados_mon_op_timeout", timeout.clone()),
        ("rados_osd_op_timeout", timeout),
        // Its own throttle blocks the submitting thread, which here is the runtime's: ours stands before it.
        ("objecter_inflight_ops", (1u64 << 20).to_string()),
        ("objecter_inflight_op_bytes", (1u64 << 36).to_string()),
        // What is acknowledged is on the OSDs; and no cache's memory an image.
        ("rbd_cache", "false".into()),
        // What failed is in the answer, and in the log file where ceph.conf names one.
        ("err_to_stderr", "false".into()),
        // Small: few threads, no log in memory, no admin socket.
        ("ms_async_op_threads", "2".into()),
        ("librados_thread_count", "2".into()),
        ("log_max_recent", "100".into()),
        ("admin_socket", String::new()),
    ];
    if let Some(keyring) = &config.keyring {
        options.push(("keyring", keyring.to_string_lossy().into_owned()));
    }
    Rados::connect(&config.conf, &config.user, &options)
}

/// All configured clusters, by name.
#[derive(Debug, Clone, Default)]
pub struct Clusters(Arc<BTreeMap<String, Cluster>>);

impl Clusters {
    /// Connects to all of them at once, each within its deadline. A cluster that cannot be reached is not an
    /// error: it is connected when it is back and first used. What can never work is one: two clusters of
    /// one name, or a ceph.conf that is not there.
    pub async fn connect(configs: &[ClusterConfig]) -> Result<Self, Error> {
        let mut all = BTreeMap::new();
        for config in configs {
            let conf = config.conf.display();
            if tokio::fs::metadata(&config.conf).await.is_err() {
                return Err(Error::invalid(format!("cluster {}: no file {conf}", config.name)));
            }
            if all.insert(config.name.clone(), Cluster::new(config.clone())).is_some() {
                return Err(Error::invalid(format!("two clusters are named {}", config.name)));
            }
        }
        let attempts = all.values().map(|c| async move { drop(c.rados().await) }); // logged where it fails
        futures::future::join_all(attempts).await;
        Ok(Self(Arc::new(all)))
    }

    /// The cluster of this name.
    pub fn get(&self, name: &str) -> Result<Cluster, Error> {
        let missing = || Error::NotFound { what: format!("cluster {name}") };
        self.0.get(name).cloned().ok_or_else(missing)
    }

    /// All clusters, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Cluster> {
        self.0.values()
    }
}
