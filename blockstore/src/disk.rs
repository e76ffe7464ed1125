//! What tasks do to RBD images. Everything here can be done twice: whatever an earlier try left half done is
//! completed, or taken away and done again.
//!
//! Only names that this crate has made up are touched: an image in the trash under another name is somebody's.

use crate::model::Metadata;
use pool::{
    CreateOptions, Error, Image, ImageLink, OptionalExt, Rbd, Removed, Tier, copy_image, copy_range,
    copy_whole, features,
};

pub(crate) const GIB: u64 = 1 << 30;

/// A snapshot to start from.
#[derive(Debug, Clone)]
pub(crate) struct Parent {
    pub(crate) tier: Tier,
    pub(crate) image: String,
    pub(crate) snap: String,
}

impl Parent {
    async fn open(&self) -> Result<Image, Error> {
        self.tier.pool.rbd().open_snapshot(&self.image, &self.snap).await
    }

    /// How many parents stand behind it.
    pub(crate) async fn depth(&self) -> Result<u32, Error> {
        self.tier.pool.rbd().depth(&self.image, &self.snap).await
    }
}

fn options(tier: &Tier) -> CreateOptions {
    CreateOptions { data_pool: tier.data_pool.clone(), ..CreateOptions::default() }
}

/// Runs `work` on an open image and closes it before the result is known, so that nobody finds it in use.
pub(crate) async fn with<T, F>(image: Image, work: impl FnOnce(Image) -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let result = work(image.clone()).await;
    let closed = image.close().await;
    let value = result?;
    closed?;
    Ok(value)
}

/// An empty image of `bytes`.
pub(crate) async fn ensure_empty(tier: &Tier, name: &str, bytes: u64) -> Result<(), Error> {
    let rbd = tier.pool.rbd();
    match rbd.create(name, bytes, options(tier)).await {
        Err(Error::Exists { .. }) => {
            clear(&rbd, name).await?;
            rbd.create(name, bytes, options(tier)).await
        }
        other => other,
    }
}

/// A copy-on-write clone of the parent, grown to `bytes` where it is smaller. Same cluster.
pub(crate) async fn ensure_clone(parent: &Parent, tier: &Tier, name: &str, bytes: u64) -> Result<(), Error> {
    let has = clone_with(parent, tier, name, bytes, options(tier)).await?;
    // It has its parent's features; a journal is only for what is mirrored itself. librbd may die of taking it away.
    if has & features::JOURNALING != 0 {
        clear(&tier.pool.rbd(), name).await?;
        let features = Some(has & !features::JOURNALING);
        clone_with(parent, tier, name, bytes, CreateOptions { features, ..options(tier) }).await?;
    }
    Ok(())
}

/// Makes a clone, in place of what another attempt has left, and lets it grow; its features.
async fn clone_with(
    parent: &Parent,
    tier: &Tier,
    name: &str,
    bytes: u64,
    options: CreateOptions,
) -> Result<u64, Error> {
    let from = parent.tier.pool.rbd();
    let clone = || from.clone_image(&parent.image, &parent.snap, &tier.pool, name, options.clone());
    match clone().await {
        Err(Error::Exists { .. }) => {
            clear(&tier.pool.rbd(), name).await?;
            clone().await?;
        }
        other => other?,
    }
    let image = tier.pool.rbd().open(name).await?;
    with(image, |image| async move {
        let info = image.info().await?;
        if info.size < bytes {
            image.resize(bytes, false).await?;
        }
        Ok(info.features)
    })
    .await
}

/// A full copy of the parent, from whatever cluster, grown to `bytes`. `progress` hears bytes done and bytes in all.
pub(crate) async fn ensure_copy(
    parent: &Parent,
    tier: &Tier,
    name: &str,
    bytes: u64,
    progress: impl Fn(u64, u64) + Send + Sync,
) -> Result<(), Error> {
    let from = parent.open().await?;
    with(from, |from| async move {
        ensure_empty(tier, name, bytes.max(from.size().await?)).await?;
        let to = tier.pool.rbd().open(name).await?;
        with(to, |to| async move { copy_image(&from, &to, progress).await.map(drop) }).await
    })
    .await
}

/// Copies a parent into an open image that reads as zeroes; `whole`: zeroes, too (see [`crate::encryption`]). What does
/// not fit must be zeroes.
pub(crate) async fn fill(to: &Image, parent: &Parent, whole: bool) -> Result<(), Error> {
    with(parent.open().await?, |from| async move {
        if !whole {
            return copy_image(&from, to, |_, _| {}).await.map(drop);
        }
        let (size, room) = (from.size().await?, to.size().await?);
        copy_whole(&from, to, 0, size.min(room)).await?;
        copy_range(&from, None, to, room, size.saturating_sub(room), |_| {}).await?;
        to.flush().await
    })
    .await
}

/// Takes an image from its parent. Twice is no error.
pub(crate) async fn ensure_flat(tier: &Tier, name: &str) -> Result<(), Error> {
    let image = tier.pool.rbd().open(name).await?;
    with(image, |image| async move { image.flatten(Box::new(|_, _| {})).await }).await
}

