//! Volumes in numbers and sizes: many at once, long lists, large ones with many snapshots; what copies cost that are
//! none; what an incremental backup costs beside a full one.

use crate::cloud::{Cloud, Session, id};
use crate::report::Report;
use crate::volumes::tier;
use crate::{BenchError, Result};
use bytes::Bytes;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use rand::Rng;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const VOLUMES: &str = "/volume/v3/volumes";
/// Made at once.
const AT_ONCE: usize = 200;
/// In the list.
const LISTED: usize = 1000;
const SNAPSHOTS: usize = 100;
/// A volume's content, where it matters.
const USED_MIB: u64 = 2048;

/// The demo project has a small quota, as everybody's.
const SETTINGS: &str = "[volume]\nquota = { volumes = -1, snapshots = -1, gigabytes = -1, backups = -1, \
    backup_gigabytes = -1, per_volume_gigabytes = -1, groups = -1 }\n";

pub(crate) async fn volumes(cloud: &mut Cloud, runs: usize, report: &mut Report) -> Result<()> {
    cloud.configure(SETTINGS)?;
    let session = cloud.session().await?;
    many(&session, report).await?;
    list(&session, runs, report).await?;
    large(&session, runs.min(3), report).await?;
    copies(cloud, &session, runs.min(3), report).await?;
    cloud.configure("")
}

async fn create(session: &Session, volume: Value) -> Result<String> {
    id(&session.call("POST", VOLUMES, Some(json!({"volume": volume}))).await?["volume"])
}

async fn ready(session: &Session, volume: &str) -> Result<()> {
    session.until(&format!("{VOLUMES}/{volume}"), "/volume/status", "available").await
}

/// Nothing is on its way to be a volume, or not to be one.
async fn all_done(session: &Session) -> Result<()> {
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

async fn delete(session: &Session, volumes: Vec<String>) -> Result<()> {
    for some in volumes.chunks(50) {
        let paths: Vec<_> = some.iter().map(|v| format!("{VOLUMES}/{v}?cascade=true")).collect();
        try_join_all(paths.iter().map(|p| session.call("DELETE", p, None))).await?;
    }
    all_done(session).await
}

async fn list(session: &Session, runs: usize, report: &mut Report) -> Result<()> {
    let mut made = Vec::new();
    for _ in 0..LISTED / 50 {
        made.extend(try_join_all((0..50).map(|_| create(session, json!({"size": 1})))).await?);
    }
    all_done(session).await?;
    let mut times = Vec::new();
    for run in 0..=runs {
        let began = Instant::now();
        let found = session.call("GET", &format!("{VOLUMES}/detail?limit={LISTED}"), None).await?;
        let took = began.elapsed();
        let n = found["volumes"].as_array().map_or(0, Vec::len);
        if n != LISTED {
            return Err(BenchError::Said(format!("the list has {n} volumes")));
        }
        if run > 0 {
            times.push(took);
        }
    }
    report.plain("a list of 1,000 volumes in detail", &times, "–");
    delete(session, made).await
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

/// A volume with content: into an image, against a copy by `rbd`; backed up in full, and again after 1% has changed.
async fn copies(cloud: &Cloud, session: &Session, runs: usize, report: &mut Report) -> Result<()> {
    let clusters = pool::Clusters::connect(&[pool::ClusterConfig::new("bench", cloud.ceph_conf())]).await?;
    let tiers = pool::Tiers::new(&clusters, &[tier("volumes")])?;
    let rbd = tiers.get("volumes")?.pool.rbd();
    let volume = create(session, json!({"size": 10})).await?;
    ready(session, &volume).await?;
    let image = format!("volume-{volume}");
    write(&rbd, &image, 0..USED_MIB).await?;
    let (mut ours, mut copied, mut full, mut part) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        let began = Instant::now();
        let body = json!({"os-volume_upload_image": {"image_name": "bench", "disk_format": "raw",
            "container_format": "bare", "force": true}});
        let path = format!("{VOLUMES}/{volume}/action");
        let made = session.call("POST", &path, Some(body)).await?;
        let made = made["os-volume_upload_image"]["image_id"].as_str().unwrap_or_default().to_owned();
        let path = format!("/image/v2/images/{made}");
        session.until(&path, "/status", "active").await?;
        ours.push(began.elapsed());
        session.call("DELETE", &path, None).await?;
        ready(session, &volume).await?;
        copied.push(copy(cloud, &image)?);
        full.push(back_up(session, &volume, false).await?);
        let at = u64::try_from(run).unwrap_or_default() * 100;
        write(&rbd, &image, at..at + USED_MIB / 100).await?;
        part.push(back_up(session, &volume, true).await?);
    }
    report.against("volume with 2 GiB in it → image (`rbd cp`)", &ours, &copied, "0.01×");
    report.against("backup after 1% has changed (a full one)", &part, &full, "0.05×");
    delete(session, vec![volume]).await
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
    let rbd = |args: &[&str]| -> Result<()> {
        let conf = cloud.ceph_conf();
        crate::images::run(cloud.beside_engines("rbd")?.arg("-c").arg(conf).arg("--no-progress").args(args))
    };
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
