//! The durable work of this crate, one operation a file.
//!
//! ```text
//! volume.create           make the image, then the volume is `available`
//! volume.delete           remove the image or put it into the trash, then the row
//! volume.extend           grow the image
//! volume.forget_key       the passphrase of a deleted image that was an encrypted volume
//! volume.limit            the limits of a new type
//! volume.manage           an image that was there before becomes a volume; snapshot.manage: likewise
//! volume.migrate          to another tier, for another type or not; volume.migrate_attached: under a guest that writes
//! volume.reimage          an image in the place of what is there
//! volume.revert           back to the latest snapshot
//! volume.upload           snapshot, and an image (of the images' service) that is a clone of it
//! volume.sweep            what nobody waits for: a hidden snapshot, an image in the trash
//! snapshot.create, snapshot.delete
//! backup.create, backup.delete, backup.restore, backup.drop_key, backup.collect (in `backup`)
//! backend.failover, volume.replicate, volume.follow, volume.forget, group.replicate (in `replication`)
//! schedule.run            what a schedule makes, and what it keeps no longer (in `schedules`)
//! group.settle            a group made of another one, or going with its volumes, follows them
//! group_snapshot.create   snapshots of all its volumes at one instant
//! group_snapshot.delete
//! ```
//! Operations on one volume run one at a time (subject `volume/<id>`; a snapshot's is its volume's).

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod extend;
pub(crate) mod forget_key;
pub(crate) mod group;
pub(crate) mod group_snapshot;
pub(crate) mod group_snapshot_delete;
pub(crate) mod limit;
pub(crate) mod manage;
pub(crate) mod migrate;
pub(crate) mod migrate_attached;
pub(crate) mod reimage;
pub(crate) mod revert;
pub(crate) mod snapshot;
pub(crate) mod snapshot_delete;
pub(crate) mod snapshot_manage;
pub(crate) mod sweep;
pub(crate) mod upload;

use crate::{VolumeError, Volumes};
use state::{Job, Operation, StepError, Tx};
use std::sync::Arc;
use std::time::Duration;

/// When a step that waits for another operation looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Everything a worker needs to carry this crate's tasks.
pub fn operations(volumes: &Arc<Volumes>) -> Vec<Arc<dyn Operation>> {
    vec![
        Arc::new(crate::backup::collect::Collect(volumes.clone())),
        Arc::new(crate::backup::create::Create(volumes.clone())),
        Arc::new(crate::backup::delete::Delete(volumes.clone())),
        Arc::new(crate::backup::restore::DropKey(volumes.clone())),
        Arc::new(crate::backup::restore::Restore(volumes.clone())),
        Arc::new(crate::schedules::run::Run(volumes.clone())),
        Arc::new(crate::replication::Failover(volumes.clone())),
        Arc::new(crate::replication::Follow(volumes.clone())),
        Arc::new(crate::replication::Forget(volumes.clone())),
        Arc::new(crate::replication::Replicate(volumes.clone())),
        Arc::new(crate::replication::ReplicateGroup(volumes.clone())),
        Arc::new(create::Create(volumes.clone())),
        Arc::new(delete::Delete(volumes.clone())),
        Arc::new(extend::Extend(volumes.clone())),
        Arc::new(forget_key::Forget(volumes.clone())),
        Arc::new(group::Settle(volumes.clone())),
        Arc::new(group_snapshot::Create(volumes.clone())),
        Arc::new(group_snapshot_delete::Delete(volumes.clone())),
        Arc::new(limit::Limit(volumes.clone())),
        Arc::new(manage::Manage(volumes.clone())),
        Arc::new(migrate::Migrate(volumes.clone())),
        Arc::new(migrate_attached::MigrateAttached(migrate::Migrate(volumes.clone()))),
        Arc::new(snapshot_manage::Manage(volumes.clone())),
        Arc::new(reimage::Reimage(volumes.clone())),
        Arc::new(revert::Revert(volumes.clone())),
        Arc::new(snapshot::Create(volumes.clone())),
        Arc::new(snapshot_delete::Delete(volumes.clone())),
        Arc::new(upload::Upload(volumes.clone())),
        Arc::new(sweep::Sweep(volumes.clone())),
    ]
}

/// The subject of everything that is done to a volume.
pub(crate) fn subject(volume_id: &str) -> String {
    format!("volume/{volume_id}")
}

/// Whether a failure is worth another try, and how its reason reads for the volume's owner.
pub(crate) fn failed(e: VolumeError) -> StepError {
    match e {
        VolumeError::Storage(e) => storage(e),
        VolumeError::State(e) => e.into(),
        other => {
            let reason = other.to_string();
            StepError::fail(reason).because(other)
        }
    }
}

/// Ends an operation in the transaction that makes its end visible: `failure` says why it has failed.
pub(crate) async fn end(job: &Job, tx: &mut Tx, failure: Option<&str>) -> Result<(), VolumeError> {
    match failure {
        None => job.finish(tx).await?,
        Some(reason) => job.fail(tx, reason).await?,
    }
    Ok(())
}

/// As [`failed`], for the storage's own errors. Their texts name pools and images: they are for the log only.
pub(crate) fn storage(e: pool::Error) -> StepError {
    let reason = match &e {
        pool::Error::NoSpace { .. } => "The storage is full.",
        pool::Error::Busy { .. } => "The volume is still in use by another client.",
        e if e.is_unavailable() => "The storage does not answer.",
        pool::Error::NotFound { .. } => "What it is made of is not there any more.",
        _ => "The storage has failed.",
    };
    if e.is_transient() { StepError::retry(reason).because(e) } else { StepError::fail(reason).because(e) }
}
