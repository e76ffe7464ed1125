//! Writing, deleting and putting back versions: see [`crate::version`] for where they are.
//!
//! Everything here that touches a name's head holds the name's lock in this process, so that only other processes
//! get in between; against those every operation on a head asserts what it found there.

use crate::container::Container;
use crate::index::entry::{self, Entry};
use crate::index::{Change, VersionChange};
use crate::meta::{Kind, META_XATTR, Modified, ObjectMeta};
use crate::names::{self, Tag};
use crate::object::Condition;
use crate::version::{VersionId, Versioning};
use crate::{ObjectError, ObjectStore, cause, fail};
use bytes::Bytes;
use lru::LruCache;
use pool::{OptionalExt, ReadOp, WriteOp};
use state::Timestamp;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::{Arc, PoisonError};
use tokio::sync::{Mutex, MutexGuard};

/// Attempts to get a change of a head in between those of other processes.
const ATTEMPTS: u32 = 60;
/// A new version up to this size is sent on the guess that the name is new: one operation.
const GUESS: usize = 64 << 10;

/// Locks of names, within this process. Two names may share one.
pub(crate) struct NameLocks(Vec<Mutex<()>>);

impl Default for NameLocks {
    fn default() -> Self {
        NameLocks((0..1024).map(|_| Mutex::new(())).collect())
    }
}

fn hash_of(container: &Container, name: &str) -> u64 {
    let mut h = DefaultHasher::new();
    (container.id, name).hash(&mut h);
    h.finish()
}

impl NameLocks {
    pub(crate) async fn lock(&self, container: &Container, name: &str) -> MutexGuard<'_, ()> {
        let n = usize::try_from(hash_of(container, name) % self.0.len() as u64).unwrap_or(0);
        self.0[n].lock().await
    }
}

/// Names that were written here lately: they are not new, and so it is not guessed that they are. To be wrong costs an
/// operation, nothing else.
pub(crate) struct KnownNames(std::sync::Mutex<LruCache<u64, ()>>);

impl Default for KnownNames {
    fn default() -> Self {
        const MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(16_383);
        KnownNames(std::sync::Mutex::new(LruCache::new(MOST)))
    }
}

impl KnownNames {
    fn is_known(&self, container: &Container, name: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&hash_of(container, name)).is_some()
    }

    fn note(&self, container: &Container, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(hash_of(container, name), ());
    }
}

/// What a head, or the object of a version that is not the latest, holds.
pub(crate) struct Stored {
    pub(crate) meta: ObjectMeta,
    /// All that is in the object itself.
    pub(crate) data: Bytes,
    /// RADOS version.
    pub(crate) version: u64,
}

impl Stored {
    fn entry(&self) -> Entry {
        entry_of(&self.meta, self.version)
    }

    /// The operation that writes this as it is.
    fn write(&self, op: WriteOp) -> WriteOp {
        let meta = ObjectMeta { order: Some(self.meta.order()), ..self.meta.clone() };
        op.write_full(self.data.clone()).set_xattr(META_XATTR, Bytes::from(meta.encode()))
    }
}

/// A version that was deleted, or the delete marker that was made instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// Absent where the container keeps no versions.
    pub version: Option<VersionId>,
    /// What was made, or what was deleted, is a delete marker.
    pub marker: bool,
    /// There was an object before.
    pub existed: bool,
}

/// How a version is to be deleted.
#[derive(Debug, Clone, Default)]
pub struct DeleteVersion {
    /// The caller may break governance, and says so.
    pub bypass: bool,
    /// If the latest version goes, the one before it becomes the latest, as S3 has it. Otherwise there is none, as
    /// Swift has it.
    pub promote: bool,
    /// Only if it is the latest, in a head of this RADOS version.
    pub head: Option<u64>,
    /// Only if the version is like this.
    pub condition: Condition,
}

