//! What is said to images beside JSON: bodies on their way up (at once, slowly, or never whole) and down, and changes.

use crate::library::Book;
use crate::user::User;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How a body is sent.
#[derive(Clone, Copy, PartialEq)]
pub enum Pace {
    /// With its length announced.
    AtOnce,
    /// In pieces, without.
    Slowly,
    /// A half, and then nothing more.
    Half,
}

type Pieces = BoxStream<'static, Result<Bytes, std::io::Error>>;

fn pieces(book: &Book, pace: Pace) -> Pieces {
    let file = Bytes::from(book.file.clone());
    let end = if pace == Pace::Half { file.len() / 2 } else { file.len() };
    let step = end.div_ceil(12).max(1);
    let parts = stream::iter((0..end).step_by(step)).then(move |at| {
        let part = file.slice(at..(at + step).min(end));
        async move {
            tokio::time::sleep(Duration::from_millis(70)).await;
            Ok(part)
        }
    });
    if pace == Pace::Half { parts.chain(stream::pending()).boxed() } else { parts.boxed() }
}

impl User {
    /// Sends a body to `/file` or `/stage` of an image, perhaps into a store of choice: the status and what was said.
    /// `None` where nothing answered.
    pub async fn put(
        self,
        path: String,
        store: Option<&'static str>,
        book: Arc<Book>,
        pace: Pace,
    ) -> Option<(u16, String)> {
        let request = reqwest::Client::new().put(self.0.url(&path)).header("x-auth-token", &self.0.token);
        let request = request.header("content-type", "application/octet-stream");
        let request = match store {
            Some(store) => request.header("x-image-meta-store", store),
            None => request,
        };
        let body = match pace {
            Pace::AtOnce => book.file.clone().into(),
            pace => reqwest::Body::wrap_stream(pieces(&book, pace)),
        };
        let answer = request.body(body).send().await.ok()?;
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap_or_default());
        assert!(status < 500 || matches!(status, 503 | 507), "PUT {path}: {status} {text}");
        Some((status, text))
    }

    /// Changes an image: as [`User::call`].
    pub async fn patch(&self, path: &str, changes: Value) -> Option<(u16, Value)> {
        let request = reqwest::Client::new().patch(self.0.url(path)).header("x-auth-token", &self.0.token);
        let request = request.header("content-type", "application/openstack-images-v2.1-json-patch");
        let answer = request.body(changes.to_string()).send().await.ok()?;
        let (status, body) = (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null));
        assert!(status < 500 || status == 503, "PATCH {path}: {status} {body}");
        Some((status, body))
    }

    /// The bytes of an image, or those of a range: `Err` with the status where there are none, `None` where they did not
    /// come, or not all.
    pub async fn download(&self, path: &str, range: Option<(usize, usize)>) -> Option<Result<Bytes, u16>> {
        let mut request = reqwest::Client::new().get(self.0.url(path)).header("x-auth-token", &self.0.token);
        if let Some((first, last)) = range {
            request = request.header("range", format!("bytes={first}-{last}"));
        }
        let answer = request.send().await.ok()?;
        match answer.status().as_u16() {
            200 | 206 => answer.bytes().await.ok().map(Ok),
            status => Some(Err(status)),
        }
    }
}
