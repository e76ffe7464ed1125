//! An open image: data operations, and what concerns it as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::manage::{Progress, blocking};
use crate::cluster::{Permit, Work};
use crate::error::{Context, Errno, Error};
use crate::ffi::completion::{Done, RbdPending};
use crate::ffi::image::ImageHandle;
use crate::ffi::luks::{self, Layout};
use crate::ffi::manage::RawLink;
use crate::rados::{Pool, time};

/// What of a LUKS header is written at once, where it is not all zeroes.
const HEADER_PIECE: usize = 64 << 10;

/// An open image, or an open snapshot of one. Cheap to clone; it is closed in the background when the last
/// clone has gone and the last operation is done. Offsets and lengths are in bytes.
///
/// It belongs to the connection it was opened on: after [`Error::Unreachable`] (this client was fenced) it has to
/// be opened anew.
#[derive(Clone)]
pub struct Image {
    pool: Pool,
    handle: Arc<ImageHandle>,
    name: Arc<str>,
    writable: bool,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({})", self.name)
    }
}

/// What an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// Never changes, also not by renaming.
    pub id: String,
    pub size: u64,
    /// The size of its objects; 2^order.
    pub object_size: u64,
    pub order: u8,
    /// Bits of [`crate::features`].
    pub features: u64,
    /// Whether its object map or fast diff cannot be relied on (`rebuild_object_map`).
    pub flags: u64,
    /// How many of its first bytes come from the parent where it has none of its own.
    pub overlap: u64,
    /// The number of the pool that its data are in.
    pub data_pool_id: i64,
    pub created: SystemTime,
    pub block_name_prefix: String,
    pub parent: Option<ImageLink>,
}

/// An image elsewhere: a parent (with the snapshot), or a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLink {
    pub pool: String,
    /// Empty: the default one.
    pub namespace: String,
    pub id: String,
    pub name: String,
    /// It is in the trash.
    pub trash: bool,
    /// The parent's snapshot; for one that is in the trash, the name it has there. `None` for a child.
    pub snap: Option<String>,
    /// The parent's snapshot's id.
    pub snap_id: Option<u64>,
    /// That snapshot was deleted: its clones alone keep it.
    pub snap_deleted: bool,
}

impl ImageLink {
    fn parent((l, id, snap, snap_deleted): (RawLink, u64, String, bool)) -> Self {
        Self { snap: Some(snap), snap_id: Some(id), snap_deleted, ..Self::child(l) }
    }

    fn child(l: RawLink) -> Self {
        let RawLink { pool, namespace, id, name, trash } = l;
        Self { pool, namespace, id, name, trash, snap: None, snap_id: None, snap_deleted: false }
    }
}

/// How an image is encrypted, in XTS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncryptionFormat {
    /// LUKS2, else LUKS1.
    pub luks2: bool,
    /// AES-256, else AES-128; the header knows it, so it counts when formatting only.
    pub aes256: bool,
}

/// A range of an image: `exists` tells bytes from zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub off: u64,
    pub len: u64,
    pub exists: bool,
}

/// The owner of an image's exclusive lock, as [`Image::lock_break`] takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockOwner(pub String);

/// Somebody who has the image open for writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watcher {
    /// Address and nonce.
    pub address: String,
    /// The client's id in the cluster ([`crate::Cluster::client_id`] is ours).
    pub client: i64,
    pub cookie: u64,
}

impl Image {
    pub(super) fn new(
        pool: Pool,
        handle: Arc<ImageHandle>,
        name: &str,
        snap: Option<&str>,
        writable: bool,
    ) -> Self {
        let name = match snap {
            None => name.into(),
            Some(s) => format!("{name}@{s}").into(),
        };
        Self { pool, handle, name, writable }
    }

    /// The name it was opened by (`image`, or `image@snapshot`).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The place it is in.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The same open image with another deadline for its operations.
    pub fn with_deadline(&self, deadline: std::time::Duration) -> Self {
        Self { pool: self.pool.with_deadline(deadline), ..self.clone() }
    }

    pub(super) fn path(&self, verb: &str) -> String {
        self.pool.path(verb, &self.name)
    }

