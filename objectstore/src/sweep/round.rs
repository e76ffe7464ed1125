//! A round over all containers: whatever their indexes have on record as due is done.

use super::ObjectStore;
use crate::ObjectError;
use crate::container::Container;
use crate::index::Change;
use crate::index::entry::{self, Entry, Garbage, ShardId, Tombstone};
use crate::names::{self, Tag};
use crate::object::DeleteVersion;
use crate::store;
use crate::version::VersionId;
use bytes::Bytes;
use pool::{OptionalExt, ReadOp, ReadOutcome, WriteOp};
use state::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// Containers read from the database at once; rows read from a shard at once.
const PAGE: usize = 200;
const ROWS: u64 = 1000;
/// A container whose deletion was cut short is opened again after this long.
const REOPEN: Duration = Duration::from_secs(300);
/// How long a tombstone outlives its object: longer than any write may be under way.
const TOMBSTONE: Duration = Duration::from_secs(900);
/// A deleted container's storage is cleared after this long, when no process remembers it any more.
const GRAVE: Duration = Duration::from_secs(900);

fn ago(d: Duration) -> i64 {
    Timestamp::now().micros() - i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

impl ObjectStore {
    pub(super) async fn round(&self) -> Result<(), ObjectError> {
        let mut after = String::new();
        loop {
            let rows = store::containers::round(&self.inner.db, &after, PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.id.to_string();
            for row in rows {
                let known = row.counts;
                let container = Arc::new(self.read_row(row)?);
                for shard in container.shards() {
                    while self.sweep_shard(&container, shard).await? {}
                }
                self.forget_deletions(&container).await?;
                let counts = self.counts(&container).await?;
                if counts != known {
                    self.inner.dirty.add(&container);
                }
                self.grow_if_full(&container, counts.objects / container.shards().len().max(1) as u64);
            }
        }
    }

    /// Does what a shard has on record; whether there is more.
    async fn sweep_shard(&self, container: &Arc<Container>, shard: ShardId) -> Result<bool, ObjectError> {
        let rows = |op: ReadOp| {
            op.omap_get_by_keys([entry::HEADER.to_owned()])
                .omap_get("", "e", ROWS)
                .omap_get("", "g", ROWS)
                .omap_get("", "p", ROWS)
                .omap_get("", "x", ROWS)
                .omap_get("", "d", ROWS)
        };
        let mut more = false;
        for (shard, read) in self.inner.index.read_all(&container.policy.index, shard, rows).await? {
            more |= self.sweep_rows(container, shard, read).await?;
        }
        Ok(more)
    }

    async fn sweep_rows(
        &self,
        container: &Arc<Container>,
        shard: ShardId,
        mut read: ReadOutcome,
    ) -> Result<bool, ObjectError> {
        let header = read.omap().unwrap_or_default();
        let mut next = || read.omap().unwrap_or_default();
        let (expiring, garbage, intents, mut tombstones) = (next(), next(), next(), next());
        tombstones.entries.extend(next().entries);
        if let Some((_, value)) = header.entries.first() {
            let closed = entry::Header::decode(value)?.closed;
            if closed != 0 && closed < ago(REOPEN) {
                self.inner.index.reopen(&container.policy.index, vec![shard]).await?;
            }
        }
        let mut done = 0;
        done += self.expire(container, expiring.entries).await?;
        for (key, value) in garbage.entries {
            let (Some(tag), record) = (Tag::parse(&key[1..]), Garbage::decode(&value)?) else { continue };
            if record.since < ago(Duration::from_secs(self.inner.config.garbage_grace_s)) {
                self.remove_garbage(&container.policy, shard, tag, record).await?;
                done += 1;
            }
        }
        for (key, value) in intents.entries {
            let abandoned = Duration::from_secs(self.inner.config.abandoned_s);
            let (Some(tag), Ok(intent)) = (Tag::parse(&key[1..]), std::str::from_utf8(&value)) else {
                continue;
            };
            if tag.micros() < ago(abandoned) {
                self.abandoned(container, shard, tag, intent).await?;
                done += 1;
            }
        }
        done += self.forget_tombstones(container, shard, tombstones.entries).await?;
        Ok(done as u64 >= ROWS)
    }

    /// Deletes what has expired in one container.
    pub(crate) async fn expire_in(&self, container: &Arc<Container>) -> Result<(), ObjectError> {
        for shard in container.shards() {
            let mut rows = self.inner.index.rows(&container.policy.index, shard, "e").await?;
            rows.sort_unstable();
            self.expire(container, rows).await?;
        }
        Ok(())
    }

    /// Deletes the objects whose time has run out.
    async fn expire(
        &self,
        container: &Arc<Container>,
        rows: Vec<(String, Bytes)>,
    ) -> Result<usize, ObjectError> {
        let now = Timestamp::now();
        let mut done = 0;
        for (key, _) in rows {
            let Some((due, name)) = key[1..].split_once('.') else { continue };
            if due.parse::<i64>().unwrap_or(i64::MAX) > now.secs() {
                break; // in the order of time
            }
            if container.info.versioning.is_set() {
                done += self.expire_versions(container, name, &key).await?;
                continue;
            }
            done += 1;
            let Some((meta, version)) = self.raw_head(container, name).await? else {
                self.repair(container, name).await?;
                continue;
            };
            if !meta.expired(now) {
                self.repair(container, name).await?;
                continue;
            }
            let op = WriteOp::new().assert_version(version).remove();
            match container.policy.data.write_op(&names::head(container.id, name), op).await {
                Ok(outcome) => {
                    let change = Change::Delete { name: name.to_owned(), version: outcome.version };
                    self.commit(container, change, name).await?;
                }
                Err(e) if e.is_cancelled() || e.is_not_found() => {} // replaced or deleted at this moment
                Err(e) => return Err(e.into()),
            }
        }
        Ok(done)
    }

    /// Takes an object away whose time has run out, and the row that says so; how many such rows have gone. Its versions
    /// that have ids of their own stay until they are deleted by those: as upstream, time is the object's, not theirs.
    async fn expire_versions(
        &self,
        container: &Arc<Container>,
        name: &str,
        row: &str,
    ) -> Result<usize, ObjectError> {
        let now = Timestamp::now();
        let head = self.raw_head(container, name).await?.filter(|(meta, _)| meta.expired(now));
        let latest = match head {
            Some((meta, _)) if meta.version_id() != VersionId::Null => {
                self.unlink_expired(container, name).await?;
                None
            }
            head => head.map(|(meta, version)| (meta.version_id(), Some(version))),
        };
        let behind = self.versions_behind(container, name).await?;
        let due = |e: &&Entry| e.id() == VersionId::Null && e.expired(now);
        let behind = behind.iter().filter(due).map(|e| (e.id(), None));
        let mut kept = false;
        for (id, head) in latest.into_iter().chain(behind) {
            let how = DeleteVersion { head, ..DeleteVersion::default() };
            match self.delete_version(container, name, id, how).await {
                Ok(_) | Err(ObjectError::NoSuchVersion) => {}
                Err(ObjectError::Locked) => kept = true, // it goes when it is let go
                Err(e) => return Err(e),
            }
        }
        if kept {
            return Ok(0);
        }
        let change = Change::Rows { set: Vec::new(), remove: vec![row.to_owned()], adds: false };
        self.inner.index.commit(&container.policy.index, container.shard_of(name), change).await?;
        Ok(1)
    }

    async fn forget_tombstones(
        &self,
        container: &Arc<Container>,
        shard: ShardId,
        rows: Vec<(String, Bytes)>,
    ) -> Result<usize, ObjectError> {
        let mut remove = Vec::new();
        for (key, value) in rows {
            if Tombstone::decode(&value)?.since < ago(TOMBSTONE) {
                remove.push(key);
            }
        }
        let done = remove.len();
        if done > 0 {
            let change = Change::Rows { set: Vec::new(), remove, adds: false };
            self.inner.index.commit(&container.policy.index, shard, change).await?;
        }
        Ok(done)
    }

    /// Clears the storage of deleted containers.
    pub(super) async fn bury(&self) -> Result<(), ObjectError> {
        for grave in store::graves::due(&self.inner.db, Timestamp(ago(GRAVE))).await? {
            let policy = self.inner.policies.get(&grave.policy)?;
            let generation = |n| ShardId::all(grave.id, n, grave.shards);
            // Stubs of all generations before; what is in a shard that was moving at the time may be there twice.
            for shard in (1..=grave.generation).rev().flat_map(generation) {
                let rows = policy.index.omap_get_all(&shard.oid(), "").await.optional()?.unwrap_or_default();
                for (key, value) in rows {
                    match key.as_bytes().first() {
                        Some(b'g') => {
                            if let Some(tag) = Tag::parse(&key[1..]) {
                                let garbage = Garbage::decode(&value)?;
                                self.remove_binned(&policy, grave.id, tag, garbage).await?;
                            }
                        }
                        Some(b'p') => {
                            if let Some(tag) = Tag::parse(&key[1..]) {
                                let intent = std::str::from_utf8(&value).unwrap_or_default();
                                let (_, place) = entry::parse_intent(intent);
                                self.remove_upload(&policy, grave.id, tag).await?;
                                let pool = self.inner.policies.pool_at(&policy, place)?;
                                super::chores::remove_tails(pool, grave.id, tag, 0).await?;
                            }
                        }
                        Some(b'u') => {
                            if let Some((_, upload)) = entry::parse_upload_key(&key[1..]) {
                                self.remove_upload(&policy, grave.id, upload).await?;
                            }
                        }
                        _ => {}
                    }
                }
                policy.index.remove(&shard.oid()).await.optional()?;
            }
            let mut tx = self.inner.db.begin().await?;
            store::graves::delete(&mut tx, grave.id).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
