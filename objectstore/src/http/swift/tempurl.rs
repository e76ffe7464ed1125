//! TempURL: a URL that carries its own permission, signed with a key that the account or the container keeps.

use super::error::{SwiftError, SwiftResult};
use super::{Call, Query, cors};
use crate::access::Signed;
use crate::http::content::http_date;
use crate::http::encode;
use crate::{ObjectError, reseller};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderName;
use http::header::{CONTENT_DISPOSITION, EXPIRES};
use ipnet::IpNet;
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use state::Timestamp;
use std::collections::BTreeMap;
use std::net::IpAddr;
use subtle::ConstantTimeEq;

/// What a signed URL grants beside the request itself.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    pub(super) signed: Signed,
    pub(super) filename: Option<String>,
    pub(super) inline: bool,
    /// Seconds since the epoch.
    expires: i64,
    /// What the names of all objects that it is good for begin with, and its parameters: they are good for those too.
    pub(super) prefix: Option<(String, String)>,
}

/// A key, and what it is good for.
pub(super) struct Key {
    pub(super) key: String,
    pub(super) whose: Signed,
}

/// The metadata that hold keys.
const KEYS: [&str; 2] = ["temp-url-key", "temp-url-key-2"];

fn refused() -> SwiftError {
    SwiftError::unauthorized_for("401 Unauthorized: Temp URL invalid\n")
}

/// Checks the signature of a request that has one.
pub(super) async fn check(call: &Call) -> SwiftResult<Granted> {
    let q = &call.query;
    let (Some(signature), Some(expires)) = (q.get("temp_url_sig"), q.get("temp_url_expires")) else {
        return Err(refused());
    };
    // A container's own URL is one of its web site's, which may all be read.
    let reads = matches!(call.method.as_str(), "GET" | "HEAD");
    let root = !call.container.is_empty() && reads && q.is("temp_url_prefix", "");
    if call.object.is_empty() && !root {
        return Err(refused());
    }
    let given = expires;
    let expires = parse_expires(expires).filter(|at| *at >= Timestamp::now().secs()).ok_or_else(refused)?;
    // What would let the bearer reach further than the URL says.
    for (name, shown) in
        [("x-object-manifest", "X-Object-Manifest"), ("x-symlink-target", "X-Symlink-Target")]
    {
        if call.headers.contains_key(name) {
            return Err(SwiftError::bad_request(format!("{shown} header not allowed in this tempurl")));
        }
    }
    let signed_path = match q.get("temp_url_prefix") {
        None => raw_path(call),
        Some(prefix) if call.object.starts_with(prefix) => {
            format!("prefix:/v1/{}/{}/{prefix}", reseller::name(&call.project), call.container)
        }
        Some(_) => return Err(refused()),
    };
    let range = q.get("temp_url_ip_range");
    if let Some(range) = range {
        let net: Option<IpNet> = range.parse().ok().or_else(|| range.parse::<IpAddr>().ok().map(IpNet::from));
        let inside = |net: IpNet| call.source.is_some_and(|a| net.trunc() == net && net.contains(&a));
        if !net.is_some_and(inside) {
            return Err(refused());
        }
    }
    let bound = range.map(|r| format!("ip={r}\n")).unwrap_or_default();
    // A HEAD is allowed to whoever may do anything.
    let methods: &'static [&'static str] = match call.method.as_str() {
        "HEAD" => &["HEAD", "GET", "PUT", "POST"],
        "GET" => &["GET"],
        "PUT" => &["PUT"],
        "POST" => &["POST"],
        "DELETE" => &["DELETE"],
        _ => return Err(refused()),
    };
    let keys = keys(call).await?;
    let mut texts = methods.iter().map(|m| format!("{bound}{m}\n{expires}\n{signed_path}"));
    let signer = texts.find_map(|text| keys.iter().find(|k| matches(&k.key, &text, signature)));
    Ok(Granted {
        signed: signer.ok_or_else(refused)?.whose.clone(),
        filename: q.get("filename").map(str::to_owned),
        inline: q.has("inline"),
        expires,
        prefix: q.get("temp_url_prefix").map(|prefix| (prefix.to_owned(), link(q, prefix, given, signature))),
    })
}

/// The parameters as they stand in a link of a page.
fn link(q: &Query, prefix: &str, expires: &str, signature: &str) -> String {
    let mut out = String::from("?temp_url_prefix=");
    encode(&mut out, prefix.as_bytes(), true);
    for (name, value) in [("expires", expires), ("sig", signature)] {
        out.push_str(&format!("&amp;temp_url_{name}="));
        encode(&mut out, value.as_bytes(), true);
    }
    if let Some(range) = q.get("temp_url_ip_range") {
        out.push_str("&amp;temp_url_ip_range=");
        encode(&mut out, range.as_bytes(), true);
    }
    if q.has("inline") {
        out.push_str("&amp;inline");
    }
    out
}

/// A page that was made here, not read: it is always shown, never saved.
#[derive(Clone)]
pub(super) struct Page;

/// What is left to do with the answer to a signed URL.
pub(super) struct Finish {
    granted: Granted,
    object: String,
    reads: bool,
}

impl Finish {
    pub(super) fn of(call: &Call) -> Option<Finish> {
        let reads = matches!(call.method.as_str(), "GET" | "HEAD");
        Some(Finish { granted: call.tempurl.clone()?, object: call.object.clone(), reads })
    }

