//! A token's body, as `keystonemiddleware` and `keystoneauth` read it.

use crate::IdentityError;
use crate::store::record::Fields;
use crate::subject::Subject;
use crate::token::{Claims, Method};
use api::{DomainRef, RoleRef, Scope};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;

/// The body of an answer that carries a token. The catalogue is by far its largest part and the same in every token
/// of a user in a project, so it stays the JSON that it was made to once.
pub(crate) struct TokenBody {
    /// All but the catalogue.
    pub(crate) value: Value,
    catalogue: Option<Arc<str>>,
}

impl TokenBody {
    pub(super) fn token(value: Value, catalogue: Option<Arc<str>>) -> TokenBody {
        TokenBody { value, catalogue }
    }

    /// A body that has no catalogue: a receipt's.
    pub(super) fn plain(value: Value) -> TokenBody {
        TokenBody { value, catalogue: None }
    }

    /// As it goes over the wire.
    pub(crate) fn render(&self) -> Result<Bytes, IdentityError> {
        let mut out = serde_json::to_vec(&self.value)?;
        // It ends with the two braces of `{"token": {…}}`; the catalogue is the token's last member.
        if let (Some(catalogue), Some(inside)) = (&self.catalogue, out.len().checked_sub(2)) {
            out.truncate(inside);
            for part in [r#","catalog":"#, catalogue, "}}"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        Ok(out.into())
    }
}

/// All of a token's body but the catalogue. `service_providers`: the list of those that are enabled.
pub(super) fn token(claims: &Claims, subject: &Subject, service_providers: &Value) -> Value {
    let user = &subject.user;
    let mut token = json!({
        "methods": claims.methods.iter().map(|m| method(*m, claims)).collect::<Vec<_>>(),
        "user": {
            "id": user.id,
            "name": user.name,
            "domain": domain(&user.domain),
            "password_expires_at": subject.password_expires_at.map(|t| t.micros_naive()),
        },
        "audit_ids": claims.audit,
        "expires_at": claims.expires_at().micros_z(),
        "issued_at": claims.issued.micros_z(),
    });
    if let Some(f) = &claims.federated {
        let groups: Vec<Value> = f.groups.iter().map(|g| json!({"id": g})).collect();
        token["user"]["OS-FEDERATION"] = json!({"identity_provider": {"id": f.idp},
            "protocol": {"id": f.protocol}, "groups": groups});
        if let Some(user) = token["user"].as_object_mut() {
            user.remove("password_expires_at");
        }
    }
    if service_providers.as_array().is_some_and(|all| !all.is_empty()) {
        token["service_providers"] = service_providers.clone();
    }
    match &subject.scope {
        Scope::Unscoped => {}
        Scope::Project(p) => {
            token["project"] = json!({"id": p.id, "name": p.name, "domain": domain(&p.domain)});
            token["is_domain"] = subject.is_domain.into();
            token["roles"] = roles(&subject.roles);
        }
        Scope::Domain(d) => {
            token["domain"] = domain(d);
            token["roles"] = roles(&subject.roles);
        }
        Scope::System => {
            token["system"] = json!({"all": true});
            token["roles"] = roles(&subject.roles);
        }
    }
    if let Some(trust) = &subject.trust {
        token["OS-TRUST:trust"] = json!({
            "id": trust.text("id"),
            "impersonation": trust.flag("impersonation"),
            "trustor_user": {"id": trust.text("trustor_user_id")},
            "trustee_user": {"id": trust.text("trustee_user_id")},
        });
    }
    if let Some(app) = &subject.app_credential {
        token["application_credential"] =
            json!({"id": app.id, "name": app.name, "restricted": !app.unrestricted});
        if let Some(rules) = &app.access_rules {
            token["application_credential"]["access_rules"] = json!(rules);
        }
    }
    json!({"token": token})
}

/// As upstream, who came through a provider of identities came by the protocol.
fn method(method: Method, claims: &Claims) -> &str {
    match (&claims.federated, method) {
        (Some(f), Method::Mapped) => &f.protocol,
        _ => method.name(),
    }
}

fn domain(d: &DomainRef) -> Value {
    json!({"id": d.id, "name": d.name})
}

fn roles(roles: &[RoleRef]) -> Value {
    roles.iter().map(|r| json!({"id": r.id, "name": r.name})).collect()
}
