//! `/v3/regions`, `/v3/services` and `/v3/endpoints`.

use super::{Answer, App, Body, done};
use crate::Identity;
use crate::catalogue_rules::shown_endpoint as shown;
use api::{Context, Path, Query, Routes};
use axum::extract::State;
use http::StatusCode;
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.put("/v3/regions/{region_id}", put_region)
        .post("/v3/regions", create_region)
        .get("/v3/regions", list_regions)
        .get("/v3/regions/{region_id}", show_region)
        .patch("/v3/regions/{region_id}", update_region)
        .delete("/v3/regions/{region_id}", delete_region)
        .post("/v3/services", create_service)
        .get("/v3/services", list_services)
        .get("/v3/services/{service_id}", show_service)
        .patch("/v3/services/{service_id}", update_service)
        .delete("/v3/services/{service_id}", delete_service)
        .post("/v3/endpoints", create_endpoint)
        .get("/v3/endpoints", list_endpoints)
        .get("/v3/endpoints/{endpoint_id}", show_endpoint)
        .patch("/v3/endpoints/{endpoint_id}", update_endpoint)
        .delete("/v3/endpoints/{endpoint_id}", delete_endpoint)
}

async fn put_region(State(identity): App, ctx: Context, Path(id): Path<String>, Body(body): Body) -> Answer {
    let made = identity.create_region(&ctx, Some(&id), &body).await?;
    Ok(identity.one(StatusCode::CREATED, "region", "regions", made))
}

async fn create_region(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    let made = identity.create_region(&ctx, None, &body).await?;
    Ok(identity.one(StatusCode::CREATED, "region", "regions", made))
}

async fn list_regions(State(identity): App, ctx: Context, query: Query) -> Answer {
    let found = identity.list_regions(&ctx, &query).await?;
    Ok(identity.many("regions", "regions", &query, found))
}

async fn show_region(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let found = identity.show_region(&ctx, &id).await?;
    Ok(identity.one(StatusCode::OK, "region", "regions", found))
}

async fn update_region(
    State(identity): App,
    ctx: Context,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer {
    let changed = identity.update_region(&ctx, &id, &body).await?;
    Ok(identity.one(StatusCode::OK, "region", "regions", changed))
}

async fn delete_region(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_region(&ctx, &id).await?;
    Ok(done())
}

async fn create_service(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    let made = identity.create_service(&ctx, &body).await?;
    Ok(identity.one(StatusCode::CREATED, "service", "services", made))
}

async fn list_services(State(identity): App, ctx: Context, query: Query) -> Answer {
    let found = identity.list_services(&ctx, &query).await?;
    Ok(identity.many("services", "services", &query, found))
}

async fn show_service(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let found = identity.show_service(&ctx, &id).await?;
    Ok(identity.one(StatusCode::OK, "service", "services", found))
}

async fn update_service(
    State(identity): App,
    ctx: Context,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer {
    let changed = identity.update_service(&ctx, &id, &body).await?;
    Ok(identity.one(StatusCode::OK, "service", "services", changed))
}

async fn delete_service(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_service(&ctx, &id).await?;
    Ok(done())
}

async fn create_endpoint(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    let made = identity.create_endpoint(&ctx, &body).await?;
    Ok(identity.one(StatusCode::CREATED, "endpoint", "endpoints", shown(made)))
}

async fn list_endpoints(State(identity): App, ctx: Context, query: Query) -> Answer {
    let mut found = identity.list_endpoints(&ctx, &query).await?;
    found.records = found.records.into_iter().map(shown).collect();
    Ok(identity.many("endpoints", "endpoints", &query, found))
}

async fn show_endpoint(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let found = identity.show_endpoint(&ctx, &id).await?;
    Ok(identity.one(StatusCode::OK, "endpoint", "endpoints", shown(found)))
}

async fn update_endpoint(
    State(identity): App,
    ctx: Context,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer {
    let changed = identity.update_endpoint(&ctx, &id, &body).await?;
    Ok(identity.one(StatusCode::OK, "endpoint", "endpoints", shown(changed)))
}

async fn delete_endpoint(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_endpoint(&ctx, &id).await?;
    Ok(done())
}
