//! Authentication: a request proves who it is by one or more methods, asks for a scope, and gets a token.

mod limit;
mod methods;
mod mfa;
mod receipt;
mod request;
mod scope;
mod totp;
mod view;

pub(crate) use limit::Limiter;
pub use limit::LoginLimit;
pub(crate) use methods::plain;
pub(crate) use mfa::Rules;
pub(crate) use request::{Asked, AuthBody, expected};
pub(crate) use view::TokenBody;

use crate::subject::{Subject, SubjectKey, Validated};
use crate::token::{Claims, Federated, Method, Target, new_audit_id};
use crate::{Identity, IdentityError};
use serde_json::Value;
use state::Timestamp;
use std::net::IpAddr;
use std::sync::Arc;

/// Who a request has shown to be, and what that allows.
#[derive(Debug)]
pub(crate) struct Proof {
    pub(crate) user: String,
    pub(crate) methods: Vec<Method>,
    /// A token made from a token ends with it.
    pub(crate) expires: Option<i64>,
    /// The audit id that the new token's chain begins with.
    pub(crate) chain: Option<String>,
    pub(crate) app_credential: Option<String>,
    /// The only scope that may be asked for.
    pub(crate) bound: Option<Target>,
    /// Who has vouched for the user, where that is not this cloud.
    pub(crate) federated: Option<Federated>,
}

/// A new token.
pub(crate) struct Issued {
    /// For the `X-Subject-Token` header.
    pub(crate) token: String,
    pub(crate) body: TokenBody,
}

/// What a login comes to.
pub(crate) enum Outcome {
    Token(Issued),
    /// The user must also prove itself in another way, and show this then.
    Receipt(Issued),
}

impl Outcome {
    /// All of the answer's body but the catalogue.
    pub(crate) fn body(&self) -> &Value {
        let (Outcome::Token(issued) | Outcome::Receipt(issued)) = self;
        &issued.body.value
    }
}

/// How a login reached us.
#[derive(Debug, Default)]
pub(crate) struct Entrance<'a> {
    pub(crate) from: Option<IpAddr>,
    pub(crate) receipt: Option<&'a str>,
    pub(crate) catalogue: bool,
}

impl Identity {
    /// What `POST /v3/auth/tokens` answers.
    pub(crate) async fn authenticate(
        &self,
        body: AuthBody,
        entrance: &Entrance<'_>,
    ) -> Result<Outcome, IdentityError> {
        let (identity, scope) = body.into_parts()?;
        self.facts.fresh(&self.db).await?;
        let mut proof = self.prove(entrance.from, &identity, &scope).await?;
        if let Some(text) = entrance.receipt {
            proof = methods::both(proof, self.received(text)?)?;
        }
        self.admit(proof, scope, entrance).await
    }

    /// Gives a token with this scope to who has proved enough.
    pub(crate) async fn admit(
        &self,
        proof: Proof,
        scope: Asked,
        entrance: &Entrance<'_>,
    ) -> Result<Outcome, IdentityError> {
        let user = self.subject(SubjectKey::plain(proof.user.clone(), Target::Unscoped)).await?;
        if !user.mfa.allow(&proof.methods) {
            return Ok(Outcome::Receipt(self.receipt(&proof, &user)));
        }
        let target = self.target(&proof, scope).await?;
        let issued = self.issue(proof, target, entrance.catalogue).await?;
        self.note_activity(&user.user.id).await?;
        Ok(Outcome::Token(issued))
    }

    /// Makes the token, if the user may have that scope.
    async fn issue(&self, proof: Proof, target: Target, catalogue: bool) -> Result<Issued, IdentityError> {
        let user = self.bearer(&proof, &target).await?;
        self.issue_to(user, proof, target, catalogue).await
    }

    /// The token of a checked signature: its key says whose it is, also under a trust.
    pub(crate) async fn issue_signed(&self, proof: Proof, target: Target) -> Result<Issued, IdentityError> {
        let user = proof.user.clone();
        self.issue_to(user, proof, target, true).await
    }

    async fn issue_to(
        &self,
        user: String,
        proof: Proof,
        target: Target,
        catalogue: bool,
    ) -> Result<Issued, IdentityError> {
        let groups = proof.federated.as_ref().map(|f| f.groups.clone()).unwrap_or_default();
        let app_credential = proof.app_credential.clone();
        let key = SubjectKey { user, target: target.clone(), app_credential, groups };
        let subject = self.subject(key.clone()).await?;
        let now = Timestamp::now();
        if now >= subject.valid_until {
            return Err(IdentityError::Unauthenticated("the trust or application credential has expired"));
        }
        let lifetime = i64::try_from(self.config.token_lifetime_seconds).unwrap_or(i64::MAX / 4_000_000);
        let expires = proof.expires.unwrap_or(now.secs() + lifetime).min(subject.valid_until.secs());
        let audit = [Some(new_audit_id()), proof.chain].into_iter().flatten().collect();
        let claims = Claims {
            user: key.user,
            methods: proof.methods,
            target,
            expires,
            issued: now,
            audit,
            app_credential: proof.app_credential,
            federated: proof.federated,
        };
        if let Target::Trust(id) = &claims.target {
            self.use_trust(id).await?;
        }
        let body = self.token_body(&claims, &subject, catalogue).await?;
        Ok(Issued { token: claims.encode(&self.token_keys), body })
    }

    /// Whose the token will be: with a trust that impersonates, the trustor's.
    async fn bearer(&self, proof: &Proof, target: &Target) -> Result<String, IdentityError> {
        match target {
            Target::Trust(id) => self.trust_bearer(id, &proof.user).await,
            _ => Ok(proof.user.clone()),
        }
    }

    /// The body of `GET /v3/auth/tokens`.
    pub(crate) async fn token_body(
        &self,
        claims: &Claims,
        subject: &Subject,
        catalogue: bool,
    ) -> Result<TokenBody, IdentityError> {
        let catalogue = match &claims.target {
            Target::Unscoped => None,
            _ if !catalogue => None,
            _ => Some(self.catalogue_for(subject).await?),
        };
        let whole = self.whole_catalogue(self.facts.now()).await?;
        Ok(TokenBody::token(view::token(claims, subject, &whole.service_providers), catalogue))
    }

    /// Another token, named by a caller: 404 where it is not good.
    pub(crate) async fn subject_token(
        &self,
        token: &str,
        late: bool,
    ) -> Result<Arc<Validated>, IdentityError> {
        let found = if late { self.validated_late(token).await } else { self.validated(token).await };
        match found {
            Err(IdentityError::Unauthenticated(_)) => {
                Err(IdentityError::Absent("Could not find token: the token is not valid.".into()))
            }
            other => other,
        }
    }
}
