//! `os-reimage` (3.68): a volume starts anew from an image.

use crate::status::{Step, VolumeStatus};
use crate::{VolumeError, Volumes, tasks};
use api::Context;

impl Volumes {
    /// Begins to put an image in the place of what a volume holds. `reserved_too`: also of one that is promised to a server.
    pub(crate) async fn reimage(
        &self,
        ctx: &Context,
        id: &str,
        image_id: &str,
        reserved_too: bool,
    ) -> Result<(), VolumeError> {
        let rule = if reserved_too { "volume:reimage_reserved" } else { "volume:reimage" };
        let seen = self.find(ctx, id, rule).await?;
        let image = self.image(ctx, image_id).await?;
        image.fits(Some(seen.size_gib))?;
        let room = u64::try_from(seen.size_gib).unwrap_or(0).saturating_mul(crate::disk::GIB);
        if image.key.is_some()
            || (seen.encryption_key_id.is_some() && image.bytes + crate::encryption::HEADER > room)
        {
            return Err(VolumeError::InvalidInput(format!(
                "Image {image_id} cannot be put into volume {id}: it is encrypted, or does not fit beside the header."
            )));
        }
        let (mut tx, mut volume) = self.hold(ctx, id, rule).await?;
        let may = match volume.status {
            VolumeStatus::Available | VolumeStatus::Error => true,
            VolumeStatus::Reserved => reserved_too,
            _ => false,
        };
        if !may || volume.is_migrating() {
            let allowed = if reserved_too { "available or error or reserved" } else { "available or error" };
            return Err(VolumeError::InvalidVolume(format!(
                "Volume {id} status must be {allowed}, but current status is: {}.",
                volume.status
            )));
        }
        self.advance(&mut tx, &mut volume, Step::Reimage, |v| {
            VolumeError::InvalidVolume(format!("A volume that is {} cannot be re-imaged.", v.status))
        })
        .await?;
        tasks::reimage::spawn(&mut tx, ctx, &volume, image_id, image.metadata).await?;
        Ok(tx.commit().await?)
    }

    /// `os-extend_volume_completion` (3.71): what compute says to a backend that waits for it. Extending waits for nobody here,
    /// so that no volume is ever waited for.
    pub(crate) async fn complete_extend(&self, ctx: &Context, id: &str) -> Result<(), VolumeError> {
        let rule = "volume_extension:volume_admin_actions:extend_volume_completion";
        self.find(ctx, id, rule).await?;
        Err(VolumeError::InvalidVolume(format!(
            "Volume {id} is not awaiting the completion of an extend operation."
        )))
    }
}
