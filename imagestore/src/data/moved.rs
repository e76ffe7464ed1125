//! What of an upload stands in the disk already, so that it is not kept twice.
//!
//! The plain clusters of a qcow2 are the disk's own bytes. While such a file is received they go straight to their
//! place in `<id>`, and `<id>.orig` has a hole there. A list of (place in the file, length, place in the disk), in the
//! file's order, stands behind the file's end in `<id>.orig`; reading the file back follows it.

use super::CHUNK;
use crate::ImageError;
use bytes::{BufMut, Bytes, BytesMut};
use pool::OptionalExt;

/// One run of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// In the file.
    pub(crate) at: u64,
    pub(crate) len: u64,
    /// In the disk.
    pub(crate) to: u64,
}

/// Runs in the file's order; they do not overlap there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Moved(Vec<Run>);

/// The most runs that are kept: 6 MiB of them. What comes after stays in the file.
const MAX: usize = 1 << 18;
const ENTRY: usize = 24;
/// The RBD metadata key that says how many there are.
const KEY: &str = "aquifer.moved";

impl Moved {
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= MAX
    }

    /// Adds a run behind all others.
    pub(crate) fn push(&mut self, run: Run) {
        match self.0.last_mut() {
            Some(last) if last.at + last.len == run.at && last.to + last.len == run.to => last.len += run.len,
            _ => self.0.push(run),
        }
    }

    /// The run at a place of the file, or the next one after it.
    fn from(&self, at: u64) -> Option<&Run> {
        self.0.get(self.0.partition_point(|r| r.at + r.len <= at))
    }

    /// Whether `len` bytes at `at` of the file stand at `to` of the disk.
    pub(crate) fn stands(&self, at: u64, len: u64, to: u64) -> bool {
        self.from(at).is_some_and(|r| r.at <= at && at + len <= r.at + r.len && r.to + (at - r.at) == to)
    }

    /// Cuts a range of the file into parts of at most a chunk: (place, length, whether that is in the disk).
    pub(crate) fn parts(
        &self,
        off: u64,
        len: u64,
    ) -> impl Iterator<Item = (u64, usize, bool)> + Send + use<> {
        let first = self.0.partition_point(|r| r.at + r.len <= off);
        let end = off.saturating_add(len);
        let mut runs =
            self.0[first..].iter().copied().take_while(|r| r.at < end).collect::<Vec<_>>().into_iter();
        let (mut at, mut run) = (off, runs.next());
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            while run.is_some_and(|r| r.at + r.len <= at) {
                run = runs.next();
            }
            let (place, stop, in_disk) = match run {
                Some(r) if r.at <= at => (r.to + (at - r.at), r.at + r.len, true),
                Some(r) => (at, r.at, false),
                None => (at, end, false),
            };
            // Up to the end of an object, so that reads fit them.
            let to_object = CHUNK as u64 - place % CHUNK as u64;
            let n = stop.min(end).saturating_sub(at).min(to_object);
            at += n;
            Some((place, usize::try_from(n).unwrap_or(CHUNK), in_disk))
        })
    }

    /// Where the list begins in `<id>.orig`.
    fn place(size: u64) -> u64 {
        size.next_multiple_of(CHUNK as u64)
    }

    /// Writes the list behind a file of `size` bytes.
    pub(crate) async fn save(&self, image: &pool::Image, size: u64) -> Result<(), ImageError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut bytes = BytesMut::with_capacity(self.0.len() * ENTRY);
        for r in &self.0 {
            bytes.put_u64(r.at);
            bytes.put_u64(r.len);
            bytes.put_u64(r.to);
        }
        let at = Self::place(size);
        image.resize(at + bytes.len() as u64, true).await?;
        image.write_at(at, bytes.freeze()).await?;
        Ok(image.metadata_set(KEY, &self.0.len().to_string()).await?)
    }

    /// Reads the list of a file of `size` bytes; most have none.
    pub(crate) async fn load(image: &pool::Image, size: u64) -> Result<Moved, ImageError> {
        let Some(count) = image.metadata_get(KEY).await.optional()? else { return Ok(Moved::default()) };
        let corrupt = || ImageError::Internal("the list of moved bytes cannot be read".into());
        let count: usize = count.parse().map_err(|_| corrupt())?;
        if count > MAX {
            return Err(corrupt());
        }
        let bytes = image.read_at(Self::place(size), count * ENTRY).await?;
        if bytes.len() != count * ENTRY {
            return Err(corrupt());
        }
        let number = |b: &[u8]| u64::from_be_bytes(b.try_into().unwrap_or_default());
        let run = |b: &[u8]| Run { at: number(&b[..8]), len: number(&b[8..16]), to: number(&b[16..]) };
        Ok(Moved(bytes.chunks_exact(ENTRY).map(run).collect()))
    }
}

/// Lets a copy of `<id>.orig` know of its list, which was copied with the bytes.
pub(crate) async fn copy_key(from: &pool::Image, to: &pool::Image) -> Result<(), ImageError> {
    match from.metadata_get(KEY).await.optional()? {
        Some(count) => Ok(to.metadata_set(KEY, &count).await?),
        None => Ok(()),
    }
}

/// What stays in the file of a chunk that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Kept(Bytes),
    /// So many bytes went to the disk.
    Moved(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_from_both_places() {
        let mut m = Moved::default();
        m.push(Run { at: 100, len: 50, to: 1000 });
        m.push(Run { at: 150, len: 50, to: 1050 });
        m.push(Run { at: 300, len: 10, to: 0 });
        assert_eq!(m.0.len(), 2);
        let parts: Vec<_> = m.parts(90, 230).collect();
        assert_eq!(
            parts,
            [(90, 10, false), (1000, 100, true), (200, 100, false), (0, 10, true), (310, 10, false)]
        );
        assert_eq!(m.parts(120, 5).collect::<Vec<_>>(), [(1020, 5, true)]);
        assert_eq!(m.parts(0, 0).count(), 0);
        assert!(m.stands(110, 20, 1010));
        assert!(!m.stands(110, 200, 1010) && !m.stands(110, 20, 0) && !m.stands(0, 5, 0));
        let long = Moved::default().parts(5, 10 << 20).map(|p| p.1).collect::<Vec<_>>();
        assert_eq!(long, [CHUNK - 5, CHUNK, (2 << 20) + 5]);
    }
}
