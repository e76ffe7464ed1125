//! A pool: the handle that services hold, and the operations on one object.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::op::{ReadOp, ReadOutcome, WriteOp, WriteOutcome};
use crate::cluster::{Cluster, Work};
use crate::error::{Context, Errno, Error, errno};
use crate::ffi;
use crate::ffi::completion::{Done, RadosPending};
use crate::ffi::rados::{IoCtx, Place};

struct Inner {
    cluster: Cluster,
    name: String,
    namespace: String,
    io: Mutex<Option<Arc<IoCtx>>>,
}

/// A place for objects and images: a pool of a cluster and a namespace of it. Cheap to clone; every clone
/// shares the io context, which is made when it is first needed and anew when the connection is lost for good.
///
/// Object names are any UTF-8 without NUL, not empty. Every operation ends within the deadline (the cluster's
/// `timeout_s` unless [`Pool::with_deadline`] says otherwise); one that ends with `TimedOut` may still have happened.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
    deadline: Duration,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({}:{}/{})", self.inner.cluster.name(), self.inner.name, self.inner.namespace)
    }
}

/// An object's size in bytes and the time of its last change (to the second).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectStat {
    pub size: u64,
    pub mtime: SystemTime,
}

/// Seconds since the epoch as a time.
pub(crate) fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

impl Pool {
    pub(crate) fn new(cluster: Cluster, name: &str, namespace: &str) -> Self {
        let deadline = cluster.timeout();
        let inner = Inner { cluster, name: name.into(), namespace: namespace.into(), io: Mutex::default() };
        Self { inner: Arc::new(inner), deadline }
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The namespace; empty for the default one.
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// The cluster it is in.
    pub fn cluster(&self) -> &Cluster {
        &self.inner.cluster
    }

    /// Another namespace of the same pool (empty: the default one). RADOS namespaces need no creation; those
    /// for images do ([`crate::Rbd::namespace_create`]).
    pub fn with_namespace(&self, namespace: &str) -> Self {
        let mut pool = Self::new(self.inner.cluster.clone(), &self.inner.name, namespace);
        pool.deadline = self.deadline;
        pool
    }

    /// The same place with another deadline for its operations.
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { inner: self.inner.clone(), deadline }
    }

    /// The deadline of its operations.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The images in this place.
    pub fn rbd(&self) -> crate::Rbd {
        crate::Rbd::new(self.clone())
    }

    /// `pool/namespace/object`, for errors.
    pub(crate) fn path(&self, verb: &str, oid: &str) -> String {
        let Inner { cluster, name, namespace, .. } = &*self.inner;
        match namespace.as_str() {
            "" => format!("{verb} {}:{name}/{oid}", cluster.name()),
            ns => format!("{verb} {}:{name}/{ns}/{oid}", cluster.name()),
        }
    }

    /// The io context, made if there is none that works.
    pub(crate) async fn io(&self) -> Result<Arc<IoCtx>, Error> {
        let cached = || self.inner.io.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(io) = &*cached()
            && !io.rados().is_dead()
        {
            return Ok(io.clone());
        }
        let rados = self.inner.cluster.rados().await?;
        let (name, namespace) = (self.inner.name.clone(), self.inner.namespace.clone());
        let what = || self.path("open pool", "");
        let make = move || rados.ioctx(&name, &namespace);
        let io = self.inner.cluster.blocking(Work::Short, self.deadline, what, make).await?;
        *cached() = Some(io.clone());
        Ok(io)
    }

    /// The pool's number in its cluster.
    pub async fn id(&self) -> Result<i64, Error> {
        Ok(self.io().await?.pool_id())
    }

    /// Runs a future within the deadline.
    pub(crate) async fn within<R>(
        &self,
        what: impl Fn() -> String,
        f: impl Future<Output = Result<R, Error>>,
    ) -> Result<R, Error> {
        match tokio::time::timeout(self.deadline, f).await {
            Ok(r) => r,
            Err(_) => {
                self.doubt();
                Err(Error::TimedOut { what: what() })
            }
        }
    }

    /// Something here was not answered in time: looks whether the connection answers at all.
    pub(crate) fn doubt(&self) {
        if let Some(io) = &*self.inner.io.lock().unwrap_or_else(PoisonError::into_inner) {
            self.inner.cluster.doubt(io);
        }
    }

