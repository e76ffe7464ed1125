//! `/v1/AUTH_<project>/<container>/<object>`: reading, writing, changing and deleting one object.

use super::error::{SwiftError, SwiftResult};
use super::headers::{self, KEPT, Out};
use super::{Call, archive, copy, reply, slo, symlink, sync, tempurl, versions};
use crate::http::content::{self, http_date, last_modified_secs};
use crate::http::manifest::{self, DLO, Opened};
use crate::http::precondition::{self, Outcome};
use crate::object::{Condition, NewObject, Update};
use crate::range::{Ranges, Span};
use crate::{MAX_OBJECT_NAME, Need, ObjectError, Permission};
use axum::response::Response;
use http::{Method, StatusCode};
use state::Timestamp;

pub(super) async fn answer(call: Call) -> SwiftResult<Response> {
    if call.object.len() > MAX_OBJECT_NAME {
        let len = call.object.len();
        return Err(SwiftError::bad_request(format!(
            "Object name length of {len} longer than {MAX_OBJECT_NAME}"
        )));
    }
    let manifest = call.query.get("multipart-manifest").map(str::to_owned);
    match (call.method.as_str(), manifest.as_deref()) {
        ("PUT", _) if call.synced.is_some() => sync::put(call).await,
        ("DELETE", _) if call.synced.is_some() => sync::delete(call).await,
        ("GET" | "HEAD", _) => read(call).await,
        ("PUT", _) if call.query.has("extract-archive") => Box::pin(archive::extract(call)).await,
        ("PUT", _) if call.query.has("version-id") => versions::restore(call).await,
        ("PUT", Some("put")) => slo::put(call).await,
        ("PUT", _) if call.headers.contains_key("x-copy-from") => copy::put_from(call).await,
        ("PUT", _) => put(call).await,
        ("POST", _) => update(call).await,
        ("DELETE", Some("delete")) => slo::delete(call).await,
        ("DELETE", _) => versions::delete_one(call).await,
        ("COPY", _) => copy::copy(call).await,
        _ => Err(SwiftError::method_not_allowed("HEAD, GET, PUT, POST, OPTIONS, DELETE, COPY")),
    }
}

async fn read(call: Call) -> SwiftResult<Response> {
    let ranges = call.header("range").and_then(Ranges::parse);
    let head = call.method == Method::HEAD;
    let container = call.store.container_to_read(&call.access, &call.project, &call.container).await?;
    let first = call.store.first_read_for(head, ranges.as_ref());
    let version = versions::wanted(&call, &container)?;
    let absent = |e| container.absent(e);
    let object = versions::open(&call, &container, &call.object, version, first, absent).await?;
    container.admit(&object.meta, Permission::Read)?;
    if !call.query.is("symlink", "get")
        && let Some(target) = symlink::Target::of(&object.meta)
    {
        return symlink::follow(&call, &object.meta, &target).await;
    }
    let raw = call.query.is("multipart-manifest", "get");
    if raw && call.query.is("format", "raw") && object.meta.large.is_some() {
        return slo::show_raw(&call, object).await;
    }
    let opened = manifest::open(&call.store, &call.access, &container, object, raw).await?;
    let mut out = about(&opened);
    versions::name(&mut out, &call, &container, &opened.meta);
    if let Some(granted) = &call.tempurl {
        granted.dispose(&call, &mut out);
    }
    let modified = last_modified_secs(opened.meta.modified.0);
    match precondition::evaluate(&call.headers, &opened.etag, modified) {
        Outcome::Proceed => {}
        Outcome::NotModified => return Ok(reply::empty(StatusCode::NOT_MODIFIED, out)),
        Outcome::Failed => return Err(SwiftError::of(StatusCode::PRECONDITION_FAILED)),
    }
    if raw && opened.meta.large.is_some() {
        out.set("content-type", "application/json; charset=utf-8");
    }
    let ranges = ranges.filter(|_| if_range_holds(&call, &opened.etag, modified));
    send(opened, out, ranges, head).await
}

/// Whether `If-Range`, if there is one, names the object as it is.
fn if_range_holds(call: &Call, etag: &str, modified: i64) -> bool {
    match call.header("if-range") {
        None => true,
        Some(text) => match precondition::date(text) {
            Some(at) => modified <= at,
            None => precondition::etags(text).iter().any(|e| e == etag),
        },
    }
}

