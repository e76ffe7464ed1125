//! Logs: to a file in the data directory under `up`, to stderr under `serve`.

use crate::error::AquiferError;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Mutex;
use tracing_subscriber::EnvFilter;

/// `AQUIFER_LOG` takes tracing's filter language; `access=debug` shows a line for every request.
fn filter() -> EnvFilter {
    EnvFilter::try_from_env("AQUIFER_LOG").unwrap_or_else(|_| EnvFilter::new("info,access=info,sqlx=warn"))
}

/// Appends to `file`.
pub(crate) fn to_file(file: &Path) -> Result<(), AquiferError> {
    let log =
        OpenOptions::new().create(true).append(true).open(file).map_err(|e| AquiferError::file(file, e))?;
    tracing_subscriber::fmt().with_env_filter(filter()).with_ansi(false).with_writer(Mutex::new(log)).init();
    Ok(())
}

/// JSON lines on stderr, for a service manager's journal.
pub(crate) fn to_stderr() {
    tracing_subscriber::fmt().with_env_filter(filter()).json().with_writer(std::io::stderr).init();
}
