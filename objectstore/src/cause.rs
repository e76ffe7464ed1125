//! What for a change is made, and by whom: told by the doors and by the lifecycle, used where a change reaches the
//! index, to tell those who want to hear of it.
//!
//! It travels with the task, beside the engine's functions rather than through them: none of them needs it.

use state::Timestamp;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::task::JoinHandle;

tokio::task_local! {
    static CAUSE: Arc<Cause>;
}

/// Why objects change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) doing: Doing,
    /// The caller's project; empty for nobody, and for the cloud itself.
    pub(crate) who: String,
    pub(crate) source: Option<IpAddr>,
    pub(crate) request_id: String,
    /// When it was done first, in another container; absent, it is done now.
    pub(crate) at: Option<Timestamp>,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Objects are written: by this event.
    Write(&'static str),
    Delete,
    /// Metadata are changed: this event.
    Change(&'static str),
    /// A lifecycle rule is carried out.
    Age,
}

/// Runs `work` for a cause.
pub(crate) async fn within<F: Future>(cause: Option<Cause>, work: F) -> F::Output {
    match cause {
        Some(cause) => CAUSE.scope(Arc::new(cause), work).await,
        None => work.await,
    }
}

/// The cause of what this task does, if it was told.
pub(crate) fn current() -> Option<Arc<Cause>> {
    CAUSE.try_with(Clone::clone).ok()
}

/// As `tokio::spawn`, with the same cause.
pub(crate) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match current() {
        Some(cause) => tokio::spawn(CAUSE.scope(cause, work)),
        None => tokio::spawn(work),
    }
}
