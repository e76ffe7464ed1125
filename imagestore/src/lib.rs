//! Glance v2: images as RBD images that volumes and servers are cloned from.
//!
//! An image's disk is the RBD image `<id>` in its tier, with the snapshot `snap`: whoever needs the disk makes a
//! copy-on-write clone of that. What is uploaded streams straight into RBD, hashed on the way. A format that is not
//! the disk's own bytes (qcow2, VMDK, VDI, VHD, VHDX) is received as `<id>.orig`, inspected strictly
//! ([`inspect`]), and converted once, in this process: no other program ever reads an untrusted file.
//!
//! A download gives back what was uploaded, and `size`, `checksum` and `os_hash_value` speak of it, so the
//! original stays beside the disk ([`Config::keep_original`]).
//!
//! Bodies are received by the process that has the connection. Each has a row with a lease and a durable task that
//! looks after it (`tasks/watch.rs`): when the process dies, the image is `queued` again and nothing of it is left
//! in the pool. Everything else that takes time (import, clone of a volume, delete) is a durable task.

mod adopt;
mod cache;
mod config;
mod data;
mod download;
mod error;
mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod http;
mod images;
mod imports;
pub mod inspect;
mod listing;
mod locations;
mod members;
mod metadefs;
mod model;
mod patch;
mod policy;
mod protect;
mod provision;
mod quota;
mod signature;
mod store;
mod surroundings;
mod tasks;
mod transfer;
mod turns;
mod web;

pub use adopt::Adoption;
pub use config::{Config, RuleFormat};
pub use data::Body;
pub use error::ImageError;
pub use http::{router, routes};
pub use model::{
    Digest, Form, HashAlgorithm, Image, ImageSource, Member, MemberStatus, NewImage, RbdSource, Status,
    Visibility,
};
pub use policy::policy;
pub use surroundings::Surroundings;
pub use web::ImportFilter;

use api::{Links, Policy};
use data::Blobs;
use pool::Tiers;
use state::{Db, Operation};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The images' tables.
pub const MIGRATIONS: state::Migrations = state::Migrations {
    service: "image",
    steps: &[
        ("0001_images", include_str!("../migrations/0001_images.sql")),
        ("0002_metadefs", include_str!("../migrations/0002_metadefs.sql")),
        ("0003_copies", include_str!("../migrations/0003_copies.sql")),
        ("0004_cache", include_str!("../migrations/0004_cache.sql")),
    ],
};

/// The snapshot of an image's RBD image that clones are made from, as Glance names it.
pub const SNAP: &str = "snap";

/// The image service. Its public functions check what the caller of the [`api::Context`] may do.
pub struct Images {
    db: Db,
    tiers: Tiers,
    config: Config,
    links: Links,
    policy: Policy,
    protections: Option<protect::Protections>,
    /// The uploads that this process is receiving: a row of this node that is not here is of an earlier life.
    receiving: Mutex<HashSet<String>>,
    turns: turns::Turns,
    around: OnceLock<Arc<dyn Surroundings>>,
    /// A property, and the kind of the task that is to follow the deletion of an image which has it.
    followed: OnceLock<(&'static str, &'static str)>,
    /// The tokens that other clouds' images are fetched with, by task.
    tokens: fetch::Tokens,
}

impl Images {
    /// Needs the tiers that the configuration names, and asks nothing of them yet.
    pub fn new(db: Db, tiers: Tiers, config: Config, links: Links) -> Result<Arc<Images>, ImageError> {
        let policy = policy::policy()?;
        if let Some(file) = &config.policy_file {
            policy.load(file).map_err(|e| ImageError::Config(e.to_string()))?;
        }
        for tier in config.all_tiers() {
            tiers.get(tier).map_err(|e| ImageError::Config(e.to_string()))?;
        }
        imports::check_methods(&config)?;
        let protections = protect::Protections::load(&config)?;
        let (receiving, turns) = (Mutex::default(), turns::Turns::new(config.imports_at_once));
        let (around, tokens) = (OnceLock::new(), fetch::Tokens::default());
        Ok(Arc::new(Images {
            db,
            tiers,
            config,
            links,
            policy,
            protections,
            receiving,
            turns,
            around,
            followed: OnceLock::new(),
            tokens,
        }))
    }

    /// Lets the images know the cloud around them; before the first request, and once. Without it, nothing is limited
    /// but by the configuration, and no other region is known.
    pub fn surround(&self, around: Arc<dyn Surroundings>) {
        if self.around.set(around).is_err() {
            tracing::error!("the images know the cloud around them already");
        }
    }

    /// Has a task of this kind ([`Deleted`] are its parameters) added in the transaction that deletes an image with this
    /// property: who keeps something that belongs to such images learns of their end, whatever dies. Once, at the start.
    pub fn follow_deletions(&self, property: &'static str, kind: &'static str) {
        if self.followed.set((property, kind)).is_err() {
            tracing::error!("the deletion of images is followed already");
        }
    }

    /// Empties the cache where it was turned off, also while other processes still fill it, until `stop`.
    pub async fn sweep(&self, stop: CancellationToken) {
        const ROUND: Duration = Duration::from_secs(600);
        loop {
            if let Err(e) = self.sweep_cache().await {
                tracing::warn!(error = %e, "the cache cannot be emptied");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(ROUND) => {}
            }
        }
    }

    fn blobs(&self, tier: &str) -> Result<Blobs, ImageError> {
        Blobs::of(&self.tiers, tier)
    }

    fn receives(&self, upload: &str) -> bool {
        self.receiving.lock().unwrap_or_else(PoisonError::into_inner).contains(upload)
    }
}

/// The parameters of a task that follows the deletion of an image.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Deleted {
    pub image_id: String,
    pub owner: Option<String>,
    pub properties: std::collections::BTreeMap<String, String>,
}

/// The durable operations of this service, for the worker.
pub fn operations(images: &Arc<Images>) -> Vec<Arc<dyn Operation>> {
    tasks::all(images)
}
