//! A frozen backend: what is there is read and written, and nothing is made there, moved there or taken away. On both
//! databases.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use blockstore::{Source, VolumeStatus};
use kit::{Kit, ctx, id, kits};
use pool::CreateOptions;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const HOST: &str = "aquifer@volumes";

/// A new volume that finds no place, and says so.
async fn finds_none(kit: &Kit, made: &Value) {
    let id = id(made);
    let shown = kit.shows(&format!("/volumes/{id}"), "status", "error").await;
    assert_eq!(shown["os-vol-host-attr:host"], Value::Null);
    kit.settled().await;
    let told = kit.get("alice", "/messages").await["messages"].clone();
    assert!(told.as_array().unwrap().iter().any(|m| m["resource_uuid"] == *id), "{told}");
    assert!(!kit.images_there().await.contains(&format!("volume-{id}")));
}

/// What there is before: a volume with a snapshot and a backup, a group of one volume with its snapshot, and a volume of
/// another tier.
struct There {
    volume: String,
    backup: String,
    group: String,
    group_snapshot: String,
    group_type: String,
    elsewhere: String,
}

async fn there(kit: &Kit) -> There {
    let volume = kit.create(Source::Empty, Some(1)).await.id;
    let backup = kit.post("alice", "/backups", json!({"backup": {"volume_id": volume}})).await;
    let backup = id(&backup["backup"]);
    kit.shows(&format!("/backups/{backup}"), "status", "available").await;
    kit.becomes(&volume, VolumeStatus::Available).await;

    let kind = id(&kit.get("alice", "/types/default").await["volume_type"]);
    let name = testbed::unique("gt");
    let group_type = kit.post("admin", "/group_types", json!({"group_type": {"name": name}})).await;
    let group_type = id(&group_type["group_type"]);
    let body = json!({"group": {"name": "g", "group_type": group_type, "volume_types": [kind]}});
    let group = id(&kit.post("alice", "/groups", body).await["group"]);
    let body = json!({"volume": {"size": 1, "group_id": group, "volume_type": kind}});
    let member = id(&kit.post("alice", "/volumes", body).await["volume"]);
    kit.becomes(&member, VolumeStatus::Available).await;
    let body = json!({"group_snapshot": {"group_id": group, "name": "s"}});
    let group_snapshot = id(&kit.post("alice", "/group_snapshots", body).await["group_snapshot"]);
    kit.shows(&format!("/group_snapshots/{group_snapshot}"), "status", "available").await;

    for (name, specs) in [("elsewhere", json!({"volume_backend_name": "images"})), ("other", json!({}))] {
        kit.add_type(name, specs).await;
    }
    let body = json!({"volume": {"size": 1, "volume_type": "elsewhere"}});
    let elsewhere = id(&kit.post("alice", "/volumes", body).await["volume"]);
    kit.becomes(&elsewhere, VolumeStatus::Available).await;
    There { volume, backup, group, group_snapshot, group_type, elsewhere }
}

#[tokio::test]
async fn nothing_is_made_moved_or_deleted() {
    for kit in kits().await {
        let all = there(&kit).await;
        kit.tier.pool.rbd().create("stray", 1 << 20, CreateOptions::default()).await.unwrap();
        let put = |action: &'static str| {
            let (kit, path) = (&kit, format!("/os-services/{action}"));
            async move { kit.call("admin", Method::PUT, &path, json!({"host": HOST})).await.0 }
        };
        assert_eq!(put("freeze").await, StatusCode::OK);
        refused(&kit, &all).await;
        without_a_place(&kit, &all).await;
        stays(&kit, &all.elsewhere, "__DEFAULT__", "on-demand").await;
        stays(&kit, &all.volume, "other", "never").await;
        assert_eq!(put("thaw").await, StatusCode::OK);

        let retype = json!({"os-retype": {"new_type": "other", "migration_policy": "never"}});
        kit.act("alice", &all.volume, retype).await;
        assert_eq!(
            kit.get("alice", &format!("/volumes/{}", all.volume)).await["volume"]["volume_type"],
            "other"
        );
        let path = format!("/group_snapshots/{}", all.group_snapshot);
        assert_eq!(kit.call("alice", Method::DELETE, &path, Value::Null).await.0, StatusCode::ACCEPTED);
        kit.settled().await;
        let delete = json!({"delete": {"delete-volumes": true}});
        kit.post("alice", &format!("/groups/{}/action", all.group), delete).await;
        kit.settled().await;
        kit.delete(&all.volume).await;
    }
}

