//! `/servers`: listing, creating, showing, renaming, deleting.

use super::server_view::{Surroundings, brief, changed, full, links};
use super::{App, server_create};
use crate::servers::create::hostname;
use api::{Context, Error, Json, Microversion, Page, Path, Query, Routes, schema::Schema};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use std::sync::LazyLock;

pub(super) fn routes(r: Routes<App>) -> Routes<App> {
    r.get("/servers", index)
        .post("/servers", create)
        .get("/servers/detail", detail)
        .get("/servers/{server_id}", show)
        .put("/servers/{server_id}", update)
        .delete("/servers/{server_id}", delete)
}

async fn index(app: State<App>, ctx: Context, v: Microversion, query: Query) -> Result<Json<Value>, Error> {
    let found = app.list_servers(&ctx, &query, v, false).await?;
    let views: Vec<_> = found.servers.iter().map(|s| brief(&app, s)).collect();
    Ok(Json(page(&app, &query, "/servers", views, found.more)?))
}

async fn detail(app: State<App>, ctx: Context, v: Microversion, query: Query) -> Result<Json<Value>, Error> {
    let found = app.list_servers(&ctx, &query, v, true).await?;
    let around = Surroundings::of(&app, &ctx, v).await?;
    let mut views = Vec::with_capacity(found.servers.len());
    for s in &found.servers {
        views.push(full(&app, s, &around, false).await?);
    }
    Ok(Json(page(&app, &query, "/servers/detail", views, found.more)?))
}

fn page(app: &App, query: &Query, path: &str, views: Vec<Value>, more: bool) -> Result<Value, Error> {
    let last = views.last().and_then(|v| v["id"].as_str()).unwrap_or_default().to_owned();
    let mut out = json!({"servers": views});
    if more {
        let page =
            Page::parse(query, crate::servers::listing::MAX_PAGE, &crate::servers::listing::SORT_KEYS)?;
        let url = app.links.to(&format!("/compute/v2.1{path}"));
        out["servers_links"] = json!([{"rel": "next", "href": page.next(&url, query, &last)}]);
    }
    Ok(out)
}

async fn create(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Json(body): Json<Value>,
) -> Result<Response, Error> {
    let asked = server_create::read(&body, v)?;
    let made = app.create_servers(&ctx, asked.new).await?;
    let Some(first) = made.first() else { return Err(Error::bad_request("No server was asked for.")) };
    if asked.return_reservation_id {
        let body = json!({"reservation_id": first.reservation_id});
        return Ok((StatusCode::ACCEPTED, Json(body)).into_response());
    }
    let groups: Vec<_> = asked.security_groups.iter().map(|n| json!({"name": n})).collect();
    let view = json!({"server": {
        "id": first.id,
        "links": links(&app.links, "servers", &first.id),
        "OS-DCF:diskConfig": first.disk_config(),
        "security_groups": groups,
        "adminPass": asked.admin_pass,
    }});
    let mut response = (StatusCode::ACCEPTED, Json(view)).into_response();
    let location = app.links.to(&format!("/compute/v2.1/servers/{}", first.id));
    if let Ok(value) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    Ok(response)
}

async fn show(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    let s = app.server(&ctx, &id, "os_compute_api:servers:show").await?;
    let around = Surroundings::of(&app, &ctx, v).await?;
    Ok(Json(json!({"server": full(&app, &s, &around, true).await?})))
}

static UPDATE: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(&json!({
        "type": "object",
        "properties": {"server": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "\\S"},
                "OS-DCF:diskConfig": {"enum": ["AUTO", "MANUAL"]},
                "accessIPv4": {"type": "string"},
                "accessIPv6": {"type": "string"},
                "description": {"type": ["string", "null"], "maxLength": 255},
                "hostname": {"type": "string", "minLength": 2, "maxLength": 63,
                    "pattern": "^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$"},
            },
            "additionalProperties": false,
        }},
        "required": ["server"],
        "additionalProperties": false,
    }))
});

async fn update(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    UPDATE.check(&body)?;
    let asked = &body["server"];
    server_create::too_new(asked, v, &[("description", 19), ("hostname", 90)])?;
    let text = |key: &str| asked.get(key).and_then(Value::as_str);
    let s = app
        .change_server(&ctx, &id, "os_compute_api:servers:update", |s| {
            if let Some(name) = text("name") {
                s.name = name.trim().to_owned();
            }
            if let Some(word) = text("OS-DCF:diskConfig") {
                s.set_disk_config(word);
            }
            if let Some(name) = text("hostname") {
                s.hostname = hostname(name);
            }
            if let Some(ip) = text("accessIPv4") {
                s.access_ipv4 = server_create::address(ip, "accessIPv4", true)?;
            }
            if let Some(ip) = text("accessIPv6") {
                s.access_ipv6 = server_create::address(ip, "accessIPv6", false)?;
            }
            if let Some(description) = asked.get("description") {
                s.description = description.as_str().map(str::to_owned);
            }
            Ok(())
        })
        .await?;
    let around = Surroundings::of(&app, &ctx, v).await?;
    Ok(Json(json!({"server": changed(&app, &s, &around).await?})))
}

async fn delete(app: State<App>, ctx: Context, Path(id): Path<String>) -> Result<StatusCode, Error> {
    app.delete_server(&ctx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
