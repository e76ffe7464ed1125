//! What moving or extending an attached volume asks of compute, whose host has the guest that writes to it.
//!
//! The guest's own QEMU copies the disk and keeps both images the same until it lets go of the old one (the pivot).
//! Until then the old image is what the volume is; from the pivot on the new one. Which of the two a guest that has
//! died meanwhile wrote last is asked of the images ([`Pivot::Begun`] with [`Mirror::Off`]), and nobody starts the guest
//! before that is answered.

use crate::messages::Asker;
use crate::{RbdLocation, VolumeError, Volumes};
use async_trait::async_trait;
use state::Tx;
use std::sync::{Arc, Weak};

/// How far a host has come with a copy of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mirror {
    /// Percent of it.
    Copying(u8),
    /// Every write goes to both images, and is acknowledged when both have it.
    Ready,
    /// The guest has the disk at its new place.
    Moved,
    /// The copy has ended; the guest goes on at the old place.
    Lost,
    /// The guest does not run.
    Off,
    /// The server has no such disk.
    Gone,
    /// The host cannot copy; why, for the log.
    Failed(String),
}

/// How far a pivot has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pivot {
    /// Nothing was asked for: the disk is not ready, or not there.
    NotYet(Mirror),
    /// The host is to pivot, and may have.
    Begun(Mirror),
}

/// A volume that has grown.
#[derive(Debug, Clone)]
pub struct Grown {
    pub volume: String,
    /// Its size now.
    pub gib: i64,
    /// What QEMU is to make of it: the size of the image, without the header where QEMU itself decrypts (LUKS1). librbd, which
    /// does for LUKS2, resizes with the header.
    pub bytes: u64,
    pub asker: Asker,
}

/// Compute, as the tasks here see it. Everything can be asked again and again.
#[async_trait]
pub trait Servers: Send + Sync {
    /// Has the server's host copy a volume to another image, which is as large and empty; returns after some seconds, or
    /// when it is more than [`Mirror::Copying`].
    async fn copy(&self, server: &str, volume: &str, to: &RbdLocation) -> Result<Mirror, VolumeError>;

    /// Has the host pivot, if the copy is ready. From [`Pivot::Begun`] on the server keeps the disk, and is not started,
    /// until [`Servers::settle`].
    async fn pivot(&self, server: &str, volume: &str, to: &RbdLocation) -> Result<Pivot, VolumeError>;

    /// The volume is at its new place for good, or stays at the old one, where a copy under way ends.
    async fn settle(
        &self,
        server: &str,
        volume: &str,
        to: &RbdLocation,
        moved: bool,
    ) -> Result<(), VolumeError>;

    /// In the transaction that makes a volume larger for its owner: has the server's host show it to the guest, and records
    /// the server's action `extend_volume`. A server that is not ours is left alone.
    async fn grown(&self, tx: &mut Tx, server: &str, grown: &Grown) -> Result<(), VolumeError>;

    /// Whether the server's host has still to do what the last [`Servers::grown`] asked for. It resizes by a number: a larger
    /// one must not overtake it.
    async fn grows(&self, server: &str, volume: &str) -> Result<bool, VolumeError>;
}

impl Volumes {
    /// Who moves volumes that servers have. Without it they stay where they are. Called once, at the start.
    pub fn use_servers(&self, servers: Weak<dyn Servers>) {
        let _ = self.servers.set(servers); // a second one changes nothing
    }

    pub(crate) fn servers(&self) -> Option<Arc<dyn Servers>> {
        self.servers.get()?.upgrade()
    }
}
