//! `/v2.0/{resources}/{id}/tags`

use std::collections::BTreeSet;

use api::{Context, Error, Json, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

use crate::attr::{Body, text_of};
use crate::{NetError, Networks};

pub(super) fn routes(routes: Routes<Networks>) -> Routes<Networks> {
    routes
        .get("/v2.0/{resources}/{id}/tags", index)
        .put("/v2.0/{resources}/{id}/tags", replace)
        .delete("/v2.0/{resources}/{id}/tags", clear)
        .get("/v2.0/{resources}/{id}/tags/{tag}", show)
        .put("/v2.0/{resources}/{id}/tags/{tag}", add)
        .delete("/v2.0/{resources}/{id}/tags/{tag}", remove)
}

const TAG_MAX: usize = 255;
const TAGS_MAX: usize = 50;

fn check(tag: &str) -> Result<(), NetError> {
    if tag.is_empty() || tag.chars().count() > TAG_MAX || tag.contains(',') {
        return Err(NetError::bad_request(format!(
            "Invalid input for tag. Reason: a tag has 1 to {TAG_MAX} characters and no comma."
        )));
    }
    Ok(())
}

fn absent(tag: &str) -> NetError {
    NetError::refused(404, "TagNotFound", format!("Tag {tag} could not be found."))
}

async fn index(
    State(networks): State<Networks>,
    ctx: Context,
    Path((resources, id)): Path<(String, String)>,
) -> Result<Json<Value>, Error> {
    let tags = networks.tags(&ctx, &resources, &id).await?;
    Ok(Json(json!({ "tags": tags })))
}

async fn replace(
    State(networks): State<Networks>,
    ctx: Context,
    Path((resources, id)): Path<(String, String)>,
    Json(json): Json<Value>,
) -> Result<Json<Value>, Error> {
    let wrapped = json!({ "body": json });
    let body = Body::one(&wrapped, "body")?;
    body.only(&["tags"], &[], "PUT")?;
    body.required("tags")?;
    let wanted: BTreeSet<String> =
        body.list("tags", |name, v| text_of(name, v, TAG_MAX))?.unwrap_or_default().into_iter().collect();
    wanted.iter().try_for_each(|tag| check(tag))?;
    if wanted.len() > TAGS_MAX {
        return Err(NetError::bad_request(format!("Too many tags: the maximum is {TAGS_MAX}")).into());
    }
    let tags = networks.change_tags(&ctx, &resources, &id, move |tags| *tags = wanted).await?;
    Ok(Json(json!({ "tags": tags })))
}

async fn clear(
    State(networks): State<Networks>,
    ctx: Context,
    Path((resources, id)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    networks.change_tags(&ctx, &resources, &id, BTreeSet::clear).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show(
    State(networks): State<Networks>,
    ctx: Context,
    Path((resources, id, tag)): Path<(String, String, String)>,
) -> Result<StatusCode, Error> {
    let tags = networks.tags(&ctx, &resources, &id).await?;
    if tags.contains(&tag) { Ok(StatusCode::NO_CONTENT) } else { Err(absent(&tag).into()) }
}

async fn add(
    State(networks): State<Networks>,
    ctx: Context,
    Path((resources, id, tag)): Path<(String, String, String)>,
) -> Result<StatusCode, Error> {
    check(&tag)?;
    networks
        .change_tags(&ctx, &resources, &id, move |tags| {
            tags.insert(tag);
        })
        .await?;
    Ok(StatusCode::CREATED)
}

async fn remove(
    State(networks): State<Networks>,
    ctx: Context,
    Path((resources, id, tag)): Path<(String, String, String)>,
) -> Result<StatusCode, Error> {
    let tags = networks.tags(&ctx, &resources, &id).await?;
    if !tags.contains(&tag) {
        return Err(absent(&tag).into());
    }
    networks
        .change_tags(&ctx, &resources, &id, move |tags| {
            tags.remove(&tag);
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
