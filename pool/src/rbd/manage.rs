//! The images of a pool and namespace: create, open, clone, remove, rename, list.

use std::sync::Arc;
use std::time::Duration;

use super::Image;
use crate::OptionalExt as _;
use crate::cluster::Work;
use crate::error::{Context, Errno, Error};
use crate::ffi::image::{self, Open};
use crate::ffi::manage::{RawOptions, image_name};
use crate::ffi::rados::IoCtx;
use crate::rados::Pool;

/// Bits of an image's features.
pub mod features {
    /// Copy-on-write clones.
    pub const LAYERING: u64 = 1;
    pub const STRIPING: u64 = 2;
    /// One writer at a time.
    pub const EXCLUSIVE_LOCK: u64 = 4;
    /// Which objects exist: quick diffs and removals. Needs the exclusive lock.
    pub const OBJECT_MAP: u64 = 8;
    pub const FAST_DIFF: u64 = 16;
    /// Snapshots of a clone lose their parent too when the clone is flattened.
    pub const DEEP_FLATTEN: u64 = 32;
    pub const JOURNALING: u64 = 64;
    pub const DATA_POOL: u64 = 128;
}

/// Hears how far an operation is: (done, total) in a unit of its own. Called from a thread of librbd's.
pub type Progress = Box<dyn Fn(u64, u64) + Send>;

/// What an image is created with. What is `None` is the cluster's default.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// The pool for its data (erasure-coded, usually); its own pool where absent.
    pub data_pool: Option<String>,
    /// Bits of [`features`].
    pub features: Option<u64>,
    /// Its objects are 2^order bytes large (22: 4 MiB).
    pub order: Option<u8>,
    /// (stripe unit in bytes, stripe count).
    pub stripe: Option<(u64, u64)>,
}

impl CreateOptions {
    pub(super) fn raw(&self) -> RawOptions {
        let Self { data_pool, features, order, stripe } = self.clone();
        RawOptions { data_pool, features, order, stripe, clone_v2: false }
    }
}

/// What became of an image that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Gone,
    /// Clones still need it: it is in the trash, and [`Rbd::purge_trash`] will take it once they do not.
    Trashed,
    /// There was none.
    Absent,
}

/// The images of a pool and namespace. Cheap to clone.
///
/// Short calls end within the pool's deadline. Those whose work grows with the image (flatten, remove, copy,
/// roll back) have an hour, or the pool's deadline where it is longer ([`Pool::with_deadline`]).
#[derive(Debug, Clone)]
pub struct Rbd {
    pub(super) pool: Pool,
}

/// The least deadline of work that grows with the image.
pub(super) const LONG: Duration = Duration::from_secs(3600);

/// Runs a blocking call of librbd's on the lane it belongs to, within its deadline.
pub(super) async fn blocking<R: Send + 'static>(
    pool: &Pool,
    work: Work,
    what: impl Fn() -> String,
    io: &Arc<IoCtx>,
    f: impl FnOnce() -> Result<R, Errno> + Send + 'static,
) -> Result<R, Error> {
    let deadline = match work {
        Work::Short => pool.deadline(),
        Work::Long => pool.deadline().max(LONG),
    };
    let result = pool.cluster().blocking(work, deadline, &what, move || Ok(f())).await;
    if matches!(result, Err(Error::TimedOut { .. })) {
        pool.cluster().doubt(io);
    }
    pool.notice(io, result?).what(what)
}

