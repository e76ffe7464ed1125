//! What operators ask: services, hosts, pools, capabilities; and what everybody may: zones, extensions, filters.

use super::{Answer, Ask, Shared, replication, text};
use crate::services::{DRIVER_VERSION, PROTOCOL, PoolStats, Service, VENDOR};
use api::{Error, Json, Path, Routes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use state::Timestamp;

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/os-services", list)
        .put("/os-services/{action}", act)
        .get("/os-hosts", hosts)
        .get("/os-hosts/{host}", host)
        .get("/scheduler-stats/get_pools", pools)
        .get("/capabilities/{host}", capabilities)
        .get("/os-availability-zone", zones)
        .get("/extensions", extensions)
        .get("/extensions/{alias}", extension)
        .get("/resource_filters", filters)
}

fn view(ask: &Ask, s: &Service) -> Value {
    let mut view = json!({
        "binary": s.binary,
        "host": s.host,
        "zone": s.zone,
        "status": if s.disabled { "disabled" } else { "enabled" },
        "state": "up",
        "disabled_reason": s.disabled_reason,
        "updated_at": s.updated_at.micros_naive(),
    });
    if s.binary == "cinder-volume" {
        view["replication_status"] = s.replication.status.as_str().into();
        view["active_backend_id"] = json!(s.replication.active);
        view["frozen"] = s.replication.frozen.into();
    }
    if ask.at(7) {
        view["cluster"] = Value::Null;
    }
    if ask.at(49) && s.binary == "cinder-volume" {
        view["backend_state"] = "up".into();
    }
    view
}

async fn list(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    let all = v.list_services(&ask.ctx, ask.query.get("host"), ask.query.get("binary")).await?;
    Ok(Json(json!({"services": all.iter().map(|s| view(&ask, s)).collect::<Vec<_>>()})))
}

