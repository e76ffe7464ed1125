//! The seam behind which backups' bytes are: what every driver does, and which one a backup is with.

use super::data::{Chain, Cost, DataError, From, Place};
use super::directory::Directory;
use super::format::Key;
use super::objects::{BackupStore, Repository};
use super::repository::{Chunked, context};
use super::store;
use crate::config::BackupDriver;
use crate::{VolumeError, Volumes};
use async_trait::async_trait;
use pool::{Image, Tier};
use std::sync::Arc;

#[async_trait]
pub(super) trait Driver: Send + Sync {
    /// Writes a backup. Begun again it goes on where it was.
    async fn store(&self, from: &From, place: &Place) -> Result<Cost, DataError>;
    /// Writes a backup's bytes, checked, into an image that reads as zeroes.
    async fn fill(&self, place: &Place, bytes: u64, target: &Image) -> Result<(), DataError>;
    /// Takes a backup away, from wherever it is in a chain, also one that was only begun. Twice is no error.
    async fn remove(&self, place: &Place, bytes: u64) -> Result<(), DataError>;
    /// Whether a whole backup is there.
    async fn holds(&self, place: &Place) -> Result<bool, DataError>;
}

/// Writes a backup over an image, which reads as zeroes behind it. Begins anew each time.
pub(super) async fn restore(
    driver: &dyn Driver,
    place: &Place,
    bytes: u64,
    to: (&Tier, &str),
) -> Result<(), DataError> {
    let target = to.0.pool.rbd().open(to.1).await?;
    let result = async {
        // Shrinking forgets what was there, a clone's parent too, and leaves its snapshots alone.
        let size = target.size().await?;
        target.resize(0, true).await?;
        // A container may be larger than the volume that it was made as.
        target.resize(size.max(bytes), false).await?;
        driver.fill(place, bytes, &target).await?;
        Ok(target.flush().await?)
    };
    let result: Result<(), DataError> = result.await;
    let closed = target.close().await;
    result?;
    Ok(closed?)
}

impl Place {
    /// Where it is, where it is with a driver that shares chunks between backups.
    pub(super) fn repository(&self) -> Option<Repository> {
        (self.driver != BackupDriver::Rbd)
            .then(|| Repository { project_id: self.owner.clone(), container: self.tier.clone() })
    }

    /// The repository's name in rows and locks.
    pub(super) fn repository_name(&self) -> Option<String> {
        self.repository().map(|at| format!("{}/{}/{}", self.driver.as_str(), at.project_id, at.container))
    }
}

impl Volumes {
    /// Where backups of the driver `object` go. Without it there is no such driver. Called once, at the start.
    pub fn use_object_store(&self, store: Arc<dyn BackupStore>) {
        let _ = self.backup_objects.set(store); // a second one changes nothing
    }

    pub(super) fn backup_store(&self, driver: BackupDriver) -> Result<Arc<dyn BackupStore>, VolumeError> {
        let missing = |what: &str| VolumeError::Config(format!("backups need {what}"));
        match driver {
            BackupDriver::Object => {
                self.backup_objects.get().cloned().ok_or_else(|| missing("an object store"))
            }
            _ => match &self.config.backup_directory {
                Some(directory) => Ok(Arc::new(Directory(directory.clone()))),
                None => Err(missing("backup_directory")),
            },
        }
    }

    /// What has a backup of this place, or will.
    pub(super) async fn driver(&self, place: &Place) -> Result<Box<dyn Driver>, VolumeError> {
        let Some(at) = place.repository() else {
            return Ok(Box::new(Chain(self.tiers.get(&place.tier)?)));
        };
        let root = self.backup_root().await?;
        let name = place.repository_name().unwrap_or_default();
        let key = match self.config.backup_encryption {
            true => {
                let fresh = Key::fresh().and_then(|k| k.wrap(&root, &context(&at)));
                let fresh = fresh.map_err(|_| VolumeError::Config("no randomness".into()))?;
                Some(store::key_of(&self.db, &name, &fresh).await?)
            }
            false => None,
        };
        let compress = self.config.backup_compression;
        Ok(Box::new(Chunked { store: self.backup_store(place.driver)?, at, root, key, compress }))
    }

    /// The root secret: of the configuration, or one that was made once and is kept with the rows.
    async fn backup_root(&self) -> Result<Key, VolumeError> {
        let bad = |_| VolumeError::Config("the root secret of backups is not 32 bytes in base64".into());
        let text = match &self.config.backup_key_file {
            Some(file) => tokio::fs::read_to_string(file)
                .await
                .map_err(|e| VolumeError::Config(format!("{}: {e}", file.display())))?,
            None => {
                let fresh = Key::fresh().map_err(bad)?.to_base64();
                store::root_secret(&self.db, &fresh).await?
            }
        };
        Key::from_base64(&text).map_err(bad)
    }
}
