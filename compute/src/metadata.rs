//! What a guest reads at 169.254.169.254: EC2's tree and OpenStack's, made from the server's row. The agent of
//! the guest's host asks, for the address in the network where the request came from; a guest of another host is
//! none of its business.

use crate::model::{DiskSource, Nic, Server};
use crate::store::servers as store;
use crate::{Compute, ComputeError};
use base64::Engine;
use bytes::Bytes;
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

/// OpenStack's documents, each with the version that brought it.
const DOCUMENTS: [(&str, &str); 6] = [
    ("meta_data.json", "2012-08-10"),
    ("user_data", "2012-08-10"),
    ("password", "2013-04-04"),
    ("vendor_data.json", "2013-10-17"),
    ("network_data.json", "2015-10-15"),
    ("vendor_data2.json", "2016-10-06"),
];

/// The documents of a version. `latest` sorts after every date.
fn documents(version: &str) -> impl Iterator<Item = &'static str> {
    DOCUMENTS.into_iter().filter(move |(_, since)| *since <= version).map(|(name, _)| name)
}

/// EC2's versions that are on a config drive; upstream leaves the others out by default.
const EC2_ON_DRIVE: [&str; 2] = ["2009-04-04", "latest"];

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
                self.openstack(&server, version, rest).await
            }
            [version, rest @ ..] if EC2_VERSIONS.contains(version) => {
                self.ec2(&server, Some(&port), rest).await
            }
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

    /// Everything a config drive holds, as path and bytes: what is served above, but for what changes meanwhile.
    pub(crate) async fn metadata_files(&self, s: &Server) -> Result<Vec<(String, Bytes)>, ComputeError> {
        let mut files = Vec::new();
        for (name, since) in DOCUMENTS.iter().filter(|(name, _)| *name != "password") {
            let Some((_, bytes)) = self.document(s, name).await? else { continue };
            let bytes = Bytes::from(bytes);
            for version in OPENSTACK_VERSIONS.iter().filter(|v| since <= *v) {
                files.push((format!("openstack/{version}/{name}"), bytes.clone()));
            }
        }
        let ports = self.networks.ports_of_device(&s.id).await?;
        let first = s.nics.first().and_then(|nic| ports.iter().find(|p| p.meta.id == nic.port_id));
        let mut tree = self.ec2_tree(s, first).await?;
        if let Some(key) = tree.pointer_mut("/public-keys/0").and_then(Value::as_object_mut) {
            key.remove(SHOWN_AS);
        }
        let tree = Bytes::from(serde_json::to_vec(&tree)?);
        let user_data = self.user_data(s).await?.map(|(_, bytes)| Bytes::from(bytes));
        for version in EC2_ON_DRIVE {
            files.push((format!("ec2/{version}/meta-data.json"), tree.clone()));
            files.extend(user_data.clone().map(|bytes| (format!("ec2/{version}/user-data"), bytes)));
        }
        Ok(files)
    }

    async fn openstack(
        &self,
        s: &Server,
        version: &str,
        rest: &[&str],
    ) -> Result<Option<Document>, ComputeError> {
        match rest {
            [] => {
                let user_data = self.user_data(s).await?.is_some();
                let names: Vec<_> = documents(version).filter(|n| user_data || *n != "user_data").collect();
                Ok(Some(listing(&names)))
            }
            [name] if documents(version).any(|n| n == *name) => self.document(s, name).await,
            _ => Ok(None),
        }
    }

    /// One of [`DOCUMENTS`]; only user data may be none.
    async fn document(&self, s: &Server, name: &str) -> Result<Option<Document>, ComputeError> {
        let value = match name {
            "user_data" => return self.user_data(s).await,
            "password" => return Ok(Some((TEXT, Vec::new()))),
            "meta_data.json" => self.meta_data(s).await?,
            "network_data.json" => self.network_data(s).await?,
            _ => json!({}),
        };
        Ok(Some((JSON, serde_json::to_vec(&value)?)))
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
        for nic in &s.nics {
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
        }
        Ok(json!({"links": links, "networks": networks, "services": services}))
    }

    async fn ec2(
        &self,
        s: &Server,
        port: Option<&Port>,
        rest: &[&str],
    ) -> Result<Option<Document>, ComputeError> {
        match rest {
            [] => {
                let user_data = self.user_data(s).await?.is_some();
                let names: &[&str] = if user_data { &["meta-data/", "user-data"] } else { &["meta-data/"] };
                Ok(Some(listing(names)))
            }
            ["user-data"] => self.user_data(s).await,
            ["meta-data", path @ ..] => {
                let tree = self.ec2_tree(s, port).await?;
                Ok(path.iter().try_fold(&tree, |at, part| at.get(*part)).and_then(ec2_item))
            }
            _ => Ok(None),
        }
    }

    /// EC2's `meta-data`, for a request that came through `port`.
    async fn ec2_tree(&self, s: &Server, port: Option<&Port>) -> Result<Value, ComputeError> {
        let (mut local, mut public, mut groups) = (String::new(), String::new(), String::new());
        if let Some(port) = port {
            local = port.fixed_ips.first().map(|ip| ip.ip_address.to_string()).unwrap_or_default();
            let floating = self.networks.floating_ips_of_port(&port.meta.id).await?;
            public = floating.first().map(|f| f.floating_ip_address.to_string()).unwrap_or_default();
            groups = self.networks.security_group_names(&port.security_groups).await?.join("\n");
        }
        let host = self.full_hostname(s);
        let mut tree = json!({
            "ami-id": format!("ami-{}", s.image_id.get(..8).unwrap_or("00000000")),
            "ami-launch-index": s.launch_index.to_string(),
            "ami-manifest-path": "",
            "block-device-mapping": {"ami": "vda", "root": s.root_device},
            "hostname": host,
            "instance-action": "none",
            "instance-id": format!("i-{}", &s.id.replace('-', "")[..8]),
            "instance-type": s.flavor.name,
            "local-hostname": host,
            "local-ipv4": local,
            "placement": {"availability-zone": self.host(&s.host).await?.zone},
            "public-hostname": host,
            "public-ipv4": public,
            "reservation-id": s.reservation_id,
            "security-groups": groups,
        });
        if let (Some(name), Some(key)) = (&s.key_name, &s.public_key) {
            let key = json!({SHOWN_AS: format!("0={name}"), "openssh-key": format!("{key}\n")});
            tree["public-keys"] = json!({"0": key});
        }
        Ok(tree)
    }
}

/// The key, in an item of EC2's tree, of what a listing calls it.
const SHOWN_AS: &str = "_name";

/// A text of EC2's tree, or the names of what is below.
fn ec2_item(item: &Value) -> Option<Document> {
    let below = match item {
        Value::Object(below) => below,
        other => return Some((TEXT, other.as_str()?.as_bytes().to_vec())),
    };
    let mut names: Vec<_> = below
        .iter()
        .filter(|(name, _)| *name != SHOWN_AS)
        .map(|(name, item)| match item.get(SHOWN_AS).and_then(Value::as_str) {
            Some(shown) => shown.to_owned(),
            None if item.is_object() => format!("{name}/"),
            None => name.clone(),
        })
        .collect();
    names.sort_unstable();
    Some((TEXT, names.join("\n").into_bytes()))
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
