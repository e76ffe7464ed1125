//! Groups over the wire and as durable work, on both databases and a real cluster. Failpoints belong to the whole
//! process, so these tests run one at a time.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use kit::{Kit, id, kits};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use state::failpoint::{self, Action};
use tokio::sync::Mutex;

static ONE: Mutex<()> = Mutex::const_new(());

/// The ids of a group type and of the volume type that groups here have.
async fn types(kit: &Kit) -> (String, String) {
    let name = testbed::unique("gt");
    let kind = kit.post("admin", "/group_types", json!({"group_type": {"name": name}})).await;
    let volume = kit.get("alice", "/types/default").await;
    (id(&kind["group_type"]), id(&volume["volume_type"]))
}

/// A group of alice's with so many volumes.
async fn group(kit: &Kit, volumes: usize) -> (String, Vec<String>) {
    let (kind, volume_type) = types(kit).await;
    let body = json!({"group": {"name": "g", "group_type": kind, "volume_types": [volume_type]}});
    let group = id(&kit.post("alice", "/groups", body).await["group"]);
    let mut all = Vec::new();
    for _ in 0..volumes {
        let body = json!({"volume": {"size": 1, "group_id": group, "volume_type": volume_type}});
        let made = kit.post("alice", "/volumes", body).await;
        assert_eq!(made["volume"]["group_id"], group);
        all.push(id(&made["volume"]));
    }
    for v in &all {
        kit.becomes(v, blockstore::VolumeStatus::Available).await;
    }
    (group, all)
}

async fn snaps(kit: &Kit, volume: &str) -> usize {
    let image = kit.open(volume).await;
    image.snap_list().await.unwrap().len()
}

async fn take(kit: &Kit, group: &str) -> String {
    let body = json!({"group_snapshot": {"group_id": group, "name": "s"}});
    id(&kit.post("alice", "/group_snapshots", body).await["group_snapshot"])
}

/// What is asked of a group's replication where no backend has one; `replication.rs` has the rest.
#[tokio::test]
async fn a_groups_replication_is_refused() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let mirrored = kit.add_type("mirrored", json!({"replication_enabled": "<is> True"})).await;
        let plain = id(&kit.get("alice", "/types/default").await["volume_type"]);
        let body = json!({"name": "together", "group_specs": {"group_replication_enabled": "<is> True"}});
        let kind = id(&kit.post("admin", "/group_types", json!({"group_type": body})).await["group_type"]);
        let made = async |volume_type: &str| {
            let body = json!({"group": {"name": "g", "group_type": kind, "volume_types": [volume_type]}});
            format!("/groups/{}", id(&kit.post("alice", "/groups", body).await["group"]))
        };
        let (group, mixed) = (made(&mirrored).await, made(&plain).await);
        let ask = async |who: &str, version: &str, group: &str, verb: &str, with: Value| {
            let path = format!("{group}/action");
            let (status, body) = kit.call_at(version, who, Method::POST, &path, json!({verb: with})).await;
            (status.as_u16(), body.to_string())
        };
        let verbs =
            ["enable_replication", "disable_replication", "failover_replication", "list_replication_targets"];
        for verb in verbs {
            assert_eq!(ask("rita", "3.38", &group, verb, json!({})).await.0, 403, "{verb}");
            assert_eq!(ask("bob", "3.38", &group, verb, json!({})).await.0, 404, "{verb}");
            assert_eq!(ask("alice", "3.37", &group, verb, json!({})).await.0, 404, "{verb}");
            assert_eq!(ask("alice", "3.38", &group, verb, json!(1)).await.0, 400, "{verb}");
            let (status, why) = ask("alice", "3.38", &mixed, verb, json!({})).await;
            assert!(status == 400 && why.contains("does not have 'replication_enabled'"), "{verb}: {why}");
        }
        let fails_over = |with: Value| ask("alice", "3.38", &group, "failover_replication", with);
        for bad in
            [json!({"to": "x"}), json!({"allow_attached_volume": "so"}), json!({"secondary_backend_id": 1})]
        {
            assert_eq!(fails_over(bad.clone()).await.0, 400, "{bad}");
        }
        let targets = ask("alice", "3.38", &group, "list_replication_targets", json!({})).await;
        assert_eq!(targets, (200, json!({"replication_targets": []}).to_string()));
        let (status, why) = ask("alice", "3.38", &group, "disable_replication", json!({})).await;
        assert!(status == 400 && why.contains("current status is: disabled"), "{why}");
        // One without volumes has nothing to wait for.
        assert_eq!(ask("alice", "3.38", &group, "enable_replication", json!({})).await.0, 202);
        kit.shows(&group, "replication_status", "enabled").await;
        let (status, why) = fails_over(json!({})).await;
        assert!(status == 400 && why.contains("one replicated backend"), "{why}");
        assert_eq!(ask("alice", "3.38", &group, "disable_replication", json!({})).await.0, 202);
        kit.shows(&group, "replication_status", "disabled").await;
        for group in [&group, &mixed] {
            let with = json!({"delete-volumes": true});
            assert_eq!(ask("alice", "3.38", group, "delete", with).await.0, 202);
            kit.absent(group).await;
        }
        kit.end().await;
    }
}

