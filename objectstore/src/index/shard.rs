//! Changing an index shard: group commit within this process, optimistic concurrency between processes.
//!
//! Changes to one shard queue up; one task a shard takes what is there, reads the keys that the batch touches
//! and writes all of it, header included, in one operation that asserts the version it read. Another process's
//! change in between makes the assertion fail, and the batch is worked out again on what is there now. While one
//! batch is under way the next gathers: the busier a shard, the more changes share an operation.
//!
//! A shard whose rows have moved takes no change: the batch goes on to the shards that have them ([`super::moves`]).

use super::entry::{self, Entry, Garbage, Header, ShardId, Tombstone};
use super::merge;
use super::moves::{self, FILLING, Frozen, Moves, Standing};
use super::versions::VersionChange;
use crate::ObjectError;
use crate::codec::Encoder;
use crate::names::Tag;
use bytes::Bytes;
use futures::future::try_join_all;
use pool::{OptionalExt, Pool, ReadOp, WriteOp};
use state::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet};
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
    /// A change of an object and the rows of events that tell of it.
    Told(Box<Change>, Vec<(String, Bytes)>),
}

/// What a change did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Committed {
    /// A newer head was reported before: the change had no effect on the listing.
    pub(crate) stale: bool,
    /// The time of the object whose head was removed had run out.
    pub(crate) expired: bool,
    /// Tails that nothing refers to any more. The shard has them on record.
    pub(crate) garbage: Vec<(Tag, Garbage)>,
    /// The shard that was changed, and how many rows of objects and versions it has: told by [`Index::commit`].
    pub(crate) shard: Option<ShardId>,
    pub(crate) rows: u64,
}

type Reply = oneshot::Sender<Result<Committed, ObjectError>>;

struct Waiting {
    change: Change,
    reply: Reply,
    foreseen: Option<Foreseen>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    running: bool,
}

/// The rows that a change will touch, read before it was known what the change is: while the head was being written.
/// If the shard is the same by then, nothing is read again.
pub(crate) struct Foreseen {
    shard: ShardId,
    keys: Vec<String>,
    version: Option<u64>,
    rows: HashMap<String, Bytes>,
}

/// That nobody else foresees a change of the shard.
struct Looking<'a>(&'a Index, ShardId);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.looking.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// The shards that this process is changing right now, and what it knows of those that have moved.
#[derive(Default)]
pub(crate) struct Index {
    queues: Mutex<HashMap<ShardId, Arc<Mutex<Queue>>>>,
    pub(super) moves: Moves,
    pub(super) listings: merge::Memory,
    /// Shards of which a change is being foreseen.
    looking: Mutex<HashSet<ShardId>>,
}

