//! Federation: users whom providers of identities vouch for.
//!
//! In upstream a web server's module checks what a provider says and hands it over in variables. Here this cloud checks it
//! itself ([`provider`], [`jwt`]); from there on all is upstream's: what was said becomes attributes, the mapping
//! ([`mapping`]) makes a user, groups and projects of them, and a token says who vouched. A federated user is a row among
//! the users, kept apart by its `source`, with a password never and under an id that follows from where it comes from.

mod attributes;
mod browser;
mod config;
mod jwt;
mod login;
mod mapping;
mod provider;
mod resources;
mod shadow;
mod ties;
mod web;

pub(crate) use browser::{Ended, LIFETIME_SECS};
pub use config::{Federation, OidcProvider};
pub(crate) use provider::Providers;
pub(crate) use resources::{Federal, forget_domain};
pub(crate) use shadow::public_id;
pub(crate) use ties::{set_ties, take_ties, ties_schema};

use crate::store::IDENTITY_PROVIDER;
use crate::store::federation;
use crate::store::record::Fields;
use crate::store::subjects::UserRow;
use crate::subject::SubjectKey;
use crate::token::{Federated, Target};
use crate::{Identity, IdentityError};
use api::{Context, RoleRef};
use state::{Timestamp, Tx};

pub(crate) async fn forget_user(tx: &mut Tx, id: &str) -> Result<(), IdentityError> {
    federation::forget_user(tx, id).await
}

impl Identity {
    /// What a token says of its provider is good for as long as the provider is.
    pub(crate) async fn check_vouched(&self, by: &Federated) -> Result<(), IdentityError> {
        let provider = IDENTITY_PROVIDER.get(self.db.read(), &by.idp).await?;
        let protocol = federation::protocol_of(self.db.read(), &by.idp, &by.protocol).await?;
        match provider.is_some_and(|p| p.flag("enabled")) && protocol.is_some() {
            true => Ok(()),
            false => Err(IdentityError::Unauthenticated("the identity provider is disabled or gone")),
        }
    }

    /// The caller's roles but for those of groups that only its token carries: they are not its own to pass on.
    pub(crate) async fn lasting_roles(&self, ctx: &Context) -> Result<Vec<RoleRef>, IdentityError> {
        let token = self.validated(&ctx.token.0).await?;
        let passing = token.claims.federated.as_ref().is_some_and(|f| !f.groups.is_empty());
        if !passing || !matches!(token.claims.target, Target::Project(_)) {
            return Ok(ctx.roles.clone());
        }
        let key = SubjectKey::plain(ctx.user.id.clone(), token.claims.target.clone());
        match self.subject(key).await {
            Ok(without) => Ok(without.roles.clone()),
            Err(IdentityError::Unauthenticated(_)) => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    /// When what is known of a user must be looked at again because it ends by itself or is kept elsewhere.
    pub(crate) async fn look_again(&self, user: &UserRow) -> Result<Timestamp, IdentityError> {
        let now = Timestamp::now();
        let vouched = federation::vouched(self.db.read(), &user.id, None).await?;
        let ends = vouched.iter().map(|v| v.expires_at).filter(|t| *t > now).min();
        let ends = ends.unwrap_or(Timestamp(i64::MAX));
        Ok(match user.source == crate::ldap::SOURCE {
            true => ends.min(self.directories.due(&user.id)),
            false => ends,
        })
    }
}
