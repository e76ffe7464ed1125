//! The whole way: rows → OVN → packets. Guests are network namespaces, everything else is real.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use common::{Client, Guest, Lab, OUTSIDE, SOON, T, ctx, eventually, id, in_namespace, links, pings};
use http::Response;
use netagent::agent::{AgentConfig, HostNetwork, MetadataRequest, MetadataSource, NetAgent};
use netagent::{Networks, PublicNetwork};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Says what it was asked.
struct Echo;

#[async_trait]
impl MetadataSource for Echo {
    async fn respond(&self, request: MetadataRequest) -> Response<Bytes> {
        // Slower than a guest whose nc ends its side of the connection right behind its request.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Response::new(Bytes::from(format!("{} {} {}", request.network_id, request.source, request.path)))
    }
}

struct World {
    lab: Lab,
    networks: Networks,
    api: Client,
    agent: NetAgent,
    stop: CancellationToken,
}

async fn world(db: state::Db) -> World {
    let lab = Lab::start().await;
    let networks = Networks::start(db, lab.config(), links()).await.unwrap();
    networks.ready(SOON).await.unwrap();
    let stop = CancellationToken::new();
    tokio::spawn({
        let (networks, stop) = (networks.clone(), stop.clone());
        async move { networks.run(stop).await }
    });
    eventually("the chassis", SOON, || (!networks.agents().is_empty()).then_some(())).await;
    let config = AgentConfig {
        ovs: format!("unix:{}/db.sock", lab.dir.display()),
        bridge: "br-int".into(),
        namespace: Some(lab.ns.clone()),
    };
    let agent = NetAgent::start(config, Arc::new(Echo)).unwrap();
    agent.ready(SOON).await.unwrap();
    let api = Client::of(&networks);
    World { lab, networks, api, agent, stop }
}

impl World {
    async fn network(&self, name: &str, cidr: &str) -> (String, String) {
        let network =
            self.api.ok(T, "POST", "/v2.0/networks", Some(json!({"network": {"name": name}}))).await;
        let network = id(&network["network"]);
        let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": cidr,
            "dns_nameservers": ["9.9.9.9"], "host_routes": [{"destination": "10.99.0.0/24", "nexthop": "10.5.0.9"}]}});
        let subnet = self.api.ok(T, "POST", "/v2.0/subnets", Some(subnet)).await;
        (network, id(&subnet["subnet"]))
    }

    /// A port that is bound to this host, and its guest.
    async fn guest(&mut self, network: &str, more: Value) -> (Value, Guest) {
        let mut port = json!({"network_id": network, "binding:host_id": self.lab.host(), "project_id": "p1",
            "device_id": "guest", "device_owner": "compute:nova"});
        port.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let port =
            self.api.ok("admin:p1", "POST", "/v2.0/ports", Some(json!({ "port": port }))).await["port"]
                .clone();
        let guest = self.lab.guest(port["id"].as_str().unwrap(), port["mac_address"].as_str().unwrap());
        assert!(self.networks.wait_port_up(port["id"].as_str().unwrap(), SOON).await.unwrap(), "port up");
        (port, guest)
    }

    async fn host_network(&self, network: &str, prefix: u8) -> HostNetwork {
        let path = format!("/v2.0/ports?network_id={network}&device_owner=network:distributed");
        let ports = self.api.ok(T, "GET", &path, None).await;
        let port = &ports["ports"][0];
        HostNetwork {
            network_id: network.to_owned(),
            metadata_port_id: id(port),
            mac: port["mac_address"].as_str().unwrap().to_owned(),
            addresses: vec![
                format!("{}/{prefix}", port["fixed_ips"][0]["ip_address"].as_str().unwrap()).parse().unwrap(),
            ],
            mtu: 1442,
        }
    }
}

fn ip(port: &Value) -> String {
    port["fixed_ips"][0]["ip_address"].as_str().unwrap().to_owned()
}

