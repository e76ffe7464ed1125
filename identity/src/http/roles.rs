//! `/v3/roles`, and which imply which.

use super::{Answer, App, Body, done, json};
use crate::Identity;
use crate::store::Record;
use crate::store::record::Fields;
use api::{Context, Path, Query, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json as object};
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.post("/v3/roles", create)
        .get("/v3/roles", list)
        .get("/v3/roles/{role_id}", show)
        .patch("/v3/roles/{role_id}", update)
        .delete("/v3/roles/{role_id}", delete)
        .get("/v3/roles/{role_id}/implies", implied)
        .put("/v3/roles/{role_id}/implies/{implied_id}", imply)
        .get("/v3/roles/{role_id}/implies/{implied_id}", show_rule)
        .head("/v3/roles/{role_id}/implies/{implied_id}", check_rule)
        .delete("/v3/roles/{role_id}/implies/{implied_id}", unimply)
        .get("/v3/role_inferences", inferences)
}

async fn create(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    let made = identity.create_role(&ctx, &body).await?;
    Ok(identity.one(StatusCode::CREATED, "role", "roles", made))
}

async fn list(State(identity): App, ctx: Context, query: Query) -> Answer {
    let found = identity.list_roles(&ctx, &query).await?;
    Ok(identity.many("roles", "roles", &query, found))
}

async fn show(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let found = identity.role_for(&ctx, "get", &id).await?;
    Ok(identity.one(StatusCode::OK, "role", "roles", found))
}

async fn update(State(identity): App, ctx: Context, Path(id): Path<String>, Body(body): Body) -> Answer {
    let changed = identity.update_role(&ctx, &id, &body).await?;
    Ok(identity.one(StatusCode::OK, "role", "roles", changed))
}

async fn delete(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_role(&ctx, &id).await?;
    Ok(done())
}

fn brief(identity: &Identity, role: &Record) -> Value {
    let id = role.text("id");
    object!({"id": id, "name": role.text("name"), "links": {"self": identity.url(&format!("roles/{id}"))}})
}

fn rule(
    identity: &Identity,
    status: StatusCode,
    (prior, one): &(Record, Record),
) -> axum::response::Response {
    let url = identity.url(&format!("roles/{}/implies/{}", prior.text("id"), one.text("id")));
    let inference = object!({"prior_role": brief(identity, prior), "implies": brief(identity, one)});
    json(status, &object!({"role_inference": inference, "links": {"self": url}}))
}

async fn imply(State(identity): App, ctx: Context, Path((prior, one)): Path<(String, String)>) -> Answer {
    let pair = identity.imply(&ctx, &prior, &one).await?;
    Ok(rule(&identity, StatusCode::CREATED, &pair))
}

async fn show_rule(State(identity): App, ctx: Context, Path((prior, one)): Path<(String, String)>) -> Answer {
    let pair = identity.check_implied(&ctx, "identity:get_implied_role", &prior, &one).await?;
    Ok(rule(&identity, StatusCode::OK, &pair))
}

async fn check_rule(
    State(identity): App,
    ctx: Context,
    Path((prior, one)): Path<(String, String)>,
) -> Answer {
    identity.check_implied(&ctx, "identity:check_implied_role", &prior, &one).await?;
    Ok(done())
}

async fn unimply(State(identity): App, ctx: Context, Path((prior, one)): Path<(String, String)>) -> Answer {
    identity.unimply(&ctx, &prior, &one).await?;
    Ok(done())
}

fn inference(identity: &Identity, prior: &Record, implied: &[Record]) -> Value {
    let implied: Vec<Value> = implied.iter().map(|r| brief(identity, r)).collect();
    object!({"prior_role": brief(identity, prior), "implies": implied})
}

async fn implied(State(identity): App, ctx: Context, Path(prior): Path<String>) -> Answer {
    let (role, implied) = identity.implied_by(&ctx, &prior).await?;
    let url = identity.url(&format!("roles/{prior}/implies"));
    let body = object!({"role_inference": inference(&identity, &role, &implied), "links": {"self": url}});
    Ok(json(StatusCode::OK, &body))
}

async fn inferences(State(identity): App, ctx: Context) -> Answer {
    let found = identity.inferences(&ctx).await?;
    let found: Vec<Value> = found.iter().map(|(p, i)| inference(&identity, p, i)).collect();
    let links = object!({"self": identity.url("role_inferences"), "next": null, "previous": null});
    Ok(json(StatusCode::OK, &object!({"role_inferences": found, "links": links})))
}
