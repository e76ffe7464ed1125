//! The control socket of a running cloud: how `aquifer status` learns what only the process itself knows.
//! A Unix socket in the data directory, readable by root alone.

use crate::error::AquiferError;
use axum::Router;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

/// One line of `aquifer status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    /// `service` or `engine`.
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) detail: String,
}

/// What the process tells of itself.
pub(crate) trait Report: Send + Sync + 'static {
    fn lines(&self) -> futures::future::BoxFuture<'_, Vec<Line>>;
}

/// Answers on `socket` until `stop`.
pub(crate) fn serve(
    socket: &Path,
    report: Arc<dyn Report>,
    stop: CancellationToken,
) -> Result<(), AquiferError> {
    let failed = |e| AquiferError::file(socket, e);
    match std::fs::remove_file(socket) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(failed)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let status = move || {
        let report = report.clone();
        async move { api::Json(report.lines().await) }
    };
    let router = Router::new().route("/status", get(status));
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(e) = served.await {
            tracing::error!(error = %e, "the control socket is gone; `aquifer status` cannot see this process");
        }
    });
    Ok(())
}

/// Asks the process behind `socket`; `None` where none answers.
pub(crate) async fn ask(socket: &Path) -> Option<Vec<Line>> {
    let client = reqwest::Client::builder().unix_socket(socket.to_owned()).build().ok()?;
    client.get("http://aquifer/status").send().await.ok()?.json().await.ok()
}
