//! Whether the cloud is what the models say.

use crate::client::{BACKUP, SNAPSHOT, VOLUME};
use crate::cloud::{Cloud, Session};
use crate::model::{Disks, Model, TIERS};
use crate::user::{IMAGE, Kind, status};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The background may take so long to clear away what was deleted.
const PATIENCE: Duration = Duration::from_secs(120);

/// Random work wants more than the default quotas.
pub async fn raise_quotas(cloud: &Cloud) {
    let (admin, demo) = (cloud.admin().await, cloud.demo().await);
    let most = json!({"quota_set": {"volumes": 1000, "snapshots": 1000, "gigabytes": 10000, "backups": 1000,
        "backup_gigabytes": 10000}});
    admin.ok("PUT", &format!("/volume/v3/os-quota-sets/{}", demo.project().await), Some(most)).await;
}

/// A type for each tier.
pub async fn make_types(cloud: &Cloud) {
    let admin = cloud.admin().await;
    for tier in TIERS {
        let specs = json!({"volume_backend_name": tier});
        let body = json!({"volume_type": {"name": tier, "extra_specs": specs}});
        admin.ok("POST", "/volume/v3/types", Some(body)).await;
    }
}

/// All rows, all images in the pools, all usage and every byte.
pub async fn the_cloud_is(model: &Model, session: &Session, disks: &Disks) {
    let snapshots: BTreeSet<String> = model.snapshots().map(|(_, (id, ..))| id.clone()).collect();
    for (kind, ids) in [
        (VOLUME, model.volumes.keys().cloned().collect()),
        (SNAPSHOT, snapshots.clone()),
        (BACKUP, model.backups.keys().cloned().collect::<BTreeSet<_>>()),
        (IMAGE, model.images.keys().cloned().collect()),
    ] {
        let there = rows(session, kind).await;
        let known: BTreeSet<String> = there.iter().map(|r| text(&r["id"])).collect();
        assert_eq!(known, ids, "{}", kind.many);
    }
    at_rest(session, model).await;
    let gib = model.volumes.values().map(|v| v.size).sum::<u64>()
        + model.snapshots().map(|(_, (_, size, _))| size).sum::<u64>();
    used(session, [model.volumes.len() as u64, snapshots.len() as u64, model.backups.len() as u64, gib])
        .await;
    let wanted: BTreeSet<String> = model.volumes.keys().map(|id| format!("volume-{id}")).collect();
    in_pool(disks, "volume-", wanted).await;

    for (id, v) in &model.volumes {
        let now = disks.volume(id).await;
        if now != v.content {
            let seen = disks.tell(id, &v.snapshots).await;
            panic!("volume {id} holds {now:?}, not {:?}: {:#?}\n{seen}", v.content, v.history);
        }
    }
    for (volume, (id, _, content)) in model.snapshots() {
        assert_eq!(disks.snapshot(volume, id).await, *content, "snapshot {id} of volume {volume}");
    }
    for (id, (_, content)) in &model.images {
        assert_eq!(disks.image(id).await, *content, "image {id}");
    }
    for (id, (size, content)) in &model.backups {
        let body = json!({"volume": {"size": size, "backup_id": id}});
        let volume = text(&session.ok("POST", VOLUME.path, Some(body)).await["volume"]["id"]);
        let path = format!("{}/{volume}", VOLUME.path);
        session.until(&path, "/volume/status", "available").await;
        assert_eq!(disks.volume(&volume).await, *content, "backup {id}");
        session.ok("DELETE", &path, None).await;
        session.until_gone(&path).await;
    }
}

/// Everything can be deleted, and nothing is left of it.
pub async fn everything_goes(model: &Model, session: &Session, disks: &Disks) {
    for id in model.volumes.keys() {
        session.ok("DELETE", &format!("{}/{id}?cascade=True", VOLUME.path), None).await;
    }
    for id in model.images.keys() {
        session.ok("DELETE", &format!("{}/{id}", IMAGE.path), None).await;
    }
    let mut left: Vec<_> = model.backups.keys().collect();
    let end = Instant::now() + PATIENCE;
    while !left.is_empty() {
        let mut stay = Vec::new();
        for id in left {
            // One that others build on goes after them.
            let path = format!("{}/{id}", BACKUP.path);
            match session.call("DELETE", &path, None).await {
                (200..=299, _) => session.until_gone(&path).await,
                (400, _) => stay.push(id),
                other => panic!("DELETE {path}: {other:?}"),
            }
        }
        left = stay;
        assert!(Instant::now() < end, "backups stay: {left:?}");
    }
    for id in model.volumes.keys() {
        session.until_gone(&format!("{}/{id}", VOLUME.path)).await;
    }
    used(session, [0; 4]).await;
    in_pool(disks, "", BTreeSet::new()).await;
}

/// What a kind has; of images those that this test has made.
async fn rows(session: &Session, kind: Kind) -> Vec<Value> {
    let body = session.ok("GET", kind.path, None).await;
    let mut all = body[kind.many].as_array().unwrap().clone();
    all.retain(|row| kind.many != "images" || text(&row["name"]).starts_with("torture-"));
    all
}

async fn at_rest(session: &Session, model: &Model) {
    let images: Vec<_> = model.images.keys().map(|id| (IMAGE, id.clone())).collect();
    let volumes = model.volumes.keys().map(|id| (VOLUME, id.clone()));
    let snapshots = model.snapshots().map(|(_, (id, ..))| (SNAPSHOT, id.clone()));
    let backups = model.backups.keys().map(|id| (BACKUP, id.clone()));
    for (kind, id) in volumes.chain(snapshots).chain(backups).chain(images) {
        let body = session.ok("GET", &format!("{}/{id}", kind.path), None).await;
        let status = status(kind, &body);
        assert!(matches!(&*status, "available" | "active"), "{} {id} is {status}: {body}", kind.one);
    }
}

/// Volumes, snapshots, backups, GiB of volumes and snapshots.
async fn used(session: &Session, wanted: [u64; 4]) {
    let limits = session.ok("GET", "/volume/v3/limits", None).await["limits"]["absolute"].clone();
    let now = ["totalVolumesUsed", "totalSnapshotsUsed", "totalBackupsUsed", "totalGigabytesUsed"]
        .map(|key| limits[key].as_u64().unwrap());
    assert_eq!(now, wanted, "usage: {limits}");
}

/// Of the images whose names begin so, the volumes' pools have these alone; the background may have some work to do yet.
async fn in_pool(disks: &Disks, prefix: &str, wanted: BTreeSet<String>) {
    let [near, far] = &disks.tiers;
    let end = Instant::now() + PATIENCE;
    loop {
        let all = [near.rbd().list().await.unwrap(), far.rbd().list().await.unwrap()].concat();
        let there: BTreeSet<String> = all.into_iter().filter(|n| n.starts_with(prefix)).collect();
        if there == wanted {
            return;
        }
        let ghosts: Vec<_> = there.symmetric_difference(&wanted).collect();
        assert!(Instant::now() < end, "rows and images differ: {ghosts:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn text(v: &Value) -> String {
    v.as_str().unwrap().to_owned()
}
