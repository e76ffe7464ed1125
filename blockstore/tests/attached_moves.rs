//! Volumes that move to another tier while a server has them, with a host that says what the test lets it say. (The real
//! one, and a guest that writes, are in `tests/tests/moving.rs`.) On both databases. Failpoints belong to the whole
//! process, so these tests run one at a time.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use async_trait::async_trait;
use blockstore::{
    Config, Grown, Mirror, Pivot, Quota, RbdLocation, Servers, Source, Volume, VolumeError, VolumeStatus,
};
use bytes::Bytes;
use kit::{Kit, ctx, kit_with, until};
use pool::{ClusterConfig, Clusters, Image, OptionalExt, Tier, TierConfig, Tiers};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use state::failpoint::{self, Action};
use state::{Db, Tx};
use std::sync::{Arc, Mutex as Sync, Weak};
use tokio::sync::Mutex;

static ONE: Mutex<()> = Mutex::const_new(());

/// What becomes of a move.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Moves,
    /// The copy ends when it was to pivot.
    Ends,
    /// The guest dies when it was to pivot, with locks left on the new image, or on the old one.
    DiesAhead,
    DiesBehind,
    /// It is switched off while it copies.
    Stops,
    CannotCopy,
    /// The volume is detached while it is copied.
    Leaves,
}

/// A server's host with a guest that has one volume.
struct Host {
    tiers: Tiers,
    fate: Sync<Fate>,
    /// What was settled: whether it has moved.
    settled: Sync<Vec<bool>>,
    /// What the dead guest still locks.
    locked: Mutex<Option<Image>>,
    detach: Mutex<Option<(Arc<blockstore::Volumes>, String)>>,
}

impl Host {
    fn fate(&self) -> Fate {
        *self.fate.lock().unwrap()
    }

    async fn lock(&self, tier: &str, volume: &str) {
        let mut held = self.locked.lock().await;
        if held.is_none() {
            let image = self.tiers.get(tier).unwrap().pool.rbd().open(&image(volume)).await.unwrap();
            image.lock_acquire().await.unwrap();
            *held = Some(image);
        }
    }
}

fn image(volume: &str) -> String {
    format!("volume-{volume}")
}

#[async_trait]
impl Servers for Host {
    async fn copy(&self, server: &str, volume: &str, to: &RbdLocation) -> Result<Mirror, VolumeError> {
        assert_eq!(
            (server, to.image.as_str(), to.namespace.as_deref()),
            ("server", image(volume).as_str(), None)
        );
        match self.fate() {
            Fate::Stops => return Ok(Mirror::Off),
            Fate::CannotCopy => return Ok(Mirror::Failed("why".into())),
            Fate::Leaves => {
                if let Some((volumes, attachment)) = self.detach.lock().await.take() {
                    volumes.detach_complete(&ctx("alice"), &attachment).await.unwrap();
                }
                return Ok(Mirror::Gone);
            }
            _ => {}
        }
        let open = |tier: &str| self.tiers.get(tier).unwrap().pool.rbd();
        let (old, new) =
            (open("volumes").open_read_only(&image(volume)).await?, open("fast").open(&image(volume)).await?);
        assert_eq!(old.size().await?, new.size().await?);
        for off in [0, 100 << 20] {
            new.write_at(off, old.read_at(off, 1 << 20).await?).await?;
        }
        assert_eq!(new.metadata_get("conf_rbd_cache").await?, "false", "what is acknowledged must be there");
        old.close().await?;
        new.close().await?;
        Ok(Mirror::Ready)
    }

    async fn pivot(&self, _: &str, volume: &str, _: &RbdLocation) -> Result<Pivot, VolumeError> {
        Ok(Pivot::Begun(match self.fate() {
            Fate::Ends => Mirror::Lost,
            Fate::DiesAhead => {
                self.lock("fast", volume).await;
                Mirror::Off
            }
            Fate::DiesBehind => {
                self.lock("volumes", volume).await;
                Mirror::Off
            }
            _ => Mirror::Moved,
        }))
    }

    async fn grown(&self, _: &mut Tx, _: &str, _: &Grown) -> Result<(), VolumeError> {
        Ok(())
    }

    async fn grows(&self, _: &str, _: &str) -> Result<bool, VolumeError> {
        Ok(false)
    }

    async fn settle(&self, _: &str, _: &str, _: &RbdLocation, moved: bool) -> Result<(), VolumeError> {
        self.settled.lock().unwrap().push(moved);
        // A guest that starts again breaks what its last life has locked.
        if let Some(image) = self.locked.lock().await.take() {
            image.close().await?;
        }
        Ok(())
    }
}

