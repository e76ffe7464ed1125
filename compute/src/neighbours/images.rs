//! Root disks made from images: copy-on-write clones where both are in one cluster.

use crate::model::{Flavor, RbdPlace, Server};
use crate::{Compute, ComputeError};
use api::Context;
use imagestore::{Image, Status};
use pool::CreateOptions;

const GIB: u64 = 1 << 30;

impl Compute {
    /// An image that a server with a disk of its own may be made from, checked as upstream checks it.
    pub(crate) async fn bootable(
        &self,
        ctx: &Context,
        id: &str,
        flavor: &Flavor,
    ) -> Result<Image, ComputeError> {
        let image = self.image_asked(ctx, id, flavor).await?;
        fits(&image, flavor)?;
        Ok(image)
    }

    /// An image that a server may be made from, whatever its disk will be.
    pub(crate) async fn image_asked(
        &self,
        ctx: &Context,
        id: &str,
        flavor: &Flavor,
    ) -> Result<Image, ComputeError> {
        let found = match uuid::Uuid::parse_str(id) {
            Ok(_) => self.images.get(ctx, id).await,
            Err(_) => return Err(ComputeError::invalid("Invalid imageRef provided.")),
        };
        let image = match found {
            Ok(image) => image,
            Err(imagestore::ImageError::NotFound(_)) => {
                return Err(ComputeError::invalid("Can not find requested image"));
            }
            Err(e) => return Err(e.into()),
        };
        if image.status != Status::Active {
            return Err(ComputeError::invalid(format!("Image {id} is not active.")));
        }
        if i64::from(image.min_ram) > flavor.ram_mib {
            return Err(ComputeError::invalid("Flavor's memory is too small for requested image."));
        }
        Ok(image)
    }

    /// Makes the server's own root disk: `<server id>_disk`, a clone of its image, as large as its flavor says.
    /// One that is there already is what an earlier try made.
    pub(crate) async fn make_local_disk(&self, s: &Server, tier: &str) -> Result<RbdPlace, ComputeError> {
        let ctx = super::acting_in(&s.project_id);
        let to = self.tiers.get(tier)?;
        let name = Server::local_disk_name(&s.id);
        let rbd = to.pool.rbd();
        let wanted = u64::try_from(s.flavor.disk_gib).unwrap_or(0).saturating_mul(GIB);
        let source = self.images.source(&ctx, &s.image_id, &to).await?;
        let options = CreateOptions { data_pool: to.data_pool.clone(), ..CreateOptions::default() };
        if source.tier.same_cluster(&to) {
            let parent = source.tier.pool.rbd();
            match parent.clone_image(&source.image, source.snap, &to.pool, &name, options).await {
                Ok(()) | Err(pool::Error::Exists { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        } else {
            // Between clusters bytes are copied; a half-made copy is made anew.
            rbd.remove_or_trash(&name).await?;
            rbd.create(&name, source.size_bytes.max(wanted), options).await?;
            let from = source.tier.pool.rbd().open_snapshot(&source.image, source.snap).await?;
            let into = rbd.open(&name).await?;
            let copied = pool::copy_image(&from, &into, |_, _| ()).await;
            from.close().await?;
            into.close().await?;
            copied?;
            self.images.stayed(&source.image, &source.tier).await?;
        }
        if wanted > source.size_bytes {
            let disk = rbd.open(&name).await?;
            let resized = disk.resize(wanted, false).await;
            disk.close().await?;
            resized?;
        }
        Ok(RbdPlace {
            cluster: to.cluster.name().to_owned(),
            pool: to.pool.name().to_owned(),
            image: name,
            ..RbdPlace::default()
        })
    }

    /// Removes a server's own root disk, if there is one.
    pub(crate) async fn remove_local_disk(&self, server: &str, tier: &str) -> Result<(), ComputeError> {
        let to = self.tiers.get(tier)?;
        to.pool.rbd().remove_or_trash(&Server::local_disk_name(server)).await?;
        Ok(())
    }
}

/// Refuses an image whose disk is larger than the flavor's.
pub(crate) fn fits(image: &Image, flavor: &Flavor) -> Result<(), ComputeError> {
    if flavor.disk_gib <= 0 {
        return Ok(());
    }
    let room = flavor.disk_gib.saturating_mul(GIB as i64);
    let size = i64::try_from(image.disk_bytes().unwrap_or(0)).unwrap_or(i64::MAX);
    if size > room {
        return Err(ComputeError::invalid(format!(
            "Flavor's disk is too small for requested image. Flavor disk is {room} bytes, image is {size} bytes."
        )));
    }
    let least = i64::from(image.min_disk).saturating_mul(GIB as i64);
    if least > room {
        return Err(ComputeError::invalid(format!(
            "Flavor's disk is smaller than the minimum size specified in image metadata. Flavor disk is {room} bytes, \
             minimum size is {least} bytes."
        )));
    }
    Ok(())
}
