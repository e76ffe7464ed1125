//! `server.detach-interface`: waits until the guest has let the interface go, then frees or deletes its port.

use super::{Ends, end, until};
use crate::model::{Plug, Server};
use crate::neighbours::acting_in;
use crate::states::PowerState;
use crate::store::servers;
use crate::{Compute, ComputeError};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Timestamp, Tx};
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Serialize, Deserialize)]
struct Params {
    server: String,
    port: String,
    since: Timestamp,
}

pub(crate) struct Unplug(pub(crate) Arc<Compute>);

const KIND: &str = "server.detach-interface";

pub(crate) async fn spawn(tx: &mut Tx, server: &str, port: &str) -> Result<(), ComputeError> {
    let task = NewTask { kind: KIND, subject: &Server::subject(server) };
    let p = Params { server: server.to_owned(), port: port.to_owned(), since: Timestamp::now() };
    task.spawn(tx, &p).await?;
    Ok(())
}

#[async_trait]
impl Operation for Unplug {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["unplug", "release"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let p = job.params::<Params>()?;
        let Some(s) = servers::get(&self.0.db, &p.server).await? else { return Ok(()) };
        let Some(nic) = s.nics.iter().find(|n| n.port_id == p.port) else { return Ok(()) };
        if s.is_deleting() {
            return Ok(());
        }
        match step {
            "unplug" => match self.let_go(&p).await {
                Err(StepError::Wait(_)) if Timestamp::now() > p.since.plus(PATIENCE) => {
                    Err(StepError::fail("The guest does not let go of the interface."))
                }
                other => other,
            },
            _ => {
                self.0.unplug_port(&acting_in(&s.project_id), &p.port, nic.ours).await?;
                end(&self.0, job, &p.server, None, |row| {
                    row.nics.retain(|n| n.port_id != p.port);
                    Ends::One("detach_interface")
                })
                .await
            }
        }
    }

    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    /// The server keeps the interface.
    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let p = job.params::<Params>()?;
        end(&self.0, job, &p.server, Some(reason), |row| {
            if let Some(nic) = row.nics.iter_mut().find(|n| n.port_id == p.port)
                && nic.plug == Plug::Detaching
            {
                nic.plug = Plug::Attaching;
                row.bump();
            }
            Ends::One("detach_interface")
        })
        .await
    }
}

impl Unplug {
    async fn let_go(&self, p: &Params) -> Result<(), StepError> {
        until(&self.0, &p.server, |s| {
            let never = s.host.is_empty() || s.intent.incarnation == 0;
            let told = s.seen.generation >= s.intent.generation;
            let on = matches!(s.seen.power, PowerState::Running | PowerState::Paused);
            Ok(never || (told && (!on || !s.seen.ports.contains(&p.port))))
        })
        .await
    }
}
