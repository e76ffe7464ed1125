//! The driver of backups in RBD: where their bytes are, and how they get there and back.
//!
//! A full backup and the incremental ones after it are one chain: an RBD image in the backups' tier with a snapshot for
//! each, so that every one of them reads as a whole and takes the room of what it changed. Beside it stand the checksums
//! of each backup's chunks, 16 bytes of SHA-256 for 4 MiB, in objects for a TiB each. A chunk of zeroes has the
//! checksum of zeroes, is not stored, and is not read when it is restored.
//!
//! The checksums say what a chunk was without reading the backup: an incremental one reads what changed on the volume
//! since its parent (by the fast diff, where the parent's snapshot is still there; everything, where it is not) and writes
//! what really differs. They are written when their TiB is, so that work begun again goes on behind it.

use super::driver::Driver;
use super::objects::StoreError;
use crate::config::BackupDriver;
use crate::disk::GIB;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use pool::{CreateOptions, Error, Image, OptionalExt, Tier};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) const CHUNK: u64 = 4 << 20;
const SUM: usize = 16;
/// What one object of checksums covers.
const WINDOW: u64 = 1 << 40;
/// What one diff looks at: bounds its answer.
const STRIDE: u64 = 64 << 30;
/// Chunks under way at once.
pub(super) const DEPTH: usize = 8;

type Sum = [u8; SUM];
const ZEROES: Sum = [0; SUM];

/// Where one backup's bytes are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Place {
    #[serde(default)]
    pub(super) driver: BackupDriver,
    /// The tier; of other drivers, the container.
    pub(super) tier: String,
    /// Whose part of the container it is in; of no use with RBD.
    #[serde(default)]
    pub(super) owner: String,
    /// The id of the chain's first backup.
    pub(super) chain: String,
    /// The id that the snapshot and the checksums are called by.
    pub(super) data: String,
}

impl Place {
    pub(super) fn image(&self) -> String {
        format!("backup-{}", self.chain)
    }

    pub(super) fn snap(&self) -> String {
        snap(&self.data)
    }
}

/// The snapshot of a backup, in its chain; also the one that is taken of the volume for it.
pub(super) fn snap(data: &str) -> String {
    format!("backup-{data}")
}

/// Why bytes could not be moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    #[error("storage")]
    Storage(#[from] Error),
    #[error("the backup store")]
    Store(#[from] StoreError),
    #[error("The backup does not open with the root secret.")]
    NoKey,
    /// What is stored is not what was backed up.
    #[error("The backup is damaged: its bytes from {0} on are not those that were backed up.")]
    Damaged(u64),
    #[error("The backup's checksums are incomplete.")]
    NoSums,
    #[error("The backup that this one differs from is not there any more.")]
    NoParent,
}

/// What a backup is made from.
#[derive(Clone)]
pub(super) struct From {
    /// Open at the snapshot that is backed up.
    pub(super) image: Image,
    pub(super) bytes: u64,
    /// The volume's snapshot that the parent was made from, where it is still there.
    pub(super) since: Option<String>,
    /// The parent's [`Place::data`] and its bytes, where there is one.
    pub(super) parent: Option<(String, u64)>,
}

/// What making one took.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Chunks of the volume that were read.
    pub(crate) read: u64,
    /// Chunks that differed, and were written or cleared.
    pub(crate) changed: u64,
}

fn sums_name(data: &str, window: u64) -> String {
    format!("backup-sums.{data}.{window}")
}

/// The number, the offset and the length of each stretch of so many bytes.
pub(super) fn windows(bytes: u64, each: u64) -> impl Iterator<Item = (u64, u64, u64)> {
    (0..bytes.div_ceil(each)).map(move |w| (w, w * each, each.min(bytes - w * each)))
}

fn sum_of(data: &[u8]) -> Sum {
    let mut sum = ZEROES;
    if data.iter().any(|b| *b != 0) {
        sum.copy_from_slice(&Sha256::digest(data)[..SUM]);
    }
    sum
}

/// The checksum of a chunk, worked out where it holds nobody up.
async fn sum(data: Bytes) -> Result<Sum, Error> {
    let cancelled = |_| Error::Cancelled { what: "checksum".into() };
    tokio::task::spawn_blocking(move || sum_of(&data)).await.map_err(cancelled)
}

async fn sums(tier: &Tier, data: &str, window: u64) -> Result<Option<Vec<Sum>>, Error> {
    let object = sums_name(data, window);
    let most = usize::try_from(WINDOW / CHUNK).unwrap_or(usize::MAX) * SUM;
    let Some(bytes) = tier.pool.read(&object, 0, most).await.optional()? else { return Ok(None) };
    Ok(Some(bytes.as_chunks::<SUM>().0.to_vec()))
}

/// The checksums of a backup of so many bytes; none behind its end.
async fn sums_within(tier: &Tier, data: &str, bytes: u64, window: u64) -> Result<Vec<Sum>, DataError> {
    let chunks = WINDOW.min(bytes.saturating_sub(window * WINDOW)).div_ceil(CHUNK);
    if chunks == 0 {
        return Ok(Vec::new());
    }
    let found = sums(tier, data, window).await?.filter(|s| s.len() as u64 == chunks);
    found.ok_or(DataError::NoSums)
}

