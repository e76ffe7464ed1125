//! Durable tasks: a long operation is a row, committed with the change that asked for it.
//!
//! ```text
//!            claim                 last step done
//!   ready ──────────► running ───────────────────► (row removed)
//!     ▲                  │  │
//!     │  StepError::     │  │ StepError::Fail, or attempts used up
//!     └── Retry/Wait ────┘  ▼
//!                       unwinding ──── every done step undone, `unwound` called ───► failed (kept a week)
//! ```
//!
//! A worker holds a lease while it works and renews it; when the worker dies the lease runs out and
//! another takes the task up at the step it had reached. So every step and every undo must be able to run
//! twice. Tasks with one subject (`volume/<id>`) run one at a time, oldest first.

mod job;
mod rows;
mod worker;

pub use job::{Job, StepError};
pub use worker::{Worker, WorkerConfig};

use crate::{Db, Migrations, StateError, Timestamp, Tx};
use async_trait::async_trait;
use serde::Serialize;

/// The tables of this module.
pub const MIGRATIONS: Migrations = Migrations {
    service: "state",
    steps: &[("0001_tasks", include_str!("../../migrations/0001_tasks.sql"))],
};

/// A kind of durable work. One file in a service's `tasks/` folder implements it.
#[async_trait]
pub trait Operation: Send + Sync + 'static {
    /// `volume.create` and the like; stands in rows, so it never changes.
    fn kind(&self) -> &'static str;
    /// The steps in order; their names stand in rows too.
    fn steps(&self) -> &'static [&'static str];
    /// Does a step. May be called again after it succeeded.
    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError>;
    /// Takes a step back, also one that was only half done. May be called again after it succeeded.
    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError>;
    /// After every undo: leaves the resource in a state that says what happened, such as `error`.
    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError>;
    /// How often a step is tried before the operation unwinds.
    fn attempts(&self) -> u32 {
        10
    }
}

/// What a service asks for.
pub struct NewTask<'a> {
    pub kind: &'static str,
    /// Tasks with the same subject run one after another.
    pub subject: &'a str,
}

impl NewTask<'_> {
    /// Adds the task to the transaction; workers are woken when it commits.
    pub async fn spawn(&self, tx: &mut Tx, params: &impl Serialize) -> Result<String, StateError> {
        let id = crate::new_id();
        let params = serde_json::to_string(params)?;
        rows::insert(tx, &id, self.kind, self.subject, &params, Timestamp::now()).await?;
        tx.wake(rows::TOPIC);
        Ok(id)
    }
}

/// The unfinished tasks of a subject, oldest first: `(kind, step)`.
pub async fn unfinished(db: &Db, subject: &str) -> Result<Vec<(String, i64)>, StateError> {
    rows::unfinished(db, subject).await
}
