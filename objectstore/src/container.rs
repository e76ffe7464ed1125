//! Containers, which S3 calls buckets: what they are, and the rules of making, changing and removing one.
//!
//! A container's facts are a row. A request finds them in this process's memory ([`Cache`]); the database is asked
//! once for many requests. Whoever changes a row announces it, and every process drops what it remembers; should
//! an announcement be lost, facts are asked for anew after a bounded age.

use crate::access::{Access, Need, Reading};
use crate::bucket_policy::BucketPolicy;
use crate::index::entry::ShardId;
use crate::lifecycle::{LifecycleRule, SmallMoves};
use crate::names::{self, ContainerId};
use crate::notify::{self, Notification};
use crate::policy::StoragePolicy;
use crate::sharing::Sharing;
use crate::store::{self, containers::Row};
use crate::sync::SyncWith;
use crate::version::{History, ObjectLock, Versioning};
use crate::{ObjectError, ObjectStore};
use serde::{Deserialize, Serialize};
use state::{Timestamp, Tx};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What users say of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerInfo {
    /// `X-Container-Meta-*`, by the lower-case rest of the name.
    pub meta: BTreeMap<String, String>,
    /// `X-Container-Read` and `X-Container-Write`.
    pub read: String,
    pub write: String,
    /// S3's tags of the bucket.
    pub tags: Vec<(String, String)>,
    /// What S3 says of its use by others.
    pub sharing: Sharing,
    pub versioning: Versioning,
    pub lock: Option<ObjectLock>,
    /// Swift's older kind of versions: what is replaced or deleted is kept in another container.
    pub history: Option<History>,
    pub lifecycle: Vec<LifecycleRule>,
    pub small_moves: SmallMoves,
    /// Who is to be told of what happens in it.
    pub notifications: Vec<Notification>,
    /// Whether ETags are quoted in Swift's answers.
    pub quoted_etags: Option<bool>,
    /// What it is kept in step with.
    pub sync: SyncWith,
}

impl ContainerInfo {
    /// Once set, versioning is never unset; under an object lock it stays enabled.
    pub(crate) fn set_versioning(&mut self, versioning: Versioning) -> Result<(), ObjectError> {
        if self.history.is_some() {
            return Err(ObjectError::Invalid(
                "The container keeps what is replaced in another container.".into(),
            ));
        }
        if self.lock.is_some() && versioning != Versioning::Enabled {
            return Err(ObjectError::Locked);
        }
        self.versioning = versioning;
        Ok(())
    }
}

/// Objects and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub objects: u64,
    pub bytes: u64,
}

/// A container.
#[derive(Debug, Clone)]
pub struct Container {
    pub id: ContainerId,
    pub project_id: String,
    pub name: String,
    pub policy: Arc<StoragePolicy>,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
    pub info: ContainerInfo,
    /// The bucket policy, read.
    pub(crate) rules: Option<Arc<BucketPolicy>>,
    generation: u32,
    shards: u32,
}

impl Container {
    /// The index shard that lists `name`.
    pub(crate) fn shard_of(&self, name: &str) -> ShardId {
        let shard = names::shard_of(name, self.shards);
        ShardId { container: self.id, generation: self.generation, shard, of: self.shards }
    }

    /// How many shards its index had when this was read: it may have grown since.
    pub fn index_shards(&self) -> u32 {
        self.shards
    }

    pub(crate) fn shards(&self) -> Vec<ShardId> {
        ShardId::all(self.id, self.generation, self.shards)
    }
}

/// What became of a request to make a container.
#[derive(Debug, Clone)]
pub struct Made {
    pub container: Arc<Container>,
    pub created: bool,
}

/// How a container is to be made.
#[derive(Debug, Clone, Default)]
pub struct NewContainer {
    /// Absent: the default, or that which the container has.
    pub policy: Option<String>,
    /// The bucket name must be free, as S3 wants it.
    pub as_bucket: bool,
}

type Change<'a> = &'a (dyn Fn(&mut ContainerInfo) -> Result<(), ObjectError> + Sync);

