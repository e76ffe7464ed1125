//! Swift's large objects: a manifest that names segments, which are objects like any other.
//!
//! A static one (SLO) lists its segments with their ETags and sizes, in JSON, as its content. A dynamic one (DLO) is
//! whatever a container lists under a prefix at the time it is read.

use crate::access::Access;
use crate::container::Container;
use crate::index::{Item, ListQuery};
use crate::meta::Kind;
use crate::object::Object;
use crate::range::Span;
use crate::{ObjectError, ObjectStore};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;

/// A segment as a static large object's manifest keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// `/container/object`
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default)]
    pub hash: String,
    /// Bytes of the whole segment, whatever range of it is used.
    #[serde(default)]
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub content_type: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_modified: String,
    /// `first-last`: the part of the segment that is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
    /// The segment is a static large object itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sub_slo: bool,
    /// The segment's content, in base64, instead of an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl Segment {
    /// The part of the segment's content that is used.
    pub fn span(&self) -> Option<Span> {
        let whole = Span { start: 0, end: self.bytes };
        let Some(range) = &self.range else { return Some(whole) };
        let ranges = crate::range::Ranges::parse(&format!("bytes={range}"))?;
        match ranges.within(self.bytes)?.as_slice() {
            [span] => Some(*span),
            _ => None,
        }
    }
}

/// Segments as they are kept. What is known of those that are content themselves is not.
pub(crate) fn write_segments(segments: &[Segment]) -> Result<Vec<u8>, serde_json::Error> {
    let one = |s: &Segment| match &s.data {
        Some(data) => Ok(json!({"data": data})),
        None => serde_json::to_value(s),
    };
    serde_json::to_vec(&segments.iter().map(one).collect::<Result<Vec<_>, _>>()?)
}

/// The segments of a manifest that is kept.
pub(crate) fn read_segments(text: &[u8]) -> Result<Vec<Segment>, ObjectError> {
    let damaged = |what| move || ObjectError::Damaged(what);
    let read = serde_json::from_slice(text).ok();
    let mut segments: Vec<Segment> = read.ok_or_else(damaged("a manifest cannot be read"))?;
    for s in &mut segments {
        let Some(data) = &s.data else { continue };
        let raw = BASE64_STANDARD.decode(data).ok().ok_or_else(damaged("a manifest's data segment"))?;
        (s.hash, s.bytes) = (crate::md5_hex(&raw), raw.len() as u64);
    }
    Ok(segments)
}

/// Deepest nesting of large objects in large objects.
const DEEPEST: u32 = 10;

/// A large object, ready to be read.
#[derive(Clone)]
pub struct Assembly {
    pub size: u64,
    /// MD5 over the segments' ETags, in hexadecimal.
    pub etag: String,
    store: ObjectStore,
    access: Access,
    project: String,
    pieces: Vec<Piece>,
    depth: u32,
}

#[derive(Clone)]
struct Piece {
    /// Where in the large object it begins.
    at: u64,
    /// The part of the segment that is used.
    span: Span,
    what: What,
}

#[derive(Clone)]
enum What {
    Object { container: String, name: String, etag: String },
    Data(Bytes),
}

/// ETag of a static large object: MD5 over the segments' ETags, with their ranges.
pub(crate) fn slo_etag(segments: &[Segment]) -> String {
    let mut md5 = Md5::new();
    for s in segments {
        match (&s.range, &s.data) {
            (Some(range), _) => md5.update(format!("{}:{range};", s.hash)),
            (None, _) => md5.update(&s.hash),
        }
    }
    hex::encode(md5.finalize())
}

/// `/container/object` in its two parts.
pub(crate) fn split_path(path: &str) -> Option<(&str, &str)> {
    let (container, object) = path.trim_start_matches('/').split_once('/')?;
    (!container.is_empty() && !object.is_empty()).then_some((container, object))
}

impl ObjectStore {
    /// Gets ready to read a static large object whose manifest has been opened.
    pub async fn assemble_static(&self, access: &Access, object: Object) -> Result<Assembly, ObjectError> {
        self.assemble(access, object, 0).await
    }

    async fn assemble(&self, access: &Access, object: Object, depth: u32) -> Result<Assembly, ObjectError> {
        if depth >= DEEPEST {
            return Err(ObjectError::Invalid("Large objects are nested too deep.".into()));
        }
        let project = object.container.project_id.clone();
        let manifest = self.read_all(object, self.config().limits.max_manifest_size as u64 * 4).await?;
        let segments = read_segments(&manifest)?;
        let etag = slo_etag(&segments);
        let mut pieces = Vec::with_capacity(segments.len());
        let mut at = 0;
        for s in segments {
            let span = s.span().unwrap_or(Span { start: 0, end: s.bytes });
            let what = match &s.data {
                Some(data) => What::Data(
                    BASE64_STANDARD
                        .decode(data)
                        .map_err(|_| ObjectError::Damaged("a manifest's data segment"))?
                        .into(),
                ),
                None => {
                    let (container, name) =
                        split_path(&s.name).ok_or(ObjectError::Damaged("a manifest's segment name"))?;
                    What::Object { container: container.into(), name: name.into(), etag: s.hash.clone() }
                }
            };
            pieces.push(Piece { at, span, what });
            at += span.len();
        }
        Ok(Assembly { size: at, etag, store: self.clone(), access: access.clone(), project, pieces, depth })
    }

