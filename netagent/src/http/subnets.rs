//! `/v2.0/subnets`

use api::{Context, Query, Routes};
use serde_json::{Value, json};

use super::listing::Collection;
use super::resource::{Change, Resource, View, changeable};
use super::{base, body};
use crate::attr::{Body, NAME_MAX, cidr_of, ip_of, object_of, text_of};
use crate::model::{Pool, Subnet};
use crate::subnet::SubnetFields;
use crate::{NetError, Networks};

pub(super) fn routes(routes: Routes<Networks>) -> Routes<Networks> {
    routes.with(changeable::<OfSubnets>("/v2.0/subnets", "/v2.0/subnets/{subnet_id}"))
}

struct OfSubnets;

const COLLECTION: Collection = Collection {
    name: "subnets",
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
        "ip_version",
        "cidr",
        "gateway_ip",
        "enable_dhcp",
        "allocation_pools",
        "dns_nameservers",
        "host_routes",
        "ipv6_ra_mode",
        "ipv6_address_mode",
        "service_types",
        "dns_publish_fixed_ip",
        "subnetpool_id",
        "shared",
        "segment_id",
        "router:external",
    ],
};
const POST: &[&str] = &[
    "name",
    "description",
    "project_id",
    "tenant_id",
    "network_id",
    "ip_version",
    "cidr",
    "gateway_ip",
    "enable_dhcp",
    "allocation_pools",
    "dns_nameservers",
    "host_routes",
    "ipv6_ra_mode",
    "ipv6_address_mode",
    "service_types",
    "dns_publish_fixed_ip",
    "subnetpool_id",
];
const PUT: &[&str] = &[
    "name",
    "description",
    "gateway_ip",
    "enable_dhcp",
    "allocation_pools",
    "dns_nameservers",
    "host_routes",
    "service_types",
    "dns_publish_fixed_ip",
];
const MODES: &[&str] = &["dhcpv6-stateful", "dhcpv6-stateless", "slaac"];

fn pool(name: &str, value: &Value) -> Result<Pool, NetError> {
    let body = object_of(name, value, &["start", "end"])?;
    body.required("start")?;
    body.required("end")?;
    let read = |key: &str| ip_of(name, body.get(key).unwrap_or(&Value::Null));
    Ok(Pool { start: read("start")?, end: read("end")? })
}

fn mode(b: &Body, name: &str) -> Result<Option<String>, NetError> {
    match b.get(name) {
        Some(Value::Null) => Ok(None),
        _ => Ok(b.choice(name, MODES)?.map(str::to_owned)),
    }
}

fn parse(b: &Body, method: &str) -> Result<SubnetFields, NetError> {
    b.only(if method == "PUT" { PUT } else { POST }, COLLECTION.attributes, method)?;
    if method == "POST" {
        b.required("network_id")?;
        b.required("ip_version")?;
        if b.get("subnetpool_id").is_some_and(|pool| !pool.is_null()) {
            return Err(NetError::refused(
                404,
                "SubnetPoolNotFound",
                format!(
                    "Subnet pool {} could not be found.",
                    b.text("subnetpool_id", 255)?.unwrap_or_default()
                ),
            ));
        }
    }
    Ok(SubnetFields {
        project_id: body::project(b)?,
        network_id: b.uuid("network_id")?,
        name: b.text("name", NAME_MAX)?,
        description: b.text("description", NAME_MAX)?,
        ip_version: match b.int("ip_version", 0, 255)? {
            Some(other) if other != 4 && other != 6 => {
                return Err(NetError::bad_request(format!(
                    "Invalid input for ip_version. Reason: '{other}' is not in [4, 6]."
                )));
            }
            version => version,
        },
        cidr: match b.get("cidr") {
            None | Some(Value::Null) => None,
            Some(value) => Some(cidr_of("cidr", value)?),
        },
        gateway_ip: b.nullable_ip("gateway_ip")?,
        enable_dhcp: b.bool("enable_dhcp")?,
        allocation_pools: b.list("allocation_pools", pool)?,
        dns_nameservers: b.list("dns_nameservers", body::ip)?,
        host_routes: b.list("host_routes", body::route)?,
        ipv6_ra_mode: mode(b, "ipv6_ra_mode")?,
        ipv6_address_mode: mode(b, "ipv6_address_mode")?,
        service_types: b.list("service_types", |name, v| text_of(name, v, 255))?,
        dns_publish_fixed_ip: b.bool("dns_publish_fixed_ip")?,
    })
}

fn view(subnet: &Subnet) -> View {
    let mut view = base(&subnet.meta);
    let mut put = |name: &str, value: Value| view.insert(name.to_owned(), value);
    put("network_id", subnet.network_id.clone().into());
    put("ip_version", subnet.ip_version().into());
    put("cidr", subnet.cidr.to_string().into());
    put("gateway_ip", json!(subnet.gateway_ip));
    put("enable_dhcp", subnet.enable_dhcp.into());
    put("allocation_pools", json!(subnet.allocation_pools));
    put("dns_nameservers", json!(subnet.dns_nameservers));
    put("host_routes", json!(subnet.host_routes));
    put("ipv6_ra_mode", subnet.ipv6_ra_mode.clone().into());
    put("ipv6_address_mode", subnet.ipv6_address_mode.clone().into());
    put("service_types", json!(subnet.service_types));
    put("dns_publish_fixed_ip", subnet.dns_publish_fixed_ip.into());
    put("subnetpool_id", Value::Null);
    view
}

impl Resource for OfSubnets {
    const ONE: &'static str = "subnet";
    const COLLECTION: Collection = COLLECTION;
    type Row = Subnet;
    type New = SubnetFields;

    fn parse(body: &Body) -> Result<SubnetFields, NetError> {
        parse(body, "POST")
    }

    fn id(row: &Subnet) -> &str {
        &row.meta.id
    }

    async fn view(_networks: &Networks, _ctx: &Context, row: &Subnet) -> Result<View, NetError> {
        Ok(view(row))
    }

    async fn views(networks: &Networks, ctx: &Context, _query: &Query) -> Result<Vec<View>, NetError> {
        Ok(networks.subnets(ctx).await?.iter().map(view).collect())
    }

    async fn get(networks: &Networks, ctx: &Context, id: &str) -> Result<Subnet, NetError> {
        networks.subnet(ctx, id).await
    }

    async fn create(networks: &Networks, ctx: &Context, new: SubnetFields) -> Result<Subnet, NetError> {
        networks.create_subnet(ctx, new).await
    }

    async fn delete(
        networks: &Networks,
        ctx: &Context,
        id: &str,
        revision: Option<i64>,
    ) -> Result<(), NetError> {
        networks.delete_subnet(ctx, id, revision).await
    }
}

impl Change for OfSubnets {
    type Fields = SubnetFields;

    fn parse_change(body: &Body) -> Result<SubnetFields, NetError> {
        parse(body, "PUT")
    }

    async fn update(
        networks: &Networks,
        ctx: &Context,
        id: &str,
        fields: SubnetFields,
        revision: Option<i64>,
    ) -> Result<Subnet, NetError> {
        networks.update_subnet(ctx, id, fields, revision).await
    }
}