impl ObjectStore {
    /// A container that the caller may use for `need`.
    pub async fn container(
        &self,
        access: &Access,
        project: &str,
        name: &str,
        need: Need,
    ) -> Result<Arc<Container>, ObjectError> {
        match self.find_container(project, name).await {
            Ok(container) => {
                self.admit(access, &container, need).await?;
                Ok(container)
            }
            // Whether a container exists is only for those to know who could use it.
            Err(ObjectError::NoSuchContainer) => {
                self.check(access, project, None, need)?;
                Err(ObjectError::NoSuchContainer)
            }
            Err(e) => Err(e),
        }
    }

    /// A bucket: the caller's own of this name, or else whoever's has the name.
    pub async fn bucket(
        &self,
        access: &Access,
        name: &str,
        need: Need,
    ) -> Result<Arc<Container>, ObjectError> {
        let container = self.find_bucket(access, name).await?;
        self.admit(access, &container, need).await?;
        Ok(container)
    }

    /// A container to read an object of.
    pub(crate) async fn container_to_read(
        &self,
        access: &Access,
        project: &str,
        name: &str,
    ) -> Result<Reading, ObjectError> {
        match self.find_container(project, name).await {
            Ok(container) => self.reading(access, container).await,
            Err(ObjectError::NoSuchContainer) => {
                self.check(access, project, None, Need::Read)?;
                Err(ObjectError::NoSuchContainer)
            }
            Err(e) => Err(e),
        }
    }

    /// A bucket to read an object of.
    pub(crate) async fn bucket_to_read(&self, access: &Access, name: &str) -> Result<Reading, ObjectError> {
        let container = self.find_bucket(access, name).await?;
        self.reading(access, container).await
    }

    /// A bucket by name, whoever asks: for the rules that check by themselves.
    pub(crate) async fn find_bucket(
        &self,
        access: &Access,
        name: &str,
    ) -> Result<Arc<Container>, ObjectError> {
        let own = access.project().unwrap_or_default().to_owned();
        self.cached(Key { project: own, name: name.to_owned(), bucket: true }).await
    }

    /// By name, whoever asks: for the rules that have checked already.
    pub(crate) async fn find_container(
        &self,
        project: &str,
        name: &str,
    ) -> Result<Arc<Container>, ObjectError> {
        self.cached(Key { project: project.to_owned(), name: name.to_owned(), bucket: false }).await
    }

    async fn cached(&self, key: Key) -> Result<Arc<Container>, ObjectError> {
        let epoch = match self.inner.containers.get(&key) {
            Ok(container) => return Ok(container),
            Err(epoch) => epoch,
        };
        let mut row = match key.project.as_str() {
            "" => None,
            project => store::containers::find(&self.inner.db, project, &key.name).await?,
        };
        if row.is_none() && key.bucket {
            row = store::containers::find_bucket(&self.inner.db, &key.name).await?;
        }
        let container = Arc::new(self.read_row(row.ok_or(ObjectError::NoSuchContainer)?)?);
        self.inner.containers.put(key, container.clone(), epoch);
        Ok(container)
    }

    pub(crate) fn read_row(&self, row: Row) -> Result<Container, ObjectError> {
        let rules = match &row.info.sharing.policy {
            None => None,
            Some(text) => Some(Arc::new(
                BucketPolicy::parse(text, &row.name, &row.project_id)
                    .map_err(|_| ObjectError::Damaged("a bucket policy cannot be read"))?,
            )),
        };
        if row.info.quoted_etags.is_some() {
            self.inner.quotes.store(true, Ordering::Relaxed);
        }
        if row.info.sharing.log.is_some() {
            self.inner.logs.seen();
        }
        Ok(Container {
            rules,
            id: row.id,
            project_id: row.project_id,
            name: row.name,
            policy: self.inner.policies.get(&row.policy)?,
            created_at: row.created_at,
            changed_at: row.changed_at,
            info: row.info,
            generation: row.generation,
            shards: row.shards,
        })
    }

