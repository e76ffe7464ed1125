//! What of a tier could be taken into management: every image there, and every snapshot of one, with the reason where it
//! cannot.

use crate::model::{image_name, snap_name};
use crate::{VolumeError, Volumes, disk, store};
use api::Context;
use pool::OptionalExt;

/// An image or a snapshot.
pub(crate) struct Manageable {
    pub(crate) name: String,
    pub(crate) size_gib: u64,
    /// Why it cannot be managed.
    pub(crate) reason: Option<&'static str>,
    /// The volume's or snapshot's id, where it is one.
    pub(crate) known: Option<String>,
    /// The image that a snapshot is of.
    pub(crate) of: Option<String>,
}

impl Volumes {
    fn place_named(&self, host: &str) -> Result<pool::Tier, VolumeError> {
        let absent = || VolumeError::InvalidInput(format!("Service cinder-volume not found on host {host}."));
        Ok(self.tiers.get(&self.tier_of_host(host).ok_or_else(absent)?)?)
    }

    /// The images of a host's tier.
    pub(crate) async fn manageable_volumes(
        &self,
        ctx: &Context,
        host: &str,
    ) -> Result<Vec<Manageable>, VolumeError> {
        self.may(ctx, "volume_extension:list_manageable", "")?;
        let tier = self.place_named(host)?;
        let mut all = Vec::new();
        for name in tier.pool.rbd().list().await? {
            let Some(size) = disk::size(&tier, &name).await? else { continue };
            let id = name.strip_prefix("volume-").unwrap_or_default();
            let known = store::volumes::get(self.db.read(), id).await?.map(|v| v.id);
            let reason = match &known {
                Some(_) => Some("already managed"),
                // Images, backups and servers' disks are somebody's, too.
                None if self.belongs(&name).await? => Some("in use by another service"),
                None => None,
            };
            all.push(Manageable { name, size_gib: size.div_ceil(disk::GIB), reason, known, of: None });
        }
        Ok(all)
    }

    async fn belongs(&self, name: &str) -> Result<bool, VolumeError> {
        let part = name.split('.').next().unwrap_or(name);
        Ok(name.starts_with("backup-")
            || name.starts_with("volume-")
            || name.ends_with("_disk")
            || name.contains("_disk.")
            || (uuid::Uuid::parse_str(part).is_ok() && self.image_status(part).await?.is_some()))
    }

    /// The snapshots of a host's volumes.
    pub(crate) async fn manageable_snapshots(
        &self,
        ctx: &Context,
        host: &str,
    ) -> Result<Vec<Manageable>, VolumeError> {
        self.may(ctx, "snapshot_extension:list_manageable", "")?;
        let tier = self.place_named(host)?;
        let filter = store::volumes::Filter { tier: Some(tier.name.clone()), ..Default::default() };
        let page = api::Page { limit: 100_000, ..api::Page::default() };
        let mut all = Vec::new();
        for volume in store::volumes::list(&self.db, &filter, &page, None).await? {
            let image = image_name(&volume.id);
            let Some(open) = tier.pool.rbd().open_read_only(&image).await.optional()? else { continue };
            let found = disk::with(open, |image| async move { image.snap_list().await }).await?;
            let known = store::snapshots::of_volume(self.db.read(), &volume.id).await?;
            for snap in found {
                let known = known.iter().find(|s| snap_name(&s.id) == snap.name).map(|s| s.id.clone());
                let internal = snap.name.ends_with(".clone_snap")
                    || snap.name.starts_with("image-")
                    || snap.name.starts_with("backup");
                let reason = match &known {
                    Some(_) => Some("already managed"),
                    None if internal => Some("in use by another service"),
                    None => None,
                };
                let (size_gib, of) = (snap.size.div_ceil(disk::GIB), Some(volume.id.clone()));
                all.push(Manageable { name: snap.name, size_gib, reason, known, of });
            }
        }
        Ok(all)
    }
}
