//! `/v2/images` and `/v2/images/<id>`.

use super::{App, listing, view};
use crate::patch::{self, Dialect};
use crate::{ImageError, Images};
use api::{Context, Error, Json, Path, Query, Routes};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.get("/v2/images", list)
        .post("/v2/images", create)
        .get("/v2/images/{image_id}", show)
        .patch("/v2/images/{image_id}", update)
        .delete("/v2/images/{image_id}", delete)
        .post("/v2/images/{image_id}/actions/deactivate", deactivate)
        .post("/v2/images/{image_id}/actions/reactivate", reactivate)
}

async fn list(images: App, ctx: Context, query: Query) -> Result<Response, Error> {
    let (asked, marker) = listing::read(&images.config, &query)?;
    let limit = asked.limit;
    let found = images.list(&ctx, asked, marker).await?;
    let found: Vec<_> = found.into_iter().map(|i| images.readable(&ctx, i)).collect();
    Ok(Json(listing::view(&query, limit, &found)).into_response())
}

async fn create(images: App, ctx: Context, Json(body): Json<Map<String, Value>>) -> Result<Response, Error> {
    let image = images.create(&ctx, patch::read_new(&images.config, body)?).await?;
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set(header::LOCATION, images.links.to(&format!("/image/v2/images/{}", image.id)));
    set(HeaderName::from_static("openstack-image-import-methods"), images.import_methods().join(","));
    set(
        HeaderName::from_static("openstack-image-store-ids"),
        images.config.all_stores().collect::<Vec<_>>().join(","),
    );
    Ok((StatusCode::CREATED, headers, Json(view::image(&images.readable(&ctx, image)))).into_response())
}

async fn show(images: App, ctx: Context, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    let image = images.get(&ctx, &id).await?;
    Ok(Json(view::image(&images.readable(&ctx, image))))
}

async fn update(
    images: App,
    ctx: Context,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    let changes = patch::read(dialect(&headers)?, body)?;
    let image = images.update(&ctx, &id, |image| patch::apply(&images.config, image, changes)).await?;
    Ok(Json(view::image(&images.readable(&ctx, image))))
}

fn dialect(headers: &HeaderMap) -> Result<Dialect, Error> {
    const ACCEPTED: &str =
        "application/openstack-images-v2.1-json-patch, application/openstack-images-v2.0-json-patch";
    match media_type(headers) {
        "application/openstack-images-v2.1-json-patch" => Ok(Dialect::V21),
        "application/openstack-images-v2.0-json-patch" => Ok(Dialect::V20),
        other => {
            let e = ImageError::MediaType(format!("Unsupported media type {other:?} for an image's patch."));
            Err(Error::from(e).with_header(HeaderName::from_static("accept-patch"), ACCEPTED))
        }
    }
}

/// The media type of a body, without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

async fn delete(images: App, ctx: Context, Path(id): Path<String>) -> Result<StatusCode, Error> {
    images.delete(&ctx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn deactivate(images: App, ctx: Context, Path(id): Path<String>) -> Result<StatusCode, Error> {
    images.set_active(&ctx, &id, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn reactivate(images: App, ctx: Context, Path(id): Path<String>) -> Result<StatusCode, Error> {
    images.set_active(&ctx, &id, true).await?;
    Ok(StatusCode::NO_CONTENT)
}
