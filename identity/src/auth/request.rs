//! The body of `POST /v3/auth/tokens`.

use crate::IdentityError;
use crate::store::subjects::DomainBy;
use api::schema::Schema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// A body that fits the schema.
pub(crate) struct AuthBody(Auth);

#[derive(Deserialize)]
struct Whole {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    identity: IdentityPart,
    #[serde(default)]
    scope: Option<ScopePart>,
}

#[derive(Deserialize)]
pub(crate) struct IdentityPart {
    pub(crate) methods: Vec<String>,
    #[serde(default)]
    pub(crate) password: Option<PasswordPart>,
    #[serde(default)]
    pub(crate) totp: Option<PasswordPart>,
    #[serde(default)]
    pub(crate) token: Option<TokenPart>,
    #[serde(default)]
    pub(crate) application_credential: Option<AppCredentialPart>,
    #[serde(default)]
    mapped: Option<TokenPart>,
    #[serde(default)]
    openid: Option<TokenPart>,
    #[serde(default)]
    saml2: Option<TokenPart>,
}

/// A user with its password, or with its passcode.
#[derive(Deserialize)]
pub(crate) struct PasswordPart {
    pub(crate) user: UserPart,
}

#[derive(Deserialize, Default)]
pub(crate) struct UserPart {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) password: String,
    #[serde(default)]
    pub(crate) passcode: String,
    pub(crate) domain: Option<DomainPart>,
}

#[derive(Deserialize)]
pub(crate) struct TokenPart {
    pub(crate) id: String,
}

#[derive(Deserialize)]
pub(crate) struct AppCredentialPart {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) secret: String,
    pub(crate) user: Option<UserPart>,
}

#[derive(Deserialize, Default)]
pub(crate) struct DomainPart {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ScopePart {
    Word(String),
    Parts(Box<Parts>),
}

#[derive(Deserialize)]
struct Parts {
    project: Option<ProjectPart>,
    domain: Option<DomainPart>,
    system: Option<Value>,
    unscoped: Option<Value>,
    #[serde(rename = "OS-TRUST:trust")]
    trust: Option<TrustPart>,
}

#[derive(Deserialize)]
struct ProjectPart {
    id: Option<String>,
    name: Option<String>,
    domain: Option<DomainPart>,
}

#[derive(Deserialize)]
struct TrustPart {
    id: String,
}

/// The scope that a request asks for, as it names it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// None was named.
    Default,
    Unscoped,
    ProjectId(String),
    ProjectName(String, DomainBy),
    Domain(DomainBy),
    System,
    Trust(String),
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let text = json!({"type": "string"});
    let domain = json!({"type": "object", "properties": {"id": text, "name": text}});
    let user = json!({"type": "object",
        "properties": {"id": text, "name": text, "password": text, "passcode": text, "domain": domain}});
    let app = json!({"type": "object", "required": ["secret"],
        "properties": {"id": text, "name": text, "secret": text, "user": user}});
    let token = json!({"type": "object", "required": ["id"], "properties": {"id": text}});
    let identity = json!({"type": "object", "required": ["methods"], "properties": {
        "methods": {"type": "array", "items": text},
        "password": {"type": "object", "required": ["user"], "properties": {"user": user}},
        "totp": {"type": "object", "required": ["user"], "properties": {"user": user}},
        "token": token,
        "mapped": token, "openid": token, "saml2": token,
        "application_credential": app}});
    let project = json!({"type": "object", "properties": {"id": text, "name": text, "domain": domain}});
    let scope = json!({"type": ["object", "string"], "properties": {"project": project, "domain": domain,
        "OS-TRUST:trust": {"type": "object", "required": ["id"], "properties": {"id": text}},
        "system": {"type": "object", "required": ["all"], "properties": {"all": {"type": "boolean"}}}}});
    Schema::new(&json!({"type": "object", "required": ["auth"], "properties": {"auth": {"type": "object",
        "required": ["identity"], "properties": {"identity": identity, "scope": scope}}}}))
});

/// 400 as upstream words it.
pub(crate) fn expected(what: &str, within: &str) -> IdentityError {
    IdentityError::Invalid(format!(
        "Expecting to find {what} in {within}. The server could not comply with the request since it is either \
         malformed or otherwise incorrect. The client is assumed to be in error."
    ))
}

impl IdentityPart {
    /// The federated token that one of upstream's names of that method shows.
    pub(super) fn vouched(&self, method: &str) -> &Option<TokenPart> {
        match method {
            "saml2" => &self.saml2,
            "openid" => &self.openid,
            _ => &self.mapped,
        }
    }

