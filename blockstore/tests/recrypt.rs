//! Retype to, from and between ways of encryption: the content comes along, whatever fails or dies on the way, and
//! nothing else is left. On both databases. Failpoints belong to the whole process, so these tests run one at a time.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use api::Secret;
use blockstore::{Config, Quota, Source, Volume, VolumeStatus};
use bytes::Bytes;
use kit::{GIB, Kit, PATIENCE, ctx, kit_in, until};
use pool::{ClusterConfig, Clusters, EncryptionFormat, Image, TierConfig, Tiers};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use state::Db;
use state::failpoint::{self, Action};
use tokio::sync::Mutex;

static ONE: Mutex<()> = Mutex::const_new(());

const MARK: &[u8] = b"nobody else is to read this";
const FORMATS: [(&str, i64); 2] = [("luks2", 512), ("luks", 256)];

/// A cloud with the tiers `volumes` and `far`, which is in another cluster as far as anything here can tell.
struct Place {
    kit: Kit,
    tiers: Tiers,
}

async fn opened(db: Db, space: &str) -> Place {
    let conf = &testbed::ceph().conf;
    let clusters = [ClusterConfig::new("main", conf), ClusterConfig::new("other", conf)];
    let clusters = Clusters::connect(&clusters).await.unwrap();
    clusters.get("main").unwrap().require_clone_v2().await.unwrap();
    let far = format!("{space}-far");
    let place = |name: &str, cluster: &str, space: &str| TierConfig {
        name: name.into(),
        cluster: cluster.into(),
        pool: "rbd".into(),
        data_pool: None,
        namespace: Some(space.to_owned()),
    };
    let all = [place("volumes", "main", space), place("images", "main", space), place("far", "other", &far)];
    let tiers = Tiers::new(&clusters, &all).unwrap();
    for (tier, space) in [("volumes", space), ("far", far.as_str())] {
        tiers.get(tier).unwrap().pool.rbd().namespace_create(space).await.unwrap();
    }
    let quota = Quota { volumes: 1000, snapshots: 1000, ..Quota::default() };
    Place { kit: kit_in(db, Config { quota, ..Config::default() }, tiers.clone()).await, tiers }
}

async fn place(db: Db) -> Place {
    let p = opened(db, &testbed::unique("seal")).await;
    for (name, size) in FORMATS {
        p.kind(name, json!({}), Some((name, size))).await;
    }
    p.kind("far", json!({"volume_backend_name": "far"}), Some(FORMATS[0])).await;
    p
}

impl Place {
    async fn kind(&self, name: &str, specs: Value, sealed: Option<(&str, i64)>) {
        let id = self.kit.add_type(name, specs).await;
        let Some((provider, size)) = sealed else { return };
        let settings = json!({"provider": provider, "control_location": "front-end", "cipher": "aes-xts-plain64",
            "key_size": size});
        self.kit.seal_type(&id, settings).await;
    }

    /// The volume as its host sees it.
    async fn open(&self, v: &Volume) -> Image {
        let now = self.kit.volumes.get(&ctx("admin"), &v.id).await.unwrap();
        let image = self.tiers.get(&now.tier).unwrap().pool.rbd().open(&v.image_name()).await.unwrap();
        if let Some(Secret(secret)) = self.kit.volumes.passphrase(&v.id).await.unwrap() {
            let how = EncryptionFormat { luks2: now.type_name != "luks", aes256: true };
            image.encryption_load(how, secret.as_bytes()).await.unwrap();
        }
        image
    }

    /// Marks at the beginning, in the middle and at the very end.
    async fn write(&self, v: &Volume) -> u64 {
        let image = self.open(v).await;
        let size = image.size().await.unwrap();
        for off in marks(size) {
            image.write_at(off, Bytes::from_static(MARK)).await.unwrap();
        }
        image.close().await.unwrap();
        size
    }

