//! Disk image formats, written as a stream: what a volume becomes where an upload asks for more than raw bytes.
//!
//! What a format's tables say follows from which blocks of the disk hold anything, which RBD tells before the first byte is
//! read. So a file is laid out first (its exact size is known), then streamed from its beginning to its end: no
//! temporary file, no other program, and memory that does not grow with the disk.

mod parallels;
mod qcow2;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

#[cfg(test)]
mod tests;

use crate::VolumeError;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;

const SECTOR: u64 = 512;
/// Bytes that are made at once.
const CHUNK: u64 = 4 << 20;
/// Chunks in the making.
const AHEAD: usize = 4;

/// A file of one of the formats.
pub(crate) struct File {
    /// Bytes.
    pub(crate) size: u64,
    pieces: Pieces,
}

type Pieces = Box<dyn Iterator<Item = Piece> + Send>;

/// A part of a file.
#[derive(Clone)]
enum Piece {
    Bytes(Bytes),
    Zeroes(u64),
    /// Bytes of the disk.
    Disk {
        off: u64,
        len: u64,
    },
    Table(Table),
}

/// Entries that are computed when they are streamed.
#[derive(Clone)]
struct Table {
    first: u64,
    count: u64,
    width: Width,
    of: Arc<dyn Fn(u64) -> u64 + Send + Sync>,
}

#[derive(Clone, Copy)]
enum Width {
    Be64,
    Le64,
    Be32,
    Le32,
}

impl Width {
    fn bytes(self) -> u64 {
        match self {
            Width::Be64 | Width::Le64 => 8,
            Width::Be32 | Width::Le32 => 4,
        }
    }
}

impl Table {
    fn piece(count: u64, width: Width, of: impl Fn(u64) -> u64 + Send + Sync + 'static) -> Piece {
        Piece::Table(Table { first: 0, count, width, of: Arc::new(of) })
    }

    fn bytes(&self) -> Bytes {
        let mut out = Vec::new();
        for i in self.first..self.first + self.count {
            let value = (self.of)(i);
            // Layouts refuse disks whose places do not fit the narrow tables.
            let narrow = u32::try_from(value).unwrap_or(u32::MAX);
            match self.width {
                Width::Be64 => out.extend_from_slice(&value.to_be_bytes()),
                Width::Le64 => out.extend_from_slice(&value.to_le_bytes()),
                Width::Be32 => out.extend_from_slice(&narrow.to_be_bytes()),
                Width::Le32 => out.extend_from_slice(&narrow.to_le_bytes()),
            }
        }
        out.into()
    }
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Piece::Bytes(b) => b.len() as u64,
            Piece::Zeroes(n) => *n,
            Piece::Disk { len, .. } => *len,
            Piece::Table(t) => t.count * t.width.bytes(),
        }
    }

    /// The same in chunks.
    fn chunks(self) -> Pieces {
        if self.len() <= CHUNK {
            return Box::new(std::iter::once(self));
        }
        let all = self.len();
        Box::new((0..all.div_ceil(CHUNK)).map(move |i| {
            let (at, len) = (i * CHUNK, CHUNK.min(all - i * CHUNK));
            match &self {
                Piece::Bytes(b) => Piece::Bytes(b.slice(whole(at)..whole(at + len))),
                Piece::Zeroes(_) => Piece::Zeroes(len),
                Piece::Disk { off, .. } => Piece::Disk { off: off + at, len },
                Piece::Table(t) => {
                    let w = t.width.bytes();
                    Piece::Table(Table { first: t.first + at / w, count: len / w, ..t.clone() })
                }
            }
        }))
    }
}

