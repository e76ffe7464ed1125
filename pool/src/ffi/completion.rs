//! Operations in flight.
//!
//! Submitting boxes three things: the sender that wakes the future, everything that Ceph reads from or
//! writes to (`keep`), and what must outlive the operation (`hold`: the io context or the image, the permit
//! of the throttle). Ceph gets the box's address and gives it back, once, through the completion callback;
//! only there is the box taken apart. So the memory's life follows Ceph's use of it, whatever becomes of the
//! future: dropped, past its deadline, or its runtime gone.
//!
//! A rados operation whose future is dropped is cancelled, which makes librados give the box back soon; librbd
//! has no cancellation, its operations end when the objecter's own time-out ends them.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::decl;
use super::rados::IoCtx;
use crate::error::{Errno, errno};

/// What came of an operation: its return value (negative errno), the object's version, and what was kept.
pub(crate) struct Done<T> {
    pub(crate) keep: T,
    pub(crate) ret: i64,
    pub(crate) version: u64,
}

impl<T> Done<T> {
    /// The kept value where the operation succeeded.
    pub(crate) fn ok(self) -> Result<Self, Errno> {
        super::check(self.ret)?;
        Ok(self)
    }
}

struct Inflight<T, H> {
    tx: oneshot::Sender<Done<T>>,
    keep: T,
    hold: H,
}

impl<T, H> Inflight<T, H> {
    fn finish(self, ret: i64, version: u64) {
        let Self { tx, keep, hold } = self;
        // Where the future is gone, `keep` comes back and is dropped here, on Ceph's callback thread.
        drop(tx.send(Done { keep, ret, version }));
        drop(hold);
    }
}

/// A rados operation in flight. Dropping it before it is done cancels it.
pub(crate) struct RadosPending<T> {
    rx: oneshot::Receiver<Done<T>>,
    comp: RadosCompletion,
}

impl<T> RadosPending<T> {
    /// Waits for the callback.
    pub(crate) async fn wait(mut self) -> Result<Done<T>, Errno> {
        let done = (&mut self.rx).await;
        self.comp.finished = true;
        done.map_err(|_| Errno(errno::ECANCELED))
    }
}

struct RadosCompletion {
    comp: decl::rados_completion_t,
    io: Arc<IoCtx>,
    finished: bool,
}

// SAFETY: a completion is reference-counted and locked inside librados; any thread may cancel or release it.
unsafe impl Send for RadosCompletion {}
unsafe impl Sync for RadosCompletion {}

impl Drop for RadosCompletion {
    fn drop(&mut self) {
        // SAFETY: `comp` is ours until released here, once; librados holds a reference of its own while the
        // operation is in flight. Cancelling one that is done is -ENOENT and harmless.
        unsafe {
            if !self.finished {
                decl::rados_aio_cancel(self.io.raw(), self.comp);
            }
            decl::rados_aio_release(self.comp);
        }
    }
}

/// Submits a rados operation. `submit` gets the io context, the completion, and the address of `keep` in the
/// box; it must make no reference to `*keep` that is alive when it calls into librados (the callback may
/// run on another thread before that call returns), and must return what the submitting call returned.
///
/// # Safety
/// Everything librados may touch after `submit` has returned must be inside of `keep`, in `hold`, or owned by
/// librados; a negative return must mean that the callback will never run.
pub(super) unsafe fn submit_rados<T, H>(
    io: &Arc<IoCtx>,
    hold: H,
    keep: T,
    submit: impl FnOnce(decl::rados_ioctx_t, decl::rados_completion_t, *mut T) -> c_int,
) -> Result<RadosPending<T>, Errno>
where
    T: Send + 'static,
    H: Send + 'static,
{
    unsafe extern "C" fn done<T, H>(comp: decl::rados_completion_t, arg: *mut c_void) {
        // SAFETY: `arg` is the box that was submitted with this completion, handed back once.
        unsafe {
            let inflight = *Box::from_raw(arg.cast::<Inflight<T, H>>());
            let ret = decl::rados_aio_get_return_value(comp);
            let version = decl::rados_aio_get_version(comp);
            inflight.finish(i64::from(ret), version);
        }
    }

    let (tx, rx) = oneshot::channel();
    let raw = Box::into_raw(Box::new(Inflight { tx, keep, hold: (hold, io.clone()) }));
    let mut comp = ptr::null_mut();
    // SAFETY: the callback matches the box's type; `comp` is written before the call returns.
    unsafe {
        decl::rados_aio_create_completion2(raw.cast(), Some(done::<T, (H, Arc<IoCtx>)>), &mut comp);
    }
    let mut comp = RadosCompletion { comp, io: io.clone(), finished: false };
    // SAFETY: `raw` is alive: nothing can have called back yet.
    let ret = submit(io.raw(), comp.comp, unsafe { &raw mut (*raw).keep });
    if let Err(e) = super::check(ret) {
        comp.finished = true; // nothing to cancel
        // SAFETY: not queued, so the callback never runs and the box is still ours.
        drop(unsafe { Box::from_raw(raw) });
        return Err(e);
    }
    Ok(RadosPending { rx, comp })
}