impl Index {
    /// Makes a change; returns when it is durable. `shard` is where the change belonged once.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        pool: &Pool,
        shard: ShardId,
        change: Change,
    ) -> Result<Committed, ObjectError> {
        self.commit_foreseen(pool, shard, change, None).await
    }

    /// Makes a change whose rows may have been read before.
    pub(crate) async fn commit_foreseen(
        self: &Arc<Self>,
        pool: &Pool,
        shard: ShardId,
        change: Change,
        foreseen: Option<Foreseen>,
    ) -> Result<Committed, ObjectError> {
        let (reply, answer) = oneshot::channel();
        let leaf = change.name().map_or(shard, |name| self.moves.leaf(shard, name));
        self.queue(pool, leaf, Waiting { change, reply, foreseen });
        answer.await.map_err(|_| ObjectError::Damaged("an index commit was lost"))?
    }

    /// Reads what a change of `name` will want to know. Only where nothing else is going on: a shard that is busy is
    /// another by the time of the change, and its changes share a read.
    pub(crate) async fn foresee(&self, pool: &Pool, shard: ShardId, name: &str) -> Option<Foreseen> {
        let shard = self.moves.leaf(shard, name);
        if self.queues.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&shard) {
            return None;
        }
        if !self.looking.lock().unwrap_or_else(PoisonError::into_inner).insert(shard) {
            return None;
        }
        let _alone = Looking(self, shard);
        let mut keys = Vec::with_capacity(4);
        touched_by_name(name, &mut keys);
        let keys = sorted(keys);
        let (version, rows) = read_rows(pool, &shard.oid(), &keys).await.ok()?;
        Some(Foreseen { shard, keys, version, rows })
    }

    fn queue(self: &Arc<Self>, pool: &Pool, shard: ShardId, one: Waiting) {
        let start = {
            let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            let queue = queues.entry(shard).or_default();
            let mut q = queue.lock().unwrap_or_else(PoisonError::into_inner);
            q.waiting.push(one);
            (!std::mem::replace(&mut q.running, true)).then(|| queue.clone())
        };
        if let Some(queue) = start {
            tokio::spawn(self.clone().drain(pool.clone(), shard, queue));
        }
    }

    /// Works a shard's queue off, and removes the queue when it is empty.
    async fn drain(self: Arc<Self>, pool: Pool, shard: ShardId, queue: Arc<Mutex<Queue>>) {
        loop {
            let mut batch: Vec<Waiting> = {
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
            let foreseen = match batch.as_mut_slice() {
                [one] => one.foreseen.take().filter(|f| f.shard == shard),
                _ => None,
            };
            let (changes, replies): (Vec<Change>, Vec<Reply>) =
                batch.into_iter().map(|w| (w.change, w.reply)).unzip();
            let results = match write_batch(&pool, shard, &changes, foreseen).await {
                Ok(Outcome::Moved(shards)) => {
                    self.moves.learn(shard, shards);
                    changes
                        .into_iter()
                        .zip(replies)
                        .for_each(|(c, r)| self.pass_on(&pool, shard, shards, c, r));
                    continue;
                }
                Ok(Outcome::Done(results)) => Ok(results),
                Err(e) => Err(e),
            };
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

    /// Hands a change to the children of a shard that has moved.
    fn pass_on(self: &Arc<Self>, pool: &Pool, from: ShardId, shards: u32, change: Change, reply: Reply) {
        if let Some(name) = change.name() {
            let leaf = self.moves.leaf(from.child(shards, name), name);
            return self.queue(pool, leaf, Waiting { change, reply, foreseen: None });
        }
        let parts = change.divide(from, shards);
        let (this, pool) = (self.clone(), pool.clone());
        tokio::spawn(async move {
            let done = parts.into_iter().map(|(child, part)| this.commit(&pool, child, part));
            let done = try_join_all(done).await;
            let _ = reply.send(done.map(|all| all.into_iter().next().unwrap_or_default()));
        });
    }
}

impl Change {
    /// The name that it is about, if it is about one.
    fn name(&self) -> Option<&str> {
        match self {
            Change::Put { name, .. } | Change::Delete { name, .. } => Some(name),
            Change::Versions(change) => Some(&change.name),
            Change::Told(change, _) => change.name(),
            Change::Rows { .. } => None,
        }
    }

    /// What of a change of rows goes to which child. Rows that are bound to no name go with those that are, so that
    /// what was one operation stays one; and may have been anywhere where they are removed.
    fn divide(self, from: ShardId, shards: u32) -> Vec<(ShardId, Change)> {
        let Change::Rows { set, remove, adds } = self else { return Vec::new() };
        let child = |key: &str, value: &[u8]| entry::name_of(key, value).map(|n| from.child(shards, &n));
        let named = set.iter().map(|(k, v)| child(k, v)).chain(remove.iter().map(|k| child(k, b"")));
        let home = named.flatten().next().or_else(|| from.children(shards).next()).unwrap_or(from);
        type Part = (Vec<(String, Bytes)>, Vec<String>);
        let mut parts: HashMap<ShardId, Part> = HashMap::new();
        for (key, value) in set {
            let child = child(&key, &value).unwrap_or(home);
            parts.entry(child).or_default().0.push((key, value));
        }
        for key in remove {
            match child(&key, b"") {
                Some(child) => parts.entry(child).or_default().1.push(key),
                None => from.children(shards).for_each(|c| parts.entry(c).or_default().1.push(key.clone())),
            }
        }
        let part = |(child, (set, remove))| (child, Change::Rows { set, remove, adds });
        parts.into_iter().map(part).collect()
    }
}

type Results = Vec<Result<Committed, ObjectError>>;

enum Outcome {
    Done(Results),
    /// The rows are in the children among so many shards.
    Moved(u32),
}

/// One operation for the whole batch, tried again while other processes get in between.
async fn write_batch(
    pool: &Pool,
    shard: ShardId,
    changes: &[Change],
    foreseen: Option<Foreseen>,
) -> Result<Outcome, ObjectError> {
    let (oid, keys) = (shard.oid(), touched(changes));
    let mut foreseen = foreseen.filter(|f| f.keys == keys);
    let (mut attempt, mut frozen) = (0, Frozen::default());
    while attempt < ATTEMPTS {
        let (version, old) = match foreseen.take() {
            Some(f) => (f.version, f.rows),
            None => read_rows(pool, &oid, &keys).await?,
        };
        let standing = old.get(entry::STANDING).map(|v| Standing::decode(v)).transpose()?;
        let log = match standing.unwrap_or_default() {
            Standing::Live => false,
            Standing::Moving { frozen: false, .. } => true,
            Standing::Moved { shards } => return Ok(Outcome::Moved(shards)),
            Standing::Filling { .. } => return Err(FILLING),
            waiting => {
                frozen.wait(pool, &oid, waiting).await?;
                continue;
            }
        };
        let mut rows = Rows::new(old)?;
        let now = Timestamp::now();
        let results: Results = changes.iter().map(|c| rows.apply(c, now)).collect();
        let (load, done) = (rows.header.objects + rows.header.versions, |results: Results, load| {
            let told = |c| Committed { shard: Some(shard), rows: load, ..c };
            Ok(Outcome::Done(results.into_iter().map(|r| r.map(told)).collect()))
        });
        let Some((mut set, remove)) = rows.changes() else { return done(results, load) };
        let op = match version {
            Some(v) => WriteOp::new().assert_version(v),
            None => {
                moves::absent(shard)?;
                WriteOp::new().create_exclusive()
            }
        };
        if let Some(v) = version.filter(|_| log) {
            set.push((entry::log_key(v), log_of(&set, &remove)));
        }
        let op = if set.is_empty() { op } else { op.omap_set(set) };
        let op = if remove.is_empty() { op } else { op.omap_remove(remove) };
        match pool.write_op(&oid, op).await {
            Ok(_) => return done(results, load),
            Err(e) if e.is_cancelled() || e.is_exists() || e.is_not_found() => yield_to_others(attempt).await,
            Err(e) => return Err(e.into()),
        }
        attempt += 1;
    }
    Err(ObjectError::Contended)
}

/// The keys that a change touched, as the log of a shard has them whose rows are being copied.
fn log_of(set: &[(String, Bytes)], remove: &[String]) -> Bytes {
    let mut e = Encoder::new();
    for key in set.iter().map(|(k, _)| k).chain(remove).filter(|k| *k != entry::HEADER) {
        e.text(1, key);
    }
    e.done().into()
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
    let mut keys = vec![entry::HEADER.to_owned(), entry::STANDING.to_owned()];
    for change in changes {
        let change = if let Change::Told(change, _) = change { change } else { change };
        if let Change::Put { name, .. } | Change::Delete { name, .. } = change {
            touched_by_name(name, &mut keys);
        }
        if let Change::Versions(change) = change {
            change.touched(&mut keys);
        }
    }
    sorted(keys)
}

fn touched_by_name(name: &str, keys: &mut Vec<String>) {
    keys.extend([entry::HEADER.to_owned(), entry::STANDING.to_owned()]);
    keys.extend([entry::object_key(name), entry::tombstone_key(name)]);
}

fn sorted(mut keys: Vec<String>) -> Vec<String> {
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
            Change::Told(change, events) => {
                let done = self.apply(change, now)?;
                self.new.extend(events.iter().map(|(key, value)| (key.clone(), Some(value.clone()))));
                Ok(done)
            }
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
        if let Some(tag) = new.tag {
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
            return Ok(Committed { stale: true, garbage: self.bin(garbage), ..Committed::default() });
        }
        if buried.is_some() {
            self.remove(entry::tombstone_key(name));
        }
        let garbage = old.as_ref().and_then(|e| e.garbage(now)).filter(|(tag, _)| Some(*tag) != new.tag);
        let garbage = self.bin(garbage);
        self.uncount(name, old.as_ref());
        self.show(name, new);
        Ok(Committed { garbage, ..Committed::default() })
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
            return Ok(Committed { stale: true, ..Committed::default() });
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
        let expired = old.is_some_and(|e| e.expired(now));
        Ok(Committed { garbage, expired, ..Committed::default() })
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

impl Index {
    /// The headers of the shards that have the rows of `shards` by now. Of a shard that was never written, none.
    pub(crate) async fn headers(
        &self,
        pool: &Pool,
        shards: Vec<ShardId>,
    ) -> Result<Vec<Header>, ObjectError> {
        let key = || [entry::HEADER.to_owned()];
        let read = |shard| self.read_all(pool, shard, move |op| op.omap_get_by_keys(key()));
        let mut headers = Vec::new();
        for (_, mut outcome) in try_join_all(shards.into_iter().map(read)).await?.into_iter().flatten() {
            let rows = outcome.omap().unwrap_or_default().entries;
            headers.push(rows.first().map(|(_, v)| Header::decode(v)).transpose()?.unwrap_or_default());
        }
        Ok(headers)
    }

    /// Closes shards for good if they have no objects: nothing is ever added to them again. Where one has, those before
    /// it are closed all the same.
    pub(crate) async fn close(&self, pool: &Pool, shards: Vec<ShardId>) -> Result<(), ObjectError> {
        self.set_closed(pool, shards, true).await
    }

    /// Opens the shards again of a container that turned out not to be empty.
    pub(crate) async fn reopen(&self, pool: &Pool, shards: Vec<ShardId>) -> Result<(), ObjectError> {
        self.set_closed(pool, shards, false).await
    }

    async fn set_closed(&self, pool: &Pool, shards: Vec<ShardId>, closed: bool) -> Result<(), ObjectError> {
        let mut todo = self.moves.leaves(shards);
        while let Some(shard) = todo.pop() {
            if let Some(shards) = set_closed(pool, shard, closed).await? {
                self.moves.learn(shard, shards);
                todo.extend(shard.children(shards));
            }
        }
        Ok(())
    }
}

/// Closes or opens one shard. If its rows have moved nothing is done, and it is told among how many its children are.
async fn set_closed(pool: &Pool, shard: ShardId, closed: bool) -> Result<Option<u32>, ObjectError> {
    let oid = shard.oid();
    let keys = [entry::HEADER.to_owned(), entry::STANDING.to_owned()];
    let (mut attempt, mut frozen) = (0, Frozen::default());
    while attempt < ATTEMPTS {
        let (version, rows) = read_rows(pool, &oid, &keys).await?;
        let standing = rows.get(entry::STANDING).map(|v| Standing::decode(v)).transpose()?;
        match standing.unwrap_or_default() {
            Standing::Live | Standing::Moving { frozen: false, .. } => {}
            Standing::Moved { shards } => return Ok(Some(shards)),
            Standing::Filling { .. } => return Err(FILLING),
            waiting => {
                frozen.wait(pool, &oid, waiting).await?;
                continue;
            }
        }
        let mut header = Rows::new(rows)?.header;
        if closed && (header.objects > 0 || header.versions > 0) {
            let shown = header.objects > 0;
            return Err(if shown { ObjectError::NotEmpty } else { ObjectError::HasVersions });
        }
        if !closed && header.closed == 0 {
            return Ok(None);
        }
        header.closed = if closed { Timestamp::now().micros() } else { 0 };
        let op = match version {
            Some(v) => WriteOp::new().assert_version(v),
            None => {
                moves::absent(shard)?;
                WriteOp::new().create_exclusive()
            }
        };
        let op = op.omap_set([(entry::HEADER.to_owned(), Bytes::from(header.encode()))]);
        match pool.write_op(&oid, op).await {
            Ok(_) => return Ok(None),
            Err(e) if e.is_cancelled() || e.is_exists() || e.is_not_found() => yield_to_others(attempt).await,
            Err(e) => return Err(e.into()),
        }
        attempt += 1;
    }
    Err(ObjectError::Contended)
}

#[cfg(test)]
#[path = "shard_tests.rs"]
pub(super) mod tests;
