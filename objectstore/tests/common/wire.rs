//! Requests to a door, without a connection.

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;

/// What a door answers.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

/// Sends `METHOD path` with headers, `name: value` each, and a body.
pub async fn ask(router: &Router, what: &str, headers: &[&str], body: impl Into<Vec<u8>>) -> Answer {
    let (method, path) = what.split_once(' ').unwrap();
    let body: Vec<u8> = body.into();
    let mut request = Request::builder().method(method).uri(path).header("content-length", body.len());
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        request = request.header(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let response = router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let (status, headers): (StatusCode, _) = (response.status(), response.headers().clone());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Answer { status: status.as_u16(), headers, body: String::from_utf8_lossy(&body).into_owned() }
}
