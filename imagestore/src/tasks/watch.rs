//! `image.watch`: looks after one upload, and takes it back when the process that received it has died.
//!
//! The receiving process cleans up after itself wherever it can. This task is there for the rest: it comes by every
//! few seconds until the upload's row is gone, and acts once its lease has run out, or at once where the process of
//! that node is a new one.

use crate::store::{images as rows, uploads};
use crate::{ImageError, Images, Status};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "image.watch";
const ROUND: Duration = Duration::from_secs(5);

#[derive(Serialize, Deserialize)]
struct Params {
    image: String,
    upload: String,
}

pub(crate) async fn spawn(tx: &mut Tx, image: &str, upload: &str) -> Result<(), ImageError> {
    let params = Params { image: image.to_owned(), upload: upload.to_owned() };
    NewTask { kind: KIND, subject: &format!("upload/{upload}") }.spawn(tx, &params).await?;
    Ok(())
}

pub(crate) struct Watch(pub(crate) Arc<Images>);

#[async_trait]
impl Operation for Watch {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["look"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let p: Params = job.params()?;
        let Some(upload) = uploads::get(&self.0.db, &p.image).await? else { return Ok(()) };
        if upload.upload_id != p.upload || upload.kind == uploads::Kind::Staged {
            return Ok(());
        }
        if !self.0.is_stale(&upload) {
            return Err(StepError::Wait(ROUND));
        }
        // A deleted image's bytes are its delete task's.
        let Some(image) = rows::get(&self.0.db, &p.image).await? else { return Ok(()) };
        tracing::warn!(image = %p.image, "an upload that nobody receives any more is taken back");
        self.0
            .abandon(&image, &p.upload, Status::Queued)
            .await
            .map_err(|e| StepError::retry(e.reason()).because(e))
    }

    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(()) // looking changes nothing
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        tracing::error!(subject = %job.subject, reason, "an upload could not be taken back");
        Ok(())
    }

    fn attempts(&self) -> u32 {
        u32::MAX
    }
}
