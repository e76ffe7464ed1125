//! The hashes of a stream, each on a thread of its own, so that neither holds up the runtime or the other.
//!
//! They bound an upload: a core makes 800 MB/s of MD5 and 1,000 of SHA-512, and every byte is needed for both. (By
//! OpenSSL; the crates md-5 and sha2 make a fifth and a quarter less.)

use crate::ImageError;
use crate::model::{Digest, HashAlgorithm};
use crate::signature::Method;
use bytes::Bytes;
use futures::StreamExt as _;
use openssl::error::ErrorStack;
use openssl::md::{Md, MdRef};
use openssl::md_ctx::MdCtx;
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
    done: JoinHandle<Result<String, ErrorStack>>,
}

impl Lane {
    fn new(kind: &'static MdRef) -> Lane {
        let (queue, mut chunks) = mpsc::channel::<Bytes>(AHEAD);
        let done = tokio::task::spawn_blocking(move || {
            let mut hash = MdCtx::new()?;
            hash.digest_init(kind)?;
            while let Some(chunk) = chunks.blocking_recv() {
                hash.digest_update(&chunk)?;
            }
            let mut made = vec![0; kind.size()];
            hash.digest_final(&mut made)?;
            Ok(hex::encode(made))
        });
        Lane { queue, done }
    }

    /// The hash of all it was given, in hex.
    async fn finish(self) -> Result<String, ImageError> {
        drop(self.queue);
        self.done.await?.map_err(|e| ImageError::Internal(Box::new(e)))
    }
}

/// One hash of a whole stream, in hex.
pub(crate) async fn hash_of(method: Method, mut bytes: super::Body) -> Result<String, ImageError> {
    let lane = Lane::new(method.digest());
    while let Some(chunk) = bytes.next().await {
        lane.queue.send(chunk?).await.map_err(ended)?;
    }
    lane.finish().await
}

fn ended<T>(_: T) -> ImageError {
    ImageError::Internal("a hash ended early".into())
}

impl Hasher {
    /// MD5 is made where it is asked for.
    pub(crate) fn new(algorithm: HashAlgorithm, md5: bool) -> Self {
        let hash = Lane::new(Method::from(algorithm).digest());
        Hasher { md5: md5.then(|| Lane::new(Md::md5())), algorithm, hash, size: 0 }
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
        let md5 = match md5 {
            None => None,
            Some(lane) => Some(lane.finish().await?),
        };
        Ok(Digest { size, md5, algorithm, hash: hash.finish().await? })
    }
}
