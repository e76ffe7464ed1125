//! A service's API as a whole: what all its requests and responses have in common.

use crate::auth::{Door, UrlProject, require_token};
use crate::error::{Asked, render};
use crate::extract::BodyLimit;
use crate::observe::{Kept, Observed};
use crate::{Error, Links, Microversion, Microversions, RequestId, Routes, Style, TokenValidator};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Uri, header};
use std::sync::Arc;
use std::time::Duration;

/// What kind of API a service has. Made by one of the named functions, then adjusted field by field.
#[derive(Debug, Clone)]
pub struct Service {
    pub name: &'static str,
    pub style: Style,
    pub microversions: Option<Microversions>,
    /// JSON bodies larger than this are 413.
    pub body_limit: usize,
    /// A handler that takes longer is 503. `None` for the services that stream bodies.
    pub timeout: Option<Duration>,
    /// Paths may begin with a project's id, which must be the token's (`/v3/<project>/volumes`).
    pub project_in_path: bool,
    /// A path may end in a slash more (Keystone).
    pub loose_slash: bool,
    /// Sent beside `x-openstack-request-id` with the same value.
    pub own_request_id: Option<&'static str>,
    /// Is shown every answered request that may have changed something.
    pub observer: Option<fn(&Observed<'_>)>,
}

impl Service {
    fn new(name: &'static str, style: Style) -> Self {
        Service {
            name,
            style,
            microversions: None,
            body_limit: 112 << 10,
            timeout: Some(Duration::from_secs(60)),
            project_in_path: false,
            loose_slash: false,
            own_request_id: None,
            observer: None,
        }
    }

    pub fn identity() -> Self {
        Service { loose_slash: true, ..Service::new("identity", Style::Keystone) }
    }

    pub fn image() -> Self {
        Service { timeout: None, ..Service::new("image", Style::Glance) }
    }

    /// Block Storage v3, mounted below `/volume/v3`.
    pub fn volume() -> Self {
        let versions = Microversions {
            service: "volume",
            aliases: &["volumev3"],
            min: Microversion(3, 0),
            max: Microversion(3, 71),
            legacy: None,
        };
        Service {
            microversions: Some(versions),
            project_in_path: true,
            ..Service::new("volume", Style::Fault)
        }
    }

    /// Compute v2.1, mounted below `/compute/v2.1`.
    pub fn compute() -> Self {
        let versions = Microversions {
            service: "compute",
            aliases: &[],
            min: Microversion(2, 1),
            max: Microversion(2, 96),
            legacy: Some("x-openstack-nova-api-version"),
        };
        Service {
            microversions: Some(versions),
            project_in_path: true,
            own_request_id: Some("x-compute-request-id"),
            ..Service::new("compute", Style::Fault)
        }
    }

    pub fn placement() -> Self {
        let versions = Microversions {
            service: "placement",
            aliases: &[],
            min: Microversion(1, 0),
            max: Microversion(1, 39),
            legacy: None,
        };
        Service { microversions: Some(versions), ..Service::new("placement", Style::Placement) }
    }

    pub fn network() -> Self {
        Service::new("network", Style::Neutron)
    }

    pub fn object_store() -> Self {
        Service { timeout: None, ..Service::new("object-store", Style::Swift) }
    }

