//! `volume.reimage`: an image takes the place of what a volume holds.
//!
//! In the clear and without snapshots a fresh clone of the image is put in the old image's place. Otherwise (snapshots stay the
//! volume's, and an encrypted volume keeps its container) the bytes are written over. What was there is gone with the first
//! step that touches it, so that a reimage that cannot be finished leaves the volume in `error`.

use super::{failed, storage, subject, sweep};
use crate::disk::{self, GIB};
use crate::messages::{Action, Asker};
use crate::model::{Metadata, Volume};
use crate::status::{Step, VolumeStatus};
use crate::volumes::lock_key;
use crate::{VolumeError, Volumes, store};
use api::Context;
use async_trait::async_trait;
use pool::{Removed, Tier};
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "volume.reimage";

#[derive(Serialize, Deserialize)]
struct Params {
    volume_id: String,
    image_id: String,
    /// What is known of the image from then on.
    image_metadata: Metadata,
    asker: Asker,
}

pub(crate) async fn spawn(
    tx: &mut Tx,
    ctx: &Context,
    volume: &Volume,
    image_id: &str,
    image_metadata: Metadata,
) -> Result<(), VolumeError> {
    let params = Params {
        volume_id: volume.id.clone(),
        image_id: image_id.to_owned(),
        image_metadata,
        asker: Asker::of(ctx, &volume.project_id),
    };
    NewTask { kind: KIND, subject: &subject(&volume.id) }.spawn(tx, &params).await?;
    Ok(())
}

pub(super) struct Reimage(pub(super) Arc<Volumes>);

#[async_trait]
impl Operation for Reimage {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["prepare", "replace"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let volume = store::volumes::get(self.0.db.read(), &params.volume_id).await.map_err(failed)?;
        let Some(volume) = volume.filter(|v| v.status == VolumeStatus::Downloading) else { return Ok(()) };
        // Volumes that are being made of this one were promised first.
        if store::volumes::heirs(self.0.db.read(), &volume.id).await.map_err(failed)? > 0 {
            return Err(StepError::Wait(super::LOOK_AGAIN));
        }
        let tier = self.0.tiers.get(&volume.tier).map_err(storage)?;
        match step {
            "prepare" => self.prepare(&volume, &tier, &params, job).await,
            _ => self.replace(&volume, &tier, &params, job).await,
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let volume = store::volumes::get(self.0.db.read(), &params.volume_id).await.map_err(failed)?;
        let Some(volume) = volume.filter(|_| step == "prepare") else { return Ok(()) };
        let tier = self.0.tiers.get(&volume.tier).map_err(storage)?;
        // Once the old image is gone the new one is all there is.
        if tier.pool.rbd().exists(&volume.image_name()).await.map_err(storage)? {
            disk::remove(&tier, &fresh(&volume)).await.map_err(storage)?;
        }
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.finish(job, &params, false, Some(reason)).await.map_err(failed)
    }
}

/// The clone that is to take the image's place.
fn fresh(volume: &Volume) -> String {
    format!("{}.reimage", volume.image_name())
}

impl Reimage {
    async fn prepare(
        &self,
        volume: &Volume,
        tier: &Tier,
        params: &Params,
        job: &mut Job,
    ) -> Result<(), StepError> {
        let snapshots = store::snapshots::of_volume(self.0.db.read(), &volume.id).await.map_err(failed)?;
        let over = volume.encryption_key_id.is_some() || volume.is_replicated() || !snapshots.is_empty();
        job.remember("over", &over)?;
        if over {
            return Ok(());
        }
        let bytes = u64::try_from(volume.size_gib).unwrap_or(0).saturating_mul(GIB);
        let parent = self.0.image_parent(&params.image_id, tier).await.map_err(failed)?;
        if parent.tier.same_cluster(tier) {
            return disk::ensure_clone(&parent, tier, &fresh(volume), bytes).await.map_err(storage);
        }
        disk::ensure_copy(&parent, tier, &fresh(volume), bytes, |_, _| {}).await.map_err(storage)?;
        self.0.image_stayed(&parent).await.map_err(failed)
    }

    async fn replace(
        &self,
        volume: &Volume,
        tier: &Tier,
        params: &Params,
        job: &Job,
    ) -> Result<(), StepError> {
        if job.recall("over").unwrap_or(false) {
            self.overwrite(volume, tier, params).await?;
            return self.finish(job, params, false, None).await.map_err(failed);
        }
        let (name, new) = (volume.image_name(), fresh(volume));
        let mut trashed = false;
        if tier.pool.rbd().exists(&new).await.map_err(storage)? {
            trashed = disk::remove(tier, &name).await.map_err(storage)? == Removed::Trashed;
        }
        disk::ensure_renamed(tier, &new, &name).await.map_err(storage)?;
        let limits = self.0.limits_of_type(&volume.type_id).await.map_err(failed)?;
        disk::limit(tier, &name, &limits).await.map_err(storage)?;
        self.finish(job, params, trashed, None).await.map_err(failed)
    }

    /// Nothing (zeroes that librbd encrypts, where the volume is), then the image's bytes.
    async fn overwrite(&self, volume: &Volume, tier: &Tier, params: &Params) -> Result<(), StepError> {
        let encryption = self.0.encryption_of(volume).await.map_err(failed)?;
        let parent = self.0.image_parent(&params.image_id, tier).await.map_err(failed)?;
        if encryption.is_some() {
            disk::ensure_flat(tier, &volume.image_name()).await.map_err(storage)?;
        }
        let from = &parent;
        let image = tier.pool.rbd().open(&volume.image_name()).await.map_err(storage)?;
        disk::with(image, |image| async move {
            if let Some((format, secret)) = encryption {
                image.encryption_load(format, secret.0.as_bytes()).await?;
            }
            const WINDOW: u64 = 1 << 30;
            let size = image.size().await?;
            let mut at = 0;
            while at < size {
                image.write_zeroes(at, WINDOW.min(size - at)).await?;
                at += WINDOW;
            }
            disk::fill(&image, from, false).await
        })
        .await
        .map_err(storage)?;
        self.0.image_stayed(&parent).await.map_err(failed)
    }

    async fn finish(
        &self,
        job: &Job,
        params: &Params,
        trashed: bool,
        failure: Option<&str>,
    ) -> Result<(), VolumeError> {
        let id = &params.volume_id;
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        let rest = self.0.state_at_rest(&mut tx, id).await?;
        if let Some(mut volume) = store::volumes::get(tx.conn(), id).await?
            && volume.status == VolumeStatus::Downloading
        {
            let step = if failure.is_some() { Step::Failed } else { Step::Settled(rest) };
            if let Some(next) = volume.status.after(step) {
                store::volumes::set_status(&mut tx, id, next, None).await?;
            }
            if failure.is_none() {
                (volume.bootable, volume.image_metadata) = (true, params.image_metadata.clone());
                store::volumes::save(&mut tx, &volume).await?;
            }
            if trashed {
                sweep::spawn(&mut tx, &volume.tier, &volume.image_name(), None).await?;
            }
        }
        if let Some(reason) = failure {
            self.0.tell(&mut tx, &job.id, &params.asker, Action::Reimage, ("VOLUME", id), reason).await?;
        }
        tx.wake(Volumes::topic(id));
        super::end(job, &mut tx, failure).await?;
        Ok(tx.commit().await?)
    }
}
