//! Rows and durable work: everything that must outlive a process but is not a byte of a tenant's data.
//!
//! - [`Db`] is a database, SQLite (embedded) or PostgreSQL (at scale), behind one SQL text.
//! - [`Tx`] is a write transaction; reads go straight to [`Db::read`].
//! - [`tasks`] runs long operations as rows: named steps with do and undo, leases, retries.
//! - [`Signals`] wake whoever waits for a change; they carry no data, so a lost one costs a tick.
//! - [`failpoint`] lets a test stop, fail or kill the process between any two steps.
//!
//! The rules of the one SQL text stand in ARCHITECTURE.md ("Rules that hold everywhere").

mod db;
mod engine;
mod error;
pub mod failpoint;
mod flag;
mod migrate;
mod signal;
pub mod tasks;
mod time;

pub use db::{Db, Tx};
pub use engine::Engine;
pub use error::StateError;
pub use flag::Flag;
pub use migrate::Migrations;
pub use signal::{Signal, Signals};
pub use tasks::{Job, NewTask, Operation, StepError, Worker, WorkerConfig};
pub use time::Timestamp;

/// A new random id in OpenStack's dashed form.
pub fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A new random id in Keystone's form: 32 hexadecimal digits.
pub fn new_hex_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
