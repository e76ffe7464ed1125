//! Management of the images of a pool: blocking calls, each called from a lane.

use std::ffi::{CString, c_char, c_void};
use std::ptr;

use super::image::{Progress, on_progress};
use super::rados::IoCtx;
use super::{check, cstr, decl, split_names, string};
use crate::error::{Errno, errno};

pub(super) type Done = Result<(), Errno>;

/// Options for creating an image, as librbd takes them.
pub(super) struct Options(pub(super) decl::rbd_image_options_t);

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: made by librbd, destroyed once.
        unsafe { decl::rbd_image_options_destroy(self.0) };
    }
}

/// What an image is to be created with; what is `None` is the cluster's default.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawOptions {
    pub(crate) features: Option<u64>,
    pub(crate) order: Option<u8>,
    pub(crate) data_pool: Option<String>,
    pub(crate) stripe: Option<(u64, u64)>,
    pub(crate) clone_v2: bool,
}

impl RawOptions {
    pub(super) fn build(&self) -> Result<Options, Errno> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is written before it is used; strings live through their call.
        unsafe { decl::rbd_image_options_create(&mut raw) };
        let options = Options(raw);
        let set = |key: u32, value: u64| {
            check(unsafe { decl::rbd_image_options_set_uint64(raw, key as i32, value) }).map(drop)
        };
        if let Some(features) = self.features {
            set(decl::RBD_IMAGE_OPTION_FEATURES, features)?;
        }
        if let Some(order) = self.order {
            set(decl::RBD_IMAGE_OPTION_ORDER, order.into())?;
        }
        if let Some((unit, count)) = self.stripe {
            set(decl::RBD_IMAGE_OPTION_STRIPE_UNIT, unit)?;
            set(decl::RBD_IMAGE_OPTION_STRIPE_COUNT, count)?;
        }
        if self.clone_v2 {
            set(decl::RBD_IMAGE_OPTION_CLONE_FORMAT, 2)?;
        }
        if let Some(pool) = &self.data_pool {
            let pool = cstr(pool)?;
            let key = decl::RBD_IMAGE_OPTION_DATA_POOL as i32;
            check(unsafe { decl::rbd_image_options_set_string(raw, key, pool.as_ptr()) })?;
        }
        Ok(options)
    }
}

/// An image elsewhere, as a parent or a child.
#[derive(Debug, Clone)]
pub(crate) struct RawLink {
    pub(crate) pool: String,
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) trash: bool,
}

/// # Safety
/// `s` was filled by librbd.
pub(super) unsafe fn link(s: &decl::rbd_linked_image_spec_t) -> RawLink {
    unsafe {
        RawLink {
            pool: string(s.pool_name),
            namespace: string(s.pool_namespace),
            id: string(s.image_id),
            name: string(s.image_name),
            trash: s.trash,
        }
    }
}

/// Calls `fill(buffer, &mut count)` with a growing buffer until everything fits; librbd says ERANGE and how
/// many there are where it does not.
pub(super) fn listed<T, N: TryFrom<usize> + TryInto<usize> + Copy>(
    start: usize,
    mut fill: impl FnMut(*mut T, &mut N) -> i64,
) -> Result<Vec<T>, Errno> {
    let mut capacity = start;
    loop {
        let mut items: Vec<T> = Vec::with_capacity(capacity);
        // SAFETY: all users are C structures of integers and pointers: zeroes are valid.
        unsafe { ptr::write_bytes(items.as_mut_ptr(), 0, capacity) };
        let mut count = N::try_from(capacity).map_err(|_| Errno(errno::ERANGE))?;
        let r = check(fill(items.as_mut_ptr(), &mut count));
        let count: usize = count.try_into().map_err(|_| Errno(errno::ERANGE))?;
        match r {
            Ok(_) => {
                // SAFETY: librbd filled `count` items, never more than there was room for.
                unsafe { items.set_len(count.min(capacity)) };
                return Ok(items);
            }
            Err(Errno(errno::ERANGE)) if capacity < 1 << 22 => capacity = count.max(capacity * 2),
            Err(e) => return Err(e),
        }
    }
}

pub(super) fn no_progress() -> Progress {
    Box::new(|_, _| {})
}

