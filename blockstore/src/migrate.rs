//! Moving volumes from tier to tier: for a new type (`retype`) or because an administrator says so (`migrate`).

use crate::model::{Volume, VolumeType};
use crate::scheduler::{Hints, Request};
use crate::status::{Step, VolumeStatus};
use crate::{VolumeError, Volumes, quotas, store, tasks};
use api::Context;
use pool::EncryptionFormat;
use state::Tx;

/// The words of `migration_status`.
pub(crate) mod phase {
    /// Asked for.
    pub(crate) const STARTING: &str = "starting";
    /// On its way; the volume is still where it was.
    pub(crate) const MIGRATING: &str = "migrating";
    /// It serves at its new place; what has not come over yet is being brought.
    pub(crate) const COMPLETING: &str = "completing";
    /// It is at its new place, for good.
    pub(crate) const SUCCESS: &str = "success";
    pub(crate) const ERROR: &str = "error";
}

impl Volume {
    /// Whether it is being moved to another tier.
    pub(crate) fn is_migrating(&self) -> bool {
        let now = self.migration_status.as_deref();
        now.is_some_and(|m| [phase::STARTING, phase::MIGRATING, phase::COMPLETING].contains(&m))
    }
}

/// What `os-migrate_volume` asks for.
pub(crate) struct Destination {
    pub(crate) host: String,
    /// Nobody may attach the volume meanwhile.
    pub(crate) lock: bool,
}

impl Volumes {
    /// Changes the type. Another type whose tiers the volume's is one of is a matter of rows; else (and where nothing may be
    /// changed in its own, which is frozen) the volume moves, where `on_demand` allows that.
    pub(crate) async fn retype(
        &self,
        ctx: &Context,
        id: &str,
        new_type: &str,
        on_demand: bool,
    ) -> Result<(), VolumeError> {
        let (mut tx, mut volume) = self.hold(ctx, id, "volume:retype").await?;
        if !matches!(volume.status, VolumeStatus::Available | VolumeStatus::InUse)
            || volume.is_migrating()
            || volume.group_id.is_some()
        {
            return Err(VolumeError::InvalidVolume(format!(
                "Retype needs volume to be in available or in-use state, not be part of an active migration or a \
                 consistency group, requested type has to be different that the one from the volume, and for \
                 in-use volumes front-end qos specs cannot change. It is {}.",
                volume.status
            )));
        }
        let kind = store::types::get(tx.conn(), new_type)
            .await?
            .ok_or_else(|| VolumeError::InvalidInput(format!("Invalid volume_type passed: {new_type}.")))?;
        if kind.id == volume.type_id {
            return Err(VolumeError::InvalidInput(format!("New volume_type same as original: {new_type}.")));
        }
        if kind.multiattach() != volume.multiattach && volume.status != VolumeStatus::Available {
            return Err(VolumeError::InvalidInput(
                "Invalid volume_type passed: multiattach can change only while the volume is available."
                    .into(),
            ));
        }
        let reseals = self.reseals(&mut tx, &kind, &volume).await?;
        if reseals.is_some() && (volume.status != VolumeStatus::Available || !volume.attachments.is_empty()) {
            return Err(VolumeError::InvalidVolume(
                "Retype needs volume to be in available state where its encryption changes.".into(),
            ));
        }
        self.spend(&mut tx, &volume.project_id, &kind, quotas::Spend::retype(volume.size_gib)).await?;
        let frozen = self.is_frozen(&mut tx, volume.home()).await?;
        if frozen || reseals.is_some() || !self.offers(volume.home(), &kind) {
            if volume.is_replicated() {
                return Err(VolumeError::InvalidVolume("Volume must not be replicated.".into()));
            }
            return self.retype_elsewhere(tx, ctx, volume, &kind, reseals, on_demand).await;
        }
        self.carry_type(&mut tx, &mut volume, &kind).await?;
        self.write(&mut tx, &mut volume).await?;
        Ok(tx.commit().await?)
    }

