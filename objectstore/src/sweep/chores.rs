//! The single pieces of work: removing tails, comparing a head with its line, writing sums.

use super::{Chore, ObjectStore};
use crate::ObjectError;
use crate::container::Container;
use crate::index::Change;
use crate::index::entry::{self, Entry, Garbage, ShardId};
use crate::meta::{META_XATTR, ObjectMeta};
use crate::names::{self, ContainerId, Tag};
use crate::policy::{PolicyId, StoragePolicy};
use crate::store;
use futures::StreamExt;
use pool::{OptionalExt, Pool, ReadOp};
use state::Timestamp;
use std::sync::Arc;

/// Removals under way at once.
const REMOVALS: usize = 8;
/// How many tails in a row must be missing to take the others for missing too: more than are ever under way.
const MISSES: u64 = 64;

impl ObjectStore {
    pub(super) async fn chore(&self, chore: Chore) -> Result<(), ObjectError> {
        match chore {
            Chore::Garbage { container, shard, tag, garbage } => {
                self.remove_garbage(&container.policy, shard, tag, garbage).await
            }
            Chore::Abandoned { container, shard, tag, intent } => {
                self.abandoned(&container, shard, tag, &intent).await
            }
            Chore::Repair { container, name, attempt } => {
                let done = self.repair(&container, &name).await;
                if done.as_ref().is_err_and(ObjectError::is_transient) {
                    self.inner.sweeper.repair(&container, &name, attempt + 1);
                }
                done
            }
        }
    }

    /// Removes tails and then the record of them.
    pub(super) async fn remove_garbage(
        &self,
        policy: &StoragePolicy,
        shard: ShardId,
        tag: Tag,
        garbage: Garbage,
    ) -> Result<(), ObjectError> {
        self.remove_binned(policy, shard.container, tag, garbage).await?;
        let change = Change::Rows { set: Vec::new(), remove: vec![entry::garbage_key(tag)], adds: false };
        self.inner.index.commit(&policy.index, shard, change).await.map(drop)
    }

    pub(super) async fn remove_binned(
        &self,
        policy: &StoragePolicy,
        container: ContainerId,
        tag: Tag,
        garbage: Garbage,
    ) -> Result<(), ObjectError> {
        if garbage.multipart {
            return self.remove_upload(policy, container, tag).await;
        }
        let pool = self.inner.policies.pool_at(policy, garbage.place)?;
        remove_tails(pool, container, tag, garbage.tails).await
    }

    /// Removes all the parts of an upload, whatever became of it, and its record.
    pub(super) async fn remove_upload(
        &self,
        policy: &StoragePolicy,
        container: ContainerId,
        upload: Tag,
    ) -> Result<(), ObjectError> {
        let oid = names::upload(container, upload);
        let rows = policy.index.omap_get_all(&oid, "p").await.optional()?.unwrap_or_default();
        for (key, value) in rows {
            let (_, place) = entry::parse_intent(std::str::from_utf8(&value).unwrap_or_default());
            if let Some(tag) = Tag::parse(&key[1..]) {
                remove_tails(self.inner.policies.pool_at(policy, place)?, container, tag, 0).await?;
            }
        }
        Ok(policy.index.remove(&oid).await.optional().map(drop)?)
    }

    /// Removes the tails of one part of an upload, and the record of them.
    pub(crate) async fn remove_part(
        &self,
        container: &Container,
        oid: &str,
        tag: Tag,
        place: Option<PolicyId>,
    ) -> Result<(), ObjectError> {
        let pool = self.inner.policies.pool_at(&container.policy, place)?;
        remove_tails(pool, container.id, tag, 0).await?;
        Ok(container.policy.index.omap_remove(oid, [entry::intent_key(tag)]).await?)
    }

    /// Removes the tails of a body that did not come to be, unless it did after all.
    pub(super) async fn abandoned(
        &self,
        container: &Arc<Container>,
        shard: ShardId,
        tag: Tag,
        intent: &str,
    ) -> Result<(), ObjectError> {
        let (name, place) = entry::parse_intent(intent);
        let container = &match self.refreshed(container).await {
            Err(ObjectError::NoSuchContainer) => return Ok(()), // its grave is where this is on record
            container => container?,
        };
        let head = self.raw_head(container, name).await?;
        if head.is_some_and(|(meta, _)| meta.layout.tag == Some(tag)) {
            return self.repair(container, name).await;
        }
        // Or it was replaced before its writer came to tell of it, and is a version that others know.
        let known = self.version_of_tag(container, name, tag).await?.is_some();
        if !known {
            // Of content that was being moved, the tag may be an upload's.
            self.remove_upload(&container.policy, container.id, tag).await?;
            let pool = self.inner.policies.pool_at(&container.policy, place)?;
            remove_tails(pool, container.id, tag, 0).await?;
        }
        let change = Change::Rows { set: Vec::new(), remove: vec![entry::intent_key(tag)], adds: false };
        self.inner.index.commit(&container.policy.index, shard, change).await.map(drop)
    }

