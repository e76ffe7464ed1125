//! How a volume comes to be: what it is made of, of which type and where; then its row, and the task that makes it.

use crate::backup::Backup;
use crate::model::{Metadata, NewVolume, Snapshot, Source, Volume, VolumeType};
use crate::scheduler::Request;
use crate::status::VolumeStatus;
use crate::{VolumeError, Volumes, quotas, store, tasks};
use api::Context;
use state::{Timestamp, Tx};

/// What a volume's first bytes are, once looked up.
struct Origin {
    size_gib: Option<i64>,
    type_id: Option<String>,
    bootable: bool,
    image_metadata: Metadata,
    snapshot_id: Option<String>,
    source_volid: Option<String>,
    multiattach: bool,
    /// Where its source is.
    tier: Option<String>,
    /// An encrypted source: the type that says how, where it is known.
    encrypted: Option<Option<String>>,
    /// Bytes that it is made of, where they are copied.
    bytes: u64,
    backup: Option<Backup>,
}

impl Origin {
    /// Whether a volume of a type can be made of it: what is encrypted stays so, and is opened as its type says.
    fn goes_into(&self, kind: &VolumeType, encrypted: bool, size_gib: i64) -> Result<(), VolumeError> {
        let cloned = self.snapshot_id.is_some() || self.source_volid.is_some();
        let fits = match &self.encrypted {
            Some(Some(of)) => *of == kind.id,
            Some(None) => encrypted,
            None => !(encrypted && cloned),
        };
        if !fits {
            return Err(VolumeError::InvalidInput(format!(
                "Invalid volume_type provided: {} (requested type is not compatible; either match source volume, or \
                 omit type argument).",
                kind.id
            )));
        }
        let room = u64::try_from(size_gib).unwrap_or(0).saturating_mul(crate::disk::GIB);
        if encrypted && self.encrypted.is_none() && self.bytes + crate::encryption::HEADER > room {
            return Err(VolumeError::InvalidInput(format!(
                "Size of specified image is larger than what an encrypted volume of {size_gib}GB holds."
            )));
        }
        Ok(())
    }
}

impl Volumes {
    /// Asks for a volume: it is `creating` when this returns. With an id of the caller's choice a repeated call
    /// gives the same volume.
    pub async fn create(&self, ctx: &Context, new: NewVolume) -> Result<Volume, VolumeError> {
        let project = ctx.project_id().map_err(VolumeError::Refused)?.to_owned();
        self.may(ctx, "volume:create", &project)?;
        if let Some(id) = &new.id
            && let Some(there) = store::volumes::get(self.db.read(), id).await?
        {
            return self.admitted(ctx, id, "volume:get", Some(there));
        }
        let source = new.source.clone();
        let (mut volume, kind) = self.planned(ctx, project, new).await?;
        let mut tx = self.db.begin().await?;
        if let Some(group) = &volume.group_id {
            volume.in_consistency_group = self.joins(&mut tx, ctx, group, &kind).await?.consistent;
        }
        self.begin_create(&mut tx, ctx, &volume, &kind, &source).await?;
        tx.commit().await?;
        Ok(volume)
    }

    /// The row of a volume that is asked for, and its type. Nothing is spent yet.
    pub(crate) async fn planned(
        &self,
        ctx: &Context,
        project: String,
        new: NewVolume,
    ) -> Result<(Volume, VolumeType), VolumeError> {
        let mut origin = self.origin(ctx, &new).await?;
        let size = new.size_gib.or(origin.size_gib).filter(|s| *s > 0).ok_or_else(|| {
            VolumeError::InvalidInput(format!(
                "Invalid volume size provided for create request: {} (size argument must be an integer (or string \
                 representation of an integer) and greater than zero).",
                new.size_gib.map_or("None".to_owned(), |s| s.to_string())
            ))
        })?;
        if size > quotas::MOST_GIB {
            return Err(VolumeError::InvalidInput(format!("A volume has at most {} GiB.", quotas::MOST_GIB)));
        }
        let kind = self.type_for(ctx, &project, new.volume_type.as_deref(), origin.type_id.take()).await?;
        let zone = self.zone(new.zone.as_deref())?;
        let encryption = self.format_of(&kind.id).await?;
        match &origin.backup {
            Some(backup) => backup.goes_into(&kind.id, encryption)?,
            None => origin.goes_into(&kind, encryption.is_some(), size)?,
        }
        // Without a tier the volume is made all the same, and fails where its owner can see why.
        let prefer = origin.tier.as_deref();
        let tier = self.place(Request { kind: &kind, size_gib: size, hints: &new.hints, prefer }).await?;
        let (tier, home_tier) = match tier {
            Some(tier) => self.serving(tier, &kind).await?,
            None => (None, None),
        };
        let volume = Volume {
            id: new.id.unwrap_or_else(state::new_id),
            project_id: project,
            user_id: ctx.user.id.clone(),
            size_gib: size,
            growth: 0,
            status: VolumeStatus::Creating,
            previous_status: None,
            name: new.name,
            description: new.description,
            type_id: kind.id.clone(),
            type_name: kind.name.clone(),
            tier: tier.unwrap_or_default(),
            zone,
            bootable: origin.bootable,
            multiattach: kind.multiattach() || origin.multiattach,
            metadata: crate::backup::sourced(new.metadata, origin.backup.as_ref()),
            admin_metadata: Metadata::new(),
            image_metadata: origin.image_metadata,
            snapshot_id: origin.snapshot_id,
            source_volid: origin.source_volid,
            group_id: new.group_id.clone(),
            in_consistency_group: false,
            encryption_key_id: encryption.map(|_| state::new_id()),
            migration_status: None,
            replication_status: None,
            home_tier,
            created_at: Timestamp::now(),
            updated_at: None,
            attachments: Vec::new(),
        };
        Ok((volume, kind))
    }