    /// Draws the conclusions from what came of an operation: a connection that was fenced, or an io context whose
    /// pool was deleted (there may be another of its name now), is made anew by the next operation.
    pub(crate) fn notice<R>(&self, io: &Arc<IoCtx>, result: Result<R, Errno>) -> Result<R, Errno> {
        match result {
            Err(e @ Errno(errno::ESHUTDOWN)) => io.rados().notice(e),
            Err(Errno(errno::ENOENT)) if !io.is_for(&self.inner.name) => {
                self.inner.io.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
            _ => {}
        }
        result
    }

    /// Submits an operation on an object and waits for it: io context, permit, submission, completion.
    async fn run<T: Send + 'static, R>(
        &self,
        verb: &'static str,
        oid: &str,
        cost: usize,
        submit: impl FnOnce(&Arc<IoCtx>, crate::cluster::Permit, CString) -> Result<RadosPending<T>, Errno>,
        take: impl FnOnce(Done<T>) -> Result<R, Errno>,
    ) -> Result<R, Error> {
        let what = || self.path(verb, oid);
        let name = ffi::rados::oid(oid).what(what)?;
        self.within(what, async {
            let io = self.io().await?;
            let permit = self.inner.cluster.permit(cost).await?;
            let result = match submit(&io, permit, name) {
                Ok(pending) => pending.wait().await.and_then(take),
                Err(e) => Err(e),
            };
            self.notice(&io, result).what(what)
        })
        .await
    }

    /// Up to `len` bytes from `off`: fewer where the object ends, none beyond its end. `NotFound`.
    pub async fn read(&self, oid: &str, off: u64, len: usize) -> Result<Bytes, Error> {
        if len == 0 {
            // To Ceph this means "to the end", into a buffer that has no room.
            return self.stat(oid).await.map(|_| Bytes::new());
        }
        self.run("read", oid, len, |io, p, oid| io.read(p, oid, off, len), Done::bytes).await
    }

    /// Writes bytes at an offset; creates the object, fills a gap with zeroes.
    pub async fn write(&self, oid: &str, off: u64, data: Bytes) -> Result<(), Error> {
        self.put("write", oid, data, Place::At(off)).await
    }

    /// Replaces the object's bytes; creates it.
    pub async fn write_full(&self, oid: &str, data: Bytes) -> Result<(), Error> {
        self.put("write", oid, data, Place::Full).await
    }

    /// Writes bytes at the end; creates the object.
    pub async fn append(&self, oid: &str, data: Bytes) -> Result<(), Error> {
        self.put("append to", oid, data, Place::Append).await
    }

    async fn put(&self, verb: &'static str, oid: &str, data: Bytes, place: Place) -> Result<(), Error> {
        let cost = data.len();
        // librados copies: the bytes are not held twice while it writes.
        let submit = move |io: &Arc<IoCtx>, p, oid| io.write(p, oid, &data, place);
        self.run(verb, oid, cost, submit, |d| d.ok().map(drop)).await
    }

    /// Cuts or extends (with zeroes) to this size; creates the object.
    pub async fn truncate(&self, oid: &str, size: u64) -> Result<(), Error> {
        self.write_op(oid, WriteOp::new().truncate(size)).await.map(drop)
    }

    /// Zeroes a range.
    pub async fn zero(&self, oid: &str, off: u64, len: u64) -> Result<(), Error> {
        self.write_op(oid, WriteOp::new().zero(off, len)).await.map(drop)
    }

    /// Size and time of last change. `NotFound`.
    pub async fn stat(&self, oid: &str) -> Result<ObjectStat, Error> {
        let (size, mtime) = self.run("stat", oid, 0, |io, p, oid| io.object_stat(p, oid), Done::stat).await?;
        Ok(ObjectStat { size, mtime: time(mtime) })
    }

    /// Removes the object. `NotFound`.
    pub async fn remove(&self, oid: &str) -> Result<(), Error> {
        self.run("remove", oid, 0, |io, p, oid| io.remove(p, oid), |d| d.ok().map(drop)).await
    }

    /// One attribute. `NotFound` where the object or the attribute is absent.
    pub async fn get_xattr(&self, oid: &str, name: &str) -> Result<Bytes, Error> {
        let mut max = 4096;
        loop {
            let submit = |io: &Arc<IoCtx>, p, oid| io.get_xattr(p, oid, name, max);
            match self.run("get an attribute of", oid, max, submit, Done::bytes).await {
                // The buffer was too small: Ceph does not say by how much.
                Err(Error::Range { .. }) if max < 16 << 20 => max *= 16,
                r => return r,
            }
        }
    }

    /// All attributes. `NotFound`.
    pub async fn get_xattrs(&self, oid: &str) -> Result<BTreeMap<String, Bytes>, Error> {
        Ok(self.read_op(oid, ReadOp::new().get_xattrs()).await?.xattrs().unwrap_or_default())
    }

    /// Sets an attribute; creates the object.
    pub async fn set_xattr(&self, oid: &str, name: &str, value: impl Into<Bytes>) -> Result<(), Error> {
        self.write_op(oid, WriteOp::new().set_xattr(name, value)).await.map(drop)
    }

    /// Removes an attribute. `NotFound`.
    pub async fn rm_xattr(&self, oid: &str, name: &str) -> Result<(), Error> {
        self.write_op(oid, WriteOp::new().rm_xattr(name)).await.map(drop)
    }

