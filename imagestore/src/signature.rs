//! Signed images: the four properties `img_signature…` ask that an image's bytes are checked against a signature before it
//! becomes active, with the key of a certificate. Until there is a key manager, certificates are files that the operator
//! keeps in a directory (`signature_certificates`); without one none can be had, and such an image is refused.
//!
//! <https://docs.openstack.org/glance/latest/user/signature.html>

use crate::model::HashAlgorithm;
use crate::{Image, ImageError};
use openssl::md::{Md, MdRef};
use openssl::pkey::{Id, PKey, Public};
use openssl::rsa::Padding;
use openssl::sign::RsaPssSaltlen;
use openssl::x509::X509;
use std::path::Path;

const SIGNATURE: &str = "img_signature";
const HASH_METHOD: &str = "img_signature_hash_method";
const KEY_TYPE: &str = "img_signature_key_type";
const CERTIFICATE: &str = "img_signature_certificate_uuid";

/// The largest certificate that is read.
const CERTIFICATE_MAX: u64 = 64 << 10;

/// What an image's bytes are hashed with for its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Method {
    fn of(name: &str) -> Option<Method> {
        Some(match name {
            "SHA-224" => Method::Sha224,
            "SHA-256" => Method::Sha256,
            "SHA-384" => Method::Sha384,
            "SHA-512" => Method::Sha512,
            _ => return None,
        })
    }

    /// As OpenSSL has it.
    pub(crate) fn digest(self) -> &'static MdRef {
        match self {
            Method::Sha224 => Md::sha224(),
            Method::Sha256 => Md::sha256(),
            Method::Sha384 => Md::sha384(),
            Method::Sha512 => Md::sha512(),
        }
    }
}

/// An image's own hash is made in the same ways.
impl From<HashAlgorithm> for Method {
    fn from(algorithm: HashAlgorithm) -> Method {
        match algorithm {
            HashAlgorithm::Sha256 => Method::Sha256,
            HashAlgorithm::Sha384 => Method::Sha384,
            HashAlgorithm::Sha512 => Method::Sha512,
        }
    }
}

/// The kind of key that a key type stands for.
fn key_kind(name: &str) -> Option<Id> {
    Some(match name {
        "RSA-PSS" => Id::RSA,
        "DSA" => Id::DSA,
        "ECC_SECT571K1" | "ECC_SECT409K1" | "ECC_SECT571R1" | "ECC_SECT409R1" | "ECC_SECP521R1"
        | "ECC_SECP384R1" => Id::EC,
        _ => return None,
    })
}

/// What an image asks for. One that does not have all four properties asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    signature: String,
    hash: String,
    key: String,
    certificate: String,
}

impl Wanted {
    fn of(image: &Image) -> Option<Wanted> {
        let property = |name: &str| image.properties.get(name).cloned();
        Some(Wanted {
            signature: property(SIGNATURE)?,
            hash: property(HASH_METHOD)?,
            key: property(KEY_TYPE)?,
            certificate: property(CERTIFICATE)?,
        })
    }
}

/// How an image's bytes are to be checked.
pub(crate) struct Terms {
    wanted: Wanted,
    pub(crate) method: Method,
    signature: Vec<u8>,
    key: PKey<Public>,
}

fn refused(image: &Image, why: &str) -> ImageError {
    ImageError::Signature(format!("Signature verification failed for image {}: {why}", image.id))
}

