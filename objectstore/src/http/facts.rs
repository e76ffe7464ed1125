//! What a request's own words are to a bucket policy: where it comes from, its headers and its parameters.

use crate::Config;
use crate::access::Facts;
use api::server::Peer;
use chrono::Utc;
use http::HeaderMap;
use http::request::Parts;
use std::net::IpAddr;

/// A request, for whoever asks about it later.
pub(crate) struct RequestFacts {
    source: Option<IpAddr>,
    secure: bool,
    headers: HeaderMap,
    query: Vec<(String, String)>,
    region: String,
}

/// Where a request comes from: the last address that no proxy of ours has, and whether it came over TLS to there.
pub(crate) fn source(parts: &Parts, config: &Config) -> (Option<IpAddr>, bool) {
    let Some(peer) = parts.extensions.get::<Peer>() else { return (None, false) };
    let ours = |a: &IpAddr| config.trusted_proxies.iter().any(|n| n.contains(a));
    let mut source = peer.0.ip().to_canonical();
    let secure = ours(&source)
        && parts
            .headers
            .get("x-forwarded-proto")
            .is_some_and(|p| p.as_bytes().eq_ignore_ascii_case(b"https"));
    let forwarded = parts.headers.get_all("x-forwarded-for").into_iter().filter_map(|v| v.to_str().ok());
    let mut chain: Vec<&str> = forwarded.flat_map(|f| f.split(',')).map(str::trim).collect();
    while ours(&source) {
        let Some(before) = chain.pop().and_then(|a| a.parse::<IpAddr>().ok()) else { break };
        source = before.to_canonical();
    }
    (Some(source), secure)
}

impl RequestFacts {
    pub(crate) fn of(parts: &Parts, query: &[(String, String)], config: &Config) -> Self {
        let (source, secure) = source(parts, config);
        RequestFacts {
            source,
            secure,
            headers: parts.headers.clone(),
            query: query.to_vec(),
            region: config.s3_region.clone(),
        }
    }

    /// Where the request comes from.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// The same request with other headers: a form's fields.
    pub(crate) fn with(&self, headers: &HeaderMap) -> Self {
        let (query, region) = (self.query.clone(), self.region.clone());
        RequestFacts { source: self.source, secure: self.secure, headers: headers.clone(), query, region }
    }

    fn header(&self, name: &str) -> Vec<String> {
        let text = |v: &http::HeaderValue| String::from_utf8(v.as_bytes().to_vec()).ok();
        self.headers.get(name).and_then(text).into_iter().collect()
    }

    fn param(&self, name: &str) -> Vec<String> {
        self.query.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()).into_iter().collect()
    }

    /// The tags that the request brings.
    fn tags(&self) -> Vec<(String, String)> {
        let text = self.header("x-amz-tagging");
        text.first().map(|t| super::s3::sigv4::parse_query(t)).unwrap_or_default()
    }

    /// How long ago the request was signed, in milliseconds.
    fn age(&self) -> Option<i64> {
        let signed = self.header("x-amz-date").into_iter().chain(self.param("X-Amz-Date")).next()?;
        let at = super::s3::sigv4::time(&signed)?;
        Some((Utc::now() - at).num_milliseconds())
    }

    /// How the request is signed, and by which version.
    pub(crate) fn signature(&self) -> (&'static str, &'static str) {
        let header = self.header("authorization");
        let param = |name: &str| self.query.iter().any(|(k, _)| k == name);
        match header.first().map(String::as_str) {
            Some(h) if h.starts_with("AWS4-HMAC-SHA256") => ("REST-HEADER", "AWS4-HMAC-SHA256"),
            Some(h) if h.starts_with("AWS ") => ("REST-HEADER", "AWS"),
            _ if param("X-Amz-Signature") => ("REST-QUERY-STRING", "AWS4-HMAC-SHA256"),
            _ if param("Signature") => ("REST-QUERY-STRING", "AWS"),
            _ => ("", ""),
        }
    }
}

