//! One body out of the middle of another: a file of an archive, of a form, on its way to storage while it arrives.

use crate::ObjectError;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::time::Duration;
use tokio::sync::mpsc;

/// Pieces that wait between the two.
const WAITING: usize = 2;

/// Takes a body's pieces, and gives them to whoever stores it.
pub(crate) struct Relay(mpsc::Sender<Result<Bytes, ObjectError>>);

pub(crate) fn relay() -> (Relay, BoxStream<'static, Result<Bytes, ObjectError>>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let next = |mut receiver: mpsc::Receiver<_>| async move { Some((receiver.recv().await?, receiver)) };
    (Relay(sender), futures::stream::unfold(receiver, next).boxed())
}

impl Relay {
    /// Hands a piece on; whether anybody still wants more.
    pub(crate) async fn send(&self, piece: Bytes) -> bool {
        self.0.send(Ok(piece)).await.is_ok()
    }

    /// Ends the body with an error: it must not be stored as if it were whole.
    pub(crate) async fn fail(&self, e: ObjectError) {
        let _ = self.0.send(Err(e)).await; // whoever stored it may have given up already
    }
}

/// A body's frames; a client that sends nothing for `idle` is given up.
pub(crate) fn paced(
    frames: impl futures::Stream<Item = Result<Bytes, ObjectError>> + Send + 'static,
    idle: Duration,
) -> BoxStream<'static, Result<Bytes, ObjectError>> {
    let next = move |mut frames: BoxStream<'static, Result<Bytes, ObjectError>>| async move {
        match tokio::time::timeout(idle, frames.next()).await {
            Ok(frame) => Some((frame?, frames)),
            Err(_) => Some((Err(ObjectError::SlowBody), futures::stream::empty().boxed())),
        }
    };
    futures::stream::unfold(frames.boxed(), next).boxed()
}