    /// Gives a held volume a type: what follows from that, but its place.
    pub(crate) async fn carry_type(
        &self,
        tx: &mut Tx,
        volume: &mut Volume,
        kind: &VolumeType,
    ) -> Result<(), VolumeError> {
        self.replicated_as(tx, volume, kind.replicated()).await?;
        volume.multiattach = kind.multiattach();
        let before = store::types::get(tx.conn(), &volume.type_id).await?.and_then(|t| t.qos_specs_id);
        if before != kind.qos_specs_id {
            tasks::limit::spawn(tx, &volume.id).await?;
        }
        (volume.type_id, volume.type_name) = (kind.id.clone(), kind.name.clone());
        Ok(())
    }

    async fn retype_elsewhere(
        &self,
        mut tx: Tx,
        ctx: &Context,
        mut volume: Volume,
        kind: &VolumeType,
        reseals: Option<Option<EncryptionFormat>>,
        on_demand: bool,
    ) -> Result<(), VolumeError> {
        // What is encrypted in another way is written anew, as upstream does: what hangs on the old image cannot come along.
        if reseals.is_some()
            && on_demand
            && !store::snapshots::of_volume(tx.conn(), &volume.id).await?.is_empty()
        {
            return self.stays(tx, ctx, volume, "Volume must not have snapshots.").await;
        }
        let size_gib = volume.size_gib;
        let here = volume.tier.clone();
        let prefer = reseals.is_some().then_some(here.as_str());
        let want = Request { kind, size_gib, hints: &Hints::default(), prefer };
        let to = if on_demand { self.place(want).await? } else { None };
        let Some(to) = to else {
            let reason = if on_demand {
                crate::messages::NO_BACKEND
            } else {
                "Retype requires migration but is not allowed."
            };
            return self.stays(tx, ctx, volume, reason).await;
        };
        if let Some(reason) = self.bound(&mut tx, &volume, &to).await? {
            return self.stays(tx, ctx, volume, reason).await;
        }
        self.advance(&mut tx, &mut volume, Step::Retype, |v| {
            VolumeError::InvalidVolume(format!("A volume that is {} cannot be retyped.", v.status))
        })
        .await?;
        volume.migration_status = Some(phase::STARTING.into());
        self.write(&mut tx, &mut volume).await?;
        tasks::migrate::spawn(&mut tx, ctx, &volume, &to, Some((&kind.id, reseals))).await?;
        Ok(tx.commit().await?)
    }

