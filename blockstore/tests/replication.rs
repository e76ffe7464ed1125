//! Volumes that are mirrored to a second cluster: two real ones with an rbd-mirror each. On both databases at the same time,
//! as the clusters take longer to start than the test to run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

#[path = "replication/groups.rs"]
mod groups;
mod kit;

use blockstore::{Config, NewVolume, Quota, Replication, ReplicationStatus, Source, Volume, VolumeStatus};
use bytes::Bytes;
use futures::future::join_all;
use kit::{Kit, ctx, kit_in, until};
use pool::{ClusterConfig, Clusters, OptionalExt, Tier, TierConfig, Tiers};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use state::Db;
use state::failpoint::{self, Action};
use std::path::Path;
use std::time::Duration;
use testbed::Pair;

const HOST: &str = "aquifer@volumes";

/// A cloud whose tier `volumes` is mirrored to `far`.
struct Cloud {
    kit: Kit,
    here: Tier,
    far: Tier,
}

async fn tiers(first: &Path, second: &Path) -> Tiers {
    let site = |name: &str, conf: &Path| ClusterConfig { timeout_s: 5, ..ClusterConfig::new(name, conf) };
    let clusters = Clusters::connect(&[site("first", first), site("second", second)]).await.unwrap();
    let place = |name: &str, cluster: &str, pool: &str| TierConfig {
        name: name.into(),
        cluster: cluster.into(),
        pool: pool.into(),
        data_pool: None,
        namespace: None,
    };
    let tiers = [
        place("volumes", "first", "volumes"),
        place("images", "first", "images"),
        place("far", "second", "volumes"),
    ];
    for cluster in clusters.iter() {
        cluster.require_clone_v2().await.unwrap();
    }
    Tiers::new(&clusters, &tiers).unwrap()
}

async fn cloud(db: Db, tiers: &Tiers) -> Cloud {
    let replication = Replication { tier: "volumes".into(), secondary: "far".into(), patience_s: 60 };
    let quota = Quota { volumes: 100, snapshots: 100, ..Quota::default() };
    let config = Config { replication: vec![replication], quota, ..Config::default() };
    let kit = kit_in(db, config, tiers.clone()).await;
    Cloud { kit, here: tiers.get("volumes").unwrap(), far: tiers.get("far").unwrap() }
}

impl Cloud {
    async fn add_type(&self) {
        self.kit.add_type("mirrored", json!({"replication_enabled": "<is> True"})).await;
    }

    async fn create(&self, kind: &str, source: Source) -> Volume {
        let new =
            NewVolume { size_gib: Some(1), volume_type: Some(kind.into()), source, ..NewVolume::default() };
        let volume = self.kit.volumes.create(&ctx("alice"), new).await.unwrap();
        self.kit.becomes(&volume.id, VolumeStatus::Available).await
    }

    /// The first cluster does, again.
    async fn answers(&self) {
        until("an answer", || async { self.here.pool.rbd().list().await.ok() }).await;
    }

    async fn put(&self, action: &str, body: Value) -> StatusCode {
        self.kit.call("admin", Method::PUT, &format!("/os-services/{action}"), body).await.0
    }

    async fn service(&self) -> Value {
        let path = format!("/os-services?binary=cinder-volume&host={HOST}");
        self.kit.get("admin", &path).await["services"][0].clone()
    }

    /// Fails over, or back, and waits until that has ended in this state.
    async fn fails_over(&self, body: Value, ends: &str) {
        assert_eq!(self.put("failover_host", body).await, StatusCode::ACCEPTED);
        self.ended(ends).await;
    }

    async fn ended(&self, ends: &str) {
        until("the failover's end", || async {
            let now = self.service().await["replication_status"].clone();
            (now != "failing-over").then_some(now)
        })
        .await;
        let ended = self.service().await["replication_status"].clone();
        let failed: Vec<(String, String)> =
            sqlx::query_as("SELECT kind, reason FROM tasks WHERE state = 'failed' ORDER BY updated_at")
                .fetch_all(self.kit.db.read())
                .await
                .unwrap();
        assert_eq!(ended, ends, "{failed:?}");
    }

