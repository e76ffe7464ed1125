//! What can go wrong with rows, in the terms a service acts on.

use std::sync::Arc;

/// Cheap to clone, so that one failure can be told to several waiters.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StateError {
    /// The row is not there.
    #[error("no such row")]
    NotFound,
    /// A unique index or a foreign key refused the change.
    #[error("the change conflicts with an existing row")]
    Conflict(#[source] Arc<sqlx::Error>),
    /// The database can't be reached, or another transaction won: worth another try later.
    #[error("the database is unavailable")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// The database refused the statement: a defect of ours.
    #[error("the database refused a statement")]
    Database(#[source] Arc<sqlx::Error>),
    /// A row holds what this version cannot read.
    #[error("a row cannot be read: {0}")]
    Corrupt(String),
    /// A migration is unknown, out of order or changed.
    #[error("migration {0}")]
    Migration(String),
}

impl StateError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, StateError::Unavailable(_))
    }
}

impl From<sqlx::Error> for StateError {
    fn from(e: sqlx::Error) -> Self {
        use sqlx::error::ErrorKind;
        if matches!(e, sqlx::Error::RowNotFound) {
            return StateError::NotFound;
        }
        let e = Arc::new(e);
        match &*e {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => StateError::Unavailable(e),
            sqlx::Error::Database(d) => match d.kind() {
                ErrorKind::UniqueViolation | ErrorKind::ForeignKeyViolation => StateError::Conflict(e),
                _ if d.code().is_some_and(|c| is_transient_code(&c)) => StateError::Unavailable(e),
                _ => StateError::Database(e),
            },
            _ => StateError::Database(e),
        }
    }
}

/// SQLSTATE of PostgreSQL: deadlock, serialisation failure, shutting down, starting up, too many
/// connections; extended result codes of SQLite: busy, locked, full, I/O error.
fn is_transient_code(code: &str) -> bool {
    const POSTGRES: [&str; 7] = ["40P01", "40001", "57P01", "57P02", "57P03", "53300", "53100"];
    if POSTGRES.contains(&code) {
        return true;
    }
    code.len() < 5 && code.parse::<i32>().is_ok_and(|n| matches!(n & 0xff, 5 | 6 | 10 | 13))
}

impl From<serde_json::Error> for StateError {
    fn from(e: serde_json::Error) -> Self {
        StateError::Corrupt(e.to_string())
    }
}
