//! How a server looks, by microversion.

use crate::model::{Host, Server};
use crate::states::status;
use crate::{Compute, ComputeError};
use api::{Context, Links, Microversion};
use netagent::model::{Network, Port};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

pub(super) fn links(links: &Links, kind: &str, id: &str) -> Value {
    json!([
        {"rel": "self", "href": links.to(&format!("/compute/v2.1/{kind}/{id}"))},
        {"rel": "bookmark", "href": links.to(&format!("/compute/{kind}/{id}"))},
    ])
}

fn bookmark(links: &Links, kind: &str, id: &str) -> Value {
    json!([{"rel": "bookmark", "href": links.to(&format!("/compute/{kind}/{id}"))}])
}

pub(super) fn brief(app: &Compute, s: &Server) -> Value {
    json!({"id": s.id, "name": s.name, "links": links(&app.links, "servers", &s.id)})
}

/// What several servers' views have in common, fetched once.
pub(super) struct Surroundings {
    hosts: HashMap<String, Host>,
    networks: HashMap<String, String>,
    pub(super) version: Microversion,
    admin: bool,
    operator_status: bool,
}

impl Surroundings {
    pub(super) async fn of(
        app: &Compute,
        ctx: &Context,
        version: Microversion,
    ) -> Result<Self, ComputeError> {
        let hosts = app.hosts().await?.into_iter().map(|h| (h.name.clone(), h)).collect();
        let name = |n: Network| (n.meta.id, n.meta.name);
        let service = Context::service("compute");
        let networks = app.networks.networks(&service).await?.into_iter().map(name).collect();
        let home = ctx.project().map(|p| p.id.as_str()).unwrap_or_default();
        Ok(Surroundings {
            hosts,
            networks,
            version,
            admin: app.allows(ctx, "os_compute_api:os-extended-server-attributes", home),
            operator_status: app.allows(ctx, "os_compute_api:servers:show:host_status", home),
        })
    }
}

/// What answers a change: before 2.75 without what extensions once added.
pub(super) async fn changed(app: &Compute, s: &Server, around: &Surroundings) -> Result<Value, ComputeError> {
    let mut view = full(app, s, around, true).await?;
    if around.version < Microversion(2, 75)
        && let Some(fields) = view.as_object_mut()
    {
        let added = ["OS-EXT-", "OS-SRV-USG:", "os-extended-volumes:"];
        let more = ["config_drive", "key_name", "security_groups", "host_status", "server_groups"];
        let extra = |k: &str| added.iter().any(|p| k.starts_with(p)) || more.contains(&k);
        fields.retain(|k, _| !extra(k) || (k == "server_groups" && around.version >= Microversion(2, 71)));
    }
    Ok(view)
}

/// The whole view. `single` is for what upstream shows of one server but not in listings.
pub(super) async fn full(
    app: &Compute,
    s: &Server,
    around: &Surroundings,
    single: bool,
) -> Result<Value, ComputeError> {
    let v = around.version;
    let since = |minor: u16| v >= Microversion(2, minor);
    let status = status(s.vm_state, s.task_state);
    let host = around.hosts.get(&s.host);
    let ports = app.networks.ports_of_device(&s.id).await?;
    let mut out = json!({
        "id": s.id,
        "name": s.name,
        "status": status,
        "tenant_id": s.project_id,
        "user_id": s.user_id,
        "metadata": s.metadata,
        "hostId": host_id(s),
        "image": image(app, s),
        "flavor": flavor(app, s, v),
        "created": s.created_at.seconds_z(),
        "updated": s.updated_at.seconds_z(),
        "addresses": addresses(app, around, &ports).await?,
        "accessIPv4": s.access_ipv4,
        "accessIPv6": s.access_ipv6,
        "links": links(&app.links, "servers", &s.id),
        "OS-DCF:diskConfig": s.disk_config(),
        "OS-EXT-AZ:availability_zone": host.map_or("", |h| h.zone.as_str()),
        "config_drive": if s.config_drive { "True" } else { "" },
        "key_name": s.key_name,
        "OS-SRV-USG:launched_at": s.launched_at.map(naive),
        "OS-SRV-USG:terminated_at": s.terminated_at.map(naive),
        "OS-EXT-STS:task_state": s.task_state.map(|t| t.as_str()),
        "OS-EXT-STS:vm_state": s.vm_state.as_str(),
        "OS-EXT-STS:power_state": s.seen.power.code(),
        "os-extended-volumes:volumes_attached": volumes(s, v),
    });
    if matches!(status, "ACTIVE" | "BUILD" | "REBUILD") {
        out["progress"] = json!(0);
    }
    let groups = security_groups(app, &ports).await?;
    if !groups.is_empty() {
        out["security_groups"] = json!(groups);
    }
    if matches!(status, "ERROR" | "DELETED")
        && let Some(f) = &s.fault
    {
        out["fault"] = json!({"code": f.code, "created": f.created_at.seconds_z(), "message": f.message});
    }
    if since(9) {
        out["locked"] = json!(s.locked.is_some());
    }
    if since(19) {
        out["description"] = json!(s.description);
    }
    if since(26) {
        out["tags"] = json!(s.tags);
    }
    if since(63) {
        out["trusted_image_certificates"] = json!(s.trusted_image_certificates);
    }
    if since(71) && single {
        out["server_groups"] = json!(s.group_id.iter().collect::<Vec<_>>());
    }
    if since(73) {
        out["locked_reason"] = json!(s.locked.as_ref().and_then(|l| l.reason.as_ref()));
    }
    if since(90) {
        out["OS-EXT-SRV-ATTR:hostname"] = json!(s.hostname);
    }
    if since(96) {
        out["pinned_availability_zone"] = json!(Some(&s.availability_zone).filter(|z| !z.is_empty()));
    }
    if around.admin {
        operator(app, s, v, &mut out).await?;
    }
    if since(16) && around.operator_status {
        out["host_status"] = json!(match host {
            None => "",
            Some(h) if h.disabled => "MAINTENANCE",
            Some(h) if app.is_up(h) => "UP",
            Some(_) => "DOWN",
        });
    }
    Ok(out)
}

