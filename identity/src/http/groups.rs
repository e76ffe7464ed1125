//! `/v3/groups` and their members.

use super::{Answer, App, Body, done};
use crate::Identity;
use crate::users::shown;
use api::{Context, Path, Query, Routes};
use axum::extract::State;
use http::StatusCode;
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.post("/v3/groups", create)
        .get("/v3/groups", list)
        .get("/v3/groups/{group_id}", show)
        .patch("/v3/groups/{group_id}", update)
        .delete("/v3/groups/{group_id}", delete)
        .get("/v3/groups/{group_id}/users", users)
        .put("/v3/groups/{group_id}/users/{user_id}", join)
        .get("/v3/groups/{group_id}/users/{user_id}", check)
        .delete("/v3/groups/{group_id}/users/{user_id}", leave)
}

async fn create(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    let made = identity.create_group(&ctx, &body).await?;
    Ok(identity.one(StatusCode::CREATED, "group", "groups", made))
}

async fn list(State(identity): App, ctx: Context, query: Query) -> Answer {
    let found = identity.list_groups(&ctx, &query).await?;
    Ok(identity.many("groups", "groups", &query, found))
}

async fn show(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let found = identity.group_for(&ctx, "identity:get_group", &id).await?;
    Ok(identity.one(StatusCode::OK, "group", "groups", found))
}

async fn update(State(identity): App, ctx: Context, Path(id): Path<String>, Body(body): Body) -> Answer {
    let changed = identity.update_group(&ctx, &id, &body).await?;
    Ok(identity.one(StatusCode::OK, "group", "groups", changed))
}

async fn delete(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_group(&ctx, &id).await?;
    Ok(done())
}

async fn users(State(identity): App, ctx: Context, Path(id): Path<String>, query: Query) -> Answer {
    let mut found = identity.users_of_group(&ctx, &id, &query).await?;
    found.records = identity.with_activity(found.records).await?.into_iter().map(shown).collect();
    Ok(identity.many_at(&format!("groups/{id}/users"), "users", "users", &query, found))
}

async fn join(State(identity): App, ctx: Context, Path((group, user)): Path<(String, String)>) -> Answer {
    identity.join_group(&ctx, &group, &user).await?;
    Ok(done())
}

async fn check(State(identity): App, ctx: Context, Path((group, user)): Path<(String, String)>) -> Answer {
    identity.check_member(&ctx, &group, &user).await?;
    Ok(done())
}

async fn leave(State(identity): App, ctx: Context, Path((group, user)): Path<(String, String)>) -> Answer {
    identity.leave_group(&ctx, &group, &user).await?;
    Ok(done())
}
