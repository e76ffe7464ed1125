//! `volume.migrate`: a volume goes to another tier, and takes another type where that is why.
//!
//! Prepared, the target either serves already (live migration) or is a whole copy. The row is switched under the volume's
//! lock, while nobody has it attached. A volume that serves live may be attached from there on (`reserve` then says
//! `success`): after that there is no way back, and the rest is tried for as long as it takes.

use super::{LOOK_AGAIN, failed, limit, migrate_attached, storage, subject, sweep};
use crate::encryption::Format;
use crate::messages::{Action, Asker};
use crate::migrate::phase;
use crate::model::{Volume, image_name};
use crate::moving::{self, Way};
use crate::status::{Step, VolumeStatus};
use crate::volumes::lock_key;
use crate::{VolumeError, Volumes, disk, quotas, recrypt, store};
use api::Context;
use async_trait::async_trait;
use pool::{EncryptionFormat, Removed, Tier};
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;
use std::time::Duration;

pub(super) const KIND: &str = "volume.migrate";
/// Between looks at what only an operator can mend.
const LATER: Duration = Duration::from_secs(30);

#[derive(Serialize, Deserialize)]
pub(super) struct Params {
    pub(super) volume_id: String,
    pub(super) from: String,
    pub(super) to: String,
    /// The types before and after, where they differ.
    pub(super) types: Option<(String, String)>,
    /// It is encrypted in another way from then on.
    #[serde(default)]
    reseal: Option<Reseal>,
    asker: Asker,
}

/// A passphrase for another. `None`: in the clear.
#[derive(Serialize, Deserialize)]
struct Reseal {
    before: Option<String>,
    after: Option<String>,
    format: Option<Format>,
}

impl Reseal {
    fn format(&self) -> Option<EncryptionFormat> {
        self.format.map(EncryptionFormat::from)
    }
}

impl Params {
    pub(super) fn image(&self) -> String {
        image_name(&self.volume_id)
    }

    /// What the old image's rest in the trash is called.
    fn former(&self) -> String {
        if self.reseal.is_some() { recrypt::trashed(&self.image()) } else { self.image() }
    }
}

pub(crate) async fn spawn(
    tx: &mut Tx,
    ctx: &Context,
    volume: &Volume,
    to: &str,
    new_type: Option<(&str, Option<Option<EncryptionFormat>>)>,
) -> Result<(), VolumeError> {
    let reseal = new_type.and_then(|(_, reseal)| reseal).map(|format| Reseal {
        before: volume.encryption_key_id.clone(),
        after: format.map(|_| state::new_id()),
        format: format.map(Format::from),
    });
    let params = Params {
        volume_id: volume.id.clone(),
        from: volume.tier.clone(),
        to: to.to_owned(),
        types: new_type.map(|(new, _)| (volume.type_id.clone(), new.to_owned())),
        reseal,
        asker: Asker::of(ctx, &volume.project_id),
    };
    let kind = if volume.attachments.is_empty() { KIND } else { migrate_attached::KIND };
    NewTask { kind, subject: &subject(&volume.id) }.spawn(tx, &params).await?;
    Ok(())
}

/// For a volume that has been detached while it was to move under its guest.
pub(super) async fn spawn_with(tx: &mut Tx, params: &Params) -> Result<(), VolumeError> {
    NewTask { kind: KIND, subject: &subject(&params.volume_id) }.spawn(tx, params).await?;
    Ok(())
}

pub(super) struct Migrate(pub(super) Arc<Volumes>);

