//! `server.delete`: waits until the host has nothing of the guest, then takes back everything the server had.
//! It is never given up.

use super::create::release;
use super::{AGAIN, until};
use crate::model::{Disk, DiskSource, Server, VmState};
use crate::neighbours::acting_in;
use crate::states::PowerState;
use crate::store::{actions, hosts, servers};
use crate::{Compute, ComputeError};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Timestamp, Tx};
use std::sync::Arc;

#[derive(Serialize, Deserialize)]
struct Params {
    server: String,
}

pub(crate) struct Delete(pub(crate) Arc<Compute>);

const KIND: &str = "server.delete";

pub(crate) async fn spawn(tx: &mut Tx, server: &str) -> Result<(), ComputeError> {
    let task = NewTask { kind: KIND, subject: &Server::subject(server) };
    task.spawn(tx, &Params { server: server.to_owned() }).await?;
    Ok(())
}

#[async_trait]
impl Operation for Delete {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["gone", "release", "forget"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let id = job.params::<Params>()?.server;
        let Some(s) = servers::get(&self.0.db, &id).await? else { return Ok(()) };
        match step {
            "gone" => self.gone(s).await,
            // Nobody knows yet which image a volume of it is.
            "release" if s.disks.iter().any(Disk::is_pivoting) => Err(StepError::Wait(AGAIN)),
            "release" => never_over(self.release(s).await),
            _ => never_over(self.forget(&id).await),
        }
    }

    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    async fn unwound(&self, _: &mut Job, _: &str) -> Result<(), StepError> {
        Ok(())
    }

    fn attempts(&self) -> u32 {
        u32::MAX
    }
}

/// What fails for good here is tried again all the same: a server that its owner wants gone does not stay.
fn never_over(done: Result<(), ComputeError>) -> Result<(), StepError> {
    done.map_err(|e| StepError::retry(e.to_string()).because(e))
}

impl Delete {
    async fn gone(&self, s: Server) -> Result<(), StepError> {
        if s.host.is_empty() || hosts::get(&self.0.db, &s.host).await?.is_none() {
            return Ok(());
        }
        until(&self.0, &s.id, |s| {
            Ok(s.seen.power == PowerState::Absent && s.seen.generation >= s.intent.generation)
        })
        .await
    }

    async fn release(&self, s: Server) -> Result<(), ComputeError> {
        let ctx = acting_in(&s.project_id);
        let ports = self.0.unplug_ports(&s);
        let disks = async {
            self.0.release_volumes(&ctx, &s.id, &s.disks).await?;
            for disk in &s.disks {
                if let DiskSource::Local { tier, .. } = &disk.source {
                    self.0.remove_local_disk(&s.id, tier).await?;
                }
            }
            self.0.remove_config_drive(&s).await
        };
        tokio::try_join!(ports, disks).map(drop)
    }

    async fn forget(&self, id: &str) -> Result<(), ComputeError> {
        let mut tx = self.0.db.begin().await?;
        let Some(mut s) = servers::lock(&mut tx, id).await? else { return Ok(()) };
        release(&mut tx, id).await?;
        let now = Timestamp::now();
        (s.deleted_at, s.terminated_at, s.updated_at) = (Some(now), Some(now), now);
        (s.vm_state, s.task_state) = (VmState::Deleted, None);
        actions::end(&mut tx, id, None).await?;
        servers::save(&mut tx, &s).await?;
        tx.wake(crate::observe::host_topic(&s.host));
        Ok(tx.commit().await?)
    }
}
