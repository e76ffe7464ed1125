//! Torture: several clients create, clone, snapshot, revert, extend, retype, write, back up, restore, upload and
//! delete at random, while `aquifer` is killed, the OSD hangs, the database is away and the pools are full. Every client keeps
//! a model of what it owns; in the end the cloud is exactly the models: every row has its image and every image its
//! row, nothing is stuck, usage is what is there, and every byte is the model's.
//!
//! A minute by itself; `AQUIFER_TORTURE_SECONDS=7200` for two hours, `AQUIFER_TORTURE_SEED` to repeat a run's choices.

#![allow(clippy::unwrap_used, clippy::print_stderr, unreachable_pub)]

#[path = "torture/chaos.rs"]
mod chaos;
#[path = "torture/check.rs"]
mod check;
#[path = "torture/client.rs"]
mod client;
mod cloud;
#[path = "torture/model.rs"]
mod model;

use chaos::Chaos;
use client::Client;
use cloud::Cloud;
use cloud::wire::Wire;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLIENTS: u64 = 4;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |v| v.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_cloud_is_what_the_models_say() {
    let seconds = number("AQUIFER_TORTURE_SECONDS", 60);
    let seed = number("AQUIFER_TORTURE_SEED", rand::random());
    eprintln!("AQUIFER_TORTURE_SEED={seed}");
    let url = testbed::database_url().await;
    let target = url.split('@').nth(1).unwrap().split('/').next().unwrap();
    let wire = Wire::to(target).await;
    let through = url.replacen(target, &format!("127.0.0.1:{}", wire.port), 1);
    let cloud = Cloud::up_with(&["--database", &through]);
    check::raise_quotas(&cloud).await;
    check::make_types(&cloud).await;
    let session = Arc::new(cloud.demo().await);
    let disks = model::Disks::open(&cloud).await;
    let chaos = Chaos::new(cloud, wire, seed);

    let end = Instant::now() + Duration::from_secs(seconds);
    let work = (0..CLIENTS).map(|n| {
        let client = Client::new(n, seed, session.clone(), disks.clone(), chaos.clone());
        tokio::spawn(client.run(end))
    });
    let work: Vec<_> = work.collect();
    let trouble = tokio::spawn(chaos.clone().run(end));
    let mut models = Vec::new();
    for client in work {
        models.push(client.await.unwrap());
    }
    trouble.await.unwrap();
    let whole = model::Model::sum(models);
    eprintln!("{whole:#}, after {}", chaos.told());
    check::the_cloud_is(&whole, &session, &disks).await;
    check::everything_goes(&whole, &session, &disks).await;
}