impl Facts for RequestFacts {
    fn of(&self, key: &str) -> Vec<String> {
        let some = |text: &str| if text.is_empty() { Vec::new() } else { vec![text.to_owned()] };
        if let Some(tag) = key.strip_prefix("s3:requestobjecttag/") {
            return self.tags().into_iter().filter(|(k, _)| k == tag).map(|(_, v)| v).collect();
        }
        match key {
            "aws:sourceip" => self.source.map(|a| a.to_string()).into_iter().collect(),
            "aws:securetransport" => vec![self.secure.to_string()],
            "aws:useragent" => self.header("user-agent"),
            "aws:referer" => self.header("referer"),
            "s3:prefix" | "s3:delimiter" | "s3:max-keys" => self.param(&key[3..]),
            // A signed URL says it as a parameter.
            "s3:x-amz-request-payer" => match self.header(&key[3..]) {
                none if none.is_empty() => self.param(&key[3..]),
                some => some,
            },
            "s3:versionid" => self.param("versionId"),
            "s3:locationconstraint" | "aws:requestedregion" => vec![self.region.clone()],
            // Services ask for nobody: they are within.
            "aws:principalisawsservice" | "aws:viaawsservice" => vec!["false".to_owned()],
            "s3:signatureage" => self.age().map(|ms| ms.to_string()).into_iter().collect(),
            "s3:authtype" => some(self.signature().0),
            "s3:signatureversion" => some(self.signature().1),
            "s3:requestobjecttagkeys" => self.tags().into_iter().map(|(k, _)| k).collect(),
            key => match key.strip_prefix("s3:") {
                Some(header @ ("if-match" | "if-none-match")) => self.header(header),
                Some(header) if header.starts_with("x-amz-") => self.header(header),
                Some(lock) if lock.starts_with("object-lock-") => self.header(&format!("x-amz-{lock}")),
                _ => Vec::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(headers: &[(&'static str, &str)]) -> Parts {
        let mut request = http::Request::builder();
        for (k, v) in headers {
            request = request.header(*k, *v);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        parts.extensions.insert(Peer("10.0.0.1:99".parse().unwrap()));
        parts
    }

    #[test]
    fn only_our_proxies_are_believed() {
        let forwarded = [("x-forwarded-for", "9.9.9.9, 8.8.8.8"), ("x-forwarded-proto", "https")];
        let stranger = source(&parts(&forwarded), &Config::default());
        assert_eq!(stranger, (Some("10.0.0.1".parse().unwrap()), false));
        let config = Config { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..Config::default() };
        assert_eq!(source(&parts(&forwarded), &config), (Some("8.8.8.8".parse().unwrap()), true));
        assert_eq!(source(&parts(&[]), &config), (Some("10.0.0.1".parse().unwrap()), false));
    }

    #[test]
    fn what_policies_ask() {
        let parts = parts(&[
            ("x-amz-tagging", "a=1&b=2"),
            ("user-agent", "curl"),
            ("x-amz-acl", "private"),
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("if-match", "*"),
            ("x-amz-date", "20200101T000000Z"),
        ]);
        let query = [("prefix".to_owned(), "p/".to_owned())];
        let facts = RequestFacts::of(&parts, &query, &Config::default());
        let of = |key: &str| Facts::of(&facts, key);
        assert_eq!(of("s3:requestobjecttag/b"), ["2"]);
        assert_eq!(of("s3:requestobjecttagkeys"), ["a", "b"]);
        assert_eq!(of("aws:useragent"), ["curl"]);
        assert_eq!(of("s3:x-amz-acl"), ["private"]);
        assert_eq!(of("s3:prefix"), ["p/"]);
        assert_eq!(of("s3:object-lock-mode"), ["GOVERNANCE"]);
        assert_eq!(of("s3:if-match"), ["*"]);
        assert_eq!(of("aws:securetransport"), ["false"]);
        assert_eq!(
            (of("aws:requestedregion"), of("aws:viaawsservice")),
            (vec!["RegionOne".into()], vec!["false".into()])
        );
        assert!(of("s3:signatureage")[0].parse::<i64>().unwrap() > 86_400_000);
        assert!(of("s3:delimiter").is_empty() && of("s3:authtype").is_empty());
    }
}
