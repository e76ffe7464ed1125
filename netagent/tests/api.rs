//! The Neutron API over rows and OVN's northbound database, on every database engine: wire form, refusals,
//! other tenants, quotas, concurrency. No packets here; see `cloud.rs` for those.

mod common;

use std::collections::HashSet;
use std::time::Duration;

use common::{ADMIN, OTHER, SOON, T, id, worlds};
use http::StatusCode;
use netagent::{NetworkFields, NewPort, PortFields, SubnetFields};
use serde_json::{Value, json};

#[tokio::test]
async fn networks_have_upstreams_form() {
    for w in worlds().await {
        let (status, answer) = w
            .api
            .call(T, "POST", "/v2.0/networks", Some(json!({"network": {"name": "n", "description": "d"}})))
            .await;
        assert_eq!(status, StatusCode::CREATED);
        let n = &answer["network"];
        for (key, value) in [
            ("name", json!("n")),
            ("description", json!("d")),
            ("status", json!("ACTIVE")),
            ("admin_state_up", json!(true)),
            ("shared", json!(false)),
            ("router:external", json!(false)),
            ("mtu", json!(1442)),
            ("port_security_enabled", json!(true)),
            ("subnets", json!([])),
            ("project_id", json!("p1")),
            ("tenant_id", json!("p1")),
            ("revision_number", json!(1)),
            ("tags", json!([])),
            ("availability_zone_hints", json!([])),
            ("dns_domain", json!("")),
        ] {
            assert_eq!(n[key], value, "{key}");
        }
        assert!(n.get("provider:network_type").is_none(), "a member does not see the provider's attributes");
        let path = format!("/v2.0/networks/{}", id(n));
        let seen = w.api.ok(ADMIN, "GET", &path, None).await;
        assert_eq!(seen["network"]["provider:network_type"], "geneve");
        let (status, answer) = w.api.call(T, "PUT", &path, Some(json!({"network": {"name": "m"}}))).await;
        assert_eq!((status, &answer["network"]["name"]), (StatusCode::OK, &json!("m")));
        assert_eq!(answer["network"]["revision_number"], 2);
        let stale = [("if-match", "revision_number=1")];
        let body = json!({"network": {"name": "x"}}).to_string();
        let (status, answer) = w.api.call_with(T, "PUT", &path, Some(body), &stale).await;
        assert_eq!(status, StatusCode::PRECONDITION_FAILED, "{answer}");
        let fields = w.api.ok(T, "GET", &format!("{path}?fields=id&fields=name"), None).await;
        assert_eq!(fields["network"], json!({"id": id(n), "name": "m"}));
        let (status, _) = w.api.call(T, "DELETE", &path, None).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        w.api.refused(T, "GET", &path, None, 404, "NetworkNotFound").await;
        assert_eq!(w.ovn.nb(&["--bare", "--columns=name", "list", "Logical_Switch"]).trim(), "");
    }
}