/// At least `bytes` large; never smaller than it is. How large it is then.
pub(crate) async fn ensure_size(tier: &Tier, name: &str, bytes: u64) -> Result<u64, Error> {
    let image = tier.pool.rbd().open(name).await?;
    with(image, |image| async move {
        let now = image.size().await?;
        if now < bytes {
            image.resize(bytes, false).await?;
        }
        Ok(now.max(bytes))
    })
    .await
}

/// The bytes of a LUKS1 image's header.
pub(crate) async fn header(tier: &Tier, name: &str) -> Result<u64, Error> {
    let image = tier.pool.rbd().open_read_only(name).await?;
    with(image, |image| async move { image.luks_payload().await }).await
}

/// The size in bytes; `None` where there is no image.
pub(crate) async fn size(tier: &Tier, name: &str) -> Result<Option<u64>, Error> {
    match tier.pool.rbd().open_read_only(name).await.optional()? {
        Some(image) => with(image, |image| async move { image.size().await }).await.map(Some),
        None => Ok(None),
    }
}

/// The size in bytes, and where in the image anything is: `(offset, length)`, in order.
pub(crate) async fn extents(image: &Image) -> Result<(u64, Vec<(u64, u64)>), Error> {
    /// Bounds what one look answers.
    const WINDOW: u64 = 64 << 30;
    let size = image.size().await?;
    let (mut all, mut at) = (Vec::<(u64, u64)>::new(), 0);
    while at < size {
        let found = image.diff_iterate(None, at, WINDOW.min(size - at), false).await?;
        for e in found.iter().filter(|e| e.exists) {
            match all.last_mut() {
                Some((off, len)) if *off + *len == e.off => *len += e.len,
                _ => all.push((e.off, e.len)),
            }
        }
        at += WINDOW;
    }
    Ok((size, all))
}

