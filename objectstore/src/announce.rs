//! Announcing changes of containers and accounts: what every process remembers of them is never older than a change
//! that was acknowledged.
//!
//! Every process watches one object in the index; whoever changes facts notifies its watchers when the change is
//! committed, and waits until all have dropped what they remember. While a watch does not stand, nothing is
//! remembered. The database's signal and a bounded age are the safety net: for a watcher that does not answer in time
//! (it is cut off from storage, and can neither read nor write an object).

use crate::names::FACTS;
use crate::{Inner, ObjectStore, store};
use bytes::Bytes;
use pool::{Error, Pool, Watch, WatchEvent, WriteOp};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a change waits for the other processes; and how long as long as one of them is known not to answer. One
/// that was killed is taken for a watcher for half a minute more.
const PATIENCE: Duration = Duration::from_secs(2);
const IMPATIENCE: Duration = Duration::from_millis(300);
const SILENCE: Duration = Duration::from_secs(35);
/// Between two attempts to set a watch up.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether a watcher lately did not answer.
#[derive(Default)]
pub(crate) struct Silence(Mutex<Option<Instant>>);

impl Silence {
    fn is_on(&self) -> bool {
        let since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|at| at.elapsed() < SILENCE)
    }

    /// The first silence counts: it does not go on for ever because it is met again and again.
    fn begin(&self) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none_or(|at| at.elapsed() >= SILENCE) {
            *since = Some(Instant::now());
        }
    }
}

impl ObjectStore {
    /// Drops what is remembered of containers whenever some process announces a change.
    pub(crate) fn listen(&self) {
        let mut changed = self.inner.db.signal(store::CHANGED);
        let inner = Arc::downgrade(&self.inner);
        let age = Duration::from_secs(self.inner.config.container_cache_s.max(1));
        tokio::spawn(watch(Arc::downgrade(&self.inner)));
        tokio::spawn(async move {
            loop {
                // Returns by itself after `age`, when what is remembered is old anyway.
                changed.wait(age).await;
                match inner.upgrade() {
                    Some(inner) => ObjectStore { inner }.forget(),
                    None => return,
                }
            }
        });
    }

    /// Has all processes drop what they remember of containers and accounts, this one first.
    pub(crate) async fn announce(&self) {
        self.forget();
        let index = &self.inner.policies.default_policy().index;
        let wait = if self.inner.silence.is_on() { IMPATIENCE } else { PATIENCE };
        match tokio::time::timeout(wait, index.notify(FACTS, Bytes::new(), PATIENCE)).await {
            Ok(Ok(outcome)) if outcome.timed_out.is_empty() => {}
            Ok(Ok(_)) | Err(_) => {
                self.inner.silence.begin();
                tracing::warn!("a process did not hear of a container's change; what it remembers will age");
            }
            Ok(Err(e)) if e.is_not_found() => {} // nobody watches
            Ok(Err(e)) => {
                tracing::warn!(error = ?e, "a container's change is only announced by the database");
            }
        }
    }
}

async fn stand(index: &Pool) -> Result<Watch, Error> {
    index.write_op(FACTS, WriteOp::new().create()).await?;
    index.watch(FACTS).await
}

async fn watch(inner: Weak<Inner>) {
    loop {
        let Some(index) = inner.upgrade().map(|i| i.policies.default_policy().index.clone()) else { return };
        match stand(&index).await {
            Ok(mut watch) => {
                standing(&inner, true);
                while let Some(event) = watch.next().await {
                    match event {
                        WatchEvent::Notify(notification) => {
                            standing(&inner, true);
                            notification.ack(&[]);
                        }
                        WatchEvent::Restored => standing(&inner, true),
                        WatchEvent::Lost(_) => standing(&inner, false),
                        WatchEvent::Gone => break,
                    }
                    if inner.strong_count() == 0 {
                        return;
                    }
                }
                standing(&inner, false);
            }
            Err(e) => tracing::warn!(error = ?e, "nothing is remembered of containers: no watch"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Drops what is remembered; from now on something may be, or not.
fn standing(inner: &Weak<Inner>, stands: bool) {
    if let Some(inner) = inner.upgrade() {
        inner.standing.store(stands, Ordering::SeqCst);
        ObjectStore { inner }.forget();
    }
}
