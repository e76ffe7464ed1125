//! Groups that are replicated: over and back with all their volumes, apart from their backend.

use super::{Action, Cloud, HOST, Site, failpoint, holds, until, write};
use crate::kit::{ctx, id};
use blockstore::{Volume, VolumeStatus};
use pool::{OptionalExt, Tier};
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
        self.came_to(ends).await;
    }

    async fn are(&self, status: &str, replication: &str) {
        for v in [&self.a, &self.b] {
            self.cloud.is(&v.id, status, replication).await;
        }
    }

    /// An administrator says that it is not in error.
    async fn reset(&self) {
        let reset = json!({"reset_status": {"status": "available"}});
        self.cloud.kit.post("admin", &format!("{}/action", self.path), reset).await;
    }

    /// While this is held up at a failpoint, the group keeps the volumes that it has, and they stay what they are.
    async fn is_left_alone(&self, point: &str, action: Value) {
        failpoint::set(point, Action::Pause);
        let (status, body) = self.act(action.clone()).await;
        assert_eq!(status, 202, "{action}: {body}");
        let (kit, volume) = (&self.cloud.kit, format!("/volumes/{}", self.a.id));
        let (on_volume, on_group) = (format!("{volume}/action"), format!("{}/action", self.path));
        let elsewhere = json!({"host": "aquifer@images#images"});
        let group_id = self.path.rsplit('/').next().unwrap();
        let joins = json!({"size": 1, "group_id": group_id, "volume_type": "mirrored"});
        for (who, method, path, body) in [
            ("alice", Method::POST, &on_volume, json!({"os-retype": {"new_type": "__DEFAULT__"}})),
            ("admin", Method::POST, &on_volume, json!({"os-migrate_volume": elsewhere})),
            ("admin", Method::POST, &on_volume, json!({"os-force_delete": {}})),
            ("alice", Method::DELETE, &volume, Value::Null),
            ("alice", Method::POST, &"/volumes".to_owned(), json!({"volume": joins})),
            ("alice", Method::PUT, &self.path, json!({"group": {"remove_volumes": self.a.id}})),
            ("alice", Method::POST, &on_group, json!({"delete": {"delete-volumes": true}})),
            ("alice", Method::POST, &on_group, json!({"enable_replication": {}})),
            ("alice", Method::POST, &on_group, over()),
        ] {
            let (status, answer) = kit.call(who, method, path, body.clone()).await;
            assert_eq!(status.as_u16(), 400, "{point}: {path} {body}: {answer}");
        }
        // As upstream, it may grow.
        let size = self.cloud.shown(&self.a.id).await["size"].as_i64().unwrap() + 1;
        kit.act("alice", &self.a.id, json!({"os-extend": {"new_size": size}})).await;
        let grown = kit.becomes(&self.a.id, VolumeStatus::Available).await;
        assert_eq!(grown.size_gib, size);
        failpoint::clear(point);
    }

    /// The change has come to its end: the group's status and that of its replication.
    async fn came_to(&self, ends: [&str; 2]) {
        let now = until("the change's end", || async {
            let group = self.cloud.kit.get("alice", &self.path).await["group"].clone();
            let going = ["enabling", "disabling", "failing-over"];
            (!going.contains(&group["replication_status"].as_str().unwrap())).then_some(group)
        })
        .await;
        assert_eq!([&now["status"], &now["replication_status"]], ends);
    }

    /// What is mirrored now is in the other cluster.
    async fn copies_come(&self) {
        let known = async |tier: &Tier, v: &Volume| {
            let image = tier.pool.rbd().open_read_only(&v.image_name()).await.optional().unwrap()?;
            let info = image.mirror_info().await.unwrap();
            image.close().await.unwrap();
            info.enabled.then_some(info.global_id)
        };
        for v in [&self.a, &self.b] {
            until("its copy", || async {
                let here = known(&self.cloud.here, v).await;
                (here.is_some() && here == known(&self.cloud.far, v).await).then_some(())
            })
            .await;
        }
    }

    async fn copies_go(&self) {
        for v in [&self.a, &self.b] {
            until("its copy is gone", || async {
                let copy =
                    self.cloud.far.pool.rbd().open_read_only(&v.image_name()).await.optional().unwrap();
                copy.is_none().then_some(())
            })
            .await;
        }
    }
}

fn turn(on: bool) -> Value {
    json!({if on { "enable_replication" } else { "disable_replication" }: {}})
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
    g.becomes(turn(true), ["available", "enabled"]).await;
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
    assert_eq!(g.act(turn(false)).await.0, 400, "it is failed over");
    g.becomes(back(), ["available", "enabled"]).await;
    g.are("available", "enabled").await;
    cloud.is_served_by(&g.a.id, &cloud.here).await;
    holds(&cloud.here, &g.a, 2).await.expect("what was written there");

    g.becomes(turn(false), ["available", "disabled"]).await;
    g.are("available", "disabled").await;
    g.copies_go().await;
    g.becomes(turn(true), ["available", "enabled"]).await;
    until("a new copy", || holds(&cloud.far, &g.a, 2)).await;
    cloud.kit.delete(&other.id).await;
    cloud.kit.settled().await;
    for (to, ends) in [("far", "failed-over"), ("default", "enabled")] {
        cloud.fails_over(json!({"host": HOST, "backend_id": to}), ends).await;
        g.are("available", ends).await;
        assert_eq!(cloud.kit.get("alice", &g.path).await["group"]["replication_status"], ends);
    }
    goes(g).await;
    cloud.kit.settled().await;
}

