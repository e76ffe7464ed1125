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
#[path = "torture/user.rs"]
mod user;

use chaos::{Chaos, number};
use client::Client;
use std::sync::Arc;
use user::User;

const CLIENTS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_cloud_is_what_the_models_say() {
    let seconds = number("AQUIFER_TORTURE_SECONDS", 60);
    let seed = number("AQUIFER_TORTURE_SEED", rand::random());
    eprintln!("AQUIFER_TORTURE_SEED={seed}");
    // Clones of clones of clones are copies.
    let config =
        cloud::config("trash_sweep_s = 5\n[volume]\nmax_clone_depth = 2\n[image]\nmax_clone_depth = 2\n");
    let (cloud, wire) = chaos::wired(&["--config", config.path().to_str().unwrap()]).await;
    check::raise_quotas(&cloud).await;
    check::make_types(&cloud).await;
    let session = Arc::new(cloud.demo().await);
    let disks = model::Disks::open(&cloud).await;
    let chaos = Chaos::new(cloud, wire, seed);
    let clients = (0..CLIENTS).map(|n| {
        let client = Client::new(n, seed, User(session.clone()), disks.clone(), chaos.clone());
        |end| client.run(end)
    });
    let whole = model::Model::sum(chaos.with(seconds, clients).await);
    eprintln!("{whole:#}, after {}", chaos.told());
    check::the_cloud_is(&whole, &session, &disks).await;
    check::everything_goes(&whole, &session, &disks).await;
}
