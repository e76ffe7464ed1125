//! Taking what changed to the other ends, beside requests.
//!
//! One process at a time has a container (a row of `object_syncs`, claimed and renewed): what it took is removed from
//! the index, how far it has come with what was there before is in the row, so another goes on where it ended. An end
//! that takes nothing is left alone for a while that grows; meanwhile rows of the same object become one.

use super::send::{End, Fate, SendError, Sender};
use super::target::Target;
use crate::container::Container;
use crate::index::entry::{self, ShardId};
use crate::index::{Change, Item, ListQuery};
use crate::names::{ContainerId, Tag};
use crate::store::syncs::{self, Progress};
use crate::{ObjectError, ObjectStore, fail, store};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use pool::ReadOp;
use state::Timestamp;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How often it is looked for containers whose turn it is.
const LOOK: Duration = Duration::from_secs(1);
/// How long a container is claimed, and how often that is renewed.
const CLAIM: Duration = Duration::from_secs(45);
const WORD: Duration = Duration::from_secs(15);
/// Containers worked at at once, objects of one, and objects that are noted together.
const CONTAINERS: usize = 8;
const AT_ONCE: usize = 4;
const CHUNK: usize = 64;
/// Rows that are read at once.
const ROWS: u64 = 1000;
/// Containers that this process remembers to have changed; the others' turn comes by itself.
const MOST_FRESH: usize = 10_000;
/// An end that took nothing is left alone so long at first, and at most.
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(600);
/// One object that is not taken is tried again after this.
const OWN: Duration = Duration::from_secs(60);
/// For how long a deletion is remembered.
const GRAVE: Duration = Duration::from_secs(7 * 86_400);

/// What this process knows of containers that are kept in step.
#[derive(Default)]
pub(crate) struct Syncer {
    /// Containers that have changed here, and those that are worked at.
    fresh: Mutex<HashSet<ContainerId>>,
    busy: Mutex<HashSet<ContainerId>>,
    sender: OnceLock<Option<Sender>>,
}

