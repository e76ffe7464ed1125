//! `group_snapshot.delete`: the snapshots of the images, then the rows. Clones do not mind, as with a single one.

use super::{LOOK_AGAIN, failed, group::subject, storage};
use crate::disk;
use crate::group_snapshots::GroupSnapshot;
use crate::messages::{Action, Asker};
use crate::status::{SnapshotStatus, Step};
use crate::{VolumeError, Volumes, store};
use api::Context;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "group_snapshot.delete";

#[derive(Serialize, Deserialize)]
struct Params {
    id: String,
    asker: Asker,
}

pub(crate) async fn spawn(tx: &mut Tx, ctx: &Context, whole: &GroupSnapshot) -> Result<(), VolumeError> {
    let params = Params { id: whole.id.clone(), asker: Asker::of(ctx, &whole.project_id) };
    NewTask { kind: KIND, subject: &subject(&whole.group_id) }.spawn(tx, &params).await?;
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
        let parts =
            store::snapshots::of_group_snapshot(self.0.db.read(), &params.id).await.map_err(failed)?;
        for part in &parts {
            // Volumes that are being made of it were promised first.
            if store::volumes::heirs(self.0.db.read(), &part.id).await.map_err(failed)? > 0 {
                return Err(StepError::Wait(LOOK_AGAIN));
            }
        }
        for (tier, image, snap) in self.0.parts(&params.id).await? {
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
        store::groups::remove_snapshot(&mut tx, &params.id).await?;
        Ok(tx.commit().await?)
    }

    async fn give_up(&self, task: &str, params: &Params, reason: &str) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        for part in store::snapshots::of_group_snapshot(tx.conn(), &params.id).await? {
            if part.status == SnapshotStatus::Deleting {
                let what = ("VOLUME_SNAPSHOT", part.id.as_str());
                self.0.tell(&mut tx, task, &params.asker, Action::DeleteSnapshot, what, reason).await?;
            }
        }
        tx.commit().await?;
        self.0.settle_group_snapshot(&params.id, Step::Failed).await
    }
}
