//! Version documents.

use super::App;
use api::{Json, Links, Routes};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};

pub(super) fn routes(r: Routes<App>) -> Routes<App> {
    r.get("/", v21)
}

async fn v21(app: State<App>) -> Json<Value> {
    Json(json!({"version": version(&app.links)}))
}

pub(super) fn old_routes(r: Routes<App>) -> Routes<App> {
    r.get("/", v2)
}

async fn v2(app: State<App>) -> Json<Value> {
    Json(json!({"version": old_version(&app.links)}))
}

/// What there was before microversions; it is 2.1 by another path.
fn old_version(links: &Links) -> Value {
    json!({
        "id": "v2.0",
        "status": "SUPPORTED",
        "version": "",
        "min_version": "",
        "updated": "2011-01-21T11:33:21Z",
        "links": [
            {"rel": "self", "href": links.to("/compute/v2/")},
            {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"},
        ],
        "media-types": [
            {"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2"},
        ],
    })
}

/// `GET /compute`: every version there is.
pub(super) fn root(links: Links) -> Router {
    let list = move || {
        let versions = json!({"versions": [old_version(&links), version(&links)]});
        async move { Json(versions) }
    };
    Router::new().route("/compute", get(list.clone())).route("/compute/", get(list))
}

fn version(links: &Links) -> Value {
    json!({
        "id": "v2.1",
        "status": "CURRENT",
        "version": "2.96",
        "min_version": "2.1",
        "updated": "2013-07-23T11:33:21Z",
        "links": [
            {"rel": "self", "href": links.to("/compute/v2.1/")},
            {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"},
        ],
        "media-types": [
            {"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"},
        ],
    })
}
