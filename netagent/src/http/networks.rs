//! `/v2.0/networks`

use std::collections::HashMap;

use api::{Context, Query, Routes};
use serde_json::{Value, json};

use super::listing::Collection;
use super::resource::{Change, Resource, View, changeable};
use super::{base, body};
use crate::attr::{Body, NAME_MAX};
use crate::model::{Network, NetworkType};
use crate::network::{NetworkFields, target};
use crate::{NetError, Networks};

pub(super) fn routes(routes: Routes<Networks>) -> Routes<Networks> {
    routes.with(changeable::<OfNetworks>("/v2.0/networks", "/v2.0/networks/{network_id}"))
}

struct OfNetworks;

const COLLECTION: Collection = Collection {
    name: "networks",
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
        "status",
        "admin_state_up",
        "shared",
        "router:external",
        "is_default",
        "mtu",
        "port_security_enabled",
        "provider:network_type",
        "provider:physical_network",
        "provider:segmentation_id",
        "dns_domain",
        "availability_zone_hints",
        "availability_zones",
        "subnets",
        "ipv4_address_scope",
        "ipv6_address_scope",
    ],
};
const POST: &[&str] = &[
    "name",
    "description",
    "project_id",
    "tenant_id",
    "admin_state_up",
    "shared",
    "router:external",
    "is_default",
    "mtu",
    "port_security_enabled",
    "provider:network_type",
    "provider:physical_network",
    "provider:segmentation_id",
    "dns_domain",
    "availability_zone_hints",
];
const PUT: &[&str] = &[
    "name",
    "description",
    "admin_state_up",
    "shared",
    "router:external",
    "is_default",
    "mtu",
    "port_security_enabled",
    "provider:network_type",
    "provider:physical_network",
    "provider:segmentation_id",
    "dns_domain",
];

fn parse(b: &Body, method: &str) -> Result<NetworkFields, NetError> {
    b.only(if method == "PUT" { PUT } else { POST }, COLLECTION.attributes, method)?;
    let network_type = match b.nullable_text("provider:network_type", 32)?.flatten().as_deref() {
        None => None,
        Some("geneve") => Some(NetworkType::Geneve),
        Some("flat") => Some(NetworkType::Flat),
        Some("vlan") => Some(NetworkType::Vlan),
        Some("local") => Some(NetworkType::Local),
        Some(other) => {
            return Err(NetError::invalid_input(format!("network_type value '{other}' not supported")));
        }
    };
    Ok(NetworkFields {
        project_id: body::project(b)?,
        name: b.text("name", NAME_MAX)?,
        description: b.text("description", NAME_MAX)?,
        admin_state_up: b.bool("admin_state_up")?,
        shared: b.bool("shared")?,
        external: b.bool("router:external")?,
        is_default: b.bool("is_default")?,
        mtu: b.int("mtu", 0, 65_535)?.filter(|mtu| *mtu != 0),
        port_security_enabled: b.bool("port_security_enabled")?,
        network_type,
        physical_network: b.nullable_text("provider:physical_network", 64)?.flatten(),
        segmentation_id: b.int("provider:segmentation_id", 0, i64::from(u32::MAX))?,
        dns_domain: b.text("dns_domain", 255)?,
        availability_zone_hints: b.list("availability_zone_hints", body::hint)?,
    })
}

fn view(networks: &Networks, ctx: &Context, network: &Network, subnets: Vec<String>) -> View {
    let mut view = base(&network.meta);
    let mut put = |name: &str, value: Value| view.insert(name.to_owned(), value);
    put("status", "ACTIVE".into());
    put("admin_state_up", network.admin_state_up.into());
    put("shared", network.shared.into());
    put("router:external", network.external.into());
    put("is_default", network.is_default.into());
    put("mtu", network.mtu.into());
    put("port_security_enabled", network.port_security_enabled.into());
    put("dns_domain", network.dns_domain.clone().into());
    put("availability_zone_hints", json!(network.availability_zone_hints));
    put("availability_zones", json!([networks.config().availability_zone]));
    put("ipv4_address_scope", Value::Null);
    put("ipv6_address_scope", Value::Null);
    put("subnets", subnets.into());
    let owned = target(network);
    let target: Vec<(&str, &str)> = owned.iter().map(|(k, v)| (*k, v.as_str())).collect();
    if networks.allows(ctx, "get_network:provider", &target) {
        put("provider:network_type", network.network_type.as_str().into());
        put("provider:physical_network", network.physical_network.clone().into());
        put("provider:segmentation_id", network.segmentation_id.into());
    }
    view
}

impl Resource for OfNetworks {
    const ONE: &'static str = "network";
    const COLLECTION: Collection = COLLECTION;
    type Row = Network;
    type New = NetworkFields;

    fn parse(body: &Body) -> Result<NetworkFields, NetError> {
        parse(body, "POST")
    }

    fn id(row: &Network) -> &str {
        &row.meta.id
    }

    async fn view(networks: &Networks, ctx: &Context, row: &Network) -> Result<View, NetError> {
        let subnets = networks.subnets_of(&row.meta.id).await?;
        Ok(view(networks, ctx, row, subnets.into_iter().map(|s| s.meta.id).collect()))
    }

    async fn views(networks: &Networks, ctx: &Context, _query: &Query) -> Result<Vec<View>, NetError> {
        let mut subnets: HashMap<String, Vec<String>> = HashMap::new();
        for subnet in networks.subnets(ctx).await? {
            subnets.entry(subnet.network_id).or_default().push(subnet.meta.id);
        }
        let rows = networks.networks(ctx).await?;
        Ok(rows
            .iter()
            .map(|n| view(networks, ctx, n, subnets.remove(&n.meta.id).unwrap_or_default()))
            .collect())
    }

    async fn get(networks: &Networks, ctx: &Context, id: &str) -> Result<Network, NetError> {
        networks.network(ctx, id).await
    }

    async fn create(networks: &Networks, ctx: &Context, new: NetworkFields) -> Result<Network, NetError> {
        networks.create_network(ctx, new).await
    }

    async fn delete(
        networks: &Networks,
        ctx: &Context,
        id: &str,
        revision: Option<i64>,
    ) -> Result<(), NetError> {
        networks.delete_network(ctx, id, revision).await
    }
}

impl Change for OfNetworks {
    type Fields = NetworkFields;

    fn parse_change(body: &Body) -> Result<NetworkFields, NetError> {
        parse(body, "PUT")
    }

    async fn update(
        networks: &Networks,
        ctx: &Context,
        id: &str,
        fields: NetworkFields,
        revision: Option<i64>,
    ) -> Result<Network, NetError> {
        networks.update_network(ctx, id, fields, revision).await
    }
}
