//! Chunked backups, in a directory and in a store of the test's own, on both databases and a real cluster.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use async_trait::async_trait;
use blockstore::{BackupDriver, BackupStore, Config, Quota, Repository, Source, StoreError, VolumeStatus};
use bytes::Bytes;
use kit::{Kit, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use state::failpoint::{self, Action};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Mutex;

static ONE: Mutex<()> = Mutex::const_new(());
const MIB: u64 = 1 << 20;

fn config(driver: BackupDriver, directory: &Path, encryption: bool) -> Config {
    Config {
        backup_driver: driver,
        backup_directory: Some(directory.to_owned()),
        backup_encryption: encryption,
        quota: Quota { volumes: 1000, backups: 1000, ..Quota::default() },
        ..Config::default()
    }
}

/// A service with each database, its backups in a directory.
async fn kits(encryption: bool) -> Vec<(Kit, tempfile::TempDir)> {
    let mut all = Vec::new();
    for db in testbed::databases().await {
        let dir = tempfile::tempdir().unwrap();
        all.push((kit::kit(db, config(BackupDriver::Directory, dir.path(), encryption)).await, dir));
    }
    all
}

/// A backup that is done, and its volume at rest.
async fn back_up(kit: &Kit, volume_id: &str, incremental: bool) -> String {
    let id = kit.ask_backup(json!({"volume_id": volume_id, "incremental": incremental})).await;
    kit.backup_becomes(&id, "available").await;
    kit.becomes(volume_id, VolumeStatus::Available).await;
    id
}

async fn delete(kit: &Kit, id: &str) -> StatusCode {
    let path = format!("/backups/{id}");
    let (status, _) = kit.call("alice", Method::DELETE, &path, Value::Null).await;
    if status == StatusCode::ACCEPTED {
        until("backup's deletion", || async {
            let (status, _) = kit.call("alice", Method::GET, &path, Value::Null).await;
            (status == StatusCode::NOT_FOUND).then_some(())
        })
        .await;
        kit.settled().await;
    }
    status
}

fn noise(seed: u64, len: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

async fn write(kit: &Kit, volume_id: &str, off: u64, bytes: Vec<u8>) {
    let image = kit.tier.pool.rbd().open(&format!("volume-{volume_id}")).await.unwrap();
    image.write_at(off, Bytes::from(bytes)).await.unwrap();
    image.close().await.unwrap();
}

async fn restored(kit: &Kit, id: &str) -> (StatusCode, Value) {
    kit.call("alice", Method::POST, &format!("/backups/{id}/restore"), json!({"restore": {}})).await
}

/// The first bytes at each MiB that is named, of a volume made of a backup.
async fn reads(kit: &Kit, id: &str, places: &[u64]) -> Vec<Vec<u8>> {
    let (status, body) = restored(kit, id).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let volume = body["restore"]["volume_id"].as_str().unwrap().to_owned();
    kit.becomes(&volume, VolumeStatus::Available).await;
    let image = kit.open(&volume).await;
    let mut out = Vec::new();
    for at in places {
        out.push(image.read_at(at * MIB, 4096).await.unwrap().to_vec());
    }
    image.close().await.unwrap();
    kit.delete(&volume).await;
    out
}

fn files(dir: &Path, below: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path, below));
        } else if path.to_string_lossy().contains(below) {
            all.push(path);
        }
    }
    all
}

