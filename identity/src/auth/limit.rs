//! How often a login may fail: a bucket of failures for every source address and for every user, which empties with
//! time. Successful logins cost nothing, so that clients that log in all day never notice.
//!
//! Who has logged in from an address before has a bucket there of its own: a stranger who fails as that user from
//! elsewhere does not shut it out. Users that do not exist have buckets as well, so that nobody learns who does.

use crate::IdentityError;
use ipnet::IpNet;
use lru::LruCache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The `[identity.login_limit]` table. Every process counts for itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoginLimit {
    /// So many logins may fail from one address (of IPv6: one /64) in `window_seconds`; 0 is any number. Further
    /// ones are answered 429 without being checked.
    pub failures_per_source: u32,
    /// The same for one user.
    pub failures_per_user: u32,
    pub window_seconds: u64,
    /// Addresses and users remembered, the latest that failed.
    pub room: usize,
    /// Networks of proxies whose `X-Forwarded-For` is believed. For others the address is the connection's own.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for LoginLimit {
    fn default() -> Self {
        LoginLimit {
            failures_per_source: 120,
            failures_per_user: 30,
            window_seconds: 60,
            room: 65536,
            trusted_proxies: Vec::new(),
        }
    }
}

impl LoginLimit {
    /// Whose address counts for a request that came from `peer`: the last one that no proxy of ours has.
    pub(crate) fn source<'a>(&self, peer: IpAddr, forwarded: impl Iterator<Item = &'a str>) -> IpAddr {
        let ours = |a: &IpAddr| self.trusted_proxies.iter().any(|n| n.contains(a));
        let mut source = peer.to_canonical();
        let mut chain: Vec<&str> = forwarded.flat_map(|f| f.split(',')).map(str::trim).collect();
        while ours(&source) {
            let Some(before) = chain.pop().and_then(|a| a.parse::<IpAddr>().ok()) else { break };
            source = before.to_canonical();
        }
        source
    }
}

/// A SHA-256, so that names of any length take the same room.
type Key = [u8; 32];

struct Bucket {
    failures: f64,
    at: Instant,
}

pub(crate) struct Limiter {
    rules: LoginLimit,
    buckets: Mutex<LruCache<Key, Bucket>>,
    /// Users with the addresses from which they have logged in.
    known: Mutex<LruCache<Key, ()>>,
}

/// One login, being checked.
pub(crate) struct Attempt<'a> {
    limiter: &'a Limiter,
    /// Each with how many failures it takes.
    keys: Vec<(Key, u32)>,
    cost: u32,
    pair: Option<Key>,
}

fn key(kind: &str, source: Option<IpAddr>, who: &str) -> Key {
    let source = source.map(|s| s.to_string()).unwrap_or_default();
    let mut hash = Sha256::new();
    for part in [kind, &source, who] {
        hash.update(part.len().to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// One customer's IPv6 addresses are one source.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(a) => Ipv6Addr::from(u128::from(a) >> 64 << 64).into(),
    }
}

impl Limiter {
    pub(crate) fn new(rules: LoginLimit) -> Self {
        // Unbounded, they take room only as they fill: [`Limiter::put`] bounds them.
        let (buckets, known) = (Mutex::new(LruCache::unbounded()), Mutex::new(LruCache::unbounded()));
        Limiter { rules, buckets, known }
    }

    fn put<V>(&self, cache: &mut LruCache<Key, V>, key: Key, value: V) {
        cache.put(key, value);
        while cache.len() > self.rules.room.max(1) {
            cache.pop_lru();
        }
    }

    pub(crate) fn rules(&self) -> &LoginLimit {
        &self.rules
    }

    /// Lets the login of `who` (any text that names one user) be checked, or refuses with 429. A failure counts as
    /// `cost` of them: what is easy to guess is to be guessed less often.
    pub(crate) fn begin(
        &self,
        source: Option<IpAddr>,
        who: &str,
        cost: u32,
    ) -> Result<Attempt<'_>, IdentityError> {
        let source = source.map(network);
        let pair = source.map(|_| key("pair", source, who));
        let known = pair.filter(|p| lock(&self.known).get(p).is_some());
        let user = known.unwrap_or_else(|| key("user", None, who));
        let mut keys = vec![(user, self.rules.failures_per_user)];
        if source.is_some() {
            keys.push((key("source", source, ""), self.rules.failures_per_source));
        }
        keys.retain(|(_, most)| *most > 0);
        let attempt = Attempt { limiter: self, keys, cost, pair };
        attempt.check(Instant::now())?;
        Ok(attempt)
    }

    /// Refuses an address that may not try now, whoever it names, so that nobody is looked for.
    pub(crate) fn admits(&self, source: Option<IpAddr>) -> Result<(), IdentityError> {
        let (source, most) = (source.map(network), self.rules.failures_per_source);
        let keys = source.filter(|_| most > 0).map(|_| (key("source", source, ""), most));
        let attempt = Attempt { limiter: self, keys: keys.into_iter().collect(), cost: 0, pair: None };
        attempt.check(Instant::now())
    }

    /// Failures that leave a full bucket in a second.
    fn rate(&self, most: u32) -> f64 {
        f64::from(most) / Duration::from_secs(self.rules.window_seconds.max(1)).as_secs_f64()
    }
}