    /// Makes a container, or changes the one that is there.
    pub async fn make_container(
        &self,
        access: &Access,
        project: &str,
        name: &str,
        new: &NewContainer,
        change: Change<'_>,
    ) -> Result<Made, ObjectError> {
        self.check(access, project, None, Need::Own)?;
        self.check_container_name(name)?;
        let policy = new.policy.as_deref().map(|p| self.inner.policies.get(p)).transpose()?;
        if let Some(old) = policy.as_ref().filter(|p| p.deprecated) {
            return Err(ObjectError::Invalid(format!("Storage Policy {:?} is deprecated", old.name)));
        }
        if !new.as_bucket
            && let Some(container) = self.put_again(project, name, policy.as_deref(), change).await?
        {
            return Ok(Made { container, created: false });
        }
        let now = Timestamp::now();
        let mut tx = self.inner.db.begin().await?;
        if let Some(mut row) = store::containers::find_for_change(&mut tx, project, name).await? {
            if new.as_bucket {
                return Err(ObjectError::BucketExists { mine: true });
            }
            if policy.is_some_and(|p| p.name != row.policy) {
                return Err(ObjectError::OtherPolicy);
            }
            let before = row.info.clone();
            change(&mut row.info)?;
            self.check_change(&row, &before)?;
            begin_sync(&mut tx, &row, &before).await?;
            row.changed_at = now;
            store::containers::set_info(&mut tx, row.id, &row.info, now).await?;
            tx.wake(store::CHANGED);
            tx.commit().await?;
            self.announce().await;
            return Ok(Made { container: Arc::new(self.read_row(row)?), created: false });
        }
        let mut info = ContainerInfo::default();
        change(&mut info)?;
        let row = Row {
            id: ContainerId::random(),
            project_id: project.to_owned(),
            name: name.to_owned(),
            policy: policy.unwrap_or_else(|| self.inner.policies.default_policy()).name.clone(),
            created_at: now,
            changed_at: now,
            info,
            generation: 1,
            shards: self.inner.config.index_shards.max(1),
            growing: 0,
            counts: Counts::default(),
        };
        store::accounts::ensure(&mut tx, project).await?;
        store::containers::insert(&mut tx, &row).await?;
        begin_sync(&mut tx, &row, &ContainerInfo::default()).await?;
        if is_bucket_name(name) {
            let owner = store::containers::claim_bucket(&mut tx, name, row.id).await?;
            if new.as_bucket && owner != row.id {
                return Err(ObjectError::BucketExists { mine: false });
            }
        } else if new.as_bucket {
            return Err(ObjectError::BadName("not a bucket name"));
        }
        tx.commit().await?;
        Ok(Made { container: Arc::new(self.read_row(row)?), created: true })
    }

    /// A container that is put again as it is, which clients do before they upload. It counts as changed, as upstream
    /// has it, and nothing else: the other processes are not told, and what they remember of its time grows old. `None`
    /// where there is none, or where something is to change.
    async fn put_again(
        &self,
        project: &str,
        name: &str,
        policy: Option<&StoragePolicy>,
        change: Change<'_>,
    ) -> Result<Option<Arc<Container>>, ObjectError> {
        let container = match self.find_container(project, name).await {
            Ok(container) => container,
            Err(ObjectError::NoSuchContainer) => return Ok(None),
            Err(e) => return Err(e),
        };
        if policy.is_some_and(|p| p.name != container.policy.name) {
            return Ok(None);
        }
        let mut info = container.info.clone();
        change(&mut info)?;
        if info != container.info {
            return Ok(None);
        }
        let changed_at = Timestamp::now();
        let mut tx = self.inner.db.begin().await?;
        if !store::containers::touch(&mut tx, container.id, &info, changed_at).await? {
            return Ok(None);
        }
        tx.commit().await?;
        let again = Arc::new(Container { changed_at, ..Container::clone(&container) });
        let key = Key { project: project.to_owned(), name: name.to_owned(), bucket: false };
        self.inner.containers.replace(&key, &container, again.clone());
        Ok(Some(again))
    }

