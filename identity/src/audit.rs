//! Who did what: a record of every authentication and of every request that changes something, in the terms of
//! DMTF's CADF as upstream's notifications have them, as one structured log line with the target `audit`.
//!
//! A record never holds a secret: it is made of ids, names and outcomes, not of bodies. Changes are recorded where
//! all requests pass ([`changed`]), so that no route can forget it; authentications where their outcome and its reason
//! are known ([`authenticated`]).

use crate::IdentityError;
use crate::http::Touched;
use crate::token::Method;
use api::{Caller, Observed, Origin, Scope};
use serde_json::Value;
use state::Timestamp;

const EVENT: &str = "http://schemas.dmtf.org/cloud/audit/1.0/event";
const USER: &str = "service/security/account/user";
/// Names from requests are cut to this many characters.
const LONGEST: usize = 255;

/// One record; empty texts are attributes that it does not have.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    action: String,
    event_type: String,
    outcome: &'static str,
    /// The status of the answer, and why it was refused.
    reason_code: u16,
    reason: String,
    initiator: Initiator,
    target_type: String,
    target_id: String,
    /// What else the path names, `user_id=… role_id=…`.
    target_in: String,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Initiator {
    id: String,
    name: String,
    domain: String,
    project: String,
    scope: &'static str,
    /// Ties together what was done with one token and those made from it.
    chain: String,
}

impl Initiator {
    fn of(caller: &Caller) -> Self {
        Initiator {
            id: caller.user.id.clone(),
            name: caller.user.name.clone(),
            domain: caller.user.domain.id.clone(),
            project: caller.project().map(|p| p.id.clone()).unwrap_or_default(),
            scope: match caller.scope {
                Scope::Unscoped => "unscoped",
                Scope::Project(_) => "project",
                Scope::Domain(_) => "domain",
                Scope::System => "system",
            },
            chain: caller.audit_ids.last().cloned().unwrap_or_default(),
        }
    }
}

impl Event {
    fn log(&self, origin: &Origin) {
        let address = origin.address.map(|a| a.to_string()).unwrap_or_default();
        tracing::info!(
            target: "audit",
            typeURI = EVENT,
            id = state::new_id(),
            eventType = "activity",
            eventTime = Timestamp::now().micros_z(),
            event = self.event_type,
            action = self.action,
            outcome = self.outcome,
            reason.reasonType = "HTTP",
            reason.reasonCode = self.reason_code,
            reason.text = self.reason,
            initiator.typeURI = USER,
            initiator.id = self.initiator.id,
            initiator.name = self.initiator.name,
            initiator.domain_id = self.initiator.domain,
            initiator.project_id = self.initiator.project,
            initiator.scope = self.initiator.scope,
            initiator.audit_chain = self.initiator.chain,
            initiator.host.address = address,
            initiator.host.agent = origin.agent.as_deref().unwrap_or_default(),
            initiator.request_id = %origin.request_id,
            target.typeURI = self.target_type,
            target.id = self.target_id,
            target.within = self.target_in,
            observer.typeURI = "service/security",
            observer.id = "identity",
        );
    }
}

/// Who a request for a token says it is.
#[derive(Debug, Default)]
pub(crate) struct Claimed {
    methods: Vec<&'static str>,
    id: String,
    name: String,
    domain: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().chars().take(LONGEST).collect()
}

