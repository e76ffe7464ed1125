//! Tokens as signed JSON (JWS, ES256): the second provider, for clouds whose tokens others must be able to read and
//! check with a public key alone. The payload has the names that upstream's JWS provider gives it.

use crate::keys::{Key, Ring};
use crate::token::{Claims, Method, Target};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, LineEnding};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use state::Timestamp;

/// A key pair, or its public half in a file `NAME.pub`.
pub(crate) struct Es256 {
    signing: Option<SigningKey>,
    verifying: VerifyingKey,
    id: String,
}

impl Key for Es256 {
    fn generate() -> String {
        loop {
            // One in 2³² draws is no key of the curve.
            if let Ok(key) = p256::SecretKey::from_slice(&rand::random::<[u8; 32]>())
                && let Ok(pem) = key.to_pkcs8_pem(LineEnding::LF)
            {
                return pem.to_string();
            }
        }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let signing = SigningKey::from_pkcs8_pem(text).ok();
        let verifying = match &signing {
            Some(key) => *key.verifying_key(),
            None => VerifyingKey::from_public_key_pem(text)
                .map_err(|_| "it is neither a private key (PKCS#8) nor a public key of P-256 in PEM")?,
        };
        let point = verifying.to_encoded_point(true);
        let id = URL_SAFE_NO_PAD.encode(&Sha256::digest(point.as_bytes())[..12]);
        Ok(Es256 { signing, verifying, id })
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn signs(&self) -> bool {
        self.signing.is_some()
    }
}

/// Upstream's payload. What it has no name for is in `openstack_extra`.
#[derive(Serialize, Deserialize)]
struct Payload {
    sub: String,
    /// Seconds, with a fraction: a token is newer than the change that ended the ones before it.
    iat: f64,
    exp: i64,
    openstack_methods: Vec<String>,
    openstack_audit_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    openstack_system: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    openstack_domain_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    openstack_project_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    openstack_trust_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    openstack_app_cred_id: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    openstack_extra: Map<String, Value>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

/// The claims that the payload has names for, as [`Claims`] serialises them.
const NAMED: [&str; 7] = ["u", "m", "t", "e", "i", "a", "c"];

impl Payload {
    fn of(claims: &Claims) -> Option<Payload> {
        let Value::Object(mut all) = serde_json::to_value(claims).ok()? else { return None };
        all.retain(|name, _| !NAMED.contains(&name.as_str()));
        let mut payload = Payload {
            sub: claims.user.clone(),
            iat: claims.issued.micros() as f64 / 1e6,
            exp: claims.expires,
            openstack_methods: claims.methods.iter().map(|m| m.name().to_owned()).collect(),
            openstack_audit_ids: claims.audit.clone(),
            openstack_system: None,
            openstack_domain_id: None,
            openstack_project_id: None,
            openstack_trust_id: None,
            openstack_app_cred_id: claims.app_credential.clone(),
            openstack_extra: all,
        };
        match &claims.target {
            Target::Unscoped => {}
            Target::System => payload.openstack_system = Some("all".into()),
            Target::Domain(id) => payload.openstack_domain_id = Some(id.clone()),
            Target::Project(id) => payload.openstack_project_id = Some(id.clone()),
            Target::Trust(id) => payload.openstack_trust_id = Some(id.clone()),
        }
        Some(payload)
    }

    fn claims(self) -> Option<Claims> {
        // A trust's token names its project as well, where upstream has made it.
        let target = match (self.openstack_trust_id, self.openstack_project_id) {
            (Some(id), _) => Target::Trust(id),
            (None, Some(id)) => Target::Project(id),
            (None, None) => match (self.openstack_domain_id, self.openstack_system) {
                (Some(id), _) => Target::Domain(id),
                (None, Some(_)) => Target::System,
                (None, None) => Target::Unscoped,
            },
        };
        let methods: Option<Vec<Method>> =
            self.openstack_methods.iter().map(|m| Method::by_name(m)).collect();
        let mut all = self.openstack_extra;
        all.retain(|name, _| !NAMED.contains(&name.as_str()));
        let issued = Timestamp((self.iat * 1e6).round() as i64);
        for (name, value) in NAMED.into_iter().zip([
            json!(self.sub),
            json!(methods?),
            json!(target),
            json!(self.exp),
            json!(issued),
            json!(self.openstack_audit_ids),
        ]) {
            all.insert(name.into(), value);
        }
        if let Some(id) = self.openstack_app_cred_id {
            all.insert("c".into(), id.into());
        }
        serde_json::from_value(all.into()).ok()
    }
}

/// The claims, signed; empty where there is no key that signs.
pub(crate) fn sign(claims: &Claims, keys: &Ring<Es256>) -> String {
    let Some(payload) = Payload::of(claims).and_then(|p| serde_json::to_value(p).ok()) else {
        return String::new();
    };
    let header = |id: &str| json!({"typ": "JWT", "alg": "ES256", "kid": id}).to_string();
    signed(header, &payload.to_string(), keys)
}

/// A header, which may name the key, and a payload, signed; empty where there is no key that signs.
pub(crate) fn signed(header: impl Fn(&str) -> String, payload: &str, keys: &Ring<Es256>) -> String {
    let keys = keys.keys();
    let Some((key, signing)) = keys.signing().and_then(|k| Some((k, k.signing.as_ref()?))) else {
        return String::new();
    };
    let text = [header(&key.id), payload.to_owned()].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature: Signature = signing.sign(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

/// The claims of what one of the keys has signed.
pub(crate) fn verified(token: &str, keys: &Ring<Es256>) -> Option<Claims> {
    let (text, signature) = token.rsplit_once('.')?;
    let (header, payload) = text.split_once('.')?;
    let plain = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let header: Header = serde_json::from_slice(&plain(header)?).ok()?;
    // The algorithm is ours to choose, never the token's.
    if header.alg != "ES256" {
        return None;
    }
    let signature = Signature::from_slice(&plain(signature)?).ok()?;
    keys.any(|k| {
        let named = header.kid.as_ref().is_none_or(|kid| *kid == k.id);
        (named && k.verifying.verify(text.as_bytes(), &signature).is_ok()).then_some(())
    })?;
    serde_json::from_slice::<Payload>(&plain(payload)?).ok()?.claims()
}
