//! `/v2.0/routers`

use api::{Context, Error, Json, Path, Query, Routes};
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::listing::{Collection, list, select};
use super::{base, body, expected_revision};
use crate::attr::{Body, NAME_MAX, object_of};
use crate::model::{Port, Router};
use crate::router::{Interface, RouterFields, WantedGateway};
use crate::{NetError, Networks};

pub(super) fn routes(routes: Routes<Networks>) -> Routes<Networks> {
    routes
        .get("/v2.0/routers", index)
        .post("/v2.0/routers", create)
        .get("/v2.0/routers/{router_id}", show)
        .put("/v2.0/routers/{router_id}", update)
        .delete("/v2.0/routers/{router_id}", delete)
        .put("/v2.0/routers/{router_id}/add_router_interface", add_interface)
        .put("/v2.0/routers/{router_id}/remove_router_interface", remove_interface)
}

const COLLECTION: Collection = Collection {
    name: "routers",
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
        "external_gateway_info",
        "routes",
        "availability_zone_hints",
        "availability_zones",
        "flavor_id",
        "ha",
        "distributed",
    ],
};
const POST: &[&str] = &[
    "name",
    "description",
    "project_id",
    "tenant_id",
    "admin_state_up",
    "external_gateway_info",
    "availability_zone_hints",
];
const PUT: &[&str] = &["name", "description", "admin_state_up", "external_gateway_info", "routes"];

fn gateway(b: &Body) -> Result<Option<Option<WantedGateway>>, NetError> {
    const NAME: &str = "external_gateway_info";
    let info = match b.get(NAME) {
        None => return Ok(None),
        Some(Value::Null) => return Ok(Some(None)),
        Some(Value::Object(map)) if map.is_empty() => return Ok(Some(None)),
        Some(value) => {
            object_of(NAME, value, &["network_id", "enable_snat", "external_fixed_ips", "qos_policy_id"])?
        }
    };
    info.required("network_id")?;
    let Some(network_id) = info.nullable_uuid("network_id")?.flatten() else { return Ok(Some(None)) };
    Ok(Some(Some(WantedGateway {
        network_id,
        enable_snat: info.bool("enable_snat")?,
        external_fixed_ips: info.list("external_fixed_ips", body::wanted_ip)?,
    })))
}

fn parse(b: &Body, method: &str) -> Result<RouterFields, NetError> {
    b.only(if method == "PUT" { PUT } else { POST }, COLLECTION.attributes, method)?;
    Ok(RouterFields {
        project_id: body::project(b)?,
        name: b.text("name", NAME_MAX)?,
        description: b.text("description", NAME_MAX)?,
        admin_state_up: b.bool("admin_state_up")?,
        gateway: gateway(b)?,
        routes: b.list("routes", body::route)?,
        availability_zone_hints: b.list("availability_zone_hints", body::hint)?,
    })
}

fn view(networks: &Networks, router: &Router) -> Map<String, Value> {
    let mut view = base(&router.meta);
    let mut put = |name: &str, value: Value| view.insert(name.to_owned(), value);
    put("status", "ACTIVE".into());
    put("admin_state_up", router.admin_state_up.into());
    let info = router.gateway.as_ref().map(|g| {
        json!({"network_id": g.network_id, "enable_snat": g.enable_snat, "external_fixed_ips": g.external_fixed_ips})
    });
    put("external_gateway_info", info.unwrap_or(Value::Null));
    put("routes", json!(router.routes));
    put("availability_zone_hints", json!(router.availability_zone_hints));
    put("availability_zones", json!([networks.config().availability_zone]));
    put("flavor_id", Value::Null);
    view
}

async fn index(State(networks): State<Networks>, ctx: Context, query: Query) -> Result<Json<Value>, Error> {
    let rows = networks.owned::<Router>(&ctx).await?;
    let views = rows.iter().map(|r| view(&networks, r)).collect();
    Ok(Json(list(&networks, &COLLECTION, &query, views)?))
}

async fn create(
    State(networks): State<Networks>,
    ctx: Context,
    Json(json): Json<Value>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let (bodies, bulk) = Body::one_or_many(&json, "router", "routers")?;
    let fields = bodies.iter().map(|b| parse(b, "POST")).collect::<Result<Vec<_>, _>>()?;
    let mut views = Vec::new();
    let mut made = Vec::new();
    for fields in fields {
        match networks.create_router(&ctx, fields).await {
            Ok(router) => {
                views.push(Value::Object(view(&networks, &router)));
                made.push(router.meta.id);
            }
            Err(error) => {
                for id in made {
                    networks.delete_router(&ctx, &id, None).await?;
                }
                return Err(error.into());
            }
        }
    }
    let body = if bulk { json!({ "routers": views }) } else { json!({ "router": views.pop() }) };
    Ok((StatusCode::CREATED, Json(body)))
}

async fn show(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Value>, Error> {
    let router = networks.router_of(&ctx, &id).await?;
    Ok(Json(json!({ "router": select(view(&networks, &router), &query) })))
}

async fn update(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(json): Json<Value>,
) -> Result<Json<Value>, Error> {
    let fields = parse(&Body::one(&json, "router")?, "PUT")?;
    let router = networks.update_router(&ctx, &id, fields, expected_revision(&headers)?).await?;
    Ok(Json(json!({ "router": view(&networks, &router) })))
}

async fn delete(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Error> {
    networks.delete_router(&ctx, &id, expected_revision(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The interface's body has no wrapper.
fn interface(json: &Value) -> Result<Interface, NetError> {
    let wrapped = json!({ "interface": json });
    let b = Body::one(&wrapped, "interface")?;
    b.only(&["subnet_id", "port_id"], &[], "PUT")?;
    Ok(Interface { subnet_id: b.uuid("subnet_id")?, port_id: b.uuid("port_id")? })
}

fn interface_view(router: &str, port: &Port, subnet: &str) -> Value {
    let subnets: Vec<&str> = port.fixed_ips.iter().map(|f| f.subnet_id.as_str()).collect();
    json!({"id": router, "tenant_id": port.meta.project_id, "project_id": port.meta.project_id,
        "port_id": port.meta.id, "network_id": port.network_id, "subnet_id": subnet, "subnet_ids": subnets,
        "tags": []})
}

async fn add_interface(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    Json(json): Json<Value>,
) -> Result<Json<Value>, Error> {
    let (port, subnet) = networks.add_router_interface(&ctx, &id, &interface(&json)?).await?;
    Ok(Json(interface_view(&id, &port, &subnet)))
}

async fn remove_interface(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    Json(json): Json<Value>,
) -> Result<Json<Value>, Error> {
    let (port, subnet) = networks.remove_router_interface(&ctx, &id, &interface(&json)?).await?;
    Ok(Json(interface_view(&id, &port, &subnet)))
}
