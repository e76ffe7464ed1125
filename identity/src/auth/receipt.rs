//! Receipts: what a user has proved so far of a login by several methods.
//!
//! A receipt is a sealed [`Proof`], so whatever limits a first method had, such as the end of the token that was
//! shown or the project of an application credential, still hold when the second completes it.

use super::{Issued, Proof, TokenBody};
use crate::subject::Subject;
use crate::token::{Method, Target};
use crate::{Identity, IdentityError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use state::Timestamp;

/// Longer texts are no receipts of ours.
const MAX_LEN: usize = 2048;

/// The names are none of a token's, so that neither passes for the other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Receipt {
    receipt_of: String,
    methods: Vec<Method>,
    issued: Timestamp,
    /// Whole seconds.
    good_until: i64,
    token_expires: Option<i64>,
    chain: Option<String>,
    app_credential: Option<String>,
    bound: Option<Target>,
}

impl Identity {
    pub(super) fn receipt(&self, proof: &Proof, user: &Subject) -> Issued {
        let now = Timestamp::now();
        let lifetime = i64::try_from(self.config.receipt_lifetime_seconds).unwrap_or(i64::MAX / 4_000_000);
        let receipt = Receipt {
            receipt_of: proof.user.clone(),
            methods: proof.methods.clone(),
            issued: now,
            good_until: now.secs().saturating_add(lifetime),
            token_expires: proof.expires,
            chain: proof.chain.clone(),
            app_credential: proof.app_credential.clone(),
            bound: proof.bound.clone(),
        };
        let who = &user.user;
        let body = json!({
            "receipt": {
                "methods": proof.methods.iter().map(|m| m.name()).collect::<Vec<_>>(),
                "user": {"id": who.id, "name": who.name,
                    "domain": {"id": who.domain.id, "name": who.domain.name}},
                "expires_at": Timestamp::from_secs(receipt.good_until).micros_z(),
                "issued_at": now.micros_z(),
            },
            "required_auth_methods": user.mfa.begun(&proof.methods),
        });
        // Plain data: it always serialises.
        let plain = serde_json::to_vec(&receipt).unwrap_or_default();
        Issued { token: self.token_keys.encrypt(&plain), body: TokenBody::plain(body) }
    }

    /// What the bearer of a receipt has proved. Whether it is for the user at hand is for [`super::methods::both`].
    pub(super) fn received(&self, text: &str) -> Result<Proof, IdentityError> {
        let refused = IdentityError::Unauthenticated("not a receipt of ours, or it has expired");
        if text.len() > MAX_LEN {
            return Err(refused);
        }
        let plain = self.token_keys.decrypt(text);
        let found = plain.and_then(|p| serde_json::from_slice::<Receipt>(&p).ok());
        let now = Timestamp::now();
        let found = found.filter(|r| now.secs() < r.good_until).ok_or(refused)?;
        Ok(Proof {
            user: found.receipt_of,
            methods: found.methods,
            expires: found.token_expires,
            chain: found.chain,
            app_credential: found.app_credential,
            bound: found.bound,
            federated: None,
        })
    }
}
