//! `/v3/projects`, with their tags.

use super::{Answer, App, Body, done, json};
use crate::projects::tags_of;
use crate::{Identity, IdentityError};
use api::{Context, Path, Query, Routes};
use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use serde_json::json as object;
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.post("/v3/projects", create)
        .get("/v3/projects", list)
        .get("/v3/projects/{project_id}", show)
        .patch("/v3/projects/{project_id}", update)
        .delete("/v3/projects/{project_id}", delete)
        .get("/v3/projects/{project_id}/tags", list_tags)
        .put("/v3/projects/{project_id}/tags", set_tags)
        .delete("/v3/projects/{project_id}/tags", clear_tags)
        .get("/v3/projects/{project_id}/tags/{tag}", check_tag)
        .put("/v3/projects/{project_id}/tags/{tag}", add_tag)
        .delete("/v3/projects/{project_id}/tags/{tag}", remove_tag)
        .get("/v3/users/{user_id}/projects", of_user)
}

async fn create(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    let made = identity.create_project(&ctx, &body).await?;
    Ok(identity.one(StatusCode::CREATED, "project", "projects", made))
}

async fn list(State(identity): App, ctx: Context, query: Query) -> Answer {
    let seen = identity.projects_seen(&ctx, &query)?;
    let key = format!("projects {seen:?} {query:?}");
    let make = async || {
        let found = identity.list_projects(seen, &query).await?;
        Ok(identity.page_of("projects", "projects", "projects", &query, found))
    };
    Ok(identity.page(key, make).await?)
}

async fn show(State(identity): App, ctx: Context, Path(id): Path<String>, query: Query) -> Answer {
    let found = identity.show_project(&ctx, &id, &query).await?;
    Ok(identity.one(StatusCode::OK, "project", "projects", found))
}

async fn update(State(identity): App, ctx: Context, Path(id): Path<String>, Body(body): Body) -> Answer {
    let changed = identity.update_project(&ctx, &id, &body).await?;
    Ok(identity.one(StatusCode::OK, "project", "projects", changed))
}

async fn delete(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_project(&ctx, &id).await?;
    Ok(done())
}

async fn of_user(State(identity): App, ctx: Context, Path(id): Path<String>, query: Query) -> Answer {
    identity.user_for(&ctx, "identity:list_user_projects", &id).await?;
    let found = identity.projects_of(&id, &[]).await?;
    Ok(identity.many_at(&format!("users/{id}/projects"), "projects", "projects", &query, found))
}

async fn list_tags(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let project = identity.project_for(&ctx, "identity:list_project_tags", &id).await?;
    Ok(shown(&identity, &id, &tags_of(&project)))
}

fn shown(identity: &Identity, id: &str, tags: &[String]) -> axum::response::Response {
    let links =
        object!({"self": identity.url(&format!("projects/{id}/tags")), "next": null, "previous": null});
    json(StatusCode::OK, &object!({"tags": tags, "links": links}))
}

async fn set_tags(State(identity): App, ctx: Context, Path(id): Path<String>, Body(body): Body) -> Answer {
    let tags =
        body["tags"].as_array().map(|list| list.iter().map(|t| t.as_str().map(str::to_owned)).collect());
    let tags: Option<Vec<String>> =
        tags.ok_or_else(|| IdentityError::Invalid("Expecting to find tags.".into()))?;
    let tags = tags.ok_or_else(|| IdentityError::Invalid("Tags must be strings.".into()))?;
    let tags = identity.set_tags(&ctx, "identity:update_project_tags", &id, |_| Ok(tags)).await?;
    Ok(shown(&identity, &id, &tags))
}

async fn clear_tags(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.set_tags(&ctx, "identity:delete_project_tags", &id, |_| Ok(Vec::new())).await?;
    Ok(done())
}

async fn check_tag(State(identity): App, ctx: Context, Path((id, tag)): Path<(String, String)>) -> Answer {
    let project = identity.project_for(&ctx, "identity:get_project_tag", &id).await?;
    match tags_of(&project).contains(&tag) {
        true => Ok(done()),
        false => Err(no_tag(tag).into()),
    }
}

fn no_tag(tag: String) -> IdentityError {
    IdentityError::NotFound { noun: "project tag", id: tag }
}

async fn add_tag(State(identity): App, ctx: Context, Path((id, tag)): Path<(String, String)>) -> Answer {
    let url = identity.url(&format!("projects/{id}/tags/{tag}"));
    let add = |tags: Vec<String>| Ok([tags, vec![tag]].concat());
    identity.set_tags(&ctx, "identity:create_project_tag", &id, add).await?;
    let mut response = StatusCode::CREATED.into_response();
    if let Ok(url) = http::HeaderValue::from_str(&url) {
        response.headers_mut().insert(http::header::LOCATION, url);
    }
    Ok(response)
}

async fn remove_tag(State(identity): App, ctx: Context, Path((id, tag)): Path<(String, String)>) -> Answer {
    let remove = |mut tags: Vec<String>| {
        let before = tags.len();
        tags.retain(|t| *t != tag);
        if tags.len() == before { Err(no_tag(tag)) } else { Ok(tags) }
    };
    identity.set_tags(&ctx, "identity:delete_project_tag", &id, remove).await?;
    Ok(done())
}
