//! An open image: its life, its asynchronous data operations.
//!
//! The handle closes the image when the last reference to it goes: those of the users, and one for each
//! operation in flight. Closing is asynchronous too, so that a drop never blocks; who wants to know when it is
//! done asks for [`ImageHandle::on_closed`] first.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::completion::{Done, RbdPending, ReadBuf, submit_rados, submit_rbd, submit_rbd_noting};
use super::rados::IoCtx;
use super::{check, decl};
use crate::error::{Errno, errno};

/// How to open an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    ByName { read_only: bool },
    ById { read_only: bool },
}

/// A raw image that a completion has just opened; closes it if nobody takes it over.
pub(crate) struct OpenKeep {
    _name: CString,
    _snap: Option<CString>,
    raw: decl::rbd_image_t,
    io: Arc<IoCtx>,
    opened: bool,
}

// SAFETY: an image handle may be used from any thread.
unsafe impl Send for OpenKeep {}

impl Drop for OpenKeep {
    fn drop(&mut self) {
        if self.opened {
            close(self.raw, self.io.clone(), Vec::new());
        }
    }
}

impl Done<OpenKeep> {
    /// The opened image.
    pub(crate) fn image(mut self) -> Result<Arc<ImageHandle>, Errno> {
        check(self.ret)?;
        self.keep.opened = false;
        let io = self.keep.io.clone();
        Ok(Arc::new(ImageHandle { raw: self.keep.raw, io, closed: Mutex::default() }))
    }
}

/// Opens an image, or a snapshot of one.
pub(crate) fn open(
    io: &Arc<IoCtx>,
    name: CString,
    snap: Option<CString>,
    how: Open,
) -> Result<RbdPending<OpenKeep>, Errno> {
    let name_ptr = name.as_ptr();
    let snap_ptr = snap.as_ref().map_or(ptr::null(), |s| s.as_ptr());
    let keep = OpenKeep { _name: name, _snap: snap, raw: ptr::null_mut(), io: io.clone(), opened: false };
    let ioctx = io.raw();
    // SAFETY: names and the place for the handle are in the box. librbd sets the handle when the call is made
    // and frees it where opening fails: whether it is open is decided by the return value.
    unsafe {
        submit_rbd_noting(
            io.clone(),
            keep,
            |k, ret| k.opened = ret >= 0,
            |comp, keep: *mut OpenKeep| {
                let raw = &raw mut (*keep).raw;
                let r = match how {
                    Open::ByName { read_only: false } => {
                        decl::rbd_aio_open(ioctx, name_ptr, raw, snap_ptr, comp)
                    }
                    Open::ByName { read_only: true } => {
                        decl::rbd_aio_open_read_only(ioctx, name_ptr, raw, snap_ptr, comp)
                    }
                    Open::ById { read_only: false } => {
                        decl::rbd_aio_open_by_id(ioctx, name_ptr, raw, snap_ptr, comp)
                    }
                    Open::ById { read_only: true } => {
                        decl::rbd_aio_open_by_id_read_only(ioctx, name_ptr, raw, snap_ptr, comp)
                    }
                };
                i64::from(r)
            },
        )
    }
}

type Closed = oneshot::Sender<Result<(), Errno>>;

/// An image that nobody uses any more, until librbd's own threads are done with it, too.
struct Closing {
    raw: decl::rbd_image_t,
    io: Arc<IoCtx>,
    done: Vec<Closed>,
}

// SAFETY: as for `OpenKeep`.
unsafe impl Send for Closing {}

impl Drop for Closing {
    fn drop(&mut self) {
        fn tell(done: &mut Vec<Closed>, ret: i64) {
            for tx in done.drain(..) {
                let _ = tx.send(check(ret).map(drop));
            }
        }
        let (raw, done) = (self.raw, std::mem::take(&mut self.done));
        // SAFETY: the last use of `raw`; the io context lives until the callback.
        let pending = unsafe {
            submit_rbd_noting(self.io.clone(), done, tell, |comp, _| {
                i64::from(decl::rbd_aio_close(raw, comp))
            })
        };
        drop(pending);
    }
}

