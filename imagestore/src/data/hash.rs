//! The hashes of a stream, each on a thread of its own, so that neither holds up the runtime or the other.
//!
//! They bound an upload: a core makes 600 to 700 MB/s of MD5 or SHA-512, and every byte is needed for both.

use crate::ImageError;
use crate::model::{Digest, HashAlgorithm};
use crate::signature::Method;
use bytes::Bytes;
use futures::StreamExt as _;
use md5::Md5;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Chunks that may wait for a hash: with chunks of 4 MiB, 8 MiB each.
const AHEAD: usize = 2;

/// Hashes what it is given, in order.
pub(crate) struct Hasher {
    md5: Option<Lane>,
    algorithm: HashAlgorithm,
    hash: Lane,
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

/// One hash of a whole stream, in hex.
pub(crate) async fn hash_of(method: Method, mut bytes: super::Body) -> Result<String, ImageError> {
    let Lane { queue, done } = match method {
        Method::Sha224 => lane::<Sha224>(),
        Method::Sha256 => lane::<Sha256>(),
        Method::Sha384 => lane::<Sha384>(),
        Method::Sha512 => lane::<Sha512>(),
    };
    while let Some(chunk) = bytes.next().await {
        queue.send(chunk?).await.map_err(ended)?;
    }
    drop(queue);
    Ok(done.await?)
}

fn ended<T>(_: T) -> ImageError {
    ImageError::Internal("a hash ended early".into())
}

impl Hasher {
    /// MD5 is made where it is asked for.
    pub(crate) fn new(algorithm: HashAlgorithm, md5: bool) -> Self {
        let hash = match algorithm {
            HashAlgorithm::Sha256 => lane::<Sha256>(),
            HashAlgorithm::Sha384 => lane::<Sha384>(),
            HashAlgorithm::Sha512 => lane::<Sha512>(),
        };
        Hasher { md5: md5.then(lane::<Md5>), algorithm, hash, size: 0 }
    }

    /// Takes the next bytes. Waits while the hashes are behind.
    pub(crate) async fn update(&mut self, chunk: Bytes) -> Result<(), ImageError> {
        self.size += chunk.len() as u64;
        if let Some(md5) = &self.md5 {
            md5.queue.send(chunk.clone()).await.map_err(ended)?;
        }
        self.hash.queue.send(chunk).await.map_err(ended)
    }

    /// What it all came to.
    pub(crate) async fn finish(self) -> Result<Digest, ImageError> {
        let Hasher { md5, algorithm, hash, size } = self;
        drop(hash.queue);
        let md5 = match md5 {
            None => None,
            Some(Lane { queue, done }) => {
                drop(queue);
                Some(done.await?)
            }
        };
        Ok(Digest { size, md5, algorithm, hash: hash.done.await? })
    }
}
