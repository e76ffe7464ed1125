//! `/limits`, `/os-quota-sets`, `/os-quota-class-sets`, `/os-simple-tenant-usage`.

use super::App;
use crate::model::Server;
use crate::quotas::{DEFAULTS, LEGACY, Limits, used};
use crate::states::status;
use crate::store::quotas as rows;
use crate::store::servers::{self, Find};
use crate::{Compute, ComputeError};
use api::{Context, Error, Json, Microversion, Path, Query, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Map, Value, json};
use state::Timestamp;
use std::collections::BTreeMap;

pub(super) fn routes(r: Routes<App>) -> Routes<App> {
    r.get("/limits", limits)
        .get("/os-quota-sets/{project_id}", show)
        .put("/os-quota-sets/{project_id}", update)
        .delete("/os-quota-sets/{project_id}", delete)
        .get("/os-quota-sets/{project_id}/defaults", defaults)
        .get("/os-quota-sets/{project_id}/detail", detail)
        .get("/os-quota-class-sets/{class}", class)
        .put("/os-quota-class-sets/{class}", update_class)
        .get("/os-simple-tenant-usage", all_usage)
        .get("/os-simple-tenant-usage/{project_id}", usage)
}

async fn limits(app: State<App>, ctx: Context, v: Microversion, query: Query) -> Result<Json<Value>, Error> {
    let home = ctx.project_id()?.to_owned();
    let project = query.get("tenant_id").unwrap_or(&home).to_owned();
    if project != home {
        app.may_at_home(&ctx, "os_compute_api:limits:other_project")?;
    }
    let limits = app.limits(&project).await?;
    let used = used(&app.db, &project).await?;
    let limit = |name: &str| limits.get(name).copied().unwrap_or(-1);
    let usage = |name: &str| used.get(name).copied().unwrap_or(0);
    let mut out = json!({
        "maxTotalInstances": limit("instances"),
        "maxTotalCores": limit("cores"),
        "maxTotalRAMSize": limit("ram"),
        "maxServerMeta": limit("metadata_items"),
        "maxTotalKeypairs": limit("key_pairs"),
        "maxServerGroups": limit("server_groups"),
        "maxServerGroupMembers": limit("server_group_members"),
        "totalInstancesUsed": usage("instances"),
        "totalCoresUsed": usage("cores"),
        "totalRAMUsed": usage("ram"),
        "totalServerGroupsUsed": usage("server_groups"),
    });
    if v < Microversion(2, 39) {
        out["maxImageMeta"] = json!(limit("metadata_items"));
    }
    if v < Microversion(2, 36) {
        for (name, value) in [
            ("maxSecurityGroups", -1),
            ("maxSecurityGroupRules", -1),
            ("maxTotalFloatingIps", -1),
            ("totalSecurityGroupsUsed", 0),
            ("totalFloatingIpsUsed", 0),
        ] {
            out[name] = json!(value);
        }
    }
    if v < Microversion(2, 57) {
        out["maxPersonality"] = json!(limit("injected_files"));
        out["maxPersonalitySize"] = json!(limit("injected_file_content_bytes"));
    }
    Ok(Json(json!({"limits": {"absolute": out, "rate": []}})))
}

/// Whether a resource is spoken of in this microversion.
fn spoken(name: &str, v: Microversion) -> bool {
    let network = ["fixed_ips", "floating_ips", "security_groups", "security_group_rules", "networks"];
    if network.contains(&name) {
        return v < Microversion(2, 36);
    }
    !name.starts_with("injected_") || v < Microversion(2, 57)
}

fn set(limits: &Limits, v: Microversion) -> Map<String, Value> {
    let names = DEFAULTS.iter().chain(&LEGACY).map(|(n, _)| *n).filter(|n| *n != "networks" && spoken(n, v));
    names.map(|n| (n.to_owned(), json!(limits.get(n).copied().unwrap_or(-1)))).collect()
}

fn quota_set(id: &str, limits: &Limits, v: Microversion) -> Value {
    let mut out = set(limits, v);
    out.insert("id".into(), json!(id));
    json!({"quota_set": out})
}

async fn show(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(project): Path<String>,
) -> Result<Json<Value>, Error> {
    app.may(&ctx, "os_compute_api:os-quota-sets:show", &project)?;
    Ok(Json(quota_set(&project, &app.limits(&project).await?, v)))
}

