//! Tokens as strangers send them, as a function over bytes that panics where the reader breaks its word: a target below
//! `fuzz/` calls it, and every test run feeds it noise and damaged samples.

use crate::token::{Claims, Method, Target, TokenKeys};
use crate::{Config, TokenProvider};
use state::Timestamp;
use std::sync::LazyLock;

/// Keys of this process, for both forms.
static KEYS: LazyLock<Option<TokenKeys>> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("aquifer-fuzzing-{}", std::process::id()));
    let (token_keys, jws_keys) = (dir.join("fernet"), dir.join("jws"));
    TokenKeys::open(&Config { token_keys, jws_keys, token_provider: TokenProvider::Jws, ..Config::default() })
        .ok()
});

const NOW: i64 = 1_800_000_000;

fn claims() -> Claims {
    Claims {
        user: "u".repeat(32),
        methods: vec![Method::Password],
        target: Target::Project("p".repeat(32)),
        expires: NOW + 60,
        issued: Timestamp::from_secs(NOW),
        audit: vec!["a".repeat(22)],
        app_credential: None,
        federated: None,
    }
}

/// Behind the first byte: a token as it is; what our own keys have sealed or signed; or damage to a good token, as pairs
/// of a place and a byte.
pub fn tokens(data: &[u8]) {
    let (Some(keys), Some((kind, rest))) = (KEYS.as_ref(), data.split_first()) else { return };
    let read = |token: &str| Claims::decode(token, keys, Timestamp::from_secs(NOW), 0);
    match kind % 4 {
        0 => assert_eq!(read(&String::from_utf8_lossy(rest)), None, "a token of nobody's"),
        1 => {
            let _ = read(&keys.encrypt(rest));
        }
        2 => {
            let text = String::from_utf8_lossy(rest);
            let (header, payload) = text.split_once('\n').unwrap_or(("{\"alg\": \"ES256\"}", &text));
            let _ = read(&keys.sign_text(header, payload));
        }
        _ => {
            let whole = claims();
            let mut token = whole.encode(keys).into_bytes();
            for change in rest.chunks_exact(2) {
                let at = usize::from(change[0]) * 3 % token.len();
                token[at] = change[1];
            }
            // What says another thing than what was signed is nothing.
            let found = read(&String::from_utf8_lossy(&token));
            assert!(found.is_none_or(|found| found == whole), "a damaged token is good");
        }
    }
}

/// What to begin with: the target's name and an input that is good, or nearly.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let fernet = serde_json::to_vec(&claims()).unwrap_or_default();
    let payload = "{\"alg\": \"ES256\"}\n{\"sub\": \"u\", \"iat\": 1800000000.5, \"exp\": 1800000060, \"openstack_methods\": \
        [\"password\"], \"openstack_audit_ids\": [\"a\"], \"openstack_project_id\": \"p\"}";
    vec![
        ("tokens", b"\0gAAAAABinvalid".to_vec()),
        ("tokens", b"\0eyJhbGciOiJFUzI1NiJ9.e30.c2ln".to_vec()),
        ("tokens", [b"\x01".as_slice(), &fernet].concat()),
        ("tokens", [b"\x02".as_slice(), payload.as_bytes()].concat()),
        ("tokens", b"\x03\x05A".to_vec()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn noise_and_damaged_samples(
            noise: Vec<u8>,
            kind in 0u8..4,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            tokens(&[&[kind], noise.as_slice()].concat());
            for (_, mut seed) in seeds() {
                for (at, byte) in &changes {
                    let at = at.index(seed.len() - 1) + 1;
                    seed[at] = *byte;
                }
                tokens(&seed);
            }
        }
    }
}