    /// The volume holds what was written, is as large as it was at least, and is the only image there.
    async fn holds(&self, v: &Volume, had: u64) {
        let now = self.kit.volumes.get(&ctx("admin"), &v.id).await.unwrap();
        let image = self.open(v).await;
        assert!(image.size().await.unwrap() >= had.max(if v.encryption_key_id.is_none() { GIB } else { 0 }));
        for off in marks(had) {
            assert_eq!(image.read_at(off, MARK.len()).await.unwrap(), MARK, "{off}");
        }
        assert!(image.read_at(700 << 20, 4096).await.unwrap().iter().all(|b| *b == 0));
        assert!(!image.metadata_list().await.unwrap().keys().any(|k| k.starts_with("aquifer.")));
        image.close().await.unwrap();
        for tier in ["volumes", "far"] {
            let rbd = self.tiers.get(tier).unwrap().pool.rbd();
            let want = if now.tier == tier { vec![v.image_name()] } else { Vec::new() };
            assert_eq!(rbd.list().await.unwrap(), want, "{tier}");
            assert!(rbd.trash_list().await.unwrap().is_empty(), "{tier}");
        }
        let raw =
            self.tiers.get(&now.tier).unwrap().pool.rbd().open_read_only(&v.image_name()).await.unwrap();
        let sealed = raw.read_at(0, 6).await.unwrap() == b"LUKS\xba\xbe"[..];
        raw.close().await.unwrap();
        assert_eq!(sealed, now.encryption_key_id.is_some());
        assert_eq!(self.keys().await, now.encryption_key_id.into_iter().collect::<Vec<_>>());
    }

    /// The passphrases' ids that are kept.
    async fn keys(&self) -> Vec<String> {
        let sql = "SELECT id FROM volume_keys";
        let all: Vec<(String,)> = sqlx::query_as(sql).fetch_all(self.kit.db.read()).await.unwrap();
        all.into_iter().map(|(id,)| id).collect()
    }

    async fn ask(&self, v: &Volume, kind: &str) -> StatusCode {
        let body = json!({"os-retype": {"new_type": kind, "migration_policy": "on-demand"}});
        self.kit.call("alice", Method::POST, &format!("/volumes/{}/action", v.id), body).await.0
    }

    /// Retypes, and waits for how it ends.
    async fn retype(&self, v: &Volume, kind: &str, word: &str) {
        assert_eq!(self.ask(v, kind).await, StatusCode::ACCEPTED);
        self.ended(v, word).await;
    }

    async fn ended(&self, v: &Volume, word: &str) {
        until(word, || async {
            let now = self.kit.volumes.get(&ctx("admin"), &v.id).await.unwrap();
            (now.migration_status.as_deref() == Some(word) && now.status == VolumeStatus::Available)
                .then_some(())
        })
        .await;
        self.kit.settled().await;
    }
}

fn marks(size: u64) -> [u64; 3] {
    [0, 300 << 20, size - MARK.len() as u64]
}

// Making a key of a passphrase takes seconds by design: the databases share the work.

#[tokio::test]
async fn what_a_volume_holds_comes_along() {
    let _one = ONE.lock().await;
    let turns: [(&str, &[(&str, &str)]); 2] = [
        ("__DEFAULT__", &[("luks2", "volumes"), ("__DEFAULT__", "volumes")]),
        // One that was made encrypted is smaller by its header, and keeps all of what it has.
        ("luks", &[("far", "far"), ("__DEFAULT__", "volumes")]),
    ];
    for (db, (first, turns)) in testbed::databases().await.into_iter().zip(turns) {
        let p = place(db).await;
        let v = p.kit.create_of(first).await;
        let had = p.write(&v).await;
        for (kind, tier) in turns {
            p.retype(&v, kind, "success").await;
            let now = p.kit.volumes.get(&ctx("alice"), &v.id).await.unwrap();
            assert_eq!((now.type_name.as_str(), now.tier.as_str()), (*kind, *tier));
            p.holds(&v, had).await;
        }
    }
}

