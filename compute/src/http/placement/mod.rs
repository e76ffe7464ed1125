//! The Placement API, 1.0 to 1.39, as osc-placement and the schedulers of other services use it.

mod allocations;
mod candidates;
mod names;
mod providers;

use super::App;
use api::{Error, Json, Microversion, Routes};
use axum::extract::State;
use serde_json::{Value, json};

pub(super) fn routes() -> Routes<App> {
    Routes::new()
        .open(|r| r.get("/", versions))
        .with(providers::routes)
        .with(names::routes)
        .with(allocations::routes)
        .with(candidates::routes)
}

async fn versions(app: State<App>) -> Json<Value> {
    Json(json!({"versions": [{
        "id": "v1.0",
        "status": "CURRENT",
        "min_version": "1.0",
        "max_version": "1.39",
        "links": [{"rel": "self", "href": app.links.to("/placement")}],
    }]}))
}

/// What is newer than the request's version is not there.
fn since(v: Microversion, minor: u16) -> Result<(), Error> {
    if v < Microversion(1, minor) {
        Err(Error::not_found("The resource could not be found."))
    } else {
        Ok(())
    }
}

fn uuid(text: &str) -> Result<String, Error> {
    match uuid::Uuid::parse_str(text) {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err(Error::bad_request(format!("JSON does not validate: '{text}' is not a 'uuid'"))),
    }
}

fn whole(v: &Value, what: &str) -> Result<i64, Error> {
    let max = 0x7FFF_FFFF;
    v.as_i64()
        .filter(|n| (0..=max).contains(n))
        .ok_or_else(|| Error::bad_request(format!("JSON does not validate: {v} is not valid for {what}")))
}
