//! Writing, deleting and putting back versions: see [`crate::version`] for where they are. Here is what all of that
//! does: reading what a head or an older version holds, moving a version out of the head, and telling the index.
//!
//! Everything here that touches a name's head holds the name's lock in this process, so that only other processes
//! get in between; against those every operation on a head asserts what it found there.

mod delete;
mod locks;
mod repair;
mod write;

pub use delete::{DeleteVersion, Deleted};
pub(crate) use locks::{KnownNames, NameLocks};

use crate::container::Container;
use crate::index::entry::{self, Entry};
use crate::index::{Change, VersionChange};
use crate::meta::{META_XATTR, ObjectMeta};
use crate::names::{self, Tag};
use crate::version::VersionId;
use crate::{ObjectError, ObjectStore, fail};
use bytes::Bytes;
use pool::{OptionalExt, ReadOp, WriteOp};
use state::Timestamp;
use std::sync::Arc;

/// Attempts to get a change of a head in between those of other processes.
const ATTEMPTS: u32 = 60;

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
