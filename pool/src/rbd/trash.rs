//! The trash: images that are to go but that clones still need, or that are kept for a while.

use std::time::{Duration, SystemTime};

use super::Rbd;
use crate::cluster::Work;
use crate::error::Error;
use crate::rados::time;

/// An image in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrashEntry {
    /// Its id: names in the trash need not be unique.
    pub id: String,
    /// The name it had.
    pub name: String,
    pub deleted: SystemTime,
    /// It can be removed by force only before this.
    pub kept_until: SystemTime,
    /// It is the source of a live migration, and none that is to go.
    pub migrating: bool,
}

/// A move into the trash takes an instant: one that has begun so long ago is nobody's any more.
const AT_WORK: Duration = Duration::from_secs(600);

impl Rbd {
    /// Moves an image to the trash, where it is kept at least for `keep`. Its name is free at once.
    pub async fn trash_move(&self, name: &str, keep: Duration) -> Result<(), Error> {
        let n = name.to_owned();
        let call = move |io: std::sync::Arc<crate::ffi::rados::IoCtx>| io.trash_move(&n, keep.as_secs());
        self.run(Work::Short, "move to the trash image", name, call).await
    }

    /// What is in the trash.
    pub async fn trash_list(&self) -> Result<Vec<TrashEntry>, Error> {
        let all = self.run(Work::Short, "list trash of", "", |io| io.trash_list()).await?;
        let entry = |(id, name, migrating, deleted, until)| TrashEntry {
            id,
            name,
            migrating,
            deleted: time(deleted),
            kept_until: time(until),
        };
        Ok(all.into_iter().map(entry).collect())
    }

    /// Brings an image back out of the trash, under a name. `NotFound`, `Exists`.
    pub async fn trash_restore(&self, id: &str, name: &str) -> Result<(), Error> {
        let (i, n) = (id.to_owned(), name.to_owned());
        self.run(Work::Short, "restore from the trash image", id, move |io| io.trash_restore(&i, &n)).await
    }

    /// Removes an image in the trash. `Busy` while clones need it; `Permission` before `kept_until` unless forced.
    pub async fn trash_remove(&self, id: &str, force: bool) -> Result<(), Error> {
        let i = id.to_owned();
        let call = move |io: &crate::ffi::rados::IoCtx| io.trash_remove(&i, force);
        self.remove_alone((id, "remove from the trash image", id), call).await
    }

    /// Removes from the trash every image whose time is over and that nothing needs any more; gives the names
    /// of those that went.
    pub async fn purge_trash(&self) -> Result<Vec<String>, Error> {
        self.purge_trash_where(|_| true).await
    }

    /// As [`Rbd::purge_trash`], of those images that `ours` picks: where others use the trash of this pool, too.
    ///
    /// An image that has snapshots stays: clones keep those, or somebody wants to restore it. What a removal sets
    /// free (a parent that is in the trash here as well) is taken in the next round.
    pub async fn purge_trash_where(
        &self,
        ours: impl Fn(&TrashEntry) -> bool + Send + Sync,
    ) -> Result<Vec<String>, Error> {
        let mut gone = Vec::new();
        loop {
            let before = gone.len();
            let now = SystemTime::now();
            let over = |e: &TrashEntry| e.kept_until <= now && !e.migrating && ours(e);
            for entry in self.trash_list().await?.into_iter().filter(over) {
                if self.has_snaps(&entry.id).await? {
                    continue;
                }
                match self.trash_remove(&entry.id, false).await {
                    Ok(()) => gone.push(entry.name),
                    // It is taken in the next round, if somebody has died over it.
                    Err(Error::Busy { .. }) if entry.deleted + AT_WORK < now => {
                        self.trash_settle(&entry.id).await?;
                    }
                    Err(Error::Busy { .. } | Error::NotFound { .. }) => {}
                    Err(e) => return Err(e),
                }
            }
            if gone.len() == before {
                return Ok(gone);
            }
        }
    }

    /// Whether an image in the trash has snapshots.
    async fn has_snaps(&self, id: &str) -> Result<bool, Error> {
        let image = match self.open_by_id(id, true).await {
            Ok(image) => image,
            // Half removed already (its header is gone): removal can go on without looking.
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(e) => return Err(e),
        };
        let snaps = image.snap_list_all().await;
        image.close().await?;
        Ok(!snaps?.is_empty())
    }
}