    /// Up to `max` omap entries after the key `after` ("" for the start) whose keys begin with `prefix`, in key
    /// order, and whether there are more. The OSD caps a page (1,024 entries or 1 MiB by its defaults), so fewer
    /// than `max` may come although there are more. `NotFound`.
    pub async fn omap_get(
        &self,
        oid: &str,
        after: &str,
        prefix: &str,
        max: u64,
    ) -> Result<(Vec<(String, Bytes)>, bool), Error> {
        let mut out = self.read_op(oid, ReadOp::new().omap_get(after, prefix, max)).await?;
        let page = out.omap().unwrap_or_default();
        Ok((page.entries, page.more))
    }

    /// All omap entries whose keys begin with `prefix`, page after page.
    pub async fn omap_get_all(&self, oid: &str, prefix: &str) -> Result<Vec<(String, Bytes)>, Error> {
        let (mut all, mut more) = self.omap_get(oid, "", prefix, 1024).await?;
        while more {
            let after = all.last().map(|(k, _)| k.clone()).unwrap_or_default();
            let (page, again) = self.omap_get(oid, &after, prefix, 1024).await?;
            more = again && !page.is_empty();
            all.extend(page);
        }
        Ok(all)
    }

    /// The omap values of these keys, those that exist. `NotFound` where the object is absent.
    pub async fn omap_get_keys(
        &self,
        oid: &str,
        keys: impl IntoIterator<Item = String>,
    ) -> Result<BTreeMap<String, Bytes>, Error> {
        let mut out = self.read_op(oid, ReadOp::new().omap_get_by_keys(keys)).await?;
        Ok(out.omap().unwrap_or_default().entries.into_iter().collect())
    }

    /// Sets omap entries; creates the object.
    pub async fn omap_set(
        &self,
        oid: &str,
        entries: impl IntoIterator<Item = (String, Bytes)>,
    ) -> Result<(), Error> {
        self.write_op(oid, WriteOp::new().omap_set(entries)).await.map(drop)
    }

    /// Removes omap entries; absent keys do not matter.
    pub async fn omap_remove(&self, oid: &str, keys: impl IntoIterator<Item = String>) -> Result<(), Error> {
        self.write_op(oid, WriteOp::new().omap_remove(keys)).await.map(drop)
    }

    /// Runs a compound read: all steps on one version of the object. A step that failed without ending the
    /// operation (`fail_ok`) has its error in the outcome.
    pub async fn read_op(&self, oid: &str, op: ReadOp) -> Result<ReadOutcome, Error> {
        let (cost, versioned) = (op.cost(), op.asserts_version());
        let submit = |io: &Arc<IoCtx>, p, oid| ffi::ops::read(io, p, oid, op.steps);
        let take = |d: Done<ffi::ops::ReadKeep>| {
            let d = d.ok()?;
            Ok((d.version, d.results()))
        };
        let (version, results) = match self.run("read", oid, cost, submit, take).await {
            Err(Error::Range { what }) if versioned => return Err(Error::Cancelled { what }),
            r => r?,
        };
        let what = || self.path("step of a read of", oid);
        Ok(ReadOutcome { version, results: results.into_iter().map(|r| r.what(what)).collect() })
    }

    /// Runs a compound write: all steps, or none.
    pub async fn write_op(&self, oid: &str, op: WriteOp) -> Result<WriteOutcome, Error> {
        let (cost, versioned) = (op.cost(), op.asserts_version());
        let submit = |io: &Arc<IoCtx>, p, oid| ffi::ops::write(io, p, oid, op.steps);
        let take = |d: Done<ffi::ops::WriteKeep>| {
            if let (true, Some((step, e))) = (d.ret < 0, d.keep.failed_step()) {
                tracing::debug!(step, errno = e, "a step of a compound write failed");
            }
            Ok(WriteOutcome { version: d.ok()?.version })
        };
        match self.run("write", oid, cost, submit, take).await {
            Err(Error::Range { what }) if versioned => Err(Error::Cancelled { what }),
            r => r,
        }
    }

    /// Calls a method of an object class (it may write) and gives its output.
    pub async fn exec(
        &self,
        oid: &str,
        class: &str,
        method: &str,
        input: impl Into<Bytes>,
    ) -> Result<Bytes, Error> {
        let mut out = self.read_op(oid, ReadOp::new().exec(class, method, input)).await?;
        match out.results.pop() {
            Some(Err(e)) => Err(e),
            Some(Ok(super::ReadResult::Output(o))) => Ok(o),
            _ => Ok(Bytes::new()),
        }
    }

    /// (bytes with replication, bytes as the clients see them, objects) of the whole pool, from statistics that
    /// are some seconds old.
    pub async fn usage(&self) -> Result<crate::PoolUsage, Error> {
        self.inner.cluster.pool_usage(self.name()).await
    }
}