#[tokio::test]
async fn chains_share_chunks_and_break_anywhere() {
    let _one = ONE.lock().await;
    for encryption in [false, true] {
        for (kit, dir) in kits(encryption).await {
            let v = kit.create(Source::Empty, Some(1)).await.id;
            write(&kit, &v, 0, noise(1, 4096)).await;
            write(&kit, &v, 100 * MIB, vec![7; 8 << 20]).await;
            let first = kit.ask_backup(json!({"volume_id": v, "name": "one", "container": "mine"})).await;
            let shown = kit.backup_becomes(&first, "available").await;
            assert_eq!((&shown["container"], &shown["object_count"]), (&json!("mine"), &json!(3)));
            kit.becomes(&v, VolumeStatus::Available).await;
            // Two equal chunks are one, and small.
            let chunks = files(dir.path(), "/mine/");
            let of = |what: &str| chunks.iter().filter(|f| f.to_string_lossy().contains(what)).count();
            assert_eq!(of("/chunks/"), 2, "{chunks:?}");
            assert!(chunks.iter().all(|f| f.metadata().unwrap().len() < 10_000));
            write(&kit, &v, 0, noise(2, 4096)).await;
            let second = back_up(&kit, &v, true).await;
            let shown = kit.backup_becomes(&second, "available").await;
            assert_eq!((&shown["container"], &shown["object_count"]), (&json!("mine"), &json!(1)));
            assert_eq!(shown["is_incremental"], true);
            write(&kit, &v, 200 * MIB, noise(3, 4096)).await;
            let third = back_up(&kit, &v, true).await;
            assert_eq!(files(dir.path(), "/chunks/").len(), 4);
            let text = noise(1, 4096);
            let plain = files(dir.path(), "/chunks/")
                .iter()
                .any(|f| std::fs::read(f).unwrap().windows(4096).any(|w| w == text));
            assert_eq!(plain, !encryption);

            // As upstream's users see it, a backup with others on it stays; by force it goes from under them.
            assert_eq!(delete(&kit, &second).await, StatusCode::BAD_REQUEST);
            let path = format!("/backups/{second}/action");
            let (status, _) = kit.call("admin", Method::POST, &path, json!({"os-force_delete": {}})).await;
            assert_eq!(status, StatusCode::ACCEPTED);
            kit.settled().await;
            let shown = kit.backup_becomes(&first, "available").await;
            assert_eq!(shown["has_dependent_backups"], true);
            assert_eq!(files(dir.path(), "/chunks/").len(), 4, "the third has them all");
            let places = [0, 100, 104, 200, 300];
            let zero = vec![0; 4096];
            let sevens = vec![7; 4096];
            assert_eq!(
                reads(&kit, &third, &places).await,
                [noise(2, 4096), sevens.clone(), sevens.clone(), noise(3, 4096), zero.clone()]
            );
            assert_eq!(
                reads(&kit, &first, &places).await,
                [noise(1, 4096), sevens.clone(), sevens, zero.clone(), zero]
            );
            kit.delete(&v).await;
            assert_eq!(delete(&kit, &third).await, StatusCode::ACCEPTED);
            assert_eq!(files(dir.path(), "/chunks/").len(), 2);
            assert_eq!(delete(&kit, &first).await, StatusCode::ACCEPTED);
            assert_eq!(files(dir.path(), ""), Vec::<PathBuf>::new());
        }
    }
}

#[tokio::test]
async fn damage_is_told_and_not_restored() {
    let _one = ONE.lock().await;
    for (kit, dir) in kits(true).await {
        let v = kit.create(Source::Empty, Some(1)).await.id;
        write(&kit, &v, 0, noise(1, 4096)).await;
        let id = back_up(&kit, &v, false).await;
        let mut told = 0;
        for what in ["/chunks/", "/0", "/head"] {
            let file =
                files(dir.path(), "").into_iter().find(|f| f.to_string_lossy().contains(what)).unwrap();
            let good = std::fs::read(&file).unwrap();
            let mut bad = good.clone();
            let at = bad.len() / 2;
            bad[at] ^= 1;
            for content in [Some(bad), None] {
                match content {
                    Some(bad) => std::fs::write(&file, bad).unwrap(),
                    None => std::fs::remove_file(&file).unwrap(),
                }
                let (status, body) = restored(&kit, &id).await;
                assert_eq!(status, StatusCode::ACCEPTED);
                let volume = body["restore"]["volume_id"].as_str().unwrap().to_owned();
                until("the failure", || async {
                    let shown = kit.get("alice", &format!("/volumes/{volume}")).await;
                    (shown["volume"]["status"] == "error").then_some(())
                })
                .await;
                told += 1;
                let messages = kit.get("alice", "/messages").await["messages"].as_array().unwrap().len();
                assert_eq!(messages, told, "{what}");
                kit.delete(&volume).await;
                kit.settled().await;
            }
            std::fs::write(&file, good).unwrap();
        }
        assert_eq!(reads(&kit, &id, &[0]).await, [noise(1, 4096)]);
    }
}