impl ObjectStore {
    /// Everything that one RADOS object of ours holds.
    pub(crate) async fn stored(
        &self,
        container: &Container,
        oid: &str,
    ) -> Result<Option<Stored>, ObjectError> {
        let pool = &container.policy.data;
        let first = usize::try_from(self.first_read()).unwrap_or(usize::MAX).max(4096);
        loop {
            let op = ReadOp::new().get_xattrs().read(0, first);
            let Some(mut outcome) = pool.read_op(oid, op).await.optional()? else { return Ok(None) };
            let (xattrs, version) = (outcome.xattrs().unwrap_or_default(), outcome.version);
            let meta = xattrs.get(META_XATTR).ok_or(ObjectError::Damaged("a head without metadata"))?;
            let meta = ObjectMeta::decode(meta)?;
            let data = outcome.data().unwrap_or_default();
            let all = usize::try_from(meta.layout.head).unwrap_or(usize::MAX);
            if data.len() >= all {
                return Ok(Some(Stored { data: data.slice(..all), meta, version }));
            }
            let op = ReadOp::new().assert_version(version).read(0, all);
            match pool.read_op(oid, op).await.optional() {
                Ok(Some(mut outcome)) => {
                    let data = outcome.data().filter(|d| d.len() == all);
                    let data = data.ok_or(ObjectError::Damaged("a head is shorter than it should be"))?;
                    return Ok(Some(Stored { meta, data, version }));
                }
                Ok(None) => return Ok(None),
                Err(e) if e.is_cancelled() => {} // replaced meanwhile
                Err(e) => return Err(e.into()),
            }
        }
    }

    async fn stored_head(&self, container: &Container, name: &str) -> Result<Option<Stored>, ObjectError> {
        self.stored(container, &names::head(container.id, name)).await
    }

    /// The metadata of a version that is not the latest, and the RADOS version of its object.
    async fn known_version(
        &self,
        container: &Container,
        name: &str,
        id: VersionId,
    ) -> Result<Option<(ObjectMeta, u64)>, ObjectError> {
        self.raw_meta(container, &names::version(container.id, id, name)).await
    }

    async fn stored_version(
        &self,
        container: &Container,
        name: &str,
        id: VersionId,
    ) -> Result<Option<Stored>, ObjectError> {
        self.stored(container, &names::version(container.id, id, name)).await
    }

    /// Writes an object of its own for a version that is about to be replaced in the head.
    async fn move_out(&self, container: &Container, name: &str, old: &Stored) -> Result<(), ObjectError> {
        let oid = names::version(container.id, old.meta.version_id(), name);
        container.policy.data.write_op(&oid, old.write(WriteOp::new())).await?;
        fail("object.version:moved").await
    }

    /// Makes `meta` the latest version of an object, or a delete marker of it; the version that it gets.
    pub(crate) async fn write_version(
        &self,
        container: &Arc<Container>,
        name: &str,
        mut meta: ObjectMeta,
        data: Bytes,
        condition: &Condition,
        upload: Option<Tag>,
    ) -> Result<(ObjectMeta, bool), ObjectError> {
        self.mark_writing().await?;
        fail("object.put:head:before").await?;
        let _one = self.inner.names.lock(container, name).await;
        let oid = names::head(container.id, name);
        meta.own_id = container.info.versioning == Versioning::Enabled;
        if meta.lock.retention.is_none() && !meta.is_marker() {
            let default = container.info.lock.and_then(|l| l.default);
            meta.lock.retention = default.map(|d| d.from(meta.modified.0));
        }
        let unconditional = matches!(condition, Condition::Always | Condition::Absent);
        let mut guess = meta.own_id
            && unconditional
            && data.len() <= GUESS
            && !self.inner.known_names.is_known(container, name);
        for _ in 0..ATTEMPTS {
            let mut change = VersionChange { name: name.to_owned(), upload, ..VersionChange::default() };
            // The null version that this one takes the place of, where that is not the head.
            let mut replaced = None;
            let old = if guess { None } else { self.stored_head(container, name).await? };
            if !guess {
                holds(condition, old.as_ref())?;
            }
            let op = match &old {
                None => WriteOp::new().create_exclusive(),
                Some(old) => WriteOp::new().assert_version(old.version),
            };
            meta.order = Some(old.as_ref().map_or_else(Tag::new, |o| Tag::after(o.meta.order())));
            let in_place = old.as_ref().filter(|o| !meta.own_id && o.meta.version_id() == VersionId::Null);
            match (&old, in_place) {
                (_, Some(null)) => {
                    kept(&null.meta, false)?;
                    change.gone.push(null.entry());
                }
                (Some(old), None) => {
                    self.move_out(container, name, old).await?;
                    change.behind.push(old.entry());
                }
                (None, None) => {}
            }
            if !meta.own_id && in_place.is_none() {
                replaced = self.known_version(container, name, VersionId::Null).await?;
                if let Some((null, version)) = &replaced {
                    kept(null, false)?;
                    change.gone.push(entry_of(null, *version));
                }
            }
            let op = op.write_full(data.clone()).set_xattr(META_XATTR, Bytes::from(meta.encode()));
            match container.policy.data.write_op(&oid, op).await {
                Ok(outcome) => {
                    self.inner.known_names.note(container, name);
                    fail("object.put:index:before").await?;
                    change.written = outcome.version;
                    change.head = Some(Entry::of(&meta, outcome.version));
                    self.commit(container, Change::Versions(Box::new(change)), name).await?;
                    if let Some((_, version)) = replaced {
                        self.drop_copy(container, name, VersionId::Null, Some(version)).await?;
                    }
                    let existed = old.is_some_and(|o| !o.meta.is_marker());
                    return Ok((meta, existed));
                }
                Err(e) if e.is_exists() || e.is_cancelled() || e.is_not_found() => guess = false,
                Err(e) => {
                    self.repair_later(container, name);
                    return Err(e.into());
                }
            }
        }
        Err(ObjectError::Contended)
    }

