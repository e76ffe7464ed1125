//! What happens to a request's body that the handler answered without reading.
//!
//! hyper takes what it finds in its buffer after such an answer for the body. A client that sent
//! `Expect: 100-continue` never sends that body, so the first bytes of its next request would be
//! swallowed: such a connection is closed after the answer. Other clients are sending already: a
//! short rest is read and thrown away so that the connection lives on, and a long one ends it.

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::EXPECT;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;

/// Bytes that are read and thrown away to keep a connection.
const MOST: usize = 256 << 10;
/// For how long they are waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A body that comes back here when it is dropped before its end.
struct Lent {
    inner: Option<Incoming>,
    touched: bool,
    back: Option<oneshot::Sender<(Incoming, bool)>>,
}

/// Where a body that was lent comes back to.
pub(crate) struct Rest {
    returned: oneshot::Receiver<(Incoming, bool)>,
    expects: bool,
}

/// Lends `body` to a handler.
pub(crate) fn lend(headers: &HeaderMap, body: Incoming) -> (Body, Option<Rest>) {
    if body.is_end_stream() {
        return (Body::empty(), None);
    }
    let (back, returned) = oneshot::channel();
    let lent = Lent { inner: Some(body), touched: false, back: Some(back) };
    (Body::new(lent), Some(Rest { returned, expects: headers.contains_key(EXPECT) }))
}

impl Rest {
    /// Called with the answer at hand: whether the connection can take another request after it.
    pub(crate) async fn settle(mut self) -> bool {
        match self.returned.try_recv() {
            Ok((_, false)) if self.expects => false,
            Ok((mut body, _)) => tokio::time::timeout(PATIENCE, drained(&mut body)).await.unwrap_or(false),
            // Read to its end, or still being read while the answer streams.
            Err(_) => true,
        }
    }
}

async fn drained(body: &mut Incoming) -> bool {
    let mut left = MOST;
    while let Some(frame) = body.frame().await {
        let length = frame.ok().and_then(|f| f.data_ref().map(Bytes::len)).unwrap_or(left + 1);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.touched = true;
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(inner), Some(back)) = (self.inner.take(), self.back.take())
            && !inner.is_end_stream()
        {
            let _ = back.send((inner, self.touched));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::put;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;

    /// A connection to a server that refuses every PUT unread.
    async fn refusing() -> (TcpStream, CancellationToken) {
        let router = Router::new().route("/", put(|| async { StatusCode::PRECONDITION_FAILED }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(crate::server::serve(listener, router, stop.clone()));
        (TcpStream::connect(at).await.unwrap(), stop)
    }

    fn put_of(length: usize, more: &str) -> String {
        format!("PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{more}\r\n")
    }

    /// Reads until `count` heads are in; the text, lower case.
    async fn heads(stream: &mut TcpStream, count: usize) -> String {
        let mut text = Vec::new();
        loop {
            let mut some = [0; 4096];
            let n = stream.read(&mut some).await.unwrap();
            text.extend_from_slice(&some[..n]);
            let seen = String::from_utf8_lossy(&text).to_lowercase();
            if n == 0 || seen.matches("\r\n\r\n").count() >= count {
                return seen;
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_is_never_sent_ends_the_connection() {
        let (mut stream, _stop) = refusing().await;
        stream.write_all(put_of(1, "expect: 100-continue\r\n").as_bytes()).await.unwrap();
        let answer = heads(&mut stream, 1).await;
        assert!(answer.starts_with("http/1.1 412") && answer.contains("connection: close"), "{answer}");
    }

    #[tokio::test]
    async fn a_short_rest_is_skipped() {
        let (mut stream, _stop) = refusing().await;
        let head = put_of(70_000, "");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; 70_000]).await.unwrap();
        stream.write_all(put_of(0, "").as_bytes()).await.unwrap();
        let answers = heads(&mut stream, 2).await;
        assert_eq!(answers.matches("http/1.1 412").count(), 2, "{answers}");
        assert!(!answers.contains("connection: close"), "{answers}");
    }

    #[tokio::test]
    async fn a_long_rest_ends_the_connection() {
        let (mut stream, _stop) = refusing().await;
        stream.write_all(put_of(1 << 30, "").as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; 300 << 10]).await.unwrap();
        let answer = heads(&mut stream, 1).await;
        assert!(answer.starts_with("http/1.1 412") && answer.contains("connection: close"), "{answer}");
    }
}
