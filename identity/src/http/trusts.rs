//! `/v3/OS-TRUST/trusts`.

use super::{Answer, App, Body, done};
use crate::store::record::Fields;
use crate::{Identity, IdentityError};
use api::{Context, Path, Query, Routes};
use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.post("/v3/OS-TRUST/trusts", create)
        .get("/v3/OS-TRUST/trusts", list)
        .get("/v3/OS-TRUST/trusts/{trust_id}", show)
        .delete("/v3/OS-TRUST/trusts/{trust_id}", delete)
        .get("/v3/OS-TRUST/trusts/{trust_id}/roles", roles)
        .get("/v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}", role)
        .head("/v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}", check_role)
}

const PATH: &str = "OS-TRUST/trusts";

async fn create(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    let made = identity.create_trust(&ctx, &body).await?;
    Ok(identity.one(StatusCode::CREATED, "trust", PATH, made))
}

async fn list(State(identity): App, ctx: Context, query: Query) -> Answer {
    let found = identity.list_trusts(&ctx, &query).await?;
    Ok(identity.many("trusts", PATH, &query, found))
}

async fn show(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let found = identity.show_trust(&ctx, &id).await?;
    Ok(identity.one(StatusCode::OK, "trust", PATH, found))
}

async fn delete(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_trust(&ctx, &id).await?;
    Ok(done())
}

async fn roles(State(identity): App, ctx: Context, Path(id): Path<String>, query: Query) -> Answer {
    let found = identity.roles_of_trust(&ctx, "identity:list_roles_for_trust", &id).await?;
    Ok(identity.many_at(&format!("{PATH}/{id}/roles"), "roles", "roles", &query, found))
}

async fn role(State(identity): App, ctx: Context, Path((id, role)): Path<(String, String)>) -> Answer {
    let found = identity.roles_of_trust(&ctx, "identity:get_role_for_trust", &id).await?;
    let found = found.into_iter().find(|r| r.text("id") == role);
    let found = found.ok_or_else(|| IdentityError::not_found("role", &role))?;
    Ok(identity.one(StatusCode::OK, "role", "roles", found))
}

async fn check_role(State(identity): App, ctx: Context, Path((id, role)): Path<(String, String)>) -> Answer {
    let found = identity.roles_of_trust(&ctx, "identity:get_role_for_trust", &id).await?;
    match found.iter().any(|r| r.text("id") == role) {
        true => Ok(StatusCode::OK.into_response()),
        false => Err(IdentityError::not_found("role", &role).into()),
    }
}