#[tokio::test]
async fn a_group_lives() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let (group, volumes) = group(&kit, 2).await;
        let path = format!("/groups/{group}");
        let hidden = kit.call("bob", Method::GET, &path, Value::Null).await.0;
        assert_eq!(hidden, StatusCode::NOT_FOUND);
        let readonly = kit.call("rita", Method::PUT, &path, json!({"group": {"name": "x"}})).await.0;
        assert_eq!(readonly, StatusCode::FORBIDDEN);
        let shown = kit.get("alice", &format!("{path}?list_volume=true")).await;
        assert_eq!(shown["group"]["volumes"].as_array().unwrap().len(), 2);
        // A volume of a group is deleted with the group, or taken out of it first.
        let path_of_volume = format!("/volumes/{}", volumes[0]);
        assert_eq!(kit.call("alice", Method::DELETE, &path_of_volume, Value::Null).await.0, 400);
        let force = json!({"os-force_delete": {}});
        let action = format!("{path_of_volume}/action");
        assert_eq!(kit.call("admin", Method::POST, &action, force).await.0, 400);
        let body = json!({"group": {"remove_volumes": volumes[0], "name": "renamed"}});
        assert_eq!(kit.call("alice", Method::PUT, &path, body.clone()).await.0, 202);
        assert_eq!(kit.call("alice", Method::PUT, &path, body).await.0, 400, "it is not in it any more");
        assert_eq!(kit.get("alice", &path_of_volume).await["volume"]["group_id"], Value::Null);
        let body = json!({"group": {"add_volumes": volumes[0]}});
        assert_eq!(kit.call("alice", Method::PUT, &path, body).await.0, 202);
        let of = kit.get("alice", &format!("/volumes?group_id={group}")).await;
        assert_eq!(of["volumes"].as_array().unwrap().len(), 2);
        let empty = kit.call("alice", Method::PUT, &path, json!({"group": {}})).await.0;
        assert_eq!(empty, 400);

        let list = kit.get("alice", "/groups?limit=1&sort=name:asc").await;
        assert_eq!(
            (list["groups"][0]["name"].as_str(), list["groups"].as_array().unwrap().len()),
            (Some("renamed"), 1)
        );
        assert_eq!(kit.get("bob", "/groups/detail").await["groups"], json!([]));

        let act = format!("{path}/action");
        let keep = json!({"delete": {"delete-volumes": false}});
        assert_eq!(kit.call("alice", Method::POST, &act, keep).await.0, 400);
        let (status, why) = kit.call("alice", Method::POST, &act, json!({"enable_replication": {}})).await;
        assert_eq!(status, 400);
        assert!(why.to_string().contains("is not a replication group type"), "{why}");
        let snapshot = take(&kit, &group).await;
        kit.shows(&format!("/group_snapshots/{snapshot}"), "status", "available").await;
        let with = json!({"delete": {"delete-volumes": true}});
        assert_eq!(kit.call("alice", Method::POST, &act, with.clone()).await.0, 400, "it has snapshots");
        let parts = kit.get("alice", &format!("/snapshots/detail?group_snapshot_id={snapshot}")).await;
        let part = id(&parts["snapshots"][0]);
        assert_eq!(parts["snapshots"][0]["group_snapshot_id"], snapshot);
        let path_of_part = format!("/snapshots/{part}");
        assert_eq!(
            kit.call("alice", Method::DELETE, &path_of_part, Value::Null).await.0,
            400,
            "it is a part"
        );

        let mut copies = Vec::new();
        for source in ["group_snapshot_id", "source_group_id"] {
            let from = if source == "source_group_id" { &group } else { &snapshot };
            let body = json!({"create-from-src": {"name": "copy", source: from}});
            let copy = id(&kit.post("alice", "/groups/action", body).await["group"]);
            let shown = kit.shows(&format!("/groups/{copy}"), "status", "available").await;
            assert_eq!(shown[source], *from);
            let of = kit.get("alice", &format!("/volumes?group_id={copy}")).await;
            assert_eq!(of["volumes"].as_array().unwrap().len(), 2);
            copies.push(copy);
        }
        let both = json!({"create-from-src": {"group_snapshot_id": snapshot, "source_group_id": group}});
        assert_eq!(kit.call("alice", Method::POST, "/groups/action", both).await.0, 400);
        // Clones do not keep the snapshot, the copies do not keep the group.
        let path_of_snapshot = format!("/group_snapshots/{snapshot}");
        assert_eq!(kit.call("bob", Method::DELETE, &path_of_snapshot, Value::Null).await.0, 404);
        assert_eq!(kit.call("alice", Method::DELETE, &path_of_snapshot, Value::Null).await.0, 202);
        kit.absent(&path_of_snapshot).await;
        for g in copies.iter().chain([&group]) {
            let act = format!("/groups/{g}/action");
            let (status, body) = kit.call("alice", Method::POST, &act, with.clone()).await;
            assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        }
        for g in copies.iter().chain([&group]) {
            kit.absent(&format!("/groups/{g}")).await;
        }
        kit.settled().await;
        assert!(kit.images_there().await.is_empty(), "{:?}", kit.images_there().await);
    }
}

