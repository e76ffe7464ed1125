//! The HTTP server: bounded headers, timeouts, a request id for everyone, and a graceful end.

use crate::{Error, RequestId, metrics, unread};
use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// A client must send its whole header within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests in flight get this long to finish when the server stops.
const DRAIN: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 256;
/// Bytes of a connection that are read ahead, and so the most that a request's head may have. hyper would read 400 KiB of a
/// body whose turn has not come: with many uploads at a time, most of what they hold.
const READ_AHEAD: usize = 64 << 10;

/// The peer's address, in every request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// How the names of headers stand in answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderNames {
    /// `X-Object-Meta-Colour`: as in upstream's answers, for those who look for them with grep.
    Title,
    /// `x-amz-meta-colour`: S3's clients take the names of an object's metadata as they stand.
    Lower,
}

/// Serves `router` until `stop`, then lets requests in flight finish.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_named(listener, router, stop, HeaderNames::Title).await;
}

/// As `serve`, with the names of headers so.
pub async fn serve_named(listener: TcpListener, router: Router, stop: CancellationToken, names: HeaderNames) {
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let served = connection(stream, peer, router.clone(), names);
                let watched = graceful.watcher();
                tokio::spawn(async move { served(watched).await });
            }
            // Out of file descriptors, or the peer left at once: the listener itself is well.
            Err(e) => {
                tracing::warn!(error = %e, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests still in flight after {DRAIN:?} are cut off");
    }
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    names: HeaderNames,
) -> impl FnOnce(hyper_util::server::graceful::Watcher) -> futures::future::BoxFuture<'static, ()> {
    move |watcher| {
        async move {
            // Replies are small and complete: never wait for more to send.
            let _ = stream.set_nodelay(true);
            let service =
                hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    respond(router.clone(), request, peer)
                });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_headers(MAX_HEADERS)
                .max_buf_size(READ_AHEAD)
                .title_case_headers(names == HeaderNames::Title)
                .serve_connection(TokioIo::new(stream), service);
            // Errors here are the client's: it left, or sent what is not HTTP.
            let _ = watcher.watch(served).await;
        }
        .boxed()
    }
}

/// One request, from its id to its log line. A panic in a handler is a 500, not a dead connection.
async fn respond(
    router: Router,
    request: hyper::Request<hyper::body::Incoming>,
    peer: SocketAddr,
) -> Result<Response, Infallible> {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let (body, rest) = unread::lend(&parts.headers, body);
    let mut request = axum::extract::Request::from_parts(parts, body);
    let id = RequestId::new();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    request.extensions_mut().insert(id.clone());
    request.extensions_mut().insert(Peer(peer));
    let mut response = match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => {
            tracing::error!(request_id = %id, %method, path, "a handler panicked");
            Error::internal(std::io::Error::other("a handler panicked")).into_response()
        }
    };
    if let Some(rest) = rest
        && !rest.settle().await
    {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    metrics::served(&method, &path, id.as_str(), &response, began.elapsed());
    Ok(response)
}
