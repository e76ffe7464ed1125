//! What the operator may set.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The `[identity]` table of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The token keys' directory: one file a key, named by number; 0 is staged, the highest signs. Made if absent.
    pub token_keys: PathBuf,
    /// The directory of the keys that encrypt stored credentials, laid out in the same way.
    pub credential_keys: PathBuf,
    /// A token is good for this many seconds.
    pub token_lifetime_seconds: u64,
    /// Keys that may exist at a time, the staged one included; a rotation removes the oldest beyond. A token stays
    /// valid as long as its key exists, so `(max_active_keys - 2) × rotation interval` should cover a lifetime.
    pub max_active_keys: usize,
    /// bcrypt's cost for passwords: each step doubles the work. 4 to 31.
    pub password_cost: u32,
    /// Passwords hashed at the same time, at most; 0 is one fewer than the processors.
    pub hashing_threads: usize,
    /// The most rows a listing returns; 0 is all.
    pub list_limit: usize,
    /// How deep projects may nest below their domain.
    pub max_project_depth: usize,
    /// A file of policy rules that replace the defaults, in oslo.policy's language.
    pub policy_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            token_keys: "/etc/aquifer/token-keys".into(),
            credential_keys: "/etc/aquifer/credential-keys".into(),
            token_lifetime_seconds: 3600,
            max_active_keys: 3,
            password_cost: 12,
            hashing_threads: 0,
            list_limit: 0,
            max_project_depth: 5,
            policy_file: None,
        }
    }
}