impl Claimed {
    /// Of the body of `POST /v3/auth/tokens`.
    pub(crate) fn of(body: &Value) -> Self {
        let identity = &body["auth"]["identity"];
        let named = identity["methods"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let methods = named.map(|m| Method::by_name(m).map_or("other", Method::name)).take(8).collect();
        let mut user =
            ["password", "totp", "application_credential"].into_iter().map(|m| &identity[m]["user"]);
        let user = user.find(|u| u.is_object()).unwrap_or(&Value::Null);
        let domain = &user["domain"];
        let domain = if domain["id"].is_string() { &domain["id"] } else { &domain["name"] };
        Claimed { methods, id: text(&user["id"]), name: text(&user["name"]), domain: text(domain) }
    }

    /// Of a login through a provider of identities.
    pub(crate) fn vouched_by(idp: &str) -> Self {
        let name = idp.chars().take(LONGEST).collect();
        Claimed { methods: vec![Method::Mapped.name()], name, ..Claimed::default() }
    }

    /// Of a signature's body: the access key is a name, not a secret.
    pub(crate) fn key(body: &Value) -> Self {
        let mut asked = ["credentials", "ec2Credentials"].into_iter().map(|k| &body[k]["access"]);
        let access = asked.find(|a| a.is_string()).unwrap_or(&Value::Null);
        Claimed { methods: vec![Method::Ec2.name()], name: text(access), ..Claimed::default() }
    }
}

/// Records and counts a request for a token: with the token's body, or with why there is none.
pub(crate) fn authenticated(origin: &Origin, claimed: Claimed, outcome: Result<&Value, &IdentityError>) {
    let method = claimed.methods.join("+");
    match outcome {
        Ok(body) if body["token"].is_null() => {
            metrics::counter!("aquifer_identity_receipts_issued_total", "method" => method.clone())
        }
        Ok(_) => metrics::counter!("aquifer_identity_tokens_issued_total", "method" => method.clone()),
        Err(_) => metrics::counter!("aquifer_identity_logins_failed_total", "method" => method.clone()),
    }
    .increment(1);
    authentication(claimed, &method, outcome).log(origin);
}

fn authentication(claimed: Claimed, method: &str, outcome: Result<&Value, &IdentityError>) -> Event {
    let mut event = Event {
        action: "authenticate".into(),
        event_type: "identity.authenticate".into(),
        target_type: "service/security/account/user".into(),
        target_in: format!("method={method}"),
        ..Event::default()
    };
    match outcome {
        Ok(body) => {
            // Who must prove more has a receipt, and no token yet.
            let pending = !body["receipt"].is_null();
            let token = if pending { &body["receipt"] } else { &body["token"] };
            let user = &token["user"];
            event.outcome = if pending { "pending" } else { "success" };
            event.reason_code = if pending { 401 } else { 201 };
            event.initiator = Initiator {
                id: text(&user["id"]),
                name: text(&user["name"]),
                domain: text(&user["domain"]["id"]),
                project: text(&token["project"]["id"]),
                scope: ["project", "domain", "system"]
                    .into_iter()
                    .find(|s| !token[*s].is_null())
                    .unwrap_or("unscoped"),
                chain: token["audit_ids"].as_array().and_then(|a| a.last()).map(text).unwrap_or_default(),
            };
        }
        Err(e) => {
            event.outcome = "failure";
            event.reason_code = match e {
                IdentityError::Unauthenticated(_) | IdentityError::Unauthorized(_) => 401,
                IdentityError::Forbidden(_) => 403,
                IdentityError::Invalid(_) => 400,
                IdentityError::Api(e) => e.status().as_u16(),
                IdentityError::Busy | IdentityError::State(_) => 503,
                IdentityError::TooMany { .. } => 429,
                _ => 401,
            };
            event.reason = e.to_string().chars().take(LONGEST).collect();
            event.initiator = Initiator {
                id: claimed.id,
                name: claimed.name,
                domain: claimed.domain,
                ..Initiator::default()
            };
        }
    }
    event.target_id.clone_from(&event.initiator.id);
    event
}

/// Records a request that changed something, or was not allowed to.
pub(crate) fn changed(o: &Observed<'_>) {
    let Some(what) = What::of(o.method.as_str(), o.route, o.path) else { return };
    let status = o.response.status();
    let failed = status.is_client_error() || status.is_server_error();
    let reason = o.response.extensions().get::<api::Error>().filter(|_| failed);
    let made = o.response.extensions().get::<Touched>().map(|t| t.0.clone());
    let mut initiator = o.caller.map(Initiator::of).unwrap_or_default();
    // Who changes a password shows no token; the path says whose it is.
    if let (true, Some((_, user))) =
        (o.caller.is_none() && !failed, what.within.iter().find(|(k, _)| *k == "user_id"))
    {
        initiator.id = (*user).to_owned();
    }
    let within: Vec<String> = what.within.iter().map(|(k, v)| format!("{k}={v}")).collect();
    Event {
        action: format!("{}.{}", what.verb, what.noun),
        event_type: format!("identity.{}.{}", what.noun, what.verb),
        outcome: if failed { "failure" } else { "success" },
        reason_code: status.as_u16(),
        reason: reason.map(|e| e.message().chars().take(LONGEST).collect()).unwrap_or_default(),
        initiator,
        target_type: format!(
            "data/security/{}",
            if what.noun == "user" { "account/user" } else { &what.noun }
        ),
        target_id: made.filter(|id| !id.is_empty()).unwrap_or_else(|| what.id.to_owned()),
        target_in: within.join(" "),
    }
    .log(o.origin);
}

/// What a route does, by its method and its path.
#[derive(Debug, PartialEq, Eq)]
struct What<'a> {
    verb: &'static str,
    noun: String,
    id: &'a str,
    /// The other parameters, by name.
    within: Vec<(&'a str, &'a str)>,
}

