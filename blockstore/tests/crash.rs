//! `kill -9` at every step: a process dies in the middle of an operation, another one takes its rows up, and
//! everything ends as if nothing had happened.
//!
//! The process that dies is this test binary again, running [`victim`].

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use blockstore::{Config, NewVolume, Source, VolumeStatus};
use bytes::Bytes;
use kit::{Kit, ctx, kit_at, until};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor};
use state::Db;
use std::time::Duration;

const DB: &str = "BLOCKSTORE_VICTIM_DB";
const PLACE: &str = "BLOCKSTORE_VICTIM_NAMESPACE";
const COMMAND: &str = "BLOCKSTORE_VICTIM_COMMAND";

/// Fresh databases by their URLs: two processes open each.
async fn urls(dir: &tempfile::TempDir) -> Vec<String> {
    let mut all = vec![format!("sqlite://{}/crash.sqlite", dir.path().display())];
    if let Ok(server) = std::env::var("AQUIFER_TEST_PG") {
        let name = testbed::unique("crash").replace('-', "_");
        let mut admin = sqlx::PgConnection::connect(&server).await.unwrap();
        admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        all.push(format!("{}/{name}", server.rsplit_once('/').unwrap().0));
    }
    all
}

async fn open(url: &str, place: &str) -> Kit {
    let db = Db::open(url).await.unwrap();
    db.migrate(&state::tasks::MIGRATIONS).await.unwrap();
    kit_at(db, Config::default(), place.to_owned()).await
}

/// Lets another process run `command` until it dies at `point`.
async fn dies(url: &str, place: &str, point: &str, command: Value) {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "victim", "--nocapture"]);
    child.env("AQUIFER_FAILPOINTS", format!("{point}=abort"));
    child.env(DB, url).env(PLACE, place).env(COMMAND, command.to_string());
    child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(Duration::from_secs(60), child.status()).await;
    let status = ended.unwrap_or_else(|_| panic!("{point}: nobody died")).unwrap();
    assert!(std::os::unix::process::ExitStatusExt::signal(&status).is_some(), "{point}: {status}");
}

#[tokio::test]
#[ignore = "run by the other tests, to die"]
async fn victim() {
    let Ok(url) = std::env::var(DB) else { return };
    let command: Value = serde_json::from_str(&std::env::var(COMMAND).unwrap()).unwrap();
    state::failpoint::from_env().unwrap();
    let kit = open(&url, &std::env::var(PLACE).unwrap()).await;
    let (method, path) = (command["method"].as_str().unwrap(), command["path"].as_str().unwrap());
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    kit.call("alice", method, path, command["body"].clone()).await;
    std::future::pending::<()>().await;
}

fn command(method: &str, path: String, body: Value) -> Value {
    json!({"method": method, "path": path, "body": body})
}

#[tokio::test]
async fn creations_carry_on() {
    let dir = tempfile::tempdir().unwrap();
    for url in urls(&dir).await {
        let place = testbed::unique("crash");
        let kit = open(&url, &place).await;
        let image = kit.image(Bytes::from(vec![5; 1 << 20])).await;
        let origin = kit.create(Source::Image(image.clone()), Some(1)).await;
        let snapshot = kit.snapshot(&origin.id).await;
        kit.settled().await;
        kit.end().await;
        let sources = [
            json!({"size": 1, "name": "empty"}),
            json!({"size": 1, "name": "image", "imageRef": image}),
            json!({"size": 2, "name": "snapshot", "snapshot_id": snapshot}),
            json!({"size": 1, "name": "volume", "source_volid": origin.id}),
        ];
        for volume in sources {
            for when in ["before", "after"] {
                let point = format!("volume.create:allocate:{when}");
                let body = json!({"volume": volume});
                dies(&url, &place, &point, command("POST", "/volumes".into(), body)).await;
                let kit = open(&url, &place).await;
                let path = format!("/volumes/detail?name={}", volume["name"].as_str().unwrap());
                let found = kit.get("alice", &path).await["volumes"].clone();
                let id = found[0]["id"].as_str().unwrap_or_else(|| panic!("{point}: {found}")).to_owned();
                kit.becomes(&id, VolumeStatus::Available).await;
                kit.settled().await;
                assert_eq!(kit.open(&id).await.parent().await.unwrap().is_some(), volume["name"] != "empty");
                kit.delete(&id).await;
                kit.settled().await;
                assert_eq!(kit.images_there().await.len(), 2, "{point}: the image and the origin");
                kit.end().await;
            }
        }
    }
}

/// Of an encrypted volume's backup, over another one's bytes: one passphrase goes at the end.
#[tokio::test]
async fn restores_carry_on() {
    let dir = tempfile::tempdir().unwrap();
    for url in urls(&dir).await {
        let place = testbed::unique("crash");
        let kit = open(&url, &place).await;
        let kind = kit.add_type("sealed", json!({})).await;
        kit.seal_type(&kind, json!({"provider": "luks2", "control_location": "front-end"})).await;
        let (v, target) = (kit.create_of("sealed").await, kit.create_of("sealed").await);
        let backup = kit.ask_backup(json!({"volume_id": v.id})).await;
        kit.backup_becomes(&backup, "available").await;
        kit.settled().await;
        let own = kit.volumes.passphrase(&v.id).await.unwrap();
        kit.end().await;
        for step in ["restore:fill", "restore:settle", "drop_key:drop"] {
            for when in ["before", "after"] {
                let point = format!("backup.{step}:{when}");
                let body = json!({"restore": {"volume_id": target.id}});
                dies(&url, &place, &point, command("POST", format!("/backups/{backup}/restore"), body)).await;
                let kit = open(&url, &place).await;
                kit.becomes(&target.id, VolumeStatus::Available).await;
                kit.settled().await;
                kit.backup_becomes(&backup, "available").await;
                assert_eq!(kit.volumes.passphrase(&target.id).await.unwrap(), own, "{point}");
                let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM volume_keys";
                let keys: i64 = sqlx::query_scalar(sql).fetch_one(kit.db.read()).await.unwrap();
                assert_eq!(keys, 3, "{point}: each volume's, and the backup's");
                kit.end().await;
            }
        }
    }
}

