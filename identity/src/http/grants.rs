//! Role assignments: `…/users/{user_id}/roles/{role_id}` and kin on projects, domains and the system, their
//! inherited forms below OS-INHERIT, and `/v3/role_assignments`.
//!
//! One set of handlers serves all these paths: what a path names is read from its parameters.

use super::{Answer, App, done, json};
use crate::grants::{Assignment, Place};
use crate::listing::flag;
use crate::store::assignments::{ActorKind, TargetKind};
use crate::store::record::Fields;
use crate::store::{GROUP, PROJECT, ROLE, USER};
use crate::{Identity, IdentityError};
use api::{Context, Error, Path, Query, Routes};
use axum::extract::{MatchedPath, State};
use http::StatusCode;
use serde_json::{Value, json as object};
use std::collections::HashMap;
use std::sync::Arc;

type Names = Path<HashMap<String, String>>;

pub(super) fn routes(mut r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    for path in LISTS {
        r = r.get(path, list);
    }
    for path in ONES {
        r = r.put(path, grant).get(path, check).delete(path, take);
    }
    r.get("/v3/role_assignments", assignments)
}

const LISTS: &[&str] = &[
    "/v3/projects/{project_id}/users/{user_id}/roles",
    "/v3/projects/{project_id}/groups/{group_id}/roles",
    "/v3/domains/{domain_id}/users/{user_id}/roles",
    "/v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/inherited_to_projects",
    "/v3/domains/{domain_id}/groups/{group_id}/roles",
    "/v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/inherited_to_projects",
    "/v3/system/users/{user_id}/roles",
    "/v3/system/groups/{group_id}/roles",
];

const ONES: &[&str] = &[
    "/v3/projects/{project_id}/users/{user_id}/roles/{role_id}",
    "/v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects",
    "/v3/projects/{project_id}/groups/{group_id}/roles/{role_id}",
    "/v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects",
    "/v3/domains/{domain_id}/users/{user_id}/roles/{role_id}",
    "/v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects",
    "/v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}",
    "/v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects",
    "/v3/system/users/{user_id}/roles/{role_id}",
    "/v3/system/groups/{group_id}/roles/{role_id}",
];

fn place(path: &MatchedPath, names: &HashMap<String, String>) -> Result<Place, Error> {
    let named = |name: &str| names.get(name).cloned();
    let (actor, actor_id) = match (named("user_id"), named("group_id")) {
        (Some(id), _) => (ActorKind::User, id),
        (None, Some(id)) => (ActorKind::Group, id),
        (None, None) => return Err(Error::not_found("The resource could not be found.")),
    };
    let (target, target_id) = match (named("project_id"), named("domain_id")) {
        (Some(id), _) => (TargetKind::Project, id),
        (None, Some(id)) => (TargetKind::Domain, id),
        (None, None) => (TargetKind::System, "system".to_owned()),
    };
    Ok(Place { actor, actor_id, target, target_id, inherited: path.as_str().contains("/OS-INHERIT/") })
}

fn role(names: &HashMap<String, String>) -> &str {
    names.get("role_id").map_or("", String::as_str)
}

async fn grant(State(identity): App, ctx: Context, path: MatchedPath, Path(names): Names) -> Answer {
    identity.grant(&ctx, &place(&path, &names)?, role(&names)).await?;
    Ok(done())
}

async fn check(State(identity): App, ctx: Context, path: MatchedPath, Path(names): Names) -> Answer {
    identity.check_grant(&ctx, &place(&path, &names)?, role(&names)).await?;
    Ok(done())
}

async fn take(State(identity): App, ctx: Context, path: MatchedPath, Path(names): Names) -> Answer {
    identity.take_grant(&ctx, &place(&path, &names)?, role(&names)).await?;
    Ok(done())
}

async fn list(
    State(identity): App,
    ctx: Context,
    path: MatchedPath,
    query: Query,
    Path(names): Names,
) -> Answer {
    let place = place(&path, &names)?;
    let found = identity.list_grants(&ctx, &place).await?;
    let target = match place.target {
        TargetKind::System => "system".to_owned(),
        other => format!("{}s/{}", other.as_str(), place.target_id),
    };
    let at = format!("{target}/{}s/{}/roles", place.actor.as_str(), place.actor_id);
    Ok(identity.many_at(&at, "roles", "roles", &query, found))
}

