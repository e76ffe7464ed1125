//! `/v3/users/{user_id}/application_credentials` and `…/access_rules`.

use super::{Answer, App, Body, done};
use crate::Identity;
use api::{Context, Path, Query, Routes};
use axum::extract::State;
use http::StatusCode;
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.post("/v3/users/{user_id}/application_credentials", create)
        .get("/v3/users/{user_id}/application_credentials", list)
        .get("/v3/users/{user_id}/application_credentials/{id}", show)
        .delete("/v3/users/{user_id}/application_credentials/{id}", delete)
        .get("/v3/users/{user_id}/access_rules", list_rules)
        .get("/v3/users/{user_id}/access_rules/{id}", show_rule)
        .delete("/v3/users/{user_id}/access_rules/{id}", delete_rule)
}

fn path(user: &str) -> String {
    format!("users/{user}/application_credentials")
}

async fn create(State(identity): App, ctx: Context, Path(user): Path<String>, Body(body): Body) -> Answer {
    let made = identity.create_app_credential(&ctx, &user, &body).await?;
    Ok(identity.one(StatusCode::CREATED, "application_credential", &path(&user), made))
}

async fn list(State(identity): App, ctx: Context, Path(user): Path<String>, query: Query) -> Answer {
    let found = identity.list_app_credentials(&ctx, &user, &query).await?;
    Ok(identity.many("application_credentials", &path(&user), &query, found))
}

async fn show(State(identity): App, ctx: Context, Path((user, id)): Path<(String, String)>) -> Answer {
    let found = identity.show_app_credential(&ctx, &user, &id).await?;
    Ok(identity.one(StatusCode::OK, "application_credential", &path(&user), found))
}

async fn delete(State(identity): App, ctx: Context, Path((user, id)): Path<(String, String)>) -> Answer {
    identity.delete_app_credential(&ctx, &user, &id).await?;
    Ok(done())
}

async fn list_rules(State(identity): App, ctx: Context, Path(user): Path<String>, query: Query) -> Answer {
    let found = identity.list_access_rules(&ctx, &user, &query).await?;
    Ok(identity.many("access_rules", &format!("users/{user}/access_rules"), &query, found))
}

async fn show_rule(State(identity): App, ctx: Context, Path((user, id)): Path<(String, String)>) -> Answer {
    let found = identity.access_rule_for(&ctx, "identity:get_access_rule", &user, &id).await?;
    Ok(identity.one(StatusCode::OK, "access_rule", &format!("users/{user}/access_rules"), found))
}

async fn delete_rule(State(identity): App, ctx: Context, Path((user, id)): Path<(String, String)>) -> Answer {
    identity.delete_access_rule(&ctx, &user, &id).await?;
    Ok(done())
}
