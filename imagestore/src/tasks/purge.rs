//! `image.purge`: what has left its place but is still needed by clones goes from the trash when the last of them has gone
//! or has been flattened. It never fails for good, and nothing waits for it.

use crate::Images;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StateError, StepError, Tx};
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "image.purge";
const ROUND: Duration = Duration::from_secs(20);

#[derive(Serialize, Deserialize)]
struct Params {
    store: String,
    /// The RBD image's id, which it keeps in the trash.
    rbd_id: String,
}

pub(crate) async fn spawn(tx: &mut Tx, store: &str, rbd_id: &str) -> Result<(), StateError> {
    let params = Params { store: store.to_owned(), rbd_id: rbd_id.to_owned() };
    NewTask { kind: KIND, subject: &format!("image-trash/{store}/{rbd_id}") }.spawn(tx, &params).await?;
    Ok(())
}

pub(crate) struct Purge(pub(crate) Arc<Images>);

#[async_trait]
impl Operation for Purge {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["purge"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let p: Params = job.params()?;
        let purged = async { self.0.blobs(&p.store)?.purge(&p.rbd_id).await };
        match purged.await.map_err(super::delete::later)? {
            true => Ok(()),
            false => Err(StepError::Wait(ROUND)),
        }
    }

    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(()) // it only goes forward
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        tracing::error!(subject = %job.subject, reason, "an image could not be removed from the trash");
        Ok(())
    }

    fn attempts(&self) -> u32 {
        u32::MAX
    }
}
