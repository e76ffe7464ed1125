//! `image.import`: what was staged, or is fetched now, becomes the image: inspected, converted where it must be, put
//! into every store that was asked for.
//!
//! The bytes are shaped in the store that the image is in; the others get copies. Where that one is not among those
//! asked for, the first of them takes its place, and it is emptied at the end.

use super::placing::{Placed, Placing};
use super::{TURN, began, subject, succeeded};
use crate::data::Disk;
use crate::fetch::{Described, Remote};
use crate::imports::{TASK, ended};
use crate::model::{Digest, Form, Image, Status};
use crate::store::{images as rows, tasks as task_rows};
use crate::transfer::Plan;
use crate::{ImageError, Images, inspect};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Timestamp, Tx};
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "image.import";
/// How long the process that has the token for a fetch is waited for.
const TOKEN_WAIT: Duration = Duration::from_secs(600);

#[derive(Serialize, Deserialize)]
pub(crate) struct Params {
    pub(crate) image: String,
    /// Of what was staged.
    pub(crate) digest: Option<Digest>,
    /// The task that users see.
    pub(crate) task: String,
    /// What is fetched where nothing was staged.
    #[serde(default)]
    pub(crate) uri: Option<String>,
    /// The same from an image service, by the process (of this name) that has the token for it.
    #[serde(default)]
    pub(crate) remote: Option<(Remote, String)>,
    #[serde(default)]
    pub(crate) stores: Vec<String>,
    /// Every store must get it.
    #[serde(default)]
    pub(crate) must: bool,
    /// The image was made for this import, and goes where it fails.
    #[serde(default)]
    pub(crate) made: bool,
}

pub(crate) async fn spawn(tx: &mut Tx, params: &Params) -> Result<(), ImageError> {
    NewTask { kind: KIND, subject: &subject(&params.image) }.spawn(tx, params).await?;
    Ok(())
}

pub(crate) struct Import(pub(crate) Arc<Images>);

#[async_trait]
impl Operation for Import {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["begin", "fetch", "shape", "copies", "activate", "tidy"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p: Params = job.params()?;
        let image = rows::get(&self.0.db, &p.image).await?;
        if step == "tidy" {
            return self.tidy(&p, image.as_ref(), job).await;
        }
        // Deleted meanwhile: the delete task, which waits for this one, removes what there is.
        let Some(mut image) = image.filter(|i| is_at(i, &p.task)) else { return Ok(()) };
        if step == "begin" {
            job.remember("home", &image.store)?;
            began(&self.0, &p.task).await?;
            return Ok(self.0.signature_terms(&image).await.map(drop)?);
        }
        described(job).apply(&mut image);
        let Some(_turn) = self.0.turns.take(&image) else { return Err(StepError::Wait(TURN)) };
        match step {
            "fetch" => self.fetch(&p, &image, job).await,
            "shape" => {
                let (form, virtual_size) = self.shape(&image, &digest(&p, job)?).await?;
                job.remember("form", &form)?;
                job.remember("virtual_size", &virtual_size)
            }
            "copies" => self.copies(&p, &image, job).await,
            _ => self.activate(&p, &image, job).await,
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p: Params = job.params()?;
        let image = rows::get(&self.0.db, &p.image).await?;
        let Some(image) = image.filter(|i| is_at(i, &p.task)) else { return Ok(()) };
        if step == "begin" {
            // What was staged is of no use any more: upstream lets the user begin anew.
            for store in p.stores.iter().chain([&image.store]) {
                let emptied = self.empty(&p.image, store).await;
                emptied.map_err(|e| StepError::retry(e.reason()).because(e))?;
            }
        }
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let p: Params = job.params()?;
        let mut tx = self.0.db.begin().await?;
        self.0.tokens.forget(&p.task);
        let row = rows::get_locked(&mut tx, &p.image).await?;
        if let Some(mut image) = row.filter(|i| is_at(i, &p.task)) {
            task_rows::set_status(&mut tx, &p.task, "failure", "{}", reason).await?;
            image.emptied(Status::Queued);
            let home = [image.store.clone()];
            ended(&mut image, if p.stores.is_empty() { &home } else { &p.stores });
            if p.made {
                // The task outlives its image: it says why there is none.
                task_rows::disown(&mut tx, &p.task).await?;
                super::delete::spawn(&mut tx, &image).await?;
            } else {
                rows::update(&mut tx, &image).await?;
            }
            forget_upload(&mut tx, &p.image).await?;
        }
        job.fail(&mut tx, reason).await?;
        Ok(tx.commit().await?)
    }
}

/// Whether an import is still at its image. One that has made it active is not, though it has yet to tidy up: what has
/// been made of the image since is not its any more.
fn is_at(image: &Image, task: &str) -> bool {
    image.properties.get(TASK).is_some_and(|t| t == task)
}

async fn forget_upload(tx: &mut Tx, image: &str) -> Result<(), state::StateError> {
    sqlx::query("DELETE FROM image_uploads WHERE image_id = $1").bind(image).execute(tx.conn()).await?;
    Ok(())
}

/// What was said of the bytes where they were fetched.
fn described(job: &Job) -> Described {
    job.recall("described").unwrap_or_default()
}

/// Of the bytes as they came.
fn digest(p: &Params, job: &Job) -> Result<Digest, StepError> {
    let found = p.digest.clone().or_else(|| job.recall("digest"));
    found.ok_or_else(|| StepError::fail("What was imported is not known any more."))
}

impl Import {
    async fn empty(&self, id: &str, store: &str) -> Result<(), ImageError> {
        self.0.blobs(store)?.remove_both(id).await
    }