/// A cloud with the tiers `volumes` and `fast`, and a host.
struct Place {
    kit: Kit,
    tiers: Tiers,
    host: Arc<Host>,
}

async fn places() -> Vec<Place> {
    let mut all = Vec::new();
    for db in testbed::databases().await {
        all.push(place(db, &testbed::unique("fast"), &testbed::unique("move")).await);
    }
    all
}

/// In a pool and a namespace that may have been those of a process that died.
async fn place(db: Db, fast: &str, space: &str) -> Place {
    let clusters = Clusters::connect(&[ClusterConfig::new("main", &testbed::ceph().conf)]).await.unwrap();
    let main = clusters.get("main").unwrap();
    main.create_pool_with(fast, "rbd", json!({"pg_num": 4})).await.unwrap();
    main.require_clone_v2().await.unwrap();
    let tier = |name: &str, pool: &str, namespace: Option<&str>| TierConfig {
        name: name.into(),
        cluster: "main".into(),
        pool: pool.into(),
        data_pool: None,
        namespace: namespace.map(str::to_owned),
    };
    let tiers = [
        tier("volumes", "rbd", Some(space)),
        tier("images", "rbd", Some(space)),
        tier("fast", fast, None),
        tier("hidden", fast, Some(space)),
    ];
    let tiers = Tiers::new(&clusters, &tiers).unwrap();
    tiers.get("fast").unwrap().pool.rbd().init().await.unwrap();
    for tier in ["volumes", "hidden"] {
        tiers.get(tier).unwrap().pool.rbd().namespace_create(space).await.unwrap();
    }
    let host = Arc::new(Host {
        tiers: tiers.clone(),
        fate: Sync::new(Fate::Moves),
        settled: Sync::default(),
        locked: Mutex::default(),
        detach: Mutex::default(),
    });
    let quota = Quota { volumes: 1000, snapshots: 1000, ..Quota::default() };
    let weak: Weak<Host> = Arc::downgrade(&host);
    let kit =
        kit_with(db, Config { quota, ..Config::default() }, tiers.clone(), |v| v.use_servers(weak)).await;
    let place = Place { kit, tiers, host };
    for tier in ["fast", "hidden"] {
        place.kind(tier, json!({"volume_backend_name": tier})).await;
    }
    place
}

impl Place {
    fn tier(&self, name: &str) -> Tier {
        self.tiers.get(name).unwrap()
    }

    async fn kind(&self, name: &str, specs: Value) {
        let body = json!({"volume_type": {"name": name, "extra_specs": specs}});
        let (status, answer) = self.kit.call("admin", Method::POST, "/types", body).await;
        assert!(matches!(status, StatusCode::OK | StatusCode::CONFLICT), "{answer}");
    }

    /// A volume with bytes that a server has; the attachment.
    async fn attached(&self) -> (Volume, String) {
        let v = self.kit.create(Source::Empty, Some(1)).await;
        let image = self.tier("volumes").pool.rbd().open(&v.image_name()).await.unwrap();
        image.write_at(100 << 20, Bytes::from(vec![7; 1 << 20])).await.unwrap();
        image.close().await.unwrap();
        let held = self.kit.volumes.attach_begin(&ctx("alice"), &v.id, "server", Some("h")).await.unwrap();
        let attachment = held.attachment.id;
        self.kit.volumes.attach_complete(&ctx("alice"), &attachment, Some("/dev/vdb")).await.unwrap();
        *self.host.detach.lock().await = Some((self.kit.volumes.clone(), attachment.clone()));
        (v, attachment)
    }

    async fn ask(&self, who: &'static str, v: &Volume, body: Value) -> StatusCode {
        self.kit.call(who, Method::POST, &format!("/volumes/{}/action", v.id), body).await.0
    }

    async fn retype(&self, v: &Volume, kind: &str) -> StatusCode {
        let body = json!({"os-retype": {"new_type": kind, "migration_policy": "on-demand"}});
        self.ask("alice", v, body).await
    }

    async fn migrate(&self, v: &Volume, tier: &str) -> StatusCode {
        self.ask("admin", v, json!({"os-migrate_volume": {"host": format!("aquifer@{tier}#{tier}")}})).await
    }