    async fn shown(&self, id: &str) -> Value {
        self.kit.get("admin", &format!("/volumes/{id}")).await["volume"].clone()
    }

    /// `(status, replication_status)` as they are shown.
    async fn is(&self, id: &str, status: &str, replication: &str) {
        let shown = self.shown(id).await;
        assert_eq!((&shown["status"], &shown["replication_status"]), (&json!(status), &json!(replication)));
        assert_eq!(shown["os-vol-host-attr:host"], "aquifer@volumes#volumes", "it belongs where it did");
    }

    /// Where clients are told that a volume is.
    async fn is_served_by(&self, id: &str, tier: &Tier) {
        let body = json!({"os-initialize_connection": {"connector": {"host": "h"}}});
        let told = self.kit.act("admin", id, body).await;
        let data = &told["connection_info"]["data"];
        assert_eq!(data["cluster_name"], tier.cluster.name());
        let host = tier.cluster.conf("mon_host").await.unwrap();
        assert!(host.contains(data["ports"][0].as_str().unwrap()), "{host}: {data}");
    }
}

async fn write(tier: &Tier, v: &Volume, byte: u8) {
    let image = tier.pool.rbd().open(&v.image_name()).await.unwrap();
    image.write_at(0, Bytes::from(vec![byte; 1 << 16])).await.unwrap();
    image.flush().await.unwrap();
    image.close().await.unwrap();
}

/// Whether a volume's image in this tier begins with these bytes.
async fn holds(tier: &Tier, v: &Volume, byte: u8) -> Option<()> {
    let image = tier.pool.rbd().open_read_only(&v.image_name()).await.optional().unwrap()?;
    let found = image.read_at(0, 1 << 16).await;
    image.close().await.unwrap();
    found.ok()?.iter().all(|b| *b == byte).then_some(())
}

#[tokio::test]
async fn volumes_fail_over_and_come_back() {
    let mut pair = Pair::start().await;
    let (first, second) = (pair.first.conf(), pair.second.conf());
    let tiers = tiers(&first, &second).await;
    let mut clouds = Vec::new();
    for db in testbed::databases().await {
        let cloud = cloud(db, &tiers).await;
        cloud.add_type().await;
        clouds.push(cloud);
    }
    pair.mirror();
    // The pools become peers when they are first used.
    let first = clouds[0].create("mirrored", Source::Empty).await;
    clouds[0].kit.delete(&first.id).await;
    let planned = join_all(clouds.iter().map(planned));
    let (made, ()) = futures::join!(planned, killed(&pair, &tiers));
    // Failpoints belong to the whole process: one at a time, and one database says it.
    carried_on(&clouds[0], &made[0].0).await;
    join_all(clouds.iter().map(groups::lives)).await;
    groups::fails(&clouds[0]).await;
    // The first cluster is lost with what came over, and with one volume that did not.
    for (cloud, (m, _)) in clouds.iter().zip(&made) {
        write(&cloud.here, m, 5).await;
        until("the last bytes there", || holds(&cloud.far, m, 5)).await;
        cloud.kit.settled().await;
    }
    let whole = join_all(clouds.iter().map(|c| groups::mirrored(c, true))).await;
    pair.quiet();
    let behind = join_all(clouds.iter().map(|c| c.create("mirrored", Source::Empty))).await;
    let partly = join_all(clouds.iter().map(|c| groups::mirrored(c, false))).await;
    pair.first.pause();
    let all = clouds.iter().zip(made.iter().zip(&behind));
    join_all(whole.iter().zip(&partly).map(|(w, p)| groups::lost(w, p))).await;
    join_all(all.clone().map(|(cloud, ((m, _), n))| lost(cloud, m, n))).await;
    pair.first.resume();
    pair.mirror();
    join_all(clouds.iter().map(Cloud::answers)).await;
    join_all(whole.into_iter().zip(partly).map(|(w, p)| groups::returned(w, p))).await;
    join_all(all.map(|(cloud, ((m, p), n))| returned(cloud, m, p, n))).await;
    for cloud in &clouds {
        for tier in [&cloud.here, &cloud.far] {
            until("nothing left", || async {
                tier.pool.rbd().list().await.unwrap().is_empty().then_some(())
            })
            .await;
        }
    }
}

