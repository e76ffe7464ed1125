//! The config drive: the metadata that a guest would ask for, as files on a CD of its own in Ceph.
//!
//! It is made when the server is made and when it is rebuilt, from the same documents as the metadata service's,
//! and stays until the server is deleted, on whatever host the server runs.

use crate::iso9660;
use crate::model::{RbdPlace, Server};
use crate::{Compute, ComputeError};
use api::Context;
use bytes::Bytes;
use pool::CreateOptions;

/// What guests look for.
const LABEL: &str = "config-2";
/// The image property that demands a drive by the value `mandatory`.
const DEMAND: &str = "img_config_drive";

impl Compute {
    /// Whether a new server gets a drive: asked for, configured for all, or demanded by its image (empty: none).
    pub(crate) async fn wants_config_drive(
        &self,
        ctx: &Context,
        asked: bool,
        image: &str,
    ) -> Result<bool, ComputeError> {
        if asked || self.config.force_config_drive || image.is_empty() {
            return Ok(asked || self.config.force_config_drive);
        }
        let image = self.images.get(ctx, image).await?;
        Ok(image.properties.get(DEMAND).is_some_and(|v| v == "mandatory"))
    }

    /// Makes the server's drive in `tier`, in place of an earlier one. Its guest must be down.
    pub(crate) async fn make_config_drive(&self, s: &Server, tier: &str) -> Result<RbdPlace, ComputeError> {
        let files = self.metadata_files(s).await?;
        let volume = Bytes::from(iso9660::volume(LABEL, &files, chrono::Utc::now()));
        let to = self.tiers.get(tier)?;
        let (rbd, name) = (to.pool.rbd(), Server::config_drive_name(&s.id));
        rbd.remove_or_trash(&name).await?;
        let options = CreateOptions { data_pool: to.data_pool.clone(), ..CreateOptions::default() };
        rbd.create(&name, volume.len() as u64, options).await?;
        let drive = rbd.open(&name).await?;
        let written = match drive.write_at(0, volume).await {
            Ok(()) => drive.flush().await,
            Err(e) => Err(e),
        };
        drive.close().await?;
        written?;
        Ok(RbdPlace {
            cluster: to.cluster.name().to_owned(),
            pool: to.pool.name().to_owned(),
            image: name,
            ..RbdPlace::default()
        })
    }

    /// Removes the server's drive, if there is one.
    pub(crate) async fn remove_config_drive(&self, s: &Server) -> Result<(), ComputeError> {
        if let Some(drive) = &s.drive {
            let rbd = self.tiers.get(&drive.tier)?.pool.rbd();
            rbd.remove_or_trash(&Server::config_drive_name(&s.id)).await?;
        }
        Ok(())
    }
}
