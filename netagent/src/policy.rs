//! Who may do what: upstream Neutron's default rules for the built resources.
//!
//! Attributes have rules of their own (`create_network:shared`); an attribute without one follows its
//! resource. Reading works the same way: `get_network:provider:network_type` decides who sees it.

use api::policy::Rule;

const fn rule(name: &'static str, check: &'static str) -> Rule {
    Rule { name, check }
}

const ADMIN: &str = "rule:admin_only";
const MEMBER: &str = "rule:admin_or_member";
const READER: &str = "rule:admin_or_reader";
const NET_OWNER: &str = "rule:network_owner";

pub(crate) const RULES: &[Rule] = &[
    rule("admin_only", "role:admin"),
    rule("service_role", "role:service"),
    rule("admin_or_member", "role:admin or (role:member and project_id:%(project_id)s)"),
    rule("admin_or_reader", "role:admin or (role:reader and project_id:%(project_id)s)"),
    rule("shared", "'True':%(shared)s"),
    rule("external", "'True':%(router:external)s"),
    // the one whose network it is, whoever's port
    rule(
        "network_owner",
        "role:admin or role:service or (role:member and project_id:%(network:project_id)s)",
    ),
    rule(
        "port_reader",
        "role:admin or role:service or (role:reader and project_id:%(project_id)s) or (role:reader and project_id:%(network:project_id)s)",
    ),
    // networks
    rule("create_network", MEMBER),
    rule("create_network:shared", ADMIN),
    rule("create_network:router:external", ADMIN),
    rule("create_network:is_default", ADMIN),
    rule("create_network:provider", ADMIN),
    rule("get_network", "rule:admin_or_reader or rule:shared or rule:external or role:service"),
    rule("get_network:provider", ADMIN),
    rule("update_network", MEMBER),
    rule("update_network:shared", ADMIN),
    rule("update_network:router:external", ADMIN),
    rule("update_network:is_default", ADMIN),
    rule("update_network:provider", ADMIN),
    rule("delete_network", MEMBER),
    // subnets: whoever owns the network makes them
    rule("create_subnet", NET_OWNER),
    rule("create_subnet:service_types", ADMIN),
    rule("get_subnet", "rule:admin_or_reader or rule:shared or rule:external or rule:network_owner"),
    rule("update_subnet", "rule:network_owner or rule:admin_or_member"),
    rule("update_subnet:service_types", ADMIN),
    rule("delete_subnet", "rule:network_owner or rule:admin_or_member"),
    // ports
    rule("create_port", "rule:admin_or_member or role:service"),
    rule("create_port:on_network", "rule:network_owner or rule:shared"),
    rule("create_port:device_owner", "rule:network_owner"),
    rule("create_port:mac_address", NET_OWNER),
    rule("create_port:fixed_ips:ip_address", NET_OWNER),
    rule("create_port:port_security_enabled", NET_OWNER),
    rule("create_port:binding", "role:admin or role:service"),
    rule("create_port:allowed_address_pairs", NET_OWNER),
    rule("get_port", "rule:port_reader"),
    rule("get_port:binding", "role:admin or role:service"),
    rule("update_port", "rule:admin_or_member or role:service"),
    rule("update_port:device_owner", NET_OWNER),
    rule("update_port:mac_address", "role:admin or role:service"),
    rule("update_port:fixed_ips:ip_address", NET_OWNER),
    rule("update_port:port_security_enabled", NET_OWNER),
    rule("update_port:binding", "role:admin or role:service"),
    rule("update_port:allowed_address_pairs", NET_OWNER),
    rule("delete_port", "rule:network_owner or rule:admin_or_member"),
    // security groups
    rule("create_security_group", MEMBER),
    rule("get_security_group", "rule:admin_or_reader or role:service"),
    rule("update_security_group", MEMBER),
    rule("delete_security_group", MEMBER),
    rule("create_security_group_rule", MEMBER),
    rule("get_security_group_rule", READER),
    rule("delete_security_group_rule", MEMBER),
    // routers
    rule("create_router", MEMBER),
    rule("create_router:external_gateway_info:enable_snat", ADMIN),
    rule("create_router:external_gateway_info:external_fixed_ips", ADMIN),
    rule("get_router", READER),
    rule("update_router", MEMBER),
    rule("update_router:external_gateway_info:enable_snat", ADMIN),
    rule("update_router:external_gateway_info:external_fixed_ips", ADMIN),
    rule("delete_router", MEMBER),
    rule("add_router_interface", MEMBER),
    rule("remove_router_interface", MEMBER),
    // floating IPs
    rule("create_floatingip", MEMBER),
    rule("create_floatingip:floating_ip_address", ADMIN),
    rule("get_floatingip", READER),
    rule("update_floatingip", MEMBER),
    rule("delete_floatingip", MEMBER),
    // the rest
    rule("get_quota", READER),
    rule("update_quota", ADMIN),
    rule("delete_quota", ADMIN),
    rule("list_quotas", ADMIN),
    rule("get_agent", ADMIN),
    rule("get_network_ip_availability", ADMIN),
    rule("get_availability_zone", "@"),
];

/// The 403's words.
/// The default rules.
pub fn policy() -> Result<api::Policy, api::policy::PolicyError> {
    api::Policy::new(RULES, denial)
}

pub(crate) fn denial(rule: &str) -> String {
    format!("rule:{rule} is disallowed by policy")
}
