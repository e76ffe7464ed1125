//! Watching an object, and notifying its watchers.
//!
//! A watch is kept up by a task: when librados says that it was lost (the OSD did not hear of us for too
//! long, or went away), the task tells the user, sets it up anew, and tells the user again. Between the two,
//! notifications may have been missed: whoever relies on them looks at the state when it is `Restored`.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use tokio::sync::mpsc;

use super::Pool;
use crate::error::{Context, Errno, Error, errno};
use crate::ffi;
use crate::ffi::watch::{Raw, Registration};

/// How long the OSD waits for a sign of life before it drops a watch.
const WATCH_TIMEOUT_S: u32 = 30;
/// Between two attempts to set up a lost watch.
const AGAIN: Duration = Duration::from_secs(1);

/// What a watcher hears.
#[derive(Debug)]
pub enum WatchEvent {
    /// Somebody notified. They wait until this is dropped or acknowledged.
    Notify(Notification),
    /// The watch was lost; it is being set up anew. Notifications may be missed from here on.
    Lost(Error),
    /// It is there again.
    Restored,
    /// The object is gone, and with it the watch: the last event.
    Gone,
}

/// A notification. Dropping it acknowledges it with an empty answer.
pub struct Notification {
    /// What the notifier sent.
    pub data: Bytes,
    /// The notifier's client id.
    pub notifier: u64,
    id: u64,
    handle: u64,
    oid: std::ffi::CString,
    io: std::sync::Arc<ffi::rados::IoCtx>,
    answered: bool,
}

impl std::fmt::Debug for Notification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notification")
            .field("notifier", &self.notifier)
            .field("len", &self.data.len())
            .finish()
    }
}

impl Notification {
    /// Acknowledges with an answer, which the notifier gets.
    pub fn ack(mut self, answer: &[u8]) {
        self.answered = true;
        ffi::watch::ack(&self.io, &self.oid, self.id, self.handle, answer);
    }
}

impl Drop for Notification {
    fn drop(&mut self) {
        if !self.answered {
            ffi::watch::ack(&self.io, &self.oid, self.id, self.handle, &[]);
        }
    }
}

/// A watch on an object: a stream of events. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    rx: mpsc::Receiver<WatchEvent>,
}

impl Watch {
    /// The next event; `None` after `Gone`.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        self.rx.recv().await
    }
}

impl Stream for Watch {
    type Item = WatchEvent;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<WatchEvent>> {
        self.rx.poll_recv(cx)
    }
}

/// One watcher's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The watcher's client id.
    pub client: u64,
    /// Which of its watches.
    pub watch: u64,
    /// What it answered.
    pub answer: Bytes,
}

/// Who heard a notification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotifyOutcome {
    /// Those who acknowledged.
    pub acks: Vec<Ack>,
    /// (client, watch) of those who did not in time.
    pub timed_out: Vec<(u64, u64)>,
}

/// A watch as it stands with librados now.
struct Standing {
    handle: u64,
    io: std::sync::Arc<ffi::rados::IoCtx>,
    raw: mpsc::UnboundedReceiver<Raw>,
    _registration: Registration,
}

async fn stand(pool: &Pool, oid: &str) -> Result<Standing, Error> {
    let what = || pool.path("watch", oid);
    let io = pool.io().await?;
    let (tx, raw) = mpsc::unbounded_channel();
    let registration = Registration::new(tx);
    let name = ffi::rados::oid(oid).what(what)?;
    // Ends by librados' own time-out; waited for to its end, so that the handle is never lost.
    let pending = ffi::watch::watch(&io, (), name, &registration, WATCH_TIMEOUT_S).what(what)?;
    let result = tokio::select! {
        done = pending.wait() => done.and_then(|done| done.handle()),
        () = io.rados().died() => Err(Errno(errno::ESHUTDOWN)),
    };
    let handle = pool.notice(&io, result).what(what)?;
    Ok(Standing { handle, io, raw, _registration: registration })
}

