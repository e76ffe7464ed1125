//! Copies within the cloud: `COPY` with `Destination`, `PUT` with `X-Copy-From`.

use super::error::{SwiftError, SwiftResult};
use super::headers::{OBJECT, Out};
use super::object::{condition, created, described};
use super::slo::{self, Part};
use super::{Call, symlink, versions};
use crate::access::{GET, PUT};
use crate::http::content::{content_length, http_date, last_modified_secs};
use crate::http::manifest;
use crate::meta::Kind;
use crate::object::Body;
use crate::range::{Ranges, Span};
use crate::{Need, Permission, reseller};
use axum::response::Response;
use http::StatusCode;
use percent_encoding::percent_decode_str;
use state::Timestamp;

/// One end of a copy.
pub(super) struct End {
    pub(super) project: String,
    pub(super) container: String,
    pub(super) object: String,
    /// Of a source: which version.
    pub(super) version: Option<String>,
}

pub(super) async fn put_from(call: Call) -> SwiftResult<Response> {
    if content_length(&call.headers).is_some_and(|n| n != 0) {
        return Err(SwiftError::bad_request("Copy requests require a zero byte body"));
    }
    let from = end(&call, "x-copy-from", "x-copy-from-account")?;
    let to = own(&call);
    run(call, from, to).await
}

pub(super) async fn copy(mut call: Call) -> SwiftResult<Response> {
    let to = end(&call, "destination", "destination-account")?;
    let version = call.query.get("version-id").map(str::to_owned);
    let from = End { version, ..own(&call) };
    // What the request says, it says of the new object.
    call.object = to.object.clone();
    run(call, from, to).await
}

/// What the path names.
fn own(call: &Call) -> End {
    let (project, container, object) = (call.project.clone(), call.container.clone(), call.object.clone());
    End { project, container, object, version: None }
}

/// `container/object[?version-id=…]` in a header, URL-encoded.
fn end(call: &Call, header: &'static str, account: &'static str) -> SwiftResult<End> {
    let text = call.header(header).unwrap_or_default();
    let (text, version) = match text.split_once("?version-id=") {
        Some((text, version)) if header != "destination" => (text, Some(version.to_owned())),
        _ => (text, None),
    };
    let decoded = String::from_utf8(percent_decode_str(text).collect()).ok();
    let split = decoded.as_deref().and_then(crate::large::split_path);
    let (container, object) = split.ok_or_else(|| {
        let name = if header == "destination" { "Destination" } else { "X-Copy-From" };
        SwiftError::precondition(format!("{name} header must be of the form <container name>/<object name>"))
    })?;
    let project = match call.header(account) {
        None => call.project.clone(),
        Some(name) => reseller::key(name)
            .ok_or_else(|| SwiftError::precondition("Account name cannot contain slashes"))?,
    };
    Ok(End { project, container: container.to_owned(), object: object.to_owned(), version })
}

async fn run(call: Call, from: End, to: End) -> SwiftResult<Response> {
    let store = &call.store;
    let (reads, writes) = (call.access.asking(GET, &from.object), call.access.asking(PUT, &to.object));
    let source = store.container_to_read(&reads, &from.project, &from.container).await?;
    let version = from.version.as_deref().map(|v| versions::parse(&source, v)).transpose()?;
    let absent = |e| source.absent(e);
    let object = versions::open(&call, &source, &from.object, version, store.first_read(), absent).await?;
    source.admit(&object.meta, Permission::Read)?;
    if !call.query.is("symlink", "get")
        && let Some(target) = symlink::Target::of(&object.meta)
    {
        let from = target.end(&from.project);
        let mut call = call.next_link()?;
        call.object.clone_from(&to.object);
        return Box::pin(run(call, from, to)).await;
    }
    let target = store.container(&writes, &to.project, &to.container, Need::Write).await?;
    let raw = call.query.is("multipart-manifest", "get");
    let stored = (raw && object.meta.kind == Kind::Slo).then(|| object.clone());
    let opened = manifest::open(store, &reads, &source, object, raw).await?;
    let part = slo::part(&call, &opened, &mut Out::default())?;
    let span = match call.header("range").and_then(Ranges::parse) {
        None => match part {
            Part::Whole => Span { start: 0, end: opened.size },
            Part::One(span) => span,
            Part::Beyond => {
                let text = "The requested part number is not satisfiable";
                return Err(SwiftError::new(StatusCode::RANGE_NOT_SATISFIABLE, text));
            }
        },
        Some(ranges) => match ranges.within(opened.size).as_deref() {
            Some([span]) => *span,
            _ => return Err(SwiftError::of(StatusCode::RANGE_NOT_SATISFIABLE)),
        },
    };
    let mut new = described(&call)?;
    new.name.clone_from(&to.object);
    if !call.headers.contains_key("content-type") {
        new.content_type.clone_from(&opened.meta.content_type);
    }
    if !call.says("x-fresh-metadata") {
        for (name, value) in &opened.meta.user {
            if !new.user.iter().any(|(n, _)| n == name) {
                new.user.push((name.clone(), value.clone()));
            }
        }
        for (name, value) in &opened.meta.headers {
            let manifest = name == manifest::DLO && !raw;
            if !manifest && !new.headers.iter().any(|(n, _)| n == name) {
                new.headers.push((name.clone(), value.clone()));
            }
        }
        new.delete_at = new.delete_at.or(opened.meta.delete_at);
        if new.delete_at.is_some_and(|at| at <= Timestamp::now().secs()) {
            return Err(SwiftError::bad_request("X-Delete-At in past"));
        }
    }
    let mut out = Out::default();
    out.metadata(OBJECT, new.user.iter().map(|(k, v)| (k, v)))
        .set("x-copied-from", quoted(&from.container, &from.object))
        .set("x-copied-from-account", reseller::name(&from.project))
        .set("x-copied-from-last-modified", http_date(last_modified_secs(opened.meta.modified.0)));
    if let Some(stored) = stored {
        let mut response = slo::put_copy(&call, &target, new, stored).await?;
        response.headers_mut().extend(out.done());
        return Ok(response);
    }
    let body = call.send(Body::new(opened.content.stream(span), Some(span.len())));
    let written = store.put_object(&target, new, body, condition(&call)?).await?;
    versions::name_made(&mut out, written.version);
    Ok(created(&written.etag, written.modified, out))
}

fn quoted(container: &str, object: &str) -> String {
    let mut out = String::new();
    crate::http::s3::sigv4::encode(&mut out, container.as_bytes(), true);
    out.push('/');
    crate::http::s3::sigv4::encode(&mut out, object.as_bytes(), true);
    out
}
