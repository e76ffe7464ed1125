//! The cloud itself: availability zones, hypervisors, services, and what old clients ask for first.

use super::App;
use super::server_create::boolean;
use crate::model::Host;
use crate::states::PowerState;
use crate::store::servers::{self, Find};
use crate::{Compute, ComputeError};
use api::{Context, Error, Json, Microversion, Path, Query, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(super) fn routes(r: Routes<App>) -> Routes<App> {
    r.get("/os-availability-zone", zones)
        .get("/os-availability-zone/detail", zones_detail)
        .get("/os-hypervisors", hypervisors)
        .get("/os-hypervisors/detail", hypervisors_detail)
        .get("/os-hypervisors/statistics", statistics)
        .get("/os-hypervisors/{hypervisor_id}", hypervisor)
        .get("/os-hypervisors/{hypervisor_id}/uptime", uptime)
        .get("/os-hypervisors/{hypervisor_id}/search", search)
        .get("/os-hypervisors/{hypervisor_id}/servers", servers_of)
        .get("/os-services", services)
        .put("/os-services/{service_id}", update_service)
        .delete("/os-services/{service_id}", delete_service)
        .get("/os-migrations", migrations)
        .get("/extensions", extensions)
        .post("/os-server-external-events", external_events)
}

async fn by_zone(app: &Compute) -> Result<BTreeMap<String, Vec<Host>>, ComputeError> {
    let mut zones: BTreeMap<String, Vec<Host>> = BTreeMap::new();
    zones.entry(app.config.availability_zone.clone()).or_default();
    for host in app.hosts().await? {
        zones.entry(host.zone.clone()).or_default().push(host);
    }
    Ok(zones)
}

fn zone_state(hosts: &[Host]) -> Value {
    json!({"available": hosts.is_empty() || hosts.iter().any(|h| !h.disabled)})
}

async fn zones(app: State<App>, ctx: Context) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-availability-zone:list")?;
    let view = |(name, hosts): (&String, &Vec<Host>)| json!({"zoneName": name, "zoneState": zone_state(hosts), "hosts": null});
    let all = by_zone(&app).await?;
    Ok(Json(json!({"availabilityZoneInfo": all.iter().map(view).collect::<Vec<_>>()})))
}

async fn zones_detail(app: State<App>, ctx: Context) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-availability-zone:detail")?;
    let view = |(name, hosts): (&String, &Vec<Host>)| {
        let one = |h: &Host| {
            let state = json!({"available": app.is_up(h), "active": !h.disabled, "updated_at": h.seen_at.micros_naive()});
            (h.name.clone(), json!({"nova-compute": state}))
        };
        let hosts_view: Map<_, _> = hosts.iter().map(one).collect();
        json!({"zoneName": name, "zoneState": zone_state(hosts), "hosts": hosts_view})
    };
    let all = by_zone(&app).await?;
    Ok(Json(json!({"availabilityZoneInfo": all.iter().map(view).collect::<Vec<_>>()})))
}

/// A hypervisor's and a service's id: the UUID from 2.53 on, a number before.
fn id(uuid: &str, v: Microversion) -> Value {
    if v >= Microversion(2, 53) { json!(uuid) } else { json!(number(uuid)) }
}

fn number(uuid: &str) -> u32 {
    u32::from_str_radix(uuid.get(..8).unwrap_or_default(), 16).unwrap_or(0) & 0x7FFF_FFFF
}

fn brief(app: &Compute, h: &Host, v: Microversion) -> Value {
    json!({
        "id": id(&h.id, v),
        "hypervisor_hostname": h.name,
        "state": if app.is_up(h) { "up" } else { "down" },
        "status": if h.disabled { "disabled" } else { "enabled" },
    })
}

