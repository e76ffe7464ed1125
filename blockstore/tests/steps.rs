//! The durable operations, on both databases and a real cluster. For each: every step repeated; a failure at every
//! step, after which nothing is left and the state says so; every undo repeated. Failpoints belong to the whole
//! process, so these tests run one at a time.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use blockstore::{NewVolume, SnapshotStatus, Source, Volume, VolumeStatus};
use bytes::Bytes;
use kit::{GIB, Kit, ctx, kits, until};
use reqwest::Method;
use serde_json::{Value, json};
use state::failpoint::{self, Action};
use tokio::sync::Mutex;

static ONE: Mutex<()> = Mutex::const_new(());

/// Arms failpoints and disarms them when it goes.
struct Armed(Vec<String>);

impl Armed {
    fn new(points: &[(&str, Action)]) -> Self {
        for (name, action) in points {
            failpoint::set(*name, *action);
        }
        Armed(points.iter().map(|(n, _)| (*n).to_owned()).collect())
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        self.0.iter().for_each(|n| failpoint::clear(n));
    }
}

async fn ask(kit: &Kit, source: Source) -> Volume {
    let new = NewVolume { size_gib: Some(1), source, ..NewVolume::default() };
    kit.volumes.create(&ctx("alice"), new).await.unwrap()
}

async fn status(kit: &Kit, id: &str) -> VolumeStatus {
    kit.volumes.get(&ctx("alice"), id).await.unwrap().status
}

/// The volume has failed, says why, holds no image, and can be deleted.
async fn failed_cleanly(kit: &Kit, id: &str, others: usize) {
    until("the volume fails", || async { (status(kit, id).await == VolumeStatus::Error).then_some(()) })
        .await;
    kit.settled().await;
    let messages = kit.get("alice", "/messages").await;
    let told = messages["messages"].as_array().unwrap().iter().filter(|m| m["resource_uuid"] == id);
    assert_eq!(told.count(), 1, "one message, however often the end was repeated");
    let images = kit.images_there().await;
    assert!(!images.contains(&format!("volume-{id}")), "{images:?}");
    assert_eq!(images.len(), others);
    kit.delete(id).await;
}

#[tokio::test]
async fn create_of_every_source() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let image = kit.image(Bytes::from(vec![9; 1 << 20])).await;
        let origin = kit.create(Source::Image(image.clone()), Some(1)).await;
        let snapshot = kit.snapshot(&origin.id).await;
        let sources = [
            Source::Empty,
            Source::Image(image),
            Source::Snapshot(snapshot),
            Source::Volume(origin.id.clone()),
        ];
        for source in sources {
            // The step runs twice: the second time it finds what the first has made.
            for point in ["volume.create:allocate:before", "volume.create:allocate:after"] {
                let _armed = Armed::new(&[(point, Action::RetryOnce)]);
                let v = ask(&kit, source.clone()).await;
                kit.becomes(&v.id, VolumeStatus::Available).await;
                kit.settled().await;
                assert_eq!(kit.open(&v.id).await.size().await.unwrap(), GIB);
                kit.delete(&v.id).await;
            }
            for point in ["volume.create:allocate:before", "volume.create:allocate:after"] {
                let _armed = Armed::new(&[
                    (point, Action::Fail),
                    ("volume.create:undo:allocate:after", Action::RetryOnce),
                ]);
                let v = ask(&kit, source.clone()).await;
                failed_cleanly(&kit, &v.id, 2).await;
            }
            let left = kit.open(&origin.id).await.snap_list().await.unwrap();
            assert_eq!(left.len(), 1, "no hidden snapshot is left: {left:?}");
        }
    }
}

#[tokio::test]
async fn a_half_made_image_is_made_anew() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let image = kit.image(Bytes::from(vec![9; 1 << 20])).await;
        failpoint::set("volume.create:allocate:before", Action::Pause);
        let v = ask(&kit, Source::Image(image)).await;
        // What a process that died in the middle leaves: the name, and something that is no clone.
        kit.tier.pool.rbd().create(&v.image_name(), 4096, pool::CreateOptions::default()).await.unwrap();
        failpoint::clear("volume.create:allocate:before");
        kit.becomes(&v.id, VolumeStatus::Available).await;
        let made = kit.open(&v.id).await;
        assert!(made.parent().await.unwrap().is_some());
        assert_eq!(made.size().await.unwrap(), GIB);
    }
}

