//! Taking a failover back: what was promoted by then stays so, the rest is served where it was.

use super::{Failover, LOOK_AGAIN, Params, Way, is_forced, mirror};
use crate::VolumeError;
use crate::model::Volume;
use crate::replication::store;
use crate::status::ReplicationStatus;
use crate::store::volumes;
use crate::tasks::{failed, storage};
use state::{Job, StepError};

impl Failover {
    /// What was promoted in time stays so: only its row may be missing.
    pub(super) async fn keep_switched(&self, way: &Way<'_>, job: &Job) -> Result<(), StepError> {
        for volume in self.to_turn(way, job).await? {
            let name = volume.image_name();
            if mirror::is_primary(way.to, &name).await.map_err(storage)?
                && (is_forced(job) || !mirror::is_primary(way.from, &name).await.map_err(storage)?)
            {
                self.turned(way.params, &volume.id).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// What was not switched is served where it was. A cluster that was gone without has served nothing of late, and is
    /// not asked: another failover finds what it was left as.
    pub(super) async fn unfence(&self, way: &Way<'_>, job: &Job) -> Result<(), StepError> {
        if is_forced(job) {
            return Ok(());
        }
        let mut waits = false;
        for volume in self.to_turn(way, job).await? {
            match mirror::promote(way.from, &volume.image_name(), false).await {
                Ok(done) => waits |= !done,
                Err(e) if e.is_not_found() => {
                    tracing::error!(volume = %volume.id, error = %e, "a volume is not where it was");
                }
                Err(e) => return Err(storage(e)),
            }
        }
        if waits { Err(StepError::Wait(LOOK_AGAIN)) } else { Ok(()) }
    }

    /// Its volumes are what they are where they are; the group is in error.
    pub(super) async fn give_up_group(&self, group: &str, task: &str) -> Result<(), VolumeError> {
        let served = |v: &Volume| match v.home_tier {
            Some(_) => ReplicationStatus::FailedOver,
            None => ReplicationStatus::Enabled,
        };
        self.0.group_ended(group, task, ReplicationStatus::Error, served).await
    }

    pub(super) async fn give_up(&self, params: &Params, task: &str) -> Result<(), VolumeError> {
        let all = volumes::of_home(self.0.db.read(), &params.tier).await?;
        let half = all.iter().any(|v| v.is_replicated() && v.tier == params.to);
        let before: ReplicationStatus = params.before.parse()?;
        let mut tx = self.0.db.begin().await?;
        tx.lock(&store::lock_key(&params.tier)).await?;
        let backend = store::get(tx.conn(), &params.tier).await?;
        if let Some(mut backend) = backend.filter(|b| b.task.as_deref() == Some(task)) {
            backend.task = None;
            backend.status = if half { ReplicationStatus::FailoverError } else { before };
            store::put(&mut tx, &backend).await?;
        }
        Ok(tx.commit().await?)
    }
}
