//! `/v1/AUTH_<project>/<container>/<object>`: reading, writing, changing and deleting one object.

use super::error::{SwiftError, SwiftResult};
use super::headers::{self, KEPT, Out};
use super::slo::{self, Part};
use super::{Call, archive, copy, reply, symlink, sync, versions};
use crate::http::content::{self, http_date, last_modified_secs};
use crate::http::manifest::{self, DLO, Opened};
use crate::http::precondition::{self, Outcome};
use crate::link::SLO_ETAG;
use crate::object::{Condition, NewObject, Update};
use crate::range::{Ranges, Span};
use crate::{MAX_OBJECT_NAME, Need, ObjectError, ObjectMeta, Permission};
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
        ("PUT", _) if call.query.has("version-id") => Box::pin(versions::restore(call)).await,
        ("PUT", Some("put")) => Box::pin(slo::put(call)).await,
        ("PUT", _) if call.headers.contains_key("x-copy-from") => Box::pin(copy::put_from(call)).await,
        ("PUT", _) => put(call).await,
        ("POST", _) => update(call).await,
        ("DELETE", Some("delete")) => Box::pin(slo::delete(call)).await,
        ("DELETE", _) => versions::delete_one(call).await,
        ("COPY", _) => Box::pin(copy::copy(call)).await,
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
        return Box::pin(symlink::follow(&call, &object.meta, &target)).await;
    }
    let raw = call.query.is("multipart-manifest", "get");
    if raw && call.query.is("format", "raw") && object.meta.large.is_some() {
        return slo::show_raw(&call, object).await;
    }
    let opened = manifest::open(&call.store, &call.access, &container, object, raw).await?;
    let mut out = about(&opened.meta, &opened.etag);
    if opened.large {
        out.set("etag", format!("\"{}\"", opened.etag));
        if opened.meta.large.is_some() {
            out.set("x-manifest-etag", &opened.meta.etag);
        }
    }
    let part = slo::part(&call, &opened, &mut out)?;
    versions::name(&mut out, &call, &container, &opened.meta);
    let modified = last_modified_secs(opened.meta.modified.0);
    match precondition::evaluate_each(&call.headers, &opened.etag, modified) {
        Outcome::Proceed => {}
        Outcome::NotModified => return Ok(reply::empty(StatusCode::NOT_MODIFIED, out)),
        Outcome::Failed => return Ok(reply::empty(StatusCode::PRECONDITION_FAILED, out)),
    }
    if raw && opened.meta.large.is_some() {
        out.set("content-type", "application/json; charset=utf-8");
    }
    // Of a dynamic large object no more than one range is served.
    let dynamic = opened.large && opened.meta.large.is_none();
    let ranges =
        ranges.filter(|r| if_range_holds(&call, &opened.etag, modified) && !(dynamic && r.count() > 1));
    match part {
        Part::Whole => send(opened, out, ranges, head).await,
        Part::One(span) => send_part(opened, out, span, head).await,
        Part::Beyond => {
            let text = if head { "" } else { "The requested part number is not satisfiable" };
            out.set("content-range", format!("bytes */{}", opened.size));
            Ok(reply::content(StatusCode::RANGE_NOT_SATISFIABLE, out, text.len() as u64, text.into()))
        }
    }
}

/// One segment of a large object. A HEAD tells of it alone, too.
async fn send_part(opened: Opened, mut out: Out, span: Span, head: bool) -> SwiftResult<Response> {
    out.set("content-range", span.content_range(opened.size));
    let body = match head {
        true => axum::body::Body::empty(),
        false => first_bytes(opened, span).await?,
    };
    Ok(reply::content(StatusCode::PARTIAL_CONTENT, out, span.len(), body))
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
            .with(http::header::ETAG, out.get("etag"))
            .with(http::header::LAST_MODIFIED, out.get("last-modified"))
    })?;
    match spans.as_slice() {
        [span] => {
            let span = *span;
            send_part(opened, out, span, false).await
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
        ObjectError::NoSuchObject
        | ObjectError::NoSuchContainer
        | ObjectError::Forbidden
        | ObjectError::Invalid(_)
        | ObjectError::Damaged(_) => SwiftError::of(StatusCode::CONFLICT),
        e => e.into(),
    })
}

/// An object's own headers.
pub(super) fn about(meta: &ObjectMeta, etag: &str) -> Out {
    let mut out = Out::default();
    out.set("content-type", &meta.content_type)
        .set("etag", etag)
        .set("last-modified", http_date(last_modified_secs(meta.modified.0)))
        .set("x-timestamp", headers::timestamp(meta.modified.0))
        .set("accept-ranges", "bytes");
    for (name, value) in meta.headers.iter().filter(|(name, _)| name != SLO_ETAG) {
        out.set(name, value);
    }
    if meta.large.is_some() {
        out.set("x-static-large-object", "True");
    }
    if let Some(at) = meta.delete_at {
        out.set("x-delete-at", at.to_string());
    }
    out.metadata(headers::OBJECT, meta.user.iter().map(|(k, v)| (k, v)));
    out
}

/// What a request says of the object that it brings.
pub(super) fn described(call: &Call) -> SwiftResult<NewObject> {
    let user = headers::metadata(&call.headers, headers::OBJECT)?;
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

/// The last second that `X-Delete-At` can name.
const LATEST: i128 = 9_999_999_999;

/// When the object is to go: `X-Delete-At`, or `X-Delete-After` from now.
fn delete_at(call: &Call) -> SwiftResult<Option<i64>> {
    let now = i128::from(Timestamp::now().secs());
    let (header, from) = match call.headers.contains_key("x-delete-after") {
        true => ("X-Delete-After", now),
        false => ("X-Delete-At", 0),
    };
    let Some(text) = call.header(&header.to_ascii_lowercase()).filter(|t| !t.is_empty()) else {
        return Ok(None);
    };
    let seconds =
        whole_number(text).ok_or_else(|| SwiftError::bad_request(format!("Non-integer {header}")))?;
    let at = from.saturating_add(seconds).clamp(0, LATEST);
    if at <= now {
        return Err(SwiftError::bad_request(format!("{header} in past")));
    }
    Ok(i64::try_from(at).ok())
}

/// An integer; one that is larger than any is as good as the largest.
fn whole_number(text: &str) -> Option<i128> {
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let most = if text.starts_with('-') { i128::MIN } else { i128::MAX };
    Some(text.parse().unwrap_or(most))
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
    Box::pin(symlink::describe(&call, &mut new)).await?;
    let condition = condition(&call)?;
    let body = call.take_body();
    let mut upload = content::upload(body, &call.headers);
    if let Some(etag) = call.header("etag").filter(|e| !e.is_empty()) {
        upload.expect.md5 = Some(etag.trim().trim_matches('"').to_ascii_lowercase());
    }
    let written = call.store.put_object(&container, new, call.send(upload), condition).await?;
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
    let before = call.store.open_object_for(&call.access, &container, &call.object, 0).await?.meta;
    let target = symlink::Target::of(&before);
    update.headers.extend(symlink::kept(&before));
    call.store.update_object(&call.access, &container, &call.object, update).await?;
    if let Some(target) = target {
        return Ok(symlink::posted(&call, &target, before.header(symlink::ETAG)));
    }
    Ok(reply::standard(StatusCode::ACCEPTED, Out::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_length() {
        for (text, number) in [("12", Some(12)), (" -3 ", Some(-3)), ("*", None), ("", None), ("1.5", None)] {
            assert_eq!(whole_number(text), number, "{text}");
        }
        assert_eq!(whole_number(&"1".repeat(100)), Some(i128::MAX));
    }
}
