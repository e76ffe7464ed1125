//! Ceph, safe and asynchronous: the only crate that touches storage.
//!
//! [`Clusters`] are connected from configuration, [`Tiers`] are names for places in them. A [`Pool`] holds
//! objects (data, attributes, an ordered map, compound operations, watches) and, through [`Pool::rbd`], images
//! ([`Rbd`], [`Image`]: snapshots, copy-on-write clones, trash, diffs, locks).
//!
//! - Data operations are librados' and librbd's own asynchronous calls: their completion wakes the future, no
//!   thread waits. What only exists in a blocking form runs on a few threads of the cluster's own (`lanes`).
//! - Every operation ends within a deadline. A lost cluster is [`Error::TimedOut`] or [`Error::Unreachable`]
//!   within it, and heals by itself when the cluster is back; so does a connection that has locked itself up (`deaf`).
//! - A future may be dropped at any time: what Ceph still uses of it stays alive until Ceph gives it back.
//!
//! `unsafe` is confined to `ffi`.

mod cluster;
mod config;
mod deaf;
mod error;
mod ffi;
mod lanes;
mod rados;
mod rbd;
mod tier;

pub use cluster::{Cluster, Clusters, Health, PoolUsage, Usage};
pub use config::{ClusterConfig, TierConfig};
pub use error::{Error, OptionalExt};
pub use ffi::return_large_buffers;
pub use rados::{
    Ack, Cmp, ListCursor, Notification, NotifyOutcome, ObjectStat, OmapPage, Pool, ReadOp, ReadOutcome,
    ReadResult, Watch, WatchEvent, WriteOp, WriteOutcome,
};
pub use rbd::*;
pub use tier::{Tier, Tiers};

/// The version of librados that is loaded: (major, minor, patch) of the library, e.g. (3, 0, 0).
pub fn librados_version() -> (i32, i32, i32) {
    ffi::rados::version()
}
