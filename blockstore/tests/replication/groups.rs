//! Groups that are replicated: over and back with all their volumes, apart from their backend.

use super::{Action, Cloud, HOST, failpoint, holds, until, write};
use crate::kit::{ctx, id};
use blockstore::{Volume, VolumeStatus};
use pool::OptionalExt;
use reqwest::Method;
use serde_json::{Value, json};

pub(super) struct Group<'a> {
    cloud: &'a Cloud,
    path: String,
    a: Volume,
    b: Volume,
}

impl Group<'_> {
    async fn act(&self, action: Value) -> (u16, Value) {
        let path = format!("{}/action", self.path);
        let (status, body) = self.cloud.kit.call("alice", Method::POST, &path, action).await;
        (status.as_u16(), body)
    }

    /// What must be taken, and how it ends: the group's status and that of its replication.
    async fn becomes(&self, action: Value, ends: [&str; 2]) {
        let (status, body) = self.act(action.clone()).await;
        assert_eq!(status, 202, "{action}: {body}");
        let now = until("the change's end", || async {
            let group = self.cloud.kit.get("alice", &self.path).await["group"].clone();
            let going = ["enabling", "disabling", "failing-over"];
            (!going.contains(&group["replication_status"].as_str().unwrap())).then_some(group)
        })
        .await;
        assert_eq!([&now["status"], &now["replication_status"]], ends, "{action}");
    }

    async fn are(&self, status: &str, replication: &str) {
        for v in [&self.a, &self.b] {
            self.cloud.is(&v.id, status, replication).await;
        }
    }
}

fn over() -> Value {
    json!({"failover_replication": {}})
}

fn back() -> Value {
    json!({"failover_replication": {"secondary_backend_id": "default"}})
}

/// Over and back; then with their backend, and out of replication and into it.
pub(super) async fn lives(cloud: &Cloud) {
    let g = made(cloud).await;
    write(&cloud.here, &g.a, 1).await;
    let other = cloud.create("mirrored", blockstore::Source::Empty).await;
    assert_eq!(cloud.kit.get("alice", &g.path).await["group"]["replication_status"], "disabled");
    assert_eq!(g.act(over()).await.0, 400, "it is not enabled");
    g.becomes(json!({"enable_replication": {}}), ["available", "enabled"]).await;
    g.are("available", "enabled").await;
    let targets = g.act(json!({"list_replication_targets": {}})).await;
    assert_eq!(targets, (200, json!({"replication_targets": [{"backend_id": "far"}]})));
    assert_eq!(g.act(back()).await.0, 400, "it is there");

    let to = json!({"os-attach": {"instance_uuid": state::new_id(), "mountpoint": "/dev/vdb"}});
    cloud.kit.act("admin", &g.b.id, to).await;
    let (status, why) = g.act(over()).await;
    assert!(status == 400 && why.to_string().contains("allow_attached_volume"), "{why}");
    let all = json!({"failover_replication": {"allow_attached_volume": true, "secondary_backend_id": "far"}});
    g.becomes(all, ["available", "failed-over"]).await;
    cloud.is(&g.b.id, "in-use", "failed-over").await;
    cloud.kit.act("admin", &g.b.id, json!({"os-detach": {}})).await;
    g.are("available", "failed-over").await;
    cloud.is(&other.id, "available", "enabled").await;
    assert_eq!(cloud.service().await["replication_status"], "enabled");
    cloud.is_served_by(&g.a.id, &cloud.far).await;
    cloud.is_served_by(&other.id, &cloud.here).await;
    holds(&cloud.far, &g.a, 1).await.expect("what was written before");
    write(&cloud.far, &g.a, 2).await;
    assert_eq!(g.act(json!({"disable_replication": {}})).await.0, 400, "it is failed over");
    g.becomes(back(), ["available", "enabled"]).await;
    g.are("available", "enabled").await;
    cloud.is_served_by(&g.a.id, &cloud.here).await;
    holds(&cloud.here, &g.a, 2).await.expect("what was written there");

    g.becomes(json!({"disable_replication": {}}), ["available", "disabled"]).await;
    g.are("available", "disabled").await;
    until("its copy is gone", || async {
        let copy = cloud.far.pool.rbd().open_read_only(&g.a.image_name()).await.optional().unwrap();
        copy.is_none().then_some(())
    })
    .await;
    g.becomes(json!({"enable_replication": {}}), ["available", "enabled"]).await;
    until("a new copy", || holds(&cloud.far, &g.a, 2)).await;
    cloud.kit.delete(&other.id).await;
    cloud.kit.settled().await;
    for (to, ends) in [("far", "failed-over"), ("default", "enabled")] {
        cloud.fails_over(json!({"host": HOST, "backend_id": to}), ends).await;
        g.are("available", ends).await;
        assert_eq!(cloud.kit.get("alice", &g.path).await["group"]["replication_status"], ends);
    }
    goes(g).await;
}

