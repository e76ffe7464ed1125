//! The Neutron v2.0 API: routes, bodies and views, one resource a file.
//!
//! The version document is at the mount point, the resources below `/v2.0`. Errors leave as
//! `{"NeutronError": {"type", "message", "detail"}}`.

mod agents;
mod body;
mod extensions;
mod floating_ips;
mod listing;
mod networks;
mod ports;
mod quotas;
mod resource;
mod routers;
mod security_groups;
mod subnets;
mod tags;
mod versions;

use std::sync::Arc;

use api::{Error, Routes, Service, TokenValidator};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::model::Meta;
use crate::{NetError, Networks};

pub(crate) fn router(networks: Networks, tokens: Arc<dyn TokenValidator>) -> axum::Router {
    let links = networks.links().clone();
    let service = Service { body_limit: 4 << 20, ..Service::network() };
    service.mount("/network", routes(), networks, tokens, &links)
}

pub(crate) fn routes() -> Routes<Networks> {
    Routes::new()
        .with(versions::routes)
        .with(networks::routes)
        .with(subnets::routes)
        .with(ports::routes)
        .with(security_groups::routes)
        .with(routers::routes)
        .with(floating_ips::routes)
        .with(quotas::routes)
        .with(agents::routes)
        .with(extensions::routes)
        .with(tags::routes)
}

/// The one place where this crate's errors become the API's.
impl From<NetError> for Error {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Refused(refusal) => {
                let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
                Error::new(status, refusal.message).with_kind(refusal.kind)
            }
            NetError::State(error) => error.into(),
            error @ NetError::OvsdbDown(_) => {
                Error::unavailable("The network engine is unavailable; please try again.").with_source(error)
            }
            error => Error::internal(error),
        }
    }
}

/// What every view begins with.
fn base(meta: &Meta) -> serde_json::Map<String, Value> {
    let mut view = serde_json::Map::new();
    let mut put = |name: &str, value: Value| view.insert(name.to_owned(), value);
    put("id", meta.id.clone().into());
    put("name", meta.name.clone().into());
    put("description", meta.description.clone().into());
    put("project_id", meta.project_id.clone().into());
    put("tenant_id", meta.project_id.clone().into());
    put("revision_number", meta.revision_number.into());
    put("created_at", meta.created_at.seconds_z().into());
    put("updated_at", meta.updated_at.seconds_z().into());
    put("tags", meta.tags.iter().cloned().collect::<Vec<_>>().into());
    view
}

/// `If-Match: revision_number=N`; anything else in that header is 400.
fn expected_revision(headers: &HeaderMap) -> Result<Option<i64>, NetError> {
    let Some(value) = headers.get(http::header::IF_MATCH) else { return Ok(None) };
    value
        .to_str()
        .ok()
        .and_then(|v| v.trim_matches('"').strip_prefix("revision_number="))
        .and_then(|v| v.trim().parse().ok())
        .map(Some)
        .ok_or_else(|| {
            NetError::bad_request("Revision number must be specified as revision_number=<n> in If-Match")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{Caller, Links};
    use tower::ServiceExt;

    struct Nobody;

    #[async_trait::async_trait]
    impl TokenValidator for Nobody {
        async fn validate(&self, _: &str) -> Result<Arc<Caller>, Error> {
            Err(Error::unauthenticated())
        }
    }

    /// Every route that is not declared open refuses a request without a token.
    #[tokio::test]
    async fn no_route_is_open_by_accident() {
        let db = testbed::databases().await.remove(0);
        let nowhere = "unix:/nonexistent".to_owned();
        let config = crate::Config { ovn_nb: nowhere.clone(), ovn_sb: nowhere, ..crate::Config::default() };
        let networks = Networks::start(db, config, Links::new("http://cloud.test")).await.unwrap();
        let app = networks.router(Arc::new(Nobody));
        let declared = routes();
        assert!(declared.table().len() > 40);
        for route in declared.table() {
            for token in [None, Some("x")] {
                let path = route.path.replace(['{', '}'], "x");
                let mut request =
                    http::Request::builder().method(route.method).uri(format!("/network{path}"));
                if let Some(token) = token {
                    request = request.header("x-auth-token", token);
                }
                let request = request.body(axum::body::Body::empty()).unwrap();
                let status = app.clone().oneshot(request).await.unwrap().status();
                if route.open {
                    assert!(status.is_success(), "{} {path}: {status}", route.method);
                } else {
                    assert_eq!(status, StatusCode::UNAUTHORIZED, "{} {path}", route.method);
                }
            }
        }
    }
}
