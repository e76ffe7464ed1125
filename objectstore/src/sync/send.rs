//! One object on its way to the other end.
//!
//! The other end is asked first: what it has of the same time or a later one is not sent again, so that telling it
//! twice costs a HEAD, and two containers that are in step with each other come to rest. It is reached through the
//! one client that connects only to addresses which may be connected to; redirects are not followed.

use super::coarse;
use super::config::{SyncConfig, SyncKey};
use super::target::{Signed, Target, address, literals};
use crate::container::Container;
use crate::http::raw;
use crate::meta::Kind;
use crate::object::Object;
use crate::range::Span;
use crate::{ObjectError, ObjectStore};
use api::address::is_allowed;
use api::outward::{Outward, Reaches};
use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use state::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

const CONNECT: Duration = Duration::from_secs(5);
/// For one request: so long, and a second more for so many bytes.
const PATIENCE: Duration = Duration::from_secs(30);
const SLOWEST: u64 = 256 << 10;

/// Why nothing more is sent to the other end for a while.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("the address is none that may be connected to")]
    Forbidden,
    #[error("it could not be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("it answered {0} with status {1}")]
    Status(Method, u16),
    #[error("it did not answer in time")]
    TimedOut,
    #[error("what is to be sent cannot be read")]
    Store(#[from] ObjectError),
}

impl SendError {
    /// Whether it is about one object, and others may fare better.
    pub(super) fn is_ones_own(&self) -> bool {
        match self {
            SendError::Status(_, n) => matches!(n, 402 | 406..=422),
            SendError::Store(e) => !e.is_transient(),
            SendError::Forbidden | SendError::Unreachable(_) | SendError::TimedOut => false,
        }
    }
}

/// What became of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The other end has it, or something later.
    Done,
    /// It will never be taken there.
    Refused(u16),
}

/// What sends.
pub(crate) struct Sender {
    client: Outward<Body>,
    reaches: Reaches,
}

/// The other end of one container, and the container's key.
pub(super) struct End {
    pub(super) target: Target,
    pub(super) key: SyncKey,
}

impl Sender {
    pub(super) fn new(config: &SyncConfig) -> Result<Self, rustls::Error> {
        let (networks, literals) = (config.networks.clone(), literals(config));
        let reaches: Reaches = Arc::new(move |a| is_allowed(a, &networks) || literals.contains(&a));
        Ok(Sender { client: api::outward::client(reaches.clone(), CONNECT, |pool| pool)?, reaches })
    }

    /// Sends one request about an object; its answer's status and headers.
    async fn request(
        &self,
        end: &End,
        method: Method,
        name: &str,
        at: Timestamp,
        (headers, body, bytes): (HeaderMap, Body, u64),
    ) -> Result<(StatusCode, HeaderMap), SendError> {
        let (url, path) = end.target.object(name).ok_or(SendError::Forbidden)?;
        let literal = Url::parse(&url.to_string()).ok().and_then(|u| address(&u));
        if literal.is_some_and(|a| !(self.reaches)(a)) {
            return Err(SendError::Forbidden);
        }
        let timestamp = crate::http::timestamp(at);
        let query = if method == Method::HEAD { "?symlink=get&multipart-manifest=get" } else { "" };
        let mut request = Request::builder().method(&method).uri(format!("{url}{query}"));
        let proof = match &end.target.realm {
            None => ("x-container-sync-key", end.key.0.clone()),
            Some((realm, key)) => {
                let nonce = uuid::Uuid::new_v4().simple().to_string();
                let signed =
                    Signed { method: method.as_str(), path: &path, timestamp: &timestamp, nonce: &nonce };
                let signature = signed.signature(key, &end.key).ok_or(SendError::Forbidden)?;
                ("x-container-sync-auth", format!("{realm} {nonce} {signature}"))
            }
        };
        request = request.header(proof.0, proof.1).header("x-timestamp", &timestamp);
        let mut request = request.body(body).map_err(|e| SendError::Unreachable(e.into()))?;
        request.headers_mut().extend(headers);
        let patience = PATIENCE + Duration::from_secs(bytes / SLOWEST);
        let answer = tokio::time::timeout(patience, self.client.request(request)).await;
        let answer = answer.map_err(|_| SendError::TimedOut)?;
        let (parts, _) = answer.map_err(|e| SendError::Unreachable(e.into()))?.into_parts();
        Ok((parts.status, parts.headers))
    }

