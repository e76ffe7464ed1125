//! `volume.create`: the image behind a new volume.
//!
//! One step, so that a volume is `available` as soon as its image is there; a clone of a volume leaves its
//! hidden snapshot to `volume.sweep`, which nobody waits for. The snapshot is `volume-<new id>.clone_snap`, as
//! Cinder names it.

use super::{failed, storage, subject, sweep};
use crate::disk::{self, GIB, Parent};
use crate::encryption;
use crate::messages::{Action, Asker, NO_BACKEND};
use crate::model::{Source, Volume, image_name, snap_name};
use crate::status::{Step, VolumeStatus};
use crate::volumes::lock_key;
use crate::{VolumeError, Volumes, store};
use api::Context;
use async_trait::async_trait;
use pool::Tier;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "volume.create";

#[derive(Serialize, Deserialize)]
struct Params {
    volume_id: String,
    source: Source,
    asker: Asker,
}

pub(crate) async fn spawn(
    tx: &mut Tx,
    ctx: &Context,
    volume: &Volume,
    source: &Source,
) -> Result<(), VolumeError> {
    let params = Params {
        volume_id: volume.id.clone(),
        source: source.clone(),
        asker: Asker::of(ctx, &volume.project_id),
    };
    NewTask { kind: KIND, subject: &subject(&volume.id) }.spawn(tx, &params).await?;
    Ok(())
}

pub(super) struct Create(pub(super) Arc<Volumes>);

#[async_trait]
impl Operation for Create {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["allocate"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let volume = self.row(&params.volume_id).await.map_err(failed)?;
        let Some(volume) = volume.filter(|v| v.status == VolumeStatus::Creating) else {
            // Done before, or deleted by force meanwhile: the delete that follows finds whatever is there.
            return Ok(());
        };
        if volume.tier.is_empty() {
            return Err(StepError::fail(NO_BACKEND));
        }
        self.allocate(&volume, &params.source).await?;
        self.limit(&volume, &params.source).await?;
        self.0.mirror_as_type(&volume, true).await?;
        self.publish(&volume, &params.source).await.map_err(failed)
    }

    async fn undo(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.conceal(&params.volume_id).await.map_err(failed)?;
        let Some(volume) = self.row(&params.volume_id).await.map_err(failed)? else { return Ok(()) };
        let Ok(tier) = self.0.tiers.get(&volume.tier) else { return Ok(()) };
        self.0.unmirror(&volume).await?;
        disk::remove(&tier, &volume.image_name()).await.map_err(storage)?;
        if let Some(key) = &volume.encryption_key_id {
            self.0.keys.remove(key).await.map_err(failed)?;
        }
        if let Source::Volume(source) = &params.source
            && let Some(of) = self.row(source).await.map_err(failed)?
        {
            let tier = self.0.tiers.get(&of.tier).map_err(storage)?;
            disk::remove_snap(&tier, &of.image_name(), &hidden(&volume.id)).await.map_err(storage)?;
        }
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.give_up(&job.id, &params, reason).await.map_err(failed)
    }
}

/// The snapshot that a clone of a volume hangs on.
pub(crate) fn hidden(volume_id: &str) -> String {
    format!("{}.clone_snap", image_name(volume_id))
}

impl Create {
    async fn row(&self, id: &str) -> Result<Option<Volume>, VolumeError> {
        store::volumes::get(self.0.db.read(), id).await
    }

    async fn allocate(&self, volume: &Volume, source: &Source) -> Result<(), StepError> {
        let tier = self.0.tiers.get(&volume.tier).map_err(storage)?;
        let name = volume.image_name();
        let bytes = u64::try_from(volume.size_gib).unwrap_or(0).saturating_mul(GIB);
        if let Some(key) = &volume.encryption_key_id {
            let known = self.passphrase(volume, key, source).await.map_err(failed)?;
            if !known {
                return self.encrypt(volume, &tier, bytes, source).await;
            }
        }
        let parent = match source {
            Source::Empty => return disk::ensure_empty(&tier, &name, bytes).await.map_err(storage),
            Source::Backup(id) => return self.0.fill_from_backup(id, &tier, &name, bytes).await,
            Source::Image(id) => self.0.image_parent(id, &tier).await.map_err(failed)?,
            Source::Snapshot(id) => {
                let snapshot = store::snapshots::get(self.0.db.read(), id).await.map_err(failed)?;
                let snapshot = snapshot.ok_or_else(|| StepError::fail("The snapshot is gone."))?;
                let (of, tier) = self.source(&snapshot.volume_id).await?;
                Parent { tier, image: of.image_name(), snap: snap_name(id) }
            }
            Source::Volume(id) => {
                let (of, tier) = self.source(id).await?;
                let snap = hidden(&volume.id);
                disk::ensure_snap(&tier, &of.image_name(), &snap).await.map_err(storage)?;
                Parent { tier, image: of.image_name(), snap }
            }
        };
        if parent.tier.same_cluster(&tier) && self.may_clone(volume, source, &parent).await.map_err(failed)? {
            return disk::ensure_clone(&parent, &tier, &name, bytes).await.map_err(storage);
        }
        let id = volume.id.clone();
        let progress = move |done, all| tracing::debug!(volume = %id, done, all, "copying");
        disk::ensure_copy(&parent, &tier, &name, bytes, progress).await.map_err(storage)?;
        match source {
            Source::Image(_) => self.0.image_stayed(&parent).await.map_err(failed),
            _ => Ok(()),
        }
    }

