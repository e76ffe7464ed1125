//! Static large objects: their manifests are put, shown and deleted here; reading them is reading an object.

use super::bulk::{self, Outcome, Summary};
use super::error::{SwiftError, SwiftResult};
use super::headers::Out;
use super::object::{condition, created, described};
use super::{Call, listing, reply};
use crate::access::GET;
use crate::http::content;
use crate::large::{Segment, slo_etag, split_path};
use crate::meta::{Kind, Large};
use crate::object::{Body, Object};
use crate::{Need, ObjectError, Permission};
use axum::body::Body as HttpBody;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::{FutureExt, StreamExt};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

/// A segment as a client names it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) path: Option<String>,
    etag: Option<String>,
    #[serde(default)]
    size_bytes: Option<serde_json::Value>,
    range: Option<String>,
    data: Option<String>,
}

impl Named {
    pub(super) fn size(&self) -> Result<Option<u64>, &'static str> {
        match &self.size_bytes {
            None | Some(serde_json::Value::Null) => Ok(None),
            Some(serde_json::Value::Number(n)) => n.as_u64().map(Some).ok_or("Invalid size_bytes"),
            Some(serde_json::Value::String(s)) => s.parse().map(Some).map_err(|_| "Invalid size_bytes"),
            Some(_) => Err("Invalid size_bytes"),
        }
    }
}

/// Segments that are looked up at once.
const LOOKUPS: usize = 10;

pub(super) async fn put(call: Call) -> SwiftResult<Response> {
    let container = call.store.container(&call.access, &call.project, &call.container, Need::Write).await?;
    if call.headers.contains_key("x-copy-from") {
        return Err(SwiftError::method_not_allowed("PUT"));
    }
    let named = read_manifest(&call).await?;
    let mut lookups = Vec::with_capacity(named.len());
    for n in named {
        lookups.push(look_up(&call, n).boxed());
    }
    let looked_up: Vec<Result<Segment, String>> =
        futures::stream::iter(lookups).buffered(LOOKUPS).collect().await;
    let (mut segments, mut errors) = (Vec::new(), Vec::new());
    for found in looked_up {
        match found {
            Ok(segment) => segments.push(segment),
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        return Err(SwiftError::bad_request(format!("Errors:\n{}\n", errors.join("\n"))));
    }
    let size = segments.iter().filter_map(Segment::span).map(|s| s.len()).sum();
    let etag = slo_etag(&segments);
    if let Some(given) = call.header("etag").map(|e| e.trim().trim_matches('"')).filter(|e| !e.is_empty())
        && !given.eq_ignore_ascii_case(&etag)
    {
        return Err(SwiftError::of(StatusCode::UNPROCESSABLE_ENTITY));
    }
    let mut new = described(&call)?;
    new.large = Some(Large { etag: etag.clone(), size });
    let data =
        serde_json::to_vec(&segments).map_err(|_| SwiftError::bad_request("Manifest must be valid JSON."))?;
    let written = call.store.put_object(&container, new, Body::of(data), condition(&call)?).await?;
    let mut out = Out::default();
    super::versions::name_made(&mut out, written.version);
    Ok(created(&format!("\"{etag}\""), written.modified, out))
}

async fn read_manifest(call: &Call) -> SwiftResult<Vec<Named>> {
    let limits = call.store.config().limits.clone();
    let body = call.take_body();
    let text = content::read_small(body, limits.max_manifest_size, call.store.body_idle()).await?;
    let text = text.ok_or_else(|| {
        let most = limits.max_manifest_size;
        SwiftError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("Manifest File > {most} bytes"))
    })?;
    manifest_of(&text, limits.max_manifest_segments)
}

pub(super) fn manifest_of(text: &[u8], most: usize) -> SwiftResult<Vec<Named>> {
    let named: Vec<Named> = serde_json::from_slice(text).map_err(|e| match e.is_data() {
        false => SwiftError::bad_request("Manifest must be valid JSON.\n"),
        true => SwiftError::bad_request(format!("Errors:\n{e}\n")),
    })?;
    let objects = named.iter().filter(|n| n.data.is_none()).count();
    if objects > most {
        return Err(SwiftError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("Number of object-backed segments must be <= {most}"),
        ));
    }
    match objects {
        0 if named.is_empty() => Err(SwiftError::bad_request("Manifest should not be empty.\n")),
        0 => Err(SwiftError::bad_request("Inline data segments require at least one object-backed segment.")),
        _ => Ok(named),
    }
}

