//! `backup.restore`: a backup's bytes over a volume's. The volume's own snapshots stay.

use super::create::moving;
use super::data::Place;
use super::{Backup, driver, store};
use crate::messages::{Action, Asker};
use crate::model::{Volume, image_name as volume_image};
use crate::tasks::{failed, storage, subject};
use crate::{VolumeError, Volumes, disk};
use api::Context;
use async_trait::async_trait;
use pool::Tier;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "backup.restore";
const DROP_KEY: &str = "backup.drop_key";

#[derive(Serialize, Deserialize)]
struct Params {
    backup_id: String,
    volume_id: String,
    place: Place,
    bytes: u64,
    /// The volume's tier.
    to: String,
    #[serde(default)]
    keys: Option<Keys>,
    asker: Asker,
}

/// The passphrase of an encrypted backup becomes the volume's.
#[derive(Serialize, Deserialize)]
struct Keys {
    of: String,
    /// The id that the volume keeps it under from then on.
    new: String,
    /// What the volume had before.
    old: Option<String>,
}

pub(super) async fn spawn(
    tx: &mut Tx,
    ctx: &Context,
    backup: &Backup,
    volume: &Volume,
) -> Result<(), VolumeError> {
    let params = Params {
        backup_id: backup.id.clone(),
        volume_id: volume.id.clone(),
        place: backup.place.clone(),
        bytes: backup.bytes(),
        to: volume.tier.clone(),
        keys: backup.key().map(|key| Keys {
            of: key.to_owned(),
            new: state::new_id(),
            old: volume.encryption_key_id.clone(),
        }),
        asker: Asker::of(ctx, &volume.project_id),
    };
    NewTask { kind: KIND, subject: &subject(&volume.id) }.spawn(tx, &params).await?;
    Ok(())
}

pub(crate) struct Restore(pub(crate) Arc<Volumes>);

#[async_trait]
impl Operation for Restore {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["fill", "settle"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        if step == "settle" {
            return self.finish(job, &params, None).await.map_err(failed);
        }
        if let Some(Keys { of, new, .. }) = &params.keys {
            self.0.keys.copy(of, new, &params.asker.project_id).await.map_err(failed)?;
        }
        let from = self.0.driver(&params.place).await.map_err(failed)?;
        let to = self.0.tiers.get(&params.to).map_err(storage)?;
        let image = volume_image(&params.volume_id);
        driver::restore(&*from, &params.place, params.bytes, (&to, &image)).await.map_err(moving)
    }

    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        // What was overwritten is not known any more: the volume's state says so.
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.finish(job, &params, Some(reason)).await.map_err(failed)
    }
}

/// `backup.drop_key`: a passphrase goes that a restore has left without a volume.
pub(crate) struct DropKey(pub(crate) Arc<Volumes>);

#[async_trait]
impl Operation for DropKey {
    fn kind(&self) -> &'static str {
        DROP_KEY
    }

    fn steps(&self) -> &'static [&'static str] {
        &["drop"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        self.0.forget_unused_key(Some(&job.params::<String>()?)).await.map_err(failed)
    }

    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        tracing::error!(subject = %job.subject, reason, "a passphrase that nothing is opened with is still kept");
        Ok(())
    }
}

impl Restore {
    /// The backup is `available` again, whatever has become of the volume.
    async fn finish(&self, job: &Job, params: &Params, failure: Option<&str>) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        self.0.settle_backed_up(&mut tx, &params.volume_id, failure.is_some()).await?;
        if failure.is_none() {
            self.restore_facts(&mut tx, params).await?;
        }
        self.0.end_restore(&mut tx, &params.backup_id).await?;
        if let Some(reason) = failure {
            let about = ("VOLUME_BACKUP", params.backup_id.as_str());
            self.0.tell(&mut tx, &job.id, &params.asker, Action::RestoreBackup, about, reason).await?;
        }
        // One of two passphrases opens the volume now.
        if let Some(Keys { old, new, .. }) = &params.keys
            && let Some(key) = if failure.is_none() { old.as_ref() } else { Some(new) }
        {
            NewTask { kind: DROP_KEY, subject: &format!("key/{key}") }.spawn(&mut tx, key).await?;
        }
        crate::tasks::end(job, &mut tx, failure).await?;
        Ok(tx.commit().await?)
    }

    /// The volume boots, or does not, as the one that was backed up, and opens with its passphrase.
    async fn restore_facts(&self, tx: &mut Tx, params: &Params) -> Result<(), VolumeError> {
        let backup = store::get(tx.conn(), &params.backup_id).await?;
        let volume = crate::store::volumes::get(tx.conn(), &params.volume_id).await?;
        if let (Some(backup), Some(mut volume)) = (backup, volume) {
            volume.bootable = backup.volume.bootable;
            volume.image_metadata = backup.volume.image_metadata;
            volume.metadata.extend(backup.volume.metadata);
            volume.metadata.insert(super::SOURCE.into(), params.backup_id.clone());
            if let Some(keys) = &params.keys {
                volume.encryption_key_id = Some(keys.new.clone());
            }
            crate::store::volumes::save(tx, &volume).await?;
        }
        Ok(())
    }
}

impl Volumes {
    /// Makes a new volume's image of a backup.
    pub(crate) async fn fill_from_backup(
        &self,
        id: &str,
        tier: &Tier,
        name: &str,
        bytes: u64,
    ) -> Result<(), StepError> {
        let backup = store::get(self.db.read(), id).await.map_err(failed)?;
        let backup = backup.ok_or_else(|| StepError::fail("The backup is gone."))?;
        let from = self.driver(&backup.place).await.map_err(failed)?;
        disk::ensure_empty(tier, name, bytes.max(backup.bytes())).await.map_err(storage)?;
        driver::restore(&*from, &backup.place, backup.bytes(), (tier, name)).await.map_err(moving)
    }
}