async fn defaults(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(project): Path<String>,
) -> Result<Json<Value>, Error> {
    app.may(&ctx, "os_compute_api:os-quota-sets:defaults", &project)?;
    Ok(Json(quota_set(&project, &app.default_limits().await?, v)))
}

async fn detail(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(project): Path<String>,
) -> Result<Json<Value>, Error> {
    app.may(&ctx, "os_compute_api:os-quota-sets:detail", &project)?;
    let limits = app.limits(&project).await?;
    let used = used(&app.db, &project).await?;
    let mut out: Map<String, Value> = set(&limits, v)
        .into_iter()
        .map(|(name, limit)| {
            let in_use = used.get(&name).copied().unwrap_or(0);
            (name, json!({"limit": limit, "in_use": in_use, "reserved": 0}))
        })
        .collect();
    out.insert("id".into(), json!(project));
    Ok(Json(json!({"quota_set": out})))
}

/// The limits that a body sets: known resources, whole numbers from -1 on.
fn asked(body: &Value, key: &str, v: Microversion) -> Result<(Vec<(String, i64)>, bool), Error> {
    let object =
        body[key].as_object().ok_or_else(|| Error::bad_request(format!("'{key}' is a required property")))?;
    let mut out = Vec::new();
    let mut force = false;
    for (name, value) in object {
        if name == "force" {
            force = super::server_create::boolean(value);
            continue;
        }
        if matches!(name.as_str(), "id" | "tenant_id") {
            continue;
        }
        let known = DEFAULTS.iter().chain(&LEGACY).any(|(n, _)| n == name) && spoken(name, v);
        if !known {
            return Err(Error::bad_request(format!(
                "Invalid input for field/attribute {key}. Additional properties are not allowed ('{name}' was unexpected)"
            )));
        }
        let number = match value {
            Value::String(t) => t.parse().ok(),
            other => other.as_i64(),
        };
        let number = number.filter(|n| (-1..=0x7FFF_FFFF).contains(n)).ok_or_else(|| {
            Error::bad_request(format!("Invalid input for field/attribute {name}. Value: {value}."))
        })?;
        out.push((name.clone(), number));
    }
    Ok((out, force))
}

async fn update(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(project): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    app.may(&ctx, "os_compute_api:os-quota-sets:update", &project)?;
    let (limits, force) = asked(&body, "quota_set", v)?;
    let used = used(&app.db, &project).await?;
    for (name, limit) in &limits {
        let in_use = used.get(name).copied().unwrap_or(0);
        if !force && *limit >= 0 && *limit < in_use {
            return Err(Error::bad_request(format!(
                "Quota limit {limit} for {name} must be greater than or equal to already used and reserved {in_use}."
            )));
        }
    }
    let mut tx = app.db.begin().await?;
    for (name, limit) in &limits {
        rows::set(&mut tx, &project, name, *limit).await?;
    }
    tx.commit().await?;
    let set = set(&app.limits(&project).await?, v);
    Ok(Json(json!({"quota_set": set})))
}

async fn delete(app: State<App>, ctx: Context, Path(project): Path<String>) -> Result<StatusCode, Error> {
    app.may(&ctx, "os_compute_api:os-quota-sets:delete", &project)?;
    let mut tx = app.db.begin().await?;
    rows::clear(&mut tx, &project).await?;
    tx.commit().await?;
    Ok(StatusCode::ACCEPTED)
}

async fn class(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(class): Path<String>,
) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-quota-class-sets:show")?;
    let mut out = set(&app.default_limits().await?, v);
    out.insert("id".into(), json!(class));
    Ok(Json(json!({"quota_class_set": out})))
}

async fn update_class(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(class): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-quota-class-sets:update")?;
    if class != "default" {
        return Err(Error::bad_request("Only the quota class 'default' has limits here."));
    }
    let (limits, _) = asked(&body, "quota_class_set", v)?;
    let mut tx = app.db.begin().await?;
    for (name, limit) in &limits {
        rows::set(&mut tx, rows::DEFAULT, name, *limit).await?;
    }
    tx.commit().await?;
    Ok(Json(json!({"quota_class_set": set(&app.default_limits().await?, v)})))
}