    /// Changes what is said of a container.
    pub async fn change_container(
        &self,
        access: &Access,
        project: &str,
        name: &str,
        change: Change<'_>,
    ) -> Result<(), ObjectError> {
        self.change_container_for(access, project, name, Need::Own, change).await
    }

    /// As `change_container`, for a change that needs less than owning the container.
    pub(crate) async fn change_container_for(
        &self,
        access: &Access,
        project: &str,
        name: &str,
        need: Need,
        change: Change<'_>,
    ) -> Result<(), ObjectError> {
        self.container(access, project, name, need).await?;
        let mut tx = self.inner.db.begin().await?;
        let mut row = store::containers::find_for_change(&mut tx, project, name)
            .await?
            .ok_or(ObjectError::NoSuchContainer)?;
        let before = row.info.clone();
        change(&mut row.info)?;
        self.check_change(&row, &before)?;
        store::containers::set_info(&mut tx, row.id, &row.info, Timestamp::now()).await?;
        begin_sync(&mut tx, &row, &before).await?;
        if !row.info.notifications.is_empty() {
            store::topics::begin(&mut tx, &row.id.to_string()).await?;
        }
        tx.wake(store::CHANGED);
        tx.commit().await?;
        self.announce().await;
        Ok(())
    }

    /// Refuses a change that must not be: it opens what is to stay closed.
    fn check_change(&self, row: &Row, before: &ContainerInfo) -> Result<(), ObjectError> {
        Self::check_opening(before, &self.read_row(row.clone())?)
    }

    /// Removes an empty container. Its index is closed first, in every shard: an object that is being put at
    /// this moment is either counted, and the container stays, or refused.
    pub async fn delete_container(
        &self,
        access: &Access,
        project: &str,
        name: &str,
    ) -> Result<(), ObjectError> {
        self.container(access, project, name, Need::Own).await?;
        let row = store::containers::find(&self.inner.db, project, name)
            .await?
            .ok_or(ObjectError::NoSuchContainer)?;
        let container = self.read_row(row.clone())?;
        let pool = &container.policy.index;
        // Objects whose time has run out, but which no round has met yet, are nobody's reason to stay.
        self.expire_in(&Arc::new(self.read_row(row.clone())?)).await?;
        let index = &self.inner.index;
        if let Err(e) = index.close(pool, container.shards()).await {
            index.reopen(pool, container.shards()).await?;
            return Err(e);
        }
        let events = self.keep_events(&container).await?;
        let mut tx = self.inner.db.begin().await?;
        if events {
            store::topics::begin(&mut tx, notify::ORPHANS).await?;
        }
        let again = store::containers::find_for_change(&mut tx, project, name).await?;
        let Some(row) = again.filter(|r| r.id == row.id) else { return Err(ObjectError::NoSuchContainer) };
        if index.headers(pool, container.shards()).await?.iter().any(|h| h.closed == 0) {
            return Err(ObjectError::NotEmpty); // the sweep took this deletion for abandoned
        }
        store::graves::insert(&mut tx, &row, Timestamp::now()).await?;
        store::containers::delete(&mut tx, row.id).await?;
        tx.wake(store::CHANGED);
        tx.commit().await?;
        self.announce().await;
        self.inner.dirty.remove(row.id);
        Ok(())
    }

    /// How many objects a container shows, and how many bytes it holds with all versions, exactly.
    pub async fn counts(&self, container: &Container) -> Result<Counts, ObjectError> {
        let pool = &container.policy.index;
        let headers = self.inner.index.headers(pool, container.shards()).await?;
        let sum = |f: fn(&crate::index::entry::Header) -> u64| headers.iter().map(f).sum();
        Ok(Counts { objects: sum(|h| h.objects), bytes: sum(|h| h.bytes + h.version_bytes) })
    }

    /// Drops what this process remembers of containers and accounts.
    pub(crate) fn forget(&self) {
        self.inner.containers.clear();
        self.inner.accounts.clear();
    }