#[tokio::test]
async fn bad_bodies_are_400_in_neutrons_form() {
    for w in worlds().await {
        let n = id(&w.network(json!({"name": "n"})).await);
        for (path, body, kind) in [
            ("/v2.0/networks", json!({}), "HTTPBadRequest"),
            ("/v2.0/networks", json!([]), "HTTPBadRequest"),
            ("/v2.0/networks", json!({"network": 5}), "HTTPBadRequest"),
            ("/v2.0/networks", json!({"network": {"nonsense": 1}}), "HTTPBadRequest"),
            ("/v2.0/networks", json!({"network": {"id": n}}), "HTTPBadRequest"),
            ("/v2.0/networks", json!({"network": {"name": "x".repeat(256)}}), "HTTPBadRequest"),
            ("/v2.0/networks", json!({"network": {"name": 7}}), "HTTPBadRequest"),
            ("/v2.0/networks", json!({"network": {"admin_state_up": "maybe"}}), "HTTPBadRequest"),
            ("/v2.0/networks", json!({"network": {"mtu": -1}}), "HTTPBadRequest"),
            ("/v2.0/networks", json!({"network": {"project_id": "p2"}}), "HTTPBadRequest"),
            ("/v2.0/subnets", json!({"subnet": {"ip_version": 4}}), "HTTPBadRequest"),
            ("/v2.0/subnets", json!({"subnet": {"network_id": n, "ip_version": 5}}), "HTTPBadRequest"),
            ("/v2.0/subnets", json!({"subnet": {"network_id": n, "ip_version": 4}}), "BadRequest"),
            (
                "/v2.0/subnets",
                json!({"subnet": {"network_id": n, "ip_version": 4, "cidr": "x"}}),
                "HTTPBadRequest",
            ),
            (
                "/v2.0/subnets",
                json!({"subnet": {"network_id": n, "ip_version": 6, "cidr": "10.0.0.0/8"}}),
                "InvalidInput",
            ),
            (
                "/v2.0/subnets",
                json!({"subnet": {"network_id": n, "ip_version": 4, "cidr": "10.0.0.0/24",
                "gateway_ip": "10.0.0.255"}}),
                "InvalidInput",
            ),
            (
                "/v2.0/subnets",
                json!({"subnet": {"network_id": n, "ip_version": 4, "cidr": "10.0.0.0/24",
                "allocation_pools": [{"start": "10.0.0.9", "end": "10.0.1.9"}]}}),
                "OutOfBoundsAllocationPool",
            ),
            ("/v2.0/ports", json!({"port": {}}), "HTTPBadRequest"),
            ("/v2.0/ports", json!({"port": {"network_id": "x"}}), "HTTPBadRequest"),
            ("/v2.0/ports", json!({"port": {"network_id": n, "mac_address": "zz"}}), "HTTPBadRequest"),
            (
                "/v2.0/ports",
                json!({"port": {"network_id": n, "fixed_ips": [{"ip_address": "10.0.0.300"}]}}),
                "HTTPBadRequest",
            ),
            ("/v2.0/ports", json!({"port": {"network_id": n, "fixed_ips": [{"what": 1}]}}), "HTTPBadRequest"),
            ("/v2.0/security-group-rules", json!({"security_group_rule": {}}), "HTTPBadRequest"),
            ("/v2.0/routers", json!({"router": {"external_gateway_info": {"network": 1}}}), "HTTPBadRequest"),
            ("/v2.0/floatingips", json!({"floatingip": {}}), "HTTPBadRequest"),
        ] {
            w.api.refused(T, "POST", path, Some(body), 400, kind).await;
        }
        for text in ["", "{", "\u{0}", "nul"] {
            let (status, answer) = w.api.call_with(T, "POST", "/v2.0/networks", Some(text.into()), &[]).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{text:?}");
            assert!(answer["NeutronError"]["message"].is_string());
        }
        let big = json!({"network": {"name": "x".repeat(5 << 20)}}).to_string();
        let (status, _) = w.api.call_with(T, "POST", "/v2.0/networks", Some(big), &[]).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        let list = w.api.ok(T, "GET", "/v2.0/networks", None).await;
        assert_eq!(list["networks"].as_array().unwrap().len(), 1, "nothing was made");
    }
}

