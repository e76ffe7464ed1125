//! `volume.flatten`: a clone that stands on a longer row of parents than `max_clone_depth` gets bytes of its own. In the
//! background, a piece at a time: nobody waits for it, and a volume that is asked for something else meanwhile comes first.

use super::{failed, storage};
use crate::disk::{self, GIB};
use crate::model::Volume;
use crate::status::VolumeStatus;
use crate::{VolumeError, Volumes, store};
use async_trait::async_trait;
use pool::{Image, OptionalExt};
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

const KIND: &str = "volume.flatten";
/// Bytes between two looks at the volume.
const PIECE: u64 = GIB / 4;
/// When a volume is looked at again that others are busy with.
const LATER: Duration = Duration::from_secs(30);
/// At most so many of this process at once: it may take hours, and workers have other things to do.
static TURNS: Semaphore = Semaphore::const_new(2);

#[derive(Serialize, Deserialize)]
struct Params {
    volume_id: String,
}

/// A task beside those of the volume, which do not wait for it.
pub(crate) async fn spawn(tx: &mut Tx, volume_id: &str) -> Result<(), VolumeError> {
    let params = Params { volume_id: volume_id.to_owned() };
    NewTask { kind: KIND, subject: &format!("flatten/{volume_id}") }.spawn(tx, &params).await?;
    Ok(())
}

pub(super) struct Flatten(pub(super) Arc<Volumes>);

#[async_trait]
impl Operation for Flatten {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["flatten"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let id = job.params::<Params>()?.volume_id;
        let Some(volume) = self.deep(&id).await? else { return Ok(()) };
        let Ok(_turn) = TURNS.try_acquire() else { return Err(StepError::Wait(LATER)) };
        let tier = self.0.tiers.get(&volume.tier).map_err(storage)?;
        let opened = tier.pool.rbd().open(&volume.image_name()).await.optional().map_err(storage)?;
        let Some(image) = opened else { return Err(StepError::Wait(LATER)) };
        let done = disk::with(image, |image| async move { Ok(self.flatten(&id, &image).await) }).await;
        done.map_err(storage)?
    }

    /// What has been copied is the volume's, however far it came.
    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        tracing::warn!(subject = %job.subject, reason, "a clone keeps its long row of parents");
        Ok(())
    }
}

impl Flatten {
    async fn row(&self, id: &str) -> Result<Option<Volume>, StepError> {
        store::volumes::get(self.0.db.read(), id).await.map_err(failed)
    }

    /// The volume, where it is there and stands on too many parents.
    async fn deep(&self, id: &str) -> Result<Option<Volume>, StepError> {
        let Some(volume) = self.row(id).await? else { return Ok(None) };
        let Ok(tier) = self.0.tiers.get(&volume.tier) else { return Ok(None) };
        let opened = tier.pool.rbd().open_read_only(&volume.image_name()).await.optional();
        let Some(image) = opened.map_err(storage)? else { return Ok(None) };
        let depth = disk::with(image, |image| async move { image.depth().await }).await.map_err(storage)?;
        Ok((depth > self.0.config.max_clone_depth).then_some(volume))
    }

    async fn flatten(&self, id: &str, image: &Image) -> Result<(), StepError> {
        let size = image.size().await.map_err(storage)?;
        let mut at = 0;
        while at < size {
            match self.row(id).await?.map(|v| v.status) {
                None | Some(VolumeStatus::Deleting) => return Ok(()),
                Some(VolumeStatus::Available | VolumeStatus::InUse) => {}
                Some(_) => return Err(StepError::Wait(LATER)),
            }
            image.take_over(at, PIECE.min(size - at)).await.map_err(storage)?;
            at += PIECE;
        }
        // Little is left to copy, if anything: then the parent is let go.
        image.flatten(Box::new(|_, _| {})).await.map_err(storage)
    }
}
