//! Swift v1: `/v1/AUTH_<project>[/<container>[/<object>]]`, `/info`, `/healthcheck`.
//!
//! A request is taken apart once ([`Call`]) and goes to the file of what it names: account, container or object.
//! Swift's wire form is not that of the JSON services: errors are its own bits of HTML, metadata are headers, and
//! bodies stream both ways, so these are raw handlers under one route.

mod account;
mod archive;
mod bulk;
mod cname;
mod container;
mod copy;
mod cors;
mod endpoints;
mod error;
mod formpost;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod headers;
mod info;
mod listing;
mod object;
mod ratelimit;
mod remap;
mod reply;
mod report;
mod segments;
mod slo;
mod staticweb;
mod symlink;
mod sync;
mod tempurl;
mod versions;

pub use cname::CnameConfig;
pub(crate) use headers::{parse_timestamp, timestamp};
pub use ratelimit::RateLimits;
pub(crate) use ratelimit::Rates;

use crate::access::{Asks, DELETE, GET, PUT};
use crate::account::AccountGrant;
use crate::acl::DEFAULT_DOMAIN;
use crate::cause::{Cause, Doing};
use crate::http::facts::{self, RequestFacts};
use crate::{Access, ObjectError, ObjectStore, cause, notify, reseller};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{any, get};
use error::{SwiftError, SwiftResult};
use http::header::{self, ETAG};
use http::{HeaderMap, HeaderValue, Method};
use percent_encoding::percent_decode_str;
use state::Timestamp;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// A request, taken apart.
pub(crate) struct Call {
    pub(crate) store: ObjectStore,
    pub(crate) access: Access,
    /// The address that the request comes from.
    pub(crate) source: Option<IpAddr>,
    pub(crate) method: Method,
    /// The path as it came.
    pub(crate) path: String,
    /// The one that the client asked for, where the host name is part of what it names.
    asked: Option<remap::Asked>,
    /// The account: see [`reseller::key`].
    pub(crate) project: String,
    /// Empty where the path ends before it.
    pub(crate) container: String,
    pub(crate) object: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    body: Mutex<Body>,
    pub(crate) tempurl: Option<tempurl::Granted>,
    /// The request comes from another cloud's container sync: when what it tells of was done there.
    pub(crate) synced: Option<Timestamp>,
    /// Symlinks that were followed to get here.
    links: u32,
}

/// Bytes of one header's line.
const MAX_HEADER: usize = 8192;

/// A query string's parameters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> SwiftResult<Self> {
        let decode = |s: &str| {
            let bytes: Vec<u8> = percent_decode_str(&s.replace('+', " ")).collect();
            String::from_utf8(bytes).map_err(|_| SwiftError::precondition("Invalid UTF8 or contains NULL"))
        };
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|p| {
            let (k, v) = p.split_once('=').unwrap_or((p, ""));
            Ok((decode(k)?, decode(v)?))
        });
        Ok(Query(pairs.collect::<SwiftResult<_>>()?))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|(k, _)| k != name);
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == Some(value)
    }
}

/// Whether a header or parameter says yes, in one of the words that count.
pub(crate) fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on" | "t" | "y")
}

impl ObjectStore {
    /// Swift's routes, to be merged into the API listener's router.
    pub fn swift_router(&self) -> Router {
        let router = match self.config().list_endpoints {
            true => Router::new().route("/endpoints/{*path}", any(endpoints::answer)),
            false => Router::new(),
        };
        router
            .route("/info", get(info::show).options(info::options))
            .route("/healthcheck", get(info::healthcheck))
            .route("/crossdomain.xml", get(info::crossdomain))
            .route("/v1", any(serve))
            .route("/v1/", any(serve))
            .route("/v1/{*path}", any(serve))
            .with_state(self.clone())
    }
}

/// What nobody in particular may not do, somebody might.
fn told(anonymous: bool, e: SwiftError) -> SwiftError {
    if anonymous && e.is_forbidden() { SwiftError::unauthorized() } else { e }
}

/// What a request is to a bucket policy.
fn action(method: &Method, container: &str, object: &str) -> &'static str {
    match (method.as_str(), container.is_empty(), object.is_empty()) {
        (_, true, _) => "s3:ListAllMyBuckets",
        ("GET" | "HEAD", _, true) => "s3:ListBucket",
        ("PUT", _, true) => "s3:CreateBucket",
        ("DELETE", _, true) => "s3:DeleteBucket",
        (_, _, true) => "s3:PutBucketAcl",
        ("GET" | "HEAD" | "COPY", _, false) => GET,
        ("DELETE", _, false) => DELETE,
        (_, _, false) => PUT,
    }
}

