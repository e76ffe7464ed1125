//! The metadata doors of this host's networks: opened as the controller says, answered by asking it.

use super::client::Controller;
use crate::ComputeError;
use crate::config::AgentConfig;
use crate::wire::Desired;
use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use netagent::agent::{MetadataRequest, MetadataSource, NetAgent};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Doors are looked at this often even if nothing is said to have changed.
const TICK: Duration = Duration::from_secs(10);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) fn start(config: &AgentConfig, controller: Controller) -> Result<NetAgent, ComputeError> {
    let net = netagent::agent::AgentConfig {
        ovs: config.ovs.clone(),
        bridge: config.bridge.clone(),
        namespace: config.network_namespace.clone(),
    };
    Ok(NetAgent::start(net, Arc::new(Source(controller)))?)
}

/// Keeps a door open in every network that has a guest here.
pub(super) async fn keep(net: &NetAgent, mut desired: watch::Receiver<Option<Arc<Desired>>>) {
    let mut open = Vec::new();
    let mut due = Instant::now();
    let mut failed = false;
    loop {
        let wanted = desired.borrow_and_update().as_ref().map(|d| d.networks.clone());
        // Consoles and power change what is desired too: networks are looked at when they have changed, and when
        // it is time.
        if let Some(wanted) = wanted
            && (wanted != open || Instant::now() >= due)
        {
            let done = net.reconcile(&wanted).await;
            let broken = done.is_err();
            match done {
                Err(e) if !failed => tracing::warn!(error = %e, "a network's metadata is not served"),
                _ => {}
            }
            (open, failed) = (wanted, broken);
            due = Instant::now() + if broken { AGAIN } else { TICK };
        }
        tokio::select! {
            changed = desired.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(due) => {}
        }
    }
}

struct Source(Controller);

#[async_trait]
impl MetadataSource for Source {
    async fn respond(&self, request: MetadataRequest) -> Response<Bytes> {
        if request.method != Method::GET && request.method != Method::HEAD {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "");
        }
        let path = request.path.split('?').next().unwrap_or_default();
        let source = request.source.to_string();
        match self.0.metadata(&request.network_id, &source, path).await {
            Ok(Some((kind, bytes))) => {
                let mut response = Response::new(Bytes::from(bytes));
                if let Ok(kind) = http::HeaderValue::from_str(&kind) {
                    response.headers_mut().insert(header::CONTENT_TYPE, kind);
                }
                response
            }
            Ok(None) => plain(StatusCode::NOT_FOUND, "404 Not Found\n"),
            Err(e) => {
                tracing::warn!(error = %e, network = %request.network_id, "metadata cannot be asked for");
                plain(StatusCode::SERVICE_UNAVAILABLE, "")
            }
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = status;
    response
}
