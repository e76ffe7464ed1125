//! What a token carries, and its form on the wire: Fernet without padding, as Keystone's clients know it, or signed
//! JSON ([`crate::jws`]). Tokens of either form are good wherever their keys are, so that a cloud may change from one
//! to the other under running clients.
//!
//! A token holds ids only. What those ids mean is looked up when it is validated, so that a role taken away or
//! a project disabled takes effect at once.

use crate::jws::{self, Es256};
use crate::keys::{KeyRing, Ring, Rotated};
use crate::{Config, IdentityError, TokenProvider};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use state::Timestamp;
use std::time::Duration;

/// Longer texts are no tokens of ours.
const MAX_LEN: usize = 8192;
/// A token may come from a machine whose clock is this much ahead.
const SKEW_SECS: i64 = 60;

/// What the bearer may use the token for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Target {
    #[serde(rename = "u")]
    Unscoped,
    #[serde(rename = "p")]
    Project(String),
    #[serde(rename = "d")]
    Domain(String),
    #[serde(rename = "s")]
    System,
    /// The trust's id; the project is the trust's.
    #[serde(rename = "t")]
    Trust(String),
}

/// The names are short because every request carries them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    #[serde(rename = "u")]
    pub(crate) user: String,
    #[serde(rename = "m")]
    pub(crate) methods: Vec<Method>,
    #[serde(rename = "t")]
    pub(crate) target: Target,
    /// Whole seconds.
    #[serde(rename = "e")]
    pub(crate) expires: i64,
    #[serde(rename = "i")]
    pub(crate) issued: Timestamp,
    /// Its own, then that of the first token of its chain.
    #[serde(rename = "a")]
    pub(crate) audit: Vec<String>,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub(crate) app_credential: Option<String>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub(crate) federated: Option<Federated>,
}

/// Who has vouched for the bearer, and for its being in which groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Federated {
    #[serde(rename = "i")]
    pub(crate) idp: String,
    #[serde(rename = "p")]
    pub(crate) protocol: String,
    /// Ids, sorted.
    #[serde(rename = "g", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<String>,
}

/// How the bearer proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Method {
    #[serde(rename = "p")]
    Password,
    #[serde(rename = "t")]
    Token,
    #[serde(rename = "a")]
    AppCredential,
    #[serde(rename = "e")]
    Ec2,
    #[serde(rename = "o")]
    Totp,
    /// By a provider of identities. A token that says which one names its protocol instead.
    #[serde(rename = "m")]
    Mapped,
}

impl Method {
    /// Every one: signed tokens carry them by name.
    const ALL: &[Method] =
        &[Method::Password, Method::Token, Method::AppCredential, Method::Ec2, Method::Totp, Method::Mapped];

    pub(crate) fn by_name(name: &str) -> Option<Method> {
        Method::ALL.iter().copied().find(|m| m.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::Password => "password",
            Method::Token => "token",
            Method::AppCredential => "application_credential",
            Method::Ec2 => "ec2credential",
            Method::Totp => "totp",
            Method::Mapped => "mapped",
        }
    }
}

impl Claims {
    pub(crate) fn expires_at(&self) -> Timestamp {
        Timestamp::from_secs(self.expires)
    }

    pub(crate) fn encode(&self, keys: &TokenKeys) -> String {
        match &keys.jws {
            Some(jws) if keys.provider == TokenProvider::Jws => jws::sign(self, jws),
            _ => {
                // Plain data: it always serialises.
                let plain = serde_json::to_vec(self).unwrap_or_default();
                keys.fernet.encrypt(&plain).trim_end_matches('=').to_owned()
            }
        }
    }

    /// The claims of a token that one of our keys has made and that has not expired, or so many seconds ago at most.
    pub(crate) fn decode(token: &str, keys: &TokenKeys, now: Timestamp, late: i64) -> Option<Claims> {
        if token.len() > MAX_LEN || !token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=.".contains(&b))
        {
            return None;
        }
        let claims: Claims = match (token.contains('.'), &keys.jws) {
            (true, Some(jws)) => jws::verified(token, jws)?,
            (true, None) => return None,
            (false, _) => {
                let bare = token.trim_end_matches('=');
                let padded = format!("{bare}{}", "=".repeat((4 - bare.len() % 4) % 4));
                serde_json::from_slice(&keys.fernet.decrypt(&padded)?).ok()?
            }
        };
        let in_time = now.secs() < claims.expires.saturating_add(late)
            && claims.issued.secs() <= now.secs() + SKEW_SECS;
        (in_time && !claims.audit.is_empty()).then_some(claims)
    }
}

