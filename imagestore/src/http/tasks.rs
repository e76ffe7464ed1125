//! `/v2/tasks` and `/v2/images/<id>/tasks`: imports as users see them.

use super::{App, view};
use crate::{ImageError, Images};
use api::{Context, Error, Json, Path, Query, Routes};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.get("/v2/images/{image_id}/tasks", of_image)
        .get("/v2/tasks", list)
        .post("/v2/tasks", create)
        .get("/v2/tasks/{task_id}", show)
}

async fn of_image(images: App, ctx: Context, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    let tasks: Vec<_> = images.tasks_of(&ctx, &id).await?.iter().map(view::task).collect();
    Ok(Json(json!({"tasks": tasks})))
}

async fn list(images: App, ctx: Context, query: Query) -> Result<Json<Value>, Error> {
    let limit = query.int("limit")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(images.config.page);
    let tasks = images.tasks(&ctx, limit.min(images.config.page_max)).await?;
    let tasks: Vec<_> = tasks.iter().map(view::task_brief).collect();
    Ok(Json(json!({"tasks": tasks, "first": "/v2/tasks", "schema": "/v2/schemas/tasks"})))
}

async fn show(images: App, ctx: Context, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    Ok(Json(view::task(&images.task(&ctx, &id).await?)))
}

/// Upstream's task types fetch from a URL; none of them is built.
async fn create(images: App, ctx: Context, Json(_): Json<Value>) -> Result<Json<Value>, Error> {
    images.tasks(&ctx, 0).await?;
    Err(ImageError::invalid("Invalid type of task: none can be created here; use the import API instead.")
        .into())
}
