//! `/v2.0/quotas`

use std::collections::BTreeMap;

use api::{Context, Error, Json, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::Networks;
use crate::attr::Body;
use crate::quota::{defaults, resources};

pub(super) fn routes(routes: Routes<Networks>) -> Routes<Networks> {
    routes
        .get("/v2.0/quotas", index)
        .get("/v2.0/quotas/{project_id}", show)
        .put("/v2.0/quotas/{project_id}", update)
        .delete("/v2.0/quotas/{project_id}", reset)
        .get("/v2.0/quotas/{project_id}/default", default)
        .get("/v2.0/quotas/{project_id}/details.json", details)
        .get("/v2.0/quotas/{project_id}/details", details)
}

async fn index(State(networks): State<Networks>, ctx: Context) -> Result<Json<Value>, Error> {
    let list: Vec<Value> = networks
        .quota_list(&ctx)
        .await?
        .into_iter()
        .map(|(project, limits)| {
            let mut quota: Map<String, Value> = limits.into_iter().map(|(k, v)| (k, v.into())).collect();
            quota.insert("project_id".into(), project.clone().into());
            quota.insert("tenant_id".into(), project.into());
            Value::Object(quota)
        })
        .collect();
    Ok(Json(json!({ "quotas": list })))
}

async fn limits(networks: &Networks, ctx: &Context, project: &str) -> Result<Json<Value>, Error> {
    let usage = networks.quota_usage(ctx, project).await?;
    let quota: BTreeMap<String, i64> = usage.into_iter().map(|(name, u)| (name, u.limit)).collect();
    Ok(Json(json!({ "quota": quota })))
}

async fn show(
    State(networks): State<Networks>,
    ctx: Context,
    Path(project): Path<String>,
) -> Result<Json<Value>, Error> {
    limits(&networks, &ctx, &project).await
}

async fn update(
    State(networks): State<Networks>,
    ctx: Context,
    Path(project): Path<String>,
    Json(json): Json<Value>,
) -> Result<Json<Value>, Error> {
    let body = Body::one(&json, "quota")?;
    let known: Vec<&str> = resources().chain(["project_id", "tenant_id"]).collect();
    body.only(&known, &[], "PUT")?;
    let mut wanted = BTreeMap::new();
    for resource in resources() {
        if let Some(limit) = body.int(resource, -1, i64::from(i32::MAX))? {
            wanted.insert(resource.to_owned(), limit);
        }
    }
    networks.quota_set(&ctx, &project, &wanted).await?;
    limits(&networks, &ctx, &project).await
}

async fn reset(
    State(networks): State<Networks>,
    ctx: Context,
    Path(project): Path<String>,
) -> Result<StatusCode, Error> {
    networks.quota_reset(&ctx, &project).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn default(
    State(networks): State<Networks>,
    ctx: Context,
    Path(project): Path<String>,
) -> Result<Json<Value>, Error> {
    networks.enforce(&ctx, "get_quota", &[("project_id", &project)])?;
    Ok(Json(json!({ "quota": defaults() })))
}

async fn details(
    State(networks): State<Networks>,
    ctx: Context,
    Path(project): Path<String>,
) -> Result<Json<Value>, Error> {
    let usage = networks.quota_usage(&ctx, &project).await?;
    let quota: Map<String, Value> = usage
        .into_iter()
        .map(|(name, u)| (name, json!({"limit": u.limit, "used": u.used, "reserved": 0})))
        .collect();
    Ok(Json(json!({ "quota": quota })))
}
