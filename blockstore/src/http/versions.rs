//! Which versions there are; asked without a token.

use super::Shared;
use api::{Json, Links, Routes};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes.open(|r| r.get("/", show))
}

/// `/volume` itself: 300, as upstream.
pub(super) fn root(links: Links) -> Router {
    let all = move || {
        let body = document(&links);
        async move { (StatusCode::MULTIPLE_CHOICES, Json(body)) }
    };
    Router::new().route("/volume", get(all.clone())).route("/volume/", get(all))
}

async fn show(State(volumes): State<Shared>) -> Json<Value> {
    Json(document(&volumes.links))
}

fn document(links: &Links) -> Value {
    json!({"versions": [{
        "id": "v3.0",
        "status": "CURRENT",
        "version": "3.71",
        "min_version": "3.0",
        "updated": "2023-08-31T00:00:00Z",
        "links": [
            {"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"},
            {"rel": "self", "href": links.to("/volume/v3/")},
        ],
        "media-types": [
            {"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"},
        ],
    }]})
}
