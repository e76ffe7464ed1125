//! Volumes: who may do what to them, and when. How they come to be is in [`create`].

mod create;

use crate::model::{Attachment, Metadata, RbdLocation, Volume, image_name};
use crate::status::{AttachStatus, Step, VolumeStatus};
use crate::store::volumes::Filter;
use crate::{VolumeError, Volumes, quotas, store, tasks};
use api::{Context, Page};
use state::{Timestamp, Tx};
use std::collections::HashMap;

/// What `PUT /volumes/{id}` may change; `None` leaves it.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) name: Option<Option<String>>,
    pub(crate) description: Option<Option<String>>,
    pub(crate) metadata: Option<Metadata>,
}

/// A summary of what a caller sees.
pub(crate) struct Summary {
    pub(crate) count: i64,
    pub(crate) gib: i64,
    /// Every value that occurs for a key.
    pub(crate) metadata: std::collections::BTreeMap<String, Vec<String>>,
}

impl Volumes {
    /// The volume, with its attachments, if the caller may see it.
    pub async fn get(&self, ctx: &Context, id: &str) -> Result<Volume, VolumeError> {
        let mut volume = self.find(ctx, id, "volume:get").await?;
        volume.attachments = store::attachments::of_volumes(self.db.read(), [volume.id.clone()]).await?;
        Ok(volume)
    }

    /// Looks up and authorises in one step; without attachments.
    pub(crate) async fn find(&self, ctx: &Context, id: &str, rule: &str) -> Result<Volume, VolumeError> {
        let volume = store::volumes::get(self.db.read(), id).await?;
        self.admitted(ctx, id, rule, volume)
    }

    fn admitted(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
        volume: Option<Volume>,
    ) -> Result<Volume, VolumeError> {
        let volume = volume
            .filter(|v| Self::sees(ctx, &v.project_id))
            .ok_or_else(|| VolumeError::VolumeNotFound(id.to_owned()))?;
        self.may(ctx, rule, &volume.project_id)?;
        Ok(volume)
    }

    /// As [`Volumes::find`], inside a write transaction that holds the volume against every other one. With
    /// attachments.
    pub(crate) async fn hold(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
    ) -> Result<(Tx, Volume), VolumeError> {
        let mut tx = self.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        let volume = store::volumes::get(tx.conn(), id).await?;
        let mut volume = self.admitted(ctx, id, rule, volume)?;
        volume.attachments = store::attachments::of_volumes(tx.conn(), [volume.id.clone()]).await?;
        Ok((tx, volume))
    }

    /// Where a volume's bytes are. For the cloud's own use: nothing is checked but that the volume exists.
    pub async fn location(&self, volume_id: &str) -> Result<RbdLocation, VolumeError> {
        let volume = store::volumes::get(self.db.read(), volume_id)
            .await?
            .ok_or_else(|| VolumeError::VolumeNotFound(volume_id.to_owned()))?;
        self.location_of(&volume)
    }

    pub(crate) fn location_of(&self, volume: &Volume) -> Result<RbdLocation, VolumeError> {
        self.location_in(&volume.id, &volume.tier)
    }

    /// Where a volume's bytes are, or would be, in a tier.
    pub(crate) fn location_in(&self, volume_id: &str, tier: &str) -> Result<RbdLocation, VolumeError> {
        let tier = self.tiers.get(tier)?;
        let namespace = tier.pool.namespace();
        Ok(RbdLocation {
            cluster: tier.cluster.name().to_owned(),
            pool: tier.pool.name().to_owned(),
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            image: image_name(volume_id),
        })
    }

    /// A page of the volumes the caller sees, with their attachments, and whether there are more.
    pub(crate) async fn list(
        &self,
        ctx: &Context,
        mut filter: Filter,
        all_projects: bool,
        page: &Page,
    ) -> Result<(Vec<Volume>, bool), VolumeError> {
        self.scope(ctx, &mut filter, all_projects)?;
        let marker = match &page.marker {
            Some(id) => Some(self.find(ctx, id, "volume:get").await?),
            None => None,
        };
        let mut volumes = store::volumes::list(&self.db, &filter, page, marker.as_ref()).await?;
        let more = page.cut(&mut volumes);
        self.join_attachments(&mut volumes).await?;
        Ok((volumes, more))
    }