async fn act(
    State(v): State<Shared>,
    ask: Ask,
    Path(action): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Response> {
    if replication::knows(&ask, &action) {
        return replication::act(&v, &ask, &action, &body).await;
    }
    let word = |key: &str| text(body.get(key)).filter(|t| !t.is_empty());
    let missing =
        |key: &str| Error::bad_request(format!("Missing required element '{key}' in request body."));
    let reason = word("disabled_reason");
    let disable = match action.as_str() {
        "enable" => None,
        "disable" => Some(None),
        "disable-log-reason" => match reason.as_deref() {
            Some(r) if r.chars().count() <= 255 => Some(Some(r)),
            _ => {
                return Err(
                    Error::bad_request("disabled_reason must have between 1 and 255 characters.").into()
                );
            }
        },
        "set-log" | "get-log" => {
            return Err(Error::not_implemented(format!("{action} is not built yet.")).into());
        }
        _ => return Err(Error::not_found("Unknown action").into()),
    };
    let host = word("host").ok_or_else(|| missing("host"))?;
    let binary = word("binary").or_else(|| word("service")).ok_or_else(|| missing("binary"))?;
    let s = v.set_service(&ask.ctx, &binary, &host, disable).await?;
    let mut view = json!({
        "host": s.host, "service": s.binary, "binary": s.binary, "disabled": s.disabled,
        "status": if s.disabled { "disabled" } else { "enabled" },
    });
    if let Some(reason) = s.disabled_reason {
        view["disabled_reason"] = reason.into();
    }
    Ok(Json(view).into_response())
}

async fn hosts(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    let one = |s: Service| {
        json!({
            "host_name": s.host, "service": s.binary, "zone": s.zone, "service-status": "available",
            "service-state": if s.disabled { "disabled" } else { "enabled" },
            "last-update": s.updated_at.micros_naive(),
        })
    };
    let all: Vec<Value> = v.list_hosts(&ask.ctx).await?.into_iter().map(one).collect();
    Ok(Json(json!({"hosts": all})))
}

async fn host(State(v): State<Shared>, ask: Ask, Path(host): Path<String>) -> Answer<Json<Value>> {
    let (volumes, gib, snapshots, snapshot_gib) = v.host_usage(&ask.ctx, &host).await?;
    let resource = json!({
        "host": host, "project": "(total)",
        "volume_count": volumes.to_string(), "total_volume_gb": gib.to_string(),
        "snapshot_count": snapshots.to_string(), "total_snapshot_gb": snapshot_gib.to_string(),
    });
    Ok(Json(json!({"host": [{"resource": resource}]})))
}

async fn pools(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    let detail = ask.query.bool("detail")?.unwrap_or(false);
    let one = |p: PoolStats| {
        if !detail {
            return json!({"name": p.name});
        }
        json!({"name": p.name, "capabilities": {
            "volume_backend_name": p.backend, "pool_name": p.backend, "vendor_name": VENDOR,
            "driver_version": DRIVER_VERSION, "storage_protocol": PROTOCOL,
            "total_capacity_gb": p.total_gib, "free_capacity_gb": p.free_gib,
            "provisioned_capacity_gb": p.provisioned_gib, "total_volumes": p.volumes,
            "reserved_percentage": 0, "max_over_subscription_ratio": format!("{:?}", p.ratio),
            "thin_provisioning_support": true, "thick_provisioning_support": false,
            "multiattach": true, "QoS_support": true, "replication_enabled": !p.replicas.is_empty(),
            "replication_targets": p.replicas, "replication_count": p.replicas.len() + 1,
            "location_info": null, "backend_state": if p.up { "up" } else { "down" }, "filter_function": null, "goodness_function": null,
            "timestamp": Timestamp::now().micros_naive(), "updated": null,
        }})
    };
    let mut all = v.pool_stats(&ask.ctx, detail).await?;
    if let Some(name) = ask.query.get("name").filter(|_| ask.at(28)) {
        all.retain(|p| p.name == name);
    }
    Ok(Json(json!({"pools": all.into_iter().map(one).collect::<Vec<_>>()})))
}

async fn capabilities(State(v): State<Shared>, ask: Ask, Path(host): Path<String>) -> Answer<Json<Value>> {
    let tier = v.capabilities(&ask.ctx, &host)?;
    let property = |title: &str, description: &str| json!({"title": title, "description": description, "type": "boolean"});
    Ok(Json(json!({
        "namespace": format!("OS::Storage::Capabilities::{host}"),
        "vendor_name": VENDOR, "volume_backend_name": tier, "pool_name": tier, "driver_version": DRIVER_VERSION,
        "storage_protocol": PROTOCOL, "display_name": "Ceph", "description": null, "visibility": "public",
        "replication_targets": v.replication_targets(&tier),
        "properties": {
            "thin_provisioning": property("Thin Provisioning", "Sets thin provisioning."),
            "compression": property("Compression", "Enables compression."),
            "qos": property("QoS", "Enables QoS."),
            "replication_enabled": property("Replication", "Enables replication."),
        },
    })))
}

async fn zones(State(v): State<Shared>, _: Ask) -> Json<Value> {
    Json(json!({"availabilityZoneInfo": [{"zoneName": v.zone_name(), "zoneState": {"available": true}}]}))
}

/// `(alias, name, description)` of what older versions of the API called extensions.
const EXTENSIONS: &[(&str, &str, &str)] = &[
    ("aquifer-schedules", "Schedules", "Snapshots and backups on a schedule, with retention: /schedules."),
    ("os-availability-zone", "AvailabilityZones", "Describe Availability Zones."),
    ("os-extended-snapshot-attributes", "ExtendedSnapshotAttributes", "Extended SnapshotAttributes support."),
    ("os-hosts", "Hosts", "Admin-only host administration."),
    ("os-quota-class-sets", "QuotaClasses", "Quota classes management support."),
    ("os-quota-sets", "Quotas", "Quota management support."),
    ("OS-SCH-HNT", "SchedulerHints", "Pass arbitrary key/value pairs to the scheduler."),
    ("os-services", "Services", "Services support."),
    ("os-snapshot-actions", "SnapshotActions", "Enable snapshot manager actions."),
    ("os-admin-actions", "AdminActions", "Enable admin actions."),
    ("os-types-extra-specs", "TypesExtraSpecs", "Type extra specs support."),
    ("os-types-manage", "TypesManage", "Types manage support."),
    ("os-used-limits", "UsedLimits", "Provide data on limited resources that are being used."),
    ("os-vol-host-attr", "VolumeHostAttribute", "Expose host as an attribute of a volume."),
    ("os-vol-image-meta", "VolumeImageMetadata", "Show image metadata associated with the volume."),
    (
        "os-vol-mig-status-attr",
        "VolumeMigStatusAttribute",
        "Expose migration_status as an attribute of a volume.",
    ),
    (
        "os-vol-tenant-attr",
        "VolumeTenantAttribute",
        "Expose the internal project_id as an attribute of a volume.",
    ),
    ("os-volume-actions", "VolumeActions", "Enable volume actions."),
    ("os-volume-transfer", "VolumeTransfer", "Volume transfer management support."),
    ("os-volume-type-access", "VolumeTypeAccess", "Volume type access support."),
    ("qos-specs", "Qos_specs_manage", "QoS specs support."),
    ("scheduler-stats", "Scheduler_stats", "Scheduler stats support."),
    ("capabilities", "Capabilities", "Capabilities support."),
];

fn extension_view((alias, name, description): &(&str, &str, &str)) -> Value {
    json!({"alias": alias, "name": name, "description": description, "links": [],
        "updated": "2013-04-18T00:00:00+00:00"})
}

async fn extensions(_: Ask) -> Json<Value> {
    Json(json!({"extensions": EXTENSIONS.iter().map(extension_view).collect::<Vec<_>>()}))
}

async fn extension(_: Ask, Path(alias): Path<String>) -> Answer<Json<Value>> {
    let found = EXTENSIONS.iter().find(|(a, ..)| *a == alias);
    let found = found.ok_or_else(|| Error::not_found("The resource could not be found."))?;
    Ok(Json(json!({"extension": extension_view(found)})))
}

async fn filters(ask: Ask) -> Answer<Json<Value>> {
    ask.since(33)?;
    let all: &[(&str, &[&str])] = &[
        (
            "volume",
            &[
                "name",
                "status",
                "metadata",
                "bootable",
                "migration_status",
                "availability_zone",
                "group_id",
                "size",
                "created_at",
                "updated_at",
            ],
        ),
        ("backup", &["name", "status", "volume_id"]),
        ("snapshot", &["name", "status", "volume_id", "metadata", "availability_zone", "consumes_quota"]),
        ("attachment", &["volume_id", "status", "instance_id", "attach_status"]),
        ("message", &["resource_uuid", "resource_type", "event_id", "request_id", "message_level"]),
        ("pool", &["name", "volume_type"]),
        ("volume_type", &["is_public"]),
        ("group", &["name", "status"]),
        ("group_snapshot", &["name", "status", "group_id"]),
    ];
    let wanted = ask.query.get("resource");
    let shown: Vec<Value> = all
        .iter()
        .filter(|(r, _)| wanted.is_none_or(|w| w == *r))
        .map(|(resource, filters)| json!({"resource": resource, "filters": filters}))
        .collect();
    Ok(Json(json!({"resource_filters": shown})))
}
