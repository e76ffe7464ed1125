//! `/v3/registered_limits` and `/v3/limits`.

use super::{Answer, App, Body, done, json};
use crate::Identity;
use api::{Context, Path, Query, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::json as object;
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.post("/v3/registered_limits", create_registered)
        .get("/v3/registered_limits", list_registered)
        .get("/v3/registered_limits/{id}", show_registered)
        .patch("/v3/registered_limits/{id}", update_registered)
        .delete("/v3/registered_limits/{id}", delete_registered)
        .post("/v3/limits", create)
        .get("/v3/limits", list)
        .get("/v3/limits/model", model)
        .get("/v3/limits/{id}", show)
        .patch("/v3/limits/{id}", update)
        .delete("/v3/limits/{id}", delete)
}

async fn model(State(identity): App, ctx: Context) -> Answer {
    identity.enforce(&ctx, "identity:get_limit_model", &[])?;
    let model = identity.config.limit_model;
    let model = object!({"name": model.name(), "description": model.description()});
    Ok(json(StatusCode::OK, &object!({"model": model})))
}

async fn create_registered(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    let made = identity.register_limits(&ctx, &body).await?;
    let mut response = identity.many("registered_limits", "registered_limits", &Query::default(), made);
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

async fn list_registered(State(identity): App, ctx: Context, query: Query) -> Answer {
    let found = identity.list_registered_limits(&ctx, &query).await?;
    Ok(identity.many("registered_limits", "registered_limits", &query, found))
}

async fn show_registered(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let found = identity.show_registered_limit(&ctx, &id).await?;
    Ok(identity.one(StatusCode::OK, "registered_limit", "registered_limits", found))
}

async fn update_registered(
    State(identity): App,
    ctx: Context,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer {
    let changed = identity.update_registered_limit(&ctx, &id, &body).await?;
    Ok(identity.one(StatusCode::OK, "registered_limit", "registered_limits", changed))
}

async fn delete_registered(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_registered_limit(&ctx, &id).await?;
    Ok(done())
}

async fn create(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    let made = identity.create_limits(&ctx, &body).await?;
    let mut response = identity.many("limits", "limits", &Query::default(), made);
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

async fn list(State(identity): App, ctx: Context, query: Query) -> Answer {
    let found = identity.list_limits(&ctx, &query).await?;
    Ok(identity.many("limits", "limits", &query, found))
}

async fn show(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let found = identity.show_limit(&ctx, &id).await?;
    Ok(identity.one(StatusCode::OK, "limit", "limits", found))
}

async fn update(State(identity): App, ctx: Context, Path(id): Path<String>, Body(body): Body) -> Answer {
    let changed = identity.update_limit(&ctx, &id, &body).await?;
    Ok(identity.one(StatusCode::OK, "limit", "limits", changed))
}

async fn delete(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_limit(&ctx, &id).await?;
    Ok(done())
}
