//! AWS Signature Version 2, in the header and in the query: what older clients send, and what boto3 still presigns with.
//!
//! See "Signing and authenticating REST requests (AWS signature version 2)". It signs the method, the kind, the date, the
//! `x-amz-*` headers and the resource; of the query only what selects a sub-resource or shapes the answer.

use super::error::{self, S3Error, S3Result};
use super::object::SHOWN;
use super::sigv4::Request;
use crate::http::precondition;
use chrono::{DateTime, Utc};
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;

/// How far a client's clock may be off, in seconds.
const SKEW: i64 = 15 * 60;

/// The parameters that are part of what is signed, with those of [`SHOWN`].
const SIGNED: [&str; 32] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "defaultObjectAcl",
    "delete",
    "encryption",
    "inventory",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "partNumber",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// What a request says of who signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) access_key: String,
    signature: String,
    /// Of a presigned URL: seconds since the epoch.
    expires: Option<i64>,
}

impl Claim {
    /// `None` where the request is not signed so.
    pub(super) fn of(request: &Request<'_>) -> S3Result<Option<Claim>> {
        let header = request.authorization().and_then(|h| h.to_str().ok());
        if let Some(rest) = header.and_then(|h| h.strip_prefix("AWS ")) {
            let (access_key, signature) = rest.trim().rsplit_once(':').ok_or_else(|| {
                S3Error::invalid_argument(
                    "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature",
                )
            })?;
            let (access_key, signature) = (access_key.to_owned(), signature.to_owned());
            return Ok(Some(Claim { access_key, signature, expires: None }));
        }
        let pairs = super::sigv4::parse_query(request.query);
        let get = |name: &str| pairs.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
        let (Some(access_key), None) = (get("AWSAccessKeyId"), header) else { return Ok(None) };
        let (Some(signature), Some(expires)) = (get("Signature"), get("Expires")) else {
            return Err(S3Error {
                message: "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters".into(),
                ..error::access_denied()
            });
        };
        let expires = expires.trim().parse().map_err(|_| S3Error {
            message: format!("Invalid date (should be seconds since epoch): {expires}"),
            ..error::access_denied()
        })?;
        Ok(Some(Claim { access_key, signature, expires: Some(expires) }))
    }

    /// Whether the claim is of now.
    pub(super) fn check_time(&self, request: &Request<'_>, now: DateTime<Utc>) -> S3Result<()> {
        if let Some(expires) = self.expires {
            return if expires < now.timestamp() { Err(error::expired()) } else { Ok(()) };
        }
        let text = |name: &str| request.headers.get(name).and_then(|v| v.to_str().ok());
        let at = text("x-amz-date").or(text("date")).and_then(precondition::date).ok_or_else(|| S3Error {
            message: "AWS authentication requires a valid Date or x-amz-date header".into(),
            ..error::access_denied()
        })?;
        if (now.timestamp() - at).abs() > SKEW { Err(error::skewed()) } else { Ok(()) }
    }

    /// Whether the signature is that of the request; `bucket` where the host names one.
    pub(super) fn verify(&self, request: &Request<'_>, bucket: Option<&str>, secret: &str) -> S3Result<()> {
        let text = self.to_sign(request, request.path, bucket);
        // Some clients sign a bucket as a folder and ask for it without the slash.
        let folder = || self.to_sign(request, &format!("{}/", request.path), bucket);
        let matches = |text: &str| super::auth::matches_v2(secret, text, &self.signature);
        let bare = request.path.matches('/').count() == 1 && request.path.len() > 1;
        match matches(&text) || (bare && matches(&folder())) {
            true => Ok(()),
            false => Err(error::signature_mismatch()
                .with("AWSAccessKeyId", self.access_key.clone())
                .with("StringToSign", text)
                .with("SignatureProvided", self.signature.clone())),
        }
    }

