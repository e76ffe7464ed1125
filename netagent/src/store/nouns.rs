//! Which columns each noun is searched by.

use super::Entity;
use crate::error::Noun;
use crate::model::{
    FloatingIp, Meta, Network, NetworkType, Port, Router, SecurityGroup, SecurityGroupRule, Subnet,
};

macro_rules! entity {
    ($name:ident, $table:literal, [$($column:literal),*], |$this:ident| [$($value:expr),* $(,)?]) => {
        impl Entity for $name {
            const TABLE: &'static str = $table;
            const NOUN: Noun = Noun::$name;
            const COLUMNS: &'static [&'static str] = &[$($column),*];

            fn columns(&self) -> Vec<Option<String>> {
                let $this = self;
                vec![$($value),*]
            }
            fn meta(&self) -> &Meta {
                &self.meta
            }
            fn meta_mut(&mut self) -> &mut Meta {
                &mut self.meta
            }
        }
    };
}

fn flag(value: bool) -> Option<String> {
    Some(if value { "1" } else { "0" }.to_owned())
}

/// What two networks may not share: a tunnel id, a tag, or a physical network as a whole.
fn segment(network: &Network) -> Option<String> {
    let physical = network.physical_network.as_deref().unwrap_or("");
    let id = network.segmentation_id.unwrap_or(0);
    (network.network_type != NetworkType::Local)
        .then(|| format!("{}/{physical}/{id}", network.network_type.as_str()))
}

entity!(Network, "net_networks", ["project_id", "name", "shared", "external", "segment"], |n| [
    Some(n.meta.project_id.clone()),
    Some(n.meta.name.clone()),
    flag(n.shared),
    flag(n.external),
    segment(n),
]);
entity!(Subnet, "net_subnets", ["project_id", "name", "network_id"], |s| [
    Some(s.meta.project_id.clone()),
    Some(s.meta.name.clone()),
    Some(s.network_id.clone()),
]);
entity!(
    Port,
    "net_ports",
    ["project_id", "name", "network_id", "mac", "device_id", "device_owner", "host"],
    |p| [
        Some(p.meta.project_id.clone()),
        Some(p.meta.name.clone()),
        Some(p.network_id.clone()),
        Some(p.mac_address.clone()),
        Some(p.device_id.clone()),
        Some(p.device_owner.clone()),
        Some(p.host_id.clone()),
    ]
);
entity!(SecurityGroup, "net_security_groups", ["project_id", "name", "default_of"], |g| [
    Some(g.meta.project_id.clone()),
    Some(g.meta.name.clone()),
    g.is_default.then(|| g.meta.project_id.clone()),
]);
entity!(
    SecurityGroupRule,
    "net_security_group_rules",
    ["project_id", "security_group_id", "remote_group_id", "fingerprint"],
    |r| [
        Some(r.meta.project_id.clone()),
        Some(r.security_group_id.clone()),
        r.remote_group_id.clone(),
        Some(r.fingerprint()),
    ]
);
entity!(Router, "net_routers", ["project_id", "name", "external_network_id"], |r| [
    Some(r.meta.project_id.clone()),
    Some(r.meta.name.clone()),
    r.gateway.as_ref().map(|g| g.network_id.clone()),
]);
entity!(
    FloatingIp,
    "net_floating_ips",
    ["project_id", "floating_network_id", "address", "port_id", "router_id", "association"],
    |f| [
        Some(f.meta.project_id.clone()),
        Some(f.floating_network_id.clone()),
        Some(f.floating_ip_address.to_string()),
        f.port_id.clone(),
        f.router_id.clone(),
        f.port_id
            .as_ref()
            .zip(f.fixed_ip_address)
            .map(|(port, ip)| format!("{}/{port}/{ip}", f.floating_network_id)),
    ]
);
