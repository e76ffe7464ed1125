//! `volume.manage`: an image that was there before gets a volume's name, and whole GiB.

use super::{failed, storage, subject};
use crate::disk::{self, GIB};
use crate::messages::{Action, Asker};
use crate::model::Volume;
use crate::status::{Step, VolumeStatus};
use crate::volumes::lock_key;
use crate::{VolumeError, Volumes, store};
use api::Context;
use async_trait::async_trait;
use pool::Tier;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "volume.manage";

#[derive(Serialize, Deserialize)]
struct Params {
    volume_id: String,
    source: String,
    asker: Asker,
}

pub(crate) async fn spawn(
    tx: &mut Tx,
    ctx: &Context,
    volume: &Volume,
    source: &str,
) -> Result<(), VolumeError> {
    let asker = Asker::of(ctx, &volume.project_id);
    let params = Params { volume_id: volume.id.clone(), source: source.to_owned(), asker };
    NewTask { kind: KIND, subject: &subject(&volume.id) }.spawn(tx, &params).await?;
    Ok(())
}

pub(super) struct Manage(pub(super) Arc<Volumes>);

#[async_trait]
impl Operation for Manage {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["adopt"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let Some((volume, tier)) = self.place(&params).await? else { return Ok(()) };
        if volume.status != VolumeStatus::Managing {
            return Ok(());
        }
        disk::ensure_renamed(&tier, &params.source, &volume.image_name()).await.map_err(storage)?;
        let bytes = u64::try_from(volume.size_gib).unwrap_or(0).saturating_mul(GIB);
        disk::ensure_size(&tier, &volume.image_name(), bytes).await.map_err(storage)?;
        self.settle(&params, Step::Created, None).await.map_err(failed)
    }

    /// The image gets its old name back (what it grew by reads as zeroes).
    async fn undo(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let Some((volume, tier)) = self.place(&params).await? else { return Ok(()) };
        self.conceal(&volume.id).await.map_err(failed)?;
        match disk::ensure_renamed(&tier, &volume.image_name(), &params.source).await {
            // Neither is there: somebody has removed the image before we came to it.
            Err(pool::Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(e) => Err(storage(e)),
        }
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.settle(&params, Step::Failed, Some((&job.id, reason))).await.map_err(failed)
    }
}

impl Manage {
    async fn place(&self, params: &Params) -> Result<Option<(Volume, Tier)>, StepError> {
        let volume = store::volumes::get(self.0.db.read(), &params.volume_id).await.map_err(failed)?;
        let Some(volume) = volume else { return Ok(None) };
        let tier = self.0.tiers.get(&volume.tier).map_err(storage)?;
        Ok(Some((volume, tier)))
    }

    /// Before its image goes, the volume is `managing` again: nothing may be begun on it.
    async fn conceal(&self, id: &str) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        let now = store::volumes::get(tx.conn(), id).await?;
        if now.is_some_and(|v| v.status == VolumeStatus::Available) {
            store::volumes::set_status(&mut tx, id, VolumeStatus::Managing, None).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn settle(
        &self,
        params: &Params,
        step: Step,
        failure: Option<(&String, &str)>,
    ) -> Result<(), VolumeError> {
        let id = &params.volume_id;
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        let now = store::volumes::get(tx.conn(), id).await?;
        if let Some(now) = now.filter(|v| v.status == VolumeStatus::Managing)
            && let Some(next) = now.status.after(step)
        {
            store::volumes::set_status(&mut tx, id, next, None).await?;
            if let Some((task, reason)) = failure {
                let what = ("VOLUME", id.as_str());
                self.0.tell(&mut tx, task, &params.asker, Action::Manage, what, reason).await?;
            }
        }
        tx.wake(Volumes::topic(id));
        Ok(tx.commit().await?)
    }
}