/// The keys of all tokens that are good here.
pub(crate) struct TokenKeys {
    provider: TokenProvider,
    fernet: KeyRing,
    /// Opened where it is the provider, or was: its directory exists.
    jws: Option<Ring<Es256>>,
}

impl TokenKeys {
    pub(crate) fn open(config: &Config) -> Result<Self, IdentityError> {
        let provider = config.token_provider;
        let wanted = provider == TokenProvider::Jws || config.jws_keys.is_dir();
        let jws = if wanted { Some(Ring::open(&config.jws_keys)?) } else { None };
        if provider == TokenProvider::Jws && jws.as_ref().is_some_and(|j| j.keys().signing().is_none()) {
            let dir = config.jws_keys.display().to_string();
            return Err(IdentityError::BadKey(dir, "it holds no private key to sign tokens with"));
        }
        Ok(TokenKeys { provider, fernet: Ring::open(&config.token_keys)?, jws })
    }

    /// Rotates the provider's keys, see [`Ring::rotate`].
    pub(crate) fn rotate(&self, keep: usize, lifetime: Duration) -> Result<Rotated, IdentityError> {
        match &self.jws {
            Some(jws) if self.provider == TokenProvider::Jws => jws.rotate(keep, lifetime),
            _ => self.fernet.rotate(keep, lifetime),
        }
    }

    /// Replaces all keys: every token ends now.
    pub(crate) fn renew(&self) -> Result<Rotated, IdentityError> {
        let fernet = self.fernet.renew()?;
        match &self.jws {
            Some(jws) if self.provider == TokenProvider::Jws => jws.renew(),
            Some(jws) => jws.renew().map(|_| fernet),
            None => Ok(fernet),
        }
    }

    /// Counts the changes of the keys that this process has seen.
    pub(crate) fn version(&self) -> u64 {
        self.fernet.version() + self.jws.as_ref().map_or(0, Ring::version)
    }

    /// Encrypts what is not a token but travels like one, such as a receipt.
    pub(crate) fn encrypt(&self, plain: &[u8]) -> String {
        self.fernet.encrypt(plain)
    }

    pub(crate) fn decrypt(&self, text: &str) -> Option<Vec<u8>> {
        self.fernet.decrypt(text)
    }

    /// Signs whatever it is given as a token is signed; empty where tokens are not.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn sign_text(&self, header: &str, payload: &str) -> String {
        let header = |_: &str| header.to_owned();
        self.jws.as_ref().map_or_else(String::new, |jws| crate::jws::signed(header, payload, jws))
    }
}

