//! Torture of images: several clients upload, stage, import, copy, share, change, deactivate and delete images, and leave
//! uploads half done, while `aquifer` is killed, the OSD hangs, the database is away and the pools are full. In the end
//! the cloud is exactly what the clients' models say, in rows, pools and usage; and every byte is the model's, also of
//! each download on the way.
//!
//! 25 seconds of trouble by itself; `AQUIFER_TORTURE_SECONDS=7200` for two hours, `AQUIFER_TORTURE_SEED` to repeat a run's choices.

#![allow(clippy::unwrap_used, clippy::print_stderr, unreachable_pub)]

#[path = "torture/chaos.rs"]
mod chaos;
#[path = "torture/images/check.rs"]
mod check;
#[path = "torture/images/client.rs"]
mod client;
mod cloud;
#[path = "torture/images/library.rs"]
mod library;
#[path = "torture/images/model.rs"]
mod model;
#[path = "torture/images/upload.rs"]
mod upload;
#[path = "torture/user.rs"]
mod user;

use chaos::{Chaos, number};
use client::Client;
use library::Library;
use model::{Model, Pools};

const CLIENTS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_images_are_what_the_models_say() {
    let seconds = number("AQUIFER_TORTURE_SECONDS", 25);
    let seed = number("AQUIFER_TORTURE_SEED", rand::random());
    eprintln!("AQUIFER_TORTURE_SEED={seed}");
    let library = Library::open().await;
    let config = library.config();
    let (cloud, wire) = chaos::wired(&["--config", config.path().to_str().unwrap()]).await;
    let users = check::users(&cloud).await;
    let pools = Pools::open(&cloud).await;
    let chaos = Chaos::new(cloud, wire, seed);
    let clients = (0..CLIENTS).map(|n| {
        let client = Client::new(n, seed, users.clone(), library.clone(), chaos.clone());
        |end| client.run(end)
    });
    let whole = Model::sum(chaos.with(seconds, clients).await);
    eprintln!("{whole}, after {}", chaos.told());
    check::the_images_are(&whole, &users, &pools).await;
    check::everything_goes(&whole, &users, &pools).await;
}
