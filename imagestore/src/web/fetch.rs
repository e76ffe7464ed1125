//! One GET: bounded in time, every hop checked, its body streamed.

use super::ImportFilter;
use crate::ImageError;
use crate::data::Body;
use api::Secret;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyDataStream, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use url::Url;

/// A server that says nothing for so long is given up.
const IDLE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(15);
const REDIRECTS: usize = 5;

/// Why nothing came. The texts are for the image's owner: they say nothing of what is inside.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebError {
    #[error("URI for web-download does not pass filtering: {0}")]
    Filtered(String),
    #[error("{0} redirects too often, or to nowhere.")]
    Redirects(String),
    #[error("{uri} answers with status {status}.")]
    Status { uri: String, status: u16 },
    #[error("{0} could not be reached.")]
    Unreachable(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{0} did not send its data in time.")]
    TimedOut(String),
    #[error("No trusted certificates: {0}")]
    Tls(#[from] rustls::Error),
}

/// Resolves a name and keeps what may be connected to; without a filter, all of it. The connector connects to what this
/// gives, and to nothing else.
#[derive(Clone)]
struct Resolver(Option<Arc<ImportFilter>>);

impl tower::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let filter = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let reached = |a: &SocketAddr| filter.as_ref().is_none_or(|f| f.reaches(a.ip()));
            let allowed: Vec<_> = found.filter(reached).collect();
            match allowed.is_empty() {
                true => Err(std::io::Error::other("the name has no address that may be connected to")),
                false => Ok(allowed.into_iter()),
            }
        })
    }
}

/// For one import; nothing of it is kept for another.
pub(crate) struct Web {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>,
    filter: Option<Arc<ImportFilter>>,
}

impl Web {
    /// For what users name.
    pub(crate) fn filtered(filter: &ImportFilter) -> Result<Web, WebError> {
        Web::new(Some(Arc::new(filter.clone())))
    }

    /// For what the operator's catalogue names.
    pub(crate) fn trusted() -> Result<Web, WebError> {
        Web::new(None)
    }

    fn new(filter: Option<Arc<ImportFilter>>) -> Result<Web, WebError> {
        let mut http = HttpConnector::new_with_resolver(Resolver(filter.clone()));
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT));
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = tls.with_root_certificates(roots).with_no_client_auth();
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https.wrap_connector(http));
        Ok(Web { client, filter })
    }

    /// The body that a URL leads to, and its size in bytes where the server says it.
    pub(crate) async fn get(&self, uri: &str) -> Result<(Option<u64>, Body), WebError> {
        let asked = || uri.to_owned();
        let mut url = Url::parse(uri).map_err(|_| WebError::Filtered(asked()))?;
        for _ in 0..=REDIRECTS {
            if self.filter.as_ref().is_some_and(|f| !f.passes(&url)) {
                return Err(WebError::Filtered(url.to_string()));
            }
            let answer = self.ask(uri, url.as_str(), None).await?;
            match answer.status().as_u16() {
                200 => return Ok(taken(uri, answer)),
                301 | 302 | 303 | 307 | 308 => {
                    let next = answer.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
                    let next = next.and_then(|l| url.join(l).ok());
                    url = next.ok_or_else(|| WebError::Redirects(asked()))?;
                }
                status => return Err(WebError::Status { uri: asked(), status }),
            }
        }
        Err(WebError::Redirects(asked()))
    }

    /// The same of an API, with a token. It goes nowhere else: redirects are not followed.
    pub(crate) async fn get_as(&self, uri: &str, token: &Secret) -> Result<(Option<u64>, Body), WebError> {
        let answer = self.ask(uri, uri, Some(token)).await?;
        match answer.status().as_u16() {
            200 => Ok(taken(uri, answer)),
            status => Err(WebError::Status { uri: uri.to_owned(), status }),
        }
    }

    /// One request. `asked` is what messages name.
    async fn ask(
        &self,
        asked: &str,
        url: &str,
        token: Option<&Secret>,
    ) -> Result<Response<Incoming>, WebError> {
        let unreachable =
            |e: Box<dyn std::error::Error + Send + Sync>| WebError::Unreachable(asked.to_owned(), e);
        let mut request = Request::get(url).header(header::ACCEPT, "*/*");
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&token.0).map_err(|e| unreachable(e.into()))?;
            value.set_sensitive(true);
            request = request.header("x-auth-token", value);
        }
        let request = request.body(Empty::new()).map_err(|e| unreachable(e.into()))?;
        let answer = tokio::time::timeout(IDLE, self.client.request(request)).await;
        answer.map_err(|_| WebError::TimedOut(asked.to_owned()))?.map_err(|e| unreachable(e.into()))
    }
}

/// An answer's body, and its size where the server says it.
fn taken(uri: &str, answer: Response<Incoming>) -> (Option<u64>, Body) {
    let size = answer.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    let size = size.and_then(|v| v.parse().ok());
    (size, frames(uri.to_owned(), BodyDataStream::new(answer.into_body())))
}

fn frames(uri: String, body: BodyDataStream<Incoming>) -> Body {
    let next = move |open: Option<BodyDataStream<Incoming>>| {
        let uri = uri.clone();
        async move {
            let mut body = open?;
            match tokio::time::timeout(IDLE, body.next()).await {
                Ok(None) => None,
                Ok(Some(Ok(frame))) => Some((Ok(frame), Some(body))),
                Ok(Some(Err(e))) => Some((Err(WebError::Unreachable(uri, e.into()).into()), None)),
                Err(_) => Some((Err(WebError::TimedOut(uri).into()), None)),
            }
        }
    };
    futures::stream::unfold(Some(body), next).boxed()
}

impl From<WebError> for ImageError {
    fn from(e: WebError) -> ImageError {
        match e {
            WebError::Filtered(_) => ImageError::Invalid(e.to_string()),
            e => ImageError::Web(Box::new(e)),
        }
    }
}
