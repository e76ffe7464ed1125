//! `snapshot.delete`: the snapshot of the image, then the row. Clones do not mind: the snapshot moves to the
//! image's own trash and goes with the last of them.

use super::{failed, storage, subject};
use crate::disk;
use crate::messages::{Action, Asker};
use crate::model::{Snapshot, image_name, snap_name};
use crate::status::{SnapshotStatus, Step};
use crate::volumes::lock_key;
use crate::{VolumeError, Volumes, store};
use api::Context;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "snapshot.delete";

#[derive(Serialize, Deserialize)]
struct Params {
    snapshot_id: String,
    volume_id: String,
    asker: Asker,
}

pub(crate) async fn spawn(tx: &mut Tx, ctx: &Context, snapshot: &Snapshot) -> Result<(), VolumeError> {
    let params = Params {
        snapshot_id: snapshot.id.clone(),
        volume_id: snapshot.volume_id.clone(),
        asker: Asker::of(ctx, &snapshot.project_id),
    };
    NewTask { kind: KIND, subject: &subject(&snapshot.volume_id) }.spawn(tx, &params).await?;
    Ok(())
}

pub(super) struct Delete(pub(super) Arc<Volumes>);

#[async_trait]
impl Operation for Delete {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["remove"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        // Volumes that are being made of it were promised first.
        if store::volumes::heirs(self.0.db.read(), &params.snapshot_id).await.map_err(failed)? > 0 {
            return Err(StepError::Wait(super::LOOK_AGAIN));
        }
        let volume = store::volumes::get(self.0.db.read(), &params.volume_id).await.map_err(failed)?;
        if let Some(volume) = volume.filter(|v| !v.tier.is_empty()) {
            let tier = self.0.tiers.get(&volume.tier).map_err(storage)?;
            let (image, snap) = (image_name(&params.volume_id), snap_name(&params.snapshot_id));
            disk::remove_snap(&tier, &image, &snap).await.map_err(storage)?;
        }
        self.forget(&params).await.map_err(failed)
    }

    /// What was removed is gone, and what was not can be deleted again: there is nothing to take back.
    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.give_up(&job.id, &params, reason).await.map_err(failed)
    }
}

impl Delete {
    async fn forget(&self, params: &Params) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        store::snapshots::remove(&mut tx, &params.snapshot_id).await?;
        Ok(tx.commit().await?)
    }

    async fn give_up(&self, task: &str, params: &Params, reason: &str) -> Result<(), VolumeError> {
        let id = &params.snapshot_id;
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(&params.volume_id)).await?;
        let now = store::snapshots::get(tx.conn(), id).await?;
        if let Some(now) = now.filter(|s| s.status == SnapshotStatus::Deleting)
            && let Some(next) = now.status.after(Step::Failed)
        {
            store::snapshots::set_status(&mut tx, id, next, &now.progress).await?;
            let what = ("VOLUME_SNAPSHOT", id.as_str());
            self.0.tell(&mut tx, task, &params.asker, Action::DeleteSnapshot, what, reason).await?;
        }
        Ok(tx.commit().await?)
    }
}
