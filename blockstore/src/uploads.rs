//! Uploads: a volume becomes an image.

use crate::images::{KEY_POLICY, KEY_PROPERTY};
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
    /// Begins to make an image of a volume: raw it is a clone in one cluster, whatever its size; in another format its
    /// bytes are written anew.
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
        if new.container_format == "compressed" {
            return Err(VolumeError::InvalidInput(
                "Image compression disallowed, but container_format is compressed.".into(),
            ));
        }
        let mut draft = self.draft(&volume, &new);
        let key = match &volume.encryption_key_id {
            None => None,
            Some(_) if new.disk_format != "raw" || new.container_format != "bare" => {
                return Err(VolumeError::InvalidInput(
                    "An encrypted volume becomes an image of format raw in a bare container only.".into(),
                ));
            }
            Some(of) => {
                let key = state::new_id();
                self.keys.copy(of, &key, &volume.project_id).await?;
                draft.properties.insert(KEY_PROPERTY.into(), key.clone());
                draft.properties.insert(KEY_POLICY.0.into(), KEY_POLICY.1.into());
                Some(key)
            }
        };
        let image = match self.draft_image(ctx, draft).await {
            Ok(image) => image,
            Err(e) => {
                self.forget_key(key.as_deref()).await?;
                return Err(e);
            }
        };
        let begun = async {
            let (mut tx, mut held) = self.hold(ctx, id, rule).await?;
            self.advance(&mut tx, &mut held, step, refuse).await?;
            tasks::upload::spawn(&mut tx, ctx, &held, &image.id, &new.disk_format).await?;
            tx.commit().await?;
            Ok(held)
        };
        match begun.await {
            Ok(volume) => Ok((volume, image)),
            Err(e) => {
                self.drop_image(&image.id).await?;
                self.forget_key(key.as_deref()).await?;
                Err(e)
            }
        }
    }

    async fn forget_key(&self, key: Option<&str>) -> Result<(), VolumeError> {
        match key {
            Some(key) => self.keys.remove(key).await,
            None => Ok(()),
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
            !OWN.contains(&k.as_str())
                && !k.starts_with("cinder_encryption_key_")
                && !k.starts_with("os_hash_")
                && !k.starts_with("os_glance_")
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
