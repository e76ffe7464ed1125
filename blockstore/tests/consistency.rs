//! Consistency groups, which are groups by an older name: what old clients see of them, and what the API of groups
//! leaves to theirs. On both databases.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use blockstore::VolumeStatus;
use kit::{Kit, id, kits};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// An empty group of alice's that is no consistency group.
async fn group(kit: &Kit) -> String {
    let body = json!({"group_type": {"name": testbed::unique("gt")}});
    let kind = id(&kit.post("admin", "/group_types", body).await["group_type"]);
    let body = json!({"group": {"name": "g", "group_type": kind, "volume_types": ["__DEFAULT__"]}});
    id(&kit.post("alice", "/groups", body).await["group"])
}

/// A volume of alice's in a group.
async fn member(kit: &Kit, group: &str) -> String {
    let body = json!({"volume": {"size": 1, "group_id": group}});
    let made = kit.post("alice", "/volumes", body).await["volume"].clone();
    kit.becomes(&id(&made), VolumeStatus::Available).await;
    id(&made)
}

/// A consistency group of alice's with a volume, and its snapshot.
struct There {
    group: String,
    volume: String,
    snapshot: String,
    /// The type of consistency groups.
    kind: String,
}

async fn there(kit: &Kit) -> There {
    let types = kit.get("alice", "/group_types").await["group_types"].clone();
    let kind = types.as_array().unwrap().iter().find(|t| t["name"] == "default_cgsnapshot_type");
    let kind = id(kind.unwrap());
    let body = json!({"consistencygroup": {"name": "c", "volume_types": "__DEFAULT__"}});
    let group = id(&kit.post("alice", "/consistencygroups", body).await["consistencygroup"]);
    let volume = member(kit, &group).await;
    let body = json!({"cgsnapshot": {"consistencygroup_id": group, "name": "s"}});
    let snapshot = id(&kit.post("alice", "/cgsnapshots", body).await["cgsnapshot"]);
    kit.shows(&format!("/cgsnapshots/{snapshot}"), "status", "available").await;
    There { group, volume, snapshot, kind }
}

