//! How many bytes of bodies all requests together hold in memory.
//!
//! Whoever finds nothing left waits: large writes that take turns are faster than large writes in small pieces, and the
//! client is not read from meanwhile. But only as long as others finish. A share may be held for hours by a client that
//! sends slowly, and a few of those must not stop everybody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// If nothing came back for so long, nothing is waited for.
const STANDSTILL: Duration = Duration::from_millis(500);
/// Nobody waits longer than this, whatever comes back.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is left.
pub(crate) struct Budget {
    left: Arc<Semaphore>,
    /// Shares that were given back so far.
    returned: Arc<AtomicU64>,
}

/// Bytes that a request may hold.
pub(crate) struct Share {
    _permit: OwnedSemaphorePermit,
    returned: Arc<AtomicU64>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.returned.fetch_add(1, Ordering::Relaxed);
    }
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let left = Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)));
        Budget { left, returned: Arc::default() }
    }

    /// Takes so many bytes; waits for them while others give theirs back. None where that would be for too long.
    pub(crate) async fn take(&self, bytes: u32) -> Option<Share> {
        let share = |permit| Share { _permit: permit, returned: self.returned.clone() };
        if let Ok(permit) = self.left.clone().try_acquire_many_owned(bytes) {
            return Some(share(permit));
        }
        let (began, mut acquired) = (Instant::now(), Box::pin(self.left.clone().acquire_many_owned(bytes)));
        while began.elapsed() < PATIENCE {
            let before = self.returned.load(Ordering::Relaxed);
            match tokio::time::timeout(STANDSTILL, &mut acquired).await {
                Ok(permit) => return permit.ok().map(share),
                Err(_) if self.returned.load(Ordering::Relaxed) == before => return None,
                Err(_) => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_while_others_finish() {
        let budget = Arc::new(Budget::new(10));
        let (one, two) = (budget.take(6).await.unwrap(), budget.take(4).await.unwrap());
        // Nobody finishes.
        assert!(budget.take(5).await.is_none());
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(8).await.is_some() }
        });
        drop((one, two));
        assert!(waiting.await.unwrap());
        assert!(budget.take(10).await.is_some());
    }
}