    /// Takes out what is not for the bearer to see, and says how a browser is to show the rest.
    pub(super) fn apply(self, mut response: Response) -> SwiftResult<Response> {
        let hidden = |n: &&HeaderName| {
            n.as_str().starts_with("x-object-meta-") && !n.as_str().starts_with("x-object-meta-public-")
        };
        let hidden: Vec<HeaderName> = response.headers().keys().filter(hidden).cloned().collect();
        hidden.iter().for_each(|name| drop(response.headers_mut().remove(name)));
        if !self.reads || !response.status().is_success() {
            return Ok(response);
        }
        let page = response.extensions().get::<Page>().is_some();
        if self.object.is_empty() && !page {
            return Err(refused());
        }
        let out = response.headers_mut();
        if let Some(how) = self.disposition(page, out.contains_key(CONTENT_DISPOSITION)) {
            cors::set(out, CONTENT_DISPOSITION, &how);
        }
        cors::set(out, EXPIRES, &http_date(self.granted.expires));
        Ok(response)
    }

    fn disposition(&self, page: bool, own: bool) -> Option<String> {
        let base = self.object.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let named = |how: &str, name: &str| {
            let mut encoded = String::new();
            encode(&mut encoded, name.as_bytes(), true);
            let plain = encoded.replace("%20", " ");
            format!("{how}; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
        };
        match (self.granted.inline || page, &self.granted.filename) {
            (true, None) => Some("inline".into()),
            (true, Some(name)) => Some(named("inline", name)),
            (false, Some(name)) => Some(named("attachment", name)),
            (false, None) if own => None,
            (false, None) => Some(named("attachment", base)),
        }
    }
}

/// The path as it is signed: decoded.
fn raw_path(call: &Call) -> String {
    format!("/v1/{}/{}/{}", reseller::name(&call.project), call.container, call.object)
}

fn parse_expires(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| Timestamp::parse(text).map(Timestamp::secs))
}

pub(super) async fn keys(call: &Call) -> SwiftResult<Vec<Key>> {
    let account = call.store.find_account(&call.project).await?;
    let of = |meta: &BTreeMap<String, String>, container: Option<&String>| -> Vec<Key> {
        let whose = Signed { project: call.project.clone(), container: container.cloned() };
        let key = |key: &String| Key { key: key.clone(), whose: whose.clone() };
        KEYS.iter().filter_map(|k| meta.get(*k)).map(key).collect()
    };
    let mut keys = of(&account.info.meta, None);
    match call.store.find_container(&call.project, &call.container).await {
        Ok(container) => keys.extend(of(&container.info.meta, Some(&call.container))),
        Err(ObjectError::NoSuchContainer) => {}
        Err(e) => return Err(e.into()),
    }
    Ok(keys)
}

/// Compares in constant time. The digest is told by its name before a colon (then base64), or by the length of its
/// hexadecimal form.
pub(super) fn matches(key: &str, text: &str, signature: &str) -> bool {
    let given = match signature.split_once(':') {
        Some((_, encoded)) => {
            let encoded = encoded.trim_end_matches('=').replace('+', "-").replace('/', "_");
            match BASE64_URL_SAFE_NO_PAD.decode(encoded) {
                Ok(bytes) => bytes,
                Err(_) => return false,
            }
        }
        None => match hex::decode(signature) {
            Ok(bytes) => bytes,
            Err(_) => return false,
        },
    };
    let (key, text) = (key.as_bytes(), text.as_bytes());
    let computed =
        match given.len() {
            20 => Hmac::<Sha1>::new_from_slice(key)
                .map(|m| m.chain_update(text).finalize().into_bytes().to_vec()),
            32 => Hmac::<Sha256>::new_from_slice(key)
                .map(|m| m.chain_update(text).finalize().into_bytes().to_vec()),
            64 => Hmac::<Sha512>::new_from_slice(key)
                .map(|m| m.chain_update(text).finalize().into_bytes().to_vec()),
            _ => return false,
        };
    computed.is_ok_and(|c| c.ct_eq(&given).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_of_three_digests() {
        let text = "GET\n1400000000\n/v1/AUTH_a/c/o";
        let sha1 = "a68a3da40e1bbe8b3c0c9e1a5dd2a5c2d1b4b0c7";
        assert!(!matches("key", text, sha1));
        let mut mac = Hmac::<Sha256>::new_from_slice(b"key").unwrap();
        mac.update(text.as_bytes());
        let sum = mac.finalize().into_bytes();
        assert!(matches("key", text, &hex::encode(sum)));
        let encoded = BASE64_URL_SAFE_NO_PAD.encode(sum);
        assert!(matches("key", text, &format!("sha256:{encoded}")));
        assert!(matches("key", text, &format!("sha256:{encoded}=")));
        assert!(!matches("other", text, &hex::encode(sum)));
        assert!(!matches("key", text, "zz"));
    }

    #[test]
    fn expiry_in_either_form() {
        assert_eq!(parse_expires("1400000000"), Some(1_400_000_000));
        assert_eq!(parse_expires("2014-05-13T16:53:20Z"), Some(1_400_000_000));
        assert_eq!(parse_expires("soon"), None);
    }
}
