//! `/v2/info`: what this service can do.

use super::App;
use crate::Images;
use crate::quota::Resource;
use api::{Context, Error, Json, Routes};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.get("/v2/info/import", import).get("/v2/info/usage", usage)
}

async fn import(images: App, _: Context) -> Json<Value> {
    let (description, value) = ("Import methods available.", images.import_methods());
    Json(json!({"import-methods": {"description": description, "type": "array", "value": value}}))
}

async fn usage(images: App, ctx: Context) -> Result<Json<Value>, Error> {
    let limits = images.limits(ctx.project_id()?).await?;
    let one = |(resource, limit, used): (Resource, i64, i64)| {
        (resource.name().to_owned(), json!({"limit": limit, "usage": used}))
    };
    Ok(Json(json!({"usage": limits.into_iter().map(one).collect::<Map<_, _>>()})))
}
