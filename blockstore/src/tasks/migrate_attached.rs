//! `volume.migrate_attached`: a volume that a server has goes to another tier, and its guest notices nothing.
//!
//! ```text
//!  prepare  an empty image in the new tier, which librbd does not cache: what a guest is told to be written is there
//!  copy     the guest's QEMU copies the disk, then writes to both images          the old image is the volume
//!  retype   the row takes the other type, quota and all: the last that may fail
//!  pivot    noted with the server, then asked of its host, which lets go of       either, and nobody may boot from it:
//!           the old image and says so                                             the host's word or the images' locks tell
//!  switch   the volume's row, then the server's                                   the new image is the volume
//!  commit   the old image goes
//! ```
//! A copy that ends early (the guest stops, its host dies, the new pool is full) leaves everything as it was. A volume
//! that is detached meanwhile goes on as `volume.migrate` does. Whoever dies, the rows say where to go on: the copy and
//! the pivot are asked for as states, not as commands.

use super::migrate::{Migrate, Params};
use super::{LOOK_AGAIN, failed, limit, migrate, storage, subject};
use crate::disk;
use crate::migrate::phase;
use crate::model::Volume;
use crate::servers::{Mirror, Pivot, Servers};
use crate::status::VolumeStatus;
use crate::volumes::lock_key;
use crate::{RbdLocation, VolumeError, Volumes, quotas, store};
use async_trait::async_trait;
use pool::{Error, OptionalExt, Removed, Tier};
use state::{Job, Operation, StepError};
use std::sync::Arc;
use std::time::Duration;

pub(super) const KIND: &str = "volume.migrate_attached";
/// Between looks at what takes its time, and at what has to be tried until it is done.
const SOON: Duration = Duration::from_secs(1);
/// Between tries to remove what QEMU has not closed yet; one that died seems to have it open for half a minute.
const CLOSING: Duration = Duration::from_secs(4);
/// A setting that an image keeps for whoever opens it. QEMU flushes the old image only, so the new one must not need it.
const UNCACHED: &str = "conf_rbd_cache";

pub(super) struct MigrateAttached(pub(super) Migrate);

/// The one server that has a volume.
pub(crate) fn holder(volume: &Volume) -> Option<&str> {
    match volume.attachments.as_slice() {
        [one] => one.server_id.as_deref(),
        _ => None,
    }
}

#[async_trait]
impl Operation for MigrateAttached {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["prepare", "copy", "retype", "pivot", "switch", "commit", "settle"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        if left(job) {
            return if step == "settle" { self.go_on(&params).await.map_err(failed) } else { Ok(()) };
        }
        match step {
            "prepare" => self.prepare(&params, job).await,
            "copy" => self.copy(&params, job).await,
            "retype" => self.retype(&params).await.map_err(failed),
            "pivot" => self.pivot(&params, job).await,
            // There is no way back from here.
            "switch" => self.switch(&params, job).await.map_err(again),
            "commit" => match self.commit(&params).await.map_err(|e| again(e.into()))? {
                Removed::Trashed => job.remember("trashed", &true),
                Removed::Gone | Removed::Absent => Ok(()),
            },
            _ => {
                let trashed = job.recall("trashed").unwrap_or(false);
                self.0.settle(job, &params, trashed, None).await.map_err(again)
            }
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        match step {
            "retype" => self.0.switch_back(&params).await.map_err(failed),
            "copy" => self.settled(&params, job, false).await.map_err(failed),
            "prepare" => {
                let (from, to) = self.0.tiers(&params)?;
                // Never the only one there is.
                if !from.pool.rbd().exists(&params.image()).await.map_err(storage)? {
                    return Ok(());
                }
                match disk::remove(&to, &params.image()).await {
                    Err(Error::Busy { .. }) => Err(StepError::Wait(CLOSING)),
                    removed => removed.map(drop).map_err(storage),
                }
            }
            _ => Ok(()),
        }
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        self.0.settle(job, &params, false, Some(reason)).await.map_err(failed)
    }
}

impl MigrateAttached {
    fn volumes(&self) -> &Arc<Volumes> {
        &self.0.0
    }

    fn servers(&self) -> Result<Arc<dyn Servers>, VolumeError> {
        let missing = || VolumeError::InvalidVolume("no server's host can be reached from here".into());
        self.volumes().servers().ok_or_else(missing)
    }

