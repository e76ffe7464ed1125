//! Encrypting an image in another way, or not at all: its content goes into a fresh image, in the same tier or another. What is
//! here can be done twice.
//!
//! The fresh image is made beside the old one and takes its name when it is whole; the old one keeps another name until it
//! is certain that there is no way back. What is copied is what the volume's user sees, so the image of a volume that is
//! encrypted is larger than the volume by its header: nothing at the volume's end is lost.

use crate::disk::{self, GIB};
use crate::encryption::{HEADER, holes_are_noise};
use api::Secret;
use pool::{EncryptionFormat, Error, Extent, Image, OptionalExt, Removed, Tier, copy_extents, copy_whole};
use std::ops::Range;

/// How an image is encrypted; `None`: in the clear.
pub(crate) type Seal = Option<(EncryptionFormat, Secret)>;

/// Where a copy says how far it is, in bytes of content.
const PROGRESS: &str = "aquifer.recrypted";
/// Bytes between two notes of how far a copy is.
const WINDOW: u64 = GIB;

/// The image that is to take the place.
fn fresh(name: &str) -> String {
    format!("{name}.recrypt")
}

/// The image whose place was taken.
fn former(name: &str) -> String {
    format!("{name}.recrypted")
}

/// An image that is open in the clear, with how far into it its content begins.
struct Content {
    image: Image,
    header: u64,
}

async fn unlock(image: &Image, seal: &Seal) -> Result<u64, Error> {
    let raw = image.size().await?;
    if let Some((format, secret)) = seal {
        image.encryption_load(*format, secret.0.as_bytes()).await?;
    }
    Ok(raw - image.size().await?)
}

/// Makes the fresh image whole: the content of the old one, encrypted as `after` says, with room for at least `bytes` in
/// the pool. Nobody writes to the old one meanwhile. `progress` hears done and all, in bytes.
pub(crate) async fn prepare(
    (from, before): (&Tier, &Seal),
    (to, after): (&Tier, &Seal),
    name: &str,
    bytes: u64,
    progress: impl Fn(u64, u64) + Send + Sync,
) -> Result<(), Error> {
    if from.pool.rbd().exists(&former(name)).await? {
        // It was whole, and has begun to take the place.
        return Ok(());
    }
    if before.is_some() {
        disk::ensure_flat(from, name).await?;
    }
    let whole = after.as_ref().is_some_and(|(format, _)| holes_are_noise(*format));
    // Where anything is, only an image that is not unlocked tells.
    let map = from.pool.rbd().open_read_only(name).await?;
    disk::with(map, |map| async move {
        let source = from.pool.rbd().open_read_only(name).await?;
        disk::with(source, |source| async move {
            let header = unlock(&source, before).await?;
            let size = source.size().await?;
            let source = Content { image: source, header };
            let (target, at) = started(to, after, name, size, bytes).await?;
            disk::with(target, |target| copy(map, source, (target, whole), at..size, progress)).await
        })
        .await
    })
    .await
}

/// Copies a range of the content, a window at a time; `whole`: zeroes, too.
async fn copy(
    map: Image,
    source: Content,
    (target, whole): (Image, bool),
    Range { start: mut at, end: size }: Range<u64>,
    progress: impl Fn(u64, u64) + Send + Sync,
) -> Result<(), Error> {
    while at < size {
        let len = WINDOW.min(size - at);
        if whole {
            copy_whole(&source.image, &target, at, len).await?;
        } else {
            copy_extents(&source.image, &target, existing(&map, source.header, at, len).await?).await?;
        }
        at += len;
        target.flush().await?;
        note(&target, at).await?;
        progress(at, size);
    }
    Ok(())
}

