//! Backups: copies of volumes in a tier of their own, which stay when the volume goes.
//!
//! The bytes are a driver's ([`driver`]): in RBD a chain of a full backup and the incremental ones after it ([`data`]), in
//! a directory or the object store chunks that backups share ([`repository`]). Work on a volume's backups has
//! the volume's subject, so that it is done in the order in which it was asked for, and a snapshot that is being read is
//! not deleted meanwhile. After a backup the snapshot that it was read from stays on the volume, out of sight, until the
//! next one: what changed since is then known without reading everything.

pub(crate) mod collect;
pub(crate) mod create;
mod data;
pub(crate) mod delete;
mod directory;
mod driver;
mod format;
mod objects;
mod record;
mod repository;
pub(crate) mod restore;
pub(crate) mod store;

use crate::config::BackupDriver;
use crate::disk::{self, GIB};
use crate::encryption::Format;
use crate::model::{Metadata, NewVolume, Source, Volume, snap_name};
use crate::status::{BackupStatus, SnapshotStatus, Step};
use crate::volumes::{Change, lock_key};
use crate::{VolumeError, Volumes};
use api::{Context, Page};
use data::Place;
pub use objects::{BackupStore, Repository, StoreError};
use pool::EncryptionFormat;
use serde::{Deserialize, Serialize};
use state::{Timestamp, Tx};

/// What the metadata of a restored volume names its backup by, as upstream's.
const SOURCE: &str = "src_backup_id";

/// The metadata of a volume that is made of a backup, or of none.
pub(crate) fn sourced(mut metadata: Metadata, backup: Option<&Backup>) -> Metadata {
    metadata.extend(backup.map(|b| (SOURCE.to_owned(), b.id.clone())));
    metadata
}

/// A backup, as its row has it.
#[derive(Debug, Clone)]
pub(crate) struct Backup {
    pub(crate) id: String,
    pub(crate) project_id: String,
    pub(crate) user_id: String,
    pub(crate) volume_id: String,
    pub(crate) snapshot_id: Option<String>,
    /// The backup that it was made on, where it is incremental.
    pub(crate) parent_id: Option<String>,
    pub(crate) size_gib: i64,
    pub(crate) status: BackupStatus,
    pub(crate) fail_reason: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) metadata: Metadata,
    pub(crate) zone: Option<String>,
    place: Place,
    /// The volume's snapshot that it was read from.
    base: String,
    /// Chunks of 4 MiB that were written for it.
    pub(crate) chunks: i64,
    volume: Facts,
    /// The instant that it holds.
    pub(crate) data_timestamp: Timestamp,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Option<Timestamp>,
    /// Backups that were made on it.
    pub(crate) heirs: i64,
}

/// What a restored volume is again, besides its bytes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) bootable: bool,
    pub(crate) image_metadata: Metadata,
    /// What its owner has written on it.
    #[serde(default)]
    pub(crate) metadata: Metadata,
    #[serde(default)]
    pub(crate) sealed: Option<Sealed>,
}

/// What opens the backup of an encrypted volume. The backup holds the container as it is, and has a passphrase's id of its own,
/// so that it can be restored when the volume is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    /// The passphrase's id.
    pub(crate) key: String,
    pub(crate) type_id: String,
    pub(crate) format: Format,
    /// Bytes of the container, which may be larger than the volume.
    pub(crate) bytes: u64,
}

impl Backup {
    /// The tier or container that it is in.
    pub(crate) fn container(&self) -> &str {
        &self.place.tier
    }

    fn bytes(&self) -> u64 {
        self.volume.sealed.as_ref().map_or(self.size_gib.unsigned_abs() * GIB, |s| s.bytes)
    }

    /// The id of the passphrase that opens it, where one does.
    pub(crate) fn key(&self) -> Option<&str> {
        self.volume.sealed.as_ref().map(|s| s.key.as_str())
    }

    /// Whether it can be restored into a volume of a type, as upstream has it: what is encrypted into its own type only, which
    /// must still mean the same.
    pub(crate) fn goes_into(
        &self,
        type_id: &str,
        encryption: Option<EncryptionFormat>,
    ) -> Result<(), VolumeError> {
        let fits = match &self.volume.sealed {
            Some(s) => s.type_id == type_id && encryption.map(Format::from) == Some(s.format),
            None => encryption.is_none(),
        };
        let source = self.volume.sealed.as_ref().map_or("in the clear", |s| s.type_id.as_str());
        fits.then_some(()).ok_or_else(|| {
            VolumeError::InvalidVolume(format!(
                "The source volume type '{source}' is different than the destination volume type '{type_id}'."
            ))
        })
    }
}

