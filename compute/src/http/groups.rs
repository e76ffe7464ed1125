//! `/os-server-groups`: several policies before 2.64, one with rules from there on.

use super::App;
use crate::groups::WithMembers;
use api::{Context, Error, Json, Microversion, Path, Query, Routes, schema::Schema};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::LazyLock;

pub(super) fn routes(r: Routes<App>) -> Routes<App> {
    r.get("/os-server-groups", index)
        .post("/os-server-groups", create)
        .get("/os-server-groups/{group_id}", show)
        .delete("/os-server-groups/{group_id}", delete)
}

fn view(g: &WithMembers, v: Microversion) -> Value {
    let mut out = json!({"id": g.group.id, "name": g.group.name, "members": g.members});
    if v < Microversion(2, 64) {
        out["policies"] = json!([g.group.policy]);
        out["metadata"] = json!({});
    } else {
        out["policy"] = json!(g.group.policy);
        out["rules"] = match g.group.max_server_per_host {
            Some(n) => json!({"max_server_per_host": n}),
            None => json!({}),
        };
    }
    if v >= Microversion(2, 13) {
        out["project_id"] = json!(g.group.project_id);
        out["user_id"] = json!(g.group.user_id);
    }
    out
}

async fn index(app: State<App>, ctx: Context, v: Microversion, query: Query) -> Result<Json<Value>, Error> {
    let all = app.groups(&ctx, query.has("all_projects")).await?;
    let number = |key: &str| match query.int(key)? {
        Some(n) => usize::try_from(n)
            .map(Some)
            .map_err(|_| Error::bad_request(format!("{key} must not be negative"))),
        None => Ok(None),
    };
    let (skip, take) = (number("offset")?.unwrap_or(0), number("limit")?.unwrap_or(1000).min(1000));
    let views: Vec<_> = all.iter().skip(skip).take(take).map(|g| view(g, v)).collect();
    Ok(Json(json!({"server_groups": views})))
}

static CREATE: LazyLock<Schema> = LazyLock::new(|| {
    let policy = json!({"enum": ["anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity"]});
    Schema::new(&json!({
        "type": "object",
        "properties": {"server_group": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "\\S"},
                "policies": {"type": "array", "minItems": 1, "maxItems": 1, "items": policy.clone()},
                "policy": policy,
                "rules": {"type": "object", "additionalProperties": false, "properties": {
                    "max_server_per_host": {"type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 1}}},
            },
            "required": ["name"],
            "additionalProperties": false,
        }},
        "required": ["server_group"],
        "additionalProperties": false,
    }))
});

async fn create(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    CREATE.check(&body)?;
    let asked = &body["server_group"];
    super::server_create::too_new(asked, v, &[("policy", 64), ("rules", 64)])?;
    let policy = if v < Microversion(2, 64) { &asked["policies"][0] } else { &asked["policy"] };
    let policy = policy.as_str().ok_or_else(|| {
        Error::bad_request("Invalid input for field/attribute server_group. 'policy' is a required property")
    })?;
    if policy.starts_with("soft-") && v < Microversion(2, 15) {
        return Err(Error::bad_request(format!(
            "Invalid input for field/attribute policies. Value: {policy}."
        )));
    }
    let most = match &asked["rules"]["max_server_per_host"] {
        Value::String(t) => t.parse().ok(),
        other => other.as_i64(),
    };
    if most.is_some() && policy != "anti-affinity" {
        return Err(Error::bad_request("Only anti-affinity policy supports rules."));
    }
    let name = asked["name"].as_str().unwrap_or_default().to_owned();
    let made = app.create_group(&ctx, name, policy.to_owned(), most).await?;
    Ok(Json(json!({"server_group": view(&made, v)})))
}

async fn show(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    Ok(Json(json!({"server_group": view(&app.group(&ctx, &id).await?, v)})))
}

async fn delete(app: State<App>, ctx: Context, Path(id): Path<String>) -> Result<StatusCode, Error> {
    app.delete_group(&ctx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