/// Where in a range of the content anything is.
async fn existing(map: &Image, header: u64, at: u64, len: u64) -> Result<Vec<Extent>, Error> {
    let (begin, end) = (at + header, at + header + len);
    let found = map.diff_iterate(None, begin, len, true).await?;
    let content = found.into_iter().filter(|e| e.exists).map(|e| {
        // Whole objects may reach beyond what was asked for.
        let (off, to) = (e.off.max(begin), (e.off + e.len).min(end));
        Extent { off: off - header, len: to.saturating_sub(off), exists: true }
    });
    Ok(content.collect())
}

/// The fresh image, open in the clear, as far as an earlier try has come; or a new one.
async fn started(
    to: &Tier,
    after: &Seal,
    name: &str,
    content: u64,
    bytes: u64,
) -> Result<(Image, u64), Error> {
    let (rbd, fresh) = (to.pool.rbd(), fresh(name));
    if let Some(there) = rbd.open(&fresh).await.optional()? {
        // One without a note was cut short before its first byte.
        if let Some(at) = noted(&there).await? {
            return opened(there, after, at).await;
        }
        there.close().await?;
    }
    let header = after.as_ref().map_or(0, |(format, _)| header_of(*format));
    disk::ensure_empty(to, &fresh, bytes.max(content + header)).await?;
    let image = rbd.open(&fresh).await?;
    match begun(&image, after, content).await {
        Ok(()) => Ok((image, 0)),
        Err(e) => {
            image.close().await?;
            Err(e)
        }
    }
}

/// Makes an empty image one that content can be copied into, and opens it so.
async fn begun(image: &Image, after: &Seal, content: u64) -> Result<(), Error> {
    if let Some((format, secret)) = after {
        image.encryption_format(*format, secret.0.as_bytes()).await?;
    }
    if image.size().await? < content {
        return Err(Error::NoSpace { what: format!("encrypt {}", image.name()) });
    }
    note(image, 0).await
}

/// The bytes of a header, as librbd writes it.
fn header_of(format: EncryptionFormat) -> u64 {
    if format.luks2 { HEADER } else { 4 << 20 }
}

async fn opened(image: Image, after: &Seal, at: u64) -> Result<(Image, u64), Error> {
    match unlock(&image, after).await {
        Ok(_) => Ok((image, at)),
        Err(e) => {
            image.close().await?;
            Err(e)
        }
    }
}

async fn note(target: &Image, at: u64) -> Result<(), Error> {
    target.metadata_set(PROGRESS, &at.to_string()).await
}

async fn noted(target: &Image) -> Result<Option<u64>, Error> {
    Ok(target.metadata_get(PROGRESS).await.optional()?.and_then(|t| t.parse().ok()))
}

/// The fresh image takes the old one's name.
pub(crate) async fn switch(from: &Tier, to: &Tier, name: &str) -> Result<(), Error> {
    if to.pool.rbd().exists(&fresh(name)).await? {
        if !from.pool.rbd().exists(&former(name)).await? {
            disk::ensure_renamed(from, name, &former(name)).await?;
        }
        disk::ensure_renamed(to, &fresh(name), name).await?;
    }
    Ok(())
}

/// Takes all of it back: the old image has its name again. False: it is gone already, and the fresh one, which the row then
/// names (`switched`), is all there is.
pub(crate) async fn take_back(from: &Tier, to: &Tier, name: &str, switched: bool) -> Result<bool, Error> {
    if from.pool.rbd().exists(&former(name)).await? {
        // What has its name now is the fresh one, or nothing.
        disk::remove(to, name).await?;
        disk::ensure_renamed(from, &former(name), name).await?;
    } else if switched {
        return Ok(false);
    }
    disk::remove(to, &fresh(name)).await?;
    Ok(true)
}

/// The old image goes: there is no way back.
pub(crate) async fn commit(from: &Tier, to: &Tier, name: &str) -> Result<Removed, Error> {
    let image = to.pool.rbd().open(name).await?;
    disk::with(image, |image| async move { image.metadata_remove(PROGRESS).await }).await?;
    disk::remove(from, &former(name)).await
}

/// What [`commit`] left in the trash is called.
pub(crate) fn trashed(name: &str) -> String {
    former(name)
}
