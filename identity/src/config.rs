//! What the operator may set.

use crate::auth::LoginLimit;
use crate::compliance::SecurityCompliance;
use crate::federation::Federation;
use crate::password::PasswordAlgorithm;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The `[identity]` table of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The token keys' directory: one file a key, named by number; 0 is staged, the highest signs. Made if absent.
    pub token_keys: PathBuf,
    /// The form of new tokens; those of the other form stay good while their keys are there.
    pub token_provider: TokenProvider,
    /// The directory of the keys that sign tokens where `token_provider` is `jws`: PKCS#8 private keys of P-256 in PEM,
    /// laid out like the token keys, and files `NAME.pub` with public keys of others whose tokens are good here too.
    pub jws_keys: PathBuf,
    /// The directory of the keys that encrypt stored credentials, laid out in the same way.
    pub credential_keys: PathBuf,
    /// A token is good for this many seconds.
    pub token_lifetime_seconds: u64,
    /// Keys to keep at a time, the staged one included. A rotation removes the oldest beyond, but never one whose
    /// tokens may still live: a token ends with its lifetime, not with its key.
    pub max_active_keys: usize,
    /// How new passwords are hashed: `bcrypt`, `bcrypt_sha256`, `scrypt` or `pbkdf2_sha512`. Those of every kind are
    /// good. bcrypt sees 72 bytes: a longer password is hashed by `bcrypt_sha256` then, so that every byte counts.
    pub password_hash_algorithm: PasswordAlgorithm,
    /// The cost: for bcrypt (4 to 31) and scrypt (1 to 24) each step doubles the work, for pbkdf2 it is the number of
    /// rounds. 0 is the algorithm's default: 12, 16, 25000.
    pub password_hash_rounds: u32,
    /// scrypt's block size and parallelism. One hash takes 128 × 2^rounds × block size bytes, by default 64 MiB.
    pub scrypt_block_size: u32,
    pub scrypt_parallelism: u32,
    /// Passwords hashed at the same time, at most; 0 is one for every processor. Hashing gives way to other work.
    pub hashing_threads: usize,
    /// Whether a token for a project or domain can be exchanged for one with another scope.
    pub allow_rescope_scoped_token: bool,
    /// A passcode (TOTP) is good in its own 30 seconds and in so many more after them. 0 to 10.
    pub totp_previous_windows: u32,
    /// A passcode is good once.
    pub totp_once: bool,
    /// After its first method, a login by several must be completed within this many seconds.
    pub receipt_lifetime_seconds: u64,
    /// How strong passwords must be, how long they last, and when accounts are closed.
    pub security_compliance: SecurityCompliance,
    /// How often logins may fail.
    pub login_limit: LoginLimit,
    /// Logins through providers of identities.
    pub federation: Federation,
    /// What was read of a user or group in an LDAP directory is believed for so long: whoever is gone or disabled there
    /// is refused then. At least 1.
    pub directory_age_seconds: u64,
    /// The most rows a listing returns; 0 is all.
    pub list_limit: usize,
    /// How deep projects may nest below their domain.
    pub max_project_depth: usize,
    /// How the limits of projects stand to each other.
    pub limit_model: LimitModel,
    /// A file of policy rules that replace the defaults, in oslo.policy's language. It is read again when it changes.
    pub policy_file: Option<PathBuf>,
}

/// Upstream's models of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitModel {
    /// Every project's limit is its own.
    Flat,
    /// Projects stand directly below their domain, and none has a higher limit than its domain.
    StrictTwoLevel,
}

/// The form of tokens on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenProvider {
    /// Encrypted, and read by this cloud alone.
    Fernet,
    /// Signed JSON (ES256), to be checked by whoever has the public key.
    Jws,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            token_keys: "/etc/aquifer/token-keys".into(),
            token_provider: TokenProvider::Fernet,
            jws_keys: "/etc/aquifer/jws-keys".into(),
            credential_keys: "/etc/aquifer/credential-keys".into(),
            token_lifetime_seconds: 3600,
            max_active_keys: 3,
            password_hash_algorithm: PasswordAlgorithm::Bcrypt,
            password_hash_rounds: 0,
            scrypt_block_size: 8,
            scrypt_parallelism: 1,
            hashing_threads: 0,
            allow_rescope_scoped_token: true,
            totp_previous_windows: 1,
            totp_once: true,
            receipt_lifetime_seconds: 300,
            security_compliance: SecurityCompliance::default(),
            login_limit: LoginLimit::default(),
            federation: Federation::default(),
            directory_age_seconds: 60,
            list_limit: 0,
            max_project_depth: 5,
            limit_model: LimitModel::Flat,
            policy_file: None,
        }
    }
}