#[tokio::test]
async fn every_step_twice_and_a_failure_at_each() {
    let _one = ONE.lock().await;
    for (kit, dir) in kits(false).await {
        let v = kit.create(Source::Empty, Some(1)).await.id;
        write(&kit, &v, 0, noise(1, 4096)).await;
        let kept = back_up(&kit, &v, false).await;
        for (n, step) in ["snapshot", "copy", "settle"].into_iter().enumerate() {
            write(&kit, &v, 8 * MIB, noise(10 + n as u64, 4096)).await;
            let point = format!("backup.create:{step}:after");
            failpoint::set(&point, Action::RetryOnce);
            let id = back_up(&kit, &v, true).await;
            failpoint::clear(&point);
            assert_eq!(reads(&kit, &id, &[0, 8]).await, [noise(1, 4096), noise(10 + n as u64, 4096)]);
            for collect in ["begin", "sweep", "end"] {
                failpoint::set(format!("backup.collect:{collect}:after"), Action::RetryOnce);
            }
            assert_eq!(delete(&kit, &id).await, StatusCode::ACCEPTED);
            assert_eq!(files(dir.path(), "/chunks/").len(), 1);

            // One that fails leaves nothing, also no chunk that no list names yet.
            let undo = format!("backup.create:undo:{step}:after");
            let point = if step == "settle" { "backup.create:settle:before".into() } else { point };
            failpoint::set(&point, Action::Fail);
            failpoint::set(&undo, Action::RetryOnce);
            let id = kit.ask_backup(json!({"volume_id": v, "incremental": true})).await;
            kit.backup_becomes(&id, "error").await;
            kit.settled().await;
            failpoint::clear(&point);
            failpoint::clear(&undo);
            let left = files(dir.path(), "");
            assert_eq!(left.len(), 3, "{step}: {left:?}");
            assert_eq!(delete(&kit, &id).await, StatusCode::ACCEPTED);
            kit.becomes(&v, VolumeStatus::Available).await;
        }
        // A collector that fails lets writers in again, and the next one finds what it has left.
        write(&kit, &v, 8 * MIB, noise(20, 4096)).await;
        let id = back_up(&kit, &v, true).await;
        failpoint::set("backup.collect:sweep:before", Action::Fail);
        assert_eq!(delete(&kit, &id).await, StatusCode::ACCEPTED);
        failpoint::clear("backup.collect:sweep:before");
        assert_eq!(files(dir.path(), "/chunks/").len(), 2);
        let id = back_up(&kit, &v, true).await;
        assert_eq!(delete(&kit, &id).await, StatusCode::ACCEPTED);
        assert_eq!(files(dir.path(), "/chunks/").len(), 1);
        assert_eq!(reads(&kit, &kept, &[0]).await, [noise(1, 4096)]);
    }
}

#[tokio::test]
async fn a_collector_and_writers_keep_out_of_each_others_way() {
    let _one = ONE.lock().await;
    for (kit, dir) in kits(false).await {
        let (a, b) =
            (kit.create(Source::Empty, Some(1)).await.id, kit.create(Source::Empty, Some(1)).await.id);
        write(&kit, &a, 0, noise(1, 4096)).await;
        write(&kit, &b, 0, noise(1, 4096)).await;
        let first = back_up(&kit, &a, false).await;
        // The collector has begun to take the chunk of the deleted backup out; another backup wants the same chunk.
        failpoint::set("backup.collect:sweep:before", Action::Pause);
        let path = format!("/backups/{first}");
        kit.call("alice", Method::DELETE, &path, Value::Null).await;
        until("the collector's turn", || async {
            let n: i64 = sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM backup_collectors")
                .fetch_one(kit.db.read())
                .await
                .unwrap();
            (n == 1).then_some(())
        })
        .await;
        let second = kit.ask_backup(json!({"volume_id": b})).await;
        failpoint::clear("backup.collect:sweep:before");
        kit.backup_becomes(&second, "available").await;
        kit.settled().await;
        assert_eq!(files(dir.path(), "/chunks/").len(), 1);
        assert_eq!(reads(&kit, &second, &[0]).await, [noise(1, 4096)]);

        // A backup is half written; what is deleted meanwhile goes when it is done.
        kit.becomes(&b, VolumeStatus::Available).await;
        failpoint::set("backup.create:settle:before", Action::Pause);
        let third = kit.ask_backup(json!({"volume_id": a})).await;
        until("the copy", || async { (files(dir.path(), "/head").len() == 2).then_some(()) }).await;
        kit.call("alice", Method::DELETE, &format!("/backups/{second}"), Value::Null).await;
        failpoint::clear("backup.create:settle:before");
        kit.backup_becomes(&third, "available").await;
        kit.settled().await;
        assert_eq!(reads(&kit, &third, &[0]).await, [noise(1, 4096)]);
    }
}

#[tokio::test]
async fn records_are_enough_with_the_root_secret() {
    let _one = ONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    let store = dir.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let config = Config { backup_key_file: Some(key), ..config(BackupDriver::Directory, &store, true) };
    for (one, two) in testbed::databases().await.into_iter().zip(testbed::databases().await) {
        let kit = kit::kit(one, config.clone()).await;
        let v = kit.create(Source::Empty, Some(1)).await.id;
        write(&kit, &v, 0, noise(1, 4096)).await;
        let id = back_up(&kit, &v, false).await;
        let record = kit.get("admin", &format!("/backups/{id}/export_record")).await;
        assert_eq!(record["backup-record"]["backup_service"], "cinder.backup.drivers.nfs.NFSBackupDriver");

        // Another cloud, which has nothing but the directory and the secret.
        let other = kit::kit(two, config.clone()).await;
        let import =
            async |record: Value| other.call("admin", Method::POST, "/backups/import_record", record).await.0;
        let mut wrong = record.clone();
        wrong["backup-record"]["backup_service"] = "cinder.backup.drivers.ceph.CephBackupDriver".into();
        assert_eq!(import(wrong).await, StatusCode::BAD_REQUEST);
        assert_eq!(import(record).await, StatusCode::CREATED);
        let path = format!("/backups/{id}/restore");
        let (status, body) = other.call("admin", Method::POST, &path, json!({"restore": {}})).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        let volume = body["restore"]["volume_id"].as_str().unwrap().to_owned();
        until("restored", || async {
            let shown = other.get("admin", &format!("/volumes/{volume}")).await;
            (shown["volume"]["status"] == "available").then_some(())
        })
        .await;
        let image = other.open(&volume).await;
        assert_eq!(image.read_at(0, 4096).await.unwrap(), noise(1, 4096));
        image.close().await.unwrap();
    }
}

