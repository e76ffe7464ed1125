//! A connection to a cluster, an io context in it, and the simple object operations.
//!
//! The functions here that are not asynchronous may block for as long as the cluster's time-outs let them:
//! they are called from a lane (`lanes.rs`), never from the runtime.

use std::ffi::{CString, c_char, c_int};
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::Notify;

use super::completion::{Done, RadosPending, ReadBuf, submit_rados};
use super::{bytes as copy, check, cstr, decl, exit, split_names, string};
use crate::error::{Errno, errno};

/// Gives memory that the C library has kept for later back to the system.
pub(crate) fn trim() {
    unsafe extern "C" {
        fn malloc_trim(pad: usize) -> c_int;
    }
    // SAFETY: may be called at any time, from any thread.
    unsafe { malloc_trim(0) };
}

/// The version of librados that is loaded.
pub(crate) fn version() -> (i32, i32, i32) {
    let (mut a, mut b, mut c) = (0, 0, 0);
    // SAFETY: writes three integers.
    unsafe { decl::rados_version(&mut a, &mut b, &mut c) };
    (a, b, c)
}

/// A connected `rados_t`.
pub(crate) struct Rados {
    raw: decl::rados_t,
    dead: AtomicBool,
    died: Notify,
    doubted: AtomicBool,
}

// SAFETY: a rados_t may be used from any thread, at the same time.
unsafe impl Send for Rados {}
unsafe impl Sync for Rados {}

impl Rados {
    pub(super) fn raw(&self) -> decl::rados_t {
        self.raw
    }

    /// Reads the ceph.conf, applies `options` over it, connects. Blocks up to `client_mount_timeout`.
    pub(crate) fn connect(conf: &Path, user: &str, options: &[(&str, String)]) -> Result<Self, Errno> {
        let conf = cstr(&conf.to_string_lossy())?;
        let name = cstr(&format!("client.{user}"))?;
        let cluster = cstr("ceph")?;
        let mut raw = ptr::null_mut();
        // SAFETY: the strings live through the call; `raw` is written on success only.
        check(unsafe { decl::rados_create2(&mut raw, cluster.as_ptr(), name.as_ptr(), 0) })?;
        exit::created();
        let no = || AtomicBool::new(false);
        let this = Self { raw, dead: no(), died: Notify::new(), doubted: no() };
        // SAFETY: `raw` is valid until `this` is dropped.
        check(unsafe { decl::rados_conf_read_file(raw, conf.as_ptr()) })?;
        for (key, value) in options {
            let (key, value) = (cstr(key)?, cstr(value)?);
            check(unsafe { decl::rados_conf_set(raw, key.as_ptr(), value.as_ptr()) })?;
        }
        check(unsafe { decl::rados_connect(raw) })?;
        Ok(this)
    }

    /// A configuration value in force.
    pub(crate) fn conf(&self, key: &str) -> Result<String, Errno> {
        let key = cstr(key)?;
        let mut buf = vec![0u8; 4096];
        // SAFETY: librados writes at most `len` bytes, NUL included.
        unsafe {
            check(decl::rados_conf_get(self.raw, key.as_ptr(), buf.as_mut_ptr().cast(), buf.len()))?;
            Ok(string(buf.as_ptr().cast()))
        }
    }

    /// Whether nothing through this connection will ever work again: the cluster has fenced this client, or librados
    /// calls nobody back any more.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Says so; true for the first who does.
    pub(crate) fn give_up(&self) -> bool {
        let first = !self.dead.swap(true, Ordering::Relaxed);
        self.died.notify_waiters();
        first
    }

    /// Waits until it is so.
    pub(crate) async fn died(&self) {
        let mut died = std::pin::pin!(self.died.notified());
        died.as_mut().enable();
        if !self.is_dead() {
            died.await;
        }
    }

