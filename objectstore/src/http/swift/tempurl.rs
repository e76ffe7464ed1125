//! TempURL: a URL that carries its own permission, signed with a key that the account or the container keeps.

use super::Call;
use super::error::{SwiftError, SwiftResult};
use crate::access::Signed;
use crate::{ObjectError, reseller};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE;
use hmac::{Hmac, KeyInit, Mac};
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
    pub(super) expires: Option<i64>,
}

/// A key, and what it is good for.
pub(super) struct Key {
    pub(super) key: String,
    pub(super) whose: Signed,
}

/// The metadata that hold keys.
const KEYS: [&str; 2] = ["temp-url-key", "temp-url-key-2"];

fn refused() -> SwiftError {
    SwiftError::new(http::StatusCode::UNAUTHORIZED, "401 Unauthorized: Temp URL invalid\n")
        .with(http::header::WWW_AUTHENTICATE, "Swift realm=\"AUTH\"")
}

/// Checks the signature of a request that has one.
pub(super) async fn check(call: &Call) -> SwiftResult<Granted> {
    let q = &call.query;
    let (Some(signature), Some(expires)) = (q.get("temp_url_sig"), q.get("temp_url_expires")) else {
        return Err(refused());
    };
    if call.object.is_empty() {
        return Err(refused());
    }
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
        expires: Some(expires),
    })
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
        Some((_, encoded)) => match BASE64_URL_SAFE.decode(encoded.replace('+', "-").replace('/', "_")) {
            Ok(bytes) => bytes,
            Err(_) => return false,
        },
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
        assert!(matches("key", text, &format!("sha256:{}", BASE64_URL_SAFE.encode(sum))));
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
