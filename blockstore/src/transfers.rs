//! Transfers: a volume is offered, and whoever in another project has the key takes it over, bytes untouched.

use crate::status::Step;
use crate::volumes::lock_key;
use crate::{VolumeError, Volumes, quotas, store};
use api::Context;
use sha2::{Digest, Sha256};
use state::Timestamp;

/// An offer, as its row has it. The key itself is shown once and never kept.
#[derive(Clone)]
pub(crate) struct Transfer {
    pub(crate) id: String,
    pub(crate) volume_id: String,
    pub(crate) name: Option<String>,
    pub(crate) source_project_id: String,
    pub(crate) salt: String,
    pub(crate) key_hash: String,
    pub(crate) no_snapshots: bool,
    pub(crate) created_at: Timestamp,
}

impl Transfer {
    fn fits(&self, key: &str) -> bool {
        // Hashes are compared: what time tells of them is worth nothing.
        hash(&self.salt, key) == self.key_hash
    }
}

fn hash(salt: &str, key: &str) -> String {
    hex::encode(Sha256::digest(format!("{salt}:{key}").as_bytes()))
}

impl Volumes {
    /// Offers a volume; the second value is the key, which nobody is shown again. `with_snapshots`: since 3.55;
    /// `encrypted_too`: since 3.70.
    pub(crate) async fn create_transfer(
        &self,
        ctx: &Context,
        volume_id: &str,
        name: Option<String>,
        no_snapshots: bool,
        with_snapshots: bool,
        encrypted_too: bool,
    ) -> Result<(Transfer, String), VolumeError> {
        let (mut tx, mut volume) = self.hold(ctx, volume_id, "volume:create_transfer").await?;
        if volume.group_id.is_some() {
            return Err(VolumeError::InvalidVolume(
                "it belongs to a group: remove it from there first.".into(),
            ));
        }
        if volume.encryption_key_id.is_some() && !encrypted_too {
            return Err(VolumeError::InvalidVolume("transferring encrypted volume is not supported.".into()));
        }
        let snapshots = store::snapshots::of_volume(tx.conn(), volume_id).await?;
        if !snapshots.is_empty() && !with_snapshots {
            return Err(VolumeError::InvalidVolume("status must be available with no snapshots.".into()));
        }
        if !no_snapshots && snapshots.iter().any(|s| s.status != crate::SnapshotStatus::Available) {
            return Err(VolumeError::InvalidVolume("every snapshot's status must be available.".into()));
        }
        self.advance(&mut tx, &mut volume, Step::OfferTransfer, |_| {
            VolumeError::InvalidVolume("status must be available".into())
        })
        .await?;
        let (salt, key) = (state::new_hex_id(), state::new_hex_id()[..16].to_owned());
        let transfer = Transfer {
            id: state::new_id(),
            volume_id: volume_id.to_owned(),
            name,
            source_project_id: volume.project_id,
            key_hash: hash(&salt, &key),
            salt,
            no_snapshots,
            created_at: Timestamp::now(),
        };
        store::transfers::insert(&mut tx, &transfer).await?;
        tx.commit().await?;
        Ok((transfer, key))
    }

    /// The offer, if it is the caller's own.
    pub(crate) async fn get_transfer(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
    ) -> Result<Transfer, VolumeError> {
        let transfer = store::transfers::get(self.db.read(), id)
            .await?
            .filter(|t| Self::sees(ctx, &t.source_project_id))
            .ok_or_else(|| VolumeError::TransferNotFound(id.to_owned()))?;
        self.may(ctx, rule, &transfer.source_project_id)?;
        Ok(transfer)
    }

    pub(crate) async fn list_transfers(
        &self,
        ctx: &Context,
        all_projects: bool,
    ) -> Result<Vec<Transfer>, VolumeError> {
        let home = Self::home(ctx)?;
        self.may(ctx, "volume:get_all_transfers", home)?;
        let scope = (!(all_projects && ctx.is_admin())).then_some(home);
        store::transfers::list(self.db.read(), scope).await
    }

    /// Takes the offer back.
    pub(crate) async fn delete_transfer(&self, ctx: &Context, id: &str) -> Result<(), VolumeError> {
        let transfer = self.get_transfer(ctx, id, "volume:delete_transfer").await?;
        let mut tx = self.db.begin().await?;
        tx.lock(&lock_key(&transfer.volume_id)).await?;
        if let Some(volume) = store::volumes::get(tx.conn(), &transfer.volume_id).await?
            && let Some(next) = volume.status.after(Step::EndTransfer)
        {
            store::volumes::set_status(&mut tx, &volume.id, next, None).await?;
        }
        store::transfers::remove(&mut tx, id).await?;
        Ok(tx.commit().await?)
    }

    /// Takes the offered volume, and its snapshots if they are offered too, into the caller's project, which must
    /// have quota for them.
    pub(crate) async fn accept_transfer(
        &self,
        ctx: &Context,
        id: &str,
        key: &str,
    ) -> Result<Transfer, VolumeError> {
        let project = ctx.project_id().map_err(VolumeError::Refused)?;
        self.may(ctx, "volume:accept_transfer", project)?;
        let absent = || VolumeError::TransferNotFound(id.to_owned());
        let seen = store::transfers::get(self.db.read(), id).await?.ok_or_else(absent)?;
        let mut tx = self.db.begin().await?;
        tx.lock(&lock_key(&seen.volume_id)).await?;
        let transfer = store::transfers::get(tx.conn(), id).await?.ok_or_else(absent)?;
        if !transfer.fits(key) {
            return Err(VolumeError::BadRequest(format!(
                "Invalid auth key: Attempt to transfer {} with invalid auth key.",
                transfer.id
            )));
        }
        let mut volume = store::volumes::get(tx.conn(), &transfer.volume_id).await?.ok_or_else(absent)?;
        let next = volume
            .status
            .after(Step::EndTransfer)
            .ok_or_else(|| VolumeError::InvalidVolume("the volume is not awaiting a transfer.".into()))?;
        let mut snapshots = store::snapshots::of_volume(tx.conn(), &volume.id).await?;
        if transfer.no_snapshots {
            snapshots.clear();
        }
        let kind = self.type_of(&mut tx, &volume).await?;
        let count = i64::try_from(snapshots.len()).unwrap_or(i64::MAX);
        let gib = snapshots.iter().map(|s| s.size_gib).sum();
        let spend = quotas::Spend::transfer(volume.size_gib, count, gib);
        self.spend(&mut tx, project, &kind, spend).await?;
        (volume.project_id, volume.user_id) = (project.to_owned(), ctx.user.id.clone());
        store::volumes::save(&mut tx, &volume).await?;
        store::volumes::set_status(&mut tx, &volume.id, next, None).await?;
        for mut snapshot in snapshots {
            (snapshot.project_id, snapshot.user_id) = (project.to_owned(), ctx.user.id.clone());
            store::snapshots::save(&mut tx, &snapshot).await?;
        }
        store::transfers::remove(&mut tx, id).await?;
        tx.commit().await?;
        Ok(transfer)
    }
}
