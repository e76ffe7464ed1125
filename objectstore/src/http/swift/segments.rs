//! The segments that a client names for a static large object: its list is read here, and compared with the objects.

use super::Call;
use super::error::{SwiftError, SwiftResult};
use crate::ObjectError;
use crate::http::encode;
use crate::large::{Segment, split_path};
use crate::meta::Kind;
use crate::range::Ranges;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::{FutureExt, StreamExt};
use http::StatusCode;
use serde_json::{Map, Value};

/// A segment as a client names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    Object(Wanted),
    /// Content that is in the list itself.
    Data(Vec<u8>),
}

/// An object, and what the client expects of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// `container/object`, with or without a slash before it.
    pub(super) path: String,
    etag: Option<String>,
    size: Option<u64>,
    range: Option<Ranges>,
}

const TOO_SMALL: &str = "too small; each segment must be at least 1 byte.";

/// Reads a client's list of at most `most` objects for the manifest `own` (`container/object`).
pub(super) fn read(text: &[u8], most: usize, own: &str) -> SwiftResult<Vec<Named>> {
    let list = match serde_json::from_slice(text) {
        Ok(Value::Array(list)) => list,
        Ok(_) => return Err(SwiftError::bad_request("Manifest must be a list.\n")),
        Err(_) => return Err(SwiftError::bad_request("Manifest must be valid JSON.\n")),
    };
    let end = list.len();
    let (mut named, mut wrong) = (Vec::with_capacity(end), String::new());
    for (i, item) in list.into_iter().enumerate() {
        match one(item, i + 1 == end, own) {
            Ok(segment) => named.push(segment),
            Err(text) => wrong.push_str(&format!("Index {i}: {text}\n")),
        }
    }
    let objects = named.iter().filter(|n| matches!(n, Named::Object(_))).count();
    if wrong.is_empty() && objects == 0 && end > 0 {
        wrong.push_str("Inline data segments require at least one object-backed segment.\n");
    }
    if !wrong.is_empty() {
        return Err(SwiftError::bad_request(wrong));
    }
    if objects > most {
        let text = format!("Number of object-backed segments must be <= {most}");
        return Err(SwiftError::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    Ok(named)
}

/// One segment. The last may be empty.
fn one(item: Value, last: bool, own: &str) -> Result<Named, String> {
    let Value::Object(map) = item else { return Err("not a JSON object".into()) };
    let allowed: &[&str] = match (map.contains_key("path"), map.contains_key("data")) {
        (true, _) => &["path", "etag", "size_bytes", "range"],
        (false, true) => &["data"],
        (false, false) => return Err("expected keys to include one of 'path' or 'data'".into()),
    };
    let mut others: Vec<String> = map
        .keys()
        .filter(|k| !allowed.contains(&k.as_str()))
        .map(|k| Value::from(k.as_str()).to_string())
        .collect();
    others.sort();
    match others.is_empty() {
        false => Err(format!("extraneous keys {}", others.join(", "))),
        true if allowed == ["data"] => data(&map["data"]),
        true => object(&map, last, own),
    }
}

fn data(given: &Value) -> Result<Named, String> {
    let raw = given.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
    match raw {
        None => Err("data must be valid base64".into()),
        Some(raw) if raw.is_empty() => Err(TOO_SMALL.into()),
        Some(raw) => Ok(Named::Data(raw)),
    }
}

fn object(map: &Map<String, Value>, last: bool, own: &str) -> Result<Named, String> {
    let path = map["path"].as_str().ok_or("\"path\" must be a string")?.to_owned();
    let etag = match map.get("etag") {
        None | Some(Value::Null) => None,
        Some(Value::String(etag)) => Some(etag.clone()),
        Some(_) => return Err("\"etag\" must be a string or null (if provided)".into()),
    };
    if split_path(&path).is_none() {
        return Err("path does not refer to an object. Path must be of the form /container/object.".into());
    }
    let size = size(map.get("size_bytes")).ok_or("invalid size_bytes")?;
    if size == Some(0) && !last {
        return Err(TOO_SMALL.into());
    }
    if path.trim_start_matches('/') == own {
        return Err("manifest must not include itself as a segment".into());
    }
    let range = match map.get("range") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) => Some(range_of(text).ok_or("invalid range")?),
        Some(_) => return Err("invalid range".into()),
    };
    if let Some(ranges) = &range {
        if ranges.count() > 1 {
            return Err("multiple ranges (only one allowed)".into());
        }
        if size.is_some_and(|size| ranges.within(size).is_none()) {
            return Err("unsatisfiable range".into());
        }
    }
    Ok(Named::Object(Wanted { path, etag, size, range }))
}

