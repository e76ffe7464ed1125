//! Volumes that go from tier to tier: two pools of a cluster, and two clusters (two connections to the one that the tests
//! have, which nothing here can tell from two). On both databases. Failpoints belong to the whole process, so these tests
//! run one at a time.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use blockstore::{Config, Quota, Source, Volume, VolumeStatus};
use bytes::Bytes;
use kit::{Kit, ctx, kit_in, project, until};
use pool::{ClusterConfig, Clusters, OptionalExt, Tier, TierConfig, Tiers};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use state::Db;
use state::failpoint::{self, Action};
use tokio::sync::Mutex;

static ONE: Mutex<()> = Mutex::const_new(());

/// A cloud with the tiers `volumes` and `fast`, each a pool of one cluster, and `far` in another.
struct Place {
    kit: Kit,
    tiers: Tiers,
}

/// Fresh tiers, or those of a process that died, by the names of pool and namespace.
async fn tiers(fast: &str, space: &str) -> Tiers {
    let conf = &testbed::ceph().conf;
    let clusters = [ClusterConfig::new("main", conf), ClusterConfig::new("other", conf)];
    let clusters = Clusters::connect(&clusters).await.unwrap();
    let main = clusters.get("main").unwrap();
    main.create_pool_with(fast, "rbd", json!({"pg_num": 4})).await.unwrap();
    main.require_clone_v2().await.unwrap();
    let place = |name: &str, cluster: &str, pool: &str, namespace: Option<&str>| TierConfig {
        name: name.into(),
        cluster: cluster.into(),
        pool: pool.into(),
        data_pool: None,
        namespace: namespace.map(str::to_owned),
    };
    let far = format!("{space}-far");
    let tiers = [
        place("volumes", "main", "rbd", Some(space)),
        place("images", "main", "rbd", Some(space)),
        place("fast", "main", fast, None),
        place("far", "other", "rbd", Some(&far)),
    ];
    let tiers = Tiers::new(&clusters, &tiers).unwrap();
    tiers.get("fast").unwrap().pool.rbd().init().await.unwrap();
    for (tier, space) in [("volumes", space), ("far", far.as_str())] {
        tiers.get(tier).unwrap().pool.rbd().namespace_create(space).await.unwrap();
    }
    tiers
}

async fn place(db: Db, config: Config) -> Place {
    let tiers = tiers(&testbed::unique("fast"), &testbed::unique("move")).await;
    let place = Place { kit: kit_in(db, config, tiers.clone()).await, tiers };
    for tier in ["fast", "far"] {
        place.kind(tier, json!({"volume_backend_name": tier})).await;
    }
    place
}

impl Place {
    fn tier(&self, name: &str) -> Tier {
        self.tiers.get(name).unwrap()
    }

    async fn kind(&self, name: &str, specs: Value) {
        self.kit.add_type(name, specs).await;
    }

    /// A volume with bytes, which goes live within its cluster.
    async fn written(&self) -> Volume {
        let v = self.kit.create(Source::Empty, Some(1)).await;
        self.write(&v, 2).await;
        v
    }

    /// One that has a snapshot of older bytes, too, and is copied.
    async fn snapped(&self) -> (Volume, String) {
        let v = self.kit.create(Source::Empty, Some(1)).await;
        self.write(&v, 1).await;
        let snapshot = self.kit.snapshot(&v.id).await;
        self.write(&v, 2).await;
        (v, snapshot)
    }

    async fn made(&self, live: bool) -> (Volume, Option<String>) {
        if live {
            return (self.written().await, None);
        }
        let (v, s) = self.snapped().await;
        (v, Some(s))
    }

    async fn write(&self, v: &Volume, byte: u8) {
        let image = self.tier("volumes").pool.rbd().open(&v.image_name()).await.unwrap();
        for off in [0, 100 << 20] {
            image.write_at(off, Bytes::from(vec![byte; 1 << 20])).await.unwrap();
        }
        image.close().await.unwrap();
    }