/// `tx<21 hex>-<10 hex of seconds>`: Swift's id of a request.
pub(crate) fn transaction_id() -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("tx{}-{:010x}", &id[..21], chrono::Utc::now().timestamp())
}

/// Puts the headers on a response that all have.
pub(crate) fn stamp(response: &mut Response, id: &str) {
    let value = HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("-"));
    response.headers_mut().insert("x-trans-id", value.clone());
    response.headers_mut().insert("x-openstack-request-id", value);
}

/// Whether a client of HTTP/1 asks for its connection to stay, as those of HTTP/1.0 must. It is told that it does.
fn keeps_alive(request: &Request) -> bool {
    let asked = request.headers().get(header::CONNECTION).and_then(|c| c.to_str().ok());
    request.version() <= http::Version::HTTP_11 && asked.is_some_and(|c| c.eq_ignore_ascii_case("keep-alive"))
}

/// Refuses a body in a form that is not understood.
fn check_coding(headers: &HeaderMap) -> SwiftResult<()> {
    let Some(coding) = headers.get(header::TRANSFER_ENCODING) else { return Ok(()) };
    let coding = coding.to_str().unwrap_or_default();
    if coding.contains(',') {
        let text = "Unsupported Transfer-Coding header value specified in Transfer-Encoding header";
        return Err(SwiftError::new(http::StatusCode::NOT_IMPLEMENTED, text));
    }
    match coding.trim().eq_ignore_ascii_case("chunked") {
        true => Ok(()),
        false => Err(SwiftError::bad_request("Invalid Transfer-Encoding header value")),
    }
}

/// The account that a path names, whether there is such a one or not.
fn account_of(path: &str) -> String {
    let account = path.split('/').nth(2).unwrap_or_default();
    percent_decode_str(account).decode_utf8_lossy().into_owned()
}

async fn serve(State(store): State<ObjectStore>, request: Request) -> Response {
    let id = transaction_id();
    let head = request.method() == Method::HEAD;
    let account = account_of(request.uri().path());
    let stays = keeps_alive(&request);
    let (mut page, mut place) = (None, None);
    let answered = async {
        let mut call = Call::take(store, request)?;
        if call.method == Method::OPTIONS {
            return Ok(cors::options(&call).await);
        }
        page = cors::Page::of(&call).await;
        call.writable().await?;
        if formpost::is_form(&call) {
            let cause = call.cause(Doing::Write(notify::POST), &id);
            return cause::within(Some(cause), formpost::upload(&call)).await;
        }
        call.identify().await?;
        call.limit().await?;
        place = call.quoted_place();
        let cause = call.doing().map(|doing| call.cause(doing, &id));
        cause::within(cause, call.answer()).await
    };
    let mut response = match answered.await {
        Ok(response) => response,
        Err(e) => e.in_realm(&account).respond(&id, head),
    };
    stamp(&mut response, &id);
    if stays {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
    }
    if let Some((store, project, container)) = place {
        quote(&store, &project, &container, &mut response).await;
    }
    if let Some(page) = page {
        page.mark(&mut response);
    }
    response
}

/// Quotes the ETag of an object's answer, where the container, its account or the operator wants it.
async fn quote(store: &ObjectStore, project: &str, container: &str, response: &mut Response) {
    let Some(etag) = response.headers().get(ETAG).and_then(|e| e.to_str().ok()) else { return };
    if etag.starts_with('"') || etag.starts_with("W/") {
        return;
    }
    let own = store.find_container(project, container).await.ok().and_then(|c| c.info.quoted_etags);
    let account = async || store.find_account(project).await.ok().and_then(|a| a.info.quoted_etags);
    let wanted = match own {
        Some(own) => own,
        None => account().await.unwrap_or(store.config().quoted_etags),
    };
    if let Some(quoted) = HeaderValue::from_str(&format!("\"{etag}\"")).ok().filter(|_| wanted) {
        response.headers_mut().insert(ETAG, quoted);
    }
}

/// What only owners may say: a request of others is taken as if it did not.
const OWNERS: [&str; 11] = [
    "x-container-read",
    "x-container-write",
    "x-remove-container-read",
    "x-remove-container-write",
    "x-container-sync-key",
    "x-container-sync-to",
    "x-container-meta-temp-url-key",
    "x-container-meta-temp-url-key-2",
    "x-account-meta-temp-url-key",
    "x-account-meta-temp-url-key-2",
    "x-account-access-control",
];

impl Call {
    /// The container of an object whose ETag somebody may want quoted.
    fn quoted_place(&self) -> Option<(ObjectStore, String, String)> {
        let asked = !self.object.is_empty() && self.store.inner.quotes.load(Ordering::Relaxed);
        asked.then(|| (self.store.clone(), self.project.clone(), self.container.clone()))
    }

