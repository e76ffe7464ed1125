//! Keystone v3: who exists, who may do what where, and the tokens that say so.
//!
//! Other services see three things of it: [`api::TokenValidator`] (what a token says, without a database round
//! trip while nothing changes), the look-ups of [`Identity`] (names for views, secrets for S3 signatures), and
//! [`Identity::bootstrap`] with its `ensure_…` kin, which `aquifer up` uses.

mod access;
mod app_credentials;
mod audit;
mod auth;
mod bootstrap;
mod caller;
mod catalogue;
mod catalogue_rules;
mod compliance;
mod config;
mod credential_keys;
mod credentials;
mod documents;
mod domain_config;
mod domains;
mod ec2;
mod endpoint_filter;
mod endpoint_policy;
mod error;
mod facts;
mod federation;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod grants;
mod groups;
mod http;
mod input;
mod jws;
mod keys;
mod ldap;
mod limit_model;
mod limits;
mod listing;
mod logins;
mod neighbours;
mod pages;
mod password;
mod policies;
mod projects;
mod revocation;
mod role_rules;
mod roles;
mod service;
mod store;
mod subject;
mod token;
mod trusts;
mod users;

pub use auth::LoginLimit;
pub use bootstrap::{Bootstrap, CatalogueEntry};
pub use caller::ScopeOf;
pub use compliance::SecurityCompliance;
pub use config::{Config, LimitModel, TokenProvider};
pub use error::IdentityError;
pub use federation::{Federation, OidcProvider};
pub use http::{router, routes};
pub use keys::Rotated;
pub use password::PasswordAlgorithm;
pub use policies::policy;
pub use revocation::Revoke;
pub use service::{Identity, S3Credential};

/// Identity's tables.
pub const MIGRATIONS: state::Migrations = state::Migrations {
    service: "identity",
    steps: &[
        ("0001_identity", include_str!("../migrations/0001_identity.sql")),
        ("0002_revocations", include_str!("../migrations/0002_revocations.sql")),
        ("0003_passwords", include_str!("../migrations/0003_passwords.sql")),
        ("0004_indexes", include_str!("../migrations/0004_indexes.sql")),
        ("0005_federation", include_str!("../migrations/0005_federation.sql")),
        ("0006_revision", include_str!("../migrations/0006_revision.sql")),
        ("0007_policy_associations", include_str!("../migrations/0007_policy_associations.sql")),
    ],
};