/// Takes away what an earlier try has left under a name. Nobody has used it yet: no volume was ever shown on it.
async fn clear(rbd: &Rbd, name: &str) -> Result<(), Error> {
    match rbd.remove_or_trash(name).await? {
        // The name's object is there, but no image behind it: a creation that ended early.
        Removed::Absent => match rbd.remove(name).await {
            Err(Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(e) => Err(e),
        },
        Removed::Gone | Removed::Trashed => Ok(()),
    }
}

/// Removes an image with its snapshots, or puts it into the trash where clones still need it. Twice is no error.
pub(crate) async fn remove(tier: &Tier, name: &str) -> Result<Removed, Error> {
    let removed = tier.pool.rbd().remove_or_trash(name).await?;
    if removed == Removed::Absent {
        clear(&tier.pool.rbd(), name).await?;
    }
    Ok(removed)
}

/// What an image is a clone of; `None` also where there is no image.
pub(crate) async fn parent(tier: &Tier, name: &str) -> Result<Option<ImageLink>, Error> {
    match tier.pool.rbd().open_read_only(name).await.optional()? {
        Some(image) => with(image, |image| async move { image.parent().await }).await,
        None => Ok(None),
    }
}

/// Takes a snapshot. Twice is no error.
pub(crate) async fn ensure_snap(tier: &Tier, name: &str, snap: &str) -> Result<(), Error> {
    let image = tier.pool.rbd().open(name).await?;
    with(image, |image| async move {
        match image.snap_create(snap).await {
            Err(Error::Exists { .. }) => Ok(()),
            other => other,
        }
    })
    .await
}

/// Takes snapshots of several images at one instant: every image's exclusive lock is held (a guest's librbd gives it
/// up once what it has acknowledged is written, and waits) before the first snapshot is taken, until after the last.
/// What an earlier try has left is taken anew, so that all are of the same instant.
pub(crate) async fn ensure_snaps(all: &[(Tier, String, String)]) -> Result<(), Error> {
    let mut open = Vec::new();
    let result = snaps_under_locks(all, &mut open).await;
    let mut closed = Ok(());
    for image in open {
        // Closing gives the lock back.
        closed = closed.and(image.close().await);
    }
    result.and(closed)
}

async fn snaps_under_locks(all: &[(Tier, String, String)], open: &mut Vec<Image>) -> Result<(), Error> {
    for (tier, name, snap) in all {
        remove_snap(tier, name, snap).await?;
        open.push(tier.pool.rbd().open(name).await?);
    }
    // Always in the same order (the caller's): two groups cannot wait for one another.
    for image in open.iter() {
        image.lock_acquire().await?;
    }
    for (image, (_, _, snap)) in open.iter().zip(all) {
        image.snap_create(snap).await?;
    }
    for image in open.iter() {
        image.lock_release().await?;
    }
    Ok(())
}

/// Renames an image. Twice is no error; `NotFound` where there is neither.
pub(crate) async fn ensure_renamed(tier: &Tier, from: &str, to: &str) -> Result<(), Error> {
    let rbd = tier.pool.rbd();
    match rbd.rename(from, to).await {
        Err(Error::NotFound { what }) if !rbd.exists(to).await? => Err(Error::NotFound { what }),
        Err(Error::NotFound { .. }) => Ok(()),
        other => other,
    }
}

/// Renames a snapshot. Twice is no error; `NotFound` where there is neither.
pub(crate) async fn ensure_snap_renamed(tier: &Tier, name: &str, from: &str, to: &str) -> Result<(), Error> {
    let image = tier.pool.rbd().open(name).await?;
    with(image, |image| async move {
        match image.snap_rename(from, to).await {
            Err(Error::NotFound { what }) if !image.snap_exists(to).await? => Err(Error::NotFound { what }),
            Err(Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    })
    .await
}

/// The size in bytes of an image at a snapshot; `None` where there is none of this name.
pub(crate) async fn snap_size(tier: &Tier, name: &str, snap: &str) -> Result<Option<u64>, Error> {
    let image = tier.pool.rbd().open_read_only(name).await?;
    let all = with(image, |image| async move { image.snap_list().await }).await?;
    Ok(all.into_iter().find(|s| s.name == snap).map(|s| s.size))
}

/// Makes librbd's limits on an image these and no others. (A clone begins with its parent's.)
pub(crate) async fn limit(tier: &Tier, name: &str, limits: &Metadata) -> Result<(), Error> {
    let image = tier.pool.rbd().open(name).await?;
    with(image, |image| async move {
        let now = image.metadata_list().await?;
        for key in now.keys().filter(|k| k.starts_with("conf_rbd_qos_") && !limits.contains_key(*k)) {
            image.metadata_remove(key).await?;
        }
        for (key, value) in limits.iter().filter(|(k, v)| now.get(*k) != Some(*v)) {
            image.metadata_set(key, value).await?;
        }
        Ok(())
    })
    .await
}

/// Where an image says that it is being set back.
const SETTING_BACK: &str = "aquifer.setting-back";

/// Sets an image back to a snapshot. Twice is no error: the second time there is nothing to set back. `Busy`, also while
/// an earlier try goes on that nobody waits for any more: kept, its lock is given to nobody who could be done before it.
pub(crate) async fn roll_back(tier: &Tier, name: &str, snap: &str) -> Result<(), Error> {
    let image = tier.pool.rbd().open(name).await?;
    with(image, |image| async move {
        let has = image.info().await?.features;
        if has & features::EXCLUSIVE_LOCK != 0 {
            // Closing gives it back.
            image.lock_acquire().await?;
        }
        // librbd sets the map of objects back first, and leaves alone what is not in it: cut short, the map has to be made anew.
        let begun = image.metadata_get(SETTING_BACK).await.optional()?.is_some();
        if begun && has & features::OBJECT_MAP != 0 {
            image.rebuild_object_map(Box::new(|_, _| {})).await?;
        }
        image.metadata_set(SETTING_BACK, snap).await?;
        image.snap_rollback(snap, Box::new(|_, _| {})).await?;
        image.metadata_remove(SETTING_BACK).await
    })
    .await
}

/// Removes a snapshot; clones keep what they need of it. Twice is no error, nor is an image that is gone.
pub(crate) async fn remove_snap(tier: &Tier, name: &str, snap: &str) -> Result<(), Error> {
    let Some(image) = tier.pool.rbd().open(name).await.optional()? else { return Ok(()) };
    with(image, |image| async move {
        match image.snap_remove(snap).await {
            Err(Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    })
    .await
}

/// Tries to empty the trash of one deleted volume's image, and then of its parents, as far as they were only waiting
/// for it. True when there is nothing left of the first.
pub(crate) async fn purge(tier: &Tier, name: &str) -> Result<bool, Error> {
    let rbd = tier.pool.rbd();
    let mut gone = false;
    let mut next = Some(name.to_owned());
    // Clones of clones: a chain ends where an image is still needed, or is nobody's of ours.
    while let Some(name) = next.take() {
        let first = !gone;
        for entry in rbd.trash_list().await?.into_iter().filter(|e| e.name == name && !e.migrating) {
            let parent = match rbd.open_by_id(&entry.id, true).await.optional()? {
                Some(image) => with(image, |image| async move { image.parent().await }).await?,
                None => None,
            };
            match rbd.trash_remove(&entry.id, false).await {
                Ok(()) => next = parent.filter(|p| waits(tier, p)).map(|p| p.name),
                Err(Error::NotFound { .. }) => {}
                Err(Error::Busy { .. }) if first => return Ok(false),
                Err(Error::Busy { .. }) => return Ok(true),
                Err(e) => return Err(e),
            }
        }
        gone = true;
    }
    Ok(true)
}

/// Whether a parent is a deleted volume of this place that only its clones keep.
pub(crate) fn waits(tier: &Tier, parent: &ImageLink) -> bool {
    parent.trash
        && parent.pool == tier.pool.name()
        && parent.namespace == tier.pool.namespace()
        && parent.name.starts_with("volume-")
}