/// A backup that is asked for.
#[derive(Default)]
pub(crate) struct NewBackup {
    /// Made before the call, where the caller must know it; else a new one.
    pub(crate) id: Option<String>,
    pub(crate) volume_id: String,
    pub(crate) snapshot_id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) metadata: Metadata,
    pub(crate) zone: Option<String>,
    /// The tier, where it is not the configured one.
    pub(crate) container: Option<String>,
    /// Only what differs from the volume's latest backup.
    pub(crate) incremental: bool,
    /// Also of a volume in use.
    pub(crate) force: bool,
}

/// What a container may be called in every store.
fn is_container_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=63).contains(&name.len()) && name.as_bytes()[0].is_ascii_alphanumeric() && name.bytes().all(good)
}

fn lock_name(backup_id: &str) -> String {
    format!("backup:{backup_id}")
}

impl Volumes {
    /// Looks up and authorises in one step.
    pub(crate) async fn find_backup(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
    ) -> Result<Backup, VolumeError> {
        let backup = store::get(self.db.read(), id).await?;
        self.admit_backup(ctx, id, rule, backup)
    }

    fn admit_backup(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
        backup: Option<Backup>,
    ) -> Result<Backup, VolumeError> {
        let backup = backup
            .filter(|b| Self::sees(ctx, &b.project_id))
            .ok_or_else(|| VolumeError::NotFound(format!("Backup {id} could not be found.")))?;
        self.may(ctx, rule, &backup.project_id)?;
        Ok(backup)
    }

    /// As [`Volumes::find_backup`], held in `tx` against every other change of it.
    async fn hold_backup(
        &self,
        tx: &mut Tx,
        ctx: &Context,
        id: &str,
        rule: &str,
    ) -> Result<Backup, VolumeError> {
        tx.lock(&lock_name(id)).await?;
        let backup = store::get(tx.conn(), id).await?;
        self.admit_backup(ctx, id, rule, backup)
    }

    /// Whether the caller is shown whose a backup is.
    pub(crate) fn may_see_project(&self, ctx: &Context, backup: &Backup) -> bool {
        self.may(ctx, "backup:backup_project_attribute", &backup.project_id).is_ok()
    }

    /// Asks for a backup: it is `creating` when this returns. With an id of the caller's choice a repeated call gives
    /// the same one.
    pub(crate) async fn create_backup(&self, ctx: &Context, new: NewBackup) -> Result<Backup, VolumeError> {
        if let Some(id) = &new.id
            && store::get(self.db.read(), id).await?.is_some()
        {
            return self.find_backup(ctx, id, "backup:get").await;
        }
        let container = self.container_bytes(ctx, &new).await?;
        let (mut tx, mut volume) = self.hold(ctx, &new.volume_id, "backup:create").await?;
        let now = Timestamp::now();
        let (size_gib, data_timestamp) = match &new.snapshot_id {
            Some(id) => self.snapshot_to_back_up(&mut tx, &volume, id).await?,
            None => {
                let step = if new.force { Step::ForceBackUp } else { Step::BackUp };
                self.advance(&mut tx, &mut volume, step, refusal).await?;
                (volume.size_gib, now)
            }
        };
        let sealed = self.sealed(&mut tx, &volume, size_gib, container).await?;
        let project_id = ctx.project_id().map_err(VolumeError::Refused)?.to_owned();
        let parent = match new.incremental {
            true => Some(self.parent_of_next(&mut tx, &project_id, &volume, size_gib).await?),
            false => None,
        };
        self.spend_backup(&mut tx, &project_id, size_gib).await?;
        let id = new.id.unwrap_or_else(state::new_id);
        let place = self.place_for(&id, &project_id, new.container.as_deref(), parent.as_ref())?;
        let backup = Backup {
            project_id,
            user_id: ctx.user.id.clone(),
            volume_id: volume.id.clone(),
            base: new.snapshot_id.as_deref().map_or_else(|| data::snap(&id), snap_name),
            id,
            snapshot_id: new.snapshot_id,
            parent_id: parent.as_ref().map(|p| p.id.clone()),
            size_gib,
            status: BackupStatus::Creating,
            fail_reason: None,
            name: new.name,
            description: new.description,
            metadata: new.metadata,
            zone: Some(self.zone(new.zone.as_deref())?),
            place,
            chunks: 0,
            volume: Facts {
                bootable: volume.bootable,
                image_metadata: volume.image_metadata.clone(),
                metadata: volume.metadata.clone(),
                sealed,
            },
            data_timestamp,
            created_at: now,
            updated_at: None,
            heirs: 0,
        };
        store::insert(&mut tx, &backup).await?;
        create::spawn(&mut tx, ctx, &backup, parent.as_ref(), &volume).await?;
        tx.commit().await?;
        Ok(backup)
    }