#[tokio::test]
async fn another_projects_things_do_not_exist() {
    for w in worlds().await {
        let (external, _) = w.external().await;
        let n = id(&w.network(json!({})).await);
        let s = id(&w.subnet(&n, "10.0.0.0/24").await);
        let p = id(&w.port(json!({ "network_id": n })).await);
        let g = id(&w
            .api
            .ok(T, "POST", "/v2.0/security-groups", Some(json!({"security_group": {"name": "g"}})))
            .await["security_group"]);
        let r = id(&w
            .api
            .ok(
                T,
                "POST",
                "/v2.0/routers",
                Some(json!({"router": {"external_gateway_info": {"network_id": external}}})),
            )
            .await["router"]);
        let f = id(&w
            .api
            .ok(
                T,
                "POST",
                "/v2.0/floatingips",
                Some(json!({"floatingip": {"floating_network_id": external}})),
            )
            .await["floatingip"]);
        let rule = w.api.ok(T, "GET", &format!("/v2.0/security-groups/{g}"), None).await;
        let rule = id(&rule["security_group"]["security_group_rules"][0]);
        for (path, name, kind) in [
            (format!("/v2.0/networks/{n}"), "network", "NetworkNotFound"),
            (format!("/v2.0/subnets/{s}"), "subnet", "SubnetNotFound"),
            (format!("/v2.0/ports/{p}"), "port", "PortNotFound"),
            (format!("/v2.0/security-groups/{g}"), "security_group", "SecurityGroupNotFound"),
            (format!("/v2.0/routers/{r}"), "router", "RouterNotFound"),
            (format!("/v2.0/floatingips/{f}"), "floatingip", "FloatingIPNotFound"),
        ] {
            w.api.refused(OTHER, "GET", &path, None, 404, kind).await;
            w.api
                .refused(OTHER, "PUT", &path, Some(json!({ name: {"description": "mine"} })), 404, kind)
                .await;
            w.api.refused(OTHER, "DELETE", &path, None, 404, kind).await;
            w.api.refused(OTHER, "PUT", &format!("{path}/tags/t"), None, 404, kind).await;
            let reader = w.api.call("reader:p1", "DELETE", &path, None).await;
            assert_eq!(reader.0, StatusCode::FORBIDDEN, "{path}: {}", reader.1);
        }
        let path = format!("/v2.0/security-group-rules/{rule}");
        w.api.refused(OTHER, "GET", &path, None, 404, "SecurityGroupRuleNotFound").await;
        w.api.refused(OTHER, "DELETE", &path, None, 404, "SecurityGroupRuleNotFound").await;
        for (path, body, kind) in [
            (
                "/v2.0/subnets",
                json!({"subnet": {"network_id": n, "ip_version": 4, "cidr": "10.9.0.0/24"}}),
                "NetworkNotFound",
            ),
            ("/v2.0/ports", json!({"port": {"network_id": n}}), "NetworkNotFound"),
            (
                "/v2.0/security-group-rules",
                json!({"security_group_rule": {"security_group_id": g, "direction": "ingress"}}),
                "SecurityGroupNotFound",
            ),
            (
                "/v2.0/floatingips",
                json!({"floatingip": {"floating_network_id": external, "port_id": p}}),
                "PortNotFound",
            ),
        ] {
            w.api.refused(OTHER, "POST", path, Some(body), 404, kind).await;
        }
        for collection in ["networks", "subnets", "ports", "security-groups", "routers", "floatingips"] {
            let list = w.api.ok(OTHER, "GET", &format!("/v2.0/{collection}"), None).await;
            let items = list[collection.replace('-', "_")].as_array().unwrap().clone();
            assert!(items.iter().all(|i| i["project_id"] != "p1"), "{collection}: {items:?}");
        }
        // its own network, somebody else's group
        let n2 = w.api.ok(OTHER, "POST", "/v2.0/networks", Some(json!({"network": {}}))).await;
        let body = json!({"port": {"network_id": id(&n2["network"]), "security_groups": [g]}});
        w.api.refused(OTHER, "POST", "/v2.0/ports", Some(body), 404, "SecurityGroupNotFound").await;
        // everybody sees an external network; only its owner puts ports on it
        w.api.ok(OTHER, "GET", &format!("/v2.0/networks/{external}"), None).await;
        w.api
            .refused(
                OTHER,
                "POST",
                "/v2.0/ports",
                Some(json!({"port": {"network_id": external}})),
                403,
                "PolicyNotAuthorized",
            )
            .await;
        w.api
            .refused(OTHER, "DELETE", &format!("/v2.0/networks/{external}"), None, 403, "PolicyNotAuthorized")
            .await;
    }
}

