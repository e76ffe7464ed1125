//! One at a time removes an image.
//!
//! librbd closes an image, and so gives its lock back, before it removes the header. Who begins to remove the same image in
//! that instant gets the lock, and loses the header while he is at it, which ends the process (`TrimRequest`'s assertion), or
//! leaves him waiting for ever. So whoever comes second here hears that it is busy, as librbd says at any other moment: within
//! this process by a set, between processes by a lock on the header itself, which goes with it, or after [`LEASE`] with whoever
//! held it (librbd's own lock is no sooner free then). Not kept away is who comes when the cluster did not answer so long.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::sync::oneshot;

use super::Rbd;
use crate::OptionalExt as _;
use crate::cluster::Work;
use crate::error::{Errno, Error};
use crate::ffi::rados::IoCtx;
use crate::rados::WriteOp;

/// The lock's name.
const LOCK: &str = "aquifer.removal";
/// For how long it is taken.
const LEASE: Duration = Duration::from_secs(30);
/// How often it is taken anew.
const RENEW: Duration = Duration::from_secs(10);

/// By cluster, place and id.
static UNDER_WAY: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn under_way() -> MutexGuard<'static, BTreeSet<String>> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// That this process removes an image.
struct Removal(String);

impl Removal {
    /// `Busy`: somebody here has begun.
    fn begin(what: String) -> Result<Self, Error> {
        match under_way().insert(what.clone()) {
            true => Ok(Self(what)),
            false => Err(Error::Busy { what }),
        }
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        under_way().remove(&self.0);
    }
}

impl Rbd {
    /// Has librbd remove the image with this id. `Busy`: somebody else does.
    pub(super) async fn remove_alone(
        &self,
        (id, verb, name): (&str, &'static str, &str),
        call: impl FnOnce(&IoCtx) -> Result<(), Errno> + Send + 'static,
    ) -> Result<(), Error> {
        let removal = Removal::begin(self.pool().path("remove image", id))?;
        let header = format!("rbd_header.{id}");
        match self.lock(&header).await {
            // Where the header is gone already, nobody can lose it; and a full pool is to get room.
            Ok(()) | Err(Error::NotFound { .. } | Error::NoSpace { .. }) => {}
            Err(e) => return Err(e),
        }
        // Closed when librbd is done, whoever still waits for it, or where it never came to that.
        let (at_work, over) = oneshot::channel();
        let kept = tokio::spawn(self.clone().keep(header, removal, over));
        let call = move |io: std::sync::Arc<IoCtx>| {
            let _at_work: oneshot::Sender<()> = at_work;
            call(&io)
        };
        let result = self.run(Work::Long, verb, name, call).await;
        if !matches!(result, Err(Error::TimedOut { .. })) {
            // So that who tries again at once does not meet himself.
            let _ = kept.await;
        }
        result
    }

    /// Keeps the lock until librbd is done.
    async fn keep(self, header: String, _removal: Removal, mut over: oneshot::Receiver<()>) {
        while tokio::time::timeout(RENEW, &mut over).await.is_err() {
            if let Err(error) = self.lock(&header).await.optional() {
                tracing::warn!(%error, "the lock of an image's removal is not renewed");
            }
        }
        if let Err(error) = self.unlock(&header).await.optional() {
            tracing::warn!(%error, "the lock of an image's removal stays until it lapses");
        }
    }

    /// `NotFound` without the header, `Busy` where another client has the lock.
    async fn lock(&self, header: &str) -> Result<(), Error> {
        const EXCLUSIVE: u8 = 1;
        const MAY_RENEW: u8 = 1;
        let mut body = BytesMut::new();
        string(&mut body, LOCK);
        body.put_u8(EXCLUSIVE);
        for _cookie_tag_description in 0..3 {
            string(&mut body, "");
        }
        body.put_u32_le(LEASE.as_secs() as u32);
        body.put_u32_le(0);
        body.put_u8(MAY_RENEW);
        self.on_lock(header, "lock", body).await
    }

    async fn unlock(&self, header: &str) -> Result<(), Error> {
        let mut body = BytesMut::new();
        for name_cookie in [LOCK, ""] {
            string(&mut body, name_cookie);
        }
        self.on_lock(header, "unlock", body).await
    }

    /// A method of Ceph's object class of locks, on an object that is there: by itself it would make it.
    async fn on_lock(&self, header: &str, method: &str, body: BytesMut) -> Result<(), Error> {
        let op = WriteOp::new().assert_exists().exec("lock", method, versioned(&body));
        self.pool().write_op(header, op).await.map(drop)
    }
}

/// As Ceph encodes a structure of version 1.
fn versioned(body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(6 + body.len());
    out.put_slice(&[1, 1]);
    out.put_u32_le(body.len() as u32);
    out.put_slice(body);
    out.freeze()
}

fn string(out: &mut BytesMut, text: &str) {
    out.put_u32_le(text.len() as u32);
    out.put_slice(text.as_bytes());
}