    /// The bytes of an encrypted volume's image, or of its snapshot's; `None` where it is in the clear, or where there is no
    /// image, which is for others to say.
    async fn container_bytes(&self, ctx: &Context, new: &NewBackup) -> Result<Option<u64>, VolumeError> {
        let volume = self.find(ctx, &new.volume_id, "backup:create").await?;
        if volume.encryption_key_id.is_none() || volume.tier.is_empty() {
            return Ok(None);
        }
        let (tier, image) = (self.tiers.get(&volume.tier)?, volume.image_name());
        let bytes = match &new.snapshot_id {
            Some(id) => disk::snap_size(&tier, &image, &snap_name(id)).await,
            None => disk::size(&tier, &image).await,
        };
        match bytes {
            Err(pool::Error::NotFound { .. }) => Ok(None),
            other => Ok(other?),
        }
    }

    /// What the backup of an encrypted volume must know to be opened.
    async fn sealed(
        &self,
        tx: &mut Tx,
        volume: &Volume,
        size_gib: i64,
        container: Option<u64>,
    ) -> Result<Option<Sealed>, VolumeError> {
        if volume.encryption_key_id.is_none() {
            return Ok(None);
        }
        let format = self.wanted_format(tx, &volume.type_id).await?;
        let format = format.ok_or_else(|| VolumeError::TypeNotFound(volume.type_id.clone()))?;
        let least = size_gib.unsigned_abs() * GIB;
        Ok(Some(Sealed {
            key: state::new_id(),
            type_id: volume.type_id.clone(),
            format: format.into(),
            bytes: container.map_or(least, |b| b.max(least)),
        }))
    }

    /// Whether the next backup of a volume can be made on one of these.
    pub(crate) async fn can_be_made_on(
        &self,
        volume: &Volume,
        ids: &[String],
        container: Option<&str>,
    ) -> Result<bool, VolumeError> {
        let mut tx = self.db.begin().await?;
        let latest = store::latest(&mut tx, &volume.project_id, &volume.id).await?;
        tx.rollback().await?;
        Ok(latest.is_some_and(|b| {
            ids.contains(&b.id)
                && b.size_gib <= volume.size_gib
                && container.is_none_or(|c| c == b.container())
        }))
    }

    /// The backup that the next incremental one is made on.
    async fn parent_of_next(
        &self,
        tx: &mut Tx,
        project_id: &str,
        volume: &Volume,
        size_gib: i64,
    ) -> Result<Backup, VolumeError> {
        let latest = store::latest(tx, project_id, &volume.id).await?;
        latest.filter(|b| b.size_gib <= size_gib).ok_or_else(|| {
            invalid("No backups available to do an incremental backup. Try a full backup first.".into())
        })
    }

    fn place_for(
        &self,
        id: &str,
        project_id: &str,
        container: Option<&str>,
        parent: Option<&Backup>,
    ) -> Result<Place, VolumeError> {
        let driver = self.config.backup_driver;
        let own = || Place {
            driver,
            tier: match driver {
                BackupDriver::Rbd => self.config.backup_tier.clone(),
                _ => self.config.backup_container.clone(),
            },
            owner: project_id.to_owned(),
            chain: id.to_owned(),
            data: id.to_owned(),
        };
        let place = parent.map_or_else(own, |p| Place { data: id.to_owned(), ..p.place.clone() });
        if place.driver != BackupDriver::Rbd {
            self.backup_store(place.driver)?;
        }
        let Some(other) = container.filter(|c| *c != place.tier) else { return Ok(place) };
        let good = match place.driver {
            BackupDriver::Rbd => self.tiers.get(other).is_ok(),
            _ => is_container_name(other),
        };
        match parent {
            None if good => Ok(Place { tier: other.to_owned(), ..place }),
            _ => Err(invalid(format!(
                "container {other} is none that this backup can be in; without one it is {}.",
                place.tier
            ))),
        }
    }