/// The part of an object that a segment is: `first-last` and its kin.
fn range_of(text: &str) -> Option<Ranges> {
    Ranges::parse(&format!("bytes={text}"))
}

/// A size that may be a number or the text of one; `None` where it is neither.
fn size(given: Option<&Value>) -> Option<Option<u64>> {
    match given {
        None | Some(Value::Null) => Some(None),
        Some(Value::Number(n)) => n.as_u64().map(Some),
        Some(Value::String(text)) => text.trim().parse().ok().map(Some),
        Some(_) => None,
    }
}

/// Segments that are looked up at once.
const LOOKUPS: usize = 10;

/// Compares the segments with the objects of an account. Fails with the paths, URL-encoded, and what is wrong with each.
pub(super) async fn compare(
    call: &Call,
    project: &str,
    named: Vec<Named>,
) -> Result<Vec<Segment>, Vec<(String, String)>> {
    let end = named.len();
    let mut lookups = Vec::with_capacity(end);
    for (i, segment) in named.into_iter().enumerate() {
        lookups.push(look_up(call, project, segment, i + 1 == end).boxed());
    }
    let looked_up: Vec<Result<Segment, Vec<(String, String)>>> =
        futures::stream::iter(lookups).buffered(LOOKUPS).collect().await;
    let (mut segments, mut wrong) = (Vec::with_capacity(end), Vec::new());
    for found in looked_up {
        match found {
            Ok(segment) => segments.push(segment),
            Err(errors) => wrong.extend(errors),
        }
    }
    if wrong.is_empty() { Ok(segments) } else { Err(wrong) }
}

async fn look_up(
    call: &Call,
    project: &str,
    named: Named,
    last: bool,
) -> Result<Segment, Vec<(String, String)>> {
    let wanted = match named {
        Named::Object(wanted) => wanted,
        Named::Data(raw) => {
            let (hash, bytes) = (crate::md5_hex(&raw), raw.len() as u64);
            return Ok(Segment {
                hash,
                bytes,
                data: Some(BASE64_STANDARD.encode(&raw)),
                ..Segment::default()
            });
        }
    };
    let mut shown = String::new();
    encode(&mut shown, wanted.path.as_bytes(), true);
    let failed = |what: String| (shown.clone(), what);
    let segment = found(call, project, &wanted).await;
    let mut segment = segment.map_err(|e| match e {
        ObjectError::Damaged(_) => vec![failed("409 Conflict".into())],
        e => vec![failed(call.told(e.into()).line())],
    })?;
    let mut wrong = Vec::new();
    let used = match wanted.range.map(|range| range.within(segment.bytes)) {
        None => segment.bytes,
        Some(spans) => match spans.as_deref() {
            Some([span]) => {
                // What is all of it needs no range.
                let part = span.len() < segment.bytes;
                segment.range = part.then(|| format!("{}-{}", span.start, span.end - 1));
                span.len()
            }
            _ => {
                wrong.push(failed("Unsatisfiable Range".into()));
                1
            }
        },
    };
    if used == 0 && !last {
        wrong.push(failed("Too small; each segment must be at least 1 byte.".into()));
    }
    if wanted.size.is_some_and(|size| size != segment.bytes) {
        wrong.push(failed("Size Mismatch".into()));
    }
    if wanted.etag.is_some_and(|e| !e.trim_matches('"').eq_ignore_ascii_case(&segment.hash)) {
        wrong.push(failed("Etag Mismatch".into()));
    }
    if wrong.is_empty() { Ok(segment) } else { Err(wrong) }
}

