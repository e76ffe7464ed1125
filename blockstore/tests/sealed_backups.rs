//! Backups of encrypted volumes: they hold what is in the pool, open when their volume is gone, and take their
//! passphrases with them. With every driver; the databases take turns.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use async_trait::async_trait;
use blockstore::{BackupDriver, BackupStore, Config, Quota, Repository, StoreError};
use blockstore::{Volume, VolumeStatus};
use bytes::Bytes;
use kit::{GIB, Kit, ctx, until};
use pool::EncryptionFormat;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use state::failpoint::{self, Action};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
const MARK: &[u8] = b"nobody else is to read this";

/// Objects, in this process.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Bytes>>);

fn full(at: &Repository, name: &str) -> String {
    format!("{}/{}/{name}", at.project_id, at.container)
}

#[async_trait]
impl BackupStore for Memory {
    async fn put(&self, at: &Repository, name: &str, data: Bytes) -> Result<(), StoreError> {
        self.0.lock().unwrap().insert(full(at, name), data);
        Ok(())
    }
    async fn get(&self, at: &Repository, name: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.lock().unwrap().get(&full(at, name)).cloned())
    }
    async fn has(&self, at: &Repository, name: &str) -> Result<bool, StoreError> {
        Ok(self.0.lock().unwrap().contains_key(&full(at, name)))
    }
    async fn remove(&self, at: &Repository, name: &str) -> Result<(), StoreError> {
        self.0.lock().unwrap().remove(&full(at, name));
        Ok(())
    }
    async fn list(&self, at: &Repository, prefix: &str) -> Result<Vec<String>, StoreError> {
        let (base, all) = (full(at, ""), full(at, prefix));
        let names = self.0.lock().unwrap();
        Ok(names.keys().filter(|k| k.starts_with(&all)).map(|k| k[base.len()..].to_owned()).collect())
    }
}

async fn kind(kit: &Kit, provider: &str) {
    let id = kit.add_type(provider, json!({})).await;
    kit.seal_type(&id, json!({"provider": provider, "control_location": "front-end"})).await;
}

async fn back_up(kit: &Kit, v: &Volume, incremental: bool) -> (String, Value) {
    let id = kit.ask_backup(json!({"volume_id": v.id, "incremental": incremental})).await;
    let shown = kit.backup_becomes(&id, "available").await;
    kit.becomes(&v.id, VolumeStatus::Available).await;
    (id, shown)
}

async fn restore(kit: &Kit, who: &str, id: &str, to: Value) -> (StatusCode, Value) {
    kit.call(who, Method::POST, &format!("/backups/{id}/restore"), json!({"restore": to})).await
}

/// Some of what is in the pool, and how large it is: whoever has this and the passphrase has the volume.
async fn container(kit: &Kit, id: &str) -> (u64, Vec<Bytes>) {
    let image = kit.open(id).await;
    let size = image.size().await.unwrap();
    let mut parts = Vec::new();
    for off in [0, 16 << 20, 300 << 20, 700 << 20, size - (1 << 20)] {
        parts.push(image.read_at(off, 1 << 20).await.unwrap());
    }
    image.close().await.unwrap();
    (size, parts)
}

async fn secret(kit: &Kit, id: &str) -> api::Secret {
    kit.volumes.passphrase(id).await.unwrap().unwrap()
}

async fn keys(kit: &Kit) -> i64 {
    let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM volume_keys";
    sqlx::query_scalar(sql).fetch_one(kit.db.read()).await.unwrap()
}

