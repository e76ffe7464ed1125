//! Passwords: hashed on threads of their own, in constant time, also for users that do not exist.
//!
//! A login storm queues here and nowhere else: requests that need no hash never wait for one that does, and because
//! the hashing threads have the lowest claim on the processors, they take only what nobody else wants.

mod schemes;
#[cfg(test)]
mod tests;

pub use schemes::PasswordAlgorithm;
pub(crate) use schemes::Scheme;

use crate::IdentityError;
use crate::store::subjects::PasswordHash;
use api::Secret;
use sha2::{Digest, Sha256};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;
use tokio::sync::{Semaphore, oneshot};

/// A request waits this long for its turn before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(30);
/// As upstream's `max_password_length`; longer ones are refused.
pub(crate) const MAX_LEN: usize = 4096;
/// Marks the hash of a secret that we drew ourselves: it has all its entropy, so one round is enough.
const DRAWN: &str = "sha256$";
/// How far hashing stands back behind the rest of the process: 19 is the farthest.
const NICE: i32 = 15;

type Job = Box<dyn FnOnce() + Send>;

pub(crate) struct Hasher {
    turns: Arc<Semaphore>,
    threads: usize,
    jobs: OnceLock<mpsc::Sender<Job>>,
    done: Arc<AtomicU64>,
    scheme: Scheme,
    /// What the passwords of unknown users are compared with.
    nobody: String,
}

impl Hasher {
    /// 0 threads are one for every processor.
    pub(crate) fn new(scheme: Scheme, threads: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let threads = if threads == 0 { cores } else { threads };
        Hasher {
            turns: Arc::new(Semaphore::new(threads)),
            threads,
            jobs: OnceLock::new(),
            done: Arc::new(AtomicU64::new(0)),
            scheme,
            nobody: scheme.nobody(),
        }
    }

    /// So many passwords were hashed or checked.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    pub(crate) async fn hash(&self, password: &str) -> Result<String, IdentityError> {
        let (scheme, password) = (self.scheme, Secret(password.to_owned()));
        self.run(move || scheme.hash(&password.0)).await
    }

    /// Whether the password is the one hashed. Without a hash it takes as long and is false; so does a wrong secret
    /// of those that we drew, so that nobody learns by the clock what there is.
    pub(crate) async fn verify(
        &self,
        password: &str,
        hash: Option<&PasswordHash>,
    ) -> Result<bool, IdentityError> {
        let stored = match hash {
            Some(h) if h.0.starts_with(DRAWN) && drawn_is(password, &h.0) => return Ok(true),
            Some(h) if h.0.starts_with(DRAWN) => None,
            other => other.map(|h| h.0.clone()),
        };
        let known = stored.is_some();
        let (stored, password) = (stored.unwrap_or_else(|| self.nobody.clone()), Secret(password.to_owned()));
        Ok(self.run(move || schemes::verify(&password.0, &stored)).await? && known)
    }

    /// Whether a hash that was just matched should be made anew.
    pub(crate) fn outgrew(&self, hash: &PasswordHash) -> bool {
        self.scheme.outgrew(&hash.0)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, IdentityError> + Send + 'static,
    ) -> Result<T, IdentityError> {
        let began = Instant::now();
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned());
        let turn = turn.await.ok().and_then(Result::ok).ok_or(IdentityError::Busy)?;
        metrics::histogram!("aquifer_identity_hash_wait_seconds").record(began.elapsed().as_secs_f64());
        let (answer, answered) = oneshot::channel();
        let done = self.done.clone();
        let job: Job = Box::new(move || {
            // Whoever asked may be gone.
            if !answer.is_closed() {
                done.fetch_add(1, Ordering::Relaxed);
                metrics::counter!("aquifer_identity_hashes_total").increment(1);
                let _ = answer.send(work());
            }
            drop(turn);
        });
        self.jobs.get_or_init(|| threads(self.threads)).send(job).map_err(|_| IdentityError::Busy)?;
        answered.await.map_err(|_| IdentityError::Busy)?
    }
}

/// Starts the threads; they end with the sender.
fn threads(count: usize) -> mpsc::Sender<Job> {
    let (sender, jobs) = mpsc::channel::<Job>();
    let jobs = Arc::new(Mutex::new(jobs));
    for n in 0..count {
        let jobs = jobs.clone();
        let thread = std::thread::Builder::new().name(format!("hash-{n}")).spawn(move || {
            // On Linux this is the thread's own.
            if let Err(e) = rustix::process::nice(NICE) {
                tracing::warn!(error = %e, "passwords are hashed at full priority");
            }
            loop {
                let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(job) = next else { return };
                // A panic fails its own request, which waits for an answer in vain, and no other.
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!("a password was not hashed: the hashing panicked");
                }
            }
        });
        if let Err(e) = thread {
            tracing::error!(error = %e, "a hashing thread did not start");
        }
    }
    sender
}

/// The hash of a secret of at least 128 random bits.
pub(crate) fn hash_drawn(secret: &str) -> String {
    format!("{DRAWN}{}", hex::encode(Sha256::digest(secret.as_bytes())))
}

fn drawn_is(secret: &str, hash: &str) -> bool {
    hash_drawn(secret).as_bytes().ct_eq(hash.as_bytes()).into()
}