    /// Makes the index say of `name` what its head says.
    ///
    /// The line is read before the head: should the head be gone, then so it was, or is, the head of that line;
    /// and a line that another writer commits meanwhile is newer, which this change does not touch.
    pub(crate) async fn repair(&self, container: &Arc<Container>, name: &str) -> Result<(), ObjectError> {
        let container = &match self.refreshed(container).await {
            Err(ObjectError::NoSuchContainer) => return Ok(()), // it has gone, and its index with it
            container => container?,
        };
        if container.info.versioning.is_set() {
            return self.repair_versions(container, name).await;
        }
        let listed = self.listed(container, name).await?;
        let change = match (self.raw_head(container, name).await?, listed) {
            (Some((_, version)), Some(entry)) if entry.version == version => return Ok(()),
            (Some((meta, version)), _) => {
                Change::Put { name: name.to_owned(), entry: Entry::of(&meta, version), upload: None }
            }
            (None, Some(entry)) => Change::Delete { name: name.to_owned(), version: entry.version },
            (None, None) => return Ok(()),
        };
        let shard = container.shard_of(name);
        let done = self.inner.index.commit(&container.policy.index, shard, change).await?;
        tracing::info!(container = %container.id, stale = done.stale, "a line of the index was repaired");
        self.inner.dirty.add(container);
        let shard = done.shard.unwrap_or(shard);
        for (tag, garbage) in done.garbage.iter().copied() {
            self.inner.sweeper.bin(container, shard, tag, garbage);
        }
        Ok(())
    }

    /// A head as it is, expired or not.
    pub(crate) async fn raw_head(
        &self,
        container: &Container,
        name: &str,
    ) -> Result<Option<(ObjectMeta, u64)>, ObjectError> {
        self.raw_meta(container, &names::head(container.id, name)).await
    }

    /// The metadata that one RADOS object of ours holds, and its version.
    pub(crate) async fn raw_meta(
        &self,
        container: &Container,
        oid: &str,
    ) -> Result<Option<(ObjectMeta, u64)>, ObjectError> {
        let found = container.policy.data.read_op(oid, ReadOp::new().get_xattrs()).await.optional()?;
        let Some(mut outcome) = found else { return Ok(None) };
        let xattrs = outcome.xattrs().unwrap_or_default();
        let meta = xattrs.get(META_XATTR).ok_or(ObjectError::Damaged("a head without metadata"))?;
        Ok(Some((ObjectMeta::decode(meta)?, outcome.version)))
    }

    /// An object's line in the index.
    pub(crate) async fn listed(
        &self,
        container: &Container,
        name: &str,
    ) -> Result<Option<Entry>, ObjectError> {
        let (index, shard) = (&container.policy.index, container.shard_of(name));
        let more = |op: ReadOp| op.omap_get_by_keys([entry::object_key(name)]);
        let Some(mut outcome) = self.inner.index.read(index, shard, name, more).await? else {
            return Ok(None);
        };
        let page = outcome.omap().unwrap_or_default();
        Ok(page.entries.first().map(|(_, v)| Entry::decode(v)).transpose()?)
    }

    /// Writes the exact counts of the containers that changed into their rows.
    pub(super) async fn flush_counts(&self) -> Result<(), ObjectError> {
        for (container, changes) in self.inner.dirty.all() {
            let counts = self.counts(&container).await?;
            let mut tx = self.inner.db.begin().await?;
            store::containers::set_counts(&mut tx, container.id, counts).await?;
            tx.commit().await?;
            self.inner.dirty.clean(container.id, changes);
        }
        Ok(())
    }

    /// Says that this process lives, if it has begun to write.
    pub(super) async fn heartbeat(&self) -> Result<(), ObjectError> {
        if self.inner.writing.initialized() {
            self.say_alive().await?;
        }
        Ok(())
    }

    pub(crate) async fn say_alive(&self) -> Result<(), ObjectError> {
        let now = Timestamp::now().micros().to_string();
        let index = &self.inner.policies.default_policy().index;
        Ok(index.omap_set(names::PROCESSES, [(self.inner.process.to_string(), now.into())]).await?)
    }

    /// A clean end: nobody needs to look after what this process left.
    pub(super) async fn farewell(&self) -> Result<(), ObjectError> {
        if self.inner.writing.initialized() {
            let index = &self.inner.policies.default_policy().index;
            index.omap_remove(names::PROCESSES, [self.inner.process.to_string()]).await?;
        }
        Ok(())
    }
}

/// Removes the tails of a tag: as many as are known, or until none are found any more.
pub(super) async fn remove_tails(
    pool: &Pool,
    container: ContainerId,
    tag: Tag,
    known: u64,
) -> Result<(), ObjectError> {
    let pool = pool.clone();
    let end = if known > 0 { known } else { u64::MAX };
    let removals = (0..end).map(move |n| {
        let (pool, oid) = (pool.clone(), names::tail(container, tag, n));
        async move { pool.remove(&oid).await.optional().map(|found| found.is_some()) }
    });
    let mut found = futures::stream::iter(removals).buffered(REMOVALS);
    let mut missing = 0;
    while known > 0 || missing < MISSES {
        match found.next().await {
            Some(removed) => missing = if removed? { 0 } else { missing + 1 },
            None => break,
        }
    }
    Ok(())
}
