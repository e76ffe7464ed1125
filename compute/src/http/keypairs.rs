//! `/os-keypairs`, by microversion: types from 2.2, other users' from 2.10, no generation from 2.92.

use super::App;
use crate::model::Keypair;
use api::{Context, Error, Json, Microversion, Path, Query, Routes, schema::Schema};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::LazyLock;

pub(super) fn routes(r: Routes<App>) -> Routes<App> {
    r.get("/os-keypairs", index)
        .post("/os-keypairs", create)
        .get("/os-keypairs/{keypair_name}", show)
        .delete("/os-keypairs/{keypair_name}", delete)
}

fn view(k: &Keypair, v: Microversion) -> Value {
    let mut out = json!({"name": k.name, "public_key": k.public_key, "fingerprint": k.fingerprint});
    if v >= Microversion(2, 2) {
        out["type"] = json!(k.kind);
    }
    out
}

fn user(query: &Query, v: Microversion) -> Option<&str> {
    query.get("user_id").filter(|_| v >= Microversion(2, 10))
}

async fn index(app: State<App>, ctx: Context, v: Microversion, query: Query) -> Result<Json<Value>, Error> {
    let mut all = app.keypairs(&ctx, user(&query, v)).await?;
    let mut out = json!({});
    if v >= Microversion(2, 35) {
        let page = api::Page::parse(&query, 1000, &[])?;
        if let Some(marker) = &page.marker {
            let at = all.iter().position(|k| k.name == *marker);
            let at = at.ok_or_else(|| Error::bad_request(format!("marker [{marker}] not found")))?;
            all.drain(..=at);
        }
        if page.cut(&mut all)
            && let Some(last) = all.last()
        {
            let next = page.next(&app.links.to("/compute/v2.1/os-keypairs"), &query, &last.name);
            out["keypairs_links"] = json!([{"rel": "next", "href": next}]);
        }
    }
    out["keypairs"] = all.iter().map(|k| json!({"keypair": view(k, v)})).collect();
    Ok(Json(out))
}

static CREATE: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(&json!({
        "type": "object",
        "properties": {"keypair": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9 @._-]+$"},
                "public_key": {"type": "string"},
                "type": {"enum": ["ssh", "x509"]},
                "user_id": {"type": "string", "minLength": 1, "maxLength": 255},
            },
            "required": ["name"],
            "additionalProperties": false,
        }},
        "required": ["keypair"],
        "additionalProperties": false,
    }))
});

async fn create(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Json(body): Json<Value>,
) -> Result<Response, Error> {
    CREATE.check(&body)?;
    let asked = &body["keypair"];
    super::server_create::too_new(asked, v, &[("type", 2), ("user_id", 10)])?;
    let text = |key: &str| asked.get(key).and_then(Value::as_str);
    if v >= Microversion(2, 92) && text("public_key").is_none() {
        return Err(Error::bad_request(
            "Invalid input for field/attribute keypair. 'public_key' is a required property",
        ));
    }
    let name = text("name").unwrap_or_default();
    if name.trim() != name {
        return Err(Error::bad_request(format!("Invalid input for field/attribute name. Value: {name}.")));
    }
    let made = app
        .create_keypair(&ctx, name, text("type").unwrap_or("ssh"), text("public_key"), text("user_id"))
        .await?;
    let mut out = view(&made.keypair, v);
    out["user_id"] = json!(made.keypair.user_id);
    if let Some(private) = &made.private_key {
        out["private_key"] = json!(private.0);
    }
    let code = if v >= Microversion(2, 2) { StatusCode::CREATED } else { StatusCode::OK };
    Ok((code, Json(json!({"keypair": out}))).into_response())
}

async fn show(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    query: Query,
    Path(name): Path<String>,
) -> Result<Json<Value>, Error> {
    let k = app.keypair(&ctx, &name, user(&query, v)).await?;
    let mut out = view(&k, v);
    out["user_id"] = json!(k.user_id);
    out["created_at"] = json!(k.created_at.micros_naive());
    out["deleted"] = json!(false);
    out["deleted_at"] = Value::Null;
    out["updated_at"] = Value::Null;
    out["id"] = json!(k.created_at.0);
    Ok(Json(json!({"keypair": out})))
}

async fn delete(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    query: Query,
    Path(name): Path<String>,
) -> Result<StatusCode, Error> {
    app.delete_keypair(&ctx, &name, user(&query, v)).await?;
    Ok(if v >= Microversion(2, 2) { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED })
}