impl Attempt<'_> {
    fn check(&self, now: Instant) -> Result<(), IdentityError> {
        let buckets = &mut *lock(&self.limiter.buckets);
        for (key, most) in &self.keys {
            let rate = self.limiter.rate(*most);
            let over = buckets.peek(key).map_or(0.0, |b| b.now(now, rate)) + 1.0 - f64::from(*most);
            if over > 0.0 {
                metrics::counter!("aquifer_identity_logins_limited_total").increment(1);
                // Below a day, whatever is set.
                let wait = Duration::try_from_secs_f64((over / rate).ceil().clamp(1.0, 86_400.0));
                return Err(IdentityError::TooMany { seconds: wait.map_or(1, |w| w.as_secs()) });
            }
        }
        Ok(())
    }

    /// Passes the outcome on, having counted it. One that came after the last failure allowed, because many were
    /// being checked at a time, tells nothing.
    pub(crate) fn settle<T>(self, outcome: Result<T, IdentityError>) -> Result<T, IdentityError> {
        let now = Instant::now();
        match &outcome {
            Ok(_) => {
                self.check(now)?;
                if let Some(pair) = self.pair {
                    self.limiter.put(&mut lock(&self.limiter.known), pair, ());
                }
            }
            Err(IdentityError::Unauthenticated(_)) => {
                let buckets = &mut *lock(&self.limiter.buckets);
                for (key, most) in &self.keys {
                    let before = buckets.peek(key).map_or(0.0, |b| b.now(now, self.limiter.rate(*most)));
                    let failures = (before + f64::from(self.cost)).min(f64::from(*most));
                    self.limiter.put(buckets, *key, Bucket { failures, at: now });
                }
            }
            Err(_) => {}
        }
        outcome
    }
}

impl Bucket {
    fn now(&self, now: Instant, rate: f64) -> f64 {
        (self.failures - now.saturating_duration_since(self.at).as_secs_f64() * rate).max(0.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRONG: IdentityError = IdentityError::Unauthenticated("wrong");

    fn limiter(failures_per_source: u32, failures_per_user: u32, room: usize) -> Limiter {
        let window_seconds = 3600;
        Limiter::new(LoginLimit {
            failures_per_source,
            failures_per_user,
            window_seconds,
            room,
            ..Default::default()
        })
    }

    fn fails(l: &Limiter, from: &str, who: &str) -> bool {
        match l.begin(Some(from.parse().unwrap()), who, 1) {
            Ok(attempt) => attempt.settle::<()>(Err(WRONG)).is_err(),
            Err(IdentityError::TooMany { seconds }) => {
                assert!((1..=3600).contains(&seconds));
                false
            }
            Err(e) => panic!("{e}"),
        }
    }

    fn succeeds(l: &Limiter, from: &str, who: &str) -> bool {
        l.begin(Some(from.parse().unwrap()), who, 1).and_then(|a| a.settle(Ok(()))).is_ok()
    }

    #[test]
    fn a_source_and_a_user_run_dry() {
        let l = limiter(5, 3, 100);
        for _ in 0..3 {
            assert!(fails(&l, "10.0.0.1", "ann"));
        }
        assert!(!fails(&l, "10.0.0.1", "ann") && !fails(&l, "10.0.0.2", "ann"), "the user");
        assert!(fails(&l, "10.0.0.1", "bob") && fails(&l, "10.0.0.1", "bob"));
        assert!(!fails(&l, "10.0.0.1", "eve"), "the source");
        assert!(fails(&l, "10.0.0.3", "eve"));
        // Of IPv6, a whole /64 is one source.
        for n in 0..5 {
            assert!(fails(&l, &format!("2001:db8::{n}"), &format!("u{n}")));
        }
        assert!(!fails(&l, "2001:db8::ffff", "u9") && fails(&l, "2001:db8:0:1::1", "u9"));
    }

    #[test]
    fn who_was_here_before_is_not_shut_out_from_elsewhere() {
        let l = limiter(100, 3, 100);
        assert!(succeeds(&l, "10.0.0.1", "ann"));
        while fails(&l, "10.9.9.9", "ann") {}
        assert!(succeeds(&l, "10.0.0.1", "ann") && !succeeds(&l, "10.0.0.2", "ann"));
    }

    #[test]
    fn success_costs_nothing_and_comes_too_late_after_the_last_failure() {
        let l = limiter(3, 3, 100);
        assert!((0..50).all(|_| succeeds(&l, "10.0.0.1", "ann")));
        let source = Some("10.0.0.5".parse().unwrap());
        let slow = l.begin(source, "bob", 1).unwrap();
        while fails(&l, "10.0.0.5", "bob") {}
        assert!(slow.settle(Ok(())).is_err());
    }

    #[test]
    fn it_empties_with_time_and_takes_bounded_room() {
        let bucket = Bucket { failures: 3.0, at: Instant::now() };
        let later = bucket.at + Duration::from_secs(10);
        assert!((bucket.now(later, 0.1) - 2.0).abs() < 1e-9 && bucket.now(later, 1.0) == 0.0);
        let l = limiter(3, 3, 10);
        for n in 0..1000 {
            fails(&l, &format!("10.1.{}.{}", n / 250, n % 250), &"x".repeat(n));
        }
        assert_eq!(lock(&l.buckets).len(), 10);
    }

    #[test]
    fn the_address_that_counts() {
        let rules = LoginLimit {
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            ..Default::default()
        };
        let source = |peer: &str, forwarded: &[&str]| {
            rules.source(peer.parse().unwrap(), forwarded.iter().copied()).to_string()
        };
        assert_eq!(source("192.0.2.1", &["1.1.1.1"]), "192.0.2.1", "anybody can send that header");
        assert_eq!(source("10.0.0.1", &["6.6.6.6, 1.1.1.1"]), "1.1.1.1");
        assert_eq!(source("10.0.0.1", &["6.6.6.6", "1.1.1.1, 10.0.0.2"]), "1.1.1.1");
        assert_eq!(source("10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(source("::ffff:10.0.0.1", &[]), "10.0.0.1");
    }
}
