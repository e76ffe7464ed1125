//! What the nouns do, seen through the API and in OVN's northbound database: ports, security groups, routers,
//! floating IPs, IPv6.

mod common;

use common::{ADMIN, T, ctx, id, worlds};
use netagent::Binding;
use serde_json::{Value, json};

#[tokio::test]
async fn security_groups_and_rules() {
    for w in worlds().await {
        let groups = w.api.ok(T, "GET", "/v2.0/security-groups", None).await;
        let default = &groups["security_groups"][0];
        assert_eq!(
            (&default["name"], groups["security_groups"].as_array().unwrap().len()),
            (&json!("default"), 1)
        );
        let rules = default["security_group_rules"].as_array().unwrap();
        assert_eq!(rules.len(), 4);
        assert_eq!(
            rules
                .iter()
                .filter(|r| r["direction"] == "ingress" && r["remote_group_id"] == default["id"])
                .count(),
            2
        );
        let path = format!("/v2.0/security-groups/{}", id(default));
        w.api.refused(T, "DELETE", &path, None, 409, "SecurityGroupCannotRemoveDefault").await;
        w.api
            .refused(
                T,
                "PUT",
                &path,
                Some(json!({"security_group": {"name": "x"}})),
                409,
                "SecurityGroupCannotUpdateDefault",
            )
            .await;
        w.api
            .refused(
                T,
                "POST",
                "/v2.0/security-groups",
                Some(json!({"security_group": {"name": "default"}})),
                409,
                "SecurityGroupDefaultAlreadyExists",
            )
            .await;
        let g = w
            .api
            .ok(T, "POST", "/v2.0/security-groups", Some(json!({"security_group": {"name": "web"}})))
            .await["security_group"]
            .clone();
        assert_eq!(g["security_group_rules"].as_array().unwrap().len(), 2);
        let rule = |more: Value| {
            let mut rule = json!({"security_group_id": id(&g), "direction": "ingress"});
            rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Some(json!({ "security_group_rule": rule }))
        };
        let tcp = json!({"protocol": "tcp", "port_range_min": 80, "port_range_max": 81, "remote_ip_prefix": "10.0.0.5/8"});
        let made =
            w.api.ok(T, "POST", "/v2.0/security-group-rules", rule(tcp.clone())).await["security_group_rule"]
                .clone();
        assert_eq!(
            (&made["ethertype"], &made["remote_ip_prefix"], &made["normalized_cidr"]),
            (&json!("IPv4"), &json!("10.0.0.5/8"), &json!("10.0.0.0/8"))
        );
        w.api
            .refused(T, "POST", "/v2.0/security-group-rules", rule(tcp), 409, "SecurityGroupRuleExists")
            .await;
        for (more, kind) in [
            (
                json!({"protocol": "tcp", "port_range_min": 9, "port_range_max": 8}),
                "SecurityGroupInvalidPortRange",
            ),
            (json!({"port_range_min": 1, "port_range_max": 8}), "SecurityGroupProtocolRequiredWithPorts"),
            (json!({"protocol": "nonsense"}), "SecurityGroupRuleInvalidProtocol"),
            (
                json!({"protocol": "tcp", "port_range_min": -16, "port_range_max": 80}),
                "SecurityGroupInvalidPortValue",
            ),
            (
                json!({"protocol": "tcp", "port_range_min": 80, "port_range_max": 65536}),
                "SecurityGroupInvalidPortValue",
            ),
            (json!({"protocol": "icmp", "port_range_min": -1}), "SecurityGroupInvalidPortValue"),
            (json!({"protocol": "icmp", "port_range_max": 3}), "SecurityGroupMissingIcmpType"),
            (json!({"protocol": "icmp", "port_range_min": 300}), "SecurityGroupInvalidIcmpValue"),
            (json!({"ethertype": "IPv5"}), "SecurityGroupRuleInvalidEtherType"),
            (
                json!({"ethertype": "IPv6", "remote_ip_prefix": "10.0.0.0/8"}),
                "SecurityGroupRuleParameterConflict",
            ),
            (
                json!({"remote_group_id": id(&g), "remote_ip_prefix": "10.0.0.0/8"}),
                "SecurityGroupMultipleRemoteEntities",
            ),
        ] {
            w.api.refused(T, "POST", "/v2.0/security-group-rules", rule(more), 400, kind).await;
        }
        w.api
            .refused(
                T,
                "POST",
                "/v2.0/security-group-rules",
                rule(json!({"remote_group_id": state::new_id()})),
                404,
                "SecurityGroupNotFound",
            )
            .await;
        let acls = w.ovn.nb(&["--bare", "--columns=match", "list", "ACL"]);
        let name = format!("pg_{}", id(&g).replace('-', "_"));
        assert!(
            acls.contains(&format!(
                "outport == @{name} && ip4 && ip4.src == 10.0.0.0/8 && tcp && tcp.dst >= 80 && tcp.dst <= 81"
            )),
            "{acls}"
        );
        let ids = w
            .networks
            .security_group_ids(&ctx("member", "p1"), &["web".into(), "default".into()])
            .await
            .unwrap();
        assert_eq!(w.networks.security_group_names(&ids).await.unwrap(), ["web", "default"]);
        assert!(
            w.networks
                .security_group_ids(&ctx("member", "p1"), &["none".into()])
                .await
                .unwrap_err()
                .is_not_found()
        );
        w.api.ok(T, "DELETE", &format!("/v2.0/security-groups/{}", id(&g)), None).await;
        assert!(!w.ovn.nb(&["--bare", "--columns=match", "list", "ACL"]).contains(&name));
    }
}

