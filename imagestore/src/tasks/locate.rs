//! `image.locate`: a snapshot in the pool becomes a queued image, as `image.clone` does, and is read once for its hashes.

use super::{TURN, began, subject, succeeded};
use crate::data::{Disk, Hasher};
use crate::imports::ended;
use crate::locations::Expected;
use crate::model::{Digest, Form, Image, RbdSource, Status};
use crate::signature::Verified;
use crate::store::{images as rows, tasks as task_rows, uploads};
use crate::{ImageError, Images};
use async_trait::async_trait;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "image.locate";

#[derive(Serialize, Deserialize)]
struct Params {
    image: String,
    source: RbdSource,
    expected: Option<Expected>,
    /// The task that users see.
    task: String,
}

pub(crate) async fn spawn(
    tx: &mut Tx,
    image: &str,
    source: RbdSource,
    expected: Option<Expected>,
    task: &str,
) -> Result<(), ImageError> {
    let params = Params { image: image.to_owned(), source, expected, task: task.to_owned() };
    NewTask { kind: KIND, subject: &subject(image) }.spawn(tx, &params).await?;
    Ok(())
}

pub(crate) struct Locate(pub(crate) Arc<Images>);

#[async_trait]
impl Operation for Locate {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["clone", "seal", "hash", "activate"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p: Params = job.params()?;
        // Deleted meanwhile: the delete task, which waits for this one, removes what there is.
        let Some(image) = rows::get(&self.0.db, &p.image).await? else { return Ok(()) };
        let Some(_turn) = self.0.turns.take(&image) else { return Err(StepError::Wait(TURN)) };
        let blobs = self.0.blobs(&image.store)?;
        match step {
            "clone" => {
                began(&self.0, &p.task).await?;
                let size = blobs
                    .clone_from(&self.0.tiers, &p.source, &p.image, self.0.config.max_clone_depth)
                    .await
                    .map_err(absent)?;
                job.remember("size", &size)
            }
            "seal" => Ok(blobs.seal(&p.image).await?),
            "hash" => {
                let size = job.recall("size").unwrap_or_default();
                let hashed = tokio::select! {
                    hashed = self.hash(&p, &image, size) => Some(hashed?),
                    gone = uploads::until_deleted(&self.0.db, &p.image) => gone.map(|()| None)?,
                };
                job.remember("digest", &hashed)
            }
            _ => self.activate(&p, job).await,
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
        task_rows::set_status(&mut tx, &p.task, "failure", "{}", reason).await?;
        if let Some(mut image) = rows::get_locked(&mut tx, &p.image).await? {
            image.emptied(Status::Queued);
            let store = [image.store.clone()];
            ended(&mut image, &store);
            rows::update(&mut tx, &image).await?;
        }
        job.fail(&mut tx, reason).await?;
        Ok(tx.commit().await?)
    }
}

/// What was named is not there: no use to try again.
fn absent(e: ImageError) -> StepError {
    match e {
        ImageError::Storage(ref s) if s.is_not_found() => {
            StepError::fail("There is nothing at the location.").because(e)
        }
        e => e.into(),
    }
}

impl Locate {
    async fn hash(&self, p: &Params, image: &Image, size: u64) -> Result<Digest, ImageError> {
        let config = &self.0.config;
        let algorithm = p.expected.as_ref().map_or(config.hashing_algorithm, |e| e.algorithm);
        let mut hasher = Hasher::new(algorithm, config.md5_checksum);
        let disk = Image { form: Form::Disk, ..image.clone() };
        let mut bytes = self.0.blobs(&image.store)?.stream(&disk, 0, size).await?;
        while let Some(chunk) = bytes.next().await {
            hasher.update(chunk?).await?;
        }
        let digest = hasher.finish().await?;
        match p.expected.as_ref().and_then(|e| e.hash.as_ref()) {
            Some(hash) if *hash != digest.hash => {
                Err(ImageError::invalid("The data at the location does not have the hash that was given."))
            }
            _ => Ok(digest),
        }
    }

    async fn activate(&self, p: &Params, job: &Job) -> Result<(), StepError> {
        let digest: Option<Digest> = job.recall::<Option<Digest>>("digest").flatten();
        let verified = match &digest {
            Some(digest) => self.0.verified(&p.image, digest, Form::Disk).await?,
            None => Verified::NOTHING,
        };
        let mut tx = self.0.db.begin().await?;
        let row = rows::get_locked(&mut tx, &p.image).await?;
        let (Some(mut image), Some(digest)) = (row, digest) else { return Ok(()) };
        verified.covers(&image)?;
        (image.status, image.form) = (Status::Active, Form::Disk);
        (image.size, image.virtual_size) = (Some(digest.size), Some(digest.size));
        image.checksum = digest.md5;
        image.os_hash_algo = Some(digest.algorithm.as_str().to_owned());
        image.os_hash_value = Some(digest.hash);
        ended(&mut image, &[]);
        succeeded(&mut tx, &image, &p.task).await?;
        job.finish(&mut tx).await?;
        Ok(tx.commit().await?)
    }
}
