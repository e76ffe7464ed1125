//! Records of backups: what it takes to have a backup again whose row was lost, or to have it in another cloud on the
//! same storage. A record is JSON in base64, as upstream's.

use super::data::{DataError, Place};
use super::{Backup, Facts, invalid, store};
use crate::config::BackupDriver;
use crate::disk::GIB;
use crate::encryption::HEADER;
use crate::model::Metadata;
use crate::status::BackupStatus;
use crate::{VolumeError, Volumes};
use api::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use state::Timestamp;

const DRIVERS: [BackupDriver; 3] = [BackupDriver::Rbd, BackupDriver::Directory, BackupDriver::Object];

/// What reads and writes the backups of a driver, named as upstream names the like.
fn service_of(driver: BackupDriver) -> &'static str {
    match driver {
        BackupDriver::Rbd => "cinder.backup.drivers.ceph.CephBackupDriver",
        BackupDriver::Directory => "cinder.backup.drivers.nfs.NFSBackupDriver",
        BackupDriver::Object => "cinder.backup.drivers.swift.SwiftBackupDriver",
    }
}

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
    /// The passphrase of an encrypted one, sealed with this cloud's root secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
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
        let key = match b.key() {
            Some(key) => Some(self.keys.export(key).await?),
            None => None,
        };
        let record = Record {
            key,
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
        let service = service_of(record.place.driver);
        Ok(Exported { service, url: STANDARD.encode(serde_json::to_vec(&record)?) })
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
        if !DRIVERS.into_iter().any(|d| service_of(d) == service) {
            return Err(invalid(format!("No backup service here reads what {service} wrote.")));
        }
        let record = read(url)?;
        if service_of(record.place.driver) != service {
            return Err(invalid("The record is of another backup service.".into()));
        }
        if record.place.driver == BackupDriver::Rbd && self.tiers.get(&record.place.tier).is_err() {
            return Err(invalid(format!("There is no tier {}.", record.place.tier)));
        }
        if !self.is_there(&record.place).await? {
            return Err(invalid("What the record describes is not in the storage.".into()));
        }
        if let (Some(sealed), Some(key)) = (&record.volume.sealed, &record.key) {
            self.keys.import(&sealed.key, &project_id, key).await.map_err(|e| invalid(e.to_string()))?;
        }
        if let Some(sealed) = &record.volume.sealed
            && self.keys.owner(&sealed.key).await?.is_none()
        {
            return Err(invalid("What the record describes is encrypted, and its key is not there.".into()));
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
    let plain = |name: &str| super::is_container_name(name);
    let owned =
        record.place.driver == BackupDriver::Rbd || plain(&record.place.owner) && plain(&record.place.tier);
    let named = named && owned;
    let sized = (1..=crate::quotas::MOST_GIB).contains(&record.size);
    let least = record.size.unsigned_abs() * GIB;
    let sealed = record.volume.sealed.as_ref();
    let sized = sized && sealed.is_none_or(|s| (least..=least + HEADER).contains(&s.bytes));
    if named && sized { Ok(record) } else { Err(bad()) }
}

impl Volumes {
    async fn is_there(&self, place: &Place) -> Result<bool, VolumeError> {
        match self.driver(place).await?.holds(place).await {
            Ok(there) => Ok(there),
            Err(DataError::Storage(e)) => Err(e.into()),
            Err(e) => Err(invalid(e.to_string())),
        }
    }
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