/// Chains in a tier.
pub(super) struct Chain(pub(super) Tier);

#[async_trait]
impl Driver for Chain {
    async fn store(&self, from: &From, place: &Place) -> Result<Cost, DataError> {
        store(from, &self.0, place).await
    }

    async fn fill(&self, place: &Place, bytes: u64, target: &Image) -> Result<(), DataError> {
        let source = self.0.pool.rbd().open_snapshot(&place.image(), &place.snap()).await?;
        let done = restore_into(&self.0, place, &source, bytes, target).await;
        let closed = source.close().await;
        done?;
        Ok(closed?)
    }

    async fn remove(&self, place: &Place, bytes: u64) -> Result<(), DataError> {
        Ok(remove(&self.0, place, bytes).await?)
    }

    async fn holds(&self, place: &Place) -> Result<bool, DataError> {
        let image = self.0.pool.rbd().open_read_only(&place.image()).await.optional()?;
        let Some(image) = image else { return Ok(false) };
        let there = image.snap_exists(&place.snap()).await;
        image.close().await?;
        Ok(there?)
    }
}

/// Writes a backup into its chain and seals it with a snapshot. Begun again it goes on where it was.
async fn store(from: &From, tier: &Tier, place: &Place) -> Result<Cost, DataError> {
    let rbd = tier.pool.rbd();
    let options = CreateOptions { data_pool: tier.data_pool.clone(), ..CreateOptions::default() };
    let name = place.image();
    match rbd.create(&name, from.bytes, options.clone()).await {
        Err(Error::Exists { .. }) | Ok(()) => {}
        Err(e) => return Err(e.into()),
    }
    let to = match rbd.open(&name).await {
        // A creation that was cut short has left the name, and no image.
        Err(Error::NotFound { .. }) => {
            crate::disk::remove(tier, &name).await?;
            rbd.create(&name, from.bytes, options).await?;
            rbd.open(&name).await?
        }
        opened => opened?,
    };
    let done = store_into(from, &to, tier, place).await;
    let closed = to.close().await;
    let cost = done?;
    closed?;
    Ok(cost)
}

async fn store_into(from: &From, to: &Image, tier: &Tier, place: &Place) -> Result<Cost, DataError> {
    let mut cost = Cost::default();
    if to.snap_exists(&place.snap()).await? {
        // One that was cut short goes here, so that the next try makes it anew: `NoSpace`.
        return to.snap_create(&place.snap()).await.or_else(exists).map(|()| cost).map_err(Into::into);
    }
    if let Some((parent, _)) = &from.parent {
        continue_from(to, tier, place, &snap(parent)).await?;
    }
    if to.size().await? < from.bytes {
        to.resize(from.bytes, false).await?;
    }
    for (window, off, len) in windows(from.bytes, WINDOW) {
        if sums(tier, &place.data, window).await?.is_some() {
            continue;
        }
        let mut all = match &from.parent {
            Some((parent, bytes)) => sums_within(tier, parent, *bytes, window).await?,
            None => Vec::new(),
        };
        all.resize(usize::try_from(len.div_ceil(CHUNK)).unwrap_or(usize::MAX), ZEROES);
        let took = store_window(from, to, (off, len), &mut all).await?;
        cost = Cost { read: cost.read + took.read, changed: cost.changed + took.changed };
        // What is summed is stored.
        to.flush().await?;
        tier.pool.write_full(&sums_name(&place.data, window), Bytes::from(all.concat())).await?;
    }
    to.snap_create(&place.snap()).await?;
    Ok(cost)
}

fn exists(e: Error) -> Result<(), Error> {
    if e.is_exists() { Ok(()) } else { Err(e) }
}

/// What is written next differs from the parent: that is what the image must hold, also where something newer than the
/// parent is in the chain. Once a part of it is summed this has been seen to.
async fn continue_from(to: &Image, tier: &Tier, place: &Place, parent: &str) -> Result<(), DataError> {
    let all = to.snap_list().await?;
    let parent = all.iter().find(|s| s.name == parent).ok_or(DataError::NoParent)?;
    let is_newest = all.iter().all(|s| s.id <= parent.id);
    if !is_newest && sums(tier, &place.data, 0).await?.is_none() {
        mend(tier, to, &parent.name).await?;
    }
    Ok(())
}