    /// Takes notice of an error that says that this client was fenced.
    pub(crate) fn notice(&self, e: Errno) {
        if e.0 == errno::ESHUTDOWN && self.give_up() {
            tracing::warn!(client = self.instance_id(), "this client was fenced; connecting anew");
        }
    }

    /// Begins (or ends) to look whether librados still calls back; the value before.
    pub(crate) fn set_doubted(&self, doubted: bool) -> bool {
        self.doubted.swap(doubted, Ordering::Relaxed)
    }

    /// The address by which the cluster knows this client (`127.0.0.1:0/1234`), as a blocklist takes it.
    pub(crate) fn address(&self) -> Result<String, Errno> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is written on success only, and is then librados' allocation, copied and freed here.
        unsafe {
            check(decl::rados_getaddrs(self.raw, &mut raw))?;
            let address = string(raw);
            decl::rados_buffer_free(raw);
            Ok(address)
        }
    }

    pub(crate) fn fsid(&self) -> Result<String, Errno> {
        let mut buf = [0u8; 64];
        // SAFETY: writes at most `len` bytes.
        let n = check(unsafe { decl::rados_cluster_fsid(self.raw, buf.as_mut_ptr().cast(), buf.len()) })?;
        let n = usize::try_from(n).unwrap_or(0).min(buf.len());
        Ok(String::from_utf8_lossy(&buf[..n]).into_owned())
    }

    /// This client's id in the cluster (`client.<id>`), as watchers and lock owners show it.
    pub(crate) fn instance_id(&self) -> u64 {
        // SAFETY: a connected handle.
        unsafe { decl::rados_get_instance_id(self.raw) }
    }

    /// (total, used, available) in KiB and the number of objects.
    pub(crate) fn stat(&self) -> Result<(u64, u64, u64, u64), Errno> {
        let mut s = decl::rados_cluster_stat_t { kb: 0, kb_used: 0, kb_avail: 0, num_objects: 0 };
        // SAFETY: `s` outlives the call.
        check(unsafe { decl::rados_cluster_stat(self.raw, &mut s) })?;
        Ok((s.kb, s.kb_used, s.kb_avail, s.num_objects))
    }

    /// A monitor command (JSON) with an input buffer: (output, status line).
    pub(crate) fn mon_command(&self, json: &str, input: &[u8]) -> Result<Vec<u8>, (Errno, String)> {
        let json = cstr(json).map_err(|e| (e, String::new()))?;
        let mut cmd = [json.as_ptr()];
        let (mut out, mut out_len) = (ptr::null_mut(), 0);
        let (mut status, mut status_len) = (ptr::null_mut(), 0);
        // SAFETY: inputs live through the call; outputs are librados' allocations, copied and freed here.
        unsafe {
            let ret = decl::rados_mon_command(
                self.raw,
                cmd.as_mut_ptr(),
                cmd.len(),
                input.as_ptr().cast(),
                input.len(),
                &mut out,
                &mut out_len,
                &mut status,
                &mut status_len,
            );
            let output = copy(out, out_len);
            let line = String::from_utf8_lossy(&copy(status, status_len)).into_owned();
            for p in [out, status] {
                if !p.is_null() {
                    decl::rados_buffer_free(p);
                }
            }
            check(ret).map_err(|e| (e, line))?;
            Ok(output)
        }
    }

    pub(crate) fn pools(&self) -> Result<Vec<String>, Errno> {
        let mut buf: Vec<u8> = vec![0; 4096];
        loop {
            // SAFETY: writes at most `len` bytes and returns how many it needs.
            let n = check(unsafe { decl::rados_pool_list(self.raw, buf.as_mut_ptr().cast(), buf.len()) })?;
            let n = usize::try_from(n).unwrap_or(usize::MAX);
            if n <= buf.len() {
                return Ok(split_names(&buf[..n]));
            }
            buf.resize(n + 1024, 0);
        }
    }

    pub(crate) fn pool_id(&self, name: &str) -> Result<i64, Errno> {
        let name = cstr(name)?;
        // SAFETY: the string lives through the call.
        let id = unsafe { decl::rados_pool_lookup(self.raw, name.as_ptr()) };
        check(id)?;
        Ok(id)
    }

    /// Waits until this client has the newest map of pools.
    pub(crate) fn refresh_map(&self) -> Result<(), Errno> {
        // SAFETY: a connected handle.
        check(unsafe { decl::rados_wait_for_latest_osdmap(self.raw) }).map(drop)
    }

    /// An io context for the pool of this name, in this namespace.
    pub(crate) fn ioctx(self: &Arc<Self>, pool: &str, namespace: &str) -> Result<Arc<IoCtx>, Errno> {
        let pool = cstr(pool)?;
        let namespace = cstr(namespace)?;
        let mut raw = ptr::null_mut();
        // SAFETY: strings live through the calls; `raw` is valid once created. Full pools must answer with
        // ENOSPC or EDQUOT rather than hold the operation until there is space.
        unsafe {
            check(decl::rados_ioctx_create(self.raw, pool.as_ptr(), &mut raw))?;
            decl::rados_ioctx_set_namespace(raw, namespace.as_ptr());
            decl::rados_set_pool_full_try(raw);
        }
        Ok(Arc::new(IoCtx { raw, rados: self.clone() }))
    }
}