    /// The volume is in this tier with all it had, and nowhere else.
    async fn is_in(&self, v: &Volume, tier: &str, snapshot: Option<&str>) {
        for name in ["volumes", "fast", "far"] {
            let there = self.tier(name).pool.rbd().open_read_only(&v.image_name()).await.optional().unwrap();
            assert_eq!(there.is_some(), name == tier, "an image in {name}");
            if let Some(image) = there {
                let at = |byte: u8, data: Bytes| assert!(data.iter().all(|b| *b == byte), "{tier}");
                at(2, image.read_at(100 << 20, 1 << 20).await.unwrap());
                at(0, image.read_at(200 << 20, 1 << 20).await.unwrap());
                if let Some(snapshot) = snapshot {
                    let snap = format!("snapshot-{snapshot}");
                    let old = self.tier(name).pool.rbd().open_snapshot(&v.image_name(), &snap).await.unwrap();
                    at(1, old.read_at(100 << 20, 1 << 20).await.unwrap());
                }
                assert!(!image.metadata_list().await.unwrap().contains_key("aquifer.copied"));
            }
        }
        let shown = self.kit.get("admin", &format!("/volumes/{}", v.id)).await["volume"].clone();
        assert_eq!(shown["os-vol-host-attr:host"], format!("aquifer@{tier}#{tier}"));
    }

    async fn migration(&self, v: &Volume, word: &str) -> Value {
        until(word, || async {
            let shown = self.kit.get("admin", &format!("/volumes/{}", v.id)).await["volume"].clone();
            (shown["migration_status"] == word && shown["status"] == "available").then_some(shown)
        })
        .await
    }

    async fn retype(&self, v: &Volume, kind: &str, policy: &str) {
        let body = json!({"os-retype": {"new_type": kind, "migration_policy": policy}});
        self.kit.act("alice", &v.id, body).await;
    }

    async fn migrate(&self, v: &Volume, tier: &str) {
        let body = json!({"os-migrate_volume": {"host": format!("aquifer@{tier}#{tier}")}});
        self.kit.act("admin", &v.id, body).await;
    }
}

async fn places() -> Vec<Place> {
    let mut all = Vec::new();
    for db in testbed::databases().await {
        let quota = Quota { volumes: 1000, snapshots: 1000, ..Quota::default() };
        all.push(place(db, Config { quota, ..Config::default() }).await);
    }
    all
}

#[tokio::test]
async fn a_volume_goes_from_tier_to_tier_with_its_snapshots() {
    let _one = ONE.lock().await;
    for p in places().await {
        let (v, s) = p.snapped().await;
        let clone = p.kit.create(Source::Snapshot(s.clone()), None).await;
        p.retype(&v, "fast", "never").await;
        let shown = p.migration(&v, "error").await;
        assert_eq!(shown["volume_type"], "__DEFAULT__", "it was not to move");
        p.is_in(&v, "volumes", Some(&s)).await;
        for (kind, tier) in [("fast", "fast"), ("far", "far"), ("fast", "fast")] {
            p.retype(&v, kind, "on-demand").await;
            let shown = p.migration(&v, "success").await;
            assert_eq!(shown["volume_type"], kind);
            p.kit.settled().await;
            p.is_in(&v, tier, Some(&s)).await;
        }
        // What hangs on it still reads, and what is made of it is made there.
        let read = p.kit.open(&clone.id).await;
        assert!(read.read_at(100 << 20, 4096).await.unwrap().iter().all(|b| *b == 1));
        read.close().await.unwrap();
        let new = blockstore::NewVolume { source: Source::Volume(v.id.clone()), ..Default::default() };
        let copy = p.kit.volumes.create(&ctx("alice"), new).await.unwrap();
        assert_eq!(copy.tier, "fast");
        p.kit.becomes(&copy.id, VolumeStatus::Available).await;
        p.kit.settled().await;
        p.kit.delete(&copy.id).await;
        p.kit.delete(&clone.id).await;
        p.kit.delete_snapshot(&s).await;
        p.kit.delete(&v.id).await;
        p.kit.settled().await;
        for tier in ["volumes", "fast", "far"] {
            assert!(p.tier(tier).pool.rbd().list().await.unwrap().is_empty(), "{tier}");
        }
    }
}

