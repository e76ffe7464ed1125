//! Backups through the API, on both databases and a real cluster. Failpoints belong to the whole process, so these
//! tests run one at a time.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use blockstore::{Source, VolumeStatus};
use bytes::Bytes;
use kit::{GIB, Kit, kits, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use state::failpoint::{self, Action};
use tokio::sync::Mutex;

static ONE: Mutex<()> = Mutex::const_new(());

async fn restore(kit: &Kit, id: &str, volume_id: &str) -> (StatusCode, Value) {
    let body = json!({"restore": {"volume_id": volume_id}});
    kit.call("alice", Method::POST, &format!("/backups/{id}/restore"), body).await
}

async fn delete(kit: &Kit, id: &str) {
    let path = format!("/backups/{id}");
    let (status, body) = kit.call("alice", Method::DELETE, &path, Value::Null).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    kit.absent(&path).await;
}

async fn begins_with(kit: &Kit, volume_id: &str, byte: u8) {
    let image = kit.open(volume_id).await;
    assert_eq!(image.size().await.unwrap(), GIB);
    let read = image.read_at(0, 2 << 20).await.unwrap();
    assert!(read[..1 << 20].iter().all(|b| *b == byte) && read[1 << 20..].iter().all(|b| *b == 0));
}

#[tokio::test]
async fn a_backup_outlives_its_volume() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let image = kit.image(Bytes::from(vec![9; 1 << 20])).await;
        let other = kit.image(Bytes::from(vec![7; 2 << 20])).await;
        let volume = kit.create(Source::Image(image), Some(1)).await;
        let id = kit.ask_backup(json!({"volume_id": volume.id, "name": "b", "metadata": {"k": "v"}})).await;
        let shown = kit.backup_becomes(&id, "available").await;
        assert_eq!((&shown["size"], &shown["metadata"]), (&json!(1), &json!({"k": "v"})));
        kit.becomes(&volume.id, VolumeStatus::Available).await;
        assert_eq!((&shown["is_incremental"], &shown["object_count"]), (&json!(false), &json!(1)));
        let absolute = kit.get("alice", "/limits").await["limits"]["absolute"].clone();
        assert_eq!(
            (&absolute["totalBackupsUsed"], &absolute["totalBackupGigabytesUsed"]),
            (&json!(1), &json!(1))
        );
        let (status, _) = kit.call("bob", Method::GET, &format!("/backups/{id}"), Value::Null).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(kit.get("bob", "/backups/detail").await["backups"], json!([]));
        assert_eq!(kit.get("alice", "/backups?name=b").await["backups"][0]["id"], json!(id));
        kit.delete(&volume.id).await;

        let target = kit.create(Source::Image(other), Some(1)).await;
        let (status, body) = restore(&kit, &id, &target.id).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        kit.backup_becomes(&id, "available").await;
        kit.becomes(&target.id, VolumeStatus::Available).await;
        begins_with(&kit, &target.id, 9).await;
        delete(&kit, &id).await;
        kit.delete(&target.id).await;
        kit.settled().await;
        assert!(nothing_left(&kit).await);
    }
}

/// A process that dies while librbd takes a snapshot leaves one that can never be opened. Who goes on with the backup does
/// not take it for whole.
#[tokio::test]
async fn a_snapshot_that_was_cut_short_is_taken_anew() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let image = kit.image(Bytes::from(vec![9; 1 << 20])).await;
        let volume = kit.create(Source::Image(image), Some(1)).await;
        failpoint::set("backup.create:copy:before", Action::Pause);
        let id = kit.ask_backup(json!({"volume_id": volume.id})).await;
        let (chain, rbd) = (format!("backup-{id}"), kit.tier.pool.rbd());
        rbd.create(&chain, GIB, pool::CreateOptions::default()).await.unwrap();
        let image = rbd.open(&chain).await.unwrap();
        image.snap_create(&chain).await.unwrap();
        let (at, snap) = (image.info().await.unwrap().id, image.snap_list().await.unwrap().remove(0).id);
        image.close().await.unwrap();
        kit.tier.pool.remove(&format!("rbd_object_map.{at}.{snap:016x}")).await.unwrap();
        failpoint::clear("backup.create:copy:before");

        kit.backup_becomes(&id, "available").await;
        let restored = kit.create(Source::Backup(id.clone()), Some(1)).await;
        begins_with(&kit, &restored.id, 9).await;
        delete(&kit, &id).await;
        kit.delete(&restored.id).await;
        kit.delete(&volume.id).await;
        kit.settled().await;
        assert!(nothing_left(&kit).await);
    }
}