#[tokio::test]
async fn one_that_is_deleted_meanwhile_leaves_nothing() {
    let _one = ONE.lock().await;
    let p = place(testbed::databases().await.remove(0)).await;
    let v = p.kit.create_of("__DEFAULT__").await;
    failpoint::set("volume.migrate:commit:before", Action::Pause);
    assert_eq!(p.ask(&v, "luks").await, StatusCode::ACCEPTED);
    let (path, force) = (format!("/volumes/{}/action", v.id), json!({"os-force_delete": {}}));
    let (status, _) = p.kit.call("admin", Method::POST, &path, force.clone()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "it is on its way");
    p.kit.act("admin", &v.id, json!({"os-reset_status": {"migration_status": "none"}})).await;
    p.kit.act("admin", &v.id, force).await;
    failpoint::clear("volume.migrate:commit:before");
    p.kit.gone(&v.id).await;
    p.kit.settled().await;
    assert!(p.kit.images_there().await.is_empty());
    assert_eq!(p.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn every_step_twice_and_every_failure_taken_back() {
    let _one = ONE.lock().await;
    const STEPS: [&str; 5] = ["prepare", "switch", "execute", "commit", "settle"];
    let turns = [
        (("__DEFAULT__", "luks2"), ["prepare:after", "commit:before"]),
        (("luks", "__DEFAULT__"), ["switch:after", "execute:after"]),
    ];
    for (db, ((first, second), failures)) in testbed::databases().await.into_iter().zip(turns) {
        let p = place(db).await;
        let v = p.kit.create_of(first).await;
        let had = p.write(&v).await;
        failpoint::set("volume.migrate:undo:prepare:after", Action::RetryOnce);
        for point in failures {
            failpoint::set(format!("volume.migrate:{point}"), Action::Fail);
            p.retype(&v, second, "error").await;
            failpoint::clear(&format!("volume.migrate:{point}"));
            let now = p.kit.volumes.get(&ctx("alice"), &v.id).await.unwrap();
            assert_eq!(now.type_name, first, "{point}");
            p.holds(&v, had).await;
            failpoint::set("volume.migrate:undo:prepare:after", Action::RetryOnce);
        }
        failpoint::clear("volume.migrate:undo:prepare:after");
        let all =
            STEPS.into_iter().flat_map(|s| ["before", "after"].map(|w| format!("volume.migrate:{s}:{w}")));
        let all: Vec<String> = all.collect();
        all.iter().for_each(|point| failpoint::set(point.clone(), Action::RetryOnce));
        p.retype(&v, second, "success").await;
        all.iter().for_each(|point| failpoint::clear(point));
        p.holds(&v, had).await;
        // Too late to go back: it is what it was to be, and says that something went wrong.
        failpoint::set("volume.migrate:commit:after", Action::Fail);
        p.retype(&v, first, "error").await;
        failpoint::clear("volume.migrate:commit:after");
        let now = p.kit.volumes.get(&ctx("alice"), &v.id).await.unwrap();
        assert_eq!(now.type_name, first);
        p.holds(&v, had).await;
    }
}

#[tokio::test]
async fn what_hangs_on_the_old_image_refuses() {
    let _one = ONE.lock().await;
    let p = place(testbed::databases().await.pop().unwrap()).await;
    let v = p.kit.create_of("__DEFAULT__").await;
    let had = p.write(&v).await;
    let never = json!({"os-retype": {"new_type": "luks2", "migration_policy": "never"}});
    p.kit.act("alice", &v.id, never).await;
    p.ended(&v, "error").await;
    p.kit.act("admin", &v.id, json!({"os-reset_status": {"migration_status": "none"}})).await;
    let s = p.kit.snapshot(&v.id).await;
    p.retype(&v, "luks2", "error").await;
    let said = p.kit.get("alice", "/messages").await["messages"].clone();
    assert!(said.as_array().unwrap().iter().any(|m| m["resource_uuid"] == v.id), "{said}");
    p.kit.delete_snapshot(&s).await;
    let held = p.kit.volumes.attach_begin(&ctx("alice"), &v.id, "server", Some("h")).await.unwrap();
    assert_eq!(p.ask(&v, "luks2").await, StatusCode::BAD_REQUEST, "promised");
    p.kit.volumes.attach_complete(&ctx("alice"), &held.attachment.id, None).await.unwrap();
    assert_eq!(p.ask(&v, "luks2").await, StatusCode::BAD_REQUEST, "in use");
    p.kit.volumes.detach_complete(&ctx("alice"), &held.attachment.id).await.unwrap();
    p.holds(&v, had).await;
    // A clone in between holds nothing up, and keeps what it needs.
    let clone = p.kit.create(Source::Volume(v.id.clone()), None).await;
    p.kit.settled().await;
    failpoint::set("volume.migrate:switch:before", Action::Pause);
    assert_eq!(p.ask(&v, "luks2").await, StatusCode::ACCEPTED);
    // While it is written anew nobody gets it, and its new type's encryption stays.
    assert!(p.kit.volumes.attach_begin(&ctx("alice"), &v.id, "server", None).await.is_err());
    assert_eq!(p.ask(&v, "luks").await, StatusCode::BAD_REQUEST);
    // Somebody who died had changed the one name and not the other: whoever comes next carries on.
    let subject = format!("volume/{}", v.id);
    until("the fresh image is whole", || async {
        let now = state::tasks::unfinished(&p.kit.db, &subject).await.unwrap();
        now.iter().any(|(kind, step)| kind == "volume.migrate" && *step == 1).then_some(())
    })
    .await;
    let name = v.image_name();
    p.kit.tier.pool.rbd().rename(&name, &format!("{name}.recrypted")).await.unwrap();
    failpoint::clear("volume.migrate:switch:before");
    p.ended(&v, "success").await;
    let read = p.kit.open(&clone.id).await;
    assert_eq!(read.read_at(0, MARK.len()).await.unwrap(), MARK);
    read.close().await.unwrap();
    p.kit.delete(&clone.id).await;
    p.kit.settled().await;
    until("the trash is empty", || async { (p.kit.trash().await == 0).then_some(()) }).await;
    p.holds(&v, had).await;
}

const DB: &str = "BLOCKSTORE_SEALER_DB";
const SPACE: &str = "BLOCKSTORE_SEALER_NAMESPACE";
const ASK: &str = "BLOCKSTORE_SEALER_ASK";

async fn reopened(url: &str, space: &str) -> Place {
    let db = Db::open(url).await.unwrap();
    db.migrate(&state::tasks::MIGRATIONS).await.unwrap();
    opened(db, space).await
}

#[tokio::test]
#[ignore = "run by the next test, to die"]
async fn sealer() {
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    if var(DB).is_empty() {
        return;
    }
    state::failpoint::from_env().unwrap();
    let p = reopened(&var(DB), &var(SPACE)).await;
    let ask: Value = serde_json::from_str(&var(ASK)).unwrap();
    p.kit.call("admin", Method::POST, ask["path"].as_str().unwrap(), ask["body"].clone()).await;
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_process_leaves_its_retype_to_the_next() {
    let _one = ONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/seal.sqlite", dir.path().display());
    let space = testbed::unique("seal");
    let p = reopened(&url, &space).await;
    p.kind("luks2", json!({}), Some(FORMATS[0])).await;
    let v = p.kit.create_of("__DEFAULT__").await;
    let had = p.write(&v).await;
    p.kit.end().await;
    let mut turn = ["luks2", "__DEFAULT__"].into_iter().cycle();
    for point in ["prepare:after", "switch:after", "commit:after"] {
        let kind = turn.next().unwrap();
        let body = json!({"os-retype": {"new_type": kind, "migration_policy": "on-demand"}});
        let ask = json!({"path": format!("/volumes/{}/action", v.id), "body": body});
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--ignored", "--exact", "sealer", "--nocapture"]);
        child.env("AQUIFER_FAILPOINTS", format!("volume.migrate:{point}=abort"));
        child.env(DB, &url).env(SPACE, &space).env(ASK, ask.to_string());
        child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).kill_on_drop(true);
        let ended = tokio::time::timeout(PATIENCE, child.status()).await;
        assert!(!ended.unwrap().unwrap().success(), "{point}");
        let p = reopened(&url, &space).await;
        p.ended(&v, "success").await;
        let now = p.kit.volumes.get(&ctx("admin"), &v.id).await.unwrap();
        assert_eq!(now.type_name, kind, "{point}");
        p.holds(&v, had).await;
        p.kit.end().await;
    }
}