    /// Makes the router, mounted at `prefix` (`/volume/v3`). Paths are as declared below it.
    pub fn mount<S: Clone + Send + Sync + 'static>(
        self,
        prefix: &str,
        routes: Routes<S>,
        state: S,
        tokens: Arc<dyn TokenValidator>,
        links: &Links,
    ) -> Router {
        let door = Door { tokens, service: self.name, realm: links.to("/identity") };
        // A layer for no routes at all is refused by axum.
        let guarded = if routes.table().iter().all(|r| r.open) {
            routes.guarded
        } else {
            routes.guarded.route_layer(from_fn_with_state(door, require_token))
        };
        let (project_in_path, loose_slash) = (self.project_in_path, self.loose_slash);
        let inner: Router =
            guarded.merge(routes.open).layer(from_fn_with_state(Arc::new(self), frame)).with_state(state);
        if project_in_path {
            // The id must leave the path before routing begins, so this wraps the whole router.
            let strip = tower::util::MapRequest::new(inner, take_project);
            Router::new().nest_service(prefix, strip)
        } else if loose_slash {
            Router::new().nest_service(prefix, tower::util::MapRequest::new(inner, trim_slash))
        } else {
            Router::new().nest_service(prefix, inner)
        }
    }

    fn negotiate(&self, request: &mut Request) -> Result<Option<Microversion>, Error> {
        let Some(versions) = &self.microversions else { return Ok(None) };
        let version = versions.negotiate(request.headers())?;
        request.extensions_mut().insert(version);
        Ok(Some(version))
    }
}

/// Runs around every request of a service.
async fn frame(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().cloned().unwrap_or_default();
    request.extensions_mut().insert(id.clone());
    request.extensions_mut().insert(BodyLimit(service.body_limit));
    let kept = service.observer.and_then(|observer| Some((observer, Kept::of(&request)?)));
    let accept = request.headers().get(header::ACCEPT).and_then(|v| v.to_str().ok());
    let asked = Asked {
        method: request.method().clone(),
        wants_json: accept.is_some_and(|a| a.contains("json")),
        request_id: id.as_str().to_owned(),
    };
    let (version, response) = match service.negotiate(&mut request) {
        Ok(version) => (version, within(service.timeout, next.run(request)).await),
        Err(e) => (None, e.into_response()),
    };
    let mut response = render(service.style, &asked, response);
    let headers = response.headers_mut();
    if let (Some(versions), Some(version)) = (&service.microversions, version) {
        versions.announce(version, headers);
    }
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        if let Some(own) = service.own_request_id {
            headers.insert(HeaderName::from_static(own), value.clone());
        }
        headers.insert("x-openstack-request-id", value);
    }
    response.extensions_mut().insert(crate::metrics::Served(service.name));
    if let Some((observer, kept)) = kept {
        kept.show(observer, &response);
    }
    response
}

async fn within(limit: Option<Duration>, work: impl Future<Output = Response>) -> Response {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            Error::unavailable("The request took too long; please try again.").into_response()
        }),
        None => work.await,
    }
}

/// Takes a leading project id out of the path and remembers it for the check against the token.
fn take_project(mut request: Request) -> Request {
    let path = request.uri().path();
    let first = path[1..].split('/').next().unwrap_or_default();
    if !is_id(first) {
        return request;
    }
    let id = first.to_owned();
    let rest = &path[1 + first.len()..];
    let rest = if rest.is_empty() { "/" } else { rest };
    let target = match request.uri().query() {
        Some(q) => format!("{rest}?{q}"),
        None => rest.to_owned(),
    };
    // Taken from a valid URI, so it is one.
    if let Ok(uri) = target.parse::<Uri>() {
        *request.uri_mut() = uri;
        request.extensions_mut().insert(UrlProject(id));
    }
    request
}

/// Takes one slash from the end of a path.
fn trim_slash(mut request: Request) -> Request {
    let path = request.uri().path();
    let Some(trimmed) = path.strip_suffix('/').filter(|p| !p.is_empty()) else { return request };
    let target = match request.uri().query() {
        Some(q) => format!("{trimmed}?{q}"),
        None => trimmed.to_owned(),
    };
    // Taken from a valid URI, so it is one.
    if let Ok(uri) = target.parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request
}

/// Project ids: 32 hexadecimal digits, or a dashed UUID from an adopted cloud.
fn is_id(segment: &str) -> bool {
    matches!(segment.len(), 32 | 36) && uuid::Uuid::parse_str(segment).is_ok()
}
