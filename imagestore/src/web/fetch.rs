//! One GET: bounded in time, every hop checked, its body streamed.

use super::ImportFilter;
use crate::ImageError;
use crate::data::Body;
use api::Secret;
use api::outward::Outward;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyDataStream, Empty};
use hyper::body::Incoming;
use std::sync::Arc;
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

/// For one import; nothing of it is kept for another.
pub(crate) struct Web {
    client: Outward<Empty<Bytes>>,
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
        let reached = filter.clone();
        let reaches = Arc::new(move |a| reached.as_ref().is_none_or(|f| f.reaches(a)));
        let client = api::outward::client(reaches, CONNECT, |pool| pool.pool_max_idle_per_host(0))?;
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