/// An image is cloned within its cluster and copied into another, where the volume may start anew, too.
#[tokio::test]
async fn a_volume_of_an_image_in_another_cluster_is_a_copy() {
    let _one = ONE.lock().await;
    for p in places().await {
        let images = [7, 8].map(|byte| Bytes::from(vec![byte; 5 << 20]));
        let [first, second] = [p.kit.image(images[0].clone()).await, p.kit.image(images[1].clone()).await];
        let starts_with = async |v: &Volume, tier: &str, cloned: bool, bytes: &Bytes| {
            let image = p.tier(tier).pool.rbd().open_read_only(&v.image_name()).await.unwrap();
            assert_eq!(image.parent().await.unwrap().is_some(), cloned, "{tier}");
            assert_eq!(image.read_at(0, bytes.len()).await.unwrap(), bytes, "{tier}");
            image.close().await.unwrap();
        };
        for (kind, cloned) in [("fast", true), ("far", false)] {
            let new = blockstore::NewVolume {
                source: Source::Image(first.clone()),
                size_gib: Some(1),
                volume_type: Some(kind.into()),
                ..Default::default()
            };
            let v = p.kit.volumes.create(&ctx("alice"), new).await.unwrap();
            p.kit.becomes(&v.id, VolumeStatus::Available).await;
            starts_with(&v, kind, cloned, &images[0]).await;
            let anew = json!({"os-reimage": {"image_id": second}});
            let path = format!("/volumes/{}/action", v.id);
            assert_eq!(p.kit.call("alice", Method::POST, &path, anew).await.0, 202);
            p.kit.becomes(&v.id, VolumeStatus::Available).await;
            starts_with(&v, kind, cloned, &images[1]).await;
            p.kit.delete(&v.id).await;
        }
    }
}

#[tokio::test]
async fn an_image_that_clones_keep_a_deleted_snapshot_of_moves_too() {
    let _one = ONE.lock().await;
    for p in places().await {
        let (v, s) = p.snapped().await;
        let doomed = p.kit.snapshot(&v.id).await;
        let clone = p.kit.create(Source::Snapshot(doomed.clone()), None).await;
        p.kit.delete_snapshot(&doomed).await;
        p.migrate(&v, "fast").await;
        p.migration(&v, "success").await;
        p.is_in(&v, "fast", Some(&s)).await;
        assert!(p.kit.open(&clone.id).await.read_at(0, 4096).await.unwrap().iter().all(|b| *b == 2));
        // The old image waits, out of sight, for the clone that needs it; which needs it no more when it has moved as well.
        assert_eq!(p.kit.trash().await, 1);
        p.migrate(&clone, "fast").await;
        p.migration(&clone, "success").await;
        let moved = p.tier("fast").pool.rbd().open_read_only(&clone.image_name()).await.unwrap();
        assert!(moved.read_at(0, 4096).await.unwrap().iter().all(|b| *b == 2));
        assert_eq!(moved.parent().await.unwrap(), None);
        until("the trash is empty", || async { (p.kit.trash().await == 0).then_some(()) }).await;
    }
}

#[tokio::test]
async fn a_clone_moves_whose_snapshot_goes_meanwhile() {
    let _one = ONE.lock().await;
    let point = "volume.migrate:prepare:looked";
    for p in places().await {
        let (v, _) = p.snapped().await;
        let doomed = p.kit.snapshot(&v.id).await;
        let clone = p.kit.create(Source::Snapshot(doomed.clone()), None).await;
        failpoint::set(point, Action::Pause);
        p.migrate(&clone, "fast").await;
        p.migration(&clone, "migrating").await;
        p.kit.delete_snapshot(&doomed).await;
        failpoint::clear(point);
        p.migration(&clone, "success").await;
        let moved = p.tier("fast").pool.rbd().open_read_only(&clone.image_name()).await.unwrap();
        assert!(moved.read_at(0, 4096).await.unwrap().iter().all(|b| *b == 2));
    }
}

/// Two snapshots, a write after them, and the newer one is gone: librbd's own move loses that object, once the OSD has tidied
/// up. What has snapshots is copied.
#[tokio::test]
async fn a_removed_snapshot_takes_nothing_along() {
    let _one = ONE.lock().await;
    for p in places().await {
        let (v, s) = p.snapped().await;
        let doomed = p.kit.snapshot(&v.id).await;
        let image = p.tier("volumes").pool.rbd().open(&v.image_name()).await.unwrap();
        image.write_at(0, Bytes::from(vec![2; 4096])).await.unwrap();
        image.write_at(100 << 20, Bytes::from(vec![2; 4096])).await.unwrap();
        image.close().await.unwrap();
        p.kit.delete_snapshot(&doomed).await;
        let point = "volume.migrate:switch:before";
        failpoint::set(point, Action::Pause);
        p.migrate(&v, "fast").await;
        let (from, to) = (p.tier("volumes").pool.rbd(), p.tier("fast").pool.rbd());
        until("there is a target", || async { to.exists(&v.image_name()).await.unwrap().then_some(()) })
            .await;
        assert!(from.exists(&v.image_name()).await.unwrap(), "it moves live");
        failpoint::clear(point);
        p.migration(&v, "success").await;
        p.kit.settled().await;
        p.is_in(&v, "fast", Some(&s)).await;
    }
}

