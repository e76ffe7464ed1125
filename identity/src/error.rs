//! What identity refuses, and why, in upstream's words. `http` turns it into a response in one place.

use state::StateError;
use std::io;

/// The reason is for the caller where it says so; sources are for the log only.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// 404. Upstream's sentence: `Could not find user: <id>.`
    #[error("Could not find {noun}: {id}.")]
    NotFound { noun: &'static str, id: String },
    /// 404 in other words.
    #[error("{0}")]
    Absent(String),
    /// 409.
    #[error("Conflict occurred attempting to store {noun} - {detail}.")]
    Conflict { noun: &'static str, detail: String },
    /// 400.
    #[error("{0}")]
    Invalid(String),
    /// 403.
    #[error("{0}")]
    Forbidden(String),
    /// 401. What the caller sees is the same for every reason; the log gets this one.
    #[error("authentication refused: {0}")]
    Unauthenticated(&'static str),
    /// 401 with a message that the caller may see.
    #[error("{0}")]
    Unauthorized(String),
    /// 503: too many passwords are waiting to be hashed.
    #[error("the server is too busy to check passwords; please try again")]
    Busy,
    /// 429: too many logins have failed.
    #[error("Too many logins have failed; please try again in {seconds} seconds.")]
    TooMany { seconds: u64 },
    /// 503: what others keep for us is out of reach; the text is for the caller.
    #[error("{0}")]
    Away(&'static str),
    /// 501.
    #[error("{0}")]
    NotBuilt(&'static str),
    #[error("database")]
    State(#[from] StateError),
    #[error("key repository {0}")]
    Keys(String, #[source] io::Error),
    #[error("key repository {0}: {1}")]
    BadKey(String, &'static str),
    #[error("policy")]
    Policy(#[from] api::policy::PolicyError),
    #[error("password hashing")]
    Hash(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("configuration: {0}")]
    Config(String),
    /// A refusal made by the shared HTTP layer, such as a schema check.
    #[error("{0}")]
    Api(#[from] api::Error),
}

impl From<sqlx::Error> for IdentityError {
    fn from(e: sqlx::Error) -> Self {
        IdentityError::State(e.into())
    }
}

impl From<serde_json::Error> for IdentityError {
    fn from(e: serde_json::Error) -> Self {
        IdentityError::State(e.into())
    }
}

impl IdentityError {
    pub(crate) fn not_found(noun: &'static str, id: &str) -> Self {
        IdentityError::NotFound { noun, id: id.chars().take(255).collect() }
    }
}