    /// Why an attached volume cannot move to a tier under its guest; `None` also for one that nobody has. As with
    /// upstream's swap of volumes, snapshots stay behind and what is encrypted cannot be copied by its guest's QEMU.
    async fn bound(
        &self,
        tx: &mut Tx,
        volume: &Volume,
        to: &str,
    ) -> Result<Option<&'static str>, VolumeError> {
        if volume.attachments.is_empty() {
            return Ok(None);
        }
        let snapshots = store::snapshots::of_volume(tx.conn(), &volume.id).await?;
        Ok(match () {
            () if self.servers().is_none() || tasks::migrate_attached::holder(volume).is_none() => Some(
                "Volume is attached to what is no single server of this cloud: it cannot move meanwhile.",
            ),
            () if !snapshots.is_empty() => Some("Volume must not have snapshots."),
            () if volume.encryption_key_id.is_some() => {
                Some("Volume is encrypted: it cannot move while it is attached.")
            }
            () if self.location_in(&volume.id, to)?.namespace.is_some() => {
                Some("The destination is in a namespace of its pool, where no server can open a volume.")
            }
            () => None,
        })
    }

    /// A move that cannot begin: the volume is what it was, and says that it did not move.
    async fn stays(
        &self,
        mut tx: Tx,
        ctx: &Context,
        mut volume: Volume,
        reason: &str,
    ) -> Result<(), VolumeError> {
        volume.migration_status = Some(phase::ERROR.into());
        self.write(&mut tx, &mut volume).await?;
        let asker = crate::messages::Asker::of(ctx, &volume.project_id);
        let what = ("VOLUME", volume.id.as_str());
        self.tell(&mut tx, &state::new_id(), &asker, crate::messages::Action::Migrate, what, reason).await?;
        tx.wake(Volumes::topic(&volume.id));
        Ok(tx.commit().await?)
    }

    /// `os-migrate_volume`: to another tier, whatever the type says of its own.
    pub(crate) async fn migrate(
        &self,
        ctx: &Context,
        id: &str,
        destination: Destination,
    ) -> Result<(), VolumeError> {
        let rule = "volume_extension:volume_admin_actions:migrate_volume";
        let (mut tx, mut volume) = self.hold(ctx, id, rule).await?;
        let host = &destination.host;
        let to = self.tier_of_host(host).ok_or_else(|| {
            VolumeError::BadRequest(format!("Invalid host: No available service named '{host}'"))
        })?;
        if self.tiers_off().await?.contains(&to) {
            return Err(VolumeError::BadRequest(format!(
                "Invalid host: No available service named '{host}'"
            )));
        }
        if !matches!(volume.status, VolumeStatus::Available | VolumeStatus::InUse)
            || volume.is_migrating()
            || volume.group_id.is_some()
            || volume.is_replicated()
            || volume.tier == to
        {
            return Err(VolumeError::InvalidVolume(format!(
                "Volume {id} status must be available or in-use, must not be migrating, be replicated, be part of a \
                 group and destination host/cluster must be different than the current one"
            )));
        }
        let kind = self.type_of(&mut tx, &volume).await?;
        if !self.offers_moved(&to, &kind) {
            return self.stays(tx, ctx, volume, crate::messages::NO_BACKEND).await;
        }
        if let Some(reason) = self.bound(&mut tx, &volume, &to).await? {
            return Err(VolumeError::InvalidVolume(reason.into()));
        }
        if destination.lock && volume.status == VolumeStatus::Available {
            self.advance(&mut tx, &mut volume, Step::Lock, |v| {
                VolumeError::InvalidVolume(format!("A volume that is {} cannot be locked.", v.status))
            })
            .await?;
        }
        volume.migration_status = Some(phase::STARTING.into());
        self.write(&mut tx, &mut volume).await?;
        tasks::migrate::spawn(&mut tx, ctx, &volume, &to, None).await?;
        Ok(tx.commit().await?)
    }

    /// Whether an administrator may put volumes of a type into a tier: also into one that only types which name it get.
    fn offers_moved(&self, tier: &str, kind: &VolumeType) -> bool {
        let named = kind.extra_specs.keys().any(|k| k.ends_with("volume_backend_name"));
        if named {
            return self.offers(tier, kind);
        }
        let mut kind = kind.clone();
        kind.extra_specs.insert("volume_backend_name".into(), tier.to_owned());
        self.offers(tier, &kind)
    }

    /// `os-migrate_volume_completion`: what compute says when it has swapped one volume for another in its servers. A
    /// migration of this cloud's own needs no second volume; of two that are in none, the new one takes over the
    /// attachments of the old one. The id of the volume that stays.
    pub(crate) async fn complete_migration(
        &self,
        ctx: &Context,
        id: &str,
        new_id: &str,
        failed: bool,
    ) -> Result<String, VolumeError> {
        let rule = "volume_extension:volume_admin_actions:migrate_volume_completion";
        let volume = self.find(ctx, id, rule).await?;
        let new = self.find(ctx, new_id, rule).await?;
        let invalid = |reason: String| Err(VolumeError::InvalidVolume(reason));
        match (&volume.migration_status, &new.migration_status) {
            (None, None) => {}
            (None, _) => return invalid("Source volume not mid-migration.".into()),
            (_, None) => return invalid("Destination volume not mid-migration.".into()),
            (_, Some(now)) => {
                return invalid(format!("Destination has migration_status {now}, expected target:{id}."));
            }
        }
        if !failed {
            self.take_over_attachments(ctx, id, new_id).await?;
        }
        Ok(new.id)
    }
}
