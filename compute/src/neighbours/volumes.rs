//! Volumes that are servers' disks.

use crate::model::{Disk, MakeFrom, MakeVolume, RbdPlace};
use crate::{Compute, ComputeError};
use api::Context;
use blockstore::{Held, NewVolume, Source, Volume, VolumeError, VolumeStatus};

/// How far a volume that is made for a server has come.
pub(crate) enum Making {
    Ready(Box<Volume>),
    Later,
}

impl Compute {
    /// A volume that the caller names for a disk; one it does not see is upstream's 400.
    pub(crate) async fn volume_for_disk(&self, ctx: &Context, id: &str) -> Result<Volume, ComputeError> {
        match self.volumes.get(ctx, id).await {
            Ok(v) => Ok(v),
            Err(VolumeError::VolumeNotFound(_)) => Err(ComputeError::invalid(format!(
                "Block Device Mapping is Invalid: failed to get volume {id}."
            ))),
            Err(e) => Err(e.into()),
        }
    }

    /// Refuses a volume that another server has.
    pub(crate) fn check_free(volume: &Volume) -> Result<(), ComputeError> {
        let free = volume.status == VolumeStatus::Available
            || (volume.multiattach && volume.status == VolumeStatus::InUse);
        if free {
            return Ok(());
        }
        Err(ComputeError::invalid(format!(
            "Invalid volume: volume '{}' status must be 'available'. Currently in '{}'",
            volume.id, volume.status
        )))
    }

    /// Asks for the volume that a disk is to be made as, under the id the disk has for it.
    pub(crate) async fn make_volume(
        &self,
        ctx: &Context,
        disk: &Disk,
        make: &MakeVolume,
    ) -> Result<Making, ComputeError> {
        let id = disk.volume_id().unwrap_or_default();
        let source = match &make.from {
            MakeFrom::Blank => Source::Empty,
            MakeFrom::Image(id) => Source::Image(id.clone()),
            MakeFrom::Snapshot(id) => Source::Snapshot(id.clone()),
        };
        let new = NewVolume {
            id: Some(id.to_owned()),
            size_gib: Some(make.size_gib).filter(|s| *s > 0),
            source,
            name: Some(String::new()),
            volume_type: make.volume_type.clone(),
            ..NewVolume::default()
        };
        let volume = self.volumes.create(ctx, new).await?;
        match volume.status {
            VolumeStatus::Creating | VolumeStatus::Downloading => Ok(Making::Later),
            VolumeStatus::Error => Err(ComputeError::Conflict(format!(
                "Volume {id} did not finish being created even after we waited: its status is error."
            ))),
            _ => Ok(Making::Ready(Box::new(volume))),
        }
    }

    /// Takes a volume for a server on a host; again and again is fine.
    pub(crate) async fn take_volume(
        &self,
        ctx: &Context,
        volume: &str,
        server: &str,
        host: Option<&str>,
    ) -> Result<(Held, RbdPlace), ComputeError> {
        let held = self.volumes.attach_begin(ctx, volume, server, host).await?;
        if held.location.namespace.is_some() {
            return Err(ComputeError::Conflict(
                "The volume is in a namespace of its pool, where no server can open it.".into(),
            ));
        }
        let place = RbdPlace {
            cluster: held.location.cluster.clone(),
            pool: held.location.pool.clone(),
            image: held.location.image.clone(),
            encryption: held.encryption,
            limits: held.limits.clone(),
        };
        Ok((held, place))
    }

    /// Gives back whatever volumes a server has, and deletes those that go with it.
    pub(crate) async fn release_volumes(
        &self,
        ctx: &Context,
        server: &str,
        disks: &[Disk],
    ) -> Result<(), ComputeError> {
        for attachment in self.volumes.attachments_of_server(server).await? {
            self.volumes.detach_complete(ctx, &attachment.id).await?;
        }
        for disk in disks.iter().filter(|d| d.delete_on_termination) {
            let Some(id) = disk.volume_id() else { continue };
            self.drop_volume(ctx, id).await?;
        }
        Ok(())
    }

    /// Deletes a volume; one that is gone or going is fine. One that cannot go now is left to its owner, as
    /// upstream leaves it.
    pub(crate) async fn drop_volume(&self, ctx: &Context, id: &str) -> Result<(), ComputeError> {
        match self.volumes.delete(ctx, id).await {
            Ok(()) | Err(VolumeError::VolumeNotFound(_)) => Ok(()),
            Err(e) => {
                let e = ComputeError::from(e);
                if e.is_transient() {
                    return Err(e);
                }
                tracing::warn!(volume = id, error = %e, "a volume that was to go with its server stays");
                Ok(())
            }
        }
    }
}