#[async_trait]
impl Operation for Migrate {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["prepare", "switch", "execute", "commit", "settle"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let live = job.recall::<bool>("live").unwrap_or(false);
        match step {
            "prepare" => self.prepare(&params, job).await,
            "switch" => self.switch(&params, live).await.map_err(failed),
            "execute" if live => self.onward(&params, self.execute(&params).await).await,
            "execute" => Ok(()),
            "commit" => self.onward(&params, self.commit(&params, live, job).await).await,
            _ => {
                let trashed = job.recall("trashed").unwrap_or(false);
                self.settle(job, &params, trashed, None).await.map_err(failed)
            }
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        if step != "prepare" {
            return Ok(());
        }
        if self.served(&params).await.map_err(failed)? {
            return Err(StepError::Wait(LATER));
        }
        let (from, to) = self.tiers(&params)?;
        if let Some(reseal) = &params.reseal {
            return self.unseal_back(&params, reseal, &from, &to).await;
        }
        moving::take_back(&from, &to, &params.image()).await.map_err(storage)?;
        let back = from.pool.rbd().exists(&params.image()).await.map_err(storage)?;
        if back { self.switch_back(&params).await.map_err(failed) } else { Ok(()) }
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let trashed = job.recall("trashed").unwrap_or(false);
        self.settle(job, &params, trashed, Some(reason)).await.map_err(failed)
    }
}

impl Migrate {
    pub(super) fn tiers(&self, params: &Params) -> Result<(Tier, Tier), StepError> {
        let get = |name: &str| self.0.tiers.get(name).map_err(storage);
        Ok((get(&params.from)?, get(&params.to)?))
    }

    async fn prepare(&self, params: &Params, job: &mut Job) -> Result<(), StepError> {
        let id = &params.volume_id;
        let volume = self.phase(params, phase::MIGRATING).await.map_err(failed)?;
        let Some(volume) = volume.filter(|v| v.status != VolumeStatus::Deleting) else {
            return Err(StepError::fail("The volume is gone."));
        };
        if !volume.attachments.is_empty() {
            return Err(StepError::fail(
                "The volume is attached: its server cannot be moved to another place.",
            ));
        }
        // Volumes that are being made of this one were promised first.
        if store::volumes::heirs(self.0.db.read(), id).await.map_err(failed)? > 0 {
            return Err(StepError::Wait(LOOK_AGAIN));
        }
        let (from, to) = self.tiers(params)?;
        let image = params.image();
        if let Some(reseal) = &params.reseal {
            return self.reseal(&volume, reseal, &from, &to).await;
        }
        let served = moving::serves(&from, &to, &image).await.map_err(storage)?;
        let way = if served { Way::Live } else { moving::way(&from, &to, &image).await.map_err(storage)? };
        job.remember("live", &(way == Way::Live))?;
        tracing::info!(volume = id, from = from.name, to = to.name, ?way, served, "a volume moves");
        if way == Way::Live {
            state::failpoint::hit("volume.migrate:prepare:looked").await;
            match moving::prepare(&from, &to, &image).await {
                Err(e) if e.is_not_found() => {
                    // Since it was looked at, it may have become the clone of a snapshot that is gone: a copy, then.
                    moving::take_back(&from, &to, &image).await.map_err(storage)?;
                    if moving::way(&from, &to, &image).await.map_err(storage)? == Way::Live {
                        return Err(storage(e));
                    }
                    job.remember("live", &false)?;
                }
                done => return done.map_err(storage),
            }
        }
        moving::copy(&from, &to, &image, told(id)).await.map_err(storage)
    }

    /// A fresh image with what the volume holds, encrypted as its new type says.
    async fn reseal(
        &self,
        volume: &Volume,
        reseal: &Reseal,
        from: &Tier,
        to: &Tier,
    ) -> Result<(), StepError> {
        // It has its type still, and its passphrase.
        let before = self.0.encryption_of(volume).await.map_err(failed)?;
        let after = self.seal_after(volume, reseal).await.map_err(failed)?;
        let bytes = volume.size_gib.unsigned_abs() * disk::GIB;
        recrypt::prepare((from, &before), (to, &after), &volume.image_name(), bytes, told(&volume.id))
            .await
            .map_err(storage)
    }

    async fn seal_after(&self, volume: &Volume, reseal: &Reseal) -> Result<recrypt::Seal, VolumeError> {
        let (Some(key), Some(format)) = (&reseal.after, reseal.format()) else { return Ok(None) };
        self.0.keys.ensure(key, &volume.project_id).await?;
        Ok(Some((format, self.0.keys.get(key).await?)))
    }

