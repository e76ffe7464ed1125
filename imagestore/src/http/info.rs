//! `/v2/info`: what this service can do.

use super::App;
use crate::imports::METHODS;
use crate::store::images as rows;
use crate::{Images, policy};
use api::{Context, Error, Json, Routes};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.get("/v2/info/import", import)
        .get("/v2/info/stores", stores)
        .get("/v2/info/stores/detail", stores_detail)
        .get("/v2/info/usage", usage)
}

async fn import(_: Context) -> Json<Value> {
    let description = "Import methods available.";
    Json(json!({"import-methods": {"description": description, "type": "array", "value": METHODS}}))
}

async fn stores(images: App, _: Context) -> Json<Value> {
    Json(json!({"stores": [{"id": images.config.tier, "default": "true"}]}))
}

async fn stores_detail(images: App, ctx: Context) -> Result<Json<Value>, Error> {
    policy::check(&images.policy, &ctx, "stores_info_detail", &[])?;
    let tier = images.blobs(&images.config.tier)?.tier;
    let properties = json!({"pool": tier.pool.name(), "chunk_size": 4, "thin_provisioning": true});
    let store =
        json!({"id": tier.name, "type": "rbd", "default": "true", "weight": 0, "properties": properties});
    Ok(Json(json!({"stores": [store]})))
}

async fn usage(images: App, ctx: Context) -> Result<Json<Value>, Error> {
    let used = rows::usage(images.db.read(), ctx.project_id()?).await?;
    const MIB: u64 = 1 << 20;
    let limit = |n: u64| if n == 0 { -1 } else { i64::try_from(n / MIB).unwrap_or(i64::MAX) };
    let mib = used.bytes / (1 << 20);
    Ok(Json(json!({"usage": {
        "image_size_total": {"limit": limit(images.config.project_quota), "usage": mib},
        "image_count_total": {"limit": -1, "usage": used.images},
        "image_count_uploading": {"limit": -1, "usage": used.uploading},
    }})))
}