type Name = (String, String, String);
type Objects = BTreeMap<Name, Bytes>;

/// Objects in memory; it can be away.
#[derive(Default)]
struct Memory {
    objects: std::sync::Mutex<Objects>,
    away: AtomicBool,
}

impl Memory {
    fn all(&self) -> Result<std::sync::MutexGuard<'_, Objects>, StoreError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable("away".into())),
            false => Ok(self.objects.lock().unwrap()),
        }
    }
}

fn full(at: &Repository, name: &str) -> Name {
    (at.project_id.clone(), at.container.clone(), name.to_owned())
}

#[async_trait]
impl BackupStore for Memory {
    async fn put(&self, at: &Repository, name: &str, data: Bytes) -> Result<(), StoreError> {
        if at.container == "forbidden" {
            return Err(StoreError::Refused("No container for you.".into()));
        }
        self.all()?.insert(full(at, name), data);
        Ok(())
    }
    async fn get(&self, at: &Repository, name: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.all()?.get(&full(at, name)).cloned())
    }
    async fn has(&self, at: &Repository, name: &str) -> Result<bool, StoreError> {
        Ok(self.all()?.contains_key(&full(at, name)))
    }
    async fn remove(&self, at: &Repository, name: &str) -> Result<(), StoreError> {
        self.all()?.remove(&full(at, name));
        Ok(())
    }
    async fn list(&self, at: &Repository, prefix: &str) -> Result<Vec<String>, StoreError> {
        let here = |k: &&Name| k.0 == at.project_id && k.1 == at.container && k.2.starts_with(prefix);
        Ok(self.all()?.keys().filter(here).map(|k| k.2.clone()).collect())
    }
}

#[tokio::test]
async fn a_store_that_is_away_or_refuses() {
    let _one = ONE.lock().await;
    for db in testbed::databases().await {
        let nowhere = PathBuf::from("/nonexistent");
        let kit = kit::kit(db, config(BackupDriver::Object, &nowhere, false)).await;
        let v = kit.create(Source::Empty, Some(1)).await.id;
        // Nobody has said where objects go.
        let body = json!({"backup": {"volume_id": v}});
        let (status, _) = kit.call("alice", Method::POST, "/backups", body).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        let memory = Arc::new(Memory::default());
        kit.volumes.use_object_store(memory.clone());
        kit.settled().await;
        kit.becomes(&v, VolumeStatus::Available).await;
        write(&kit, &v, 0, noise(1, 4096)).await;
        memory.away.store(true, Ordering::SeqCst);
        let id = kit.ask_backup(json!({"volume_id": v})).await;
        until("a try", || async {
            let n: i64 = sqlx::query_scalar("SELECT CAST(COALESCE(MAX(attempts), 0) AS BIGINT) FROM tasks")
                .fetch_one(kit.db.read())
                .await
                .unwrap();
            (n > 1).then_some(())
        })
        .await;
        memory.away.store(false, Ordering::SeqCst);
        kit.backup_becomes(&id, "available").await;
        kit.becomes(&v, VolumeStatus::Available).await;
        assert_eq!(reads(&kit, &id, &[0]).await, [noise(1, 4096)]);
        let shown = kit.get("alice", &format!("/backups/{id}")).await;
        assert_eq!(shown["backup"]["container"], "volumebackups");

        let id = kit.ask_backup(json!({"volume_id": v, "container": "forbidden"})).await;
        let shown = kit.backup_becomes(&id, "error").await;
        assert_eq!(shown["fail_reason"], "No container for you.");
        let bad = json!({"backup": {"volume_id": v, "container": "../etc"}});
        kit.becomes(&v, VolumeStatus::Available).await;
        assert_eq!(kit.call("alice", Method::POST, "/backups", bad).await.0, StatusCode::BAD_REQUEST);
        kit.settled().await;
    }
}
