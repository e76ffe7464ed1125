//! Volume from image, request → available, against librbd's own clone of the same image.

use crate::Result;
use crate::cloud::{Cloud, Session, id};
use crate::report::Report;
use serde_json::json;
use std::time::{Duration, Instant};

pub(crate) async fn from_image(
    cloud: &Cloud,
    session: &Session,
    runs: usize,
    report: &mut Report,
) -> Result<()> {
    let image = session.image().await?;
    let clusters = pool::Clusters::connect(&[pool::ClusterConfig::new("bench", cloud.ceph_conf())]).await?;
    let tiers = pool::Tiers::new(&clusters, &[tier("images"), tier("volumes")])?;
    let (images, volumes) = (tiers.get("images")?.pool, tiers.get("volumes")?.pool);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for run in 0..=runs {
        let name = format!("bench-{run}");
        let began = Instant::now();
        images.rbd().clone_image(&image, "snap", &volumes, &name, pool::CreateOptions::default()).await?;
        let clone = began.elapsed();
        volumes.rbd().remove(&name).await?;
        let took = one(session, &image).await?;
        if run > 0 {
            bare.push(clone);
            ours.push(took);
        }
    }
    report.against("volume from image, request → available (librbd clone)", &ours, &bare, "3×");
    Ok(())
}

async fn one(session: &Session, image: &str) -> Result<Duration> {
    let began = Instant::now();
    let body = json!({"volume": {"size": 1, "imageRef": image}});
    let volume = id(&session.call("POST", "/volume/v3/volumes", Some(body)).await?["volume"])?;
    let path = format!("/volume/v3/volumes/{volume}");
    session.until(&path, "/volume/status", "available").await?;
    let took = began.elapsed();
    session.call("DELETE", &path, None).await?;
    session.gone(&path).await?;
    Ok(took)
}

pub(crate) fn tier(name: &str) -> pool::TierConfig {
    pool::TierConfig {
        name: name.into(),
        cluster: "bench".into(),
        pool: name.into(),
        data_pool: None,
        namespace: None,
    }
}
