//! Volumes in numbers and sizes: many at once, large ones with many snapshots; what copies cost that are
//! none; what an incremental backup costs beside a full one.

use crate::cloud::{Cloud, Session, id};
use crate::command::run;
use crate::report::Report;
use crate::volumes::tier;
use crate::{BenchError, Result};
use bytes::Bytes;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use rand::Rng;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(crate) const VOLUMES: &str = "/volume/v3/volumes";
/// Made at once.
const AT_ONCE: usize = 200;
const SNAPSHOTS: usize = 100;
/// The content of the volume that becomes an image, and of the one that is backed up.
const IMAGED_MIB: u64 = 10 << 10;
const BACKED_UP_MIB: u64 = 2 << 10;

/// The demo project has a small quota, as everybody's.
pub(crate) const SETTINGS: &str = "[volume]\nquota = { volumes = -1, snapshots = -1, gigabytes = -1, backups = -1, \
    backup_gigabytes = -1, per_volume_gigabytes = -1, groups = -1 }\n";

pub(crate) async fn volumes(cloud: &mut Cloud, runs: usize, report: &mut Report) -> Result<()> {
    cloud.configure(SETTINGS)?;
    let session = cloud.session().await?;
    many(&session, report).await?;
    large(&session, runs.min(3), report).await?;
    to_image(cloud, &session, runs.min(3), report).await?;
    backups(cloud, &session, runs.min(3), report).await?;
    cloud.configure("")
}

pub(crate) async fn create(session: &Session, volume: Value) -> Result<String> {
    id(&session.call("POST", VOLUMES, Some(json!({"volume": volume}))).await?["volume"])
}

pub(crate) async fn ready(session: &Session, volume: &str) -> Result<()> {
    session.until(&format!("{VOLUMES}/{volume}"), "/volume/status", "available").await
}

/// Nothing is on its way to be a volume, or not to be one.
pub(crate) async fn all_done(session: &Session) -> Result<()> {
    for status in ["creating", "deleting", "error"] {
        let path = format!("{VOLUMES}?limit=1&status={status}");
        while session.call("GET", &path, None).await?["volumes"].as_array().is_some_and(|l| !l.is_empty()) {
            if status == "error" {
                return Err(BenchError::Said("a volume has come to be in error".into()));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}

/// So many clones of the image, from the first request until the last is available.
async fn many(session: &Session, report: &mut Report) -> Result<()> {
    let image = session.image().await?;
    let began = Instant::now();
    let all = (0..AT_ONCE).map(|_| create(session, json!({"size": 1, "imageRef": image})));
    let made = try_join_all(all).await?;
    all_done(session).await?;
    let took = began.elapsed();
    report.plain("200 volumes from an image at once, until the last is available", &[took], "8 s");
    delete(session, made).await
}

pub(crate) async fn delete(session: &Session, volumes: Vec<String>) -> Result<()> {
    for some in volumes.chunks(50) {
        let paths: Vec<_> = some.iter().map(|v| format!("{VOLUMES}/{v}?cascade=true")).collect();
        try_join_all(paths.iter().map(|p| session.call("DELETE", p, None))).await?;
    }
    all_done(session).await
}

/// A volume of 1 TiB with 100 snapshots: what the client waits for when it deletes it.
async fn large(session: &Session, runs: usize, report: &mut Report) -> Result<()> {
    let (mut replies, mut gone) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let volume = create(session, json!({"size": 1024})).await?;
        ready(session, &volume).await?;
        for _ in 0..SNAPSHOTS {
            let body = json!({"snapshot": {"volume_id": volume, "force": true}});
            let made = session.call("POST", "/volume/v3/snapshots", Some(body)).await?;
            let path = format!("/volume/v3/snapshots/{}", id(&made["snapshot"])?);
            session.until(&path, "/snapshot/status", "available").await?;
        }
        let path = format!("{VOLUMES}/{volume}");
        let began = Instant::now();
        session.call("DELETE", &format!("{path}?cascade=true"), None).await?;
        replies.push(began.elapsed());
        session.gone(&path).await?;
        gone.push(began.elapsed());
    }
    report.plain("delete of 1 TiB with 100 snapshots: the reply", &replies, "100 ms");
    report.plain("the same, until all of it is gone", &gone, "–");
    Ok(())
}

/// A volume with content into an image, against a copy by `rbd`.
async fn to_image(cloud: &Cloud, session: &Session, runs: usize, report: &mut Report) -> Result<()> {
    let volume = filled(cloud, session, IMAGED_MIB).await?;
    let (mut ours, mut copied) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let began = Instant::now();
        let image = image_of(session, &volume).await?;
        ours.push(began.elapsed());
        session.call("DELETE", &format!("/image/v2/images/{image}"), None).await?;
        ready(session, &volume).await?;
    }
    // Once: it takes as long as all the rest.
    copied.push(copy(cloud, &format!("volume-{volume}"))?);
    report.against("volume with 10 GiB in it → image (`rbd cp`)", &ours, &copied, "0.01×");
    delete(session, vec![volume]).await
}

/// An image that shares a volume's bytes.
pub(crate) async fn image_of(session: &Session, volume: &str) -> Result<String> {
    let body = json!({"os-volume_upload_image": {"image_name": "bench", "disk_format": "raw",
        "container_format": "bare", "force": true}});
    let made = session.call("POST", &format!("{VOLUMES}/{volume}/action"), Some(body)).await?;
    let made = made["os-volume_upload_image"]["image_id"].as_str().unwrap_or_default().to_owned();
    session.until(&format!("/image/v2/images/{made}"), "/status", "active").await?;
    Ok(made)
}

/// Backed up in full, and again after 1% has changed: the time, and what the OSDs have read for it.
async fn backups(cloud: &Cloud, session: &Session, runs: usize, report: &mut Report) -> Result<()> {
    let volume = filled(cloud, session, BACKED_UP_MIB).await?;
    let rbd = rbd(cloud).await?;
    let changed = BACKED_UP_MIB / 100;
    let (mut full, mut part, mut read) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        full.push(back_up(session, &volume, false).await?);
        let at = u64::try_from(run).unwrap_or_default() * 100;
        write(&rbd, &format!("volume-{volume}"), at..at + changed).await?;
        let before = cloud.bytes_read()?;
        part.push(back_up(session, &volume, true).await?);
        read.push((cloud.bytes_read()? - before) as f64 / f64::from(1u32 << 20));
    }
    read.sort_by(f64::total_cmp);
    let read = read.get(read.len() / 2).copied().unwrap_or_default();
    report.against("backup after 1% has changed (a full one)", &part, &full, "0.05×");
    report.sizes("what it reads of the volume's 2 GiB (what has changed)", read, changed as f64, "1.1×");
    delete(session, vec![volume]).await
}

