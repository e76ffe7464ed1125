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
    /// Further tiers that such types' volumes may go to: of all, the one with most room is taken.
    pub tiers: Vec<String>,
    /// How many times its size a tier's volumes may have together: they take up room as they are written to only.
    pub max_over_subscription_ratio: f64,
    /// The tier that backups go to; best another pool, or another cluster, than the volumes'.
    pub backup_tier: String,
    /// Where new backups go; those that are there stay with the driver that wrote them.
    pub backup_driver: BackupDriver,
    /// Of the driver `directory`: a directory that every process of the role sees, such as a mounted NFS share. It must
    /// be there.
    pub backup_directory: Option<PathBuf>,
    /// Of the drivers `directory` and `object`: the container of whoever names none. Only one cloud may write into it.
    pub backup_container: String,
    /// Of the same: whether chunks are compressed (zstd).
    pub backup_compression: bool,
    /// Of the same: whether chunks are encrypted (AES-256-GCM), with a key for each project and container.
    pub backup_encryption: bool,
    /// 32 bytes in base64: the root secret that wraps these keys. Without a file one is made and kept with the rows;
    /// with them it is lost, and so are sealed backups.
    pub backup_key_file: Option<PathBuf>,
    /// A volume of a volume or a snapshot that stands on as many parents as this, or more, is a copy of it, not a clone.
    pub max_clone_depth: u32,
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
    /// 32 bytes in base64 that seal the passphrases of encrypted volumes. Without a file they are made once and kept in the
    /// database, beside what they seal.
    pub key_file: Option<PathBuf>,
    /// Tiers whose volumes are mirrored to another cluster where their types ask for it.
    pub replication: Vec<crate::Replication>,
    /// Limits of every project that has none of its own. -1 is without limit.
    pub quota: Quota,
    /// An oslo.policy-style file whose rules replace the defaults.
    pub policy_file: Option<PathBuf>,
}

/// What keeps backups' bytes. Upstream's names of the like are taken too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupDriver {
    /// Chains of RBD images and snapshots in a tier.
    #[default]
    #[serde(alias = "cinder.backup.drivers.ceph.CephBackupDriver")]
    Rbd,
    /// Chunks in a directory.
    #[serde(
        alias = "cinder.backup.drivers.nfs.NFSBackupDriver",
        alias = "cinder.backup.drivers.posix.PosixBackupDriver"
    )]
    Directory,
    /// Chunks in this cloud's object store.
    #[serde(
        alias = "cinder.backup.drivers.swift.SwiftBackupDriver",
        alias = "cinder.backup.drivers.s3.S3BackupDriver"
    )]
    Object,
}

impl BackupDriver {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            BackupDriver::Rbd => "rbd",
            BackupDriver::Directory => "directory",
            BackupDriver::Object => "object",
        }
    }

    pub(crate) fn parse(word: &str) -> BackupDriver {
        match word {
            "directory" => BackupDriver::Directory,
            "object" => BackupDriver::Object,
            _ => BackupDriver::Rbd,
        }
    }
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
            tiers: Vec::new(),
            max_over_subscription_ratio: 1000.0,
            backup_tier: "volumes".into(),
            backup_driver: BackupDriver::Rbd,
            backup_directory: None,
            backup_container: "volumebackups".into(),
            backup_compression: true,
            backup_encryption: false,
            backup_key_file: None,
            max_clone_depth: 5,
            zone: "nova".into(),
            host: "aquifer".into(),
            page_max: 1000,
            message_days: 30,
            guest_user: "admin".into(),
            guest_secret: None,
            key_file: None,
            replication: Vec::new(),
            quota: Quota::default(),
            policy_file: None,
        }
    }
}