    /// The size and instant of a snapshot of this volume that can be read now.
    async fn snapshot_to_back_up(
        &self,
        tx: &mut Tx,
        volume: &Volume,
        id: &str,
    ) -> Result<(i64, Timestamp), VolumeError> {
        let snapshot = crate::store::snapshots::get(tx.conn(), id).await?;
        let snapshot = snapshot
            .filter(|s| s.project_id == volume.project_id)
            .ok_or_else(|| VolumeError::SnapshotNotFound(id.to_owned()))?;
        if snapshot.volume_id != volume.id {
            return Err(VolumeError::InvalidSnapshot(format!(
                "Snapshot {id} is not a snapshot of volume {}.",
                volume.id
            )));
        }
        if snapshot.status != SnapshotStatus::Available {
            return Err(VolumeError::InvalidSnapshot(format!(
                "Snapshot to be backed up must be available, but the current status is \"{}\".",
                snapshot.status
            )));
        }
        Ok((snapshot.size_gib, snapshot.created_at))
    }

    /// A page of the backups the caller sees, and whether there are more.
    pub(crate) async fn list_backups(
        &self,
        ctx: &Context,
        mut filter: store::Filter,
        all_projects: bool,
        page: &Page,
    ) -> Result<(Vec<Backup>, bool), VolumeError> {
        self.scope_backups(ctx, &mut filter, all_projects)?;
        let marker = match &page.marker {
            Some(id) => Some(self.find_backup(ctx, id, "backup:get").await?),
            None => None,
        };
        let mut all = store::list(self.db.read(), &filter, page, marker.as_ref()).await?;
        let more = page.cut(&mut all);
        Ok((all, more))
    }

    /// How many backups a listing has over all its pages.
    pub(crate) async fn count_backups(
        &self,
        ctx: &Context,
        mut filter: store::Filter,
        all_projects: bool,
    ) -> Result<i64, VolumeError> {
        self.scope_backups(ctx, &mut filter, all_projects)?;
        store::total(self.db.read(), &filter).await
    }

    /// Narrows a listing to what the caller may see.
    fn scope_backups(
        &self,
        ctx: &Context,
        filter: &mut store::Filter,
        all_projects: bool,
    ) -> Result<(), VolumeError> {
        let home = Self::home(ctx)?;
        self.may(ctx, "backup:get_all", home)?;
        if !(all_projects && ctx.is_admin()) {
            filter.project_id = Some(home.to_owned());
        }
        Ok(())
    }

    pub(crate) async fn update_backup(
        &self,
        ctx: &Context,
        id: &str,
        change: Change,
    ) -> Result<Backup, VolumeError> {
        let mut tx = self.db.begin().await?;
        let mut backup = self.hold_backup(&mut tx, ctx, id, "backup:update").await?;
        backup.name = change.name.unwrap_or(backup.name);
        backup.description = change.description.unwrap_or(backup.description);
        backup.metadata = change.metadata.unwrap_or(backup.metadata);
        store::save(&mut tx, &backup).await?;
        tx.commit().await?;
        Ok(backup)
    }

    /// Deletes a backup. `force`: whatever its state, and also where others were made on it, which are then made on what
    /// it was made on.
    pub(crate) async fn delete_backup(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
        force: bool,
    ) -> Result<(), VolumeError> {
        let mut tx = self.db.begin().await?;
        let backup = self.hold_backup(&mut tx, ctx, id, rule).await?;
        if !force && !matches!(backup.status, BackupStatus::Available | BackupStatus::Error) {
            return Err(invalid("Backup status must be available or error".into()));
        }
        if backup.heirs > 0 && !force {
            return Err(invalid("Incremental backups exist for this backup.".into()));
        }
        store::set_status(&mut tx, id, BackupStatus::Deleting, None).await?;
        delete::spawn(&mut tx, ctx, &backup).await?;
        Ok(tx.commit().await?)
    }

    /// Sets a backup's state by hand.
    pub(crate) async fn reset_backup(
        &self,
        ctx: &Context,
        id: &str,
        status: BackupStatus,
    ) -> Result<(), VolumeError> {
        let mut tx = self.db.begin().await?;
        self.hold_backup(&mut tx, ctx, id, "volume_extension:backup_admin_actions:reset_status").await?;
        store::set_status(&mut tx, id, status, None).await?;
        Ok(tx.commit().await?)
    }

    /// Begins a new volume with a backup's bytes.
    pub(crate) async fn restore_to_new(
        &self,
        ctx: &Context,
        id: &str,
        name: Option<String>,
    ) -> Result<Volume, VolumeError> {
        let backup = self.find_backup(ctx, id, "backup:restore").await?;
        let new = NewVolume {
            size_gib: Some(backup.size_gib),
            source: Source::Backup(id.to_owned()),
            name: Some(name.unwrap_or_else(|| format!("restore_backup_{id}"))),
            description: Some("auto-created_from_restore_from_backup".into()),
            metadata: backup.volume.metadata,
            ..NewVolume::default()
        };
        self.create(ctx, new).await
    }

