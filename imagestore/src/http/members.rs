//! `/v2/images/<id>/members`.

use super::{App, view};
use crate::model::MemberStatus;
use crate::{ImageError, Images};
use api::{Context, Error, Json, Path, Routes};
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.get("/v2/images/{image_id}/members", list)
        .post("/v2/images/{image_id}/members", add)
        .get("/v2/images/{image_id}/members/{member_id}", show)
        .put("/v2/images/{image_id}/members/{member_id}", answer)
        .delete("/v2/images/{image_id}/members/{member_id}", remove)
}

/// The one string that a body must hold.
fn word<'a>(body: &'a Map<String, Value>, key: &str) -> Result<&'a str, Error> {
    match body.get(key).and_then(Value::as_str) {
        Some(word) => Ok(word),
        None => Err(Error::bad_request(format!("Expected a {key} in the request body, as a string."))),
    }
}

async fn list(images: App, ctx: Context, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    let members: Vec<_> = images.members(&ctx, &id).await?.iter().map(view::member).collect();
    Ok(Json(json!({"members": members, "schema": "/v2/schemas/members"})))
}

async fn add(
    images: App,
    ctx: Context,
    Path(id): Path<String>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Json<Value>, Error> {
    let added = images.add_member(&ctx, &id, word(&body, "member")?).await?;
    Ok(Json(view::member(&added)))
}

async fn show(
    images: App,
    ctx: Context,
    Path((id, member)): Path<(String, String)>,
) -> Result<Json<Value>, Error> {
    Ok(Json(view::member(&images.member(&ctx, &id, &member).await?)))
}

async fn answer(
    images: App,
    ctx: Context,
    Path((id, member)): Path<(String, String)>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Json<Value>, Error> {
    let status = word(&body, "status")?;
    let status = MemberStatus::parse(status).ok_or_else(|| {
        ImageError::Invalid(format!(
            "Status must be \"pending\", \"accepted\" or \"rejected\", not {status:?}."
        ))
    })?;
    Ok(Json(view::member(&images.answer(&ctx, &id, &member, status).await?)))
}

async fn remove(
    images: App,
    ctx: Context,
    Path((id, member)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    images.remove_member(&ctx, &id, &member).await?;
    Ok(StatusCode::NO_CONTENT)
}