#[tokio::test]
async fn a_consistency_group_lives() {
    for kit in kits().await {
        let volume_type = id(&kit.get("alice", "/types/default").await["volume_type"]);
        let other = group(&kit).await;
        let at = |method, path: String, body| {
            let kit = &kit;
            // Old clients name no version.
            async move { kit.call_at("3.0", "alice", method, &path, body).await }
        };
        let asked = json!({"consistencygroup": {"name": "c", "volume_types": volume_type}});
        let (status, made) = at(Method::POST, "/consistencygroups".into(), asked).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{made}");
        let c = id(&made["consistencygroup"]);
        let asked = json!({"volume": {"size": 1, "consistencygroup_id": c}});
        let (_, made) = at(Method::POST, "/volumes".into(), asked).await;
        assert_eq!(made["volume"]["consistencygroup_id"], *c);
        let v = id(&made["volume"]);
        kit.becomes(&v, VolumeStatus::Available).await;

        // No other group is one of these.
        let path = format!("/consistencygroups/{c}");
        let (_, shown) = at(Method::GET, path.clone(), Value::Null).await;
        assert_eq!(
            (&shown["consistencygroup"]["status"], &shown["consistencygroup"]["volume_types"]),
            (&json!("available"), &json!([volume_type]))
        );
        let (_, all) = at(Method::GET, "/consistencygroups/detail".into(), Value::Null).await;
        assert_eq!(all["consistencygroups"].as_array().unwrap().len(), 1, "{all}");
        for (method, path) in [
            (Method::GET, format!("/consistencygroups/{other}")),
            (Method::POST, format!("/consistencygroups/{other}/delete")),
        ] {
            let body = if method == Method::GET { Value::Null } else { json!({"consistencygroup": {}}) };
            assert_eq!(at(method, path, body).await.0, StatusCode::NOT_FOUND);
        }
        assert_eq!(kit.call("bob", Method::GET, &path, Value::Null).await.0, StatusCode::NOT_FOUND);
        let rename = json!({"consistencygroup": {"name": "d"}});
        assert_eq!(at(Method::PUT, format!("{path}/update"), rename).await.0, StatusCode::ACCEPTED);
        let bad = json!({"consistencygroup": {"name": "c", "volume_types": ""}});
        assert_eq!(at(Method::POST, "/consistencygroups".into(), bad).await.0, StatusCode::BAD_REQUEST);

        let asked = json!({"cgsnapshot": {"consistencygroup_id": c, "name": "s"}});
        let (status, made) = at(Method::POST, "/cgsnapshots".into(), asked).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{made}");
        let s = id(&made["cgsnapshot"]);
        let shown = kit.shows(&format!("/cgsnapshots/{s}"), "status", "available").await;
        assert_eq!((&shown["consistencygroup_id"], &shown["name"]), (&json!(c), &json!("s")));
        assert_eq!(kit.open(&v).await.snap_list().await.unwrap().len(), 1);

        let mut made = Vec::new();
        for source in [json!({"cgsnapshot_id": s}), json!({"source_cgid": c})] {
            let asked = json!({"consistencygroup-from-src": source});
            let (status, copy) = at(Method::POST, "/consistencygroups/create_from_src".into(), asked).await;
            assert_eq!(status, StatusCode::ACCEPTED, "{copy}");
            let copy = id(&copy["consistencygroup"]);
            kit.shows(&format!("/consistencygroups/{copy}"), "status", "available").await;
            made.push(copy);
        }
        kit.settled().await;
        assert_eq!(
            at(Method::DELETE, format!("/cgsnapshots/{s}"), Value::Null).await.0,
            StatusCode::ACCEPTED
        );
        kit.absent(&format!("/cgsnapshots/{s}")).await;
        let delete = |force: bool| json!({"consistencygroup": {"force": force}});
        assert_eq!(
            at(Method::POST, format!("{path}/delete"), delete(false)).await.0,
            StatusCode::BAD_REQUEST
        );
        for g in made.iter().chain([&c]) {
            let path = format!("/consistencygroups/{g}");
            assert_eq!(
                at(Method::POST, format!("{path}/delete"), delete(true)).await.0,
                StatusCode::ACCEPTED
            );
            kit.absent(&path).await;
        }
        kit.settled().await;
        assert!(kit.images_there().await.is_empty());
    }
}

#[tokio::test]
async fn volumes_name_their_consistency_group() {
    for kit in kits().await {
        let There { group: c, volume: v, .. } = there(&kit).await;
        let g = group(&kit).await;
        let other = member(&kit, &g).await;
        let alone = kit.create(blockstore::Source::Empty, Some(1)).await.id;
        for (volume, older, group) in
            [(&v, json!(c), json!(c)), (&other, Value::Null, json!(g)), (&alone, Value::Null, Value::Null)]
        {
            let path = format!("/volumes/{volume}");
            let shown = kit.get("alice", &path).await["volume"].clone();
            let listed = kit.get("alice", "/volumes/detail").await["volumes"].clone();
            let listed = listed.as_array().unwrap().iter().find(|l| l["id"] == **volume).unwrap().clone();
            let renamed = json!({"volume": {"name": "w"}});
            let (_, changed) = kit.call("alice", Method::PUT, &path, renamed).await;
            for view in [&shown, &listed, &changed["volume"]] {
                assert_eq!((&view["consistencygroup_id"], &view["group_id"]), (&older, &group), "{view}");
            }
            // Old clients know no other name for a group.
            let (_, shown) = kit.call_at("3.12", "alice", Method::GET, &path, Value::Null).await;
            assert_eq!(shown["volume"]["consistencygroup_id"], older);
            assert!(shown["volume"].get("group_id").is_none());
        }
        let leaves = json!({"consistencygroup": {"remove_volumes": v}});
        let (status, body) =
            kit.call("alice", Method::PUT, &format!("/consistencygroups/{c}/update"), leaves).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        let shown = kit.get("alice", &format!("/volumes/{v}")).await["volume"].clone();
        assert_eq!(shown["consistencygroup_id"], Value::Null);
    }
}