impl Rbd {
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// The place they are in.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Runs a blocking call on this place's io context.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        work: Work,
        verb: &'static str,
        name: &str,
        f: impl FnOnce(Arc<IoCtx>) -> Result<R, Errno> + Send + 'static,
    ) -> Result<R, Error> {
        let io = self.pool.io().await?;
        blocking(&self.pool, work, || self.pool.path(verb, name), &io.clone(), move || f(io)).await
    }

    /// Creates an image of `size` bytes. `Exists`.
    pub async fn create(&self, name: &str, size: u64, options: CreateOptions) -> Result<(), Error> {
        image_name(name).what(|| self.pool.path("create image", name))?;
        let (n, options) = (name.to_owned(), options.raw());
        self.run(Work::Short, "create image", name, move |io| io.rbd_create(&n, size, &options)).await
    }

    async fn open_how(&self, name: &str, snap: Option<&str>, how: Open) -> Result<Image, Error> {
        let what = || match snap {
            None => self.pool.path("open image", name),
            Some(s) => self.pool.path("open image", &format!("{name}@{s}")),
        };
        let (n, s) = (image_name(name).what(what)?, snap.map(image_name).transpose().what(what)?);
        let handle = self
            .pool
            .within(what, async {
                let io = self.pool.io().await?;
                let result = image::open(&io, n, s, how).what(what)?.wait().await;
                self.pool.notice(&io, result.and_then(|done| done.image())).what(what)
            })
            .await?;
        let writable = matches!(how, Open::ByName { read_only: false } | Open::ById { read_only: false });
        Ok(Image::new(self.pool.clone(), handle, name, snap, writable))
    }

    /// Opens an image. `NotFound`.
    pub async fn open(&self, name: &str) -> Result<Image, Error> {
        self.open_how(name, None, Open::ByName { read_only: false }).await
    }

    /// Opens an image for reading only: is no watcher and takes no lock. Hears nothing of what changes: what it
    /// knows of size and snapshots is from when it was opened.
    pub async fn open_read_only(&self, name: &str) -> Result<Image, Error> {
        self.open_how(name, None, Open::ByName { read_only: true }).await
    }

    /// Opens an image as it was at a snapshot, for reading.
    pub async fn open_snapshot(&self, name: &str, snap: &str) -> Result<Image, Error> {
        self.open_how(name, Some(snap), Open::ByName { read_only: true }).await
    }

    /// Opens an image by its id, also one in the trash.
    pub async fn open_by_id(&self, id: &str, read_only: bool) -> Result<Image, Error> {
        self.open_how(id, None, Open::ById { read_only }).await
    }

    /// Makes an image that shares its bytes with a snapshot of an image here (clone version 2: the snapshot needs
    /// no protection, and may be removed while the clone exists). The child may be in another pool or namespace
    /// of the same cluster (`Invalid` for another cluster). `NotFound`, `Exists`, `NoSpace`.
    pub async fn clone_image(
        &self,
        parent: &str,
        snap: &str,
        child_pool: &Pool,
        child: &str,
        options: CreateOptions,
    ) -> Result<(), Error> {
        let path = || self.pool.path("clone image", &format!("{parent}@{snap} to {child}"));
        if self.pool.cluster() != child_pool.cluster() {
            return Err(Error::invalid(format!("{}: it is in another cluster", path())));
        }
        image_name(child).what(path)?;
        let child_io = child_pool.io().await?;
        let (p, s, c) = (parent.to_owned(), snap.to_owned(), child.to_owned());
        let options = RawOptions { clone_v2: true, ..options.raw() };
        let io = self.pool.io().await?;
        let call = move || io.rbd_clone(&p, &s, &child_io, &c, &options);
        match blocking(&self.pool, Work::Short, path, &self.pool.io().await?, call).await {
            // librbd says ENOENT, too, when it clears away a child that a full pool did not let it finish.
            Err(Error::NotFound { what }) if self.has_snapshot(parent, snap).await? => {
                Err(Error::NoSpace { what })
            }
            other => other,
        }
    }

    async fn has_snapshot(&self, image: &str, snap: &str) -> Result<bool, Error> {
        let Some(image) = self.open_read_only(image).await.optional()? else { return Ok(false) };
        let there = image.snap_exists(snap).await;
        image.close().await?;
        there
    }

    /// Removes an image. `NotFound`; `Busy` where it has snapshots (also those in the trash that clones keep) or is
    /// open elsewhere; `NoSpace` where the pool is so full that librbd cannot note down what it is about to do.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        const VERB: &str = "remove image";
        let n = name.to_owned();
        let removed = match self.id_of(name).await? {
            Some(id) => self.remove_alone((&id, VERB, name), move |io| io.rbd_remove(&n)).await,
            None => self.run(Work::Long, VERB, name, move |io| io.rbd_remove(&n)).await,
        };
        match removed {
            // librbd says ENOENT, too, when its note in the trash could not be written.
            Err(Error::NotFound { what }) if self.exists(name).await? => Err(Error::NoSpace { what }),
            r => r,
        }
    }

    /// Removes an image whatever clones it has: with its snapshots, where nothing needs it any more; otherwise
    /// it goes to the trash, where [`Rbd::purge_trash`] finds it. Twice is no error. `Busy`: open elsewhere.
    pub async fn remove_or_trash(&self, name: &str) -> Result<Removed, Error> {
        let image = match self.open(name).await {
            Err(Error::NotFound { .. }) => return self.remove_remnant(name).await,
            r => r?,
        };
        // The image may be another's, who has not given up its first name.
        if self.remove_second_name(name).await? {
            image.close().await?;
            return Ok(Removed::Gone);
        }
        let kept = self.empty(&image).await;
        image.close().await?;
        let result = match kept? {
            true => self.trash_move(name, Duration::ZERO).await.map(|()| Removed::Trashed),
            false => self.remove_again(name).await.map(|()| Removed::Gone),
        };
        match result {
            Err(Error::NotFound { .. }) => Ok(Removed::Absent),
            r => r,
        }
    }

    /// Removes the snapshots of an image that nobody else has open; whether clones keep some of them, or a ghost the
    /// image.
    async fn empty(&self, image: &Image) -> Result<bool, Error> {
        let watchers = image.watchers().await?;
        let others = watchers.len() > 1;
        if others && self.is_alive_elsewhere(image).await? {
            let who: Vec<_> =
                watchers.iter().map(|w| format!("{} (client.{})", w.address, w.client)).collect();
            let what = image.path("remove image");
            return Err(Error::Busy { what: format!("{what}: open here and by others: {}", who.join(", ")) });
        }
        image.snap_remove_all().await?;
        Ok(others || !image.snap_list_all().await?.is_empty())
    }

    /// Renames an image within its place, also where that was begun before and cut short. `NotFound`, `Exists`.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        image_name(to).what(|| self.pool.path("rename image to", to))?;
        let (f, t) = (from.to_owned(), to.to_owned());
        let rename = move || {
            let (f, t) = (f.clone(), t.clone());
            self.run(Work::Short, "rename image", from, move |io| io.rbd_rename(&f, &t))
        };
        match rename().await {
            Err(Error::Exists { .. }) if self.remove_second_name(to).await? => rename().await,
            r => r,
        }
    }

    /// The names of all images, sorted.
    pub async fn list(&self) -> Result<Vec<String>, Error> {
        let all = self.run(Work::Short, "list images of", "", |io| io.rbd_list()).await?;
        let mut names: Vec<_> = all.into_iter().map(|(_, name)| name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Whether there is an image of this name.
    pub async fn exists(&self, name: &str) -> Result<bool, Error> {
        // The object that gives a format 2 image's name its id: one look, without opening the image.
        match self.pool.stat(&format!("rbd_id.{name}")).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Prepares the pool for images (the first image does it too).
    pub async fn init(&self) -> Result<(), Error> {
        self.run(Work::Short, "prepare pool for images", "", |io| io.pool_init()).await
    }

    /// Creates the namespace this place names, or another one of the same pool. Twice is no error.
    pub async fn namespace_create(&self, name: &str) -> Result<(), Error> {
        let (n, root) = (name.to_owned(), self.root());
        match root.run(Work::Short, "create namespace", name, move |io| io.namespace_create(&n)).await {
            Err(Error::Exists { .. }) => Ok(()),
            r => r,
        }
    }

    /// Removes a namespace of this pool. `Busy` while it has images or trash; an absent one is no error.
    pub async fn namespace_remove(&self, name: &str) -> Result<(), Error> {
        let (n, root) = (name.to_owned(), self.root());
        match root.run(Work::Short, "remove namespace", name, move |io| io.namespace_remove(&n)).await {
            Err(Error::NotFound { .. }) => Ok(()),
            r => r,
        }
    }

    /// The namespaces of this pool, but the default one.
    pub async fn namespace_list(&self) -> Result<Vec<String>, Error> {
        self.root().run(Work::Short, "list namespaces of", "", |io| io.namespace_list()).await
    }

    /// Whether this pool has the namespace.
    pub async fn namespace_exists(&self, name: &str) -> Result<bool, Error> {
        let n = name.to_owned();
        self.root().run(Work::Short, "look for namespace", name, move |io| io.namespace_exists(&n)).await
    }

    fn root(&self) -> Self {
        Self::new(self.pool.with_namespace(""))
    }
}
