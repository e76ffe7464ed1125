//! What an operator may say about volumes.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The `[volume]` table of the configuration. Every key has a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The volume type of whoever names none; made where it does not exist.
    pub default_type: String,
    /// The tier of types whose extra specs name no `volume_backend_name`.
    pub tier: String,
    /// The tier that backups go to; best another pool, or another cluster, than the volumes'.
    pub backup_tier: String,
    /// The one availability zone.
    pub zone: String,
    /// The name that services and volumes show as their host.
    pub host: String,
    /// The most items a page of a listing has.
    pub page_max: usize,
    /// Days that messages are kept.
    pub message_days: u64,
    /// The Ceph user that guests' hosts connect as, shown by `os-initialize_connection`.
    pub guest_user: String,
    /// The UUID of the libvirt secret that holds its key on every host.
    pub guest_secret: Option<String>,
    /// Limits of every project that has none of its own. -1 is without limit.
    pub quota: Quota,
    /// An oslo.policy-style file whose rules replace the defaults.
    pub policy_file: Option<PathBuf>,
}

/// Default limits.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    pub volumes: i64,
    pub snapshots: i64,
    /// GiB of volumes and snapshots together.
    pub gigabytes: i64,
    pub backups: i64,
    pub backup_gigabytes: i64,
    /// GiB of one volume.
    pub per_volume_gigabytes: i64,
    pub groups: i64,
}

impl Default for Quota {
    fn default() -> Self {
        Quota {
            volumes: 10,
            snapshots: 10,
            gigabytes: 1000,
            backups: 10,
            backup_gigabytes: 1000,
            per_volume_gigabytes: -1,
            groups: 10,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            default_type: "__DEFAULT__".into(),
            tier: "volumes".into(),
            backup_tier: "volumes".into(),
            zone: "nova".into(),
            host: "aquifer".into(),
            page_max: 1000,
            message_days: 30,
            guest_user: "admin".into(),
            guest_secret: None,
            quota: Quota::default(),
            policy_file: None,
        }
    }
}
