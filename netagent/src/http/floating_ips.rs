//! `/v2.0/floatingips`

use api::{Context, Error, Json, Path, Query, Routes};
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::listing::{Collection, list, select};
use super::{base, body, expected_revision};
use crate::attr::{Body, NAME_MAX};
use crate::floating_ip::FloatingIpFields;
use crate::model::{FloatingIp, Port};
use crate::store;
use crate::{NetError, Networks};

pub(super) fn routes(routes: Routes<Networks>) -> Routes<Networks> {
    routes
        .get("/v2.0/floatingips", index)
        .post("/v2.0/floatingips", create)
        .get("/v2.0/floatingips/{floatingip_id}", show)
        .put("/v2.0/floatingips/{floatingip_id}", update)
        .delete("/v2.0/floatingips/{floatingip_id}", delete)
}

const COLLECTION: Collection = Collection {
    name: "floatingips",
    attributes: &[
        "id",
        "description",
        "project_id",
        "tenant_id",
        "revision_number",
        "created_at",
        "updated_at",
        "tags",
        "status",
        "floating_network_id",
        "floating_ip_address",
        "port_id",
        "fixed_ip_address",
        "router_id",
        "dns_name",
        "dns_domain",
        "port_details",
        "qos_policy_id",
    ],
};
const POST: &[&str] = &[
    "description",
    "project_id",
    "tenant_id",
    "floating_network_id",
    "floating_ip_address",
    "subnet_id",
    "port_id",
    "fixed_ip_address",
    "dns_name",
    "dns_domain",
];
const PUT: &[&str] = &["description", "port_id", "fixed_ip_address"];

fn parse(b: &Body, method: &str) -> Result<FloatingIpFields, NetError> {
    b.only(if method == "PUT" { PUT } else { POST }, COLLECTION.attributes, method)?;
    if method == "POST" {
        b.required("floating_network_id")?;
    }
    Ok(FloatingIpFields {
        project_id: body::project(b)?,
        description: b.text("description", NAME_MAX)?,
        floating_network_id: b.uuid("floating_network_id")?,
        floating_ip_address: b.nullable_ip("floating_ip_address")?.flatten(),
        subnet_id: b.nullable_uuid("subnet_id")?.flatten(),
        port_id: b.nullable_uuid("port_id")?,
        fixed_ip_address: b.nullable_ip("fixed_ip_address")?.flatten(),
        dns_name: b.text("dns_name", 255)?,
        dns_domain: b.text("dns_domain", 255)?,
    })
}

async fn view(networks: &Networks, fip: &FloatingIp) -> Result<Map<String, Value>, NetError> {
    let mut view = base(&fip.meta);
    view.remove("name");
    let port = match &fip.port_id {
        Some(id) => store::get::<Port>(networks.db().read(), id).await?,
        None => None,
    };
    let mut put = |name: &str, value: Value| view.insert(name.to_owned(), value);
    put("status", if fip.router_id.is_some() { "ACTIVE" } else { "DOWN" }.into());
    put("floating_network_id", fip.floating_network_id.clone().into());
    put("floating_ip_address", json!(fip.floating_ip_address));
    put("port_id", fip.port_id.clone().into());
    put("fixed_ip_address", json!(fip.fixed_ip_address));
    put("router_id", fip.router_id.clone().into());
    put("dns_name", fip.dns_name.clone().into());
    put("dns_domain", fip.dns_domain.clone().into());
    let details = port.map(|p| {
        json!({"name": p.meta.name, "network_id": p.network_id, "mac_address": p.mac_address,
            "admin_state_up": p.admin_state_up, "status": p.status(), "device_id": p.device_id,
            "device_owner": p.device_owner})
    });
    put("port_details", details.unwrap_or(Value::Null));
    Ok(view)
}

async fn index(State(networks): State<Networks>, ctx: Context, query: Query) -> Result<Json<Value>, Error> {
    let mut views = Vec::new();
    for fip in networks.floating_ips(&ctx).await? {
        views.push(view(&networks, &fip).await?);
    }
    Ok(Json(list(&networks, &COLLECTION, &query, views)?))
}

async fn create(
    State(networks): State<Networks>,
    ctx: Context,
    Json(json): Json<Value>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let fields = parse(&Body::one(&json, "floatingip")?, "POST")?;
    let fip = networks.create_floating_ip(&ctx, fields).await?;
    Ok((StatusCode::CREATED, Json(json!({ "floatingip": view(&networks, &fip).await? }))))
}

async fn show(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Value>, Error> {
    let fip = networks.floating_ip(&ctx, &id).await?;
    Ok(Json(json!({ "floatingip": select(view(&networks, &fip).await?, &query) })))
}

async fn update(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(json): Json<Value>,
) -> Result<Json<Value>, Error> {
    let b = Body::one(&json, "floatingip")?;
    let mut fields = parse(&b, "PUT")?;
    // an update that names neither port nor address ends the association only if it says so
    if b.has("fixed_ip_address") && fields.fixed_ip_address.is_none() && fields.port_id.is_none() {
        fields.port_id = Some(None);
    }
    let fip = networks.update_floating_ip(&ctx, &id, fields, expected_revision(&headers)?).await?;
    Ok(Json(json!({ "floatingip": view(&networks, &fip).await? })))
}

async fn delete(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Error> {
    networks.delete_floating_ip(&ctx, &id, expected_revision(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
