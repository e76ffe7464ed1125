//! `/v2.0/ports`

use std::collections::BTreeMap;

use api::{Context, Query, Routes};
use serde_json::{Value, json};

use super::listing::Collection;
use super::resource::{Change, Resource, View, changeable};
use super::{base, body};
use crate::attr::{Body, NAME_MAX, int_of, ip_or_cidr_of, mac_of, object_of};
use crate::model::{AddressPair, DhcpOpt, Port};
use crate::{NetError, Networks, NewPort, PortFields};

pub(super) fn routes(routes: Routes<Networks>) -> Routes<Networks> {
    routes.with(changeable::<OfPorts>("/v2.0/ports", "/v2.0/ports/{port_id}"))
}

struct OfPorts;

const COLLECTION: Collection = Collection {
    name: "ports",
    attributes: &[
        "id",
        "name",
        "description",
        "project_id",
        "tenant_id",
        "revision_number",
        "created_at",
        "updated_at",
        "tags",
        "network_id",
        "mac_address",
        "admin_state_up",
        "status",
        "device_id",
        "device_owner",
        "fixed_ips",
        "security_groups",
        "allowed_address_pairs",
        "port_security_enabled",
        "extra_dhcp_opts",
        "dns_name",
        "dns_domain",
        "dns_assignment",
        "binding:host_id",
        "binding:vif_type",
        "binding:vif_details",
        "binding:vnic_type",
        "binding:profile",
        "resource_request",
        "qos_policy_id",
        "ip_allocation",
        "propagate_uplink_status",
    ],
};
const POST: &[&str] = &[
    "name",
    "description",
    "project_id",
    "tenant_id",
    "network_id",
    "mac_address",
    "admin_state_up",
    "device_id",
    "device_owner",
    "fixed_ips",
    "security_groups",
    "allowed_address_pairs",
    "port_security_enabled",
    "extra_dhcp_opts",
    "dns_name",
    "binding:host_id",
    "binding:vnic_type",
    "binding:profile",
];
const PUT: &[&str] = &[
    "name",
    "description",
    "mac_address",
    "admin_state_up",
    "device_id",
    "device_owner",
    "fixed_ips",
    "security_groups",
    "allowed_address_pairs",
    "port_security_enabled",
    "extra_dhcp_opts",
    "dns_name",
    "binding:host_id",
    "binding:vnic_type",
    "binding:profile",
];

fn pair(name: &str, value: &Value) -> Result<AddressPair, NetError> {
    let body = object_of(name, value, &["ip_address", "mac_address"])?;
    let Some(ip) = body.get("ip_address") else {
        return Err(NetError::refused(
            400,
            "AddressPairMissingIP",
            "AllowedAddressPair must contain ip_address",
        ));
    };
    let mac_address = match body.get("mac_address") {
        None | Some(Value::Null) => String::new(),
        Some(mac) => mac_of(name, mac)?,
    };
    Ok(AddressPair { ip_address: ip_or_cidr_of(name, ip)?, mac_address })
}

fn dhcp_opt(name: &str, value: &Value) -> Result<DhcpOpt, NetError> {
    let body = object_of(name, value, &["opt_name", "opt_value", "ip_version", "id"])?;
    body.required("opt_name")?;
    let ip_version = match body.get("ip_version") {
        None | Some(Value::Null) => 4,
        Some(v) => match int_of("ip_version", v, 4, 6)? {
            6 => 6,
            _ => 4,
        },
    };
    let opt_name = body.text("opt_name", 64)?.unwrap_or_default();
    if opt_name.trim().is_empty() {
        return Err(NetError::bad_request("Invalid input for extra_dhcp_opts. Reason: 'opt_name' is blank."));
    }
    Ok(DhcpOpt { opt_name, opt_value: body.nullable_text("opt_value", 255)?.flatten(), ip_version })
}

/// `fixed_ips` may be repeated; the same address twice is a mistake.
fn check_fixed_ips(fields: &PortFields) -> Result<(), NetError> {
    let ips: Vec<_> = fields.fixed_ips.iter().flatten().filter_map(|f| f.ip_address).collect();
    for (i, ip) in ips.iter().enumerate() {
        if ips[..i].contains(ip) {
            return Err(NetError::bad_request(format!(
                "Invalid input for fixed_ips. Reason: Duplicate IP address '{ip}'."
            )));
        }
    }
    Ok(())
}

fn parse(b: &Body, method: &str) -> Result<PortFields, NetError> {
    b.only(if method == "PUT" { PUT } else { POST }, COLLECTION.attributes, method)?;
    if method == "POST" {
        b.required("network_id")?;
    }
    let profile = match b.get("binding:profile") {
        None => None,
        Some(Value::Null) => Some(BTreeMap::new()),
        Some(Value::Object(map)) => Some(map.clone().into_iter().collect()),
        Some(_) => {
            return Err(NetError::bad_request(
                "Invalid input for binding:profile. Reason: it is not a dictionary.",
            ));
        }
    };
    let vnic = [
        "normal",
        "direct",
        "macvtap",
        "baremetal",
        "direct-physical",
        "virtio-forwarder",
        "smart-nic",
        "vdpa",
    ];
    let fields = PortFields {
        project_id: body::project(b)?,
        name: b.text("name", NAME_MAX)?,
        description: b.text("description", NAME_MAX)?,
        admin_state_up: b.bool("admin_state_up")?,
        mac_address: b.mac("mac_address")?,
        device_id: b.nullable_text("device_id", 255)?.map(Option::unwrap_or_default),
        device_owner: b.nullable_text("device_owner", 255)?.map(Option::unwrap_or_default),
        fixed_ips: b.list("fixed_ips", body::wanted_ip)?,
        security_groups: b.list("security_groups", body::id)?,
        allowed_address_pairs: b.list("allowed_address_pairs", pair)?,
        port_security_enabled: b.bool("port_security_enabled")?,
        extra_dhcp_opts: b.list("extra_dhcp_opts", dhcp_opt)?,
        dns_name: b.text("dns_name", 255)?,
        host_id: b.nullable_text("binding:host_id", 255)?.map(Option::unwrap_or_default),
        vnic_type: b.choice("binding:vnic_type", &vnic)?.map(str::to_owned),
        profile,
    };
    check_fixed_ips(&fields)?;
    Ok(fields)
}

