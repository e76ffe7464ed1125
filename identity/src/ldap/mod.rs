//! Users and groups that LDAP directories keep: a domain whose options say `driver = ldap` has its own there.
//!
//! They are read only. What is read of them is mirrored into the tables of users and groups, under upstream's public ids,
//! so that roles, tokens, lists and filters need not know where somebody is kept. The mirror is brought up to date
//! whenever it is asked for: a list reads the directory, a login reads its user, and a user with a token is looked at
//! again every `directory_age_seconds`; then whoever is gone or disabled there is so here. Passwords are tried at the
//! directory and never kept. No transaction is open while a directory is talked to.

mod directory;
mod entry;
mod mirror;
mod rules;
mod settings;
mod tls;

pub(crate) use settings::DEFAULTS;

use crate::facts::Generation;
use crate::store::directory::{self as rows, Entity};
use crate::{Identity, IdentityError};
use directory::{AWAY, Directory};
use lru::LruCache;
use serde_json::{Map, Value};
use settings::Settings;
use state::Timestamp;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The `source` of what a directory keeps.
pub(crate) const SOURCE: &str = "ldap";
const ROOM: NonZeroUsize = NonZeroUsize::MIN.saturating_add((64 << 10) - 1);
/// Public ids are SHA-256 in hexadecimal digits; this cloud's own are shorter.
const ID_LEN: usize = 64;

type ByDomain = HashMap<String, Option<Arc<Directory>>>;

/// The directories of all domains, as their options are now.
pub(crate) struct Directories {
    age: Duration,
    now: Mutex<Option<(Generation, Arc<ByDomain>)>>,
    /// When users, with their groups, and groups were last read, by public id.
    seen: Mutex<LruCache<String, Instant>>,
}

impl Directories {
    /// What was read is believed for this age.
    pub(crate) fn new(age: Duration) -> Self {
        Directories { age, now: Mutex::new(None), seen: Mutex::new(LruCache::new(ROOM)) }
    }

    fn is_fresh(&self, id: &str) -> bool {
        lock(&self.seen).get(id).is_some_and(|t| t.elapsed() < self.age)
    }

    fn saw(&self, id: &str) {
        lock(&self.seen).put(id.to_owned(), Instant::now());
    }

    /// When the user must be looked at again.
    pub(crate) fn due(&self, id: &str) -> Timestamp {
        let left = lock(&self.seen).get(id).map_or(Duration::ZERO, |t| self.age.saturating_sub(t.elapsed()));
        let left = i64::try_from(left.as_micros()).unwrap_or(i64::MAX);
        Timestamp(Timestamp::now().micros().saturating_add(left))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Identity {
    /// The directories, read again when anything has changed here. One whose options are wrong is there as `None`.
    async fn directories(&self) -> Result<Arc<ByDomain>, IdentityError> {
        let began = self.facts.now();
        let before = lock(&self.directories.now).clone();
        if let Some((generation, known)) = &before
            && *generation == began
        {
            return Ok(known.clone());
        }
        let sql =
            "SELECT domain_id, value FROM identity_domain_options WHERE grp = 'identity' AND opt = 'driver'";
        let rows: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(self.db.read()).await?;
        let mut all = ByDomain::new();
        for (domain, driver) in rows.into_iter().filter(|(_, driver)| *driver == "\"ldap\"") {
            let options = self.domain_options(&domain).await?;
            let options = options.get("ldap").and_then(Value::as_object).cloned().unwrap_or_default();
            let same = before.as_ref().and_then(|(_, b)| b.get(&domain).cloned()).flatten();
            all.insert(domain.clone(), open(&domain, &options, same));
            tracing::trace!(domain, driver, "a domain has a directory");
        }
        let all = Arc::new(all);
        // What another directory said is not known of this one.
        if let Some((_, before)) = &before
            && !same(before, &all)
        {
            lock(&self.directories.seen).clear();
        }
        *lock(&self.directories.now) = Some((began, all.clone()));
        Ok(all)
    }

    /// The domain's directory, if it has one.
    async fn directory(&self, domain: &str) -> Result<Option<Arc<Directory>>, IdentityError> {
        match self.directories().await?.get(domain) {
            None => Ok(None),
            Some(Some(directory)) => Ok(Some(directory.clone())),
            Some(None) => Err(AWAY),
        }
    }

    /// The directory of a public id, and what it is called there; `None` for what this cloud keeps.
    async fn kept_elsewhere(
        &self,
        id: &str,
        entity: Entity,
    ) -> Result<Option<(Arc<Directory>, String)>, IdentityError> {
        if id.len() != ID_LEN || self.directories().await?.is_empty() {
            return Ok(None);
        }
        let Some((domain, local)) = rows::whose(self.db.read(), id, entity).await? else { return Ok(None) };
        Ok(self.directory(&domain).await?.map(|d| (d, local)))
    }
}

fn same(a: &ByDomain, b: &ByDomain) -> bool {
    let one = |a: &Option<Arc<Directory>>, b: &Option<Arc<Directory>>| match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    };
    a.len() == b.len() && a.iter().all(|(domain, d)| b.get(domain).is_some_and(|other| one(d, other)))
}

/// Whether a domain with these options has its users and groups in a directory.
pub(crate) fn drives(options: &Map<String, Value>) -> bool {
    options.get("identity").is_some_and(|identity| identity["driver"] == SOURCE)
}

/// The directory of these options: the one that is open already if they are the same.
fn open(domain: &str, options: &Map<String, Value>, same: Option<Arc<Directory>>) -> Option<Arc<Directory>> {
    let made = Settings::read(options).map_err(IdentityError::Config).and_then(|settings| {
        match same.filter(|s| s.settings == settings) {
            Some(same) => Ok(same),
            None => Ok(Arc::new(Directory::new(domain, settings)?)),
        }
    });
    made.map_err(|e| tracing::error!(domain, error = %e, "a domain's directory cannot be used")).ok()
}