    /// Sees to it that the volume has its passphrase; whether its source is encrypted with it already.
    async fn passphrase(&self, volume: &Volume, key: &str, source: &Source) -> Result<bool, VolumeError> {
        let of = match source {
            Source::Image(id) => self.0.image_key(id).await?,
            Source::Volume(id) => self.row(id).await?.and_then(|v| v.encryption_key_id),
            Source::Snapshot(id) => match store::snapshots::get(self.0.db.read(), id).await? {
                Some(s) => self.row(&s.volume_id).await?.and_then(|v| v.encryption_key_id),
                None => None,
            },
            Source::Backup(id) => self.0.backup_key(id).await?,
            Source::Empty => None,
        };
        match &of {
            Some(of) => self.0.keys.copy(of, key, &volume.project_id).await?,
            None => self.0.keys.ensure(key, &volume.project_id).await?,
        }
        Ok(of.is_some())
    }

    /// Whether a volume may be a clone of what it is made of: not where its format forbids it, or the row of parents is long.
    async fn may_clone(
        &self,
        volume: &Volume,
        source: &Source,
        parent: &Parent,
    ) -> Result<bool, VolumeError> {
        if volume.encryption_key_id.is_some()
            && self.0.format_of(&volume.type_id).await?.is_some_and(encryption::stands_alone)
        {
            return Ok(false);
        }
        // Images are no deeper than they may be.
        Ok(matches!(source, Source::Image(_)) || parent.depth().await? < self.0.config.max_clone_depth)
    }

    /// An encrypted image, with what is in the clear in its source.
    async fn encrypt(
        &self,
        volume: &Volume,
        tier: &Tier,
        bytes: u64,
        source: &Source,
    ) -> Result<(), StepError> {
        let name = volume.image_name();
        let encryption = self.0.encryption_of(volume).await.map_err(failed)?;
        let (format, secret) = encryption.ok_or_else(|| StepError::fail("The volume has no passphrase."))?;
        disk::ensure_empty(tier, &name, bytes).await.map_err(storage)?;
        let parent = match source {
            Source::Image(id) => Some(self.0.image_parent(id, tier).await.map_err(failed)?),
            _ => None,
        };
        let from = parent.as_ref();
        let image = tier.pool.rbd().open(&name).await.map_err(storage)?;
        disk::with(image, |image| async move {
            image.encryption_format(format, secret.0.as_bytes()).await?;
            match from {
                Some(from) => disk::fill(&image, from, encryption::holes_are_noise(format)).await,
                None => Ok(()),
            }
        })
        .await
        .map_err(storage)?;
        match &parent {
            Some(parent) => self.0.image_stayed(parent).await.map_err(failed),
            None => Ok(()),
        }
    }

    /// The limits of the type's QoS specs; for a clone, instead of its parent's.
    async fn limit(&self, volume: &Volume, source: &Source) -> Result<(), StepError> {
        if !self.0.any_qos().await.map_err(failed)? {
            return Ok(());
        }
        let limits = self.0.limits_of_type(&volume.type_id).await.map_err(failed)?;
        if limits.is_empty() && matches!(source, Source::Empty) {
            return Ok(());
        }
        let tier = self.0.tiers.get(&volume.tier).map_err(storage)?;
        disk::limit(&tier, &volume.image_name(), &limits).await.map_err(storage)
    }

    async fn source(&self, volume_id: &str) -> Result<(Volume, Tier), StepError> {
        let volume = self.row(volume_id).await.map_err(failed)?;
        let volume = volume.ok_or_else(|| StepError::fail("The source volume is gone."))?;
        let tier = self.0.tiers.get(&volume.tier).map_err(storage)?;
        Ok((volume, tier))
    }

    /// The volume is there for everybody, and its hidden snapshot is somebody's work, in one transaction.
    async fn publish(&self, volume: &Volume, source: &Source) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(&volume.id)).await?;
        if let Some(now) = store::volumes::get(tx.conn(), &volume.id).await?
            && let Some(next) = now.status.after(Step::Created)
        {
            store::volumes::set_status(&mut tx, &volume.id, next, None).await?;
        }
        if let Source::Backup(id) = source {
            self.0.end_restore(&mut tx, id).await?;
        }
        if let Source::Volume(id) = source
            && let Some(of) = store::volumes::get(tx.conn(), id).await?
        {
            let snap = hidden(&volume.id);
            sweep::spawn(&mut tx, &of.tier, &of.image_name(), Some(&snap)).await?;
        }
        tx.wake(Volumes::topic(&volume.id));
        Ok(tx.commit().await?)
    }

    /// Before its image goes, the volume is `creating` again: nothing may be begun on it.
    async fn conceal(&self, id: &str) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        if let Some(now) = store::volumes::get(tx.conn(), id).await?
            && now.status == VolumeStatus::Available
        {
            store::volumes::set_status(&mut tx, id, VolumeStatus::Creating, None).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn give_up(&self, task: &str, params: &Params, reason: &str) -> Result<(), VolumeError> {
        let id = &params.volume_id;
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        if let Some(now) = store::volumes::get(tx.conn(), id).await?
            && let Some(next) =
                now.status.after(Step::Failed).filter(|_| now.status == VolumeStatus::Creating)
        {
            store::volumes::set_status(&mut tx, id, next, None).await?;
            self.0.tell(&mut tx, task, &params.asker, Action::Allocate, ("VOLUME", id), reason).await?;
        }
        if let Source::Backup(backup) = &params.source {
            self.0.end_restore(&mut tx, backup).await?;
        }
        tx.wake(Volumes::topic(id));
        Ok(tx.commit().await?)
    }
}