/// Compares one segment with the object that it names.
async fn look_up(call: &Call, named: Named) -> Result<Segment, String> {
    if let Some(data) = named.data {
        if named.path.is_some() {
            return Err("Cannot have both data and path".into());
        }
        let raw = BASE64_STANDARD.decode(&data).map_err(|_| "data must be valid base64".to_owned())?;
        if raw.is_empty() {
            return Err("Too small: data segments must not be empty".into());
        }
        let (hash, bytes) = (crate::md5_hex(&raw), raw.len() as u64);
        return Ok(Segment { hash, bytes, data: Some(data), ..Segment::default() });
    }
    let path = named.path.clone().unwrap_or_default();
    let told = |what: &str| format!("{path}, {what}");
    let (container, object) = split_path(&path)
        .ok_or("path does not refer to an object. Path must be of the form /container/object.")?;
    let found = async {
        let access = call.access.asking(GET, object);
        let container = call.store.container_to_read(&access, &call.project, container).await?;
        let found = call.store.open_object(&container, object, 0).await?;
        container.admit(&found.meta, Permission::Read)?;
        Ok(found)
    };
    let object_found = match found.await {
        Ok(object) => object,
        Err(ObjectError::NoSuchContainer | ObjectError::NoSuchObject) => return Err(told("404 Not Found")),
        Err(ObjectError::Forbidden) => return Err(told("403 Forbidden")),
        Err(_) => return Err(told("503 Service Unavailable")),
    };
    let meta = &object_found.meta;
    let sub_slo = meta.kind == Kind::Slo;
    let (hash, bytes) = match &meta.large {
        Some(large) => (large.etag.clone(), large.size),
        None => (meta.etag.clone(), meta.size),
    };
    if named.etag.as_deref().is_some_and(|e| !e.trim_matches('"').eq_ignore_ascii_case(&hash)) {
        return Err(told("Etag Mismatch"));
    }
    if named.size().map_err(told)?.is_some_and(|n| n != bytes) {
        return Err(told("Size Mismatch"));
    }
    let segment = Segment {
        name: format!("/{container}/{object}"),
        hash,
        bytes,
        content_type: meta.content_type.clone(),
        last_modified: listing::time(meta.modified.0),
        range: named.range,
        sub_slo,
        data: None,
    };
    match segment.span() {
        Some(span) if !span.is_empty() => Ok(segment),
        Some(_) => Err(told("Too Small; each segment must be at least 1 byte.")),
        None => Err(told("Unsatisfiable Range")),
    }
}

/// The manifest as a client would put it again.
pub(super) async fn show_raw(call: &Call, object: Object) -> SwiftResult<Response> {
    let modified = object.meta.modified.0;
    let most = call.store.config().limits.max_manifest_size as u64 * 4;
    let stored = call.store.read_all(object, most).await?;
    let segments: Vec<Segment> =
        serde_json::from_slice(&stored).map_err(|_| ObjectError::Damaged("a manifest cannot be read"))?;
    let raw: Vec<serde_json::Value> = segments
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
    let mut out = Out::default();
    out.set("content-type", "application/json; charset=utf-8")
        .set("etag", crate::md5_hex(text.as_bytes()))
        .set("x-static-large-object", "True")
        .set("x-timestamp", super::headers::timestamp(modified));
    let length = text.len() as u64;
    let body = if call.method == http::Method::HEAD { HttpBody::empty() } else { HttpBody::from(text) };
    Ok(reply::content(StatusCode::OK, out, length, body))
}

/// Deletes a manifest and all its segments, those of nested manifests too.
pub(super) async fn delete(call: Call) -> SwiftResult<Response> {
    let container = call.store.container(&call.access, &call.project, &call.container, Need::Write).await?;
    let object = call.store.open_object(&container, &call.object, call.store.first_read()).await?;
    if object.meta.kind != Kind::Slo {
        return Err(SwiftError::bad_request("Not an SLO manifest"));
    }
    let own = format!("/{}/{}", call.container, call.object);
    let (mut order, mut open) = (vec![own.clone()], vec![own]);
    // Manifests within manifests; a path is followed once, so that a ring of them ends.
    while let Some(path) = open.pop() {
        for (name, sub_slo) in segments_of(&call, &path).await? {
            if !order.contains(&name) {
                if sub_slo {
                    open.push(name.clone());
                }
                order.push(name);
            }
        }
    }
    order.reverse();
    let mut summary = Summary::default();
    for path in order {
        let outcome = bulk::delete_one(&call, &path).await;
        let stop = matches!(outcome, Outcome::Failed(_));
        summary.add(&path, outcome);
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
    let most = call.store.config().limits.max_manifest_size as u64 * 4;
    let stored = call.store.read_all(object, most).await?;
    let segments: Vec<Segment> =
        serde_json::from_slice(&stored).map_err(|_| ObjectError::Damaged("a manifest cannot be read"))?;
    Ok(segments.into_iter().filter(|s| s.data.is_none()).map(|s| (s.name, s.sub_slo)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn status(text: &str) -> u16 {
        manifest_of(text.as_bytes(), 2).err().map_or(200, |e| e.status())
    }

    #[test]
    fn manifests_are_read() {
        assert_eq!(status(r#"[{"path": "/c/o", "etag": null, "size_bytes": "5", "range": "0-1"}]"#), 200);
        assert_eq!(status(r#"[{"data": "eA=="}, {"path": "/c/o"}]"#), 200);
        for bad in ["", "{}", "[]", "[1]", r#"[{"path": 1}]"#, r#"[{"else": 1}]"#, r#"[{"data": "eA=="}]"#] {
            assert_eq!(status(bad), 400, "{bad}");
        }
        assert_eq!(status(r#"[{"path": "/c/1"}, {"path": "/c/2"}, {"path": "/c/3"}]"#), 413);
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise: Vec<u8>, size in ".{0,8}", path in ".{0,20}") {
            let _ = manifest_of(&noise, 10);
            let text = json!([{"path": path, "size_bytes": size}]).to_string();
            for named in manifest_of(text.as_bytes(), 10).unwrap_or_default() {
                let _ = named.size();
            }
        }
    }
}
