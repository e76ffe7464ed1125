//! One error type for all handlers, and the one place where it becomes a body that clients parse.
//!
//! A handler returns [`Error`]; its response carries no body yet. The service's layer ([`render`]) writes the
//! body in the service's [`Style`], also for axum's own 404 and 405.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::json;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The shape of a service's error bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `{"error": {"code", "title", "message"}}`
    Keystone,
    /// `{"itemNotFound": {"code", "message"}}`: Cinder and Nova
    Fault,
    /// `{"NeutronError": {"type", "message", "detail"}}`
    Neutron,
    /// `{"errors": [{"status", "title", "detail", "code", "request_id"}]}`
    Placement,
    /// Glance: an HTML page, or `{"message", "code", "title"}` where JSON is asked for
    Glance,
    /// Swift: an HTML page
    Swift,
}

/// What a request is refused with. The message is the caller's; the source is the log's.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    status: StatusCode,
    /// The name a style gives this error where the status alone does not say it, such as `NetworkNotFound`.
    kind: Option<String>,
    message: String,
    headers: HeaderMap,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Error(Box::new(Inner { status, kind: None, message, headers: HeaderMap::new(), source: None }))
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Error::new(StatusCode::BAD_REQUEST, message)
    }

    /// 401 for a request without a valid token.
    pub fn unauthenticated() -> Self {
        Error::unauthorized("The request you have made requires authentication.")
    }

    pub fn unauthorized(message: impl Into<String>) -> Self {
        Error::new(StatusCode::UNAUTHORIZED, message)
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Error::new(StatusCode::FORBIDDEN, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Error::new(StatusCode::NOT_FOUND, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Error::new(StatusCode::CONFLICT, message)
    }

    /// 413, which Nova and Cinder name `overLimit`.
    pub fn over_limit(message: impl Into<String>) -> Self {
        Error::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// For what this cloud does not offer.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Error::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    /// An engine or the database is out of reach; the caller may try again.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Error::new(StatusCode::SERVICE_UNAVAILABLE, message).with_header(header::RETRY_AFTER, "5")
    }

    /// A defect of ours: the caller learns only that it happened.
    pub fn internal(source: impl StdError + Send + Sync + 'static) -> Self {
        Error::new(StatusCode::INTERNAL_SERVER_ERROR, "The server has met an unexpected condition.")
            .with_source(source)
    }

    /// Names the error in the style's own vocabulary (`itemNotFound`, `NetworkNotFound`, `placement.…`).
    #[must_use]
    pub fn with_kind(mut self, kind: impl Into<String>) -> Self {
        self.0.kind = Some(kind.into());
        self
    }

    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers.insert(name, value);
        }
        self
    }

    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn kind(&self) -> Option<&str> {
        self.0.kind.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.status.as_u16(), self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

impl From<state::StateError> for Error {
    fn from(e: state::StateError) -> Self {
        match e {
            state::StateError::NotFound => Error::not_found("The resource could not be found."),
            state::StateError::Conflict(_) => {
                Error::conflict("The change conflicts with an existing resource.").with_source(e)
            }
            state::StateError::Unavailable(_) => {
                Error::unavailable("The database is unavailable; please try again.").with_source(e)
            }
            other => Error::internal(other),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(e: sqlx::Error) -> Self {
        state::StateError::from(e).into()
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.headers_mut().extend(self.0.headers.clone());
        response.extensions_mut().insert(self);
        response
    }
}

/// What [`render`] must know of the request.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) wants_json: bool,
    pub(crate) request_id: String,
}

/// Gives an error response its body and logs what the operator must see.
pub(crate) fn render(style: Style, asked: &Asked, response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let carried = response.extensions().get::<Error>().cloned();
    let error = match carried {
        Some(e) => e,
        // axum's own: no such route, or no such method on it.
        None if status == StatusCode::NOT_FOUND => Error::not_found("The resource could not be found."),
        None if status == StatusCode::METHOD_NOT_ALLOWED => {
            Error::new(status, "The method is not allowed for this resource.")
        }
        None => return response,
    };
    log(&error, &asked.request_id);
    let (mut parts, _) = response.into_parts();
    let (kind, text) = body(style, asked, &error);
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let text = if asked.method == Method::HEAD { String::new() } else { text };
    Response::from_parts(parts, text.into())
}

fn log(error: &Error, request_id: &str) {
    let mut cause = String::new();
    let mut next = StdError::source(error);
    while let Some(e) = next {
        cause.push_str(": ");
        cause.push_str(&e.to_string());
        next = e.source();
    }
    if error.status().is_server_error() && error.status() != StatusCode::NOT_IMPLEMENTED {
        tracing::error!(%request_id, status = error.status().as_u16(), "{}{cause}", error.message());
    } else if !cause.is_empty() {
        tracing::info!(%request_id, status = error.status().as_u16(), "{}{cause}", error.message());
    }
}

fn body(style: Style, asked: &Asked, e: &Error) -> (&'static str, String) {
    const JSON: &str = "application/json";
    const HTML: &str = "text/html; charset=UTF-8";
    let (code, title) = (e.status().as_u16(), title(e.status()));
    match style {
        Style::Keystone => {
            (JSON, json!({"error": {"code": code, "title": title, "message": e.message()}}).to_string())
        }
        Style::Fault => {
            let kind = e.kind().unwrap_or_else(|| fault(e.status()));
            (JSON, json!({kind: {"code": code, "message": e.message()}}).to_string())
        }
        Style::Neutron => {
            let kind = e.kind().unwrap_or_else(|| neutron(e.status()));
            (JSON, json!({"NeutronError": {"type": kind, "message": e.message(), "detail": ""}}).to_string())
        }
        Style::Placement => {
            let kind = e.kind().unwrap_or("placement.undefined_code");
            let one = json!({"status": code, "title": title, "detail": e.message(), "code": kind,
                "request_id": asked.request_id});
            (JSON, json!({"errors": [one]}).to_string())
        }
        Style::Glance if asked.wants_json => (
            JSON,
            json!({"message": e.message(), "code": format!("{code} {title}"), "title": title}).to_string(),
        ),
        Style::Glance => (
            HTML,
            format!(
                "<html>\n <head>\n  <title>{code} {title}</title>\n </head>\n <body>\n  <h1>{code} {title}</h1>\n  {}<br /><br />\n\n\n </body>\n</html>",
                escape(e.message())
            ),
        ),
        Style::Swift => (HTML, format!("<html><h1>{title}</h1><p>{}</p></html>", escape(e.message()))),
    }
}

/// Text made safe inside HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
        other => other.canonical_reason().unwrap_or("Error"),
    }
}

fn fault(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "badRequest",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "itemNotFound",
        405 => "badMethod",
        409 => "conflictingRequest",
        413 | 429 => "overLimit",
        415 => "badMediaType",
        501 => "notImplemented",
        503 => "serviceUnavailable",
        _ => "computeFault",
    }
}

fn neutron(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "HTTPBadRequest",
        401 => "HTTPUnauthorized",
        403 => "PolicyNotAuthorized",
        404 => "HTTPNotFound",
        405 => "HTTPMethodNotAllowed",
        409 => "HTTPConflict",
        501 => "HTTPNotImplemented",
        503 => "HTTPServiceUnavailable",
        _ => "HTTPInternalServerError",
    }
}
