//! `/v2.0/networks`

use std::collections::HashMap;

use api::{Context, Error, Json, Path, Query, Routes};
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::listing::{Collection, list, select};
use super::{base, body, expected_revision};
use crate::attr::{Body, NAME_MAX};
use crate::model::{Network, NetworkType};
use crate::network::{NetworkFields, target};
use crate::{NetError, Networks};

pub(super) fn routes(routes: Routes<Networks>) -> Routes<Networks> {
    routes
        .get("/v2.0/networks", index)
        .post("/v2.0/networks", create)
        .get("/v2.0/networks/{network_id}", show)
        .put("/v2.0/networks/{network_id}", update)
        .delete("/v2.0/networks/{network_id}", delete)
}

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

fn view(networks: &Networks, ctx: &Context, network: &Network, subnets: Vec<String>) -> Map<String, Value> {
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

async fn view_one(
    networks: &Networks,
    ctx: &Context,
    network: &Network,
) -> Result<Map<String, Value>, NetError> {
    let subnets = networks.subnets_of(&network.meta.id).await?;
    Ok(view(networks, ctx, network, subnets.into_iter().map(|s| s.meta.id).collect()))
}

async fn index(State(networks): State<Networks>, ctx: Context, query: Query) -> Result<Json<Value>, Error> {
    let mut subnets: HashMap<String, Vec<String>> = HashMap::new();
    for subnet in networks.subnets(&ctx).await? {
        subnets.entry(subnet.network_id).or_default().push(subnet.meta.id);
    }
    let rows = networks.networks(&ctx).await?;
    let views = rows
        .iter()
        .map(|n| view(&networks, &ctx, n, subnets.remove(&n.meta.id).unwrap_or_default()))
        .collect();
    Ok(Json(list(&networks, &COLLECTION, &query, views)?))
}

async fn create(
    State(networks): State<Networks>,
    ctx: Context,
    Json(json): Json<Value>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let (bodies, bulk) = Body::one_or_many(&json, "network", "networks")?;
    let fields = bodies.iter().map(|b| parse(b, "POST")).collect::<Result<Vec<_>, _>>()?;
    let mut views = Vec::new();
    let mut made = Vec::new();
    for fields in fields {
        match networks.create_network(&ctx, fields).await {
            Ok(network) => {
                views.push(Value::Object(view_one(&networks, &ctx, &network).await?));
                made.push(network.meta.id);
            }
            Err(error) => {
                // all of a bulk request, or nothing
                for id in made {
                    networks.delete_network(&ctx, &id, None).await?;
                }
                return Err(error.into());
            }
        }
    }
    let body = if bulk { json!({ "networks": views }) } else { json!({ "network": views.pop() }) };
    Ok((StatusCode::CREATED, Json(body)))
}

async fn show(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Value>, Error> {
    let network = networks.network(&ctx, &id).await?;
    Ok(Json(json!({ "network": select(view_one(&networks, &ctx, &network).await?, &query) })))
}

async fn update(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(json): Json<Value>,
) -> Result<Json<Value>, Error> {
    let fields = parse(&Body::one(&json, "network")?, "PUT")?;
    let network = networks.update_network(&ctx, &id, fields, expected_revision(&headers)?).await?;
    Ok(Json(json!({ "network": view_one(&networks, &ctx, &network).await? })))
}

async fn delete(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Error> {
    networks.delete_network(&ctx, &id, expected_revision(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