async fn gone(kit: &Kit, who: &str, id: &str) {
    let path = format!("/backups/{id}");
    let (status, body) = kit.call(who, Method::DELETE, &path, Value::Null).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    until("backup's deletion", || async {
        (kit.call(who, Method::GET, &path, Value::Null).await.0 == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
}

async fn a_whole_life(kit: Kit) {
    kind(&kit, "luks2").await;
    kind(&kit, "luks").await;
    // Encrypted later, its container is larger than a volume of its size.
    let v = kit.create_of("__DEFAULT__").await;
    let (plain, _) = back_up(&kit, &v, false).await;
    let body = json!({"os-retype": {"new_type": "luks2", "migration_policy": "on-demand"}});
    kit.act("alice", &v.id, body).await;
    until("it is encrypted", || async {
        let now = kit.volumes.get(&ctx("alice"), &v.id).await.unwrap();
        (now.encryption_key_id.is_some() && now.status == VolumeStatus::Available).then_some(())
    })
    .await;
    kit.settled().await;
    let own = secret(&kit, &v.id).await;
    let image = kit.tier.pool.rbd().open(&v.image_name()).await.unwrap();
    let size = image.size().await.unwrap();
    assert!(size > GIB);
    let how = EncryptionFormat { luks2: true, aes256: true };
    image.encryption_load(how, own.0.as_bytes()).await.unwrap();
    for off in [0, GIB - MARK.len() as u64] {
        image.write_at(off, Bytes::from_static(MARK)).await.unwrap();
    }
    image.close().await.unwrap();
    let first_was = container(&kit, &v.id).await;
    // A chain may begin before it was encrypted.
    let (first, shown) = back_up(&kit, &v, true).await;
    let shown_key = shown["encryption_key_id"].as_str().unwrap().to_owned();
    let now = kit.volumes.get(&ctx("alice"), &v.id).await.unwrap();
    assert_ne!(Some(&shown_key), now.encryption_key_id.as_ref(), "one of its own");
    let image = kit.tier.pool.rbd().open(&v.image_name()).await.unwrap();
    image.write_at(300 << 20, Bytes::from(vec![5; 4096])).await.unwrap();
    image.close().await.unwrap();
    let (second, shown) = back_up(&kit, &v, true).await;
    assert_eq!((&shown["is_incremental"], &shown["object_count"]), (&json!(true), &json!(1)));
    let second_was = container(&kit, &v.id).await;

    // Into its own type, and no other.
    let target = kit.create_of("luks2").await;
    let clear = kit.create_of("__DEFAULT__").await;
    for (backup, to) in [(&second, &clear), (&plain, &target)] {
        let (status, answer) = restore(&kit, "alice", backup, json!({"volume_id": to.id})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    }
    for (backup, kind) in [(&second, "luks"), (&second, "__DEFAULT__"), (&plain, "luks2")] {
        let body = json!({"volume": {"size": 1, "backup_id": backup, "volume_type": kind}});
        assert_eq!(kit.call("alice", Method::POST, "/volumes", body).await.0, StatusCode::BAD_REQUEST);
    }
    let had = target.encryption_key_id.clone();
    failpoint::set("backup.restore:settle:after", Action::RetryOnce);
    let (status, answer) = restore(&kit, "alice", &second, json!({"volume_id": target.id})).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    kit.becomes(&target.id, VolumeStatus::Available).await;
    kit.settled().await;
    failpoint::clear("backup.restore:settle:after");
    assert_eq!(container(&kit, &target.id).await, second_was);
    assert_eq!(secret(&kit, &target.id).await, own);
    let now = kit.volumes.get(&ctx("alice"), &target.id).await.unwrap();
    assert!(now.encryption_key_id != had);

    // After the source is gone.
    for volume in [&v, &target, &clear] {
        kit.delete(&volume.id).await;
    }
    kit.settled().await;
    assert_eq!(keys(&kit).await, 2, "the two backups'");
    let (status, answer) = restore(&kit, "alice", &first, json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    let back = answer["restore"]["volume_id"].as_str().unwrap().to_owned();
    let back = kit.becomes(&back, VolumeStatus::Available).await;
    assert_eq!(back.type_name, "luks2");
    assert_eq!(container(&kit, &back.id).await, first_was);
    assert_eq!(secret(&kit, &back.id).await, own);
    let image = kit.tier.pool.rbd().open(&back.image_name()).await.unwrap();
    image.encryption_load(how, own.0.as_bytes()).await.unwrap();
    for off in [0, GIB - MARK.len() as u64] {
        assert_eq!(image.read_at(off, MARK.len()).await.unwrap(), MARK);
    }
    image.close().await.unwrap();
    kit.delete(&back.id).await;

    // A record whose row is lost, and its passphrase's, too.
    let record = kit.get("admin", &format!("/backups/{second}/export_record")).await["backup-record"].clone();
    let mut tx = kit.db.begin().await.unwrap();
    sqlx::query("DELETE FROM backups WHERE id = $1").bind(second.clone()).execute(tx.conn()).await.unwrap();
    let sql = "DELETE FROM volume_keys WHERE id <> $1";
    sqlx::query(sql).bind(shown_key).execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    let body = json!({"backup-record": record});
    let (status, answer) = kit.call("admin", Method::POST, "/backups/import_record", body).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    kit.backup_becomes(&second, "available").await;
    let (status, answer) = restore(&kit, "admin", &second, json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    let back = answer["restore"]["volume_id"].as_str().unwrap().to_owned();
    until("it is restored", || async {
        let now = kit.volumes.get(&ctx("admin"), &back).await.unwrap();
        (now.status == VolumeStatus::Available).then_some(())
    })
    .await;
    assert_eq!(container(&kit, &back).await, second_was);
    assert_eq!(secret(&kit, &back).await, own);
    kit.volumes.delete(&ctx("admin"), &back).await.unwrap();

    gone(&kit, "admin", &second).await;
    gone(&kit, "alice", &first).await;
    gone(&kit, "alice", &plain).await;
    kit.settled().await;
    assert_eq!(keys(&kit).await, 0);
    let left = kit.images_there().await;
    assert!(left.is_empty(), "{left:?}");
}

/// The passphrase that a restore has left without a volume goes, each step of that twice; a failure keeps it, and is kept.
#[tokio::test]
async fn what_a_volume_opened_with_before() {
    let _one = ONE.lock().await;
    for db in testbed::databases().await {
        let kit = kit::kit(db, config(BackupDriver::Rbd)).await;
        kind(&kit, "luks2").await;
        let v = kit.create_of("luks2").await;
        let target = kit.create_of("luks2").await;
        let (backup, _) = back_up(&kit, &v, false).await;
        let own = secret(&kit, &v.id).await;
        let mut left = keys(&kit).await;
        let drops = [("before", Action::RetryOnce), ("after", Action::RetryOnce), ("after", Action::Fail)];
        for (when, action) in drops.into_iter().chain([("before", Action::Fail)]) {
            let point = format!("backup.drop_key:drop:{when}");
            failpoint::set(&point, action);
            failpoint::set("backup.drop_key:undo:drop:after", Action::RetryOnce);
            let (status, answer) = restore(&kit, "alice", &backup, json!({"volume_id": target.id})).await;
            assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
            kit.becomes(&target.id, VolumeStatus::Available).await;
            kit.settled().await;
            failpoint::clear(&point);
            left += i64::from((when, action) == ("before", Action::Fail));
            assert_eq!(keys(&kit).await, left, "{when} {action:?}");
            assert_eq!(secret(&kit, &target.id).await, own, "{when} {action:?}");
        }
        failpoint::clear("backup.drop_key:undo:drop:after");
        let sql = "SELECT reason FROM tasks WHERE kind = 'backup.drop_key' AND state = 'failed'";
        let why: Vec<String> = sqlx::query_scalar(sql).fetch_all(kit.db.read()).await.unwrap();
        assert_eq!(why.len(), 2, "{why:?}");
    }
}

fn config(driver: BackupDriver) -> Config {
    let quota = Quota { volumes: 1000, backups: 1000, ..Quota::default() };
    Config { backup_driver: driver, quota, ..Config::default() }
}

#[tokio::test]
async fn in_a_chain() {
    let _one = ONE.lock().await;
    let db = testbed::databases().await.remove(0);
    a_whole_life(kit::kit(db, config(BackupDriver::Rbd)).await).await;
}

#[tokio::test]
async fn in_a_directory() {
    let _one = ONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let db = testbed::databases().await.pop().unwrap();
    let config = Config { backup_directory: Some(dir.path().to_owned()), ..config(BackupDriver::Directory) };
    a_whole_life(kit::kit(db, config).await).await;
}

#[tokio::test]
async fn in_objects() {
    let _one = ONE.lock().await;
    let db = testbed::databases().await.remove(0);
    let kit = kit::kit(db, config(BackupDriver::Object)).await;
    kit.volumes.use_object_store(Arc::new(Memory::default()));
    a_whole_life(kit).await;
}