    /// What the account's ACL grants to whoever is of another project.
    async fn admit_by_account(&mut self) -> SwiftResult<()> {
        let Some(caller) = &self.access.caller else { return Ok(()) };
        if self.access.project() == Some(&self.project) || self.store.is_reseller_admin(&self.access) {
            return Ok(());
        }
        let account = self.store.find_account(&self.project).await?;
        self.access.only_ids = account.info.project_domain.is_some();
        let Some(grant) = account.info.acl.as_ref().and_then(|acl| acl.grant(caller)) else { return Ok(()) };
        self.access.granted = Some((self.project.clone(), grant));
        if grant != AccountGrant::Admin {
            OWNERS.iter().for_each(|name| drop(self.headers.remove(*name)));
        }
        Ok(())
    }

    /// The domain of the account's project, where the caller's own tells it and names are not of that domain.
    fn project_domain(&self) -> Option<String> {
        let project = self.access.caller.as_ref()?.project()?;
        let other = reseller::split(&self.project).1 == project.id && project.domain.id != DEFAULT_DOMAIN;
        other.then(|| project.domain.id.clone())
    }

    /// A token that is good for nothing is refused, also a service's beside the user's.
    async fn validate(&self, token: &str) -> SwiftResult<Arc<api::Caller>> {
        let asking = api::Asking { service: "object-store", method: self.method.as_str(), path: &self.path };
        match self.store.inner.tokens.validate_for(token, &asking).await {
            Ok(caller) => Ok(caller),
            Err(e) if e.status() == http::StatusCode::UNAUTHORIZED => Err(SwiftError::unauthorized()),
            Err(e) => Err(ObjectError::Identity(e.message().to_owned()).into()),
        }
    }