    /// Removes the object of a version that is the latest, or is no more. With `version`, only if it is still what
    /// it was then; whether it was.
    pub(crate) async fn drop_copy(
        &self,
        container: &Container,
        name: &str,
        id: VersionId,
        version: Option<u64>,
    ) -> Result<bool, ObjectError> {
        let oid = names::version(container.id, id, name);
        let op = version.map_or_else(WriteOp::new, |v| WriteOp::new().assert_version(v));
        match container.policy.data.write_op(&oid, op.remove()).await {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() => Ok(true),
            Err(e) if e.is_cancelled() => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Deletes an object as a client does that names no version: by a delete marker where versions are kept.
    pub(super) async fn mark_deleted(
        &self,
        container: &Arc<Container>,
        name: &str,
        condition: &Condition,
    ) -> Result<Deleted, ObjectError> {
        let meta =
            ObjectMeta { kind: Kind::Marker, modified: Modified(Timestamp::now()), ..ObjectMeta::default() };
        let (meta, existed) =
            self.write_version(container, name, meta, Bytes::new(), condition, None).await?;
        Ok(Deleted { version: Some(meta.version_id()), marker: true, existed })
    }

    /// Deletes one version for good.
    pub async fn delete_version(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: VersionId,
        how: DeleteVersion,
    ) -> Result<Deleted, ObjectError> {
        super::check_name(name)?;
        let (this, container, name) = (self.clone(), container.clone(), name.to_owned());
        cause::spawn(async move { this.finish_delete_version(&container, &name, id, how).await })
            .await
            .map_err(|_| ObjectError::Damaged("a deletion was cut off"))?
    }

    async fn finish_delete_version(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: VersionId,
        how: DeleteVersion,
    ) -> Result<Deleted, ObjectError> {
        let container = &self.refreshed(container).await?;
        if !container.info.versioning.is_set() {
            return match id {
                VersionId::Null => self.delete_object(container, name, how.condition).await,
                VersionId::Own(_) => Err(ObjectError::NoSuchVersion),
            };
        }
        self.mark_writing().await?;
        let _one = self.inner.names.lock(container, name).await;
        let data = &container.policy.data;
        for _ in 0..ATTEMPTS {
            let head = self.raw_head(container, name).await?;
            let (change, meta) = match head {
                Some((meta, version)) if meta.version_id() == id && how.head.is_none_or(|v| v == version) => {
                    how.condition.admit(Some((&meta, version)))?;
                    kept(&meta, how.bypass)?;
                    let next = match how.promote {
                        true => self.next_after(container, name, &meta).await?,
                        false => None,
                    };
                    let guard = WriteOp::new().assert_version(version);
                    let op = match &next {
                        None => guard.remove(),
                        Some(next) => next.write(guard),
                    };
                    let copy = match id {
                        VersionId::Null => self.known_version(container, name, id).await?.map(|k| k.1),
                        VersionId::Own(_) => None,
                    };
                    let written = match data.write_op(&names::head(container.id, name), op).await {
                        Ok(outcome) => outcome.version,
                        Err(e) if e.is_cancelled() || e.is_not_found() => continue,
                        Err(e) => {
                            self.repair_later(container, name);
                            return Err(e.into());
                        }
                    };
                    if copy.is_some() || matches!(id, VersionId::Own(_)) {
                        self.drop_copy(container, name, id, copy).await?;
                    }
                    let gone = entry_of(&meta, version);
                    let head = next.as_ref().map(|n| Entry { version: written, ..n.entry() });
                    (
                        self.settle(
                            container,
                            name,
                            VersionChange { written, head, gone: vec![gone], ..VersionChange::default() },
                            next,
                        ),
                        meta,
                    )
                }
                _ if how.head.is_some() => return Err(ObjectError::NoSuchVersion),
                _ => {
                    let Some((found, version)) = self.known_version(container, name, id).await? else {
                        if self.raw_head(container, name).await?.map(|h| h.1) != head.map(|h| h.1) {
                            continue;
                        }
                        return Err(ObjectError::NoSuchVersion);
                    };
                    how.condition.admit(Some((&found, version)))?;
                    kept(&found, how.bypass)?;
                    if !self.drop_copy(container, name, id, Some(version)).await? {
                        continue;
                    }
                    let gone = vec![entry_of(&found, version)];
                    let change = VersionChange { gone, ..VersionChange::default() };
                    (self.settle(container, name, change, None), found)
                }
            };
            change.await?;
            return Ok(Deleted { version: Some(id), marker: meta.is_marker(), existed: true });
        }
        Err(ObjectError::Contended)
    }

    /// Has the index say what was done to a head, and removes the object of the version that is the latest now.
    async fn settle(
        &self,
        container: &Arc<Container>,
        name: &str,
        mut change: VersionChange,
        latest: Option<Stored>,
    ) -> Result<(), ObjectError> {
        fail("object.delete:index:before").await?;
        name.clone_into(&mut change.name);
        self.commit(container, Change::Versions(Box::new(change)), name).await?;
        let Some(mut copy) = latest else { return Ok(()) };
        let id = copy.meta.version_id();
        while !self.drop_copy(container, name, id, Some(copy.version)).await? {
            // Its metadata were changed in the old place between the copy and now: that change counts.
            let (Some(again), Some((head, version))) =
                (self.stored_version(container, name, id).await?, self.raw_head(container, name).await?)
            else {
                break;
            };
            copy = again;
            if head.version_id() != id {
                break; // it has been moved out again
            }
            let op = copy.write(WriteOp::new().assert_version(version));
            match container.policy.data.write_op(&names::head(container.id, name), op).await {
                Ok(_) => self.repair_later(container, name),
                Err(e) if e.is_cancelled() || e.is_not_found() => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// The newest version behind the one in the head.
    async fn next_after(
        &self,
        container: &Container,
        name: &str,
        head: &ObjectMeta,
    ) -> Result<Option<Stored>, ObjectError> {
        // A change of the head that is still under way may not have told of what it moved out.
        let shown = self.listed(container, name).await?.filter(|e| e.id() != head.version_id());
        let mut after = String::new();
        loop {
            let (mut behind, last) = self.some_behind(container, name, &after, 16).await?;
            let first = after.is_empty();
            behind.extend(shown.iter().filter(|_| first).cloned());
            behind.sort_by_key(|e| std::cmp::Reverse(e.order()));
            for e in behind.iter().filter(|e| e.id() != head.version_id()) {
                if let Some(found) = self.stored_version(container, name, e.id()).await? {
                    return Ok(Some(found));
                }
            }
            match last {
                Some(last) => after = last,
                None => return Ok(None),
            }
        }
    }

    /// Some versions of an object that the index has beside the one that it shows, newest first, and the row behind
    /// which there may be more.
    async fn some_behind(
        &self,
        container: &Container,
        name: &str,
        after: &str,
        most: u64,
    ) -> Result<(Vec<Entry>, Option<String>), ObjectError> {
        let (index, prefix) = (&container.policy.index, entry::versions_prefix(name));
        let more = |op: ReadOp| op.omap_get(after, prefix.clone(), most);
        let read = self.inner.index.read(index, container.shard_of(name), name, more).await?;
        let page = read.and_then(|mut outcome| outcome.omap()).unwrap_or_default();
        let last = page.entries.last().map(|(key, _)| key.clone()).filter(|_| page.more);
        Ok((page.entries.iter().map(|(_, v)| Entry::decode(v)).collect::<Result<_, _>>()?, last))
    }

    /// All versions of an object that the index has beside the one that it shows, newest first.
    pub(crate) async fn versions_behind(
        &self,
        container: &Container,
        name: &str,
    ) -> Result<Vec<Entry>, ObjectError> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let (some, last) = self.some_behind(container, name, &after, 1000).await?;
            all.extend(some);
            match last {
                Some(last) => after = last,
                None => return Ok(all),
            }
        }
    }

    /// The version, other than the latest, whose content is under a tag.
    pub(crate) async fn version_of_tag(
        &self,
        container: &Container,
        name: &str,
        tag: Tag,
    ) -> Result<Option<Stored>, ObjectError> {
        if !container.info.versioning.is_set() {
            return Ok(None);
        }
        let behind = self.versions_behind(container, name).await?;
        match behind.into_iter().find(|e| e.tag == Some(tag)) {
            Some(e) => self.stored_version(container, name, e.id()).await,
            None => Ok(None),
        }
    }

    /// Makes an older version the latest again. Nothing is deleted by that.
    pub async fn restore_version(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: VersionId,
    ) -> Result<ObjectMeta, ObjectError> {
        super::check_name(name)?;
        let (this, container, name) = (self.clone(), container.clone(), name.to_owned());
        cause::spawn(async move { this.finish_restore(&container, &name, id).await })
            .await
            .map_err(|_| ObjectError::Damaged("a write was cut off"))?
    }

    async fn finish_restore(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: VersionId,
    ) -> Result<ObjectMeta, ObjectError> {
        self.mark_writing().await?;
        let _one = self.inner.names.lock(container, name).await;
        for _ in 0..ATTEMPTS {
            let old = self.stored_head(container, name).await?;
            if let Some(old) = old.as_ref().filter(|o| o.meta.version_id() == id) {
                return if old.meta.is_marker() {
                    Err(ObjectError::NoSuchVersion)
                } else {
                    Ok(old.meta.clone())
                };
            }
            let found = self.stored_version(container, name, id).await?;
            let found = found.filter(|f| !f.meta.is_marker()).ok_or(ObjectError::NoSuchVersion)?;
            let mut change = VersionChange::default();
            let op = match &old {
                None => WriteOp::new().create_exclusive(),
                Some(old) => {
                    self.move_out(container, name, old).await?;
                    change.behind.push(old.entry());
                    WriteOp::new().assert_version(old.version)
                }
            };
            let op = found.write(op);
            match container.policy.data.write_op(&names::head(container.id, name), op).await {
                Ok(outcome) => {
                    change.written = outcome.version;
                    change.head = Some(Entry { version: outcome.version, ..found.entry() });
                    let meta = found.meta.clone();
                    self.settle(container, name, change, Some(found)).await?;
                    return Ok(meta);
                }
                Err(e) if e.is_exists() || e.is_cancelled() || e.is_not_found() => {}
                Err(e) => {
                    self.repair_later(container, name);
                    return Err(e.into());
                }
            }
        }
        Err(ObjectError::Contended)
    }

    /// Takes the latest version away without a delete marker: what Swift does where versions are suspended. A null
    /// version is deleted, any other stays behind.
    pub(crate) async fn unlink_object(
        &self,
        container: &Arc<Container>,
        name: &str,
    ) -> Result<(), ObjectError> {
        super::check_name(name)?;
        let (this, container, name) = (self.clone(), container.clone(), name.to_owned());
        cause::spawn(async move { this.finish_unlink(&container, &name, false).await })
            .await
            .map_err(|_| ObjectError::Damaged("a deletion was cut off"))?
    }

    /// The same of an object whose time has run out; what has taken its place meanwhile stays.
    pub(crate) async fn unlink_expired(
        &self,
        container: &Arc<Container>,
        name: &str,
    ) -> Result<(), ObjectError> {
        match self.finish_unlink(container, name, true).await {
            Err(ObjectError::NoSuchObject) => Ok(()),
            done => done,
        }
    }

    async fn finish_unlink(
        &self,
        container: &Arc<Container>,
        name: &str,
        expired: bool,
    ) -> Result<(), ObjectError> {
        self.mark_writing().await?;
        let _one = self.inner.names.lock(container, name).await;
        for _ in 0..ATTEMPTS {
            let old = self.stored_head(container, name).await?.ok_or(ObjectError::NoSuchObject)?;
            if old.meta.is_marker() || (expired && !old.meta.expired(Timestamp::now())) {
                return Err(ObjectError::NoSuchObject);
            }
            let mut change = VersionChange::default();
            match old.meta.version_id() {
                VersionId::Null => {
                    kept(&old.meta, false)?;
                    change.gone.push(old.entry());
                }
                VersionId::Own(_) => {
                    self.move_out(container, name, &old).await?;
                    change.behind.push(old.entry());
                }
            }
            let op = WriteOp::new().assert_version(old.version).remove();
            match container.policy.data.write_op(&names::head(container.id, name), op).await {
                Ok(outcome) => {
                    change.written = outcome.version;
                    return self.settle(container, name, change, None).await;
                }
                Err(e) if e.is_cancelled() || e.is_not_found() => {}
                Err(e) => {
                    self.repair_later(container, name);
                    return Err(e.into());
                }
            }
        }
        Err(ObjectError::Contended)
    }

    /// Makes the index say of a name what its head and the objects of its versions say.
    ///
    /// The rows are read first: a version of theirs that has no object now was removed, or is the latest. The head
    /// is read before and after, so that no version can pass through it unseen.
    pub(crate) async fn repair_versions(
        &self,
        container: &Arc<Container>,
        name: &str,
    ) -> Result<(), ObjectError> {
        let _one = self.inner.names.lock(container, name).await;
        for _ in 0..ATTEMPTS {
            let listed = self.listed(container, name).await?;
            let behind = self.versions_behind(container, name).await?;
            let head = self.raw_head(container, name).await?;
            let mut change = VersionChange { name: name.to_owned(), ..VersionChange::default() };
            for e in behind.iter().chain(&listed) {
                if head.as_ref().is_some_and(|(meta, _)| meta.version_id() == e.id()) {
                    continue;
                }
                match self.known_version(container, name, e.id()).await? {
                    Some((meta, version)) if meta.order() == e.order() => {
                        change.behind.push(entry_of(&meta, version));
                    }
                    _ => change.gone.push(e.clone()),
                }
            }
            let again = self.raw_head(container, name).await?.map(|h| h.1);
            if again != head.as_ref().map(|h| h.1) {
                continue;
            }
            let shown = listed.as_ref().map(|e| (e.id(), e.version));
            match &head {
                Some((meta, version)) => {
                    let is_shown = if meta.is_marker() {
                        listed.is_none() && behind.iter().any(|e| e.id() == meta.version_id())
                    } else {
                        shown == Some((meta.version_id(), *version))
                    };
                    if is_shown && change.gone.is_empty() {
                        return Ok(());
                    }
                    change.written = *version;
                    change.head = Some(entry_of(meta, *version));
                }
                None if listed.is_none() && change.gone.is_empty() => return Ok(()),
                // Newer than the head of that row, older than any that may come.
                None => change.written = listed.as_ref().map_or(0, |e| e.version + 1),
            }
            let done = self.commit(container, Change::Versions(Box::new(change)), name).await?;
            tracing::info!(container = %container.id, stale = done.stale, "versions in the index were repaired");
            return Ok(());
        }
        Err(ObjectError::Contended)
    }
}

/// What the index says of a version.
fn entry_of(meta: &ObjectMeta, version: u64) -> Entry {
    Entry { order: Some(meta.order()), ..Entry::of(meta, version) }
}

/// Refuses to let a version go that must stay.
fn kept(meta: &ObjectMeta, bypass: bool) -> Result<(), ObjectError> {
    match meta.lock.holds(Timestamp::now(), bypass) {
        true => Err(ObjectError::Locked),
        false => Ok(()),
    }
}

/// Whether a condition holds for what the head holds.
fn holds(condition: &Condition, old: Option<&Stored>) -> Result<(), ObjectError> {
    let old = old.filter(|o| !o.meta.is_marker() && !o.meta.expired(Timestamp::now()));
    condition.admit(old.map(|o| (&o.meta, o.version)))
}
