//! Version discovery, open to all.

use super::{Answer, App};
use crate::Identity;
use api::{Json, Routes};
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.open(|r| r.get("/", all).get("/v3", v3))
}

fn version(identity: &Identity) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": identity.url("")}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    })
}

async fn all(State(identity): App) -> Answer {
    let body = json!({"versions": {"values": [version(&identity)]}});
    let mut response = (StatusCode::MULTIPLE_CHOICES, Json(body)).into_response();
    if let Ok(at) = HeaderValue::from_str(&identity.url("")) {
        response.headers_mut().insert(header::LOCATION, at);
    }
    Ok(response)
}

async fn v3(State(identity): App) -> Answer {
    Ok(Json(json!({"version": version(&identity)})).into_response())
}
