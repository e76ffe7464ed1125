//! The work that follows a volume: mirrored or not as its type says (`volume.replicate`), its copy watched until it is
//! whole (`volume.follow`), and taken away with it (`volume.forget`).

use super::mirror;
use super::store;
use crate::model::Volume;
use crate::status::ReplicationStatus;
use crate::tasks::{failed, storage, subject};
use crate::volumes::lock_key;
use crate::{VolumeError, Volumes};
use async_trait::async_trait;
use pool::{Error, Tier};
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;
use std::time::Duration;

const REPLICATE: &str = "volume.replicate";
const FOLLOW: &str = "volume.follow";
const FORGET: &str = "volume.forget";
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);

#[derive(Serialize, Deserialize)]
struct OfVolume {
    volume_id: String,
}

#[derive(Serialize, Deserialize)]
struct OfImage {
    tier: String,
    image: String,
}

async fn replicate(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    let params = OfVolume { volume_id: id.to_owned() };
    NewTask { kind: REPLICATE, subject: &subject(id) }.spawn(tx, &params).await?;
    Ok(())
}

/// Watches until the volume's copy is whole.
pub(super) async fn follow(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    let params = OfVolume { volume_id: id.to_owned() };
    NewTask { kind: FOLLOW, subject: &format!("follow/{id}") }.spawn(tx, &params).await?;
    Ok(())
}

impl Volumes {
    /// Before a held volume is given a type: what may not be of its replication, and the work that follows.
    pub(crate) async fn replicated_as(
        &self,
        tx: &mut Tx,
        volume: &Volume,
        replicated: bool,
    ) -> Result<(), VolumeError> {
        if replicated == volume.is_replicated() {
            return Ok(());
        }
        if volume.home_tier.is_some() {
            return Err(VolumeError::InvalidVolume(
                "Replication cannot change while the volume's backend is failed over.".into(),
            ));
        }
        self.stands(tx, volume.home()).await?;
        let status = if replicated { ReplicationStatus::Enabling } else { ReplicationStatus::Disabling };
        store::set_status(tx, &volume.id, status).await?;
        replicate(tx, &volume.id).await
    }

    /// Mirrors a volume's image as its type says. `new`: the volume is being made, and its image is mirrored nowhere yet.
    pub(crate) async fn mirror_as_type(&self, volume: &Volume, new: bool) -> Result<(), StepError> {
        let Some(replica) = self.replicas.of(volume.home()) else { return Ok(()) };
        let kind = crate::store::types::get(self.db.read(), &volume.type_id).await.map_err(failed)?;
        let (here, there) = replica.sides(&volume.tier);
        let name = volume.image_name();
        let _turn = replica.turns.of(&name).await;
        if !kind.is_some_and(|k| k.replicated()) {
            if !new {
                mirror::off(here, &name).await.map_err(storage)?;
            }
            let forget = (!new).then_some(there.name.as_str());
            return self.noted(volume, ReplicationStatus::Disabled, false, forget).await.map_err(failed);
        }
        if volume.multiattach {
            return Err(StepError::fail("Replication and Multiattach are mutually exclusive."));
        }
        replica.meet().await.map_err(storage)?;
        let fresh = mirror::on(here, &name).await.map_err(storage)?;
        let status = ReplicationStatus::Enabled;
        let watch = fresh || volume.replication_status != Some(status);
        self.noted(volume, status, watch, None).await.map_err(failed)
    }

    async fn noted(
        &self,
        volume: &Volume,
        status: ReplicationStatus,
        watch: bool,
        forget: Option<&str>,
    ) -> Result<(), VolumeError> {
        let id = &volume.id;
        let mut tx = self.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        store::set_status(&mut tx, id, status).await?;
        if watch {
            follow(&mut tx, id).await?;
        }
        if let Some(tier) = forget {
            self.forget_copy(&mut tx, tier, &volume.image_name()).await?;
        }
        tx.wake(Volumes::topic(id));
        Ok(tx.commit().await?)
    }

    /// Before a volume's image is removed: it is mirrored no longer. The tier that its copy is in, if it has one.
    pub(crate) async fn unmirror(&self, volume: &Volume) -> Result<Option<String>, StepError> {
        let replica = self.replicas.of(volume.home()).filter(|_| volume.is_replicated());
        let Some(replica) = replica else { return Ok(None) };
        let (here, there) = replica.sides(&volume.tier);
        let _turn = replica.turns.of(&volume.image_name()).await;
        mirror::off(here, &volume.image_name()).await.map_err(storage)?;
        Ok(Some(there.name.clone()))
    }

    /// Has the copy of an image that is mirrored no more taken away.
    pub(crate) async fn forget_copy(&self, tx: &mut Tx, tier: &str, image: &str) -> Result<(), VolumeError> {
        let params = OfImage { tier: tier.to_owned(), image: image.to_owned() };
        NewTask { kind: FORGET, subject: &format!("forget/{tier}/{image}") }.spawn(tx, &params).await?;
        Ok(())
    }
}

