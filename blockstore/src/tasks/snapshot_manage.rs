//! `snapshot.manage`: a snapshot that an image had before gets the name of one of ours.

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

const KIND: &str = "snapshot.manage";

#[derive(Serialize, Deserialize)]
struct Params {
    snapshot_id: String,
    volume_id: String,
    source: String,
    asker: Asker,
}

pub(crate) async fn spawn(
    tx: &mut Tx,
    ctx: &Context,
    snapshot: &Snapshot,
    source: &str,
) -> Result<(), VolumeError> {
    let params = Params {
        snapshot_id: snapshot.id.clone(),
        volume_id: snapshot.volume_id.clone(),
        source: source.to_owned(),
        asker: Asker::of(ctx, &snapshot.project_id),
    };
    NewTask { kind: KIND, subject: &subject(&snapshot.volume_id) }.spawn(tx, &params).await?;
    Ok(())
}

pub(super) struct Manage(pub(super) Arc<Volumes>);

#[async_trait]
impl Operation for Manage {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["adopt"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let now = store::snapshots::get(self.0.db.read(), &params.snapshot_id).await.map_err(failed)?;
        if now.is_none_or(|s| s.status != SnapshotStatus::Creating) {
            return Ok(());
        }
        let tier = self.tier(&params).await?.ok_or_else(|| StepError::fail("The volume is gone."))?;
        let (image, snap) = (image_name(&params.volume_id), snap_name(&params.snapshot_id));
        disk::ensure_snap_renamed(&tier, &image, &params.source, &snap).await.map_err(storage)?;
        self.settle(&params, Step::Created, "100%", None).await.map_err(failed)
    }

    /// The snapshot gets its old name back.
    async fn undo(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.conceal(&params).await.map_err(failed)?;
        let Some(tier) = self.tier(&params).await? else { return Ok(()) };
        let (image, snap) = (image_name(&params.volume_id), snap_name(&params.snapshot_id));
        match disk::ensure_snap_renamed(&tier, &image, &snap, &params.source).await {
            Err(pool::Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(e) => Err(storage(e)),
        }
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.settle(&params, Step::Failed, "0%", Some((&job.id, reason))).await.map_err(failed)
    }
}

impl Manage {
    async fn tier(&self, params: &Params) -> Result<Option<Tier>, StepError> {
        let volume = store::volumes::get(self.0.db.read(), &params.volume_id).await.map_err(failed)?;
        volume.map(|v| self.0.tiers.get(&v.tier).map_err(storage)).transpose()
    }

    /// Before its name goes, the snapshot is `creating` again: nothing may be begun on it.
    async fn conceal(&self, params: &Params) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(&params.volume_id)).await?;
        let now = store::snapshots::get(tx.conn(), &params.snapshot_id).await?;
        if now.is_some_and(|s| s.status == SnapshotStatus::Available) {
            let id = &params.snapshot_id;
            store::snapshots::set_status(&mut tx, id, SnapshotStatus::Creating, "0%").await?;
        }
        Ok(tx.commit().await?)
    }

    async fn settle(
        &self,
        params: &Params,
        step: Step,
        progress: &str,
        failure: Option<(&String, &str)>,
    ) -> Result<(), VolumeError> {
        let id = &params.snapshot_id;
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(&params.volume_id)).await?;
        let now = store::snapshots::get(tx.conn(), id).await?;
        if let Some(now) = now.filter(|s| s.status == SnapshotStatus::Creating)
            && let Some(next) = now.status.after(step)
        {
            store::snapshots::set_status(&mut tx, id, next, progress).await?;
            if let Some((task, reason)) = failure {
                let what = ("VOLUME_SNAPSHOT", id.as_str());
                self.0.tell(&mut tx, task, &params.asker, Action::Manage, what, reason).await?;
            }
        }
        Ok(tx.commit().await?)
    }
}
