//! `image.cache`: an image is copied into the cache's tier, unless it is there by then.
//!
//! Its row in the cache is what it works for: where that is gone, or another one stands there, it ends, and whoever took
//! the row away sees to what has been copied.

use super::{TURN, subject};
use crate::cache::{LOCK, is_there};
use crate::data::Onlooker;
use crate::model::{Form, Image};
use crate::store::cache::{self, Entry, State};
use crate::store::{images as rows, uploads};
use crate::{ImageError, Images};
use async_trait::async_trait;
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StateError, StepError, Tx};
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "image.cache";
/// How often it is asked whether the copy is still wanted, if nobody tells.
const ASK: Duration = Duration::from_secs(5);

#[derive(Serialize, Deserialize)]
struct Params {
    image: String,
    entry: String,
    tier: String,
}

pub(crate) async fn spawn(tx: &mut Tx, image: &str, entry: &str, tier: &str) -> Result<(), StateError> {
    let params = Params { image: image.to_owned(), entry: entry.to_owned(), tier: tier.to_owned() };
    NewTask { kind: KIND, subject: &subject(image) }.spawn(tx, &params).await?;
    Ok(())
}

pub(crate) struct Cache(pub(crate) Arc<Images>);

#[async_trait]
impl Operation for Cache {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["weigh", "copy", "end"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p: Params = job.params()?;
        let Some(image) = self.wanted(&p).await? else { return Ok(()) };
        match step {
            "end" => self.end(&p, job).await,
            _ if is_there(&image, &p.tier) => Ok(()),
            "weigh" => self.weigh(&p, &image, job).await,
            _ => self.copy(&p, &image).await,
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p: Params = job.params()?;
        let Some(image) = self.wanted(&p).await? else { return Ok(()) };
        if step == "copy" && !is_there(&image, &p.tier) {
            let removed = self.0.blobs(&p.tier)?.remove_both(&p.image).await;
            removed.map_err(super::delete::later)?;
        }
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let p: Params = job.params()?;
        tracing::warn!(image = %p.image, reason, "an image could not be cached");
        let mut tx = self.0.db.begin().await?;
        if mine(&mut tx, &p).await?.is_some() {
            cache::take(&mut tx, &p.image).await?;
        }
        job.fail(&mut tx, reason).await?;
        Ok(tx.commit().await?)
    }

    /// It is a convenience, and holds up what else is to be done to the image.
    fn attempts(&self) -> u32 {
        4
    }
}

/// The row that this task works for, under the cache's lock.
async fn mine(tx: &mut Tx, p: &Params) -> Result<Option<Entry>, StateError> {
    tx.lock(LOCK).await?;
    Ok(cache::get(tx.conn(), &p.image).await?.filter(|e| is_for(e, p)))
}

fn is_for(e: &Entry, p: &Params) -> bool {
    e.entry == p.entry && e.state == State::Queued
}

impl Cache {
    /// The image, while this task's row stands.
    async fn wanted(&self, p: &Params) -> Result<Option<Image>, StateError> {
        let entry = cache::get(self.0.db.read(), &p.image).await?;
        if !entry.is_some_and(|e| is_for(&e, p)) {
            return Ok(None);
        }
        rows::get(&self.0.db, &p.image).await
    }

    /// Whether the copy has room. Copies that were dropped and are still there take `cache_bytes` again at most.
    async fn weigh(&self, p: &Params, image: &Image, job: &Job) -> Result<(), StepError> {
        let most = self.0.config.cache_bytes;
        let bytes = self.0.blobs(&image.store)?.weight(&p.image, image.form == Form::Converted).await?;
        let mut tx = self.0.db.begin().await?;
        if mine(&mut tx, p).await?.is_none() {
            return Ok(());
        }
        let all = cache::all(tx.conn()).await?;
        let others: u64 = all.iter().filter(|e| !e.stored && e.image_id != p.image).map(|e| e.bytes).sum();
        if bytes > most || others.saturating_add(bytes) > most.saturating_mul(2) {
            tracing::warn!(image = %p.image, bytes, others, most, "the cache has no room for an image");
            cache::take(&mut tx, &p.image).await?;
            job.finish(&mut tx).await?;
        } else {
            cache::weighed(&mut tx, &p.image, bytes).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn copy(&self, p: &Params, image: &Image) -> Result<(), StepError> {
        let Some(_turn) = self.0.turns.take(image) else { return Err(StepError::Wait(TURN)) };
        let (home, there) = (self.0.blobs(&image.store)?, self.0.blobs(&p.tier)?);
        let mut onlooker = Onlooker { progress: &|_| (), over: self.unwanted(p).boxed() };
        match there.copy_of(&home, &p.image, image.form == Form::Converted, &mut onlooker).await {
            Err(ImageError::NotFound(_)) => Ok(()),
            copied => Ok(copied?),
        }
    }

    /// Ends, with `NotFound`, when nobody wants the copy any more.
    async fn unwanted(&self, p: &Params) -> ImageError {
        let mut signal = self.0.db.signal(&uploads::topic(&p.image));
        loop {
            match self.wanted(p).await {
                Ok(Some(_)) => {}
                Ok(None) => return ImageError::NotFound(p.image.clone()),
                Err(e) if e.is_transient() => {}
                Err(e) => return e.into(),
            }
            signal.wait(ASK).await;
        }
    }

    async fn end(&self, p: &Params, job: &Job) -> Result<(), StepError> {
        let mut tx = self.0.db.begin().await?;
        // Locked against its deletion.
        if rows::get_locked(&mut tx, &p.image).await?.is_none() || mine(&mut tx, p).await?.is_none() {
            return Ok(());
        }
        cache::set(&mut tx, &p.image, State::Cached).await?;
        self.0.prune(&mut tx).await?;
        job.finish(&mut tx).await?;
        Ok(tx.commit().await?)
    }
}