    fn to_sign(&self, request: &Request<'_>, path: &str, bucket: Option<&str>) -> String {
        let text = |name: &str| {
            request.headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
        };
        let date = match self.expires {
            Some(expires) => expires.to_string(),
            None if request.headers.contains_key("x-amz-date") => String::new(),
            None => text("date").unwrap_or_default(),
        };
        let mut out = format!(
            "{}\n{}\n{}\n{date}\n",
            request.method,
            text("content-md5").unwrap_or_default(),
            text("content-type").unwrap_or_default()
        );
        let mut amz: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, value) in request.headers {
            if name.as_str().starts_with("x-amz-") {
                let value = String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
                amz.entry(name.as_str()).or_default().push(value);
            }
        }
        for (name, values) in amz {
            out.push_str(&format!("{name}:{}\n", values.join(",")));
        }
        if let Some(bucket) = bucket {
            out.push('/');
            out.push_str(bucket);
        }
        out.push_str(path);
        let mut selected: Vec<String> = request
            .query
            .split('&')
            .filter_map(|pair| {
                let (name, value) = match pair.split_once('=') {
                    None => (pair, None),
                    Some((name, value)) => (name, Some(value)),
                };
                let decoded =
                    |v: &str| percent_decode_str(&v.replace('+', " ")).decode_utf8_lossy().into_owned();
                (SIGNED.contains(&name) || SHOWN.contains(&name)).then(|| match value {
                    None => name.to_owned(),
                    Some(value) => format!("{name}={}", decoded(value)),
                })
            })
            .collect();
        selected.sort();
        if !selected.is_empty() {
            out.push('?');
            out.push_str(&selected.join("&"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (k, v) in list {
            map.append(*k, HeaderValue::from_static(v));
        }
        map
    }

    /// The examples of the documentation.
    #[test]
    fn signatures_of_the_documentation() {
        let check =
            |method: &str, bucket: &str, path: &str, query: &str, list: &[(&'static str, &'static str)]| {
                let headers = headers(list);
                let request = Request { method, path, query, headers: &headers };
                let claim = Claim::of(&request).unwrap().unwrap();
                assert_eq!(claim.access_key, "AKIAIOSFODNN7EXAMPLE");
                claim.verify(&request, Some(bucket), SECRET).unwrap();
            };
        check(
            "GET",
            "awsexamplebucket1",
            "/photos/puppy.jpg",
            "",
            &[
                ("date", "Tue, 27 Mar 2007 19:36:42 +0000"),
                ("authorization", "AWS AKIAIOSFODNN7EXAMPLE:qgk2+6Sv9/oM7G3qLEjTH1a1l1g="),
            ],
        );
        check(
            "PUT",
            "awsexamplebucket1",
            "/photos/puppy.jpg",
            "",
            &[
                ("content-type", "image/jpeg"),
                ("content-length", "94328"),
                ("date", "Tue, 27 Mar 2007 21:15:45 +0000"),
                ("authorization", "AWS AKIAIOSFODNN7EXAMPLE:iqRzw+ileNPu1fhspnRs8nOjjIA="),
            ],
        );
        check(
            "GET",
            "awsexamplebucket1",
            "/",
            "prefix=photos&max-keys=50&marker=puppy",
            &[
                ("date", "Tue, 27 Mar 2007 19:42:41 +0000"),
                ("authorization", "AWS AKIAIOSFODNN7EXAMPLE:m0WP8eCtspQl5Ahe6L1SozdX9YA="),
            ],
        );
        check(
            "GET",
            "awsexamplebucket1",
            "/",
            "acl",
            &[
                ("date", "Tue, 27 Mar 2007 19:44:46 +0000"),
                ("authorization", "AWS AKIAIOSFODNN7EXAMPLE:82ZHiFIjc+WbcwFKGUVEQspPn+0="),
            ],
        );
    }

    #[test]
    fn claims_and_their_time() {
        let empty = HeaderMap::new();
        let of =
            |query: &'static str| Claim::of(&Request { method: "GET", path: "/b/k", query, headers: &empty });
        assert_eq!(of("").unwrap(), None);
        assert!(
            of("AWSAccessKeyId=a&Signature=s").is_err()
                && of("AWSAccessKeyId=a&Signature=s&Expires=x").is_err()
        );
        let claim = of("AWSAccessKeyId=a&Signature=s&Expires=100").unwrap().unwrap();
        let request = Request { method: "GET", path: "/b/k", query: "", headers: &empty };
        let at = |secs| DateTime::from_timestamp(secs, 0).unwrap();
        assert!(claim.check_time(&request, at(100)).is_ok() && claim.check_time(&request, at(101)).is_err());
        let signed = headers(&[("authorization", "AWS a:s"), ("date", "Tue, 27 Mar 2007 19:36:42 GMT")]);
        let request = Request { method: "GET", path: "/", query: "", headers: &signed };
        let claim = Claim::of(&request).unwrap().unwrap();
        assert!(claim.check_time(&request, at(1_175_024_202)).is_ok());
        assert!(claim.check_time(&request, at(1_175_024_202 + 901)).is_err());
    }

    proptest! {
        #[test]
        fn noise_never_panics(header in "AWS [ -~]{0,30}", query in "[ -~]{0,60}") {
            let mut map = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_str(&header) {
                map.insert("authorization", value);
            }
            let request = Request { method: "GET", path: "/", query: &query, headers: &map };
            if let Ok(Some(claim)) = Claim::of(&request) {
                let _ = claim.check_time(&request, Utc::now());
                let _ = claim.verify(&request, None, "secret");
            }
        }
    }
}
