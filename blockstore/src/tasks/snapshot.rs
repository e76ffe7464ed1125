//! `snapshot.create`: a snapshot of the volume's image.

use super::{failed, storage, subject};
use crate::disk;
use crate::messages::{Action, Asker};
use crate::model::{Snapshot, image_name, snap_name};
use crate::status::{SnapshotStatus, Step};
use crate::volumes::lock_key;
use crate::{VolumeError, Volumes, store};
use api::Context;
use async_trait::async_trait;
use pool::Tier;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "snapshot.create";

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

pub(super) struct Create(pub(super) Arc<Volumes>);

#[async_trait]
impl Operation for Create {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["snap"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let snapshot = store::snapshots::get(self.0.db.read(), &params.snapshot_id).await.map_err(failed)?;
        if snapshot.is_none_or(|s| s.status != SnapshotStatus::Creating) {
            return Ok(());
        }
        let tier = self.tier(&params).await?.ok_or_else(|| StepError::fail("The volume is gone."))?;
        let (image, snap) = (image_name(&params.volume_id), snap_name(&params.snapshot_id));
        disk::ensure_snap(&tier, &image, &snap).await.map_err(storage)?;
        self.finish(&params, None).await.map_err(failed)
    }

    async fn undo(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.conceal(&params).await.map_err(failed)?;
        let Some(tier) = self.tier(&params).await? else { return Ok(()) };
        let (image, snap) = (image_name(&params.volume_id), snap_name(&params.snapshot_id));
        disk::remove_snap(&tier, &image, &snap).await.map_err(storage)
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.finish(&params, Some((&job.id, reason))).await.map_err(failed)
    }
}

impl Create {
    /// Where the volume is; `None` where it is gone.
    async fn tier(&self, params: &Params) -> Result<Option<Tier>, StepError> {
        let volume = store::volumes::get(self.0.db.read(), &params.volume_id).await.map_err(failed)?;
        volume.map(|v| self.0.tiers.get(&v.tier).map_err(storage)).transpose()
    }

    /// Before the snapshot goes it is `creating` again: nothing may be begun on it.
    async fn conceal(&self, params: &Params) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(&params.volume_id)).await?;
        if let Some(now) = store::snapshots::get(tx.conn(), &params.snapshot_id).await?
            && now.status == SnapshotStatus::Available
        {
            store::snapshots::set_status(&mut tx, &now.id, SnapshotStatus::Creating, "0%").await?;
        }
        Ok(tx.commit().await?)
    }

    /// The snapshot is `available`, or `error` with the reason why.
    async fn finish(&self, params: &Params, failure: Option<(&String, &str)>) -> Result<(), VolumeError> {
        let id = &params.snapshot_id;
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(&params.volume_id)).await?;
        let now = store::snapshots::get(tx.conn(), id).await?;
        if let Some(now) = now.filter(|s| s.status == SnapshotStatus::Creating) {
            let (step, progress) = match failure {
                None => (Step::Created, "100%"),
                Some(_) => (Step::Failed, now.progress.as_str()),
            };
            if let Some(next) = now.status.after(step) {
                store::snapshots::set_status(&mut tx, id, next, progress).await?;
            }
            if let Some((task, reason)) = failure {
                let what = ("VOLUME_SNAPSHOT", id.as_str());
                self.0.tell(&mut tx, task, &params.asker, Action::CreateSnapshot, what, reason).await?;
            }
        }
        Ok(tx.commit().await?)
    }
}