#[tokio::test]
async fn ports_change_and_ovn_with_them() {
    for w in worlds().await {
        let n = id(&w.network(json!({"dns_domain": "example.org."})).await);
        let s = id(&w.subnet(&n, "10.0.0.0/24").await);
        let p = w.port(json!({"network_id": n, "dns_name": "web", "fixed_ips": [{"subnet_id": s, "ip_address": "10.0.0.50"}],
            "allowed_address_pairs": [{"ip_address": "10.0.0.99"}],
            "extra_dhcp_opts": [{"opt_name": "domain-name", "opt_value": "example.org"}]})).await;
        let lsp = |column: &str| {
            w.ovn.nb(&["--bare", &format!("--columns={column}"), "list", "Logical_Switch_Port", &id(&p)])
        };
        let mac = p["mac_address"].as_str().unwrap();
        assert!(mac.starts_with("fa:16:3e:"));
        assert_eq!(lsp("addresses").trim(), format!("{mac} 10.0.0.50"));
        assert_eq!(lsp("port_security").trim(), format!("{mac} 10.0.0.50 10.0.0.99"));
        assert!(w.ovn.nb(&["list", "DHCP_Options"]).contains("domain_name"));
        assert!(w.ovn.nb(&["list", "DNS"]).contains("web.example.org"));
        assert_eq!(p["allowed_address_pairs"][0]["mac_address"], mac);
        let path = format!("/v2.0/ports/{}", id(&p));
        let body = json!({"port": {"fixed_ips": [{"subnet_id": s}], "name": "x", "allowed_address_pairs": [],
            "extra_dhcp_opts": [{"opt_name": "domain-name", "opt_value": null}]}});
        let changed = w.api.ok(T, "PUT", &path, Some(body)).await["port"].clone();
        assert_eq!(changed["fixed_ips"][0]["ip_address"], "10.0.0.3");
        assert_eq!(lsp("port_security").trim(), format!("{mac} 10.0.0.3"));
        assert!(!w.ovn.nb(&["list", "DHCP_Options"]).contains("domain_name"));
        let conflict = json!({"port": {"network_id": n, "mac_address": mac}});
        w.api.refused(T, "POST", "/v2.0/ports", Some(conflict), 409, "MacAddressInUse").await;
        let open = json!({"port": {"port_security_enabled": false}});
        w.api.refused(T, "PUT", &path, Some(open), 400, "PortSecurityAndIPRequiredForSecurityGroups").await;
        let open = json!({"port": {"port_security_enabled": false, "security_groups": []}});
        w.api.ok(T, "PUT", &path, Some(open)).await;
        assert!(lsp("addresses").contains("unknown") && lsp("port_security").trim().is_empty());
        assert_eq!(
            w.ovn.nb(&["--bare", "--columns=ports", "list", "Port_Group", "neutron_pg_drop"]).trim(),
            ""
        );
        // DHCP off and on again
        let subnet = format!("/v2.0/subnets/{s}");
        w.api.ok(T, "PUT", &subnet, Some(json!({"subnet": {"enable_dhcp": false}}))).await;
        assert_eq!(w.ovn.nb(&["--bare", "--columns=_uuid", "list", "DHCP_Options"]).trim(), "");
        w.api.ok(T, "PUT", &subnet, Some(json!({"subnet": {"enable_dhcp": true}}))).await;
        assert!(!lsp("dhcpv4_options").trim().is_empty());
        let member = ctx("member", "p1");
        let service = api::Context::service("compute");
        let port = id(&p);
        let bind = |host: &str, device: &str| Binding {
            host: host.into(),
            device_id: device.into(),
            device_owner: "compute:nova".into(),
        };
        w.networks.bind_port(&service, &port, &bind("h1", "server-1")).await.unwrap();
        assert!(
            w.networks.bind_port(&service, &port, &bind("h1", "server-2")).await.is_err(),
            "one device a port"
        );
        assert_eq!(w.networks.ports_of_host("h1").await.unwrap().len(), 1);
        assert_eq!(w.networks.ports_of_device("server-1").await.unwrap().len(), 1);
        let found = w.networks.port_by_network_ip(&n, "10.0.0.3".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(found.meta.id, port);
        let seen = w.api.ok(ADMIN, "GET", &path, None).await;
        assert_eq!(
            (&seen["port"]["binding:host_id"], &seen["port"]["binding:vif_type"]),
            (&json!("h1"), &json!("ovs"))
        );
        w.networks.bind_port(&service, &port, &Binding::default()).await.unwrap();
        assert_eq!(w.networks.project_networks(&member).await.unwrap().len(), 1);
        w.networks.delete_port(&member, &port, None).await.unwrap();
        assert_eq!(w.ovn.nb(&["--bare", "--columns=_uuid", "list", "DNS"]).trim(), "");
    }
}

#[tokio::test]
async fn routers_and_floating_ips() {
    for w in worlds().await {
        let (external, outside) = w.external().await;
        let n = id(&w.network(json!({})).await);
        let s = id(&w.subnet(&n, "10.0.0.0/24").await);
        let p = id(&w.port(json!({ "network_id": n })).await);
        let fip_body = |port: Option<&str>| {
            Some(json!({"floatingip": {"floating_network_id": external, "port_id": port}}))
        };
        w.api
            .refused(
                T,
                "POST",
                "/v2.0/floatingips",
                fip_body(Some(&p)),
                404,
                "ExternalGatewayForFloatingIPNotFound",
            )
            .await;
        let body = json!({"router": {"name": "r", "external_gateway_info": {"network_id": n}}});
        w.api.refused(T, "POST", "/v2.0/routers", Some(body), 400, "BadRequest").await;
        let body = json!({"router": {"name": "r", "external_gateway_info": {"network_id": external}}});
        let r = w.api.ok(T, "POST", "/v2.0/routers", Some(body)).await["router"].clone();
        assert_eq!(r["external_gateway_info"]["enable_snat"], true);
        assert_eq!(r["external_gateway_info"]["external_fixed_ips"][0]["subnet_id"], json!(outside));
        let path = format!("/v2.0/routers/{}", id(&r));
        w.api.ok(T, "PUT", &format!("{path}/add_router_interface"), Some(json!({ "subnet_id": s }))).await;
        let fip = w.api.ok(T, "POST", "/v2.0/floatingips", fip_body(Some(&p))).await["floatingip"].clone();
        assert_eq!(
            (&fip["status"], &fip["router_id"], &fip["fixed_ip_address"]),
            (&json!("ACTIVE"), &r["id"], &json!("10.0.0.3"))
        );
        assert_eq!(fip["port_details"]["network_id"], json!(n));
        w.api
            .refused(
                T,
                "POST",
                "/v2.0/floatingips",
                fip_body(Some(&p)),
                409,
                "FloatingIPPortAlreadyAssociated",
            )
            .await;
        let nat = w.ovn.nb(&["--bare", "--columns=type,external_ip,logical_ip", "list", "NAT"]);
        assert!(nat.contains("dnat_and_snat") && nat.contains("10.0.0.0/24"), "{nat}");
        let routes = json!({"router": {"routes": [{"destination": "10.8.0.0/16", "nexthop": "10.0.0.77"}]}});
        w.api.ok(T, "PUT", &path, Some(routes)).await;
        assert!(w.ovn.nb(&["list", "Logical_Router_Static_Route"]).contains("10.8.0.0/16"));
        let bad = json!({"router": {"routes": [{"destination": "10.8.0.0/16", "nexthop": "10.7.0.77"}]}});
        w.api.refused(T, "PUT", &path, Some(bad), 400, "InvalidRoutes").await;
        w.api.ok(T, "PUT", &path, Some(json!({"router": {"routes": []}}))).await;
        // the port's end is the association's
        w.api.ok(T, "DELETE", &format!("/v2.0/ports/{p}"), None).await;
        let after = w.api.ok(T, "GET", &format!("/v2.0/floatingips/{}", id(&fip)), None).await;
        assert_eq!(
            (&after["floatingip"]["status"], &after["floatingip"]["port_id"]),
            (&json!("DOWN"), &json!(null))
        );
        assert!(!w.ovn.nb(&["list", "NAT"]).contains("dnat_and_snat"));
        w.api
            .refused(ADMIN, "DELETE", &format!("/v2.0/networks/{external}"), None, 409, "NetworkInUse")
            .await;
        w.api.ok(T, "DELETE", &format!("/v2.0/floatingips/{}", id(&fip)), None).await;
        w.api.ok(T, "PUT", &format!("{path}/remove_router_interface"), Some(json!({ "subnet_id": s }))).await;
        w.api.ok(T, "PUT", &path, Some(json!({"router": {"external_gateway_info": {}}}))).await;
        w.api.ok(T, "DELETE", &path, None).await;
        // a floating IP that nobody uses goes with its network
        let idle = w.api.ok(T, "POST", "/v2.0/floatingips", fip_body(None)).await;
        w.api.ok(ADMIN, "DELETE", &format!("/v2.0/networks/{external}"), None).await;
        let path = format!("/v2.0/floatingips/{}", id(&idle["floatingip"]));
        w.api.refused(T, "GET", &path, None, 404, "FloatingIPNotFound").await;
    }
}

#[tokio::test]
async fn ipv6_subnets() {
    for w in worlds().await {
        let n = id(&w.network(json!({})).await);
        let body = json!({"subnet": {"network_id": n, "ip_version": 6, "cidr": "fd00:1::/64", "ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}});
        let s = w.api.ok(T, "POST", "/v2.0/subnets", Some(body)).await["subnet"].clone();
        assert_eq!(s["gateway_ip"], "fd00:1::1");
        let p = w.port(json!({ "network_id": n })).await;
        let ip = p["fixed_ips"][0]["ip_address"].as_str().unwrap();
        assert!(ip.starts_with("fd00:1::") && ip.contains("ff:fe"), "{ip}");
        let body = json!({"subnet": {"network_id": n, "ip_version": 6, "cidr": "fd00:2::/80", "ipv6_address_mode": "slaac"}});
        w.api.refused(T, "POST", "/v2.0/subnets", Some(body), 400, "InvalidInput").await;
        let body = json!({"subnet": {"network_id": n, "ip_version": 6, "cidr": "fd00:3::/64", "ipv6_ra_mode": "dhcpv6-stateful", "ipv6_address_mode": "dhcpv6-stateful"}});
        w.api.ok(T, "POST", "/v2.0/subnets", Some(body)).await;
        assert!(w.ovn.nb(&["list", "DHCP_Options"]).contains("fd00:3::/64"));
        let r = id(&w.api.ok(T, "POST", "/v2.0/routers", Some(json!({"router": {}}))).await["router"]);
        w.api
            .ok(
                T,
                "PUT",
                &format!("/v2.0/routers/{r}/add_router_interface"),
                Some(json!({"subnet_id": id(&s)})),
            )
            .await;
        assert!(w.ovn.nb(&["list", "Logical_Router_Port"]).contains("address_mode=slaac"));
    }
}