#[tokio::test]
async fn force_delete_while_creating() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        failpoint::set("volume.create:allocate:before", Action::Pause);
        let v = ask(&kit, Source::Empty).await;
        kit.act("admin", &v.id, json!({"os-force_delete": {}})).await;
        failpoint::clear("volume.create:allocate:before");
        kit.gone(&v.id).await;
        kit.settled().await;
        assert!(kit.images_there().await.is_empty());
    }
}

#[tokio::test]
async fn delete() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        for step in ["remove", "purge"] {
            for when in ["before", "after"] {
                let point = format!("volume.delete:{step}:{when}");
                let _armed = Armed::new(&[(&point, Action::RetryOnce)]);
                let v = kit.create(Source::Empty, Some(1)).await;
                kit.delete(&v.id).await;
                kit.settled().await;
                assert!(kit.images_there().await.is_empty());
            }
        }
        // What could not be deleted says so, and can be deleted again.
        let v = kit.create(Source::Empty, Some(1)).await;
        {
            let _armed = Armed::new(&[
                ("volume.delete:remove:before", Action::Fail),
                ("volume.delete:undo:remove:after", Action::RetryOnce),
            ]);
            kit.call("alice", Method::DELETE, &format!("/volumes/{}", v.id), Value::Null).await;
            until("error_deleting", || async {
                (status(&kit, &v.id).await == VolumeStatus::ErrorDeleting).then_some(())
            })
            .await;
        }
        kit.delete(&v.id).await;
        // Gone in the pool and in the rows, and failing only then: it stays gone.
        let v = kit.create(Source::Empty, Some(1)).await;
        {
            let _armed = Armed::new(&[("volume.delete:remove:after", Action::Fail)]);
            kit.delete(&v.id).await;
            kit.settled().await;
        }
        assert!(kit.images_there().await.is_empty());
    }
}

#[tokio::test]
async fn extend() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let v = kit.create(Source::Empty, Some(1)).await;
        for (size, point) in [(2, "volume.extend:resize:before"), (3, "volume.extend:resize:after")] {
            let _armed = Armed::new(&[(point, Action::RetryOnce)]);
            kit.act("alice", &v.id, json!({"os-extend": {"new_size": size}})).await;
            let now = kit.becomes(&v.id, VolumeStatus::Available).await;
            kit.settled().await;
            assert_eq!((now.size_gib, now.growth), (size, 0));
        }
        {
            let _armed = Armed::new(&[
                ("volume.extend:resize:before", Action::Fail),
                ("volume.extend:undo:resize:after", Action::RetryOnce),
            ]);
            kit.act("alice", &v.id, json!({"os-extend": {"new_size": 9}})).await;
            kit.becomes(&v.id, VolumeStatus::ErrorExtending).await;
        }
        let now = kit.volumes.get(&ctx("alice"), &v.id).await.unwrap();
        assert_eq!((now.size_gib, now.growth), (3, 0), "quota is given back");
        kit.delete(&v.id).await;
    }
}

#[tokio::test]
async fn snapshots() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let v = kit.create(Source::Empty, Some(1)).await;
        for when in ["before", "after"] {
            let (make, take) =
                (format!("snapshot.create:snap:{when}"), format!("snapshot.delete:remove:{when}"));
            let _armed = Armed::new(&[(&make, Action::RetryOnce), (&take, Action::RetryOnce)]);
            let s = kit.snapshot(&v.id).await;
            assert_eq!(kit.open(&v.id).await.snap_list().await.unwrap().len(), 1);
            kit.delete_snapshot(&s).await;
            kit.settled().await;
            assert!(kit.open(&v.id).await.snap_list().await.unwrap().is_empty());
        }
        for when in ["before", "after"] {
            let make = format!("snapshot.create:snap:{when}");
            let _armed =
                Armed::new(&[(&make, Action::Fail), ("snapshot.create:undo:snap:after", Action::RetryOnce)]);
            let body = json!({"snapshot": {"volume_id": v.id}});
            let (_, made) = kit.call("alice", Method::POST, "/snapshots", body).await;
            let s = made["snapshot"]["id"].as_str().unwrap();
            until("the snapshot fails", || async {
                let now = kit.volumes.get_snapshot(&ctx("alice"), s).await.unwrap();
                (now.status == SnapshotStatus::Error).then_some(())
            })
            .await;
            assert!(kit.open(&v.id).await.snap_list().await.unwrap().is_empty());
            kit.delete_snapshot(s).await;
        }
        let s = kit.snapshot(&v.id).await;
        {
            let _armed = Armed::new(&[("snapshot.delete:remove:before", Action::Fail)]);
            kit.call("alice", Method::DELETE, &format!("/snapshots/{s}"), Value::Null).await;
            until("error_deleting", || async {
                let now = kit.volumes.get_snapshot(&ctx("alice"), &s).await.unwrap();
                (now.status == SnapshotStatus::ErrorDeleting).then_some(())
            })
            .await;
        }
        kit.delete_snapshot(&s).await;
    }
}

