//! `os-volume_attachments`, `os-interface` and `ips` of a server.

use super::App;
use super::server_create::boolean;
use super::server_view::{Surroundings, ips};
use crate::devices::NewAttachment;
use crate::model::{Disk, Nic, NicRequest, Server};
use crate::{Compute, ComputeError};
use api::{Context, Error, Json, Microversion, Path, Query, Routes, schema::Schema};
use axum::extract::State;
use http::StatusCode;
use netagent::model::Port;
use serde_json::{Value, json};
use std::sync::LazyLock;

pub(super) fn routes(r: Routes<App>) -> Routes<App> {
    r.get("/servers/{server_id}/os-volume_attachments", volumes)
        .post("/servers/{server_id}/os-volume_attachments", attach)
        .get("/servers/{server_id}/os-volume_attachments/{volume_id}", volume)
        .put("/servers/{server_id}/os-volume_attachments/{volume_id}", update)
        .delete("/servers/{server_id}/os-volume_attachments/{volume_id}", detach)
        .get("/servers/{server_id}/os-interface", nics)
        .post("/servers/{server_id}/os-interface", plug)
        .get("/servers/{server_id}/os-interface/{port_id}", nic)
        .delete("/servers/{server_id}/os-interface/{port_id}", unplug)
        .get("/servers/{server_id}/ips", all_ips)
        .get("/servers/{server_id}/ips/{network}", network_ips)
}

fn attachment(s: &Server, d: &Disk, v: Microversion) -> Value {
    let volume = d.volume_id().unwrap_or_default();
    let mut out = json!({"serverId": s.id, "volumeId": volume, "device": format!("/dev/{}", d.device)});
    if v < Microversion(2, 89) {
        out["id"] = json!(volume);
    } else {
        out["bdm_uuid"] = json!(d.bdm_id);
        out["attachment_id"] = json!(d.attachment_id);
    }
    if v >= Microversion(2, 70) {
        out["tag"] = json!(d.tag);
    }
    if v >= Microversion(2, 79) {
        out["delete_on_termination"] = json!(d.delete_on_termination);
    }
    out
}

async fn volumes(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    query: Query,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    let s = app.server(&ctx, &id, "os_compute_api:os-volumes-attachments:index").await?;
    let all = s.disks.iter().filter(|d| d.volume_id().is_some());
    let (offset, limit) = (query.int("offset")?.unwrap_or(0), query.int("limit")?.unwrap_or(1000));
    let number =
        |n: i64| usize::try_from(n).map_err(|_| Error::bad_request("limit and offset must not be negative"));
    let views: Vec<_> =
        all.skip(number(offset)?).take(number(limit)?).map(|d| attachment(&s, d, v)).collect();
    Ok(Json(json!({"volumeAttachments": views})))
}

async fn volume(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path((id, volume)): Path<(String, String)>,
) -> Result<Json<Value>, Error> {
    let s = app.server(&ctx, &id, "os_compute_api:os-volumes-attachments:show").await?;
    let disk = s.disk_of(&volume).ok_or_else(|| no_volume(&id, &volume))?;
    Ok(Json(json!({"volumeAttachment": attachment(&s, disk, v)})))
}

fn no_volume(server: &str, volume: &str) -> ComputeError {
    ComputeError::NotFound(format!("Instance {server} is not attached to volume {volume}"))
}

const UUID: &str = "^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$";

static ATTACH: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(&json!({
        "type": "object",
        "properties": {"volumeAttachment": {
            "type": "object",
            "properties": {
                "volumeId": {"type": "string", "pattern": UUID},
                "device": {"type": ["string", "null"], "pattern": "(^/dev/x{0,1}[a-z]{0,1}d{0,1})([a-z]+)[0-9]*$"},
                "tag": {"type": "string", "minLength": 1, "maxLength": 60, "pattern": "^[^,/]*$"},
                "delete_on_termination": {"enum": [true, false, "true", "false", "True", "False"]},
            },
            "required": ["volumeId"],
            "additionalProperties": false,
        }},
        "required": ["volumeAttachment"],
        "additionalProperties": false,
    }))
});

async fn attach(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    ATTACH.check(&body)?;
    let asked = &body["volumeAttachment"];
    super::server_create::too_new(asked, v, &[("tag", 49), ("delete_on_termination", 79)])?;
    let text = |key: &str| asked.get(key).and_then(Value::as_str).map(str::to_owned);
    let new = NewAttachment {
        volume_id: text("volumeId").unwrap_or_default(),
        device: text("device"),
        tag: text("tag"),
        delete_on_termination: boolean(&asked["delete_on_termination"]),
    };
    let disk = app.attach_volume(&ctx, &id, new).await?;
    let s = app.server(&ctx, &id, "os_compute_api:os-volumes-attachments:create").await?;
    Ok(Json(json!({"volumeAttachment": attachment(&s, &disk, v)})))
}

