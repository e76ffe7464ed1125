//! `/v3/domains/{domain_id}/config`, its groups and options, and the defaults of these.

use super::{Answer, App, Body, done, json};
use crate::Identity;
use crate::domain_config::Part;
use api::{Context, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::json as object;
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.get("/v3/domains/{domain_id}/config", show_config)
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

fn group_of(group: &str) -> Part<'_> {
    Part { group: Some(group), option: None }
}

fn option_of<'a>(group: &'a str, option: &'a str) -> Part<'a> {
    Part { group: Some(group), option: Some(option) }
}

async fn put_config(State(identity): App, ctx: Context, Path(id): Path<String>, Body(body): Body) -> Answer {
    let (config, new) = identity.create_domain_config(&ctx, &id, &body).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json(status, &object!({"config": config})))
}

async fn show_config(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let config = identity.domain_config(&ctx, &id, Part::default()).await?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}

async fn update_config(
    State(identity): App,
    ctx: Context,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer {
    let config = identity.update_domain_config(&ctx, &id, Part::default(), &body).await?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}

async fn delete_config(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_domain_config(&ctx, &id, Part::default()).await?;
    Ok(done())
}

async fn show_group(State(identity): App, ctx: Context, Path((id, group)): Path<(String, String)>) -> Answer {
    let config = identity.domain_config(&ctx, &id, group_of(&group)).await?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}

async fn update_group(
    State(identity): App,
    ctx: Context,
    Path((id, group)): Path<(String, String)>,
    Body(body): Body,
) -> Answer {
    let config = identity.update_domain_config(&ctx, &id, group_of(&group), &body).await?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}

async fn delete_group(
    State(identity): App,
    ctx: Context,
    Path((id, group)): Path<(String, String)>,
) -> Answer {
    identity.delete_domain_config(&ctx, &id, group_of(&group)).await?;
    Ok(done())
}

async fn show_option(
    State(identity): App,
    ctx: Context,
    Path((id, group, option)): Path<(String, String, String)>,
) -> Answer {
    let config = identity.domain_config(&ctx, &id, option_of(&group, &option)).await?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}

async fn update_option(
    State(identity): App,
    ctx: Context,
    Path((id, group, option)): Path<(String, String, String)>,
    Body(body): Body,
) -> Answer {
    let config = identity.update_domain_config(&ctx, &id, option_of(&group, &option), &body).await?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}

async fn delete_option(
    State(identity): App,
    ctx: Context,
    Path((id, group, option)): Path<(String, String, String)>,
) -> Answer {
    identity.delete_domain_config(&ctx, &id, option_of(&group, &option)).await?;
    Ok(done())
}

async fn default_config(State(identity): App, ctx: Context) -> Answer {
    let config = identity.default_config(&ctx, Part::default())?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}

async fn default_group(State(identity): App, ctx: Context, Path(group): Path<String>) -> Answer {
    let config = identity.default_config(&ctx, group_of(&group))?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}

async fn default_option(
    State(identity): App,
    ctx: Context,
    Path((group, option)): Path<(String, String)>,
) -> Answer {
    let config = identity.default_config(&ctx, option_of(&group, &option))?;
    Ok(json(StatusCode::OK, &object!({"config": config})))
}