    /// Spends the quota of a planned volume, and hands its making to a task.
    pub(crate) async fn begin_create(
        &self,
        tx: &mut Tx,
        ctx: &Context,
        volume: &Volume,
        kind: &VolumeType,
        source: &Source,
    ) -> Result<(), VolumeError> {
        self.encrypted_as(tx, kind, volume).await?;
        self.spend(tx, &volume.project_id, kind, quotas::Spend::volume(volume.size_gib)).await?;
        store::volumes::insert(tx, volume).await?;
        if let Source::Backup(id) = source {
            self.begin_restore(tx, ctx, id).await?;
        }
        tasks::create::spawn(tx, ctx, volume, source).await
    }

    async fn origin(&self, ctx: &Context, new: &NewVolume) -> Result<Origin, VolumeError> {
        let mut origin = Origin {
            size_gib: None,
            type_id: None,
            bootable: false,
            image_metadata: Metadata::new(),
            snapshot_id: None,
            source_volid: None,
            multiattach: false,
            tier: None,
            encrypted: None,
            bytes: 0,
            backup: None,
        };
        match &new.source {
            Source::Empty => {}
            Source::Image(id) => {
                let project = ctx.project_id().map_err(VolumeError::Refused)?;
                self.may(ctx, "volume:create_from_image", project)?;
                let image = self.image(ctx, id).await?;
                image.fits(new.size_gib)?;
                origin.bytes = image.bytes;
                origin.encrypted = image.key.is_some().then_some(None);
                origin.bootable = true;
                origin.type_id = self.type_of_image(ctx, &image.metadata).await?;
                origin.image_metadata = image.metadata;
            }
            Source::Snapshot(id) => {
                let (snapshot, of) = self.clonable_snapshot(ctx, id, new.size_gib).await?;
                origin.size_gib = Some(snapshot.size_gib);
                origin.snapshot_id = Some(snapshot.id);
                origin.encrypted = of.encryption_key_id.is_some().then(|| Some(of.type_id.clone()));
                (origin.type_id, origin.bootable, origin.tier) =
                    (Some(of.type_id), of.bootable, Some(of.tier));
                (origin.image_metadata, origin.multiattach) = (of.image_metadata, false);
            }
            Source::Backup(id) => {
                let (backup, facts) = self.restorable(ctx, id, new.size_gib).await?;
                origin.size_gib = Some(backup.size_gib);
                (origin.bootable, origin.image_metadata) = (facts.bootable, facts.image_metadata);
                origin.type_id = facts.sealed.map(|s| s.type_id);
                origin.backup = Some(backup);
            }
            Source::Volume(id) => {
                let of = self.find(ctx, id, "volume:get").await?;
                if !of.status.may_clone() {
                    return Err(VolumeError::InvalidVolume(format!(
                        "Source volume status must be available or in-use, but it is {}.",
                        of.status
                    )));
                }
                if let Some(size) = new.size_gib.filter(|s| *s < of.size_gib) {
                    return Err(VolumeError::InvalidInput(format!(
                        "Volume size '{size}'GB cannot be smaller than original volume size  {}GB. They must be >= \
                         original volume size.",
                        of.size_gib
                    )));
                }
                origin.size_gib = Some(of.size_gib);
                origin.encrypted = of.encryption_key_id.is_some().then(|| Some(of.type_id.clone()));
                origin.source_volid = Some(of.id);
                (origin.type_id, origin.bootable, origin.tier) =
                    (Some(of.type_id), of.bootable, Some(of.tier));
                origin.image_metadata = of.image_metadata;
            }
        }
        Ok(origin)
    }

    async fn clonable_snapshot(
        &self,
        ctx: &Context,
        id: &str,
        size: Option<i64>,
    ) -> Result<(Snapshot, Volume), VolumeError> {
        let snapshot = self.find_snapshot(ctx, id, "volume:get_snapshot").await?;
        if snapshot.status != crate::SnapshotStatus::Available {
            return Err(VolumeError::InvalidSnapshot(
                "Originating snapshot status must be one of 'available' values".into(),
            ));
        }
        if let Some(size) = size.filter(|s| *s < snapshot.size_gib) {
            return Err(VolumeError::InvalidInput(format!(
                "Volume size '{size}'GB cannot be smaller than the snapshot size {}GB. They must be >= original \
                 snapshot size.",
                snapshot.size_gib
            )));
        }
        let of = store::volumes::get(self.db.read(), &snapshot.volume_id)
            .await?
            .ok_or_else(|| VolumeError::VolumeNotFound(snapshot.volume_id.clone()))?;
        Ok((snapshot, of))
    }

    pub(crate) fn zone(&self, asked: Option<&str>) -> Result<String, VolumeError> {
        match asked {
            Some(zone) if zone != self.config.zone => {
                Err(VolumeError::InvalidInput(format!("Availability zone '{zone}' is invalid.")))
            }
            _ => Ok(self.config.zone.clone()),
        }
    }
}