async fn whole(app: &Compute, h: &Host, v: Microversion, with_servers: bool) -> Result<Value, ComputeError> {
    let f = h.facts.clone().unwrap_or_default();
    let all = servers::list(&app.db, &Find { host: Some(&h.name), ..Find::default() }).await?;
    let mut out = brief(app, h, v);
    out["host_ip"] = json!(f.address);
    out["hypervisor_type"] = json!("QEMU");
    out["hypervisor_version"] = json!(f.hypervisor_version);
    out["service"] =
        json!({"host": h.name, "id": id(&h.service_id, v), "disabled_reason": h.disabled_reason});
    if v < Microversion(2, 88) {
        let used_ram: i64 = all.iter().map(|s| s.flavor.ram_mib).sum();
        let used_cpu: i64 = all.iter().map(|s| s.flavor.vcpus).sum();
        let total = i64::try_from(f.memory_mib).unwrap_or(0);
        let used_ram = used_ram + i64::try_from(f.reserved_memory_mib).unwrap_or(0);
        let running = all.iter().filter(|s| s.seen.power == PowerState::Running).count();
        for (key, value) in [
            ("vcpus", i64::from(f.vcpus)),
            ("vcpus_used", used_cpu),
            ("memory_mb", total),
            ("memory_mb_used", used_ram),
            ("free_ram_mb", total - used_ram),
            ("local_gb", i64::try_from(f.disk_gib).unwrap_or(0)),
            ("local_gb_used", i64::try_from(f.disk_gib.saturating_sub(f.free_disk_gib)).unwrap_or(0)),
            ("free_disk_gb", i64::try_from(f.free_disk_gib).unwrap_or(0)),
            ("disk_available_least", i64::try_from(f.free_disk_gib).unwrap_or(0)),
            ("running_vms", i64::try_from(running).unwrap_or(0)),
            (
                "current_workload",
                i64::try_from(all.iter().filter(|s| s.task_state.is_some()).count()).unwrap_or(0),
            ),
        ] {
            out[key] = json!(value);
        }
        let cpu = json!({"arch": f.arch, "model": f.cpu_model, "vendor": f.cpu_vendor, "features": [],
            "topology": {"sockets": f.topology.sockets, "cores": f.topology.cores, "threads": f.topology.threads}});
        out["cpu_info"] = if v < Microversion(2, 28) { json!(cpu.to_string()) } else { cpu };
    } else {
        out["uptime"] = json!(h.facts.as_ref().map(uptime_text));
    }
    if with_servers {
        out["servers"] = servers_view(&all);
    }
    Ok(out)
}

fn servers_view(all: &[crate::model::Server]) -> Value {
    all.iter().map(|s| json!({"name": s.instance_name(), "uuid": s.id})).collect()
}

fn uptime_text(f: &crate::wire::HostFacts) -> String {
    let (days, rest) = (f.uptime_secs / 86400, f.uptime_secs % 86400);
    format!(" up {days} days, {}:{:02},  0 users,  load average: {}", rest / 3600, rest % 3600 / 60, f.load)
}

async fn hypervisors(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    query: Query,
) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-hypervisors:list")?;
    list(&app, v, &query, false).await
}

async fn hypervisors_detail(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    query: Query,
) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-hypervisors:list-detail")?;
    list(&app, v, &query, true).await
}

async fn list(app: &Compute, v: Microversion, query: &Query, detail: bool) -> Result<Json<Value>, Error> {
    let mut hosts = app.hosts().await?;
    if let Some(pattern) = query.get("hypervisor_hostname_pattern") {
        hosts.retain(|h| h.name.contains(pattern));
        if hosts.is_empty() {
            return Err(Error::not_found(format!("No hypervisor matching '{pattern}' could be found.")));
        }
    }
    let with_servers = v >= Microversion(2, 53) && query.bool("with_servers")?.unwrap_or(false);
    let mut views = Vec::with_capacity(hosts.len());
    for h in &hosts {
        views.push(if detail {
            whole(app, h, v, with_servers).await?
        } else {
            let mut view = brief(app, h, v);
            if with_servers {
                let find = Find { host: Some(&h.name), ..Find::default() };
                view["servers"] = servers_view(&servers::list(&app.db, &find).await?);
            }
            view
        });
    }
    Ok(Json(json!({"hypervisors": views})))
}

async fn found(app: &Compute, wanted: &str) -> Result<Host, ComputeError> {
    let hosts = app.hosts().await?;
    let is = |h: &Host| h.id == wanted || number(&h.id).to_string() == wanted;
    let absent = || ComputeError::NotFound(format!("Hypervisor with ID '{wanted}' could not be found."));
    hosts.into_iter().find(is).ok_or_else(absent)
}

