//! `backup.delete`: its bytes, then the row, then the snapshot that stayed on the volume for it.

use super::data::{self, Place};
use super::{Backup, collect, create::moving, lock_name, store};
use crate::messages::{Action, Asker};
use crate::model::image_name as volume_image;
use crate::status::BackupStatus;
use crate::tasks::{failed, subject, sweep};
use crate::{VolumeError, Volumes};
use api::Context;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "backup.delete";

#[derive(Serialize, Deserialize)]
struct Params {
    backup_id: String,
    place: Place,
    bytes: u64,
    #[serde(default)]
    key: Option<String>,
    asker: Asker,
}

pub(super) async fn spawn(tx: &mut Tx, ctx: &Context, backup: &Backup) -> Result<(), VolumeError> {
    let params = Params {
        backup_id: backup.id.clone(),
        place: backup.place.clone(),
        bytes: backup.bytes(),
        key: backup.key().map(str::to_owned),
        asker: Asker::of(ctx, &backup.project_id),
    };
    NewTask { kind: KIND, subject: &subject(&backup.volume_id) }.spawn(tx, &params).await?;
    Ok(())
}

pub(crate) struct Delete(pub(crate) Arc<Volumes>);

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
        if !self.is_shared(&params).await.map_err(failed)? {
            let driver = self.0.driver(&params.place).await.map_err(failed)?;
            driver.remove(&params.place, params.bytes).await.map_err(moving)?;
        }
        self.finish(&params, None).await.map_err(failed)?;
        self.0.forget_unused_key(params.key.as_deref()).await.map_err(failed)
    }

    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        // What is removed stays removed: the backup is in `error`, and can be deleted again.
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.finish(&params, Some((&job.id, reason))).await.map_err(failed)
    }
}

impl Delete {
    /// Whether an imported record has the same bytes, which stay then.
    async fn is_shared(&self, params: &Params) -> Result<bool, VolumeError> {
        let mut tx = self.0.db.begin().await?;
        let shared = match store::get(tx.conn(), &params.backup_id).await? {
            Some(backup) => store::sharers(&mut tx, &backup).await? > 0,
            // Done before.
            None => true,
        };
        tx.rollback().await?;
        Ok(shared)
    }

    async fn finish(&self, params: &Params, failure: Option<(&String, &str)>) -> Result<(), VolumeError> {
        let id = &params.backup_id;
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_name(id)).await?;
        let Some(backup) = store::get(tx.conn(), id).await? else { return Ok(tx.rollback().await?) };
        if let Some((task, reason)) = failure {
            store::set_status(&mut tx, id, BackupStatus::Error, Some(reason)).await?;
            let about = ("VOLUME_BACKUP", id.as_str());
            self.0.tell(&mut tx, task, &params.asker, Action::DeleteBackup, about, reason).await?;
            return Ok(tx.commit().await?);
        }
        store::hand_down(&mut tx, &backup).await?;
        store::remove(&mut tx, id).await?;
        collect::spawn(&mut tx, &params.place, false).await?;
        let volume = crate::store::volumes::get(tx.conn(), &backup.volume_id).await?;
        if let Some(volume) = volume.filter(|_| backup.base == data::snap(&backup.place.data)) {
            sweep::spawn(&mut tx, &volume.tier, &volume_image(&volume.id), Some(&backup.base)).await?;
        }
        Ok(tx.commit().await?)
    }
}
