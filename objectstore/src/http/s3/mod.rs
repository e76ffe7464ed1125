//! S3: the whole path space of a listener of its own.
//!
//! A request is authenticated, understood as one [`Endpoint`] and answered by the file of what it is about. What is
//! not built is said so (501); what a bucket does not have configured is answered as S3 answers it.

mod acl;
mod action;
mod attributes;
mod auth;
mod body;
mod bucket;
mod chunked;
mod config;
mod copy;
mod cors;
mod delete;
mod endpoint;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod lifecycle;
mod list;
mod lock;
mod logging;
mod multipart;
mod notification;
mod object;
mod policy;
mod post;
mod public;
mod sigv2;
pub(super) mod sigv4;
mod sns;
mod sse;
mod tags;
mod versions;
mod website;
pub(super) mod xml;

use crate::access::Asks;
use crate::http::facts::RequestFacts;
use crate::{Access, ObjectStore, cause};
use auth::Payload;
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use endpoint::Endpoint;
use error::S3Result;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use percent_encoding::percent_decode_str;
use std::sync::{Arc, Mutex, PoisonError};

/// A request, taken apart.
pub(crate) struct Call {
    pub(crate) store: ObjectStore,
    pub(crate) access: Access,
    pub(crate) method: Method,
    /// Empty where the path ends before it.
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    facts: Arc<RequestFacts>,
    body: Mutex<Option<(Body, Payload)>>,
}

impl ObjectStore {
    /// The S3 listener's router.
    pub fn s3_router(&self) -> Router {
        Router::new().fallback(serve).with_state(self.clone())
    }
}

