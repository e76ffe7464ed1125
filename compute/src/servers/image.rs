//! Images made of servers: of the own disk of one that has it, of the volumes of one that boots from a volume.

use super::actions::check_state;
use crate::model::{DiskSource, Server};
use crate::states::{Act, TaskState};
use crate::store::{actions, servers as store};
use crate::tasks::{snapshot, snapshot_volumes};
use crate::{Compute, ComputeError};
use api::Context;
use imagestore::NewImage;
use std::collections::BTreeMap;

impl Compute {
    /// An image of the server as it is at some moment from now; the image's id. That of a server that boots from a
    /// volume has no bytes: it names snapshots of its volumes.
    pub(crate) async fn create_image(
        &self,
        ctx: &Context,
        id: &str,
        name: String,
        properties: BTreeMap<String, String>,
    ) -> Result<String, ComputeError> {
        let rule = "os_compute_api:servers:create_image";
        let seen = self.server(ctx, id, rule).await?;
        check_state(&seen, Act::CreateImage)?;
        self.room_for_metadata(&seen.project_id, properties.len()).await?;
        let image_id = state::new_id();
        let new = self.image_of(ctx, &seen, &image_id, name.clone(), properties).await?;
        self.images.create(ctx, new).await?;
        match self.begin_image(ctx, id, &image_id, &name).await {
            Ok(()) => Ok(image_id),
            Err(e) => {
                self.images.delete(ctx, &image_id).await?;
                Err(e)
            }
        }
    }

    async fn begin_image(
        &self,
        ctx: &Context,
        id: &str,
        image: &str,
        name: &str,
    ) -> Result<(), ComputeError> {
        let mut tx = self.db.begin().await?;
        let mut s = self.hold(ctx, &mut tx, id, "os_compute_api:servers:create_image").await?;
        check_state(&s, Act::CreateImage)?;
        s.task_state = Some(TaskState::ImageSnapshot);
        actions::begin(&mut tx, ctx, id, "createImage").await?;
        store::save(&mut tx, &s).await?;
        match local_tier(&s) {
            Some(tier) => snapshot::spawn(&mut tx, id, image, tier).await?,
            None => snapshot_volumes::spawn(&mut tx, &s, image, name).await?,
        }
        Ok(tx.commit().await?)
    }

    /// What the image is called and says of itself.
    async fn image_of(
        &self,
        ctx: &Context,
        s: &Server,
        image_id: &str,
        name: String,
        mut properties: BTreeMap<String, String>,
    ) -> Result<NewImage, ComputeError> {
        let mut formats = ("raw".to_owned(), "bare".to_owned());
        if local_tier(s).is_none() {
            let root = s.disks.iter().find(|d| d.boot_index == Some(0)).and_then(|d| d.volume_id());
            let said = self.volumes.get(ctx, root.unwrap_or_default()).await?.image_metadata;
            let word = |key: &str, default: &str| said.get(key).map_or(default, String::as_str).to_owned();
            formats = (word("disk_format", "qcow2"), word("container_format", "bare"));
        }
        for (key, value) in [
            ("base_image_ref", s.image_id.as_str()),
            ("instance_uuid", &s.id),
            ("image_type", "snapshot"),
            ("user_id", ctx.user.id.as_str()),
        ] {
            // What the user says of the image comes first.
            properties.entry(key.into()).or_insert_with(|| value.into());
        }
        Ok(NewImage {
            id: Some(image_id.to_owned()),
            name: Some(name),
            disk_format: Some(formats.0),
            container_format: Some(formats.1),
            min_disk: u32::try_from(s.flavor.disk_gib).unwrap_or(0),
            properties,
            ..NewImage::default()
        })
    }
}

/// The tier of a server's own root disk; `None` for one that boots from a volume.
fn local_tier(s: &Server) -> Option<&str> {
    let root = s.disks.iter().find(|d| d.boot_index == Some(0))?;
    match &root.source {
        DiskSource::Local { tier, .. } => Some(tier),
        DiskSource::Volume { .. } => None,
    }
}
