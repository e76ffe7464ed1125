//! Routers in OVN: a logical router with one port a subnet, and, towards an external network, a gateway
//! port that lives on one chassis at a time, where SNAT and floating IPs are translated (centralised: facts
//! of the user-space datapath, and a compute host then needs no external addresses of its own).

use std::collections::BTreeMap;

use super::plan::row;
use super::rows::{neutron_name, router_port_name};
use super::tables::KEY_REVISION;
use crate::model::{FloatingIp, Port, Router, Subnet, owner};
use crate::ovsdb::{Datum, Row};

/// Everything a router's rows are made from.
pub(crate) struct RouterParts {
    pub router: Router,
    /// Its interfaces and its gateway port.
    pub ports: Vec<Port>,
    /// The subnets of those ports.
    pub subnets: Vec<Subnet>,
    pub floating_ips: Vec<FloatingIp>,
    /// The MTU of the external network.
    pub gateway_mtu: i64,
    /// Chassis that reach the external network, best first.
    pub chassis: Vec<String>,
}

impl RouterParts {
    fn subnet(&self, id: &str) -> Option<&Subnet> {
        self.subnets.iter().find(|s| s.meta.id == id)
    }

    fn gateway_port(&self) -> Option<&Port> {
        self.ports.iter().find(|p| p.device_owner == owner::ROUTER_GATEWAY)
    }

    /// The logical router, without its children.
    pub(crate) fn router_row(&self) -> Row {
        let gateway = self.router.gateway.as_ref().map(|g| g.port_id.clone()).unwrap_or_default();
        row([
            ("name", Datum::one(neutron_name(&self.router.meta.id))),
            ("enabled", Datum::one(self.router.admin_state_up)),
            (
                "options",
                Datum::map([("always_learn_from_arp_request", "false"), ("dynamic_neigh_routers", "true")]),
            ),
            (
                "external_ids",
                Datum::map([
                    ("neutron:router_name", self.router.meta.name.clone()),
                    ("neutron:gw_port_id", gateway),
                    ("neutron:availability_zone_hints", self.router.availability_zone_hints.join(",")),
                    (KEY_REVISION, self.router.meta.revision_number.to_string()),
                ]),
            ),
        ])
    }

    /// The router's ports, each with its gateway chassis.
    pub(crate) fn port_rows(&self) -> Vec<(Row, Vec<Row>)> {
        self.ports.iter().filter(|p| !p.fixed_ips.is_empty()).map(|p| self.port_row(p)).collect()
    }

    fn port_row(&self, port: &Port) -> (Row, Vec<Row>) {
        let name = router_port_name(&port.meta.id);
        let networks: Vec<String> = port
            .fixed_ips
            .iter()
            .filter_map(|f| {
                self.subnet(&f.subnet_id).map(|s| format!("{}/{}", f.ip_address, s.cidr.prefix_len()))
            })
            .collect();
        let is_gateway = port.device_owner == owner::ROUTER_GATEWAY;
        let mut options = BTreeMap::new();
        if is_gateway && self.gateway_mtu > 0 {
            options.insert("gateway_mtu", self.gateway_mtu.to_string());
        }
        let chassis = if is_gateway { self.chassis.as_slice() } else { &[] };
        let gateways = chassis
            .iter()
            .zip((1..=5_i64).rev())
            .map(|(chassis, priority)| {
                row([
                    ("name", Datum::one(format!("{name}_{chassis}"))),
                    ("chassis_name", Datum::one(chassis.clone())),
                    ("priority", Datum::one(priority)),
                ])
            })
            .collect();
        let subnets: Vec<&str> = port.fixed_ips.iter().map(|f| f.subnet_id.as_str()).collect();
        let columns = row([
            ("name", Datum::one(name)),
            ("mac", Datum::one(port.mac_address.clone())),
            ("networks", Datum::set(networks)),
            ("options", Datum::map(options)),
            ("ipv6_ra_configs", Datum::map(self.advertisement(port))),
            (
                "external_ids",
                Datum::map([
                    ("neutron:network_name", neutron_name(&port.network_id)),
                    ("neutron:router_name", self.router.meta.id.clone()),
                    ("neutron:subnet_ids", subnets.join(" ")),
                    (KEY_REVISION, port.meta.revision_number.to_string()),
                ]),
            ),
        ]);
        (columns, gateways)
    }

