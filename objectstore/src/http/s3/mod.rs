//! S3: the whole path space of a listener of its own.
//!
//! A request is authenticated, understood as one [`Endpoint`] and answered by the file of what it is about. What is
//! not built is said so (501); what a bucket does not have configured is answered as S3 answers it.

mod auth;
mod body;
mod bucket;
mod chunked;
mod config;
mod copy;
mod delete;
mod endpoint;
mod error;
mod list;
mod multipart;
mod object;
pub(super) mod sigv4;
mod tags;
pub(super) mod xml;

use crate::{Access, ObjectStore};
use auth::Payload;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use endpoint::Endpoint;
use error::S3Result;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use percent_encoding::percent_decode_str;
use std::sync::{Mutex, PoisonError};

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
    let (head, resource) = (request.method() == Method::HEAD, request.uri().path().to_owned());
    let answered = async {
        let call = Call::take(store, request).await?;
        let endpoint = Endpoint::of(&call)?;
        endpoint::answer(endpoint, call).await
    };
    let mut response = match answered.await {
        Ok(response) => response,
        Err(e) => e.respond(&resource, id, head),
    };
    let id = HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("-"));
    response.headers_mut().insert("x-amz-request-id", id.clone());
    response.headers_mut().insert("x-amz-id-2", id);
    response
}

impl Call {
    async fn take(store: ObjectStore, request: Request) -> S3Result<Call> {
        let (parts, body) = request.into_parts();
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        let signed = sigv4::Request { method: parts.method.as_str(), path, query, headers: &parts.headers };
        let (access, payload) = auth::authenticate(&store, &signed).await?;
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
        if key.len() > crate::MAX_OBJECT_NAME {
            return Err(error::key_too_long());
        }
        Ok(Call {
            store,
            access,
            method: parts.method,
            bucket,
            key,
            query: sigv4::parse_query(query),
            headers: parts.headers,
            body: Mutex::new(Some((body, payload))),
        })
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
        std::str::from_utf8(self.headers.get(name)?.as_bytes()).ok()
    }

    fn take_body(&self) -> Option<(Body, Payload)> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
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