fn held<T>(set: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Syncer {
    /// A container has something to tell.
    pub(crate) fn changed(&self, container: &Container) {
        if !container.info.sync.sends() {
            return;
        }
        let mut fresh = held(&self.fresh);
        if fresh.len() < MOST_FRESH {
            fresh.insert(container.id);
        }
    }
}

/// How a container's turn ended.
enum Turn {
    /// All that there is was told.
    Whole,
    /// Others have their turn first.
    More,
}

fn micros(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

fn after(d: Duration) -> Timestamp {
    Timestamp(Timestamp::now().micros().saturating_add(micros(d)))
}

impl ObjectStore {
    /// Keeps containers in step, until `stop`.
    pub(crate) async fn sync_rounds(self, stop: CancellationToken) {
        let permits = Arc::new(Semaphore::new(CONTAINERS));
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let due = match self.syncs_due().await {
                Ok(due) => due,
                Err(e) => {
                    tracing::warn!(error = ?e, "containers that are to be in step cannot be looked up");
                    continue;
                }
            };
            for id in due {
                if !held(&self.inner.syncer.busy).insert(id) {
                    held(&self.inner.syncer.fresh).insert(id);
                    continue;
                }
                let (this, permits, stop) = (self.clone(), permits.clone(), stop.clone());
                tokio::spawn(async move {
                    let work = async {
                        let _permit = permits.acquire().await.ok()?;
                        let done = this.sync_container(id).await;
                        done.inspect_err(|e| tracing::warn!(container = %id, error = ?e, "a sync is put off"))
                            .ok()
                    };
                    tokio::select! {
                        () = stop.cancelled() => {}
                        _ = work => {}
                    }
                    held(&this.inner.syncer.busy).remove(&id);
                });
            }
        }
    }

    /// The containers whose turn it is: what the rows say, and what has changed here unless its other end is left alone.
    async fn syncs_due(&self) -> Result<HashSet<ContainerId>, ObjectError> {
        let me = self.inner.process.to_string();
        let fresh: HashSet<ContainerId> = held(&self.inner.syncer.fresh).drain().collect();
        let now = Timestamp::now();
        let due = syncs::due(&self.inner.db, &me, now).await?;
        let waiting = syncs::failing(&self.inner.db, now).await?;
        Ok(due.into_iter().chain(fresh.into_iter().filter(|id| !waiting.contains(id))).collect())
    }

    /// Brings all containers up to date that are to be in step, whoever's turn it is. What `sweep` does by itself; tests
    /// call it.
    pub async fn sync_once(&self) -> Result<(), ObjectError> {
        for id in syncs::all(&self.inner.db).await? {
            self.sync_container(id).await?;
        }
        Ok(())
    }

    /// Brings one container up to date, if no other process is at it.
    async fn sync_container(&self, id: ContainerId) -> Result<(), ObjectError> {
        let (db, me) = (&self.inner.db, self.inner.process.to_string());
        let Some(mut progress) = syncs::claim(db, id, &me, after(CLAIM)).await? else { return Ok(()) };
        let Some(row) = store::containers::find_id(db, id).await? else {
            return syncs::end(db, id).await; // it is gone, and its index with it
        };
        let container = Arc::new(self.read_row(row)?);
        let sync = &container.info.sync;
        if !sync.sends() {
            self.forget_told(&container).await?;
            return syncs::end(db, id).await;
        }
        let done = match Target::resolve(&self.inner.config.sync, &sync.to) {
            Ok(target) => {
                let end = End { target, key: sync.key.clone() };
                tokio::select! {
                    done = self.sync_to(&container, &end, &me, &mut progress) => done,
                    () = self.hold(id, &me) => return Ok(()), // another process has it now
                }
            }
            // It was right when it was set: the configuration is another one now.
            Err(_) => Err(SendError::Forbidden),
        };
        let (next, failures) = match &done {
            Ok(Turn::Whole) => (Duration::from_secs(self.inner.config.sync.interval_s.max(1)), 0),
            Ok(Turn::More) => (Duration::ZERO, 0),
            Err(e) if e.is_ones_own() => (OWN, 0),
            Err(_) => {
                let wait = SHORTEST.saturating_mul(1 << progress.failures.clamp(0, 16)).min(LONGEST);
                (wait, progress.failures + 1)
            }
        };
        syncs::release(db, id, &me, after(next), failures).await?;
        match done {
            Ok(_) => Ok(()),
            Err(SendError::Store(e)) => Err(e),
            Err(e) => {
                if failures <= 1 {
                    let to = &container.info.sync.to;
                    tracing::info!(container = %id, to, error = ?e, "a container is not in step with its other end");
                }
                Ok(())
            }
        }
    }

    /// Says again and again that this process is at it; ends when it is not.
    async fn hold(&self, id: ContainerId, me: &str) {
        loop {
            tokio::time::sleep(WORD).await;
            match syncs::claim(&self.inner.db, id, me, after(CLAIM)).await {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(e) => tracing::warn!(error = ?e, "another process may take over a sync"),
            }
        }
    }

    fn sender(&self) -> Result<&Sender, SendError> {
        let made = self.inner.syncer.sender.get_or_init(|| {
            Sender::new(&self.inner.config.sync)
                .inspect_err(|e| tracing::error!(error = ?e, "no container can be kept in step"))
                .ok()
        });
        made.as_ref().ok_or(SendError::Forbidden)
    }

    async fn sync_to(
        &self,
        container: &Arc<Container>,
        end: &End,
        me: &str,
        progress: &mut Progress,
    ) -> Result<Turn, SendError> {
        let until = Instant::now() + Duration::from_secs(self.inner.config.sync.container_time_s.max(1));
        // What was there before: from the marker on, page by page.
        while !progress.listed {
            let query = ListQuery { marker: progress.marker.clone(), limit: CHUNK, ..ListQuery::default() };
            let page = self.list_objects(container, &query).await?;
            let names: Vec<String> = page.items.iter().map(Item::name).map(str::to_owned).collect();
            if let Some((failed, error)) = self.send_all(container, end, &names).await {
                if !error.is_ones_own() {
                    return Err(error);
                }
                self.tell_again(container, failed).await?;
            }
            if let Some(last) = names.into_iter().next_back() {
                progress.marker = last;
            }
            progress.listed = !page.truncated;
            if !syncs::note(&self.inner.db, container.id, me, progress).await? {
                return Ok(Turn::Whole); // another process is at it, or it is to begin anew
            }
            if Instant::now() >= until {
                return Ok(Turn::More);
            }
        }
        let mut trouble = None;
        for shard in container.shards() {
            let mut rows = self.inner.index.rows(&container.policy.index, shard, entry::SYNC_ROW).await?;
            rows.sort_unstable();
            let mut keys: HashMap<String, Vec<String>> = HashMap::new();
            let mut names = Vec::new();
            for (key, value) in rows {
                let name = String::from_utf8(value.to_vec())
                    .map_err(|_| ObjectError::Damaged("a row of container sync cannot be read"))?;
                let of = keys.entry(name.clone()).or_default();
                if of.is_empty() {
                    names.push(name);
                }
                of.push(key);
            }
            // Of the rows of one object the last is enough, whatever becomes of it.
            let older = |all: &mut Vec<String>| all.drain(..all.len().saturating_sub(1)).collect::<Vec<_>>();
            let older: Vec<String> = keys.values_mut().flat_map(older).collect();
            for older in older.chunks(CHUNK) {
                self.forget_rows(container, shard, older.to_vec()).await?;
            }
            for chunk in names.chunks(CHUNK) {
                let failed = self.send_all(container, end, chunk).await;
                fail("sync.sent").await?;
                let kept = failed.as_ref().map_or(&[][..], |(names, _)| names.as_slice());
                let gone = chunk.iter().filter(|name| !kept.contains(name));
                let gone = gone.filter_map(|name| keys.remove(name)).flatten().collect();
                self.forget_rows(container, shard, gone).await?;
                match failed {
                    Some((_, error)) if !error.is_ones_own() => return Err(error),
                    Some((_, error)) => trouble = Some(error),
                    None => {}
                }
                if Instant::now() >= until {
                    return Ok(Turn::More);
                }
            }
        }
        trouble.map_or(Ok(Turn::Whole), Err)
    }

    /// Puts on record that objects are still to be sent.
    async fn tell_again(&self, container: &Container, names: Vec<String>) -> Result<(), ObjectError> {
        for name in names {
            let shard = container.shard_of(&name);
            let row = (entry::sync_row_key(Tag::new()), Bytes::from(name));
            let change = Change::Rows { set: vec![row], remove: Vec::new(), adds: false };
            self.inner.index.commit(&container.policy.index, shard, change).await?;
        }
        Ok(())
    }

    /// Sends several objects, each of them another one. The names of those that were not sent, and why. Nothing more is
    /// sent to an end that is not well.
    async fn send_all(
        &self,
        container: &Arc<Container>,
        end: &End,
        all: &[String],
    ) -> Option<(Vec<String>, SendError)> {
        let sender = match self.sender() {
            Ok(sender) => sender,
            Err(e) => return Some((all.to_vec(), e)),
        };
        let mut sends = Vec::with_capacity(all.len());
        for (n, name) in all.iter().enumerate() {
            sends.push(async move { (n, sender.send(self, end, container, name).await) }.boxed());
        }
        let mut fates = futures::stream::iter(sends).buffer_unordered(AT_ONCE);
        let (mut done, mut why) = (vec![false; all.len()], None);
        while let Some((n, fate)) = fates.next().await {
            match fate {
                Ok(Fate::Done) => done[n] = true,
                Ok(Fate::Refused(status)) => {
                    done[n] = true;
                    let object = &all[n];
                    tracing::warn!(container = %container.id, object, status, "an object is not taken at the other end");
                }
                Err(e) => {
                    let stop = !e.is_ones_own();
                    why = Some(e);
                    if stop {
                        break;
                    }
                }
            }
        }
        let left = all.iter().zip(&done).filter(|(_, done)| !**done).map(|(name, _)| name.clone()).collect();
        why.map(|e| (left, e))
    }

    async fn forget_rows(
        &self,
        container: &Container,
        shard: ShardId,
        keys: Vec<String>,
    ) -> Result<(), ObjectError> {
        if keys.is_empty() {
            return Ok(());
        }
        let change = Change::Rows { set: Vec::new(), remove: keys, adds: false };
        self.inner.index.commit(&container.policy.index, shard, change).await.map(drop)
    }

    /// Nobody is to hear of what changed any more.
    async fn forget_told(&self, container: &Container) -> Result<(), ObjectError> {
        for shard in container.shards() {
            let rows = self.inner.index.rows(&container.policy.index, shard, entry::SYNC_ROW).await?;
            let keys: Vec<String> = rows.into_iter().map(|(key, _)| key).collect();
            for keys in keys.chunks(CHUNK) {
                self.forget_rows(container, shard, keys.to_vec()).await?;
            }
        }
        Ok(())
    }

    /// Deletions of long ago need no longer be remembered.
    pub(crate) async fn forget_deletions(&self, container: &Container) -> Result<(), ObjectError> {
        if container.info.sync.key.0.is_empty() {
            return Ok(());
        }
        let before = Timestamp::now().micros() - micros(GRAVE);
        let old = |value: &[u8]| super::read_time(value).is_none_or(|at| at.micros() < before);
        let mut todo: Vec<(ShardId, String)> =
            container.shards().into_iter().map(|s| (s, String::new())).collect();
        while let Some((shard, from)) = todo.pop() {
            let more = |op: ReadOp| op.omap_get(from.clone(), entry::SYNC_GRAVE, ROWS);
            for (shard, mut outcome) in
                self.inner.index.read_all(&container.policy.index, shard, more).await?
            {
                let page = outcome.omap().unwrap_or_default();
                if let Some((last, _)) = page.entries.last().filter(|_| page.more) {
                    todo.push((shard, last.clone()));
                }
                let keys = page.entries.into_iter().filter(|(_, v)| old(v)).map(|(key, _)| key).collect();
                self.forget_rows(container, shard, keys).await?;
            }
        }
        Ok(())
    }
}
