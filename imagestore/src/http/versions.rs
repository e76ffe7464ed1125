//! `/image` and `/image/versions`: what is spoken here.

use super::App;
use crate::Images;
use api::{Json, Routes};
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

/// The minor versions whose calls are built, newest first.
const MINORS: &[u8] = &[17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0];
/// Those that are the cache's: without one they are not spoken, as upstream.
const CACHE: &[u8] = &[16, 14];

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.get("/", choices).get("/versions", versions).get("/v2/versions", versions)
}

fn list(images: &Images) -> Value {
    let href = images.links.to("/image/v2/");
    let version = |minor: &u8| {
        let status = if *minor == MINORS[0] { "CURRENT" } else { "SUPPORTED" };
        json!({"id": format!("v2.{minor}"), "status": status, "links": [{"rel": "self", "href": href}]})
    };
    let spoken = |minor: &&u8| images.config.cache().is_some() || !CACHE.contains(minor);
    json!({"versions": MINORS.iter().filter(spoken).map(version).collect::<Vec<_>>()})
}

async fn choices(images: App) -> (StatusCode, Json<Value>) {
    (StatusCode::MULTIPLE_CHOICES, Json(list(&images)))
}

async fn versions(images: App) -> Json<Value> {
    Json(list(&images))
}
