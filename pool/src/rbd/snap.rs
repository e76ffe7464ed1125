//! Snapshots of an image.

use std::time::SystemTime;

use super::image::Image;
use super::manage::{Progress, features};
use crate::OptionalExt as _;
use crate::cluster::Work;
use crate::error::{Context, Error};
use crate::ffi::manage::image_name;
use crate::rados::time;

/// Whose a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotKind {
    /// One that somebody made.
    User,
    /// Of a group of images.
    Group,
    /// Removed, but kept by clones; goes with the last of them.
    Trash,
    /// Mirroring's.
    Mirror,
}

/// A snapshot of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub id: u64,
    pub name: String,
    /// The image's size then, in bytes.
    pub size: u64,
    pub created: SystemTime,
    pub kind: SnapshotKind,
}

impl Image {
    /// Takes a snapshot. `Exists`: it is there, and whole; `NoSpace` leaves none.
    pub async fn snap_create(&self, name: &str) -> Result<(), Error> {
        image_name(name).what(|| self.path("create snapshot of"))?;
        let n = name.to_owned();
        let made = self.run(Work::Short, "create snapshot of", move |i| i.snap_create(&n)).await;
        let there = matches!(made, Ok(()) | Err(Error::Exists { .. }));
        if there && !self.has_snap_map(name).await? {
            self.snap_remove(name).await?;
            return Err(Error::NoSpace { what: self.path("create snapshot of") });
        }
        made
    }

    /// Whether a snapshot has its object map. librbd takes a snapshot in a full pool without one and says that all is
    /// well, and makes it last: a snapshot whose making was cut short has none either. Such a one can never be opened.
    async fn has_snap_map(&self, name: &str) -> Result<bool, Error> {
        let (info, all) = self.run(Work::Short, "stat", |i| Ok((i.info()?, i.snaps()?))).await?;
        let snap = all.into_iter().find(|s| s.kind == 0 && s.name == name);
        let Some(snap) = snap.filter(|_| info.features & features::OBJECT_MAP != 0) else { return Ok(true) };
        let map = format!("rbd_object_map.{}.{:016x}", info.id, snap.id);
        Ok(self.pool().stat(&map).await.optional()?.is_some())
    }

    /// The user's own snapshots, oldest first.
    pub async fn snap_list(&self) -> Result<Vec<Snapshot>, Error> {
        let mut all = self.snap_list_all().await?;
        all.retain(|s| s.kind == SnapshotKind::User);
        Ok(all)
    }

    /// All snapshots, those that clones keep in the trash too.
    pub async fn snap_list_all(&self) -> Result<Vec<Snapshot>, Error> {
        let all = self.run(Work::Short, "list snapshots of", |i| i.snaps()).await?;
        let kind = |k| match k {
            0 => SnapshotKind::User,
            1 => SnapshotKind::Group,
            2 => SnapshotKind::Trash,
            _ => SnapshotKind::Mirror,
        };
        let snap = |s: crate::ffi::image_manage::RawSnap| Snapshot {
            id: s.id,
            name: s.name,
            size: s.size,
            created: time(s.created),
            kind: kind(s.kind),
        };
        Ok(all.into_iter().map(snap).collect())
    }

    /// Whether there is a snapshot of this name.
    pub async fn snap_exists(&self, name: &str) -> Result<bool, Error> {
        let n = name.to_owned();
        self.run(Work::Short, "look for a snapshot of", move |i| i.snap_exists(&n)).await
    }

    /// Removes a snapshot, also a protected one (that has no clones of version 1). Clones do not mind: it moves to
    /// the trash and goes with the last of them. `NotFound`.
    pub async fn snap_remove(&self, name: &str) -> Result<(), Error> {
        let n = name.to_owned();
        self.run(Work::Long, "remove snapshot of", move |i| i.snap_remove(&n, true)).await
    }

    /// Removes all the user's snapshots.
    pub async fn snap_remove_all(&self) -> Result<(), Error> {
        for snap in self.snap_list().await? {
            match self.snap_remove(&snap.name).await {
                Err(e) if !e.is_not_found() => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Renames a snapshot. `NotFound`, `Exists`.
    pub async fn snap_rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let (f, t) = (from.to_owned(), to.to_owned());
        self.run(Work::Short, "rename snapshot of", move |i| i.snap_rename(&f, &t)).await
    }

    /// Sets the image back to what it was at a snapshot. It must not be in use.
    pub async fn snap_rollback(&self, name: &str, progress: Progress) -> Result<(), Error> {
        let n = name.to_owned();
        self.run(Work::Long, "roll back", move |i| i.snap_rollback(&n, &progress)).await
    }

    /// Protects a snapshot from removal (clones of version 1 need that). Twice is no error.
    pub async fn snap_protect(&self, name: &str) -> Result<(), Error> {
        let n = name.to_owned();
        match self.run(Work::Short, "protect snapshot of", move |i| i.snap_protect(&n, true)).await {
            Err(Error::Busy { .. }) => Ok(()), // protected already
            r => r,
        }
    }

    /// Takes the protection off. Twice is no error.
    pub async fn snap_unprotect(&self, name: &str) -> Result<(), Error> {
        let n = name.to_owned();
        match self.run(Work::Short, "unprotect snapshot of", move |i| i.snap_protect(&n, false)).await {
            Err(Error::Invalid { .. }) => Ok(()), // not protected
            r => r,
        }
    }

    /// Whether a snapshot is protected.
    pub async fn snap_is_protected(&self, name: &str) -> Result<bool, Error> {
        let n = name.to_owned();
        self.run(Work::Short, "look at snapshot of", move |i| i.snap_is_protected(&n)).await
    }
}
