//! `/v2/cache`: what is cached and what is on its way. Where the cache is off, whoever may ask hears so.

use super::App;
use crate::Images;
use api::{Context, Error, Json, Path, Routes};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use state::Timestamp;
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.get("/v2/cache", list)
        .delete("/v2/cache", clear)
        .put("/v2/cache/{image_id}", queue)
        .delete("/v2/cache/{image_id}", remove)
}

/// Seconds since the epoch, with a fraction.
fn seconds(at: Timestamp) -> f64 {
    at.micros() as f64 / 1e6
}

async fn list(images: App, ctx: Context) -> Result<Json<Value>, Error> {
    let (cached, queued) = images.cache_state(&ctx).await?;
    let cached = cached.iter().map(|e| {
        json!({"image_id": e.image_id, "hits": e.hits, "last_accessed": seconds(e.last_accessed),
            "last_modified": seconds(e.since), "size": e.size})
    });
    let queued = queued.iter().map(|e| &e.image_id);
    Ok(Json(
        json!({"cached_images": cached.collect::<Vec<_>>(), "queued_images": queued.collect::<Vec<_>>()}),
    ))
}

async fn clear(images: App, ctx: Context, headers: HeaderMap) -> Result<StatusCode, Error> {
    let target = headers.get("x-image-cache-clear-target").map(|t| String::from_utf8_lossy(t.as_bytes()));
    images.clear_cache(&ctx, &target.unwrap_or_default()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn queue(images: App, ctx: Context, Path(id): Path<String>) -> Result<StatusCode, Error> {
    images.cache(&ctx, &id).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn remove(images: App, ctx: Context, Path(id): Path<String>) -> Result<StatusCode, Error> {
    images.uncache(&ctx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