    /// Where it is to be.
    fn place(&self, params: &Params) -> Result<RbdLocation, VolumeError> {
        self.volumes().location_in(&params.volume_id, &params.to)
    }

    async fn prepare(&self, params: &Params, job: &mut Job) -> Result<(), StepError> {
        let id = &params.volume_id;
        let volume = self.0.phase(params, phase::MIGRATING).await.map_err(failed)?;
        let Some(volume) = volume.filter(|v| v.status != VolumeStatus::Deleting) else {
            return Err(StepError::fail("The volume is gone."));
        };
        let Some(server) = holder(&volume) else { return leave(job) };
        job.remember("server", &server)?;
        // Volumes that are being made of this one were promised first.
        if store::volumes::heirs(self.volumes().db.read(), id).await.map_err(failed)? > 0 {
            return Err(StepError::Wait(LOOK_AGAIN));
        }
        let (from, to) = self.0.tiers(params)?;
        let image = params.image();
        let made = async {
            let missing = || Error::NotFound { what: image.clone() };
            let bytes = disk::size(&from, &image).await?.ok_or_else(missing)?;
            disk::ensure_empty(&to, &image, bytes).await?;
            let made = to.pool.rbd().open(&image).await?;
            disk::with(made, |made| async move { made.metadata_set(UNCACHED, "false").await }).await
        };
        made.await.map_err(storage)
    }

    async fn copy(&self, params: &Params, job: &mut Job) -> Result<(), StepError> {
        let (id, server) = (&params.volume_id, server(job)?);
        let to = self.place(params).map_err(failed)?;
        let look = self.servers().map_err(failed)?.copy(&server, id, &to).await.map_err(failed)?;
        if let Mirror::Copying(percent) = look {
            tracing::debug!(volume = %id, percent, "moving to another tier under its guest");
            return Err(StepError::Wait(LOOK_AGAIN));
        }
        self.held(params, look, job).await
    }

    /// What a look at a copy means while the old image is the volume.
    async fn held(&self, params: &Params, look: Mirror, job: &mut Job) -> Result<(), StepError> {
        match look {
            Mirror::Ready | Mirror::Moved => Ok(()),
            Mirror::Copying(_) | Mirror::Lost => Err(StepError::Wait(LOOK_AGAIN)),
            Mirror::Off => Err(StepError::fail("The server that has the volume does not run.")),
            Mirror::Failed(why) => {
                let text = "The server's host could not copy the volume.";
                Err(StepError::fail(text).because(std::io::Error::other(why)))
            }
            Mirror::Gone => {
                let volume = self.0.phase(params, phase::MIGRATING).await.map_err(failed)?;
                if volume.is_some_and(|v| !v.attachments.is_empty()) {
                    return Err(StepError::fail("The volume is attached to what cannot be moved."));
                }
                leave(job)
            }
        }
    }

    /// The type and its quota; the place not yet.
    async fn retype(&self, params: &Params) -> Result<(), VolumeError> {
        let Some((before, after)) = &params.types else { return Ok(()) };
        let volumes = self.volumes();
        let mut tx = volumes.db.begin().await?;
        tx.lock(&lock_key(&params.volume_id)).await?;
        let Some(mut volume) = store::volumes::get(tx.conn(), &params.volume_id).await? else {
            return Err(VolumeError::VolumeNotFound(params.volume_id.clone()));
        };
        if volume.type_id != *before {
            return Ok(());
        }
        let kind = store::types::get(tx.conn(), after)
            .await?
            .ok_or_else(|| VolumeError::TypeNotFound(after.clone()))?;
        let spend = quotas::Spend::retype(volume.size_gib);
        volumes.spend(&mut tx, &volume.project_id, &kind, spend).await?;
        volumes.carry_type(&mut tx, &mut volume, &kind).await?;
        store::volumes::save(&mut tx, &volume).await?;
        Ok(tx.commit().await?)
    }