    fn take(store: ObjectStore, request: Request) -> SwiftResult<Call> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let rest = path.strip_prefix("/v1/").unwrap_or_default();
        let mut pieces = rest.splitn(3, '/');
        let mut piece = || {
            let bytes: Vec<u8> = percent_decode_str(pieces.next().unwrap_or_default()).collect();
            match String::from_utf8(bytes) {
                Ok(text) if !text.contains('\0') => Ok(text),
                _ => Err(SwiftError::precondition("Invalid UTF8 or contains NULL")),
            }
        };
        let (account, container, object) = (piece()?, piece()?, piece()?);
        match (account.is_empty(), container.is_empty(), object.is_empty()) {
            (true, true, true) => return Err(SwiftError::precondition("Bad URL")),
            // A path with nothing in its middle is no path.
            (true, ..) | (_, true, false) => return Err(SwiftError::of(http::StatusCode::NOT_FOUND)),
            _ => {}
        }
        check_coding(&parts.headers)?;
        if parts.headers.iter().any(|(name, value)| name.as_str().len() + value.len() + 4 > MAX_HEADER) {
            return Err(SwiftError::bad_request("Header Line Too Long"));
        }
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        let facts = Arc::new(RequestFacts::of(&parts, &query.0, store.config()));
        let action = action(&parts.method, &container, &object);
        let asks = Asks { action, key: object.clone(), facts, tags: Vec::new() };
        let (source, _) = facts::source(&parts, store.config());
        let project = reseller::key(&account).filter(|key| reseller::is_known(store.config(), key));
        Ok(Call {
            store,
            access: Access { asks: Some(asks), ..Access::default() },
            source,
            method: parts.method,
            project: project.ok_or_else(SwiftError::unauthorized)?,
            container,
            object,
            query,
            path,
            asked: parts.extensions.get().cloned(),
            headers: parts.headers,
            body: Mutex::new(body),
            tempurl: None,
            synced: None,
            links: 0,
        })
    }

    /// Finds out who asks: by token, by a signed URL, or nobody.
    async fn identify(&mut self) -> SwiftResult<()> {
        self.access.referer = self.header("referer").map(str::to_owned);
        if let Some((signed, at)) = sync::check(self).await? {
            (self.access.signed, self.synced) = (Some(signed), Some(at));
            return Ok(());
        }
        if self.query.has("temp_url_sig") || self.query.has("temp_url_expires") {
            let granted = tempurl::check(self).await?;
            self.access.signed = Some(granted.signed.clone());
            // Its parameters alone count: others are not signed. An archive is refused where it is met.
            let heard = ["filename", "inline", "extract-archive"];
            self.query.0.retain(|(k, _)| k.starts_with("temp_url_") || heard.contains(&k.as_str()));
            self.tempurl = Some(granted);
            return Ok(());
        }
        self.access.opens_expired = self.store.config().allow_open_expired && self.says("x-open-expired");
        let token = self.header("x-auth-token").or_else(|| self.header("x-storage-token")).map(str::to_owned);
        let Some(token) = token.filter(|t| !t.is_empty()) else { return Ok(()) };
        self.access.caller = Some(self.validate(&token).await?);
        if let Some(service) = self.header("x-service-token").filter(|t| !t.is_empty()) {
            let service = service.to_owned();
            self.access.service = Some(self.validate(&service).await?);
        }
        self.admit_by_account().await
    }

    /// Refuses a change of an account, the copy's in the end, that is not to be changed.
    async fn writable(&self) -> SwiftResult<()> {
        let deletes = match self.method.as_str() {
            "DELETE" => true,
            "PUT" | "POST" | "COPY" => false,
            _ => return Ok(()),
        };
        let to = self.header("destination-account").filter(|_| self.method.as_str() == "COPY");
        let to = to.and_then(reseller::key).unwrap_or_else(|| self.project.clone());
        // The way back, for whoever may go it.
        let tells = self.container.is_empty() && self.headers.contains_key(account::READ_ONLY);
        if tells && self.method == Method::POST && !self.query.has("bulk-delete") {
            return Ok(());
        }
        Ok(self.store.check_writable(&to, deletes).await?)
    }

    /// What the request does to objects, for those who want to be told.
    fn doing(&self) -> Option<Doing> {
        let copies = self.headers.contains_key("x-copy-from") || self.query.has("version-id");
        match self.method.as_str() {
            "COPY" => Some(Doing::Write(notify::COPY)),
            "PUT" if copies => Some(Doing::Write(notify::COPY)),
            "PUT" => Some(Doing::Write(notify::PUT)),
            "DELETE" => Some(Doing::Delete),
            "POST" if self.query.has("bulk-delete") => Some(Doing::Delete),
            _ => None,
        }
    }

    fn cause(&self, doing: Doing, id: &str) -> Cause {
        let who = self.access.project().unwrap_or_default().to_owned();
        Cause { doing, who, source: self.source, request_id: id.to_owned(), at: self.synced }
    }

    async fn answer(self) -> SwiftResult<Response> {
        match tempurl::Finish::of(&self) {
            None => self.answer_plain().await,
            Some(finish) => finish.apply(self.answer_plain().await?),
        }
    }

    async fn answer_plain(self) -> SwiftResult<Response> {
        if let Some(site) = staticweb::site(&self).await? {
            return site.answer(self).await;
        }
        let anonymous = self.access.caller.is_none();
        let bulk = matches!(self.method, Method::POST | Method::DELETE) && self.query.has("bulk-delete");
        let answered = match (self.container.is_empty(), self.object.is_empty()) {
            _ if bulk => bulk::delete(self).await,
            (true, _) => account::answer(self).await,
            (false, true) => container::answer(self).await,
            (false, false) => object::answer(self).await,
        };
        answered.map_err(|e| told(anonymous, e))
    }

    /// The URL that was asked for, without its query. How the client came to a proxy of ours is told by that.
    fn url(&self) -> String {
        let path = self.asked.as_ref().map_or(&self.path, |asked| &asked.0);
        let secure = self.header("x-forwarded-proto").is_some_and(|p| p.eq_ignore_ascii_case("https"));
        match self.header("host") {
            Some(host) => format!("{}://{host}{path}", if secure { "https" } else { "http" }),
            None => path.clone(),
        }
    }

    fn anonymous(&self) -> bool {
        self.access.caller.is_none() && self.access.signed.is_none()
    }

    /// An error as this caller is told it.
    fn told(&self, e: SwiftError) -> SwiftError {
        told(self.access.caller.is_none(), e)
    }

    /// The same request, for an object of the same container, or for the container.
    fn again(&self, object: &str) -> Call {
        let mut access = self.access.clone();
        if let Some(asks) = &mut access.asks {
            asks.action = action(&self.method, &self.container, object);
            asks.key = object.to_owned();
        }
        Call {
            store: self.store.clone(),
            access,
            source: self.source,
            method: self.method.clone(),
            path: self.path.clone(),
            asked: self.asked.clone(),
            project: self.project.clone(),
            container: self.container.clone(),
            object: object.to_owned(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            body: Mutex::default(),
            tempurl: self.tempurl.clone(),
            synced: None,
            links: self.links,
        }
    }

    /// Takes the body; there is one.
    pub(crate) fn take_body(&self) -> Body {
        std::mem::take(&mut *self.body.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Content as this caller sends it.
    pub(crate) fn send(&self, content: crate::Body) -> crate::Body {
        crate::Body { reseller: self.store.is_reseller_admin(&self.access), ..content }
    }

    /// A header's text; `None` where it is absent or not UTF-8.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.headers.get(name)?.as_bytes()).ok()
    }

    pub(crate) fn says(&self, name: &str) -> bool {
        self.header(name).is_some_and(is_true)
    }
}