impl Drop for Rados {
    fn drop(&mut self) {
        struct Raw(decl::rados_t);
        // SAFETY: the last handle to it; it only moves to the thread that shuts it down.
        unsafe impl Send for Raw {}
        impl Raw {
            fn shutdown(self) {
                // SAFETY: every io context and operation held an `Arc` of the handle, so none is left.
                unsafe { decl::rados_shutdown(self.0) };
                exit::shut_down();
            }
        }
        // Shutting down joins librados' own threads, and this may be one of them (a completion that held the
        // last reference): it gets a thread of its own. Should none start, the handle leaks, which is safe.
        let raw = Raw(self.raw);
        exit::shutting_down();
        let _ = std::thread::Builder::new().name("rados-shutdown".into()).spawn(move || raw.shutdown());
    }
}

/// An io context: a pool and a namespace of it.
pub(crate) struct IoCtx {
    raw: decl::rados_ioctx_t,
    rados: Arc<Rados>,
}

// SAFETY: an io context may be used from any thread; what configures it is called before it is shared.
unsafe impl Send for IoCtx {}
unsafe impl Sync for IoCtx {}

impl Drop for IoCtx {
    fn drop(&mut self) {
        // SAFETY: the last reference; operations in flight held one each.
        unsafe { decl::rados_ioctx_destroy(self.raw) };
    }
}

/// How a simple write places its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    At(u64),
    Full,
    Append,
}

pub(crate) struct ReadKeep {
    _oid: CString,
    buf: ReadBuf,
}

impl Done<ReadKeep> {
    /// The bytes that were read.
    pub(crate) fn bytes(self) -> Result<Bytes, Errno> {
        let n = usize::try_from(check(self.ret)?).unwrap_or(0);
        // SAFETY: a read returns how many bytes it has written into the buffer.
        Ok(unsafe { self.keep.buf.filled(n) })
    }
}

pub(crate) struct StatKeep {
    _oid: CString,
    size: u64,
    mtime: decl::time_t,
}

impl Done<StatKeep> {
    /// Size in bytes, time of last change in seconds since the epoch.
    pub(crate) fn stat(self) -> Result<(u64, i64), Errno> {
        check(self.ret)?;
        Ok((self.keep.size, self.keep.mtime))
    }
}

impl IoCtx {
    pub(super) fn raw(&self) -> decl::rados_ioctx_t {
        self.raw
    }

    pub(crate) fn rados(&self) -> &Arc<Rados> {
        &self.rados
    }

    pub(crate) fn pool_id(&self) -> i64 {
        // SAFETY: a valid io context.
        unsafe { decl::rados_ioctx_get_id(self.raw) }
    }

