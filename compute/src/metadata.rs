//! What a guest reads at 169.254.169.254: EC2's tree and OpenStack's, made from the server's row. The agent of
//! the guest's host asks, for the address in the network where the request came from; a guest of another host is
//! none of its business.

use crate::model::{DiskSource, Nic, Server};
use crate::store::servers as store;
use crate::{Compute, ComputeError};
use base64::Engine;
use netagent::model::{Port, Subnet};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// Content type and bytes.
pub(crate) type Document = (&'static str, Vec<u8>);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

const EC2_VERSIONS: [&str; 10] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "latest",
];
const OPENSTACK_VERSIONS: [&str; 13] = [
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "2023-05-02",
    "2024-10-01",
    "2025-04-04",
    "latest",
];

impl Compute {
    /// The document at a path, for whoever has this address in this network; `None` is a 404.
    pub(crate) async fn metadata(
        &self,
        host: &str,
        network: &str,
        address: &str,
        path: &str,
    ) -> Result<Option<Document>, ComputeError> {
        let Ok(ip) = address.parse::<IpAddr>() else { return Ok(None) };
        let Some(port) = self.networks.port_by_network_ip(network, ip).await? else { return Ok(None) };
        let Some(server) = store::get(&self.db, &port.device_id).await? else { return Ok(None) };
        if server.host != host || !server.nics.iter().any(|n| n.port_id == port.meta.id) {
            return Ok(None);
        }
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        match parts.as_slice() {
            [] => Ok(Some(listing(&EC2_VERSIONS))),
            ["openstack"] => Ok(Some(listing(&OPENSTACK_VERSIONS))),
            ["openstack", version, rest @ ..] if OPENSTACK_VERSIONS.contains(version) => {
                self.openstack(&server, rest).await
            }
            [version, rest @ ..] if EC2_VERSIONS.contains(version) => self.ec2(&server, &port, rest).await,
            _ => Ok(None),
        }
    }

    fn full_hostname(&self, s: &Server) -> String {
        match self.config.dhcp_domain.as_str() {
            "" => s.hostname.clone(),
            domain => format!("{}.{domain}", s.hostname),
        }
    }

    async fn user_data(&self, s: &Server) -> Result<Option<Document>, ComputeError> {
        let text = store::user_data(&self.db, &s.id).await?.replace(['\n', '\r'], "");
        if text.is_empty() {
            return Ok(None);
        }
        let bytes = base64::engine::general_purpose::STANDARD.decode(text);
        Ok(bytes.ok().map(|b| ("application/octet-stream", b)))
    }

    async fn openstack(&self, s: &Server, rest: &[&str]) -> Result<Option<Document>, ComputeError> {
        let json = |v: Value| Ok(Some((JSON, serde_json::to_vec(&v)?)));
        match rest {
            [] => Ok(Some(listing(&[
                "meta_data.json",
                "user_data",
                "password",
                "vendor_data.json",
                "network_data.json",
                "vendor_data2.json",
            ]))),
            ["meta_data.json"] => json(self.meta_data(s).await?),
            ["user_data"] => self.user_data(s).await,
            ["vendor_data.json" | "vendor_data2.json"] => json(json!({})),
            ["network_data.json"] => json(self.network_data(s).await?),
            ["password"] => Ok(Some((TEXT, Vec::new()))),
            _ => Ok(None),
        }
    }

    async fn meta_data(&self, s: &Server) -> Result<Value, ComputeError> {
        let zone = if s.availability_zone.is_empty() {
            self.host(&s.host).await?.zone
        } else {
            s.availability_zone.clone()
        };
        let mut data = json!({
            "uuid": s.id,
            "name": s.name,
            "hostname": self.full_hostname(s),
            "launch_index": s.launch_index,
            "availability_zone": zone,
            "project_id": s.project_id,
            "devices": devices(s),
            "dedicated_cpus": [],
            "random_seed": random_seed(),
        });
        if !s.metadata.is_empty() {
            data["meta"] = json!(s.metadata);
        }
        if let (Some(name), Some(key)) = (&s.key_name, &s.public_key) {
            data["public_keys"] = json!({name.clone(): key});
            data["keys"] = json!([{"name": name, "type": "ssh", "data": key}]);
        }
        Ok(data)
    }

    async fn network_data(&self, s: &Server) -> Result<Value, ComputeError> {
        let (mut links, mut networks, mut services) = (Vec::new(), Vec::new(), Vec::new());
        let ports = self.networks.ports_of_device(&s.id).await?;
        for (n, nic) in s.nics.iter().enumerate() {
            let Some(port) = ports.iter().find(|p| p.meta.id == nic.port_id) else { continue };
            let subnets = self.networks.subnets_of(&nic.network_id).await?;
            links.push(link(nic));
            for ip in &port.fixed_ips {
                let Some(subnet) = subnets.iter().find(|s| s.meta.id == ip.subnet_id) else { continue };
                networks.push(network(networks.len(), nic, ip.ip_address, subnet));
                for dns in &subnet.dns_nameservers {
                    let service = json!({"type": "dns", "address": dns.to_string()});
                    if !services.contains(&service) {
                        services.push(service);
                    }
                }
            }
            let _ = n;
        }
        Ok(json!({"links": links, "networks": networks, "services": services}))
    }

