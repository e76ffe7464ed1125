//! `volume.extend`: the image grows, then the row says so. Growing cannot be taken back (a guest may have
//! written there), so a failed one leaves `error_extending`, and the size as far as it is known.

use super::{failed, storage, subject};
use crate::disk::{self, GIB};
use crate::messages::{Action, Asker};
use crate::model::Volume;
use crate::servers::Grown;
use crate::status::{Step, VolumeStatus};
use crate::volumes::lock_key;
use crate::{VolumeError, Volumes, store};
use api::Context;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "volume.extend";

#[derive(Serialize, Deserialize)]
struct Params {
    volume_id: String,
    new_size: i64,
    asker: Asker,
}

pub(crate) async fn spawn(
    tx: &mut Tx,
    ctx: &Context,
    volume: &Volume,
    new_size: i64,
) -> Result<(), VolumeError> {
    let asker = Asker::of(ctx, &volume.project_id);
    let params = Params { volume_id: volume.id.clone(), new_size, asker };
    NewTask { kind: KIND, subject: &subject(&volume.id) }.spawn(tx, &params).await?;
    Ok(())
}

pub(super) struct Extend(pub(super) Arc<Volumes>);

#[async_trait]
impl Operation for Extend {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["resize"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let volume = store::volumes::get(self.0.db.read(), &params.volume_id).await.map_err(failed)?;
        let Some(volume) = volume.filter(|v| v.status == VolumeStatus::Extending) else { return Ok(()) };
        let tier = self.0.tiers.get(&volume.tier).map_err(storage)?;
        let bytes = u64::try_from(params.new_size).unwrap_or(0).saturating_mul(GIB);
        let image = volume.image_name();
        let bytes = disk::ensure_size(&tier, &image, bytes).await.map_err(storage)?;
        let header = match self.is_luks1(&volume).await.map_err(failed)? {
            true => disk::header(&tier, &image).await.map_err(storage)?,
            false => 0,
        };
        self.settle(job, &params, bytes.saturating_sub(header)).await.map_err(failed)
    }

    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.give_up(job, &params, reason).await.map_err(failed)
    }
}

impl Extend {
    async fn is_luks1(&self, volume: &Volume) -> Result<bool, VolumeError> {
        if volume.encryption_key_id.is_none() {
            return Ok(false);
        }
        Ok(self.0.format_of(&volume.type_id).await?.is_some_and(|format| !format.luks2))
    }

    /// `bytes` is what [`Grown::bytes`] is to say.
    async fn settle(&self, job: &Job, params: &Params, bytes: u64) -> Result<(), VolumeError> {
        let id = &params.volume_id;
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        let rest = self.0.state_at_rest(&mut tx, id).await?;
        if let Some(now) = store::volumes::get(tx.conn(), id).await?
            && let Some(next) = now.status.after(Step::Settled(rest))
        {
            store::volumes::set_size(&mut tx, id, params.new_size, 0).await?;
            store::volumes::set_status(&mut tx, id, next, None).await?;
            self.show(&mut tx, &now, params, bytes).await?;
        }
        tx.wake(Volumes::topic(id));
        job.finish(&mut tx).await?;
        Ok(tx.commit().await?)
    }

    /// Has the hosts of the volume's servers show it to them.
    async fn show(
        &self,
        tx: &mut Tx,
        volume: &Volume,
        params: &Params,
        bytes: u64,
    ) -> Result<(), VolumeError> {
        let Some(servers) = self.0.servers() else { return Ok(()) };
        let (volume_id, asker) = (volume.id.clone(), params.asker.clone());
        let grown = Grown { volume: volume_id, gib: params.new_size, bytes, asker };
        for attachment in store::attachments::of_volumes(tx.conn(), [volume.id.clone()]).await? {
            if let Some(server) = &attachment.server_id {
                servers.grown(tx, server, &grown).await?;
            }
        }
        Ok(())
    }

    async fn give_up(&self, job: &Job, params: &Params, reason: &str) -> Result<(), VolumeError> {
        let id = &params.volume_id;
        let Some(volume) = store::volumes::get(self.0.db.read(), id).await? else { return Ok(()) };
        let tier = self.0.tiers.get(&volume.tier)?;
        let grown = disk::size(&tier, &volume.image_name()).await?.unwrap_or(0).div_ceil(GIB);
        let size = volume.size_gib.max(i64::try_from(grown).unwrap_or(volume.size_gib));
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        if let Some(now) = store::volumes::get(tx.conn(), id).await?
            && let Some(next) =
                now.status.after(Step::Failed).filter(|_| now.status == VolumeStatus::Extending)
        {
            store::volumes::set_size(&mut tx, id, size, 0).await?;
            store::volumes::set_status(&mut tx, id, next, None).await?;
            self.0.tell(&mut tx, &job.id, &params.asker, Action::Extend, ("VOLUME", id), reason).await?;
        }
        tx.wake(Volumes::topic(id));
        job.fail(&mut tx, reason).await?;
        Ok(tx.commit().await?)
    }
}