async fn update(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path((id, volume)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Result<StatusCode, Error> {
    let asked = &body["volumeAttachment"];
    let other =
        asked["volumeId"].as_str().ok_or_else(|| Error::bad_request("volumeId is a required property"))?;
    let s = app.server(&ctx, &id, "os_compute_api:os-volumes-attachments:update").await?;
    s.disk_of(&volume).ok_or_else(|| no_volume(&id, &volume))?;
    if other != volume {
        return Err(Error::not_implemented(
            "This cloud does not offer swapping a server's volume for another.",
        ));
    }
    if v < Microversion(2, 85) {
        return Err(Error::bad_request("The old and the new volume must differ."));
    }
    let keep = boolean(&asked["delete_on_termination"]);
    app.change_server(&ctx, &id, "os_compute_api:os-volumes-attachments:update", |s| {
        let disk = s.disks.iter_mut().find(|d| d.volume_id() == Some(&volume));
        disk.ok_or_else(|| no_volume(&id, &volume))?.delete_on_termination = keep;
        Ok(())
    })
    .await?;
    Ok(StatusCode::ACCEPTED)
}

async fn detach(
    app: State<App>,
    ctx: Context,
    Path((id, volume)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    app.detach_volume(&ctx, &id, &volume).await?;
    Ok(StatusCode::ACCEPTED)
}

fn interface(nic: &Nic, port: &Port, v: Microversion) -> Value {
    let fixed =
        |ip: &netagent::model::FixedIp| json!({"ip_address": ip.ip_address, "subnet_id": ip.subnet_id});
    let mut out = json!({
        "port_id": nic.port_id,
        "net_id": nic.network_id,
        "mac_addr": nic.mac,
        "port_state": port.status(),
        "fixed_ips": port.fixed_ips.iter().map(fixed).collect::<Vec<_>>(),
    });
    if v >= Microversion(2, 70) {
        out["tag"] = json!(nic.tag);
    }
    out
}

async fn interfaces(app: &Compute, s: &Server, v: Microversion) -> Result<Vec<Value>, ComputeError> {
    let ports = app.networks.ports_of_device(&s.id).await?;
    let view = |n: &Nic| Some(interface(n, ports.iter().find(|p| p.meta.id == n.port_id)?, v));
    Ok(s.nics.iter().filter_map(view).collect())
}

async fn nics(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    let s = app.server(&ctx, &id, "os_compute_api:os-attach-interfaces:list").await?;
    Ok(Json(json!({"interfaceAttachments": interfaces(&app, &s, v).await?})))
}

async fn nic(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path((id, port)): Path<(String, String)>,
) -> Result<Json<Value>, Error> {
    let s = app.server(&ctx, &id, "os_compute_api:os-attach-interfaces:show").await?;
    let all = interfaces(&app, &s, v).await?;
    let one = all.into_iter().find(|i| i["port_id"] == json!(port));
    let one = one.ok_or_else(|| {
        ComputeError::NotFound(format!("Instance {id} does not have a port with id {port}"))
    })?;
    Ok(Json(json!({"interfaceAttachment": one})))
}

static PLUG: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(&json!({
        "type": "object",
        "properties": {"interfaceAttachment": {
            "type": "object",
            "properties": {
                "net_id": {"type": "string", "pattern": UUID},
                "port_id": {"type": "string", "pattern": UUID},
                "fixed_ips": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"type": "object",
                    "properties": {"ip_address": {"type": "string"}}, "required": ["ip_address"],
                    "additionalProperties": false}},
                "tag": {"type": "string", "minLength": 1, "maxLength": 60, "pattern": "^[^,/]*$"},
            },
            "additionalProperties": false,
        }},
        "additionalProperties": false,
    }))
});

async fn plug(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    PLUG.check(&body)?;
    let asked = &body["interfaceAttachment"];
    super::server_create::too_new(asked, v, &[("tag", 49)])?;
    let text = |key: &str| asked.get(key).and_then(Value::as_str).map(str::to_owned);
    let request = NicRequest {
        network_id: text("net_id"),
        port_id: text("port_id"),
        fixed_ip: asked["fixed_ips"][0]["ip_address"].as_str().map(str::to_owned),
        tag: text("tag"),
    };
    if request.network_id.is_some() && request.port_id.is_some() {
        return Err(Error::bad_request("Must not input both network_id and port_id"));
    }
    if request.fixed_ip.is_some() && request.network_id.is_none() {
        return Err(Error::bad_request("Must input network_id when request IP address"));
    }
    let made = app.attach_interface(&ctx, &id, request).await?;
    let ports = app.networks.ports_of_device(&id).await?;
    let port = ports.iter().find(|p| p.meta.id == made.port_id);
    let port = port.ok_or_else(|| ComputeError::NotFound(format!("Port {} is gone.", made.port_id)))?;
    Ok(Json(json!({"interfaceAttachment": interface(&made, port, v)})))
}

async fn unplug(
    app: State<App>,
    ctx: Context,
    Path((id, port)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    app.detach_interface(&ctx, &id, &port).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn all_ips(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    let s = app.server(&ctx, &id, "os_compute_api:ips:index").await?;
    let around = Surroundings::of(&app, &ctx, v).await?;
    Ok(Json(json!({"addresses": ips(&app, &around, &s).await?})))
}

async fn network_ips(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path((id, network)): Path<(String, String)>,
) -> Result<Json<Value>, Error> {
    let s = app.server(&ctx, &id, "os_compute_api:ips:show").await?;
    let around = Surroundings::of(&app, &ctx, v).await?;
    let all = ips(&app, &around, &s).await?;
    match all.get(&network) {
        Some(list) => Ok(Json(json!({network: list}))),
        None => Err(Error::not_found("Instance is not a member of specified network")),
    }
}
