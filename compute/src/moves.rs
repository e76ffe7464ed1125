//! Volumes that move to another tier, or grow, while a server has them: what Block Storage's task asks for stands in the server's
//! row, goes to the host with the rest of what it is to make true, and is answered from what the host last saw.

use crate::model::{Disk, MirrorTo, Plug, Server};
use crate::store::servers;
use crate::tasks::{Wake, change};
use crate::wire::{MirrorState, Power};
use crate::{Compute, ComputeError, growth};
use async_trait::async_trait;
use blockstore::{Grown, Mirror, Pivot, RbdLocation, Servers, VolumeError};
use state::Tx;
use std::sync::Arc;
use std::time::Duration;

/// How long a question waits for an answer that is worth a task's while.
const HOLD: Duration = Duration::from_secs(2);

#[async_trait]
impl Servers for Compute {
    async fn copy(&self, server: &str, volume: &str, to: &RbdLocation) -> Result<Mirror, VolumeError> {
        let to = target(to, false);
        let asked = self.changed_disk(server, volume, |s, disk| {
            let may = runs(s) && disk.plug == Plug::Attached && !disk.is_pivoting();
            if may && disk.moving.as_ref() != Some(&to) {
                disk.moving = Some(to.clone());
                return true;
            }
            false
        });
        asked.await?;
        self.answer(server, volume, |s| look(s, volume, &to)).await
    }

    async fn pivot(&self, server: &str, volume: &str, to: &RbdLocation) -> Result<Pivot, VolumeError> {
        let (copied, to) = (target(to, false), target(to, true));
        let asked = self.changed_disk(server, volume, |s, disk| {
            let ready = disk.moving.as_ref() == Some(&copied) && stands(s, disk, &copied) == Mirror::Ready;
            if ready {
                disk.moving = Some(to.clone());
            }
            ready
        });
        asked.await?;
        let Some(s) = servers::get(&self.db, server).await.map_err(said)? else {
            return Ok(Pivot::NotYet(Mirror::Gone));
        };
        if s.disk_of(volume).and_then(|d| d.moving.as_ref()) != Some(&to) {
            return Ok(Pivot::NotYet(look(&s, volume, &copied)));
        }
        Ok(Pivot::Begun(self.answer(server, volume, |s| look(s, volume, &to)).await?))
    }

    async fn settle(
        &self,
        server: &str,
        volume: &str,
        to: &RbdLocation,
        moved: bool,
    ) -> Result<(), VolumeError> {
        let to = target(to, true);
        self.changed_disk(server, volume, |_, disk| {
            if disk.moving.as_ref().is_none_or(|m| m.name() != to.name()) {
                return false;
            }
            disk.moving = None;
            if let Some(place) = disk.place.as_mut().filter(|_| moved) {
                (place.cluster, place.pool, place.image) =
                    (to.cluster.clone(), to.pool.clone(), to.image.clone());
            }
            true
        })
        .await
    }

    async fn grown(&self, tx: &mut Tx, server: &str, grown: &Grown) -> Result<(), VolumeError> {
        growth::begin(tx, server, grown).await.map_err(said)
    }

    async fn grows(&self, server: &str, volume: &str) -> Result<bool, VolumeError> {
        let s = servers::get(&self.db, server).await.map_err(said)?;
        Ok(s.as_ref().and_then(|s| s.disk_of(volume)).is_some_and(|d| d.grown.is_some()))
    }
}

impl Compute {
    /// Changes a volume's disk of a server under the server's lock, and lets the host know where `edit` says that it did.
    /// A server or a disk that is gone is left alone.
    async fn changed_disk(
        &self,
        server: &str,
        volume: &str,
        edit: impl Fn(&Server, &mut Disk) -> bool + Send + Sync,
    ) -> Result<(), VolumeError> {
        let edited = |s: &Server| {
            let at = s.disks.iter().position(|d| d.volume_id() == Some(volume))?;
            let mut disk = s.disks[at].clone();
            edit(s, &mut disk).then_some((at, disk))
        };
        // It is asked again and again, and has hardly ever anything to write.
        let now = servers::get(&self.db, server).await.map_err(said)?;
        if now.as_ref().and_then(edited).is_none() {
            return Ok(());
        }
        let done = change(self, server, |s| {
            let Some((at, disk)) = edited(s) else { return Ok(Wake::Nobody) };
            s.disks[at] = disk;
            // What was said of an earlier move.
            s.seen.mirrors.remove(volume);
            s.bump();
            Ok(Wake::Host)
        });
        done.await.map(drop).map_err(said)
    }

    /// What `look` says of the server, once that is more than that the copy goes on, or after a while.
    async fn answer(
        &self,
        server: &str,
        volume: &str,
        look: impl Fn(&Server) -> Mirror + Send,
    ) -> Result<Mirror, VolumeError> {
        let mut signal = self.db.signal(&servers::topic(server));
        let until = tokio::time::Instant::now() + HOLD;
        loop {
            let now = match servers::get(&self.db, server).await.map_err(said)? {
                Some(s) => look(&s),
                None => Mirror::Gone,
            };
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if !matches!(now, Mirror::Copying(_)) || left.is_zero() {
                tracing::trace!(server, volume, ?now, "a volume's move");
                return Ok(now);
            }
            signal.wait(left).await;
        }
    }
}

fn target(to: &RbdLocation, pivot: bool) -> MirrorTo {
    MirrorTo { cluster: to.cluster.clone(), pool: to.pool.clone(), image: to.image.clone(), pivot }
}

/// Whether the server's guest is to have a QEMU, and nothing is about to end that.
pub(crate) fn runs(s: &Server) -> bool {
    matches!(s.intent.power, Power::On | Power::Paused) && !s.is_deleting()
}

fn look(s: &Server, volume: &str, to: &MirrorTo) -> Mirror {
    s.disk_of(volume).map_or(Mirror::Gone, |disk| stands(s, disk, to))
}

/// What the host last said of a disk on its way. A word on something else than what is asked for now does not count.
fn stands(s: &Server, disk: &Disk, to: &MirrorTo) -> Mirror {
    let volume = disk.volume_id().unwrap_or_default();
    // Its server or its disk is about to be gone; then it is known what becomes of the volume.
    let leaving = s.is_deleting() || disk.plug != Plug::Attached;
    if !to.pivot && leaving {
        return Mirror::Copying(0);
    }
    if !to.pivot && !runs(s) {
        return Mirror::Off;
    }
    if let Some((serial, why)) = &s.seen.device_error
        && serial == volume
        && disk.moving.is_some()
    {
        return Mirror::Failed(why.clone());
    }
    let said = s.seen.mirrors.get(volume).filter(|m| m.to == to.name() && m.pivot == to.pivot);
    match said.map(|m| m.state) {
        Some(MirrorState::Copying(percent)) => Mirror::Copying(percent),
        Some(MirrorState::Ready) => Mirror::Ready,
        Some(MirrorState::Moved) => Mirror::Moved,
        Some(MirrorState::Lost) => Mirror::Lost,
        // It is to run, so it will again, and begin anew.
        Some(MirrorState::Off) if !to.pivot => Mirror::Copying(0),
        Some(MirrorState::Off) => Mirror::Off,
        None => Mirror::Copying(0),
    }
}

fn said(e: ComputeError) -> VolumeError {
    match e {
        ComputeError::State(e) => VolumeError::State(e),
        other => VolumeError::Corrupt(Arc::new(other)),
    }
}