/// What an image asks for, with the certificate it names from the operator's directory; `None`: nothing. `Signature`
/// where it can never be verified.
pub(crate) async fn terms(certificates: Option<&Path>, image: &Image) -> Result<Option<Terms>, ImageError> {
    let Some(wanted) = Wanted::of(image) else { return Ok(None) };
    let no = |why: String| refused(image, &format!("Signature verification for the image failed: {why}."));
    let plain: String = wanted.signature.split_ascii_whitespace().collect();
    let signature = openssl::base64::decode_block(&plain)
        .ok()
        .filter(|s| !s.is_empty())
        .ok_or_else(|| no("The signature data was not properly encoded using base64".into()))?;
    let method = Method::of(&wanted.hash)
        .ok_or_else(|| no(format!("Invalid signature hash method: {}", wanted.hash)))?;
    let kind =
        key_kind(&wanted.key).ok_or_else(|| no(format!("Invalid signature key type: {}", wanted.key)))?;
    let certificate = match certificates {
        Some(directory) => read(directory, &wanted.certificate).await,
        None => None,
    };
    let certificate = certificate
        .ok_or_else(|| no(format!("Unable to retrieve certificate with ID: {}", wanted.certificate)))?;
    let key =
        public_key(&certificate).ok_or_else(|| no("Invalid certificate format: it is not X.509".into()))?;
    if key.id() != kind {
        return Err(no(format!("Invalid public key type for signature key type: {}", wanted.key)));
    }
    Ok(Some(Terms { wanted, method, signature, key }))
}

/// `<id>.pem`, `.crt` or `.der` of the directory. The id is a user's word: nothing but a UUID is looked for.
async fn read(directory: &Path, id: &str) -> Option<Vec<u8>> {
    let id = uuid::Uuid::parse_str(id).ok()?.hyphenated().to_string();
    for extension in ["pem", "crt", "der"] {
        let path = directory.join(format!("{id}.{extension}"));
        let size = tokio::fs::metadata(&path).await.map(|m| m.len());
        if size.is_ok_and(|size| size <= CERTIFICATE_MAX)
            && let Ok(bytes) = tokio::fs::read(&path).await
        {
            return Some(bytes);
        }
    }
    None
}

fn public_key(certificate: &[u8]) -> Option<PKey<Public>> {
    let read = X509::from_pem(certificate).or_else(|_| X509::from_der(certificate)).ok()?;
    read.public_key().ok()
}

impl Terms {
    /// Whether the signature is that of bytes with this hash.
    fn is_of(&self, digest: &[u8]) -> Result<bool, openssl::error::ErrorStack> {
        let mut check = openssl::pkey_ctx::PkeyCtx::new(&self.key)?;
        check.verify_init()?;
        if self.key.id() == Id::RSA {
            check.set_rsa_padding(Padding::PKCS1_PSS)?;
            check.set_signature_md(self.method.digest())?;
            check.set_rsa_mgf1_md(self.method.digest())?;
            check.set_rsa_pss_saltlen(RsaPssSaltlen::MAXIMUM_LENGTH)?;
        }
        check.verify(digest, &self.signature)
    }

    /// Refuses bytes with this hash (in hex) that were not signed.
    pub(crate) fn verify(self, image: &Image, digest: &str) -> Result<Verified, ImageError> {
        let digest = hex::decode(digest).map_err(|e| ImageError::Internal(Box::new(e)))?;
        // OpenSSL calls a signature that is none an error, too.
        match self.is_of(&digest) {
            Ok(true) => Ok(Verified(Some(self.wanted))),
            _ => Err(refused(image, "Signature verification failed")),
        }
    }
}

/// What an image's bytes have been found to be signed with.
pub(crate) struct Verified(Option<Wanted>);

impl Verified {
    /// Nothing was asked for.
    pub(crate) const NOTHING: Verified = Verified(None);

    /// Refuses an image that asks for something else by now.
    pub(crate) fn covers(&self, image: &Image) -> Result<(), ImageError> {
        match Wanted::of(image) {
            None => Ok(()),
            wanted if wanted == self.0 => Ok(()),
            _ => Err(refused(image, "Its signature was changed while it was verified")),
        }
    }
}

/// Takes the signature from an image that is made of a disk of this cloud: its bytes are not those that were signed, and
/// its properties may have come with the disk.
pub(crate) fn forget(image: &mut Image) {
    for name in [SIGNATURE, HASH_METHOD, KEY_TYPE, CERTIFICATE] {
        image.properties.remove(name);
    }
}
