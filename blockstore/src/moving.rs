//! Moving an image to another tier, with its snapshots. What is here can be done twice.
//!
//! - In one cluster, RBD's live migration: once it is prepared the target serves, and reads from the source what has not come
//!   over yet. It wants an image that nobody has open, and that is no clone of a deleted snapshot. One that has snapshots is
//!   copied: librbd 16 loses objects, in snapshots and head, that were written to between two snapshots of which the newer
//!   was removed (it looks for them at that one).
//! - Everything else is copied, snapshot by snapshot, each as what differs from the one before. How far the copy is stands
//!   at the target, so that whoever takes it up carries on there. The source stays whole until the copy is.

use crate::disk;
use pool::{CreateOptions, Error, Image, Migration, OptionalExt, Tier, copy_range};
use std::time::Duration;

/// Where a copy says how far it is: `<snapshots that are there>:<bytes of the next that are>`.
const PROGRESS: &str = "aquifer.copied";
/// Bytes between two notes of how far a copy is.
const WINDOW: u64 = 1 << 30;

/// How an image gets to another tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Live,
    Copy,
}

fn options(tier: &Tier) -> CreateOptions {
    CreateOptions { data_pool: tier.data_pool.clone(), ..CreateOptions::default() }
}

/// The state of a live migration of an image of this name here; none, too, where there is no image.
async fn state(tier: &Tier, name: &str) -> Result<Migration, Error> {
    Ok(tier.pool.rbd().migration_status(name).await.optional()?.unwrap_or(Migration::None))
}

/// Whether the target serves already, by a live migration under way or done.
pub(crate) async fn serves(from: &Tier, to: &Tier, name: &str) -> Result<bool, Error> {
    Ok(match state(to, name).await? {
        Migration::Prepared | Migration::Executed => true,
        Migration::Unsettled => false,
        // The source is not there any more; or it waits in the trash for a target that was only begun.
        Migration::None => {
            let from = from.pool.rbd();
            let gone = !from.exists(name).await? && to.pool.rbd().exists(name).await?;
            gone && from.migration_is_over(name).await?
        }
    })
}

/// How the image can go.
pub(crate) async fn way(from: &Tier, to: &Tier, name: &str) -> Result<Way, Error> {
    if !from.same_cluster(to) {
        return Ok(Way::Copy);
    }
    let Some(image) = from.pool.rbd().open_read_only(name).await.optional()? else { return Ok(Way::Live) };
    let look = |image: Image| async move { Ok((image.snap_list_all().await?, image.parent().await?)) };
    let (snaps, parent) = disk::with(image, look).await?;
    let live = snaps.is_empty() && parent.is_none_or(|p| !p.snap_deleted);
    Ok(if live { Way::Live } else { Way::Copy })
}

/// Lets the target serve. `Busy` while somebody has the source open.
pub(crate) async fn prepare(from: &Tier, to: &Tier, name: &str) -> Result<(), Error> {
    if serves(from, to, name).await? {
        return Ok(());
    }
    take_back(from, to, name).await?;
    from.pool.rbd().migration_prepare(name, &to.pool, name, options(to)).await
}

/// Brings everything over. `progress` hears done and all, in objects.
pub(crate) async fn execute(
    to: &Tier,
    name: &str,
    progress: impl Fn(u64, u64) + Send + 'static,
) -> Result<(), Error> {
    match state(to, name).await? {
        Migration::Executed | Migration::None => Ok(()),
        _ => to.pool.rbd().migration_execute(name, Box::new(progress)).await,
    }
}

/// The source goes.
pub(crate) async fn commit(from: &Tier, to: &Tier, name: &str) -> Result<(), Error> {
    match state(to, name).await? {
        Migration::None => from.pool.rbd().migration_sweep(name).await,
        _ => to.pool.rbd().migration_commit(name).await,
    }
}