/// With both clusters there: what is shown and refused, over and back, and what becomes of volumes without a copy.
async fn planned(cloud: &Cloud) -> (Volume, Volume) {
    let service = cloud.service().await;
    assert_eq!((&service["replication_status"], &service["frozen"]), (&json!("enabled"), &json!(false)));
    assert_eq!(service["active_backend_id"], Value::Null);
    let pools = cloud.kit.get("admin", "/scheduler-stats/get_pools?detail=true").await;
    let pools = pools["pools"].as_array().unwrap().clone();
    let named = |name: &str| pools.iter().find(|p| p["name"] == format!("aquifer@{name}#{name}")).unwrap();
    assert_eq!(named("volumes")["capabilities"]["replication_targets"], json!(["far"]));
    assert_eq!(named("images")["capabilities"]["replication_enabled"], false);

    let m = cloud.create("mirrored", Source::Empty).await;
    let p = cloud.create("__DEFAULT__", Source::Empty).await;
    cloud.is(&m.id, "available", "enabled").await;
    cloud.is(&p.id, "available", "disabled").await;
    write(&cloud.here, &m, 1).await;
    let snapshot = cloud.kit.snapshot(&m.id).await;
    let other = cloud.kit.snapshot(&p.id).await;
    // A clone stands alone; one that is made like others becomes mirrored by another type, and back.
    let c = cloud.create("mirrored", Source::Snapshot(snapshot.clone())).await;
    assert!(cloud.kit.open(&c.id).await.parent().await.unwrap().is_none());
    // One of a type that is not mirrored has no journal, which is all that its parent has in addition.
    let l = cloud.create("__DEFAULT__", Source::Snapshot(snapshot.clone())).await;
    let [of, has] = [&m, &l].map(|v| async { cloud.kit.open(&v.id).await.info().await.unwrap().features });
    assert_eq!(of.await ^ has.await, pool::features::JOURNALING);
    cloud.kit.delete(&l.id).await;
    let r = cloud.create("__DEFAULT__", Source::Empty).await;
    for (kind, ends) in
        [("mirrored", ReplicationStatus::Enabled), ("__DEFAULT__", ReplicationStatus::Disabled)]
    {
        cloud
            .kit
            .act("alice", &r.id, json!({"os-retype": {"new_type": kind, "migration_policy": "never"}}))
            .await;
        until("retyped", || async {
            let now = cloud.kit.volumes.get(&ctx("alice"), &r.id).await.unwrap();
            (now.replication_status == Some(ends)).then_some(())
        })
        .await;
    }
    cloud.kit.delete(&r.id).await;
    cloud.kit.settled().await;
    refused(cloud, &m).await;

    let to = json!({"os-attach": {"instance_uuid": state::new_id(), "mountpoint": "/dev/vdb"}});
    cloud.kit.act("admin", &c.id, to).await;
    cloud.fails_over(json!({"host": HOST, "backend_id": "far"}), "failed-over").await;
    let service = cloud.service().await;
    assert_eq!(service["active_backend_id"], "far");
    assert_eq!(
        (&service["status"], &service["disabled_reason"]),
        (&json!("disabled"), &json!("failed-over"))
    );
    cloud.is(&m.id, "available", "failed-over").await;
    cloud.is(&p.id, "error", "not-capable").await;
    // Who has it attached is told by an operator to attach it anew.
    cloud.is(&c.id, "in-use", "failed-over").await;
    cloud.kit.act("admin", &c.id, json!({"os-detach": {}})).await;
    let path = format!("/snapshots/{other}");
    assert_eq!(cloud.kit.get("alice", &path).await["snapshot"]["status"], "error");
    cloud.is_served_by(&m.id, &cloud.far).await;
    until("what was written before", || holds(&cloud.far, &m, 1)).await;
    write(&cloud.far, &m, 2).await;
    // Snapshots came along, and the volume is like any other.
    cloud.kit.act("alice", &m.id, json!({"os-extend": {"new_size": 2}})).await;
    cloud.kit.becomes(&m.id, VolumeStatus::Available).await;
    cloud.kit.delete_snapshot(&snapshot).await;
    cloud.kit.delete(&c.id).await;

    cloud.fails_over(json!({"host": HOST, "backend_id": "default"}), "enabled").await;
    let service = cloud.service().await;
    assert_eq!((&service["active_backend_id"], &service["status"]), (&json!(""), &json!("enabled")));
    cloud.is(&m.id, "available", "enabled").await;
    cloud.is(&p.id, "available", "disabled").await;
    assert_eq!(cloud.kit.get("alice", &path).await["snapshot"]["status"], "available");
    cloud.is_served_by(&m.id, &cloud.here).await;
    holds(&cloud.here, &m, 2).await.expect("what was written there");
    assert_eq!(cloud.kit.open(&m.id).await.size().await.unwrap(), 2 * kit::GIB);
    (m, p)
}