#[tokio::test]
async fn a_groups_snapshot_step_by_step() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let (group, volumes) = group(&kit, 2).await;
        for when in ["before", "after"] {
            let make = format!("group_snapshot.create:snap:{when}");
            let remove = format!("group_snapshot.delete:remove:{when}");
            failpoint::set(&*make, Action::RetryOnce);
            let s = take(&kit, &group).await;
            let path = format!("/group_snapshots/{s}");
            kit.shows(&path, "status", "available").await;
            kit.settled().await;
            for v in &volumes {
                assert_eq!(snaps(&kit, v).await, 1);
            }
            failpoint::set(&*remove, Action::RetryOnce);
            kit.call("alice", Method::DELETE, &path, Value::Null).await;
            kit.absent(&path).await;
            kit.settled().await;
            for v in &volumes {
                assert_eq!(snaps(&kit, v).await, 0);
            }
            for point in [&make, &remove] {
                failpoint::clear(point);
            }
        }
        for when in ["before", "after"] {
            let make = format!("group_snapshot.create:snap:{when}");
            failpoint::set(&*make, Action::Fail);
            failpoint::set("group_snapshot.create:undo:snap:after", Action::RetryOnce);
            let s = take(&kit, &group).await;
            let path = format!("/group_snapshots/{s}");
            kit.shows(&path, "status", "error").await;
            kit.settled().await;
            failpoint::clear(&make);
            failpoint::clear("group_snapshot.create:undo:snap:after");
            for v in &volumes {
                assert_eq!(snaps(&kit, v).await, 0);
            }
            failpoint::set("group_snapshot.delete:remove:before", Action::Fail);
            kit.call("alice", Method::DELETE, &path, Value::Null).await;
            kit.shows(&path, "status", "error_deleting").await;
            kit.settled().await;
            failpoint::clear("group_snapshot.delete:remove:before");
            kit.call("alice", Method::DELETE, &path, Value::Null).await;
            kit.absent(&path).await;
        }
    }
}

#[tokio::test]
async fn a_group_follows_its_volumes() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let (group, volumes) = group(&kit, 1).await;
        for (when, action) in [
            ("before", Action::RetryOnce),
            ("after", Action::RetryOnce),
            ("before", Action::Fail),
            ("after", Action::Fail),
        ] {
            let point = format!("group.settle:follow:{when}");
            failpoint::set(&*point, action);
            failpoint::set("group.settle:undo:follow:after", Action::RetryOnce);
            let body = json!({"create-from-src": {"source_group_id": group}});
            let copy = id(&kit.post("alice", "/groups/action", body).await["group"]);
            let path = format!("/groups/{copy}");
            kit.shows(&path, "status", "available").await;
            failpoint::clear(&point);
            failpoint::clear("group.settle:undo:follow:after");
            let with = json!({"delete": {"delete-volumes": true}});
            assert_eq!(kit.call("alice", Method::POST, &format!("{path}/action"), with).await.0, 202);
            kit.absent(&path).await;
            kit.settled().await;
        }
        // A copy of which a volume fails is in error, and can be deleted.
        failpoint::set("volume.create:allocate:before", Action::Fail);
        let body = json!({"create-from-src": {"source_group_id": group}});
        let copy = id(&kit.post("alice", "/groups/action", body).await["group"]);
        let path = format!("/groups/{copy}");
        kit.shows(&path, "status", "error").await;
        failpoint::clear("volume.create:allocate:before");
        for path in [path, format!("/groups/{group}")] {
            let with = json!({"delete": {"delete-volumes": true}});
            assert_eq!(kit.call("alice", Method::POST, &format!("{path}/action"), with).await.0, 202);
            kit.absent(&path).await;
        }
        kit.gone(&volumes[0]).await;
    }
}