async fn store_window(
    from: &From,
    to: &Image,
    (off, len): (u64, u64),
    all: &mut [Sum],
) -> Result<Cost, DataError> {
    let mut cost = Cost::default();
    let mut at = off;
    while at < off + len {
        let stride = STRIDE.min(off + len - at);
        let known: Arc<[Sum]> = all.into();
        let work = suspects(from, at, stride).await?.into_iter().map(|chunk| {
            let (image, to, known) = (from.image.clone(), to.clone(), known.clone());
            async move {
                let index = usize::try_from((chunk - off) / CHUNK).unwrap_or(usize::MAX);
                let n = CHUNK.min(off + len - chunk);
                let data = image.read_at(chunk, usize::try_from(n).unwrap_or(usize::MAX)).await?;
                let now = sum(data.clone()).await?;
                let differs = known.get(index) != Some(&now);
                if differs && now == ZEROES {
                    to.discard(chunk, n).await?;
                } else if differs {
                    to.write_at(chunk, data).await?;
                }
                Ok::<_, Error>((index, now, differs))
            }
        });
        let mut done = stream::iter(work).buffer_unordered(DEPTH);
        while let Some((index, now, differs)) = done.try_next().await? {
            all[index] = now;
            cost.read += 1;
            cost.changed += u64::from(differs);
        }
        at += stride;
    }
    Ok(cost)
}

/// The chunks of a range that may differ from the parent's; of a full backup, those that exist.
pub(super) async fn suspects(from: &From, off: u64, len: u64) -> Result<BTreeSet<u64>, Error> {
    if from.parent.is_some() && from.since.is_none() {
        return Ok((off..off + len).step_by(CHUNK as usize).collect());
    }
    let extents = from.image.diff_iterate(from.since.as_deref(), off, len, true).await?;
    let chunks = |e: &pool::Extent| (e.off / CHUNK..(e.off + e.len).div_ceil(CHUNK)).map(|n| n * CHUNK);
    Ok(extents.iter().flat_map(chunks).collect())
}

async fn restore_into(
    tier: &Tier,
    place: &Place,
    source: &Image,
    bytes: u64,
    target: &Image,
) -> Result<(), DataError> {
    for (window, off, len) in windows(bytes, WINDOW) {
        let sums = sums_within(tier, &place.data, bytes, window).await?;
        let stored = sums.into_iter().enumerate().filter(|(_, s)| *s != ZEROES);
        let work = stored.map(|(index, wanted)| {
            let (source, target) = (source.clone(), target.clone());
            async move {
                let chunk = off + index as u64 * CHUNK;
                let n = usize::try_from(CHUNK.min(off + len - chunk)).unwrap_or(usize::MAX);
                let data = source.read_at(chunk, n).await?;
                if sum(data.clone()).await? != wanted {
                    return Err(DataError::Damaged(chunk));
                }
                Ok(target.write_at(chunk, data).await?)
            }
        });
        stream::iter(work).buffer_unordered(DEPTH).try_collect::<Vec<()>>().await?;
    }
    Ok(())
}

/// Takes a backup out of its chain, from wherever it stands there: the others read as before. The image holds what its
/// newest snapshot does then, and goes with the last of them. Twice is no error.
async fn remove(tier: &Tier, place: &Place, bytes: u64) -> Result<(), Error> {
    let rbd = tier.pool.rbd();
    let mut empty = true;
    if let Some(image) = rbd.open(&place.image()).await.optional()? {
        let done = drop_snap(tier, &image, &place.snap()).await;
        let closed = image.close().await;
        empty = done?;
        closed?;
    }
    if empty {
        crate::disk::remove(tier, &place.image()).await?;
    }
    // A volume may have been larger in between: all that there may be.
    for window in 0..=bytes.max(GIB).div_ceil(WINDOW) {
        match tier.pool.remove(&sums_name(&place.data, window)).await {
            Err(Error::NotFound { .. }) | Ok(()) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Whether no snapshot is left.
async fn drop_snap(tier: &Tier, image: &Image, snap: &str) -> Result<bool, Error> {
    let mut all = image.snap_list().await?;
    all.sort_by_key(|s| s.id);
    let at = all.iter().position(|s| s.name == snap);
    // Without its snapshot it was only begun, or this is done again: what was written for it may be there.
    let was_newest = at.is_none_or(|at| at + 1 == all.len());
    if let Some(at) = at {
        image.snap_remove(snap).await?;
        all.remove(at);
    }
    match all.last() {
        Some(newest) if was_newest => mend(tier, image, &newest.name).await?,
        _ => {}
    }
    Ok(all.is_empty())
}

/// Makes an image what it was at a snapshot: reads there, and writes, what differs.
async fn mend(tier: &Tier, image: &Image, snap: &str) -> Result<(), Error> {
    let then = tier.pool.rbd().open_snapshot(image.name(), snap).await?;
    let (had, size) = (then.size().await?, image.size().await?);
    let done = async {
        let mut at = 0;
        while at < size {
            let stride = STRIDE.min(size - at);
            for e in image.diff_iterate(Some(snap), at, stride, true).await? {
                for off in (e.off..e.off + e.len).step_by(CHUNK as usize) {
                    let n = CHUNK.min(e.off + e.len - off);
                    if off + n > had {
                        image.discard(off, n).await?;
                        continue;
                    }
                    let data = then.read_at(off, usize::try_from(n).unwrap_or(usize::MAX)).await?;
                    match data.iter().all(|b| *b == 0) {
                        true => image.discard(off, n).await?,
                        false => image.write_at(off, data).await?,
                    }
                }
            }
            at += stride;
        }
        image.flush().await
    };
    let done = done.await;
    let closed = then.close().await;
    done.and(closed)
}