/// What may not be.
async fn refused(cloud: &Cloud, m: &Volume) {
    let bad = StatusCode::BAD_REQUEST;
    for (action, body) in [
        ("failover_host", json!({})),
        ("failover_host", json!({"host": "aquifer@nowhere"})),
        ("failover_host", json!({"host": HOST, "backend_id": "nowhere"})),
        ("failover_host", json!({"host": HOST, "backend_id": "default"})),
        ("failover_host", json!({"host": HOST, "else": 1})),
        ("failover_host", json!({"host": "aquifer@images"})),
        ("failover", json!({"cluster": "c"})),
        ("failover", json!({"cluster": "c", "host": HOST})),
        ("freeze", json!({})),
        ("thaw", json!({"host": HOST})),
    ] {
        assert_eq!(cloud.put(action, body.clone()).await, bad, "{action} {body}");
    }
    let body = json!({"host": HOST});
    let at = |version, who, action| {
        let (path, body) = (format!("/os-services/{action}"), body.clone());
        async move { cloud.kit.call_at(version, who, Method::PUT, &path, body).await.0 }
    };
    assert_eq!(at("3.25", "admin", "failover").await, StatusCode::NOT_FOUND);
    assert_eq!(at("3.71", "alice", "failover_host").await, StatusCode::FORBIDDEN);
    assert_eq!(at("3.71", "alice", "freeze").await, StatusCode::FORBIDDEN);
    let migrate = json!({"os-migrate_volume": {"host": "aquifer@images#images"}});
    let path = format!("/volumes/{}/action", m.id);
    assert_eq!(cloud.kit.call("admin", Method::POST, &path, migrate).await.0, bad);

    assert_eq!(cloud.put("freeze", body.clone()).await, StatusCode::OK);
    assert_eq!(cloud.put("freeze", body.clone()).await, bad);
    let change = json!({"os-extend": {"new_size": 2}});
    assert_eq!(cloud.kit.call("alice", Method::POST, &path, change).await.0, bad);
    let snapshot = json!({"snapshot": {"volume_id": m.id}});
    assert_eq!(cloud.kit.call("alice", Method::POST, "/snapshots", snapshot).await.0, bad);
    let there = format!("/volumes/{}", m.id);
    assert_eq!(cloud.kit.call("alice", Method::DELETE, &there, Value::Null).await.0, bad);
    let service = cloud.service().await;
    assert_eq!((&service["frozen"], &service["disabled_reason"]), (&json!(true), &json!("frozen")));
    assert_eq!(cloud.put("thaw", body.clone()).await, StatusCode::OK);
    assert_eq!(cloud.service().await["status"], "enabled");
}