pub(super) fn progress_arg(p: &Progress) -> *mut c_void {
    (&raw const *p).cast_mut().cast()
}

/// (id, name, whether a migration has put it there, deleted at, kept until) of what is in the trash; seconds since the
/// epoch.
pub(crate) type Trashed = (String, String, bool, i64, i64);

impl IoCtx {
    pub(crate) fn rbd_create(&self, name: &str, size: u64, options: &RawOptions) -> Done {
        let (name, options) = (cstr(name)?, options.build()?);
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_create4(self.raw(), name.as_ptr(), size, options.0) }).map(drop)
    }

    pub(crate) fn rbd_clone(
        &self,
        parent: &str,
        snap: &str,
        child_io: &IoCtx,
        child: &str,
        options: &RawOptions,
    ) -> Done {
        let (parent, snap, child) = (cstr(parent)?, cstr(snap)?, cstr(child)?);
        let options = options.build()?;
        // SAFETY: arguments live through the call.
        check(unsafe {
            decl::rbd_clone3(
                self.raw(),
                parent.as_ptr(),
                snap.as_ptr(),
                child_io.raw(),
                child.as_ptr(),
                options.0,
            )
        })
        .map(drop)
    }

    pub(crate) fn rbd_remove(&self, name: &str) -> Done {
        let (name, p) = (cstr(name)?, no_progress());
        // SAFETY: arguments live through the call, also the progress callback's.
        check(unsafe {
            decl::rbd_remove_with_progress(self.raw(), name.as_ptr(), Some(on_progress), progress_arg(&p))
        })
        .map(drop)
    }

    pub(crate) fn rbd_rename(&self, from: &str, to: &str) -> Done {
        let (from, to) = (cstr(from)?, cstr(to)?);
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_rename(self.raw(), from.as_ptr(), to.as_ptr()) }).map(drop)
    }

    /// (id, name) of every image.
    pub(crate) fn rbd_list(&self) -> Result<Vec<(String, String)>, Errno> {
        let mut items = listed::<decl::rbd_image_spec_t, usize>(256, |p, n| {
            // SAFETY: `p` has room for `n` items.
            i64::from(unsafe { decl::rbd_list2(self.raw(), p, n) })
        })?;
        // SAFETY: filled by librbd, copied, then cleaned up by it.
        unsafe {
            let out = items.iter().map(|i| (string(i.id), string(i.name))).collect();
            decl::rbd_image_spec_list_cleanup(items.as_mut_ptr(), items.len());
            Ok(out)
        }
    }

    pub(crate) fn trash_move(&self, name: &str, delay_s: u64) -> Done {
        let name = cstr(name)?;
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_trash_move(self.raw(), name.as_ptr(), delay_s) }).map(drop)
    }

    pub(crate) fn trash_list(&self) -> Result<Vec<Trashed>, Errno> {
        use decl::rbd_trash_image_source_t_RBD_TRASH_IMAGE_SOURCE_MIGRATION as MIGRATION;
        let mut items = listed::<decl::rbd_trash_image_info_t, usize>(64, |p, n| {
            // SAFETY: `p` has room for `n` items.
            i64::from(unsafe { decl::rbd_trash_list(self.raw(), p, n) })
        })?;
        // SAFETY: as in `rbd_list`.
        unsafe {
            let out = items
                .iter()
                .map(|i| {
                    let (id, name) = (string(i.id), string(i.name));
                    (id, name, i.source == MIGRATION, i.deletion_time, i.deferment_end_time)
                })
                .collect();
            decl::rbd_trash_list_cleanup(items.as_mut_ptr(), items.len());
            Ok(out)
        }
    }

    pub(crate) fn trash_restore(&self, id: &str, name: &str) -> Done {
        let (id, name) = (cstr(id)?, cstr(name)?);
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_trash_restore(self.raw(), id.as_ptr(), name.as_ptr()) }).map(drop)
    }

    pub(crate) fn trash_remove(&self, id: &str, force: bool) -> Done {
        let (id, p) = (cstr(id)?, no_progress());
        // SAFETY: as in `rbd_remove`.
        check(unsafe {
            decl::rbd_trash_remove_with_progress(
                self.raw(),
                id.as_ptr(),
                force,
                Some(on_progress),
                progress_arg(&p),
            )
        })
        .map(drop)
    }

    pub(crate) fn pool_init(&self) -> Done {
        // SAFETY: a valid io context.
        check(unsafe { decl::rbd_pool_init(self.raw(), true) }).map(drop)
    }

    pub(crate) fn namespace_create(&self, name: &str) -> Done {
        let name = cstr(name)?;
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_namespace_create(self.raw(), name.as_ptr()) }).map(drop)
    }

    pub(crate) fn namespace_remove(&self, name: &str) -> Done {
        let name = cstr(name)?;
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_namespace_remove(self.raw(), name.as_ptr()) }).map(drop)
    }

    pub(crate) fn namespace_exists(&self, name: &str) -> Result<bool, Errno> {
        let name = cstr(name)?;
        let mut exists = false;
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_namespace_exists(self.raw(), name.as_ptr(), &mut exists) })?;
        Ok(exists)
    }

    pub(crate) fn namespace_list(&self) -> Result<Vec<String>, Errno> {
        let names = listed::<u8, usize>(4096, |p, n| {
            // SAFETY: `p` has room for `n` bytes.
            i64::from(unsafe { decl::rbd_namespace_list(self.raw(), p.cast::<c_char>(), n) })
        })?;
        Ok(split_names(&names))
    }

    pub(crate) fn migration_prepare(
        &self,
        image: &str,
        target_io: &IoCtx,
        target: &str,
        options: &RawOptions,
    ) -> Done {
        let (image, target, options) = (cstr(image)?, cstr(target)?, options.build()?);
        // SAFETY: arguments live through the call.
        check(unsafe {
            decl::rbd_migration_prepare(
                self.raw(),
                image.as_ptr(),
                target_io.raw(),
                target.as_ptr(),
                options.0,
            )
        })
        .map(drop)
    }

    /// How far the migration of this image, source or target, is: the raw state. EINVAL where it is in none.
    pub(crate) fn migration_status(&self, image: &str) -> Result<decl::rbd_image_migration_state_t, Errno> {
        let image = cstr(image)?;
        // SAFETY: all its fields may be zero.
        let mut status: decl::rbd_image_migration_status_t = unsafe { std::mem::zeroed() };
        // SAFETY: arguments live through the call; what it fills in is given back to it.
        unsafe {
            let size = size_of_val(&status);
            check(decl::rbd_migration_status(self.raw(), image.as_ptr(), &mut status, size))?;
            decl::rbd_migration_status_cleanup(&mut status);
        }
        Ok(status.state)
    }

    /// Executes, commits or aborts the migration that this image is the target of.
    pub(crate) fn migration(&self, image: &str, step: MigrationStep, p: &Progress) -> Done {
        let call = match step {
            MigrationStep::Execute => decl::rbd_migration_execute_with_progress,
            MigrationStep::Commit => decl::rbd_migration_commit_with_progress,
            MigrationStep::Abort => decl::rbd_migration_abort_with_progress,
        };
        let image = cstr(image)?;
        // SAFETY: as in `rbd_remove`.
        check(unsafe { call(self.raw(), image.as_ptr(), Some(on_progress), progress_arg(p)) }).map(drop)
    }
}

/// Whether a raw state is one in which the target is whole, and whether everything has come over.
pub(crate) fn migration_state(state: decl::rbd_image_migration_state_t) -> (bool, bool) {
    use decl::{
        rbd_image_migration_state_t_RBD_IMAGE_MIGRATION_STATE_EXECUTED as EXECUTED,
        rbd_image_migration_state_t_RBD_IMAGE_MIGRATION_STATE_EXECUTING as EXECUTING,
        rbd_image_migration_state_t_RBD_IMAGE_MIGRATION_STATE_PREPARED as PREPARED,
    };
    ([PREPARED, EXECUTING, EXECUTED].contains(&state), state == EXECUTED)
}

/// The second half of a live migration.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MigrationStep {
    Execute,
    Commit,
    Abort,
}

/// An image's name as C wants it; the empty name is EINVAL.
pub(crate) fn image_name(name: &str) -> Result<CString, Errno> {
    super::rados::oid(name)
}
