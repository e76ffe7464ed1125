//! `volume.delete`: the image, then the row; then the parent, where it was only waiting for this clone.

use super::{failed, storage, subject, sweep};
use crate::disk;
use crate::messages::{Action, Asker};
use crate::model::Volume;
use crate::status::{Step, VolumeStatus};
use crate::volumes::lock_key;
use crate::{VolumeError, Volumes, store};
use api::Context;
use async_trait::async_trait;
use pool::Removed;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "volume.delete";

#[derive(Serialize, Deserialize)]
struct Params {
    volume_id: String,
    /// Stands here too, so that a repeated step needs no row.
    tier: String,
    #[serde(default)]
    key: Option<String>,
    image: String,
    asker: Asker,
}

pub(crate) async fn spawn(tx: &mut Tx, ctx: &Context, volume: &Volume) -> Result<(), VolumeError> {
    let params = Params {
        volume_id: volume.id.clone(),
        tier: volume.tier.clone(),
        key: volume.encryption_key_id.clone(),
        image: volume.image_name(),
        asker: Asker::of(ctx, &volume.project_id),
    };
    NewTask { kind: KIND, subject: &subject(&volume.id) }.spawn(tx, &params).await?;
    Ok(())
}

pub(super) struct Delete(pub(super) Arc<Volumes>);

#[async_trait]
impl Operation for Delete {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["remove", "purge"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        if step == "purge" {
            return self.purge_parent(&params, job).await;
        }
        // It may have moved since it was asked for.
        let row = store::volumes::get(self.0.db.read(), &params.volume_id).await.map_err(failed)?;
        let copy = match &row {
            Some(v) if v.is_replicated() => {
                self.quiet(&params).await?;
                self.0.unmirror(v).await?
            }
            _ => None,
        };
        let (tier, key) = match row {
            Some(v) => (v.tier, v.encryption_key_id),
            None => (params.tier.clone(), params.key.clone()),
        };
        let params = Params { tier, key, ..params };
        let removed = match self.0.tiers.get(&params.tier) {
            Ok(tier) => {
                self.quiet(&params).await?;
                if let Some(parent) = disk::parent(&tier, &params.image).await.map_err(storage)?
                    && disk::waits(&tier, &parent)
                {
                    job.remember("parent", &parent.name)?;
                }
                disk::remove(&tier, &params.image).await.map_err(storage)?
            }
            // It never found a tier, or the tier is configured no more.
            Err(_) => Removed::Absent,
        };
        // A clone has its parent's passphrase under an id of its own.
        if let Some(key) = &params.key {
            self.0.keys.remove(key).await.map_err(failed)?;
        }
        self.forget(&params, removed == Removed::Trashed, copy).await.map_err(failed)
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
    /// Removes the row and, in the same transaction, leaves what is in the trash to be swept, and the copy in the tier of that
    /// name to be taken away.
    async fn forget(&self, params: &Params, trashed: bool, copy: Option<String>) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        store::volumes::remove(&mut tx, &params.volume_id).await?;
        if trashed {
            sweep::spawn(&mut tx, &params.tier, &params.image, None).await?;
        }
        if let Some(tier) = copy {
            self.0.forget_copy(&mut tx, &tier, &params.image).await?;
        }
        tx.wake(Volumes::topic(&params.volume_id));
        Ok(tx.commit().await?)
    }

    /// Waits for volumes that are being made of this one: they were promised first.
    async fn quiet(&self, params: &Params) -> Result<(), StepError> {
        let heirs = store::volumes::heirs(self.0.db.read(), &params.volume_id).await.map_err(failed)?;
        if heirs > 0 { Err(StepError::Wait(super::LOOK_AGAIN)) } else { Ok(()) }
    }

    /// The parent may have waited in the trash for this clone. Not a failure if it cannot go yet: its own sweep
    /// looks again.
    async fn purge_parent(&self, params: &Params, job: &mut Job) -> Result<(), StepError> {
        let Some(name) = job.recall::<String>("parent") else { return Ok(()) };
        if let Ok(tier) = self.0.tiers.get(&params.tier)
            && let Err(e) = disk::purge(&tier, &name).await
        {
            tracing::info!(image = %name, error = %e, "a parent stays in the trash for now");
        }
        Ok(())
    }

    async fn give_up(&self, task: &str, params: &Params, reason: &str) -> Result<(), VolumeError> {
        let id = &params.volume_id;
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        if let Some(now) = store::volumes::get(tx.conn(), id).await?
            && let Some(next) =
                now.status.after(Step::Failed).filter(|_| now.status == VolumeStatus::Deleting)
        {
            store::volumes::set_status(&mut tx, id, next, None).await?;
            for snapshot in store::snapshots::of_volume(tx.conn(), id).await? {
                if let Some(next) = snapshot.status.after(Step::Failed) {
                    store::snapshots::set_status(&mut tx, &snapshot.id, next, &snapshot.progress).await?;
                }
            }
            self.0.tell(&mut tx, task, &params.asker, Action::DeleteVolume, ("VOLUME", id), reason).await?;
        }
        tx.wake(Volumes::topic(id));
        Ok(tx.commit().await?)
    }
}
