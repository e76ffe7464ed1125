//! `/v3/OS-EP-FILTER`.

use super::{Answer, App, Body, done};
use crate::Identity;
use crate::catalogue_rules::shown_endpoint;
use crate::endpoint_filter::Given;
use crate::store::Record;
use api::{Context, Path, Query, Routes};
use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.post("/v3/OS-EP-FILTER/endpoint_groups", create)
        .get("/v3/OS-EP-FILTER/endpoint_groups", list)
        .get("/v3/OS-EP-FILTER/endpoint_groups/{group_id}", show)
        .patch("/v3/OS-EP-FILTER/endpoint_groups/{group_id}", update)
        .delete("/v3/OS-EP-FILTER/endpoint_groups/{group_id}", delete)
        .get("/v3/OS-EP-FILTER/endpoint_groups/{group_id}/endpoints", group_endpoints)
        .get("/v3/OS-EP-FILTER/endpoint_groups/{group_id}/projects", group_projects)
        .put("/v3/OS-EP-FILTER/endpoint_groups/{group_id}/projects/{project_id}", give_group)
        .get("/v3/OS-EP-FILTER/endpoint_groups/{group_id}/projects/{project_id}", check_group)
        .delete("/v3/OS-EP-FILTER/endpoint_groups/{group_id}/projects/{project_id}", take_group)
        .get("/v3/OS-EP-FILTER/endpoints/{endpoint_id}/projects", endpoint_projects)
        .get("/v3/OS-EP-FILTER/projects/{project_id}/endpoints", project_endpoints)
        .get("/v3/OS-EP-FILTER/projects/{project_id}/endpoint_groups", project_groups)
        .put("/v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}", give_endpoint)
        .get("/v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}", check_endpoint)
        .delete("/v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}", take_endpoint)
}

const GROUPS: &str = "OS-EP-FILTER/endpoint_groups";

async fn create(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    let made = identity.create_endpoint_group(&ctx, &body).await?;
    Ok(identity.one(StatusCode::CREATED, "endpoint_group", GROUPS, made))
}

async fn list(State(identity): App, ctx: Context, query: Query) -> Answer {
    let found = identity.list_endpoint_groups(&ctx, &query).await?;
    Ok(identity.many("endpoint_groups", GROUPS, &query, found))
}

async fn show(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let found = identity.show_endpoint_group(&ctx, &id).await?;
    Ok(identity.one(StatusCode::OK, "endpoint_group", GROUPS, found))
}

async fn update(State(identity): App, ctx: Context, Path(id): Path<String>, Body(body): Body) -> Answer {
    let changed = identity.update_endpoint_group(&ctx, &id, &body).await?;
    Ok(identity.one(StatusCode::OK, "endpoint_group", GROUPS, changed))
}

async fn delete(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_endpoint_group(&ctx, &id).await?;
    Ok(done())
}

fn endpoints(identity: &Identity, at: &str, query: &Query, found: Vec<Record>) -> Answer {
    let found: Vec<Record> = found.into_iter().map(shown_endpoint).collect();
    Ok(identity.many_at(at, "endpoints", "endpoints", query, found))
}

async fn group_endpoints(State(identity): App, ctx: Context, Path(id): Path<String>, query: Query) -> Answer {
    let found = identity.endpoints_in_group(&ctx, &id).await?;
    endpoints(&identity, &format!("{GROUPS}/{id}/endpoints"), &query, found)
}

async fn project_endpoints(
    State(identity): App,
    ctx: Context,
    Path(id): Path<String>,
    query: Query,
) -> Answer {
    let found = identity.endpoints_given(&ctx, &id).await?;
    endpoints(&identity, &format!("OS-EP-FILTER/projects/{id}/endpoints"), &query, found)
}

async fn group_projects(State(identity): App, ctx: Context, Path(id): Path<String>, query: Query) -> Answer {
    let found = identity.projects_given(&ctx, Given::Group, &id).await?;
    Ok(identity.many_at(&format!("{GROUPS}/{id}/projects"), "projects", "projects", &query, found))
}

async fn endpoint_projects(
    State(identity): App,
    ctx: Context,
    Path(id): Path<String>,
    query: Query,
) -> Answer {
    let found = identity.projects_given(&ctx, Given::Endpoint, &id).await?;
    let at = format!("OS-EP-FILTER/endpoints/{id}/projects");
    Ok(identity.many_at(&at, "projects", "projects", &query, found))
}

async fn project_groups(State(identity): App, ctx: Context, Path(id): Path<String>, query: Query) -> Answer {
    let found = identity.groups_given(&ctx, &id).await?;
    let at = format!("OS-EP-FILTER/projects/{id}/endpoint_groups");
    Ok(identity.many_at(&at, "endpoint_groups", GROUPS, &query, found))
}

async fn give_group(
    State(identity): App,
    ctx: Context,
    Path((id, project)): Path<(String, String)>,
) -> Answer {
    identity.give_endpoint(&ctx, Given::Group, &project, &id).await?;
    Ok(done())
}

async fn check_group(
    State(identity): App,
    ctx: Context,
    Path((id, project)): Path<(String, String)>,
) -> Answer {
    identity.check_given(&ctx, Given::Group, &project, &id).await?;
    Ok(StatusCode::OK.into_response())
}

async fn take_group(
    State(identity): App,
    ctx: Context,
    Path((id, project)): Path<(String, String)>,
) -> Answer {
    identity.take_endpoint(&ctx, Given::Group, &project, &id).await?;
    Ok(done())
}

async fn give_endpoint(
    State(identity): App,
    ctx: Context,
    Path((project, id)): Path<(String, String)>,
) -> Answer {
    identity.give_endpoint(&ctx, Given::Endpoint, &project, &id).await?;
    Ok(done())
}

async fn check_endpoint(
    State(identity): App,
    ctx: Context,
    Path((project, id)): Path<(String, String)>,
) -> Answer {
    identity.check_given(&ctx, Given::Endpoint, &project, &id).await?;
    Ok(done())
}

async fn take_endpoint(
    State(identity): App,
    ctx: Context,
    Path((project, id)): Path<(String, String)>,
) -> Answer {
    identity.take_endpoint(&ctx, Given::Endpoint, &project, &id).await?;
    Ok(done())
}
