//! From the scope a request names to the one its token gets.

use super::Proof;
use super::request::Asked;
use crate::store::record::Fields;
use crate::store::subjects::{self, DomainBy};
use crate::subject::SubjectKey;
use crate::token::Target;
use crate::{Identity, IdentityError};

const REFUSED: fn(&'static str) -> IdentityError = IdentityError::Unauthenticated;

impl Identity {
    pub(super) async fn target(&self, proof: &Proof, asked: Asked) -> Result<Target, IdentityError> {
        if let Some(bound) = &proof.bound {
            return self.bound(bound, asked).await;
        }
        match asked {
            Asked::Default => self.default_target(proof).await,
            other => self.named_target(other).await,
        }
    }

    async fn named_target(&self, asked: Asked) -> Result<Target, IdentityError> {
        Ok(match asked {
            Asked::Default | Asked::Unscoped => Target::Unscoped,
            Asked::System => Target::System,
            Asked::Trust(id) => Target::Trust(id),
            Asked::ProjectId(id) => Target::Project(id),
            Asked::ProjectName(name, domain) => Target::Project(self.project_by_name((name, domain)).await?),
            Asked::Domain(by) => {
                let found = subjects::domain(self.db.read(), &by).await?;
                Target::Domain(found.ok_or(REFUSED("no such domain"))?.id)
            }
        })
    }

    async fn project_by_name(&self, named: (String, DomainBy)) -> Result<String, IdentityError> {
        let began = self.facts.now();
        if let Some(known) = self.facts.project_named(&named) {
            return Ok(known);
        }
        let found = subjects::project_by_name(self.db.read(), &named.0, &named.1).await?;
        let id = found.ok_or(REFUSED("no such project"))?.id;
        self.facts.keep_project_named(began, named, &id);
        Ok(id)
    }

    /// An application credential's project is the only scope it knows.
    async fn bound(&self, bound: &Target, asked: Asked) -> Result<Target, IdentityError> {
        let wanted = match asked {
            Asked::Default => return Ok(bound.clone()),
            other => self.named_target(other).await?,
        };
        if wanted == *bound {
            return Ok(wanted);
        }
        Err(IdentityError::Unauthorized("Application credentials cannot request a scope.".into()))
    }

    /// The user's default project where it is good for a scope; else none.
    async fn default_target(&self, proof: &Proof) -> Result<Target, IdentityError> {
        let user = subjects::user_by_id(self.db.read(), &proof.user).await?;
        let Some(project) = user.and_then(|u| u.default_project_id) else { return Ok(Target::Unscoped) };
        let target = Target::Project(project);
        let key = SubjectKey::plain(proof.user.clone(), target.clone());
        match self.subject(key).await {
            Ok(_) => Ok(target),
            Err(IdentityError::Unauthenticated(_)) => Ok(Target::Unscoped),
            Err(e) => Err(e),
        }
    }

    /// Who a trust's token stands for, when this user asks for one.
    pub(super) async fn trust_bearer(&self, id: &str, user: &str) -> Result<String, IdentityError> {
        let trust = match self.living_trust(id).await {
            // As upstream: who names a trust that is gone is told no more than that the login failed.
            Err(IdentityError::Unauthenticated(_)) => return Err(REFUSED("the trust is gone")),
            other => other?,
        };
        if trust.text("trustee_user_id") != user {
            return Err(IdentityError::Forbidden("The user is not the trustee.".into()));
        }
        let bearer = if trust.flag("impersonation") { "trustor_user_id" } else { "trustee_user_id" };
        Ok(trust.text(bearer).to_owned())
    }
}