/// What only operators see.
async fn operator(app: &Compute, s: &Server, v: Microversion, out: &mut Value) -> Result<(), ComputeError> {
    let placed = Some(&s.host).filter(|h| !h.is_empty());
    out["OS-EXT-SRV-ATTR:host"] = json!(placed);
    out["OS-EXT-SRV-ATTR:hypervisor_hostname"] = json!(placed);
    out["OS-EXT-SRV-ATTR:instance_name"] = json!(s.instance_name());
    if v >= Microversion(2, 3) {
        let user_data = crate::store::servers::user_data(&app.db, &s.id).await?;
        out["OS-EXT-SRV-ATTR:reservation_id"] = json!(s.reservation_id);
        out["OS-EXT-SRV-ATTR:launch_index"] = json!(s.launch_index);
        out["OS-EXT-SRV-ATTR:hostname"] = json!(s.hostname);
        out["OS-EXT-SRV-ATTR:kernel_id"] = json!("");
        out["OS-EXT-SRV-ATTR:ramdisk_id"] = json!("");
        out["OS-EXT-SRV-ATTR:root_device_name"] = json!(s.root_device);
        out["OS-EXT-SRV-ATTR:user_data"] = json!(Some(user_data).filter(|u| !u.is_empty()));
    }
    Ok(())
}

/// Upstream writes these two without a zone.
fn naive(t: state::Timestamp) -> String {
    t.micros_naive()
}

/// The same for all of a project's servers on one host, and telling nothing else.
fn host_id(s: &Server) -> String {
    if s.host.is_empty() {
        return String::new();
    }
    hex::encode(&Sha256::digest(format!("{}{}", s.project_id, s.host))[..28])
}

fn image(app: &Compute, s: &Server) -> Value {
    if s.image_id.is_empty() {
        return json!("");
    }
    json!({"id": s.image_id, "links": bookmark(&app.links, "images", &s.image_id)})
}

fn flavor(app: &Compute, s: &Server, v: Microversion) -> Value {
    let f = &s.flavor;
    if v < Microversion(2, 47) {
        return json!({"id": f.id, "links": bookmark(&app.links, "flavors", &f.id)});
    }
    json!({
        "original_name": f.name,
        "vcpus": f.vcpus,
        "ram": f.ram_mib,
        "disk": f.disk_gib,
        "ephemeral": f.ephemeral_gib,
        "swap": f.swap_mib,
        "extra_specs": f.extra_specs,
    })
}

fn volumes(s: &Server, v: Microversion) -> Vec<Value> {
    let one = |d: &crate::model::Disk| {
        let id = d.volume_id()?;
        Some(if v >= Microversion(2, 3) {
            json!({"id": id, "delete_on_termination": d.delete_on_termination})
        } else {
            json!({"id": id})
        })
    };
    s.disks.iter().filter_map(one).collect()
}

/// Addresses by network name, fixed ones first.
async fn addresses(app: &Compute, around: &Surroundings, ports: &[Port]) -> Result<Value, ComputeError> {
    let mut out = Map::new();
    for port in ports {
        let name = around.networks.get(&port.network_id).unwrap_or(&port.network_id).clone();
        let entry = |addr: std::net::IpAddr, kind: &str| {
            json!({
                "version": if addr.is_ipv4() { 4 } else { 6 },
                "addr": addr.to_string(),
                "OS-EXT-IPS:type": kind,
                "OS-EXT-IPS-MAC:mac_addr": port.mac_address,
            })
        };
        let mut list: Vec<Value> = port.fixed_ips.iter().map(|ip| entry(ip.ip_address, "fixed")).collect();
        for floating in app.networks.floating_ips_of_port(&port.meta.id).await? {
            list.push(entry(floating.floating_ip_address, "floating"));
        }
        match out.get_mut(&name).and_then(Value::as_array_mut) {
            Some(there) => there.append(&mut list),
            None => drop(out.insert(name, Value::Array(list))),
        }
    }
    Ok(Value::Object(out))
}

/// `addresses` alone, for `/servers/{id}/ips`.
pub(super) async fn ips(app: &Compute, around: &Surroundings, s: &Server) -> Result<Value, ComputeError> {
    let mut out = addresses(app, around, &app.networks.ports_of_device(&s.id).await?).await?;
    plain_addresses(&mut out);
    Ok(out)
}

/// Leaves of every address only itself and its version.
pub(super) fn plain_addresses(addresses: &mut Value) {
    for list in addresses.as_object_mut().into_iter().flat_map(|m| m.values_mut()) {
        for entry in list.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            entry.retain(|k, _| k == "version" || k == "addr");
        }
    }
}

async fn security_groups(app: &Compute, ports: &[Port]) -> Result<Vec<Value>, ComputeError> {
    let mut ids: Vec<String> = Vec::new();
    for id in ports.iter().flat_map(|p| &p.security_groups) {
        if !ids.contains(id) {
            ids.push(id.clone());
        }
    }
    let names = app.networks.security_group_names(&ids).await?;
    Ok(names.into_iter().map(|n| json!({"name": n})).collect())
}
