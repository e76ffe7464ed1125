//! Writing an image from its beginning to its end, as fast as the cluster takes it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use super::image::Image;
use crate::error::Error;

/// Runs of zeroes of this many bytes (aligned) are left out.
const GRAIN: usize = 64 * 1024;

/// Writes bytes one after another: gathers them into chunks of an object (4 MiB), keeps several of those in
/// flight, and leaves out zeroes. The image must read as zeroes where it writes (a new one does), unless
/// [`ImageWriter::overwrite`] is asked for.
///
/// An error is reported by the next call; [`ImageWriter::finish`] reports what nobody has heard of, so what it
/// says is what holds.
pub struct ImageWriter {
    image: Image,
    off: u64,
    chunk: usize,
    depth: usize,
    overwrite: bool,
    pending: VecDeque<Bytes>,
    pending_len: usize,
    inflight: FuturesUnordered<BoxFuture<'static, Result<(), Error>>>,
    written: u64,
}

impl std::fmt::Debug for ImageWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ImageWriter({} at {})", self.image.name(), self.off)
    }
}

impl ImageWriter {
    /// A writer from `off` on, with chunks of 4 MiB and 8 of them in flight.
    pub fn new(image: Image, off: u64) -> Self {
        Self {
            image,
            off,
            chunk: 4 << 20,
            depth: 8,
            overwrite: false,
            pending: VecDeque::new(),
            pending_len: 0,
            inflight: FuturesUnordered::new(),
            written: 0,
        }
    }

    /// Keeps this many chunks in flight.
    pub fn depth(mut self, depth: usize) -> Self {
        self.depth = depth.max(1);
        self
    }

    /// Zeroes what it leaves out: for an image that holds something already.
    pub fn overwrite(mut self) -> Self {
        self.overwrite = true;
        self
    }

    /// Where the next byte goes.
    pub fn position(&self) -> u64 {
        self.off + self.pending_len as u64
    }

    /// The bytes that went to the cluster so far: without the zeroes that were left out.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes the next bytes. Waits where enough is in flight already.
    pub async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        self.pending_len += data.len();
        if !data.is_empty() {
            self.pending.push_back(data);
        }
        loop {
            let want = self.to_boundary();
            if self.pending_len < want {
                return Ok(());
            }
            self.submit(want).await?;
        }
    }

    /// Leaves out the next `len` bytes: they are zeroes.
    pub async fn skip(&mut self, len: u64) -> Result<(), Error> {
        self.submit(self.pending_len).await?;
        if self.overwrite && len > 0 {
            let (image, off) = (self.image.clone(), self.off);
            self.push(Box::pin(async move { image.write_zeroes(off, len).await })).await?;
        }
        self.off += len;
        Ok(())
    }

    /// Writes what is left, waits for everything, flushes; the position it has come to. The image stays open.
    pub async fn finish(mut self) -> Result<u64, Error> {
        self.submit(self.pending_len).await?;
        while let Some(done) = self.inflight.next().await {
            done?;
        }
        self.image.flush().await?;
        Ok(self.off)
    }

    /// How many bytes are missing to the end of the current chunk.
    fn to_boundary(&self) -> usize {
        let into = usize::try_from(self.off % self.chunk as u64).unwrap_or(0);
        self.chunk - into
    }

    /// The first `len` pending bytes in one piece: without a copy where they are in one already.
    fn take(&mut self, len: usize) -> Bytes {
        self.pending_len -= len;
        if let Some(first) = self.pending.front_mut()
            && first.len() >= len
        {
            let taken = first.split_to(len);
            if first.is_empty() {
                self.pending.pop_front();
            }
            return taken;
        }
        let mut all = BytesMut::with_capacity(len);
        while all.len() < len {
            let Some(first) = self.pending.front_mut() else { break };
            let part = first.split_to(first.len().min(len - all.len()));
            all.extend_from_slice(&part);
            if first.is_empty() {
                self.pending.pop_front();
            }
        }
        all.freeze()
    }

    async fn submit(&mut self, len: usize) -> Result<(), Error> {
        if len == 0 {
            return Ok(());
        }
        let data = self.take(len);
        let base = self.off;
        self.off += len as u64;
        for (start, end, zero) in runs(base, &data) {
            let (image, off) = (self.image.clone(), base + start as u64);
            let n = (end - start) as u64;
            if !zero {
                self.written += n;
                let part = data.slice(start..end);
                self.push(Box::pin(async move { image.write_at(off, part).await })).await?;
            } else if self.overwrite {
                self.push(Box::pin(async move { image.write_zeroes(off, n).await })).await?;
            }
        }
        Ok(())
    }

    /// Starts an operation now, and waits until fewer than `depth` are in flight.
    async fn push(&mut self, op: BoxFuture<'static, Result<(), Error>>) -> Result<(), Error> {
        while self.inflight.len() >= self.depth {
            if let Some(done) = self.inflight.next().await {
                done?;
            }
        }
        self.inflight.push(op);
        // A future does nothing until polled: one look at them all gets the new one under way.
        let looked = poll_fn(|cx| match self.inflight.poll_next_unpin(cx) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => Poll::Ready(None),
        });
        looked.await.unwrap_or(Ok(()))
    }
}

/// Cuts a chunk into runs of (start, end, whether they are zeroes), at multiples of the grain.
fn runs(base: u64, data: &[u8]) -> Vec<(usize, usize, bool)> {
    let mut out: Vec<(usize, usize, bool)> = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let into = usize::try_from((base + at as u64) % GRAIN as u64).unwrap_or(0);
        let end = (at + GRAIN - into).min(data.len());
        let zero = is_zero(&data[at..end]);
        match out.last_mut() {
            Some(last) if last.2 == zero => last.1 = end,
            _ => out.push((at, end, zero)),
        }
        at = end;
    }
    out
}

/// Whether all bytes are zero.
pub(super) fn is_zero(data: &[u8]) -> bool {
    data.chunks(4096).all(|c| c.iter().fold(0u8, |a, b| a | b) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroes_are_found_at_the_grain() {
        let mut data = vec![0u8; 4 * GRAIN];
        data[GRAIN + 5] = 1;
        assert_eq!(
            runs(0, &data),
            [(0, GRAIN, true), (GRAIN, 2 * GRAIN, false), (2 * GRAIN, 4 * GRAIN, true)]
        );
        assert_eq!(runs(100, &data[..10]), [(0, 10, true)]);
        assert_eq!(runs(7, &[]), []);
        // The grain is the image's, not the chunk's.
        assert_eq!(runs(GRAIN as u64 - 1, &[1, 0, 0]), [(0, 1, false), (1, 3, true)]);
    }
}
