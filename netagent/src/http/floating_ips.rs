//! `/v2.0/floatingips`

use api::{Context, Query, Routes};
use serde_json::{Value, json};

use super::listing::Collection;
use super::resource::{Change, Resource, View, changeable};
use super::{base, body};
use crate::attr::{Body, NAME_MAX};
use crate::floating_ip::FloatingIpFields;
use crate::model::{FloatingIp, Port};
use crate::store;
use crate::{NetError, Networks};

pub(super) fn routes(routes: Routes<Networks>) -> Routes<Networks> {
    routes.with(changeable::<OfFloatingIps>("/v2.0/floatingips", "/v2.0/floatingips/{floatingip_id}"))
}

struct OfFloatingIps;

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

async fn view(networks: &Networks, fip: &FloatingIp) -> Result<View, NetError> {
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

impl Resource for OfFloatingIps {
    const ONE: &'static str = "floatingip";
    const COLLECTION: Collection = COLLECTION;
    type Row = FloatingIp;
    type New = FloatingIpFields;

    fn parse(body: &Body) -> Result<FloatingIpFields, NetError> {
        parse(body, "POST")
    }

    fn id(row: &FloatingIp) -> &str {
        &row.meta.id
    }

    async fn view(networks: &Networks, _ctx: &Context, row: &FloatingIp) -> Result<View, NetError> {
        view(networks, row).await
    }

    async fn views(networks: &Networks, ctx: &Context, _query: &Query) -> Result<Vec<View>, NetError> {
        let mut views = Vec::new();
        for fip in networks.floating_ips(ctx).await? {
            views.push(view(networks, &fip).await?);
        }
        Ok(views)
    }

    async fn get(networks: &Networks, ctx: &Context, id: &str) -> Result<FloatingIp, NetError> {
        networks.floating_ip(ctx, id).await
    }

    async fn create(
        networks: &Networks,
        ctx: &Context,
        new: FloatingIpFields,
    ) -> Result<FloatingIp, NetError> {
        networks.create_floating_ip(ctx, new).await
    }

    async fn delete(
        networks: &Networks,
        ctx: &Context,
        id: &str,
        revision: Option<i64>,
    ) -> Result<(), NetError> {
        networks.delete_floating_ip(ctx, id, revision).await
    }
}

impl Change for OfFloatingIps {
    type Fields = FloatingIpFields;

    fn parse_change(body: &Body) -> Result<FloatingIpFields, NetError> {
        let mut fields = parse(body, "PUT")?;
        // an update that names neither port nor address ends the association only if it says so
        if body.has("fixed_ip_address") && fields.fixed_ip_address.is_none() && fields.port_id.is_none() {
            fields.port_id = Some(None);
        }
        Ok(fields)
    }

    async fn update(
        networks: &Networks,
        ctx: &Context,
        id: &str,
        fields: FloatingIpFields,
        revision: Option<i64>,
    ) -> Result<FloatingIp, NetError> {
        networks.update_floating_ip(ctx, id, fields, revision).await
    }
}
