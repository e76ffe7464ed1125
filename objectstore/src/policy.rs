//! Storage policies (Swift) and storage classes (S3): names for the tiers that hold content and index.
//!
//! A container has one policy, which holds its index and the heads of its objects. An object may be of another class:
//! its head stays where all heads of the container are, so that it is found in one operation, and its content lies as
//! tails in the other policy's tier. The head, the index and the record of garbage name that policy by [`PolicyId`].

use crate::{Config, ObjectError};
use pool::{Pool, Tiers};
use std::num::NonZeroU32;
use std::sync::Arc;

/// A storage policy as it is named in storage: made of its name, so that the configuration's order is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyId(NonZeroU32);

impl PolicyId {
    /// FNV-1a of the name in lower case. Part of the layout on disk: never change it.
    fn of(name: &str) -> Self {
        let fold = |h: u32, b: u8| (h ^ u32::from(b.to_ascii_lowercase())).wrapping_mul(0x0100_0193);
        PolicyId(NonZeroU32::new(name.bytes().fold(0x811c_9dc5, fold)).unwrap_or(NonZeroU32::MIN))
    }

    pub(crate) fn number(self) -> u64 {
        u64::from(self.0.get())
    }

    pub(crate) fn from_number(number: u64) -> Option<Self> {
        u32::try_from(number).ok().and_then(NonZeroU32::new).map(PolicyId)
    }
}

/// One storage policy, connected.
#[derive(Debug)]
pub struct StoragePolicy {
    pub id: PolicyId,
    pub name: String,
    /// Other names that Swift's clients may give it.
    pub aliases: Vec<String>,
    /// No container is made with it any more.
    pub deprecated: bool,
    pub storage_class: String,
    pub(crate) data: Pool,
    pub(crate) index: Pool,
}

/// All of them; the first is the default.
#[derive(Debug, Clone)]
pub struct Policies(Vec<Arc<StoragePolicy>>);

impl Policies {
    /// Resolves the tiers that the configuration names.
    pub(crate) fn new(config: &Config, tiers: &Tiers) -> Result<Self, ObjectError> {
        check(config)
            .map_err(|text| ObjectError::Invalid(format!("the object store's storage policies: {text}")))?;
        let mut all = Vec::new();
        for p in &config.policies {
            let data = tiers.get(&p.tier)?.pool.clone();
            let index = match &p.index_tier {
                Some(tier) => tiers.get(tier)?.pool.clone(),
                None => data.clone(),
            };
            all.push(Arc::new(StoragePolicy {
                id: PolicyId::of(&p.name),
                name: p.name.clone(),
                aliases: p.aliases.clone(),
                deprecated: p.deprecated,
                storage_class: p.storage_class.clone(),
                data,
                index,
            }));
        }
        Ok(Policies(all))
    }

    /// By name or alias, in any case.
    pub fn get(&self, name: &str) -> Result<Arc<StoragePolicy>, ObjectError> {
        let named = |p: &Arc<StoragePolicy>| {
            p.name.eq_ignore_ascii_case(name) || p.aliases.iter().any(|a| a.eq_ignore_ascii_case(name))
        };
        let found = self.0.iter().find(|p| named(p));
        found.cloned().ok_or_else(|| ObjectError::NoSuchPolicy(name.to_owned()))
    }

    /// The policy that a storage class means in a container of policy `home`: its own, if that is of the class.
    pub fn of_class(
        &self,
        home: &Arc<StoragePolicy>,
        class: &str,
    ) -> Result<Arc<StoragePolicy>, ObjectError> {
        if home.storage_class == class {
            return Ok(home.clone());
        }
        let found = self.0.iter().find(|p| p.storage_class == class);
        found.cloned().ok_or_else(|| ObjectError::NoSuchPolicy(class.to_owned()))
    }

    /// Whether S3's clients may name this class.
    pub fn has_class(&self, class: &str) -> bool {
        self.0.iter().any(|p| p.storage_class == class)
    }