    fn check_container_name(&self, name: &str) -> Result<(), ObjectError> {
        if name.is_empty() || name.contains('/') || name.contains('\0') {
            return Err(ObjectError::BadName("not a container name"));
        }
        if name.len() > self.inner.config.limits.max_container_name_length {
            return Err(ObjectError::BadName("container name too long"));
        }
        Ok(())
    }
}

/// Notes what a container is to be kept in step with from now on.
async fn begin_sync(tx: &mut Tx, row: &Row, before: &ContainerInfo) -> Result<(), ObjectError> {
    let sync = &row.info.sync;
    match sync.sends() && *sync != before.sync {
        true => store::syncs::begin(tx, row.id, &sync.to).await,
        false => Ok(()),
    }
}

/// Whether S3 accepts `name` for a bucket.
pub fn is_bucket_name(name: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let ends = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|b| ok(*b))
        && ends(bytes.first())
        && ends(bytes.last())
        && !name.contains("..")
        && !name.contains(".-")
        && !name.contains("-.")
        && name.parse::<std::net::Ipv4Addr>().is_err()
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) project: String,
    pub(crate) name: String,
    /// Found by bucket name, which may be another project's.
    pub(crate) bucket: bool,
}

/// What this process remembers, for a bounded time, by key. Emptied as a whole when anything is announced.
pub(crate) struct Cache<K, V> {
    inner: Mutex<CacheInner<K, V>>,
    age: Duration,
    /// While this is not set, nothing is remembered.
    set: Option<Arc<AtomicBool>>,
}

struct CacheInner<K, V> {
    map: lru::LruCache<K, (Arc<V>, Instant)>,
    /// Counts the announcements: what was read before one is not remembered after it.
    epoch: u64,
}

impl<K: std::hash::Hash + Eq, V> Cache<K, V> {
    pub(crate) fn new(most: usize, age: Duration) -> Self {
        let most = NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN);
        Cache { inner: Mutex::new(CacheInner { map: lru::LruCache::new(most), epoch: 0 }), age, set: None }
    }

    pub(crate) fn while_set(self, set: &Arc<AtomicBool>) -> Self {
        Cache { set: Some(set.clone()), ..self }
    }

    /// The value, or the epoch to hand to [`Cache::put`].
    pub(crate) fn get(&self, key: &K) -> Result<Arc<V>, u64> {
        let set = self.set.as_ref().is_none_or(|s| s.load(Ordering::SeqCst));
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.map.get(key) {
            Some((value, at)) if set && at.elapsed() < self.age => Ok(value.clone()),
            _ => Err(inner.epoch),
        }
    }

    pub(crate) fn put(&self, key: K, value: Arc<V>, epoch: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.epoch == epoch {
            inner.map.put(key, (value, Instant::now()));
        }
    }

    /// Remembers another value in the place of `old`, if that is what is remembered still, and no longer than that.
    pub(crate) fn replace(&self, key: &K, old: &Arc<V>, new: Arc<V>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((kept, _)) = inner.map.get_mut(key).filter(|(kept, _)| Arc::ptr_eq(kept, old)) {
            *kept = new;
        }
    }

    pub(crate) fn clear(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.epoch += 1;
        inner.map.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names() {
        for good in ["abc", "my-bucket.2026", "0123"] {
            assert!(is_bucket_name(good), "{good}");
        }
        for bad in ["ab", "Abc", "a_b", "-abc", "abc-", "a..b", "10.0.0.1", &"x".repeat(64), "a.-b", "ü--"] {
            assert!(!is_bucket_name(bad), "{bad}");
        }
    }

    #[test]
    fn what_was_read_before_an_announcement_is_not_kept() {
        let cache: Cache<u8, u8> = Cache::new(2, Duration::from_secs(9));
        let epoch = cache.get(&1).unwrap_err();
        cache.clear();
        cache.put(1, Arc::new(1), epoch);
        let epoch = cache.get(&1).unwrap_err();
        cache.put(1, Arc::new(2), epoch);
        assert_eq!(cache.get(&1).map(|v| *v), Ok(2));
    }
}
