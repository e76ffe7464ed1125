//! The Identity API on the wire: routes, envelopes, errors. One resource a file.

mod app_credentials;
mod auth;
mod catalogue;
mod credentials;
mod documents;
mod domain_config;
mod domains;
mod endpoint_filter;
mod endpoint_policy;
mod federation;
mod grants;
mod groups;
mod limits;
mod projects;
mod roles;
mod trusts;
mod users;
mod versions;
mod websso;

use crate::listing::Found;
use crate::store::Record;
use crate::store::record::Fields;
use crate::{Identity, IdentityError};
use api::{Error, Json, Links, Query, Routes};
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) type App = State<Arc<Identity>>;
pub(crate) type Answer = Result<Response, Error>;

/// Every route, as declared below `/identity`.
pub fn routes() -> Routes<Arc<Identity>> {
    Routes::new()
        .with(versions::routes)
        .with(auth::routes)
        .with(domains::routes)
        .with(projects::routes)
        .with(users::routes)
        .with(groups::routes)
        .with(roles::routes)
        .with(grants::routes)
        .with(credentials::routes)
        .with(app_credentials::routes)
        .with(trusts::routes)
        .with(catalogue::routes)
        .with(endpoint_filter::routes)
        .with(endpoint_policy::routes)
        .with(limits::routes)
        .with(documents::routes)
        .with(domain_config::routes)
        .with(federation::routes)
        .with(websso::routes)
}

/// The API, mounted at `/identity`.
pub fn router(identity: Arc<Identity>, links: &Links) -> axum::Router {
    let service = api::Service { observer: Some(crate::audit::changed), ..api::Service::identity() };
    service.mount("/identity", routes(), identity.clone(), identity, links)
}

/// The id of what a request has made, in its response's extensions, for the audit record.
#[derive(Clone)]
pub(crate) struct Touched(pub(crate) String);

impl From<IdentityError> for Error {
    fn from(e: IdentityError) -> Self {
        use IdentityError::*;
        match e {
            Api(e) => e,
            State(e) => e.into(),
            NotFound { .. } | Absent(_) => Error::not_found(e.to_string()),
            Conflict { .. } => Error::conflict(e.to_string()),
            Invalid(text) => Error::bad_request(text),
            Forbidden(text) => Error::forbidden(text),
            Unauthenticated(why) => {
                tracing::debug!(why, "authentication refused");
                Error::unauthenticated()
            }
            Unauthorized(text) => Error::unauthorized(text),
            Busy | Away(_) => Error::unavailable(e.to_string()),
            NotBuilt(text) => Error::not_implemented(text),
            TooMany { seconds } => Error::new(StatusCode::TOO_MANY_REQUESTS, e.to_string())
                .with_header(header::RETRY_AFTER, &seconds.to_string()),
            Keys(..) | BadKey(..) | Policy(_) | Hash(_) | Config(_) => Error::internal(e),
        }
    }
}

/// A JSON body without NUL characters, which no database column takes.
pub(crate) struct Body(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let Json(value) = Json::<Value>::from_request(request, state).await?;
        if has_nul(&value) {
            return Err(Error::bad_request("The request body must not contain NUL characters."));
        }
        Ok(Body(value))
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(s) => s.contains('\0'),
        Value::Array(list) => list.iter().any(has_nul),
        Value::Object(map) => map.iter().any(|(k, v)| k.contains('\0') || has_nul(v)),
        _ => false,
    }
}

/// 204 without a body.
pub(crate) fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// A body that depends on who asks.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("X-Auth-Token"));
    response
}

/// A JSON body that was rendered before, and depends on who asks.
pub(crate) fn rendered(body: Bytes) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind), (header::VARY, HeaderValue::from_static("X-Auth-Token"))], body)
        .into_response()
}

impl Identity {
    /// The URL of a path below `/identity/v3`.
    pub(crate) fn url(&self, path: &str) -> String {
        self.links.to(&format!("/identity/v3/{path}"))
    }

    fn linked(&self, path: &str, mut record: Record) -> Value {
        let url = self.url(&format!("{path}/{}", record.text("id")));
        record.insert("links".into(), json!({"self": url}));
        record.into()
    }

    /// One record under its key, linked to itself below `path`.
    pub(crate) fn one(&self, status: StatusCode, key: &str, path: &str, record: Record) -> Response {
        let touched = Touched(record.text("id").to_owned());
        let mut response = json(status, &json!({key: self.linked(path, record)}));
        response.extensions_mut().insert(touched);
        response
    }

    /// A list of records, each linked to itself below `path`.
    pub(crate) fn many(&self, key: &str, path: &str, query: &Query, found: impl Into<Found>) -> Response {
        self.many_at(path, key, path, query, found)
    }

    /// The same, where the list itself is at another path.
    pub(crate) fn many_at(
        &self,
        at: &str,
        key: &str,
        path: &str,
        query: &Query,
        found: impl Into<Found>,
    ) -> Response {
        json(StatusCode::OK, &self.page_of(at, key, path, query, found.into()))
    }

    /// The body of such a list.
    pub(crate) fn page_of(&self, at: &str, key: &str, path: &str, query: &Query, found: Found) -> Value {
        let own = self.url(at);
        let next = found.next.as_ref().map(|marker| {
            let rest = encode(query, &["marker"]);
            format!("{own}?{rest}{}marker={marker}", if rest.is_empty() { "" } else { "&" })
        });
        let rest = encode(query, &[]);
        let own = if rest.is_empty() { own } else { format!("{own}?{rest}") };
        let records: Vec<Value> = found.records.into_iter().map(|r| self.linked(path, r)).collect();
        let mut body = json!({key: records, "links": {"self": own, "next": next, "previous": null}});
        if found.truncated {
            body["truncated"] = true.into();
        }
        body
    }
}

/// What a part of a path or query holds as it is.
pub(crate) const IN_PATH: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');

fn encode(query: &Query, skip: &[&str]) -> String {
    let enc = |s| percent_encoding::utf8_percent_encode(s, IN_PATH);
    let kept = query.iter().filter(|(k, _)| !skip.contains(k));
    kept.map(|(k, v)| format!("{}={}", enc(k), enc(v))).collect::<Vec<_>>().join("&")
}
