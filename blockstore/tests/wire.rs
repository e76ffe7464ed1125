//! The API as clients meet it: views, paging, filters, refusals.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use blockstore::{NewVolume, Source};
use kit::{Kit, ctx, id, kits, project, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn create(kit: &Kit, volume: Value) -> Value {
    let made = kit.post("alice", "/volumes", json!({"volume": volume})).await["volume"].clone();
    kit.becomes(&id(&made), blockstore::VolumeStatus::Available).await;
    made
}

#[tokio::test]
async fn a_volume_as_clients_see_it() {
    for kit in kits().await {
        let made = create(&kit, json!({"size": "1", "name": " v ", "metadata": {"Type": "Test"}})).await;
        assert_eq!(
            (&made["name"], &made["size"], &made["status"]),
            (&json!("v"), &json!(1), &json!("creating"))
        );
        assert!(made.get("os-vol-tenant-attr:tenant_id").is_none());
        let path = format!("/volumes/{}", id(&made));
        let shown = kit.get("rita", &path).await["volume"].clone();
        assert_eq!(shown["os-vol-tenant-attr:tenant_id"], project("p1"));
        assert_eq!((&shown["bootable"], &shown["volume_type"]), (&json!("false"), &json!("__DEFAULT__")));
        assert_eq!((&shown["attachments"], &shown["metadata"]), (&json!([]), &json!({"Type": "Test"})));
        assert!(shown.get("os-vol-host-attr:host").is_none());
        assert!(shown["created_at"].as_str().unwrap().len() == 26);
        let admin = kit.get("admin", &path).await["volume"].clone();
        assert_eq!(admin["os-vol-host-attr:host"], "aquifer@volumes#volumes");
        let (_, old) = kit.call_at("3.0", "alice", Method::GET, &path, Value::Null).await;
        for since in ["group_id", "consumes_quota", "volume_type_id", "shared_targets"] {
            assert!(old["volume"].get(since).is_none() && shown.get(since).is_some(), "{since}");
        }
        let href = shown["links"][0]["href"].as_str().unwrap();
        assert_eq!(href, format!("{}/volume/v3{path}", kit.url));
        // With the project in the path, links have it there too.
        let own = format!("/{}{path}", project("p1"));
        let shown = kit.get("alice", &own).await["volume"].clone();
        assert_eq!(shown["links"][0]["href"], format!("{}/volume/v3{own}", kit.url));

        let change = json!({"volume": {"name": "w", "description": "@#$%^* d"}});
        let (status, changed) = kit.call("alice", Method::PUT, &path, change).await;
        assert_eq!((status, &changed["volume"]["name"]), (StatusCode::OK, &json!("w")));
        let (status, _) = kit.call("rita", Method::PUT, &path, json!({"volume": {"name": "x"}})).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        let (status, _) = kit.call("rita", Method::DELETE, &path, Value::Null).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn a_snapshot_as_clients_see_it() {
    for kit in kits().await {
        let volume = create(&kit, json!({"size": 1})).await;
        let body = json!({"snapshot": {"volume_id": id(&volume), "name": "s"}});
        let made = kit.post("alice", "/snapshots", body).await["snapshot"].clone();
        let path = format!("/snapshots/{}", id(&made));
        kit.shows(&path, "status", "available").await;
        let (_, changed) = kit.call("alice", Method::PUT, &path, json!({"snapshot": {"name": "t"}})).await;
        let shown = kit.get("alice", &path).await["snapshot"].clone();
        let detailed = kit.get("alice", "/snapshots/detail").await["snapshots"][0].clone();
        let brief = kit.get("alice", "/snapshots").await["snapshots"][0].clone();
        for (key, plain, brief_too) in [
            ("metadata", true, true),
            ("group_snapshot_id", true, false),
            ("user_id", true, false),
            ("consumes_quota", true, false),
            ("os-extended-snapshot-attributes:progress", false, false),
            ("os-extended-snapshot-attributes:project_id", false, false),
        ] {
            for (view, has) in [
                (&made, plain),
                (&changed["snapshot"], plain),
                (&shown, true),
                (&detailed, true),
                (&brief, brief_too),
            ] {
                assert_eq!(view.get(key).is_some(), has, "{key}: {view}");
            }
        }
        let (_, old) = kit.call_at("3.13", "alice", Method::GET, &path, Value::Null).await;
        for since in ["group_snapshot_id", "user_id", "consumes_quota"] {
            assert!(old["snapshot"].get(since).is_none(), "{since}");
        }
    }
}

#[tokio::test]
async fn another_projects_volume_is_not_there() {
    for kit in kits().await {
        let made = create(&kit, json!({"size": 1})).await;
        let snapshot = kit.snapshot(&id(&made)).await;
        let (v, s) = (format!("/volumes/{}", id(&made)), format!("/snapshots/{snapshot}"));
        let cases = [
            (Method::GET, v.clone(), Value::Null),
            (Method::DELETE, v.clone(), Value::Null),
            (Method::PUT, v.clone(), json!({"volume": {"name": "mine"}})),
            (Method::POST, format!("{v}/action"), json!({"os-extend": {"new_size": 2}})),
            (Method::GET, format!("{v}/metadata"), Value::Null),
            (Method::GET, s.clone(), Value::Null),
            (Method::DELETE, s.clone(), Value::Null),
            (Method::POST, "/snapshots".into(), json!({"snapshot": {"volume_id": id(&made)}})),
            (Method::POST, "/volumes".into(), json!({"volume": {"source_volid": id(&made)}})),
            (Method::POST, "/volumes".into(), json!({"volume": {"snapshot_id": snapshot}})),
            (Method::POST, "/attachments".into(), json!({"attachment": {"volume_uuid": id(&made)}})),
        ];
        for (method, path, body) in cases {
            let (status, answer) = kit.call("bob", method.clone(), &path, body).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{method} {path}: {answer}");
            assert!(answer["itemNotFound"]["message"].is_string(), "{answer}");
        }
        assert_eq!(kit.get("bob", "/volumes?all_tenants=1").await["volumes"], json!([]));
        let (status, _) =
            kit.call("bob", Method::GET, &format!("/{}/volumes", project("p1")), Value::Null).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let all =
            kit.get("admin", &format!("/volumes/detail?all_tenants=1&project_id={}", project("p1"))).await;
        assert_eq!(all["volumes"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn bad_input_is_refused_and_changes_nothing() {
    for kit in kits().await {
        let nobody = state::new_id();
        let cases = [
            (json!({"volume": {"size": -1}}), 400),
            (json!({"volume": {"size": 0}}), 400),
            (json!({"volume": {"size": "#$%"}}), 400),
            (json!({"volume": {"size": ""}}), 400),
            (json!({"volume": {"size": 1.5}}), 400),
            (json!({"volume": {"size": 99999999999_i64}}), 400),
            (json!({"volume": {}}), 400),
            (json!({"volume": []}), 400),
            (json!({"volumes": {"size": 1}}), 400),
            (json!([]), 400),
            (json!({"volume": {"size": 1, "name": "x".repeat(256)}}), 400),
            (json!({"volume": {"size": 1, "name": 7}}), 400),
            (json!({"volume": {"size": 1, "colour": "red"}}), 400),
            (json!({"volume": {"size": 1, "metadata": {"k": 1}}}), 400),
            (json!({"volume": {"size": 1, "metadata": {"k".repeat(256): "v"}}}), 400),
            (json!({"volume": {"size": 1, "multiattach": true}}), 400),
            (json!({"volume": {"size": 1, "availability_zone": "elsewhere"}}), 400),
            (json!({"volume": {"size": 1, "volume_type": nobody}}), 404),
            (json!({"volume": {"size": 1, "volume_type": "no such type"}}), 404),
            (json!({"volume": {"size": 1, "snapshot_id": nobody}}), 404),
            (json!({"volume": {"size": 1, "source_volid": nobody}}), 404),
            (json!({"volume": {"size": 1, "imageRef": nobody}}), 404),
            (json!({"volume": {"size": 1, "snapshot_id": nobody, "imageRef": nobody}}), 400),
        ];
        for (body, code) in cases {
            let (status, answer) = kit.call("alice", Method::POST, "/volumes", body.clone()).await;
            assert_eq!(status.as_u16(), code, "{body}: {answer}");
            let key = if code == 400 { "badRequest" } else { "itemNotFound" };
            assert_eq!(answer[key]["code"], code, "{answer}");
        }
        for (method, path, code) in [
            (Method::GET, "/volumes/nothing", 404),
            (Method::GET, "/volumes/", 404),
            (Method::DELETE, "/volumes/", 404),
            (Method::GET, "/volumes?limit=-1", 400),
            (Method::GET, "/volumes?limit=x", 400),
            (Method::GET, "/volumes?sort_key=secret", 400),
            (Method::GET, "/volumes?nonsense=1", 400),
            (Method::GET, "/volumes?marker=nothing", 404),
            (Method::GET, "/snapshots?marker=nothing", 404),
            (Method::GET, "/nowhere", 404),
            (Method::PATCH, "/volumes", 405),
        ] {
            let (status, answer) = kit.call("alice", method.clone(), path, Value::Null).await;
            assert_eq!(status.as_u16(), code, "{method} {path}: {answer}");
        }
        for version in ["3.72", "2.9", "4.0"] {
            let (status, _) = kit.call_at(version, "alice", Method::GET, "/volumes", Value::Null).await;
            assert_eq!(status, StatusCode::NOT_ACCEPTABLE, "{version}");
        }
        let (status, _) = kit.call_at("3.26", "alice", Method::GET, "/attachments", Value::Null).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let (status, _) = kit.call("stranger", Method::GET, "/volumes", Value::Null).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert!(kit.images_there().await.is_empty());
        assert_eq!(kit.get("alice", "/volumes").await["volumes"], json!([]));
    }
}

#[tokio::test]
async fn every_route_needs_a_token() {
    let kit = kits().await.remove(0);
    let mut tried = 0;
    let parameter = regex::Regex::new(r"\{[^}]+\}").unwrap();
    for route in blockstore::routes().into_iter().filter(|r| !r.open) {
        let path = parameter.replace_all(route.path, "x").into_owned();
        let method = Method::from_bytes(route.method.to_ascii_uppercase().as_bytes()).unwrap();
        let (status, _) = kit.call("stranger", method, &path, Value::Null).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{} {}", route.method, route.path);
        tried += 1;
    }
    assert!(tried > 70, "{tried} routes");
}

#[tokio::test]
async fn listings_filter_sort_and_page() {
    for kit in kits().await {
        let mut ids = Vec::new();
        for i in 0..4 {
            let volume = json!({"size": 1, "name": format!("n{}", 3 - i), "metadata": {"even": (i % 2 == 0).to_string()}});
            ids.push(id(&create(&kit, volume).await));
        }
        let names = |body: &Value| -> Vec<String> {
            let all = body["volumes"].as_array().unwrap().iter();
            all.map(|v| v["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&kit.get("alice", "/volumes").await), ["n0", "n1", "n2", "n3"], "newest first");
        assert_eq!(names(&kit.get("alice", "/volumes?sort=name:desc").await), ["n3", "n2", "n1", "n0"]);
        assert_eq!(names(&kit.get("alice", "/volumes?name=n2").await), ["n2"]);
        assert_eq!(names(&kit.get("alice", "/volumes?name~=2").await), ["n2"]);
        assert_eq!(
            names(&kit.get("alice", "/volumes/detail?metadata=%7B'even':'true'%7D").await),
            ["n1", "n3"]
        );
        assert_eq!(names(&kit.get("alice", "/volumes?status=null").await), [""; 0]);
        assert_eq!(names(&kit.get("alice", "/volumes?bootable=true").await), [""; 0]);
        let counted = kit.get("alice", "/volumes?limit=1&with_count=true").await;
        assert_eq!(counted["count"], 4);
        for sort in ["", "&sort=name:asc", "&sort_key=status&sort_dir=desc", "&sort=size:asc,name:desc"] {
            let mut seen = Vec::new();
            let mut next = Some(format!("/volumes?limit=2{sort}"));
            while let Some(path) = next.take() {
                let page = kit.get("alice", &path).await;
                seen.extend(page["volumes"].as_array().unwrap().iter().map(id));
                if let Some(href) = page["volumes_links"][0]["href"].as_str() {
                    next = Some(href.strip_prefix(&format!("{}/volume/v3", kit.url)).unwrap().to_owned());
                }
            }
            let (mut got, mut want) = (seen.clone(), ids.clone());
            got.sort();
            want.sort();
            assert_eq!(got, want, "{sort}: every volume once");
        }
        let summary = kit.get("alice", "/volumes/summary").await;
        assert_eq!(summary["volume-summary"]["total_count"], 4);
        assert_eq!(summary["volume-summary"]["metadata"]["even"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn metadata_of_volumes_snapshots_and_images() {
    for kit in kits().await {
        let made = create(&kit, json!({"size": 1})).await;
        let snapshot = kit.snapshot(&id(&made)).await;
        for base in [format!("/volumes/{}/metadata", id(&made)), format!("/snapshots/{snapshot}/metadata")] {
            let put = |m: Method, path: String, body: Value| {
                let kit = &kit;
                async move { kit.call("alice", m, &path, body).await }
            };
            let (_, all) = put(Method::POST, base.clone(), json!({"metadata": {"a": "1", "b": "<2>"}})).await;
            assert_eq!(all["metadata"], json!({"a": "1", "b": "<2>"}));
            let (_, all) = put(Method::PUT, base.clone(), json!({"metadata": {"b": "3"}})).await;
            assert_eq!(all["metadata"], json!({"b": "3"}));
            let (_, one) = put(Method::PUT, format!("{base}/b"), json!({"meta": {"b": "4"}})).await;
            assert_eq!(one["meta"], json!({"b": "4"}));
            let (status, _) = put(Method::PUT, format!("{base}/b"), json!({"meta": {"c": "4"}})).await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
            let (status, _) = put(Method::DELETE, format!("{base}/b"), Value::Null).await;
            assert_eq!(status, StatusCode::OK);
            let (status, _) = put(Method::GET, format!("{base}/b"), Value::Null).await;
            assert_eq!(status, StatusCode::NOT_FOUND);
        }
        let set = json!({"os-set_image_metadata": {"metadata": {"os_type": "linux"}}});
        assert_eq!(kit.act("alice", &id(&made), set).await["metadata"], json!({"os_type": "linux"}));
        kit.act("alice", &id(&made), json!({"os-unset_image_metadata": {"key": "os_type"}})).await;
        let shown = kit.act("alice", &id(&made), json!({"os-show_image_metadata": {}})).await;
        assert_eq!(shown["metadata"], json!({}));
    }
}

#[tokio::test]
async fn quotas_are_counted_where_they_are_spent() {
    for kit in kits().await {
        let path = format!("/os-quota-sets/{}", project("p1"));
        let limit = |set: Value| {
            let (kit, path) = (&kit, &path);
            async move {
                let (status, body) = kit.call("admin", Method::PUT, path, json!({"quota_set": set})).await;
                assert_eq!(status, StatusCode::OK, "{body}");
            }
        };
        let refused = |body: Value, to: &'static str| {
            let kit = &kit;
            async move {
                let (status, answer) = kit.call("alice", Method::POST, to, body).await;
                assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{answer}");
                answer["overLimit"]["message"].as_str().unwrap().to_owned()
            }
        };
        limit(json!({"volumes": 2, "gigabytes": 5, "snapshots": 1})).await;
        let a = create(&kit, json!({"size": 3})).await;
        let why = refused(json!({"volume": {"size": 3}}), "/volumes").await;
        assert!(why.contains("quota is 5G and 3G has been consumed"), "{why}");
        // Clients look for upstream's name of what went wrong.
        assert!(why.starts_with("VolumeSizeExceedsAvailableQuota: "), "{why}");
        let (status, _) = kit
            .call(
                "alice",
                Method::POST,
                &format!("/volumes/{}/action", id(&a)),
                json!({"os-extend": {"new_size": 6}}),
            )
            .await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        refused(json!({"snapshot": {"volume_id": id(&a)}}), "/snapshots").await;
        create(&kit, json!({"size": 1})).await;
        let why = refused(json!({"volume": {"size": 1}}), "/volumes").await;
        assert!(why.contains("VolumeLimitExceeded: Maximum number of volumes allowed (2) exceeded"), "{why}");
        let usage = kit.get("alice", &format!("{path}?usage=True")).await;
        assert_eq!(usage["quota_set"]["gigabytes"], json!({"limit": 5, "in_use": 4, "reserved": 0}));
        kit.delete(&id(&a)).await;
        let limits = kit.get("alice", "/limits").await["limits"]["absolute"].clone();
        assert_eq!((&limits["totalGigabytesUsed"], &limits["totalVolumesUsed"]), (&json!(1), &json!(1)));
        limit(json!({"per_volume_gigabytes": 1})).await;
        refused(json!({"volume": {"size": 2}}), "/volumes").await;
        let (status, _) = kit.call("alice", Method::PUT, &path, json!({"quota_set": {"volumes": 99}})).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        let (status, _) = kit.call("bob", Method::GET, &path, Value::Null).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        for bad in [json!({"nonsense": 1}), json!({"volumes": -2}), json!({"volumes": "x"}), json!({})] {
            let (status, _) = kit.call("admin", Method::PUT, &path, json!({"quota_set": bad})).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
        }
    }
}

#[tokio::test]
async fn two_requests_never_spend_the_same_quota() {
    for kit in kits().await {
        let path = format!("/os-quota-sets/{}", project("p1"));
        kit.call("admin", Method::PUT, &path, json!({"quota_set": {"volumes": 3}})).await;
        let tries = (0..12).map(|_| {
            let new = NewVolume { size_gib: Some(1), source: Source::Empty, ..NewVolume::default() };
            let ctx = ctx("alice");
            let volumes = kit.volumes.clone();
            async move { volumes.create(&ctx, new).await.is_ok() }
        });
        let made = futures::future::join_all(tries).await.into_iter().filter(|ok| *ok).count();
        assert_eq!(made, 3);
    }
}

#[tokio::test]
async fn types_and_the_message_of_one_that_nothing_meets() {
    for kit in kits().await {
        let body = json!({"volume_type": {"name": "gold", "extra_specs": {"vendor_name": "Nobody"}}});
        let (status, made) = kit.call("admin", Method::POST, "/types", body.clone()).await;
        assert_eq!(status, StatusCode::OK, "{made}");
        let gold = made["volume_type"]["id"].as_str().unwrap().to_owned();
        assert_eq!(kit.call("admin", Method::POST, "/types", body.clone()).await.0, StatusCode::CONFLICT);
        assert_eq!(kit.call("alice", Method::POST, "/types", body).await.0, StatusCode::FORBIDDEN);
        let seen = kit.get("alice", &format!("/types/{gold}")).await;
        assert_eq!(seen["volume_type"]["extra_specs"], json!({}), "tenants do not see backends");

        let body = json!({"volume": {"size": 1, "volume_type": "gold"}});
        let (_, made) = kit.call("alice", Method::POST, "/volumes", body).await;
        let lost = id(&made["volume"]);
        until("it fails", || async {
            let shown = kit.get("alice", &format!("/volumes/{lost}")).await;
            (shown["volume"]["status"] == "error").then_some(())
        })
        .await;
        let messages = kit.get("alice", "/messages").await["messages"].clone();
        assert_eq!(messages[0]["resource_uuid"], lost);
        assert_eq!(messages[0]["event_id"], "VOLUME_VOLUME_001_003");
        assert_eq!(kit.get("bob", "/messages").await["messages"], json!([]));
        assert_eq!(kit.call("admin", Method::DELETE, &format!("/types/{gold}"), Value::Null).await.0, 400);
        kit.delete(&lost).await;

        let specs = format!("/types/{gold}/extra_specs");
        kit.call(
            "admin",
            Method::PUT,
            &format!("{specs}/vendor_name"),
            json!({"vendor_name": "Open Source"}),
        )
        .await;
        let good = create(&kit, json!({"size": 1, "volume_type": gold})).await;
        assert_eq!(good["volume_type"], "gold");
        kit.act(
            "alice",
            &id(&good),
            json!({"os-retype": {"new_type": "__DEFAULT__", "migration_policy": "never"}}),
        )
        .await;
        assert_eq!(kit.call("admin", Method::DELETE, &format!("/types/{gold}"), Value::Null).await.0, 202);

        let private = json!({"volume_type": {"name": "p", "os-volume-type-access:is_public": false}});
        let (_, made) = kit.call("admin", Method::POST, "/types", private).await;
        let path = format!("/types/{}", made["volume_type"]["id"].as_str().unwrap());
        assert_eq!(kit.call("alice", Method::GET, &path, Value::Null).await.0, StatusCode::NOT_FOUND);
        let add = json!({"addProjectAccess": {"project": project("p1")}});
        assert_eq!(kit.call("admin", Method::POST, &format!("{path}/action"), add).await.0, 202);
        assert_eq!(kit.call("alice", Method::GET, &path, Value::Null).await.0, StatusCode::OK);
        assert_eq!(kit.call("bob", Method::GET, &path, Value::Null).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_transfer_moves_a_volume_once_and_with_its_key_only() {
    for kit in kits().await {
        let made = create(&kit, json!({"size": 1})).await;
        let body = json!({"transfer": {"volume_id": id(&made), "name": "t"}});
        let (status, offer) = kit.call_at("3.0", "alice", Method::POST, "/os-volume-transfer", body).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{offer}");
        let offer = &offer["transfer"];
        let path = format!("/os-volume-transfer/{}", id(offer));
        assert_eq!(
            kit.get("alice", &format!("/volumes/{}", id(&made))).await["volume"]["status"],
            "awaiting-transfer"
        );
        assert_eq!(kit.call("bob", Method::GET, &path, Value::Null).await.0, StatusCode::NOT_FOUND);
        let accept = |key: Value| {
            let (kit, path) = (&kit, format!("{path}/accept"));
            async move { kit.call("bob", Method::POST, &path, json!({"accept": {"auth_key": key}})).await.0 }
        };
        assert_eq!(accept(json!("guess")).await, StatusCode::BAD_REQUEST);
        assert_eq!(accept(offer["auth_key"].clone()).await, StatusCode::ACCEPTED);
        assert_eq!(accept(offer["auth_key"].clone()).await, StatusCode::NOT_FOUND);
        let path = format!("/volumes/{}", id(&made));
        assert_eq!(kit.call("alice", Method::GET, &path, Value::Null).await.0, StatusCode::NOT_FOUND);
        let shown = kit.get("bob", &path).await;
        assert_eq!(
            (&shown["volume"]["status"], &shown["volume"]["user_id"]),
            (&json!("available"), &json!("bob"))
        );
    }
}

#[tokio::test]
async fn what_operators_and_clients_ask_about_the_cloud() {
    let kit = kits().await.remove(0);
    for path in [
        "/os-services",
        "/os-hosts",
        "/os-hosts/aquifer@volumes",
        "/scheduler-stats/get_pools?detail=True",
        "/capabilities/aquifer@volumes",
        "/default-types",
        "/qos-specs",
    ] {
        kit.get("admin", path).await;
        assert_eq!(
            kit.call("alice", Method::GET, path, Value::Null).await.0,
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
    for path in ["/os-availability-zone", "/extensions", "/resource_filters", "/types", "/types/default", "/"]
    {
        kit.get("alice", path).await;
    }
    let pools = kit.get("admin", "/scheduler-stats/get_pools?detail=True").await;
    assert!(pools["pools"][0]["capabilities"]["total_capacity_gb"].as_f64().unwrap() > 0.0, "{pools}");
    let service = json!({"binary": "cinder-volume", "host": "aquifer@volumes", "disabled_reason": "moving"});
    let (status, off) =
        kit.call("admin", Method::PUT, "/os-services/disable-log-reason", service.clone()).await;
    assert_eq!((status, &off["status"]), (StatusCode::OK, &json!("disabled")), "{off}");
    let (status, _) = kit.call("admin", Method::PUT, "/os-services/enable", service).await;
    assert_eq!(status, StatusCode::OK);
    let absent = json!({"binary": "cinder-volume", "host": "other"});
    assert_eq!(kit.call("admin", Method::PUT, "/os-services/disable", absent).await.0, StatusCode::NOT_FOUND);
    let versions = reqwest::get(format!("{}/volume/", kit.url)).await.unwrap();
    assert_eq!(versions.status(), StatusCode::MULTIPLE_CHOICES);
}