async fn assignments(State(identity): App, ctx: Context, query: Query) -> Answer {
    let found = identity.role_assignments(&ctx, &query).await?;
    let names = match flag(&query, "include_names") {
        true => Some(NameTable::load(&identity, &found).await?),
        false => None,
    };
    let lines: Vec<Value> = found.iter().map(|a| line(&identity, a, names.as_ref())).collect();
    let links = object!({"self": identity.url("role_assignments"), "next": null, "previous": null});
    Ok(json(StatusCode::OK, &object!({"role_assignments": lines, "links": links})))
}

/// The names of what a list of assignments names, with their domains.
struct NameTable {
    names: HashMap<String, (String, Option<String>)>,
}

impl NameTable {
    async fn load(identity: &Identity, found: &[Assignment]) -> Result<Self, IdentityError> {
        let mut names = HashMap::new();
        for kind in [&USER, &GROUP, &PROJECT, &ROLE] {
            let ids = found.iter().flat_map(|a| [&a.grant.actor_id, &a.grant.target_id, &a.grant.role]);
            let mut ids: Vec<String> = ids.cloned().collect();
            ids.sort();
            ids.dedup();
            for r in kind.find_among(identity.db.read(), "id", &ids).await? {
                let domain = r.opt_text("domain_id").map(str::to_owned);
                names.insert(r.text("id").to_owned(), (r.text("name").to_owned(), domain));
            }
        }
        let mut domains: Vec<String> = names.values().filter_map(|(_, d)| d.clone()).collect();
        domains.sort();
        domains.dedup();
        for d in PROJECT.find_among(identity.db.read(), "id", &domains).await? {
            names.insert(d.text("id").to_owned(), (d.text("name").to_owned(), None));
        }
        Ok(NameTable { names })
    }

    fn describe(&self, id: &str) -> Value {
        let Some((name, domain)) = self.names.get(id) else { return object!({"id": id}) };
        match domain {
            Some(d) => {
                let domain_name = self.names.get(d).map(|n| n.0.as_str());
                object!({"id": id, "name": name, "domain": {"id": d, "name": domain_name}})
            }
            None => object!({"id": id, "name": name}),
        }
    }
}

fn line(identity: &Identity, a: &Assignment, names: Option<&NameTable>) -> Value {
    let describe = |id: &str| names.map_or_else(|| object!({"id": id}), |n| n.describe(id));
    let g = &a.grant;
    let mut out = object!({"role": describe(&g.role)});
    out[g.actor.as_str()] = describe(&g.actor_id);
    let mut scope = match g.target {
        TargetKind::System => object!({"system": {"all": true}}),
        other => object!({other.as_str(): describe(&g.target_id)}),
    };
    if g.inherited || a.via_target.is_some() {
        scope["OS-INHERIT:inherited_to"] = "projects".into();
    }
    out["scope"] = scope;
    let (kind, target) = match &a.via_target {
        Some((kind, id)) => (*kind, id),
        None => (g.target, &g.target_id),
    };
    let (actor, actor_id) = match &a.via_group {
        Some(group) => ("groups", group),
        None if g.actor == ActorKind::Group => ("groups", &g.actor_id),
        None => ("users", &g.actor_id),
    };
    let base = match kind {
        TargetKind::System => "system".to_owned(),
        other => format!("{}s/{target}", other.as_str()),
    };
    let given = a.via_role.as_ref().unwrap_or(&g.role);
    let path = match g.inherited || a.via_target.is_some() {
        true => format!("OS-INHERIT/{base}/{actor}/{actor_id}/roles/{given}/inherited_to_projects"),
        false => format!("{base}/{actor}/{actor_id}/roles/{given}"),
    };
    out["links"] = object!({"assignment": identity.url(&path)});
    if let Some(group) = &a.via_group {
        out["links"]["membership"] = identity.url(&format!("groups/{group}/users/{}", g.actor_id)).into();
    }
    if let Some(prior) = &a.via_role {
        out["links"]["prior_role"] = identity.url(&format!("roles/{prior}")).into();
    }
    out
}
