//! What this process remembers of the database, so that validating a token needs no round trip.
//!
//! Everything remembered belongs to a generation. A change made here ends the generation when it has committed,
//! before its caller is answered; one made by another process ends it at the wake-up, and within [`LOOK`] at
//! the latest, because the epoch that every change counts up is read again then. What was read during an ended
//! generation is never stored, so a reader that overlaps a change cannot bring back the old.

use crate::IdentityError;
use crate::S3Credential;
use crate::catalogue::Catalogue;
use crate::roles::RoleModel;
use crate::store::subjects::{self, DomainBy};
use crate::subject::{Subject, SubjectKey, Validated};
use lru::LruCache;
use state::{Db, Timestamp};
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Another process's change is noticed within this time, microseconds, even if its wake-up is lost.
const LOOK: i64 = 900_000;
/// Tokens, subjects and S3 keys remembered, each. A token and its subject take about 2 KiB.
const ROOM: NonZeroUsize = NonZeroUsize::MIN.saturating_add((16 << 10) - 1);

/// Rendered catalogues remembered: one takes about 20 KiB.
const FEW: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

pub(crate) struct Facts {
    generation: AtomicU64,
    epoch: AtomicI64,
    looked_at: AtomicI64,
    held: Mutex<Held>,
}

/// A moment at which reading began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u64);

struct Held {
    generation: u64,
    tokens: LruCache<String, Arc<Validated>>,
    subjects: LruCache<SubjectKey, Arc<Subject>>,
    s3: LruCache<String, S3Credential>,
    roles: Option<Arc<RoleModel>>,
    catalogue: Option<Arc<Catalogue>>,
    /// The catalogue as a user sees it in a project.
    rendered: LruCache<Place, Arc<str>>,
    /// The ids of projects by name and domain.
    names: LruCache<(String, DomainBy), String>,
}

/// A user, and the project where the scope is one.
pub(crate) type Place = (String, Option<String>);

impl Facts {
    pub(crate) fn new() -> Self {
        Facts {
            generation: AtomicU64::new(0),
            epoch: AtomicI64::new(0),
            looked_at: AtomicI64::new(0),
            held: Mutex::new(Held {
                generation: 0,
                tokens: LruCache::new(ROOM),
                subjects: LruCache::new(ROOM),
                s3: LruCache::new(ROOM),
                roles: None,
                catalogue: None,
                rendered: LruCache::new(FEW),
                names: LruCache::new(ROOM),
            }),
        }
    }

    /// The generation in force, after a look at the epoch where one is due.
    pub(crate) async fn fresh(&self, db: &Db) -> Result<Generation, IdentityError> {
        let now = Timestamp::now().micros();
        let last = self.looked_at.load(Ordering::Acquire);
        let due = now.saturating_sub(last).abs() >= LOOK;
        if due && self.looked_at.compare_exchange(last, now, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            match subjects::epoch(db.read()).await {
                Ok(epoch) if self.epoch.swap(epoch, Ordering::AcqRel) != epoch => self.end(),
                Ok(_) => {}
                Err(e) => {
                    // Unknown is not fresh: the next request looks again.
                    self.looked_at.store(0, Ordering::Release);
                    return Err(e);
                }
            }
        }
        Ok(self.now())
    }

    pub(crate) fn now(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// A change of ours has committed and made this epoch.
    pub(crate) fn changed(&self, epoch: i64) {
        self.epoch.fetch_max(epoch, Ordering::AcqRel);
        self.end();
    }

    /// Something may have changed elsewhere: look at the next request.
    pub(crate) fn look(&self) {
        self.looked_at.store(0, Ordering::Release);
    }

    fn end(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn with<T>(&self, work: impl FnOnce(&mut Held) -> T) -> T {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now().0;
        if held.generation != now {
            held.generation = now;
            held.tokens.clear();
            held.subjects.clear();
            held.s3.clear();
            held.roles = None;
            held.catalogue = None;
            held.rendered.clear();
            held.names.clear();
        }
        work(&mut held)
    }

    fn store(&self, began: Generation, put: impl FnOnce(&mut Held)) {
        self.with(|held| {
            if held.generation == began.0 {
                put(held);
            }
        });
    }

    pub(crate) fn token(&self, token: &str) -> Option<Arc<Validated>> {
        self.with(|h| found(&mut h.tokens, token))
    }

    pub(crate) fn keep_token(&self, began: Generation, token: &str, value: &Arc<Validated>) {
        self.store(began, |h| drop(h.tokens.put(token.to_owned(), value.clone())));
    }

    pub(crate) fn subject(&self, key: &SubjectKey) -> Option<Arc<Subject>> {
        self.with(|h| found(&mut h.subjects, key))
    }

    pub(crate) fn keep_subject(&self, began: Generation, key: SubjectKey, value: &Arc<Subject>) {
        self.store(began, |h| drop(h.subjects.put(key, value.clone())));
    }

    pub(crate) fn s3(&self, access: &str) -> Option<S3Credential> {
        self.with(|h| found(&mut h.s3, access))
    }

    pub(crate) fn keep_s3(&self, began: Generation, access: &str, value: &S3Credential) {
        self.store(began, |h| drop(h.s3.put(access.to_owned(), value.clone())));
    }

    pub(crate) fn roles(&self) -> Option<Arc<RoleModel>> {
        self.with(|h| h.roles.clone())
    }

    pub(crate) fn keep_roles(&self, began: Generation, value: &Arc<RoleModel>) {
        self.store(began, |h| h.roles = Some(value.clone()));
    }

    pub(crate) fn catalogue(&self) -> Option<Arc<Catalogue>> {
        self.with(|h| h.catalogue.clone())
    }

    pub(crate) fn rendered(&self, place: &Place) -> Option<Arc<str>> {
        self.with(|h| found(&mut h.rendered, place))
    }

    pub(crate) fn keep_rendered(&self, began: Generation, place: Place, value: &Arc<str>) {
        self.store(began, |h| drop(h.rendered.put(place, value.clone())));
    }

    pub(crate) fn project_named(&self, name: &(String, DomainBy)) -> Option<String> {
        self.with(|h| found(&mut h.names, name))
    }

    pub(crate) fn keep_project_named(&self, began: Generation, name: (String, DomainBy), id: &str) {
        self.store(began, |h| drop(h.names.put(name, id.to_owned())));
    }

    pub(crate) fn keep_catalogue(&self, began: Generation, value: &Arc<Catalogue>) {
        self.store(began, |h| h.catalogue = Some(value.clone()));
    }
}

fn found<K: Hash + Eq + std::borrow::Borrow<Q>, Q: Hash + Eq + ?Sized, V: Clone>(
    cache: &mut LruCache<K, V>,
    key: &Q,
) -> Option<V> {
    cache.get(key).cloned()
}
