//! Versions of objects: whether a container keeps them, what they are called, and how long one must stay.
//!
//! The latest version is the object's head, so that reading it stays one operation. A version that stops being the
//! latest is first written to an object of its own (`v.…`, see [`crate::names`]) and then replaced in the head, by
//! an operation that asserts that the head is still what was copied: the order of versions is the order in which
//! heads were written, the same for every process. What is copied is small: where versions are kept a head holds 64 KiB
//! of content at most, and larger bodies lie in tails, which a version takes along by name. A delete marker is a version without content.
//!
//! What was there before versions were kept, and what is written while they are suspended, is the null version: one
//! of a name at most.

use crate::names::Tag;
use serde::{Deserialize, Serialize};
use state::Timestamp;
use std::fmt;

/// Whether a container keeps the versions of its objects.
///
/// ```text
/// Unset ──► Enabled ◄──► Suspended
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Versioning {
    #[default]
    Unset,
    /// Every write makes a version with an id of its own.
    Enabled,
    /// Writes replace the null version; other versions stay.
    Suspended,
}

impl Versioning {
    /// Whether there may be versions beside the latest.
    pub fn is_set(self) -> bool {
        self != Versioning::Unset
    }
}

/// Where what is replaced or deleted in a container is kept, of whatever account it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// A container of the same account.
    pub container: String,
    pub mode: HistoryMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HistoryMode {
    /// A deletion brings the object before back.
    Stack,
    /// A deletion is kept as well.
    History,
}

/// Which version of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VersionId {
    Null,
    Own(Tag),
}

impl VersionId {
    pub(crate) fn of(order: Option<Tag>, own_id: bool) -> Self {
        match order {
            Some(order) if own_id => VersionId::Own(order),
            _ => VersionId::Null,
        }
    }

    /// As clients name it: `null`, or 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "null" => Some(VersionId::Null),
            text => Tag::parse(text).map(VersionId::Own),
        }
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionId::Null => f.write_str("null"),
            VersionId::Own(tag) => tag.fmt(f),
        }
    }
}

/// How a version is kept from being deleted until a certain time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockMode {
    /// Whoever may and says so may delete it all the same, and shorten its time.
    Governance,
    /// Nobody may.
    Compliance,
}

impl LockMode {
    pub const ALL: [LockMode; 2] = [LockMode::Governance, LockMode::Compliance];

    /// As S3 writes it.
    pub fn name(self) -> &'static str {
        match self {
            LockMode::Governance => "GOVERNANCE",
            LockMode::Compliance => "COMPLIANCE",
        }
    }

    pub fn of(name: &str) -> Option<Self> {
        LockMode::ALL.into_iter().find(|m| m.name() == name)
    }
}

/// A version's retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub mode: LockMode,
    pub until: Timestamp,
}

/// What keeps a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lock {
    pub retention: Option<Retention>,
    /// Kept until this is taken back, whatever the time. Absent: nothing was ever said of it.
    pub legal_hold: Option<bool>,
}

impl Lock {
    /// Whether the version must stay; `bypass` is a caller's who may break governance and says so.
    pub fn holds(&self, now: Timestamp, bypass: bool) -> bool {
        let kept = |r: Retention| r.until > now && !(bypass && r.mode == LockMode::Governance);
        self.legal_hold == Some(true) || self.retention.is_some_and(kept)
    }

    /// Whether the retention may become `new`: longer always, anything else only as `holds` allows.
    pub fn may_become(&self, new: Option<Retention>, now: Timestamp, bypass: bool) -> bool {
        let Some(old) = self.retention.filter(|r| r.until > now) else { return true };
        let longer = new.is_some_and(|n| n.until >= old.until && n.mode == old.mode);
        longer || (bypass && old.mode == LockMode::Governance)
    }
}

/// A container's object lock, once enabled for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectLock {
    /// What a version gets that says nothing of its own.
    pub default: Option<DefaultRetention>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultRetention {
    pub mode: LockMode,
    pub period: Period,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Period {
    Days(u32),
    Years(u32),
}

impl DefaultRetention {
    pub(crate) fn from(&self, now: Timestamp) -> Retention {
        let days = match self.period {
            Period::Days(n) => i64::from(n),
            Period::Years(n) => i64::from(n) * 365,
        };
        Retention { mode: self.mode, until: Timestamp(now.micros() + days * 86_400_000_000) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back() {
        let tag = Tag::new();
        for id in [VersionId::Null, VersionId::Own(tag)] {
            assert_eq!(VersionId::parse(&id.to_string()), Some(id));
        }
        assert_eq!(VersionId::parse("nonsense"), None);
        assert_eq!(VersionId::of(Some(tag), false), VersionId::Null);
    }

    #[test]
    fn what_a_lock_holds() {
        use LockMode::*;
        let now = Timestamp(1_000);
        let lock = |mode, until| Lock {
            retention: Some(Retention { mode, until: Timestamp(until) }),
            legal_hold: Some(false),
        };
        assert!(lock(Governance, 2_000).holds(now, false) && !lock(Governance, 2_000).holds(now, true));
        assert!(lock(Compliance, 2_000).holds(now, true) && !lock(Compliance, 500).holds(now, false));
        assert!(Lock { legal_hold: Some(true), ..Lock::default() }.holds(now, true));
        let to = |mode, until| Some(Retention { mode, until: Timestamp(until) });
        assert!(lock(Governance, 2_000).may_become(to(Governance, 2_000), now, false));
        assert!(!lock(Governance, 2_000).may_become(to(Compliance, 2_000), now, false));
        assert!(lock(Governance, 2_000).may_become(to(Compliance, 2_000), now, true));
        assert!(!lock(Governance, 2_000).may_become(to(Governance, 1_500), now, false));
        assert!(lock(Governance, 2_000).may_become(None, now, true));
        assert!(!lock(Compliance, 2_000).may_become(to(Governance, 3_000), now, true));
        assert!(lock(Compliance, 2_000).may_become(to(Compliance, 3_000), now, false));
        assert!(!lock(Compliance, 2_000).may_become(None, now, true));
        assert!(lock(Compliance, 500).may_become(None, now, false));
    }
}
