//! `image.delete`: the image is gone for its users already; now its bytes go, then its row.
//!
//! Clones keep what they need of them: the RBD image moves to the trash, and this task comes back for it until the
//! last clone has gone or has been flattened. It never fails for good.

use super::subject;
use crate::data::Disk;
use crate::model::{Image, Status};
use crate::store::{images as rows, uploads};
use crate::{ImageError, Images};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Timestamp, Tx};
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "image.delete";

#[derive(Serialize, Deserialize)]
struct Params {
    image: String,
    store: String,
}

/// Takes the image from its users, and asks for the rest, in one transaction.
pub(crate) async fn spawn(tx: &mut Tx, image: &Image) -> Result<(), ImageError> {
    let gone = Image { status: Status::Deleted, updated_at: Timestamp::now(), ..image.clone() };
    rows::update(tx, &gone).await?;
    uploads::cancel(tx, &image.id).await?;
    let params = Params { image: image.id.clone(), store: image.store.clone() };
    NewTask { kind: KIND, subject: &subject(&image.id) }.spawn(tx, &params).await?;
    Ok(())
}

pub(crate) struct Delete(pub(crate) Arc<Images>);

#[async_trait]
impl Operation for Delete {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["quiet", "bytes", "row", "trash"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p: Params = job.params()?;
        match step {
            "quiet" => self.quiet(&p).await,
            "bytes" => self.bytes(&p, job).await.map_err(later),
            "row" => self.row(&p).await.map_err(later),
            _ => self.trash(&p, job).await,
        }
    }

    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(()) // a delete only goes forward
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        tracing::error!(subject = %job.subject, reason, "an image's bytes could not be removed");
        Ok(())
    }

    fn attempts(&self) -> u32 {
        u32::MAX
    }
}

/// Whatever it is, it is tried again: bytes without a row would be a ghost.
fn later(e: ImageError) -> StepError {
    StepError::retry(e.reason()).because(e)
}

impl Delete {
    /// Waits for whoever still receives the image's bytes.
    async fn quiet(&self, p: &Params) -> Result<(), StepError> {
        match uploads::get(&self.0.db, &p.image).await? {
            Some(u) if u.lease_until != Timestamp(0) && !self.0.is_stale(&u) => {
                Err(StepError::Wait(Duration::from_millis(200)))
            }
            _ => Ok(()),
        }
    }

    async fn bytes(&self, p: &Params, job: &mut Job) -> Result<(), ImageError> {
        let blobs = self.0.blobs(&p.store)?;
        blobs.remove(&p.image, Disk::Original).await?;
        if let Some(trashed) = blobs.remove(&p.image, Disk::Main).await? {
            let kept = job.remember("trash", &trashed);
            kept.map_err(|e| ImageError::Internal(Box::new(e)))?;
        }
        Ok(())
    }

    async fn row(&self, p: &Params) -> Result<(), ImageError> {
        let mut tx = self.0.db.begin().await?;
        rows::remove(&mut tx, &p.image).await?;
        Ok(tx.commit().await?)
    }

    async fn trash(&self, p: &Params, job: &mut Job) -> Result<(), StepError> {
        let Some(rbd_id) = job.recall::<String>("trash") else { return Ok(()) };
        match self.0.blobs(&p.store).map_err(later)?.purge(&rbd_id).await.map_err(later)? {
            true => Ok(()),
            false => Err(StepError::Wait(Duration::from_secs(20))),
        }
    }
}
