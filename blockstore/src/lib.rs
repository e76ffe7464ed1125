//! Block Storage: volumes, snapshots and their attachments, as the Cinder v3 API serves them, each one an RBD
//! image (`volume-<id>`) or a snapshot of one (`snapshot-<id>`).
//!
//! - Rules live in the nouns' modules (`volumes`, `snapshots`, `attachments`, `types` …); each method looks up
//!   and authorises in one step, so that what a caller may not see is not there for it.
//! - What takes longer than a row is a durable task (`tasks`), committed together with the state it serves. The
//!   worker is woken by the commit.
//! - A volume made from an image, a snapshot or another volume is a copy-on-write clone wherever both are in one
//!   Ceph cluster; a deleted parent of clones waits in the trash, out of sight, and goes with the last of them.
//! - Quota is counted from rows in the transaction that spends it.
//!
//! Compute uses the Rust API directly: [`Volumes::get`], [`Volumes::create`], [`Volumes::delete`],
//! [`Volumes::attach_begin`] … [`Volumes::detach_complete`], [`Volumes::location`].

mod adopt;
mod attachments;
mod backup;
mod config;
mod connection;
mod disk;
mod encryption;
mod error;
mod formats;
mod group_snapshots;
mod group_types;
mod groups;
mod http;
mod images;
mod keys;
mod manage;
mod manageable;
mod messages;
mod migrate;
mod model;
mod moving;
mod policy;
mod qos;
mod quotas;
mod recrypt;
mod reimage;
mod replication;
mod scheduler;
mod schedules;
mod servers;
mod services;
mod snapshots;
mod status;
mod store;
mod tasks;
mod transfers;
mod types;
mod uploads;
mod volumes;

pub use adopt::Adoption;
pub use attachments::Held;
pub use backup::{BackupStore, Repository, StoreError};
pub use config::{BackupDriver, Config, Quota};
pub use encryption::VolumeEncryption;
pub use error::VolumeError;
pub use http::{router, routes};
pub use messages::Asker;
pub use model::{
    AttachMode, Attachment, Metadata, NewVolume, RbdLocation, Snapshot, Source, Volume, VolumeType,
};
pub use policy::table as policy;
pub use replication::Replication;
pub use scheduler::Hints;
pub use servers::{Grown, Mirror, Pivot, Servers};
pub use snapshots::NewSnapshot;
pub use status::{AttachStatus, BackupStatus, GroupStatus, ReplicationStatus, SnapshotStatus, VolumeStatus};
pub use tasks::operations;

use api::{Context, Links, Policy};
use pool::Tiers;
use state::{Db, Migrations};
use std::sync::{Arc, OnceLock, Weak};

/// The tables of this crate.
pub const MIGRATIONS: Migrations = Migrations {
    service: "volume",
    steps: &[
        ("0001_volumes", include_str!("../migrations/0001_volumes.sql")),
        ("0003_groups", include_str!("../migrations/0003_groups.sql")),
        ("0004_backups", include_str!("../migrations/0004_backups.sql")),
        ("0005_schedules", include_str!("../migrations/0005_schedules.sql")),
        ("0006_backup_drivers", include_str!("../migrations/0006_backup_drivers.sql")),
        ("0007_keys", include_str!("../migrations/0007_keys.sql")),
        ("0008_replication", include_str!("../migrations/0008_replication.sql")),
        ("0009_group_replication", include_str!("../migrations/0009_group_replication.sql")),
    ],
};

/// The service object: everything the API, the tasks and the other services ask of volumes.
pub struct Volumes {
    db: Db,
    tiers: Tiers,
    images: Arc<imagestore::Images>,
    config: Config,
    links: Links,
    policy: Policy,
    rooms: scheduler::Rooms,
    replicas: replication::Replicas,
    keys: Arc<dyn keys::KeyManager>,
    backup_objects: OnceLock<Arc<dyn BackupStore>>,
    servers: OnceLock<Weak<dyn Servers>>,
}

impl Volumes {
    /// The tables must be there ([`MIGRATIONS`]). Makes the default type where there is none. Fails where the
    /// configuration names a tier that is not there, or a policy file that cannot be used.
    pub async fn new(
        db: Db,
        tiers: Tiers,
        images: Arc<imagestore::Images>,
        config: Config,
        links: Links,
    ) -> Result<Arc<Volumes>, VolumeError> {
        let policy = policy::table().map_err(|e| VolumeError::Config(e.to_string()))?;
        if let Some(file) = &config.policy_file {
            policy.load(file).map_err(|e| VolumeError::Config(e.to_string()))?;
        }
        for tier in config.tiers.iter().chain([&config.tier]) {
            tiers.get(tier).map_err(|e| VolumeError::Config(e.to_string()))?;
        }
        tiers.get(&config.backup_tier).map_err(|e| VolumeError::Config(e.to_string()))?;
        if config.backup_driver == BackupDriver::Directory && config.backup_directory.is_none() {
            return Err(VolumeError::Config("the backup driver directory needs backup_directory".into()));
        }
        images.follow_deletions(images::KEY_PROPERTY, tasks::forget_key::KIND);
        let replicas = replication::Replicas::new(&tiers, &config.replication)?;
        let keys = Arc::new(keys::LocalKeys::new(db.clone(), config.key_file.clone()));
        let volumes = Volumes {
            db,
            tiers,
            images,
            config,
            links,
            policy,
            rooms: scheduler::Rooms::default(),
            replicas,
            keys,
            backup_objects: OnceLock::new(),
            servers: OnceLock::new(),
        };
        volumes.ensure_default_type().await?;
        volumes.ensure_default_group_type().await?;
        Ok(Arc::new(volumes))
    }

    /// Wakes whoever waits for a change of a volume's state: [`state::Db::signal`].
    pub fn topic(volume_id: &str) -> String {
        format!("volume:{volume_id}")
    }

    /// Refuses with 403 unless the caller may do `rule` to what this project owns.
    fn may(&self, ctx: &Context, rule: &str, project_id: &str) -> Result<(), VolumeError> {
        self.policy.enforce(ctx, rule, &[("project_id", project_id)]).map_err(VolumeError::Refused)
    }

    /// Whether another project's resource is there at all for the caller.
    fn sees(ctx: &Context, project_id: &str) -> bool {
        ctx.is_admin() || ctx.project().is_some_and(|p| p.id == project_id)
    }

    /// The caller's own project, for what is created or listed in it; empty for a system-scoped administrator.
    fn home(ctx: &Context) -> Result<&str, VolumeError> {
        match ctx.project() {
            Some(p) => Ok(&p.id),
            None if ctx.is_admin() => Ok(""),
            None => Err(VolumeError::Refused(api::Error::forbidden("This needs a project-scoped token."))),
        }
    }
}