#[tokio::test]
async fn a_members_limits() {
    for w in worlds().await {
        for (attribute, value) in [
            ("shared", json!(true)),
            ("router:external", json!(true)),
            ("provider:network_type", json!("flat")),
            ("is_default", json!(true)),
        ] {
            let body = json!({"network": { attribute: value }});
            w.api.refused(T, "POST", "/v2.0/networks", Some(body), 403, "PolicyNotAuthorized").await;
        }
        let n = id(&w.network(json!({"shared": false})).await);
        let body = json!({"port": {"network_id": n, "binding:host_id": "h"}});
        w.api.refused(T, "POST", "/v2.0/ports", Some(body), 403, "PolicyNotAuthorized").await;
        assert_eq!(w.api.ok(T, "GET", "/v2.0/agents", None).await, json!({"agents": []}));
        w.api
            .refused(
                T,
                "PUT",
                "/v2.0/quotas/p1",
                Some(json!({"quota": {"port": 1}})),
                403,
                "PolicyNotAuthorized",
            )
            .await;
        let (status, answer) = w.api.call("", "GET", "/v2.0/networks", None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert!(answer["NeutronError"]["type"].is_string(), "{answer}");
        // a shared network: others may put ports on it, but not choose their addresses
        let path = format!("/v2.0/networks/{n}");
        w.api.ok(ADMIN, "PUT", &path, Some(json!({"network": {"shared": true}}))).await;
        w.subnet(&n, "10.0.0.0/24").await;
        let port = w.api.ok(OTHER, "POST", "/v2.0/ports", Some(json!({"port": {"network_id": n}}))).await;
        let body = json!({"port": {"network_id": n, "fixed_ips": [{"ip_address": "10.0.0.77"}]}});
        w.api.refused(OTHER, "POST", "/v2.0/ports", Some(body), 403, "PolicyNotAuthorized").await;
        w.api
            .refused(
                ADMIN,
                "PUT",
                &path,
                Some(json!({"network": {"shared": false}})),
                409,
                "InvalidSharedSetting",
            )
            .await;
        // the network's owner sees the port
        w.api.ok(T, "GET", &format!("/v2.0/ports/{}", id(&port["port"])), None).await;
    }
}

#[tokio::test]
async fn what_is_in_use_stays() {
    for w in worlds().await {
        let n = id(&w.network(json!({})).await);
        let s = w.subnet(&n, "10.0.0.0/24").await;
        let p = w.port(json!({"network_id": n, "name": "p"})).await;
        assert_eq!(
            p["fixed_ips"],
            json!([{"subnet_id": id(&s), "ip_address": "10.0.0.3"}]),
            "2 is metadata's"
        );
        assert_eq!(p["status"], "DOWN");
        w.api.refused(T, "DELETE", &format!("/v2.0/networks/{n}"), None, 409, "NetworkInUse").await;
        w.api.refused(T, "DELETE", &format!("/v2.0/subnets/{}", id(&s)), None, 409, "SubnetInUse").await;
        let group = p["security_groups"][0].as_str().unwrap();
        w.api
            .refused(
                ADMIN,
                "DELETE",
                &format!("/v2.0/security-groups/{group}"),
                None,
                409,
                "SecurityGroupInUse",
            )
            .await;
        let r = w.api.ok(T, "POST", "/v2.0/routers", Some(json!({"router": {}}))).await["router"].clone();
        let path = format!("/v2.0/routers/{}", id(&r));
        let added = w
            .api
            .ok(T, "PUT", &format!("{path}/add_router_interface"), Some(json!({"subnet_id": id(&s)})))
            .await;
        assert_eq!(added["subnet_ids"], json!([id(&s)]));
        let port = added["port_id"].as_str().unwrap();
        w.api.refused(T, "DELETE", &format!("/v2.0/ports/{port}"), None, 409, "ServicePortInUse").await;
        w.api.refused(T, "DELETE", &path, None, 409, "RouterInUse").await;
        w.api
            .refused(
                T,
                "PUT",
                &format!("{path}/add_router_interface"),
                Some(json!({"subnet_id": id(&s)})),
                400,
                "BadRequest",
            )
            .await;
        w.api.ok(T, "PUT", &format!("{path}/remove_router_interface"), Some(json!({"port_id": port}))).await;
        w.api
            .refused(
                T,
                "PUT",
                &format!("{path}/remove_router_interface"),
                Some(json!({"subnet_id": id(&s)})),
                404,
                "RouterInterfaceNotFoundForSubnet",
            )
            .await;
        w.api.ok(T, "DELETE", &path, None).await;
        w.api.ok(T, "DELETE", &format!("/v2.0/ports/{}", id(&p)), None).await;
        // with only the network's own port left, subnets go with the network
        w.api.ok(T, "DELETE", &format!("/v2.0/networks/{n}"), None).await;
        w.api.refused(T, "GET", &format!("/v2.0/subnets/{}", id(&s)), None, 404, "SubnetNotFound").await;
        for table in
            ["Logical_Switch", "Logical_Switch_Port", "Logical_Router", "Logical_Router_Port", "DHCP_Options"]
        {
            assert_eq!(w.ovn.nb(&["--bare", "--columns=_uuid", "list", table]).trim(), "", "left in {table}");
        }
    }
}

#[tokio::test]
async fn addresses_are_never_given_twice() {
    for w in worlds().await {
        let n = id(&w.network(json!({})).await);
        let s = id(&w.subnet(&n, "10.0.0.0/27").await);
        let make = || w.api.call(T, "POST", "/v2.0/ports", Some(json!({"port": {"network_id": n}})));
        let made = futures::future::join_all((0..40).map(|_| make())).await;
        let mut seen = HashSet::new();
        for (status, answer) in &made {
            match status.as_u16() {
                201 => {
                    assert!(seen.insert(answer["port"]["fixed_ips"][0]["ip_address"].to_string()), "{answer}")
                }
                409 => assert_eq!(answer["NeutronError"]["type"], "IpAddressGenerationFailure"),
                _ => panic!("{status} {answer}"),
            }
        }
        assert_eq!(seen.len(), 28, "30 less gateway and metadata");
        let body =
            json!({"port": {"network_id": n, "fixed_ips": [{"subnet_id": s, "ip_address": "10.0.0.9"}]}});
        w.api.refused(T, "POST", "/v2.0/ports", Some(body), 409, "IpAddressAlreadyAllocated").await;
        for (ip, kind) in [
            ("10.0.1.9", "InvalidIpForNetwork"),
            ("10.0.0.31", "InvalidIpForSubnet"),
            ("10.0.0.0", "InvalidIpForSubnet"),
        ] {
            let body = json!({"port": {"network_id": n, "fixed_ips": [{"ip_address": ip}]}});
            w.api.refused(T, "POST", "/v2.0/ports", Some(body), 400, kind).await;
        }
        let usage = w.api.ok(ADMIN, "GET", &format!("/v2.0/network-ip-availabilities/{n}"), None).await;
        assert_eq!(usage["network_ip_availability"]["used_ips"], 29);
        let path = format!("/v2.0/network-ip-availabilities?network_id={n}&ip_version=");
        let listed = w.api.ok(ADMIN, "GET", &format!("{path}4"), None).await;
        assert_eq!(listed["network_ip_availabilities"][0]["used_ips"], 29);
        let listed = w.api.ok(ADMIN, "GET", &format!("{path}6"), None).await;
        assert_eq!(listed["network_ip_availabilities"][0]["total_ips"], 0);
        assert_eq!(usage["network_ip_availability"]["total_ips"], 29);
        let ports = w.api.ok(T, "GET", &format!("/v2.0/ports?network_id={n}"), None).await;
        assert_eq!(ports["ports"].as_array().unwrap().len(), 29, "a refused port leaves nothing");
    }
}

#[tokio::test]
async fn quotas_hold_under_concurrency() {
    for w in worlds().await {
        let quota = w.api.ok(T, "GET", "/v2.0/quotas/p1", None).await;
        assert_eq!(
            (&quota["quota"]["network"], &quota["quota"]["security_group"]),
            (&json!(100), &json!(10))
        );
        w.api.ok(ADMIN, "PUT", "/v2.0/quotas/p1", Some(json!({"quota": {"network": 3, "port": 2}}))).await;
        let make = || w.api.call(T, "POST", "/v2.0/networks", Some(json!({"network": {}})));
        let made = futures::future::join_all((0..8).map(|_| make())).await;
        assert_eq!(made.iter().filter(|(s, _)| s.as_u16() == 201).count(), 3);
        w.api.refused(T, "POST", "/v2.0/networks", Some(json!({"network": {}})), 409, "OverQuota").await;
        let details = w.api.ok(T, "GET", "/v2.0/quotas/p1/details.json", None).await;
        assert_eq!(details["quota"]["network"], json!({"limit": 3, "used": 3, "reserved": 0}));
        let n = w.api.ok(T, "GET", "/v2.0/networks", None).await;
        let body = json!({"ports": [{"network_id": id(&n["networks"][0])}, {"network_id": id(&n["networks"][0])},
            {"network_id": id(&n["networks"][0])}]});
        w.api.refused(T, "POST", "/v2.0/ports", Some(body), 409, "OverQuota").await;
        let ports = w.api.ok(T, "GET", "/v2.0/ports?device_owner=", None).await;
        assert_eq!(ports["ports"], json!([]), "all of a bulk request or nothing");
        w.api.ok(ADMIN, "DELETE", "/v2.0/quotas/p1", None).await;
        w.api.ok(T, "POST", "/v2.0/networks", Some(json!({"network": {}}))).await;
        w.api.refused(OTHER, "GET", "/v2.0/quotas/p1", None, 403, "PolicyNotAuthorized").await;
    }
}

#[tokio::test]
async fn listings_filter_sort_and_page() {
    for w in worlds().await {
        let body =
            json!({"networks": [{"name": "a"}, {"name": "b"}, {"name": "c", "admin_state_up": false}]});
        let made = w.api.ok(T, "POST", "/v2.0/networks", Some(body)).await;
        assert_eq!(made["networks"].as_array().unwrap().len(), 3);
        let names = |answer: &Value| -> Vec<String> {
            answer["networks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|n| n["name"].as_str().unwrap().to_owned())
                .collect()
        };
        for (query, wanted) in [
            ("name=a&name=c&sort_key=name&sort_dir=desc", vec!["c", "a"]),
            ("admin_state_up=False", vec!["c"]),
            ("sort_key=name&sort_dir=asc&limit=2", vec!["a", "b"]),
            ("name=zzz", vec![]),
            ("tenant_id=p1&sort_key=name", vec!["a", "b", "c"]),
            ("shared=True", vec![]),
        ] {
            assert_eq!(
                names(&w.api.ok(T, "GET", &format!("/v2.0/networks?{query}"), None).await),
                wanted,
                "{query}"
            );
        }
        // following the links sees everything once
        let mut path = "/v2.0/networks?limit=1&sort_key=name".to_owned();
        let mut seen = Vec::new();
        loop {
            let page = w.api.ok(T, "GET", &path, None).await;
            seen.extend(names(&page));
            let links = page["networks_links"].as_array().cloned().unwrap_or_default();
            let Some(next) = links.iter().find(|l| l["rel"] == "next") else { break };
            path = next["href"]
                .as_str()
                .unwrap()
                .strip_prefix("http://cloud.test:5000/network")
                .unwrap()
                .to_owned();
        }
        assert_eq!(seen, ["a", "b", "c"]);
        for bad in [
            "limit=-1",
            "limit=x",
            "marker=nobody",
            "sort_key=secret",
            "sort_key=name&sort_dir=up",
            "sort_dir=asc",
            "colour=red",
        ] {
            w.api.refused(T, "GET", &format!("/v2.0/networks?{bad}"), None, 400, "HTTPBadRequest").await;
        }
        let path = format!("/v2.0/networks/{}", id(&made["networks"][0]));
        w.api.ok(T, "PUT", &format!("{path}/tags"), Some(json!({"tags": ["red", "blue"]}))).await;
        w.api.ok(T, "PUT", &format!("{path}/tags/green"), None).await;
        w.api.ok(T, "DELETE", &format!("{path}/tags/red"), None).await;
        w.api.refused(T, "DELETE", &format!("{path}/tags/red"), None, 404, "TagNotFound").await;
        let tags = w.api.ok(T, "GET", &format!("{path}/tags"), None).await;
        assert_eq!(tags, json!({"tags": ["blue", "green"]}));
        assert_eq!(names(&w.api.ok(T, "GET", "/v2.0/networks?tags=blue,green", None).await), ["a"]);
        assert_eq!(
            names(&w.api.ok(T, "GET", "/v2.0/networks?not-tags-any=blue&sort_key=name", None).await),
            ["b", "c"]
        );
        let subnets = w.subnet(&id(&made["networks"][0]), "10.0.0.0/24").await;
        let found =
            w.api.ok(T, "GET", &format!("/v2.0/ports?fixed_ips=subnet_id%3D{}", id(&subnets)), None).await;
        assert_eq!(found["ports"][0]["device_owner"], "network:distributed");
    }
}

/// Requests are answered while OVN is away; what they did is in OVN when it is back.
#[tokio::test]
async fn ovn_may_be_away() {
    for mut w in worlds().await {
        let stop = tokio_util::sync::CancellationToken::new();
        let background = tokio::spawn({
            let (networks, stop) = (w.networks.clone(), stop.clone());
            async move { networks.run(stop).await }
        });
        let gone = id(&w.network(json!({"name": "gone"})).await);
        w.ovn.kill();
        let service = api::Context::service("compute");
        let fields = NetworkFields { project_id: Some("p1".into()), ..NetworkFields::default() };
        let network = w.networks.create_network(&service, fields).await.unwrap();
        let fields = SubnetFields {
            network_id: Some(network.meta.id.clone()),
            cidr: "10.0.0.0/24".parse().ok(),
            ..SubnetFields::default()
        };
        w.networks.create_subnet(&service, fields).await.unwrap();
        let new = NewPort {
            network_id: network.meta.id.clone(),
            fields: PortFields { project_id: Some("p1".into()), ..PortFields::default() },
        };
        let port = w.networks.create_port(&service, new).await.unwrap();
        w.api.ok(T, "DELETE", &format!("/v2.0/networks/{gone}"), None).await;
        w.ovn.serve().await;
        w.networks.ready(SOON).await.unwrap();
        common::eventually("everything is in OVN", Duration::from_secs(20), || {
            let switches = w.ovn.nb(&["--bare", "--columns=name", "list", "Logical_Switch"]);
            let ports = w.ovn.nb(&["--bare", "--columns=name,dhcpv4_options", "list", "Logical_Switch_Port"]);
            let done = switches.trim() == format!("neutron-{}", network.meta.id)
                && ports.contains(&port.meta.id)
                && !w.ovn.nb(&["--bare", "--columns=acls", "list", "Port_Group"]).trim().is_empty();
            done.then_some(())
        })
        .await;
        // a hand that empties OVN is noticed at the next reconnect
        w.ovn.nb(&["ls-del", &format!("neutron-{}", network.meta.id)]);
        w.ovn.kill();
        w.ovn.serve().await;
        common::eventually("made again", Duration::from_secs(20), || {
            w.ovn
                .nb(&["--bare", "--columns=name", "list", "Logical_Switch_Port"])
                .contains(&port.meta.id)
                .then_some(())
        })
        .await;
        stop.cancel();
        background.await.unwrap();
    }
}

#[tokio::test]
async fn the_rest_of_the_api() {
    for w in worlds().await {
        let versions = w.api.ok("", "GET", "/", None).await;
        assert_eq!(versions["versions"][0]["id"], "v2.0");
        let list = w.api.ok(T, "GET", "/v2.0/extensions", None).await;
        assert!(list["extensions"].as_array().unwrap().iter().any(|e| e["alias"] == "router"));
        w.api.ok(T, "GET", "/v2.0/extensions/security-group", None).await;
        w.api.refused(T, "GET", "/v2.0/extensions/qos", None, 404, "ExtensionNotFound").await;
        for (query, found) in [("", 1), ("?service_type=L3_ROUTER_NAT", 1), ("?service_type=VPN", 0)] {
            let list = w.api.ok(T, "GET", &format!("/v2.0/service-providers{query}"), None).await;
            assert_eq!(list["service_providers"].as_array().unwrap().len(), found, "{query}");
        }
        assert_eq!(w.api.ok(ADMIN, "GET", "/v2.0/agents", None).await, json!({"agents": []}));
        w.api.refused(ADMIN, "GET", "/v2.0/agents/x", None, 404, "AgentNotFound").await;
        assert_eq!(
            w.api.ok(T, "GET", "/v2.0/availability_zones", None).await["availability_zones"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        let (status, answer) = w.api.call(T, "GET", "/v2.0/nonsense", None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{answer}");
        assert!(answer["NeutronError"].is_object());
        let (status, _) = w.api.call(T, "PATCH", "/v2.0/networks", None).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    }
}
