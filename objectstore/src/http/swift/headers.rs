//! Metadata as headers: what a request brings, what its limits are, and how a response shows it.

use super::error::{SwiftError, SwiftResult};
use crate::Limits;
use crate::http::raw;
use http::{HeaderMap, HeaderName, HeaderValue};
use state::Timestamp;
use std::collections::BTreeMap;

/// The headers of an object that are kept and sent back as they came.
pub(crate) const KEPT: [&str; 6] = [
    "content-encoding",
    "content-disposition",
    "cache-control",
    "expires",
    "content-language",
    "x-robots-tag",
];

/// What the names of an object's metadata begin with.
pub(crate) const OBJECT: &str = "x-object-meta-";

/// Metadata in a request: (name behind the prefix, value). Names in lower case, with hyphens.
pub(crate) fn metadata(headers: &HeaderMap, prefix: &str) -> SwiftResult<Vec<(String, String)>> {
    let mut found = Vec::new();
    for (name, value) in headers {
        let Some(rest) = name.as_str().strip_prefix(prefix) else { continue };
        if rest.is_empty() {
            return Err(SwiftError::bad_request("Metadata name cannot be empty"));
        }
        // An object's may be any bytes.
        let value = match std::str::from_utf8(value.as_bytes()) {
            Ok(text) if prefix != OBJECT => text.to_owned(),
            Err(_) if prefix != OBJECT => {
                return Err(SwiftError::bad_request("Metadata must be valid UTF-8"));
            }
            _ => raw::keep(value.as_bytes()),
        };
        found.push((rest.replace('_', "-"), value));
    }
    Ok(found)
}

/// Refuses metadata that are too many or too long.
pub(crate) fn check_metadata<'a>(
    limits: &Limits,
    target: &str,
    all: impl Iterator<Item = (&'a String, &'a String)>,
) -> SwiftResult<()> {
    let (mut count, mut size) = (0, 0);
    for (name, value) in all {
        count += 1;
        let len = raw::len(value);
        size += name.len() + len;
        if name.len() > limits.max_meta_name_length {
            let most = limits.max_meta_name_length;
            return Err(SwiftError::bad_request(format!(
                "Metadata name too long: X-{target}-Meta-{name} (max {most})"
            )));
        }
        if len > limits.max_meta_value_length {
            let most = limits.max_meta_value_length;
            return Err(SwiftError::bad_request(format!(
                "Metadata value longer than {most}: X-{target}-Meta-{name} ({len})"
            )));
        }
    }
    if count > limits.max_meta_count {
        return Err(SwiftError::bad_request(format!(
            "Too many metadata items; max {}",
            limits.max_meta_count
        )));
    }
    if size > limits.max_meta_overall_size {
        return Err(SwiftError::bad_request(format!(
            "Total metadata too large; max {}",
            limits.max_meta_overall_size
        )));
    }
    Ok(())
}

/// Changes an account's or a container's metadata as a request says: given ones are set, empty ones and those under
/// `X-Remove-…` are removed.
pub(crate) fn merge(
    meta: &mut BTreeMap<String, String>,
    headers: &HeaderMap,
    target: &str,
    limits: &Limits,
) -> SwiftResult<()> {
    let lower = target.to_ascii_lowercase();
    let given = metadata(headers, &format!("x-{lower}-meta-"))?;
    // Each is measured, also one that replaces another or that will be refused as a whole.
    check_metadata(limits, target, given.iter().map(|(k, v)| (k, v)))?;
    for (name, _) in metadata(headers, &format!("x-remove-{lower}-meta-"))? {
        meta.remove(&name);
    }
    for (name, value) in given {
        match value.is_empty() {
            true => meta.remove(&name),
            false => meta.insert(name, value),
        };
    }
    check_metadata(limits, target, meta.iter())
}

/// `X-Account-Rfc-Compliant-Etags`, and the same of containers: set, and with an empty value taken back.
pub(crate) fn want_quotes(wish: &mut Option<bool>, headers: &HeaderMap, target: &str) {
    let Some(value) = headers.get(format!("x-{target}-rfc-compliant-etags")) else { return };
    *wish = match value.to_str().unwrap_or_default().trim() {
        "" => None,
        text => Some(super::is_true(text)),
    };
}

