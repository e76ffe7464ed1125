//! What volumes need of the images' service, in this crate's terms.

use crate::disk::{GIB, Parent};
use crate::model::Metadata;
use crate::{VolumeError, Volumes};
use api::Context;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use imagestore::{ImageError, Status};
use pool::Tier;

/// An image that a volume is to be made from.
pub(crate) struct Origin {
    /// GiB of the disk inside, rounded up.
    size_gib: i64,
    /// GiB that the image's owner asks for at least.
    min_disk: i64,
    /// Bytes of the disk inside.
    pub(crate) bytes: u64,
    /// The passphrase's id, where the disk is an encrypted volume's.
    pub(crate) key: Option<String>,
    pub(crate) metadata: Metadata,
}

impl Origin {
    /// Whether a volume of this size (GiB) holds the image.
    pub(crate) fn fits(&self, size: Option<i64>) -> Result<(), VolumeError> {
        let Some(size) = size else { return Ok(()) };
        if self.size_gib > size {
            return Err(VolumeError::InvalidInput(format!(
                "Size of specified image {}GB is larger than volume size {size}GB.",
                self.size_gib
            )));
        }
        if self.min_disk > size {
            return Err(VolumeError::InvalidInput(format!(
                "Volume size {size}GB cannot be smaller than the image minDisk size {}GB.",
                self.min_disk
            )));
        }
        Ok(())
    }
}

/// Where an encrypted image says which passphrase opens it, by upstream's name.
pub(crate) const KEY_PROPERTY: &str = "cinder_encryption_key_id";
/// The passphrase goes with the image.
pub(crate) const KEY_POLICY: (&str, &str) = ("cinder_encryption_key_deletion_policy", "on_image_deletion");

fn refused(e: ImageError) -> VolumeError {
    match e {
        ImageError::NotFound(id) => VolumeError::ImageNotFound(id),
        ImageError::Storage(e) => VolumeError::Storage(e),
        ImageError::State(e) => VolumeError::State(e),
        other => VolumeError::Image(other.into()),
    }
}

impl Volumes {
    /// An image that the caller may use and that a volume can be made from now.
    pub(crate) async fn image(&self, ctx: &Context, id: &str) -> Result<Origin, VolumeError> {
        let image = self.images.get(ctx, id).await.map_err(refused)?;
        if image.status != Status::Active {
            return Err(VolumeError::InvalidInput(format!("Image {id} is not active.")));
        }
        let bytes = self.images.disk(ctx, id).await.map_err(refused)?.disk_bytes().unwrap_or_default();
        let mut metadata: Metadata = image.properties.clone();
        let mut put = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                metadata.insert(key.to_owned(), value);
            }
        };
        put("image_id", Some(image.id.clone()));
        put("image_name", image.name.clone());
        put("checksum", image.checksum.clone());
        put("disk_format", image.disk_format.clone());
        put("container_format", image.container_format.clone());
        put("min_disk", Some(image.min_disk.to_string()));
        put("min_ram", Some(image.min_ram.to_string()));
        put("size", image.size.map(|s| s.to_string()));
        let key = self.key_of_image(&image).await?;
        // An encrypted volume's image may be larger than the volume by its header.
        let header = if key.is_some() { crate::encryption::HEADER } else { 0 };
        let gib = bytes.saturating_sub(header).div_ceil(GIB);
        let size_gib = i64::try_from(gib).unwrap_or(i64::MAX);
        Ok(Origin { size_gib, min_disk: i64::from(image.min_disk), bytes, key, metadata })
    }

    /// The passphrase's id of an image that was an encrypted volume. A property is anybody's word: it counts where the
    /// passphrase is the image's owner's.
    async fn key_of_image(&self, image: &imagestore::Image) -> Result<Option<String>, VolumeError> {
        let Some(key) = image.properties.get(KEY_PROPERTY) else { return Ok(None) };
        let owner = self.keys.owner(key).await?;
        if owner.is_none() || owner != image.owner {
            return Err(VolumeError::InvalidInput(format!(
                "Image {} is encrypted, and its key is not there.",
                image.id
            )));
        }
        Ok(Some(key.clone()))
    }

    /// The same, of an image by its id, for the cloud's own use.
    pub(crate) async fn image_key(&self, id: &str) -> Result<Option<String>, VolumeError> {
        let image = self.images.get(&Context::service("volume"), id).await.map_err(refused)?;
        self.key_of_image(&image).await
    }

    /// What a volume in the tier `to` is cloned from. That the image may be used was settled when it was asked for.
    pub(crate) async fn image_parent(&self, id: &str, to: &Tier) -> Result<Parent, VolumeError> {
        let source = self.images.source(&Context::service("volume"), id, to).await.map_err(refused)?;
        Ok(Parent { tier: source.tier, image: source.image, snap: source.snap.to_owned() })
    }

    /// Whether a copy of what [`Volumes::image_parent`] has given is whole.
    pub(crate) async fn image_stayed(&self, parent: &Parent) -> Result<(), VolumeError> {
        self.images.stayed(&parent.image, &parent.tier).await.map_err(refused)
    }

    /// Makes the record of an image that a volume will fill.
    pub(crate) async fn draft_image(
        &self,
        ctx: &Context,
        new: imagestore::NewImage,
    ) -> Result<imagestore::Image, VolumeError> {
        self.images.create(ctx, new).await.map_err(refused)
    }

    /// Takes a drafted image back.
    pub(crate) async fn drop_image(&self, id: &str) -> Result<(), VolumeError> {
        match self.images.delete(&Context::service("volume"), id).await.map_err(refused) {
            Err(VolumeError::ImageNotFound(_)) => Ok(()),
            other => other,
        }
    }

    /// Lets the images' service make the image of a snapshot of a volume. Twice is no error.
    pub(crate) async fn fill_image(
        &self,
        id: &str,
        tier: &str,
        image: &str,
        snap: &str,
    ) -> Result<(), VolumeError> {
        let source =
            imagestore::RbdSource { tier: tier.to_owned(), image: image.to_owned(), snap: snap.to_owned() };
        self.images.fill_from_rbd(&Context::service("volume"), id, source).await.map(drop).map_err(refused)
    }

    /// Gives a drafted image its bytes, exactly so many.
    pub(crate) async fn send_image(
        &self,
        id: &str,
        size: u64,
        bytes: BoxStream<'static, Result<Bytes, pool::Error>>,
    ) -> Result<(), VolumeError> {
        let body = bytes.map(|b| b.map_err(ImageError::from)).boxed();
        self.images.upload(&Context::service("volume"), id, Some(size), body).await.map_err(refused)
    }

    /// How far an image is; `None` where it has been deleted.
    pub(crate) async fn image_status(&self, id: &str) -> Result<Option<Status>, VolumeError> {
        match self.images.get(&Context::service("volume"), id).await {
            Ok(image) => Ok(Some(image.status)),
            Err(ImageError::NotFound(_)) => Ok(None),
            Err(e) => Err(refused(e)),
        }
    }
}
