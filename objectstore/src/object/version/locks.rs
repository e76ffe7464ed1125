//! What this process knows of names that are being written: who writes one now, and which are not new.

use crate::container::Container;
use lru::LruCache;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::PoisonError;
use tokio::sync::{Mutex, MutexGuard};

/// Locks of names, within this process. Two names may share one.
pub(crate) struct NameLocks(Vec<Mutex<()>>);

impl Default for NameLocks {
    fn default() -> Self {
        NameLocks((0..1024).map(|_| Mutex::new(())).collect())
    }
}

fn hash_of(container: &Container, name: &str) -> u64 {
    let mut h = DefaultHasher::new();
    (container.id, name).hash(&mut h);
    h.finish()
}

impl NameLocks {
    pub(crate) async fn lock(&self, container: &Container, name: &str) -> MutexGuard<'_, ()> {
        let n = usize::try_from(hash_of(container, name) % self.0.len() as u64).unwrap_or(0);
        self.0[n].lock().await
    }
}

/// Names that were written here lately: they are not new, and so it is not guessed that they are. To be wrong costs an
/// operation, nothing else.
pub(crate) struct KnownNames(std::sync::Mutex<LruCache<u64, ()>>);

impl Default for KnownNames {
    fn default() -> Self {
        const MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(16_383);
        KnownNames(std::sync::Mutex::new(LruCache::new(MOST)))
    }
}

impl KnownNames {
    pub(super) fn is_known(&self, container: &Container, name: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&hash_of(container, name)).is_some()
    }

    pub(super) fn note(&self, container: &Container, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(hash_of(container, name), ());
    }
}
