//! Swift's parsers as fuzzers feed them: see [`crate::fuzzing`].

use super::slo;
use crate::Segment;
use crate::large::split_path;

/// The manifest of a static large object, as a client puts it and as it is kept.
pub(crate) fn manifests(data: &[u8]) {
    for named in slo::manifest_of(data, 100).unwrap_or_default() {
        let _ = named.size();
        let _ = named.path.as_deref().and_then(split_path);
    }
    for segment in serde_json::from_slice::<Vec<Segment>>(data).unwrap_or_default() {
        if let Some(span) = segment.span() {
            assert!(span.start <= span.end && span.end <= segment.bytes, "{segment:?}");
        }
    }
}