    /// How many volumes a listing has over all its pages.
    pub(crate) async fn count(
        &self,
        ctx: &Context,
        mut filter: Filter,
        all_projects: bool,
    ) -> Result<i64, VolumeError> {
        self.scope(ctx, &mut filter, all_projects)?;
        Ok(store::volumes::total(self.db.read(), &filter).await?.0)
    }

    pub(crate) async fn summary(
        &self,
        ctx: &Context,
        mut filter: Filter,
        all_projects: bool,
    ) -> Result<Summary, VolumeError> {
        self.scope(ctx, &mut filter, all_projects)?;
        let (count, gib) = store::volumes::total(self.db.read(), &filter).await?;
        let mut metadata = std::collections::BTreeMap::<String, Vec<String>>::new();
        for (key, value) in store::volumes::metadata(self.db.read(), &filter).await?.into_iter().flatten() {
            let values = metadata.entry(key).or_default();
            if !values.contains(&value) {
                values.push(value);
            }
        }
        Ok(Summary { count, gib, metadata })
    }

    /// Narrows a listing to what the caller may see: its own project, or what an administrator asks for.
    fn scope(&self, ctx: &Context, filter: &mut Filter, all_projects: bool) -> Result<(), VolumeError> {
        let home = Self::home(ctx)?;
        self.may(ctx, "volume:get_all", home)?;
        if !(all_projects && ctx.is_admin()) {
            filter.project_id = Some(home.to_owned());
        }
        Ok(())
    }

    async fn join_attachments(&self, volumes: &mut [Volume]) -> Result<(), VolumeError> {
        let held = volumes.iter().filter(|v| v.status != VolumeStatus::Available).map(|v| v.id.clone());
        let held: Vec<String> = held.collect();
        if held.is_empty() {
            return Ok(());
        }
        let mut of: HashMap<String, Vec<Attachment>> = HashMap::new();
        for attachment in store::attachments::of_volumes(self.db.read(), held).await? {
            of.entry(attachment.volume_id.clone()).or_default().push(attachment);
        }
        for volume in volumes {
            volume.attachments = of.remove(&volume.id).unwrap_or_default();
        }
        Ok(())
    }

    pub(crate) async fn update(
        &self,
        ctx: &Context,
        id: &str,
        change: Change,
    ) -> Result<Volume, VolumeError> {
        let (mut tx, mut volume) = self.hold(ctx, id, "volume:update").await?;
        unlocked(&volume, "The volume cannot be updated during maintenance.")?;
        if let Some(name) = change.name {
            volume.name = name;
        }
        if let Some(description) = change.description {
            volume.description = description;
        }
        if let Some(metadata) = change.metadata {
            volume.metadata = metadata;
        }
        self.write(&mut tx, &mut volume).await?;
        tx.commit().await?;
        Ok(volume)
    }

    /// Saves a held volume's plain fields.
    pub(crate) async fn write(&self, tx: &mut Tx, volume: &mut Volume) -> Result<(), VolumeError> {
        store::volumes::save(tx, volume).await?;
        volume.updated_at = Some(Timestamp::now());
        Ok(())
    }

    /// Takes a held volume one step on, or says in upstream's words why not.
    pub(crate) async fn advance(
        &self,
        tx: &mut Tx,
        volume: &mut Volume,
        step: Step,
        refusal: impl FnOnce(&Volume) -> VolumeError,
    ) -> Result<(), VolumeError> {
        let next = volume.status.after(step).ok_or_else(|| refusal(volume))?;
        store::volumes::set_status(tx, &volume.id, next, Some(volume.status)).await?;
        volume.previous_status = Some(volume.status);
        volume.status = next;
        volume.updated_at = Some(Timestamp::now());
        Ok(())
    }

    /// Deletes a volume for another service; one that is on its way out or gone is no error.
    pub async fn delete(&self, ctx: &Context, id: &str) -> Result<(), VolumeError> {
        match self.delete_with(ctx, id, false, false).await {
            Err(VolumeError::VolumeNotFound(_)) => Ok(()),
            Err(refused @ VolumeError::InvalidVolume(_)) => match self.get(ctx, id).await {
                Ok(v) if v.status == VolumeStatus::Deleting => Ok(()),
                Err(VolumeError::VolumeNotFound(_)) => Ok(()),
                _ => Err(refused),
            },
            other => other,
        }
    }

