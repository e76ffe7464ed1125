//! The API on both databases, with the shared Ceph and a host that is played by the test itself over the agents'
//! protocol.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Client, Controller, Place, Puppet, small_image};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const S: &str = "/compute/v2.1/servers";

async fn controllers(config: compute::Config) -> Vec<Controller> {
    let mut all = Vec::new();
    for db in testbed::databases().await {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        all.push(Controller::build(db, &Place::shared(), listener, config.clone()).await);
    }
    all
}

fn plain(image: &str) -> Value {
    json!({"server": {"name": "s", "imageRef": image, "flavorRef": "42", "networks": "none"}})
}

async fn boot(user: &Client, body: Value) -> String {
    let made = user.post(S, body).await;
    let id = made["server"]["id"].as_str().unwrap().to_owned();
    assert!(made["server"]["adminPass"].is_string());
    user.until_status(&id, "ACTIVE", 60).await;
    id
}

#[tokio::test]
async fn a_life_by_the_protocol() {
    for c in controllers(compute::Config::default()).await {
        let host = Arc::new(Puppet::register(&c, "h1").await);
        host.report(json!([])).await;
        let obeying = host.clone().run();
        let (user, admin) = (c.client("member"), c.client("admin"));
        let image = small_image(&c).await;
        let id = boot(&user, plain(&image)).await;

        let s = user.server(&id).await;
        assert_eq!(s["flavor"]["original_name"], "m1.nano");
        assert_eq!(s["OS-EXT-STS:power_state"], 1);
        assert!(s.get("OS-EXT-SRV-ATTR:host").is_none(), "only operators see hosts");
        assert_eq!(admin.server(&id).await["OS-EXT-SRV-ATTR:host"], "h1");
        let disks = c.tiers.get("vms").unwrap().pool.rbd().list().await.unwrap();
        assert!(disks.contains(&format!("{id}_disk")));

        // wrong states are upstream's 409
        let (status, e) =
            user.call("POST", &format!("{S}/{id}/action"), Some(json!({"os-start": null}))).await;
        assert_eq!(status, 409);
        let text = format!("Cannot 'start' instance {id} while it is in vm_state active");
        assert_eq!(e["conflictingRequest"]["message"], text);
        for (action, state) in [
            (json!({"os-stop": null}), "SHUTOFF"),
            (json!({"os-start": null}), "ACTIVE"),
            (json!({"reboot": {"type": "SOFT"}}), "ACTIVE"),
            (json!({"reboot": {"type": "HARD"}}), "ACTIVE"),
            (json!({"pause": null}), "PAUSED"),
            (json!({"unpause": null}), "ACTIVE"),
            (json!({"suspend": null}), "SUSPENDED"),
            (json!({"resume": null}), "ACTIVE"),
        ] {
            user.action(&id, action).await;
            user.until_status(&id, state, 20).await;
        }
        let out = user.post(&format!("{S}/{id}/action"), json!({"os-getConsoleOutput": {"length": 2}})).await;
        assert_eq!(out["output"], "two\nthree\n");

        // metadata, tags, locks
        user.post(&format!("{S}/{id}/metadata"), json!({"metadata": {"k": "v"}})).await;
        let (status, _) = user.call("PUT", &format!("{S}/{id}/tags/web"), None).await;
        assert_eq!(status, 201);
        let s = user.server(&id).await;
        assert_eq!((&s["metadata"]["k"], &s["tags"][0]), (&json!("v"), &json!("web")));
        user.action(&id, json!({"lock": {"locked_reason": "mine"}})).await;
        assert_eq!(user.server(&id).await["locked_reason"], "mine");
        let (status, _) =
            user.call("POST", &format!("{S}/{id}/action"), Some(json!({"os-stop": null}))).await;
        assert_eq!(status, 409);
        user.action(&id, json!({"unlock": null})).await;

        // listings
        let list = user.get(&format!("{S}/detail?status=ACTIVE&tags=web&name=^s$")).await;
        assert_eq!(list["servers"].as_array().unwrap().len(), 1);
        for none in ["status=ERROR", "name=other", "not-tags=web", "flavor=1"] {
            let list = user.get(&format!("{S}?{none}")).await;
            assert!(list["servers"].as_array().unwrap().is_empty(), "{none}");
        }
        let actions = user.get(&format!("{S}/{id}/os-instance-actions")).await;
        let names: Vec<_> =
            actions["instanceActions"].as_array().unwrap().iter().map(|a| a["action"].clone()).collect();
        assert!(names.contains(&json!("create")) && names.contains(&json!("stop")), "{names:?}");

        a_volume_comes_and_goes(&c, &user, &id).await;
        another_shape(&c, &user, &id, &image).await;

        // usage is what the rows say
        let limits = user.get("/compute/v2.1/limits").await["limits"]["absolute"].clone();
        assert_eq!((&limits["totalInstancesUsed"], &limits["totalRAMUsed"]), (&json!(1), &json!(192)));
        let placing = admin.at("1.9");
        let used = placing.get(&format!("/placement/usages?project_id={}", common::PROJECT)).await;
        assert_eq!(used["usages"]["VCPU"], 1);

        let (status, _) = user.call("DELETE", &format!("{S}/{id}"), None).await;
        assert_eq!(status, 204);
        user.until_gone(&id, 20).await;
        let disks = c.tiers.get("vms").unwrap().pool.rbd().list().await.unwrap();
        assert!(!disks.contains(&format!("{id}_disk")));
        let gone = admin.get(&format!("{S}/detail?deleted=true&all_tenants=1")).await;
        assert_eq!(gone["servers"][0]["status"], "DELETED");
        obeying.abort();
        c.images.delete(&common::context(), &image).await.unwrap();
        c.stop().await;
    }
}

