//! Listing a pool's objects, a page at a time. librados has it in a blocking form only.

use std::ptr;
use std::sync::Arc;

use super::rados::IoCtx;
use super::{bytes as copy, check, decl};
use crate::error::Errno;

/// A place in a listing.
pub(crate) struct Cursor {
    raw: decl::rados_object_list_cursor,
    io: Arc<IoCtx>,
}

// SAFETY: a cursor is plain memory, used by one thread at a time.
unsafe impl Send for Cursor {}
unsafe impl Sync for Cursor {}

impl Drop for Cursor {
    fn drop(&mut self) {
        // SAFETY: made by librados for this io context, freed once.
        unsafe { decl::rados_object_list_cursor_free(self.io.raw(), self.raw) };
    }
}

impl Cursor {
    /// The start of the listing of this io context's pool and namespace.
    pub(crate) fn begin(io: &Arc<IoCtx>) -> Self {
        // SAFETY: a valid io context.
        Self { raw: unsafe { decl::rados_object_list_begin(io.raw()) }, io: io.clone() }
    }

    fn end(io: &Arc<IoCtx>) -> Self {
        // SAFETY: a valid io context.
        Self { raw: unsafe { decl::rados_object_list_end(io.raw()) }, io: io.clone() }
    }

    /// Up to `max` names from here, and the place after them (`None` at the end).
    pub(crate) fn page(self, max: usize) -> Result<(Vec<String>, Option<Cursor>), Errno> {
        let end = Self::end(&self.io);
        let mut items: Vec<decl::rados_object_list_item> = Vec::with_capacity(max);
        let mut next = Self::begin(&self.io);
        // SAFETY: librados fills up to `max` items and says how many; they are copied and then freed by it.
        // `next` is a cursor that librados overwrites in place.
        unsafe {
            ptr::write_bytes(items.as_mut_ptr(), 0, max);
            let got = check(decl::rados_object_list(
                self.io.raw(),
                self.raw,
                end.raw,
                max,
                ptr::null(),
                0,
                items.as_mut_ptr(),
                &mut next.raw,
            ))?;
            let got = usize::try_from(got).unwrap_or(0).min(max);
            items.set_len(got);
            let names = items
                .iter()
                .map(|i| String::from_utf8_lossy(&copy(i.oid, i.oid_length)).into_owned())
                .collect();
            decl::rados_object_list_free(got, items.as_mut_ptr());
            let done = decl::rados_object_list_is_end(self.io.raw(), next.raw) != 0;
            Ok((names, (!done).then_some(next)))
        }
    }
}