    fn advertisement(&self, port: &Port) -> BTreeMap<&'static str, String> {
        let mode = port
            .fixed_ips
            .iter()
            .filter_map(|f| self.subnet(&f.subnet_id))
            .find_map(|s| s.ipv6_ra_mode.clone().or_else(|| s.ipv6_address_mode.clone()));
        match mode {
            Some(mode) if port.device_owner == owner::ROUTER_INTERFACE => BTreeMap::from([
                ("address_mode", mode.replace('-', "_")),
                ("send_periodic", "true".to_owned()),
            ]),
            _ => BTreeMap::new(),
        }
    }

    /// The default routes through the gateway's subnets, and the routes that the tenant added.
    pub(crate) fn route_rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        if let Some(port) = self.gateway_port() {
            for subnet in port.fixed_ips.iter().filter_map(|f| self.subnet(&f.subnet_id)) {
                let Some(gateway) = subnet.gateway_ip else { continue };
                let prefix = if subnet.ip_version() == 4 { "0.0.0.0/0" } else { "::/0" };
                rows.push(row([
                    ("ip_prefix", Datum::one(prefix)),
                    ("nexthop", Datum::one(gateway.to_string())),
                    ("output_port", Datum::one(router_port_name(&port.meta.id))),
                    (
                        "external_ids",
                        Datum::map([
                            ("neutron:is_ext_gw", "true"),
                            ("neutron:subnet_id", subnet.meta.id.as_str()),
                        ]),
                    ),
                ]));
            }
        }
        rows.extend(self.router.routes.iter().map(|route| {
            row([
                ("ip_prefix", Datum::one(route.destination.clone())),
                ("nexthop", Datum::one(route.nexthop.to_string())),
                ("output_port", Datum::empty()),
                ("external_ids", Datum::map::<&str, &str>([])),
            ])
        }));
        rows
    }

    /// SNAT for every IPv4 subnet behind the router, and the floating IPs.
    pub(crate) fn nat_rows(&self) -> Vec<Row> {
        let Some(port) = self.gateway_port() else { return Vec::new() };
        let mut rows = Vec::new();
        let snat = self.router.gateway.as_ref().is_some_and(|g| g.enable_snat);
        let outside = port.fixed_ips.iter().map(|f| f.ip_address).find(std::net::IpAddr::is_ipv4);
        if let (true, Some(outside)) = (snat, outside) {
            let inside = self.ports.iter().filter(|p| p.device_owner == owner::ROUTER_INTERFACE);
            for fixed in inside.flat_map(|p| &p.fixed_ips) {
                let Some(subnet) = self.subnet(&fixed.subnet_id).filter(|s| s.ip_version() == 4) else {
                    continue;
                };
                rows.push(row([
                    ("type", Datum::one("snat")),
                    ("external_ip", Datum::one(outside.to_string())),
                    ("logical_ip", Datum::one(subnet.cidr.trunc().to_string())),
                    ("external_ids", Datum::map::<&str, &str>([])),
                ]));
            }
        }
        rows.extend(self.floating_ips.iter().filter_map(|fip| {
            Some(row([
                ("type", Datum::one("dnat_and_snat")),
                ("external_ip", Datum::one(fip.floating_ip_address.to_string())),
                ("logical_ip", Datum::one(fip.fixed_ip_address?.to_string())),
                ("logical_port", Datum::one(fip.port_id.clone()?)),
                (
                    "external_ids",
                    Datum::map([
                        ("neutron:fip_id", fip.meta.id.clone()),
                        ("neutron:fip_port_id", fip.port_id.clone()?),
                        ("neutron:router_name", neutron_name(&self.router.meta.id)),
                        (KEY_REVISION, fip.meta.revision_number.to_string()),
                    ]),
                ),
            ]))
        }));
        rows
    }
}