/// A failover that cannot be finished leaves all its volumes where they were, and can be tried again; every step twice.
pub(super) async fn fails(cloud: &Cloud) {
    let g = made(cloud).await;
    g.becomes(json!({"enable_replication": {}}), ["available", "enabled"]).await;
    for step in ["drain", "switch"] {
        let before = format!("backend.failover:{step}:before");
        failpoint::set(before.clone(), Action::Fail);
        g.becomes(over(), ["error", "error"]).await;
        failpoint::clear(&before);
        g.are("available", "enabled").await;
        assert_eq!(g.act(over()).await.0, 400, "it is in error");
        let reset = json!({"reset_status": {"status": "available"}});
        cloud.kit.post("admin", &format!("{}/action", g.path), reset).await;
        write(&cloud.here, &g.a, 3).await;
    }
    for (action, ends) in [(over(), "failed-over"), (back(), "enabled")] {
        for step in ["level", "fence", "drain", "switch", "finish"] {
            failpoint::set(format!("backend.failover:{step}:after"), Action::RetryOnce);
        }
        g.becomes(action, ["available", ends]).await;
        g.are("available", ends).await;
    }
    holds(&cloud.here, &g.a, 3).await.expect("what was written in between");
    for on in ["disable", "enable"] {
        failpoint::set("group.replicate:volumes:after", Action::RetryOnce);
        g.becomes(json!({format!("{on}_replication"): {}}), ["available", &format!("{on}d")]).await;
    }
    goes(g).await;
}

async fn made(cloud: &Cloud) -> Group<'_> {
    let kit = &cloud.kit;
    let body = json!({"name": testbed::unique("gt"),
        "group_specs": {"consistent_group_replication_enabled": "<is> True"}});
    let kind = id(&kit.post("admin", "/group_types", json!({"group_type": body})).await["group_type"]);
    let types = kit.get("admin", "/types?is_public=None").await["volume_types"].clone();
    let mirrored = types.as_array().unwrap().iter().find(|t| t["name"] == "mirrored").map(id).unwrap();
    let body = json!({"group": {"name": "g", "group_type": kind, "volume_types": [mirrored]}});
    let group = id(&kit.post("alice", "/groups", body).await["group"]);
    let volume = async || {
        let body = json!({"volume": {"size": 1, "group_id": group, "volume_type": mirrored}});
        let made = id(&kit.post("alice", "/volumes", body).await["volume"]);
        kit.becomes(&made, VolumeStatus::Available).await;
        kit.volumes.get(&ctx("alice"), &made).await.unwrap()
    };
    Group { cloud, path: format!("/groups/{group}"), a: volume().await, b: volume().await }
}

async fn goes(g: Group<'_>) {
    let (status, body) = g.act(json!({"delete": {"delete-volumes": true}})).await;
    assert_eq!(status, 202, "{body}");
    g.cloud.kit.absent(&g.path).await;
    g.cloud.kit.settled().await;
}
