//! `/v2/cache`: images are clones and streams of the pool here, so nothing is cached, and the API says what upstream
//! says where its cache is off.

use super::App;
use crate::{Images, policy};
use api::{Context, Error, Routes};
use http::StatusCode;
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.get("/v2/cache", list)
        .delete("/v2/cache", clear)
        .put("/v2/cache/{image_id}", queue)
        .delete("/v2/cache/{image_id}", remove)
}

fn off(images: &Images, ctx: &Context, rule: &str) -> Result<StatusCode, Error> {
    policy::check(&images.policy, ctx, rule, &[])?;
    Err(Error::not_found("Caching via API is not supported at this site."))
}

async fn list(images: App, ctx: Context) -> Result<StatusCode, Error> {
    off(&images, &ctx, "cache_list")
}

async fn clear(images: App, ctx: Context) -> Result<StatusCode, Error> {
    off(&images, &ctx, "cache_delete")
}

async fn queue(images: App, ctx: Context) -> Result<StatusCode, Error> {
    off(&images, &ctx, "cache_image")
}

async fn remove(images: App, ctx: Context) -> Result<StatusCode, Error> {
    off(&images, &ctx, "cache_delete")
}
