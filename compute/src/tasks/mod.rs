//! The durable work, one operation a file. Tasks of one server run one after another, oldest first.

pub(crate) mod attach;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod detach;
pub(crate) mod unplug;

use crate::model::Server;
use crate::store::servers;
use crate::{Compute, ComputeError};
use state::{Operation, StepError};
use std::sync::Arc;
use std::time::Duration;

/// How long a step waits for a host in one go, before it gives its place to other tasks.
const HOLD: Duration = Duration::from_secs(3);
/// After how long such a step looks again.
const AGAIN: Duration = Duration::from_secs(1);

/// Every operation of this service, for a worker.
pub fn operations(compute: &Arc<Compute>) -> Vec<Arc<dyn Operation>> {
    vec![
        Arc::new(create::Create(compute.clone())),
        Arc::new(delete::Delete(compute.clone())),
        Arc::new(attach::Attach(compute.clone())),
        Arc::new(detach::Detach(compute.clone())),
        Arc::new(unplug::Unplug(compute.clone())),
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
    s.updated_at = state::Timestamp::now();
    servers::save(&mut tx, &s).await?;
    if wake == Wake::Host && !s.host.is_empty() {
        tx.wake(crate::observe::host_topic(&s.host));
    }
    tx.commit().await?;
    Ok(Some(s))
}

/// Who is to look at a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    Nobody,
    Host,
}