/// Of backups, in the pool.
async fn nothing_left(kit: &Kit) -> bool {
    let sums = kit.tier.pool.list_page(None, 10_000).await.unwrap().0;
    !kit.images_there().await.iter().any(|i| i.starts_with("backup-"))
        && !sums.iter().any(|o| o.starts_with("backup-sums"))
}

async fn write(kit: &Kit, volume_id: &str, off: u64, bytes: Vec<u8>) {
    let image = kit.tier.pool.rbd().open(&format!("volume-{volume_id}")).await.unwrap();
    image.write_at(off, Bytes::from(bytes)).await.unwrap();
    image.close().await.unwrap();
}

async fn clear(kit: &Kit, volume_id: &str, off: u64, len: u64) {
    let image = kit.tier.pool.rbd().open(&format!("volume-{volume_id}")).await.unwrap();
    image.discard(off, len).await.unwrap();
    image.close().await.unwrap();
}

/// The byte at each of these places.
async fn bytes_at(kit: &Kit, volume_id: &str, places: &[u64]) -> Vec<u8> {
    let image = kit.open(volume_id).await;
    let mut out = Vec::new();
    for off in places {
        out.push(image.read_at(*off, 1).await.unwrap()[0]);
    }
    image.close().await.unwrap();
    out
}

async fn restored(kit: &Kit, id: &str) -> String {
    let body = json!({"restore": {"name": "again"}});
    let (status, body) = kit.call("alice", Method::POST, &format!("/backups/{id}/restore"), body).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    assert_eq!(body["restore"]["volume_name"], "again");
    let volume = body["restore"]["volume_id"].as_str().unwrap().to_owned();
    kit.becomes(&volume, VolumeStatus::Available).await;
    kit.backup_becomes(id, "available").await;
    volume
}