async fn hypervisor(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    query: Query,
    Path(wanted): Path<String>,
) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-hypervisors:show")?;
    let host = found(&app, &wanted).await?;
    let with_servers = v >= Microversion(2, 53) && query.bool("with_servers")?.unwrap_or(false);
    Ok(Json(json!({"hypervisor": whole(&app, &host, v, with_servers).await?})))
}

async fn uptime(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(wanted): Path<String>,
) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-hypervisors:uptime")?;
    let host = found(&app, &wanted).await?;
    let mut out = brief(&app, &host, v);
    out["uptime"] = json!(host.facts.as_ref().map(uptime_text));
    Ok(Json(json!({"hypervisor": out})))
}

/// Before 2.53 a pattern in the path finds hypervisors by name.
async fn matching(app: &Compute, v: Microversion, pattern: &str) -> Result<Vec<Host>, Error> {
    if v >= Microversion(2, 53) {
        return Err(Error::not_found("The resource could not be found."));
    }
    let mut hosts = app.hosts().await?;
    hosts.retain(|h| h.name.contains(pattern));
    if hosts.is_empty() {
        return Err(Error::not_found(format!("No hypervisor matching '{pattern}' could be found.")));
    }
    Ok(hosts)
}

async fn search(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(pattern): Path<String>,
) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-hypervisors:search")?;
    let found = matching(&app, v, &pattern).await?;
    Ok(Json(json!({"hypervisors": found.iter().map(|h| brief(&app, h, v)).collect::<Vec<_>>()})))
}

async fn servers_of(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(pattern): Path<String>,
) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-hypervisors:servers")?;
    let mut views = Vec::new();
    for h in matching(&app, v, &pattern).await? {
        let all = servers::list(&app.db, &Find { host: Some(&h.name), ..Find::default() }).await?;
        let mut view = brief(&app, &h, v);
        if !all.is_empty() {
            view["servers"] = servers_view(&all);
        }
        views.push(view);
    }
    Ok(Json(json!({"hypervisors": views})))
}

async fn statistics(app: State<App>, ctx: Context, v: Microversion) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-hypervisors:statistics")?;
    if v >= Microversion(2, 88) {
        return Err(Error::not_found("The resource could not be found."));
    }
    let mut sum: BTreeMap<&str, i64> = BTreeMap::new();
    let hosts = app.hosts().await?;
    for h in &hosts {
        let view = whole(&app, h, v, false).await?;
        for key in [
            "vcpus",
            "vcpus_used",
            "memory_mb",
            "memory_mb_used",
            "local_gb",
            "local_gb_used",
            "free_ram_mb",
            "free_disk_gb",
            "current_workload",
            "running_vms",
            "disk_available_least",
        ] {
            *sum.entry(key).or_default() += view[key].as_i64().unwrap_or(0);
        }
    }
    let mut out = json!(sum);
    out["count"] = json!(hosts.len());
    Ok(Json(json!({"hypervisor_statistics": out})))
}

fn service(app: &Compute, h: &Host, v: Microversion) -> Value {
    let mut out = json!({
        "id": id(&h.service_id, v),
        "binary": "nova-compute",
        "host": h.name,
        "zone": h.zone,
        "status": if h.disabled { "disabled" } else { "enabled" },
        "state": if app.is_up(h) { "up" } else { "down" },
        "updated_at": h.seen_at.micros_naive(),
        "disabled_reason": h.disabled_reason,
    });
    if v >= Microversion(2, 11) {
        out["forced_down"] = json!(h.forced_down);
    }
    out
}

/// The controller's own services, which run as long as somebody can ask.
fn own(v: Microversion, binary: &str) -> Value {
    let uuid = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, binary.as_bytes()).to_string();
    let mut out = json!({
        "id": id(&uuid, v),
        "binary": binary,
        "host": "controller",
        "zone": "internal",
        "status": "enabled",
        "state": "up",
        "updated_at": state::Timestamp::now().micros_naive(),
        "disabled_reason": null,
    });
    if v >= Microversion(2, 11) {
        out["forced_down"] = json!(false);
    }
    out
}