#[tokio::test]
async fn group_types_and_encryption_are_the_administrators() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let (kind, _) = types(&kit).await;
        let path = format!("/group_types/{kind}");
        let specs = format!("{path}/group_specs");
        let body = json!({"group_specs": {"a": "1", "b": "2"}});
        assert_eq!(kit.call("alice", Method::POST, &specs, body.clone()).await.0, 403);
        assert_eq!(kit.call("admin", Method::POST, &specs, body).await.0, 202);
        let put = kit.call("admin", Method::PUT, &format!("{specs}/b"), json!({"b": "3"})).await;
        assert_eq!(put.1, json!({"b": "3"}));
        assert_eq!(kit.call("admin", Method::PUT, &format!("{specs}/b"), json!({"c": "3"})).await.0, 400);
        assert_eq!(kit.call("admin", Method::DELETE, &format!("{specs}/a"), Value::Null).await.0, 202);
        assert_eq!(kit.call("admin", Method::GET, &format!("{specs}/a"), Value::Null).await.0, 404);
        assert_eq!(kit.get("admin", &path).await["group_type"]["group_specs"], json!({"b": "3"}));
        assert!(kit.get("alice", &path).await["group_type"].get("group_specs").is_none());
        let old = kit.call_at("3.10", "alice", Method::GET, &path, Value::Null).await.0;
        assert_eq!(old, StatusCode::NOT_FOUND);
        let (group, _) = group(&kit, 0).await;
        let used = kit.get("alice", &format!("/groups/{group}")).await["group"]["group_type"].clone();
        let used = format!("/group_types/{}", used.as_str().unwrap());
        assert_eq!(kit.call("admin", Method::DELETE, &used, Value::Null).await.0, 400, "a group has it");
        assert_eq!(kit.call("admin", Method::DELETE, &path, Value::Null).await.0, 202);

        let made = kit.post("admin", "/types", json!({"volume_type": {"name": "secret"}})).await;
        let path = format!("/types/{}/encryption", id(&made["volume_type"]));
        let body =
            json!({"encryption": {"provider": "luks", "control_location": "front-end", "key_size": 256}});
        assert_eq!(kit.call("alice", Method::POST, &path, body.clone()).await.0, 403);
        let made = kit.post("admin", &path, body.clone()).await["encryption"].clone();
        assert_eq!(kit.call("admin", Method::POST, &path, body).await.0, 400, "it is encrypted already");
        let of = format!("{path}/{}", made["encryption_id"].as_str().unwrap());
        let change = json!({"encryption": {"cipher": "aes-xts-plain64"}});
        assert_eq!(kit.call("admin", Method::PUT, &of, change).await.0, 200);
        let shown = kit.get("admin", &path).await;
        assert_eq!((&shown["cipher"], &shown["key_size"]), (&json!("aes-xts-plain64"), &json!(256)));
        // A type that a volume has stays as it is.
        let volume = json!({"volume": {"size": 1, "volume_type": "secret"}});
        let sealed = kit.post("alice", "/volumes", volume.clone()).await["volume"].clone();
        assert_eq!(sealed["encrypted"], true);
        assert_eq!(kit.call("admin", Method::DELETE, &of, Value::Null).await.0, 400);
        kit.becomes(&id(&sealed), blockstore::VolumeStatus::Available).await;
        kit.delete(&id(&sealed)).await;
        assert_eq!(kit.call("admin", Method::DELETE, &of, Value::Null).await.0, 202);
        assert_eq!(kit.get("admin", &path).await, json!({}));
        assert_eq!(kit.post("alice", "/volumes", volume).await["volume"]["encrypted"], false);
    }
}