/// Every step twice; a failure before anything has turned round leaves all as it was, one after says so, and can be mended.
async fn carried_on(cloud: &Cloud, m: &Volume) {
    let steps =
        ["level", "fence", "drain", "switch", "finish"].map(|s| format!("backend.failover:{s}:after"));
    let again = || steps.iter().for_each(|s| failpoint::set(s.clone(), Action::RetryOnce));
    again();
    // Meanwhile what is mirrored stays so.
    failpoint::set("backend.failover:level:before", Action::Pause);
    assert_eq!(cloud.put("failover_host", json!({"host": HOST})).await, StatusCode::ACCEPTED);
    let retype = json!({"os-retype": {"new_type": "__DEFAULT__", "migration_policy": "never"}});
    let path = format!("/volumes/{}/action", m.id);
    assert_eq!(cloud.kit.call("alice", Method::POST, &path, retype).await.0, StatusCode::BAD_REQUEST);
    failpoint::clear("backend.failover:level:before");
    cloud.ended("failed-over").await;
    write(&cloud.far, m, 3).await;
    again();
    cloud.fails_over(json!({"host": HOST, "backend_id": "default"}), "enabled").await;
    holds(&cloud.here, m, 3).await.expect("what was written there");

    for (byte, step) in (40..).zip(["drain", "switch"]) {
        let before = format!("backend.failover:{step}:before");
        failpoint::set(before.clone(), Action::Fail);
        cloud.fails_over(json!({"host": HOST}), "enabled").await;
        failpoint::clear(&before);
        cloud.is(&m.id, "available", "enabled").await;
        write(&cloud.here, m, byte).await;
    }
    // What was written since is there on the other side, too.
    write(&cloud.here, m, 4).await;

    failpoint::set("backend.failover:finish:before", Action::Fail);
    cloud.fails_over(json!({"host": HOST}), "failover-error").await;
    failpoint::clear("backend.failover:finish:before");
    cloud.is(&m.id, "available", "failed-over").await;
    holds(&cloud.far, m, 4).await.expect("what was written in between");
    cloud.fails_over(json!({"host": HOST, "backend_id": "default"}), "enabled").await;
    cloud.is(&m.id, "available", "enabled").await;
    holds(&cloud.here, m, 4).await.expect("what was written in between");
}

const DB: &str = "BLOCKSTORE_REPLICATION_DB";
const FIRST: &str = "BLOCKSTORE_REPLICATION_FIRST";
const SECOND: &str = "BLOCKSTORE_REPLICATION_SECOND";
const ASKED: &str = "BLOCKSTORE_REPLICATION_ASKED";

/// The process dies after every step once, and the next one carries on.
async fn killed(pair: &Pair, tiers: &Tiers) {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/killed.sqlite", dir.path().display());
    let db = Db::open(&url).await.unwrap();
    db.migrate(&state::tasks::MIGRATIONS).await.unwrap();
    let begun = cloud(db, tiers).await;
    begun.add_type().await;
    let v = begun.create("mirrored", Source::Empty).await;
    let p = begun.create("__DEFAULT__", Source::Empty).await;
    begun.kit.end().await;
    let at = Site { url: &url, pair, tiers };
    at.upkeep_goes_on(&p).await;
    groups::go_on(&at).await;
    let rounds = [
        ("fence", "far", "failed-over"),
        ("drain", "default", "enabled"),
        ("switch", "far", "failed-over"),
        ("finish", "default", "enabled"),
    ];
    for (byte, (step, to, ends)) in (10..).zip(rounds) {
        let asked = json!({"method": "PUT", "path": "/os-services/failover_host",
            "body": {"host": HOST, "backend_id": to}});
        at.dies(&format!("backend.failover:{step}:after"), asked).await;
        let next = at.next().await;
        next.ended(ends).await;
        next.is(&v.id, "available", ends).await;
        let (now, other) = match to {
            "far" => (&next.far, &next.here),
            _ => (&next.here, &next.far),
        };
        write(now, &v, byte).await;
        until("what was written comes over", || holds(other, &v, byte)).await;
        if step == "finish" {
            next.kit.delete(&v.id).await;
        }
        next.kit.settled().await;
        next.kit.end().await;
    }
}

/// Where processes die one after the other.
struct Site<'a> {
    url: &'a str,
    pair: &'a Pair,
    tiers: &'a Tiers,
}