    /// The old image serves again, unless it is gone already; one passphrase remains.
    async fn unseal_back(
        &self,
        params: &Params,
        reseal: &Reseal,
        from: &Tier,
        to: &Tier,
    ) -> Result<(), StepError> {
        let row = store::volumes::get(self.0.db.read(), &params.volume_id).await.map_err(failed)?;
        let switched = row.is_some_and(|v| v.encryption_key_id == reseal.after);
        let back = recrypt::take_back(from, to, &params.image(), switched).await.map_err(storage)?;
        if back {
            self.switch_back(params).await.map_err(failed)?;
        }
        let needless = if back { &reseal.after } else { &reseal.before };
        self.forget_key(needless.as_deref()).await
    }

    async fn forget_key(&self, key: Option<&str>) -> Result<(), StepError> {
        match key {
            Some(key) => self.0.keys.remove(key).await.map_err(failed),
            None => Ok(()),
        }
    }

    /// The row follows, and the type with it.
    async fn switch(&self, params: &Params, live: bool) -> Result<(), VolumeError> {
        let id = &params.volume_id;
        if params.reseal.is_some() {
            let (from, to) = (self.0.tiers.get(&params.from)?, self.0.tiers.get(&params.to)?);
            recrypt::switch(&from, &to, &params.image()).await?;
        }
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        let Some(mut volume) = store::volumes::get(tx.conn(), id).await? else {
            return Err(VolumeError::VolumeNotFound(id.clone()));
        };
        let switched = match &params.reseal {
            Some(reseal) => volume.encryption_key_id == reseal.after,
            None => volume.tier == params.to,
        };
        if switched {
            return Ok(());
        }
        if let Some((before, after)) = params.types.as_ref().filter(|(before, _)| *before == volume.type_id) {
            let kind = store::types::get(tx.conn(), after)
                .await?
                .ok_or_else(|| VolumeError::TypeNotFound(after.clone()))?;
            if let Some(reseal) = &params.reseal {
                if self.0.wanted_format(&mut tx, &kind.id).await? != reseal.format() {
                    return Err(VolumeError::InvalidVolume(
                        "The type's encryption has changed meanwhile.".into(),
                    ));
                }
                volume.encryption_key_id = reseal.after.clone();
            }
            self.0.spend(&mut tx, &volume.project_id, &kind, quotas::Spend::retype(volume.size_gib)).await?;
            debug_assert_ne!(before, after);
            self.0.carry_type(&mut tx, &mut volume, &kind).await?;
        }
        if live {
            volume.migration_status = Some(phase::COMPLETING.into());
        } else {
            // The limits do not come along with a copy.
            limit::spawn(&mut tx, id).await?;
        }
        store::volumes::save(&mut tx, &volume).await?;
        store::volumes::set_tier(&mut tx, id, &params.to).await?;
        tx.wake(Volumes::topic(id));
        Ok(tx.commit().await?)
    }

    pub(super) async fn switch_back(&self, params: &Params) -> Result<(), VolumeError> {
        let id = &params.volume_id;
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        let Some(mut volume) = store::volumes::get(tx.conn(), id).await? else { return Ok(()) };
        if let Some((before, after)) = &params.types
            && volume.type_id == *after
            && let Some(kind) = store::types::get(tx.conn(), before).await?
        {
            if let Some(reseal) = &params.reseal {
                volume.encryption_key_id = reseal.before.clone();
            }
            self.0.carry_type(&mut tx, &mut volume, &kind).await?;
            store::volumes::save(&mut tx, &volume).await?;
        }
        store::volumes::set_tier(&mut tx, id, &params.from).await?;
        Ok(tx.commit().await?)
    }

    async fn execute(&self, params: &Params) -> Result<(), StepError> {
        let (_, to) = self.tiers(params)?;
        moving::execute(&to, &params.image(), told(&params.volume_id)).await.map_err(storage)
    }