#[tokio::test]
async fn upload() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let v = kit.create(Source::Empty, Some(1)).await;
        let begin = |format: &'static str| {
            let (kit, v) = (&kit, &v);
            async move {
                let body = json!({"os-volume_upload_image": {"image_name": "i", "disk_format": format}});
                let answer = kit.act("alice", &v.id, body).await;
                answer["os-volume_upload_image"]["image_id"].as_str().unwrap().to_owned()
            }
        };
        let steps = ["snapshot", "fill", "settle"];
        for (step, format) in ["raw", "qcow2"].into_iter().flat_map(|f| steps.map(|s| (s, f))) {
            for when in ["before", "after"] {
                let point = format!("volume.upload:{step}:{when}");
                let _armed = Armed::new(&[(&point, Action::RetryOnce)]);
                let image = begin(format).await;
                kit.becomes(&v.id, VolumeStatus::Available).await;
                kit.settled().await;
                let made = kit.images.get(&ctx("alice"), &image).await.unwrap();
                assert_eq!(made.status, imagestore::Status::Active);
                kit.images.delete(&ctx("alice"), &image).await.unwrap();
            }
        }
        for (step, format) in ["raw", "qcow2"].into_iter().flat_map(|f| steps.map(|s| (s, f))) {
            let (point, undo) =
                (format!("volume.upload:{step}:before"), format!("volume.upload:undo:{step}:after"));
            let _armed = Armed::new(&[(&point, Action::Fail), (&undo, Action::RetryOnce)]);
            let image = begin(format).await;
            kit.becomes(&v.id, VolumeStatus::Available).await;
            kit.settled().await;
            assert!(kit.images.get(&ctx("alice"), &image).await.is_err(), "no image is left after {point}");
        }
        until("no snapshot is left", || async {
            kit.open(&v.id).await.snap_list().await.unwrap().is_empty().then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn revert() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let v = kit.create(Source::Empty, Some(1)).await;
        let write = |byte: u8| {
            let (kit, name) = (&kit, v.image_name());
            async move {
                let image = kit.tier.pool.rbd().open(&name).await.unwrap();
                image.write_at(0, Bytes::from(vec![byte; 4096])).await.unwrap();
                image.close().await.unwrap();
            }
        };
        let read = || async { kit.open(&v.id).await.read_at(0, 4096).await.unwrap()[0] };
        write(1).await;
        let old = kit.snapshot(&v.id).await;
        write(2).await;
        let latest = kit.snapshot(&v.id).await;
        let ask = |snapshot: String| {
            let (kit, path) = (&kit, format!("/volumes/{}/action", v.id));
            async move {
                let body = json!({"revert": {"snapshot_id": snapshot}});
                kit.call("alice", Method::POST, &path, body).await.0.as_u16()
            }
        };
        for point in ["volume.revert:rollback:before", "volume.revert:rollback:after"] {
            let _armed = Armed::new(&[(point, Action::RetryOnce)]);
            write(3).await;
            assert_eq!(ask(latest.clone()).await, 202);
            kit.becomes(&v.id, VolumeStatus::Available).await;
            kit.settled().await;
            assert_eq!(read().await, 2);
        }
        // What a process leaves that dies over it: librbd has set the map of objects back, and no object.
        write(4).await;
        failpoint::set("volume.revert:rollback:before", Action::Pause);
        assert_eq!(ask(latest.clone()).await, 202);
        let (pool, name) = (&kit.tier.pool, v.image_name());
        let image = pool.rbd().open(&name).await.unwrap();
        image.write_at(100 << 20, Bytes::from(vec![4; 4096])).await.unwrap();
        image.metadata_set("aquifer.setting-back", "x").await.unwrap();
        let map = format!("rbd_object_map.{}", image.info().await.unwrap().id);
        let snap = image.snap_list().await.unwrap().pop().unwrap().id;
        image.close().await.unwrap();
        let then = pool.read(&format!("{map}.{snap:016x}"), 0, 1 << 20).await.unwrap();
        pool.write_full(&map, then).await.unwrap();
        failpoint::clear("volume.revert:rollback:before");
        kit.becomes(&v.id, VolumeStatus::Available).await;
        assert_eq!(read().await, 2);
        let image = pool.rbd().open_read_only(&name).await.unwrap();
        assert_eq!(image.read_at(100 << 20, 1).await.unwrap()[0], 0, "it was not there then");
        assert!(!image.metadata_list().await.unwrap().contains_key("aquifer.setting-back"));
        image.close().await.unwrap();
        assert_eq!(ask(old).await, 400, "only to the latest");
        assert_eq!(ask(state::new_id()).await, 404);
        {
            let _armed = Armed::new(&[
                ("volume.revert:rollback:before", Action::Fail),
                ("volume.revert:undo:rollback:after", Action::RetryOnce),
            ]);
            assert_eq!(ask(latest.clone()).await, 202);
            until("it fails", || async { (status(&kit, &v.id).await == VolumeStatus::Error).then_some(()) })
                .await;
            kit.settled().await;
        }
        let now = kit.volumes.get_snapshot(&ctx("alice"), &latest).await.unwrap();
        assert_eq!(now.status, SnapshotStatus::Available);
        assert_eq!(ask(latest).await, 400, "not while in error");
    }
}