/// A process that dies while librbd prepares a move leaves a target that looks like any image.
#[tokio::test]
async fn a_move_that_was_only_begun_begins_anew() {
    let _one = ONE.lock().await;
    let point = "volume.migrate:prepare:looked";
    for p in places().await {
        let v = p.written().await;
        failpoint::set(point, Action::Pause);
        p.migrate(&v, "fast").await;
        p.migration(&v, "migrating").await;
        let (from, to, name) = (p.tier("volumes").pool, p.tier("fast").pool, v.image_name());
        from.rbd().migration_prepare(&name, &to, &name, pool::CreateOptions::default()).await.unwrap();
        let source = from.rbd().trash_list().await.unwrap().into_iter().find(|e| e.migrating).unwrap().id;
        let target = to.rbd().open_read_only(&name).await.unwrap();
        let target_id = target.info().await.unwrap().id;
        target.close().await.unwrap();
        // "Preparing", and no word on it; the target knows nothing.
        let preparing = Bytes::from_static(&[1, 0, 0, 0, 0]);
        from.exec(&format!("rbd_header.{source}"), "rbd", "migration_set_state", preparing).await.unwrap();
        to.exec(&format!("rbd_header.{target_id}"), "rbd", "migration_remove", Bytes::new()).await.unwrap();
        failpoint::clear(point);
        p.migration(&v, "success").await;
        p.kit.settled().await;
        p.is_in(&v, "fast", None).await;
        assert_eq!(p.kit.trash().await, 0);
    }
}

#[tokio::test]
async fn every_step_twice_and_every_failure_taken_back() {
    let _one = ONE.lock().await;
    let armed = |point: &str, action: Action| failpoint::set(point.to_owned(), action);
    for p in places().await {
        for (first, live) in [("fast", true), ("fast", false), ("far", false)] {
            let (v, s) = p.made(live).await;
            let mut turn = [first, "volumes"].into_iter().cycle();
            for step in ["prepare", "switch", "execute", "commit", "settle"] {
                for when in ["before", "after"] {
                    let (point, tier) = (format!("volume.migrate:{step}:{when}"), turn.next().unwrap());
                    armed(&point, Action::RetryOnce);
                    p.migrate(&v, tier).await;
                    p.migration(&v, "success").await;
                    p.kit.settled().await;
                    p.is_in(&v, tier, s.as_deref()).await;
                    failpoint::clear(&point);
                }
            }
            assert_eq!(turn.next().unwrap(), first, "it is where it was");
            for step in ["prepare", "switch", "execute", "commit"] {
                let point =
                    format!("volume.migrate:{step}:{}", if step == "commit" { "before" } else { "after" });
                armed(&point, Action::Fail);
                armed("volume.migrate:undo:prepare:after", Action::RetryOnce);
                p.migrate(&v, first).await;
                p.migration(&v, "error").await;
                p.kit.settled().await;
                p.is_in(&v, "volumes", s.as_deref()).await;
                failpoint::clear(&point);
                failpoint::clear("volume.migrate:undo:prepare:after");
            }
            let messages = p.kit.get("alice", "/messages").await["messages"].clone();
            assert!(messages.as_array().unwrap().iter().any(|m| m["resource_uuid"] == v.id));
            if let Some(s) = s {
                p.kit.delete_snapshot(&s).await;
            }
            p.kit.delete(&v.id).await;
        }
    }
}

