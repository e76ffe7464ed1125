//! `image.copy`: an image that is there goes into further stores, one after another; it is active all the while.

use super::placing::{Placed, Placing};
use super::{TURN, began, subject, succeeded};
use crate::imports::{IMPORTING, ended};
use crate::model::{Form, Image};
use crate::store::{cache, images as rows, tasks as task_rows};
use crate::{ImageError, Images};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "image.copy";

#[derive(Serialize, Deserialize)]
struct Params {
    image: String,
    /// The task that users see.
    task: String,
    stores: Vec<String>,
    /// Where one of them fails, none keeps it.
    must: bool,
}

pub(crate) async fn spawn(
    tx: &mut Tx,
    image: &str,
    task: &str,
    stores: Vec<String>,
    must: bool,
) -> Result<(), ImageError> {
    let params = Params { image: image.to_owned(), task: task.to_owned(), stores, must };
    NewTask { kind: KIND, subject: &subject(image) }.spawn(tx, &params).await?;
    Ok(())
}

pub(crate) struct Copy(pub(crate) Arc<Images>);

#[async_trait]
impl Operation for Copy {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["begin", "copy", "end"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p: Params = job.params()?;
        // Deleted meanwhile: the delete task, which waits for this one, removes what there is.
        let Some(image) = rows::get(&self.0.db, &p.image).await? else { return Ok(()) };
        match step {
            "begin" => began(&self.0, &p.task).await,
            "copy" => self.copy(&p, &image, job).await,
            _ => self.end(&p, job).await,
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p: Params = job.params()?;
        if step != "copy" {
            return Ok(());
        }
        let again = |e: ImageError| StepError::retry(e.reason()).because(e);
        for store in &p.stores {
            let mut tx = self.0.db.begin().await?;
            let Some(mut row) = rows::get_locked(&mut tx, &p.image).await? else { return Ok(()) };
            row.copies.retain(|s| s != store);
            rows::update(&mut tx, &row).await?;
            cache::take_from(&mut tx, &p.image, store).await?;
            tx.commit().await?;
            self.0.blobs(store)?.remove_both(&p.image).await.map_err(again)?;
        }
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let p: Params = job.params()?;
        let mut tx = self.0.db.begin().await?;
        task_rows::set_status(&mut tx, &p.task, "failure", "{}", reason).await?;
        if let Some(mut image) = rows::get_locked(&mut tx, &p.image).await? {
            ended(&mut image, &p.stores);
            rows::update(&mut tx, &image).await?;
        }
        job.fail(&mut tx, reason).await?;
        Ok(tx.commit().await?)
    }
}

impl Copy {
    async fn copy(&self, p: &Params, image: &Image, job: &mut Job) -> Result<(), StepError> {
        let Some(_turn) = self.0.turns.take(image) else { return Err(StepError::Wait(TURN)) };
        let (home, original) = (&image.store, image.form == Form::Converted);
        let placing = Placing { image: &p.image, task: &p.task, home, original, must: p.must };
        let mut failed: Vec<String> = job.recall("failed").unwrap_or_default();
        for store in p.stores.iter().filter(|s| !image.copies.contains(s)) {
            if failed.contains(store) {
                continue;
            }
            match placing.run(&self.0, store, job).await? {
                Placed::There => self.arrived(p, store).await?,
                Placed::Failed => {
                    failed.push(store.clone());
                    job.remember("failed", &failed)?;
                }
                Placed::Gone => return Ok(()),
            }
        }
        Ok(())
    }

    /// The image is in one more store.
    async fn arrived(&self, p: &Params, store: &str) -> Result<(), StepError> {
        let mut tx = self.0.db.begin().await?;
        let Some(mut row) = rows::get_locked(&mut tx, &p.image).await? else { return Ok(()) };
        row.copies.push(store.to_owned());
        if let Some(left) = row.properties.get_mut(IMPORTING) {
            *left = left.split(',').filter(|s| *s != store).collect::<Vec<_>>().join(",");
        }
        rows::update(&mut tx, &row).await?;
        Ok(tx.commit().await?)
    }

    async fn end(&self, p: &Params, job: &Job) -> Result<(), StepError> {
        let failed: Vec<String> = job.recall("failed").unwrap_or_default();
        let mut tx = self.0.db.begin().await?;
        let Some(mut row) = rows::get_locked(&mut tx, &p.image).await? else { return Ok(()) };
        ended(&mut row, &failed);
        succeeded(&mut tx, &row, &p.task).await?;
        job.finish(&mut tx).await?;
        Ok(tx.commit().await?)
    }
}