    /// The volume has come to rest in a tier, with all it had, and is nowhere else.
    async fn rests(&self, v: &Volume, migration: &str, status: &str, tier: &str) -> Value {
        let shown = until(migration, || async {
            let shown = self.kit.get("admin", &format!("/volumes/{}", v.id)).await["volume"].clone();
            (shown["migration_status"] == migration && shown["status"] == status).then_some(shown)
        })
        .await;
        self.kit.settled().await;
        for name in ["volumes", "fast"] {
            let there = self.tier(name).pool.rbd().open_read_only(&v.image_name()).await.optional().unwrap();
            assert_eq!(there.is_some(), name == tier, "an image in {name}");
            if let Some(image) = there {
                assert!(image.read_at(100 << 20, 1 << 20).await.unwrap().iter().all(|b| *b == 7));
                assert!(image.read_at(0, 4096).await.unwrap().iter().all(|b| *b == 0));
                assert!(!image.metadata_list().await.unwrap().contains_key("conf_rbd_cache"));
            }
        }
        assert_eq!(shown["os-vol-host-attr:host"], format!("aquifer@{tier}#{tier}"));
        shown
    }

    async fn done(&self, v: &Volume, attachment: &str) {
        self.kit.volumes.detach_complete(&ctx("alice"), attachment).await.unwrap();
        self.kit.becomes(&v.id, VolumeStatus::Available).await;
        self.kit.delete(&v.id).await;
    }
}

#[tokio::test]
async fn whatever_becomes_of_the_guest_the_volume_is_where_it_wrote() {
    let _one = ONE.lock().await;
    for p in places().await {
        for (fate, there) in [
            (Fate::Moves, true),
            (Fate::DiesAhead, true),
            (Fate::Ends, false),
            (Fate::DiesBehind, false),
            (Fate::Stops, false),
            (Fate::CannotCopy, false),
        ] {
            let (v, a) = p.attached().await;
            *p.host.fate.lock().unwrap() = fate;
            p.host.settled.lock().unwrap().clear();
            assert_eq!(p.retype(&v, "fast").await, StatusCode::ACCEPTED);
            let (word, tier, kind) =
                if there { ("success", "fast", "fast") } else { ("error", "volumes", "__DEFAULT__") };
            let shown = p.rests(&v, word, "in-use", tier).await;
            assert_eq!(shown["volume_type"], kind, "{fate:?}");
            assert_eq!(p.host.settled.lock().unwrap().last(), Some(&there), "{fate:?}");
            if !there {
                let messages = p.kit.get("alice", "/messages").await["messages"].clone();
                let of = |m: &Value| m["resource_uuid"] == v.id.as_str();
                assert!(messages.as_array().unwrap().iter().any(of), "{fate:?}");
            }
            p.done(&v, &a).await;
        }
        // One that is let go meanwhile moves as those that nobody has.
        let (v, _) = p.attached().await;
        *p.host.fate.lock().unwrap() = Fate::Leaves;
        assert_eq!(p.retype(&v, "fast").await, StatusCode::ACCEPTED);
        assert_eq!(p.rests(&v, "success", "available", "fast").await["volume_type"], "fast");
        p.kit.delete(&v.id).await;
    }
}

#[tokio::test]
async fn every_step_twice_and_every_failure_taken_back() {
    let _one = ONE.lock().await;
    let point = |step: &str, when: &str| format!("volume.migrate_attached:{step}:{when}");
    for p in places().await {
        for step in ["prepare", "copy", "retype", "pivot", "switch", "commit", "settle"] {
            for when in ["before", "after"] {
                let (v, a) = p.attached().await;
                failpoint::set(point(step, when), Action::RetryOnce);
                assert_eq!(p.migrate(&v, "fast").await, StatusCode::ACCEPTED);
                p.rests(&v, "success", "in-use", "fast").await;
                failpoint::clear(&point(step, when));
                p.done(&v, &a).await;
            }
        }
        for step in ["prepare", "copy", "retype"] {
            let (v, a) = p.attached().await;
            failpoint::set(point(step, "after"), Action::Fail);
            failpoint::set(point("undo:prepare", "after"), Action::RetryOnce);
            assert_eq!(p.retype(&v, "fast").await, StatusCode::ACCEPTED);
            let shown = p.rests(&v, "error", "in-use", "volumes").await;
            assert_eq!(shown["volume_type"], "__DEFAULT__");
            failpoint::clear(&point(step, "after"));
            failpoint::clear(&point("undo:prepare", "after"));
            p.done(&v, &a).await;
        }
    }
}

