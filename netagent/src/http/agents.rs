//! `/v2.0/agents`, `/v2.0/availability_zones` and `/v2.0/network-ip-availabilities`

use std::collections::HashMap;

use api::{Context, Error, Json, Path, Query, Routes};
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::listing::{Collection, list, select, without};
use crate::error::Noun;
use crate::ipam::pool_size;
use crate::model::{Network, Subnet};
use crate::ovn::agents::Agent;
use crate::store::addresses;
use crate::{NetError, Networks};

pub(super) fn routes(routes: Routes<Networks>) -> Routes<Networks> {
    routes
        .get("/v2.0/agents", index)
        .get("/v2.0/agents/{agent_id}", show)
        .get("/v2.0/availability_zones", zones)
        .get("/v2.0/network-ip-availabilities", availabilities)
        .get("/v2.0/network-ip-availabilities/{network_id}", availability)
}

const AGENTS: Collection = Collection {
    name: "agents",
    attributes: &[
        "id",
        "agent_type",
        "binary",
        "host",
        "topic",
        "alive",
        "admin_state_up",
        "availability_zone",
        "configurations",
        "created_at",
        "started_at",
        "heartbeat_timestamp",
        "description",
        "resources_synced",
    ],
};
const ZONES: Collection =
    Collection { name: "availability_zones", attributes: &["name", "resource", "state"] };
const AVAILABILITY: Collection = Collection {
    name: "network_ip_availabilities",
    attributes: &["network_id", "network_name", "project_id", "tenant_id", "ip_version"],
};

fn view(networks: &Networks, agent: &Agent) -> Map<String, Value> {
    let gateway = !agent.bridge_mappings.is_empty();
    let mappings: Map<String, Value> =
        agent.bridge_mappings.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
    // Neutron's format of this one field: no zone, a blank between
    let beat = agent.heartbeat.seconds_z().replace('T', " ").trim_end_matches('Z').to_owned();
    let value = json!({
        "id": agent.chassis,
        "agent_type": if gateway { "OVN Controller Gateway agent" } else { "OVN Controller agent" },
        "binary": "ovn-controller",
        "host": agent.hostname,
        "topic": "n/a",
        "alive": agent.alive,
        "admin_state_up": true,
        "availability_zone": networks.config().availability_zone,
        "configurations": {"bridge-mappings": mappings, "chassis_name": agent.chassis},
        "created_at": beat, "started_at": beat, "heartbeat_timestamp": beat,
        "description": "",
        "resources_synced": null,
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

async fn index(State(networks): State<Networks>, ctx: Context, query: Query) -> Result<Json<Value>, Error> {
    // who may not see them sees none
    let agents = if networks.allows(&ctx, "get_agent", &[]) { networks.agents() } else { Vec::new() };
    let views = agents.iter().map(|a| view(&networks, a)).collect();
    Ok(Json(list(&networks, &AGENTS, &query, views)?))
}

async fn show(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Value>, Error> {
    let agents = if networks.allows(&ctx, "get_agent", &[]) { networks.agents() } else { Vec::new() };
    let agent = agents.iter().find(|a| a.chassis == id).ok_or_else(|| Noun::Agent.not_found(&id))?;
    Ok(Json(json!({ "agent": select(view(&networks, agent), &query) })))
}

async fn zones(State(networks): State<Networks>, ctx: Context, query: Query) -> Result<Json<Value>, Error> {
    networks.enforce(&ctx, "get_availability_zone", &[])?;
    let views = ["network", "router"]
        .into_iter()
        .filter_map(|resource| {
            let zone = networks.config().availability_zone.clone();
            json!({"name": zone, "resource": resource, "state": "available"}).as_object().cloned()
        })
        .collect();
    Ok(Json(list(&networks, &ZONES, &query, views)?))
}

async fn usage(
    networks: &Networks,
    network: &Network,
    subnets: &[Subnet],
) -> Result<Map<String, Value>, NetError> {
    let (mut total, mut used) = (0_u128, 0_usize);
    let mut details = Vec::new();
    for subnet in subnets {
        let size = pool_size(&subnet.allocation_pools);
        let taken = addresses::in_subnet(networks.db().read(), &subnet.meta.id).await?.len();
        details.push(json!({"subnet_id": subnet.meta.id, "subnet_name": subnet.meta.name,
            "cidr": subnet.cidr, "ip_version": subnet.ip_version(), "total_ips": number(size), "used_ips": taken}));
        total = total.saturating_add(size);
        used += taken;
    }
    let value = json!({"network_id": network.meta.id, "network_name": network.meta.name,
        "project_id": network.meta.project_id, "tenant_id": network.meta.project_id,
        "total_ips": number(total), "used_ips": used, "subnet_ip_availability": details});
    Ok(value.as_object().cloned().unwrap_or_default())
}

/// A number as JSON, which ends at 64 bits here.
fn number(n: u128) -> Value {
    u64::try_from(n).unwrap_or(u64::MAX).into()
}

async fn availabilities(
    State(networks): State<Networks>,
    ctx: Context,
    query: Query,
) -> Result<Json<Value>, Error> {
    networks.enforce(&ctx, "get_network_ip_availability", &[])?;
    // `ip_version` narrows what is counted, not which networks are listed
    let version = query.int("ip_version")?;
    let query = without(&query, "ip_version")?;
    let mut subnets: HashMap<String, Vec<Subnet>> = HashMap::new();
    for subnet in networks.subnets(&ctx).await? {
        if version.is_some_and(|v| v != i64::from(subnet.ip_version())) {
            continue;
        }
        subnets.entry(subnet.network_id.clone()).or_default().push(subnet);
    }
    let mut views = Vec::new();
    for network in networks.networks(&ctx).await? {
        let own = subnets.remove(&network.meta.id).unwrap_or_default();
        views.push(usage(&networks, &network, &own).await?);
    }
    Ok(Json(list(&networks, &AVAILABILITY, &query, views)?))
}

async fn availability(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    networks.enforce(&ctx, "get_network_ip_availability", &[])?;
    let network = networks.network(&ctx, &id).await?;
    let subnets = networks.subnets_of(&id).await?;
    Ok(Json(json!({ "network_ip_availability": usage(&networks, &network, &subnets).await? })))
}
