//! Static large objects: their manifests are put, shown and deleted here; reading them is reading an object.

use super::bulk::{self, Outcome, Summary};
use super::error::{SwiftError, SwiftResult};
use super::headers::Out;
use super::listing::Format;
use super::object::{about, condition, created, described};
use super::report::Report;
use super::segments::{self, Named};
use super::{Call, reply, versions};
use crate::access::GET;
use crate::container::Container;
use crate::http::content::{self, http_date, last_modified_secs};
use crate::http::manifest::Opened;
use crate::large::{Segment, read_segments, slo_etag, split_path, write_segments};
use crate::meta::{Kind, Large};
use crate::object::{Body, NewObject, Object, Written};
use crate::range::Span;
use crate::{Need, ObjectError, cause};
use axum::body::Body as HttpBody;
use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// While a manifest with many segments is looked at, a client that asks for it hears this often that the work goes on.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);

/// Why a manifest is not stored.
pub(super) enum Refusal {
    /// Segments are not what they should be: their paths, and what is wrong with each.
    Segments(Vec<(String, String)>),
    Other(SwiftError),
}

impl<E: Into<SwiftError>> From<E> for Refusal {
    fn from(e: E) -> Self {
        Refusal::Other(e.into())
    }
}

/// What a stored manifest is answered with.
struct Stored {
    /// Quoted.
    etag: String,
    written: Written,
}