pub(crate) fn tell_quotes(out: &mut Out, target: &str, wish: Option<bool>) {
    if let Some(wish) = wish {
        out.set(&format!("x-{target}-rfc-compliant-etags"), if wish { "True" } else { "False" });
    }
}

/// Headers of a response, gathered.
#[derive(Default)]
pub(crate) struct Out(HeaderMap);

impl Out {
    /// Adds a header; one that HTTP can't carry is left out.
    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<str>) -> &mut Self {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()),
            HeaderValue::from_bytes(value.as_ref().as_bytes()),
        ) {
            self.0.insert(name, value);
        }
        self
    }

    /// A header that was set; empty if it was not.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.set(name, value.to_string())
    }

    pub(crate) fn metadata<'a>(
        &mut self,
        prefix: &str,
        all: impl Iterator<Item = (&'a String, &'a String)>,
    ) -> &mut Self {
        for (name, value) in all {
            let name = HeaderName::from_bytes(format!("{prefix}{name}").to_ascii_lowercase().as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&raw::raw(value))) {
                self.0.insert(name, value);
            }
        }
        self
    }

    pub(crate) fn done(self) -> HeaderMap {
        self.0
    }
}

/// Swift's timestamps: seconds with five decimals.
pub(crate) fn timestamp(at: Timestamp) -> String {
    format!("{:010}.{:05}", at.secs(), at.micros().rem_euclid(1_000_000) / 10)
}

/// The time of `X-Timestamp`; other Swifts may put an offset behind it.
pub(crate) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let text = text.trim().split(['_', '-', '+']).next()?;
    let (secs, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if secs.is_empty() || secs.len() > 11 || !digits(secs) || !digits(fraction) {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    Some(Timestamp(secs.parse::<i64>().ok()? * 1_000_000 + micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (k, v) in list {
            map.append(*k, HeaderValue::from_bytes(v.as_bytes()).unwrap());
        }
        map
    }

    #[test]
    fn metadata_are_merged() {
        let limits = Limits::default();
        let mut meta = BTreeMap::from([("old".to_owned(), "1".to_owned()), ("gone".into(), "1".into())]);
        let request = map(&[
            ("x-container-meta-a_b", "ü"),
            ("x-container-meta-old", ""),
            ("x-remove-container-meta-gone", "x"),
        ]);
        merge(&mut meta, &request, "Container", &limits).unwrap();
        assert_eq!(meta, BTreeMap::from([("a-b".to_owned(), "ü".to_owned())]));
    }

    #[test]
    fn limits_hold() {
        let limits = Limits::default();
        let refused = |k: String, v: String| {
            let all = [(k, v)];
            check_metadata(&limits, "Object", all.iter().map(|(k, v)| (k, v))).is_err()
        };
        assert!(refused("x".repeat(129), "v".into()));
        assert!(refused("x".into(), "v".repeat(257)));
        assert!(!refused("x".repeat(128), "v".repeat(256)));
        let many: Vec<(String, String)> = (0..91).map(|i| (i.to_string(), String::new())).collect();
        assert!(check_metadata(&limits, "Object", many.iter().map(|(k, v)| (k, v))).is_err());
        let large: Vec<(String, String)> = (0..17).map(|i| (i.to_string(), "v".repeat(255))).collect();
        assert!(check_metadata(&limits, "Object", large.iter().map(|(k, v)| (k, v))).is_err());
    }

    #[test]
    fn timestamps_have_five_decimals() {
        assert_eq!(timestamp(Timestamp(1_792_544_523_012_349)), "1792544523.01234");
        let read = |text: &str| parse_timestamp(text).map(|t| t.micros());
        assert_eq!(read("1792544523.01234"), Some(1_792_544_523_012_340));
        assert_eq!(read("1792544523.01234_0000000000000001"), Some(1_792_544_523_012_340));
        assert_eq!(read(" 7 "), Some(7_000_000));
        for bad in ["", "x", "-1.5", "1e9", "1.x", "999999999999"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
