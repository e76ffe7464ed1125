//! Extractors whose rejections are OpenStack errors.

use crate::Error;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A JSON body, both ways. Reading, it refuses what is malformed or of the wrong shape with 400, and what is
/// too large with 413.
#[derive(Debug, Clone)]
pub struct Json<T>(pub T);

/// The most bytes that this request's body may have; set by the service's layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimit(pub(crate) usize);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self, Error> {
        let limit = request.extensions().get::<BodyLimit>().map_or(1 << 20, |l| l.0);
        let bytes = whole_body(request, limit).await?;
        let mut from = serde_json::Deserializer::from_slice(&bytes);
        let value = T::deserialize(&mut from).map_err(|e| match e.classify() {
            serde_json::error::Category::Data => Error::bad_request(format!("Invalid input: {e}")),
            _ => Error::bad_request("Malformed request body: it is not valid JSON."),
        })?;
        from.end().map_err(|_| Error::bad_request("Malformed request body: it is not valid JSON."))?;
        Ok(Json(value))
    }
}

/// Reads a body of at most `limit` bytes.
async fn whole_body(request: Request, limit: usize) -> Result<Bytes, Error> {
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(e) if e.is::<LengthLimitError>() => Err(Error::over_limit("The request body is too large.")),
        Err(_) => Err(Error::bad_request("The request body ended early.")),
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes)
                .into_response(),
            Err(e) => Error::internal(e).into_response(),
        }
    }
}

/// The path's parameters. What does not parse is not there: 404.
#[derive(Debug, Clone)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        // No database column takes a NUL, so nothing is named so.
        let nul = parts.uri.path().contains("%00");
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) if !nul => Ok(Path(value)),
            _ => Err(Error::not_found("The resource could not be found.")),
        }
    }
}