#[tokio::test]
async fn a_chain_of_incremental_backups() {
    const MIB: u64 = 1 << 20;
    let _one = ONE.lock().await;
    for kit in kits().await {
        let image = kit.image(Bytes::from(vec![9; 1 << 20])).await;
        let volume = kit.create(Source::Image(image), Some(1)).await;
        let v = volume.id.as_str();
        let marked = json!({"metadata": {"mark": "mine"}});
        let (status, _) = kit.call("alice", Method::POST, &format!("/volumes/{v}/metadata"), marked).await;
        assert_eq!(status, StatusCode::OK);
        let none = json!({"backup": {"volume_id": v, "incremental": true}});
        assert_eq!(kit.call("alice", Method::POST, "/backups", none).await.0, StatusCode::BAD_REQUEST);
        write(&kit, v, 100 * MIB, vec![1; 1 << 20]).await;
        write(&kit, v, 200 * MIB, vec![2; 1 << 20]).await;

        let mut chain = Vec::new();
        let full = kit.ask_backup(json!({"volume_id": v})).await;
        assert_eq!(kit.backup_becomes(&full, "available").await["object_count"], 3);
        chain.push((full.clone(), [9, 1, 2, 0]));
        kit.becomes(v, VolumeStatus::Available).await;
        write(&kit, v, 100 * MIB, vec![3; 1 << 20]).await;
        clear(&kit, v, 200 * MIB, 4 * MIB).await;
        write(&kit, v, 300 * MIB, vec![4; 1 << 20]).await;
        let second = kit.ask_backup(json!({"volume_id": v, "incremental": true})).await;
        let shown = kit.backup_becomes(&second, "available").await;
        assert_eq!((&shown["object_count"], &shown["is_incremental"]), (&json!(3), &json!(true)));
        chain.push((second.clone(), [9, 3, 0, 4]));
        kit.settled().await;
        kit.becomes(v, VolumeStatus::Available).await;
        // Of the snapshots only the latest backup's stays.
        until("the older backup's snapshot is away", || async {
            let names: Vec<_> =
                kit.open(v).await.snap_list().await.unwrap().into_iter().map(|s| s.name).collect();
            (names == [format!("backup-{second}")]).then_some(())
        })
        .await;

        // A step that fails leaves the chain as it was; one that was written twice is written once.
        write(&kit, v, 300 * MIB, vec![5; 1 << 20]).await;
        failpoint::set("backup.create:copy:after", Action::Fail);
        let failed = kit.ask_backup(json!({"volume_id": v, "incremental": true})).await;
        kit.backup_becomes(&failed, "error").await;
        kit.settled().await;
        failpoint::clear("backup.create:copy:after");
        write(&kit, v, 300 * MIB, vec![6; 1 << 20]).await;
        let third = kit.ask_backup(json!({"volume_id": v, "incremental": true})).await;
        assert_eq!(kit.backup_becomes(&third, "available").await["object_count"], 1);
        chain.push((third.clone(), [9, 3, 0, 6]));
        kit.settled().await;

        // Without the parent's snapshot everything is read, and what differs is written.
        kit.becomes(v, VolumeStatus::Available).await;
        let whole = kit.tier.pool.rbd().open(&format!("volume-{v}")).await.unwrap();
        whole.snap_remove(&format!("backup-{third}")).await.unwrap();
        whole.close().await.unwrap();
        write(&kit, v, 100 * MIB, vec![7; 1 << 20]).await;
        let fourth = kit.ask_backup(json!({"volume_id": v, "incremental": true})).await;
        assert_eq!(kit.backup_becomes(&fourth, "available").await["object_count"], 1);
        chain.push((fourth.clone(), [9, 7, 0, 6]));
        kit.settled().await;

        // The source goes, its backups stay: each reads as its own instant.
        kit.becomes(v, VolumeStatus::Available).await;
        delete(&kit, &failed).await;
        kit.delete(v).await;
        for (id, wanted) in &chain {
            let again = restored(&kit, id).await;
            let places = [0, 100 * MIB, 200 * MIB, 300 * MIB];
            assert_eq!(bytes_at(&kit, &again, &places).await, wanted, "{id}");
            let volume = kit.volumes.get(&kit::ctx("alice"), &again).await.unwrap();
            assert!(volume.bootable && volume.metadata.get("mark").is_some_and(|m| m == "mine"));
            assert_eq!(volume.metadata.get("src_backup_id"), Some(id));
            kit.delete(&again).await;
        }
        let (status, body) =
            kit.call("alice", Method::DELETE, &format!("/backups/{full}"), Value::Null).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        let shown = kit.get("alice", &format!("/backups/{full}")).await;
        assert_eq!(shown["backup"]["has_dependent_backups"], true);
        while let Some((id, _)) = chain.pop() {
            delete(&kit, &id).await;
            kit.settled().await;
            if let Some((id, wanted)) = chain.last() {
                let again = restored(&kit, id).await;
                assert_eq!(bytes_at(&kit, &again, &[100 * MIB, 300 * MIB]).await, [wanted[1], wanted[3]]);
                kit.delete(&again).await;
            }
        }
        assert!(nothing_left(&kit).await);
    }
}

