//! `kill -9` at every step of chunked backups, of the collector and of schedules: a process dies, another one takes its
//! rows up, and everything ends as if nothing had happened. The process that dies is this test binary, running [`victim`].

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use blockstore::{BackupDriver, Config, Quota, Source, VolumeStatus};
use bytes::Bytes;
use kit::{Kit, kit_at, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use state::Db;
use std::path::Path;
use std::time::Duration;

const COMMAND: &str = "BLOCKSTORE_VICTIM_COMMAND";

async fn open(dir: &Path, place: &str) -> Kit {
    let db = Db::open(&format!("sqlite://{}/crash.sqlite", dir.display())).await.unwrap();
    db.migrate(&state::tasks::MIGRATIONS).await.unwrap();
    let config = Config {
        backup_driver: BackupDriver::Directory,
        backup_directory: Some(dir.join("backups")),
        backup_encryption: true,
        quota: Quota { backups: 100, ..Quota::default() },
        ..Config::default()
    };
    kit_at(db, config, place.to_owned()).await
}

/// Lets another process do this until it dies at `point`.
async fn dies(dir: &Path, place: &str, point: &str, method: &str, path: &str, body: Value) {
    let command = json!({"dir": dir, "place": place, "method": method, "path": path, "body": body});
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "victim", "--nocapture"]);
    child.env("AQUIFER_FAILPOINTS", format!("{point}=abort")).env(COMMAND, command.to_string());
    child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(Duration::from_secs(60), child.status()).await;
    let status = ended.unwrap_or_else(|_| panic!("{point}: nobody died")).unwrap();
    assert!(std::os::unix::process::ExitStatusExt::signal(&status).is_some(), "{point}: {status}");
}

#[tokio::test]
#[ignore = "run by the other tests, to die"]
async fn victim() {
    let Ok(command) = std::env::var(COMMAND) else { return };
    let command: Value = serde_json::from_str(&command).unwrap();
    let text = |key: &str| command[key].as_str().unwrap();
    state::failpoint::from_env().unwrap();
    let kit = open(Path::new(text("dir")), text("place")).await;
    let method = Method::from_bytes(text("method").as_bytes()).unwrap();
    kit.call("alice", method, text("path"), command["body"].clone()).await;
    std::future::pending::<()>().await;
}

async fn list(kit: &Kit, what: &str) -> Vec<Value> {
    kit.get("alice", &format!("/{what}/detail")).await[what].as_array().unwrap().clone()
}

/// Files of the backups' directory whose path holds this.
fn files(dir: &Path, what: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let paths = entries.map(|e| e.unwrap().path());
    paths
        .map(|p| if p.is_dir() { files(&p, what) } else { usize::from(p.to_string_lossy().contains(what)) })
        .sum()
}

async fn write(kit: &Kit, volume: &str, off: u64, byte: u8) {
    let image = kit.tier.pool.rbd().open(&format!("volume-{volume}")).await.unwrap();
    image.write_at(off, Bytes::from(vec![byte; 4096])).await.unwrap();
    image.close().await.unwrap();
}

#[tokio::test]
async fn chunked_backups_and_their_collector_carry_on() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, place) = (dir.path(), testbed::unique("crash"));
    std::fs::create_dir(dir.join("backups")).unwrap();
    let kit = open(dir, &place).await;
    let volume = kit.create(Source::Empty, Some(1)).await.id;
    write(&kit, &volume, 0, 1).await;
    kit.end().await;
    let mut n = 1;
    for step in ["snapshot", "copy", "settle"] {
        for when in ["before", "after"] {
            let point = format!("backup.create:{step}:{when}");
            let body = json!({"backup": {"volume_id": volume, "incremental": n > 1}});
            dies(dir, &place, &point, "POST", "/backups", body).await;
            let kit = open(dir, &place).await;
            kit.settled().await;
            let all = list(&kit, "backups").await;
            assert_eq!(all.len(), n, "{point}");
            assert!(all.iter().all(|b| b["status"] == "available"), "{point}: {all:?}");
            kit.becomes(&volume, VolumeStatus::Available).await;
            n += 1;
            write(&kit, &volume, (n as u64) << 22, u8::try_from(n).unwrap()).await;
            kit.end().await;
        }
    }
    assert_eq!(files(dir, "/chunks/"), n - 1);
    // The newest goes, again and again, each time with a chunk that no other backup has.
    let points =
        ["backup.delete:remove", "backup.collect:begin", "backup.collect:sweep", "backup.collect:end"];
    for point in
        points.into_iter().zip(["before", "after", "before", "after"]).map(|(p, w)| format!("{p}:{w}"))
    {
        let kit = open(dir, &place).await;
        let all = list(&kit, "backups").await;
        let newest = all.iter().max_by_key(|b| b["created_at"].to_string()).unwrap();
        let path = format!("/backups/{}", newest["id"].as_str().unwrap());
        kit.end().await;
        dies(dir, &place, &point, "DELETE", &path, Value::Null).await;
        let kit = open(dir, &place).await;
        kit.settled().await;
        n -= 1;
        assert_eq!(list(&kit, "backups").await.len(), n - 1, "{point}");
        assert_eq!(files(dir, "/chunks/"), n - 1, "{point}");
        kit.end().await;
    }
    // What is left is whole.
    let kit = open(dir, &place).await;
    for (k, backup) in list(&kit, "backups").await.iter().rev().enumerate() {
        let path = format!("/backups/{}/restore", backup["id"].as_str().unwrap());
        let (status, body) = kit.call("alice", Method::POST, &path, json!({"restore": {}})).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        let new = body["restore"]["volume_id"].as_str().unwrap();
        kit.becomes(new, VolumeStatus::Available).await;
        let image = kit.open(new).await;
        assert_eq!(image.read_at(0, 1).await.unwrap()[0], 1);
        assert_eq!(
            image.read_at((k as u64 + 1) << 22, 1).await.unwrap()[0],
            if k == 0 { 0 } else { k as u8 + 1 }
        );
        image.close().await.unwrap();
    }
}

#[tokio::test]
async fn schedules_carry_on() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, place) = (dir.path(), testbed::unique("crash"));
    let kit = open(dir, &place).await;
    let volume = kit.create(Source::Empty, Some(1)).await.id;
    let body = json!({"schedule": {"volume_id": volume, "daily": 2}});
    let (status, made) = kit.call("alice", Method::POST, "/schedules", body).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let path = format!("/schedules/{}", made["schedule"]["id"].as_str().unwrap());
    kit.end().await;
    let mut newest = String::new();
    for (n, point) in
        ["make:before", "make:after", "copy:after", "settle:before", "settle:after"].iter().enumerate()
    {
        dies(
            dir,
            &place,
            &format!("schedule.run:{point}"),
            "POST",
            &format!("{path}/action"),
            json!({"run": {}}),
        )
        .await;
        let kit = open(dir, &place).await;
        kit.settled().await;
        until("the older ones are gone", || async {
            (list(&kit, "snapshots").await.len() == (n + 1).min(2)).then_some(())
        })
        .await;
        let all = list(&kit, "snapshots").await;
        assert!(all.iter().all(|s| s["status"] == "available"), "{point}: {all:?}");
        let id = all.iter().max_by_key(|s| s["created_at"].to_string()).unwrap()["id"].to_string();
        assert_ne!(id, newest, "{point}");
        newest = id;
        let schedule = kit.get("alice", &path).await["schedule"].clone();
        assert_eq!(schedule["last_error"], Value::Null, "{point}");
        kit.end().await;
    }
}