    /// Whether the pool of this name is still the one that this io context is for, as far as this client's map
    /// of pools tells. Asks nobody.
    pub(crate) fn is_for(&self, pool: &str) -> bool {
        self.rados.pool_id(pool) == Ok(self.pool_id())
    }

    pub(crate) fn read<H: Send + 'static>(
        self: &Arc<Self>,
        hold: H,
        oid: CString,
        off: u64,
        len: usize,
    ) -> Result<RadosPending<ReadKeep>, Errno> {
        let oid_ptr = oid.as_ptr();
        let mut buf = ReadBuf::new(len);
        let (buf_ptr, keep) = (buf.ptr(), ReadKeep { _oid: oid, buf });
        // SAFETY: name and buffer are heap memory owned by `keep`: moving it does not move them.
        unsafe {
            submit_rados(self, hold, keep, |io, comp, _| {
                decl::rados_aio_read(io, oid_ptr, comp, buf_ptr, len, off)
            })
        }
    }

    pub(crate) fn write<H: Send + 'static>(
        self: &Arc<Self>,
        hold: H,
        oid: CString,
        data: &[u8],
        place: Place,
    ) -> Result<RadosPending<CString>, Errno> {
        let (oid_ptr, ptr, len) = (oid.as_ptr(), data.as_ptr().cast::<c_char>(), data.len());
        // SAFETY: as in `read`; the submitting calls copy the bytes.
        unsafe {
            submit_rados(self, hold, oid, |io, comp, _| match place {
                Place::At(off) => decl::rados_aio_write(io, oid_ptr, comp, ptr, len, off),
                Place::Full => decl::rados_aio_write_full(io, oid_ptr, comp, ptr, len),
                Place::Append => decl::rados_aio_append(io, oid_ptr, comp, ptr, len),
            })
        }
    }

    pub(crate) fn remove<H: Send + 'static>(
        self: &Arc<Self>,
        hold: H,
        oid: CString,
    ) -> Result<RadosPending<CString>, Errno> {
        let oid_ptr = oid.as_ptr();
        // SAFETY: as in `read`.
        unsafe { submit_rados(self, hold, oid, |io, comp, _| decl::rados_aio_remove(io, oid_ptr, comp)) }
    }

    pub(crate) fn object_stat<H: Send + 'static>(
        self: &Arc<Self>,
        hold: H,
        oid: CString,
    ) -> Result<RadosPending<StatKeep>, Errno> {
        let oid_ptr = oid.as_ptr();
        let keep = StatKeep { _oid: oid, size: 0, mtime: 0 };
        // SAFETY: the two out-parameters are inside of the box.
        unsafe {
            submit_rados(self, hold, keep, |io, comp, keep: *mut StatKeep| {
                let (size, mtime) = (&raw mut (*keep).size, &raw mut (*keep).mtime);
                decl::rados_aio_stat(io, oid_ptr, comp, size, mtime) as c_int
            })
        }
    }

    pub(crate) fn get_xattr<H: Send + 'static>(
        self: &Arc<Self>,
        hold: H,
        oid: CString,
        name: &str,
        max: usize,
    ) -> Result<RadosPending<ReadKeep>, Errno> {
        let name = cstr(name)?;
        let oid_ptr = oid.as_ptr();
        let mut buf = ReadBuf::new(max);
        let (buf_ptr, keep) = (buf.ptr(), ReadKeep { _oid: oid, buf });
        // SAFETY: as in `read`; the attribute's name is copied by the submitting call.
        unsafe {
            submit_rados(self, hold, keep, |io, comp, _| {
                decl::rados_aio_getxattr(io, oid_ptr, comp, name.as_ptr(), buf_ptr, max)
            })
        }
    }
}

/// An object's name as C wants it; the empty name is EINVAL.
pub(crate) fn oid(name: &str) -> Result<CString, Errno> {
    if name.is_empty() {
        return Err(Errno(errno::EINVAL));
    }
    cstr(name)
}
