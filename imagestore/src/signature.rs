//! Signed images: the four properties `img_signature…` ask that an image's bytes are checked against a signature before
//! it becomes active. The certificate that this takes is kept by the key manager. This cloud has none yet, so no image
//! that asks for it becomes active: it is refused, as upstream refuses it where a certificate cannot be had.

use crate::{Image, ImageError};

const SIGNATURE: &str = "img_signature";
const HASH_METHOD: &str = "img_signature_hash_method";
const KEY_TYPE: &str = "img_signature_key_type";
const CERTIFICATE: &str = "img_signature_certificate_uuid";

const HASH_METHODS: [&str; 4] = ["SHA-224", "SHA-256", "SHA-384", "SHA-512"];
const KEY_TYPES: [&str; 8] = [
    "RSA-PSS",
    "DSA",
    "ECC_SECT571K1",
    "ECC_SECT409K1",
    "ECC_SECT571R1",
    "ECC_SECT409R1",
    "ECC_SECP521R1",
    "ECC_SECP384R1",
];

/// Takes the signature from an image that is made of a disk of this cloud: its bytes are not those that were signed, and
/// its properties may have come with the disk.
pub(crate) fn forget(image: &mut Image) {
    for name in [SIGNATURE, HASH_METHOD, KEY_TYPE, CERTIFICATE] {
        image.properties.remove(name);
    }
}

/// Refuses an image whose signature cannot be verified. One that does not have all four properties asks for nothing.
pub(crate) fn check(image: &Image) -> Result<(), ImageError> {
    let property = |name: &str| image.properties.get(name).map(String::as_str);
    let (Some(signature), Some(hash), Some(key), Some(certificate)) =
        (property(SIGNATURE), property(HASH_METHOD), property(KEY_TYPE), property(CERTIFICATE))
    else {
        return Ok(());
    };
    let why = if !is_base64(signature) {
        "The signature data was not properly encoded using base64".to_owned()
    } else if !HASH_METHODS.contains(&hash) {
        format!("Invalid signature hash method: {hash}")
    } else if !KEY_TYPES.contains(&key) {
        format!("Invalid signature key type: {key}")
    } else {
        format!("Unable to retrieve certificate with ID: {certificate}")
    };
    Err(ImageError::Invalid(format!(
        "Signature verification failed for image {}: Signature verification for the image failed: {why}.",
        image.id
    )))
}

/// With whatever line breaks it came.
fn is_base64(text: &str) -> bool {
    let text: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let padding = text.iter().rev().take_while(|b| **b == b'=').count();
    let body = &text[..text.len() - padding];
    let plain = body.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'));
    !body.is_empty() && plain && padding <= 2 && text.len().is_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64() {
        for good in ["YQ==", "YWI=", "YWJj", "YW\nJj", "+/+/"] {
            assert!(is_base64(good), "{good}");
        }
        for bad in ["", "=", "YQ", "Y===", "Y=Q=", "Y-_j", "YWJjZ"] {
            assert!(!is_base64(bad), "{bad}");
        }
    }
}
