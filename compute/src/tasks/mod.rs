//! The durable work, one operation a file. Tasks of one server run one after another, oldest first.

pub(crate) mod attach;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod detach;
pub(crate) mod rebuild;
pub(crate) mod resize;
pub(crate) mod snapshot;
pub(crate) mod snapshot_volumes;
pub(crate) mod unplug;

use crate::model::{Server, VmState};
use crate::states::{PowerState, TaskState};
use crate::store::{actions, servers};
use crate::wire::Power;
use crate::{Compute, ComputeError};
use state::{Job, Operation, StepError, Tx};
use std::sync::Arc;
use std::time::Duration;

/// How long a step waits for a host in one go, before it gives its place to other tasks.
const HOLD: Duration = Duration::from_secs(2);
/// After how long such a step looks again.
const AGAIN: Duration = Duration::from_secs(3);

/// Every operation of this service, for a worker.
pub fn operations(compute: &Arc<Compute>) -> Vec<Arc<dyn Operation>> {
    vec![
        Arc::new(create::Create(compute.clone())),
        Arc::new(delete::Delete(compute.clone())),
        Arc::new(attach::Attach(compute.clone())),
        Arc::new(detach::Detach(compute.clone())),
        Arc::new(unplug::Unplug(compute.clone())),
        Arc::new(rebuild::Rebuild(compute.clone())),
        Arc::new(resize::Resize(compute.clone())),
        Arc::new(snapshot::Snapshot(compute.clone())),
        Arc::new(snapshot_volumes::SnapshotVolumes(compute.clone())),
    ]
}

/// Waits until `done` says so of the server, woken by every change of it; a server that is gone is done. Ends
/// with [`StepError::Wait`] when it takes longer than a task may hold its place.
pub(crate) async fn until(
    compute: &Compute,
    server: &str,
    done: impl Fn(&Server) -> Result<bool, ComputeError> + Send,
) -> Result<(), StepError> {
    let mut signal = compute.db.signal(&servers::topic(server));
    let deadline = tokio::time::Instant::now() + HOLD;
    loop {
        match servers::get(&compute.db, server).await? {
            None => return Ok(()),
            Some(s) if done(&s)? => return Ok(()),
            Some(_) => {}
        }
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() {
            return Err(StepError::Wait(AGAIN));
        }
        signal.wait(left).await;
    }
}

/// Changes the server's row under its lock; one that is gone is left alone. What comes back is whether there
/// was one.
pub(crate) async fn change(
    compute: &Compute,
    server: &str,
    change: impl FnOnce(&mut Server) -> Result<Wake, ComputeError> + Send,
) -> Result<Option<Server>, ComputeError> {
    let mut tx = compute.db.begin().await?;
    let Some(mut s) = servers::lock(&mut tx, server).await? else { return Ok(None) };
    let wake = change(&mut s)?;
    save(&mut tx, &mut s, wake).await?;
    tx.commit().await?;
    Ok(Some(s))
}

async fn save(tx: &mut Tx, s: &mut Server, wake: Wake) -> Result<(), ComputeError> {
    s.updated_at = state::Timestamp::now();
    servers::save(tx, s).await?;
    if wake == Wake::Host && !s.host.is_empty() {
        tx.wake(crate::observe::host_topic(&s.host));
    }
    Ok(())
}

/// The end of a task: the server's row says so, the record of its action ends, and the task goes, in one transaction.
/// `failure` is why, of one that failed. A server that is gone takes nothing but its task along.
pub(crate) async fn end(
    compute: &Compute,
    job: &Job,
    server: &str,
    failure: Option<&str>,
    change: impl FnOnce(&mut Server) -> Ends + Send,
) -> Result<(), StepError> {
    let mut tx = compute.db.begin().await?;
    if let Some(mut s) = servers::lock(&mut tx, server).await? {
        let before = s.intent.generation;
        let ends = change(&mut s);
        let wake = if s.intent.generation == before { Wake::Nobody } else { Wake::Host };
        save(&mut tx, &mut s, wake).await?;
        match ends {
            Ends::One(action) => actions::end_one(&mut tx, server, action, failure).await?,
            Ends::All => actions::end(&mut tx, server, failure).await?,
            Ends::ByHost => {}
        }
    }
    match failure {
        None => job.finish(&mut tx).await?,
        Some(reason) => job.fail(&mut tx, reason).await?,
    }
    Ok(tx.commit().await?)
}

/// The guest goes down, and this returns when it has.
pub(crate) async fn down(compute: &Compute, server: &str, graceful: bool) -> Result<(), StepError> {
    change(compute, server, |s| {
        if s.intent.power != Power::Off {
            s.want(Power::Off, false, graceful);
        }
        Ok(Wake::Host)
    })
    .await?;
    until(compute, server, |s| {
        let off = matches!(s.seen.power, PowerState::Shutdown | PowerState::Crashed | PowerState::Absent);
        Ok(s.is_deleting() || (off && s.seen.generation >= s.intent.generation))
    })
    .await
}

/// Ends a task that had to take the guest down: it boots, and the host's report ends the task; or it is to stay
/// off, and the task ends here with the state `off`.
pub(crate) async fn settle_power(
    compute: &Compute,
    job: &Job,
    server: &str,
    resume: bool,
    off: VmState,
) -> Result<(), StepError> {
    end(compute, job, server, None, |s| {
        if s.is_deleting() || s.task_state.is_none() {
            return Ends::ByHost;
        }
        if resume {
            if s.task_state == Some(TaskState::ResizePrep) {
                s.task_state = Some(TaskState::ResizeFinish);
            }
            if s.intent.power != Power::On {
                s.want(Power::On, true, false);
            }
            return Ends::ByHost;
        }
        (s.vm_state, s.task_state) = (off, None);
        Ends::All
    })
    .await
}

/// A task failed half-way through what cannot be taken back: the server is in `ERROR`, with the reason.
pub(crate) async fn broken(
    compute: &Compute,
    job: &Job,
    server: &str,
    reason: &str,
) -> Result<(), StepError> {
    end(compute, job, server, Some(reason), |s| {
        if !s.is_deleting() {
            (s.vm_state, s.task_state) = (VmState::Error, None);
            s.fail(500, reason);
        }
        Ends::All
    })
    .await
}

/// Which records end with a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// That of this action.
    One(&'static str),
    /// Whatever still runs.
    All,
    /// None yet: the host ends them.
    ByHost,
}

/// Who is to look at a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    Nobody,
    Host,
}
