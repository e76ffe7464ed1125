//! Volumes of one and of 1,024 GiB, from an image, a snapshot and a volume of that size: request → available, against
//! librbd's own clone of the same parent. A clone of a volume takes a snapshot first, on either side.

use crate::Result;
use crate::cloud::{Cloud, Session, id};
use crate::jobs::{self, VOLUMES, create, image_of, ready};
use crate::report::Report;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SIZES: [(u64, &str); 2] = [(1, "1 GiB"), (1024, "1 TiB")];

/// What a volume is made of: what the request says, and what librbd clones.
struct Source {
    what: &'static str,
    request: Value,
    pool: pool::Pool,
    image: String,
    /// `None` where there is no snapshot yet.
    snap: Option<String>,
}

pub(crate) async fn clones(cloud: &mut Cloud, runs: usize, report: &mut Report) -> Result<()> {
    cloud.configure(jobs::SETTINGS)?;
    let session = cloud.session().await?;
    let clusters = pool::Clusters::connect(&[pool::ClusterConfig::new("bench", cloud.ceph_conf())]).await?;
    let tiers = pool::Tiers::new(&clusters, &[tier("images"), tier("volumes")])?;
    let (images, volumes) = (tiers.get("images")?.pool, tiers.get("volumes")?.pool);
    for (gib, size) in SIZES {
        let base = create(&session, json!({"size": gib})).await?;
        ready(&session, &base).await?;
        let image = image_of(&session, &base).await?;
        ready(&session, &base).await?;
        let snapshot = snapshot(&session, &base).await?;
        let of_volume = format!("volume-{base}");
        let sources = [
            Source {
                what: "image",
                request: json!({"size": gib, "imageRef": image}),
                pool: images.clone(),
                image: image.clone(),
                snap: Some("snap".into()),
            },
            Source {
                what: "snapshot",
                request: json!({"size": gib, "snapshot_id": snapshot}),
                pool: volumes.clone(),
                image: of_volume.clone(),
                snap: Some(format!("snapshot-{snapshot}")),
            },
            Source {
                what: "volume",
                request: json!({"size": gib, "source_volid": base}),
                pool: volumes.clone(),
                image: of_volume,
                snap: None,
            },
        ];
        for source in &sources {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for run in 0..=runs {
                let bare = source.librbd(&volumes).await?;
                let took = source.api(&session).await?;
                if run > 0 {
                    theirs.push(bare);
                    ours.push(took);
                }
            }
            let what = format!("{size} volume from {}, request → available (librbd clone)", source.what);
            report.against(&what, &ours, &theirs, "2×");
        }
        session.call("DELETE", &format!("/image/v2/images/{image}"), None).await?;
        jobs::delete(&session, vec![base]).await?;
    }
    cloud.configure("")
}

async fn snapshot(session: &Session, volume: &str) -> Result<String> {
    let body = json!({"snapshot": {"volume_id": volume}});
    let made = id(&session.call("POST", "/volume/v3/snapshots", Some(body)).await?["snapshot"])?;
    session.until(&format!("/volume/v3/snapshots/{made}"), "/snapshot/status", "available").await?;
    Ok(made)
}

impl Source {
    async fn api(&self, session: &Session) -> Result<Duration> {
        let began = Instant::now();
        let volume = create(session, self.request.clone()).await?;
        ready(session, &volume).await?;
        let took = began.elapsed();
        let path = format!("{VOLUMES}/{volume}");
        session.call("DELETE", &path, None).await?;
        session.gone(&path).await?;
        Ok(took)
    }

    async fn librbd(&self, volumes: &pool::Pool) -> Result<Duration> {
        const CHILD: &str = "bench-clone";
        let rbd = self.pool.rbd();
        let began = Instant::now();
        let snap = match &self.snap {
            Some(snap) => snap.clone(),
            None => {
                let parent = rbd.open(&self.image).await?;
                parent.snap_create(CHILD).await?;
                parent.close().await?;
                CHILD.to_owned()
            }
        };
        rbd.clone_image(&self.image, &snap, volumes, CHILD, pool::CreateOptions::default()).await?;
        let took = began.elapsed();
        volumes.rbd().remove(CHILD).await?;
        if self.snap.is_none() {
            let parent = rbd.open(&self.image).await?;
            parent.snap_remove(CHILD).await?;
            parent.close().await?;
        }
        Ok(took)
    }
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
