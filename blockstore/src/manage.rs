//! Managing and unmanaging: an image or a snapshot that is in a tier already becomes a volume or snapshot of this cloud,
//! or stops being one. Nothing is copied, and nothing is removed: managing renames, unmanaging forgets.

use crate::model::{Metadata, NewVolume, Snapshot, Volume, image_name, snap_name};
use crate::status::{SnapshotStatus, Step, VolumeStatus};
use crate::{VolumeError, Volumes, disk, quotas, store, tasks};
use api::Context;
use state::Timestamp;

/// An image that is to be a volume.
pub(crate) struct ManagedVolume {
    /// `<host>@<tier>#<tier>`.
    pub(crate) host: String,
    /// The image's name in the tier, where one is given.
    pub(crate) source: Option<String>,
    pub(crate) bootable: bool,
    /// The rest of what the volume is to be.
    pub(crate) new: NewVolume,
}

/// A snapshot of a volume's image that is to be the volume's snapshot.
pub(crate) struct ManagedSnapshot {
    pub(crate) volume_id: String,
    /// The snapshot's name in the image, where one is given.
    pub(crate) source: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) metadata: Metadata,
}

/// The one way of naming things that RBD has.
fn named(source: Option<String>) -> Result<String, VolumeError> {
    source.ok_or_else(|| VolumeError::BadRequest("Reference must contain source-name element.".into()))
}

fn bad_reference(source: &str, why: &str) -> VolumeError {
    VolumeError::BadRequest(format!(
        "Manage existing failed due to invalid backend reference {source}: {why}"
    ))
}

impl Volumes {
    /// Begins to manage an image: the volume is `managing` when this returns.
    pub(crate) async fn manage(&self, ctx: &Context, wanted: ManagedVolume) -> Result<Volume, VolumeError> {
        let project = ctx.project_id().map_err(VolumeError::Refused)?.to_owned();
        self.may(ctx, "volume_extension:volume_manage", &project)?;
        let absent = || VolumeError::InvalidInput(format!("Service not found on host {}.", wanted.host));
        let name = self.tier_of_host(&wanted.host).ok_or_else(absent)?;
        self.serves(&name).await?;
        let tier = self.tiers.get(&name)?;
        let source = &named(wanted.source)?;
        if let Some(id) = source.strip_prefix("volume-")
            && store::volumes::get(self.db.read(), id).await?.is_some()
        {
            return Err(bad_reference(source, "it is a volume of this cloud."));
        }
        let bytes = disk::size(&tier, source).await?;
        let bytes = bytes.ok_or_else(|| bad_reference(source, "there is no such image."))?;
        let size = i64::try_from(bytes.div_ceil(disk::GIB).max(1)).unwrap_or(quotas::MOST_GIB);
        let new = NewVolume { size_gib: Some(size), ..wanted.new };
        let (mut volume, kind) = self.planned(ctx, project, new).await?;
        if !self.offers(&name, &kind) {
            return Err(VolumeError::InvalidInput(format!(
                "Volume type {} is not of tier {name}.",
                kind.name
            )));
        }
        if volume.encryption_key_id.is_some() {
            return Err(VolumeError::InvalidInput(format!(
                "Volume type {} is encrypted: nobody knows the passphrase of an image that comes from elsewhere.",
                kind.name
            )));
        }
        volume.tier = name;
        (volume.status, volume.bootable) = (VolumeStatus::Managing, wanted.bootable);
        let mut tx = self.db.begin().await?;
        self.encrypted_as(&mut tx, &kind, &volume).await?;
        self.spend(&mut tx, &volume.project_id, &kind, quotas::Spend::volume(size)).await?;
        store::volumes::insert(&mut tx, &volume).await?;
        tasks::manage::spawn(&mut tx, ctx, &volume, source).await?;
        tx.commit().await?;
        Ok(volume)
    }

    /// Upstream's 400 where a tier's volume service is off.
    async fn serves(&self, tier: &str) -> Result<(), VolumeError> {
        match self.tiers_off().await?.iter().any(|off| off == tier) {
            true => Err(VolumeError::BadRequest("Service is unavailable at this time.".into())),
            false => Ok(()),
        }
    }