    /// Runs a blocking call on the image.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        work: Work,
        verb: &'static str,
        f: impl FnOnce(&ImageHandle) -> Result<R, Errno> + Send + 'static,
    ) -> Result<R, Error> {
        let handle = self.handle.clone();
        let io = handle.io().clone();
        match blocking(&self.pool, work, || self.path(verb), &io, move || f(&handle)).await {
            // librbd's word for an exclusive lock that another client was quicker to take.
            Err(Error::ReadOnly { what }) if self.writable => Err(Error::Busy { what }),
            other => other,
        }
    }

    /// Submits a data operation and waits for it.
    async fn io<T, R>(
        &self,
        verb: &'static str,
        cost: usize,
        submit: impl FnOnce(&Arc<ImageHandle>, Permit) -> Result<RbdPending<T>, Errno>,
        take: impl FnOnce(Done<T>) -> Result<R, Errno>,
    ) -> Result<R, Error> {
        let what = || self.path(verb);
        self.pool
            .within(what, async {
                let permit = self.pool.cluster().permit(cost).await?;
                let result = submit(&self.handle, permit).what(what)?.wait().await.and_then(take);
                self.pool.notice(self.handle.io(), result).what(what)
            })
            .await
    }

    /// Reads `len` bytes at `off`; fewer where the image ends, `Invalid` beyond its end.
    pub async fn read_at(&self, off: u64, len: usize) -> Result<Bytes, Error> {
        self.io("read", len, |h, p| h.read(p, off, len), Done::image_bytes).await
    }

    /// Writes at `off`; durable when it returns. `Invalid` beyond the image's end, `ReadOnly`.
    pub async fn write_at(&self, off: u64, data: Bytes) -> Result<(), Error> {
        let len = data.len();
        self.io("write", len, |h, p| h.write(p, off, data), |d| d.ok().map(drop)).await
    }

    /// Writes at `off` if `expected` (of the same length, within one object) stands there. `Err(Cancelled)`
    /// where it does not.
    pub async fn compare_and_write(&self, off: u64, expected: Bytes, data: Bytes) -> Result<(), Error> {
        let submit = |h: &Arc<ImageHandle>, p| h.compare_and_write(p, off, expected.clone(), data.clone());
        let take = Done::mismatch;
        match self.io("compare and write", data.len(), submit, take).await? {
            None => Ok(()),
            Some(at) => Err(Error::Cancelled { what: format!("{}: differs at {at}", self.path("write")) }),
        }
    }

    /// Gives a range back to the pool. Whole objects (and allocation units) read as zeroes afterwards; at the
    /// edges the old bytes may stay: [`Image::write_zeroes`] is exact.
    pub async fn discard(&self, off: u64, len: u64) -> Result<(), Error> {
        self.io("discard", 0, |h, p| h.discard(p, off, len), |d| d.ok().map(drop)).await
    }

    /// Zeroes a range, giving back to the pool what can be.
    pub async fn write_zeroes(&self, off: u64, len: u64) -> Result<(), Error> {
        let n = usize::try_from(len).map_err(|_| Error::Range { what: self.path("write zeroes") })?;
        self.io("write zeroes", 0, |h, p| h.write_zeroes(p, off, n), |d| d.ok().map(drop)).await
    }

    /// Waits until every write that has returned is durable.
    pub async fn flush(&self) -> Result<(), Error> {
        self.io("flush", 0, |h, p| h.flush(p), |d| d.ok().map(drop)).await
    }

    /// The size in bytes (of the snapshot, where one is open).
    pub async fn size(&self) -> Result<u64, Error> {
        self.run(Work::Short, "get size of", |i| i.size()).await
    }

    /// Size, features, parent, and so on.
    pub async fn info(&self) -> Result<ImageInfo, Error> {
        let (i, parent) = self.run(Work::Short, "stat", |i| Ok((i.info()?, i.parent()?))).await?;
        Ok(ImageInfo {
            id: i.id,
            size: i.size,
            object_size: i.object_size,
            order: i.order,
            features: i.features,
            flags: i.flags,
            overlap: i.overlap,
            data_pool_id: i.data_pool_id,
            created: time(i.created),
            block_name_prefix: i.block_name_prefix,
            parent: parent.map(ImageLink::parent),
        })
    }

    /// Grows or (where allowed) shrinks the image.
    pub async fn resize(&self, size: u64, allow_shrink: bool) -> Result<(), Error> {
        let none: Progress = Box::new(|_, _| {});
        self.run(Work::Long, "resize", move |i| i.resize(size, allow_shrink, &none)).await
    }

    /// Switches features on or off (bits of [`crate::features`]).
    pub async fn update_features(&self, features: u64, enabled: bool) -> Result<(), Error> {
        self.run(Work::Short, "change features of", move |i| i.update_features(features, enabled)).await
    }

    /// The snapshot it is a clone of; `None` for one that is not, or has been flattened.
    pub async fn parent(&self) -> Result<Option<ImageLink>, Error> {
        let parent = self.run(Work::Short, "get parent of", |i| i.parent()).await?;
        Ok(parent.map(ImageLink::parent))
    }

    /// The clones of this image: of all its snapshots, or of the one that is open.
    pub async fn children(&self) -> Result<Vec<ImageLink>, Error> {
        let all = self.run(Work::Short, "list children of", |i| i.children(false)).await?;
        Ok(all.into_iter().map(ImageLink::child).collect())
    }

    /// The clones of this image, their clones, and so on.
    pub async fn descendants(&self) -> Result<Vec<ImageLink>, Error> {
        let all = self.run(Work::Short, "list descendants of", |i| i.children(true)).await?;
        Ok(all.into_iter().map(ImageLink::child).collect())
    }

    /// Copies what still comes from the parent; then it has none. Twice is no error.
    pub async fn flatten(&self, progress: Progress) -> Result<(), Error> {
        match self.run(Work::Long, "flatten", move |i| i.flatten(&progress)).await {
            Err(Error::Invalid { .. }) if self.parent().await?.is_none() => Ok(()),
            r => r,
        }
    }

    /// Gives runs of zeroes of `grain` bytes (a power of two, at least 4,096) back to the pool.
    pub async fn sparsify(&self, grain: usize, progress: Progress) -> Result<(), Error> {
        self.run(Work::Long, "sparsify", move |i| i.sparsify(grain, &progress)).await
    }

    /// Makes the map of existing objects anew.
    pub async fn rebuild_object_map(&self, progress: Progress) -> Result<(), Error> {
        self.run(Work::Long, "rebuild object map of", move |i| i.rebuild_object_map(&progress)).await
    }

    /// What differs in a range between a snapshot (`None`: nothing at all) and this image (or open snapshot), with
    /// what comes from the parent. `whole_object`: in whole objects, much quicker where the image has a fast diff.
    /// The caller bounds the answer by the range: at most one extent an object of it, or, if exact, a few.
    pub async fn diff_iterate(
        &self,
        from_snap: Option<&str>,
        off: u64,
        len: u64,
        whole_object: bool,
    ) -> Result<Vec<Extent>, Error> {
        self.diff(from_snap, off, len, true, whole_object).await
    }

    pub(super) async fn diff(
        &self,
        from_snap: Option<&str>,
        off: u64,
        len: u64,
        include_parent: bool,
        whole_object: bool,
    ) -> Result<Vec<Extent>, Error> {
        let from = from_snap.map(str::to_owned);
        let call = move |i: &ImageHandle| i.diff(from.as_deref(), off, len, include_parent, whole_object);
        let found = self.run(Work::Long, "diff", call).await?;
        Ok(found.into_iter().map(|(off, len, exists)| Extent { off, len, exists }).collect())
    }

    /// The bytes that the image itself takes up, in whole objects, without what comes from the parent and
    /// without its snapshots.
    pub async fn used_bytes(&self) -> Result<u64, Error> {
        let size = self.size().await?;
        let extents = self.diff(None, 0, size, false, true).await?;
        Ok(extents.iter().filter(|e| e.exists).map(|e| e.len).sum())
    }

    /// A metadata value. `NotFound`.
    pub async fn metadata_get(&self, key: &str) -> Result<String, Error> {
        let k = key.to_owned();
        self.run(Work::Short, "get metadata of", move |i| i.metadata_get(&k)).await
    }

    /// Sets a metadata value. (Keys that begin with `conf_` set librbd's configuration for this image, QoS among it.)
    pub async fn metadata_set(&self, key: &str, value: &str) -> Result<(), Error> {
        let (k, v) = (key.to_owned(), value.to_owned());
        self.run(Work::Short, "set metadata of", move |i| i.metadata_set(&k, &v)).await
    }

    /// Removes a metadata value; an absent one is no error.
    pub async fn metadata_remove(&self, key: &str) -> Result<(), Error> {
        let k = key.to_owned();
        match self.run(Work::Short, "remove metadata of", move |i| i.metadata_remove(&k)).await {
            Err(Error::NotFound { .. }) => Ok(()),
            r => r,
        }
    }

    /// All metadata.
    pub async fn metadata_list(&self) -> Result<BTreeMap<String, String>, Error> {
        const PAGE: u64 = 128;
        let mut all = BTreeMap::new();
        let mut after = String::new();
        loop {
            let start = after.clone();
            let page =
                self.run(Work::Short, "list metadata of", move |i| i.metadata_list(&start, PAGE)).await?;
            let full = page.len() as u64 >= PAGE;
            after = page.last().map(|(k, _)| k.clone()).unwrap_or_default();
            all.extend(page);
            if !full {
                return Ok(all);
            }
        }
    }

    /// Takes the exclusive lock and keeps it until released: nobody else can write. `Busy` where another client
    /// does not give it up.
    pub async fn lock_acquire(&self) -> Result<(), Error> {
        self.run(Work::Short, "lock", |i| i.lock_acquire()).await
    }

    /// Releases the exclusive lock.
    pub async fn lock_release(&self) -> Result<(), Error> {
        self.run(Work::Short, "unlock", |i| i.lock_release()).await
    }

    /// Whether this handle holds the exclusive lock.
    pub async fn lock_owned(&self) -> Result<bool, Error> {
        self.run(Work::Short, "look at the lock of", |i| i.lock_owned()).await
    }

    /// Who holds the exclusive lock: one, or nobody.
    pub async fn lock_owners(&self) -> Result<Vec<LockOwner>, Error> {
        let all = self.run(Work::Short, "look at the lock of", |i| i.lock_owners()).await?;
        Ok(all.into_iter().map(LockOwner).collect())
    }

    /// Takes the exclusive lock away from its owner, who is fenced (blocklisted): for one that is known to be dead.
    pub async fn lock_break(&self, owner: &LockOwner) -> Result<(), Error> {
        let owner = owner.0.clone();
        self.run(Work::Short, "break the lock of", move |i| i.lock_break(&owner)).await
    }

    /// Everybody who has the image open for writing, this handle too where it is one.
    pub async fn watchers(&self) -> Result<Vec<Watcher>, Error> {
        let all = self.run(Work::Short, "list watchers of", |i| i.watchers()).await?;
        Ok(all.into_iter().map(|(address, client, cookie)| Watcher { address, client, cookie }).collect())
    }

    /// Writes a LUKS header into an image that holds nothing yet: it is encrypted from here on, [`Image::size`] is less by
    /// the header, and this handle reads and writes in the clear. The passphrase is taken to be a random key: it is not
    /// stretched. `NoSpace` where the header leaves no room.
    pub async fn encryption_format(&self, how: EncryptionFormat, passphrase: &[u8]) -> Result<(), Error> {
        let info = self.info().await?;
        let EncryptionFormat { luks2, aes256 } = how;
        let layout = Layout { luks2, aes256, alignment: info.object_size };
        let secret = passphrase.to_vec();
        let make = move |_: &ImageHandle| luks::header(layout, &secret);
        let (header, begin) = self.run(Work::Short, "encrypt", make).await?;
        if begin >= info.size {
            return Err(Error::NoSpace { what: self.path("encrypt") });
        }
        // Most of it is room for further passphrases.
        let header = Bytes::from(header);
        let mut at = 0;
        while at < header.len() {
            let piece = header.slice(at..header.len().min(at + HEADER_PIECE));
            let off = at as u64;
            at += piece.len();
            if piece.iter().any(|b| *b != 0) {
                self.write_at(off, piece).await?;
            }
        }
        self.flush().await?;
        self.encryption_load(how, passphrase).await
    }

    /// Unlocks a LUKS image: this handle reads and writes in the clear. `Permission` for a wrong passphrase; `Invalid` for
    /// an image that is not of this format, and for a clone: librbd 16 lends its cipher to the parents, too, and each of
    /// them gives it back twice when the image is closed, that is after it was freed. [`Image::flatten`] it first.
    pub async fn encryption_load(&self, how: EncryptionFormat, passphrase: &[u8]) -> Result<(), Error> {
        if self.parent().await?.is_some() {
            return Err(Error::Invalid { what: self.path("decrypt the clone") });
        }
        let passphrase = passphrase.to_vec();
        // Where somebody else made the header, it may take seconds by design, and one waits for the other.
        self.run(Work::Long, "decrypt", move |i| i.unlock(how.luks2, &passphrase)).await
    }

    /// Lets this (read-only) image stand at a snapshot by its id: the way into one that is in the trash.
    pub async fn snap_set(&self, id: u64) -> Result<(), Error> {
        self.run(Work::Short, "go to a snapshot of", move |i| i.snap_set(id)).await
    }

    /// Gives up this handle and waits until the image is closed, that is until its clones and operations are
    /// done, too. Dropping closes as well, in the background.
    pub async fn close(self) -> Result<(), Error> {
        let (closed, pool, name) = (self.handle.on_closed(), self.pool.clone(), self.name.clone());
        drop(self);
        let what = || pool.path("close image", &name);
        pool.within(what, async { closed.await.unwrap_or(Ok(())).what(what) }).await
    }
}
