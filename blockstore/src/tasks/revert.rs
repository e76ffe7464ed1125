//! `volume.revert`: the image becomes what it was at its latest snapshot. What was written since is gone with the first
//! byte set back, so that a revert that cannot be finished leaves the volume in `error`; it can be asked for again once
//! an administrator has reset the state.

use super::{end, failed, storage, subject};
use crate::disk;
use crate::messages::{Action, Asker};
use crate::model::{Snapshot, Volume, snap_name};
use crate::status::{SnapshotStatus, Step, VolumeStatus};
use crate::volumes::lock_key;
use crate::{VolumeError, Volumes, store};
use api::Context;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "volume.revert";

#[derive(Serialize, Deserialize)]
struct Params {
    volume_id: String,
    snapshot_id: String,
    asker: Asker,
}

pub(crate) async fn spawn(
    tx: &mut Tx,
    ctx: &Context,
    volume: &Volume,
    snapshot: &Snapshot,
) -> Result<(), VolumeError> {
    let params = Params {
        volume_id: volume.id.clone(),
        snapshot_id: snapshot.id.clone(),
        asker: Asker::of(ctx, &volume.project_id),
    };
    NewTask { kind: KIND, subject: &subject(&volume.id) }.spawn(tx, &params).await?;
    Ok(())
}

pub(super) struct Revert(pub(super) Arc<Volumes>);

#[async_trait]
impl Operation for Revert {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["rollback"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let volume = store::volumes::get(self.0.db.read(), &params.volume_id).await.map_err(failed)?;
        let Some(volume) = volume.filter(|v| v.status == VolumeStatus::Reverting) else { return Ok(()) };
        let tier = self.0.tiers.get(&volume.tier).map_err(storage)?;
        let snap = snap_name(&params.snapshot_id);
        disk::roll_back(&tier, &volume.image_name(), &snap).await.map_err(storage)?;
        self.settle(job, &params, Step::Settled(VolumeStatus::Available), None).await.map_err(failed)
    }

    /// What was set back is as it was at the snapshot: nothing to take back.
    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.settle(job, &params, Step::Failed, Some(reason)).await.map_err(failed)
    }
}

impl Revert {
    async fn settle(
        &self,
        job: &Job,
        params: &Params,
        step: Step,
        failure: Option<&str>,
    ) -> Result<(), VolumeError> {
        let id = &params.volume_id;
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        let now = store::volumes::get(tx.conn(), id).await?;
        if let Some(now) = now.filter(|v| v.status == VolumeStatus::Reverting)
            && let Some(next) = now.status.after(step)
        {
            store::volumes::set_status(&mut tx, id, next, None).await?;
            if let Some(reason) = failure {
                let what = ("VOLUME", id.as_str());
                self.0.tell(&mut tx, &job.id, &params.asker, Action::Revert, what, reason).await?;
            }
        }
        // The snapshot is whole either way.
        let snapshot = store::snapshots::get(tx.conn(), &params.snapshot_id).await?;
        if let Some(snapshot) = snapshot.filter(|s| s.status == SnapshotStatus::Restoring) {
            let next = SnapshotStatus::Available;
            store::snapshots::set_status(&mut tx, &snapshot.id, next, &snapshot.progress).await?;
        }
        tx.wake(Volumes::topic(id));
        end(job, &mut tx, failure).await?;
        Ok(tx.commit().await?)
    }
}