fn whole(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Which blocks of a disk hold anything.
#[derive(Debug, Clone)]
struct Blocks {
    /// Bytes of the disk, and of a block.
    disk: u64,
    block: u64,
    /// `(first block, how many, how many before it)`, in order.
    runs: Arc<Vec<(u64, u64, u64)>>,
}

impl Blocks {
    /// `extents` (offset, length) are in order.
    fn new(disk: u64, block: u64, extents: &[(u64, u64)]) -> Self {
        let mut runs: Vec<(u64, u64, u64)> = Vec::new();
        for (off, len) in extents.iter().filter(|(off, len)| *len > 0 && *off < disk) {
            let (first, end) = (off / block, (off + len).min(disk).div_ceil(block));
            match runs.last_mut() {
                Some((s, n, _)) if first <= *s + *n => *n = (*n).max(end.saturating_sub(*s)),
                _ => runs.push((first, end - first, 0)),
            }
        }
        let mut before = 0;
        for run in &mut runs {
            run.2 = before;
            before += run.1;
        }
        Blocks { disk, block, runs: Arc::new(runs) }
    }

    fn total(&self) -> u64 {
        self.disk.div_ceil(self.block)
    }

    fn used(&self) -> u64 {
        self.runs.last().map_or(0, |(_, n, before)| n + before)
    }

    /// The place of a block among those that hold anything.
    fn index(&self, block: u64) -> Option<u64> {
        let i = self.runs.partition_point(|(first, ..)| *first <= block).checked_sub(1)?;
        let (first, n, before) = self.runs.get(i)?;
        (block - first < *n).then(|| before + block - first)
    }

    /// The blocks' bytes in order, the last one filled up.
    fn data(&self) -> Pieces {
        let (runs, disk, block) = (self.runs.clone(), self.disk, self.block);
        Box::new((0..runs.len()).flat_map(move |i| {
            let (first, n, _) = runs[i];
            stretch(disk, first * block, n * block)
        }))
    }

    /// The same block by block, each after `before`.
    fn each_after(&self, before: Bytes) -> Pieces {
        let (runs, disk, block) = (self.runs.clone(), self.disk, self.block);
        Box::new((0..runs.len()).flat_map(move |i| {
            let (first, n, _) = runs[i];
            let before = before.clone();
            (first..first + n).flat_map(move |b| {
                std::iter::once(Piece::Bytes(before.clone())).chain(stretch(disk, b * block, block))
            })
        }))
    }
}

/// A stretch of the disk, with zeroes where that has ended.
fn stretch(disk: u64, off: u64, len: u64) -> impl Iterator<Item = Piece> {
    let there = len.min(disk - off);
    [Piece::Disk { off, len: there }, Piece::Zeroes(len - there)].into_iter().filter(|p| p.len() > 0)
}

/// A head of known length, filled up with zeroes.
fn padded(bytes: Vec<u8>, len: u64) -> impl Iterator<Item = Piece> {
    let rest = len - bytes.len() as u64;
    [Piece::Bytes(bytes.into()), Piece::Zeroes(rest)].into_iter().filter(|p| p.len() > 0)
}

/// Numbers put one after the other.
#[derive(Default)]
struct Head(Vec<u8>);

impl Head {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Zeroes up to here.
    fn to(mut self, at: usize) -> Self {
        self.0.resize(at, 0);
        self
    }
}

/// Lays out a disk of `size` bytes, which holds something in `extents` (offset, length; in order) only.
pub(crate) fn lay_out(format: &str, size: u64, extents: &[(u64, u64)]) -> Result<File, VolumeError> {
    match format {
        "qcow2" => Ok(qcow2::file(size, extents)),
        "vdi" => vdi::file(size, extents),
        "vhd" => vhd::file(size, extents),
        "vhdx" => Ok(vhdx::file(size, extents)),
        "vmdk" => vmdk::file(size, extents),
        "ploop" => parallels::file(size, extents),
        other => {
            Err(VolumeError::InvalidInput(format!("A volume cannot become an image of format {other}.")))
        }
    }
}

/// The disk is larger than the format can say.
fn too_large(format: &str) -> VolumeError {
    VolumeError::InvalidInput(format!("The volume is too large for an image of format {format}."))
}

impl File {
    /// Streams the file; the disk is read from `image`.
    pub(crate) fn stream(self, image: pool::Image) -> BoxStream<'static, Result<Bytes, pool::Error>> {
        let zeroes = Bytes::from(vec![0; whole(CHUNK)]);
        let chunks = self.pieces.flat_map(Piece::chunks);
        let made = futures::stream::iter(chunks).map(move |piece| {
            let (image, zeroes) = (image.clone(), zeroes.clone());
            async move {
                match piece {
                    Piece::Bytes(b) => Ok(b),
                    Piece::Zeroes(n) => Ok(zeroes.slice(..whole(n))),
                    Piece::Table(t) => Ok(t.bytes()),
                    Piece::Disk { off, len } => image.read_at(off, whole(len)).await,
                }
            }
        });
        made.buffered(AHEAD).boxed()
    }
}