/// Starts closing; each of `done` hears of the end.
///
/// librbd 16 says that an image is open at a snapshot before the thread that says so has done with the image's state:
/// who closes it at once has that thread lock what was freed (`ImageState::complete_action_unlock`), which ends the
/// process, or leaves the thread waiting for ever. That thread runs on the strand that all of the connection's
/// completions have in common. So one more completion, of nothing at all, comes when it has done.
fn close(raw: decl::rbd_image_t, io: Arc<IoCtx>, done: Vec<Closed>) {
    let closing = Closing { raw, io: io.clone(), done };
    // SAFETY: librados touches nothing of it. Where it is not submitted, it is dropped, and so closed, at once.
    drop(unsafe { submit_rados(&io, (), closing, |io, comp, _| decl::rados_aio_flush_async(io, comp)) });
}

/// An open image.
pub(crate) struct ImageHandle {
    raw: decl::rbd_image_t,
    io: Arc<IoCtx>,
    closed: Mutex<Vec<Closed>>,
}

// SAFETY: librbd's images may be used from any thread, at the same time.
unsafe impl Send for ImageHandle {}
unsafe impl Sync for ImageHandle {}

impl Drop for ImageHandle {
    fn drop(&mut self) {
        let done = std::mem::take(self.closed.get_mut().unwrap_or_else(PoisonError::into_inner));
        close(self.raw, self.io.clone(), done);
    }
}

pub(crate) struct ReadKeep {
    buf: ReadBuf,
}

impl Done<ReadKeep> {
    /// The bytes that were read.
    pub(crate) fn image_bytes(self) -> Result<Bytes, Errno> {
        let n = usize::try_from(check(self.ret)?).unwrap_or(0);
        // SAFETY: a read returns how many bytes it has written into the buffer.
        Ok(unsafe { self.keep.buf.filled(n) })
    }
}

pub(crate) struct CmpKeep {
    _expected: Bytes,
    _data: Bytes,
    mismatch: u64,
}

impl Done<CmpKeep> {
    /// `Ok(None)`: written. `Ok(Some(offset))`: differs there, nothing written.
    pub(crate) fn mismatch(self) -> Result<Option<u64>, Errno> {
        match check(self.ret) {
            Ok(_) => Ok(None),
            Err(Errno(errno::EILSEQ)) => Ok(Some(self.keep.mismatch)),
            Err(e) => Err(e),
        }
    }
}

impl ImageHandle {
    pub(super) fn raw(&self) -> decl::rbd_image_t {
        self.raw
    }

    /// The io context it was opened on.
    pub(crate) fn io(&self) -> &Arc<IoCtx> {
        &self.io
    }