#[tokio::test]
async fn what_cannot_move_under_its_guest_stays() {
    let _one = ONE.lock().await;
    for p in places().await {
        let stays = async |v: &Volume, kind: &str| {
            assert_eq!(p.retype(v, kind).await, StatusCode::ACCEPTED);
            let shown = p.rests(v, "error", "in-use", "volumes").await;
            assert_eq!(shown["volume_type"], "__DEFAULT__");
        };
        // Snapshots would stay behind.
        let (v, a) = p.attached().await;
        let body = json!({"snapshot": {"volume_id": v.id, "force": true}});
        let made = p.kit.call("alice", Method::POST, "/snapshots", body).await;
        assert_eq!(made.0, StatusCode::ACCEPTED, "{}", made.1);
        p.kit.settled().await;
        assert_eq!(p.migrate(&v, "fast").await, StatusCode::BAD_REQUEST);
        stays(&v, "fast").await;
        p.kit.delete_snapshot(made.1["snapshot"]["id"].as_str().unwrap()).await;
        // Where no guest could open it.
        assert_eq!(p.migrate(&v, "hidden").await, StatusCode::BAD_REQUEST);
        stays(&v, "hidden").await;
        // While it moves nobody else gets it, and it does not move twice.
        failpoint::set("volume.migrate_attached:copy:before", Action::Pause);
        assert_eq!(p.migrate(&v, "fast").await, StatusCode::ACCEPTED);
        assert_eq!(p.migrate(&v, "fast").await, StatusCode::BAD_REQUEST);
        assert_eq!(p.retype(&v, "fast").await, StatusCode::BAD_REQUEST);
        assert!(p.kit.volumes.attach_begin(&ctx("alice"), &v.id, "other", Some("h")).await.is_err());
        failpoint::clear("volume.migrate_attached:copy:before");
        p.rests(&v, "success", "in-use", "fast").await;
        p.done(&v, &a).await;
        // A host, not a server, has it.
        let v = p.kit.create(Source::Empty, Some(1)).await;
        let attach = json!({"os-attach": {"host_name": "h", "mountpoint": "/dev/vdb"}});
        assert_eq!(p.ask("admin", &v, attach).await, StatusCode::ACCEPTED);
        assert_eq!(p.migrate(&v, "fast").await, StatusCode::BAD_REQUEST);
    }
}

const DB: &str = "BLOCKSTORE_ATTACHED_DB";
const FAST: &str = "BLOCKSTORE_ATTACHED_POOL";
const SPACE: &str = "BLOCKSTORE_ATTACHED_NAMESPACE";
const ASKED: &str = "BLOCKSTORE_ATTACHED_ASKED";

/// Another process takes the move up where the last one died, and dies after the next step.
#[tokio::test]
async fn processes_die_one_after_the_other_and_the_volume_moves() {
    let _one = ONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/attached.sqlite", dir.path().display());
    let (fast, space) = (testbed::unique("fast"), testbed::unique("move"));
    let open = async || {
        let db = Db::open(&url).await.unwrap();
        db.migrate(&state::tasks::MIGRATIONS).await.unwrap();
        place(db, &fast, &space).await
    };
    let begun = open().await;
    let (v, attachment) = begun.attached().await;
    begun.kit.end().await;
    for step in ["prepare", "copy", "retype", "pivot", "switch", "commit", "settle"] {
        let point = format!("volume.migrate_attached:{step}:after");
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--ignored", "--exact", "victim", "--nocapture"]);
        child.env("AQUIFER_FAILPOINTS", format!("{point}=abort"));
        child.env(DB, &url).env(FAST, &fast).env(SPACE, &space);
        if step == "prepare" {
            child.env(ASKED, &v.id);
        }
        child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).kill_on_drop(true);
        let ended = tokio::time::timeout(kit::PATIENCE, child.status()).await;
        let status = ended.unwrap_or_else(|_| panic!("{point}: nobody died")).unwrap();
        assert!(std::os::unix::process::ExitStatusExt::signal(&status).is_some(), "{point}: {status}");
    }
    let p = open().await;
    p.rests(&v, "success", "in-use", "fast").await;
    p.done(&v, &attachment).await;
}

#[tokio::test]
#[ignore = "run by another test, to die"]
async fn victim() {
    let Ok(url) = std::env::var(DB) else { return };
    state::failpoint::from_env().unwrap();
    let name = |key| std::env::var(key).unwrap();
    let p = place(Db::open(&url).await.unwrap(), &name(FAST), &name(SPACE)).await;
    if let Ok(id) = std::env::var(ASKED) {
        let v = p.kit.volumes.get(&ctx("alice"), &id).await.unwrap();
        p.migrate(&v, "fast").await;
    }
    std::future::pending::<()>().await;
}
