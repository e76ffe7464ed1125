//! Reading an image from its beginning to its end, and copying one between clusters.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt, TryStreamExt};

use super::image::{Extent, Image};
use super::writer::is_zero;
use crate::error::Error;

/// How much one read asks for.
const CHUNK: u64 = 4 << 20;
/// How many chunks are copied at once.
const DEPTH: usize = 8;
/// How much of an image one diff looks at: bounds the answer to 16,384 objects.
const WINDOW: u64 = 64 << 30;

/// Reads a range of an image in order, ahead of whoever takes the bytes.
pub struct ImageReader {
    image: Image,
    at: u64,
    end: u64,
    depth: usize,
    ahead: VecDeque<tokio::task::JoinHandle<Result<Bytes, Error>>>,
}

impl std::fmt::Debug for ImageReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ImageReader({} {}..{})", self.image.name(), self.at, self.end)
    }
}

impl Drop for ImageReader {
    fn drop(&mut self) {
        self.ahead.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl ImageReader {
    /// A reader of `off..off+len` that keeps 4 reads of 4 MiB under way.
    pub fn new(image: Image, off: u64, len: u64) -> Self {
        Self { image, at: off, end: off.saturating_add(len), depth: 4, ahead: VecDeque::new() }
    }

    /// Keeps this many reads under way.
    pub fn depth(mut self, depth: usize) -> Self {
        self.depth = depth.max(1);
        self
    }

    /// The next bytes, `None` at the end. A range beyond the image's end is an error.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.ahead.len() < self.depth && self.at < self.end {
            // Up to the end of the chunk, so that all but the first begin at an object.
            let len = (CHUNK - self.at % CHUNK).min(self.end - self.at);
            let (image, off) = (self.image.clone(), self.at);
            self.at += len;
            self.ahead.push_back(tokio::spawn(async move {
                let n = usize::try_from(len).unwrap_or(usize::MAX);
                let data = image.read_at(off, n).await?;
                if data.len() != n {
                    return Err(Error::Range { what: image.path("read beyond the end of") });
                }
                Ok(data)
            }));
        }
        let Some(next) = self.ahead.pop_front() else { return Ok(None) };
        let cancelled = |_| Error::Cancelled { what: self.image.path("read") };
        next.await.map_err(cancelled)?.map(Some)
    }

    /// As a stream, for a body.
    pub fn into_stream(self) -> impl futures::Stream<Item = Result<Bytes, Error>> + Send {
        futures::stream::unfold(Some(self), |reader| async {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(data)) => Some((Ok(data), Some(reader))),
                Ok(None) => None,
                Err(e) => Some((Err(e), None)),
            }
        })
    }
}

/// Copies an image into another one, which must read as zeroes and be at least as large: only what exists,
/// several chunks at a time. They may be in different clusters. `progress` hears (position, size) in bytes. The
/// bytes that were copied.
pub async fn copy_image(
    from: &Image,
    to: &Image,
    progress: impl Fn(u64, u64) + Send + Sync,
) -> Result<u64, Error> {
    let size = from.size().await?;
    let copied = copy_range(from, None, to, 0, size, |at| progress(at, size)).await?;
    to.flush().await?;
    progress(size, size);
    Ok(copied)
}

/// Copies what changed in a range since a snapshot (`None`: what exists). What is zeroes now becomes zeroes
/// there, where a snapshot is given. Does not flush. The bytes that were copied.
pub async fn copy_range(
    from: &Image,
    since: Option<&str>,
    to: &Image,
    off: u64,
    len: u64,
    progress: impl Fn(u64) + Send + Sync,
) -> Result<u64, Error> {
    let end = off.saturating_add(len);
    let mut copied = 0;
    let mut at = off;
    while at < end {
        let window = WINDOW.min(end - at);
        let extents = from.diff_iterate(since, at, window, true).await?;
        let zeroes = if since.is_some() { Zeroes::Punched } else { Zeroes::Skipped };
        let mut inflight = FuturesUnordered::new();
        for piece in extents.into_iter().flat_map(pieces) {
            if inflight.len() >= DEPTH {
                copied += inflight.next().await.unwrap_or(Ok(0))?;
                progress(piece.off);
            }
            inflight.push(copy_piece(from.clone(), to.clone(), piece, zeroes));
        }
        while let Some(done) = inflight.next().await {
            copied += done?;
        }
        at += window;
        progress(at);
    }
    Ok(copied)
}

/// Copies ranges of an image, which may hold nothing but zeroes, into one that reads as zeroes there: whoever knows better
/// than the image itself where anything is, as of an encrypted one. Does not flush. The bytes that were copied.
pub async fn copy_extents(
    from: &Image,
    to: &Image,
    extents: impl IntoIterator<Item = Extent>,
) -> Result<u64, Error> {
    copy_pieces(from, to, extents.into_iter().flat_map(pieces), Zeroes::Skipped).await
}

/// Copies a range as it is, zeroes too, into an encrypted image: what was never written there is noise to everybody who
/// decrypts it without librbd. Does not flush.
pub async fn copy_whole(from: &Image, to: &Image, off: u64, len: u64) -> Result<(), Error> {
    let all = pieces(Extent { off, len, exists: true });
    copy_pieces(from, to, all, Zeroes::Written).await.map(drop)
}

async fn copy_pieces(
    from: &Image,
    to: &Image,
    pieces: impl Iterator<Item = Extent>,
    zeroes: Zeroes,
) -> Result<u64, Error> {
    let copies = pieces.map(|piece| copy_piece(from.clone(), to.clone(), piece, zeroes));
    futures::stream::iter(copies)
        .buffer_unordered(DEPTH)
        .try_fold(0, |all, n| async move { Ok(all + n) })
        .await
}

fn pieces(e: Extent) -> impl Iterator<Item = Extent> {
    let end = e.off + e.len;
    let mut at = e.off;
    std::iter::from_fn(move || {
        let len = (CHUNK - at % CHUNK).min(end - at);
        let piece = Extent { off: at, len, exists: e.exists };
        at += len;
        (len > 0).then_some(piece)
    })
}

/// What becomes of a piece that is nothing but zeroes.
#[derive(Clone, Copy, PartialEq)]
enum Zeroes {
    /// The target reads as zeroes there.
    Skipped,
    /// The target may hold something else.
    Punched,
    /// They are content like any other.
    Written,
}

async fn copy_piece(from: Image, to: Image, piece: Extent, zeroes: Zeroes) -> Result<u64, Error> {
    let n = usize::try_from(piece.len).unwrap_or(0);
    let data = if piece.exists { from.read_at(piece.off, n).await? } else { Bytes::new() };
    if zeroes == Zeroes::Written || !is_zero(&data) {
        to.write_at(piece.off, data).await?;
        return Ok(piece.len);
    }
    if zeroes == Zeroes::Punched {
        to.write_zeroes(piece.off, piece.len).await?;
    }
    Ok(0)
}
