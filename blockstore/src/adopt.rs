//! Taking over volumes that another Cinder has kept in the same pools: rows are added under their own ids, and nothing
//! in the pools changes. An image is a volume's here as there (`volume-<id>`), a snapshot likewise.

use crate::model::{Snapshot, Volume, VolumeType, snap_name};
use crate::{VolumeError, Volumes, disk, store};
pub use imagestore::Adoption;

impl Volumes {
    /// Takes a type over. One of the same name stands for it: its id is given back, and it is left as it is.
    pub async fn adopt_type(
        &self,
        kind: &VolumeType,
        projects: &[String],
        apply: bool,
    ) -> Result<(Adoption, String), VolumeError> {
        let mut tx = self.db.begin().await?;
        tx.lock("volume:types").await?;
        for known in [&kind.id, &kind.name] {
            if let Some(there) = store::types::get(tx.conn(), known).await? {
                return Ok((Adoption::There, there.id));
            }
        }
        let backend = kind.extra_specs.get("volume_backend_name");
        if let Some(name) = backend.filter(|name| self.tiers.get(name).is_err()) {
            let why = format!("its volume_backend_name {name} is no tier here: give --backend {name}=TIER");
            return Ok((Adoption::Conflict(why), kind.id.clone()));
        }
        if apply {
            store::types::insert(&mut tx, kind).await?;
            for project in projects {
                store::types::grant(&mut tx, &kind.id, project).await?;
            }
            tx.commit().await?;
        }
        Ok((Adoption::New, kind.id.clone()))
    }

    /// Takes a volume over, with what holds it, whose image is in the tier that it names. Quotas are not asked: what is
    /// there is there.
    pub async fn adopt_volume(&self, volume: &Volume, apply: bool) -> Result<Adoption, VolumeError> {
        if store::volumes::get(self.db.read(), &volume.id).await?.is_some() {
            return Ok(Adoption::There);
        }
        let Ok(tier) = self.tiers.get(&volume.tier) else {
            return Ok(Adoption::Conflict(format!("there is no tier {}", volume.tier)));
        };
        let (image, pool) = (volume.image_name(), tier.pool.name());
        let Some(bytes) = disk::size(&tier, &image).await? else {
            return Ok(Adoption::Conflict(format!("pool {pool} has no {image}")));
        };
        if bytes.div_ceil(disk::GIB) != volume.size_gib.unsigned_abs() {
            let why = format!("{image} is of {bytes} bytes, the volume of {} GiB", volume.size_gib);
            return Ok(Adoption::Conflict(why));
        }
        if apply {
            let mut tx = self.db.begin().await?;
            tx.lock(&crate::volumes::lock_key(&volume.id)).await?;
            store::volumes::insert(&mut tx, volume).await?;
            for attachment in &volume.attachments {
                store::attachments::put(&mut tx, attachment).await?;
            }
            tx.commit().await?;
        }
        Ok(Adoption::New)
    }

    /// Takes a snapshot over of a volume in this tier.
    pub async fn adopt_snapshot(
        &self,
        snapshot: &Snapshot,
        tier: &str,
        apply: bool,
    ) -> Result<Adoption, VolumeError> {
        if store::snapshots::get(self.db.read(), &snapshot.id).await?.is_some() {
            return Ok(Adoption::There);
        }
        let tier = self.tiers.get(tier)?;
        let (image, snap) = (crate::model::image_name(&snapshot.volume_id), snap_name(&snapshot.id));
        if disk::snap_size(&tier, &image, &snap).await?.is_none() {
            return Ok(Adoption::Conflict(format!("pool {} has no {image}@{snap}", tier.pool.name())));
        }
        if apply {
            let mut tx = self.db.begin().await?;
            tx.lock(&crate::volumes::lock_key(&snapshot.volume_id)).await?;
            store::snapshots::insert(&mut tx, snapshot).await?;
            tx.commit().await?;
        }
        Ok(Adoption::New)
    }
}
