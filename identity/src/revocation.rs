//! Refusing tokens that say nothing untrue: one, its chain, or all that name a user, project, domain, role, trust or
//! application credential and were issued so far.
//!
//! What is disabled, deleted or taken away needs no revocation: a token's ids are looked up, and what is gone is not
//! found. A revocation is a change like any other, so it ends what every process remembers ([`crate::facts`]).

use crate::store::revocations::{self, By, Revocation};
use crate::subject::{LATE_SECS, Subject};
use crate::token::Claims;
use crate::{Identity, IdentityError};
use api::{Context, Scope};
use serde_json::{Value, json};
use state::{Timestamp, Tx};

/// Whose tokens [`Identity::revoke_tokens_of`] ends; each by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoke {
    User(String),
    Project(String),
    /// Tokens for the domain, for its projects and of its users.
    Domain(String),
    /// Tokens that hold the role, implied or not.
    Role(String),
    Trust(String),
    AppCredential(String),
    /// The audit id of a token: it, and all that were made from it if it is the first of its chain.
    Chain(String),
}

impl Identity {
    /// Refuses this one token from now on.
    pub(crate) async fn revoke(&self, claims: &Claims) -> Result<(), IdentityError> {
        let mut change = self.begin().await?;
        self.add_revocation(&mut change, By::Token, &claims.audit[0]).await?;
        change.commit().await
    }

    /// Ends all tokens issued so far that name this. New ones are good.
    pub async fn revoke_tokens_of(&self, what: &Revoke) -> Result<(), IdentityError> {
        let (by, id) = match what {
            Revoke::User(id) => (By::User, id),
            Revoke::Project(id) => (By::Project, id),
            Revoke::Domain(id) => (By::Domain, id),
            Revoke::Role(id) => (By::Role, id),
            Revoke::Trust(id) => (By::Trust, id),
            Revoke::AppCredential(id) => (By::AppCredential, id),
            Revoke::Chain(id) => (By::Chain, id),
        };
        let mut change = self.begin().await?;
        self.add_revocation(&mut change, by, id).await?;
        change.commit().await
    }

    /// A part of a change that ends tokens.
    pub(crate) async fn add_revocation(&self, tx: &mut Tx, by: By, id: &str) -> Result<(), IdentityError> {
        let lifetime = i64::try_from(self.config.token_lifetime_seconds).unwrap_or(i64::MAX);
        let now = Timestamp::now();
        let last = now.secs().saturating_add(lifetime).saturating_add(LATE_SECS).min(i64::MAX / 1_000_000);
        let forget_at = Timestamp::from_secs(last);
        revocations::add(tx, &Revocation { by, id: id.to_owned(), issued_before: now, forget_at }).await
    }

    pub(crate) async fn is_revoked(&self, claims: &Claims, subject: &Subject) -> Result<bool, IdentityError> {
        let (own, chain) = (&claims.audit[0], claims.audit.last().unwrap_or(&claims.audit[0]));
        let mut named = vec![(By::Token, own.as_str()), (By::Chain, chain), (By::User, &claims.user)];
        named.push((By::Domain, &subject.user.domain.id));
        match &subject.scope {
            Scope::Project(p) => named.extend([(By::Project, p.id.as_str()), (By::Domain, &p.domain.id)]),
            Scope::Domain(d) => named.push((By::Domain, &d.id)),
            Scope::System | Scope::Unscoped => {}
        }
        named.extend(subject.roles.iter().map(|r| (By::Role, r.id.as_str())));
        if let crate::token::Target::Trust(id) = &claims.target {
            named.push((By::Trust, id));
        }
        if let Some(id) = &claims.app_credential {
            named.push((By::AppCredential, id));
        }
        let mut ids: Vec<&str> = named.iter().map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let found = revocations::of(self.db.read(), &ids).await?;
        Ok(found.iter().any(|r| {
            // A token is revoked by its id whenever that was; all others leave newer tokens alone.
            let meant = named.iter().any(|(by, id)| *by == r.by && *id == r.id);
            meant && (r.by == By::Token || claims.issued < r.issued_before)
        }))
    }

    /// `GET /v3/OS-REVOKE/events`: for services that check tokens offline.
    pub(crate) async fn revocation_events(
        &self,
        ctx: &Context,
        since: Option<&str>,
    ) -> Result<Vec<Value>, IdentityError> {
        self.enforce(ctx, "identity:list_revoke_events", &[])?;
        let then = match since {
            Some(text) => Timestamp::parse(text)
                .ok_or_else(|| IdentityError::Invalid(format!("invalid date format {text}")))?,
            None => Timestamp(0),
        };
        Ok(revocations::since(self.db.read(), then).await?.iter().map(event).collect())
    }
}

fn event(r: &Revocation) -> Value {
    let name = match r.by {
        By::Token => "audit_id",
        By::Chain => "audit_chain_id",
        By::User => "user_id",
        By::Project => "project_id",
        By::Domain => "domain_id",
        By::Role => "role_id",
        By::Trust => "OS-TRUST:trust_id",
        By::AppCredential => "application_credential_id",
    };
    let at = r.issued_before.micros_z();
    json!({name: r.id, "issued_before": at, "revoked_at": at})
}
