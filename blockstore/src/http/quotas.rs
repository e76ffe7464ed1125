//! `/os-quota-sets`, `/os-quota-class-sets`, `/limits`

use super::{Answer, Ask, Shared, inner, integer};
use crate::quotas::Line;
use api::{Error, Json, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/os-quota-sets/{project_id}", show)
        .put("/os-quota-sets/{project_id}", set)
        .delete("/os-quota-sets/{project_id}", delete)
        .get("/os-quota-sets/{project_id}/defaults", defaults)
        .get("/os-quota-class-sets/{class}", show_class)
        .put("/os-quota-class-sets/{class}", set_class)
        .get("/limits", limits)
}

fn view(lines: &BTreeMap<String, Line>, usage: bool) -> Map<String, Value> {
    let one = |l: &Line| match usage {
        true => json!({"limit": l.limit, "in_use": l.in_use, "reserved": 0}),
        false => json!(l.limit),
    };
    lines.iter().map(|(k, l)| (k.clone(), one(l))).collect()
}

async fn show(State(v): State<Shared>, ask: Ask, Path(project): Path<String>) -> Answer<Json<Value>> {
    let lines = v.quota_show(&ask.ctx, &project).await?;
    let mut set = view(&lines, ask.query.bool("usage")?.unwrap_or(false));
    set.insert("id".into(), project.into());
    Ok(Json(json!({"quota_set": set})))
}

async fn defaults(State(v): State<Shared>, ask: Ask, Path(project): Path<String>) -> Answer<Json<Value>> {
    let limits = v.quota_defaults(&ask.ctx, &project).await?;
    let mut set = json!(limits);
    set["id"] = project.into();
    Ok(Json(json!({"quota_set": set})))
}

/// The limits of a body; names are checked where they are known.
fn limits_of(body: &Value, key: &str) -> Result<BTreeMap<String, i64>, Error> {
    let given = inner(body, key)?.as_object().into_iter().flatten();
    let mut wanted = BTreeMap::new();
    for (name, value) in
        given.filter(|(n, _)| !matches!(n.as_str(), "tenant_id" | "class_name" | "id" | "force"))
    {
        let number = match value {
            Value::String(s) => s.trim().parse().ok(),
            other => integer(other),
        };
        let bad = || {
            Error::bad_request(format!(
                "Invalid input received: Quota limit {value} for {name} must be an integer."
            ))
        };
        wanted.insert(name.clone(), number.ok_or_else(bad)?);
    }
    if wanted.is_empty() {
        return Err(Error::bad_request(format!(
            "Invalid input for field/attribute {key}: it has no limits."
        )));
    }
    Ok(wanted)
}

async fn set(
    State(v): State<Shared>,
    ask: Ask,
    Path(project): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    let lines = v.quota_set(&ask.ctx, &project, limits_of(&body, "quota_set")?).await?;
    Ok(Json(json!({"quota_set": view(&lines, false)})))
}

async fn delete(State(v): State<Shared>, ask: Ask, Path(project): Path<String>) -> Answer<StatusCode> {
    v.quota_delete(&ask.ctx, &project).await?;
    Ok(StatusCode::OK)
}

async fn show_class(State(v): State<Shared>, ask: Ask, Path(class): Path<String>) -> Answer<Json<Value>> {
    let mut set = json!(v.quota_class_show(&ask.ctx, &class).await?);
    set["id"] = class.into();
    Ok(Json(json!({"quota_class_set": set})))
}

async fn set_class(
    State(v): State<Shared>,
    ask: Ask,
    Path(class): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    let limits = v.quota_class_set(&ask.ctx, &class, limits_of(&body, "quota_class_set")?).await?;
    Ok(Json(json!({"quota_class_set": limits})))
}

async fn limits(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    let own = ask.ctx.project_id()?.to_owned();
    // An administrator may ask about another project (3.39).
    let project = match ask.query.get("project_id").or_else(|| ask.query.get("tenant_id")) {
        Some(other) if ask.at(39) && ask.ctx.is_admin() => other.to_owned(),
        _ => own,
    };
    let lines = v.quota_show(&ask.ctx, &project).await?;
    let line = |name: &str| lines.get(name).copied().unwrap_or_default();
    Ok(Json(json!({"limits": {"rate": [], "absolute": {
        "maxTotalVolumes": line("volumes").limit,
        "totalVolumesUsed": line("volumes").in_use,
        "maxTotalVolumeGigabytes": line("gigabytes").limit,
        "totalGigabytesUsed": line("gigabytes").in_use,
        "maxTotalSnapshots": line("snapshots").limit,
        "totalSnapshotsUsed": line("snapshots").in_use,
        "maxTotalBackups": line("backups").limit,
        "totalBackupsUsed": line("backups").in_use,
        "maxTotalBackupGigabytes": line("backup_gigabytes").limit,
        "totalBackupGigabytesUsed": line("backup_gigabytes").in_use,
    }}})))
}
