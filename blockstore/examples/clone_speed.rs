//! How long a volume from an image takes from request to `available`, side by side with librbd's own clone (and
//! resize) of the same image on the same cluster.
//!
//! `AQUIFER_TEST_CEPH=/path/ceph.conf cargo run --release -p blockstore --example clone_speed [ROUNDS]`

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints a table")]

#[path = "../tests/kit/mod.rs"]
mod kit;

use blockstore::{NewVolume, Source, VolumeStatus};
use bytes::Bytes;
use kit::{GIB, ctx};
use pool::CreateOptions;
use std::time::{Duration, Instant};

fn median(mut all: Vec<Duration>) -> f64 {
    all.sort_unstable();
    all[all.len() / 2].as_secs_f64() * 1000.0
}

#[tokio::main]
async fn main() {
    let rounds: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(30);
    for kit in kit::kits().await {
        let image = kit.image(Bytes::from(vec![7; 8 << 20])).await;
        let rbd = kit.tier.pool.rbd();
        let (mut bare, mut sized, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        let (mut volumes, mut accepted) = (Vec::new(), Vec::new());
        for i in 0..rounds {
            let name = format!("bare-{i}");
            let began = Instant::now();
            rbd.clone_image(&image, "snap", &kit.tier.pool, &name, CreateOptions::default()).await.unwrap();
            bare.push(began.elapsed());
            let opened = rbd.open(&name).await.unwrap();
            opened.resize(GIB, false).await.unwrap();
            opened.close().await.unwrap();
            sized.push(began.elapsed());

            let new =
                NewVolume { size_gib: Some(1), source: Source::Image(image.clone()), ..NewVolume::default() };
            let began = Instant::now();
            let volume = kit.volumes.create(&ctx("admin"), new).await;
            let volume = match volume {
                Ok(v) => v,
                Err(e) => panic!("{e}"),
            };
            accepted.push(began.elapsed());
            let mut signal = kit.db.signal(&blockstore::Volumes::topic(&volume.id));
            loop {
                let now = kit.volumes.get(&ctx("admin"), &volume.id).await.unwrap();
                if now.status == VolumeStatus::Available {
                    break;
                }
                signal.wait(Duration::from_millis(50)).await;
            }
            ours.push(began.elapsed());
            volumes.push(volume.id);
        }
        let (bare, sized, ours) = (median(bare), median(sized), median(ours));
        println!("{:?}, median of {rounds}:", kit.db.engine());
        println!("  librbd clone alone            {bare:7.1} ms");
        println!("  librbd clone, open, resize    {sized:7.1} ms");
        println!("  request accepted              {:7.1} ms", median(accepted));
        println!("  request to available          {ours:7.1} ms   {:.2} x the clone alone", ours / bare);
        for id in volumes {
            kit.volumes.delete(&ctx("admin"), &id).await.unwrap();
        }
        kit.settled().await;
    }
}
