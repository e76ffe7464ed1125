//! `server.detach-volume`: waits until the guest has let the disk go, then gives the volume back. A guest that
//! does not let go keeps it.

use super::{AGAIN, Ends, end, until};
use crate::model::{Disk, Plug, Server};
use crate::neighbours::acting_in;
use crate::states::PowerState;
use crate::store::servers;
use crate::{Compute, ComputeError};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Timestamp, Tx};
use std::sync::Arc;
use std::time::Duration;

/// How long a guest that runs has to let go.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Serialize, Deserialize)]
struct Params {
    server: String,
    volume: String,
    since: Timestamp,
}

pub(crate) struct Detach(pub(crate) Arc<Compute>);

const KIND: &str = "server.detach-volume";

pub(crate) async fn spawn(tx: &mut Tx, server: &str, volume: &str) -> Result<(), ComputeError> {
    let task = NewTask { kind: KIND, subject: &Server::subject(server) };
    let p = Params { server: server.to_owned(), volume: volume.to_owned(), since: Timestamp::now() };
    task.spawn(tx, &p).await?;
    Ok(())
}

/// Waits until the guest does not have the disk and will not have it when it starts.
pub(crate) async fn let_go(compute: &Compute, server: &str, serial: &str) -> Result<(), StepError> {
    until(compute, server, |s| {
        let never = s.host.is_empty() || s.intent.incarnation == 0;
        let told = s.seen.generation >= s.intent.generation;
        let on = matches!(s.seen.power, PowerState::Running | PowerState::Paused);
        let has = s.seen.disks.contains(serial);
        Ok(never || (told && !has) || (told && !on))
    })
    .await
}

#[async_trait]
impl Operation for Detach {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["unplug", "release"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p = job.params::<Params>()?;
        let Some(s) = servers::get(&self.0.db, &p.server).await? else { return Ok(()) };
        if s.disk_of(&p.volume).is_none() || s.is_deleting() {
            return Ok(());
        }
        match step {
            "unplug" => match let_go(&self.0, &p.server, &p.volume).await {
                Err(StepError::Wait(_)) if Timestamp::now() > p.since.plus(PATIENCE) => {
                    Err(StepError::fail("The guest does not let go of the device."))
                }
                other => other,
            },
            // Nobody knows yet which image the volume is.
            _ if s.disk_of(&p.volume).is_some_and(Disk::is_pivoting) => Err(StepError::Wait(AGAIN)),
            _ => self.release(job, &s, &p.volume).await,
        }
    }

    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    /// The server keeps the disk.
    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let p = job.params::<Params>()?;
        let s = servers::get(&self.0.db, &p.server).await?;
        let attachment = s.as_ref().and_then(|s| s.disk_of(&p.volume)).and_then(|d| d.attachment_id.clone());
        if let (Some(s), Some(id)) = (s, attachment) {
            let ctx = acting_in(&s.project_id);
            self.0.volumes.detach_abort(&ctx, &id).await.map_err(ComputeError::from)?;
        }
        end(&self.0, job, &p.server, Some(reason), |row| {
            if let Some(disk) = row.disks.iter_mut().find(|d| d.volume_id() == Some(&p.volume))
                && disk.plug == Plug::Detaching
            {
                disk.plug = Plug::Attaching;
                row.bump();
            }
            Ends::One("detach_volume")
        })
        .await
    }
}

impl Detach {
    async fn release(&self, job: &Job, s: &Server, volume: &str) -> Result<(), StepError> {
        let ctx = acting_in(&s.project_id);
        if let Some(id) = s.disk_of(volume).and_then(|d| d.attachment_id.clone()) {
            self.0.volumes.detach_complete(&ctx, &id).await.map_err(ComputeError::from)?;
        }
        end(&self.0, job, &s.id, None, |row| {
            row.disks.retain(|d| d.volume_id() != Some(volume));
            Ends::One("detach_volume")
        })
        .await
    }
}