/// Takes a move back, of either way: afterwards the source serves, if it is still there. What was written to a target
/// that had served is lost.
pub(crate) async fn take_back(from: &Tier, to: &Tier, name: &str) -> Result<(), Error> {
    if from.same_cluster(to) {
        from.pool.rbd().migration_recover(name, &to.pool.rbd(), name).await?;
    }
    for tier in [to, from] {
        if state(tier, name).await? != Migration::None {
            tier.pool.rbd().migration_abort(name).await?;
        }
    }
    // Never the only one there is.
    if from.pool.rbd().exists(name).await? {
        disk::remove(to, name).await?;
    }
    Ok(())
}

/// Copies an image with its snapshots. Nobody writes to it meanwhile. `progress` hears done and all, in bytes.
pub(crate) async fn copy(
    from: &Tier,
    to: &Tier,
    name: &str,
    progress: impl Fn(u64, u64) + Send + Sync,
) -> Result<(), Error> {
    let head = from.pool.rbd().open_read_only(name).await?;
    let (snaps, size) =
        disk::with(head, |head| async move { Ok((head.snap_list().await?, head.size().await?)) }).await?;
    let mut stages: Vec<(Option<String>, u64)> = snaps.into_iter().map(|s| (Some(s.name), s.size)).collect();
    stages.push((None, size));
    let target = started(to, name, &stages).await?;
    disk::with(target, |target| async move {
        let (mut done, mut at) = noted(&target).await?.unwrap_or((0, 0));
        while let Some((snap, size)) = stages.get(done) {
            let since = done.checked_sub(1).and_then(|i| stages[i].0.as_deref());
            let source = match snap {
                Some(s) => from.pool.rbd().open_snapshot(name, s).await?,
                None => from.pool.rbd().open_read_only(name).await?,
            };
            target.resize(*size, true).await?;
            let last = snap.is_none();
            let (target, progress) = (&target, &progress);
            disk::with(source, |source| async move {
                while at < *size {
                    let len = WINDOW.min(size - at);
                    copy_range(&source, since, target, at, len, |_| ()).await?;
                    at += len;
                    target.flush().await?;
                    note(target, done, at).await?;
                    if last {
                        progress(at, *size);
                    }
                }
                Ok(())
            })
            .await?;
            if let Some(s) = snap {
                match target.snap_create(s).await {
                    Err(Error::Exists { .. }) | Ok(()) => {}
                    Err(e) => return Err(e),
                }
            }
            (done, at) = (done + 1, 0);
            note(target, done, at).await?;
        }
        Ok(())
    })
    .await
}

/// The target as far as an earlier try has come, or an empty one.
async fn started(to: &Tier, name: &str, stages: &[(Option<String>, u64)]) -> Result<Image, Error> {
    let rbd = to.pool.rbd();
    if let Some(target) = rbd.open(name).await.optional()? {
        let there = target.snap_list().await?;
        let fits = there.iter().zip(stages).all(|(a, (b, _))| b.as_deref() == Some(&a.name));
        // One without a note was cut short before its first byte.
        if fits && noted(&target).await?.is_some_and(|(done, _)| done.min(stages.len() - 1) <= there.len()) {
            return Ok(target);
        }
        target.close().await?;
        disk::remove(to, name).await?;
    }
    let size = stages.first().map_or(0, |(_, size)| *size);
    disk::ensure_empty(to, name, size).await?;
    // Somebody who looked may still be about to close it.
    let target = rbd.open(name).await?.with_deadline(Duration::from_secs(3600));
    note(&target, 0, 0).await?;
    Ok(target)
}

async fn note(target: &Image, done: usize, at: u64) -> Result<(), Error> {
    target.metadata_set(PROGRESS, &format!("{done}:{at}")).await
}

async fn noted(target: &Image) -> Result<Option<(usize, u64)>, Error> {
    let text = target.metadata_get(PROGRESS).await.optional()?;
    let numbers = text.as_deref().and_then(|t| t.split_once(':'));
    Ok(numbers.and_then(|(done, at)| Some((done.parse().ok()?, at.parse().ok()?))))
}

/// The copy serves, for good: nothing is to be carried on.
pub(crate) async fn settle(to: &Tier, name: &str) -> Result<(), Error> {
    let image = to.pool.rbd().open(name).await?;
    disk::with(image, |image| async move { image.metadata_remove(PROGRESS).await }).await
}
