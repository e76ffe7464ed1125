//! Uploads: a volume becomes an image.

use crate::model::Volume;
use crate::status::Step;
use crate::{VolumeError, Volumes, tasks};
use api::Context;
use imagestore::{Image, NewImage, Visibility};

/// What `os-volume_upload_image` asks for.
pub(crate) struct NewUpload {
    pub(crate) image_name: String,
    pub(crate) disk_format: String,
    pub(crate) container_format: String,
    /// Also while attached.
    pub(crate) force: bool,
    pub(crate) visibility: Option<Visibility>,
    pub(crate) protected: bool,
}

impl Volumes {
    /// Begins to make an image of a volume: a clone in one cluster, whatever its size.
    pub(crate) async fn upload(
        &self,
        ctx: &Context,
        id: &str,
        new: NewUpload,
    ) -> Result<(Volume, Image), VolumeError> {
        let rule = "volume_extension:volume_actions:upload_image";
        let volume = self.find(ctx, id, rule).await?;
        if new.visibility == Some(Visibility::Public) {
            self.may(ctx, "volume_extension:volume_actions:upload_public", &volume.project_id)?;
        }
        let step = if new.force { Step::ForceUpload } else { Step::Upload };
        let refuse = |v: &Volume| {
            let may = if new.force { "available or in-use" } else { "available" };
            VolumeError::InvalidVolume(format!(
                "Volume {} status must be {may}, but current status is: {}.",
                v.id, v.status
            ))
        };
        volume.status.after(step).ok_or_else(|| refuse(&volume))?;
        if new.disk_format != "raw" {
            return Err(VolumeError::InvalidInput(format!(
                "A volume becomes an image of format raw only, not {}.",
                new.disk_format
            )));
        }
        let image = self.draft_image(ctx, self.draft(&volume, &new)).await?;
        let begun = async {
            let (mut tx, mut held) = self.hold(ctx, id, rule).await?;
            self.advance(&mut tx, &mut held, step, refuse).await?;
            tasks::upload::spawn(&mut tx, ctx, &held, &image.id).await?;
            tx.commit().await?;
            Ok(held)
        };
        match begun.await {
            Ok(volume) => Ok((volume, image)),
            Err(e) => {
                self.drop_image(&image.id).await?;
                Err(e)
            }
        }
    }

    fn draft(&self, volume: &Volume, new: &NewUpload) -> NewImage {
        // What the volume knows of its own image goes on, but for what belonged to that image's bytes.
        const OWN: [&str; 9] = [
            "image_id",
            "image_name",
            "checksum",
            "disk_format",
            "container_format",
            "min_disk",
            "min_ram",
            "size",
            "owner",
        ];
        let mut properties = volume.image_metadata.clone();
        properties.retain(|k, _| {
            !OWN.contains(&k.as_str()) && !k.starts_with("os_hash_") && !k.starts_with("os_glance_")
        });
        NewImage {
            name: Some(new.image_name.clone()),
            visibility: new.visibility,
            owner: Some(volume.project_id.clone()),
            disk_format: Some(new.disk_format.clone()),
            container_format: Some(new.container_format.clone()),
            protected: new.protected,
            properties,
            ..NewImage::default()
        }
    }
}
