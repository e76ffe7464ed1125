//! `image.uncache`: a copy that has left the cache goes, when whoever was handed it can have made use of it. It never fails
//! for good, and nothing waits for it.

use crate::Images;
use crate::cache::LOCK;
use crate::store::cache::{self, State};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StateError, StepError, Timestamp, Tx};
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "image.uncache";
/// How often it is asked whether it is time, at least.
const ROUND: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Params {
    image: String,
    entry: String,
}

pub(crate) async fn spawn(tx: &mut Tx, image: &str, entry: &str) -> Result<(), StateError> {
    let params = Params { image: image.to_owned(), entry: entry.to_owned() };
    NewTask { kind: KIND, subject: &format!("image-cache/{entry}") }.spawn(tx, &params).await?;
    Ok(())
}

pub(crate) struct Uncache(pub(crate) Arc<Images>);

#[async_trait]
impl Operation for Uncache {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["drop"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let p: Params = job.params()?;
        let mut tx = self.0.db.begin().await?;
        tx.lock(LOCK).await?;
        let found = cache::get(tx.conn(), &p.image).await?;
        // Asked for again, or gone with its image.
        let Some(e) = found.filter(|e| e.entry == p.entry && e.state == State::Dropped) else {
            return Ok(());
        };
        let due = e.since.plus(Duration::from_secs(self.0.config.cache_grace_s));
        let early = due.0.saturating_sub(Timestamp::now().0);
        if early > 0 {
            let early = Duration::from_micros(early.unsigned_abs());
            return Err(StepError::Wait(early.min(ROUND)));
        }
        cache::take(&mut tx, &p.image).await?;
        super::delete::spawn_from(&mut tx, &p.image, &e.tier).await.map_err(super::delete::later)?;
        job.finish(&mut tx).await?;
        Ok(tx.commit().await?)
    }

    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(()) // it only goes forward
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        tracing::error!(subject = %job.subject, reason, "a cached copy could not be removed");
        Ok(())
    }

    fn attempts(&self) -> u32 {
        u32::MAX
    }
}
