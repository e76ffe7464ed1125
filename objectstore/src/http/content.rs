//! Content on its way through a door: request bodies in, object content out.

use super::relay::paced;
use crate::large::Assembly;
use crate::object::{Body, Source};
use crate::range::Span;
use crate::{ObjectError, ObjectStore};
use axum::body::Body as HttpBody;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use http::{HeaderMap, header};
use std::time::Duration;

/// The length that a request announces.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// A request's body as a stream.
pub(crate) fn frames(body: HttpBody) -> impl Stream<Item = Result<Bytes, ObjectError>> + Send + 'static {
    body.into_data_stream().map(|frame| frame.map_err(|e| ObjectError::BrokenBody(e.to_string())))
}

/// A request's body, for the engine.
pub(crate) fn upload(body: HttpBody, headers: &HeaderMap) -> Body {
    Body::new(frames(body), content_length(headers))
}

/// All of a small body: manifests, lists of names. `None` where it is larger than `most`; a client that sends nothing for
/// `idle` is given up.
pub(crate) async fn read_small(
    body: HttpBody,
    most: usize,
    idle: Duration,
) -> Result<Option<Bytes>, ObjectError> {
    let mut frames = paced(frames(body), idle);
    let mut all = bytes::BytesMut::new();
    while let Some(frame) = frames.next().await {
        let frame = frame?;
        if all.len() + frame.len() > most {
            return Ok(None);
        }
        all.extend_from_slice(&frame);
    }
    Ok(Some(all.freeze()))
}

/// Where a GET's bytes come from.
#[derive(Clone)]
pub(crate) enum Content {
    Object(Source),
    Large(Assembly),
}

impl Content {
    pub(crate) fn stream(self, span: Span) -> BoxStream<'static, Result<Bytes, ObjectError>> {
        match self {
            Content::Object(source) => source.stream(span).boxed(),
            Content::Large(assembly) => assembly.stream(span),
        }
    }

    /// The body of a reply with one span. An error behind its first bytes breaks the connection off: the
    /// client must not take what it has for all.
    pub(crate) fn body(self, span: Span) -> HttpBody {
        HttpBody::from_stream(self.stream(span))
    }

    /// As `body`, but fails while a status can still be sent, where the very first bytes can't be read.
    pub(crate) async fn checked_body(self, span: Span) -> Result<HttpBody, ObjectError> {
        let mut stream = self.stream(span);
        match stream.next().await {
            None => Ok(HttpBody::empty()),
            Some(first) => Ok(HttpBody::from_stream(futures::stream::iter([Ok(first?)]).chain(stream))),
        }
    }

    /// A `multipart/byteranges` body: its length and itself.
    pub(crate) fn multipart(
        self,
        spans: Vec<Span>,
        size: u64,
        kind: &str,
        boundary: &str,
    ) -> (u64, HttpBody) {
        let heads: Vec<String> = spans
            .iter()
            .map(|s| {
                format!(
                    "--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {}\r\n\r\n",
                    s.content_range(size)
                )
            })
            .collect();
        let end = format!("--{boundary}--");
        let length = heads.iter().map(|h| h.len() as u64).sum::<u64>()
            + spans.iter().map(|s| s.len() + 2).sum::<u64>()
            + end.len() as u64;
        let parts = heads.into_iter().zip(spans).map(move |(head, span)| {
            let one = |text: Bytes| futures::stream::iter([Ok::<Bytes, ObjectError>(text)]);
            one(head.into()).chain(self.clone().stream(span)).chain(one(Bytes::from_static(b"\r\n")))
        });
        let body =
            futures::stream::iter(parts)
                .flatten()
                .chain(futures::stream::iter([Ok::<Bytes, ObjectError>(Bytes::from(end))]));
        (length, HttpBody::from_stream(body))
    }
}

/// A content type for a name, by its extension, where the client gives none.
pub(crate) fn guess_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase()).unwrap_or_default();
    match extension.as_str() {
        "txt" | "text" | "log" | "c" | "h" | "conf" => "text/plain",
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "csv" => "text/csv",
        "xml" => "text/xml",
        "py" => "text/x-python",
        "js" | "mjs" => "text/javascript",
        "json" => "application/json",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "tar" => "application/x-tar",
        "gz" | "tgz" => "application/gzip",
        "bz2" => "application/x-bzip2",
        "sh" => "application/x-sh",
        "wasm" => "application/wasm",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "webp" => "image/webp",
        "ico" => "image/vnd.microsoft.icon",
        "tif" | "tiff" => "image/tiff",
        "mp3" => "audio/mpeg",
        "wav" => "audio/x-wav",
        "ogg" => "audio/ogg",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "mov" => "video/quicktime",
        _ => "application/octet-stream",
    }
}

/// Seconds of a Last-Modified: rounded up, so that it is never before the object was.
pub(crate) fn last_modified_secs(at: state::Timestamp) -> i64 {
    at.micros().div_euclid(1_000_000) + i64::from(at.micros().rem_euclid(1_000_000) > 0)
}

/// As HTTP writes a date.
pub(crate) fn http_date(secs: i64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(secs).unwrap_or(0));
    httpdate::fmt_http_date(at)
}

impl ObjectStore {
    /// How long a client may send nothing in the middle of a body.
    pub(crate) fn body_idle(&self) -> Duration {
        Duration::from_secs(self.config().body_idle_s)
    }

    /// Bytes that a GET of this request should ask for at first: none for a HEAD, none where a range lies further
    /// back than the first read would reach.
    pub(crate) fn first_read_for(&self, head: bool, range: Option<&crate::range::Ranges>) -> u64 {
        match (head, range) {
            (true, _) => 0,
            (false, None) => self.first_read(),
            (false, Some(ranges)) => ranges.reach(self.first_read()),
        }
    }
}
