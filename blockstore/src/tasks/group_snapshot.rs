//! `group_snapshot.create`: a snapshot of every volume of a group, all of one instant.

use super::{failed, group::subject, storage};
use crate::disk;
use crate::group_snapshots::GroupSnapshot;
use crate::messages::{Action, Asker};
use crate::model::{image_name, snap_name};
use crate::status::{GroupStatus, SnapshotStatus, Step};
use crate::{VolumeError, Volumes, store};
use api::Context;
use async_trait::async_trait;
use pool::Tier;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "group_snapshot.create";

#[derive(Serialize, Deserialize)]
struct Params {
    id: String,
    group_id: String,
    asker: Asker,
}

pub(crate) async fn spawn(tx: &mut Tx, ctx: &Context, whole: &GroupSnapshot) -> Result<(), VolumeError> {
    let params = Params {
        id: whole.id.clone(),
        group_id: whole.group_id.clone(),
        asker: Asker::of(ctx, &whole.project_id),
    };
    NewTask { kind: KIND, subject: &subject(&whole.group_id) }.spawn(tx, &params).await?;
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
        let whole = store::groups::get_snapshot(self.0.db.read(), &params.id).await.map_err(failed)?;
        if whole.is_none_or(|s| s.status != GroupStatus::Creating) {
            return Ok(());
        }
        let parts = self.0.parts(&params.id).await?;
        disk::ensure_snaps(&parts).await.map_err(storage)?;
        self.0.settle_group_snapshot(&params.id, Step::Created).await.map_err(failed)
    }

    async fn undo(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.conceal(&params).await.map_err(failed)?;
        for (tier, image, snap) in self.0.parts(&params.id).await? {
            disk::remove_snap(&tier, &image, &snap).await.map_err(storage)?;
        }
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.give_up(&job.id, &params, reason).await.map_err(failed)
    }
}

impl Volumes {
    /// Where the parts of a group's snapshot are: tier, image, snapshot; in the order of the images' names. Parts whose
    /// volume is gone have gone with it.
    pub(super) async fn parts(&self, id: &str) -> Result<Vec<(Tier, String, String)>, StepError> {
        let mut all = Vec::new();
        for part in store::snapshots::of_group_snapshot(self.db.read(), id).await.map_err(failed)? {
            let volume = store::volumes::get(self.db.read(), &part.volume_id).await.map_err(failed)?;
            if let Some(volume) = volume.filter(|v| !v.tier.is_empty()) {
                let tier = self.tiers.get(&volume.tier).map_err(storage)?;
                all.push((tier, image_name(&volume.id), snap_name(&part.id)));
            }
        }
        all.sort_by(|a, b| a.1.cmp(&b.1));
        Ok(all)
    }
}

impl Create {
    /// Before the snapshots go they are `creating` again: nothing may be begun on them.
    async fn conceal(&self, params: &Params) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        tx.lock(&crate::groups::lock_key(&params.group_id)).await?;
        for part in store::snapshots::of_group_snapshot(tx.conn(), &params.id).await? {
            if part.status == SnapshotStatus::Available {
                store::snapshots::set_status(&mut tx, &part.id, SnapshotStatus::Creating, "0%").await?;
            }
        }
        let whole = store::groups::get_snapshot(tx.conn(), &params.id).await?;
        if whole.is_some_and(|s| s.status == GroupStatus::Available) {
            store::groups::set_snapshot_status(&mut tx, &params.id, GroupStatus::Creating).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn give_up(&self, task: &str, params: &Params, reason: &str) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        for part in store::snapshots::of_group_snapshot(tx.conn(), &params.id).await? {
            if part.status == SnapshotStatus::Creating {
                let what = ("VOLUME_SNAPSHOT", part.id.as_str());
                self.0.tell(&mut tx, task, &params.asker, Action::CreateSnapshot, what, reason).await?;
            }
        }
        tx.commit().await?;
        self.0.settle_group_snapshot(&params.id, Step::Failed).await
    }
}
