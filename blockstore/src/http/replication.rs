//! `PUT /os-services/{failover_host, failover, freeze, thaw}`: a backend's replication, for operators.

use super::schemas::{FAILOVER, FREEZE};
use super::{Answer, Ask, Shared};
use crate::VolumeError;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::Value;

/// The actions that are this module's.
pub(super) fn knows(ask: &Ask, action: &str) -> bool {
    matches!(action, "failover_host" | "freeze" | "thaw") || (action == "failover" && ask.at(26))
}

pub(super) async fn act(v: &Shared, ask: &Ask, action: &str, body: &Value) -> Answer<Response> {
    let failover = action.starts_with("failover");
    if failover {
        FAILOVER.check(body)?
    } else {
        FREEZE.check(body)?
    }
    // `failover_host` is of a host alone, whatever the microversion.
    let host = host(body, action != "failover_host" && ask.at(26))?;
    match action {
        "freeze" => v.freeze(&ask.ctx, host, true).await?,
        "thaw" => v.freeze(&ask.ctx, host, false).await?,
        _ => {
            let id = body.get("backend_id").and_then(Value::as_str).filter(|id| !id.is_empty());
            v.fail_over(&ask.ctx, host, id).await?;
        }
    }
    Ok(if failover { StatusCode::ACCEPTED } else { StatusCode::OK }.into_response())
}

/// The host that is meant. No backend here is part of a cluster of services.
fn host(body: &Value, clusters: bool) -> Result<&str, VolumeError> {
    let word = |key: &str| body.get(key).and_then(Value::as_str).filter(|w| !w.is_empty());
    let cluster = word("cluster").filter(|_| clusters);
    match (word("host"), cluster) {
        (Some(host), None) => Ok(host),
        (None, Some(cluster)) => {
            Err(VolumeError::InvalidInput(format!("No service found with cluster={cluster}")))
        }
        (None, None) if !clusters => {
            Err(VolumeError::BadRequest("Missing required element 'host' in request body.".into()))
        }
        _ => Err(VolumeError::InvalidInput("One and only one of cluster and host must be set.".into())),
    }
}