fn view(networks: &Networks, ctx: &Context, port: &Port) -> View {
    let mut view = base(&port.meta);
    let mut put = |name: &str, value: Value| view.insert(name.to_owned(), value);
    put("network_id", port.network_id.clone().into());
    put("mac_address", port.mac_address.clone().into());
    put("admin_state_up", port.admin_state_up.into());
    put("status", port.status().into());
    put("device_id", port.device_id.clone().into());
    put("device_owner", port.device_owner.clone().into());
    put("fixed_ips", json!(port.fixed_ips));
    put("security_groups", json!(port.security_groups));
    put("allowed_address_pairs", json!(port.allowed_address_pairs));
    put("port_security_enabled", port.port_security_enabled.into());
    put("extra_dhcp_opts", json!(port.extra_dhcp_opts));
    put("dns_name", port.dns_name.clone().into());
    put("binding:vnic_type", port.vnic_type.clone().into());
    let assignment: Vec<Value> = port
        .fixed_ips
        .iter()
        .map(|f| {
            let hostname = if port.dns_name.is_empty() {
                format!("host-{}", f.ip_address.to_string().replace(['.', ':'], "-"))
            } else {
                port.dns_name.clone()
            };
            json!({"ip_address": f.ip_address, "hostname": hostname, "fqdn": format!("{hostname}.openstacklocal.")})
        })
        .collect();
    put("dns_assignment", assignment.into());
    let target = [("project_id", port.meta.project_id.as_str())];
    if networks.allows(ctx, "get_port:binding", &target) {
        let bound = !port.host_id.is_empty();
        put("binding:host_id", port.host_id.clone().into());
        put("binding:profile", json!(port.profile));
        put("binding:vif_type", if bound { "ovs" } else { "unbound" }.into());
        let details = if bound {
            json!({"port_filter": true, "connectivity": "l2", "bridge_name": "br-int", "datapath_type": "system",
                "bound_drivers": {"0": "ovn"}})
        } else {
            json!({})
        };
        put("binding:vif_details", details);
    }
    view
}

impl Resource for OfPorts {
    const ONE: &'static str = "port";
    const COLLECTION: Collection = COLLECTION;
    type Row = Port;
    type New = NewPort;

    fn parse(body: &Body) -> Result<NewPort, NetError> {
        Ok(NewPort { fields: parse(body, "POST")?, network_id: body.uuid("network_id")?.unwrap_or_default() })
    }

    fn id(row: &Port) -> &str {
        &row.meta.id
    }

    async fn view(networks: &Networks, ctx: &Context, row: &Port) -> Result<View, NetError> {
        Ok(view(networks, ctx, row))
    }

    async fn views(networks: &Networks, ctx: &Context, query: &Query) -> Result<Vec<View>, NetError> {
        let single = |key: &'static str| {
            let mut values = query.all(key);
            match (values.next(), values.next()) {
                (Some(value), None) => Some((key, value)),
                _ => None,
            }
        };
        // The rarest of the usual filters narrows what is read.
        let by = ["id", "device_id", "network_id", "device_owner"].into_iter().find_map(single);
        let rows = networks.ports(ctx, by).await?;
        Ok(rows.iter().map(|p| view(networks, ctx, p)).collect())
    }

    async fn get(networks: &Networks, ctx: &Context, id: &str) -> Result<Port, NetError> {
        networks.port(ctx, id).await
    }

    async fn create(networks: &Networks, ctx: &Context, new: NewPort) -> Result<Port, NetError> {
        let mut made = networks.create_ports(ctx, vec![new]).await?;
        made.pop().ok_or_else(|| NetError::bad_request("no port was asked for"))
    }

    async fn delete(
        networks: &Networks,
        ctx: &Context,
        id: &str,
        revision: Option<i64>,
    ) -> Result<(), NetError> {
        networks.delete_port(ctx, id, revision).await
    }

    async fn create_all(
        networks: &Networks,
        ctx: &Context,
        new: Vec<NewPort>,
    ) -> Result<Vec<Port>, NetError> {
        networks.create_ports(ctx, new).await
    }
}

impl Change for OfPorts {
    type Fields = PortFields;

    fn parse_change(body: &Body) -> Result<PortFields, NetError> {
        parse(body, "PUT")
    }

    async fn update(
        networks: &Networks,
        ctx: &Context,
        id: &str,
        fields: PortFields,
        revision: Option<i64>,
    ) -> Result<Port, NetError> {
        networks.update_port(ctx, id, fields, revision).await
    }
}