#[tokio::test]
async fn damage_is_told_and_not_restored() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let image = kit.image(Bytes::from(vec![9; 1 << 20])).await;
        let volume = kit.create(Source::Image(image), Some(1)).await;
        let id = kit.ask_backup(json!({"volume_id": volume.id})).await;
        kit.backup_becomes(&id, "available").await;
        kit.becomes(&volume.id, VolumeStatus::Available).await;
        // Other bytes under the same snapshot's name.
        let chain = kit.tier.pool.rbd().open(&format!("backup-{id}")).await.unwrap();
        chain.snap_remove(&format!("backup-{id}")).await.unwrap();
        chain.write_at(4096, Bytes::from_static(b"x")).await.unwrap();
        chain.snap_create(&format!("backup-{id}")).await.unwrap();
        chain.close().await.unwrap();
        assert_eq!(restore(&kit, &id, &volume.id).await.0, StatusCode::ACCEPTED);
        kit.becomes(&volume.id, VolumeStatus::ErrorRestoring).await;
        kit.backup_becomes(&id, "available").await;
        let messages = kit.get("alice", "/messages").await["messages"].clone();
        assert_eq!(messages[0]["event_id"], "VOLUME_VOLUME_BACKUP_015_001", "{messages}");
        assert!(messages[0]["user_message"].as_str().unwrap().contains("damaged"), "{messages}");
    }
}

#[tokio::test]
async fn records_go_out_and_in() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let image = kit.image(Bytes::from(vec![9; 1 << 20])).await;
        let volume = kit.create(Source::Image(image), Some(1)).await;
        let id = kit.ask_backup(json!({"volume_id": volume.id, "name": "kept"})).await;
        kit.backup_becomes(&id, "available").await;
        let path = format!("/backups/{id}/export_record");
        assert_eq!(kit.call("alice", Method::GET, &path, Value::Null).await.0, StatusCode::FORBIDDEN);
        let record = kit.get("admin", &path).await;
        let import =
            async |record: Value| kit.call("admin", Method::POST, "/backups/import_record", record).await;
        let (status, body) = import(record.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        let (status, _) =
            import(json!({"backup-record": {"backup_service": "x", "backup_url": "e30="}})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);

        // Under another id it is a second record of the same bytes, which stay while one of them does.
        use base64::Engine;
        let coder = base64::engine::general_purpose::STANDARD;
        let text = coder.decode(record["backup-record"]["backup_url"].as_str().unwrap()).unwrap();
        let mut inside: Value = serde_json::from_slice(&text).unwrap();
        let other = state::new_id();
        inside["id"] = json!(other);
        let mut again = record.clone();
        again["backup-record"]["backup_url"] = json!(coder.encode(inside.to_string()));
        let (status, body) = import(again).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        assert_eq!(body["backup"]["id"], json!(other));
        delete(&kit, &id).await;
        kit.settled().await;
        let shown = kit.get("admin", &format!("/backups/{other}")).await["backup"].clone();
        assert_eq!((&shown["status"], &shown["name"]), (&json!("available"), &json!("kept")));
        let body = json!({"restore": {}});
        let path = format!("/backups/{other}/restore");
        let (status, body) = kit.call("admin", Method::POST, &path, body).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        let new = body["restore"]["volume_id"].as_str().unwrap().to_owned();
        until("restored", || async {
            let shown = kit.get("admin", &format!("/volumes/{new}")).await;
            (shown["volume"]["status"] == "available").then_some(())
        })
        .await;
        begins_with(&kit, &new, 9).await;
        // Reset and force.
        let act = async |body: Value| {
            kit.call("admin", Method::POST, &format!("/backups/{other}/action"), body).await.0
        };
        assert_eq!(act(json!({"os-reset_status": {"status": "error"}})).await, StatusCode::ACCEPTED);
        assert_eq!(act(json!({"os-reset_status": {"status": "nonsense"}})).await, StatusCode::BAD_REQUEST);
        assert_eq!(act(json!({"os-force_delete": {}})).await, StatusCode::ACCEPTED);
        kit.settled().await;
        assert!(nothing_left(&kit).await);
    }
}