    /// Deletes a volume; `cascade`: with its snapshots; `force`: whatever its status.
    pub(crate) async fn delete_with(
        &self,
        ctx: &Context,
        id: &str,
        cascade: bool,
        force: bool,
    ) -> Result<(), VolumeError> {
        let rule = if force { "volume_extension:volume_admin_actions:force_delete" } else { "volume:delete" };
        let (mut tx, mut volume) = self.hold(ctx, id, rule).await?;
        self.thawed(&mut tx, volume.home()).await?;
        let snapshots = store::snapshots::of_volume(tx.conn(), id).await?;
        let refuse = || {
            VolumeError::InvalidVolume(
                "Volume status must be available or error or error_restoring or error_extending or \
                 error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting \
                 a transfer, or be disassociated from snapshots after volume transfer."
                    .into(),
            )
        };
        // By force only its status does not matter, nor who is about to attach it.
        let held =
            |a: &Attachment| !force || matches!(a.status, AttachStatus::Attached | AttachStatus::Detaching);
        if volume.group_id.is_some()
            || volume.is_migrating()
            || volume.attachments.iter().any(held)
            || (!cascade && !snapshots.is_empty())
        {
            return Err(refuse());
        }
        if !force && snapshots.iter().any(|s| s.status.after(Step::Delete).is_none()) {
            return Err(VolumeError::InvalidVolume("Failed to update snapshot.".into()));
        }
        let step = if force { Step::ForceDelete } else { Step::Delete };
        self.advance(&mut tx, &mut volume, step, |_| refuse()).await?;
        if volume.tier.is_empty() {
            // It found no place: there is nothing to remove, and whoever has asked may count on it at once.
            store::volumes::remove(&mut tx, id).await?;
            tx.wake(Volumes::topic(id));
        } else {
            store::snapshots::delete_all(&mut tx, id).await?;
            tasks::delete::spawn(&mut tx, ctx, &volume).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Grows a volume to `new_size` GiB. `attached_too`: also one in use (3.42).
    pub(crate) async fn extend(
        &self,
        ctx: &Context,
        id: &str,
        new_size: i64,
        attached_too: bool,
    ) -> Result<(), VolumeError> {
        let (mut tx, mut volume) = self.hold(ctx, id, "volume:extend").await?;
        self.thawed(&mut tx, volume.home()).await?;
        if volume.status == VolumeStatus::InUse {
            if !attached_too {
                return Err(VolumeError::InvalidVolume(format!(
                    "Volume {id} status must be '{{'status': 'available'}}' to extend, currently in-use."
                )));
            }
            self.may(ctx, "volume:extend_attached_volume", &volume.project_id)?;
            self.seen_as_large(&volume).await?;
        }
        if new_size <= volume.size_gib {
            return Err(VolumeError::InvalidInput(format!(
                "New size for extend must be greater than current size. (current: {}, extended: {new_size}).",
                volume.size_gib
            )));
        }
        if new_size > quotas::MOST_GIB {
            return Err(VolumeError::InvalidInput(format!("A volume has at most {} GiB.", quotas::MOST_GIB)));
        }
        let kind = self.type_of(&mut tx, &volume).await?;
        let growth = new_size - volume.size_gib;
        self.advance(&mut tx, &mut volume, Step::Extend, |v| {
            VolumeError::InvalidVolume(format!(
                "Volume {} status must be '{{'status': 'available'}}' to extend, currently {}.",
                v.id, v.status
            ))
        })
        .await?;
        self.spend(&mut tx, &volume.project_id, &kind, quotas::Spend::growth(growth, new_size)).await?;
        store::volumes::set_size(&mut tx, id, volume.size_gib, growth).await?;
        tasks::extend::spawn(&mut tx, ctx, &volume, new_size).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Refuses a volume that has a guest which does not see its last extension yet.
    async fn seen_as_large(&self, volume: &Volume) -> Result<(), VolumeError> {
        let Some(servers) = self.servers() else { return Ok(()) };
        for server in volume.attachments.iter().filter_map(|a| a.server_id.as_deref()) {
            if servers.grows(server, &volume.id).await? {
                return Err(VolumeError::InvalidVolume(format!(
                    "Volume {} has just been extended, and the host of server {server} has not shown that to it yet. \
                     Try again later.",
                    volume.id
                )));
            }
        }
        Ok(())
    }

    /// Sets a volume back to its latest snapshot.
    pub(crate) async fn revert(&self, ctx: &Context, id: &str, snapshot_id: &str) -> Result<(), VolumeError> {
        let (mut tx, mut volume) = self.hold(ctx, id, "volume:revert_to_snapshot").await?;
        let mut all = store::snapshots::of_volume(tx.conn(), id).await?;
        all.sort_by_key(|s| s.created_at);
        if !all.iter().any(|s| s.id == snapshot_id) {
            return Err(VolumeError::SnapshotNotFound(snapshot_id.to_owned()));
        }
        let latest = all.pop().filter(|s| s.id == snapshot_id);
        let latest = latest.ok_or_else(|| {
            VolumeError::InvalidInput(format!(
                "Specified snapshot {snapshot_id} is not the latest one of volume {id}."
            ))
        })?;
        if latest.size_gib != volume.size_gib {
            return Err(VolumeError::InvalidInput(format!(
                "Can't revert volume {id} to its latest snapshot {snapshot_id}: the volume's size has been changed \
                 since then."
            )));
        }
        self.advance(&mut tx, &mut volume, Step::Revert, |v| {
            VolumeError::InvalidVolume(format!(
                "Can't revert volume {} to its latest snapshot. Volume must be available, but it is {}.",
                v.id, v.status
            ))
        })
        .await?;
        let next = latest.status.after(Step::Revert).ok_or_else(|| {
            VolumeError::InvalidSnapshot(format!(
                "Can't revert volume {id}: its latest snapshot must be available, but it is {}.",
                latest.status
            ))
        })?;
        store::snapshots::set_status(&mut tx, &latest.id, next, &latest.progress).await?;
        tasks::revert::spawn(&mut tx, ctx, &volume, &latest).await?;
        Ok(tx.commit().await?)
    }

    /// An administrator's word on a volume's state, for when the machinery and the world disagree.
    pub(crate) async fn reset_status(
        &self,
        ctx: &Context,
        id: &str,
        status: Option<VolumeStatus>,
        detached: bool,
        migration_status: Option<Option<String>>,
    ) -> Result<(), VolumeError> {
        let rule = "volume_extension:volume_admin_actions:reset_status";
        let (mut tx, mut volume) = self.hold(ctx, id, rule).await?;
        if let Some(status) = status {
            store::volumes::set_status(&mut tx, id, status, None).await?;
        }
        if detached {
            store::attachments::remove_all(&mut tx, id).await?;
        }
        if let Some(migration) = migration_status {
            volume.migration_status = migration;
            store::volumes::save(&mut tx, &volume).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    pub(crate) async fn set_bootable(
        &self,
        ctx: &Context,
        id: &str,
        bootable: bool,
    ) -> Result<(), VolumeError> {
        let (mut tx, mut volume) = self.hold(ctx, id, "volume:update").await?;
        volume.bootable = bootable;
        self.write(&mut tx, &mut volume).await?;
        Ok(tx.commit().await?)
    }

    pub(crate) async fn set_readonly(
        &self,
        ctx: &Context,
        id: &str,
        readonly: bool,
    ) -> Result<(), VolumeError> {
        let (mut tx, mut volume) = self.hold(ctx, id, "volume:update_readonly_flag").await?;
        if volume.status != VolumeStatus::Available {
            return Err(VolumeError::InvalidVolume(format!(
                "Volume {id} status must be available to update readonly flag, but current status is: {}.",
                volume.status
            )));
        }
        let word = if readonly { "True" } else { "False" };
        volume.admin_metadata.insert("readonly".into(), word.into());
        self.write(&mut tx, &mut volume).await?;
        Ok(tx.commit().await?)
    }

    /// Changes a map of the volume inside one transaction, and gives back what it is then.
    pub(crate) async fn edit_metadata(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
        which: fn(&mut Volume) -> &mut Metadata,
        edit: impl FnOnce(&mut Metadata) -> Result<(), VolumeError>,
    ) -> Result<Metadata, VolumeError> {
        let (mut tx, mut volume) = self.hold(ctx, id, rule).await?;
        unlocked(&volume, "The volume metadata cannot be updated when the volume is in maintenance mode.")?;
        edit(which(&mut volume))?;
        self.write(&mut tx, &mut volume).await?;
        tx.commit().await?;
        Ok(std::mem::take(which(&mut volume)))
    }
}

/// Refuses one that moves and was to be left alone meanwhile.
fn unlocked(volume: &Volume, refusal: &str) -> Result<(), VolumeError> {
    match volume.status {
        VolumeStatus::Maintenance => Err(VolumeError::InvalidVolume(refusal.to_owned())),
        _ => Ok(()),
    }
}

/// What a transaction locks to hold a volume.
pub(crate) fn lock_key(volume_id: &str) -> String {
    format!("volume:{volume_id}")
}