    /// Hears when the image has been closed, after the last reference has gone.
    pub(crate) fn on_closed(&self) -> oneshot::Receiver<Result<(), Errno>> {
        let (tx, rx) = oneshot::channel();
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).push(tx);
        rx
    }

    /// Reads `len` bytes at `off`.
    pub(crate) fn read<H: Send + 'static>(
        self: &Arc<Self>,
        hold: H,
        off: u64,
        len: usize,
    ) -> Result<RbdPending<ReadKeep>, Errno> {
        let mut buf = ReadBuf::new(len);
        let (ptr, raw) = (buf.ptr(), self.raw);
        let hold = (hold, self.clone());
        // SAFETY: the buffer is heap memory owned by the box; the image is in `hold`.
        unsafe {
            submit_rbd(hold, ReadKeep { buf }, |comp, _| {
                i64::from(decl::rbd_aio_read(raw, off, len, ptr, comp))
            })
        }
    }

    /// Writes at `off`.
    pub(crate) fn write<H: Send + 'static>(
        self: &Arc<Self>,
        hold: H,
        off: u64,
        data: Bytes,
    ) -> Result<RbdPending<Bytes>, Errno> {
        let (ptr, len, raw) = (data.as_ptr().cast::<c_char>(), data.len(), self.raw);
        let hold = (hold, self.clone());
        // SAFETY: as in `read`.
        unsafe { submit_rbd(hold, data, |comp, _| i64::from(decl::rbd_aio_write(raw, off, len, ptr, comp))) }
    }

    /// Writes at `off` if `expected` stands there.
    pub(crate) fn compare_and_write<H: Send + 'static>(
        self: &Arc<Self>,
        hold: H,
        off: u64,
        expected: Bytes,
        data: Bytes,
    ) -> Result<RbdPending<CmpKeep>, Errno> {
        if expected.len() != data.len() {
            return Err(Errno(errno::EINVAL));
        }
        let (cmp, ptr, len) = (expected.as_ptr().cast(), data.as_ptr().cast(), data.len());
        let raw = self.raw;
        let keep = CmpKeep { _expected: expected, _data: data, mismatch: 0 };
        // SAFETY: as in `read`.
        unsafe {
            submit_rbd((hold, self.clone()), keep, |comp, keep: *mut CmpKeep| {
                let mismatch = &raw mut (*keep).mismatch;
                decl::rbd_aio_compare_and_write(raw, off, len, cmp, ptr, comp, mismatch, 0) as i64
            })
        }
    }

    /// Gives a range back to the pool; reads as zeroes where whole blocks were covered.
    pub(crate) fn discard<H: Send + 'static>(
        self: &Arc<Self>,
        hold: H,
        off: u64,
        len: u64,
    ) -> Result<RbdPending<()>, Errno> {
        let raw = self.raw;
        // SAFETY: the image is in `hold`.
        unsafe {
            submit_rbd((hold, self.clone()), (), |comp, _| {
                i64::from(decl::rbd_aio_discard(raw, off, len, comp))
            })
        }
    }

    /// Zeroes a range, exactly.
    pub(crate) fn write_zeroes<H: Send + 'static>(
        self: &Arc<Self>,
        hold: H,
        off: u64,
        len: usize,
    ) -> Result<RbdPending<()>, Errno> {
        let raw = self.raw;
        // SAFETY: the image is in `hold`.
        unsafe {
            submit_rbd((hold, self.clone()), (), |comp, _| {
                i64::from(decl::rbd_aio_write_zeroes(raw, off, len, comp, 0, 0))
            })
        }
    }

    /// Waits until everything that was acknowledged before is durable.
    pub(crate) fn flush<H: Send + 'static>(self: &Arc<Self>, hold: H) -> Result<RbdPending<()>, Errno> {
        let raw = self.raw;
        // SAFETY: the image is in `hold`.
        unsafe { submit_rbd((hold, self.clone()), (), |comp, _| i64::from(decl::rbd_aio_flush(raw, comp))) }
    }
}

/// One range that differs: offset, length, and whether there are bytes now (else: zeroes).
pub(crate) type RawExtent = (u64, u64, bool);

/// A callback that reports progress: (done, total), in a unit of librbd's choice.
pub(crate) type Progress = Box<dyn Fn(u64, u64) + Send>;

/// librbd's progress callback: `arg` is a `Progress`. A panic in it ends there.
pub(super) unsafe extern "C" fn on_progress(done: u64, total: u64, arg: *mut c_void) -> c_int {
    // SAFETY: `arg` points to the `Progress` of the call that is being made.
    let f = unsafe { &*arg.cast::<Progress>() };
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(done, total)));
    0
}

impl ImageHandle {
    /// What differs in `off..off+len` between a snapshot (`None`: nothing at all) and now. Blocks.
    pub(crate) fn diff(
        &self,
        from: Option<&str>,
        off: u64,
        len: u64,
        include_parent: bool,
        whole_object: bool,
    ) -> Result<Vec<RawExtent>, Errno> {
        unsafe extern "C" fn each(off: u64, len: usize, exists: c_int, arg: *mut c_void) -> c_int {
            // SAFETY: `arg` is the vector below; librbd calls back on one thread at a time.
            unsafe { (*arg.cast::<Vec<RawExtent>>()).push((off, len as u64, exists != 0)) };
            0
        }
        // librbd before 18.2.5 ends the process (an assertion) for a range that is empty or beyond the end.
        let size = self.size()?;
        let len = len.min(size.saturating_sub(off));
        if len == 0 {
            return Ok(Vec::new());
        }
        let from = from.map(super::cstr).transpose()?;
        let from = from.as_ref().map_or(ptr::null(), |f| f.as_ptr());
        let mut found: Vec<RawExtent> = Vec::new();
        // SAFETY: the vector outlives the call, which calls back only while it runs.
        check(unsafe {
            decl::rbd_diff_iterate2(
                self.raw,
                from,
                off,
                len,
                u8::from(include_parent),
                u8::from(whole_object),
                Some(each),
                (&raw mut found).cast(),
            )
        })?;
        Ok(found)
    }
}