pub(super) async fn put(call: Call) -> SwiftResult<Response> {
    let container = call.store.container(&call.access, &call.project, &call.container, Need::Write).await?;
    if call.headers.contains_key("x-copy-from") {
        let text = "Multipart Manifest PUTs cannot be COPY requests";
        return Err(SwiftError::new(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    let named = read_manifest(&call).await?;
    if call.query.get("heartbeat").is_some_and(super::is_true) {
        return Ok(with_heartbeat(call, container, named));
    }
    let new = described(&call)?;
    answer(&call, store(&call, &container, new, named).await)
}

/// Stores a manifest in the place of a copy: its segments must be there for the new place too.
pub(super) async fn put_copy(
    call: &Call,
    container: &Arc<Container>,
    new: NewObject,
    from: Object,
) -> SwiftResult<Response> {
    let named = segments::named(stored_segments(call, from).await?);
    answer(call, store(call, container, new, named).await)
}

fn answer(call: &Call, outcome: Result<Stored, Refusal>) -> SwiftResult<Response> {
    match outcome {
        Ok(Stored { etag, written }) => {
            let mut out = Out::default();
            versions::name_made(&mut out, written.version);
            Ok(created(&etag, written.modified, out))
        }
        Err(Refusal::Segments(wrong)) => {
            let format = format(call);
            let mut out = Out::default();
            out.set("content-type", format.content_type());
            let text = Report::new("upload", wrong).text(format);
            Ok(reply::content(StatusCode::BAD_REQUEST, out, text.len() as u64, HttpBody::from(text)))
        }
        Err(Refusal::Other(e)) => Err(e),
    }
}

/// Reports are in the form that the client accepts, whatever its `format` says.
fn format(call: &Call) -> Format {
    Format::accepted(call.header("accept")).unwrap_or(Format::Text)
}

/// Compares a manifest's segments with their objects, and stores it.
async fn store(
    call: &Call,
    container: &Arc<Container>,
    mut new: NewObject,
    named: Vec<Named>,
) -> Result<Stored, Refusal> {
    let found = segments::compare(call, &container.project_id, named).await;
    let segments = found.map_err(Refusal::Segments)?;
    let size = segments.iter().filter_map(Segment::span).map(|s| s.len()).sum();
    let etag = slo_etag(&segments);
    let given = call.header("etag").map(|e| e.trim().trim_matches('"')).filter(|e| !e.is_empty());
    if given.is_some_and(|given| !given.eq_ignore_ascii_case(&etag)) {
        return Err(SwiftError::of(StatusCode::UNPROCESSABLE_ENTITY).into());
    }
    new.large = Some(Large { etag: etag.clone(), size });
    let data =
        write_segments(&segments).map_err(|_| SwiftError::bad_request("Manifest must be valid JSON.\n"))?;
    let written = call.store.put_object(container, new, call.send(Body::of(data)), condition(call)?).await?;
    Ok(Stored { etag: format!("\"{etag}\""), written })
}

/// Answers at once that the work is accepted, with blanks while it goes on and a report of it in the end.
fn with_heartbeat(call: Call, container: Arc<Container>, named: Vec<Named>) -> Response {
    let (format, id) = (format(&call), cause::current());
    let work = async move {
        let outcome = match described(&call) {
            Ok(new) => store(&call, &container, new, named).await,
            Err(e) => Err(e.into()),
        };
        Bytes::from(format!("\r\n\r\n{}", told(&call, outcome).text(format)))
    };
    let work = cause::within(id.map(|c| (*c).clone()), work).boxed();
    let beats = stream::unfold(Some(work), |work: Option<BoxFuture<'static, Bytes>>| async {
        let mut work = work?;
        match tokio::time::timeout(HEARTBEAT, &mut work).await {
            Ok(report) => Some((report, None)),
            Err(_) => Some((Bytes::from_static(b" "), Some(work))),
        }
    });
    let body = stream::iter([Bytes::from_static(b" ")]).chain(beats).map(Ok::<_, Infallible>);
    let mut response = Response::new(HttpBody::from_stream(body));
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
}

fn told(call: &Call, outcome: Result<Stored, Refusal>) -> Report {
    let (error, wrong) = match outcome {
        Ok(Stored { etag, written }) => {
            return Report::new("upload", Vec::new())
                .with("Response Status", "201 Created")
                .with("Response Body", "")
                .with("Etag", etag)
                .with("Last Modified", http_date(last_modified_secs(written.modified)));
        }
        Err(Refusal::Segments(wrong)) => (SwiftError::of(StatusCode::BAD_REQUEST), wrong),
        Err(Refusal::Other(e)) => (call.told(e), Vec::new()),
    };
    Report::new("upload", wrong).with("Response Status", error.line()).with("Response Body", error.reason())
}

async fn read_manifest(call: &Call) -> SwiftResult<Vec<Named>> {
    let limits = call.store.config().limits.clone();
    if content::content_length(&call.headers).is_none() && !call.headers.contains_key("transfer-encoding") {
        return Err(SwiftError::of(StatusCode::LENGTH_REQUIRED));
    }
    let body = call.take_body();
    let text = content::read_small(body, limits.max_manifest_size, call.store.body_idle()).await?;
    let text = text.ok_or_else(|| {
        let most = limits.max_manifest_size;
        SwiftError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("Manifest File > {most} bytes"))
    })?;
    segments::read(&text, limits.max_manifest_segments, &format!("{}/{}", call.container, call.object))
}

/// The segment that a reader asks for by its number, if it asks for one.
pub(super) enum Part {
    Whole,
    One(Span),
    /// There are not so many.
    Beyond,
}

/// What `part-number` means of a large object; tells how many there are in its answer. Of other objects it is ignored.
pub(super) fn part(call: &Call, opened: &Opened, out: &mut Out) -> SwiftResult<Part> {
    let content::Content::Large(assembly) = &opened.content else { return Ok(Part::Whole) };
    let Some(text) = call.query.get("part-number").filter(|_| opened.meta.large.is_some()) else {
        return Ok(Part::Whole);
    };
    let number = text.trim().parse::<u64>().ok().filter(|n| *n > 0);
    let number =
        number.ok_or_else(|| SwiftError::bad_request("Part number must be an integer greater than 0"))?;
    if call.headers.contains_key(header::RANGE) {
        return Err(SwiftError::bad_request("Range requests are not supported with part number queries"));
    }
    out.number("x-parts-count", assembly.parts() as u64);
    Ok(assembly.part(number).map_or(Part::Beyond, Part::One))
}

/// The manifest as a client would put it again.
pub(super) async fn show_raw(call: &Call, object: Object) -> SwiftResult<Response> {
    let meta = object.meta.clone();
    let raw: Vec<serde_json::Value> = stored_segments(call, object)
        .await?
        .into_iter()
        .map(|s| match s.data {
            Some(data) => json!({"data": data}),
            None => {
                let mut item = json!({"path": s.name, "etag": s.hash, "size_bytes": s.bytes});
                if let Some(range) = s.range {
                    item["range"] = range.into();
                }
                item
            }
        })
        .collect();
    let text = serde_json::Value::from(raw).to_string();
    // With the object's own type, so that a copy of it is one of the object.
    let out = about(&meta, &crate::md5_hex(text.as_bytes()));
    let length = text.len() as u64;
    let body = if call.method == http::Method::HEAD { HttpBody::empty() } else { HttpBody::from(text) };
    Ok(reply::content(StatusCode::OK, out, length, body))
}

async fn stored_segments(call: &Call, object: Object) -> SwiftResult<Vec<Segment>> {
    let most = call.store.config().limits.max_manifest_size as u64 * 4;
    let stored = call.store.read_all(object, most).await?;
    Ok(read_segments(&stored)?)
}

/// Deletes a manifest and all its segments, those of nested manifests too.
pub(super) async fn delete(call: Call) -> SwiftResult<Response> {
    let container = call.store.container(&call.access, &call.project, &call.container, Need::Write).await?;
    let version = versions::wanted(&call, &container)?;
    let first = call.store.first_read();
    let object = versions::open(&call, &container, &call.object, version, first, |e| e).await?;
    if object.meta.kind != Kind::Slo {
        return Err(SwiftError::bad_request("Not an SLO manifest"));
    }
    let own = format!("/{}/{}", call.container, call.object);
    let (mut order, mut open) = (vec![own], named_objects(&call, object).await?);
    // Manifests within manifests; a path is followed once, so that a ring of them ends.
    while let Some((name, sub_slo)) = open.pop() {
        if order.contains(&name) {
            continue;
        }
        if sub_slo {
            open.extend(segments_of(&call, &name).await?);
        }
        order.push(name);
    }
    let mut summary = Summary::default();
    for (i, path) in order.iter().enumerate().rev() {
        let outcome = match version.filter(|_| i == 0) {
            Some(id) => bulk::delete_version(&call, &container, id).await,
            None => bulk::delete_one(&call, path).await,
        };
        let stop = matches!(outcome, Outcome::Failed(_));
        summary.add(path, outcome);
        if stop {
            break; // the manifest stays, so that the request can be repeated
        }
    }
    Ok(summary.respond(&call))
}

async fn segments_of(call: &Call, path: &str) -> SwiftResult<Vec<(String, bool)>> {
    let Some((container, object)) = split_path(path) else { return Ok(Vec::new()) };
    let opened = async {
        let access = call.access.asking(GET, object);
        let container = call.store.container(&access, &call.project, container, Need::Read).await?;
        call.store.open_object(&container, object, call.store.first_read()).await
    };
    let object = match opened.await {
        Ok(object) if object.meta.kind == Kind::Slo => object,
        Ok(_) | Err(ObjectError::NoSuchObject | ObjectError::NoSuchContainer) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    named_objects(call, object).await
}

/// The objects that a manifest names, and whether they are manifests too.
async fn named_objects(call: &Call, object: Object) -> SwiftResult<Vec<(String, bool)>> {
    let segments = stored_segments(call, object).await?;
    Ok(segments.into_iter().filter(|s| s.data.is_none()).map(|s| (s.name, s.sub_slo)).collect())
}
