//! `image.delete`: the image is gone for its users already; now its bytes go, then its row.
//!
//! Clones keep what they need of them: the RBD image moves to the trash, and a task of its own (`purge.rs`) comes back
//! for it until the last clone has gone, so that nothing else of the image waits for that. It never fails for good. The
//! same takes an image from one of several stores. The row goes last, with the task: another image may have its id then.

use super::subject;
use crate::imports::IMPORTING;
use crate::model::{Image, Status};
use crate::store::{cache, images as rows, uploads};
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
    #[serde(default)]
    copies: Vec<String>,
    /// Only the bytes go: the image is elsewhere, too.
    #[serde(default)]
    stays: bool,
}

impl Params {
    fn stores(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.store).chain(&self.copies)
    }
}

/// Takes the image from its users, and asks for the rest, in one transaction.
pub(crate) async fn spawn(tx: &mut Tx, image: &Image) -> Result<(), ImageError> {
    let gone = Image { status: Status::Deleted, updated_at: Timestamp::now(), ..image.clone() };
    rows::update(tx, &gone).await?;
    uploads::cancel(tx, &image.id).await?;
    // An import or a copy under way ends before this begins, but may leave something in the stores it works on.
    let working = image.properties.get(IMPORTING).map(String::as_str).unwrap_or_default();
    let working = working.split(',').filter(|s| !s.is_empty()).map(str::to_owned);
    let mut copies: Vec<String> = image.copies.iter().cloned().chain(working).collect();
    copies.extend(cache::take(tx, &image.id).await?);
    copies.sort_unstable();
    copies.dedup();
    copies.retain(|s| *s != image.store);
    let params = Params { image: image.id.clone(), store: image.store.clone(), copies, stays: false };
    NewTask { kind: KIND, subject: &subject(&image.id) }.spawn(tx, &params).await?;
    Ok(())
}

/// Removes the bytes that a store, or the cache, has of an image which it no longer holds.
pub(crate) async fn spawn_from(tx: &mut Tx, image: &str, store: &str) -> Result<(), ImageError> {
    let params = Params { image: image.to_owned(), store: store.to_owned(), copies: Vec::new(), stays: true };
    NewTask { kind: KIND, subject: &subject(image) }.spawn(tx, &params).await?;
    Ok(())
}

pub(crate) struct Delete(pub(crate) Arc<Images>);

#[async_trait]
impl Operation for Delete {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["quiet", "bytes", "trash", "row"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p: Params = job.params()?;
        // What was the cache's is a store's by now.
        if p.stays && self.0.is_in(&p.image, &p.store).await.map_err(later)? {
            return Ok(());
        }
        match step {
            "quiet" => {
                self.quiet(&p).await?;
                let found = self.found(&p).await.map_err(later)?;
                job.remember("trash", &found)
            }
            "bytes" => self.bytes(&p).await.map_err(later),
            "trash" => self.trash(job).await.map_err(later),
            _ if p.stays => Ok(()),
            _ => self.row(&p, job).await.map_err(later),
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
pub(super) fn later(e: ImageError) -> StepError {
    StepError::retry(e.reason()).because(e)
}

impl Delete {
    /// Waits for whoever still receives the image's bytes.
    async fn quiet(&self, p: &Params) -> Result<(), StepError> {
        if p.stays {
            return Ok(());
        }
        match uploads::get(&self.0.db, &p.image).await? {
            Some(u) if u.lease_until != Timestamp(0) && !self.0.is_stale(&u) => {
                Err(StepError::Wait(Duration::from_millis(200)))
            }
            _ => Ok(()),
        }
    }

    /// What clones may hold back: (store, RBD id). It is written down before anything is moved, for whoever goes on
    /// after a crash in between finds it by its name no more.
    async fn found(&self, p: &Params) -> Result<Vec<(String, String)>, ImageError> {
        let mut found = Vec::new();
        for store in p.stores() {
            if let Some(rbd_id) = self.0.blobs(store)?.rbd_id(&p.image).await? {
                found.push((store.clone(), rbd_id));
            }
        }
        Ok(found)
    }

    async fn bytes(&self, p: &Params) -> Result<(), ImageError> {
        for store in p.stores() {
            self.0.blobs(store)?.remove_both(&p.image).await?;
        }
        Ok(())
    }

    async fn row(&self, p: &Params, job: &Job) -> Result<(), ImageError> {
        let mut tx = self.0.db.begin().await?;
        rows::remove(&mut tx, &p.image).await?;
        job.finish(&mut tx).await?;
        Ok(tx.commit().await?)
    }

    async fn trash(&self, job: &Job) -> Result<(), ImageError> {
        let trash: Vec<(String, String)> = job.recall("trash").unwrap_or_default();
        for (store, rbd_id) in trash {
            if !self.0.blobs(&store)?.purge(&rbd_id).await? {
                let mut tx = self.0.db.begin().await?;
                super::purge::spawn(&mut tx, &store, &rbd_id).await?;
                tx.commit().await?;
            }
        }
        Ok(())
    }
}
