//! What Neutron's nouns become in OVN, as pure functions: names and keys are those of upstream's ml2/ovn,
//! so that a cloud of either kind can be read with the other's tools.

use std::collections::BTreeMap;
use std::net::IpAddr;

use uuid::Uuid;

use super::plan::row;
use super::tables::{KEY_GROUPS, KEY_NETWORK, KEY_PORT, KEY_REVISION, KEY_SUBNET};
use crate::model::{Network, NetworkType, Port, Subnet, owner};
use crate::ovsdb::{Datum, Row};

pub(crate) const METADATA_IP: &str = "169.254.169.254";
const LEASE_SECONDS: &str = "43200";

/// The name of a network's logical switch or a router's logical router.
pub(crate) fn neutron_name(id: &str) -> String {
    format!("neutron-{id}")
}

/// The name of a security group's port group; OVN's expressions allow no dashes in it.
pub(crate) fn port_group_name(id: &str) -> String {
    format!("pg_{}", id.replace('-', "_"))
}

pub(crate) fn router_port_name(port_id: &str) -> String {
    format!("lrp-{port_id}")
}

pub(crate) fn localnet_name(network_id: &str) -> String {
    format!("provnet-{network_id}")
}

/// A MAC address that is always the same for an id, in Neutron's range.
pub(crate) fn mac_of(id: &str) -> String {
    let bytes = Uuid::parse_str(id).map_or([0; 16], Uuid::into_bytes);
    format!("fa:16:3e:{:02x}:{:02x}:{:02x}", bytes[13], bytes[14], bytes[15])
}

