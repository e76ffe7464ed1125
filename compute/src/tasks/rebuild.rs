//! `server.rebuild`: off, another disk under the same name, on again.

use super::{Wake, change, down};
use crate::model::{DiskSource, Server, VmState};
use crate::store::servers;
use crate::wire::Power;
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

pub(crate) struct Rebuild(pub(crate) Arc<Compute>);

const KIND: &str = "server.rebuild";

pub(crate) async fn spawn(tx: &mut Tx, server: &str, resume: bool) -> Result<(), ComputeError> {
    let task = NewTask { kind: KIND, subject: &Server::subject(server) };
    task.spawn(tx, &Params { server: server.to_owned(), resume }).await?;
    Ok(())
}

#[async_trait]
impl Operation for Rebuild {
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
            return Err(StepError::fail("The server was deleted while it was being rebuilt."));
        }
        match step {
            "down" => down(&self.0, &p.server, false).await,
            "disk" => Ok(self.disk(&s).await?),
            _ => super::settle_power(&self.0, job, &p.server, p.resume, VmState::Stopped).await,
        }
    }

    /// The old disk is gone and cannot come back.
    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        super::broken(&self.0, job, &job.params::<Params>()?.server, reason).await
    }
}

impl Rebuild {
    async fn disk(&self, s: &Server) -> Result<(), ComputeError> {
        let root = s.disks.iter().find(|d| d.boot_index == Some(0));
        let Some(DiskSource::Local { tier, .. }) = root.map(|d| d.source.clone()) else { return Ok(()) };
        self.0.remove_local_disk(&s.id, &tier).await?;
        let place = self.0.make_local_disk(s, &tier).await?;
        // What it says of the server may have changed with the image.
        if let Some(drive) = &s.drive {
            self.0.make_config_drive(s, &drive.tier).await?;
        }
        change(&self.0, &s.id, |row| {
            for disk in row.disks.iter_mut().filter(|d| d.boot_index == Some(0)) {
                disk.place = Some(place.clone());
            }
            row.intent.power = Power::Off;
            Ok(Wake::Nobody)
        })
        .await?;
        Ok(())
    }
}
