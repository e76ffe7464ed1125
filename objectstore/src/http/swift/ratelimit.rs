//! Rate limits, as upstream's middleware has them: whoever asks too often waits, and who would wait too long is told to
//! slow down (498). Each process counts what comes to it.

use super::Call;
use super::error::{SwiftError, SwiftResult};
use http::StatusCode;
use lru::LruCache;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The `[object.ratelimit]` table of the configuration: requests a second; 0 is without limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimits {
    /// Containers made and removed in one account.
    pub account: u32,
    /// Objects written, changed and removed in one container.
    pub container: u32,
    /// Listings of one container.
    pub container_listing: u32,
    /// Seconds that a request waits at most before it is refused.
    pub max_sleep_s: u32,
    /// Seconds of quiet that may be made up for at once.
    pub buffer_s: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        RateLimits { account: 0, container: 0, container_listing: 0, max_sleep_s: 60, buffer_s: 5 }
    }
}

impl RateLimits {
    pub(crate) fn are_set(&self) -> bool {
        self.account > 0 || self.container > 0 || self.container_listing > 0
    }
}

/// Accounts and containers that are remembered.
const MOST: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// When the next request of each is in time.
pub(crate) struct Rates(Mutex<LruCache<String, Instant>>);

impl Default for Rates {
    fn default() -> Self {
        Rates(Mutex::new(LruCache::new(MOST)))
    }
}

impl Rates {
    /// How long a request of now must wait; `None` if that is too long, and then it does not count.
    fn wait(&self, key: String, rate: u32, now: Instant, limits: &RateLimits) -> Option<Duration> {
        let (most, buffer) =
            (Duration::from_secs(limits.max_sleep_s.into()), Duration::from_secs(limits.buffer_s.into()));
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // After a quiet time some requests may come at once.
        let earliest = now.checked_sub(buffer).unwrap_or(now);
        let turn = next.get(&key).copied().map_or(now, |at| at.max(earliest));
        let wait = turn.saturating_duration_since(now);
        if wait > most {
            return None;
        }
        next.put(key, turn + Duration::from_secs(1) / rate.max(1));
        Some(wait)
    }
}

impl Call {
    /// Holds a request back that comes too soon.
    pub(super) async fn limit(&self) -> SwiftResult<()> {
        let limits = &self.store.config().ratelimit;
        if !limits.are_set() {
            return Ok(());
        }
        let (account, container) = (&self.project, &self.container);
        let (rate, key) = match (self.method.as_str(), container.is_empty(), self.object.is_empty()) {
            ("PUT" | "DELETE", false, true) => (limits.account, format!("a/{account}")),
            ("GET", false, true) => (limits.container_listing, format!("l/{account}/{container}")),
            ("PUT" | "DELETE" | "POST" | "COPY", false, false) => {
                (limits.container, format!("c/{account}/{container}"))
            }
            _ => return Ok(()),
        };
        if rate == 0 {
            return Ok(());
        }
        match self.store.inner.rates.wait(key, rate, Instant::now(), limits) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => {
                let status = StatusCode::from_u16(498).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
                return Err(SwiftError::new(status, "Slow down"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_too_often_waits() {
        let (rates, now) = (Rates::default(), Instant::now());
        let limits = RateLimits { container: 2, max_sleep_s: 1, buffer_s: 1, ..RateLimits::default() };
        let wait = |key: &str, at: Duration| rates.wait(key.into(), 2, now + at, &limits);
        let half = Duration::from_millis(500);
        assert_eq!(wait("c", Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(wait("c", Duration::ZERO), Some(half));
        assert_eq!(wait("c", Duration::ZERO), Some(half * 2));
        assert_eq!(wait("c", Duration::ZERO), None);
        assert_eq!(wait("other", Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(wait("c", half), Some(half * 2));
        // Quiet is made up for, but not without end.
        let later = Duration::from_secs(100);
        for _ in 0..3 {
            assert_eq!(wait("c", later), Some(Duration::ZERO));
        }
        assert_eq!(wait("c", later), Some(half));
    }
}
