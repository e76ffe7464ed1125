//! `/v3/policies` and `/v3/OS-OAUTH1/consumers`.

use super::{Answer, App, Body, done};
use crate::Identity;
use crate::documents::Document;
use api::{Context, Path, Query, Routes};
use axum::extract::State;
use http::StatusCode;
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.post("/v3/policies", create_policy)
        .get("/v3/policies", list_policy)
        .get("/v3/policies/{policy_id}", show_policy)
        .patch("/v3/policies/{policy_id}", update_policy)
        .delete("/v3/policies/{policy_id}", delete_policy)
        .post("/v3/OS-OAUTH1/consumers", create_consumer)
        .get("/v3/OS-OAUTH1/consumers", list_consumer)
        .get("/v3/OS-OAUTH1/consumers/{consumer_id}", show_consumer)
        .patch("/v3/OS-OAUTH1/consumers/{consumer_id}", update_consumer)
        .delete("/v3/OS-OAUTH1/consumers/{consumer_id}", delete_consumer)
}

async fn create_policy(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    let made = identity.create_document(&ctx, Document::Policy, &body).await?;
    Ok(identity.one(StatusCode::CREATED, "policy", "policies", made))
}

async fn list_policy(State(identity): App, ctx: Context, query: Query) -> Answer {
    let found = identity.list_documents(&ctx, Document::Policy, &query).await?;
    Ok(identity.many("policies", "policies", &query, found))
}

async fn show_policy(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let found = identity.show_document(&ctx, Document::Policy, &id).await?;
    Ok(identity.one(StatusCode::OK, "policy", "policies", found))
}

async fn update_policy(
    State(identity): App,
    ctx: Context,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer {
    let changed = identity.update_document(&ctx, Document::Policy, &id, &body).await?;
    Ok(identity.one(StatusCode::OK, "policy", "policies", changed))
}

async fn delete_policy(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_document(&ctx, Document::Policy, &id).await?;
    Ok(done())
}

async fn create_consumer(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    let made = identity.create_document(&ctx, Document::Consumer, &body).await?;
    Ok(identity.one(StatusCode::CREATED, "consumer", "OS-OAUTH1/consumers", made))
}

async fn list_consumer(State(identity): App, ctx: Context, query: Query) -> Answer {
    let found = identity.list_documents(&ctx, Document::Consumer, &query).await?;
    Ok(identity.many("consumers", "OS-OAUTH1/consumers", &query, found))
}

async fn show_consumer(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let found = identity.show_document(&ctx, Document::Consumer, &id).await?;
    Ok(identity.one(StatusCode::OK, "consumer", "OS-OAUTH1/consumers", found))
}

async fn update_consumer(
    State(identity): App,
    ctx: Context,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer {
    let changed = identity.update_document(&ctx, Document::Consumer, &id, &body).await?;
    Ok(identity.one(StatusCode::OK, "consumer", "OS-OAUTH1/consumers", changed))
}

async fn delete_consumer(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_document(&ctx, Document::Consumer, &id).await?;
    Ok(done())
}
