//! Every operation on a real cluster. Each test has a namespace of its own.
//!
//! `lost` starts a private cluster and stops its OSD; it is where the memory safety of cancelled operations is
//! tried, and it is worth running under AddressSanitizer, which sees librados' copies into freed memory too
//! (nightly toolchain; about 3 minutes to build):
//!
//! ```text
//! ASAN_OPTIONS=detect_leaks=0 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=/tmp/pool-asan \
//!     cargo +nightly test --target x86_64-unknown-linux-gnu -p pool
//! ```
#![allow(clippy::unwrap_used)]

mod cluster;
mod deaf;
mod full;
mod images;
mod lost;
mod migration;
mod mirror;
mod objects;
mod ops;
mod streams;
mod trash;
mod watch;

use std::path::Path;

use pool::{Cluster, ClusterConfig, Clusters, Pool};

/// The shared cluster through a connection of this test's own.
async fn cluster() -> Cluster {
    connect(&testbed::ceph().conf).await
}

async fn connect(conf: &Path) -> Cluster {
    let config = ClusterConfig::new("test", conf);
    Clusters::connect(&[config]).await.unwrap().get("test").unwrap()
}

/// A namespace of this test's own for objects.
async fn space(name: &str) -> Pool {
    cluster().await.pool("rbd", Some(&testbed::unique(name)))
}

/// A namespace of this test's own for images.
async fn place(name: &str) -> Pool {
    let pool = space(name).await;
    pool.rbd().namespace_create(pool.namespace()).await.unwrap();
    pool
}