#[tokio::test]
async fn everything_else_carries_on() {
    let dir = tempfile::tempdir().unwrap();
    for url in urls(&dir).await {
        let place = testbed::unique("crash");
        let kit = open(&url, &place).await;
        let v = kit.create(Source::Empty, Some(1)).await;
        kit.end().await;
        let action = format!("/volumes/{}/action", v.id);
        for (size, when) in [(2, "before"), (3, "after")] {
            let body = json!({"os-extend": {"new_size": size}});
            let point = format!("volume.extend:resize:{when}");
            dies(&url, &place, &point, command("POST", action.clone(), body)).await;
            let kit = open(&url, &place).await;
            let grown = kit.becomes(&v.id, VolumeStatus::Available).await;
            assert_eq!(grown.size_gib, size);
            kit.end().await;
        }
        for when in ["before", "after"] {
            let body = json!({"snapshot": {"volume_id": v.id}});
            let point = format!("snapshot.create:snap:{when}");
            dies(&url, &place, &point, command("POST", "/snapshots".into(), body)).await;
            let kit = open(&url, &place).await;
            kit.settled().await;
            let found = kit.get("alice", "/snapshots").await["snapshots"].clone();
            assert_eq!(found[0]["status"], "available", "{point}: {found}");
            let path = format!("/snapshots/{}", found[0]["id"].as_str().unwrap());
            kit.end().await;
            let point = format!("snapshot.delete:remove:{when}");
            dies(&url, &place, &point, command("DELETE", path, Value::Null)).await;
            let kit = open(&url, &place).await;
            kit.settled().await;
            assert_eq!(kit.get("alice", "/snapshots").await["snapshots"], json!([]), "{point}");
            assert!(kit.open(&v.id).await.snap_list().await.unwrap().is_empty());
            kit.end().await;
        }
        for (step, format) in
            [("snapshot", "raw"), ("fill", "raw"), ("settle", "raw"), ("fill", "qcow2"), ("settle", "qcow2")]
        {
            for when in ["before", "after"] {
                let body = json!({"os-volume_upload_image": {"image_name": "up", "disk_format": format}});
                let point = format!("volume.upload:{step}:{when}");
                dies(&url, &place, &point, command("POST", action.clone(), body)).await;
                let kit = open(&url, &place).await;
                kit.becomes(&v.id, VolumeStatus::Available).await;
                kit.settled().await;
                let image = kit.images.find_by_name(&ctx("alice"), "up").await.unwrap().unwrap();
                assert_eq!(image.status, imagestore::Status::Active, "{point}");
                kit.images.delete(&ctx("alice"), &image.id).await.unwrap();
                until("no snapshot is left", || async {
                    kit.open(&v.id).await.snap_list().await.unwrap().is_empty().then_some(())
                })
                .await;
                kit.end().await;
            }
        }
        for step in ["snapshot", "copy", "settle"] {
            for when in ["before", "after"] {
                let point = format!("backup.create:{step}:{when}");
                let body = json!({"backup": {"volume_id": v.id, "name": point}});
                dies(&url, &place, &point, command("POST", "/backups".into(), body)).await;
                let kit = open(&url, &place).await;
                kit.becomes(&v.id, VolumeStatus::Available).await;
                kit.settled().await;
                let found = kit.get("alice", "/backups/detail").await["backups"].clone();
                assert_eq!(found[0]["status"], "available", "{point}: {found}");
                let path = format!("/backups/{}", found[0]["id"].as_str().unwrap());
                kit.end().await;
                let point = format!("backup.delete:remove:{when}");
                dies(&url, &place, &point, command("DELETE", path, Value::Null)).await;
                let kit = open(&url, &place).await;
                kit.settled().await;
                assert_eq!(kit.get("alice", "/backups").await["backups"], json!([]), "{point}");
                assert_eq!(kit.images_there().await, [v.image_name()], "{point}");
                kit.end().await;
            }
        }
        for point in ["remove:before", "remove:after", "purge:before", "purge:after"] {
            let kit = open(&url, &place).await;
            let new = NewVolume { size_gib: Some(1), ..NewVolume::default() };
            let doomed = kit.volumes.create(&ctx("alice"), new).await.unwrap();
            kit.becomes(&doomed.id, VolumeStatus::Available).await;
            kit.end().await;
            let path = format!("/volumes/{}", doomed.id);
            dies(&url, &place, &format!("volume.delete:{point}"), command("DELETE", path, Value::Null)).await;
            let kit = open(&url, &place).await;
            kit.gone(&doomed.id).await;
            kit.settled().await;
            assert_eq!(kit.images_there().await, [v.image_name()], "{point}");
            kit.end().await;
        }
    }
}