async fn end(standing: Standing) {
    let rados = standing.io.rados();
    if rados.is_dead() {
        return;
    }
    if let Ok(pending) = ffi::watch::unwatch(&standing.io, (), standing.handle) {
        tokio::select! {
            _ = pending.wait() => {} // one that is lost cannot be removed, and need not be
            () = rados.died() => {}
        }
    }
}

impl Pool {
    /// Watches an object. `NotFound`. The watch is standing when this returns.
    pub async fn watch(&self, oid: &str) -> Result<Watch, Error> {
        let (pool, name) = (self.clone(), oid.to_owned());
        let first = tokio::spawn(async move {
            let standing = stand(&pool, &name).await;
            standing.map(|s| (pool, name, s))
        });
        let (pool, name, standing) = self
            .within(|| self.path("watch", oid), async {
                first.await.unwrap_or_else(|_| Err(Error::invalid(self.path("watch", oid))))
            })
            .await?;
        let (tx, rx) = mpsc::channel(64);
        tokio::spawn(keep(pool, name, standing, tx));
        Ok(Watch { rx })
    }

    /// Notifies the watchers of an object and waits until each has acknowledged or `timeout` is over (at most the
    /// deadline). Watchers that did not answer are in the outcome, not an error. `NotFound`.
    pub async fn notify(&self, oid: &str, data: Bytes, timeout: Duration) -> Result<NotifyOutcome, Error> {
        let what = || self.path("notify", oid);
        let name = ffi::rados::oid(oid).what(what)?;
        let ms = u64::try_from(timeout.min(self.deadline()).as_millis()).unwrap_or(u64::MAX).max(1);
        self.within(what, async {
            let io = self.io().await?;
            let permit = self.cluster().permit(data.len()).await?;
            let pending = ffi::watch::notify(&io, permit, name, data, ms).what(what)?;
            let result = pending.wait().await.and_then(|done| done.reply());
            let (acks, timed_out) = self.notice(&io, result).what(what)?;
            let acks =
                acks.into_iter().map(|(client, watch, answer)| Ack { client, watch, answer }).collect();
            Ok(NotifyOutcome { acks, timed_out })
        })
        .await
    }
}

/// Keeps a watch up until its user is gone or its object is.
async fn keep(pool: Pool, oid: String, mut standing: Standing, tx: mpsc::Sender<WatchEvent>) {
    let Ok(name) = ffi::rados::oid(&oid) else { return };
    loop {
        let raw = tokio::select! {
            raw = standing.raw.recv() => raw,
            () = standing.io.rados().died() => Some(Raw::Error(errno::ESHUTDOWN)),
            () = tx.closed() => None,
        };
        let event = match raw {
            None => return end(standing).await,
            Some(Raw::Notify { notify_id, handle, notifier, data }) => WatchEvent::Notify(Notification {
                data,
                notifier,
                id: notify_id,
                handle,
                oid: name.clone(),
                io: standing.io.clone(),
                answered: false,
            }),
            Some(Raw::Error(e)) => {
                let lost = Error::from_errno(e, pool.path("watch", &oid));
                tracing::warn!(error = %lost, "a watch was lost");
                standing.io.rados().notice(Errno(e));
                end(standing).await;
                if tx.send(WatchEvent::Lost(lost)).await.is_err() {
                    return;
                }
                match again(&pool, &oid, &tx).await {
                    Some(Ok(s)) => {
                        standing = s;
                        WatchEvent::Restored
                    }
                    Some(Err(())) => {
                        let _ = tx.send(WatchEvent::Gone).await;
                        return;
                    }
                    None => return,
                }
            }
        };
        if tx.send(event).await.is_err() {
            return end(standing).await;
        }
    }
}

/// Sets a lost watch up anew, for as long as that takes. `Err`: the object is gone; `None`: the user is.
async fn again(pool: &Pool, oid: &str, tx: &mpsc::Sender<WatchEvent>) -> Option<Result<Standing, ()>> {
    loop {
        match stand(pool, oid).await {
            Ok(s) => return Some(Ok(s)),
            Err(Error::NotFound { .. }) => return Some(Err(())),
            Err(error) => tracing::debug!(%error, "the watch is not back yet"),
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = tx.closed() => return None,
        }
    }
}