/// `volume.replicate`. Level-triggered: it looks at the rows, so that the last of several retypes wins.
pub(crate) struct Replicate(pub(crate) Arc<Volumes>);

#[async_trait]
impl Operation for Replicate {
    fn kind(&self) -> &'static str {
        REPLICATE
    }

    fn steps(&self) -> &'static [&'static str] {
        &["replicate"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let id = job.params::<OfVolume>()?.volume_id;
        match crate::store::volumes::get(self.0.db.read(), &id).await.map_err(failed)? {
            Some(volume) => self.0.mirror_as_type(&volume, false).await,
            None => Ok(()),
        }
    }

    /// The type is what it is; that its volume is not what the type says is shown.
    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let id = job.params::<OfVolume>()?.volume_id;
        tracing::error!(volume = %id, reason, "a volume is not replicated as its type says");
        let shown = async {
            let mut tx = self.0.db.begin().await?;
            tx.lock(&lock_key(&id)).await?;
            store::set_status(&mut tx, &id, ReplicationStatus::Error).await?;
            tx.wake(Volumes::topic(&id));
            Ok::<_, VolumeError>(tx.commit().await?)
        };
        shown.await.map_err(failed)
    }
}

/// `volume.follow`. It never fails: a copy may be long in coming.
pub(crate) struct Follow(pub(crate) Arc<Volumes>);

#[async_trait]
impl Operation for Follow {
    fn kind(&self) -> &'static str {
        FOLLOW
    }

    fn steps(&self) -> &'static [&'static str] {
        &["follow"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let id = job.params::<OfVolume>()?.volume_id;
        let volume = crate::store::volumes::get(self.0.db.read(), &id).await.map_err(failed)?;
        let Some(volume) = volume.filter(Volume::is_replicated) else { return Ok(()) };
        let Some(replica) = self.0.replicas.of(volume.home()) else { return Ok(()) };
        let (here, there) = replica.sides(&volume.tier);
        let _turn = replica.turns.of(&volume.image_name()).await;
        match mirror::is_live(here, there, &volume.image_name(), mirror::WHOLE, &job.id).await {
            Ok(true) => {
                let mut tx = self.0.db.begin().await.map_err(|e| failed(e.into()))?;
                store::set_whole(&mut tx, &id, Some(&volume.tier)).await.map_err(failed)?;
                tx.commit().await.map_err(|e| failed(e.into()))
            }
            // Still coming, about to change places, or its cluster is away.
            Ok(_) | Err(_) => Err(StepError::Wait(later(job)?)),
        }
    }

    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        tracing::error!(subject = %job.subject, reason, "a volume's copy is watched no more");
        Ok(())
    }
}

/// `volume.forget`. rbd-mirror takes a copy away itself where it runs; this is for where it does not, and for a copy that
/// went its own way. Where its volume is mirrored again meanwhile, the new copy stays, and where it is served from there,
/// the volume itself.
pub(crate) struct Forget(pub(crate) Arc<Volumes>);

impl Forget {
    /// Whether there is nothing more to take away. What moves may be on its way to there.
    async fn forget(&self, tier: &Tier, image: &str) -> Result<bool, VolumeError> {
        let _turn = match self.0.replicas.with(&tier.name) {
            Some(replica) => Some(replica.turns.of(image).await),
            None => None,
        };
        let id = image.strip_prefix("volume-").unwrap_or_default();
        if let Some(v) = crate::store::volumes::get(self.0.db.read(), id).await? {
            if v.is_migrating() {
                return Ok(false);
            }
            let again =
                v.is_replicated() && mirror::is_copy(tier, &self.0.tiers.get(&v.tier)?, image).await?;
            if again || v.tier == tier.name {
                return Ok(true);
            }
        }
        mirror::off(tier, image).await?;
        crate::disk::remove(tier, image).await?;
        Ok(true)
    }
}

#[async_trait]
impl Operation for Forget {
    fn kind(&self) -> &'static str {
        FORGET
    }

    fn steps(&self) -> &'static [&'static str] {
        &["forget"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let params: OfImage = job.params()?;
        let Ok(tier) = self.0.tiers.get(&params.tier) else { return Ok(()) };
        match self.forget(&tier, &params.image).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(StepError::Wait(later(job)?)),
            Err(VolumeError::Storage(e))
                if e.is_transient() || matches!(e, Error::NotFound { .. } | Error::ReadOnly { .. }) =>
            {
                tracing::debug!(image = %params.image, error = %e, "a copy is still there");
                Err(StepError::Wait(later(job)?))
            }
            Err(e) => Err(failed(e)),
        }
    }

    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        tracing::error!(subject = %job.subject, reason, "a copy is left over in the other cluster");
        Ok(())
    }
}

/// The next delay: each is twice the one before.
fn later(job: &mut Job) -> Result<Duration, StepError> {
    let tries: u32 = job.recall("tries").unwrap_or(0);
    job.remember("tries", &(tries + 1))?;
    Ok(FIRST.saturating_mul(1 << tries.min(16)).min(LONGEST))
}
