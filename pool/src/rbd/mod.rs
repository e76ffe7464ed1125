//! Images: block devices in a pool, with snapshots and copy-on-write clones.

mod copy;
mod depth;
mod image;
mod luks;
mod manage;
mod migration;
mod mirror;
mod remnant;
mod removal;
mod snap;
mod trash;
mod writer;

pub use copy::{ImageReader, copy_extents, copy_image, copy_range, copy_whole};
pub use image::{EncryptionFormat, Extent, Image, ImageInfo, ImageLink, LockOwner, Watcher};
pub use manage::{CreateOptions, Progress, Rbd, Removed, features};
pub use migration::Migration;
pub use mirror::{MirrorBy, MirrorInfo, MirrorMode, MirrorPeer, MirrorState, MirrorStatus};
pub use snap::{Snapshot, SnapshotKind};
pub use trash::TrashEntry;
pub use writer::ImageWriter;
