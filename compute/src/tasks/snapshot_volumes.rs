//! `server.snapshot_volumes`: snapshots of all volumes of a server that boots from one, and an image that names them.
//! Snapshots are instant and share what they have with their volumes, so nothing is copied whatever the size.

use super::snapshot::idle;
use crate::model::Server;
use crate::neighbours::acting_in;
use crate::servers::mapping;
use crate::{Compute, ComputeError};
use api::Context;
use async_trait::async_trait;
use blockstore::{NewSnapshot, SnapshotStatus, VolumeError};
use imagestore::ImageError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;
use std::time::Duration;

/// How often a snapshot that is being made, or a volume's that cannot go yet, is looked at.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Serialize, Deserialize)]
struct Params {
    server: String,
    project: String,
    image: String,
    name: String,
    parts: Vec<Part>,
}

#[derive(Serialize, Deserialize)]
struct Part {
    volume: String,
    snapshot: String,
    /// What the image says of this disk.
    entry: Value,
}

pub(crate) struct SnapshotVolumes(pub(crate) Arc<Compute>);

const KIND: &str = "server.snapshot_volumes";

pub(crate) async fn spawn(tx: &mut Tx, s: &Server, image: &str, name: &str) -> Result<(), ComputeError> {
    let part = |d: &crate::model::Disk| {
        let snapshot = state::new_id();
        let entry = serde_json::to_value(mapping::entry(d, &snapshot)).unwrap_or_default();
        d.volume_id().map(|volume| Part { volume: volume.to_owned(), snapshot, entry })
    };
    let p = Params {
        server: s.id.clone(),
        project: s.project_id.clone(),
        image: image.to_owned(),
        name: name.to_owned(),
        parts: s.disks.iter().filter_map(part).collect(),
    };
    NewTask { kind: KIND, subject: &Server::subject(&s.id) }.spawn(tx, &p).await?;
    Ok(())
}

#[async_trait]
impl Operation for SnapshotVolumes {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["snap", "image", "end"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p = job.params::<Params>()?;
        let ctx = acting_in(&p.project);
        match step {
            "snap" => self.snap(&ctx, &p).await,
            "image" => Ok(self.image(&ctx, &p).await?),
            _ => idle(&self.0, job, &p.server, None).await,
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p = job.params::<Params>()?;
        let ctx = acting_in(&p.project);
        match step {
            "snap" => self.drop_snaps(&ctx, &p).await,
            _ => Ok(()),
        }
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let p = job.params::<Params>()?;
        match self.0.images.delete(&acting_in(&p.project), &p.image).await {
            Ok(()) | Err(ImageError::NotFound(_)) => {}
            Err(e) => return Err(ComputeError::from(e).into()),
        }
        idle(&self.0, job, &p.server, Some(reason)).await
    }
}

impl SnapshotVolumes {
    /// Asks for all of them first, so that they are of one moment as far as can be, and waits for all.
    async fn snap(&self, ctx: &Context, p: &Params) -> Result<(), StepError> {
        let mut waiting = false;
        for part in &p.parts {
            let new = NewSnapshot {
                id: Some(part.snapshot.clone()),
                volume_id: part.volume.clone(),
                name: Some(format!("snapshot for {}", p.name)),
                force: true,
                ..NewSnapshot::default()
            };
            let made = self.0.volumes.create_snapshot(ctx, new).await.map_err(ComputeError::from)?;
            match made.status {
                SnapshotStatus::Creating => waiting = true,
                SnapshotStatus::Available => {}
                other => {
                    let what = format!("The snapshot of volume {} is {other}.", part.volume);
                    return Err(StepError::fail(what));
                }
            }
        }
        if waiting { Err(StepError::Wait(LOOK)) } else { Ok(()) }
    }

    async fn image(&self, ctx: &Context, p: &Params) -> Result<(), ComputeError> {
        let entries: Vec<_> = p.parts.iter().map(|part| &part.entry).collect();
        let said = [
            ("bdm_v2", "True".to_owned()),
            ("root_device_name", "/dev/vda".to_owned()),
            (mapping::MAPPING, serde_json::to_string(&entries).unwrap_or_default()),
        ];
        let properties = said.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        self.0.images.describe(ctx, &p.image, properties).await?;
        Ok(())
    }

    /// A snapshot that is still being made cannot be deleted; it is soon.
    async fn drop_snaps(&self, ctx: &Context, p: &Params) -> Result<(), StepError> {
        let mut waiting = false;
        for part in &p.parts {
            match self.0.volumes.get_snapshot(ctx, &part.snapshot).await {
                Err(VolumeError::SnapshotNotFound(_)) => continue,
                Ok(s) if s.status == SnapshotStatus::Deleting => continue,
                Ok(s) if s.status == SnapshotStatus::Creating => waiting = true,
                Ok(_) => match self.0.volumes.delete_snapshot(ctx, &part.snapshot, false).await {
                    Ok(()) | Err(VolumeError::SnapshotNotFound(_)) => {}
                    Err(e) => return Err(ComputeError::from(e).into()),
                },
                Err(e) => return Err(ComputeError::from(e).into()),
            }
        }
        if waiting { Err(StepError::Wait(LOOK)) } else { Ok(()) }
    }
}
