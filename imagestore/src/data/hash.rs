//! MD5 and SHA-512 of a stream, each on a thread of its own, so that neither holds up the runtime or the other.

use crate::ImageError;
use crate::model::Digest;
use bytes::Bytes;
use md5::Md5;
use sha2::Sha512;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Chunks that may wait for a hash: with chunks of 4 MiB, 8 MiB each.
const AHEAD: usize = 2;

/// Hashes what it is given, in order.
pub(crate) struct Hasher {
    md5: Lane,
    sha512: Lane,
    size: u64,
}

struct Lane {
    queue: mpsc::Sender<Bytes>,
    done: JoinHandle<String>,
}

fn lane<D: md5::Digest + Send + 'static>() -> Lane {
    let (queue, mut chunks) = mpsc::channel::<Bytes>(AHEAD);
    let done = tokio::task::spawn_blocking(move || {
        let mut hash = D::new();
        while let Some(chunk) = chunks.blocking_recv() {
            hash.update(&chunk);
        }
        hex::encode(hash.finalize())
    });
    Lane { queue, done }
}

impl Hasher {
    pub(crate) fn new() -> Self {
        Hasher { md5: lane::<Md5>(), sha512: lane::<Sha512>(), size: 0 }
    }

    /// Takes the next bytes. Waits while the hashes are behind.
    pub(crate) async fn update(&mut self, chunk: Bytes) -> Result<(), ImageError> {
        self.size += chunk.len() as u64;
        let ended = |_| ImageError::Internal("a hash ended early".into());
        self.md5.queue.send(chunk.clone()).await.map_err(ended)?;
        self.sha512.queue.send(chunk).await.map_err(ended)
    }

    /// What it all came to.
    pub(crate) async fn finish(self) -> Result<Digest, ImageError> {
        let Hasher { md5, sha512, size } = self;
        drop((md5.queue, sha512.queue));
        Ok(Digest { size, md5: md5.done.await?, sha512: sha512.done.await? })
    }
}
