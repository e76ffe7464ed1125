//! `/v3/users`.

use super::auth::Source;
use super::{Answer, App, Body, done};
use crate::Identity;
use crate::users::shown;
use api::{Context, Path, Query, Routes};
use axum::extract::State;
use http::StatusCode;
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.post("/v3/users", create)
        .get("/v3/users", list)
        .get("/v3/users/{user_id}", show)
        .patch("/v3/users/{user_id}", update)
        .delete("/v3/users/{user_id}", delete)
        .get("/v3/users/{user_id}/groups", groups)
        .open(|r| r.post("/v3/users/{user_id}/password", password))
}

async fn create(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    let made = identity.create_user(&ctx, &body).await?;
    Ok(identity.one(StatusCode::CREATED, "user", "users", shown(made)))
}

async fn list(State(identity): App, ctx: Context, query: Query) -> Answer {
    let mut found = identity.list_users(&ctx, &query).await?;
    found.records = identity.with_activity(found.records).await?.into_iter().map(shown).collect();
    Ok(identity.many("users", "users", &query, found))
}

async fn show(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let found = identity.show_user(&ctx, &id).await?;
    Ok(identity.one(StatusCode::OK, "user", "users", shown(found)))
}

async fn update(State(identity): App, ctx: Context, Path(id): Path<String>, Body(body): Body) -> Answer {
    let changed = identity.update_user(&ctx, &id, &body).await?;
    Ok(identity.one(StatusCode::OK, "user", "users", shown(changed)))
}

async fn delete(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_user(&ctx, &id).await?;
    Ok(done())
}

async fn groups(State(identity): App, ctx: Context, Path(id): Path<String>, query: Query) -> Answer {
    let found = identity.groups_of_user(&ctx, &id, &query).await?;
    Ok(identity.many_at(&format!("users/{id}/groups"), "groups", "groups", &query, found))
}

/// Open: the old password proves who asks, also when it has expired.
async fn password(
    State(identity): App,
    Source(from): Source,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer {
    identity.change_password(from, &id, &body).await.map_err(|e| identity.challenge(e))?;
    Ok(done())
}
