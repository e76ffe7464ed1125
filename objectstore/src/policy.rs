//! Storage policies (Swift) and storage classes (S3): names for the tiers that hold content and index.

use crate::{Config, ObjectError};
use pool::{Pool, Tiers};
use std::sync::Arc;

/// One storage policy, connected.
#[derive(Debug)]
pub struct StoragePolicy {
    pub name: String,
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
        let mut all = Vec::new();
        for p in &config.policies {
            let data = tiers.get(&p.tier)?.pool.clone();
            let index = match &p.index_tier {
                Some(tier) => tiers.get(tier)?.pool.clone(),
                None => data.clone(),
            };
            let (name, storage_class) = (p.name.clone(), p.storage_class.clone());
            all.push(Arc::new(StoragePolicy { name, storage_class, data, index }));
        }
        if all.is_empty() {
            return Err(ObjectError::Invalid("the object store needs at least one storage policy".into()));
        }
        Ok(Policies(all))
    }

    /// By name, in any case.
    pub fn get(&self, name: &str) -> Result<Arc<StoragePolicy>, ObjectError> {
        let found = self.0.iter().find(|p| p.name.eq_ignore_ascii_case(name));
        found.cloned().ok_or_else(|| ObjectError::NoSuchPolicy(name.to_owned()))
    }

    pub fn of_class(&self, class: &str) -> Result<Arc<StoragePolicy>, ObjectError> {
        let found = self.0.iter().find(|p| p.storage_class == class);
        found.cloned().ok_or_else(|| ObjectError::NoSuchPolicy(class.to_owned()))
    }

    pub fn default_policy(&self) -> Arc<StoragePolicy> {
        self.0[0].clone() // `new` refuses an empty list
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<StoragePolicy>> {
        self.0.iter()
    }
}
