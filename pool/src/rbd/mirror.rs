//! Mirroring: a pool's images kept in another cluster too, by the rbd-mirror daemons that run beside both.
//!
//! An image is primary in one cluster at a time: there it can be written to, everywhere else it follows. It changes
//! places by being demoted where it is primary, and promoted elsewhere once what was written has come over; where the
//! first is out of reach, promoting by force goes without it, and what the first has that the other has not is given up
//! by a resync.

use super::{Image, Rbd};
use crate::cluster::{Cluster, Work};
use crate::error::Error;
use crate::ffi::mirror::RawSiteStatus;

/// Which images of a pool are mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorMode {
    Disabled,
    /// Those that are enabled one by one.
    Image,
    /// All that have a journal.
    Pool,
}

/// How an image's changes come over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorBy {
    /// Every write, in order: needs [`crate::features::JOURNALING`].
    Journal,
    /// What has changed since the last [`Image::mirror_snapshot`].
    Snapshot,
}

/// Another cluster that a pool is mirrored with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorPeer {
    pub uuid: String,
    pub site_name: String,
    /// Empty until the peers have met.
    pub mirror_uuid: String,
}

/// What a mirrored image is in its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorInfo {
    /// The same in every cluster.
    pub global_id: String,
    pub enabled: bool,
    /// Whether it can be written to here.
    pub primary: bool,
}

/// What an rbd-mirror does with an image.
///
/// ```text
/// Unknown ─► StartingReplay ─► Syncing ─► Replaying ─► StoppingReplay ─► Stopped
///     └────────────┴──────────────┴───────────┴──► Error
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorState {
    Unknown,
    Error,
    /// The first copy, or one after a resync.
    Syncing,
    StartingReplay,
    /// It follows.
    Replaying,
    StoppingReplay,
    /// It follows nobody: it is primary here, or its primary is not known.
    Stopped,
}

/// What one cluster's rbd-mirror says of an image, up to half a minute ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorStatus {
    /// The peer's; empty for the cluster that was asked.
    pub mirror_uuid: String,
    pub state: MirrorState,
    /// Whether that rbd-mirror runs.
    pub up: bool,
    /// rbd-mirror's words: a state's reason, then for one that follows an object of numbers.
    pub description: String,
}

impl MirrorStatus {
    fn new(raw: RawSiteStatus) -> Self {
        let state = match raw.state {
            1 => MirrorState::Error,
            2 => MirrorState::Syncing,
            3 => MirrorState::StartingReplay,
            4 => MirrorState::Replaying,
            5 => MirrorState::StoppingReplay,
            6 => MirrorState::Stopped,
            _ => MirrorState::Unknown,
        };
        Self { mirror_uuid: raw.mirror_uuid, state, up: raw.up, description: raw.description }
    }
}

impl Cluster {
    /// The name that its peers know it by.
    pub async fn mirror_site_name(&self) -> Result<String, Error> {
        self.on_rados("mirror's name", |r| r.mirror_site_name()).await
    }

    /// Gives the cluster the name that its peers know it by.
    pub async fn set_mirror_site_name(&self, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        self.on_rados("name the mirror", move |r| r.mirror_site_name_set(&name)).await
    }
}

impl Rbd {
    /// Which images of this place are mirrored.
    pub async fn mirror_mode(&self) -> Result<MirrorMode, Error> {
        let mode = self.run(Work::Short, "look at mirroring of", "", |io| io.mirror_mode()).await?;
        Ok(match mode {
            0 => MirrorMode::Disabled,
            1 => MirrorMode::Image,
            _ => MirrorMode::Pool,
        })
    }

    /// Says which images of this place are mirrored. `Busy`: disabling, while one still is.
    pub async fn set_mirror_mode(&self, mode: MirrorMode) -> Result<(), Error> {
        let mode = match mode {
            MirrorMode::Disabled => 0,
            MirrorMode::Image => 1,
            MirrorMode::Pool => 2,
        };
        self.run(Work::Short, "set mirroring of", "", move |io| io.mirror_mode_set(mode)).await
    }

    /// A secret with which another cluster's pool of the same name becomes this one's peer
    /// ([`Rbd::import_mirror_token`]). The pool must be mirrored, and its cluster have a name as a site.
    pub async fn mirror_token(&self) -> Result<String, Error> {
        self.run(Work::Short, "make mirror's token of", "", |io| io.mirror_token()).await
    }

    /// Makes this pool and the one that the token is of each other's peers, both ways. Twice is no error.
    pub async fn import_mirror_token(&self, token: &str) -> Result<(), Error> {
        let token = token.to_owned();
        self.run(Work::Short, "become mirror's peer of", "", move |io| io.mirror_token_import(&token)).await
    }

    /// The clusters that this pool is mirrored with.
    pub async fn mirror_peers(&self) -> Result<Vec<MirrorPeer>, Error> {
        let all = self.run(Work::Short, "list mirror's peers of", "", |io| io.mirror_peers()).await?;
        let peer = |p: crate::ffi::mirror::RawPeer| MirrorPeer {
            uuid: p.uuid,
            site_name: p.site_name,
            mirror_uuid: p.mirror_uuid,
        };
        Ok(all.into_iter().map(peer).collect())
    }
}

impl Image {
    /// Mirrors this image; its place must be in [`MirrorMode::Image`]. Twice is no error.
    pub async fn mirror_enable(&self, by: MirrorBy) -> Result<(), Error> {
        let by_snapshots = by == MirrorBy::Snapshot;
        self.run(Work::Short, "mirror", move |i| i.mirror_enable(by_snapshots)).await
    }

    /// Mirrors this image no longer: its copies elsewhere go. `force`: also where it is not primary.
    pub async fn mirror_disable(&self, force: bool) -> Result<(), Error> {
        self.run(Work::Short, "stop to mirror", move |i| i.mirror_disable(force)).await
    }

    /// Makes it primary here. Without `force`: `Busy` unless it is primary nowhere and everything has come over.
    pub async fn mirror_promote(&self, force: bool) -> Result<(), Error> {
        self.run(Work::Short, "promote", move |i| i.mirror_promote(force)).await
    }

    /// Makes it follow.
    pub async fn mirror_demote(&self) -> Result<(), Error> {
        self.run(Work::Short, "demote", |i| i.mirror_demote()).await
    }

    /// Has rbd-mirror throw this copy away, and bring the primary's anew.
    pub async fn mirror_resync(&self) -> Result<(), Error> {
        self.run(Work::Short, "resync", |i| i.mirror_resync()).await
    }

    /// Takes what the image is now for its copies to become ([`MirrorBy::Snapshot`]); the snapshot's id.
    pub async fn mirror_snapshot(&self) -> Result<u64, Error> {
        self.run(Work::Short, "take mirror's snapshot of", |i| i.mirror_snapshot()).await
    }

    /// What it is as a mirrored image.
    pub async fn mirror_info(&self) -> Result<MirrorInfo, Error> {
        let raw = self.run(Work::Short, "look at mirroring of", |i| i.mirror_info()).await?;
        Ok(MirrorInfo { global_id: raw.global_id, enabled: raw.state == 1, primary: raw.primary })
    }

    /// What the rbd-mirror of its cluster, and as far as that has heard those of its peers, say of it.
    pub async fn mirror_status(&self) -> Result<Vec<MirrorStatus>, Error> {
        let all = self.run(Work::Short, "look at the mirror of", |i| i.mirror_status()).await?;
        Ok(all.into_iter().map(MirrorStatus::new).collect())
    }
}
