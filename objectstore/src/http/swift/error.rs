//! Swift's errors: a status, and the line of HTML that Swift sends with it.

use crate::ObjectError;
use crate::http::encode;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};

/// What a caller without a token is told, where no account is named.
const REALM: &str = "Swift realm=\"unknown\"";

/// An error as Swift tells it.
#[derive(Debug, Clone)]
pub(crate) struct SwiftError {
    status: StatusCode,
    /// Replaces Swift's standard text; plain, sent as text/plain as Swift's own messages are.
    message: Option<String>,
    /// The message is a page.
    html: bool,
    cause: Option<Box<ObjectError>>,
    headers: Vec<(HeaderName, String)>,
}

pub(crate) type SwiftResult<T> = Result<T, SwiftError>;

impl SwiftError {
    pub(crate) fn of(status: StatusCode) -> Self {
        SwiftError { status, message: None, html: false, cause: None, headers: Vec::new() }
    }

    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        SwiftError { message: Some(message.into()), ..SwiftError::of(status) }
    }

    /// With a page of its own.
    pub(crate) fn html(status: StatusCode, page: String) -> Self {
        SwiftError { html: true, ..SwiftError::new(status, page) }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        SwiftError::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn precondition(message: impl Into<String>) -> Self {
        SwiftError::new(StatusCode::PRECONDITION_FAILED, message)
    }

    pub(crate) fn unauthorized() -> Self {
        SwiftError::of(StatusCode::UNAUTHORIZED).with(header::WWW_AUTHENTICATE, REALM)
    }

    /// With a reason of its own.
    pub(super) fn unauthorized_for(message: &str) -> Self {
        SwiftError { message: Some(message.to_owned()), ..SwiftError::unauthorized() }
    }

    pub(crate) fn forbidden() -> Self {
        SwiftError::of(StatusCode::FORBIDDEN)
    }

    pub(crate) fn method_not_allowed(allowed: &str) -> Self {
        SwiftError::of(StatusCode::METHOD_NOT_ALLOWED).with(header::ALLOW, allowed)
    }

    pub(crate) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Names the account that a token is wanted for, where that is what was answered.
    pub(super) fn in_realm(mut self, account: &str) -> Self {
        for (name, value) in &mut self.headers {
            if *name == header::WWW_AUTHENTICATE && value == REALM && !account.is_empty() {
                let mut realm = String::new();
                encode(&mut realm, account.as_bytes(), true);
                *value = format!("Swift realm=\"{realm}\"");
            }
        }
        self
    }

    pub(crate) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    pub(crate) fn is_forbidden(&self) -> bool {
        self.status == StatusCode::FORBIDDEN
    }

    /// The status as a line: `404 Not Found`.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.status(), self.status.canonical_reason().unwrap_or_default())
    }

    /// What the caller is told where the status is not the answer's own: in plain text.
    pub(super) fn reason(&self) -> String {
        self.message.clone().unwrap_or_else(|| {
            let (title, text) = words(self.status);
            format!("{title}\n{text}")
        })
    }

    /// What the caller is told.
    pub(crate) fn text(&self) -> String {
        self.message.clone().unwrap_or_else(|| standard(self.status))
    }

    pub(crate) fn respond(self, id: &str, head: bool) -> Response {
        if let Some(cause) = &self.cause {
            log(cause, id);
        }
        let (kind, text) = match self.message {
            Some(text) if self.html => ("text/html; charset=UTF-8", text),
            Some(text) => ("text/plain; charset=UTF-8", text),
            None => ("text/html; charset=UTF-8", standard(self.status)),
        };
        let text = if head { String::new() } else { text };
        let mut response = (self.status, [(header::CONTENT_TYPE, kind)], text).into_response();
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// The text that Swift sends with a status.
pub(crate) fn standard(status: StatusCode) -> String {
    if matches!(status.as_u16(), 201 | 204 | 304) {
        return String::new();
    }
    let (title, text) = words(status);
    format!("<html><h1>{title}</h1><p>{text}</p></html>")
}

/// Swift's title and sentence of a status.
fn words(status: StatusCode) -> (&'static str, &'static str) {
    match status.as_u16() {
        202 => ("Accepted", "The request is accepted for processing."),
        400 => (
            "Bad Request",
            "The server could not comply with the request since it is either malformed or otherwise incorrect.",
        ),
        401 => (
            "Unauthorized",
            "This server could not verify that you are authorized to access the document you requested.",
        ),
        403 => ("Forbidden", "Access was denied to this resource."),
        404 => ("Not Found", "The resource could not be found."),
        405 => ("Method Not Allowed", "The method is not allowed for this resource."),
        408 => {
            ("Request Timeout", "The server has waited too long for the request to be sent by the client.")
        }
        409 => ("Conflict", "There was a conflict when trying to complete your request."),
        411 => ("Length Required", "Content-Length header required."),
        412 => ("Precondition Failed", "A precondition for this request was not met."),
        413 => ("Request Entity Too Large", "The body of your request was too large for this server."),
        416 => ("Requested Range Not Satisfiable", "The Range requested is not available."),
        422 => ("Unprocessable Entity", "Unable to process the contained instructions"),
        499 => ("Client Disconnect", "The client was disconnected during request."),
        501 => ("Not Implemented", "The requested method is not implemented by this server."),
        503 => {
            ("Service Unavailable", "The server is currently unavailable. Please try again at a later time.")
        }
        507 => ("Insufficient Storage", "There was not enough space to save the resource."),
        _ => ("Internal Error", "The server was unable to process the request."),
    }
}

fn log(e: &ObjectError, id: &str) {
    let mut text = e.to_string();
    let mut next = std::error::Error::source(e);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    if e.is_transient() {
        tracing::warn!(request_id = id, "{text}");
    } else {
        tracing::error!(request_id = id, "{text}");
    }
}

impl From<ObjectError> for SwiftError {
    fn from(e: ObjectError) -> Self {
        use ObjectError as O;
        let status =
            |n: u16| SwiftError::of(StatusCode::from_u16(n).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
        let told = match &e {
            O::NoSuchVersion => {
                return SwiftError::new(StatusCode::NOT_FOUND, "The specified version does not exist");
            }
            O::NoHistory => return status(412),
            O::IsMarker => return SwiftError::of(StatusCode::NOT_FOUND),
            O::ReadOnly => {
                return SwiftError::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "Writes are disabled for this account.",
                );
            }
            O::Locked => return SwiftError::new(StatusCode::FORBIDDEN, "The object is locked."),
            O::NoSuchContainer | O::NoSuchObject | O::NoSuchTopic => return status(404),
            O::NotEmpty | O::HasVersions | O::OtherPolicy | O::BucketExists { .. } => return status(409),
            O::NoSuchPolicy(name) => {
                return SwiftError::bad_request(format!("Invalid X-Storage-Policy '{name}'"));
            }
            O::BadName(what) => return SwiftError::bad_request(*what),
            O::Invalid(text) => return SwiftError::bad_request(text.clone()),
            O::Forbidden | O::Sealed => return status(403),
            O::NotSealed | O::OtherSeal(_) | O::OtherChecksum(_) => return status(400),
            O::TooLarge(_) => return status(413),
            O::OverQuota(text) => return SwiftError::new(StatusCode::PAYLOAD_TOO_LARGE, *text),
            O::Incomplete | O::OtherLength { .. } | O::BrokenBody(_) => return status(499),
            O::SmallChunk { .. } => return status(400),
            O::SlowBody => return status(408),
            O::EtagMismatch | O::ChecksumMismatch(_) | O::Sha256Mismatch { .. } => return status(422),
            O::PreconditionFailed => return status(412),
            O::NoSuchUpload | O::InvalidPart(_) | O::PartOrder | O::PartTooSmall(_) => return status(400),
            O::NoSpace(_) => status(507),
            O::Contended | O::Unavailable(_) | O::Identity(_) => status(503),
            O::State(s) if s.is_transient() => status(503),
            O::State(_) | O::Storage(_) | O::Damaged(_) | O::Failpoint => status(500),
        };
        SwiftError { cause: Some(Box::new(e)), ..told }
    }
}
