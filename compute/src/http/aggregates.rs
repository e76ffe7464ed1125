//! `/os-aggregates`.

use super::App;
use crate::aggregates::Change;
use crate::model::Aggregate;
use api::{Context, Error, Json, Microversion, Path, Routes, schema::Schema};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::LazyLock;

pub(super) fn routes(r: Routes<App>) -> Routes<App> {
    r.get("/os-aggregates", index)
        .post("/os-aggregates", create)
        .get("/os-aggregates/{aggregate_id}", show)
        .put("/os-aggregates/{aggregate_id}", update)
        .delete("/os-aggregates/{aggregate_id}", delete)
        .post("/os-aggregates/{aggregate_id}/action", action)
}

fn view(a: &Aggregate, v: Microversion) -> Value {
    let mut out = json!({
        "id": a.id,
        "name": a.name,
        "availability_zone": a.metadata.get("availability_zone"),
        "hosts": a.hosts,
        "metadata": a.metadata,
        "created_at": a.created_at.micros_naive(),
        "updated_at": a.updated_at.map(state::Timestamp::micros_naive),
        "deleted": false,
        "deleted_at": null,
    });
    if v >= Microversion(2, 41) {
        out["uuid"] = json!(a.uuid);
    }
    out
}

fn id(text: &str) -> Result<i64, Error> {
    text.parse().map_err(|_| Error::not_found(format!("Aggregate {text} could not be found.")))
}

async fn index(app: State<App>, ctx: Context, v: Microversion) -> Result<Json<Value>, Error> {
    let all = app.aggregates(&ctx).await?;
    Ok(Json(json!({"aggregates": all.iter().map(|a| view(a, v)).collect::<Vec<_>>()})))
}

static BODY: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(&json!({
        "type": "object",
        "properties": {"aggregate": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "\\S"},
                "availability_zone": {"type": ["string", "null"], "minLength": 1, "maxLength": 255, "pattern": "^[^:]*$"},
            },
            "additionalProperties": false,
            "minProperties": 1,
        }},
        "required": ["aggregate"],
        "additionalProperties": false,
    }))
});

async fn create(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-aggregates:create")?;
    BODY.check(&body)?;
    let asked = &body["aggregate"];
    let name = asked["name"].as_str().ok_or_else(|| Error::bad_request("'name' is a required property"))?;
    let zone = asked["availability_zone"].as_str().map(str::to_owned);
    let made = app.create_aggregate(&ctx, name.trim().to_owned(), zone).await?;
    let mut out = view(&made, v);
    // Upstream shows neither here.
    if let Some(fields) = out.as_object_mut() {
        fields.remove("hosts");
        fields.remove("metadata");
    }
    Ok(Json(json!({"aggregate": out})))
}

async fn show(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(wanted): Path<String>,
) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-aggregates:show")?;
    Ok(Json(json!({"aggregate": view(&app.aggregate(&ctx, id(&wanted)?).await?, v)})))
}

async fn update(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(wanted): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    let rule = "os_compute_api:os-aggregates:update";
    app.may_at_home(&ctx, rule)?;
    BODY.check(&body)?;
    let asked = &body["aggregate"];
    let change = Change {
        name: asked["name"].as_str().map(|n| n.trim().to_owned()),
        zone: asked.get("availability_zone").map(|z| z.as_str().map(str::to_owned)),
        ..Change::default()
    };
    let changed = app.change_aggregate(&ctx, rule, id(&wanted)?, change).await?;
    Ok(Json(json!({"aggregate": view(&changed, v)})))
}

async fn delete(app: State<App>, ctx: Context, Path(wanted): Path<String>) -> Result<StatusCode, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-aggregates:delete")?;
    app.delete_aggregate(&ctx, id(&wanted)?).await?;
    Ok(StatusCode::OK)
}

async fn action(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(wanted): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    let host = |args: &Value| {
        let host = args["host"].as_str().filter(|h| !h.is_empty()).map(str::to_owned);
        host.ok_or_else(|| Error::bad_request("Invalid input for field/attribute host."))
    };
    let found = |rule: &str| {
        app.may_at_home(&ctx, rule)?;
        id(&wanted)
    };
    let changed = if let Some(args) = body.get("add_host") {
        let id = found("os_compute_api:os-aggregates:add_host")?;
        app.add_host_to_aggregate(&ctx, id, &host(args)?).await?
    } else if let Some(args) = body.get("remove_host") {
        let id = found("os_compute_api:os-aggregates:remove_host")?;
        app.remove_host_from_aggregate(&ctx, id, &host(args)?).await?
    } else if let Some(args) = body.get("set_metadata") {
        let rule = "os_compute_api:os-aggregates:set_metadata";
        let id = found(rule)?;
        let pairs = args["metadata"].as_object();
        let pairs = pairs.ok_or_else(|| Error::bad_request("'metadata' is a required property"))?;
        let metadata = pairs.iter().map(|(k, v)| (k.clone(), v.as_str().map(str::to_owned))).collect();
        app.change_aggregate(&ctx, rule, id, Change { metadata, ..Change::default() }).await?
    } else {
        return Err(Error::bad_request("There is no such action."));
    };
    Ok(Json(json!({"aggregate": view(&changed, v)})))
}