#[tokio::test]
async fn limits_follow_the_type() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let specs = json!({"qos_specs": {"name": "slow", "total_iops_sec": "500", "consumer": "back-end"}});
        let (_, made) = kit.call("admin", Method::POST, "/qos-specs", specs).await;
        let qos = made["qos_specs"]["id"].as_str().unwrap().to_owned();
        let kind = kit.add_type("slow", json!({})).await;
        let path = format!("/qos-specs/{qos}/associate?vol_type_id={kind}");
        assert!(kit.call("admin", Method::GET, &path, Value::Null).await.0.is_success());
        let limit = |id: String| {
            let kit = &kit;
            async move {
                let all = kit.open(&id).await.metadata_list().await.unwrap();
                all.get("conf_rbd_qos_iops_limit").cloned()
            }
        };
        let new = NewVolume { size_gib: Some(1), volume_type: Some("slow".into()), ..NewVolume::default() };
        let slow = kit.volumes.create(&ctx("alice"), new).await.unwrap();
        kit.becomes(&slow.id, VolumeStatus::Available).await;
        assert_eq!(limit(slow.id.clone()).await.as_deref(), Some("500"));
        // A clone has the limits of its own type, not its parent's.
        let source = Source::Volume(slow.id.clone());
        let new = NewVolume { source, volume_type: Some("__DEFAULT__".into()), ..NewVolume::default() };
        let free = kit.volumes.create(&ctx("alice"), new).await.unwrap();
        kit.becomes(&free.id, VolumeStatus::Available).await;
        assert_eq!(limit(free.id.clone()).await, None);
        let turns = [
            ("volume.limit:limit:before", Action::RetryOnce, "slow"),
            ("volume.limit:limit:after", Action::RetryOnce, "__DEFAULT__"),
            ("volume.limit:limit:before", Action::Fail, "slow"),
            ("volume.limit:limit:after", Action::Fail, "__DEFAULT__"),
        ];
        for (point, action, to) in turns {
            let _armed = Armed::new(&[(point, action), ("volume.limit:undo:limit:after", Action::RetryOnce)]);
            kit.act("alice", &free.id, json!({"os-retype": {"new_type": to}})).await;
            kit.settled().await;
            // A step that has failed for good before it began changes nothing: it says so in the log.
            let want = (to == "slow").then(|| "500".to_owned());
            if (point, action) != ("volume.limit:limit:before", Action::Fail) {
                assert_eq!(limit(free.id.clone()).await, want, "{point}");
            }
        }
    }
}

