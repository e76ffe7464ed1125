//! AWS Signature Version 4: what a request claims, and what its signature must be.
//!
//! Pure functions over the request's parts: no clock but the one given, no store of keys. See
//! "Authenticating Requests (AWS Signature Version 4)" in the S3 API reference.

use super::error::{self, S3Error, S3Result};
use crate::http::precondition;
use chrono::{DateTime, NaiveDateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The hash of nothing.
pub(crate) const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
pub(crate) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// The other service that this door speaks: see [`super::sns`].
pub(crate) const SNS: &str = "sns";
/// How far a client's clock may be off.
const SKEW: i64 = 15 * 60;
/// Longest life of a presigned URL.
const LONGEST: i64 = 7 * 24 * 3600;

/// How a request says when it was signed, `20130524T000000Z`.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// The time that [`TIME`] stands for.
pub(crate) fn time(text: &str) -> Option<DateTime<Utc>> {
    NaiveDateTime::parse_from_str(text, TIME).ok().map(|time| time.and_utc())
}

/// What a signed request claims about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) access_key: String,
    /// `20130524`
    pub(crate) day: String,
    pub(crate) region: String,
    /// `s3`, or [`SNS`].
    pub(crate) service: String,
    /// As it was sent, `20130524T000000Z`.
    pub(crate) timestamp: String,
    pub(crate) time: DateTime<Utc>,
    pub(crate) signed_headers: Vec<String>,
    pub(crate) signature: String,
    /// A presigned URL, valid this many seconds from `time`.
    pub(crate) expires: Option<i64>,
}

/// The parts of a request that are signed.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    /// As it came over the wire.
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
}

impl Request<'_> {
    /// The header that says who asks; an empty one says nothing.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.headers.get(AUTHORIZATION).filter(|h| !h.is_empty())
    }
}

impl Claim {
    /// Reads the claim of a request; `None` where it makes none (an anonymous one).
    pub(crate) fn of(request: &Request<'_>) -> S3Result<Option<Claim>> {
        let header = request.authorization();
        let in_query = request.query.split('&').any(|p| p.starts_with("X-Amz-Algorithm="));
        match (header, in_query) {
            (Some(_), true) => Err(S3Error::invalid_argument("Only one auth mechanism allowed")),
            (Some(h), false) => {
                let h = h.to_str().map_err(|_| S3Error::malformed_authorization("not text"))?;
                Claim::of_header(h, request.headers).map(Some)
            }
            (None, true) => Claim::of_query(request.query).map(Some),
            (None, false) => Ok(None),
        }
    }

    fn of_header(text: &str, headers: &HeaderMap) -> S3Result<Claim> {
        let bad =
            |m: &str| S3Error::malformed_authorization(format!("The authorization header is malformed; {m}"));
        let rest = match text.split_once(' ') {
            Some((ALGORITHM, rest)) => rest,
            _ => return Err(S3Error::invalid_argument("Unsupported Authorization Type")),
        };
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for part in rest.split(',') {
            match part.trim().split_once('=') {
                Some(("Credential", v)) => credential = Some(v),
                Some(("SignedHeaders", v)) => signed = Some(v),
                Some(("Signature", v)) => signature = Some(v),
                _ => return Err(bad("unknown component")),
            }
        }
        let timestamp = match headers.get("x-amz-date") {
            Some(v) => v.to_str().map_err(|_| error::access_denied())?.to_owned(),
            None => {
                let date = headers.get(http::header::DATE).and_then(|v| v.to_str().ok());
                let date = date.and_then(precondition::date).and_then(|at| DateTime::from_timestamp(at, 0));
                let date = date.ok_or_else(|| S3Error {
                    message: "AWS authentication requires a valid Date or x-amz-date header".into(),
                    ..error::access_denied()
                })?;
                date.format(TIME).to_string()
            }
        };
        Claim::new(
            credential.ok_or_else(|| bad("missing Credential."))?,
            signed.ok_or_else(|| bad("missing SignedHeaders."))?,
            signature.ok_or_else(|| bad("missing Signature."))?,
            timestamp,
            None,
            bad,
        )
    }