#[tokio::test]
async fn a_copy_carries_on_where_it_was() {
    let _one = ONE.lock().await;
    for p in places().await {
        let (v, s) = p.snapped().await;
        // What a process that died has left: the first stage done, and a mark in it that no copy would make.
        let to = p.tier("far").pool.rbd();
        to.create(&v.image_name(), 1 << 30, pool::CreateOptions::default()).await.unwrap();
        let half = to.open(&v.image_name()).await.unwrap();
        half.write_at(100 << 20, Bytes::from(vec![1; 1 << 20])).await.unwrap();
        half.write_at(0, Bytes::from(vec![1; 1 << 20])).await.unwrap();
        half.write_at(300 << 20, Bytes::from(vec![7; 4096])).await.unwrap();
        half.snap_create(&format!("snapshot-{s}")).await.unwrap();
        half.metadata_set("aquifer.copied", "1:0").await.unwrap();
        half.close().await.unwrap();
        p.migrate(&v, "far").await;
        p.migration(&v, "success").await;
        p.is_in(&v, "far", Some(&s)).await;
        let image = to.open_read_only(&v.image_name()).await.unwrap();
        assert_eq!(image.read_at(300 << 20, 1).await.unwrap()[0], 7, "the first stage was not done again");
    }
}

#[tokio::test]
async fn what_cannot_move_says_so() {
    let _one = ONE.lock().await;
    for p in places().await {
        let (v, s) = p.snapped().await;
        let path = format!("/volumes/{}/action", v.id);
        let ask = |who: &'static str, body: Value| p.kit.call(who, Method::POST, &path, body);
        let to = |host: &str| json!({"os-migrate_volume": {"host": host}});
        assert_eq!(ask("alice", to("aquifer@fast")).await.0, StatusCode::FORBIDDEN);
        for wrong in ["aquifer@volumes#volumes", "aquifer@nowhere", "elsewhere"] {
            assert_eq!(ask("admin", to(wrong)).await.0, StatusCode::BAD_REQUEST, "{wrong}");
        }
        assert_eq!(ask("admin", json!({"os-migrate_volume": {}})).await.0, StatusCode::BAD_REQUEST);
        let both = json!({"os-migrate_volume": {"host": "aquifer@fast", "cluster": "c"}});
        assert_eq!(ask("admin", both).await.0, StatusCode::BAD_REQUEST);
        // While it moves: no delete, no attachment, no second move.
        failpoint::set("volume.migrate:prepare:before", Action::Pause);
        let locked = json!({"os-migrate_volume": {"host": "aquifer@far", "lock_volume": true}});
        assert_eq!(ask("admin", locked).await.0, StatusCode::ACCEPTED);
        let shown = p.kit.get("admin", &format!("/volumes/{}", v.id)).await["volume"].clone();
        assert_eq!(
            (&shown["status"], &shown["migration_status"]),
            (&json!("maintenance"), &json!("starting"))
        );
        assert_eq!(ask("admin", to("aquifer@fast")).await.0, StatusCode::BAD_REQUEST);
        assert_eq!(
            p.kit
                .call("alice", Method::DELETE, &format!("/volumes/{}?cascade=true", v.id), Value::Null)
                .await
                .0,
            StatusCode::BAD_REQUEST
        );
        assert!(p.kit.volumes.attach_begin(&ctx("alice"), &v.id, "server", None).await.is_err());
        failpoint::clear("volume.migrate:prepare:before");
        p.migration(&v, "success").await;
        p.is_in(&v, "far", Some(&s)).await;
        // One that is attached stays where it is, and serves: there is no compute here. (See attached_moves.rs.)
        let held = p.kit.volumes.attach_begin(&ctx("alice"), &v.id, "server", Some("h")).await.unwrap();
        p.kit.volumes.attach_complete(&ctx("alice"), &held.attachment.id, None).await.unwrap();
        assert_eq!(ask("admin", to("aquifer@fast")).await.0, StatusCode::BAD_REQUEST);
        p.is_in(&v, "far", Some(&s)).await;
        // Compute's word on a swap of its own: the new volume has what the old one had.
        let new = p.kit.create(Source::Empty, Some(1)).await;
        let reset = json!({"os-reset_status": {"migration_status": "none"}});
        p.kit.act("admin", &v.id, reset).await;
        let done = json!({"os-migrate_volume_completion": {"new_volume": new.id}});
        let answer = p.kit.act("admin", &v.id, done).await;
        assert_eq!(answer, json!({"save_volume_id": new.id}));
        assert_eq!(p.kit.volumes.get(&ctx("alice"), &new.id).await.unwrap().status, VolumeStatus::InUse);
        assert_eq!(p.kit.volumes.get(&ctx("alice"), &v.id).await.unwrap().status, VolumeStatus::Available);
    }
}