/// The span that usage is asked of: the last four weeks unless it is said.
fn span(query: &Query) -> Result<(Timestamp, Timestamp), Error> {
    const FOUR_WEEKS: i64 = 28 * 24 * 3600 * 1_000_000;
    let time = |key: &str| match query.get(key) {
        Some(t) => Timestamp::parse(t)
            .map(Some)
            .ok_or_else(|| Error::bad_request(format!("Datetime is in invalid format: {t}"))),
        None => Ok(None),
    };
    // What is yet to come has not been used.
    let end = time("end")?.unwrap_or_else(Timestamp::now).min(Timestamp::now());
    let start = time("start")?.unwrap_or(Timestamp(end.0 - FOUR_WEEKS));
    if start >= end {
        return Err(Error::bad_request(
            "Invalid start time. The start time cannot occur after the end time.",
        ));
    }
    Ok((start, end))
}

/// One server's share of the span, in hours.
fn hours(s: &Server, start: Timestamp, end: Timestamp) -> f64 {
    let Some(from) = s.launched_at else { return 0.0 };
    let from = from.max(start);
    let to = s.terminated_at.unwrap_or(end).min(end);
    (to.0 - from.0).max(0) as f64 / 3_600_000_000.0
}

async fn servers_of(app: &Compute, project: Option<&str>) -> Result<Vec<Server>, ComputeError> {
    let mut all = servers::list(&app.db, &Find { project, ..Find::default() }).await?;
    all.extend(servers::list(&app.db, &Find { project, deleted: true, ..Find::default() }).await?);
    Ok(all)
}

fn tenant_usage(project: &str, all: &[Server], start: Timestamp, end: Timestamp, whole: bool) -> Value {
    let now = Timestamp::now();
    let total =
        |f: &dyn Fn(&Server) -> i64| all.iter().map(|s| hours(s, start, end) * f(s) as f64).sum::<f64>();
    let one = |s: &Server| {
        let uptime = s.launched_at.map_or(0, |l| s.terminated_at.unwrap_or(now).secs() - l.secs());
        json!({
            "instance_id": s.id, "name": s.name, "hours": hours(s, start, end), "tenant_id": s.project_id,
            "flavor": s.flavor.name, "vcpus": s.flavor.vcpus, "memory_mb": s.flavor.ram_mib,
            "local_gb": s.flavor.disk_gib + s.flavor.ephemeral_gib,
            "started_at": s.launched_at.map(Timestamp::micros_naive),
            "ended_at": s.terminated_at.map(Timestamp::micros_naive),
            "uptime": uptime,
            "state": if s.deleted_at.is_some() { "terminated".into() } else { status(s.vm_state, s.task_state).to_lowercase() },
        })
    };
    let mut out = json!({
        "tenant_id": project,
        "start": start.micros_naive(),
        "stop": end.micros_naive(),
        "total_hours": total(&|_| 1),
        "total_vcpus_usage": total(&|s| s.flavor.vcpus),
        "total_memory_mb_usage": total(&|s| s.flavor.ram_mib),
        "total_local_gb_usage": total(&|s| s.flavor.disk_gib),
    });
    if whole {
        out["server_usages"] = all.iter().filter(|s| hours(s, start, end) > 0.0).map(one).collect();
    }
    out
}

async fn all_usage(app: State<App>, ctx: Context, query: Query) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-simple-tenant-usage:list")?;
    let (start, end) = span(&query)?;
    let mut by_project: BTreeMap<String, Vec<Server>> = BTreeMap::new();
    for s in servers_of(&app, None).await? {
        by_project.entry(s.project_id.clone()).or_default().push(s);
    }
    let whole = query.get("detailed") == Some("1");
    let views: Vec<_> = by_project.iter().map(|(p, all)| tenant_usage(p, all, start, end, whole)).collect();
    Ok(Json(json!({"tenant_usages": views})))
}

async fn usage(
    app: State<App>,
    ctx: Context,
    query: Query,
    Path(project): Path<String>,
) -> Result<Json<Value>, Error> {
    app.may(&ctx, "os_compute_api:os-simple-tenant-usage:show", &project)?;
    let (start, end) = span(&query)?;
    let all = servers_of(&app, Some(&project)).await?;
    if all.iter().all(|s| hours(s, start, end) == 0.0) {
        return Ok(Json(json!({"tenant_usage": {}})));
    }
    Ok(Json(json!({"tenant_usage": tenant_usage(&project, &all, start, end, true)})))
}