    fn of_query(query: &str) -> S3Result<Claim> {
        let bad = |m: &str| S3Error::query_auth(m.to_owned());
        let pairs = parse_query(query);
        let get = |name: &str| pairs.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
        let need = |name: &str| {
            get(name).ok_or_else(|| {
                bad("Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.")
            })
        };
        if need("X-Amz-Algorithm")? != ALGORITHM {
            return Err(bad("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
        }
        let expires: i64 =
            need("X-Amz-Expires")?.parse().map_err(|_| bad("X-Amz-Expires should be a number"))?;
        if expires < 0 {
            return Err(bad("X-Amz-Expires must be non-negative"));
        }
        if expires > LONGEST {
            return Err(bad(
                "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
            ));
        }
        Claim::new(
            need("X-Amz-Credential")?,
            need("X-Amz-SignedHeaders")?,
            need("X-Amz-Signature")?,
            need("X-Amz-Date")?.to_owned(),
            Some(expires),
            bad,
        )
    }

    fn new(
        credential: &str,
        signed: &str,
        signature: &str,
        timestamp: String,
        expires: Option<i64>,
        bad: impl Fn(&str) -> S3Error,
    ) -> S3Result<Claim> {
        let mut scope = credential.rsplitn(5, '/');
        let (end, service, region, day, key) =
            (scope.next(), scope.next(), scope.next(), scope.next(), scope.next());
        let (Some("aws4_request"), Some(service), Some(region), Some(day), Some(key)) =
            (end, service, region, day, key)
        else {
            return Err(bad(
                "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".",
            ));
        };
        if !matches!(service, "s3" | SNS) {
            return Err(bad(&format!("incorrect service {service:?}. This endpoint belongs to \"s3\".")));
        }
        let time =
            time(&timestamp).ok_or_else(|| bad("the date is not in the format \"yyyyMMdd'T'HHmmss'Z'\""))?;
        if !timestamp.starts_with(day) || day.len() != 8 {
            return Err(bad("Invalid credential date. This date is not the same as X-Amz-Date."));
        }
        Ok(Claim {
            access_key: key.to_owned(),
            day: day.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            timestamp,
            time,
            signed_headers: signed.split(';').map(str::to_owned).collect(),
            signature: signature.to_owned(),
            expires,
        })
    }

    /// Whether the claim is of now.
    pub(crate) fn check_time(&self, now: DateTime<Utc>) -> S3Result<()> {
        let age = (now - self.time).num_seconds();
        match self.expires {
            Some(life) if age >= life => Err(error::expired()
                .with("X-Amz-Expires", life.to_string())
                .with("ServerTime", now.format("%Y-%m-%dT%H:%M:%SZ").to_string())),
            Some(_) if age < -SKEW => {
                Err(S3Error { message: "Request is not yet valid".into(), ..error::access_denied() })
            }
            Some(_) => Ok(()),
            None if age.abs() > SKEW => Err(error::skewed()
                .with("RequestTime", self.timestamp.clone())
                .with("ServerTime", now.format("%Y-%m-%dT%H:%M:%SZ").to_string())
                .with("MaxAllowedSkewMilliseconds", (SKEW * 1000).to_string())),
            None => Ok(()),
        }
    }

    /// Whether the signature is the one that `secret` gives; then the key that chunks are signed with.
    pub(crate) fn verify(&self, request: &Request<'_>, payload: &str, secret: &str) -> S3Result<SigningKey> {
        self.check_headers(request)?;
        let canonical = self.canonical(request, payload);
        let scope = self.scope();
        let to_sign =
            format!("{ALGORITHM}\n{}\n{scope}\n{}", self.timestamp, hex::encode(Sha256::digest(&canonical)));
        let key = SigningKey::derive_for(secret, &self.day, &self.region, &self.service);
        if key.matches(&to_sign, &self.signature) {
            Ok(key)
        } else {
            Err(error::signature_mismatch()
                .with("AWSAccessKeyId", self.access_key.clone())
                .with("StringToSignBytes", spelled(&to_sign))
                .with("StringToSign", to_sign)
                .with("SignatureProvided", self.signature.clone())
                .with("CanonicalRequestBytes", spelled(&canonical))
                .with("CanonicalRequest", canonical))
        }
    }

    pub(crate) fn scope(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.day, self.region, self.service)
    }

    /// `host` and every `x-amz-*` header must be signed, or somebody in between could have put them there.
    fn check_headers(&self, request: &Request<'_>) -> S3Result<()> {
        let signed = |name: &str| self.signed_headers.iter().any(|h| h.eq_ignore_ascii_case(name));
        let mut missing: Vec<&str> = Vec::new();
        if !signed("host") {
            missing.push("host");
        }
        // What a presigned URL's body is like is the sender's to say.
        let free = |name: &str| self.expires.is_some() && name == "x-amz-content-sha256";
        let amz = request.headers.keys().map(|k| k.as_str()).filter(|k| k.starts_with("x-amz-"));
        missing.extend(amz.filter(|k| !signed(k) && !free(k)));
        if missing.is_empty() {
            return Ok(());
        }
        Err(S3Error {
            message: "There were headers present in the request which were not signed".into(),
            ..error::access_denied().with("HeadersNotSigned", missing.join(", "))
        })
    }

    fn canonical(&self, request: &Request<'_>, payload: &str) -> String {
        let mut out = String::with_capacity(512);
        out.push_str(request.method);
        out.push('\n');
        let path: Vec<u8> = percent_decode_str(request.path).collect();
        encode(&mut out, &path, true);
        out.push('\n');
        let mut pairs: Vec<(String, String)> = parse_query(request.query)
            .into_iter()
            .filter(|(k, _)| self.expires.is_none() || k != "X-Amz-Signature")
            .map(|(k, v)| (encoded(&k), encoded(&v)))
            .collect();
        pairs.sort();
        let query: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
        out.push_str(&query.join("&"));
        out.push('\n');
        for name in &self.signed_headers {
            out.push_str(&name.to_ascii_lowercase());
            out.push(':');
            let values: Vec<String> = request
                .headers
                .get_all(name.as_str())
                .iter()
                .map(|v| squeeze(&String::from_utf8_lossy(v.as_bytes())))
                .collect();
            out.push_str(&values.join(","));
            out.push('\n');
        }
        out.push('\n');
        out.push_str(&self.signed_headers.join(";"));
        out.push('\n');
        out.push_str(payload);
        out
    }
}

/// The key that a day's, region's requests are signed with.
#[derive(Clone)]
pub(crate) struct SigningKey([u8; 32]);

impl SigningKey {
    pub(crate) fn derive(secret: &str, day: &str, region: &str) -> Self {
        SigningKey::derive_for(secret, day, region, "s3")
    }

