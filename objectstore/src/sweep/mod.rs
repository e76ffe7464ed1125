//! What must be done behind requests: content that nothing refers to is removed, objects whose time has come
//! expire, what a crash cut short is finished, accounts' sums catch up.
//!
//! Everything that is to be done is on record in storage (rows of the index, see [`crate::index::entry`]; graves;
//! the list of writing processes). The queue here is a short cut to what this process knows to be due; rounds over
//! all containers find the rest. So the queue may overflow, and a process may die, without losing a byte.

mod chores;
mod lifecycle;
mod reconcile;
mod round;
mod scrub;

use crate::container::Container;
use crate::index::entry::{Garbage, ShardId};
use crate::names::Tag;
use crate::{ObjectError, ObjectStore};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Chores that wait in memory; more are left to the rounds.
const MOST_CHORES: usize = 100_000;
/// How often accounts' sums catch up.
const COUNTS: Duration = Duration::from_secs(2);
/// How often a writing process says that it lives, and after how long it is taken for dead.
const HEARTBEAT: Duration = Duration::from_secs(10);
const DEAD: Duration = Duration::from_secs(60);
/// An operation that was given up on is over after this long, whatever became of it.
const SETTLED: Duration = Duration::from_secs(90);

/// Something to be done.
pub(crate) enum Chore {
    /// Tails that nothing refers to any more.
    Garbage { container: Arc<Container>, shard: ShardId, tag: Tag, garbage: Garbage },
    /// Tails of a body that did not come to be an object, as far as its writer knows.
    Abandoned { container: Arc<Container>, shard: ShardId, tag: Tag, intent: String },
    /// A head and its line in the index may differ.
    Repair { container: Arc<Container>, name: String, attempt: u32 },
}

/// The way to the worker.
pub(crate) struct Sweeper {
    send: mpsc::Sender<(Instant, Chore)>,
    receive: Mutex<Option<mpsc::Receiver<(Instant, Chore)>>>,
    grace: Duration,
}

/// Tails that are to be cleaned up, unless [`Debris::keep`] is called.
pub(crate) struct Debris(Option<(mpsc::Sender<(Instant, Chore)>, Chore)>);

impl Debris {
    /// The tails are an object's now.
    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Debris {
    fn drop(&mut self) {
        if let Some((send, chore)) = self.0.take() {
            let _ = send.try_send((Instant::now() + SETTLED, chore)); // the rounds find it too
        }
    }
}

impl Sweeper {
    pub(crate) fn new(grace: Duration) -> Self {
        let (send, receive) = mpsc::channel(MOST_CHORES);
        Sweeper { send, receive: Mutex::new(Some(receive)), grace }
    }

    /// See [`crate::index::entry::intent`] for `intent`.
    pub(crate) fn debris(
        &self,
        container: &Arc<Container>,
        shard: ShardId,
        tag: Tag,
        intent: &str,
    ) -> Debris {
        let chore = Chore::Abandoned { container: container.clone(), shard, tag, intent: intent.to_owned() };
        Debris(Some((self.send.clone(), chore)))
    }

    /// Has tails removed when readers have left.
    pub(crate) fn bin(&self, container: &Arc<Container>, shard: ShardId, tag: Tag, garbage: Garbage) {
        let chore = Chore::Garbage { container: container.clone(), shard, tag, garbage };
        let _ = self.send.try_send((Instant::now() + self.grace, chore));
    }

    pub(crate) fn repair(&self, container: &Arc<Container>, name: &str, attempt: u32) {
        let chore = Chore::Repair { container: container.clone(), name: name.to_owned(), attempt };
        let wait = Duration::from_secs(1 << attempt.min(6));
        let _ = self.send.try_send((Instant::now() + wait, chore));
    }
}

impl ObjectStore {
    /// Compares a head with its line in the index, soon and again after it has settled.
    pub(crate) fn repair_later(&self, container: &Arc<Container>, name: &str) {
        self.inner.sweeper.repair(container, name, 0);
    }

    /// Does what is to be done, until `stop`. One call a process; further ones return at once.
    pub async fn sweep(&self, stop: CancellationToken) {
        let receive = self.inner.sweeper.receive.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut receive) = receive else { return };
        let mut due: BTreeMap<(Instant, u64), Chore> = BTreeMap::new();
        let mut n = 0;
        let mut counts = tokio::time::interval(COUNTS);
        let rounds = tokio::spawn(self.clone().rounds(stop.clone()));
        let heart = tokio::spawn(self.clone().beat(stop.clone()));
        let lives = tokio::spawn(self.clone().lifecycle_rounds(stop.clone()));
        let tells = tokio::spawn(self.clone().deliver_rounds(stop.clone()));
        let syncs = tokio::spawn(self.clone().sync_rounds(stop.clone()));
        let logs = tokio::spawn(self.clone().log_rounds(stop.clone()));
        let scrubs = tokio::spawn(self.clone().scrubs(stop.clone()));
        let growths = tokio::spawn(self.clone().growths(stop.clone()));
        loop {
            let next = due.first_key_value().map(|((at, _), _)| *at);
            tokio::select! {
                () = stop.cancelled() => break,
                Some((at, chore)) = receive.recv() => {
                    n += 1;
                    due.insert((at, n), chore);
                }
                () = sleep_until(next) => {
                    if let Some((_, chore)) = due.pop_first() {
                        self.logged("chore", self.chore(chore).await);
                    }
                }
                _ = counts.tick() => self.logged("counts", self.flush_counts().await),
            }
        }
        let _ = tokio::join!(rounds, heart, lives, tells, syncs, logs, growths, scrubs);
        self.logged("counts", self.flush_counts().await);
        self.logged("farewell", self.farewell().await);
    }

    /// Says that this process lives, beside everything else: no chore, however long, makes it look dead.
    async fn beat(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => self.logged("heartbeat", self.heartbeat().await),
            }
        }
    }

    /// Rounds, and between them a look for processes that died.
    async fn rounds(self, stop: CancellationToken) {
        let every = Duration::from_secs(self.inner.config.sweep_interval_s.max(1));
        let mut tick = tokio::time::interval(every.min(DEAD / 2));
        let mut last: Option<Instant> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let work = async {
                if last.is_none_or(|at| at.elapsed() >= every) {
                    last = Some(Instant::now());
                    return self.sweep_once().await;
                }
                self.reconcile_after_the_dead().await
            };
            tokio::select! {
                () = stop.cancelled() => return,
                done = work => self.logged("round", done),
            }
        }
    }

    /// One round over everything: what is due is done. What `sweep` does every so often; tests call it.
    pub async fn sweep_once(&self) -> Result<(), ObjectError> {
        self.reconcile_after_the_dead().await?;
        self.round().await?;
        self.bury().await
    }

    pub(crate) fn logged(&self, what: &'static str, done: Result<(), ObjectError>) {
        match done {
            Ok(()) => {}
            Err(e) if e.is_transient() => tracing::warn!(error = ?e, "object store sweep: {what} is put off"),
            Err(e) => tracing::error!(error = ?e, "object store sweep: {what} failed"),
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