async fn serve(State(store): State<ObjectStore>, request: Request) -> Response {
    let id = uuid::Uuid::new_v4().simple().to_string().to_uppercase();
    let id = &id[..16];
    if let Some(bucket) = website::bucket_of(request.headers(), store.config()) {
        return website::serve(store, request, bucket).await;
    }
    if sns::is(&request) {
        return sns::serve(store, request, id).await;
    }
    let (head, resource) = (request.method() == Method::HEAD, request.uri().path().to_owned());
    let page = cors::Page::of(request.method(), request.headers());
    // Where the page's rules are, if a page asks: known before anybody is refused.
    let mut place = None;
    let mut line = store.inner.logs.any().then(|| logging::Line::of(&request));
    let pays = is_payer(&request);
    let unasked = expects_for_nothing(&request);
    let claims = Claims::of(&request);
    let answered = async {
        let call = Call::take(store.clone(), request, &mut place).await?;
        if call.method == Method::OPTIONS {
            return cors::preflight(&call).await;
        }
        let endpoint = Endpoint::of(&call)?;
        let call = call.asking(endpoint).await?;
        if let Some(line) = &mut line {
            line.asks(endpoint, &call);
        }
        let cause = endpoint.cause(&call, id);
        cause::within(cause, endpoint::answer(endpoint, call)).await
    };
    let (mut response, code) = match answered.await {
        Ok(response) => (response, None),
        Err(e) => {
            let code = e.code;
            let names = |e: &error::S3Error| e.details.iter().any(|(name, _)| *name == "BucketName");
            let e = match (code, &place) {
                ("NoSuchBucket", Some((_, bucket))) if !names(&e) => e.with("BucketName", bucket),
                _ => e,
            };
            (claims.told(e).respond(&resource, id, head), Some(code))
        }
    };
    if (page.is_some() || line.is_some() || pays)
        && let Some((access, bucket)) = place
        && let Ok(container) = store.find_bucket(&access, &bucket).await
    {
        let sharing = &container.info.sharing;
        if let Some(page) = page {
            page.mark(&sharing.cors, &mut response);
        }
        if pays && sharing.requester_pays && code.is_none() && access.project() != Some(&container.project_id)
        {
            response.headers_mut().insert("x-amz-request-charged", HeaderValue::from_static("requester"));
        }
        if let Some(line) = line.filter(|_| sharing.log.is_some()) {
            let owner = &container.project_id;
            store.log_access(&container, &line.write(owner, &bucket, &access, id, code, &response));
        }
    }
    let id = HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("-"));
    response.headers_mut().insert("x-amz-request-id", id.clone());
    response.headers_mut().insert("x-amz-id-2", id);
    if unasked {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether a client waits to be asked for a body that is empty, as boto3 does: nobody asks. botocore before 1.44 takes the
/// answer for that of the next request on the connection, too.
fn expects_for_nothing(request: &Request) -> bool {
    request.headers().contains_key(header::EXPECT) && request.body().is_end_stream()
}

/// The sums that a request claims for its body: an answer that they are wrong repeats them.
struct Claims {
    md5: Option<String>,
    sha256: Option<String>,
    /// It creates an object from its body: S3 then writes an MD5 in hexadecimal.
    put: bool,
}

impl Claims {
    fn of(request: &Request) -> Claims {
        let header = |name: &str| text(request.headers(), name).map(str::to_owned);
        let put = request.method() == Method::PUT;
        Claims { md5: header("content-md5"), sha256: header("x-amz-content-sha256"), put }
    }

    fn told(self, e: error::S3Error) -> error::S3Error {
        match (e.code, self.md5, self.sha256) {
            ("BadDigest", Some(md5), _) if e.message.starts_with("The Content-MD5") => {
                let bytes = BASE64_STANDARD.decode(md5.trim()).ok().filter(|_| self.put);
                e.with("ExpectedDigest", bytes.map_or(md5, hex::encode))
            }
            ("XAmzContentSHA256Mismatch", _, Some(sha256)) => e.with("ClientComputedContentSHA256", sha256),
            _ => e,
        }
    }
}

/// Whether a request says that its sender pays for it.
fn is_payer(request: &Request) -> bool {
    request.headers().contains_key("x-amz-request-payer")
        || request.uri().query().is_some_and(|q| q.contains("x-amz-request-payer="))
}

impl Call {
    /// Takes a request apart; `place` becomes the bucket that it names, and who asks as far as that is known.
    async fn take(
        store: ObjectStore,
        request: Request,
        place: &mut Option<(Access, String)>,
    ) -> S3Result<Call> {
        let (parts, body) = request.into_parts();
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        let decode = |s: &str| {
            String::from_utf8(percent_decode_str(s).collect())
                .map_err(|_| error::S3Error::invalid_argument("The path is not UTF-8."))
        };
        let rest = path.strip_prefix('/').unwrap_or(path);
        let (bucket, key) = match virtual_bucket(&parts.headers, &store.config().s3_hosts) {
            Some(bucket) => (bucket, decode(rest)?),
            None => {
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                (decode(bucket)?, decode(key)?)
            }
        };
        *place = Some((Access::default(), bucket.clone()));
        let signed = sigv4::Request { method: parts.method.as_str(), path, query, headers: &parts.headers };
        let (mut access, payload) = match parts.method {
            // A preflight is nobody's.
            Method::OPTIONS => (Access::default(), Payload::Unsigned),
            _ => auth::authenticate(&store, &signed).await?,
        };
        access.referer = text(&parts.headers, "referer").map(str::to_owned);
        *place = Some((access.clone(), bucket.clone()));
        let query = sigv4::parse_query(query);
        let facts = Arc::new(RequestFacts::of(&parts, &query, store.config()));
        let asks = Asks { action: "s3:", key: key.clone(), facts: facts.clone(), tags: Vec::new() };
        access.asks = Some(asks);
        if key.len() > crate::MAX_OBJECT_NAME {
            return Err(error::key_too_long());
        }
        Ok(Call {
            store,
            access,
            method: parts.method,
            bucket,
            key,
            query,
            headers: parts.headers,
            facts,
            body: Mutex::new(Some((body, payload))),
        })
    }

    /// Says what the request asks for, to bucket policies; refuses one that means another owner's bucket.
    async fn asking(mut self, endpoint: Endpoint) -> S3Result<Call> {
        if let Some(asks) = &mut self.access.asks {
            asks.action = endpoint.action(&self.method, &self.query);
        }
        let bucket = self.bucket.clone();
        self.writable(endpoint).await?;
        self.expect_owner(&bucket, "x-amz-expected-bucket-owner").await?;
        Ok(self)
    }

    /// Refuses a change of what is not to be changed.
    async fn writable(&self, endpoint: Endpoint) -> S3Result<()> {
        if !matches!(self.method, Method::PUT | Method::POST | Method::DELETE) {
            return Ok(());
        }
        let deletes = self.method == Method::DELETE || endpoint == Endpoint::DeleteObjects;
        let own = self.access.project().unwrap_or_default();
        let checked = match self.store.find_bucket(&self.access, &self.bucket).await {
            Ok(container) => self.store.check_writable(&container.project_id, deletes).await,
            Err(crate::ObjectError::NoSuchContainer) => self.store.check_writable(own, deletes).await,
            Err(e) => Err(e),
        };
        Ok(checked?)
    }

    /// Whether a bucket is whose the request says.
    pub(crate) async fn expect_owner(&self, bucket: &str, header: &str) -> S3Result<()> {
        let Some(expected) = self.header(header).filter(|_| !bucket.is_empty()) else { return Ok(()) };
        match self.store.find_bucket(&self.access, bucket).await {
            Ok(container) if container.project_id != expected => Err(error::access_denied()),
            _ => Ok(()), // that there is no such bucket is for the answer to say
        }
    }

    /// A query parameter.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.param(name).is_some()
    }

    /// A header's text; `None` where it is absent or not UTF-8.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    fn take_body(&self) -> Option<(Body, Payload)> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    std::str::from_utf8(headers.get(name)?.as_bytes()).ok()
}

/// The bucket in the host name (`bucket.s3.example.org`), where the configuration says that there may be one.
fn virtual_bucket(headers: &HeaderMap, hosts: &[String]) -> Option<String> {
    let host = headers.get(header::HOST)?.to_str().ok()?.to_ascii_lowercase();
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host.as_str(),
    };
    hosts.iter().find_map(|base| {
        let bucket = host.strip_suffix(base.to_ascii_lowercase().as_str())?.strip_suffix('.')?;
        (!bucket.is_empty()).then(|| bucket.to_owned())
    })
}

/// An XML document as a response.
pub(crate) fn xml_reply(status: StatusCode, xml: xml::Xml) -> Response {
    (status, [(header::CONTENT_TYPE, "application/xml")], xml.done()).into_response()
}

/// A status and nothing else.
pub(crate) fn bare(status: StatusCode) -> Response {
    status.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_in_host_names() {
        let hosts = ["s3.example.org".to_owned()];
        let of = |host: &str| {
            let mut map = HeaderMap::new();
            map.insert(header::HOST, host.parse().unwrap());
            virtual_bucket(&map, &hosts)
        };
        assert_eq!(of("my.bucket.s3.example.org:7480"), Some("my.bucket".into()));
        assert_eq!(of("s3.example.org"), None);
        assert_eq!(of("127.0.0.1:7480"), None);
        assert_eq!(of("evils3.example.org"), None);
    }
}