    async fn ec2(&self, s: &Server, port: &Port, rest: &[&str]) -> Result<Option<Document>, ComputeError> {
        let text = |t: String| Ok(Some((TEXT, t.into_bytes())));
        let (top, path) = match rest {
            [] => {
                let user_data = !store::user_data(&self.db, &s.id).await?.is_empty();
                return Ok(Some(listing(if user_data {
                    &["meta-data/", "user-data"]
                } else {
                    &["meta-data/"]
                })));
            }
            [top, path @ ..] => (*top, path),
        };
        if top == "user-data" {
            return self.user_data(s).await;
        }
        if top != "meta-data" {
            return Ok(None);
        }
        let local = port.fixed_ips.first().map(|ip| ip.ip_address.to_string()).unwrap_or_default();
        let floating = self.networks.floating_ips_of_port(&port.meta.id).await?;
        let public = floating.first().map(|f| f.floating_ip_address.to_string()).unwrap_or_default();
        let host = self.full_hostname(s);
        let ec2_id = format!("i-{}", &s.id.replace('-', "")[..8]);
        match path {
            [] => {
                let mut names = vec![
                    "ami-id",
                    "ami-launch-index",
                    "ami-manifest-path",
                    "block-device-mapping/",
                    "hostname",
                    "instance-action",
                    "instance-id",
                    "instance-type",
                    "local-hostname",
                    "local-ipv4",
                    "placement/",
                    "public-hostname",
                    "public-ipv4",
                    "reservation-id",
                    "security-groups",
                ];
                if s.public_key.is_some() {
                    names.insert(12, "public-keys/");
                }
                Ok(Some(listing(&names)))
            }
            ["ami-id"] => text(format!("ami-{}", s.image_id.get(..8).unwrap_or("00000000"))),
            ["ami-launch-index"] => text(s.launch_index.to_string()),
            ["ami-manifest-path"] => text(String::new()),
            ["hostname" | "local-hostname" | "public-hostname"] => text(host),
            ["instance-action"] => text("none".into()),
            ["instance-id"] => text(ec2_id),
            ["instance-type"] => text(s.flavor.name.clone()),
            ["local-ipv4"] => text(local),
            ["public-ipv4"] => text(public),
            ["reservation-id"] => text(s.reservation_id.clone()),
            ["security-groups"] => {
                text(self.networks.security_group_names(&port.security_groups).await?.join("\n"))
            }
            ["placement"] => Ok(Some(listing(&["availability-zone"]))),
            ["placement", "availability-zone"] => text(self.host(&s.host).await?.zone),
            ["block-device-mapping"] => Ok(Some(listing(&["ami", "root"]))),
            ["block-device-mapping", "ami"] => text("vda".into()),
            ["block-device-mapping", "root"] => text(s.root_device.clone()),
            ["public-keys"] => match &s.key_name {
                Some(name) => text(format!("0={name}")),
                None => Ok(None),
            },
            ["public-keys", "0"] if s.public_key.is_some() => Ok(Some(listing(&["openssh-key"]))),
            ["public-keys", "0", "openssh-key"] => match &s.public_key {
                Some(key) => text(format!("{key}\n")),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }
}

fn listing(names: &[&str]) -> Document {
    (TEXT, names.join("\n").into_bytes())
}

fn random_seed() -> String {
    let mut bytes = [0u8; 512];
    rand::Rng::fill_bytes(&mut rand::rng(), &mut bytes);
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// What is tagged, so that a guest finds what it was given for what.
fn devices(s: &Server) -> Vec<Value> {
    let nics = s.nics.iter().filter_map(|n| {
        let tag = n.tag.as_ref()?;
        Some(json!({"type": "nic", "bus": "none", "address": "none", "mac": n.mac, "tags": [tag]}))
    });
    let disks = s.disks.iter().filter_map(|d| {
        let tag = d.tag.as_ref()?;
        let serial = match &d.source {
            DiskSource::Volume { volume_id } => volume_id,
            DiskSource::Local { .. } => &s.id,
        };
        let mut disk = Map::new();
        for (k, v) in [("type", "disk"), ("bus", "none"), ("address", "none"), ("serial", serial)] {
            disk.insert(k.into(), json!(v));
        }
        disk.insert("path".into(), json!(format!("/dev/{}", d.device)));
        disk.insert("tags".into(), json!([tag]));
        Some(Value::Object(disk))
    });
    nics.chain(disks).collect()
}

fn link(nic: &Nic) -> Value {
    json!({
        "id": crate::agent::tap_name(&nic.port_id),
        "vif_id": nic.port_id,
        "type": "ovs",
        "mtu": nic.mtu,
        "ethernet_mac_address": nic.mac,
    })
}

fn network(n: usize, nic: &Nic, ip: IpAddr, subnet: &Subnet) -> Value {
    let version = subnet.ip_version();
    let link = crate::agent::tap_name(&nic.port_id);
    let base = json!({"id": format!("network{n}"), "link": link, "network_id": nic.network_id});
    let mut out = base;
    if subnet.enable_dhcp && version == 4 {
        out["type"] = json!("ipv4_dhcp");
        return out;
    }
    if version == 6 && subnet.is_slaac() {
        out["type"] = json!("ipv6_slaac");
        return out;
    }
    out["type"] = json!(format!("ipv{version}"));
    out["ip_address"] = json!(ip.to_string());
    out["netmask"] = json!(subnet.cidr.netmask().to_string());
    let mut routes: Vec<Value> = Vec::new();
    if let Some(gateway) = subnet.gateway_ip {
        let any = if version == 4 { "0.0.0.0" } else { "::" };
        routes.push(json!({"network": any, "netmask": any, "gateway": gateway.to_string()}));
    }
    for route in &subnet.host_routes {
        if let Ok(net) = route.destination.parse::<ipnet::IpNet>() {
            routes.push(json!({"network": net.network().to_string(), "netmask": net.netmask().to_string(),
                "gateway": route.nexthop.to_string()}));
        }
    }
    out["routes"] = json!(routes);
    out
}
