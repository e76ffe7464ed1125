//! What is monitored of OVN's two databases: the columns that this crate writes or reads, no more.

use crate::ovsdb::Table;

pub(crate) const NB: &str = "OVN_Northbound";
pub(crate) const SB: &str = "OVN_Southbound";

pub(crate) const SWITCH: &str = "Logical_Switch";
pub(crate) const SWITCH_PORT: &str = "Logical_Switch_Port";
pub(crate) const ROUTER: &str = "Logical_Router";
pub(crate) const ROUTER_PORT: &str = "Logical_Router_Port";
pub(crate) const ROUTE: &str = "Logical_Router_Static_Route";
pub(crate) const NAT: &str = "NAT";
pub(crate) const PORT_GROUP: &str = "Port_Group";
pub(crate) const ACL: &str = "ACL";
pub(crate) const ADDRESS_SET: &str = "Address_Set";
pub(crate) const DHCP: &str = "DHCP_Options";
pub(crate) const DNS: &str = "DNS";
pub(crate) const GATEWAY_CHASSIS: &str = "Gateway_Chassis";
pub(crate) const GLOBAL: &str = "NB_Global";
pub(crate) const CHASSIS: &str = "Chassis";
pub(crate) const CHASSIS_PRIVATE: &str = "Chassis_Private";

/// Keys of `external_ids`. `subnet_id` and `port_id` without a prefix are upstream's, too.
pub(crate) const KEY_NETWORK: &str = "neutron:network_id";
pub(crate) const KEY_SUBNET: &str = "subnet_id";
pub(crate) const KEY_PORT: &str = "port_id";
pub(crate) const KEY_RULE: &str = "neutron:security_group_rule_id";
pub(crate) const KEY_REVISION: &str = "neutron:revision_number";
pub(crate) const KEY_GROUPS: &str = "neutron:security_group_ids";

pub(crate) const NB_TABLES: &[Table] = &[
    Table { name: GLOBAL, columns: &["nb_cfg", "nb_cfg_timestamp", "options", "external_ids"], keys: &[] },
    Table {
        name: SWITCH,
        columns: &["name", "ports", "dns_records", "other_config", "external_ids"],
        keys: &[],
    },
    Table {
        name: SWITCH_PORT,
        columns: &[
            "name",
            "type",
            "options",
            "addresses",
            "port_security",
            "up",
            "enabled",
            "tag",
            "dhcpv4_options",
            "dhcpv6_options",
            "external_ids",
        ],
        keys: &[],
    },
    Table {
        name: ROUTER,
        columns: &["name", "ports", "static_routes", "nat", "enabled", "options", "external_ids"],
        keys: &[],
    },
    Table {
        name: ROUTER_PORT,
        columns: &[
            "name",
            "mac",
            "networks",
            "gateway_chassis",
            "options",
            "ipv6_ra_configs",
            "external_ids",
        ],
        keys: &[],
    },
    Table {
        name: ROUTE,
        columns: &["ip_prefix", "nexthop", "policy", "output_port", "external_ids"],
        keys: &[],
    },
    Table {
        name: NAT,
        columns: &["type", "external_ip", "logical_ip", "logical_port", "external_mac", "external_ids"],
        keys: &[],
    },
    Table { name: PORT_GROUP, columns: &["name", "ports", "acls", "external_ids"], keys: &[] },
    Table { name: ACL, columns: &["priority", "direction", "match", "action", "external_ids"], keys: &[] },
    Table { name: ADDRESS_SET, columns: &["name", "addresses", "external_ids"], keys: &[] },
    Table {
        name: DHCP,
        columns: &["cidr", "options", "external_ids"],
        keys: &[KEY_NETWORK, KEY_SUBNET, KEY_PORT],
    },
    Table { name: DNS, columns: &["records", "external_ids"], keys: &[KEY_NETWORK] },
    Table { name: GATEWAY_CHASSIS, columns: &["name", "chassis_name", "priority"], keys: &[] },
];

pub(crate) const SB_TABLES: &[Table] = &[
    Table { name: CHASSIS, columns: &["name", "hostname", "external_ids", "other_config"], keys: &[] },
    Table { name: CHASSIS_PRIVATE, columns: &["name", "nb_cfg", "nb_cfg_timestamp"], keys: &[] },
];