#[tokio::test]
async fn manage_and_unmanage() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let host = "aquifer@volumes#volumes";
        let there = || async { kit.images_there().await };
        let v = kit.create(Source::Empty, Some(1)).await;
        let s = kit.snapshot(&v.id).await;
        let (snaps, path) = (format!("/snapshots/{s}/action"), format!("/volumes/{}/action", v.id));
        let unmanage = json!({"os-unmanage": {}});
        assert_eq!(kit.call("alice", Method::POST, &path, unmanage.clone()).await.0, 403);
        assert_eq!(
            kit.call("admin", Method::POST, &path, unmanage.clone()).await.0,
            400,
            "it has a snapshot"
        );
        assert_eq!(kit.call("admin", Method::POST, &snaps, unmanage.clone()).await.0, 202);
        // The snapshot comes back by the name it kept, whatever fails on the way.
        let mut source = format!("snapshot-{s}");
        for (when, action) in [
            ("before", Action::RetryOnce),
            ("after", Action::RetryOnce),
            ("before", Action::Fail),
            ("after", Action::Fail),
        ] {
            let point = format!("snapshot.manage:adopt:{when}");
            let undo = ("snapshot.manage:undo:adopt:after", Action::RetryOnce);
            let _armed = Armed::new(&[(&point, action), undo]);
            let body =
                json!({"snapshot": {"volume_id": v.id, "ref": {"source-name": source}, "name": "back"}});
            let (status, made) = kit.call("admin", Method::POST, "/manageable_snapshots", body).await;
            assert_eq!(status, 202, "{made}");
            let id = made["snapshot"]["id"].as_str().unwrap().to_owned();
            kit.settled().await;
            let now = kit.volumes.get_snapshot(&ctx("admin"), &id).await.unwrap();
            let all = kit.open(&v.id).await.snap_list().await.unwrap();
            if action == Action::Fail {
                assert_eq!((now.status, all[0].name.as_str()), (SnapshotStatus::Error, source.as_str()));
            } else {
                source = format!("snapshot-{id}");
                assert_eq!((now.status, all[0].name.as_str()), (SnapshotStatus::Available, source.as_str()));
            }
            let path = format!("/snapshots/{id}/action");
            assert_eq!(kit.call("admin", Method::POST, &path, unmanage.clone()).await.0, 202);
        }
        let none = json!({"snapshot": {"volume_id": v.id, "ref": {"source-name": "none"}}});
        assert_eq!(kit.call("admin", Method::POST, "/os-snapshot-manage", none).await.0, 400);

        assert_eq!(kit.call("admin", Method::POST, &path, unmanage.clone()).await.0, 202);
        kit.gone(&v.id).await;
        assert_eq!(there().await, [v.image_name()], "the image stays");
        let mut source = v.image_name();
        for (when, action) in [
            ("before", Action::RetryOnce),
            ("after", Action::RetryOnce),
            ("before", Action::Fail),
            ("after", Action::Fail),
        ] {
            let point = format!("volume.manage:adopt:{when}");
            let undo = ("volume.manage:undo:adopt:after", Action::RetryOnce);
            let _armed = Armed::new(&[(&point, action), undo]);
            let body = json!({"volume": {"host": host, "ref": {"source-name": source}, "name": "back"}});
            assert_eq!(kit.call("alice", Method::POST, "/manageable_volumes", body.clone()).await.0, 403);
            let (status, made) = kit.call("admin", Method::POST, "/manageable_volumes", body).await;
            assert_eq!(status, 202, "{made}");
            let id = made["volume"]["id"].as_str().unwrap().to_owned();
            kit.settled().await;
            let now = kit.volumes.get(&ctx("admin"), &id).await.unwrap().status;
            if action == Action::Fail {
                assert_eq!((now, there().await), (VolumeStatus::ErrorManaging, vec![source.clone()]));
            } else {
                source = format!("volume-{id}");
                assert_eq!((now, there().await), (VolumeStatus::Available, vec![source.clone()]));
            }
            let path = format!("/volumes/{id}/action");
            assert_eq!(kit.call("admin", Method::POST, &path, unmanage.clone()).await.0, 202);
        }
        for (host, source) in [(host, "none"), ("elsewhere@x#x", source.as_str())] {
            let body = json!({"volume": {"host": host, "ref": {"source-name": source}}});
            assert_eq!(kit.call("admin", Method::POST, "/os-volume-manage", body).await.0, 400);
        }
    }
}
