//! `server.resize`: the row has its new flavor (or, for a revert, its old one again); the guest goes down, its disk
//! grows, and it comes up as the row says.

use super::down;
use crate::model::{DiskSource, Server, VmState};
use crate::states::TaskState;
use crate::store::servers;
use crate::{Compute, ComputeError};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

#[derive(Serialize, Deserialize)]
struct Params {
    server: String,
    /// Whether it is to run afterwards.
    resume: bool,
}

pub(crate) struct Resize(pub(crate) Arc<Compute>);

const KIND: &str = "server.resize";

pub(crate) async fn spawn(tx: &mut Tx, server: &str, resume: bool) -> Result<(), ComputeError> {
    let task = NewTask { kind: KIND, subject: &Server::subject(server) };
    task.spawn(tx, &Params { server: server.to_owned(), resume }).await?;
    Ok(())
}

#[async_trait]
impl Operation for Resize {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["down", "disk", "boot"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p = job.params::<Params>()?;
        let Some(s) = servers::get(&self.0.db, &p.server).await? else { return Ok(()) };
        if s.is_deleting() {
            return Err(StepError::fail("The server was deleted while it was being resized."));
        }
        match step {
            "down" => down(&self.0, &p.server, true).await,
            "disk" => Ok(self.grow(&s).await?),
            _ => {
                let reverting = s.task_state == Some(TaskState::ResizeReverting);
                let off = if reverting { VmState::Stopped } else { VmState::Resized };
                super::settle_power(&self.0, job, &p.server, p.resume, off).await
            }
        }
    }

    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        super::broken(&self.0, job, &job.params::<Params>()?.server, reason).await
    }
}

impl Resize {
    async fn grow(&self, s: &Server) -> Result<(), ComputeError> {
        let root = s.disks.iter().find(|d| d.boot_index == Some(0));
        let Some(DiskSource::Local { tier, .. }) = root.map(|d| d.source.clone()) else { return Ok(()) };
        let tier = self.0.tiers.get(&tier)?;
        let disk = tier.pool.rbd().open(&Server::local_disk_name(&s.id)).await?;
        let wanted = u64::try_from(s.flavor.disk_gib).unwrap_or(0) << 30;
        let grown = match disk.size().await {
            Ok(size) if size < wanted => disk.resize(wanted, false).await,
            other => other.map(drop),
        };
        disk.close().await?;
        Ok(grown?)
    }
}
