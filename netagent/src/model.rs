//! The nouns of the network service as rows hold them. What is searched or constrained is also a column
//! of its table (see `store`); the rest of a row is one JSON document, this struct.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use state::Timestamp;

/// What every noun has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub id: String,
    pub project_id: String,
    pub name: String,
    pub description: String,
    /// Grows by one with every change; guards writes to OVN and conditional updates.
    pub revision_number: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    #[serde(default)]
    pub tags: BTreeSet<String>,
}

impl Meta {
    pub fn new(project_id: &str) -> Self {
        let now = Timestamp::now();
        Self {
            id: state::new_id(),
            project_id: project_id.to_owned(),
            name: String::new(),
            description: String::new(),
            revision_number: 0,
            created_at: now,
            updated_at: now,
            tags: BTreeSet::new(),
        }
    }
}

/// How a network reaches other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkType {
    /// An overlay: the tenant's default.
    Geneve,
    /// Untagged on a physical network.
    Flat,
    /// A tag on a physical network.
    Vlan,
    /// One machine only.
    Local,
}

impl NetworkType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Geneve => "geneve",
            Self::Flat => "flat",
            Self::Vlan => "vlan",
            Self::Local => "local",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    #[serde(flatten)]
    pub meta: Meta,
    pub admin_state_up: bool,
    pub shared: bool,
    pub external: bool,
    pub is_default: bool,
    /// Bytes of an IP packet.
    pub mtu: i64,
    pub port_security_enabled: bool,
    pub network_type: NetworkType,
    pub physical_network: Option<String>,
    pub segmentation_id: Option<i64>,
    pub dns_domain: String,
    pub availability_zone_hints: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub start: IpAddr,
    pub end: IpAddr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRoute {
    pub destination: String,
    pub nexthop: IpAddr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    #[serde(flatten)]
    pub meta: Meta,
    pub network_id: String,
    pub cidr: IpNet,
    pub gateway_ip: Option<IpAddr>,
    pub enable_dhcp: bool,
    pub allocation_pools: Vec<Pool>,
    pub dns_nameservers: Vec<IpAddr>,
    pub host_routes: Vec<HostRoute>,
    pub ipv6_ra_mode: Option<String>,
    pub ipv6_address_mode: Option<String>,
    pub service_types: Vec<String>,
    pub dns_publish_fixed_ip: bool,
}

impl Subnet {
    pub fn ip_version(&self) -> u8 {
        if self.cidr.addr().is_ipv4() { 4 } else { 6 }
    }

    /// Whether addresses are made from the MAC by the guest itself.
    pub fn is_slaac(&self) -> bool {
        matches!(self.ipv6_address_mode.as_deref(), Some("slaac" | "dhcpv6-stateless"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedIp {
    pub subnet_id: String,
    pub ip_address: IpAddr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPair {
    /// An address or a CIDR.
    pub ip_address: String,
    pub mac_address: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpOpt {
    pub opt_name: String,
    pub opt_value: Option<String>,
    pub ip_version: u8,
}

/// Who owns a port decides what becomes of it in OVN and who may delete it.
pub mod owner {
    pub const ROUTER_INTERFACE: &str = "network:router_interface";
    pub const ROUTER_GATEWAY: &str = "network:router_gateway";
    pub const FLOATING_IP: &str = "network:floatingip";
    /// The metadata port of a network.
    pub const METADATA: &str = "network:distributed";
    pub const DHCP: &str = "network:dhcp";
    /// Ports that go with their network and hold no subnet back.
    pub const AUTO_DELETE: [&str; 2] = [DHCP, METADATA];
    /// Ports that only their router or floating IP may delete.
    pub const SERVICE: [&str; 3] = [ROUTER_INTERFACE, ROUTER_GATEWAY, FLOATING_IP];

    pub fn is_router(owner: &str) -> bool {
        owner == ROUTER_INTERFACE || owner == ROUTER_GATEWAY
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    #[serde(flatten)]
    pub meta: Meta,
    pub network_id: String,
    pub mac_address: String,
    pub admin_state_up: bool,
    pub device_id: String,
    pub device_owner: String,
    pub fixed_ips: Vec<FixedIp>,
    pub security_groups: Vec<String>,
    pub allowed_address_pairs: Vec<AddressPair>,
    pub port_security_enabled: bool,
    pub extra_dhcp_opts: Vec<DhcpOpt>,
    pub dns_name: String,
    pub host_id: String,
    pub vnic_type: String,
    pub profile: BTreeMap<String, Value>,
    /// What OVN last reported of a bound port.
    #[serde(default)]
    pub up: bool,
}

impl Port {
    /// Upstream's `status`. A port without a place to be (a router's, a floating IP's) has its owner's.
    pub fn status(&self) -> &'static str {
        match self.device_owner.as_str() {
            owner::FLOATING_IP => "N/A",
            _ if self.up => "ACTIVE",
            _ => "DOWN",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    #[serde(flatten)]
    pub meta: Meta,
    pub stateful: bool,
    /// The group that every project has, made on first sight.
    pub is_default: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Ingress,
    Egress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EtherType {
    IPv4,
    IPv6,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroupRule {
    #[serde(flatten)]
    pub meta: Meta,
    pub security_group_id: String,
    pub direction: Direction,
    pub ethertype: EtherType,
    /// A name or a number, as it was given.
    pub protocol: Option<String>,
    pub port_range_min: Option<i64>,
    pub port_range_max: Option<i64>,
    pub remote_ip_prefix: Option<IpNet>,
    pub remote_group_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    pub network_id: String,
    pub enable_snat: bool,
    pub port_id: String,
    pub external_fixed_ips: Vec<FixedIp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    #[serde(flatten)]
    pub meta: Meta,
    pub admin_state_up: bool,
    pub gateway: Option<Gateway>,
    pub routes: Vec<HostRoute>,
    pub availability_zone_hints: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloatingIp {
    #[serde(flatten)]
    pub meta: Meta,
    pub floating_network_id: String,
    pub floating_ip_address: IpAddr,
    pub floating_port_id: String,
    pub port_id: Option<String>,
    pub fixed_ip_address: Option<IpAddr>,
    pub router_id: Option<String>,
    pub dns_name: String,
    pub dns_domain: String,
}
