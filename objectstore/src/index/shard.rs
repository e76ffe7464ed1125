//! Changing an index shard: group commit within this process, optimistic concurrency between processes.
//!
//! Changes to one shard queue up; one task a shard takes what is there, reads the keys that the batch touches
//! and writes all of it, header included, in one operation that asserts the version it read. Another process's
//! change in between makes the assertion fail, and the batch is worked out again on what is there now. While one
//! batch is under way the next gathers: the busier a shard, the more changes share an operation.

use super::entry::{self, Entry, Garbage, Header, ShardId, Tombstone};
use super::versions::VersionChange;
use crate::ObjectError;
use crate::names::Tag;
use bytes::Bytes;
use pool::{OptionalExt, Pool, ReadOp, WriteOp};
use state::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// Changes that share one operation at most: bounds the operation's size and everyone's wait for it.
const BATCH: usize = 256;
/// Attempts to get a batch in between those of other processes.
const ATTEMPTS: u32 = 64;

/// One change to a shard.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// A head was written.
    Put {
        name: String,
        entry: Entry,
        /// The multipart upload that this completes: its row goes.
        upload: Option<Tag>,
    },
    /// A head was removed, at this version.
    Delete { name: String, version: u64 },
    /// Versions of an object came, went or changed places.
    Versions(Box<VersionChange>),
    /// Rows beside the objects: uploads, intents, garbage. `adds` is refused where the container is going.
    Rows { set: Vec<(String, Bytes)>, remove: Vec<String>, adds: bool },
}

/// What a change did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Committed {
    /// A newer head was reported before: the change had no effect on the listing.
    pub(crate) stale: bool,
    /// Tails that nothing refers to any more. The shard has them on record.
    pub(crate) garbage: Vec<(Tag, Garbage)>,
}

type Reply = oneshot::Sender<Result<Committed, ObjectError>>;

#[derive(Default)]
struct Queue {
    waiting: Vec<(Change, Reply)>,
    running: bool,
}

/// The shards that this process is changing right now.
#[derive(Default)]
pub(crate) struct Index {
    queues: Mutex<HashMap<ShardId, Arc<Mutex<Queue>>>>,
}

impl Index {
    /// Makes a change; returns when it is durable.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        pool: &Pool,
        shard: ShardId,
        change: Change,
    ) -> Result<Committed, ObjectError> {
        let (reply, answer) = oneshot::channel();
        let start = {
            let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            let queue = queues.entry(shard).or_default();
            let mut q = queue.lock().unwrap_or_else(PoisonError::into_inner);
            q.waiting.push((change, reply));
            (!std::mem::replace(&mut q.running, true)).then(|| queue.clone())
        };
        if let Some(queue) = start {
            tokio::spawn(self.clone().drain(pool.clone(), shard, queue));
        }
        answer.await.map_err(|_| ObjectError::Damaged("an index commit was lost"))?
    }

    /// Works a shard's queue off, and removes the queue when it is empty.
    async fn drain(self: Arc<Self>, pool: Pool, shard: ShardId, queue: Arc<Mutex<Queue>>) {
        let oid = shard.oid();
        loop {
            let batch: Vec<(Change, Reply)> = {
                let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
                let mut q = queue.lock().unwrap_or_else(PoisonError::into_inner);
                if q.waiting.is_empty() {
                    q.running = false;
                    queues.remove(&shard);
                    return;
                }
                let n = q.waiting.len().min(BATCH);
                q.waiting.drain(..n).collect()
            };
            let (changes, replies): (Vec<Change>, Vec<Reply>) = batch.into_iter().unzip();
            let results = write_batch(&pool, &oid, &changes).await;
            for (i, reply) in replies.into_iter().enumerate() {
                let result = match &results {
                    Ok(all) => {
                        all.get(i).cloned().unwrap_or(Err(ObjectError::Damaged("a batch came back short")))
                    }
                    Err(e) => Err(e.clone()),
                };
                // Whoever asked may be gone; what they asked for is done all the same.
                let _ = reply.send(result);
            }
        }
    }
}

type Results = Vec<Result<Committed, ObjectError>>;

/// One operation for the whole batch, tried again while other processes get in between.
async fn write_batch(pool: &Pool, oid: &str, changes: &[Change]) -> Result<Results, ObjectError> {
    let keys = touched(changes);
    for attempt in 0..ATTEMPTS {
        let (version, old) = read_rows(pool, oid, &keys).await?;
        let mut rows = Rows::new(old)?;
        let now = Timestamp::now();
        let results: Results = changes.iter().map(|c| rows.apply(c, now)).collect();
        let Some((set, remove)) = rows.changes() else { return Ok(results) };
        let op = match version {
            Some(v) => WriteOp::new().assert_version(v),
            None => WriteOp::new().create_exclusive(),
        };
        let op = if set.is_empty() { op } else { op.omap_set(set) };
        let op = if remove.is_empty() { op } else { op.omap_remove(remove) };
        match pool.write_op(oid, op).await {
            Ok(_) => return Ok(results),
            Err(e) if e.is_cancelled() || e.is_exists() || e.is_not_found() => yield_to_others(attempt).await,
            Err(e) => return Err(e.into()),
        }
    }
    Err(ObjectError::Contended)
}