    /// The methods, each once: whoever repeats one a thousand times has it checked once.
    pub(super) fn distinct(&self) -> Vec<&str> {
        let mut out: Vec<&str> = Vec::new();
        for method in &self.methods {
            // All that exist are fewer; what comes after is refused with the first that is unknown.
            if out.len() > 8 {
                break;
            }
            if !out.contains(&method.as_str()) {
                out.push(method);
            }
        }
        out
    }
}

impl DomainPart {
    pub(crate) fn by(&self) -> Result<DomainBy, IdentityError> {
        match (&self.id, &self.name) {
            (Some(id), _) => Ok(DomainBy::Id(id.clone())),
            (None, Some(name)) => Ok(DomainBy::Name(name.clone())),
            (None, None) => Err(expected("id or name", "domain")),
        }
    }
}

impl AuthBody {
    pub(crate) fn read(body: &Value) -> Result<Self, IdentityError> {
        let Whole { auth } = SCHEMA.read(body).map_err(without_values)?;
        Ok(AuthBody(auth))
    }

    pub(crate) fn into_parts(self) -> Result<(IdentityPart, Asked), IdentityError> {
        let scope = match self.0.scope {
            None => Asked::Default,
            Some(ScopePart::Word(word)) if word == "unscoped" => Asked::Unscoped,
            Some(ScopePart::Word(_)) => return Err(expected("project, domain or system", "scope")),
            Some(ScopePart::Parts(parts)) => parts.asked()?,
        };
        Ok((self.0.identity, scope))
    }
}

/// The schema's messages quote what was sent, and here that can be a password.
fn without_values(e: api::Error) -> IdentityError {
    let field = e.message().strip_prefix("Invalid input for field/attribute ");
    match field.and_then(|f| f.split('.').next()) {
        Some(field) => IdentityError::Invalid(format!("Invalid input for field/attribute {field}.")),
        None => expected("auth.identity.methods", "the request body"),
    }
}

impl Parts {
    fn asked(self) -> Result<Asked, IdentityError> {
        let count = [
            self.project.is_some(),
            self.domain.is_some(),
            self.system.is_some(),
            self.unscoped.is_some(),
            self.trust.is_some(),
        ];
        if count.iter().filter(|n| **n).count() != 1 {
            return Err(IdentityError::Invalid(
                "The scope must name exactly one of project, domain, system, OS-TRUST:trust and unscoped."
                    .into(),
            ));
        }
        if let Some(project) = self.project {
            return project.asked();
        }
        if let Some(domain) = self.domain {
            return Ok(Asked::Domain(domain.by()?));
        }
        if let Some(trust) = self.trust {
            return Ok(Asked::Trust(trust.id));
        }
        match self.system {
            Some(s) if s["all"] == Value::Bool(true) => Ok(Asked::System),
            Some(_) => Err(expected("all", "system")),
            None => Ok(Asked::Unscoped),
        }
    }
}

impl ProjectPart {
    fn asked(self) -> Result<Asked, IdentityError> {
        match (self.id, self.name, self.domain) {
            (Some(id), ..) => Ok(Asked::ProjectId(id)),
            (None, Some(name), Some(domain)) => Ok(Asked::ProjectName(name, domain.by()?)),
            (None, Some(_), None) => Err(expected("domain", "project")),
            (None, None, _) => Err(expected("id or name", "project")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(scope: Value) -> Result<Asked, IdentityError> {
        AuthBody::read(&json!({"auth": {"identity": {"methods": []}, "scope": scope}}))?
            .into_parts()
            .map(|p| p.1)
    }

    #[test]
    fn scopes() {
        assert_eq!(scope(json!("unscoped")).unwrap(), Asked::Unscoped);
        assert_eq!(scope(json!({"system": {"all": true}})).unwrap(), Asked::System);
        assert_eq!(scope(json!({"project": {"id": "p"}})).unwrap(), Asked::ProjectId("p".into()));
        let named = scope(json!({"project": {"name": "p", "domain": {"id": "default"}}})).unwrap();
        assert_eq!(named, Asked::ProjectName("p".into(), DomainBy::Id("default".into())));
        for bad in [
            json!({}),
            json!(7),
            json!("all"),
            json!({"project": {}}),
            json!({"project": {"name": "p"}}),
            json!({"project": {"id": 5}}),
            json!({"project": {"id": "p"}, "domain": {"id": "d"}}),
            json!({"system": {"all": false}}),
            json!({"system": {}}),
            json!({"domain": {}}),
        ] {
            assert!(scope(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refusal_never_quotes_the_password() {
        let body = json!({"auth": {"identity": {"methods": ["password"],
            "password": {"user": {"id": "u", "password": ["hunter2"]}}}}});
        let e = AuthBody::read(&body).err().map(|e| e.to_string()).unwrap();
        assert!(!e.contains("hunter2"), "{e}");
    }
}