    /// A backup that a volume of this size can be made from, and what the volume is then.
    pub(crate) async fn restorable(
        &self,
        ctx: &Context,
        id: &str,
        size: Option<i64>,
    ) -> Result<(Backup, Facts), VolumeError> {
        let backup = self.find_backup(ctx, id, "backup:restore").await?;
        if backup.status != BackupStatus::Available {
            return Err(invalid(format!("Backup status must be available, but it is {}.", backup.status)));
        }
        if let Some(size) = size.filter(|s| *s < backup.size_gib) {
            return Err(VolumeError::InvalidInput(format!(
                "Volume size {size} is smaller than the backup's, which is {}.",
                backup.size_gib
            )));
        }
        let facts = backup.volume.clone();
        Ok((backup, facts))
    }

    /// The id of the passphrase that opens a backup, for the cloud's own use.
    pub(crate) async fn backup_key(&self, id: &str) -> Result<Option<String>, VolumeError> {
        Ok(store::get(self.db.read(), id).await?.and_then(|b| b.key().map(str::to_owned)))
    }

    /// A volume is being made of it, in the same transaction.
    pub(crate) async fn begin_restore(
        &self,
        tx: &mut Tx,
        ctx: &Context,
        id: &str,
    ) -> Result<(), VolumeError> {
        let backup = self.hold_backup(tx, ctx, id, "backup:restore").await?;
        if backup.status != BackupStatus::Available {
            return Err(invalid("Backup status must be available".into()));
        }
        store::set_status(tx, id, BackupStatus::Restoring, None).await
    }

    /// The volume is made, or is not: the backup is `available` again.
    pub(crate) async fn end_restore(&self, tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
        tx.lock(&lock_name(id)).await?;
        match store::get(tx.conn(), id).await? {
            Some(now) if now.status == BackupStatus::Restoring => {
                store::set_status(tx, id, BackupStatus::Available, None).await
            }
            _ => Ok(()),
        }
    }

    /// Begins to write a backup over a volume: it is `restoring-backup` when this returns.
    pub(crate) async fn restore_backup(
        &self,
        ctx: &Context,
        id: &str,
        volume_id: &str,
    ) -> Result<Volume, VolumeError> {
        let (backup, _) = self.restorable(ctx, id, None).await?;
        let (mut tx, mut volume) = self.hold(ctx, volume_id, "volume:update").await?;
        if volume.size_gib < backup.size_gib {
            return Err(VolumeError::InvalidVolume(format!(
                "volume size {} is too small to restore backup of size {}.",
                volume.size_gib, backup.size_gib
            )));
        }
        let encryption = match &volume.encryption_key_id {
            Some(_) => self.wanted_format(&mut tx, &volume.type_id).await?,
            None => None,
        };
        backup.goes_into(&volume.type_id, encryption)?;
        let refuse =
            |_: &Volume| VolumeError::InvalidVolume("Volume to be restored to must be available".into());
        self.advance(&mut tx, &mut volume, Step::Restore, refuse).await?;
        self.begin_restore(&mut tx, ctx, id).await?;
        restore::spawn(&mut tx, ctx, &backup, &volume).await?;
        tx.wake(Volumes::topic(volume_id));
        tx.commit().await?;
        Ok(volume)
    }

    /// Held against the volume's other changes: takes it from `backing-up` or `restoring-backup` to what its
    /// attachments say, or to `failed`.
    async fn settle_backed_up(&self, tx: &mut Tx, volume_id: &str, failed: bool) -> Result<(), VolumeError> {
        tx.lock(&lock_key(volume_id)).await?;
        let rest = self.state_at_rest(tx, volume_id).await?;
        let step = if failed { Step::Failed } else { Step::Settled(rest) };
        if let Some(now) = crate::store::volumes::get(tx.conn(), volume_id).await?
            && let Some(next) = now.status.after(step)
        {
            crate::store::volumes::set_status(tx, volume_id, next, None).await?;
        }
        tx.wake(Volumes::topic(volume_id));
        Ok(())
    }
}

fn refusal(volume: &Volume) -> VolumeError {
    VolumeError::InvalidVolume(match volume.status {
        crate::VolumeStatus::InUse => "Backing up an in-use volume must use the force flag.".into(),
        other => format!(
            "Volume to be backed up must be available or in-use, but the current status is \"{other}\"."
        ),
    })
}

fn invalid(why: String) -> VolumeError {
    VolumeError::BadRequest(format!("Invalid backup: {why}"))
}
