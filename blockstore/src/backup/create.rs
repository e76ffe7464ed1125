//! `backup.create`: a snapshot of the volume where none was given, what it holds into the chain, and then the backup is
//! there. The snapshot stays for the next incremental backup; the one that stayed for this goes.

use super::data::{self, DataError, From, Place};
use super::driver::Driver;
use super::objects::StoreError;
use super::{Backup, collect, lock_name, store};
use crate::disk;
use crate::messages::{Action, Asker};
use crate::model::{Volume, image_name as volume_image};
use crate::status::BackupStatus;
use crate::tasks::{failed, storage, subject, sweep};
use crate::{VolumeError, Volumes};
use api::Context;
use async_trait::async_trait;
use pool::Image;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "backup.create";

#[derive(Serialize, Deserialize)]
struct Params {
    backup_id: String,
    volume_id: String,
    snapshot_id: Option<String>,
    /// The volume's tier.
    from: String,
    place: Place,
    base: String,
    bytes: u64,
    parent: Option<Parent>,
    /// The passphrase of an encrypted volume, and the id that the backup keeps it under.
    #[serde(default)]
    keys: Option<(String, String)>,
    asker: Asker,
}

#[derive(Serialize, Deserialize)]
struct Parent {
    data: String,
    base: String,
    bytes: u64,
}

pub(super) async fn spawn(
    tx: &mut Tx,
    ctx: &Context,
    backup: &Backup,
    parent: Option<&Backup>,
    volume: &Volume,
) -> Result<(), VolumeError> {
    let parent =
        parent.map(|p| Parent { data: p.place.data.clone(), base: p.base.clone(), bytes: p.bytes() });
    let params = Params {
        backup_id: backup.id.clone(),
        volume_id: volume.id.clone(),
        snapshot_id: backup.snapshot_id.clone(),
        from: volume.tier.clone(),
        place: backup.place.clone(),
        base: backup.base.clone(),
        bytes: backup.bytes(),
        parent,
        keys: volume.encryption_key_id.clone().zip(backup.key().map(str::to_owned)),
        asker: Asker::of(ctx, &backup.project_id),
    };
    NewTask { kind: KIND, subject: &subject(&volume.id) }.spawn(tx, &params).await?;
    Ok(())
}

/// A failure of moving bytes, as a task takes it.
pub(super) fn moving(e: DataError) -> StepError {
    match e {
        DataError::Storage(e) => storage(e),
        DataError::Store(e @ StoreError::Unavailable(_)) => {
            StepError::retry("The backup store does not answer.").because(e)
        }
        DataError::Store(StoreError::Refused(why)) => StepError::fail(why),
        other => StepError::fail(other.to_string()).because(other),
    }
}

pub(crate) struct Create(pub(crate) Arc<Volumes>);

#[async_trait]
impl Operation for Create {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["snapshot", "copy", "settle"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        if let Some((of, key)) = params.keys.as_ref().filter(|_| step == "snapshot") {
            self.0.keys.copy(of, key, &params.asker.project_id).await.map_err(failed)?;
        }
        match step {
            "snapshot" if params.snapshot_id.is_some() => Ok(()),
            "snapshot" => {
                let tier = self.0.tiers.get(&params.from).map_err(storage)?;
                disk::ensure_snap(&tier, &volume_image(&params.volume_id), &params.base)
                    .await
                    .map_err(storage)
            }
            "copy" => {
                let chunks = self.copy(&params).await?;
                job.remember("chunks", &chunks)
            }
            _ => {
                let chunks = job.recall("chunks").unwrap_or_default();
                self.finish(job, &params, Ok(chunks)).await.map_err(failed)
            }
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        match step {
            "snapshot" if params.snapshot_id.is_none() => {
                let tier = self.0.tiers.get(&params.from).map_err(storage)?;
                let image = volume_image(&params.volume_id);
                disk::remove_snap(&tier, &image, &params.base).await.map_err(storage)
            }
            "copy" => {
                let driver = self.0.driver(&params.place).await.map_err(failed)?;
                driver.remove(&params.place, params.bytes).await.map_err(moving)
            }
            "settle" => self.conceal(&params).await.map_err(failed),
            _ => Ok(()),
        }
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        // The record stays, with nothing to open.
        if let Some((_, key)) = &params.keys {
            self.0.keys.remove(key).await.map_err(failed)?;
        }
        self.finish(job, &params, Err(reason)).await.map_err(failed)
    }
}

impl Create {
    /// The chunks that were written.
    async fn copy(&self, params: &Params) -> Result<i64, StepError> {
        if let Some(name) = params.place.repository_name()
            && !store::begin_writing(&self.0.db, &name, &params.backup_id).await.map_err(failed)?
        {
            return Err(StepError::Wait(collect::LOOK_AGAIN));
        }
        let from = self.0.tiers.get(&params.from).map_err(storage)?;
        let driver = self.0.driver(&params.place).await.map_err(failed)?;
        let image = volume_image(&params.volume_id);
        let image = from.pool.rbd().open_snapshot(&image, &params.base).await.map_err(storage)?;
        let done = copy_from(&image, &*driver, params).await;
        let closed = image.close().await.map_err(storage);
        let cost = done?;
        closed?;
        tracing::info!(
            backup = params.backup_id,
            read = cost.read * data::CHUNK,
            written = cost.changed * data::CHUNK,
            "a volume is backed up"
        );
        Ok(i64::try_from(cost.changed).unwrap_or(i64::MAX))
    }