/// The object that a segment names, as the manifest is to keep it.
async fn found(call: &Call, project: &str, wanted: &Wanted) -> Result<Segment, ObjectError> {
    let (container, name) = split_path(&wanted.path).ok_or(ObjectError::NoSuchObject)?;
    let object = call.store.open_behind(&call.access, project, container, name, 0).await?;
    let meta = &object.meta;
    let (hash, bytes) = match &meta.large {
        Some(large) => (large.etag.clone(), large.size),
        None => (meta.etag.clone(), meta.size),
    };
    Ok(Segment {
        name: format!("/{container}/{name}"),
        hash,
        bytes,
        content_type: meta.content_type.clone(),
        last_modified: super::listing::time(meta.modified.0),
        range: None,
        sub_slo: meta.kind == Kind::Slo,
        data: None,
    })
}

/// A stored manifest's segments as a client would name them.
pub(super) fn named(segments: Vec<Segment>) -> Vec<Named> {
    let one = |s: Segment| match s.data {
        Some(text) => Named::Data(BASE64_STANDARD.decode(text).unwrap_or_default()),
        None => {
            let range = s.range.as_deref().and_then(range_of);
            Named::Object(Wanted { path: s.name, etag: Some(s.hash), size: Some(s.bytes), range })
        }
    };
    segments.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn told(text: &str) -> String {
        read(text.as_bytes(), 2, "c/own")
            .err()
            .map_or_else(String::new, |e| format!("{} {}", e.status(), e.text()))
    }

    #[test]
    fn lists_are_read() {
        for good in [
            r#"[{"path": "/c/o", "etag": null, "size_bytes": "5", "range": "0-1"}]"#,
            r#"[{"data": "eA=="}, {"path": "c/o", "size_bytes": 0}]"#,
            "[]",
        ] {
            assert_eq!(told(good), "", "{good}");
        }
        for (bad, why) in [
            ("", "400 Manifest must be valid JSON.\n"),
            ("{}", "400 Manifest must be a list.\n"),
            ("[1]", "400 Index 0: not a JSON object\n"),
            (r#"[{"else": 1}]"#, "400 Index 0: expected keys to include one of 'path' or 'data'\n"),
            (r#"[{"path": 1}]"#, "400 Index 0: \"path\" must be a string\n"),
            (
                r#"[{"path": "/c/o", "teag": "", "data": ""}]"#,
                "400 Index 0: extraneous keys \"data\", \"teag\"\n",
            ),
            (
                r#"[{"path": "/c/o", "range": "0-1,3-4"}]"#,
                "400 Index 0: multiple ranges (only one allowed)\n",
            ),
            (r#"[{"path": "/c/o", "range": "9-", "size_bytes": 5}]"#, "400 Index 0: unsatisfiable range\n"),
            (r#"[{"path": "/c/own"}]"#, "400 Index 0: manifest must not include itself as a segment\n"),
            (r#"[{"data": "?"}, {"path": "/c/o"}]"#, "400 Index 0: data must be valid base64\n"),
            (
                r#"[{"path": "/c/o", "size_bytes": 0}, {"path": "/c/o"}]"#,
                "400 Index 0: too small; each segment must be at least 1 byte.\n",
            ),
            (
                r#"[{"data": "eA=="}]"#,
                "400 Inline data segments require at least one object-backed segment.\n",
            ),
            (
                r#"[{"path": "/c/1"}, {"path": "/c/2"}, {"path": "/c/3"}]"#,
                "413 Number of object-backed segments must be <= 2",
            ),
        ] {
            assert_eq!(told(bad), why, "{bad}");
        }
    }

    #[test]
    fn what_is_kept_can_be_named_again() {
        let kept = Segment {
            name: "/c/o".into(),
            hash: "e".into(),
            bytes: 5,
            range: Some("0-1".into()),
            ..Segment::default()
        };
        let data = Segment { data: Some("eA==".into()), ..Segment::default() };
        let text = json!([{"path": "/c/o", "etag": "e", "size_bytes": 5, "range": "0-1"}, {"data": "eA=="}])
            .to_string();
        assert_eq!(named(vec![kept, data]), read(text.as_bytes(), 9, "").unwrap());
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise: Vec<u8>, size in ".{0,8}", path in ".{0,20}") {
            let _ = read(&noise, 10, "");
            let _ = read(json!([{"path": path, "size_bytes": size, "range": size}]).to_string().as_bytes(), 10, "c/o");
        }
    }
}