    /// The class of content that is kept at `place`, in a container of policy `home`.
    pub(crate) fn class_at<'a>(&'a self, home: &'a StoragePolicy, place: Option<PolicyId>) -> &'a str {
        let found = place.and_then(|id| self.0.iter().find(|p| p.id == id));
        found.map_or(&home.storage_class, |p| &p.storage_class)
    }

    /// The policy that content at `place` is kept with, where that is not the container's own.
    pub(crate) fn at(
        &self,
        home: &StoragePolicy,
        place: Option<PolicyId>,
    ) -> Result<Option<Arc<StoragePolicy>>, ObjectError> {
        self.pool_at(home, place)?;
        Ok(place.and_then(|id| self.0.iter().find(|p| p.id == id)).cloned())
    }

    /// The pool of content that is kept at `place`, in a container of policy `home`.
    pub(crate) fn pool_at<'a>(
        &'a self,
        home: &'a StoragePolicy,
        place: Option<PolicyId>,
    ) -> Result<&'a Pool, ObjectError> {
        match place {
            None => Ok(&home.data),
            Some(id) => {
                let found = self.0.iter().find(|p| p.id == id);
                found.map(|p| &p.data).ok_or_else(|| {
                    ObjectError::NoSuchPolicy("of an object, which the configuration had once".into())
                })
            }
        }
    }

    pub fn default_policy(&self) -> Arc<StoragePolicy> {
        self.0[0].clone() // `new` refuses an empty list
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<StoragePolicy>> {
        self.0.iter()
    }
}

impl StoragePolicy {
    /// How an object in a container of policy `home` says that its content is kept here.
    pub(crate) fn place_from(&self, home: &StoragePolicy) -> Option<PolicyId> {
        (self.id != home.id).then_some(self.id)
    }
}

/// What would make policies ambiguous.
fn check(config: &Config) -> Result<(), String> {
    let mut names: Vec<String> = Vec::new();
    let mut ids: Vec<PolicyId> = Vec::new();
    for p in &config.policies {
        for name in p.aliases.iter().chain([&p.name]).map(|n| n.to_ascii_lowercase()) {
            let fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if name.is_empty() || !name.bytes().all(fit) {
                return Err(format!("{name:?} is no name for one"));
            }
            if names.contains(&name) {
                return Err(format!("{name:?} is there twice"));
            }
            names.push(name);
        }
        let id = PolicyId::of(&p.name);
        if ids.contains(&id) {
            return Err(format!("{:?} cannot be told from another in storage; give it another name", p.name));
        }
        ids.push(id);
    }
    match config.policies.first() {
        None => Err("there must be one".into()),
        Some(first) if first.deprecated => Err("the first, the default, cannot be deprecated".into()),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PolicyConfig;

    fn checked(policies: &[(&str, &[&str], bool)]) -> Result<(), String> {
        let policy = |(name, aliases, deprecated): &(&str, &[&str], bool)| PolicyConfig {
            name: (*name).into(),
            aliases: aliases.iter().map(|a| (*a).to_owned()).collect(),
            deprecated: *deprecated,
            ..Config::default().policies.remove(0)
        };
        check(&Config { policies: policies.iter().map(policy).collect(), ..Config::default() })
    }

    #[test]
    fn policies_are_told_apart() {
        assert!(checked(&[("gold", &["first"], false), ("silver", &[], true)]).is_ok());
        assert!(checked(&[]).is_err());
        assert!(checked(&[("gold", &[], true)]).is_err());
        assert!(checked(&[("gold", &[], false), ("silver", &["GOLD"], false)]).is_err());
        assert!(checked(&[("go ld", &[], false)]).is_err());
    }

    #[test]
    fn ids_are_part_of_the_layout() {
        assert_eq!(PolicyId::of("Gold"), PolicyId::of("gold"));
        assert_eq!(PolicyId::of("gold").number(), 0xec66_d793);
    }
}