    /// Before its bytes go the backup is `creating` again: nobody may restore it.
    async fn conceal(&self, params: &Params) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_name(&params.backup_id)).await?;
        if let Some(now) = store::get(tx.conn(), &params.backup_id).await?
            && now.status == BackupStatus::Available
        {
            store::set_status(&mut tx, &now.id, BackupStatus::Creating, None).await?;
        }
        Ok(tx.commit().await?)
    }

    /// The backup is `available` or `error`; the volume, which a backup harms in no case, is what it was.
    async fn finish(
        &self,
        job: &Job,
        params: &Params,
        outcome: Result<i64, &str>,
    ) -> Result<(), VolumeError> {
        let id = &params.backup_id;
        let mut tx = self.0.db.begin().await?;
        if params.snapshot_id.is_none() {
            self.0.settle_backed_up(&mut tx, &params.volume_id, false).await?;
        }
        tx.lock(&lock_name(id)).await?;
        store::end_writing(&mut tx, id).await?;
        if outcome.is_err() {
            collect::spawn(&mut tx, &params.place, true).await?;
        }
        let now = store::get(tx.conn(), id).await?.filter(|b| b.status == BackupStatus::Creating);
        match (now, outcome) {
            (Some(_), Ok(chunks)) => {
                store::complete(&mut tx, id, chunks).await?;
                if let Some(parent) = &params.parent
                    && parent.base == data::snap(&parent.data)
                {
                    let image = volume_image(&params.volume_id);
                    sweep::spawn(&mut tx, &params.from, &image, Some(&parent.base)).await?;
                }
            }
            (Some(_), Err(reason)) => {
                store::set_status(&mut tx, id, BackupStatus::Error, Some(reason)).await?;
                let about = ("VOLUME_BACKUP", id.as_str());
                self.0.tell(&mut tx, &job.id, &params.asker, Action::BackUp, about, reason).await?;
            }
            (None, _) => {}
        }
        crate::tasks::end(job, &mut tx, outcome.err()).await?;
        Ok(tx.commit().await?)
    }
}

async fn copy_from(image: &Image, driver: &dyn Driver, params: &Params) -> Result<data::Cost, StepError> {
    let since = match &params.parent {
        Some(parent) => older(image, &parent.base, &params.base).await.map_err(storage)?,
        None => None,
    };
    let parent = params.parent.as_ref().map(|p| (p.data.clone(), p.bytes));
    let source = From { image: image.clone(), bytes: params.bytes, since, parent };
    driver.store(&source, &params.place).await.map_err(moving)
}

/// A snapshot's name, if it is there and older than another one.
async fn older(image: &Image, snap: &str, than: &str) -> Result<Option<String>, pool::Error> {
    let all = image.snap_list().await?;
    let id = |name: &str| all.iter().find(|s| s.name == name).map(|s| s.id);
    Ok(match (id(snap), id(than)) {
        (Some(a), Some(b)) if a < b => Some(snap.to_owned()),
        _ => None,
    })
}
