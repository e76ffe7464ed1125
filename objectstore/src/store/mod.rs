//! The object store's rows: accounts, containers, bucket names, graves. Nothing here is on the path of an
//! object's GET or PUT.

pub(crate) mod accounts;
pub(crate) mod containers;
pub(crate) mod graves;
pub(crate) mod growth;
pub(crate) mod keys;
pub(crate) mod scrub;
pub(crate) mod syncs;
pub(crate) mod topics;

use state::Migrations;

/// The object store's tables.
pub const MIGRATIONS: Migrations = Migrations {
    service: "objectstore",
    steps: &[
        ("0001_containers", include_str!("../../migrations/0001_containers.sql")),
        ("0002_keys", include_str!("../../migrations/0002_keys.sql")),
        ("0003_topics", include_str!("../../migrations/0003_topics.sql")),
        ("0004_growth", include_str!("../../migrations/0004_growth.sql")),
        ("0005_scrub", include_str!("../../migrations/0005_scrub.sql")),
        ("0006_syncs", include_str!("../../migrations/0006_syncs.sql")),
    ],
};

/// Topic of changes to containers and accounts: whoever hears it drops what it remembers of them.
pub(crate) const CHANGED: &str = "objectstore.containers";
