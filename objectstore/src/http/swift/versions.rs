//! Versions, as Swift's clients see them: `X-Versions-Enabled`, `?version-id=`, `?versions`, and the older
//! `X-Versions-Location` and `X-History-Location`.

use super::error::{SwiftError, SwiftResult};
use super::headers::{Out, parse_timestamp};
use super::object::created;
use super::{Call, is_true, listing, reply};
use crate::container::{Container, ContainerInfo};
use crate::http::content::{content_length, frames};
use crate::http::relay::paced;
use crate::index::{VersionItem, VersionQuery};
use crate::object::{Condition, DeleteVersion, Deleted, MARKER_TYPE};
use crate::version::{History, HistoryMode, VersionId, Versioning};
use crate::{Need, Object, ObjectError, ObjectMeta};
use axum::response::Response;
use futures::StreamExt;
use http::{HeaderName, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::sync::Arc;

const VERSION_ID: HeaderName = HeaderName::from_static("x-object-version-id");

/// The version that a request names.
pub(super) fn wanted(call: &Call, container: &Container) -> SwiftResult<Option<VersionId>> {
    let Some(text) = call.query.get("version-id") else { return Ok(None) };
    if call.method == http::Method::POST {
        return Err(SwiftError::bad_request("POST to a specific version is not allowed"));
    }
    parse(container, text).map(Some)
}

pub(super) fn parse(container: &Container, text: &str) -> SwiftResult<VersionId> {
    if !container.info.versioning.is_set() && text != "null" {
        return Err(SwiftError::bad_request(
            "version-aware operations require that the container is versioned",
        ));
    }
    VersionId::parse(text).ok_or_else(|| match is_time(text) {
        true => SwiftError::new(StatusCode::NOT_FOUND, "The specified version does not exist"),
        false => SwiftError::bad_request("Invalid version parameter"),
    })
}

/// Whether a text is a version id as other Swifts have them: a time. There is no such version here.
fn is_time(text: &str) -> bool {
    text.split_once('_').map_or(text, |(t, _)| t).parse::<f64>().is_ok_and(f64::is_finite)
}

/// Opens the version that is asked for, or the latest.
pub(super) async fn open(
    call: &Call,
    container: &Arc<Container>,
    name: &str,
    version: Option<VersionId>,
    first: u64,
    absent: impl FnOnce(ObjectError) -> ObjectError,
) -> SwiftResult<Object> {
    let Some(id) = version else {
        let opened = call.store.open_object_for(&call.access, container, name, first).await;
        return opened.map_err(|e| match SwiftError::from(absent(e)) {
            e if e.status() == 404 && container.info.versioning.is_set() => e.with(VERSION_ID, "null"),
            e => e,
        });
    };
    // What the container's ACL grants is the latest version.
    if id != VersionId::Null {
        call.store.check(&call.access, &container.project_id, None, Need::Look)?;
    }
    let object = call.store.open_version(container, name, id, first).await.map_err(absent)?;
    match object.meta.is_marker() {
        false => Ok(object),
        true => Err(SwiftError::of(StatusCode::NOT_FOUND)
            .with(VERSION_ID, id.to_string())
            .with(header::CONTENT_TYPE, MARKER_TYPE)),
    }
}

/// Names the version that a response is about, where the container has any.
pub(super) fn name(out: &mut Out, call: &Call, container: &Container, meta: &ObjectMeta) {
    if container.info.versioning.is_set() {
        let id = meta.version_id();
        out.set("x-object-version-id", id.to_string());
        if id != VersionId::Null {
            out.set("content-location", format!("{}?version-id={id}", call.path));
        }
    }
}

/// Names a version that was made, if it has a name of its own.
pub(super) fn name_made(out: &mut Out, id: Option<VersionId>) {
    if let Some(id @ VersionId::Own(_)) = id {
        out.set("x-object-version-id", id.to_string());
    }
}

/// Deletes an object as a request does that names no version.
pub(super) async fn delete(
    call: &Call,
    container: &Arc<Container>,
    name: &str,
    condition: Condition,
) -> Result<Deleted, ObjectError> {
    match container.info.versioning {
        // The link to the latest version goes; a delete marker is made only while versions are.
        Versioning::Suspended => call.store.unlink_object(container, name, condition).await,
        _ => call.store.delete_object(container, name, condition).await,
    }
}

/// `X-If-Delete-At`: the object goes only if that is when it was to go, also if that has come.
async fn expected(call: &Call, container: &Arc<Container>) -> SwiftResult<Condition> {
    let Some(text) = call.header("x-if-delete-at") else { return Ok(Condition::Always) };
    let at =
        parse_timestamp(text).ok_or_else(|| SwiftError::bad_request("Bad X-If-Delete-At header value"))?;
    let found = call.store.open_unswept(container, &call.object, 0).await?;
    if found.meta.delete_at != Some(at.secs()) {
        return Err(SwiftError::precondition("X-If-Delete-At and X-Delete-At do not match"));
    }
    Ok(Condition::Unchanged(found.version))
}

pub(super) async fn delete_one(call: Call) -> SwiftResult<Response> {
    let container = call.store.container(&call.access, &call.project, &call.container, Need::Write).await?;
    let mut out = Out::default();
    let Some(id) = wanted(&call, &container)? else {
        let condition = expected(&call, &container).await?;
        let met = condition != Condition::Always;
        let deleted = delete(&call, &container, &call.object, condition).await?;
        name_made(&mut out, deleted.version);
        return Ok(reply::standard(if met { StatusCode::NO_CONTENT } else { status(deleted) }, out));
    };
    let how = DeleteVersion::default();
    let deleted = match call.store.delete_version(&container, &call.object, id, how).await {
        // The object itself, whichever version it is: its versions stay.
        Err(ObjectError::NoSuchVersion | ObjectError::NoSuchObject) if id == VersionId::Null => {
            call.store.unlink_object(&container, &call.object, Condition::Always).await?
        }
        deleted => deleted?,
    };
    let latest = call.store.open_object(&container, &call.object, 0).await;
    let latest = latest.map_or(VersionId::Null, |o| o.meta.version_id());
    out.set("x-object-version-id", id.to_string()).set("x-object-current-version-id", latest.to_string());
    Ok(reply::standard(status(deleted), out))
}

/// What was not there is 404, though a delete marker may have been made; so is what has expired, though it is gone now.
pub(super) fn status(deleted: Deleted) -> StatusCode {
    if deleted.existed { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

/// `PUT …?version-id=`: an older version becomes the latest.
pub(super) async fn restore(call: Call) -> SwiftResult<Response> {
    let container = call.store.container(&call.access, &call.project, &call.container, Need::Write).await?;
    let id = wanted(&call, &container)?.filter(|id| *id != VersionId::Null);
    let id = id.ok_or_else(|| SwiftError::bad_request("Invalid version parameter"))?;
    let chunked = call.headers.contains_key(header::TRANSFER_ENCODING);
    let empty = match content_length(&call.headers) {
        Some(n) => n == 0,
        None if chunked => {
            let mut frames = paced(frames(call.take_body()), call.store.body_idle());
            frames.next().await.transpose()?.is_none()
        }
        None => return Err(SwiftError::of(StatusCode::LENGTH_REQUIRED)),
    };
    if !empty {
        return Err(SwiftError::bad_request("PUT version-id requests require a zero byte body"));
    }
    let meta = call.store.restore_version(&container, &call.object, id).await?;
    let mut out = Out::default();
    out.set("x-object-version-id", id.to_string());
    Ok(created(&meta.etag, meta.modified.0, out))
}

/// What a container says of its versions.
pub(super) fn about(out: &mut Out, info: &ContainerInfo) {
    match info.versioning {
        Versioning::Unset => {}
        Versioning::Enabled => drop(out.set("x-versions-enabled", "True")),
        Versioning::Suspended => drop(out.set("x-versions-enabled", "False")),
    }
    if let Some(history) = &info.history {
        let header = match history.mode {
            HistoryMode::Stack => "x-versions-location",
            HistoryMode::History => "x-history-location",
        };
        let mut value = String::new();
        crate::http::s3::sigv4::encode(&mut value, history.container.as_bytes(), true);
        out.set(header, value);
    }
}

/// Changes what a container says of its versions, as a request's headers say.
pub(super) fn change(call: &Call, info: &mut ContainerInfo) -> SwiftResult<()> {
    change_history(call, info)?;
    let Some(enabled) = call.header("x-versions-enabled") else { return Ok(()) };
    if info.history.is_some() {
        return Err(SwiftError::bad_request(
            "Cannot enable object versioning on a container that is already using the legacy versioned writes \
             feature.",
        ));
    }
    let versioning = match is_true(enabled) {
        true => Versioning::Enabled,
        false => Versioning::Suspended,
    };
    info.set_versioning(versioning).map_err(|_| {
        SwiftError::new(StatusCode::CONFLICT, "An object lock keeps the versioning of this container.")
    })
}

fn change_history(call: &Call, info: &mut ContainerInfo) -> SwiftResult<()> {
    let (stack, history) = (call.header("x-versions-location"), call.header("x-history-location"));
    let given = match (stack, history) {
        (Some(s), Some(h)) if !s.is_empty() && !h.is_empty() => {
            return Err(SwiftError::bad_request(
                "Only one of X-Versions-Location or X-History-Location may be specified",
            ));
        }
        (_, Some(h)) if !h.is_empty() => Some((h, HistoryMode::History)),
        (Some(s), _) => Some((s, HistoryMode::Stack)),
        (None, h) => h.map(|h| (h, HistoryMode::History)),
    };
    let removed = ["x-remove-versions-location", "x-remove-history-location"];
    match given {
        Some((location, mode)) if !location.is_empty() => {
            if info.versioning.is_set() {
                return Err(SwiftError::bad_request(
                    "Cannot use legacy versioned writes on a container that has object versioning.",
                ));
            }
            let container = String::from_utf8(percent_decode_str(location).collect())
                .map_err(|_| SwiftError::precondition("Invalid UTF8 or contains NULL"))?;
            if container.is_empty() || container.contains('/') {
                return Err(SwiftError::precondition("Container name cannot contain slashes"));
            }
            info.history = Some(History { container, mode });
        }
        Some(_) => info.history = None,
        None if removed.iter().any(|n| call.header(n).is_some_and(|v| !v.is_empty())) => info.history = None,
        None => {}
    }
    Ok(())
}

/// The query of a `?versions` listing.
fn list_query(call: &Call, container: &Container) -> SwiftResult<VersionQuery> {
    let text = |name: &str| call.query.get(name).unwrap_or_default().to_owned();
    let (marker, version) = (call.query.get("marker"), call.query.get("version_marker"));
    let delimiter = text("delimiter");
    if delimiter.contains(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(SwiftError::bad_request("invalid delimiter param"));
    }
    let version_marker = match version {
        None => None,
        Some(_) if marker.is_none() => {
            return Err(SwiftError::bad_request("version_marker param requires marker"));
        }
        Some(v) => match VersionId::parse(v) {
            Some(id) => Some(id).filter(|_| container.info.versioning.is_set()),
            None if is_time(v) => None,
            None => return Err(SwiftError::bad_request("invalid version_marker param")),
        },
    };
    Ok(VersionQuery {
        prefix: text("prefix"),
        key_marker: text("marker"),
        version_marker,
        delimiter,
        limit: listing::limit(call, call.store.config().limits.container_listing_limit)?,
    })
}

/// The text of a `?versions` listing, which is always JSON.
pub(super) async fn list(call: &Call, container: &Container) -> SwiftResult<String> {
    let form = call
        .query
        .get("format")
        .filter(|f| ["plain", "text", "xml"].iter().any(|o| f.eq_ignore_ascii_case(o)));
    let accepted = call.header("accept").is_none_or(|a| a.trim().is_empty() || accepts_json(a));
    if form.is_some() || !(accepted || call.query.has("format")) {
        return Err(SwiftError::of(StatusCode::NOT_ACCEPTABLE));
    }
    let query = list_query(call, container)?;
    let reverse = call.query.get("reverse").is_some_and(is_true);
    let mut items = if reverse {
        backwards(call, container, &query).await?
    } else {
        call.store.list_versions(container, &query).await?.items
    };
    items.truncate(query.limit);
    let whole = items.len() < query.limit;
    newest_first(&mut items, &query.key_marker, reverse, whole);
    let items: Vec<Value> = items.iter().map(line).collect();
    Ok(Value::from(items).to_string())
}

/// The versions before the marker, last first. Rows can't be read backwards, so all of them are read.
async fn backwards(
    call: &Call,
    container: &Container,
    query: &VersionQuery,
) -> SwiftResult<Vec<VersionItem>> {
    let mut all = Vec::new();
    let mut forward =
        VersionQuery { key_marker: String::new(), version_marker: None, limit: 1000, ..query.clone() };
    loop {
        let page = call.store.list_versions(container, &forward).await?;
        match page.items.last() {
            Some(VersionItem::Version { name, entry, .. }) if page.truncated => {
                (forward.key_marker, forward.version_marker) = (name.clone(), Some(entry.id()));
            }
            Some(VersionItem::Prefix(name)) if page.truncated => {
                (forward.key_marker, forward.version_marker) = (name.clone(), None);
            }
            _ => {
                all.extend(page.items);
                break;
            }
        }
        all.extend(page.items);
    }
    let marker = query.key_marker.as_str();
    if !marker.is_empty() {
        let end = all.iter().position(|item| match item {
            VersionItem::Prefix(name) => name.as_str() >= marker,
            VersionItem::Version { name, entry, .. } => {
                name.as_str() > marker
                    || (name == marker && query.version_marker.is_none_or(|v| v == entry.id()))
            }
        });
        all.truncate(end.unwrap_or(all.len()));
    }
    all.reverse();
    Ok(all)
}

/// A version that was made the latest again is listed among the others by its age. Versions of a name that other pages
/// show too stay as they come.
fn newest_first(items: &mut [VersionItem], marker: &str, reverse: bool, whole: bool) {
    let name = |item: &VersionItem| match item {
        VersionItem::Version { name, .. } => Some(name.clone()),
        VersionItem::Prefix(_) => None,
    };
    let age = |item: &VersionItem| match item {
        VersionItem::Version { entry, .. } => Some(entry.id()),
        VersionItem::Prefix(_) => None,
    };
    let last = items.last().and_then(name).filter(|_| !whole);
    for run in items.chunk_by_mut(|a, b| name(a).is_some() && name(a) == name(b)) {
        let Some(of) = name(&run[0]) else { continue };
        let shared = of == marker || last.as_ref() == Some(&of);
        if shared || run.iter().any(|item| age(item) == Some(VersionId::Null)) {
            continue;
        }
        run.sort_by_cached_key(|item| age(item).map(|id| id.to_string()));
        if !reverse {
            run.reverse();
        }
    }
}

fn accepts_json(accept: &str) -> bool {
    accept
        .split(',')
        .filter_map(|a| a.split(';').next())
        .any(|kind| matches!(kind.trim(), "application/json" | "application/*" | "*/*"))
}

fn line(item: &VersionItem) -> Value {
    match item {
        VersionItem::Prefix(name) => json!({"subdir": name}),
        VersionItem::Version { name, entry, latest } => {
            let (hash, kind) = match entry.marker {
                true => (crate::md5_hex(b""), MARKER_TYPE),
                false => (entry.etag.clone(), entry.content_type.as_str()),
            };
            json!({
                "name": name,
                "version_id": entry.id().to_string(),
                "is_latest": latest,
                "hash": hash,
                "bytes": entry.shown_size(),
                "content_type": kind,
                "last_modified": listing::time(entry.modified()),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_swifts_version_ids_are_known_as_such() {
        for text in ["1579726320.54321", "1579726320.54321_00000001", "0"] {
            assert!(is_time(text), "{text}");
        }
        for text in ["", "abc", "1.2.3", "inf"] {
            assert!(!is_time(text), "{text}");
        }
        assert!(accepts_json("text/html, */*;q=0.1") && !accepts_json("text/plain"));
    }
}