/// Another process was faster. Those who lost wait unequally long, or they would all meet again.
async fn yield_to_others(attempt: u32) {
    let most = 500u64 << attempt.min(5);
    tokio::time::sleep(std::time::Duration::from_micros(rand::random_range(0..most))).await;
}

async fn read_rows(
    pool: &Pool,
    oid: &str,
    keys: &[String],
) -> Result<(Option<u64>, HashMap<String, Bytes>), ObjectError> {
    let op = ReadOp::new().assert_exists().omap_get_by_keys(keys.iter().cloned());
    match pool.read_op(oid, op).await.optional()? {
        None => Ok((None, HashMap::new())),
        Some(mut outcome) => {
            let page = outcome.omap().ok_or(ObjectError::Damaged("an index shard gave no rows"))?;
            Ok((Some(outcome.version), page.entries.into_iter().collect()))
        }
    }
}

/// The keys whose values decide what a batch does.
fn touched(changes: &[Change]) -> Vec<String> {
    let mut keys = vec![entry::HEADER.to_owned()];
    for change in changes {
        if let Change::Put { name, .. } | Change::Delete { name, .. } = change {
            keys.push(entry::object_key(name));
            keys.push(entry::tombstone_key(name));
        }
        if let Change::Versions(change) = change {
            change.touched(&mut keys);
        }
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// A shard's rows as a batch sees them: what was read, under what the batch has changed so far.
pub(super) struct Rows {
    old: HashMap<String, Bytes>,
    new: BTreeMap<String, Option<Bytes>>,
    pub(super) header: Header,
    header_was: Option<Header>,
}

impl Rows {
    fn new(old: HashMap<String, Bytes>) -> Result<Self, ObjectError> {
        let header_was = old.get(entry::HEADER).map(|v| Header::decode(v)).transpose()?;
        Ok(Rows { old, new: BTreeMap::new(), header: header_was.unwrap_or_default(), header_was })
    }

    pub(super) fn get(&self, key: &str) -> Option<&Bytes> {
        match self.new.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.old.get(key),
        }
    }

    pub(super) fn set(&mut self, key: String, value: Vec<u8>) {
        self.new.insert(key, Some(Bytes::from(value)));
    }

    pub(super) fn remove(&mut self, key: String) {
        self.new.insert(key, None);
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Entry>, ObjectError> {
        Ok(self.get(&entry::object_key(name)).map(|v| Entry::decode(v)).transpose()?)
    }

    pub(super) fn buried(&self, name: &str) -> Result<Option<Tombstone>, ObjectError> {
        Ok(self.get(&entry::tombstone_key(name)).map(|v| Tombstone::decode(v)).transpose()?)
    }

    fn apply(&mut self, change: &Change, now: Timestamp) -> Result<Committed, ObjectError> {
        match change {
            Change::Put { name, entry, upload } => self.put(name, entry, *upload, now),
            Change::Delete { name, version } => self.delete(name, *version, now),
            Change::Versions(change) => self.versions(change, now),
            Change::Rows { adds: true, .. } if self.header.closed != 0 => Err(ObjectError::NoSuchContainer),
            Change::Rows { set, remove, .. } => {
                for (key, value) in set {
                    self.new.insert(key.clone(), Some(value.clone()));
                }
                for key in remove {
                    self.remove(key.clone());
                }
                Ok(Committed::default())
            }
        }
    }

    fn put(
        &mut self,
        name: &str,
        new: &Entry,
        upload: Option<Tag>,
        now: Timestamp,
    ) -> Result<Committed, ObjectError> {
        if self.header.closed != 0 {
            return Err(ObjectError::NoSuchContainer);
        }
        let old = self.object(name)?;
        let buried = self.buried(name)?;
        if let Some(tag) = new.tag.filter(|_| !new.multipart) {
            self.remove(entry::intent_key(tag));
        }
        if let Some(upload) = upload {
            self.remove(entry::upload_key(name, upload));
        }
        let newest = old.as_ref().map_or(0, |e| e.version).max(buried.map_or(0, |t| t.version));
        if newest == new.version {
            return Ok(Committed::default()); // this very change, repeated after an answer was lost
        }
        if newest > new.version {
            let kept = old.as_ref().and_then(|e| e.tag);
            // Since versions are kept, whoever replaced this one tells what became of it.
            let versions = old.is_some_and(|e| e.order.is_some()) || buried.is_some_and(|t| t.versions);
            let garbage = new.garbage(now).filter(|(tag, _)| Some(*tag) != kept && !versions);
            return Ok(Committed { stale: true, garbage: self.bin(garbage) });
        }
        if buried.is_some() {
            self.remove(entry::tombstone_key(name));
        }
        let garbage = old.as_ref().and_then(|e| e.garbage(now)).filter(|(tag, _)| Some(*tag) != new.tag);
        let garbage = self.bin(garbage);
        self.uncount(name, old.as_ref());
        self.show(name, new);
        Ok(Committed { stale: false, garbage })
    }

    /// Lists an object, and counts it.
    pub(super) fn show(&mut self, name: &str, new: &Entry) {
        self.header.objects += 1;
        self.header.bytes += new.size;
        if let Some(due) = new.delete_at {
            self.set(entry::expiry_key(due, name), Vec::new());
        }
        self.set(entry::object_key(name), new.encode());
    }

    fn delete(&mut self, name: &str, version: u64, now: Timestamp) -> Result<Committed, ObjectError> {
        let old = self.object(name)?;
        let buried = self.buried(name)?;
        let newest = old.as_ref().map_or(0, |e| e.version).max(buried.map_or(0, |t| t.version));
        if newest > version {
            return Ok(Committed { stale: true, garbage: Vec::new() });
        }
        self.set(
            entry::tombstone_key(name),
            Tombstone { version, since: now.micros(), versions: false }.encode(),
        );
        let garbage = old.as_ref().and_then(|e| e.garbage(now));
        let garbage = self.bin(garbage);
        if old.is_some() {
            self.remove(entry::object_key(name));
        }
        self.uncount(name, old.as_ref());
        Ok(Committed { stale: false, garbage })
    }

    /// Puts tails on record that are to be removed; hands them back.
    pub(super) fn bin(&mut self, garbage: Option<(Tag, Garbage)>) -> Vec<(Tag, Garbage)> {
        if let Some((tag, record)) = garbage {
            self.set(entry::garbage_key(tag), record.encode());
        }
        garbage.into_iter().collect()
    }

    pub(super) fn uncount(&mut self, name: &str, old: Option<&Entry>) {
        let Some(old) = old else { return };
        self.header.objects = self.header.objects.saturating_sub(1);
        self.header.bytes = self.header.bytes.saturating_sub(old.size);
        if let Some(due) = old.delete_at {
            self.remove(entry::expiry_key(due, name));
        }
    }

    /// What is to be written; `None` where the batch came to nothing.
    #[allow(clippy::type_complexity)]
    fn changes(mut self) -> Option<(Vec<(String, Bytes)>, Vec<String>)> {
        if self.header_was != Some(self.header) && (self.header_was.is_some() || !self.new.is_empty()) {
            let header = self.header.encode();
            self.set(entry::HEADER.to_owned(), header);
        }
        if self.new.is_empty() {
            return None;
        }
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        for (key, value) in self.new {
            match value {
                Some(value) => set.push((key, value)),
                None => remove.push(key),
            }
        }
        Some((set, remove))
    }
}

/// A shard's header; of a shard that was never written, an empty one.
pub(crate) async fn header(pool: &Pool, shard: ShardId) -> Result<Header, ObjectError> {
    let (_, rows) = read_rows(pool, &shard.oid(), &[entry::HEADER.to_owned()]).await?;
    Ok(Rows::new(rows)?.header)
}

/// Closes a shard for good if it has no objects: nothing is ever added to it again.
pub(crate) async fn close(pool: &Pool, shard: ShardId) -> Result<(), ObjectError> {
    set_closed(pool, shard, true).await
}

/// Opens a shard again whose container turned out not to be empty.
pub(crate) async fn reopen(pool: &Pool, shard: ShardId) -> Result<(), ObjectError> {
    set_closed(pool, shard, false).await
}

async fn set_closed(pool: &Pool, shard: ShardId, closed: bool) -> Result<(), ObjectError> {
    let oid = shard.oid();
    for attempt in 0..ATTEMPTS {
        let (version, rows) = read_rows(pool, &oid, &[entry::HEADER.to_owned()]).await?;
        let mut header = Rows::new(rows)?.header;
        if closed && (header.objects > 0 || header.versions > 0) {
            let shown = header.objects > 0;
            return Err(if shown { ObjectError::NotEmpty } else { ObjectError::HasVersions });
        }
        header.closed = if closed { Timestamp::now().micros() } else { 0 };
        let op = match version {
            Some(v) => WriteOp::new().assert_version(v),
            None => WriteOp::new().create_exclusive(),
        };
        let op = op.omap_set([(entry::HEADER.to_owned(), Bytes::from(header.encode()))]);
        match pool.write_op(&oid, op).await {
            Ok(_) => return Ok(()),
            Err(e) if e.is_cancelled() || e.is_exists() || e.is_not_found() => yield_to_others(attempt).await,
            Err(e) => return Err(e.into()),
        }
    }
    Err(ObjectError::Contended)
}

#[cfg(test)]
#[path = "shard_tests.rs"]
pub(super) mod tests;
