//! What a token carries, and its form on the wire: Fernet without padding, as Keystone's clients know it.
//!
//! A token holds ids only. What those ids mean is looked up when it is validated, so that a role taken away or
//! a project disabled takes effect at once.

use crate::keys::KeyRing;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use state::Timestamp;

/// Longer texts are no tokens of ours.
const MAX_LEN: usize = 2048;
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
}

impl Method {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::Password => "password",
            Method::Token => "token",
            Method::AppCredential => "application_credential",
            Method::Ec2 => "ec2credential",
        }
    }
}

impl Claims {
    pub(crate) fn expires_at(&self) -> Timestamp {
        Timestamp::from_secs(self.expires)
    }

    pub(crate) fn encode(&self, keys: &KeyRing) -> String {
        // Plain data: it always serialises.
        let plain = serde_json::to_vec(self).unwrap_or_default();
        keys.encrypt(&plain).trim_end_matches('=').to_owned()
    }

    /// The claims of a token that one of our keys has made and that has not expired, or so many seconds ago at most.
    pub(crate) fn decode(token: &str, keys: &KeyRing, now: Timestamp, late: i64) -> Option<Claims> {
        if token.len() > MAX_LEN || !token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b)) {
            return None;
        }
        let bare = token.trim_end_matches('=');
        let padded = format!("{bare}{}", "=".repeat((4 - bare.len() % 4) % 4));
        let claims: Claims = serde_json::from_slice(&keys.decrypt(&padded)?).ok()?;
        let in_time = now.secs() < claims.expires.saturating_add(late)
            && claims.issued.secs() <= now.secs() + SKEW_SECS;
        (in_time && !claims.audit.is_empty()).then_some(claims)
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
        }
    }

    #[test]
    fn only_whole_tokens_of_our_keys_in_their_time() {
        let dir = tempfile::tempdir().unwrap();
        let keys = KeyRing::open(dir.path()).unwrap();
        let now = Timestamp::now();
        let c = claims(now);
        let token = c.encode(&keys);
        assert!(token.len() < 400 && !token.contains('='), "{}", token.len());
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
        for odd in ["", "é", "gAAAA", &"A".repeat(5000), "a b", "../etc/passwd"] {
            assert_eq!(Claims::decode(odd, &keys, now, 0), None, "{odd:.20}");
        }
        let other = tempfile::tempdir().unwrap();
        assert_eq!(
            Claims::decode(&token, &KeyRing::open(other.path()).unwrap(), now, 0),
            None,
            "another key"
        );
    }
}
