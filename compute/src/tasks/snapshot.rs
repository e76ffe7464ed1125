//! `server.snapshot`: a snapshot of the server's own disk becomes an image, by copy-on-write where they share a
//! cluster; then the snapshot goes.

use super::{Ends, end};
use crate::model::Server;
use crate::neighbours::acting_in;
use crate::states::TaskState;
use crate::store::servers;
use crate::{Compute, ComputeError};
use async_trait::async_trait;
use imagestore::{ImageError, RbdSource, Status};
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;
use std::time::Duration;

/// How often an image that is being made is looked at.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Serialize, Deserialize)]
struct Params {
    server: String,
    image: String,
    tier: String,
}

impl Params {
    fn snap(&self) -> String {
        format!("image-{}", self.image)
    }
}

pub(crate) struct Snapshot(pub(crate) Arc<Compute>);

const KIND: &str = "server.snapshot";

pub(crate) async fn spawn(tx: &mut Tx, server: &str, image: &str, tier: &str) -> Result<(), ComputeError> {
    let task = NewTask { kind: KIND, subject: &Server::subject(server) };
    let p = Params { server: server.to_owned(), image: image.to_owned(), tier: tier.to_owned() };
    task.spawn(tx, &p).await?;
    Ok(())
}

#[async_trait]
impl Operation for Snapshot {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["snap", "image", "drop"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p = job.params::<Params>()?;
        let Some(s) = servers::get(&self.0.db, &p.server).await? else {
            return Err(StepError::fail("The server is gone."));
        };
        match step {
            "snap" => Ok(self.snap(&p).await?),
            "image" => self.image(&p, &s).await,
            _ => {
                self.drop_snap(&p).await?;
                idle(&self.0, job, &p.server, None).await
            }
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p = job.params::<Params>()?;
        match step {
            "snap" => Ok(self.drop_snap(&p).await?),
            "image" => {
                let ctx = api::Context::service("compute");
                match self.0.images.delete(&ctx, &p.image).await {
                    Ok(()) | Err(ImageError::NotFound(_)) => Ok(()),
                    Err(e) => Err(ComputeError::from(e).into()),
                }
            }
            _ => Ok(()),
        }
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let p = job.params::<Params>()?;
        idle(&self.0, job, &p.server, Some(reason)).await
    }
}

/// No image is made of the server any more.
pub(super) async fn idle(
    compute: &Compute,
    job: &Job,
    server: &str,
    failure: Option<&str>,
) -> Result<(), StepError> {
    end(compute, job, server, failure, |row| {
        row.task_state = row.task_state.filter(|t| *t != TaskState::ImageSnapshot);
        Ends::One("createImage")
    })
    .await
}

impl Snapshot {
    async fn snap(&self, p: &Params) -> Result<(), ComputeError> {
        let disk = self.0.tiers.get(&p.tier)?.pool.rbd().open(&Server::local_disk_name(&p.server)).await?;
        let made = disk.snap_create(&p.snap()).await;
        disk.close().await?;
        match made {
            Ok(()) | Err(pool::Error::Exists { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    async fn drop_snap(&self, p: &Params) -> Result<(), ComputeError> {
        let rbd = self.0.tiers.get(&p.tier)?.pool.rbd();
        let disk = match rbd.open(&Server::local_disk_name(&p.server)).await {
            Err(pool::Error::NotFound { .. }) => return Ok(()),
            other => other?,
        };
        let gone = disk.snap_remove(&p.snap()).await;
        disk.close().await?;
        match gone {
            Ok(()) | Err(pool::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    async fn image(&self, p: &Params, s: &Server) -> Result<(), StepError> {
        let ctx = acting_in(&s.project_id);
        let source =
            RbdSource { tier: p.tier.clone(), image: Server::local_disk_name(&p.server), snap: p.snap() };
        let filled = self.0.images.fill_from_rbd(&ctx, &p.image, source).await.map_err(ComputeError::from)?;
        match filled.status {
            Status::Active => Ok(()),
            Status::Killed => Err(StepError::fail("The image could not be made.")),
            _ => Err(StepError::Wait(LOOK)),
        }
    }
}
