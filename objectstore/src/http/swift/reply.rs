//! Responses that several files send.

use super::error;
use super::headers::Out;
use super::listing::Format;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

/// Headers and no body.
pub(super) fn empty(status: StatusCode, out: Out) -> Response {
    (status, out.done()).into_response()
}

/// Headers and the text that Swift sends with a status.
pub(super) fn standard(status: StatusCode, mut out: Out) -> Response {
    out.set("content-type", "text/html; charset=UTF-8");
    (status, out.done(), error::standard(status)).into_response()
}

/// A listing. An empty one in text is a 204.
pub(super) fn listing(mut out: Out, format: Format, text: String) -> Response {
    out.set("content-type", format.content_type());
    let status = if text.is_empty() { StatusCode::NO_CONTENT } else { StatusCode::OK };
    (status, out.done(), text).into_response()
}

/// A body of known length.
pub(super) fn content(status: StatusCode, mut out: Out, length: u64, body: Body) -> Response {
    out.number("content-length", length);
    (status, out.done(), body).into_response()
}