    fn derive_for(secret: &str, day: &str, region: &str, service: &str) -> Self {
        let key = hmac(format!("AWS4{secret}").as_bytes(), day.as_bytes());
        let key = hmac(&key, region.as_bytes());
        let key = hmac(&key, service.as_bytes());
        SigningKey(hmac(&key, b"aws4_request"))
    }

    /// The signature of `text`, in hexadecimal.
    pub(crate) fn sign(&self, text: &str) -> String {
        hex::encode(hmac(&self.0, text.as_bytes()))
    }

    /// Compares in constant time.
    pub(crate) fn matches(&self, text: &str, signature: &str) -> bool {
        self.sign(text).as_bytes().ct_eq(signature.as_bytes()).into()
    }
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => return [0; 32], // HMAC takes keys of any length
    };
    mac.update(data);
    mac.finalize().into_bytes().into()
}

/// A query's pairs, decoded, in the order sent.
pub(crate) fn parse_query(query: &str) -> Vec<(String, String)> {
    let decode = |s: &str| {
        let spaces = s.replace('+', " ");
        String::from_utf8_lossy(&percent_decode_str(&spaces).collect::<Vec<u8>>()).into_owned()
    };
    query
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|p| {
            let (k, v) = p.split_once('=').unwrap_or((p, ""));
            (decode(k), decode(v))
        })
        .collect()
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    encode(&mut out, text.as_bytes(), false);
    out
}

/// AWS's UriEncode: everything but the unreserved characters (and, in a path, the slash).
pub(crate) fn encode(out: &mut String, bytes: &[u8], keep_slash: bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &b in bytes {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~') || (keep_slash && b == b'/') {
            out.push(b as char);
        } else {
            out.push('%');
            out.push(HEX[usize::from(b >> 4)] as char);
            out.push(HEX[usize::from(b & 15)] as char);
        }
    }
}

/// Bytes in hexadecimal, one by one.
fn spelled(text: &str) -> String {
    let bytes: Vec<String> = text.bytes().map(|b| format!("{b:02x}")).collect();
    bytes.join(" ")
}

/// Trims, and makes every run of spaces one.
fn squeeze(value: &str) -> String {
    value.split(' ').filter(|s| !s.is_empty()).collect::<Vec<_>>().join(" ").trim().to_owned()
}

#[cfg(test)]
#[path = "sigv4_tests.rs"]
mod tests;