async fn a_volume_comes_and_goes(c: &Controller, user: &Client, id: &str) {
    let volumes = format!("/volume/v3/{}/volumes", common::PROJECT);
    let v = user.post(&volumes, json!({"volume": {"size": 1}})).await["volume"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let until = async |wanted: &str| {
        let began = Instant::now();
        loop {
            let now = user.get(&format!("{volumes}/{v}")).await["volume"]["status"].clone();
            if now == wanted {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{now}, not {wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    until("available").await;
    let path = format!("{S}/{id}/os-volume_attachments");
    let made = user.post(&path, json!({"volumeAttachment": {"volumeId": v}})).await;
    assert_eq!(made["volumeAttachment"]["device"], "/dev/vdb");
    until("in-use").await;
    let (status, _) = user.call("POST", &path, Some(json!({"volumeAttachment": {"volumeId": v}}))).await;
    assert!(status == 400 || status == 409, "{status}");
    let (status, _) = user.call("DELETE", &format!("{volumes}/{v}"), None).await;
    assert_eq!(status, 400, "an attached volume");
    let (status, _) = user.call("DELETE", &format!("{path}/{v}"), None).await;
    assert_eq!(status, 202);
    until("available").await;
    // As upstream's, the volume is free a moment before the server's row forgets it.
    let began = Instant::now();
    while user.get(&path).await["volumeAttachments"] != json!([]) {
        assert!(began.elapsed() < Duration::from_secs(30), "the server does not forget the volume");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // once more, to a server that is switched off, and away with it
    user.action(id, json!({"os-stop": null})).await;
    user.until_status(id, "SHUTOFF", 20).await;
    user.post(&path, json!({"volumeAttachment": {"volumeId": v, "delete_on_termination": true}})).await;
    until("in-use").await;
    user.action(id, json!({"os-start": null})).await;
    user.until_status(id, "ACTIVE", 20).await;
    let (status, _) = user.call("DELETE", &format!("{path}/{v}"), None).await;
    assert_eq!(status, 202);
    until("available").await;
    c.volumes.delete(&common::context(), &v).await.unwrap();
}

/// A guest is shown that its volume has grown. Until it was, the volume grows no further: the host resizes by a number.
#[tokio::test]
async fn a_volume_grows_under_its_server() {
    for c in controllers(compute::Config::default()).await {
        let host = Arc::new(Puppet::register(&c, "h1").await);
        host.report(json!([])).await;
        let obeying = host.clone().run();
        let user = c.client("member");
        let image = small_image(&c).await;
        let id = boot(&user, plain(&image)).await;
        let volumes = format!("/volume/v3/{}/volumes", common::PROJECT);
        let v = user.post(&volumes, json!({"volume": {"size": 1}})).await["volume"]["id"].clone();
        let v = v.as_str().unwrap().to_owned();
        let path = format!("{volumes}/{v}");
        let until = async |status: &str, size: i64| {
            let began = Instant::now();
            loop {
                let now = user.get(&path).await["volume"].clone();
                if now["status"] == status && now["size"] == size {
                    return;
                }
                assert!(began.elapsed() < Duration::from_secs(30), "{now}, not {status}, {size}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let extend = async |gib: i64| {
            let body = json!({"os-extend": {"new_size": gib}});
            user.call("POST", &format!("{path}/action"), Some(body)).await
        };
        let results = async || user.results(&id, "extend_volume").await;
        until("available", 1).await;
        let attach = json!({"volumeAttachment": {"volumeId": v}});
        user.post(&format!("{S}/{id}/os-volume_attachments"), attach).await;
        until("in-use", 1).await;
        obeying.abort();
        host.obey().await;

        assert_eq!(extend(2).await.0, 202);
        until("in-use", 2).await;
        assert_eq!(results().await, [Value::Null]);
        let (status, e) = extend(3).await;
        assert_eq!(status, 400);
        assert!(e["badRequest"]["message"].as_str().unwrap().contains("has not shown that"), "{e}");
        let desired = host.obey().await;
        let disks = desired["guests"][0]["disks"].as_array().unwrap();
        assert_eq!(
            disks.iter().filter(|d| d["serial"] == v && d["grown"] == 2_u64 << 30).count(),
            1,
            "{disks:?}"
        );
        assert_eq!(results().await, ["Success"]);

        // the host cannot
        assert_eq!(extend(3).await.0, 202);
        until("in-use", 3).await;
        let mut desired = host.poll().await["guests"].take();
        let guest = common::obedient(&desired[0].take());
        let mut failing = guest.clone();
        failing["grown"][&v]["error"] = json!("no such device");
        host.report(json!([failing])).await;
        assert_eq!(results().await, ["Success", "Error"]);

        // the guest does not run: there is nothing to wait for
        assert_eq!(extend(4).await.0, 202);
        until("in-use", 4).await;
        let mut off = guest.clone();
        (off["power"], off["generation"], off["grown"]) =
            (json!("shutdown"), json!(guest["generation"].as_i64().unwrap() + 1), json!({}));
        host.report(json!([off])).await;
        assert_eq!(results().await, ["Success", "Error", "Success"]);
        user.until_status(&id, "SHUTOFF", 20).await;
        assert_eq!(extend(5).await.0, 202);
        until("in-use", 5).await;
        assert_eq!(results().await.len(), 4);
        assert_eq!(results().await[3], "Success");

        let obeying = host.run();
        assert_eq!(user.call("DELETE", &format!("{S}/{id}"), None).await.0, 204);
        user.until_gone(&id, 20).await;
        until("available", 5).await;
        obeying.abort();
        c.volumes.delete(&common::context(), &v).await.unwrap();
        c.images.delete(&common::context(), &image).await.unwrap();
        c.stop().await;
    }
}

async fn another_shape(c: &Controller, user: &Client, id: &str, image: &str) {
    let act = format!("{S}/{id}/action");
    assert_eq!(
        user.call("POST", &act, Some(json!({"resize": {"flavorRef": "42"}}))).await.0,
        400,
        "the same"
    );
    for (end, ram) in [(json!({"revertResize": null}), 192), (json!({"confirmResize": null}), 512)] {
        user.action(id, json!({"resize": {"flavorRef": "1"}})).await;
        let s = user.until_status(id, "VERIFY_RESIZE", 20).await;
        assert_eq!(s["flavor"]["ram"], 512);
        user.action(id, end).await;
        let s = user.until_status(id, "ACTIVE", 20).await;
        assert_eq!(s["flavor"]["ram"], ram);
    }
    user.action(id, json!({"resize": {"flavorRef": "42"}})).await;
    user.until_status(id, "VERIFY_RESIZE", 20).await;
    user.action(id, json!({"confirmResize": null})).await;
    user.until_status(id, "ACTIVE", 20).await;

    let made = user.post(&act, json!({"createImage": {"name": "shot", "metadata": {"k": "v"}}})).await;
    let shot = made["image_id"].as_str().unwrap().to_owned();
    user.until_status(id, "ACTIVE", 30).await;
    let shown = c.images.get(&common::context(), &shot).await.unwrap();
    assert_eq!(shown.status, imagestore::Status::Active);
    assert_eq!(shown.properties["instance_uuid"], id);
    let made = user.post(&act, json!({"rebuild": {"imageRef": shot, "name": "again"}})).await;
    assert_eq!(made["server"]["status"], "REBUILD");
    let s = user.until_status(id, "ACTIVE", 30).await;
    assert_eq!((&s["name"], &s["image"]["id"]), (&json!("again"), &json!(shot)));
    user.post(&act, json!({"rebuild": {"imageRef": image, "name": "s"}})).await;
    user.until_status(id, "ACTIVE", 30).await;
    c.images.delete(&common::context(), &shot).await.unwrap();
}

#[tokio::test]
async fn what_is_refused() {
    let quota = [("instances".to_owned(), 1)].into();
    for c in controllers(compute::Config { quota, ..compute::Config::default() }).await {
        let host = Arc::new(Puppet::register(&c, "h1").await);
        host.report(json!([])).await;
        let (user, other, reader) = (c.client("member"), c.client("other"), c.client("reader"));
        let image = small_image(&c).await;
        let nobody = state::new_id();
        let with = |key: &str, value: Value| {
            let mut body = plain(&image);
            body["server"][key] = value;
            body
        };
        for (body, status, text) in [
            (with("flavorRef", json!("no-such")), 400, "Invalid flavorRef provided."),
            (with("imageRef", json!(nobody)), 400, "Can not find requested image"),
            (with("key_name", json!("none")), 400, "Invalid key_name provided."),
            (with("user_data", json!("no base64!")), 400, "User data needs to be valid base 64."),
            (with("networks", json!([{"uuid": nobody}])), 400, "could not be found"),
            (with("networks", json!([{"port": nobody}])), 400, "could not be found"),
            (with("availability_zone", json!("mars")), 400, "availability zone is not available"),
            (with("name", json!("")), 400, "name"),
            (
                with("min_count", json!(5)),
                403,
                "Quota exceeded for instances: Requested 5, but already used 0 of 1",
            ),
            (
                with("host", json!("h1")),
                403,
                "Policy doesn't allow compute:servers:create:requested_destination",
            ),
        ] {
            let (got, e) = user.call("POST", S, Some(body.clone())).await;
            let e = e.to_string();
            assert!(got == status && e.contains(text), "{body}: {got} {e}");
        }
        let (status, e) = user.call("GET", &format!("{S}/{nobody}"), None).await;
        assert_eq!(status, 404);
        assert_eq!(e["itemNotFound"]["message"], format!("Instance {nobody} could not be found."));
        assert_eq!(reader.call("POST", S, Some(plain(&image))).await.0, 403);

        // a host that cannot: ERROR with a fault, and hard reboot leads back
        let made = user.post(S, plain(&image)).await["server"]["id"].as_str().unwrap().to_owned();
        let began = Instant::now();
        let guest = loop {
            let desired = host.poll().await;
            if let Some(g) = desired["guests"].as_array().unwrap().first() {
                break g.clone();
            }
            assert!(began.elapsed() < Duration::from_secs(20));
        };
        let error = json!({"generation": guest["generation"], "message": "no room", "device": null});
        let cannot = json!({"id": made, "generation": 0, "incarnation": 0, "power": "absent", "disks": [],
            "ports": [], "error": error});
        host.report(json!([cannot])).await;
        let s = user.until_status(&made, "ERROR", 10).await;
        assert_eq!(s["fault"]["message"], "no room");
        let obeying = host.clone().run();
        user.action(&made, json!({"reboot": {"type": "HARD"}})).await;
        user.until_status(&made, "ACTIVE", 20).await;

        // another project's is not there
        for (method, path) in [
            ("GET", format!("{S}/{made}")),
            ("DELETE", format!("{S}/{made}")),
            ("GET", format!("{S}/{made}/os-volume_attachments")),
            ("GET", format!("{S}/{made}/metadata")),
            ("GET", format!("{S}/{made}/os-instance-actions")),
        ] {
            assert_eq!(other.call(method, &path, None).await.0, 404, "{method} {path}");
        }
        assert!(other.get(S).await["servers"].as_array().unwrap().is_empty());
        assert_eq!(other.call("GET", &format!("{S}?all_tenants=1"), None).await.0, 403);
        assert_eq!(reader.call("DELETE", &format!("{S}/{made}"), None).await.0, 403);
        assert_eq!(user.call("POST", &format!("{S}/{made}/action"), Some(json!({"fly": {}}))).await.0, 400);
        assert_eq!(user.call("POST", &format!("{S}/{made}/action"), Some(json!({}))).await.0, 400);

        // the agents' door opens to a host's own secret only
        let two = Puppet::register(&c, "h2").await;
        let mut thief = Puppet::register(&c, "h3").await;
        thief.secret = two.secret.clone();
        assert_eq!(thief.call("poll", &json!({"known": ""})).await.0, 401);
        thief.secret = "member".into();
        assert_eq!(thief.call("report", &json!({"facts": null, "guests": []})).await.0, 401);
        two.report(json!([{"id": made, "generation": 99, "incarnation": 9, "power": "shutdown", "disks": [],
            "ports": [], "error": null}]))
            .await;
        assert_eq!(user.server(&made).await["status"], "ACTIVE", "another host has no say");

        let (status, _) = user.call("DELETE", &format!("{S}/{made}"), None).await;
        assert_eq!(status, 204);
        user.until_gone(&made, 20).await;
        obeying.abort();
        c.images.delete(&common::context(), &image).await.unwrap();
        c.stop().await;
    }
}

#[tokio::test]
async fn every_route_needs_a_token() {
    let c = controllers(compute::Config::default()).await.swap_remove(0);
    let http = reqwest::Client::new();
    let mut seen = 0;
    for (prefix, route) in compute::routes() {
        let mut path = String::new();
        for part in route.path.split('/').skip(1) {
            path.push('/');
            path.push_str(if part.starts_with('{') { "x" } else { part });
        }
        let url = format!("{}{prefix}{path}", c.base);
        let method = reqwest::Method::from_bytes(route.method.as_bytes()).unwrap();
        let status = http.request(method.clone(), &url).send().await.unwrap().status().as_u16();
        assert_eq!(status, if route.open { 200 } else { 401 }, "{method} {prefix}{}", route.path);
        seen += 1;
    }
    assert!(seen > 100, "{seen}");
    c.stop().await;
}

#[tokio::test]
async fn the_smaller_nouns() {
    for c in controllers(compute::Config::default()).await {
        let host = Puppet::register(&c, "h1").await;
        host.report(json!([])).await;
        let (user, admin) = (c.client("member"), c.client("admin"));
        let v = "/compute/v2.1";
        // flavors
        let all = user.get(&format!("{v}/flavors/detail")).await;
        assert_eq!(all["flavors"].as_array().unwrap().len(), 8);
        let flavor = json!({"flavor": {"name": "big", "ram": 1024, "vcpus": 2, "disk": 5,
            "os-flavor-access:is_public": false}});
        assert_eq!(user.call("POST", &format!("{v}/flavors"), Some(flavor.clone())).await.0, 403);
        let id = admin.post(&format!("{v}/flavors"), flavor.clone()).await["flavor"]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(admin.call("POST", &format!("{v}/flavors"), Some(flavor)).await.0, 409);
        assert_eq!(user.call("GET", &format!("{v}/flavors/{id}"), None).await.0, 404);
        let specs = json!({"extra_specs": {"hw:cpu_policy": "shared"}});
        admin.post(&format!("{v}/flavors/{id}/os-extra_specs"), specs).await;
        let grant = json!({"addTenantAccess": {"tenant": common::PROJECT}});
        admin.post(&format!("{v}/flavors/{id}/action"), grant).await;
        let shown = user.get(&format!("{v}/flavors/{id}")).await;
        assert_eq!(shown["flavor"]["extra_specs"]["hw:cpu_policy"], "shared");
        assert_eq!(admin.call("DELETE", &format!("{v}/flavors/{id}"), None).await.0, 202);
        // key pairs
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJqJ2bEFXf2oOQG8q5X1m9yZb3mJ0q0b6c1yq9q3Qm3T me";
        let body = json!({"keypair": {"name": "k", "public_key": key, "type": "ssh"}});
        let made = user.post(&format!("{v}/os-keypairs"), body.clone()).await;
        assert_eq!(made["keypair"]["fingerprint"].as_str().unwrap().len(), 47);
        assert_eq!(user.call("POST", &format!("{v}/os-keypairs"), Some(body)).await.0, 409);
        let bad = json!({"keypair": {"name": "b", "public_key": "nonsense", "type": "ssh"}});
        assert_eq!(user.call("POST", &format!("{v}/os-keypairs"), Some(bad)).await.0, 400);
        assert_eq!(user.get(&format!("{v}/os-keypairs")).await["keypairs"].as_array().unwrap().len(), 1);
        let old = user.at("2.1");
        let made = old.post(&format!("{v}/os-keypairs"), json!({"keypair": {"name": "g"}})).await;
        assert!(made["keypair"]["private_key"].as_str().unwrap().contains("PRIVATE KEY"));
        for k in ["k", "g"] {
            assert_eq!(user.call("DELETE", &format!("{v}/os-keypairs/{k}"), None).await.0, 204);
        }
        // groups, quotas, zones, hypervisors, services
        let group = json!({"server_group": {"name": "g", "policy": "anti-affinity"}});
        let g = user.post(&format!("{v}/os-server-groups"), group).await["server_group"]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(user.call("DELETE", &format!("{v}/os-server-groups/{g}"), None).await.0, 204);
        let quota = format!("{v}/os-quota-sets/{}", common::PROJECT);
        let set = json!({"quota_set": {"cores": 7}});
        assert_eq!(user.call("PUT", &quota, Some(set.clone())).await.0, 403);
        assert_eq!(admin.call("PUT", &quota, Some(set)).await.1["quota_set"]["cores"], 7);
        assert_eq!(admin.call("PUT", &quota, Some(json!({"quota_set": {"cores": -2}}))).await.0, 400);
        assert_eq!(user.get(&quota).await["quota_set"]["cores"], 7);
        assert_eq!(admin.call("DELETE", &quota, None).await.0, 202);
        assert_eq!(user.get(&quota).await["quota_set"]["cores"], 20);
        let zones = user.get(&format!("{v}/os-availability-zone")).await;
        assert_eq!(zones["availabilityZoneInfo"][0]["zoneName"], "nova");
        assert_eq!(user.call("GET", &format!("{v}/os-hypervisors"), None).await.0, 403);
        let hypervisors = admin.get(&format!("{v}/os-hypervisors/detail")).await;
        assert_eq!(hypervisors["hypervisors"][0]["state"], "up");
        let services = admin.get(&format!("{v}/os-services?binary=nova-compute")).await;
        let service = services["services"][0]["id"].as_str().unwrap().to_owned();
        let off = json!({"status": "disabled", "disabled_reason": "tired"});
        let (status, answer) = admin.call("PUT", &format!("{v}/os-services/{service}"), Some(off)).await;
        assert_eq!((status, &answer["service"]["status"]), (200, &json!("disabled")));
        c.stop().await;
    }
}

#[tokio::test]
async fn placement_counts() {
    for c in controllers(compute::Config::default()).await {
        let host = Puppet::register(&c, "h1").await;
        host.report(json!([])).await;
        let admin = c.client("admin").at("1.39");
        assert_eq!(
            c.client("member").at("1.39").call("GET", "/placement/resource_providers", None).await.0,
            403
        );
        let call = async |method: &str, path: &str, body: Option<Value>| {
            admin.call(method, &format!("/placement{path}"), body).await
        };
        let (_, list) = call("GET", "/resource_providers", None).await;
        let node = list["resource_providers"][0]["uuid"].as_str().unwrap().to_owned();
        let (_, inventory) = call("GET", &format!("/resource_providers/{node}/inventories"), None).await;
        assert_eq!(inventory["inventories"]["VCPU"]["total"], 4);
        let (_, found) = call("GET", "/allocation_candidates?resources=VCPU:2,MEMORY_MB:512", None).await;
        assert_eq!(found["allocation_requests"].as_array().unwrap().len(), 1);
        let (_, none) = call("GET", "/allocation_candidates?resources=VCPU:2,MEMORY_MB:51200", None).await;
        assert!(none["allocation_requests"].as_array().unwrap().is_empty());
        let consumer = state::new_id();
        let claim = |vcpus: i64, generation: Value| {
            json!({"allocations": {node.clone(): {"resources": {"VCPU": vcpus}}}, "project_id": "p", "user_id": "u",
                "consumer_generation": generation, "consumer_type": "TEST"})
        };
        let path = format!("/allocations/{consumer}");
        assert_eq!(call("PUT", &path, Some(claim(99, Value::Null))).await.0, 409, "more than there is");
        assert_eq!(call("PUT", &path, Some(claim(2, Value::Null))).await.0, 204);
        let (status, e) = call("PUT", &path, Some(claim(3, Value::Null))).await;
        assert_eq!((status, &e["errors"][0]["code"]), (409, &json!("placement.concurrent_update")));
        assert_eq!(call("PUT", &path, Some(claim(3, json!(1)))).await.0, 204);
        let (_, used) = call("GET", &format!("/resource_providers/{node}/usages"), None).await;
        assert_eq!(used["usages"]["VCPU"], 3);
        assert_eq!(call("DELETE", &format!("/resource_providers/{node}"), None).await.0, 409, "in use");
        assert_eq!(call("DELETE", &path, None).await.0, 204);
        // an operator's own names
        assert_eq!(call("PUT", "/traits/CUSTOM_FAST", None).await.0, 201);
        assert_eq!(call("PUT", "/traits/FAST", None).await.0, 400);
        assert_eq!(call("PUT", "/resource_classes/CUSTOM_THING", None).await.0, 201);
        assert_eq!(call("DELETE", "/resource_classes/VCPU", None).await.0, 400);
        let (status, made) = call("POST", "/resource_providers", Some(json!({"name": "shelf"}))).await;
        assert_eq!(status, 200);
        let shelf = made["uuid"].as_str().unwrap().to_owned();
        assert_eq!(call("POST", "/resource_providers", Some(json!({"name": "shelf"}))).await.0, 409);
        let inventory =
            json!({"resource_provider_generation": 0, "inventories": {"CUSTOM_THING": {"total": 3}}});
        let path = format!("/resource_providers/{shelf}/inventories");
        assert_eq!(call("PUT", &path, Some(inventory.clone())).await.0, 200);
        assert_eq!(call("PUT", &path, Some(inventory)).await.0, 409, "an old generation");
        let traits = json!({"resource_provider_generation": 1, "traits": ["CUSTOM_FAST"]});
        assert_eq!(call("PUT", &format!("/resource_providers/{shelf}/traits"), Some(traits)).await.0, 200);
        let (_, fast) =
            call("GET", "/allocation_candidates?resources=CUSTOM_THING:1&required=CUSTOM_FAST", None).await;
        assert_eq!(fast["allocation_requests"].as_array().unwrap().len(), 1);
        assert_eq!(call("DELETE", &format!("/resource_providers/{shelf}"), None).await.0, 204);
        c.stop().await;
    }
}

/// A file of a config drive, as `isoinfo` reads it from the image in Ceph.
async fn on_drive(c: &Controller, id: &str, path: &str) -> Vec<u8> {
    let rbd = c.tiers.get("vms").unwrap().pool.rbd();
    let image = rbd.open_read_only(&format!("{id}_disk.config")).await.unwrap();
    let size = image.size().await.unwrap();
    let bytes = image.read_at(0, size as usize).await.unwrap();
    image.close().await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    let mut isoinfo = std::process::Command::new("isoinfo");
    let isoinfo = isoinfo.arg("-i").arg(file.path());
    let out = if path.is_empty() { isoinfo.arg("-d") } else { isoinfo.args(["-J", "-x", path]) };
    out.output().expect("isoinfo (package genisoimage)").stdout
}

#[tokio::test]
async fn a_config_drive_says_what_the_metadata_service_says() {
    for c in controllers(compute::Config::default()).await {
        let host = Arc::new(Puppet::register(&c, "h1").await);
        host.report(json!([])).await;
        let obeying = host.clone().run();
        let user = c.client("member");
        let image = small_image(&c).await;
        let net = user.post("/network/v2.0/networks", json!({"network": {"name": "net"}})).await;
        let net = net["network"]["id"].as_str().unwrap().to_owned();
        let subnet = json!({"subnet": {"network_id": net, "ip_version": 4, "cidr": "10.8.0.0/24"}});
        user.post("/network/v2.0/subnets", subnet).await;
        let mut body = plain(&image);
        for bad in [json!(null), json!(""), json!("maybe"), json!(7)] {
            body["server"]["config_drive"] = bad;
            assert_eq!(user.call("POST", S, Some(body.clone())).await.0, 400);
        }
        body["server"]["config_drive"] = json!("no");
        let without = boot(&user, body.clone()).await;
        assert_eq!(user.server(&without).await["config_drive"], "");
        body["server"]["config_drive"] = json!(true);
        body["server"]["networks"] = json!([{"uuid": net}]);
        body["server"]["user_data"] = json!("IyEvYmluL3NoCg==");
        body["server"]["metadata"] = json!({"colour": "blue"});
        let id = boot(&user, body).await;
        assert_eq!(user.server(&id).await["config_drive"], "True");

        // The host is told of it, last of the disks.
        let desired = host.poll().await;
        let of =
            |id: &str| desired["guests"].as_array().unwrap().iter().find(|g| g["id"] == id).unwrap().clone();
        let drive = of(&id)["disks"].as_array().unwrap().last().unwrap().clone();
        let image_name = format!("{id}_disk.config");
        assert_eq!((&drive["image"], &drive["cdrom"]), (&json!(image_name), &json!(true)));
        assert_eq!(of(&without)["disks"].as_array().unwrap().len(), 1);

        // It holds the service's documents, by version, and only then what came with a version.
        let about = String::from_utf8(on_drive(&c, &id, "").await).unwrap();
        assert!(about.contains("Volume id: config-2"), "{about}");
        let parsed = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap_or(Value::Null);
        let address = c.networks.ports_of_device(&id).await.unwrap()[0].fixed_ips[0].ip_address;
        for version in ["2012-08-10", "2018-08-27", "latest"] {
            let on = parsed(on_drive(&c, &id, &format!("/openstack/{version}/meta_data.json")).await);
            let mut served = host
                .metadata(&net, &address.to_string(), &format!("openstack/{version}/meta_data.json"))
                .await;
            served["random_seed"] = on["random_seed"].clone();
            assert_eq!(on, served);
            assert_eq!((&on["uuid"], &on["meta"]["colour"]), (&json!(id), &json!("blue")));
        }
        let network = parsed(on_drive(&c, &id, "/openstack/latest/network_data.json").await);
        assert_eq!(
            network,
            host.metadata(&net, &address.to_string(), "openstack/latest/network_data.json").await
        );
        assert_eq!(network["networks"].as_array().unwrap().len(), 1);
        assert!(on_drive(&c, &id, "/openstack/2012-08-10/network_data.json").await.is_empty());
        assert_eq!(on_drive(&c, &id, "/openstack/latest/user_data").await, b"#!/bin/sh\n");
        assert_eq!(on_drive(&c, &id, "/openstack/latest/vendor_data2.json").await, b"{}");
        let ec2 = parsed(on_drive(&c, &id, "/ec2/latest/meta-data.json").await);
        assert_eq!(
            (&ec2["local-ipv4"], &ec2["instance-type"]),
            (&json!(address.to_string()), &json!("m1.nano"))
        );
        assert_eq!(on_drive(&c, &id, "/ec2/2009-04-04/user-data").await, b"#!/bin/sh\n");

        // Rebuilt with the server, gone with it.
        let act = format!("{S}/{id}/action");
        user.post(&act, json!({"rebuild": {"imageRef": image, "metadata": {"colour": "red"}}})).await;
        user.until_status(&id, "ACTIVE", 60).await;
        let on = parsed(on_drive(&c, &id, "/openstack/latest/meta_data.json").await);
        assert_eq!(on["meta"]["colour"], "red");
        for id in [id, without] {
            assert_eq!(user.call("DELETE", &format!("{S}/{id}"), None).await.0, 204);
            user.until_gone(&id, 60).await;
            let left = c.tiers.get("vms").unwrap().pool.rbd().list().await.unwrap();
            assert!(!left.iter().any(|name| name.starts_with(&id)), "{left:?}");
        }
        obeying.abort();
        c.images.delete(&common::context(), &image).await.unwrap();
        c.stop().await;
    }
}