    async fn commit(&self, params: &Params, live: bool, job: &mut Job) -> Result<(), StepError> {
        let (from, to) = self.tiers(params)?;
        if live {
            return moving::commit(&from, &to, &params.image()).await.map_err(storage);
        }
        let removed = match &params.reseal {
            Some(reseal) => {
                let removed = recrypt::commit(&from, &to, &params.image()).await.map_err(storage)?;
                self.forget_key(reseal.before.as_deref()).await?;
                removed
            }
            None => {
                moving::settle(&to, &params.image()).await.map_err(storage)?;
                disk::remove(&from, &params.image()).await.map_err(storage)?
            }
        };
        if removed == Removed::Trashed {
            job.remember("trashed", &true)?;
        }
        Ok(())
    }

    /// A failure after the switch: where the volume has been attached meanwhile, there is no way back, so the way on is
    /// tried again; else nobody attaches it from here on.
    async fn onward(&self, params: &Params, done: Result<(), StepError>) -> Result<(), StepError> {
        match done {
            Err(e @ (StepError::Fail { .. } | StepError::Retry { .. })) => {
                if self.served(params).await.map_err(failed)? {
                    tracing::error!(volume = %params.volume_id, error = %e, "a volume in use cannot be moved to its end; trying again");
                    return Err(StepError::Wait(LATER));
                }
                Err(e)
            }
            other => other,
        }
    }

    /// Whether the volume has been in use at its new place. Where not, it will not be before this operation has ended.
    async fn served(&self, params: &Params) -> Result<bool, VolumeError> {
        let volume = self.phase(params, phase::MIGRATING).await?;
        Ok(volume.is_some_and(|v| v.migration_status.as_deref() == Some(phase::SUCCESS)))
    }

    /// Says how far the migration is, unless it is past that; the volume then.
    pub(super) async fn phase(&self, params: &Params, word: &str) -> Result<Option<Volume>, VolumeError> {
        let id = &params.volume_id;
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        let Some(mut volume) = store::volumes::get(tx.conn(), id).await? else { return Ok(None) };
        volume.attachments = store::attachments::of_volumes(tx.conn(), [id.clone()]).await?;
        if volume.is_migrating() && volume.migration_status.as_deref() != Some(word) {
            volume.migration_status = Some(word.to_owned());
            store::volumes::save(&mut tx, &volume).await?;
        }
        tx.commit().await?;
        Ok(Some(volume))
    }

    pub(super) async fn settle(
        &self,
        job: &Job,
        params: &Params,
        trashed: bool,
        failure: Option<&str>,
    ) -> Result<(), VolumeError> {
        let id = &params.volume_id;
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        let rest = self.0.state_at_rest(&mut tx, id).await?;
        if let Some(mut volume) = store::volumes::get(tx.conn(), id).await? {
            let word = if failure.is_some() { phase::ERROR } else { phase::SUCCESS };
            volume.migration_status = Some(word.into());
            store::volumes::save(&mut tx, &volume).await?;
            if matches!(volume.status, VolumeStatus::Retyping | VolumeStatus::Maintenance)
                && let Some(next) = volume.status.after(Step::Settled(rest))
            {
                store::volumes::set_status(&mut tx, id, next, None).await?;
            }
        }
        if trashed {
            sweep::spawn(&mut tx, &params.from, &params.former(), None).await?;
        }
        if let Some(reason) = failure {
            self.0.tell(&mut tx, &job.id, &params.asker, Action::Migrate, ("VOLUME", id), reason).await?;
        }
        tx.wake(Volumes::topic(id));
        super::end(job, &mut tx, failure).await?;
        Ok(tx.commit().await?)
    }
}

fn told(id: &str) -> impl Fn(u64, u64) + Send + Sync + 'static {
    let id = id.to_owned();
    move |done, all| tracing::debug!(volume = %id, done, all, "moving to another tier")
}
