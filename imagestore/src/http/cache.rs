//! `/v2/cache`: images are clones and streams of the pool here, so nothing is cached, and the API says what upstream
//! says where its cache is off: whoever may ask hears that there is none. Versions 2.14 and 2.16, which added it, are not
//! advertised.

use super::App;
use crate::{Images, policy};
use api::{Context, Error, Path, Routes};
use http::StatusCode;
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.get("/v2/cache", list)
        .delete("/v2/cache", clear)
        .put("/v2/cache/{image_id}", queue)
        .delete("/v2/cache/{image_id}", remove)
}

fn off() -> Error {
    Error::not_found("Caching via API is not supported at this site.")
}

async fn list(images: App, ctx: Context) -> Result<StatusCode, Error> {
    policy::check(&images.policy, &ctx, "cache_list", &[])?;
    Err(off())
}

async fn clear(images: App, ctx: Context) -> Result<StatusCode, Error> {
    policy::check(&images.policy, &ctx, "cache_delete", &[])?;
    Err(off())
}

async fn queue(images: App, ctx: Context, Path(id): Path<String>) -> Result<StatusCode, Error> {
    images.authorised(&ctx, &id, "cache_image").await?;
    Err(off())
}

async fn remove(images: App, ctx: Context, Path(id): Path<String>) -> Result<StatusCode, Error> {
    images.authorised(&ctx, &id, "cache_delete").await?;
    Err(off())
}