/// A failover that cannot be finished leaves all its volumes where they were, and can be tried again; every step twice.
pub(super) async fn fails(cloud: &Cloud) {
    let g = made(cloud).await;
    cannot_be_turned(&g).await;
    g.is_left_alone("group.replicate:volumes:before", turn(true)).await;
    g.came_to(["available", "enabled"]).await;
    for step in ["drain", "switch"] {
        let before = format!("backend.failover:{step}:before");
        failpoint::set(before.clone(), Action::Fail);
        g.becomes(over(), ["error", "error"]).await;
        failpoint::clear(&before);
        g.are("available", "enabled").await;
        assert_eq!(g.act(over()).await.0, 400, "it is in error");
        g.reset().await;
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
    g.is_left_alone("backend.failover:level:before", over()).await;
    g.came_to(["available", "failed-over"]).await;
    g.becomes(back(), ["available", "enabled"]).await;
    goes(g).await;
    cloud.kit.settled().await;
}

/// A failure at each step of what turns a group's replication on and off says so, and is mended by turning it off; each step
/// twice. What is taken away for the one before is not the copy that comes after it.
async fn cannot_be_turned(g: &Group<'_>) {
    for on in [true, false] {
        for point in ["volumes:before", "volumes:after", "group:before"] {
            if !on {
                g.becomes(turn(true), ["available", "enabled"]).await;
            }
            let point = format!("group.replicate:{point}");
            failpoint::set(&point, Action::Fail);
            g.becomes(turn(on), ["error", "error"]).await;
            failpoint::clear(&point);
            g.are("available", "error").await;
            g.reset().await;
            g.becomes(turn(false), ["available", "disabled"]).await;
            g.are("available", "disabled").await;
            g.copies_go().await;
        }
    }
    let again = || {
        for point in ["volumes:before", "volumes:after", "group:before", "group:after"] {
            failpoint::set(format!("group.replicate:{point}"), Action::RetryOnce);
        }
    };
    g.becomes(turn(true), ["available", "enabled"]).await;
    write(&g.cloud.here, &g.a, 8).await;
    failpoint::set("volume.forget:forget:before", Action::Pause);
    again();
    g.becomes(turn(false), ["available", "disabled"]).await;
    g.are("available", "disabled").await;
    again();
    g.becomes(turn(true), ["available", "enabled"]).await;
    g.are("available", "enabled").await;
    g.copies_come().await;
    failpoint::clear("volume.forget:forget:before");
    g.cloud.kit.settled().await;
    holds(&g.cloud.far, &g.a, 8).await.expect("the new copy");
    g.becomes(turn(false), ["available", "disabled"]).await;
    g.copies_go().await;
}

/// A group that is there whole before the first cluster is lost; or, once nothing comes over any more, one that is not.
pub(super) async fn mirrored(cloud: &Cloud, comes_over: bool) -> Group<'_> {
    let g = made(cloud).await;
    g.becomes(turn(true), ["available", "enabled"]).await;
    write(&cloud.here, &g.a, 5).await;
    if comes_over {
        until("the last bytes there", || holds(&cloud.far, &g.a, 5)).await;
        cloud.kit.settled().await;
    }
    g
}

/// Without the first cluster: by force, but for what never came over whole.
pub(super) async fn lost(whole: &Group<'_>, behind: &Group<'_>) {
    whole.becomes(over(), ["available", "failed-over"]).await;
    whole.are("available", "failed-over").await;
    holds(&whole.cloud.far, &whole.a, 5).await.expect("what came over");
    write(&whole.cloud.far, &whole.a, 6).await;
    behind.becomes(over(), ["error", "error"]).await;
    behind.are("error", "failover-error").await;
}

/// The first cluster is back: each group comes back for itself, also what was lost.
pub(super) async fn returned(whole: Group<'_>, behind: Group<'_>) {
    let cloud = whole.cloud;
    write(&cloud.here, &whole.a, 7).await;
    whole.becomes(back(), ["available", "enabled"]).await;
    holds(&cloud.here, &whole.a, 6).await.expect("what was written while it was away");
    behind.reset().await;
    behind.becomes(back(), ["available", "enabled"]).await;
    holds(&cloud.here, &behind.a, 5).await.expect("what never came over");
    for g in [whole, behind] {
        g.are("available", "enabled").await;
        goes(g).await;
    }
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
}

/// The process dies before and after each step of what turns a group's replication on and off, and the next one carries on.
pub(super) async fn go_on(at: &Site<'_>) {
    let begun = at.next().await;
    let Group { path, a, b, .. } = made(&begun).await;
    begun.kit.end().await;
    for point in ["volumes:before", "volumes:after", "group:before", "group:after"] {
        for (on, ends) in [(true, "enabled"), (false, "disabled")] {
            let asked = json!({"method": "POST", "path": format!("{path}/action"), "body": turn(on)});
            at.dies(&format!("group.replicate:{point}"), asked).await;
            let next = at.next().await;
            let g = Group { cloud: &next, path: path.clone(), a: a.clone(), b: b.clone() };
            g.came_to(["available", ends]).await;
            g.are("available", ends).await;
            match on {
                true => g.copies_come().await,
                false => g.copies_go().await,
            }
            next.kit.settled().await;
            next.kit.end().await;
        }
    }
    let last = at.next().await;
    goes(Group { cloud: &last, path, a, b }).await;
    last.kit.settled().await;
    last.kit.end().await;
}
