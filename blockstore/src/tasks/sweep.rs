//! `volume.sweep`: what nobody waits for. Removes a hidden snapshot, or empties the trash of a deleted volume's
//! image once its last clone is gone.
//!
//! It never fails: while clones need the image it waits, longer each time, and a clone's deletion looks at its
//! parent at once, so that the wait is only for what other programs do.

use super::storage;
use crate::disk;
use crate::{VolumeError, Volumes};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "volume.sweep";
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(600);

#[derive(Serialize, Deserialize)]
struct Params {
    tier: String,
    image: String,
    snap: Option<String>,
}

pub(crate) async fn spawn(
    tx: &mut Tx,
    tier: &str,
    image: &str,
    snap: Option<&str>,
) -> Result<(), VolumeError> {
    let params = Params { tier: tier.to_owned(), image: image.to_owned(), snap: snap.map(str::to_owned) };
    let subject = format!("sweep/{image}/{}", snap.unwrap_or_default());
    NewTask { kind: KIND, subject: &subject }.spawn(tx, &params).await?;
    Ok(())
}

pub(super) struct Sweep(pub(super) Arc<Volumes>);

#[async_trait]
impl Operation for Sweep {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["sweep"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let tier = self.tier(&params).await.map_err(super::failed)?;
        // A tier that was taken out of the configuration: there is nothing that could be done.
        let Ok(tier) = self.0.tiers.get(&tier) else { return Ok(()) };
        let done = match &params.snap {
            Some(snap) => disk::remove_snap(&tier, &params.image, snap).await.map(|()| true),
            None => disk::purge(&tier, &params.image).await,
        };
        match done {
            Ok(true) => Ok(()),
            Ok(false) => Err(StepError::Wait(later(job)?)),
            Err(e) if e.is_transient() => {
                tracing::info!(image = %params.image, error = %e, "sweeping is put off");
                Err(StepError::Wait(later(job)?))
            }
            Err(e) => Err(storage(e)),
        }
    }

    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        tracing::error!(subject = %job.subject, reason, "an image or a snapshot is left over in the pool");
        Ok(())
    }
}

impl Sweep {
    /// Where to look. A snapshot goes where its volume goes; what is in the trash stays.
    async fn tier(&self, params: &Params) -> Result<String, VolumeError> {
        let id = params.image.strip_prefix("volume-").filter(|_| params.snap.is_some());
        let volume = match id {
            Some(id) => crate::store::volumes::get(self.0.db.read(), id).await?,
            None => None,
        };
        Ok(volume.map_or_else(|| params.tier.clone(), |v| v.tier))
    }
}

/// The next delay: each is twice the one before.
fn later(job: &mut Job) -> Result<Duration, StepError> {
    let tries: u32 = job.recall("tries").unwrap_or(0);
    job.remember("tries", &(tries + 1))?;
    Ok(FIRST.saturating_mul(1 << tries.min(16)).min(LONGEST))
}
