//! What can go wrong while engines are started, watched or stopped.

use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the engines need root: run this with sudo")]
    NotRoot,
    #[error("{program} is not installed; `scripts/install` installs what is missing")]
    Missing { program: &'static str },
    #[error("another process runs the engines of {}", dir.display())]
    InUse { dir: PathBuf },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{} cannot be read: {reason}", path.display())]
    Corrupt { path: PathBuf, reason: String },
    #[error("`{command}` could not be run: {source}")]
    Spawn { command: String, source: std::io::Error },
    #[error("`{command}` failed: {output}")]
    Command { command: String, output: String },
    #[error("{engine} was not ready within {} s; its log is {}", after.as_secs(), log.display())]
    NotReady { engine: String, after: Duration, log: PathBuf },
    #[error("{engine} ended while it was starting: {last}; its log is {}", log.display())]
    Died { engine: String, last: String, log: PathBuf },
    #[error("{engine} (pid {pid}) does not end")]
    Stuck { engine: String, pid: u32 },
    #[error("no free address range for {what}: all of {tried} are in use on this machine")]
    NoRange { what: &'static str, tried: &'static str },
    #[error(
        "the address range {range} of this cloud is in use on this machine by {user}; free it, or choose \
         another for a new data directory"
    )]
    RangeTaken { range: String, user: String },
    #[error("too little disk space in {}: {free} bytes free, {needed} needed", dir.display())]
    DiskSpace { dir: PathBuf, free: u64, needed: u64 },
    #[error("{0}")]
    Refused(String),
}

impl EngineError {
    /// For `map_err` beside a file operation.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

pub(crate) type Result<T> = std::result::Result<T, EngineError>;
