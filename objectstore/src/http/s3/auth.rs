//! Who asks, by the signature of the request; and what its signature says of its body.

use super::chunked::Signer;
use super::error::{self, S3Error, S3Result};
use super::sigv2;
use super::sigv4::{Claim, Request, SNS, UNSIGNED};
use crate::{Access, Credential, ObjectStore};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// What is known of a body before it comes.
pub(crate) enum Payload {
    /// Nothing: not signed.
    Unsigned,
    /// Its SHA-256, in hexadecimal, as the client says it; where it says something else, no body has that.
    Hashed(String),
    /// It comes in chunks; signed ones where there is a signer; checksums behind it where there is a trailer.
    Chunked { signer: Option<Signer>, trailer: bool },
}

pub(super) async fn authenticate(store: &ObjectStore, request: &Request<'_>) -> S3Result<(Access, Payload)> {
    let hash = request.headers.get("x-amz-content-sha256").and_then(|v| v.to_str().ok());
    if let Some(claim) = sigv2::Claim::of(request)? {
        claim.check_time(request, chrono::Utc::now())?;
        let credential = credential(store, &claim.access_key).await?;
        let bucket = super::virtual_bucket(request.headers, &store.config().s3_hosts);
        claim.verify(request, bucket.as_deref(), &credential.secret.0)?;
        return Ok((Access::of(credential.caller.clone()), said(hash)));
    }
    let Some(claim) = Claim::of(request)? else {
        let payload = match hash {
            Some(IN_CHUNKS) => Payload::Chunked { signer: None, trailer: true },
            other => said(other),
        };
        return Ok((Access::default(), payload));
    };
    if claim.service == SNS {
        return Err(S3Error::malformed_authorization("This request must be signed for the service \"s3\"."));
    }
    claim.check_time(chrono::Utc::now())?;
    let credential = credential(store, &claim.access_key).await?;
    let hash = match (hash, claim.expires) {
        (Some(hash), _) => hash,
        (None, Some(_)) => UNSIGNED,
        (None, None) => {
            return Err(S3Error::invalid_request(
                "Missing required header for this request: x-amz-content-sha256",
            ));
        }
    };
    let key = claim.verify(request, hash, &credential.secret.0)?;
    let signer = || Signer {
        key: key.clone(),
        timestamp: claim.timestamp.clone(),
        scope: claim.scope(),
        previous: claim.signature.clone(),
    };
    let payload = match hash {
        _ if claim.expires.is_some() => said(Some(hash)),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Payload::Chunked { signer: Some(signer()), trailer: false },
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => {
            Payload::Chunked { signer: Some(signer()), trailer: true }
        }
        other => signed_payload(other)?,
    };
    Ok((Access::of(credential.caller.clone()), payload))
}

/// What an access key stands for.
pub(super) async fn credential(store: &ObjectStore, access_key: &str) -> S3Result<Arc<Credential>> {
    let found = store.inner.secrets.get(access_key).await?;
    found.ok_or_else(|| error::invalid_access_key().with("AWSAccessKeyId", access_key))
}

/// Whether a signature of version 2 is that of `text`. Compares in constant time.
pub(super) fn matches_v2(secret: &str, text: &str, signature: &str) -> bool {
    let Ok(mac) = Hmac::<Sha1>::new_from_slice(secret.as_bytes()) else { return false };
    let sum = BASE64_STANDARD.encode(mac.chain_update(text.as_bytes()).finalize().into_bytes());
    sum.as_bytes().ct_eq(signature.as_bytes()).into()
}

/// A body in chunks that nobody signed.
const IN_CHUNKS: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// What a header says of the body where no signature depends on it.
fn said(hash: Option<&str>) -> Payload {
    match hash {
        None | Some(UNSIGNED) => Payload::Unsigned,
        Some(other) => Payload::Hashed(other.to_owned()),
    }
}

fn signed_payload(hash: &str) -> S3Result<Payload> {
    match hash {
        UNSIGNED => Ok(Payload::Unsigned),
        IN_CHUNKS => Ok(Payload::Chunked { signer: None, trailer: true }),
        hex if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Ok(Payload::Hashed(hex.to_owned()))
        }
        other if other.starts_with("STREAMING-") => Err(S3Error::not_implemented(other)),
        other => Err(S3Error::invalid_argument(
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, or a valid sha256 value.",
        )
        .with("ArgumentName", "x-amz-content-sha256")
        .with("ArgumentValue", other)),
    }
}