/// An RBD operation in flight. Dropping it leaves it running.
pub(crate) struct RbdPending<T> {
    rx: oneshot::Receiver<Done<T>>,
}

impl<T> RbdPending<T> {
    /// Waits for the callback.
    pub(crate) async fn wait(self) -> Result<Done<T>, Errno> {
        self.rx.await.map_err(|_| Errno(errno::ECANCELED))
    }
}

/// Submits an RBD operation; as [`submit_rados`].
///
/// # Safety
/// As for [`submit_rados`]; what the operation works on (image, io context) must be in `hold`.
pub(super) unsafe fn submit_rbd<T, H>(
    hold: H,
    keep: T,
    submit: impl FnOnce(decl::rbd_completion_t, *mut T) -> i64,
) -> Result<RbdPending<T>, Errno>
where
    T: Send + 'static,
    H: Send + 'static,
{
    unsafe { submit_rbd_noting(hold, keep, |_, _| {}, submit) }
}

/// As [`submit_rbd`]; `note` tells the kept value the return value before anybody can take or drop it.
///
/// # Safety
/// As for [`submit_rbd`].
pub(super) unsafe fn submit_rbd_noting<T, H>(
    hold: H,
    keep: T,
    note: fn(&mut T, i64),
    submit: impl FnOnce(decl::rbd_completion_t, *mut T) -> i64,
) -> Result<RbdPending<T>, Errno>
where
    T: Send + 'static,
    H: Send + 'static,
{
    type Noting<T, H> = (H, fn(&mut T, i64));
    unsafe extern "C" fn done<T, H>(comp: decl::rbd_completion_t, arg: *mut c_void) {
        // SAFETY: as in `submit_rados`; librbd keeps its own reference until the callback has returned, so
        // releasing ours here is allowed.
        unsafe {
            let mut inflight = *Box::from_raw(arg.cast::<Inflight<T, Noting<T, H>>>());
            let ret = decl::rbd_aio_get_return_value(comp) as i64;
            decl::rbd_aio_release(comp);
            let note = inflight.hold.1;
            note(&mut inflight.keep, ret);
            inflight.finish(ret, 0);
        }
    }

    let (tx, rx) = oneshot::channel();
    let raw = Box::into_raw(Box::new(Inflight { tx, keep, hold: (hold, note) }));
    let mut comp = ptr::null_mut();
    // SAFETY: as in `submit_rados`.
    let made = unsafe { decl::rbd_aio_create_completion(raw.cast(), Some(done::<T, H>), &mut comp) };
    let ret = if made < 0 {
        i64::from(made)
    } else {
        // SAFETY: `raw` is alive: nothing can have called back yet.
        submit(comp, unsafe { &raw mut (*raw).keep })
    };
    if let Err(e) = super::check(ret) {
        // SAFETY: not queued, so the callback never runs; box and completion are still ours.
        unsafe {
            if made >= 0 {
                decl::rbd_aio_release(comp);
            }
            drop(Box::from_raw(raw));
        }
        return Err(e);
    }
    Ok(RbdPending { rx })
}

/// Memory that Ceph writes into while it is not yet initialised for Rust.
pub(crate) struct ReadBuf(Vec<u8>);

impl ReadBuf {
    pub(crate) fn new(len: usize) -> Self {
        Self(Vec::with_capacity(len))
    }

    pub(super) fn ptr(&mut self) -> *mut std::ffi::c_char {
        self.0.as_mut_ptr().cast()
    }

    /// The first `len` bytes, which Ceph has written.
    ///
    /// # Safety
    /// Ceph has written at least `len` bytes (a larger `len` than the buffer is cut to it).
    pub(super) unsafe fn filled(mut self, len: usize) -> bytes::Bytes {
        let len = len.min(self.0.capacity());
        unsafe { self.0.set_len(len) };
        if len < self.0.capacity() / 2 {
            return bytes::Bytes::copy_from_slice(&self.0); // do not pin a large buffer for few bytes
        }
        self.0.into()
    }
}