impl Site<'_> {
    /// Another process does what is asked for, and what was left to do, until it dies at this point.
    async fn dies(&self, point: &str, asked: Value) {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--ignored", "--exact", "victim", "--nocapture"]);
        child.env("AQUIFER_FAILPOINTS", format!("{point}=abort")).env(ASKED, asked.to_string());
        child.env(DB, self.url).env(FIRST, self.pair.first.conf()).env(SECOND, self.pair.second.conf());
        child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).kill_on_drop(true);
        let ended = tokio::time::timeout(Duration::from_secs(60), child.status()).await;
        let status = ended.unwrap_or_else(|_| panic!("{point}: nobody died")).unwrap();
        assert!(std::os::unix::process::ExitStatusExt::signal(&status).is_some(), "{point}: {status}");
    }

    async fn next(&self) -> Cloud {
        cloud(Db::open(self.url).await.unwrap(), self.tiers).await
    }

    /// A volume becomes mirrored, and is so no more, with a death after each thing that follows from that.
    async fn upkeep_goes_on(&self, p: &Volume) {
        let retype = |kind: &str| {
            json!({"method": "POST", "path": format!("/volumes/{}/action", p.id),
                "body": {"os-retype": {"new_type": kind, "migration_policy": "never"}}})
        };
        self.dies("volume.replicate:replicate:after", retype("mirrored")).await;
        self.dies("volume.follow:follow:after", Value::Null).await;
        let next = self.next().await;
        next.kit.settled().await;
        next.is(&p.id, "available", "enabled").await;
        write(&next.here, p, 30).await;
        until("what was written comes over", || holds(&next.far, p, 30)).await;
        next.kit.end().await;
        self.dies("volume.replicate:replicate:after", retype("__DEFAULT__")).await;
        self.dies("volume.forget:forget:after", Value::Null).await;
        let next = self.next().await;
        next.kit.settled().await;
        next.is(&p.id, "available", "disabled").await;
        let left = next.far.pool.rbd().open_read_only(&p.image_name()).await.optional().unwrap();
        assert!(left.is_none(), "its copy is gone");
        holds(&next.here, p, 30).await.expect("what was written");
        next.kit.delete(&p.id).await;
        next.kit.settled().await;
        next.kit.end().await;
    }
}

#[tokio::test]
#[ignore = "run by the other test, to die"]
async fn victim() {
    let Ok(url) = std::env::var(DB) else { return };
    state::failpoint::from_env().unwrap();
    let path = |name| std::env::var(name).unwrap();
    let tiers = tiers(Path::new(&path(FIRST)), Path::new(&path(SECOND))).await;
    let cloud = cloud(Db::open(&url).await.unwrap(), &tiers).await;
    let asked: Value = serde_json::from_str(&path(ASKED)).unwrap();
    if let (Some(method), Some(path)) = (asked["method"].as_str(), asked["path"].as_str()) {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        cloud.kit.call("admin", method, path, asked["body"].clone()).await;
    }
    std::future::pending::<()>().await;
}

/// Without the first cluster: by force, but for what never came over whole.
async fn lost(cloud: &Cloud, m: &Volume, n: &Volume) {
    cloud.fails_over(json!({"host": HOST}), "failed-over").await;
    cloud.is(&m.id, "available", "failed-over").await;
    cloud.is(&n.id, "error", "failover-error").await;
    holds(&cloud.far, m, 5).await.expect("what came over");
    write(&cloud.far, m, 6).await;
}

/// The first cluster is back, and thinks that nothing has happened.
async fn returned(cloud: &Cloud, m: &Volume, p: &Volume, n: &Volume) {
    write(&cloud.here, m, 7).await;
    cloud.fails_over(json!({"host": HOST, "backend_id": "default"}), "enabled").await;
    for (v, replication) in [(m, "enabled"), (n, "enabled"), (p, "disabled")] {
        cloud.is(&v.id, "available", replication).await;
    }
    holds(&cloud.here, m, 6).await.expect("what was written while it was away");
    for v in [m, n, p] {
        let path = format!("/volumes/{}?cascade=true", v.id);
        let (status, body) = cloud.kit.call("alice", Method::DELETE, &path, Value::Null).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        cloud.kit.gone(&v.id).await;
    }
}
