//! `volume.upload`: an image of the images' service that is a clone of the volume or, in another format than raw, written
//! from it. The volume is `uploading` meanwhile, and then what it was.

use super::{failed, storage, subject, sweep};
use crate::messages::{Action, Asker};
use crate::model::{Volume, image_name};
use crate::status::Step;
use crate::volumes::lock_key;
use crate::{VolumeError, Volumes, store};
use crate::{disk, formats};
use api::Context;
use async_trait::async_trait;
use imagestore::Status;
use pool::Tier;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "volume.upload";

#[derive(Serialize, Deserialize)]
struct Params {
    volume_id: String,
    tier: String,
    image_id: String,
    #[serde(default = "raw")]
    disk_format: String,
    asker: Asker,
}

fn raw() -> String {
    "raw".into()
}

impl Params {
    fn snap(&self) -> String {
        format!("image-{}", self.image_id)
    }

    fn image(&self) -> String {
        image_name(&self.volume_id)
    }
}

pub(crate) async fn spawn(
    tx: &mut Tx,
    ctx: &Context,
    volume: &Volume,
    image_id: &str,
    disk_format: &str,
) -> Result<(), VolumeError> {
    let params = Params {
        volume_id: volume.id.clone(),
        tier: volume.tier.clone(),
        image_id: image_id.to_owned(),
        disk_format: disk_format.to_owned(),
        asker: Asker::of(ctx, &volume.project_id),
    };
    NewTask { kind: KIND, subject: &subject(&volume.id) }.spawn(tx, &params).await?;
    Ok(())
}

pub(super) struct Upload(pub(super) Arc<Volumes>);

#[async_trait]
impl Operation for Upload {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["snapshot", "fill", "settle"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params = self.params(job).await?;
        let tier = self.0.tiers.get(&params.tier).map_err(storage)?;
        match step {
            "snapshot" => disk::ensure_snap(&tier, &params.image(), &params.snap()).await.map_err(storage),
            "fill" if params.disk_format != "raw" => self.write(&params, &tier).await,
            "fill" => {
                let (image, snap) = (params.image(), params.snap());
                match self.0.fill_image(&params.image_id, &params.tier, &image, &snap).await {
                    // Deleted already by its owner: there is nothing to fill.
                    Ok(()) | Err(VolumeError::ImageNotFound(_)) => Ok(()),
                    Err(e) => Err(failed(e)),
                }
            }
            _ => match self.0.image_status(&params.image_id).await.map_err(failed)? {
                None | Some(Status::Active | Status::Deactivated) => {
                    self.finish(job, &params, None).await.map_err(failed)
                }
                Some(Status::Killed | Status::Deleted) => {
                    Err(StepError::fail("The image could not be made."))
                }
                Some(_) => Err(StepError::Wait(super::LOOK_AGAIN)),
            },
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params = self.params(job).await?;
        match step {
            "snapshot" => {
                let tier = self.0.tiers.get(&params.tier).map_err(storage)?;
                disk::remove_snap(&tier, &params.image(), &params.snap()).await.map_err(storage)
            }
            "fill" => self.0.drop_image(&params.image_id).await.map_err(failed),
            _ => Ok(()),
        }
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.0.drop_image(&params.image_id).await.map_err(failed)?;
        self.finish(job, &params, Some(reason)).await.map_err(failed)
    }
}

impl Upload {
    /// The volume may have moved since the upload was asked for.
    async fn params(&self, job: &Job) -> Result<Params, StepError> {
        let params: Params = job.params()?;
        let row = store::volumes::get(self.0.db.read(), &params.volume_id).await.map_err(failed)?;
        Ok(Params { tier: row.map_or(params.tier.clone(), |v| v.tier), ..params })
    }

    /// Writes the volume's bytes in another format. The images' service takes them as any upload, and forgets one that
    /// ended early.
    async fn write(&self, params: &Params, tier: &Tier) -> Result<(), StepError> {
        match self.0.image_status(&params.image_id).await.map_err(failed)? {
            Some(Status::Queued) => {}
            Some(Status::Saving) => return Err(StepError::Wait(super::LOOK_AGAIN)),
            _ => return Ok(()),
        }
        let (image, snap) = (params.image(), params.snap());
        let opened = tier.pool.rbd().open_snapshot(&image, &snap).await.map_err(storage)?;
        let (size, extents) = disk::extents(&opened).await.map_err(storage)?;
        let file = formats::lay_out(&params.disk_format, size, &extents).map_err(failed)?;
        match self.0.send_image(&params.image_id, file.size, file.stream(opened)).await {
            Ok(()) | Err(VolumeError::ImageNotFound(_)) => Ok(()),
            Err(e) => Err(failed(e)),
        }
    }

    /// The volume is what it was. An upload harms no volume, so a failed one leaves a message only.
    async fn finish(&self, job: &Job, params: &Params, failure: Option<&str>) -> Result<(), VolumeError> {
        let id = &params.volume_id;
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        let rest = self.0.state_at_rest(&mut tx, id).await?;
        if let Some(now) = store::volumes::get(tx.conn(), id).await?
            && let Some(next) = now.status.after(Step::Settled(rest))
        {
            store::volumes::set_status(&mut tx, id, next, None).await?;
        }
        match failure {
            None => sweep::spawn(&mut tx, &params.tier, &params.image(), Some(&params.snap())).await?,
            Some(reason) => {
                self.0.tell(&mut tx, &job.id, &params.asker, Action::Upload, ("VOLUME", id), reason).await?;
            }
        }
        tx.wake(Volumes::topic(id));
        super::end(job, &mut tx, failure).await?;
        Ok(tx.commit().await?)
    }
}
