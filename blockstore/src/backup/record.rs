//! Records of backups: what it takes to have a backup again whose row was lost, or to have it in another cloud on the
//! same storage. A record is JSON in base64, as upstream's.

use super::data::Place;
use super::{Backup, Facts, invalid, store};
use crate::model::Metadata;
use crate::status::BackupStatus;
use crate::{VolumeError, Volumes};
use api::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pool::{OptionalExt, Tier};
use serde::{Deserialize, Serialize};
use state::Timestamp;

/// What reads and writes these backups, named as upstream names the like.
const SERVICE: &str = "cinder.backup.drivers.ceph.CephBackupDriver";

/// A record, for whoever imports it.
pub(crate) struct Exported {
    pub(crate) service: &'static str,
    pub(crate) url: String,
}

#[derive(Serialize, Deserialize)]
struct Record {
    id: String,
    volume_id: String,
    snapshot_id: Option<String>,
    parent_id: Option<String>,
    size: i64,
    display_name: Option<String>,
    display_description: Option<String>,
    #[serde(default)]
    metadata: Metadata,
    place: Place,
    object_count: i64,
    volume: Facts,
    /// Microseconds.
    data_timestamp: i64,
    created_at: i64,
}

impl Volumes {
    pub(crate) async fn export_backup(&self, ctx: &Context, id: &str) -> Result<Exported, VolumeError> {
        let b = self.find_backup(ctx, id, "backup:export-import").await?;
        if b.status != BackupStatus::Available {
            return Err(invalid(format!("Backup status must be available and not {}.", b.status)));
        }
        let record = Record {
            id: b.id,
            volume_id: b.volume_id,
            snapshot_id: b.snapshot_id,
            parent_id: b.parent_id,
            size: b.size_gib,
            display_name: b.name,
            display_description: b.description,
            metadata: b.metadata,
            place: b.place,
            object_count: b.chunks,
            volume: b.volume,
            data_timestamp: b.data_timestamp.micros(),
            created_at: b.created_at.micros(),
        };
        Ok(Exported { service: SERVICE, url: STANDARD.encode(serde_json::to_vec(&record)?) })
    }

    /// Takes a record over into the caller's project. Its bytes must be where it says.
    pub(crate) async fn import_backup(
        &self,
        ctx: &Context,
        service: &str,
        url: &str,
    ) -> Result<Backup, VolumeError> {
        let project_id = ctx.project_id().map_err(VolumeError::Refused)?.to_owned();
        self.may(ctx, "backup:backup-import", &project_id)?;
        if service != SERVICE {
            return Err(invalid(format!("No backup service here reads what {service} wrote.")));
        }
        let record = read(url)?;
        let tier = self.tiers.get(&record.place.tier);
        let tier = tier.map_err(|_| invalid(format!("There is no tier {}.", record.place.tier)))?;
        if !is_there(&tier, &record.place).await? {
            return Err(invalid("What the record describes is not in the storage.".into()));
        }
        let backup = record.into_backup(ctx, project_id);
        let mut tx = self.db.begin().await?;
        tx.lock(&super::lock_name(&backup.id)).await?;
        if store::get(tx.conn(), &backup.id).await?.is_some() {
            return Err(invalid("Backup already exists in database.".into()));
        }
        self.spend_backup(&mut tx, &backup.project_id, backup.size_gib).await?;
        store::insert(&mut tx, &backup).await?;
        tx.commit().await?;
        Ok(backup)
    }
}

fn read(url: &str) -> Result<Record, VolumeError> {
    let bad = || VolumeError::InvalidInput("Can't parse backup record.".into());
    let record: Record =
        serde_json::from_slice(&STANDARD.decode(url.trim()).map_err(|_| bad())?).map_err(|_| bad())?;
    let ids = [&record.id, &record.place.chain, &record.place.data];
    let named = ids.into_iter().all(|id| uuid::Uuid::parse_str(id).is_ok());
    let sized = (1..=crate::quotas::MOST_GIB).contains(&record.size);
    if named && sized { Ok(record) } else { Err(bad()) }
}

async fn is_there(tier: &Tier, place: &Place) -> Result<bool, VolumeError> {
    let Some(image) = tier.pool.rbd().open_read_only(&place.image()).await.optional()? else {
        return Ok(false);
    };
    let there = image.snap_exists(&place.snap()).await;
    image.close().await?;
    Ok(there?)
}

impl Record {
    fn into_backup(self, ctx: &Context, project_id: String) -> Backup {
        Backup {
            id: self.id,
            project_id,
            user_id: ctx.user.id.clone(),
            volume_id: self.volume_id,
            snapshot_id: self.snapshot_id,
            parent_id: self.parent_id,
            size_gib: self.size,
            status: BackupStatus::Available,
            fail_reason: None,
            name: self.display_name,
            description: self.display_description,
            metadata: self.metadata,
            zone: None,
            // No snapshot of the volume is this one's to use.
            base: String::new(),
            place: self.place,
            chunks: self.object_count,
            volume: self.volume,
            data_timestamp: Timestamp(self.data_timestamp),
            created_at: Timestamp(self.created_at),
            updated_at: None,
            heirs: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_are_none() {
        let id = uuid::Uuid::nil().to_string();
        let whole = serde_json::json!({"id": id, "volume_id": "v", "size": 1, "object_count": 0,
            "place": {"tier": "t", "chain": id, "data": id},
            "volume": {"bootable": false, "image_metadata": {}}, "data_timestamp": 0, "created_at": 0});
        assert!(read(&STANDARD.encode(whole.to_string())).is_ok());
        for (pointer, value) in [("/id", "x".into()), ("/place/chain", "../a".into()), ("/size", 0.into())] {
            let mut broken = whole.clone();
            *broken.pointer_mut(pointer).unwrap() = value;
            assert!(read(&STANDARD.encode(broken.to_string())).is_err(), "{broken}");
        }
        for text in ["", "{}", "####", "e30="] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
