//! Conditional requests (RFC 7232), as both doors answer them.

use chrono::{DateTime, NaiveDateTime, Utc};
use http::{HeaderMap, header};

/// What a conditional GET or HEAD comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Proceed,
    NotModified,
    Failed,
}

/// The ETags of a header, without quotes and weakness marks; `*` stays.
pub(crate) fn etags(value: &str) -> Vec<String> {
    value
        .split(',')
        .map(|t| t.trim())
        .map(|t| t.strip_prefix("W/").unwrap_or(t).trim_matches('"').to_owned())
        .filter(|t| !t.is_empty())
        .collect()
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// A date in one of HTTP's three forms, in seconds. In the common one its day of the week may be a wrong one.
pub(crate) fn date(value: &str) -> Option<i64> {
    let value = value.trim();
    let at = match httpdate::parse_http_date(value) {
        Ok(at) => DateTime::<Utc>::from(at),
        Err(_) => {
            let (_, rest) = value.split_once(", ")?;
            NaiveDateTime::parse_from_str(rest, "%d %b %Y %H:%M:%S GMT").ok()?.and_utc()
        }
    };
    Some(at.timestamp()).filter(|at| *at >= 0)
}

/// Measures a request's conditions against an object. `modified` is in seconds, as Last-Modified tells it.
pub(crate) fn evaluate(headers: &HeaderMap, etag: &str, modified: i64) -> Outcome {
    let hit = |value: &str| etags(value).iter().any(|e| e == "*" || e == etag);
    if let Some(value) = text(headers, header::IF_MATCH) {
        if !hit(value) {
            return Outcome::Failed;
        }
    } else if let Some(since) = text(headers, header::IF_UNMODIFIED_SINCE).and_then(date)
        && modified > since
    {
        return Outcome::Failed;
    }
    if let Some(value) = text(headers, header::IF_NONE_MATCH) {
        if hit(value) {
            return Outcome::NotModified;
        }
    } else if let Some(since) = text(headers, header::IF_MODIFIED_SINCE).and_then(date)
        && modified <= since
    {
        return Outcome::NotModified;
    }
    Outcome::Proceed
}

/// As Swift measures them: each for itself, where RFC 7232 lets ETags speak for dates.
pub(crate) fn evaluate_each(headers: &HeaderMap, etag: &str, modified: i64) -> Outcome {
    let hit = |name: header::HeaderName| {
        text(headers, name).map(|value| etags(value).iter().any(|e| e == "*" || e == etag))
    };
    let later = |name: header::HeaderName| text(headers, name).and_then(date).map(|since| modified > since);
    if hit(header::IF_NONE_MATCH) == Some(true) {
        return Outcome::NotModified;
    }
    if hit(header::IF_MATCH) == Some(false) {
        return Outcome::Failed;
    }
    if later(header::IF_MODIFIED_SINCE) == Some(false) {
        return Outcome::NotModified;
    }
    match later(header::IF_UNMODIFIED_SINCE) {
        Some(true) => Outcome::Failed,
        _ => Outcome::Proceed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(list: &[(header::HeaderName, &'static str)]) -> Outcome {
        let mut map = HeaderMap::new();
        for (k, v) in list {
            map.insert(k, v.parse().unwrap());
        }
        evaluate(&map, "abc", 784_111_777) // Sun, 06 Nov 1994 08:49:37 GMT
    }

    #[test]
    fn conditions() {
        use Outcome::*;
        use header::*;
        assert_eq!(run(&[]), Proceed);
        assert_eq!(run(&[(IF_MATCH, "\"abc\"")]), Proceed);
        assert_eq!(run(&[(IF_MATCH, "x, *")]), Proceed);
        assert_eq!(run(&[(IF_MATCH, "x")]), Failed);
        assert_eq!(run(&[(IF_NONE_MATCH, "W/\"abc\"")]), NotModified);
        assert_eq!(run(&[(IF_NONE_MATCH, "x")]), Proceed);
        assert_eq!(run(&[(IF_MODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:37 GMT")]), NotModified);
        assert_eq!(run(&[(IF_MODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:36 GMT")]), Proceed);
        assert_eq!(run(&[(IF_UNMODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:36 GMT")]), Failed);
        assert_eq!(run(&[(IF_UNMODIFIED_SINCE, "Sun Nov  6 08:49:37 1994")]), Proceed);
        assert_eq!(run(&[(IF_MODIFIED_SINCE, "yesterday")]), Proceed);
        // It was a Sunday.
        assert_eq!(run(&[(IF_MODIFIED_SINCE, "Mon, 06 Nov 1994 08:49:37 GMT")]), NotModified);
        assert_eq!(date("Tue, 07 Jul 1950 21:53:04 GMT"), None);
        // The ETag decides where both are given.
        assert_eq!(
            run(&[(IF_NONE_MATCH, "x"), (IF_MODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:37 GMT")]),
            Proceed
        );
    }
}