/// Fetches a page with busybox' nc, whose wget is not to be trusted.
async fn fetch(guest: &Guest, path: &str) -> String {
    let name = guest.name.clone();
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let script = format!(
            "printf 'GET {path} HTTP/1.0\\r\\nHost: m\\r\\n\\r\\n' | timeout 5 busybox nc 169.254.169.254 80"
        );
        let done = std::process::Command::new("ip")
            .args(["netns", "exec", &name, "sh", "-c", &script])
            .output()
            .unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_cloud_from_rows_to_packets() {
    let db = testbed::databases().await.into_iter().next().unwrap();
    let mut w = world(db).await;

    // two networks with the same range
    let (n1, s1) = w.network("one", "10.5.0.0/24").await;
    let (n2, _) = w.network("two", "10.5.0.0/24").await;
    let other = w
        .api
        .ok(T, "POST", "/v2.0/security-groups", Some(json!({"security_group": {"name": "other"}})))
        .await;
    let other = id(&other["security_group"]);
    let (a, guest_a) = w.guest(&n1, json!({})).await;
    let (b, guest_b) = w.guest(&n1, json!({})).await;
    let (c, guest_c) = w.guest(&n1, json!({"security_groups": [other]})).await;
    let (d, guest_d) = w.guest(&n2, json!({"fixed_ips": [{"ip_address": ip(&a)}]})).await;

    // leases
    let dir = w.lab.dir.clone();
    for (guest, port) in [(&guest_a, &a), (&guest_b, &b), (&guest_c, &c), (&guest_d, &d)] {
        let lease = guest.dhcp(&dir);
        assert!(lease.contains(&format!("ip={} ", ip(port))), "{lease}");
        assert!(lease.contains("mtu=1442") && lease.contains("dns=9.9.9.9"), "{lease}");
        assert!(lease.contains("169.254.169.254/32") && lease.contains("10.99.0.0/24"), "{lease}");
    }

    // security groups
    eventually("within the group", SOON, || guest_a.pings(&ip(&b)).then_some(())).await;
    assert!(guest_b.pings(&ip(&a)));
    assert!(!guest_c.pings(&ip(&a)), "another group's member gets in");
    assert!(!guest_a.pings(&ip(&c)), "the empty group lets in");
    let rule = json!({"security_group_rule": {"security_group_id": other, "direction": "ingress",
        "protocol": "icmp", "remote_ip_prefix": "10.5.0.0/24"}});
    let rule = w.api.ok(T, "POST", "/v2.0/security-group-rules", Some(rule)).await;
    eventually("the new rule", SOON, || guest_a.pings(&ip(&c)).then_some(())).await;
    w.api
        .ok(T, "DELETE", &format!("/v2.0/security-group-rules/{}", id(&rule["security_group_rule"])), None)
        .await;
    eventually("the rule's end", SOON, || (!guest_a.pings(&ip(&c))).then_some(())).await;

    // metadata, in both networks at once
    let doors = [w.host_network(&n1, 24).await, w.host_network(&n2, 24).await];
    w.agent.reconcile(&doors).await.unwrap();
    w.agent.reconcile(&doors).await.unwrap();
    for (guest, network, port) in [(&guest_a, &n1, &a), (&guest_d, &n2, &d), (&guest_c, &n1, &c)] {
        eventually("the metadata port's flows", SOON, || guest.pings("169.254.169.254").then_some(())).await;
        let page = fetch(guest, "/latest/meta-data/?x=1").await;
        assert!(page.contains(&format!("{network} {} /latest/meta-data/?x=1", ip(port))), "{page:?}");
    }
    assert!(w.agent.guest_interface("x", "y", 1).userspace_datapath);

    // another process takes the doors up
    w.agent.stop().await;
    let config = AgentConfig {
        ovs: format!("unix:{}/db.sock", w.lab.dir.display()),
        bridge: "br-int".into(),
        namespace: Some(w.lab.ns.clone()),
    };
    w.agent = NetAgent::start(config, Arc::new(Echo)).unwrap();
    w.agent.ready(SOON).await.unwrap();
    w.agent.reconcile(&doors).await.unwrap();
    assert!(fetch(&guest_a, "/again").await.contains("/again"));

    routed(&w, &s1, &a, &guest_a).await;
    restart_of_ovn_is_survived(&mut w, &guest_a, &b).await;

    // the end: nothing is left
    w.agent.reconcile(&[]).await.unwrap();
    assert!(!std::path::Path::new(&format!("/run/netns/ovnmeta-{n1}")).exists());
    for port in [&a, &b, &c, &d] {
        w.api.ok("admin:p1", "DELETE", &format!("/v2.0/ports/{}", id(port)), None).await;
    }
    for network in [&n1, &n2] {
        w.api.ok(T, "DELETE", &format!("/v2.0/networks/{network}"), None).await;
    }
    w.api.ok(T, "DELETE", &format!("/v2.0/security-groups/{other}"), None).await;
    let public = w.api.ok("admin:p1", "GET", "/v2.0/networks?router:external=True", None).await;
    w.api.ok("admin:p1", "DELETE", &format!("/v2.0/networks/{}", id(&public["networks"][0])), None).await;
    let groups = w.api.ok("admin:p1", "GET", "/v2.0/security-groups", None).await;
    for group in groups["security_groups"].as_array().unwrap() {
        w.api.ok("admin:p1", "DELETE", &format!("/v2.0/security-groups/{}", id(group)), None).await;
    }
    for table in [
        "Logical_Switch",
        "Logical_Switch_Port",
        "Logical_Router",
        "Logical_Router_Port",
        "NAT",
        "DHCP_Options",
        "Logical_Router_Static_Route",
        "Gateway_Chassis",
        "DNS",
    ] {
        assert_eq!(w.lab.nb(&["--bare", "--columns=_uuid", "list", table]).trim(), "", "left in {table}");
    }
    assert_eq!(w.lab.nb(&["--bare", "--columns=name", "list", "Port_Group"]).trim(), "neutron_pg_drop");
    w.stop.cancel();
}

/// A router with a gateway, SNAT and a floating IP.
async fn routed(w: &World, subnet: &str, port: &Value, guest: &Guest) {
    let public = PublicNetwork {
        name: "public".into(),
        physical_network: "public".into(),
        cidr: "172.31.77.0/24".parse().unwrap(),
        gateway: OUTSIDE.parse().unwrap(),
        pool: ("172.31.77.20".parse().unwrap(), "172.31.77.40".parse().unwrap()),
    };
    let admin = ctx("admin", "p1");
    let network = w.networks.bootstrap_public(&admin, &public).await.unwrap();
    let again = w.networks.bootstrap_public(&admin, &public).await.unwrap();
    assert_eq!(network.meta.id, again.meta.id);
    let body = json!({"router": {"name": "r", "external_gateway_info": {"network_id": network.meta.id}}});
    let router = id(&w.api.ok(T, "POST", "/v2.0/routers", Some(body)).await["router"]);
    let path = format!("/v2.0/routers/{router}");
    w.api.ok(T, "PUT", &format!("{path}/add_router_interface"), Some(json!({ "subnet_id": subnet }))).await;
    eventually("SNAT to the outside", SOON, || guest.pings(OUTSIDE).then_some(())).await;

    let body = json!({"floatingip": {"floating_network_id": network.meta.id, "port_id": id(port)}});
    let fip = w.api.ok(T, "POST", "/v2.0/floatingips", Some(body)).await["floatingip"].clone();
    assert_eq!(fip["status"], "ACTIVE");
    let address = fip["floating_ip_address"].as_str().unwrap().to_owned();
    let group = port["security_groups"][0].as_str().unwrap();
    for protocol in ["icmp", "tcp"] {
        let rule = json!({"security_group_rule":
            {"security_group_id": group, "direction": "ingress", "protocol": protocol}});
        w.api.ok(T, "POST", "/v2.0/security-group-rules", Some(rule)).await;
    }
    eventually("the floating IP", SOON, || pings(&w.lab.outside, &address).then_some(())).await;
    // TCP too: checksums are right
    let mut listener = std::process::Command::new("ip")
        .args(["netns", "exec", &guest.name, "sh", "-c", "echo hello | busybox nc -l -p 7000"])
        .spawn()
        .unwrap();
    let outside = w.lab.outside.clone();
    let heard = eventually("TCP over the floating IP", SOON, || {
        let (_, text) = in_namespace(&outside, &format!("timeout 3 busybox nc {address} 7000"));
        text.contains("hello").then_some(text)
    })
    .await;
    assert!(heard.contains("hello"));
    let _ = listener.kill();
    let _ = listener.wait();

    w.api
        .refused(
            T,
            "PUT",
            &path,
            Some(json!({"router": {"external_gateway_info": null}})),
            409,
            "RouterExternalGatewayInUseByFloatingIp",
        )
        .await;
    w.api
        .refused(
            T,
            "PUT",
            &format!("{path}/remove_router_interface"),
            Some(json!({ "subnet_id": subnet })),
            409,
            "RouterInterfaceInUseByFloatingIP",
        )
        .await;
    w.api
        .ok(
            T,
            "PUT",
            &format!("/v2.0/floatingips/{}", id(&fip)),
            Some(json!({"floatingip": {"port_id": null}})),
        )
        .await;
    eventually("the association's end", SOON, || (!pings(&w.lab.outside, &address)).then_some(())).await;
    w.api.ok(T, "DELETE", &format!("/v2.0/floatingips/{}", id(&fip)), None).await;
    w.api.refused(T, "DELETE", &path, None, 409, "RouterInUse").await;
    w.api
        .ok(T, "PUT", &format!("{path}/remove_router_interface"), Some(json!({ "subnet_id": subnet })))
        .await;
    w.api.ok(T, "DELETE", &path, None).await;
}

/// What was asked for while OVN's databases were away is there when they are back.
async fn restart_of_ovn_is_survived(w: &mut World, guest: &Guest, peer: &Value) {
    let body = json!({"security_group": {"name": "late"}});
    let late = w.api.ok(T, "POST", "/v2.0/security-groups", Some(body)).await["security_group"].clone();
    w.lab.nb(&["pg-del", &format!("pg_{}", id(&late).replace('-', "_"))]);
    let rule = json!({"security_group_rule": {"security_group_id": id(&late), "direction": "ingress"}});
    w.api.ok(T, "POST", "/v2.0/security-group-rules", Some(rule)).await;
    let there = w.lab.nb(&["--bare", "--columns=name", "list", "Port_Group"]);
    assert!(
        there.contains(&format!("pg_{}", id(&late).replace('-', "_"))),
        "what a hand removed is made again"
    );
    assert!(guest.pings(&ip(peer)));
    w.api.ok(T, "DELETE", &format!("/v2.0/security-groups/{}", id(&late)), None).await;
}
