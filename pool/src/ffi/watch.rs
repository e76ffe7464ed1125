//! Watches and notifications.
//!
//! librados calls back for a watch until it has been removed *and* flushed. What it gets as its argument is
//! therefore not an address but a number in a table: a late call finds nothing there, and nothing can dangle.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::completion::{Done, RadosPending, submit_rados};
use super::rados::IoCtx;
use super::{bytes as copy, check, decl};
use crate::error::{Errno, errno};

/// What librados says about a watch.
#[derive(Debug)]
pub(crate) enum Raw {
    Notify { notify_id: u64, handle: u64, notifier: u64, data: Bytes },
    Error(i32),
}

#[derive(Default)]
struct Table {
    next: usize,
    watches: HashMap<usize, mpsc::UnboundedSender<Raw>>,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

fn with_table<R>(f: impl FnOnce(&mut Table) -> R) -> R {
    f(&mut TABLE.lock().unwrap_or_else(PoisonError::into_inner))
}

fn send(id: *mut c_void, event: Raw) {
    with_table(|t| {
        if let Some(tx) = t.watches.get(&(id as usize)) {
            let _ = tx.send(event);
        }
    });
}

unsafe extern "C" fn on_notify(
    id: *mut c_void,
    notify_id: u64,
    handle: u64,
    notifier: u64,
    data: *mut c_void,
    len: usize,
) {
    // SAFETY: librados' buffer lives through the callback.
    let data = unsafe { copy(data.cast(), len) }.into();
    send(id, Raw::Notify { notify_id, handle, notifier, data });
}

unsafe extern "C" fn on_error(id: *mut c_void, _handle: u64, err: c_int) {
    send(id, Raw::Error(err.saturating_abs()));
}

/// A place in the table: while it lives, callbacks reach its channel.
pub(crate) struct Registration(usize);

impl Registration {
    pub(crate) fn new(tx: mpsc::UnboundedSender<Raw>) -> Self {
        with_table(|t| {
            t.next += 1;
            t.watches.insert(t.next, tx);
            Self(t.next)
        })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        with_table(|t| t.watches.remove(&self.0));
    }
}

/// The handle of a watch being set up.
pub(crate) struct WatchKeep {
    _oid: CString,
    handle: u64,
}

impl Done<WatchKeep> {
    pub(crate) fn handle(self) -> Result<u64, Errno> {
        check(self.ret)?;
        Ok(self.keep.handle)
    }
}

/// Sets up a watch. The future must be waited for to its end: a watch whose handle nobody has cannot be
/// removed (it is harmless, and ends with the connection). `timeout_s`: after how long without a sign of life the OSD drops it.
pub(crate) fn watch<H: Send + 'static>(
    io: &Arc<IoCtx>,
    hold: H,
    oid: CString,
    registration: &Registration,
    timeout_s: u32,
) -> Result<RadosPending<WatchKeep>, Errno> {
    let id = registration.0 as *mut c_void;
    let oid_ptr = oid.as_ptr();
    let keep = WatchKeep { _oid: oid, handle: 0 };
    // SAFETY: the handle is written into the box; the callbacks' argument is a number.
    unsafe {
        submit_rados(io, hold, keep, |io, comp, keep: *mut WatchKeep| {
            let handle = &raw mut (*keep).handle;
            decl::rados_aio_watch2(io, oid_ptr, comp, handle, Some(on_notify), Some(on_error), timeout_s, id)
        })
    }
}

/// Removes a watch.
pub(crate) fn unwatch<H: Send + 'static>(
    io: &Arc<IoCtx>,
    hold: H,
    handle: u64,
) -> Result<RadosPending<()>, Errno> {
    // SAFETY: nothing of ours is used after the call returns.
    unsafe { submit_rados(io, hold, (), |io, comp, _| decl::rados_aio_unwatch(io, handle, comp)) }
}

/// Answers a notification. Does not wait.
pub(crate) fn ack(io: &IoCtx, oid: &CString, notify_id: u64, handle: u64, payload: &[u8]) {
    let len = c_int::try_from(payload.len()).unwrap_or(0);
    // SAFETY: the payload is copied before the call returns; the call only queues.
    unsafe {
        decl::rados_notify_ack(io.raw(), oid.as_ptr(), notify_id, handle, payload.as_ptr().cast(), len);
    }
}

pub(crate) struct NotifyKeep {
    _oid: CString,
    _data: Bytes,
    reply: *mut c_char,
    reply_len: usize,
}

// SAFETY: `reply` is librados' allocation, which any thread may free.
unsafe impl Send for NotifyKeep {}

impl Drop for NotifyKeep {
    fn drop(&mut self) {
        if !self.reply.is_null() {
            // SAFETY: set by librados, freed once.
            unsafe { decl::rados_buffer_free(self.reply) };
        }
    }
}

/// Watchers that answered, (client, watch, answer), and those that did not in time, (client, watch).
pub(crate) type NotifyReply = (Vec<(u64, u64, Bytes)>, Vec<(u64, u64)>);

impl Done<NotifyKeep> {
    /// Who answered what. That some did not answer in time is no error here: they are named.
    pub(crate) fn reply(self) -> Result<NotifyReply, Errno> {
        let ret = check(self.ret).map(drop);
        if self.keep.reply.is_null() || self.keep.reply_len == 0 {
            ret?;
            return Ok((Vec::new(), Vec::new()));
        }
        let (mut acks, mut n_acks) = (ptr::null_mut(), 0);
        let (mut missing, mut n_missing) = (ptr::null_mut(), 0);
        // SAFETY: librados decodes its own reply into allocations of its own, copied and freed here.
        unsafe {
            check(decl::rados_decode_notify_response(
                self.keep.reply,
                self.keep.reply_len,
                &mut acks,
                &mut n_acks,
                &mut missing,
                &mut n_missing,
            ))?;
            let acked = (0..n_acks)
                .map(|i| {
                    let a = &*acks.add(i);
                    let len = usize::try_from(a.payload_len).unwrap_or(0);
                    (a.notifier_id, a.cookie, Bytes::from(copy(a.payload, len)))
                })
                .collect();
            let timed_out: Vec<_> = (0..n_missing)
                .map(|i| {
                    let t = &*missing.add(i);
                    (t.notifier_id, t.cookie)
                })
                .collect();
            decl::rados_free_notify_response(acks, n_acks, missing);
            match ret {
                Err(Errno(errno::ETIMEDOUT)) if !timed_out.is_empty() => {}
                other => other?,
            }
            Ok((acked, timed_out))
        }
    }
}

/// Notifies the object's watchers and waits until all have answered, or for `timeout_ms`.
pub(crate) fn notify<H: Send + 'static>(
    io: &Arc<IoCtx>,
    hold: H,
    oid: CString,
    data: Bytes,
    timeout_ms: u64,
) -> Result<RadosPending<NotifyKeep>, Errno> {
    let (oid_ptr, ptr, len) = (oid.as_ptr(), data.as_ptr().cast::<c_char>(), data.len());
    let len = c_int::try_from(len).map_err(|_| Errno(errno::E2BIG))?;
    let keep = NotifyKeep { _oid: oid, _data: data, reply: ptr::null_mut(), reply_len: 0 };
    // SAFETY: the reply's two out-parameters are inside of the box.
    unsafe {
        submit_rados(io, hold, keep, |io, comp, keep: *mut NotifyKeep| {
            let (reply, reply_len) = (&raw mut (*keep).reply, &raw mut (*keep).reply_len);
            decl::rados_aio_notify(io, oid_ptr, comp, ptr, len, timeout_ms, reply, reply_len)
        })
    }
}