async fn services(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    query: Query,
) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-services:list")?;
    let mut all: Vec<Value> = ["nova-conductor", "nova-scheduler"].iter().map(|b| own(v, b)).collect();
    all.extend(app.hosts().await?.iter().map(|h| service(&app, h, v)));
    for key in ["binary", "host"] {
        if let Some(wanted) = query.get(key) {
            all.retain(|s| s[key] == json!(wanted));
        }
    }
    Ok(Json(json!({"services": all})))
}

async fn update_service(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(wanted): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-services:update")?;
    let mut asked = body.clone();
    let hosts = app.hosts().await?;
    // Before 2.53 the path names the change and the body the host.
    let host = if v < Microversion(2, 53) {
        match wanted.as_str() {
            "enable" => asked["status"] = json!("enabled"),
            "disable" | "disable-log-reason" => asked["status"] = json!("disabled"),
            "force-down" => {}
            _ => return Err(Error::not_found("Unknown action")),
        }
        hosts.iter().find(|h| json!(h.name) == body["host"])
    } else {
        hosts.iter().find(|h| h.service_id == wanted)
    };
    let host = host.ok_or_else(|| Error::not_found(format!("Service {wanted} could not be found.")))?;
    let reason = asked["disabled_reason"].as_str().map(str::to_owned);
    let status = asked["status"].as_str().map(str::to_owned);
    if status.as_deref().is_some_and(|s| s != "enabled" && s != "disabled") {
        return Err(Error::bad_request("Invalid input for field/attribute status."));
    }
    if reason.is_some() && status.as_deref() != Some("disabled") {
        return Err(Error::bad_request("Specifying disabled_reason requires that status is disabled."));
    }
    let changed = app
        .change_host(&host.name, |h| {
            if let Some(status) = status {
                (h.disabled, h.disabled_reason) = (status == "disabled", reason);
            }
            if let Some(down) = asked.get("forced_down") {
                h.forced_down = boolean(down);
            }
        })
        .await?;
    Ok(Json(json!({"service": service(&app, &changed, v)})))
}

async fn delete_service(
    app: State<App>,
    ctx: Context,
    Path(wanted): Path<String>,
) -> Result<StatusCode, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-services:delete")?;
    let hosts = app.hosts().await?;
    let is = |h: &&Host| h.service_id == wanted || number(&h.service_id).to_string() == wanted;
    let host = hosts.iter().find(is);
    let host = host.ok_or_else(|| Error::not_found(format!("Service {wanted} could not be found.")))?;
    app.remove_host(host).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn migrations(app: State<App>, ctx: Context) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-migrations:index")?;
    Ok(Json(json!({"migrations": []})))
}

async fn extensions(app: State<App>, ctx: Context) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:extensions")?;
    let names = [
        "os-volumes",
        "os-keypairs",
        "os-quota-sets",
        "os-server-groups",
        "os-availability-zone",
        "os-extended-volumes",
        "os-console-output",
        "os-attach-interfaces",
        "os-flavor-manage",
    ];
    let one = |alias: &&str| {
        json!({"alias": alias, "name": alias, "description": "", "links": [], "namespace": "",
            "updated": "2014-12-03T00:00:00Z"})
    };
    Ok(Json(json!({"extensions": names.iter().map(one).collect::<Vec<_>>()})))
}

/// The other services call each other here, so nobody has events to bring; what is brought is taken in.
async fn external_events(
    app: State<App>,
    ctx: Context,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-server-external-events:create")?;
    let events =
        body["events"].as_array().ok_or_else(|| Error::bad_request("'events' is a required property"))?;
    let mut out = Vec::with_capacity(events.len());
    for event in events {
        let id = event["server_uuid"].as_str().unwrap_or_default();
        let known = servers::get(&app.db, id).await?.is_some();
        let mut event = event.clone();
        event["status"] = json!(if known { "completed" } else { "failed" });
        event["code"] = json!(if known { 200 } else { 404 });
        out.push(event);
    }
    Ok(Json(json!({"events": out})))
}
