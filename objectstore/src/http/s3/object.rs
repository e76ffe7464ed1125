//! One object: get, head, put, attributes.

use super::error::{self, S3Error, S3Result};
use super::website::ELSEWHERE;
use super::xml::Node;
use super::{Call, lifecycle, lock, sse, versions};
use crate::container::Container;
use crate::digest::Algorithm;
use crate::http::content::{guess_type, http_date};
use crate::http::manifest::{self, Opened};
use crate::http::precondition::{self, Outcome};
use crate::meta::{Checksum, Modified, ObjectMeta};
use crate::object::{Condition, NewObject};
use crate::range::{Ranges, Span};
use crate::version::Lock;
use crate::{Need, ObjectError, Permission, StoragePolicy};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::sync::Arc;

/// Headers that are kept with an object and sent back.
const KEPT: [&str; 5] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "expires"];
/// Parameters by which who signs a request says how its answer is to look.
pub(super) const SHOWN: [&str; 6] = [
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
];
/// S3's limit on user metadata, names and values together.
const MOST_METADATA: usize = 2048;

pub(super) async fn read(call: Call) -> S3Result<Response> {
    let head = call.method == Method::HEAD;
    let sums = wants_sums(&call)?;
    let asks_looks = call.query.iter().any(|(name, _)| SHOWN.contains(&name.as_str()));
    if call.access.caller.is_none() && asks_looks {
        return Err(S3Error::invalid_request(
            "Request specific response headers cannot be used for anonymous GET requests.",
        ));
    }
    let ranges = call.header("range").and_then(Ranges::parse);
    let container = call.store.bucket_to_read(&call.access, &call.bucket).await?;
    let first = call.store.first_read_for(head, ranges.as_ref());
    let version = versions::wanted(&call)?;
    let absent = |e| container.absent(e);
    let mut object = versions::open(&call, &container, &call.key, version, first, absent).await?;
    container.admit(&object.meta, Permission::Read)?;
    object.unlock(sse::of_reader(&call)?)?;
    let part = match call.param("partNumber") {
        None => None,
        Some(_) if ranges.is_some() => {
            return Err(S3Error::invalid_request(
                "Cannot specify both Range header and partNumber query parameter",
            ));
        }
        Some(n) => Some(part(&call, &object, n).await?),
    };
    let opened = manifest::open(&call.store, &call.access, &container, object, false).await?;
    let modified = opened.meta.modified.0.secs();
    let mut out = about(&call, &container, &opened);
    match precondition::evaluate(&call.headers, &opened.etag, modified) {
        Outcome::Proceed => {}
        Outcome::NotModified => return Ok((StatusCode::NOT_MODIFIED, out).into_response()),
        Outcome::Failed => return Err(error::precondition()),
    }
    let size = opened.size;
    let whole = Span { start: 0, end: size };
    // S3 serves one range; a list of them is served whole.
    let span = match (&part, ranges) {
        (Some((span, _)), _) => Some(*span),
        (None, Some(ranges)) => match ranges.within(size).as_deref() {
            Some([span]) => Some(*span),
            Some(_) => None,
            None => {
                return Err(error::invalid_range().with("ActualObjectSize", size.to_string()));
            }
        },
        (None, None) => None,
    };
    let status = if span.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    if let Some(span) = span {
        set(&mut out, "content-range", &span.content_range(size));
    }
    let span = span.unwrap_or(whole);
    if sums {
        // Clients measure what they get by these: they are over all of that.
        let own = opened.meta.checksum.as_ref();
        let sum = match &part {
            Some((_, sum)) => sum.as_ref(),
            None => own.filter(|_| span == whole),
        };
        checksum_headers(&mut out, sum);
        if let (Some(_), Some(own)) = (sum, own) {
            set(&mut out, "x-amz-checksum-type", own.kind());
        }
    }
    set(&mut out, "content-length", &span.len().to_string());
    let body = match (head, opened.large) {
        (true, _) => Body::empty(),
        (false, false) => opened.content.body(span),
        (false, true) => opened.content.checked_body(span).await?,
    };
    Ok((status, out, body).into_response())
}

fn missing(e: ObjectError, call: &Call) -> S3Error {
    match e {
        ObjectError::NoSuchObject => error::no_such_key().with("Key", call.key.clone()),
        e => e.into(),
    }
}

/// Whether the client wants to be told checksums.
fn wants_sums(call: &Call) -> S3Result<bool> {
    match call.header("x-amz-checksum-mode") {
        None => Ok(false),
        Some(mode) if mode.eq_ignore_ascii_case("ENABLED") => Ok(true),
        Some(_) => Err(S3Error::invalid_request("Value for x-amz-checksum-mode header is invalid.")),
    }
}