fn map(pairs: impl IntoIterator<Item = (&'static str, String)>) -> Datum {
    Datum::map(pairs)
}

pub(crate) fn switch(network: &Network) -> Row {
    row([
        ("name", Datum::one(neutron_name(&network.meta.id))),
        (
            "other_config",
            map([
                ("mcast_snoop", "false".into()),
                ("mcast_flood_unregistered", "false".into()),
                ("vlan-passthru", "false".into()),
            ]),
        ),
        (
            "external_ids",
            map([
                ("neutron:network_name", network.meta.name.clone()),
                ("neutron:mtu", network.mtu.to_string()),
                ("neutron:availability_zone_hints", network.availability_zone_hints.join(",")),
                (KEY_REVISION, network.meta.revision_number.to_string()),
            ]),
        ),
    ])
}

/// The port that joins a flat or VLAN network to its physical network.
pub(crate) fn localnet(network: &Network) -> Option<Row> {
    let physical = network.physical_network.clone()?;
    if !matches!(network.network_type, NetworkType::Flat | NetworkType::Vlan) {
        return None;
    }
    let tag = network.segmentation_id.filter(|_| network.network_type == NetworkType::Vlan);
    Some(row([
        ("name", Datum::one(localnet_name(&network.meta.id))),
        ("type", Datum::one("localnet")),
        ("addresses", Datum::one("unknown")),
        (
            "options",
            map([
                ("network_name", physical),
                ("mcast_flood", "false".into()),
                ("mcast_flood_reports", "true".into()),
            ]),
        ),
        ("tag", tag.map_or_else(Datum::empty, Datum::one)),
    ]))
}

/// The DHCP options of a subnet, or `None` where it has no DHCP. `metadata` is the address of the
/// network's metadata port in this subnet.
pub(crate) fn dhcp(
    subnet: &Subnet,
    network: &Network,
    metadata: Option<IpAddr>,
    resolvers: &[IpAddr],
) -> Option<Row> {
    if !subnet.enable_dhcp {
        return None;
    }
    let options = if subnet.ip_version() == 4 {
        dhcpv4(subnet, network, metadata, resolvers)?
    } else {
        dhcpv6(subnet)?
    };
    Some(row([
        ("cidr", Datum::one(subnet.cidr.to_string())),
        ("options", Datum::map(options)),
        (
            "external_ids",
            map([
                (KEY_SUBNET, subnet.meta.id.clone()),
                (KEY_NETWORK, network.meta.id.clone()),
                (KEY_REVISION, subnet.meta.revision_number.to_string()),
            ]),
        ),
    ]))
}

fn list(addresses: &[IpAddr]) -> String {
    let text: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    format!("{{{}}}", text.join(", "))
}

fn dhcpv4(
    subnet: &Subnet,
    network: &Network,
    metadata: Option<IpAddr>,
    resolvers: &[IpAddr],
) -> Option<BTreeMap<String, String>> {
    let server = subnet.gateway_ip.or(metadata)?;
    let mut options = BTreeMap::from([
        ("server_id".to_owned(), server.to_string()),
        ("server_mac".to_owned(), mac_of(&subnet.meta.id)),
        ("lease_time".to_owned(), LEASE_SECONDS.to_owned()),
        ("mtu".to_owned(), network.mtu.to_string()),
    ]);
    let resolvers: Vec<IpAddr> =
        if subnet.dns_nameservers.is_empty() { resolvers } else { &subnet.dns_nameservers }
            .iter()
            .copied()
            .filter(IpAddr::is_ipv4)
            .collect();
    if !resolvers.is_empty() {
        options.insert("dns_server".to_owned(), list(&resolvers));
    }
    // A client that takes classless routes ignores `router` (RFC 3442), so the default route is in both.
    let mut routes: Vec<String> = metadata.iter().map(|ip| format!("{METADATA_IP}/32,{ip}")).collect();
    routes.extend(subnet.host_routes.iter().map(|r| format!("{},{}", r.destination, r.nexthop)));
    if let Some(gateway) = subnet.gateway_ip {
        options.insert("router".to_owned(), gateway.to_string());
        if !routes.is_empty() {
            routes.push(format!("0.0.0.0/0,{gateway}"));
        }
    }
    if !routes.is_empty() {
        options.insert("classless_static_route".to_owned(), format!("{{{}}}", routes.join(", ")));
    }
    Some(options)
}

fn dhcpv6(subnet: &Subnet) -> Option<BTreeMap<String, String>> {
    let mode = subnet.ipv6_address_mode.as_deref()?;
    if mode == "slaac" {
        return None;
    }
    let mut options = BTreeMap::from([("server_id".to_owned(), mac_of(&subnet.meta.id))]);
    let resolvers: Vec<IpAddr> = subnet.dns_nameservers.iter().copied().filter(IpAddr::is_ipv6).collect();
    if !resolvers.is_empty() {
        options.insert("dns_server".to_owned(), list(&resolvers));
    }
    if mode == "dhcpv6-stateless" {
        options.insert("dhcpv6_stateless".to_owned(), "true".to_owned());
    }
    Some(options)
}

/// Neutron's names (dnsmasq's) of DHCP options, and OVN's.
fn ovn_option(name: &str) -> &str {
    match name {
        "bootfile-name" | "67" => "bootfile_name",
        "tftp-server" | "server-name" | "66" => "tftp_server",
        "server-ip-address" | "tftp-server-address" | "150" => "tftp_server_address",
        "domain-name" | "15" => "domain_name",
        "dns-server" | "6" => "dns_server",
        "ntp-server" | "42" => "ntp_server",
        "mtu" | "interface-mtu" | "26" => "mtu",
        "router" | "3" => "router",
        "lease-time" | "51" => "lease_time",
        "classless-static-route" | "121" => "classless_static_route",
        "hostname" | "12" => "hostname",
        "wpad" | "252" => "wpad",
        "path-prefix" | "210" => "path_prefix",
        other => other,
    }
}

/// The options of a port that has some of its own: the subnet's, overlaid.
pub(crate) fn port_dhcp(subnet_row: &Row, subnet: &Subnet, port: &Port) -> Option<Row> {
    let version = subnet.ip_version();
    let own: Vec<_> = port.extra_dhcp_opts.iter().filter(|o| o.ip_version == version).collect();
    if own.is_empty() {
        return None;
    }
    let mut options: BTreeMap<String, String> = match subnet_row.get("options") {
        Some(Datum::Map(pairs)) => {
            pairs.iter().filter_map(|(k, v)| Some((k.as_str()?.to_owned(), v.as_str()?.to_owned()))).collect()
        }
        _ => BTreeMap::new(),
    };
    for opt in own {
        let name = ovn_option(&opt.opt_name).to_owned();
        match &opt.opt_value {
            Some(value) => options.insert(name, value.clone()),
            None => options.remove(&name),
        };
    }
    Some(row([
        ("cidr", Datum::one(subnet.cidr.to_string())),
        ("options", Datum::map(options)),
        (
            "external_ids",
            map([
                (KEY_SUBNET, subnet.meta.id.clone()),
                (KEY_PORT, port.meta.id.clone()),
                (KEY_NETWORK, port.network_id.clone()),
            ]),
        ),
    ]))
}

/// Whether a port has a logical switch port: a floating IP's is only a reservation of its address.
pub(crate) fn has_switch_port(port: &Port) -> bool {
    port.device_owner != owner::FLOATING_IP
}

/// The ports of the network itself are not filtered.
pub(crate) fn is_filtered(port: &Port) -> bool {
    port.port_security_enabled && !port.device_owner.starts_with("network:")
}

/// The logical switch port, without its DHCP references. `chassis` is the bound host, if OVN knows it.
pub(crate) fn switch_port(port: &Port, subnets: &[Subnet], chassis: Option<&str>) -> Row {
    let ips: Vec<String> = port.fixed_ips.iter().map(|f| f.ip_address.to_string()).collect();
    let own =
        std::iter::once(port.mac_address.clone()).chain(ips.iter().cloned()).collect::<Vec<_>>().join(" ");
    let is_router = owner::is_router(&port.device_owner);
    let mut addresses = vec![if is_router { "router".to_owned() } else { own.clone() }];
    let mut security = Vec::new();
    if is_filtered(port) {
        let mut by_mac: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for pair in &port.allowed_address_pairs {
            by_mac.entry(&pair.mac_address).or_default().push(&pair.ip_address);
        }
        let mut first = own;
        for (mac, addrs) in by_mac {
            if mac == port.mac_address {
                first = format!("{first} {}", addrs.join(" "));
            } else {
                addresses.push(mac.to_owned());
                security.push(format!("{mac} {}", addrs.join(" ")));
            }
        }
        security.push(first);
    } else if !is_router && port.device_owner != owner::METADATA {
        addresses.push("unknown".to_owned());
    }
    let mut options = BTreeMap::new();
    let kind = match port.device_owner.as_str() {
        owner::METADATA => "localport",
        _ if is_router => {
            options.insert("router-port", router_port_name(&port.meta.id));
            if port.device_owner == owner::ROUTER_GATEWAY {
                options.insert("nat-addresses", "router".to_owned());
                options.insert("exclude-lb-vips-from-garp", "true".to_owned());
            }
            "router"
        }
        _ => "",
    };
    if let Some(chassis) = chassis {
        options.insert("requested-chassis", chassis.to_owned());
    }
    let cidrs: Vec<String> = port
        .fixed_ips
        .iter()
        .filter_map(|f| {
            let subnet = subnets.iter().find(|s| s.meta.id == f.subnet_id)?;
            Some(format!("{}/{}", f.ip_address, subnet.cidr.prefix_len()))
        })
        .collect();
    row([
        ("name", Datum::one(port.meta.id.clone())),
        ("type", Datum::one(kind)),
        ("addresses", Datum::set(addresses)),
        ("port_security", Datum::set(security)),
        ("enabled", Datum::one(port.admin_state_up)),
        ("options", Datum::map(options)),
        (
            "external_ids",
            map([
                ("neutron:port_name", port.meta.name.clone()),
                ("neutron:device_id", port.device_id.clone()),
                ("neutron:device_owner", port.device_owner.clone()),
                ("neutron:project_id", port.meta.project_id.clone()),
                ("neutron:network_name", neutron_name(&port.network_id)),
                ("neutron:cidrs", cidrs.join(" ")),
                ("neutron:host_id", port.host_id.clone()),
                ("neutron:vnic_type", port.vnic_type.clone()),
                (KEY_GROUPS, port.security_groups.join(" ")),
                (KEY_REVISION, port.meta.revision_number.to_string()),
            ]),
        ),
    ])
}

/// The names and addresses that OVN answers DNS queries for, in one network.
pub(crate) fn dns(network: &Network, ports: &[Port]) -> Option<Row> {
    let mut records = BTreeMap::new();
    for port in ports.iter().filter(|p| !p.dns_name.is_empty() && !p.fixed_ips.is_empty()) {
        let ips: Vec<String> = port.fixed_ips.iter().map(|f| f.ip_address.to_string()).collect();
        let name = port.dns_name.to_lowercase();
        let domain = network.dns_domain.trim_end_matches('.');
        if !domain.is_empty() {
            records.insert(format!("{name}.{domain}"), ips.join(" "));
        }
        records.insert(name, ips.join(" "));
    }
    if records.is_empty() {
        return None;
    }
    Some(row([
        ("records", Datum::map(records)),
        ("external_ids", map([(KEY_NETWORK, network.meta.id.clone())])),
    ]))
}