#[tokio::test]
async fn the_new_types_quota_counts() {
    let _one = ONE.lock().await;
    for p in places().await {
        let (v, s) = p.snapped().await;
        let quota = format!("/os-quota-sets/{}", project("p1"));
        let limit =
            |n: i64| p.kit.call("admin", Method::PUT, &quota, json!({"quota_set": {"volumes_fast": n}}));
        assert_eq!(limit(0).await.0, StatusCode::OK);
        let body = json!({"os-retype": {"new_type": "fast", "migration_policy": "on-demand"}});
        let path = format!("/volumes/{}/action", v.id);
        let (status, _) = p.kit.call("alice", Method::POST, &path, body).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        limit(1).await;
        // Spent by somebody else on the way: it goes back.
        failpoint::set("volume.migrate:switch:before", Action::Pause);
        p.retype(&v, "fast", "on-demand").await;
        limit(0).await;
        failpoint::clear("volume.migrate:switch:before");
        let shown = p.migration(&v, "error").await;
        assert_eq!(shown["volume_type"], "__DEFAULT__");
        p.is_in(&v, "volumes", Some(&s)).await;
        limit(1).await;
        p.retype(&v, "fast", "on-demand").await;
        p.migration(&v, "success").await;
        let path = format!("{quota}?usage=true");
        assert_eq!(p.kit.get("admin", &path).await["quota_set"]["volumes_fast"]["in_use"], 1);
    }
}

#[tokio::test]
async fn the_scheduler_takes_room_hints_and_capabilities() {
    let _one = ONE.lock().await;
    for db in testbed::databases().await {
        let quota = Quota { volumes: 1000, gigabytes: -1, ..Quota::default() };
        let config = Config {
            quota,
            tiers: vec!["fast".into()],
            max_over_subscription_ratio: 20.0,
            ..Config::default()
        };
        let p = place(db, config).await;
        let made = |body: Value| async {
            let (status, answer) = p.kit.call("alice", Method::POST, "/volumes", body).await;
            assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
            let id = answer["volume"]["id"].as_str().unwrap().to_owned();
            p.kit.settled().await;
            let shown = p.kit.get("admin", &format!("/volumes/{id}")).await["volume"].clone();
            (
                id,
                shown["os-vol-host-attr:host"].as_str().unwrap_or_default().to_owned(),
                shown["status"].clone(),
            )
        };
        // The second goes where more room is left to promise.
        // (Of a new pool the cluster knows nothing for a moment.)
        let rooms = || {
            until("the tiers' rooms are known", || async {
                let pools =
                    p.kit.get("admin", "/scheduler-stats/get_pools?detail=true").await["pools"].clone();
                let pools = pools.as_array().unwrap().clone();
                let known = |p: &Value| p["capabilities"]["total_capacity_gb"].as_f64().unwrap() > 1.0;
                pools.iter().all(known).then_some(pools)
            })
        };
        let total = |pool: &Value| pool["capabilities"]["total_capacity_gb"].as_f64().unwrap();
        let least = rooms().await.iter().map(total).fold(f64::MAX, f64::min);
        let large = (least * 20.0 * 0.4) as i64;
        let (a, at_a, _) = made(json!({"volume": {"size": large}})).await;
        let (b, at_b, _) = made(json!({"volume": {"size": large}})).await;
        assert_ne!(at_a, at_b);
        for (hint, want) in [("same_host", &at_b), ("different_host", &at_a)] {
            for shape in [json!(b), json!([b])] {
                let body = json!({"volume": {"size": 1}, "OS-SCH-HNT:scheduler_hints": {hint: shape}});
                assert_eq!(made(body).await.1, *want, "{hint}");
            }
        }
        let nowhere =
            json!({"volume": {"size": 1}, "OS-SCH-HNT:scheduler_hints": {"different_host": [a, b]}});
        assert_eq!(made(nowhere).await.2, "error");
        // A switched off service takes no new volumes.
        let host = at_a.split('#').next().unwrap();
        let off = json!({"binary": "cinder-volume", "host": host});
        assert_eq!(
            p.kit.call("admin", Method::PUT, "/os-services/disable", off.clone()).await.0,
            StatusCode::OK
        );
        let same = json!({"volume": {"size": 1}, "OS-SCH-HNT:scheduler_hints": {"same_host": a}});
        assert_eq!(made(same).await.2, "error");
        assert_eq!(made(json!({"volume": {"size": 1}})).await.1, at_b);
        p.kit.call("admin", Method::PUT, "/os-services/enable", off).await;
        // Capabilities: what no tier has finds none; other scopes are not the scheduler's.
        for (specs, want) in [
            (json!({"volume_backend_name": "<or> fast <or> nowhere"}), "available"),
            (json!({"capabilities:multiattach": "<is> True", "vendor:thing": "x"}), "available"),
            (json!({"replication_enabled": "<is> True"}), "error"),
            (json!({"no_such_capability": "1"}), "error"),
            (json!({"volume_backend_name": "nowhere"}), "error"),
        ] {
            let name = testbed::unique("kind");
            p.kind(&name, specs.clone()).await;
            assert_eq!(made(json!({"volume": {"size": 1, "volume_type": name}})).await.2, want, "{specs}");
        }
        let pools = rooms().await;
        let fast = pools.iter().find(|p| p["name"] == "aquifer@fast#fast").unwrap();
        assert!(fast["capabilities"]["provisioned_capacity_gb"].as_i64().unwrap() >= large);
        // More than may be promised anywhere.
        let much = (pools.iter().map(total).fold(0.0, f64::max) * 20.5) as i64;
        assert_eq!(made(json!({"volume": {"size": much}})).await.2, "error");
    }
}

