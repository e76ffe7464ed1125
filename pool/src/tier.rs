//! Tiers: names for places. Volume types, storage policies and image stores name a tier; where its bytes are
//! is configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::{Cluster, Clusters};
use crate::config::TierConfig;
use crate::error::Error;
use crate::rados::Pool;

/// A named place: a pool of a cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tier {
    /// The name that services use.
    pub name: String,
    /// The cluster it is in.
    pub cluster: Cluster,
    /// Objects, the images' headers, and their data where `data_pool` is absent.
    pub pool: Pool,
    /// Where the images' data go (an erasure-coded pool, usually).
    pub data_pool: Option<String>,
}

impl Tier {
    /// Whether a clone from one to the other is possible; otherwise bytes must be copied.
    pub fn same_cluster(&self, other: &Tier) -> bool {
        self.cluster == other.cluster
    }
}

/// All configured tiers, by name.
#[derive(Debug, Clone, Default)]
pub struct Tiers(Arc<BTreeMap<String, Tier>>);

impl Tiers {
    /// Nothing is asked of the clusters. Errors: two tiers of one name, a cluster that is not configured.
    pub fn new(clusters: &Clusters, configs: &[TierConfig]) -> Result<Self, Error> {
        let mut all = BTreeMap::new();
        for c in configs {
            let unknown = |_| Error::invalid(format!("tier {}: no cluster is named {}", c.name, c.cluster));
            let cluster = clusters.get(&c.cluster).map_err(unknown)?;
            let pool = cluster.pool(&c.pool, c.namespace.as_deref());
            let tier = Tier { name: c.name.clone(), cluster, pool, data_pool: c.data_pool.clone() };
            if all.insert(c.name.clone(), tier).is_some() {
                return Err(Error::invalid(format!("two tiers are named {}", c.name)));
            }
        }
        Ok(Self(Arc::new(all)))
    }

    /// The tier of this name.
    pub fn get(&self, name: &str) -> Result<Tier, Error> {
        self.0.get(name).cloned().ok_or_else(|| Error::NotFound { what: format!("tier {name}") })
    }

    /// The names of all tiers, sorted.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// All tiers, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Tier> {
        self.0.values()
    }
}
