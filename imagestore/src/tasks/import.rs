//! `image.import`: what was staged becomes the image: inspected, and converted where it must be.

use super::subject;
use crate::data::Disk;
use crate::imports::{FAILED, IMPORTING};
use crate::model::{Digest, Form, Image, Status};
use crate::store::{images as rows, tasks as task_rows};
use crate::transfer::Plan;
use crate::{ImageError, Images, inspect};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "image.import";

#[derive(Serialize, Deserialize)]
struct Params {
    image: String,
    digest: Digest,
    /// The task that users see.
    task: String,
}

pub(crate) async fn spawn(tx: &mut Tx, image: &str, digest: &Digest, task: &str) -> Result<(), ImageError> {
    let params = Params { image: image.to_owned(), digest: digest.clone(), task: task.to_owned() };
    NewTask { kind: KIND, subject: &subject(image) }.spawn(tx, &params).await?;
    Ok(())
}

pub(crate) struct Import(pub(crate) Arc<Images>);

#[async_trait]
impl Operation for Import {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["begin", "shape", "activate"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p: Params = job.params()?;
        // Deleted meanwhile: the delete task, which waits for this one, removes what there is.
        let Some(image) = rows::get(&self.0.db, &p.image).await? else { return Ok(()) };
        match step {
            "begin" => {
                let mut tx = self.0.db.begin().await?;
                task_rows::set_status(&mut tx, &p.task, "processing", "{}", "").await?;
                Ok(tx.commit().await?)
            }
            "shape" => {
                let (form, virtual_size) = self.shape(&p, &image).await?;
                job.remember("form", &form)?;
                job.remember("virtual_size", &virtual_size)
            }
            _ => Ok(self.activate(&p, &image, job).await?),
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p: Params = job.params()?;
        let Some(image) = rows::get(&self.0.db, &p.image).await? else { return Ok(()) };
        if step == "begin" {
            // What was staged is of no use any more: upstream lets the user begin anew.
            let blobs = self.0.blobs(&image.store)?;
            for disk in [Disk::Main, Disk::Original] {
                blobs.remove(&p.image, disk).await.map_err(|e| StepError::retry(e.reason()).because(e))?;
            }
        }
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let p: Params = job.params()?;
        let mut tx = self.0.db.begin().await?;
        task_rows::set_status(&mut tx, &p.task, "failure", "{}", reason).await?;
        if let Some(mut image) = rows::get_locked(&mut tx, &p.image).await? {
            image.emptied(Status::Queued);
            image.properties.insert(IMPORTING.to_owned(), String::new());
            image.properties.insert(FAILED.to_owned(), image.store.clone());
            rows::update(&mut tx, &image).await?;
            forget_upload(&mut tx, &p.image).await?;
        }
        Ok(tx.commit().await?)
    }
}

async fn forget_upload(tx: &mut Tx, image: &str) -> Result<(), state::StateError> {
    sqlx::query("DELETE FROM image_uploads WHERE image_id = $1").bind(image).execute(tx.conn()).await?;
    Ok(())
}

impl Import {
    async fn shape(&self, p: &Params, image: &Image) -> Result<(Form, Option<u64>), ImageError> {
        let (blobs, plan) = (self.0.blobs(&image.store)?, Plan::of(image));
        if !matches!(plan, Plan::Convert(_)) && blobs.exists(&p.image, Disk::Original).await? {
            if let Some(format) = plan.format() {
                let staged = blobs.open(&p.image, Disk::Original).await?;
                let head = match p.digest.size {
                    0 => bytes::Bytes::new(),
                    n => {
                        staged.read_at(0, inspect::HEAD.min(usize::try_from(n).unwrap_or(usize::MAX))).await?
                    }
                };
                staged.close().await?;
                inspect::check_head(&head, format)?;
            }
            blobs.promote(&p.image).await?;
        }
        self.0.shape(image, &blobs, plan, p.digest.size, None).await
    }

    async fn activate(&self, p: &Params, image: &Image, job: &Job) -> Result<(), ImageError> {
        let form = job.recall::<Form>("form").unwrap_or(Form::Disk);
        let virtual_size = job.recall::<Option<u64>>("virtual_size").flatten();
        let finished = self.0.finished(image, p.digest.clone(), form, virtual_size).await?;
        let mut tx = self.0.db.begin().await?;
        let Some(mut row) = rows::get_locked(&mut tx, &p.image).await? else { return Ok(()) };
        finished.apply(&mut row);
        row.properties.insert(IMPORTING.to_owned(), String::new());
        row.properties.insert(FAILED.to_owned(), String::new());
        rows::update(&mut tx, &row).await?;
        forget_upload(&mut tx, &p.image).await?;
        let result = json!({"image_id": p.image}).to_string();
        task_rows::set_status(&mut tx, &p.task, "success", &result, "").await?;
        Ok(tx.commit().await?)
    }
}
