//! `/v2/tasks` and `/v2/images/<id>/tasks`: imports as users see them.

use super::listing::{limit, link};
use super::{App, imports, view};
use crate::store::tasks::Listing;
use crate::{Config, ImageError, Images, NewImage, patch, policy};
use api::{Context, Error, Json, Path, Query, Routes};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
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
    let asked = listing(&images.config, &query)?;
    let limit = asked.limit;
    let tasks = images.tasks(&ctx, asked, query.get("marker")).await?;
    let shown: Vec<_> = tasks.iter().map(view::task_brief).collect();
    let mut body = json!({"tasks": shown, "first": link(AT, &query, None), "schema": "/v2/schemas/tasks"});
    // As upstream: a full page may have another one behind it.
    if let Some(last) = tasks.last().filter(|_| tasks.len() >= limit) {
        body["next"] = link(AT, &query, Some(&last.id)).into();
    }
    Ok(Json(body))
}

const AT: &str = "/v2/tasks";
const TYPES: &[&str] = &["import", "api_image_import", "location_import"];
const STATES: &[&str] = &["pending", "processing", "success", "failure"];
const SORT_KEYS: &[&str] = &["created_at", "updated_at", "id", "type", "status"];

fn listing(config: &Config, query: &Query) -> Result<Listing, ImageError> {
    let one_of = |what: &str, known: &'static [&'static str], value: &str| {
        let found = known.iter().copied().find(|k| *k == value);
        found.ok_or_else(|| {
            ImageError::Invalid(format!(
                "Invalid {what}: {value}. It must be one of the following: {}.",
                known.join(", ")
            ))
        })
    };
    let filter = |key: &str, known| {
        query.get(key).map(|v| one_of(&format!("{key} value"), known, v).map(str::to_owned)).transpose()
    };
    let key = one_of("sort key", SORT_KEYS, query.get("sort_key").unwrap_or("created_at"))?;
    let direction = one_of("sort direction", &["asc", "desc"], query.get("sort_dir").unwrap_or("desc"))?;
    Ok(Listing {
        r#type: filter("type", TYPES)?,
        status: filter("status", STATES)?,
        sort: (key, direction == "desc"),
        limit: limit(config, query)?,
        after: None,
    })
}

async fn show(images: App, ctx: Context, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    Ok(Json(view::task(&images.task(&ctx, &id).await?)))
}

/// The one type that may be made: an image from a URL.
async fn create(images: App, ctx: Context, Json(body): Json<Value>) -> Result<Response, Error> {
    policy::check(&images.policy, &ctx, "tasks_api_access", &[])?;
    let (new, uri) = read(&images.config, &body)?;
    let task = images.import_task(&ctx, new, &uri, body["input"].clone()).await?;
    let at = images.links.to(&format!("/image/v2/tasks/{}", task.id));
    Ok((StatusCode::CREATED, [(header::LOCATION, at)], Json(view::task(&task))).into_response())
}

fn read(config: &Config, body: &Value) -> Result<(NewImage, String), ImageError> {
    let bad = |text: String| ImageError::Invalid(text);
    match body.get("type").and_then(Value::as_str) {
        Some("import") => {}
        Some(other) => return Err(bad(format!("Invalid type of task: {other}"))),
        None => return Err(bad("Task type cannot be empty".into())),
    }
    let field = |name: &str| {
        let found = body.get("input").and_then(|i| i.get(name)).filter(|v| !v.is_null());
        found.ok_or_else(|| bad(format!("Input to task requires the field '{name}'.")))
    };
    let uri = imports::uri(config, &json!({"uri": field("import_from")?}))?;
    let properties = field("image_properties")?.as_object().cloned();
    let properties = properties.ok_or_else(|| bad("'image_properties' is not an object.".into()))?;
    let new = patch::read_new(config, properties)?;
    // What is fetched keeps its format.
    match field("import_from_format")?.as_str() {
        Some(format) if new.disk_format.as_deref() == Some(format) => Ok((new, uri)),
        _ => Err(bad("'import_from_format' is not the 'disk_format' of the image.".into())),
    }
}
