//! The RBD images of this service: `<id>` with its snapshot `snap`, and `<id>.orig` beside it.
//!
//! Nothing else of this crate makes or removes images in a pool. Every call can be made twice.

use super::moved::Moved;
use crate::inspect::Source;
use crate::model::{Form, Image, RbdSource};
use crate::{ImageError, SNAP};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::BoxFuture;
use pool::{CreateOptions, ImageReader, OptionalExt, Rbd, Tier, Tiers};
use std::sync::Arc;

/// The images of one tier.
#[derive(Clone)]
pub(crate) struct Blobs {
    pub(crate) tier: Tier,
    rbd: Rbd,
}

/// Which of an image's two RBD images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    /// `<id>`
    Main,
    /// `<id>.orig`
    Original,
}

impl Disk {
    pub(crate) fn name(self, id: &str) -> String {
        match self {
            Disk::Main => id.to_owned(),
            Disk::Original => format!("{id}.orig"),
        }
    }
}

/// Who looks on while bytes are copied.
pub(crate) struct Onlooker<'a> {
    /// Hears how many bytes of the RBD image under way are behind.
    pub(crate) progress: &'a (dyn Fn(u64) + Send + Sync),
    /// Ends, with the reason, when nobody wants them any more.
    pub(crate) over: BoxFuture<'a, ImageError>,
}

impl Blobs {
    pub(crate) fn of(tiers: &Tiers, tier: &str) -> Result<Self, ImageError> {
        let tier = tiers.get(tier)?;
        let rbd = tier.pool.rbd();
        Ok(Blobs { tier, rbd })
    }

    fn options(&self) -> CreateOptions {
        CreateOptions { data_pool: self.tier.data_pool.clone(), ..CreateOptions::default() }
    }

    /// An empty image to write into. What an earlier attempt has left there goes first.
    pub(crate) async fn create(&self, id: &str, disk: Disk, size: u64) -> Result<pool::Image, ImageError> {
        let name = disk.name(id);
        self.rbd.remove_or_trash(&name).await?;
        self.rbd.create(&name, size, self.options()).await?;
        Ok(self.rbd.open(&name).await?)
    }

    /// The bytes as they are now, for reading.
    pub(crate) async fn open(&self, id: &str, disk: Disk) -> Result<pool::Image, ImageError> {
        Ok(self.rbd.open_read_only(&disk.name(id)).await?)
    }

    pub(crate) async fn exists(&self, id: &str, disk: Disk) -> Result<bool, ImageError> {
        Ok(self.rbd.exists(&disk.name(id)).await?)
    }