    /// Whether the other end has an object of this time or a later one.
    async fn has(&self, end: &End, name: &str, at: Timestamp) -> Result<bool, SendError> {
        let nothing = (HeaderMap::new(), Body::empty(), 0);
        let (status, headers) = self.request(end, Method::HEAD, name, at, nothing).await?;
        match status {
            s if s.is_success() => {
                let there = headers.get("x-timestamp").and_then(|t| t.to_str().ok());
                Ok(there.and_then(crate::http::parse_timestamp).is_some_and(|t| coarse(t) >= coarse(at)))
            }
            StatusCode::NOT_FOUND => Ok(false),
            s => Err(SendError::Status(Method::HEAD, s.as_u16())),
        }
    }

    async fn put(
        &self,
        store: &ObjectStore,
        end: &End,
        name: &str,
        object: Object,
    ) -> Result<Fate, SendError> {
        let at = object.meta.modified.0;
        if object.meta.seal.as_ref().is_some_and(|s| s.customer.is_some()) {
            return Ok(Fate::Refused(0)); // nobody but the client can open it
        }
        if self.has(end, name, at).await? {
            return Ok(Fate::Done);
        }
        let (headers, size) = (headers(&object), object.meta.size);
        let body = match size {
            0 => Body::empty(),
            size => Body::from_stream(store.source(object).await?.stream(Span { start: 0, end: size })),
        };
        let (status, _) = self.request(end, Method::PUT, name, at, (headers, body, size)).await?;
        fate(&Method::PUT, status)
    }

    async fn delete(&self, end: &End, name: &str, at: Timestamp) -> Result<Fate, SendError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        let (status, _) = self.request(end, Method::DELETE, name, at, (headers, Body::empty(), 0)).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(Fate::Done),
            status => fate(&Method::DELETE, status),
        }
    }

    /// Brings the other end up to date about one object.
    pub(super) async fn send(
        &self,
        store: &ObjectStore,
        end: &End,
        container: &Arc<Container>,
        name: &str,
    ) -> Result<Fate, SendError> {
        match store.open_object(container, name, store.first_read()).await {
            Ok(object) => self.put(store, end, name, object).await,
            Err(ObjectError::NoSuchObject) => {
                // Not there because it was deleted, or because its time has run out, which the other end sees itself.
                match store.deleted_at(container, name).await? {
                    Some(at) => self.delete(end, name, at).await,
                    None => Ok(Fate::Done),
                }
            }
            Err(ObjectError::Damaged(_)) => Ok(Fate::Refused(0)),
            Err(e) => Err(e.into()),
        }
    }
}

fn fate(method: &Method, status: StatusCode) -> Result<Fate, SendError> {
    match status.as_u16() {
        200..=299 | 409 => Ok(Fate::Done),
        // The request is wrong and will be; anything else may be the quota's, the key's or the hour's fault.
        n @ (400 | 411 | 412 | 414 | 431) => Ok(Fate::Refused(n)),
        n => Err(SendError::Status(method.clone(), n)),
    }
}

/// What is to be said of an object there.
fn headers(object: &Object) -> HeaderMap {
    let meta = &object.meta;
    let mut out = HeaderMap::new();
    let mut put = |name: &str, value: &[u8]| {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
        {
            out.insert(name, value);
        }
    };
    for (name, value) in &meta.user {
        put(&format!("x-object-meta-{name}"), &raw(value));
    }
    let mut set = |name: &str, value: &str| put(name, value.as_bytes());
    set("content-length", &meta.size.to_string());
    set("content-type", &meta.content_type);
    // Of an upload in parts it is no sum of the content.
    if meta.kind != Kind::Multipart {
        set("etag", &meta.etag);
    }
    if meta.kind == Kind::Slo {
        set("x-static-large-object", "True");
    }
    if let Some(at) = meta.delete_at {
        set("x-delete-at", &at.to_string());
    }
    for (name, value) in &meta.headers {
        set(name, value);
    }
    out
}