/// The bytes of one part of a multipart object, and the checksum of these bytes, if there is one; of any other object,
/// part 1 is all.
async fn part(call: &Call, object: &crate::Object, number: &str) -> S3Result<(Span, Option<Checksum>)> {
    let number = super::multipart::number_of_part(number)?;
    let parts = call.store.parts(object).await?;
    let own = object.meta.checksum.as_ref();
    if parts.is_empty() && number == 1 {
        return Ok((Span { start: 0, end: object.meta.size }, own.cloned()));
    }
    let index = usize::try_from(number).ok().and_then(|n| n.checked_sub(1)).filter(|i| *i < parts.len());
    let index = index.ok_or_else(|| S3Error {
        code: "InvalidPartNumber",
        message: "The requested partnumber is not satisfiable".into(),
        ..error::invalid_range()
    })?;
    let start: u64 = parts[..index].iter().map(|p| p.size).sum();
    // Where the object's is over the content, those of its parts are not told.
    let told = parts.len() == 1 || own.is_some_and(Checksum::is_composite);
    let sum = parts[index].checksum.clone().filter(|_| told && own.is_some());
    Ok((Span { start, end: start + parts[index].size }, sum))
}

fn set(out: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) =
        (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
    {
        out.insert(name, value);
    }
}

/// An object's own headers.
fn about(call: &Call, container: &Container, opened: &Opened) -> HeaderMap {
    let meta = &opened.meta;
    let mut out = HeaderMap::new();
    let content_type = if meta.content_type.is_empty() { "binary/octet-stream" } else { &meta.content_type };
    set(&mut out, "content-type", content_type);
    set(&mut out, "etag", &format!("\"{}\"", opened.etag));
    set(&mut out, "last-modified", &http_date(meta.modified.0.secs()));
    set(&mut out, "accept-ranges", "bytes");
    versions::name(&mut out, container, meta.version_id());
    lock::tell(&mut out, meta);
    sse::tell(&mut out, meta.seal.as_ref());
    if !call.has("versionId") {
        lifecycle::tell(&mut out, call, container, meta);
    }
    let kept = |n: &str| KEPT.contains(&n) || n == ELSEWHERE;
    for (name, value) in meta.headers.iter().filter(|(n, _)| kept(n)) {
        set(&mut out, name, value);
    }
    for (name, value) in &meta.user {
        set(&mut out, &format!("x-amz-meta-{name}"), value);
    }
    tell_class(&mut out, call.store.policies().class_at(&container.policy, meta.place));
    if !meta.tags.is_empty() {
        set(&mut out, "x-amz-tagging-count", &meta.tags.len().to_string());
    }
    if meta.parts > 0 && call.has("partNumber") {
        set(&mut out, "x-amz-mp-parts-count", &meta.parts.to_string());
    }
    for param in SHOWN {
        if let Some(value) = call.param(param) {
            set(&mut out, &param["response-".len()..], value);
        }
    }
    out
}

/// The storage class, of which S3 says nothing where it is the usual one.
fn tell_class(out: &mut HeaderMap, class: &str) {
    if class != "STANDARD" {
        set(out, "x-amz-storage-class", class);
    }
}

pub(super) fn checksum_headers(out: &mut HeaderMap, checksum: Option<&Checksum>) {
    let Some(sum) = checksum else { return };
    if let Some(algorithm) = Algorithm::of(&sum.algorithm) {
        set(out, algorithm.header(), &sum.value);
        set(out, "x-amz-checksum-type", sum.kind());
    }
}

impl Checksum {
    /// Whether the sum is over the content, or over the sums of its parts.
    pub(super) fn kind(&self) -> &'static str {
        if self.is_composite() { "COMPOSITE" } else { "FULL_OBJECT" }
    }
}

