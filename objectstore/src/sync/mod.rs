//! Container sync: a container that is kept in step with another one, of this cloud or of a cloud elsewhere.
//!
//! The owner says where to (`X-Container-Sync-To`) and with which key; both ends have the key, and the clouds one of
//! their own beside it ([`target`]). A change of such a container puts a row into its index, in the very operation that
//! lists or removes the object: what was acknowledged is told, whatever dies. [`run`] takes the rows to the other end
//! and removes what it took: everything arrives at least once, and the objects' times decide which of two is the later.
//!
//! Deletions follow too. An object that comes back late, from before its deletion, must not rise again: so a container
//! with a key remembers its deletions for a while ([`entry::SYNC_GRAVE`]).

mod config;
mod run;
mod send;
pub(crate) mod target;

pub use config::{Realm, SyncConfig, SyncKey};
pub(crate) use run::Syncer;

use crate::cause;
use crate::container::Container;
use crate::index::Change;
use crate::index::entry;
use crate::names::Tag;
use crate::{ObjectError, ObjectStore};
use bytes::Bytes;
use pool::ReadOp;
use serde::{Deserialize, Serialize};
use state::Timestamp;

/// What a container's owner says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncWith {
    /// Where its objects are sent: `//realm/cluster/account/container`, or a URL. Empty: nowhere.
    pub to: String,
    /// What proves to either end that the other's owner wants it. Empty: nobody may.
    pub key: SyncKey,
}

impl SyncWith {
    /// Whether changes are sent anywhere.
    pub(crate) fn sends(&self) -> bool {
        !self.to.is_empty() && !self.key.0.is_empty()
    }
}

/// Times are compared as far as Swift writes them: to 10 microseconds.
pub(crate) fn coarse(at: Timestamp) -> i64 {
    at.micros().div_euclid(10)
}

/// What a change does to an object's latest version: its name, and whether it is no more.
fn outcome(change: &Change) -> Option<(&str, bool)> {
    match change {
        Change::Put { name, .. } => Some((name, false)),
        Change::Delete { name, .. } => Some((name, true)),
        Change::Versions(change) if change.written == 0 => None,
        Change::Versions(change) => Some((&change.name, change.head.as_ref().is_none_or(|h| h.marker))),
        Change::Told(change, _) => outcome(change),
        Change::Rows { .. } => None,
    }
}

/// A change with the rows that tell the other end of it: that of an object has its name alone, for what is sent is the
/// object as it is then.
pub(crate) fn told(container: &Container, change: Change) -> Change {
    let sync = &container.info.sync;
    if sync.key.0.is_empty() {
        return change;
    }
    let Some((name, gone)) = outcome(&change) else { return change };
    let mut rows = Vec::new();
    if gone {
        let at = cause::current().and_then(|c| c.at).unwrap_or_else(Timestamp::now);
        rows.push(grave(name, at));
    }
    if sync.sends() {
        rows.push((entry::sync_row_key(Tag::new()), Bytes::from(name.to_owned())));
    }
    match (change, rows.is_empty()) {
        (change, true) => change,
        (Change::Told(change, mut all), false) => {
            all.extend(rows);
            Change::Told(change, all)
        }
        (change, false) => Change::Told(Box::new(change), rows),
    }
}

fn grave(name: &str, at: Timestamp) -> (String, Bytes) {
    (entry::sync_grave_key(name), Bytes::from(at.micros().to_string()))
}

fn read_time(value: &[u8]) -> Option<Timestamp> {
    std::str::from_utf8(value).ok()?.parse().ok().map(Timestamp)
}

impl ObjectStore {
    /// When an object was deleted last, as far as that is remembered.
    async fn deleted_at(&self, container: &Container, name: &str) -> Result<Option<Timestamp>, ObjectError> {
        let key = [entry::sync_grave_key(name)];
        let (index, shard) = (&container.policy.index, container.shard_of(name));
        let more = |op: ReadOp| op.omap_get_by_keys(key.clone());
        let Some(mut outcome) = self.inner.index.read(index, shard, name, more).await? else {
            return Ok(None);
        };
        let rows = outcome.omap().unwrap_or_default().entries;
        Ok(rows.first().and_then(|(_, value)| read_time(value)))
    }

    /// Whether an object was deleted at `at` or later, as far as that is remembered.
    pub(crate) async fn is_deleted_since(
        &self,
        container: &Container,
        name: &str,
        at: Timestamp,
    ) -> Result<bool, ObjectError> {
        let deleted = self.deleted_at(container, name).await?;
        Ok(deleted.is_some_and(|deleted| coarse(deleted) >= coarse(at)))
    }

    /// Remembers the deletion of an object that is not here: it may be on its way.
    pub(crate) async fn remember_deletion(
        &self,
        container: &Container,
        name: &str,
        at: Timestamp,
    ) -> Result<(), ObjectError> {
        if self.is_deleted_since(container, name, at).await? {
            return Ok(());
        }
        let change = Change::Rows { set: vec![grave(name, at)], remove: Vec::new(), adds: true };
        let shard = container.shard_of(name);
        self.inner.index.commit(&container.policy.index, shard, change).await.map(drop)
    }
}