/// A new audit id: 22 characters.
pub(crate) fn new_audit_id() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(now: Timestamp) -> Claims {
        Claims {
            user: state::new_hex_id(),
            methods: vec![Method::Password],
            target: Target::Project(state::new_hex_id()),
            expires: now.secs() + 60,
            issued: now,
            audit: vec![new_audit_id()],
            app_credential: None,
            federated: None,
        }
    }

    fn keys(dir: &tempfile::TempDir, token_provider: TokenProvider) -> TokenKeys {
        let (token_keys, jws_keys) = (dir.path().join("fernet"), dir.path().join("jws"));
        TokenKeys::open(&Config { token_keys, jws_keys, token_provider, ..Config::default() }).unwrap()
    }

    #[test]
    fn only_whole_tokens_of_our_keys_in_their_time() {
        for provider in [TokenProvider::Fernet, TokenProvider::Jws] {
            whole_tokens_of(provider);
        }
    }

    fn whole_tokens_of(provider: TokenProvider) {
        let dir = tempfile::tempdir().unwrap();
        let keys = keys(&dir, provider);
        let now = Timestamp::now();
        let c = claims(now);
        let token = c.encode(&keys);
        assert!(token.len() < 600 && !token.contains('='), "{}", token.len());
        assert_eq!(Claims::decode(&token, &keys, now, 0), Some(c.clone()));
        assert_eq!(Claims::decode(&token, &keys, Timestamp::from_secs(now.secs() + 60), 0), None);

        for cut in 0..token.len() {
            assert_eq!(Claims::decode(&token[..cut], &keys, now, 0), None, "cut at {cut}");
        }
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let flipped = String::from_utf8(bytes).unwrap();
            // The last character's unused bits may be anything.
            if at + 1 < token.len() {
                assert_eq!(Claims::decode(&flipped, &keys, now, 0), None, "flipped at {at}");
            }
        }
        let ahead =
            Claims { issued: Timestamp::from_secs(now.secs() + 3600), expires: now.secs() + 7200, ..c };
        assert_eq!(Claims::decode(&ahead.encode(&keys), &keys, now, 0), None, "from the future");
        for odd in ["", "é", "gAAAA", &"A".repeat(5000), "a b", "../etc/passwd", "..", "a.b.c", "."] {
            assert_eq!(Claims::decode(odd, &keys, now, 0), None, "{odd:.20}");
        }
        let other = tempfile::tempdir().unwrap();
        let other = self::keys(&other, provider);
        assert_eq!(Claims::decode(&token, &other, now, 0), None, "another key");
    }

    #[test]
    fn every_scope_survives_both_forms() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let id = state::new_hex_id;
        for provider in [TokenProvider::Fernet, TokenProvider::Jws] {
            let keys = keys(&dir, provider);
            for target in [
                Target::Unscoped,
                Target::System,
                Target::Domain(id()),
                Target::Project(id()),
                Target::Trust(id()),
            ] {
                for app_credential in [None, Some(id())] {
                    let federated = app_credential.as_ref().map(|_| Federated {
                        idp: "corp".into(),
                        protocol: "openid".into(),
                        groups: vec![id(), id()],
                    });
                    let c = Claims { target: target.clone(), app_credential, federated, ..claims(now) };
                    assert_eq!(Claims::decode(&c.encode(&keys), &keys, now, 0), Some(c));
                }
            }
        }
    }

    #[test]
    fn a_change_of_provider_ends_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let c = claims(now);
        let fernet = c.encode(&keys(&dir, TokenProvider::Fernet));
        let jws = c.encode(&keys(&dir, TokenProvider::Jws));
        assert_eq!((fernet.matches('.').count(), jws.matches('.').count()), (0, 2));
        for provider in [TokenProvider::Fernet, TokenProvider::Jws] {
            let keys = keys(&dir, provider);
            for token in [&fernet, &jws] {
                assert_eq!(Claims::decode(token, &keys, now, 0), Some(c.clone()));
            }
        }
    }

    #[test]
    fn the_payload_of_signed_json_is_upstreams() {
        let dir = tempfile::tempdir().unwrap();
        let keys = keys(&dir, TokenProvider::Jws);
        let c = claims(Timestamp::now());
        let token = c.encode(&keys);
        let parts: Vec<&str> = token.split('.').collect();
        let read = |part: &str| -> serde_json::Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        let (header, payload) = (read(parts[0]), read(parts[1]));
        assert_eq!((&header["alg"], &header["typ"]), (&"ES256".into(), &"JWT".into()));
        assert_eq!(payload["sub"], c.user);
        assert_eq!(payload["exp"], c.expires);
        assert_eq!(payload["openstack_methods"], serde_json::json!(["password"]));
        assert_eq!(payload["openstack_audit_ids"], serde_json::json!(c.audit));
        assert!(matches!(&c.target, Target::Project(id) if payload["openstack_project_id"] == **id));

        // A token that names another algorithm, or none, is none of ours.
        for alg in ["none", "HS256", "ES384"] {
            let forged = URL_SAFE_NO_PAD.encode(serde_json::json!({"typ": "JWT", "alg": alg}).to_string());
            for signature in ["", parts[2]] {
                let token = format!("{forged}.{}.{signature}", parts[1]);
                assert_eq!(Claims::decode(&token, &keys, Timestamp::now(), 0), None, "{alg}");
            }
        }
    }
}