/// What is answered with 400.
async fn refused(kit: &Kit, all: &There) {
    let taken = json!({"volume": {"host": "aquifer@volumes#volumes", "ref": {"source-name": "stray"}}});
    let snapshot = json!({"snapshot": {"volume_id": all.volume, "ref": {"source-name": "any"}}});
    let copy = |from: Value| json!({"create-from-src": from});
    let group = format!("/groups/{}/action", all.group);
    let elsewhere = format!("/volumes/{}/action", all.elsewhere);
    for (who, path, body) in [
        ("alice", "/group_snapshots", json!({"group_snapshot": {"group_id": all.group, "name": "t"}})),
        ("alice", "/groups/action", copy(json!({"name": "c", "source_group_id": all.group}))),
        ("alice", "/groups/action", copy(json!({"name": "c", "group_snapshot_id": all.group_snapshot}))),
        ("alice", &group, json!({"delete": {"delete-volumes": true}})),
        ("admin", &elsewhere, json!({"os-migrate_volume": {"host": "aquifer@volumes#volumes"}})),
        ("admin", "/manageable_volumes", taken),
        ("admin", "/manageable_snapshots", snapshot),
    ] {
        let (status, answer) = kit.call(who, Method::POST, path, body.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {body}: {answer}");
    }
    for path in [format!("/group_snapshots/{}", all.group_snapshot), format!("/volumes/{}", all.volume)] {
        let (status, answer) = kit.call("alice", Method::DELETE, &path, Value::Null).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {answer}");
    }
    let (_, shown) = kit.call("alice", Method::GET, &format!("/groups/{}", all.group), Value::Null).await;
    assert_eq!(shown["group"]["status"], "available");
    let groups = kit.get("alice", "/groups").await["groups"].as_array().unwrap().len();
    assert_eq!(groups, 1, "nothing is left of those that were refused");
}

/// New volumes are accepted, as everywhere, and find no tier.
async fn without_a_place(kit: &Kit, all: &There) {
    let made = kit.post("alice", "/volumes", json!({"volume": {"size": 1}})).await;
    finds_none(kit, &made["volume"]).await;
    let clone = json!({"volume": {"size": 1, "source_volid": all.volume}});
    finds_none(kit, &kit.post("alice", "/volumes", clone).await["volume"]).await;

    let kind = id(&kit.get("alice", "/types/default").await["volume_type"]);
    let body = json!({"group": {"name": "h", "group_type": all.group_type, "volume_types": [kind]}});
    let group = id(&kit.post("alice", "/groups", body).await["group"]);
    let body = json!({"volume": {"size": 1, "group_id": group, "volume_type": kind}});
    finds_none(kit, &kit.post("alice", "/volumes", body).await["volume"]).await;

    let path = format!("/backups/{}/restore", all.backup);
    let made = kit.post("alice", &path, json!({"restore": {}})).await;
    finds_none(kit, &json!({"id": made["restore"]["volume_id"]})).await;
    kit.shows(&format!("/backups/{}", all.backup), "status", "available").await;
}

/// A retype that is accepted and leads nowhere: the volume is what it was, and says so.
async fn stays(kit: &Kit, volume: &str, kind: &str, policy: &str) {
    let before = kit.volumes.get(&ctx("alice"), volume).await.unwrap();
    let retype = json!({"os-retype": {"new_type": kind, "migration_policy": policy}});
    kit.act("alice", volume, retype).await;
    kit.settled().await;
    let after = kit.volumes.get(&ctx("alice"), volume).await.unwrap();
    assert_eq!((&after.type_id, &after.tier, after.status), (&before.type_id, &before.tier, before.status));
    assert_eq!(after.migration_status.as_deref(), Some("error"));
}