async fn rbd(cloud: &Cloud) -> Result<pool::Rbd> {
    let clusters = pool::Clusters::connect(&[pool::ClusterConfig::new("bench", cloud.ceph_conf())]).await?;
    Ok(pool::Tiers::new(&clusters, &[tier("volumes")])?.get("volumes")?.pool.rbd())
}

/// A volume of 10 GiB that begins with so many MiB of random bytes.
async fn filled(cloud: &Cloud, session: &Session, mib: u64) -> Result<String> {
    let volume = create(session, json!({"size": 10})).await?;
    ready(session, &volume).await?;
    write(&rbd(cloud).await?, &format!("volume-{volume}"), 0..mib).await?;
    Ok(volume)
}

/// Random bytes into these MiB.
async fn write(rbd: &pool::Rbd, image: &str, range: std::ops::Range<u64>) -> Result<()> {
    let image = rbd.open(image).await?;
    let blocks = range.map(|mib| {
        let image = image.clone();
        async move {
            let mut block = vec![0u8; 1 << 20];
            rand::rng().fill_bytes(&mut block);
            image.write_at(mib << 20, Bytes::from(block)).await
        }
    });
    stream::iter(blocks).buffer_unordered(16).try_collect::<Vec<()>>().await?;
    image.flush().await?;
    Ok(image.close().await?)
}

fn copy(cloud: &Cloud, image: &str) -> Result<Duration> {
    let rbd = |args: &[&str]| run(cloud.tool("rbd")?.arg("--no-progress").args(args));
    let began = Instant::now();
    rbd(&["cp", &format!("volumes/{image}"), "volumes/bench-copy"])?;
    let took = began.elapsed();
    rbd(&["rm", "volumes/bench-copy"])?;
    Ok(took)
}

async fn back_up(session: &Session, volume: &str, incremental: bool) -> Result<Duration> {
    let began = Instant::now();
    let body = json!({"backup": {"volume_id": volume, "incremental": incremental}});
    let made = session.call("POST", "/volume/v3/backups", Some(body)).await?;
    let path = format!("/volume/v3/backups/{}", id(&made["backup"])?);
    session.until(&path, "/backup/status", "available").await?;
    let took = began.elapsed();
    ready(session, volume).await?;
    Ok(took)
}
