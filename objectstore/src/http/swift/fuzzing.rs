//! Swift's parsers as fuzzers feed them: see [`crate::fuzzing`].

use super::segments;
use crate::Segment;
use crate::large::split_path;

/// The manifest of a static large object, as a client puts it and as it is kept.
pub(crate) fn manifests(data: &[u8]) {
    for named in segments::read(data, 100, "c/o").unwrap_or_default() {
        if let segments::Named::Object(wanted) = named {
            assert!(split_path(&wanted.path).is_some(), "{wanted:?}");
        }
    }
    for segment in serde_json::from_slice::<Vec<Segment>>(data).unwrap_or_default() {
        if let Some(span) = segment.span() {
            assert!(span.start <= span.end && span.end <= segment.bytes, "{segment:?}");
        }
    }
}
