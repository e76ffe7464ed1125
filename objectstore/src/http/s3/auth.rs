//! Who asks, by the signature of the request; and what its signature says of its body.

use super::chunked::Signer;
use super::error::{self, S3Error, S3Result};
use super::sigv4::{Claim, Request, UNSIGNED};
use crate::{Access, ObjectStore};

/// What is known of a body before it comes.
pub(crate) enum Payload {
    /// Nothing: not signed.
    Unsigned,
    /// Its SHA-256, in hexadecimal.
    Hashed(String),
    /// It comes in chunks; signed ones where there is a signer; checksums behind it where there is a trailer.
    Chunked { signer: Option<Signer>, trailer: bool },
}

pub(super) async fn authenticate(store: &ObjectStore, request: &Request<'_>) -> S3Result<(Access, Payload)> {
    let hash = request.headers.get("x-amz-content-sha256").and_then(|v| v.to_str().ok());
    let Some(claim) = Claim::of(request)? else {
        return Ok((Access::default(), unsigned_payload(hash)?));
    };
    claim.check_time(chrono::Utc::now())?;
    let credential = store.inner.secrets.get(&claim.access_key).await?;
    let credential = credential
        .ok_or_else(|| error::invalid_access_key().with("AWSAccessKeyId", claim.access_key.clone()))?;
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
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Payload::Chunked { signer: Some(signer()), trailer: false },
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => {
            Payload::Chunked { signer: Some(signer()), trailer: true }
        }
        other => unsigned_payload(Some(other))?,
    };
    Ok((Access::of(credential.caller.clone()), payload))
}

fn unsigned_payload(hash: Option<&str>) -> S3Result<Payload> {
    match hash {
        None | Some(UNSIGNED) => Ok(Payload::Unsigned),
        Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER") => Ok(Payload::Chunked { signer: None, trailer: true }),
        Some(hex) if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Ok(Payload::Hashed(hex.to_ascii_lowercase()))
        }
        Some(other) if other.starts_with("STREAMING-") => Err(S3Error::not_implemented(other)),
        Some(_) => Err(S3Error::invalid_argument(
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, or a valid sha256 value.",
        )),
    }
}
