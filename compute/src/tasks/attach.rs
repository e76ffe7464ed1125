//! `server.attach-volume`: takes the volume, lets the host attach it, and says so to Block Storage.

use super::{Ends, Wake, change, until};
use crate::model::{Plug, Server};
use crate::neighbours::acting_in;
use crate::store::servers;
use crate::{Compute, ComputeError};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

#[derive(Serialize, Deserialize)]
struct Params {
    server: String,
    volume: String,
}

pub(crate) struct Attach(pub(crate) Arc<Compute>);

const KIND: &str = "server.attach-volume";

pub(crate) async fn spawn(tx: &mut Tx, server: &str, volume: &str) -> Result<(), ComputeError> {
    let task = NewTask { kind: KIND, subject: &Server::subject(server) };
    task.spawn(tx, &Params { server: server.to_owned(), volume: volume.to_owned() }).await?;
    Ok(())
}

#[async_trait]
impl Operation for Attach {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["take", "plug", "complete"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p = job.params::<Params>()?;
        let Some(s) = servers::get(&self.0.db, &p.server).await? else { return Ok(()) };
        // Whoever removed the disk from the row has said why.
        if s.disk_of(&p.volume).is_none() {
            return Ok(());
        }
        if s.is_deleting() {
            return Err(StepError::fail("The server is being deleted."));
        }
        match step {
            "take" => Ok(self.take(&s, &p.volume).await?),
            "plug" => self.plugged(&p).await,
            _ => self.complete(job, &s, &p.volume).await,
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p = job.params::<Params>()?;
        let Some(s) = servers::get(&self.0.db, &p.server).await? else { return Ok(()) };
        match step {
            _ if s.is_deleting() => Ok(()),
            "plug" => self.unplug(&p).await,
            "take" => {
                // First the row: whoever takes the volume after that gives it back by itself.
                self.0.forget_disk(&p.server, &p.volume).await?;
                let ctx = acting_in(&s.project_id);
                let held =
                    self.0.volumes.attachments_of_server(&p.server).await.map_err(ComputeError::from)?;
                for a in held.iter().filter(|a| a.volume_id == p.volume) {
                    self.0.volumes.attach_abort(&ctx, &a.id).await.map_err(ComputeError::from)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let p = job.params::<Params>()?;
        super::end(&self.0, job, &p.server, Some(reason), |_| Ends::One("attach_volume")).await
    }
}

impl Attach {
    async fn take(&self, s: &Server, volume: &str) -> Result<(), ComputeError> {
        let ctx = acting_in(&s.project_id);
        let host = (!s.host.is_empty()).then_some(s.host.as_str());
        let (held, place) = self.0.take_volume(&ctx, volume, &s.id, host).await?;
        change(&self.0, &s.id, |row| {
            if let Some(disk) = row.disks.iter_mut().find(|d| d.volume_id() == Some(volume)) {
                (disk.attachment_id, disk.place) = (Some(held.attachment.id), Some(place));
                disk.size_gib = held.size_gib;
                if disk.plug == Plug::Planned {
                    disk.plug = Plug::Attaching;
                    row.bump();
                }
            }
            Ok(Wake::Host)
        })
        .await?;
        Ok(())
    }

    async fn plugged(&self, p: &Params) -> Result<(), StepError> {
        until(&self.0, &p.server, |s| {
            if s.is_deleting() {
                return Err(ComputeError::Conflict("The server is being deleted.".into()));
            }
            if let Some((serial, message)) = &s.seen.device_error
                && *serial == p.volume
            {
                return Err(ComputeError::Conflict(message.clone()));
            }
            Ok(s.disk_of(&p.volume).is_none_or(|d| d.plug != Plug::Attaching))
        })
        .await
    }

    /// The host forgets the disk, whether it had it or not.
    async fn unplug(&self, p: &Params) -> Result<(), StepError> {
        let s = change(&self.0, &p.server, |row| {
            if let Some(disk) = row.disks.iter_mut().find(|d| d.volume_id() == Some(&p.volume))
                && disk.plug != Plug::Detaching
            {
                disk.plug = Plug::Detaching;
                row.bump();
            }
            Ok(Wake::Host)
        })
        .await?;
        match s {
            Some(s) => super::detach::let_go(&self.0, &s.id, &p.volume).await,
            None => Ok(()),
        }
    }

    async fn complete(&self, job: &Job, s: &Server, volume: &str) -> Result<(), StepError> {
        let Some(disk) = s.disk_of(volume) else { return Ok(()) };
        let Some(attachment) = &disk.attachment_id else { return Ok(()) };
        let ctx = acting_in(&s.project_id);
        let device = format!("/dev/{}", disk.device);
        let done = self.0.volumes.attach_complete(&ctx, attachment, Some(&device)).await;
        done.map_err(ComputeError::from)?;
        super::end(&self.0, job, &s.id, None, |_| Ends::One("attach_volume")).await
    }
}