    /// Forgets a volume; its image stays, under the name it has.
    pub(crate) async fn unmanage(&self, ctx: &Context, id: &str) -> Result<(), VolumeError> {
        let (mut tx, volume) = self.hold(ctx, id, "volume_extension:volume_unmanage").await?;
        // Nobody would have its passphrase.
        if volume.encryption_key_id.is_some() {
            return Err(VolumeError::BadRequest("Unmanaging encrypted volumes is not supported.".into()));
        }
        let free = volume.attachments.is_empty()
            && volume.group_id.is_none()
            && !volume.is_migrating()
            && store::snapshots::of_volume(tx.conn(), id).await?.is_empty()
            && store::volumes::heirs(tx.conn(), id).await? == 0;
        if !free || volume.status.after(Step::Delete).is_none() {
            return Err(VolumeError::InvalidVolume(
                "Volume status must be available or error, and it must not be migrating, attached, belong to a group or \
                 have snapshots."
                    .into(),
            ));
        }
        store::volumes::remove(&mut tx, id).await?;
        tx.wake(Volumes::topic(id));
        Ok(tx.commit().await?)
    }

    /// Begins to manage a snapshot: it is `creating` when this returns.
    pub(crate) async fn manage_snapshot(
        &self,
        ctx: &Context,
        wanted: ManagedSnapshot,
    ) -> Result<Snapshot, VolumeError> {
        let id = &wanted.volume_id;
        let volume = self.find(ctx, id, "snapshot_extension:snapshot_manage").await?;
        self.serves(volume.home()).await?;
        let tier = self.tiers.get(&volume.tier)?;
        let source = &named(wanted.source)?;
        let known = store::snapshots::of_volume(self.db.read(), id).await?;
        let own = known.iter().any(|s| snap_name(&s.id) == *source);
        if own || source.ends_with(".clone_snap") {
            return Err(bad_reference(source, "it is a snapshot of this cloud."));
        }
        let bytes = disk::snap_size(&tier, &image_name(id), source).await?;
        let bytes = bytes.ok_or_else(|| bad_reference(source, "there is no such snapshot."))?;
        let (mut tx, volume) = self.hold(ctx, id, "snapshot_extension:snapshot_manage").await?;
        if !volume.status.may_snapshot(true) {
            return Err(VolumeError::InvalidVolume(format!("Volume {id} is {}.", volume.status)));
        }
        let size = i64::try_from(bytes.div_ceil(disk::GIB).max(1)).unwrap_or(quotas::MOST_GIB);
        let kind = self.type_of(&mut tx, &volume).await?;
        self.spend(&mut tx, &volume.project_id, &kind, quotas::Spend::snapshot(size)).await?;
        let snapshot = Snapshot {
            id: state::new_id(),
            volume_id: volume.id,
            project_id: volume.project_id,
            user_id: ctx.user.id.clone(),
            size_gib: size,
            status: SnapshotStatus::Creating,
            progress: "0%".into(),
            name: wanted.name,
            description: wanted.description,
            type_id: volume.type_id,
            metadata: wanted.metadata,
            group_snapshot_id: None,
            created_at: Timestamp::now(),
            updated_at: None,
        };
        store::snapshots::insert(&mut tx, &snapshot).await?;
        tasks::snapshot_manage::spawn(&mut tx, ctx, &snapshot, source).await?;
        tx.commit().await?;
        Ok(snapshot)
    }

    /// Forgets a snapshot; the image keeps it, under the name it has.
    pub(crate) async fn unmanage_snapshot(&self, ctx: &Context, id: &str) -> Result<(), VolumeError> {
        let rule = "snapshot_extension:snapshot_unmanage";
        let (mut tx, snapshot) = self.hold_snapshot(ctx, id, rule).await?;
        let free = snapshot.group_snapshot_id.is_none() && store::volumes::heirs(tx.conn(), id).await? == 0;
        if !free || snapshot.status.after(Step::Delete).is_none() {
            return Err(VolumeError::InvalidSnapshot(
                "Snapshot status must be available or error, and it must not be part of a group.".into(),
            ));
        }
        store::snapshots::remove(&mut tx, id).await?;
        Ok(tx.commit().await?)
    }
}
