//! Passwords: bcrypt on a bounded pool of threads, in constant time, also for users that do not exist.
//!
//! A login storm queues here and nowhere else: requests that need no hash never wait for one that does.

use crate::IdentityError;
use crate::store::subjects::PasswordHash;
use api::Secret;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::sync::{OnceCell, Semaphore};

/// A request waits this long for its turn before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(30);
/// As upstream: longer passwords are refused.
pub(crate) const MAX_LEN: usize = 4096;
/// Marks the hash of a secret that we drew ourselves: it has all its entropy, so one round is enough.
const DRAWN: &str = "sha256$";
/// bcrypt sees 72 bytes. Longer passwords are hashed to fewer first, so that every byte counts, and marked.
const LONG: &str = "long$";
const BCRYPT_SEES: usize = 72;

pub(crate) struct Hasher {
    turns: Arc<Semaphore>,
    cost: u32,
    /// What the passwords of unknown users are compared with.
    nobody: OnceCell<String>,
}

impl Hasher {
    pub(crate) fn new(cost: u32, threads: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let threads = if threads == 0 { cores.saturating_sub(1).max(1) } else { threads };
        Hasher { turns: Arc::new(Semaphore::new(threads)), cost, nobody: OnceCell::new() }
    }

    pub(crate) async fn hash(&self, password: &str) -> Result<String, IdentityError> {
        let cost = self.cost;
        if password.len() > BCRYPT_SEES {
            let short = shortened(password);
            let hash = self.run(move || bcrypt::hash(short.0.as_bytes(), cost)).await?;
            return Ok(format!("{LONG}{hash}"));
        }
        let password = Secret(password.to_owned());
        self.run(move || bcrypt::hash(password.0.as_bytes(), cost)).await
    }

    /// Whether the password is the one hashed. Without a hash it takes as long and is false.
    pub(crate) async fn verify(
        &self,
        password: &str,
        hash: Option<&PasswordHash>,
    ) -> Result<bool, IdentityError> {
        let known = hash.is_some();
        let hash = match hash {
            Some(h) if h.0.starts_with(DRAWN) => return Ok(drawn_is(password, &h.0)),
            Some(h) => h.0.clone(),
            None => self.nobody.get_or_try_init(|| self.hash("nobody")).await?.clone(),
        };
        let (password, hash) = match hash.strip_prefix(LONG) {
            Some(rest) => (shortened(password), rest.to_owned()),
            None => (Secret(password.to_owned()), hash),
        };
        Ok(self.run(move || bcrypt::verify(password.0.as_bytes(), &hash)).await? && known)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, bcrypt::BcryptError> + Send + 'static,
    ) -> Result<T, IdentityError> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned());
        let turn = turn.await.ok().and_then(Result::ok).ok_or(IdentityError::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        done.await.map_err(|_| IdentityError::Busy)?.map_err(IdentityError::Hash)
    }
}

fn shortened(password: &str) -> Secret {
    Secret(hex::encode(Sha256::digest(password.as_bytes())))
}

/// The hash of a secret of at least 128 random bits.
pub(crate) fn hash_drawn(secret: &str) -> String {
    format!("{DRAWN}{}", hex::encode(Sha256::digest(secret.as_bytes())))
}

fn drawn_is(secret: &str, hash: &str) -> bool {
    hash_drawn(secret).as_bytes().ct_eq(hash.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn right_wrong_and_unknown() {
        let h = Hasher::new(4, 1);
        let hash = PasswordHash(h.hash("s3cr3t").await.unwrap());
        assert!(h.verify("s3cr3t", Some(&hash)).await.unwrap());
        assert!(!h.verify("S3cr3t", Some(&hash)).await.unwrap());
        assert!(!h.verify("nobody", None).await.unwrap());
        let (long, longer) = ("x".repeat(80), "x".repeat(81));
        let hash = PasswordHash(h.hash(&long).await.unwrap());
        assert!(h.verify(&long, Some(&hash)).await.unwrap());
        assert!(!h.verify(&longer, Some(&hash)).await.unwrap(), "every byte counts");
        assert!(!h.verify(&long[..72], Some(&hash)).await.unwrap());
        let drawn = PasswordHash(hash_drawn("abc"));
        assert!(h.verify("abc", Some(&drawn)).await.unwrap());
        assert!(!h.verify("abd", Some(&drawn)).await.unwrap());
    }
}
