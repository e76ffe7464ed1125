//! Real engines for tests: a Ceph cluster, SQLite and PostgreSQL databases.
//!
//! The `testbed` program (`cargo run -p testbed -- exec cargo test`) starts one private Ceph and one
//! PostgreSQL for a whole test run and names them in the environment; this library hands every test a
//! place of its own in them. `AQUIFER_TEST_CEPH` is the path of a `ceph.conf`, `AQUIFER_TEST_PG` the URL
//! of a PostgreSQL in which databases may be made.

mod database;
#[cfg(feature = "pair")]
mod pair;

pub use database::{database_url, databases};
#[cfg(feature = "pair")]
pub use pair::{Pair, Site};

use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The cluster that this test run shares. A test takes a namespace of its own in its pool `rbd`, or a pool of
/// its own.
#[derive(Debug, Clone)]
pub struct Ceph {
    pub conf: PathBuf,
    /// The user without `client.`.
    pub user: &'static str,
}

/// The shared cluster.
///
/// # Panics
/// Where no cluster was started for this run; the message says how to start one.
pub fn ceph() -> &'static Ceph {
    static CEPH: LazyLock<Ceph> = LazyLock::new(|| {
        let conf = std::env::var_os("AQUIFER_TEST_CEPH").unwrap_or_else(|| {
            panic!(
                "no test cluster: run `make test`, or `cargo run -p testbed -- exec cargo test -p <crate>`"
            )
        });
        Ceph { conf: conf.into(), user: "admin" }
    });
    &CEPH
}

/// A name that no other test of this machine uses, for namespaces, pools, databases and folders.
pub fn unique(prefix: &str) -> String {
    static N: AtomicU32 = AtomicU32::new(0);
    let n = N.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{}-{n}", std::process::id(), &state::new_hex_id()[..6])
}