    /// Nothing is kept of a fetch that was cut short: the next one begins anew.
    async fn fetch(&self, p: &Params, image: &Image, job: &mut Job) -> Result<(), StepError> {
        let fetched = match (&p.uri, &p.remote) {
            (Some(uri), _) => self.0.fetch(image, uri).await.map(|digest| (Described::default(), digest)),
            (None, Some((remote, node))) => match self.0.tokens.get(&p.task) {
                Some(token) => self.0.fetch_remote(image, remote, &token).await,
                // Another process has it.
                None if *node != self.0.config.node
                    && Timestamp::now() < image.updated_at.plus(TOKEN_WAIT) =>
                {
                    return Err(StepError::Wait(TURN));
                }
                None => {
                    return Err(StepError::fail(
                        "The service was restarted, and has no token any more to fetch the image with.",
                    ));
                }
            },
            (None, None) => return Ok(()),
        };
        match fetched {
            Ok((described, digest)) => {
                job.remember("described", &described)?;
                job.remember("digest", &digest)
            }
            Err(e) => match rows::get(&self.0.db, &image.id).await? {
                Some(_) => Err(e.into()),
                None => Ok(()), // deleted meanwhile
            },
        }
    }

    async fn shape(&self, image: &Image, digest: &Digest) -> Result<(Form, Option<u64>), ImageError> {
        let (blobs, plan, id) = (self.0.blobs(&image.store)?, Plan::of(image), &image.id);
        if !matches!(plan, Plan::Convert(_)) && blobs.exists(id, Disk::Original).await? {
            if let Some(format) = plan.format() {
                let staged = blobs.open(id, Disk::Original).await?;
                let head = match digest.size {
                    0 => bytes::Bytes::new(),
                    n => {
                        staged.read_at(0, inspect::HEAD.min(usize::try_from(n).unwrap_or(usize::MAX))).await?
                    }
                };
                staged.close().await?;
                inspect::check_head(&head, format)?;
            }
            blobs.promote(id).await?;
        }
        self.0.shape(image, &blobs, plan, digest.size, None).await
    }

    async fn copies(&self, p: &Params, image: &Image, job: &mut Job) -> Result<(), StepError> {
        let original = job.recall("form") == Some(Form::Converted) && self.0.config.keep_original;
        let placing = Placing { image: &p.image, task: &p.task, home: &image.store, original, must: p.must };
        let (mut copied, mut failed): (Vec<String>, Vec<String>) =
            (job.recall("copied").unwrap_or_default(), job.recall("failed").unwrap_or_default());
        for store in p.stores.iter().filter(|s| **s != image.store) {
            if copied.contains(store) || failed.contains(store) {
                continue;
            }
            let (into, key) = match placing.run(&self.0, store, job).await? {
                Placed::There => (&mut copied, "copied"),
                Placed::Failed => (&mut failed, "failed"),
                Placed::Gone => return Ok(()),
            };
            into.push(store.clone());
            job.remember(key, into)?;
        }
        Ok(())
    }

    /// Empties the store that the bytes were shaped in, where the image is not to be there.
    async fn tidy(&self, p: &Params, image: Option<&Image>, job: &Job) -> Result<(), StepError> {
        let Some(home) = job.recall::<String>("home") else { return Ok(()) };
        if image.is_some_and(|i| i.stores().contains(&home.as_str())) {
            return Ok(());
        }
        // The image is active, or deleted: nothing may unwind it any more.
        self.empty(&p.image, &home).await.map_err(|e| {
            tracing::warn!(image = %p.image, store = home, error = %e, "staged bytes are removed later");
            StepError::Wait(Duration::from_secs(20))
        })
    }

    async fn activate(&self, p: &Params, image: &Image, job: &Job) -> Result<(), StepError> {
        let form = job.recall::<Form>("form").unwrap_or(Form::Disk);
        let virtual_size = job.recall::<Option<u64>>("virtual_size").flatten();
        let mut copies: Vec<String> = job.recall("copied").unwrap_or_default();
        let home: String = job.recall("home").unwrap_or_else(|| image.store.clone());
        let asked = p.stores.is_empty() || p.stores.contains(&home);
        if !asked && copies.is_empty() {
            return Err(StepError::fail("The image could not be put into any of the stores."));
        }
        let digest = digest(p, job)?;
        let verified = self.0.verified(&p.image, &digest, form).await?;
        let finished = self.0.finished(image, digest, form, virtual_size).await?;
        let mut tx = self.0.db.begin().await?;
        let row = rows::get_locked(&mut tx, &p.image).await?;
        let Some(mut row) = row.filter(|i| is_at(i, &p.task)) else { return Ok(()) };
        described(job).apply(&mut row);
        verified.covers(&row)?;
        finished.apply(&mut row);
        row.store = if asked { home } else { copies.remove(0) };
        row.copies = copies;
        ended(&mut row, &job.recall::<Vec<String>>("failed").unwrap_or_default());
        self.0.tokens.forget(&p.task);
        forget_upload(&mut tx, &p.image).await?;
        succeeded(&mut tx, &row, &p.task).await?;
        Ok(tx.commit().await?)
    }
}