#[tokio::test]
async fn the_api_of_groups_leaves_them_alone() {
    for kit in kits().await {
        let There { group: c, snapshot: s, kind, .. } = there(&kit).await;
        let g = group(&kit).await;
        let of_groups = format!(
            "Group_type {kind} is reserved for migrating CGs to groups. Migrated group can only be operated by CG APIs."
        );
        let of_snapshots = format!(
            "Group_type {kind} is reserved for migrating CGs to groups. Migrated group snapshots can only be operated \
             by CG snapshot APIs."
        );
        let lost = format!("Error occurred when deleting group snapshot {s}.");
        let new = |kind: &str| json!({"group": {"group_type": kind, "volume_types": ["__DEFAULT__"]}});
        let copy = |from: &str, id: &str| json!({"create-from-src": {"name": "x", from: id}});
        let (group, snapshot) = (format!("/groups/{c}"), format!("/group_snapshots/{s}"));
        let (act, actions) = (format!("{group}/action"), "/groups/action");
        let delete = json!({"delete": {"delete-volumes": true}});
        let take = json!({"group_snapshot": {"group_id": c, "name": "t"}});
        for (method, path, body, why) in [
            (Method::GET, group.as_str(), Value::Null, &of_groups),
            (Method::PUT, &group, json!({"group": {"name": "x"}}), &of_groups),
            (Method::POST, &act, delete, &of_groups),
            (Method::POST, "/groups", new(&kind), &of_groups),
            (Method::POST, "/groups", new("default_cgsnapshot_type"), &of_groups),
            (Method::POST, actions, copy("source_group_id", &c), &of_groups),
            (Method::POST, actions, copy("group_snapshot_id", &s), &of_groups),
            (Method::GET, &snapshot, Value::Null, &of_snapshots),
            (Method::POST, "/group_snapshots", take, &of_snapshots),
            (Method::DELETE, &snapshot, Value::Null, &lost),
        ] {
            let (status, answer) = kit.call("alice", method.clone(), path, body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{method} {path}: {answer}");
            assert_eq!(answer["badRequest"]["message"], **why, "{method} {path}");
        }
        // What is another project's is not there, whatever it is.
        for path in [&group, &snapshot] {
            assert_eq!(kit.call("bob", Method::GET, path, Value::Null).await.0, StatusCode::NOT_FOUND);
        }
        for (path, key, want) in [
            ("/groups", "groups", vec![g.clone()]),
            ("/groups/detail", "groups", vec![g]),
            ("/group_snapshots", "group_snapshots", vec![]),
            ("/group_snapshots/detail", "group_snapshots", vec![]),
            ("/consistencygroups", "consistencygroups", vec![c.clone()]),
            ("/cgsnapshots/detail", "cgsnapshots", vec![s.clone()]),
        ] {
            let all = kit.get("alice", path).await[key].clone();
            let ids: Vec<String> = all.as_array().unwrap().iter().map(id).collect();
            assert_eq!(ids, want, "{path}");
        }
        let shown = kit.get("alice", &format!("/consistencygroups/{c}")).await["consistencygroup"].clone();
        assert_eq!((&shown["name"], &shown["status"]), (&json!("c"), &json!("available")));

        // A reset is the administrator's, and knows no difference.
        for (path, older) in
            [(&group, format!("/consistencygroups/{c}")), (&snapshot, format!("/cgsnapshots/{s}"))]
        {
            let reset = json!({"reset_status": {"status": "error"}});
            kit.post("admin", &format!("{path}/action"), reset).await;
            kit.shows(&older, "status", "error").await;
        }
    }
}