async fn send(opened: Opened, mut out: Out, ranges: Option<Ranges>, head: bool) -> SwiftResult<Response> {
    let size = opened.size;
    let whole = Span { start: 0, end: size };
    // A HEAD tells of the whole object, whatever range it names.
    let Some(ranges) = ranges.filter(|_| !head) else {
        let body = match head {
            true => axum::body::Body::empty(),
            false => first_bytes(opened, whole).await?,
        };
        return Ok(reply::content(StatusCode::OK, out, size, body));
    };
    let spans = ranges.within(size).ok_or_else(|| {
        SwiftError::of(StatusCode::RANGE_NOT_SATISFIABLE)
            .with(http::header::CONTENT_RANGE, format!("bytes */{size}"))
            .with(http::header::ACCEPT_RANGES, "bytes")
    })?;
    match spans.as_slice() {
        [span] => {
            out.set("content-range", span.content_range(size));
            let span = *span;
            let body = first_bytes(opened, span).await?;
            Ok(reply::content(StatusCode::PARTIAL_CONTENT, out, span.len(), body))
        }
        _ => {
            let boundary = uuid::Uuid::new_v4().simple().to_string();
            out.set("content-type", format!("multipart/byteranges;boundary={boundary}"));
            let kind = opened.meta.content_type.clone();
            let (length, body) = opened.content.multipart(spans, size, &kind, &boundary);
            Ok(reply::content(StatusCode::PARTIAL_CONTENT, out, length, body))
        }
    }
}

/// The body of one span. Of a large object the first bytes are read before the status is sent: a segment that is
/// not there is a conflict.
async fn first_bytes(opened: Opened, span: Span) -> SwiftResult<axum::body::Body> {
    if !opened.large {
        return Ok(opened.content.body(span));
    }
    opened.content.checked_body(span).await.map_err(|e| match e {
        ObjectError::NoSuchObject | ObjectError::NoSuchContainer | ObjectError::Damaged(_) => {
            SwiftError::of(StatusCode::CONFLICT)
        }
        e => e.into(),
    })
}

/// An object's own headers.
fn about(opened: &Opened) -> Out {
    let meta = &opened.meta;
    let mut out = Out::default();
    out.set("content-type", &meta.content_type)
        .set("etag", if opened.large { format!("\"{}\"", opened.etag) } else { opened.etag.clone() })
        .set("last-modified", http_date(last_modified_secs(meta.modified.0)))
        .set("x-timestamp", headers::timestamp(meta.modified.0))
        .set("accept-ranges", "bytes");
    for (name, value) in &meta.headers {
        out.set(name, value);
    }
    if meta.large.is_some() {
        out.set("x-static-large-object", "True");
    }
    if let Some(at) = meta.delete_at {
        out.set("x-delete-at", at.to_string());
    }
    out.metadata("x-object-meta-", meta.user.iter().map(|(k, v)| (k, v)));
    out
}

/// What a request says of the object that it brings.
pub(super) fn described(call: &Call) -> SwiftResult<NewObject> {
    let user = headers::metadata(&call.headers, "x-object-meta-")?;
    headers::check_metadata(&call.store.config().limits, "Object", user.iter().map(|(k, v)| (k, v)))?;
    let mut kept: Vec<(String, String)> = Vec::new();
    for name in KEPT {
        if let Some(value) = call.header(name).filter(|v| !v.is_empty() && *v != "aws-chunked") {
            kept.push((name.to_owned(), value.to_owned()));
        }
    }
    if let Some(value) = call.header(DLO).filter(|v| !v.is_empty()) {
        if manifest::dlo_target(value).is_none() || value.contains('?') || value.contains('&') {
            return Err(SwiftError::bad_request("X-Object-Manifest must be in the format container/prefix"));
        }
        kept.push((DLO.to_owned(), value.trim_start_matches('/').to_owned()));
    }
    let detect = call.says("x-detect-content-type");
    let content_type = match call.header("content-type").filter(|t| !t.is_empty() && !detect) {
        Some(given) => given.to_owned(),
        None => content::guess_type(&call.object).to_owned(),
    };
    Ok(NewObject {
        name: call.object.clone(),
        content_type,
        headers: kept,
        user,
        delete_at: delete_at(call)?,
        ..NewObject::default()
    })
}

