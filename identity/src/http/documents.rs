//! `/v3/policies`, `/v3/OS-OAUTH1/consumers` and `/v3/domains/{domain_id}/config`.

use super::{Answer, App, Body, done, json};
use crate::Identity;
use crate::documents::Document;
use api::{Context, Path, Query, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::json as object;
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
        .get("/v3/domains/{domain_id}/config", show_config)
        .patch("/v3/domains/{domain_id}/config", update_config)
        .delete("/v3/domains/{domain_id}/config", delete_config)
        .get("/v3/domains/{domain_id}/config/{group}", show_group)
        .patch("/v3/domains/{domain_id}/config/{group}", update_group)
        .delete("/v3/domains/{domain_id}/config/{group}", delete_group)
        .get("/v3/domains/{domain_id}/config/{group}/{option}", show_option)
        .patch("/v3/domains/{domain_id}/config/{group}/{option}", update_option)
        .delete("/v3/domains/{domain_id}/config/{group}/{option}", delete_option)
        .put("/v3/domains/{domain_id}/config", put_config)
        .get("/v3/domains/config/default", default_config)
        .get("/v3/domains/config/{group}/default", default_group)
        .get("/v3/domains/config/{group}/{option}/default", default_option)
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

async fn put_config(State(identity): App, ctx: Context, Path(id): Path<String>, Body(body): Body) -> Answer {
    let config = identity.set_domain_config(&ctx, &id, (None, None), &body, true).await?;
    Ok(json(StatusCode::CREATED, &object!({"config": config})))
}

async fn show_config(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let config = identity.domain_config(&ctx, &id, None, None).await?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}

async fn update_config(
    State(identity): App,
    ctx: Context,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer {
    let config = identity.set_domain_config(&ctx, &id, (None, None), &body, false).await?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}

async fn delete_config(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_domain_config(&ctx, &id, None, None).await?;
    Ok(done())
}

async fn show_group(State(identity): App, ctx: Context, Path((id, group)): Path<(String, String)>) -> Answer {
    let config = identity.domain_config_part(&ctx, &id, &group, None).await?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}

async fn update_group(
    State(identity): App,
    ctx: Context,
    Path((id, group)): Path<(String, String)>,
    Body(body): Body,
) -> Answer {
    let config = identity.set_domain_config(&ctx, &id, (Some(&group), None), &body, false).await?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}

async fn delete_group(
    State(identity): App,
    ctx: Context,
    Path((id, group)): Path<(String, String)>,
) -> Answer {
    identity.delete_domain_config(&ctx, &id, Some(&group), None).await?;
    Ok(done())
}

async fn show_option(
    State(identity): App,
    ctx: Context,
    Path((id, group, option)): Path<(String, String, String)>,
) -> Answer {
    let config = identity.domain_config_part(&ctx, &id, &group, Some(&option)).await?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}

async fn update_option(
    State(identity): App,
    ctx: Context,
    Path((id, group, option)): Path<(String, String, String)>,
    Body(body): Body,
) -> Answer {
    let config = identity.set_domain_config(&ctx, &id, (Some(&group), Some(&option)), &body, false).await?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}

async fn delete_option(
    State(identity): App,
    ctx: Context,
    Path((id, group, option)): Path<(String, String, String)>,
) -> Answer {
    identity.delete_domain_config(&ctx, &id, Some(&group), Some(&option)).await?;
    Ok(done())
}

async fn default_config(State(identity): App, ctx: Context) -> Answer {
    let config = identity.default_config(&ctx, None, None)?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}

async fn default_group(State(identity): App, ctx: Context, Path(group): Path<String>) -> Answer {
    let config = identity.default_config(&ctx, Some(&group), None)?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}

async fn default_option(
    State(identity): App,
    ctx: Context,
    Path((group, option)): Path<(String, String)>,
) -> Answer {
    let config = identity.default_config(&ctx, Some(&group), Some(&option))?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}