impl<'a> What<'a> {
    fn of(method: &str, route: &'a str, path: &'a str) -> Option<What<'a>> {
        // The path may lack what the route is mounted at: they have their ends in common.
        let mut pairs: Vec<(&str, &str)> = route.rsplit('/').zip(path.rsplit('/')).collect();
        pairs.reverse();
        let words: Vec<&str> = pairs.iter().map(|(r, _)| *r).filter(|r| !is_parameter(r)).collect();
        let last = *words.last()?;
        // Asking for a token is recorded with its outcome, where it is asked.
        if method == "POST" && matches!(last, "tokens" | "ec2tokens" | "s3tokens" | "auth") {
            return None;
        }
        let mut within: Vec<(&str, &str)> = pairs
            .iter()
            .filter(|(r, _)| is_parameter(r))
            .map(|(r, p)| (r.trim_matches(['{', '}']), *p))
            .collect();
        let is_grant = words.contains(&"roles") && (words.contains(&"users") || words.contains(&"groups"));
        let noun = match last {
            _ if is_grant => "role_assignment".to_owned(),
            "users" if words.contains(&"groups") => "group_membership".to_owned(),
            "OS-EC2" => "credential".to_owned(),
            "inherited_to_projects" => "role_assignment".to_owned(),
            "implies" => "implied_role".to_owned(),
            word => singular(word),
        };
        let names_itself = pairs.last().is_some_and(|(r, _)| is_parameter(r)) && !is_grant;
        let id = if names_itself { within.pop().map_or("", |(_, id)| id) } else { "" };
        let verb = match (method, last) {
            ("DELETE", "tokens") => "revoked",
            ("DELETE", _) => "deleted",
            ("PATCH", _) | ("POST", "password") => "updated",
            // A grant or a tag is made by PUT; a list of tags or options replaced.
            ("PUT", "tags" | "config") if !names_itself => "updated",
            _ => "created",
        };
        Some(What { verb, noun, id, within })
    }
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{')
}

fn singular(word: &str) -> String {
    match word.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => word.strip_suffix('s').unwrap_or(word).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_routes_do() {
        for (method, route, path, said) in [
            ("POST", "/v3/users", "/v3/users", "created user "),
            ("PATCH", "/identity/v3/users/{user_id}", "/v3/users/u1", "updated user u1"),
            ("DELETE", "/v3/policies/{id}", "/v3/policies/x", "deleted policy x"),
            ("POST", "/v3/users/{user_id}/password", "/v3/users/u1/password", "updated password  user_id=u1"),
            ("DELETE", "/v3/auth/tokens", "/v3/auth/tokens", "revoked token "),
            (
                "PUT",
                "/v3/projects/{project_id}/users/{user_id}/roles/{role_id}",
                "/v3/projects/p1/users/u1/roles/r1",
                "created role_assignment  project_id=p1 user_id=u1 role_id=r1",
            ),
            (
                "DELETE",
                "/v3/OS-INHERIT/domains/{d}/groups/{g}/roles/{r}/inherited_to_projects",
                "/v3/OS-INHERIT/domains/1/groups/2/roles/3/inherited_to_projects",
                "deleted role_assignment  d=1 g=2 r=3",
            ),
            (
                "PUT",
                "/v3/groups/{group_id}/users/{user_id}",
                "/v3/groups/g1/users/u1",
                "created group_membership u1 group_id=g1",
            ),
            ("PUT", "/v3/projects/{project_id}/tags", "/v3/projects/p1/tags", "updated tag  project_id=p1"),
            (
                "DELETE",
                "/v3/users/{user_id}/credentials/OS-EC2/{access}",
                "/v3/users/u1/credentials/OS-EC2/k1",
                "deleted credential k1 user_id=u1",
            ),
            (
                "PUT",
                "/v3/roles/{prior}/implies/{implied}",
                "/v3/roles/a/implies/b",
                "created implied_role b prior=a",
            ),
        ] {
            let what = What::of(method, route, path).unwrap();
            let within: Vec<String> = what.within.iter().map(|(k, v)| format!(" {k}={v}")).collect();
            assert_eq!(format!("{} {} {}{}", what.verb, what.noun, what.id, within.concat()), said);
        }
        assert_eq!(What::of("POST", "/v3/auth/tokens", "/v3/auth/tokens"), None);
    }

    #[test]
    fn a_refused_login_names_who_it_claimed_to_be_and_no_secret() {
        let body = json!({"auth": {"identity": {"methods": ["password", "magic"], "password": {"user":
            {"name": "ann", "domain": {"name": "D"}, "password": "hunter2"}}}}});
        let claimed = Claimed::of(&body);
        let e = IdentityError::Unauthenticated("wrong user or password");
        let event = authentication(claimed, "password+other", Err(&e));
        assert_eq!((event.outcome, event.reason_code), ("failure", 401));
        assert_eq!((event.initiator.name.as_str(), event.initiator.domain.as_str()), ("ann", "D"));
        assert!(event.reason.contains("wrong user or password"));
        assert!(!format!("{event:?}").contains("hunter2"));
    }
}
