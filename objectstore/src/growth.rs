//! When a container's index grows, and who sees to it: any process that meets a full shard, one at a time.
//!
//! How rows move is told in [`crate::index::moves`], and it is safe whoever does it how often. Here it is seen to that
//! it is done once: the container's row says to how many shards its index grows and which process is at it; one that
//! says nothing for [`SILENT`] is taken for dead, and another goes on. The number of shards stands in the row before
//! the first one moves, so that all of them move to the same generation.

use crate::container::Container;
use crate::index::entry::Header;
use crate::index::grow::move_shard;
use crate::names::ContainerId;
use crate::store::containers::{self, Row};
use crate::store::growth::{self, Grower};
use crate::{ObjectError, ObjectStore, fail};
use state::Timestamp;
use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How often a process says that it is at it, and after how long without a word another takes over.
const WORD: Duration = Duration::from_secs(5);
const SILENT: Duration = Duration::from_secs(20);
/// How often it is looked for growths that were left.
const LOOK: Duration = Duration::from_secs(15);
/// An index does not grow beyond this.
const MOST_SHARDS: u32 = 4096;
/// Full containers that wait for their turn; others are met again.
const MOST_WAITING: usize = 1000;

/// Containers that this process has found to be full.
pub(crate) struct Growth {
    send: mpsc::Sender<ContainerId>,
    receive: Mutex<Option<mpsc::Receiver<ContainerId>>>,
    /// Those in the queue, and that at which this process is.
    known: Mutex<HashSet<ContainerId>>,
}

impl Default for Growth {
    fn default() -> Self {
        let (send, receive) = mpsc::channel(MOST_WAITING);
        Growth { send, receive: Mutex::new(Some(receive)), known: Mutex::default() }
    }
}

impl Growth {
    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<ContainerId>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ago(d: Duration) -> Timestamp {
    Timestamp(Timestamp::now().micros() - i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

impl ObjectStore {
    /// Has a container's index grow, soon, if a shard with so many rows is full.
    pub(crate) fn grow_if_full(&self, container: &Container, rows: u64) {
        let full = self.inner.config.index_shard_rows;
        let growth = &self.inner.growth;
        if full == 0 || rows < full || !growth.known().insert(container.id) {
            return;
        }
        if growth.send.try_send(container.id).is_err() {
            growth.known().remove(&container.id); // the next change meets it again
        }
    }

    /// Sees to the growth of indexes, until `stop`.
    pub(crate) async fn growths(self, stop: CancellationToken) {
        let receive = self.inner.growth.receive.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut receive) = receive else { return };
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(id) = receive.recv() => {
                    // Stopped in the middle it is as if the process had died: another goes on.
                    tokio::select! {
                        () = stop.cancelled() => return,
                        done = self.grow(id) => self.logged("growth", done.map(drop)),
                    }
                    self.inner.growth.known().remove(&id);
                }
                _ = tick.tick() => tokio::select! {
                    () = stop.cancelled() => return,
                    done = self.finish_growths() => self.logged("growth", done),
                }
            }
        }
    }

    /// Goes on with what other processes have left.
    pub(crate) async fn finish_growths(&self) -> Result<(), ObjectError> {
        for id in growth::left(&self.inner.db, ago(SILENT)).await? {
            self.grow(id).await?;
        }
        Ok(())
    }

    /// Has a container's index grow if one of its shards is full, or if it was left in the middle; whether it has grown.
    /// Not if another process is at it. What `sweep` does by itself; tests call it.
    pub async fn grow(&self, id: ContainerId) -> Result<bool, ObjectError> {
        let Some(row) = containers::find_id(&self.inner.db, id).await? else { return Ok(false) };
        let container = self.read_row(row.clone())?;
        let wanted = match row.growing {
            0 => self.shards_wanted(&container, &row).await?,
            growing => Some(growing),
        };
        let Some(wanted) = wanted else { return Ok(false) };
        let grower = Grower { id, process: self.inner.process.to_string() };
        let claimed = grower.claim(&self.inner.db, row.generation, wanted, ago(SILENT)).await?;
        let Some(shards) = claimed else { return Ok(false) };
        tracing::info!(container = %id, from = row.shards, to = shards, "a container's index grows");
        let moved = tokio::select! {
            moved = self.move_shards(&container, shards) => moved,
            never = self.say(&grower) => match never {},
        };
        if !matches!(moved, Ok(true)) {
            grower.renew(&self.inner.db, Timestamp(0)).await?; // whoever comes next may go on at once
            return moved;
        }
        fail("index.grow:moved").await?;
        growth::done(&self.inner.db, id, row.generation, shards).await?;
        self.announce().await;
        Ok(true)
    }

    async fn move_shards(&self, container: &Container, shards: u32) -> Result<bool, ObjectError> {
        for shard in container.shards() {
            if !move_shard(&container.policy.index, shard, shards).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// To how many shards an index should grow, if it should: so many that they are half full at most.
    async fn shards_wanted(&self, container: &Container, row: &Row) -> Result<Option<u32>, ObjectError> {
        let full = self.inner.config.index_shard_rows;
        let headers = self.inner.index.headers(&container.policy.index, container.shards()).await?;
        let rows = |h: &Header| h.objects + h.versions;
        let is_full = headers.iter().any(|h| h.closed == 0 && rows(h) >= full);
        if full == 0 || !is_full || row.shards > MOST_SHARDS / 2 {
            return Ok(None);
        }
        let all: u64 = headers.iter().map(rows).sum();
        let mut shards = row.shards * 2;
        while all / u64::from(shards) > full / 2 && shards <= MOST_SHARDS / 2 {
            shards *= 2;
        }
        Ok(Some(shards))
    }

    /// Says again and again that this process is at it.
    async fn say(&self, grower: &Grower) -> Infallible {
        loop {
            tokio::time::sleep(WORD).await;
            if let Err(e) = grower.renew(&self.inner.db, Timestamp::now()).await {
                tracing::warn!(error = ?e, "another process may take over the growth of an index");
            }
        }
    }
}
