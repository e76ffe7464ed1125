//! `image.clone`: a snapshot of a volume's or a server's disk becomes an image, without copying in one cluster.

use super::subject;
use crate::data::Disk;
use crate::model::{Form, RbdSource, Status};
use crate::store::images as rows;
use crate::{ImageError, Images, signature};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Timestamp, Tx};
use std::sync::Arc;

const KIND: &str = "image.clone";

#[derive(Serialize, Deserialize)]
struct Params {
    image: String,
    source: RbdSource,
}

pub(crate) async fn spawn(tx: &mut Tx, image: &str, source: &RbdSource) -> Result<(), ImageError> {
    let params = Params { image: image.to_owned(), source: source.clone() };
    NewTask { kind: KIND, subject: &subject(image) }.spawn(tx, &params).await?;
    Ok(())
}

pub(crate) struct CloneDisk(pub(crate) Arc<Images>);

#[async_trait]
impl Operation for CloneDisk {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["clone", "seal", "activate"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p: Params = job.params()?;
        // Deleted meanwhile: the delete task, which waits for this one, removes what there is.
        let Some(mut image) = rows::get(&self.0.db, &p.image).await? else { return Ok(()) };
        let blobs = self.0.blobs(&image.store)?;
        match step {
            "clone" => {
                let size = blobs
                    .clone_from(&self.0.tiers, &p.source, &p.image, self.0.config.max_clone_depth)
                    .await?;
                job.remember("size", &size)
            }
            "seal" => Ok(blobs.seal(&p.image).await?),
            _ => {
                let size: Option<u64> = job.recall("size");
                let mut tx = self.0.db.begin().await?;
                let Some(row) = rows::get_locked(&mut tx, &p.image).await? else { return Ok(()) };
                image = row;
                (image.status, image.form) = (Status::Active, Form::Disk);
                (image.size, image.virtual_size) = (size, size);
                signature::forget(&mut image);
                image.updated_at = Timestamp::now();
                rows::update(&mut tx, &image).await?;
                job.finish(&mut tx).await?;
                Ok(tx.commit().await?)
            }
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p: Params = job.params()?;
        let Some(image) = rows::get(&self.0.db, &p.image).await? else { return Ok(()) };
        if step == "clone" {
            let removed = self.0.blobs(&image.store)?.remove(&p.image, Disk::Main).await;
            removed.map_err(|e| StepError::retry(e.reason()).because(e))?;
        }
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let p: Params = job.params()?;
        let mut tx = self.0.db.begin().await?;
        let Some(mut image) = rows::get_locked(&mut tx, &p.image).await? else { return Ok(()) };
        tracing::warn!(image = %p.image, reason, "an image could not be made of a disk");
        image.emptied(Status::Killed);
        rows::update(&mut tx, &image).await?;
        job.fail(&mut tx, reason).await?;
        Ok(tx.commit().await?)
    }
}