const DB: &str = "BLOCKSTORE_MOVER_DB";
const FAST: &str = "BLOCKSTORE_MOVER_POOL";
const SPACE: &str = "BLOCKSTORE_MOVER_NAMESPACE";
const ASK: &str = "BLOCKSTORE_MOVER_ASK";

async fn opened(url: &str, fast: &str, space: &str) -> Place {
    let db = Db::open(url).await.unwrap();
    db.migrate(&state::tasks::MIGRATIONS).await.unwrap();
    let tiers = tiers(fast, space).await;
    Place { kit: kit_in(db, Config::default(), tiers.clone()).await, tiers }
}

#[tokio::test]
#[ignore = "run by the next test, to die"]
async fn mover() {
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    if var(DB).is_empty() {
        return;
    }
    state::failpoint::from_env().unwrap();
    let p = opened(&var(DB), &var(FAST), &var(SPACE)).await;
    let ask: Value = serde_json::from_str(&var(ASK)).unwrap();
    p.kit.call("admin", Method::POST, ask["path"].as_str().unwrap(), ask["body"].clone()).await;
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_process_leaves_its_moves_to_the_next() {
    let _one = ONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/moves.sqlite", dir.path().display());
    let (fast, space) = (testbed::unique("fast"), testbed::unique("move"));
    let p = opened(&url, &fast, &space).await;
    let (live, copied) = (p.made(true).await, p.made(false).await);
    p.kit.end().await;
    for (first, (v, s)) in [("fast", &live), ("fast", &copied), ("far", &copied)] {
        let mut turn = [first, "volumes"].into_iter().cycle();
        for step in ["prepare", "switch", "execute", "commit", "settle"] {
            for when in ["before", "after"] {
                let to = turn.next().unwrap();
                let body = json!({"os-migrate_volume": {"host": format!("aquifer@{to}#{to}")}});
                let ask = json!({"path": format!("/volumes/{}/action", v.id), "body": body});
                let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
                child.args(["--ignored", "--exact", "mover", "--nocapture"]);
                child.env("AQUIFER_FAILPOINTS", format!("volume.migrate:{step}:{when}=abort"));
                child.env(DB, &url).env(FAST, &fast).env(SPACE, &space).env(ASK, ask.to_string());
                child
                    .stdout(std::process::Stdio::null())
                    .stderr(std::process::Stdio::null())
                    .kill_on_drop(true);
                let ended = tokio::time::timeout(std::time::Duration::from_secs(60), child.status()).await;
                assert!(!ended.unwrap().unwrap().success(), "{step}:{when}");
                let p = opened(&url, &fast, &space).await;
                p.migration(v, "success").await;
                p.kit.settled().await;
                p.is_in(v, to, s.as_deref()).await;
                p.kit.end().await;
            }
        }
    }
}
