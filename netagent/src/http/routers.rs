//! `/v2.0/routers`

use api::{Context, Error, Json, Path, Query, Routes};
use axum::extract::State;
use serde_json::{Value, json};

use super::listing::Collection;
use super::resource::{Change, Resource, View, changeable};
use super::{base, body};
use crate::attr::{Body, NAME_MAX, object_of};
use crate::model::{Port, Router};
use crate::router::{Interface, RouterFields, WantedGateway};
use crate::{NetError, Networks};

pub(super) fn routes(routes: Routes<Networks>) -> Routes<Networks> {
    routes
        .with(changeable::<OfRouters>("/v2.0/routers", "/v2.0/routers/{router_id}"))
        .put("/v2.0/routers/{router_id}/add_router_interface", add_interface)
        .put("/v2.0/routers/{router_id}/remove_router_interface", remove_interface)
}

struct OfRouters;

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

fn view(networks: &Networks, router: &Router) -> View {
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

impl Resource for OfRouters {
    const ONE: &'static str = "router";
    const COLLECTION: Collection = COLLECTION;
    type Row = Router;
    type New = RouterFields;

    fn parse(body: &Body) -> Result<RouterFields, NetError> {
        parse(body, "POST")
    }

    fn id(row: &Router) -> &str {
        &row.meta.id
    }

    async fn view(networks: &Networks, _ctx: &Context, row: &Router) -> Result<View, NetError> {
        Ok(view(networks, row))
    }

    async fn views(networks: &Networks, ctx: &Context, _query: &Query) -> Result<Vec<View>, NetError> {
        let rows = networks.owned::<Router>(ctx).await?;
        Ok(rows.iter().map(|r| view(networks, r)).collect())
    }

    async fn get(networks: &Networks, ctx: &Context, id: &str) -> Result<Router, NetError> {
        networks.router_of(ctx, id).await
    }

    async fn create(networks: &Networks, ctx: &Context, new: RouterFields) -> Result<Router, NetError> {
        networks.create_router(ctx, new).await
    }

    async fn delete(
        networks: &Networks,
        ctx: &Context,
        id: &str,
        revision: Option<i64>,
    ) -> Result<(), NetError> {
        networks.delete_router(ctx, id, revision).await
    }
}

impl Change for OfRouters {
    type Fields = RouterFields;

    fn parse_change(body: &Body) -> Result<RouterFields, NetError> {
        parse(body, "PUT")
    }

    async fn update(
        networks: &Networks,
        ctx: &Context,
        id: &str,
        fields: RouterFields,
        revision: Option<i64>,
    ) -> Result<Router, NetError> {
        networks.update_router(ctx, id, fields, revision).await
    }
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
