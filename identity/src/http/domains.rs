//! `/v3/domains`.

use super::{Answer, App, Body, done};
use crate::Identity;
use crate::domains::shown;
use api::{Context, Path, Query, Routes};
use axum::extract::State;
use http::StatusCode;
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.post("/v3/domains", create)
        .get("/v3/domains", list)
        .get("/v3/domains/{domain_id}", show)
        .patch("/v3/domains/{domain_id}", update)
        .delete("/v3/domains/{domain_id}", delete)
}

async fn create(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    let made = identity.create_domain(&ctx, &body).await?;
    Ok(identity.one(StatusCode::CREATED, "domain", "domains", shown(made)))
}

async fn list(State(identity): App, ctx: Context, query: Query) -> Answer {
    let mut found = identity.list_domains(&ctx, &query).await?;
    found.records = found.records.into_iter().map(shown).collect();
    Ok(identity.many("domains", "domains", &query, found))
}

async fn show(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let found = identity.domain_for(&ctx, "identity:get_domain", &id).await?;
    Ok(identity.one(StatusCode::OK, "domain", "domains", shown(found)))
}

async fn update(State(identity): App, ctx: Context, Path(id): Path<String>, Body(body): Body) -> Answer {
    let changed = identity.update_domain(&ctx, &id, &body).await?;
    Ok(identity.one(StatusCode::OK, "domain", "domains", shown(changed)))
}

async fn delete(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_domain(&ctx, &id).await?;
    Ok(done())
}
