//! What the commands can fail with, in words that say what to do next.

use std::error::Error as _;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub(crate) enum AquiferError {
    #[error(
        "{0} needs root: it makes network namespaces and starts Ceph, Open vSwitch and libvirt. Try: sudo {1}"
    )]
    NeedsRoot(&'static str, String),
    #[error("{0}")]
    Config(String),
    #[error("{path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{0} is not free")]
    Listen(String, #[source] std::io::Error),
    #[error("another aquifer (pid {pid}) is using {dir}")]
    InUse { dir: PathBuf, pid: u32 },
    #[error("no cloud is running in {0}; start it with: aquifer up --data-dir {0}")]
    NotRunning(String),
    #[error("the engines do not come up")]
    Engines(#[from] engines::EngineError),
    #[error("Ceph")]
    Pool(#[from] pool::Error),
    #[error("the database")]
    State(#[from] state::StateError),
    #[error("{what}")]
    Service {
        what: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl AquiferError {
    pub(crate) fn file(path: &Path, source: std::io::Error) -> Self {
        AquiferError::File { path: path.to_owned(), source }
    }

    /// Wraps a service's own error; for `map_err`.
    pub(crate) fn service<E>(what: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |e| AquiferError::Service { what, source: e.into() }
    }

    /// The error and everything that caused it, on one line.
    pub(crate) fn explain(&self) -> String {
        let mut text = self.to_string();
        let mut next = self.source();
        while let Some(e) = next {
            let cause = e.to_string();
            if !text.ends_with(&cause) {
                text.push_str(": ");
                text.push_str(&cause);
            }
            next = e.source();
        }
        text
    }
}
