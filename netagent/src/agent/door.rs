//! One network's metadata server: a socket inside its namespace, HTTP on it, and the answers from elsewhere.
//!
//! The socket is made by a thread that enters the namespace and ends; sockets stay in the namespace in which
//! they were made, so the connections are served by the process's ordinary tasks. Guests are not trusted:
//! headers, bodies, time and connections are bounded.

use std::fs::File;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sched::{CloneFlags, setns};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{MetadataRequest, MetadataSource};
use crate::NetError;

const ADDRESS: &str = "169.254.169.254:80";
const MAX_BODY: usize = 64 << 10;
const MAX_CONNECTIONS: usize = 256;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may last in all.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);

pub(super) struct Server {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens in a namespace, by its `ip netns` name.
    pub(super) async fn start(
        namespace: &str,
        network: &str,
        source: Arc<dyn MetadataSource>,
    ) -> Result<Self, NetError> {
        let listener = listen(namespace.to_owned()).await?;
        let stop = CancellationToken::new();
        let (token, network) = (stop.clone(), network.to_owned());
        let task = tokio::spawn(async move {
            token.run_until_cancelled(accept(listener, network, source)).await;
        });
        Ok(Self { stop, task })
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.task.is_finished()
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        let _ = self.task.await; // a panic in it was logged where it happened
    }
}

async fn listen(namespace: String) -> Result<TcpListener, NetError> {
    let what = format!("listening at {ADDRESS} in {namespace}");
    let failed = |source: std::io::Error| NetError::Io { what: what.clone(), source };
    let (send, made) = tokio::sync::oneshot::channel();
    // A thread of its own: an entered namespace stays with the thread, which must not be reused.
    std::thread::Builder::new()
        .name("metadata-door".into())
        .spawn(move || {
            let _ = send.send(bind_in(&namespace));
        })
        .map_err(failed)?;
    let listener =
        made.await.map_err(|_| failed(std::io::Error::other("the thread ended")))?.map_err(failed)?;
    TcpListener::from_std(listener).map_err(failed)
}

fn bind_in(namespace: &str) -> std::io::Result<StdListener> {
    let file = File::open(PathBuf::from("/run/netns").join(namespace))?;
    setns(file, CloneFlags::CLONE_NEWNET)?;
    let listener = StdListener::bind(ADDRESS)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn accept(listener: TcpListener, network: String, source: Arc<dyn MetadataSource>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let network: Arc<str> = network.into();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (network, source) = (network.clone(), source.clone());
                connections.spawn(async move {
                    let serving = serve(stream, peer, network, source);
                    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, serving).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: the pause lets connections end.
                tracing::warn!(%network, %error, "could not take a metadata connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, network: Arc<str>, source: Arc<dyn MetadataSource>) {
    let service = service_fn(move |request| {
        let (network, source) = (network.clone(), source.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(request, peer, &network, source).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(64 << 10)
        // A guest without curl sends its request with nc, which says at once that no more will come.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "a metadata connection ended early");
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    network: &str,
    source: Arc<dyn MetadataSource>,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let request = MetadataRequest {
        network_id: network.to_owned(),
        source: peer.ip(),
        method: parts.method,
        path: parts.uri.path_and_query().map_or_else(|| "/".to_owned(), |p| p.as_str().to_owned()),
        headers: parts.headers,
        body: body.to_bytes(),
    };
    match tokio::time::timeout(ANSWER_TIMEOUT, source.respond(request)).await {
        Ok(response) => response.map(Full::new),
        Err(_) => plain(StatusCode::GATEWAY_TIMEOUT),
    }
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(status.canonical_reason().unwrap_or("error"))));
    *response.status_mut() = status;
    response
}