#[tokio::test]
async fn every_step_twice_and_a_failure_at_each() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let image = kit.image(Bytes::from(vec![9; 1 << 20])).await;
        let volume = kit.create(Source::Image(image), Some(1)).await;
        for step in ["snapshot", "copy", "settle"] {
            for when in ["before", "after"] {
                let point = format!("backup.create:{step}:{when}");
                failpoint::set(&point, Action::RetryOnce);
                let id = kit.ask_backup(json!({"volume_id": volume.id})).await;
                kit.backup_becomes(&id, "available").await;
                kit.settled().await;
                failpoint::clear(&point);
                delete(&kit, &id).await;

                // A backup that is seen to be there is its task's end: nothing fails behind it.
                if (step, when) == ("settle", "after") {
                    continue;
                }
                let undo = format!("backup.create:undo:{step}:after");
                failpoint::set(&point, Action::Fail);
                failpoint::set(&undo, Action::RetryOnce);
                let id = kit.ask_backup(json!({"volume_id": volume.id})).await;
                let shown = kit.backup_becomes(&id, "error").await;
                assert!(shown["fail_reason"].is_string());
                kit.becomes(&volume.id, VolumeStatus::Available).await;
                kit.settled().await;
                failpoint::clear(&point);
                failpoint::clear(&undo);
                assert!(!kit.images_there().await.contains(&format!("backup-{id}")));
                delete(&kit, &id).await;
            }
        }
        let id = kit.ask_backup(json!({"volume_id": volume.id})).await;
        kit.backup_becomes(&id, "available").await;
        for point in
            ["backup.restore:fill:before", "backup.restore:fill:after", "backup.restore:settle:after"]
        {
            failpoint::set(point, Action::RetryOnce);
            assert_eq!(restore(&kit, &id, &volume.id).await.0, StatusCode::ACCEPTED);
            kit.backup_becomes(&id, "available").await;
            kit.becomes(&volume.id, VolumeStatus::Available).await;
            kit.settled().await;
            failpoint::clear(point);
            begins_with(&kit, &volume.id, 9).await;
        }
        failpoint::set("backup.restore:fill:before", Action::Fail);
        assert_eq!(restore(&kit, &id, &volume.id).await.0, StatusCode::ACCEPTED);
        kit.backup_becomes(&id, "available").await;
        failpoint::clear("backup.restore:fill:before");
        assert_eq!(
            kit.get("alice", &format!("/volumes/{}", volume.id)).await["volume"]["status"],
            "error_restoring"
        );
        failpoint::set("backup.delete:remove:after", Action::RetryOnce);
        delete(&kit, &id).await;
        kit.settled().await;
        failpoint::clear("backup.delete:remove:after");
    }
}

#[tokio::test]
async fn refusals_and_a_backup_of_a_snapshot() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let volume = kit.create(Source::Empty, Some(1)).await;
        let snapshot = kit.snapshot(&volume.id).await;
        let id = kit.ask_backup(json!({"volume_id": volume.id, "snapshot_id": snapshot})).await;
        assert_eq!(kit.backup_becomes(&id, "available").await["snapshot_id"], json!(snapshot));
        assert_eq!(kit.open(&volume.id).await.snap_list().await.unwrap().len(), 1);
        for (body, want) in [
            (json!({"volume_id": state::new_id()}), 404),
            (json!({"volume_id": volume.id, "snapshot_id": state::new_id()}), 404),
            (json!({"volume_id": volume.id, "container": "c"}), 400),
            (json!({"volume_id": volume.id, "availability_zone": "mars"}), 400),
            (json!({"volume_id": volume.id, "colour": "red"}), 400),
            (json!({}), 400),
        ] {
            let (status, answer) = kit.call("alice", Method::POST, "/backups", json!({"backup": body})).await;
            assert_eq!(status.as_u16(), want, "{body}: {answer}");
        }
        let rename = json!({"backup": {"name": "n"}});
        let (status, body) = kit.call("alice", Method::PUT, &format!("/backups/{id}"), rename).await;
        assert_eq!((status, &body["backup"]["name"]), (StatusCode::OK, &json!("n")));
        let (status, _) = kit.call("rita", Method::DELETE, &format!("/backups/{id}"), Value::Null).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        delete(&kit, &id).await;
    }
}