/// When the object is to go: `X-Delete-At`, or `X-Delete-After` from now.
fn delete_at(call: &Call) -> SwiftResult<Option<i64>> {
    let now = Timestamp::now().secs();
    if let Some(text) = call.header("x-delete-after").filter(|t| !t.is_empty()) {
        let after: i64 =
            text.trim().parse().map_err(|_| SwiftError::bad_request("Non-integer X-Delete-After"))?;
        if after < 0 {
            return Err(SwiftError::bad_request("X-Delete-After in past"));
        }
        return Ok(Some(now.saturating_add(after)));
    }
    let Some(text) = call.header("x-delete-at").filter(|t| !t.is_empty()) else { return Ok(None) };
    let at: f64 = text.trim().parse().map_err(|_| SwiftError::bad_request("Non-integer X-Delete-At"))?;
    let at = at as i64;
    if at < now {
        return Err(SwiftError::bad_request("X-Delete-At in past"));
    }
    Ok(Some(at))
}

/// `If-None-Match`, which a PUT may only have as `*`, and `If-Match`.
pub(super) fn condition(call: &Call) -> SwiftResult<Condition> {
    if let Some(text) = call.header("if-none-match") {
        if text.trim() != "*" {
            return Err(SwiftError::bad_request("If-None-Match only supports *"));
        }
        return Ok(Condition::Absent);
    }
    Ok(Condition::Always)
}

async fn put(call: Call) -> SwiftResult<Response> {
    let container = call.store.container(&call.access, &call.project, &call.container, Need::Write).await?;
    let chunked = call.headers.contains_key("transfer-encoding");
    let length = content::content_length(&call.headers);
    if length.is_none() && !chunked {
        return Err(SwiftError::of(StatusCode::LENGTH_REQUIRED));
    }
    let mut new = described(&call)?;
    symlink::describe(&call, &mut new).await?;
    let condition = condition(&call)?;
    let body = call.take_body();
    let mut upload = content::upload(body, &call.headers);
    if let Some(etag) = call.header("etag").filter(|e| !e.is_empty()) {
        upload.expect.md5 = Some(etag.trim().trim_matches('"').to_ascii_lowercase());
    }
    let written = call.store.put_object(&container, new, upload, condition).await?;
    let mut out = Out::default();
    versions::name_made(&mut out, written.version);
    Ok(created(&written.etag, written.modified, out))
}

/// The answer to whatever made an object.
pub(super) fn created(etag: &str, modified: Timestamp, mut out: Out) -> Response {
    out.set("etag", etag).set("last-modified", http_date(last_modified_secs(modified)));
    reply::standard(StatusCode::CREATED, out)
}

async fn update(call: Call) -> SwiftResult<Response> {
    let container = call.store.container(&call.access, &call.project, &call.container, Need::Write).await?;
    versions::wanted(&call, &container)?;
    if call.headers.contains_key(symlink::TARGET) {
        return Err(SwiftError::bad_request("A PUT request is required to set a symlink target"));
    }
    let new = described(&call)?;
    let mut update = Update {
        content_type: call.headers.contains_key("content-type").then_some(new.content_type),
        headers: new.headers,
        user: new.user,
        delete_at: new.delete_at,
    };
    let before = call.store.open_object(&container, &call.object, 0).await?.meta;
    let target = symlink::Target::of(&before);
    update.headers.extend(symlink::kept(&before));
    call.store.update_object(&container, &call.object, update).await?;
    if let Some(target) = target {
        return Ok(symlink::posted(&call, &target));
    }
    Ok(reply::standard(StatusCode::ACCEPTED, Out::default()))
}

impl tempurl::Granted {
    /// How a browser is to show what a signed URL gives it.
    fn dispose(&self, call: &Call, out: &mut Out) {
        if call.method != Method::GET && call.method != Method::HEAD {
            return;
        }
        let base = call.object.trim_end_matches('/').rsplit('/').next().unwrap_or(&call.object);
        let name = self.filename.as_deref().unwrap_or(base);
        let quoted = name.replace(['"', '\r', '\n'], "_");
        let mut encoded = String::new();
        crate::http::s3::sigv4::encode(&mut encoded, name.as_bytes(), false);
        let how = if self.inline { "inline" } else { "attachment" };
        if self.inline && self.filename.is_none() {
            out.set("content-disposition", "inline");
        } else {
            out.set(
                "content-disposition",
                format!("{how}; filename=\"{quoted}\"; filename*=UTF-8''{encoded}"),
            );
        }
        if let Some(at) = self.expires {
            out.set("expires", http_date(at));
        }
    }
}
