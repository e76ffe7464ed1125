//! What an operator says about storage: which Ceph clusters there are, and which places in them
//! (tiers) the services may name.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

fn admin() -> String {
    "admin".into()
}

fn thirty() -> u64 {
    30
}

/// One Ceph cluster. In TOML:
///
/// ```toml
/// [[cluster]]
/// name = "main"                 # the name that tiers use
/// conf = "/etc/ceph/ceph.conf"
/// user = "aquifer"              # without "client."
/// keyring = "/etc/ceph/ceph.client.aquifer.keyring"
/// timeout_s = 30
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The name by which tiers refer to this cluster; unique.
    pub name: String,
    /// Path of the cluster's ceph.conf (it names the monitors).
    pub conf: PathBuf,
    /// The Ceph user to connect as, without `client.`.
    #[serde(default = "admin")]
    pub user: String,
    /// Path of that user's keyring. Where absent, it is looked for where ceph.conf says.
    #[serde(default)]
    pub keyring: Option<PathBuf>,
    /// Seconds after which any one operation on this cluster is given up as lost.
    #[serde(default = "thirty")]
    pub timeout_s: u64,
}

impl ClusterConfig {
    /// A cluster reached through this ceph.conf as `client.admin`, everything else at its default.
    pub fn new(name: impl Into<String>, conf: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), conf: conf.into(), user: admin(), keyring: None, timeout_s: thirty() }
    }
}

/// A name for a place: a pool of a cluster. In TOML:
///
/// ```toml
/// [[tier]]
/// name = "fast"
/// cluster = "main"
/// pool = "volumes"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierConfig {
    /// The name that volume types, storage policies and image stores use; unique.
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
    /// The pool that holds the images' headers and, without `data_pool`, their data; and all objects.
    pub pool: String,
    /// An (erasure-coded) pool for the images' data, in the same cluster.
    #[serde(default)]
    pub data_pool: Option<String>,
    /// The RADOS and RBD namespace inside the pool; the default namespace where absent. libvirt cannot name a
    /// namespace: a tier that guests' disks live in has none.
    #[serde(default)]
    pub namespace: Option<String>,
}