    async fn pivot(&self, params: &Params, job: &mut Job) -> Result<(), StepError> {
        let (id, server) = (&params.volume_id, server(job)?);
        let to = self.place(params).map_err(again)?;
        let servers = self.servers().map_err(again)?;
        let moved = match servers.pivot(&server, id, &to).await.map_err(again)? {
            Pivot::NotYet(Mirror::Ready) => return Err(StepError::Wait(LOOK_AGAIN)),
            Pivot::NotYet(look) => return self.held(params, look, job).await,
            Pivot::Begun(Mirror::Moved) => true,
            Pivot::Begun(Mirror::Lost) => false,
            Pivot::Begun(Mirror::Off) => self.last_written(params).await.map_err(|e| again(e.into()))?,
            Pivot::Begun(_) => return Err(StepError::Wait(LOOK_AGAIN)),
        };
        if moved {
            return Ok(());
        }
        servers.settle(&server, id, &to, false).await.map_err(again)?;
        Err(StepError::fail("The server's host could not write to the new place any more."))
    }

    /// Whether a guest that is dead wrote to the new image last. A copy that failed had let go of the new image, a pivot
    /// of the old one, and who is killed keeps his locks; with both or none they are the same, or the new one is ahead.
    async fn last_written(&self, params: &Params) -> Result<bool, Error> {
        let (from, to) = (self.volumes().tiers.get(&params.from)?, self.volumes().tiers.get(&params.to)?);
        let image = params.image();
        Ok(locked(&to, &image).await? || !locked(&from, &image).await?)
    }

    async fn switch(&self, params: &Params, job: &Job) -> Result<(), VolumeError> {
        let id = &params.volume_id;
        let mut tx = self.volumes().db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        if let Some(volume) = store::volumes::get(tx.conn(), id).await?
            && volume.tier != params.to
        {
            store::volumes::set_tier(&mut tx, id, &params.to).await?;
            // The limits do not come along with a copy.
            limit::spawn(&mut tx, id).await?;
            tx.wake(Volumes::topic(id));
            tx.commit().await?;
        }
        self.settled(params, job, true).await
    }

    /// Tells compute where the volume is. Before there was a server to ask, or where there is none, nobody needs to know.
    async fn settled(&self, params: &Params, job: &Job, moved: bool) -> Result<(), VolumeError> {
        let Some(server) = job.recall::<String>("server") else { return Ok(()) };
        let to = self.place(params)?;
        self.servers()?.settle(&server, &params.volume_id, &to, moved).await
    }

    /// The old image goes, once QEMU has closed it.
    async fn commit(&self, params: &Params) -> Result<Removed, Error> {
        let (from, to) = (self.volumes().tiers.get(&params.from)?, self.volumes().tiers.get(&params.to)?);
        let image = params.image();
        if let Some(moved) = to.pool.rbd().open(&image).await.optional()? {
            disk::with(moved, |moved| async move { moved.metadata_remove(UNCACHED).await }).await?;
        }
        disk::remove(&from, &image).await
    }

    /// Nobody has the volume any more, and nobody may have it before it has moved: it goes as others do.
    async fn go_on(&self, params: &Params) -> Result<(), VolumeError> {
        let id = &params.volume_id;
        let mut tx = self.volumes().db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        let waiting = state::tasks::unfinished(&self.volumes().db, &subject(id)).await?;
        if waiting.iter().any(|(kind, _)| kind == migrate::KIND) {
            return Ok(());
        }
        migrate::spawn_with(&mut tx, params).await?;
        Ok(tx.commit().await?)
    }
}

async fn locked(tier: &Tier, image: &str) -> Result<bool, Error> {
    // A handle for reading only does not know of locks; this one takes none before it writes.
    match tier.pool.rbd().open(image).await.optional()? {
        Some(image) => disk::with(image, |i| async move { Ok(!i.lock_owners().await?.is_empty()) }).await,
        None => Ok(false),
    }
}

/// Whether nobody had the volume any more.
fn left(job: &Job) -> bool {
    job.recall("left").unwrap_or(false)
}

fn leave(job: &mut Job) -> Result<(), StepError> {
    job.remember("left", &true)
}

fn server(job: &Job) -> Result<String, StepError> {
    job.recall("server").ok_or_else(|| StepError::fail("the task does not remember the server"))
}

/// What failed has to be done all the same.
fn again(e: VolumeError) -> StepError {
    tracing::warn!(error = %e, source = ?std::error::Error::source(&e), "a volume that moves under its guest is not there yet; trying again");
    StepError::Wait(SOON)
}