    /// Gets ready to read a dynamic large object: all that `container` lists under `prefix` now.
    pub async fn assemble_dynamic(
        &self,
        access: &Access,
        container: &Arc<Container>,
        prefix: &str,
    ) -> Result<Assembly, ObjectError> {
        let mut query = ListQuery { prefix: prefix.to_owned(), limit: 10_000, ..ListQuery::default() };
        let (mut pieces, mut at, mut md5) = (Vec::new(), 0, Md5::new());
        loop {
            let page = self.list_objects(container, &query).await?;
            for item in &page.items {
                let Item::Object(name, entry) = item else { continue };
                let etag = entry.shown_etag().to_owned();
                md5.update(&etag);
                let span = Span { start: 0, end: entry.shown_size() };
                let what = What::Object { container: container.name.clone(), name: name.clone(), etag };
                pieces.push(Piece { at, span, what });
                at += span.len();
            }
            match page.items.last() {
                Some(last) if page.truncated => query.marker = last.name().to_owned(),
                _ => break,
            }
        }
        Ok(Assembly {
            size: at,
            etag: hex::encode(md5.finalize()),
            store: self.clone(),
            access: access.clone(),
            project: container.project_id.clone(),
            pieces,
            depth: 0,
        })
    }
}

impl Assembly {
    /// How many segments there are.
    pub fn parts(&self) -> usize {
        self.pieces.len()
    }

    /// Where the segment of a number lies, from 1.
    pub fn part(&self, number: u64) -> Option<Span> {
        let piece = self.pieces.get(usize::try_from(number.checked_sub(1)?).ok()?)?;
        Some(Span { start: piece.at, end: piece.at + piece.span.len() })
    }

    /// The bytes of `span`. Segments are opened as they are reached; one that is gone, or is not what the manifest
    /// says, ends the stream with an error.
    pub fn stream(self, span: Span) -> BoxStream<'static, Result<Bytes, ObjectError>> {
        let first = self.pieces.partition_point(|p| p.at + p.span.len() <= span.start);
        let pieces: Vec<(Piece, Span)> = self.pieces[first..]
            .iter()
            .take_while(|p| p.at < span.end)
            .map(|p| {
                let skip = span.start.saturating_sub(p.at);
                let len = p.span.len().min(span.end - p.at);
                (p.clone(), Span { start: p.span.start + skip, end: p.span.start + len })
            })
            .filter(|(_, s)| !s.is_empty())
            .collect();
        let this = Arc::new(Assembly { pieces: Vec::new(), ..self });
        futures::stream::iter(pieces)
            .then(move |(piece, span)| {
                let this = this.clone();
                async move { this.open(piece.what, span).await }
            })
            .try_flatten()
            .boxed()
    }

    async fn open(
        &self,
        what: What,
        span: Span,
    ) -> Result<BoxStream<'static, Result<Bytes, ObjectError>>, ObjectError> {
        let (container, name, etag) = match what {
            What::Data(data) => {
                let data = data.slice(span.start as usize..span.end as usize);
                return Ok(futures::stream::iter([Ok(data)]).boxed());
            }
            What::Object { container, name, etag } => (container, name, etag),
        };
        let store = &self.store;
        let first = store.first_read();
        let object = store.open_behind(&self.access, &self.project, &container, &name, first).await?;
        let (shown, size) = match &object.meta.large {
            Some(large) => (&large.etag, large.size),
            None => (&object.meta.etag, object.meta.size),
        };
        if *shown != etag || size < span.end {
            return Err(ObjectError::Damaged("a segment has changed since its manifest was written"));
        }
        if object.meta.kind == Kind::Slo {
            let nested = Box::pin(store.assemble(&self.access, object, self.depth + 1)).await?;
            return Ok(nested.stream(span));
        }
        Ok(store.source(object).await?.stream(span).boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_their_etag() {
        let s = |hash: &str, range: Option<&str>| Segment {
            name: "/c/o".into(),
            hash: hash.into(),
            bytes: 100,
            range: range.map(str::to_owned),
            ..Segment::default()
        };
        assert_eq!(slo_etag(&[s("a", None), s("b", Some("1-2"))]), crate::md5_hex(b"ab:1-2;"));
        assert_eq!(s("a", Some("10-19")).span(), Some(Span { start: 10, end: 20 }));
        assert_eq!(s("a", Some("-5")).span(), Some(Span { start: 95, end: 100 }));
        assert_eq!(s("a", Some("200-300")).span(), None);
        assert_eq!(s("a", Some("0-1,3-4")).span(), None);
        assert_eq!(split_path("/c/o/p"), Some(("c", "o/p")));
        assert_eq!(split_path("c"), None);
    }

    #[test]
    fn manifests_are_kept() {
        let object = Segment { name: "/c/o".into(), hash: "e".into(), bytes: 5, ..Segment::default() };
        let raw = BASE64_STANDARD.encode("abc");
        let data = Segment { hash: crate::md5_hex(b"abc"), bytes: 3, data: Some(raw), ..Segment::default() };
        let kept = write_segments(&[object.clone(), data.clone()]).unwrap();
        assert!(kept.ends_with(br#"{"data":"YWJj"}]"#), "{}", String::from_utf8_lossy(&kept));
        assert_eq!(read_segments(&kept).unwrap(), [object, data]);
        assert!(read_segments(b"{}").is_err() && read_segments(br#"[{"data":"?"}]"#).is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_segment_uses_no_more_than_there_is(range in "[0-9-]{0,8}|.{0,8}", bytes in 0u64..100) {
            let segment = Segment { bytes, range: Some(range), ..Segment::default() };
            if let Some(span) = segment.span() {
                proptest::prop_assert!(span.start <= span.end && span.end <= bytes, "{span:?}");
            }
        }
    }
}
