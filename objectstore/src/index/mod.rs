//! A container's index: which objects it has, in order, and exactly how many and how large.
//!
//! The index is the only record of a container's contents that listings read; the truth about one object is
//! its head. The two agree because a change of the index carries the version of the head write it reports
//! ([`entry`]), and because whoever wrote a head goes on to commit the index before the client hears of it.

pub mod entry;
pub(crate) mod grow;
pub mod list;
pub mod list_versions;
mod merge;
pub(crate) mod moves;
mod roll;
mod scan;
pub(crate) mod shard;
pub(crate) mod versions;

pub use entry::Entry;
pub use list::{Item, ListPage, ListQuery};
pub use list_versions::{VersionItem, VersionPage, VersionQuery};
pub(crate) use roll::Roll;
pub(crate) use shard::{Change, Committed, Foreseen, Index};
pub(crate) use versions::VersionChange;
