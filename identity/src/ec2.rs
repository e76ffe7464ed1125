//! `POST /v3/ec2tokens` and `/v3/s3tokens`: a service shows a signed request and learns who signed it.
//!
//! Services that live in this process ask [`Identity::s3_credential`] instead and check signatures themselves.

use crate::auth::{Issued, Proof, expected};
use crate::token::Method;
use crate::{Identity, IdentityError};
use api::Secret;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use state::Timestamp;
use std::collections::BTreeMap;
use subtle::ConstantTimeEq;

/// A signature is good for a quarter of an hour, as upstream has it.
const TTL_SECS: i64 = 15 * 60;

const REFUSED: fn(&'static str) -> IdentityError = IdentityError::Unauthenticated;

#[derive(Clone, Deserialize)]
struct Signed {
    #[serde(default)]
    access: String,
    #[serde(default)]
    signature: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    verb: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    params: BTreeMap<String, Value>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body_hash: String,
    /// The string that was signed, in base64: S3 only.
    #[serde(default)]
    token: String,
}

impl Signed {
    fn read(body: &Value) -> Result<Signed, IdentityError> {
        let part = ["credentials", "credential", "ec2Credentials"].iter().find_map(|k| body.get(*k));
        let part = part.ok_or_else(|| expected("credentials", "the request body"))?;
        let signed = Signed::deserialize(part).map_err(|_| {
            IdentityError::Invalid("The credentials to check are not of the known form.".into())
        })?;
        if signed.access.is_empty() || signed.signature.is_empty() {
            return Err(REFUSED("no signature was supplied"));
        }
        Ok(signed)
    }
}

impl Identity {
    pub(crate) async fn ec2_token(&self, body: &Value) -> Result<Issued, IdentityError> {
        let signed = Signed::read(body)?;
        let (secret, key) = self.ec2_secret(&signed.access).await?;
        if !signed.is_recent(Timestamp::now()) {
            return Err(REFUSED("the EC2 signature is too old"));
        }
        if !signed.is_by(&secret) {
            return Err(REFUSED("the EC2 signature is wrong"));
        }
        self.signed_in(key, &signed.access).await
    }

    pub(crate) async fn s3_token(&self, body: &Value) -> Result<Issued, IdentityError> {
        let signed = Signed::read(body)?;
        let (secret, key) = self.ec2_secret(&signed.access).await?;
        let text = STANDARD.decode(&signed.token).or_else(|_| URL_SAFE.decode(&signed.token));
        let text = text.map_err(|_| REFUSED("the string to sign is not base64"))?;
        let right = match text.starts_with(b"AWS4-HMAC-SHA256") {
            true => s3_v4(&secret, &text),
            false => Some(STANDARD.encode(hmac_sha1(secret.0.as_bytes(), &text))),
        };
        if !right.is_some_and(|r| same(&r, &signed.signature)) {
            return Err(REFUSED("the S3 signature is wrong"));
        }
        self.signed_in(key, &signed.access).await
    }

    async fn signed_in(
        &self,
        key: crate::subject::SubjectKey,
        access: &str,
    ) -> Result<Issued, IdentityError> {
        let proof = Proof {
            user: key.user,
            methods: vec![Method::Ec2],
            expires: None,
            chain: Some(crate::credentials::chain(access)),
            app_credential: key.app_credential,
            bound: None,
            federated: None,
        };
        self.issue_signed(proof, key.target).await
    }
}

impl Signed {
    fn param(&self, name: &str) -> &str {
        self.params.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(k, _)| k.eq_ignore_ascii_case(name));
        found.map(|(_, v)| v.as_str()).unwrap_or_default()
    }

    /// A signature that was seen once is not good for ever.
    fn is_recent(&self, now: Timestamp) -> bool {
        // Only a time that is itself signed counts.
        let time = match self.param("SignatureVersion") {
            "0" | "1" | "2" => {
                ["Timestamp", "Expires"].map(|n| self.param(n)).into_iter().find(|t| !t.is_empty())
            }
            _ => Some(self.v4_date()),
        };
        time.and_then(signed_at).is_some_and(|t| is_near(t, now))
    }

    fn v4_date(&self) -> &str {
        match self.header("X-Amz-Date") {
            "" => self.param("X-Amz-Date"),
            date => date,
        }
    }

    /// Some clients sign the host without its port.
    fn is_by(&self, secret: &Secret) -> bool {
        self.is_made_with(secret) || self.without_port().is_some_and(|s| s.is_made_with(secret))
    }

    fn without_port(&self) -> Option<Signed> {
        let bare = |host: &str| host.rsplit_once(':').map(|(name, _)| name.to_owned());
        let mut signed = self.clone();
        let mut changed = false;
        let headers = signed.headers.iter_mut().filter(|(k, _)| k.eq_ignore_ascii_case("host"));
        for host in headers.map(|(_, v)| v).chain([&mut signed.host]) {
            if let Some(name) = bare(host) {
                *host = name;
                changed = true;
            }
        }
        changed.then_some(signed)
    }

    fn is_made_with(&self, secret: &Secret) -> bool {
        let key = secret.0.as_bytes();
        let right = match self.param("SignatureVersion") {
            "0" => {
                let text = format!("{}{}", self.param("Action"), self.param("Timestamp"));
                Some(STANDARD.encode(hmac_sha1(key, text.as_bytes())))
            }
            "1" => {
                let mut pairs: Vec<_> = self.params.iter().collect();
                pairs.sort_by_key(|(k, _)| k.to_lowercase());
                let text: String =
                    pairs.iter().map(|(k, v)| format!("{k}{}", v.as_str().unwrap_or_default())).collect();
                Some(STANDARD.encode(hmac_sha1(key, text.as_bytes())))
            }
            "2" => Some(self.v2(key)),
            _ => self.v4(key),
        };
        right.is_some_and(|r| same(&r, &self.signature))
    }

    fn v2(&self, key: &[u8]) -> String {
        let method = self.param("SignatureMethod");
        let text =
            format!("{}\n{}\n{}\n{}", self.verb, self.host, self.path, query(&self.params, &["Signature"]));
        match method {
            "HmacSHA1" => STANDARD.encode(hmac_sha1(key, text.as_bytes())),
            _ => STANDARD.encode(hmac_sha256(key, text.as_bytes())),
        }
    }

    fn v4(&self, key: &[u8]) -> Option<String> {
        let authorization = self.header("Authorization");
        let in_header = |name: &str| {
            let part = authorization.split([',', ' ']).find_map(|p| p.trim().strip_prefix(name))?;
            Some(part.trim_start_matches('=').to_owned())
        };
        let (credential, signed) = match authorization.starts_with("AWS4-HMAC-SHA256") {
            true => (in_header("Credential")?, in_header("SignedHeaders")?),
            false => {
                (self.param("X-Amz-Credential").to_owned(), self.param("X-Amz-SignedHeaders").to_owned())
            }
        };
        let scope = credential.split_once('/')?.1;
        let date = self.v4_date();
        if !date.starts_with(scope.split('/').next()?) {
            return None;
        }
        let sent = signed.split(';').filter(|h| self.headers.keys().any(|k| k.eq_ignore_ascii_case(h)));
        let headers: String =
            sent.map(|h| format!("{}:{}\n", h.to_lowercase(), self.header(h).trim())).collect();
        // A POST has its parameters in the body, whose hash is signed.
        let query = match self.verb.as_str() {
            "POST" => String::new(),
            _ => query(&self.params, &["X-Amz-Signature"]),
        };
        let canonical =
            format!("{}\n{}\n{}\n{headers}\n{signed}\n{}", self.verb, self.path, query, self.body_hash);
        let hash = hex::encode(Sha256::digest(canonical.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}");
        Some(hex::encode(hmac_sha256(&v4_key(key, scope)?, text.as_bytes())))
    }
}

/// The signing key of `date/region/service/aws4_request`.
fn v4_key(secret: &[u8], scope: &str) -> Option<Vec<u8>> {
    let mut key = [b"AWS4", secret].concat();
    let mut parts = 0;
    for part in scope.split('/') {
        key = hmac_sha256(&key, part.as_bytes());
        parts += 1;
    }
    (parts == 4).then_some(key)
}

/// `text` is `AWS4-HMAC-SHA256\n<date>\n<scope>\n<hash>`.
fn s3_v4(secret: &Secret, text: &[u8]) -> Option<String> {
    let mut lines = std::str::from_utf8(text).ok()?.split('\n').skip(1);
    signed_at(lines.next()?).filter(|t| is_near(*t, Timestamp::now()))?;
    let scope = lines.next()?;
    // As upstream: a signature for another service, or of another form, is none of S3's.
    let parts: Vec<&str> = scope.split('/').collect();
    let known = matches!(parts[..], [_, _, "s3" | "iam" | "sts", "aws4_request"]);
    if !known || lines.count() != 1 {
        return None;
    }
    Some(hex::encode(hmac_sha256(&v4_key(secret.0.as_bytes(), scope)?, text)))
}

/// The forms in which signatures carry a time.
fn signed_at(text: &str) -> Option<Timestamp> {
    let compact = chrono::NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%SZ").ok();
    compact.map(|t| Timestamp::from_secs(t.and_utc().timestamp())).or_else(|| Timestamp::parse(text)).or_else(
        || chrono::DateTime::parse_from_rfc2822(text).ok().map(|t| Timestamp::from_secs(t.timestamp())),
    )
}

fn is_near(then: Timestamp, now: Timestamp) -> bool {
    (then.secs() - now.secs()).abs() <= TTL_SECS
}

fn query(params: &BTreeMap<String, Value>, skip: &[&str]) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode as enc};
    const SET: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    let kept = params.iter().filter(|(k, _)| !skip.contains(&k.as_str()));
    let pair =
        |(k, v): (&String, &Value)| format!("{}={}", enc(k, SET), enc(v.as_str().unwrap_or_default(), SET));
    kept.map(pair).collect::<Vec<_>>().join("&")
}

fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn hmac_sha1(key: &[u8], text: &[u8]) -> Vec<u8> {
    // An HMAC takes keys of any length.
    Hmac::<Sha1>::new_from_slice(key)
        .map(|m| m.chain_update(text).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key)
        .map(|m| m.chain_update(text).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn aws_published_s3_key() {
        // The signing key of AWS's own worked example.
        let key = v4_key(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830/us-east-1/iam/aws4_request");
        assert_eq!(
            hex::encode(key.unwrap()),
            "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
        );
    }

    #[test]
    fn the_old_versions() {
        let secret = Secret("e7a7a2240136494986991a6598d9fb9f".into());
        let signed = |version: &str, signature: &str| {
            Signed::read(&json!({"credentials": {"access": "a", "signature": signature, "verb": "GET",
                "host": "example.com", "path": "/", "params": {"SignatureVersion": version, "Action": "Test",
                "Timestamp": "2012-01-01T00:00:00"}}}))
            .unwrap()
        };
        let right = STANDARD.encode(hmac_sha1(secret.0.as_bytes(), b"Test2012-01-01T00:00:00"));
        assert!(signed("0", &right).is_by(&secret));
        assert!(!signed("0", "x").is_by(&secret));
        assert!(!signed("2", &right).is_by(&secret));
        let then = Timestamp::parse("2012-01-01T00:00:00Z").unwrap();
        let after = |secs| Timestamp::from_secs(then.secs() + secs);
        let at = |host: &str, signature: &str| Signed { host: host.into(), ..signed("2", signature) };
        let of_bare = at("example.com", "x").v2(secret.0.as_bytes());
        assert!(at("example.com:8773", &of_bare).is_by(&secret), "signed without the port");
        assert!(!at("example.org:8773", &of_bare).is_by(&secret));
        assert!(signed("0", &right).is_recent(after(60)));
        assert!(!signed("0", &right).is_recent(after(3600)));
    }
}
