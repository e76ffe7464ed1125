//! What a token of a user would say, without a token: for explaining what the user may do.

use crate::store::subjects::{self, DomainBy};
use crate::subject::SubjectKey;
use crate::token::Target;
use crate::{Identity, IdentityError};
use api::{Caller, Secret};
use state::Timestamp;
use std::sync::Arc;

/// The scope of a token that a user might have; everything is named by its id or its name.
#[derive(Debug, Clone, Copy)]
pub enum ScopeOf<'a> {
    Unscoped,
    Project { project: &'a str, domain: &'a str },
    Domain(&'a str),
    System,
}

impl Identity {
    /// What a token of this user with this scope would say, or why there could be none.
    pub async fn caller_of(
        &self,
        user: &str,
        domain: &str,
        scope: ScopeOf<'_>,
    ) -> Result<Arc<Caller>, IdentityError> {
        let found = match subjects::user_by_id(self.db.read(), user).await? {
            Some(found) => found,
            None => {
                let domain = DomainBy::Id(self.domain_named(domain).await?);
                let named = self.user_named(user, &domain).await?;
                named.ok_or_else(|| IdentityError::not_found("user", user))?
            }
        };
        let target = match scope {
            ScopeOf::Unscoped => Target::Unscoped,
            ScopeOf::System => Target::System,
            ScopeOf::Domain(domain) => Target::Domain(self.domain_named(domain).await?),
            ScopeOf::Project { project, domain } => {
                Target::Project(self.project_named(project, domain).await?)
            }
        };
        self.facts.fresh(&self.db).await?;
        let subject = self.subject(SubjectKey::plain(found.id, target)).await?;
        Ok(Arc::new(Caller {
            user: subject.user.clone(),
            scope: subject.scope.clone(),
            roles: subject.roles.clone(),
            expires_at: Timestamp(i64::MAX),
            audit_ids: Vec::new(),
            token: Secret(String::new()),
        }))
    }

    async fn domain_named(&self, domain: &str) -> Result<String, IdentityError> {
        for by in [DomainBy::Id(domain.to_owned()), DomainBy::Name(domain.to_owned())] {
            if let Some(found) = subjects::domain(self.db.read(), &by).await? {
                return Ok(found.id);
            }
        }
        Err(IdentityError::not_found("domain", domain))
    }

    async fn project_named(&self, project: &str, domain: &str) -> Result<String, IdentityError> {
        if let Some(found) = subjects::project_by_id(self.db.read(), project).await? {
            return Ok(found.id);
        }
        let domain = DomainBy::Id(self.domain_named(domain).await?);
        let found = subjects::project_by_name(self.db.read(), project, &domain).await?;
        found.map(|p| p.id).ok_or_else(|| IdentityError::not_found("project", project))
    }
}
