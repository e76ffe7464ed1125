//! `/v2/images/<id>/import`.

use super::App;
use crate::imports::METHODS;
use crate::{ImageError, Images};
use api::{Context, Error, Json, Path, Routes};
use http::StatusCode;
use serde_json::{Map, Value};
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.post("/v2/images/{image_id}/import", import)
}

async fn import(
    images: App,
    ctx: Context,
    Path(id): Path<String>,
    Json(body): Json<Map<String, Value>>,
) -> Result<StatusCode, Error> {
    check(&images, &body)?;
    images.import(&ctx, &id, Value::Object(body)).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The method must be one that is built, and the stores must be the one there is.
fn check(images: &Images, body: &Map<String, Value>) -> Result<(), ImageError> {
    let method = body.get("method").and_then(|m| m.get("name")).and_then(Value::as_str);
    let Some(method) = method else {
        return Err(ImageError::invalid("Import request requires a 'name' field in its 'method'."));
    };
    if !METHODS.contains(&method) {
        return Err(ImageError::invalid(format!("Unknown import method name '{method}'.")));
    }
    for flag in ["all_stores", "all_stores_must_succeed"] {
        if body.get(flag).is_some_and(|v| !v.is_boolean()) {
            return Err(ImageError::invalid(format!("'{flag}' must be boolean value only")));
        }
    }
    let Some(stores) = body.get("stores") else { return Ok(()) };
    let all = body.get("all_stores").and_then(Value::as_bool).unwrap_or(false);
    let known = |s: &Value| s.as_str() == Some(&images.config.tier);
    match stores.as_array() {
        Some(list) if all && !list.is_empty() => Err(ImageError::invalid(
            "All_stores parameter can't be used with x-image-meta-store header or stores",
        )),
        Some(list) if list.iter().all(known) => Ok(()),
        _ => Err(ImageError::conflict("The requested store is not known here.")),
    }
}
