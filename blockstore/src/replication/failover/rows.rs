//! What a failover writes of volumes and of the backend: rows follow the images.

use super::{Failover, Params};
use crate::model::Volume;
use crate::replication::{store, upkeep};
use crate::status::{ReplicationStatus, VolumeStatus};
use crate::store::volumes;
use crate::volumes::lock_key;
use crate::{VolumeError, Volumes};
use state::Tx;

/// Whether nothing is being done to a volume, and it is not on its way to be or not to be.
fn settled(status: VolumeStatus) -> bool {
    use VolumeStatus as V;
    !matches!(
        status,
        V::Creating
            | V::Managing
            | V::Deleting
            | V::Error
            | V::ErrorDeleting
            | V::ErrorManaging
            | V::ErrorManagingDeleting
    )
}

impl Failover {
    /// The row follows the image.
    pub(super) async fn turned(&self, params: &Params, id: &str) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        let now = volumes::get(tx.conn(), id).await?;
        let Some(now) = now.filter(|v| v.tier != params.to || v.is_lost()) else { return Ok(()) };
        let (home, status) = match params.back() {
            true => (None, ReplicationStatus::Enabled),
            false => (Some(params.tier.as_str()), ReplicationStatus::FailedOver),
        };
        store::turn(&mut tx, id, &params.to, home, status).await?;
        if now.status == VolumeStatus::Error && now.is_lost() {
            self.recover(&mut tx, id).await?;
        }
        upkeep::follow(&mut tx, id).await?;
        tx.wake(Volumes::topic(id));
        Ok(tx.commit().await?)
    }

    /// A volume that is served nowhere: `error`, and what it was before stays written.
    pub(super) async fn lose(&self, id: &str) -> Result<(), VolumeError> {
        self.fell(id, ReplicationStatus::FailoverError).await
    }

    async fn fell(&self, id: &str, status: ReplicationStatus) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        if let Some(now) = volumes::get(tx.conn(), id).await? {
            store::set_status(&mut tx, id, status).await?;
            if settled(now.status) {
                volumes::set_status(&mut tx, id, VolumeStatus::Error, Some(now.status)).await?;
                store::set_snapshots(&mut tx, id, false).await?;
            }
        }
        tx.wake(Volumes::topic(id));
        Ok(tx.commit().await?)
    }

    /// Back to what its attachments say, with its snapshots.
    async fn recover(&self, tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
        let rest = self.0.state_at_rest(tx, id).await?;
        volumes::set_status(tx, id, rest, None).await?;
        store::set_snapshots(tx, id, true).await
    }

    pub(super) async fn finish(&self, params: &Params, task: &str) -> Result<(), VolumeError> {
        let backend = store::get(self.0.db.read(), &params.tier).await?;
        if backend.is_none_or(|b| b.task.as_deref() != Some(task)) {
            return Ok(());
        }
        for volume in volumes::of_home(self.0.db.read(), &params.tier).await? {
            if volume.is_replicated() {
                continue;
            }
            match (params.back(), volume.replication_status) {
                (false, Some(ReplicationStatus::NotCapable)) => {}
                (false, _) => self.fell(&volume.id, ReplicationStatus::NotCapable).await?,
                (true, Some(ReplicationStatus::NotCapable)) => self.served_again(&volume.id).await?,
                (true, _) => {}
            }
        }
        let mut tx = self.0.db.begin().await?;
        tx.lock(&store::lock_key(&params.tier)).await?;
        let backend = store::get(tx.conn(), &params.tier).await?;
        if let Some(mut backend) = backend.filter(|b| b.task.as_deref() == Some(task)) {
            backend.task = None;
            (backend.status, backend.active) = match params.back() {
                true => (ReplicationStatus::Enabled, Some(String::new())),
                false => (ReplicationStatus::FailedOver, Some(params.to.clone())),
            };
            store::put(&mut tx, &backend).await?;
            store::turn_groups(&mut tx, &params.tier, backend.status).await?;
            self.0.show_backend(&mut tx, &backend).await?;
        }
        Ok(tx.commit().await?)
    }

    /// A group whose volumes are not all served is in error.
    pub(super) async fn finish_group(
        &self,
        params: &Params,
        group: &str,
        task: &str,
    ) -> Result<(), VolumeError> {
        let next = if params.back() { ReplicationStatus::Enabled } else { ReplicationStatus::FailedOver };
        let members = volumes::of_group(self.0.db.read(), group).await?;
        let ended = if members.iter().any(Volume::is_lost) { ReplicationStatus::Error } else { next };
        self.0.group_ended(group, task, ended, |_| next).await
    }

    /// A volume that was lost for as long as its cluster was not used.
    async fn served_again(&self, id: &str) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        if let Some(now) = volumes::get(tx.conn(), id).await? {
            store::set_status(&mut tx, id, ReplicationStatus::Disabled).await?;
            if now.status == VolumeStatus::Error && now.previous_status.is_some() {
                self.recover(&mut tx, id).await?;
            }
        }
        tx.wake(Volumes::topic(id));
        Ok(tx.commit().await?)
    }
}