/// What a request says of the object that it brings.
pub(super) fn described(call: &Call, container: &Container) -> S3Result<NewObject> {
    refuse_unbuilt(call)?;
    let (owner, grants) = super::acl::of_new_object(call, container)?;
    let mut new = NewObject {
        name: call.key.clone(),
        tags: super::tags::of_header(call)?,
        lock: lock::of_headers(call, container)?,
        owner,
        grants,
        seal: sse::wanted(call, container)?,
        policy: class_wanted(call, container)?,
        content_type: call.header("content-type").unwrap_or_default().to_owned(),
        ..NewObject::default()
    };
    if new.content_type.is_empty() {
        new.content_type = match guess_type(&call.key) {
            "application/octet-stream" => "binary/octet-stream".to_owned(),
            known => known.to_owned(),
        };
    }
    for name in KEPT {
        let Some(value) = call.header(name) else { continue };
        // How the body came over the wire is not how the object is encoded.
        let value: Vec<&str> = value.split(',').map(str::trim).filter(|v| *v != "aws-chunked").collect();
        let value = value.join(", ");
        if !value.is_empty() {
            new.headers.push((name.to_owned(), value));
        }
    }
    if let Some(to) = call.header(ELSEWHERE) {
        super::website::check_elsewhere(to)?;
        new.headers.push((ELSEWHERE.to_owned(), to.to_owned()));
    }
    let mut size = 0;
    for (name, value) in &call.headers {
        let Some(name) = name.as_str().strip_prefix("x-amz-meta-") else { continue };
        let value = String::from_utf8(value.as_bytes().to_vec())
            .map_err(|_| S3Error::invalid_argument("Metadata must be valid UTF-8"))?;
        size += name.len() + value.len();
        new.user.push((name.to_owned(), value));
    }
    if size > MOST_METADATA {
        return Err(error::metadata_too_large());
    }
    Ok(new)
}

/// What a request may ask for and would not get is refused rather than forgotten.
fn refuse_unbuilt(call: &Call) -> S3Result<()> {
    match call.headers.contains_key("x-amz-write-offset-bytes") {
        true => Err(S3Error::not_implemented("x-amz-write-offset-bytes")),
        false => Ok(()),
    }
}

/// The policy of the storage class that a request wants its object to be in.
fn class_wanted(call: &Call, container: &Container) -> S3Result<Option<Arc<StoragePolicy>>> {
    let Some(class) = call.header("x-amz-storage-class").filter(|c| !c.is_empty()) else { return Ok(None) };
    Ok(Some(call.store.policies().of_class(&container.policy, class)?))
}

/// `If-Match` and `If-None-Match` of a write.
pub(super) fn condition(call: &Call) -> S3Result<Condition> {
    match (call.header("if-none-match"), call.header("if-match")) {
        (None, None) => Ok(Condition::Always),
        (Some("*"), None) => Ok(Condition::Absent),
        (Some(etags), None) => Ok(Condition::NoneMatch(precondition::etags(etags))),
        (None, Some(etags)) => Ok(Condition::Match(precondition::etags(etags))),
        _ => Err(S3Error::not_implemented("A header you provided implies functionality that")),
    }
}

/// RestoreObject. Every class here answers at once, as S3's own do that are no archives: there is nothing to restore.
pub(super) async fn restore(call: Call) -> S3Result<Response> {
    let container = call.store.bucket(&call.access, &call.bucket, Need::Write).await?;
    let version = versions::wanted(&call)?;
    let object = versions::open(&call, &container, &call.key, version, 0, |e| e).await?;
    let node = Node::parse(&call.small_body().await?, "RestoreRequest")?;
    if node.child("Type").is_none() && node.value("Days").and_then(|d| d.trim().parse::<u32>().ok()).is_none()
    {
        return Err(error::malformed_xml());
    }
    let class = call.store.policies().class_at(&container.policy, object.meta.place);
    Err(error::not_archived().with("StorageClass", class))
}

pub(super) async fn put(call: Call) -> S3Result<Response> {
    let container = call.store.bucket(&call.access, &call.bucket, Need::Write).await?;
    let new = described(&call, &container)?;
    let condition = condition(&call)?;
    if new.lock != Lock::default() && !call.has_sum() {
        return Err(S3Error::invalid_request(
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
        ));
    }
    let body = call.body()?.summed();
    if body.length.is_none() && !call.headers.contains_key("transfer-encoding") {
        return Err(error::missing_length());
    }
    let tags = new.tags.clone();
    let class = new.policy.as_ref().unwrap_or(&container.policy).storage_class.clone();
    let written =
        call.store.put_object(&container, new, body, condition).await.map_err(|e| missing(e, &call))?;
    let mut out = HeaderMap::new();
    let modified = Modified(written.modified);
    let meta = ObjectMeta { size: written.size, modified, tags, ..ObjectMeta::default() };
    lifecycle::tell(&mut out, &call, &container, &meta);
    set(&mut out, "etag", &format!("\"{}\"", written.etag));
    sse::tell(&mut out, written.seal.as_ref());
    tell_class(&mut out, &class);
    checksum_headers(&mut out, written.checksum.as_ref());
    versions::name_some(&mut out, "x-amz-version-id", written.version);
    Ok((StatusCode::OK, out).into_response())
}
