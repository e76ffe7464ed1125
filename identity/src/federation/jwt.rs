//! Signed tokens of providers (JWS in compact form), and the public keys that they are checked with (JWK).
//!
//! The key decides, not the token: an algorithm is only tried with a key of its own kind, `none` and those with shared
//! secrets do not exist here, and whatever key, address or certificate a token's own header offers is not looked at.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longer texts are no tokens.
pub(super) const LONGEST: usize = 64 << 10;
/// So many keys of a provider are looked at.
const MOST_KEYS: usize = 100;

/// The algorithms that exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    pub(super) const ALL: [(&'static str, Algorithm); 9] = [
        ("RS256", Algorithm::Rs256),
        ("RS384", Algorithm::Rs384),
        ("RS512", Algorithm::Rs512),
        ("PS256", Algorithm::Ps256),
        ("PS384", Algorithm::Ps384),
        ("PS512", Algorithm::Ps512),
        ("ES256", Algorithm::Es256),
        ("ES384", Algorithm::Es384),
        ("EdDSA", Algorithm::EdDsa),
    ];

    pub(super) fn by_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.iter().find(|(n, _)| *n == name).map(|(_, a)| *a)
    }
}

/// A public key.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) id: Option<String>,
    /// The only one that it is for, where it says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Debug, Clone)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Uncompressed points.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A token's parts, before anything of them is believed.
pub(super) struct Unverified<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    signed: &'a str,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// Whether a text has the form of a signed token; others are opaque.
pub(super) fn has_form(token: &str) -> bool {
    token.split('.').count() == 3 && header(token).is_some()
}

fn header(token: &str) -> Option<Header> {
    let first = token.split('.').next()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(first).ok()?).ok()
}

/// Reads a token; `Err` says why it cannot be good.
pub(super) fn read(token: &str) -> Result<Unverified<'_>, &'static str> {
    if token.len() > LONGEST {
        return Err("the token is too long");
    }
    let header = header(token).ok_or("not a signed token")?;
    let (signed, signature) = token.rsplit_once('.').ok_or("not a signed token")?;
    let (_, payload) =
        signed.split_once('.').filter(|(_, p)| !p.contains('.')).ok_or("not a signed token")?;
    if header.crit.is_some() {
        return Err("the token demands an extension");
    }
    let kind = header.typ.unwrap_or_default().to_ascii_lowercase();
    if !["", "jwt", "at+jwt", "application/at+jwt", "bearer"].contains(&kind.as_str()) {
        return Err("the token is of another kind");
    }
    Ok(Unverified {
        algorithm: Algorithm::by_name(&header.alg).ok_or("the token's algorithm is not accepted")?,
        key_id: header.kid,
        signed,
        payload: URL_SAFE_NO_PAD.decode(payload).map_err(|_| "the token's payload is not base64")?,
        signature: URL_SAFE_NO_PAD.decode(signature).map_err(|_| "the token's signature is not base64")?,
    })
}

impl Unverified<'_> {
    /// The claims, if one of the keys that the token may mean has signed it.
    pub(super) fn claims(self, keys: &[Key]) -> Result<Map<String, Value>, &'static str> {
        if !self.candidates(keys).any(|k| self.is_signed_by(k)) {
            return Err("no key of the provider has signed the token");
        }
        serde_json::from_slice(&self.payload).map_err(|_| "the token's payload is not an object")
    }

    /// The keys with the token's key id, or all where it names none.
    pub(super) fn candidates<'k>(&self, keys: &'k [Key]) -> impl Iterator<Item = &'k Key> {
        keys.iter().filter(move |k| self.key_id.is_none() || k.id == self.key_id)
    }

    fn is_signed_by(&self, key: &Key) -> bool {
        use Algorithm::*;
        if key.algorithm.is_some_and(|a| a != self.algorithm) {
            return false;
        }
        let rsa = |n: &[u8], e: &[u8], parameters: &signature::RsaParameters| {
            let key = RsaPublicKeyComponents { n, e };
            key.verify(parameters, self.signed.as_bytes(), &self.signature).is_ok()
        };
        let plain = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(self.signed.as_bytes(), &self.signature).is_ok()
        };
        match (&key.material, self.algorithm) {
            (Material::Rsa { n, e }, Rs256) => rsa(n, e, &signature::RSA_PKCS1_2048_8192_SHA256),
            (Material::Rsa { n, e }, Rs384) => rsa(n, e, &signature::RSA_PKCS1_2048_8192_SHA384),
            (Material::Rsa { n, e }, Rs512) => rsa(n, e, &signature::RSA_PKCS1_2048_8192_SHA512),
            (Material::Rsa { n, e }, Ps256) => rsa(n, e, &signature::RSA_PSS_2048_8192_SHA256),
            (Material::Rsa { n, e }, Ps384) => rsa(n, e, &signature::RSA_PSS_2048_8192_SHA384),
            (Material::Rsa { n, e }, Ps512) => rsa(n, e, &signature::RSA_PSS_2048_8192_SHA512),
            (Material::P256(point), Es256) => plain(&signature::ECDSA_P256_SHA256_FIXED, point),
            (Material::P384(point), Es384) => plain(&signature::ECDSA_P384_SHA384_FIXED, point),
            (Material::Ed25519(point), EdDsa) => plain(&signature::ED25519, point),
            _ => false,
        }
    }
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The keys of a JWKS that check signatures. What is of no use here is left out, as the standard has it.
pub(super) fn keys(set: &Value) -> Vec<Key> {
    let all = set["keys"].as_array().into_iter().flatten().take(MOST_KEYS);
    all.filter_map(|jwk| key(Jwk::deserialize(jwk).ok()?)).collect()
}

fn key(jwk: Jwk) -> Option<Key> {
    let verifies = |ops: &Vec<String>| ops.iter().any(|o| o == "verify");
    if jwk.usage.is_some_and(|u| u != "sig") || !jwk.key_ops.as_ref().is_none_or(verifies) {
        return None;
    }
    let bytes = |field: &Option<String>| URL_SAFE_NO_PAD.decode(field.as_deref()?).ok();
    let point = |len: usize| {
        let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
        (x.len() == len && y.len() == len).then(|| [&[4u8][..], &x, &y].concat())
    };
    let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            // Leading zeros, which some send, are not part of the number.
            let trimmed = |b: Vec<u8>| b.into_iter().skip_while(|b| *b == 0).collect::<Vec<u8>>();
            Material::Rsa { n: trimmed(bytes(&jwk.n)?), e: trimmed(bytes(&jwk.e)?) }
        }
        ("EC", Some("P-256")) => Material::P256(point(32)?),
        ("EC", Some("P-384")) => Material::P384(point(48)?),
        ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(&jwk.x).filter(|x| x.len() == 32)?),
        _ => return None,
    };
    let algorithm = match jwk.alg {
        // A key for an algorithm that is not here is for none that is.
        Some(name) => Some(Algorithm::by_name(&name)?),
        None => None,
    };
    Some(Key { id: jwk.kid, algorithm, material })
}
