//! Who asks, and for what scope: what a token says, as every rule sees it.

use crate::{Error, RequestId};
use axum::extract::FromRequestParts;
use http::request::Parts;
use state::Timestamp;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A string that never shows in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DomainRef {
    pub id: String,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserRef {
    pub id: String,
    pub name: String,
    pub domain: DomainRef,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProjectRef {
    pub id: String,
    pub name: String,
    pub domain: DomainRef,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRef {
    pub id: String,
    pub name: String,
}

/// What a token is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    Unscoped,
    Project(ProjectRef),
    Domain(DomainRef),
    System,
}

/// What a valid token says of its bearer. `roles` already holds the implied ones.
#[derive(Debug, Clone)]
pub struct Caller {
    pub user: UserRef,
    pub scope: Scope,
    pub roles: Vec<RoleRef>,
    pub expires_at: Timestamp,
    /// First the token's own audit id, then its parent's.
    pub audit_ids: Vec<String>,
    /// The token itself, for the calls that act on it.
    pub token: Secret,
}

impl Caller {
    pub fn has_role(&self, name: &str) -> bool {
        self.roles.iter().any(|r| r.name.eq_ignore_ascii_case(name))
    }

    pub fn is_admin(&self) -> bool {
        self.has_role("admin")
    }

    /// The project of a project-scoped token; what project APIs answer otherwise is a 403.
    pub fn project_id(&self) -> Result<&str, Error> {
        self.project()
            .map(|p| p.id.as_str())
            .ok_or_else(|| Error::forbidden("This needs a project-scoped token."))
    }

    pub fn project(&self) -> Option<&ProjectRef> {
        if let Scope::Project(p) = &self.scope { Some(p) } else { None }
    }

    pub fn domain_id(&self) -> Option<&str> {
        if let Scope::Domain(d) = &self.scope { Some(&d.id) } else { None }
    }
}

/// One request: its id and its caller. An extractor; cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    pub request_id: RequestId,
    pub caller: Arc<Caller>,
}

impl Context {
    pub fn new(request_id: RequestId, caller: Arc<Caller>) -> Self {
        Context { request_id, caller }
    }

    /// The cloud acting for itself, with the roles `admin` and `service`, in no tenant's project.
    pub fn service(name: &str) -> Self {
        let role = |name: &str| RoleRef { id: name.to_owned(), name: name.to_owned() };
        let domain = DomainRef { id: "default".into(), name: "Default".into() };
        let user = UserRef { id: name.to_owned(), name: name.to_owned(), domain };
        let roles = ["admin", "manager", "member", "reader", "service"].map(role).to_vec();
        let caller = Caller {
            user,
            scope: Scope::System,
            roles,
            expires_at: Timestamp(i64::MAX),
            audit_ids: Vec::new(),
            token: Secret(String::new()),
        };
        Context { request_id: RequestId::new(), caller: Arc::new(caller) }
    }

    /// The cloud acting inside a tenant's project, as a service does for a user's earlier request.
    pub fn service_in(name: &str, project: ProjectRef) -> Self {
        let mut ctx = Context::service(name);
        Arc::make_mut(&mut ctx.caller).scope = Scope::Project(project);
        ctx
    }
}

impl Deref for Context {
    type Target = Caller;
    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Context {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let caller = parts.extensions.get::<Arc<Caller>>().cloned().ok_or_else(Error::unauthenticated)?;
        let request_id = parts.extensions.get::<RequestId>().cloned().unwrap_or_default();
        Ok(Context { request_id, caller })
    }
}
