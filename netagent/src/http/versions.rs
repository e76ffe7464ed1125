//! Which versions there are, and what v2.0 has.

use api::{Error, Json, Routes};
use axum::extract::State;
use serde_json::{Value, json};

use crate::Networks;

pub(super) fn routes(routes: Routes<Networks>) -> Routes<Networks> {
    routes.open(|r| r.get("/", versions).get("/v2.0", resources).get("/v2.0/", resources))
}

async fn versions(State(networks): State<Networks>) -> Result<Json<Value>, Error> {
    let href = networks.links().to("/network/v2.0/");
    let version = json!({"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": href}]});
    Ok(Json(json!({ "versions": [version] })))
}

async fn resources(State(networks): State<Networks>) -> Result<Json<Value>, Error> {
    let names = [
        ("network", "networks"),
        ("subnet", "subnets"),
        ("port", "ports"),
        ("security_group", "security-groups"),
        ("security_group_rule", "security-group-rules"),
        ("router", "routers"),
        ("floatingip", "floatingips"),
        ("quota", "quotas"),
        ("agent", "agents"),
        ("extension", "extensions"),
    ];
    let list: Vec<Value> = names
        .iter()
        .map(|(name, path)| {
            let href = networks.links().to(&format!("/network/v2.0/{path}"));
            let collection = path.replace('-', "_");
            json!({"name": name, "collection": collection, "links": [{"rel": "self", "href": href}]})
        })
        .collect();
    Ok(Json(json!({ "resources": list })))
}