    /// Takes the snapshot that clones are made from.
    pub(crate) async fn seal(&self, id: &str) -> Result<(), ImageError> {
        let image = self.rbd.open(id).await?;
        let taken = image.snap_create(SNAP).await;
        image.close().await?;
        match taken {
            Err(e) if !e.is_exists() => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// A staged body that needs no conversion becomes the image itself.
    pub(crate) async fn promote(&self, id: &str) -> Result<(), ImageError> {
        match self.rbd.rename(&Disk::Original.name(id), id).await {
            Err(e) if e.is_not_found() && self.exists(id, Disk::Main).await? => Ok(()),
            r => Ok(r?),
        }
    }

    /// Makes `<id>` a clone of a snapshot in the same cluster, or a copy of one in another, or of one that stands on
    /// `max_depth` parents; the size of its disk, in bytes.
    pub(crate) async fn clone_from(
        &self,
        tiers: &Tiers,
        from: &RbdSource,
        id: &str,
        max_depth: u32,
    ) -> Result<u64, ImageError> {
        let source = tiers.get(&from.tier)?;
        let far = !source.same_cluster(&self.tier);
        if far || source.pool.rbd().depth(&from.image, &from.snap).await? >= max_depth {
            return self.copy_from(&source, from, id).await;
        }
        let clone = || {
            let (rbd, options) = (source.pool.rbd(), self.options());
            async move { rbd.clone_image(&from.image, &from.snap, &self.tier.pool, id, options).await }
        };
        match clone().await {
            // An attempt that was cut short may have left a child without its parent.
            Err(e) if e.is_exists() => {
                self.rbd.remove_or_trash(id).await?;
                clone().await?;
            }
            made => made?,
        }
        self.size(id).await
    }

    /// Bytes are copied, those that exist.
    async fn copy_from(&self, source: &Tier, from: &RbdSource, id: &str) -> Result<u64, ImageError> {
        let there = source.pool.rbd().open_snapshot(&from.image, &from.snap).await?;
        let here = self.create(id, Disk::Main, there.size().await?).await?;
        pool::copy_image(&there, &here, |_, _| {}).await?;
        here.close().await?;
        self.size(id).await
    }

    /// Makes `<id>` here what it is in another tier, with its snapshot, and `<id>.orig` where it is wanted. Only what is
    /// there is copied.
    pub(crate) async fn copy_of(
        &self,
        from: &Blobs,
        id: &str,
        original: bool,
        onlooker: &mut Onlooker<'_>,
    ) -> Result<(), ImageError> {
        let there = from.rbd.open_snapshot(id, SNAP).await?;
        self.copied(&there, id, Disk::Main, onlooker).await?;
        self.seal(id).await?;
        if !original {
            return Ok(());
        }
        let there = from.open(id, Disk::Original).await?;
        self.copied(&there, id, Disk::Original, onlooker).await
    }

    /// Only the copying itself can be cut short: what is being created is there before anybody removes it, and what
    /// is being written has ended before this returns.
    async fn copied(
        &self,
        there: &pool::Image,
        id: &str,
        disk: Disk,
        onlooker: &mut Onlooker<'_>,
    ) -> Result<(), ImageError> {
        let here = self.create(id, disk, there.size().await?).await?;
        let progress = onlooker.progress;
        let copied = tokio::select! {
            copied = pool::copy_image(there, &here, |at, _| progress(at)) => copied.map_err(ImageError::from),
            why = &mut onlooker.over => Err(why),
        };
        if copied.is_ok() {
            super::moved::copy_key(there, &here).await?;
        }
        if !copied.as_ref().is_err_and(ImageError::is_unavailable) {
            here.close().await?;
        }
        copied.map(drop)
    }

    /// The bytes that [`Blobs::copy_of`] would copy from here, in whole objects.
    pub(crate) async fn weight(&self, id: &str, original: bool) -> Result<u64, ImageError> {
        let mut bytes = weight_of(self.rbd.open_snapshot(id, SNAP).await?).await?;
        if original {
            bytes += weight_of(self.open(id, Disk::Original).await?).await?;
        }
        Ok(bytes)
    }

    async fn size(&self, id: &str) -> Result<u64, ImageError> {
        let image = self.rbd.open_read_only(id).await?;
        let size = image.size().await?;
        image.close().await?;
        Ok(size)
    }

    /// The id of the RBD image `<id>`, which it keeps in the trash.
    pub(crate) async fn rbd_id(&self, id: &str) -> Result<Option<String>, ImageError> {
        let Some(image) = self.rbd.open_read_only(id).await.optional()? else { return Ok(None) };
        let info = image.info().await;
        image.close().await?;
        Ok(Some(info?.id))
    }

    /// Removes an RBD image, whatever clones it has: where they still need it, it goes to the trash.
    pub(crate) async fn remove(&self, id: &str, disk: Disk) -> Result<(), ImageError> {
        self.rbd.remove_or_trash(&disk.name(id)).await?;
        Ok(())
    }

    /// Removes both RBD images of an image.
    pub(crate) async fn remove_both(&self, id: &str) -> Result<(), ImageError> {
        self.remove(id, Disk::Main).await?;
        self.remove(id, Disk::Original).await?;
        Ok(())
    }

    /// Removes an image that is in the trash; false while clones still need it.
    pub(crate) async fn purge(&self, rbd_id: &str) -> Result<bool, ImageError> {
        let removed = match self.rbd.trash_remove(rbd_id, false).await {
            // Whoever moved it there may have died over it: one task at a time sees to an image's bytes.
            Err(e) if e.is_busy() && self.rbd.trash_settle(rbd_id).await? => {
                self.rbd.trash_remove(rbd_id, false).await
            }
            r => r,
        };
        match removed {
            Err(e) if e.is_busy() => Ok(false),
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(true),
        }
    }

    /// Opens a stored upload of `size` bytes. `disk` is `<id>` where it is being made; else its snapshot is read.
    pub(crate) async fn stored(
        &self,
        id: &str,
        size: u64,
        disk: Option<pool::Image>,
    ) -> Result<Stored, ImageError> {
        let file = self.open(id, Disk::Original).await?;
        let moved = Moved::load(&file, size).await?;
        let disk = match disk {
            Some(disk) => Some(disk),
            None if moved == Moved::default() => None,
            None => Some(self.rbd.open_snapshot(id, SNAP).await?),
        };
        Ok(Stored { file, disk, moved, size })
    }

    /// Streams `len` bytes from `off` of what was uploaded.
    pub(crate) async fn stream(&self, image: &Image, off: u64, len: u64) -> Result<super::Body, ImageError> {
        if image.form == Form::Converted {
            let stored = self.stored(&image.id, image.size.unwrap_or_default(), None).await?;
            return Ok(stored.stream(off, len));
        }
        let opened = self.rbd.open_snapshot(&image.id, SNAP).await?;
        Ok(ImageReader::new(opened, off, len).into_stream().map(|r| r.map_err(ImageError::from)).boxed())
    }
}

/// Looked at together, in bytes: a few thousand objects.
const WINDOW: u64 = 16 << 30;

async fn weight_of(image: pool::Image) -> Result<u64, ImageError> {
    let (size, mut at, mut bytes) = (image.size().await?, 0, 0);
    while at < size {
        let len = WINDOW.min(size - at);
        let found = image.diff_iterate(None, at, len, true).await?;
        bytes += found.iter().filter(|e| e.exists).map(|e| e.len).sum::<u64>();
        at += len;
    }
    image.close().await?;
    Ok(bytes)
}

/// A stored upload, as it came: read from `<id>.orig`, and from the disk what has moved there.
#[derive(Clone)]
pub(crate) struct Stored {
    file: pool::Image,
    disk: Option<pool::Image>,
    pub(crate) moved: Moved,
    size: u64,
}

/// Reads of a download under way.
const AHEAD: usize = 4;

impl Stored {
    async fn part(&self, (at, len, in_disk): (u64, usize, bool)) -> Result<Bytes, ImageError> {
        let image = if in_disk { self.disk.as_ref() } else { Some(&self.file) };
        let image = image.ok_or_else(|| ImageError::Internal("moved bytes without their disk".into()))?;
        let data = image.read_at(at, len).await?;
        if data.len() != len {
            return Err(ImageError::Internal("a stored image is shorter than its row says".into()));
        }
        Ok(data)
    }

    fn stream(self, off: u64, len: u64) -> super::Body {
        let parts = self.moved.parts(off, len);
        let stored = Arc::new(self);
        let reads = futures::stream::iter(parts).map(move |part| {
            let stored = stored.clone();
            tokio::spawn(async move { stored.part(part).await })
        });
        reads.buffered(AHEAD).map(|r| r.map_err(ImageError::from).and_then(|r| r)).boxed()
    }
}

#[async_trait]
impl Source for Stored {
    fn size(&self) -> u64 {
        self.size
    }

    async fn read(&self, off: u64, len: usize) -> Result<Bytes, ImageError> {
        let left = self.size.saturating_sub(off);
        let len = left.min(len as u64);
        let mut parts = self.moved.parts(off, len);
        match (parts.next(), parts.next()) {
            (None, _) => Ok(Bytes::new()),
            (Some(only), None) => self.part(only).await,
            (Some(first), Some(second)) => {
                let mut all = BytesMut::from(self.part(first).await?);
                for part in [second].into_iter().chain(parts) {
                    all.extend_from_slice(&self.part(part).await?);
                }
                Ok(all.freeze())
            }
        }
    }
}
