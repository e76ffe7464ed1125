//! `/v2.0/extensions`: what is built, and nothing else, because clients ask here before they use it.

use api::{Context, Error, Json, Path, Query, Routes};
use axum::extract::State;
use serde_json::{Value, json};

use super::listing::{Collection, list};
use crate::{NetError, Networks};

pub(super) fn routes(routes: Routes<Networks>) -> Routes<Networks> {
    routes
        .get("/v2.0/extensions", index)
        .get("/v2.0/extensions/{alias}", show)
        .get("/v2.0/service-providers", providers)
}

/// Alias, name and what it is.
const BUILT: &[(&str, &str, &str)] = &[
    ("agent", "agent", "The agent management extension."),
    ("allowed-address-pairs", "Allowed Address Pairs", "Provides allowed address pairs"),
    ("availability_zone", "Availability Zone", "The availability zone extension."),
    ("binding", "Port Binding", "Expose port bindings of a virtual port to external application"),
    ("dns-integration", "DNS Integration", "Provides integration with DNS."),
    (
        "empty-string-filtering",
        "Empty String Filtering Extension",
        "Allow filtering by attributes with empty string value",
    ),
    (
        "ext-gw-mode",
        "Neutron L3 Configurable external gateway mode",
        "Extension of the router abstraction for specifying whether SNAT should occur on the external gateway",
    ),
    ("external-net", "Neutron external network", "Adds external network attribute to network resource."),
    ("extra_dhcp_opt", "Neutron Extra DHCP options", "Extra options configuration for DHCP."),
    ("extraroute", "Neutron Extra Route", "Extra routes configuration for L3 router"),
    ("filter-validation", "Filter parameters validation", "Provides validation on filter parameters."),
    (
        "fip-port-details",
        "Floating IP Port Details Extension",
        "Add port_details attribute to Floating IP resource",
    ),
    (
        "ip-substring-filtering",
        "IP address substring filtering",
        "Provides IP address substring filtering when listing ports",
    ),
    ("net-mtu", "Network MTU", "Provides MTU attribute for a network resource."),
    (
        "net-mtu-writable",
        "Network MTU (writable)",
        "Provides a writable MTU attribute for a network resource.",
    ),
    (
        "network-ip-availability",
        "Network IP Availability",
        "Provides IP availability data for each network and subnet.",
    ),
    ("network_availability_zone", "Network Availability Zone", "Availability zone support for network."),
    ("pagination", "Pagination support", "Extension that indicates that pagination is enabled."),
    ("port-security", "Port Security", "Provides port security"),
    ("project-id", "project_id field enabled", "Extension that indicates that project_id field is enabled."),
    ("provider", "Provider Network", "Expose mapping of virtual networks to physical networks"),
    (
        "quota_details",
        "Quota details management support",
        "Expose functions for quotas usage statistics per project",
    ),
    ("quotas", "Quota management support", "Expose functions for quotas management per project"),
    (
        "revision-if-match",
        "If-Match constraints based on revision_number",
        "Extension indicating that If-Match based on revision_number is supported.",
    ),
    (
        "router",
        "Neutron L3 Router",
        "Router abstraction for basic L3 forwarding between L2 Neutron networks and access to external networks via a NAT gateway.",
    ),
    ("router_availability_zone", "Router Availability Zone", "Availability zone support for router."),
    ("security-group", "security-group", "The security groups extension."),
    (
        "security-groups-normalized-cidr",
        "Normalized CIDR field for security group rules",
        "Add new field with normalized remote_ip_prefix cidr in SG rule",
    ),
    ("sorting", "Sorting support", "Extension that indicates that sorting is enabled."),
    (
        "standard-attr-description",
        "standard-attr-description",
        "Extension to add descriptions to standard attributes",
    ),
    (
        "standard-attr-revisions",
        "Resource revision numbers",
        "This extension will display the revision number of neutron resources.",
    ),
    (
        "standard-attr-tag",
        "Tag support for resources with standard attribute",
        "Enables to set tag on resources with standard attribute.",
    ),
    (
        "standard-attr-timestamp",
        "Resource timestamps",
        "Adds created_at and updated_at fields to all Neutron resources that have Neutron standard attributes.",
    ),
    (
        "stateful-security-group",
        "Stateful security group",
        "Indicates if the security group is stateful or not",
    ),
    (
        "service-type",
        "Neutron Service Type Management",
        "API for retrieving service providers for Neutron advanced services",
    ),
    (
        "subnet-external-network",
        "Subnet belongs to an external network",
        "Informs if the subnet belongs to an external network",
    ),
    (
        "subnet-dns-publish-fixed-ip",
        "Subnet DNS publish fixed IP",
        "Enable publishing of fixed IPs of a subnet's ports.",
    ),
    (
        "subnet-service-types",
        "Subnet service types",
        "Provides ability to set the subnet service_types field",
    ),
];

fn view((alias, name, description): &(&str, &str, &str)) -> Value {
    json!({"alias": alias, "name": name, "description": description, "links": [],
        "updated": "2026-01-01T00:00:00-00:00"})
}

async fn index(_ctx: Context) -> Result<Json<Value>, Error> {
    Ok(Json(json!({ "extensions": BUILT.iter().map(view).collect::<Vec<_>>() })))
}

async fn show(_ctx: Context, Path(alias): Path<String>) -> Result<Json<Value>, Error> {
    let found = BUILT.iter().find(|(known, ..)| *known == alias).ok_or_else(|| {
        NetError::refused(404, "ExtensionNotFound", format!("Extension with alias {alias} does not exist"))
    })?;
    Ok(Json(json!({ "extension": view(found) })))
}

/// Who serves routers: OVN, and nobody else.
const PROVIDERS: Collection =
    Collection { name: "service_providers", attributes: &["service_type", "name", "default"] };

/// Clients ask for a type of service to learn whether there is such a service.
async fn providers(
    State(networks): State<Networks>,
    _ctx: Context,
    query: Query,
) -> Result<Json<Value>, Error> {
    let ovn = json!({"service_type": "L3_ROUTER_NAT", "name": "ovn", "default": true});
    let views = ovn.as_object().cloned().into_iter().collect();
    Ok(Json(list(&networks, &PROVIDERS, &query, views)?))
}
