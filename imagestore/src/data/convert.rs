//! From a disk image format to the bytes of the disk, once, sparse.
//!
//! The disk is made 4 MiB at a time, in order: what stands in such a chunk is looked up in the format's tables,
//! then read, expanded and put together, several chunks at a time. Zeroes are never written.

use super::blob::Stored;
use super::{Blobs, CHUNK, Disk, Split};
use crate::ImageError;
use crate::inspect::{self, Codec, Format, Inspection, Refusal, Source, Tables, What};
use bytes::{Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};
use futures::stream::FuturesOrdered;
use futures::{StreamExt, TryStreamExt};
use pool::ImageWriter;
use std::sync::Arc;

/// Chunks in the making at once.
const DEPTH: usize = 4;
/// An expansion up to here is never a bomb.
const HARMLESS: u64 = 1 << 30;

/// What an upload may become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of the disk.
    pub(crate) virtual_size: u64,
    /// Bytes written for each byte uploaded.
    pub(crate) expansion: u64,
}

/// Inspects `<id>.orig` (of `size` bytes), which was declared as `format`, and makes `<id>` of it: the bytes of the
/// disk inside. `split` is what has been made of it on the way. Nothing is left of `<id>` where it fails.
pub(crate) async fn convert(
    blobs: &Blobs,
    id: &str,
    size: u64,
    format: Format,
    limits: Limits,
    split: Option<Split>,
) -> Result<Inspection, ImageError> {
    let disk = split.map(|s| s.disk);
    let from = Arc::new(blobs.stored(id, size, disk.clone()).await?);
    let found = match inspect::inspect(from.as_ref(), format, limits.virtual_size).await {
        Ok(found) => found,
        Err(e) => {
            // Whoever removes what was made on the way finds nobody else at it.
            drop(from);
            if let Some(disk) = disk.filter(|_| !e.is_unavailable()) {
                disk.close().await?;
            }
            return Err(e);
        }
    };
    let to = match disk {
        Some(disk) => disk,
        None => blobs.create(id, Disk::Main, found.virtual_size).await?,
    };
    let cap = HARMLESS.max(size.saturating_mul(limits.expansion));
    let made = write(from.clone(), &found, to.clone(), cap).await;
    drop(from);
    let closed = to.close().await;
    if let Err(e) = made {
        blobs.remove(id, Disk::Main).await?;
        return Err(e);
    }
    closed?;
    Ok(found)
}

/// A chunk of the disk, and its place.
type Made = Result<(u64, Bytes), ImageError>;

/// A part of a chunk: where it goes in there, and where it comes from.
#[derive(Debug, Clone, Copy)]
struct Part {
    off: usize,
    len: usize,
    what: What,
}

async fn write(from: Arc<Stored>, found: &Inspection, to: pool::Image, cap: u64) -> Result<(), ImageError> {
    let mut writer = ImageWriter::new(to, 0);
    let mut tables = Tables::new(from.as_ref());
    let mut making: FuturesOrdered<tokio::task::JoinHandle<Made>> = FuturesOrdered::new();
    let mut at = 0;
    while at < found.virtual_size {
        let (next, parts) = chunk(&mut tables, &from, found, at).await?;
        if !parts.is_empty() {
            let len = usize::try_from(next - at).unwrap_or(CHUNK);
            making.push_back(tokio::spawn(make(from.clone(), at, len, parts)));
        }
        at = next;
        while making.len() >= DEPTH {
            put(&mut writer, making.next().await, cap).await?;
        }
    }
    while !making.is_empty() {
        put(&mut writer, making.next().await, cap).await?;
    }
    writer.finish().await?;
    Ok(())
}

async fn put(
    writer: &mut ImageWriter,
    made: Option<Result<Made, tokio::task::JoinError>>,
    cap: u64,
) -> Result<(), ImageError> {
    let Some(made) = made else { return Ok(()) };
    let (at, data) = made??;
    writer.skip(at - writer.position()).await?;
    writer.write(data).await?;
    if writer.written() > cap {
        return Err(Refusal::Bomb.into());
    }
    Ok(())
}

/// What is to be put into the chunk at `at`, and where the next chunk begins. Zeroes are not listed, and large ones
/// are skipped in one step; nothing is listed where all of it stands there already.
async fn chunk(
    tables: &mut Tables<'_>,
    from: &Stored,
    found: &Inspection,
    at: u64,
) -> Result<(u64, Vec<Part>), ImageError> {
    let end = (at / CHUNK as u64 + 1).saturating_mul(CHUNK as u64).min(found.virtual_size);
    let (mut here, mut parts, mut done) = (at, Vec::<Part>::new(), true);
    while here < end {
        let piece = found.layout.piece(tables, here).await?;
        if matches!(piece.what, What::Zero) {
            let beyond = here.saturating_add(piece.len);
            if parts.is_empty() && beyond >= end {
                let next = (beyond / CHUNK as u64 * CHUNK as u64).max(end);
                return Ok((next.min(found.virtual_size), parts));
            }
            here = beyond.min(end);
            continue;
        }
        let len = piece.len.min(end - here);
        done &= match piece.what {
            What::Data { at } => from.moved.stands(at, len.min(from.size().saturating_sub(at)), here),
            _ => false,
        };
        let part = Part { off: span(here - at), len: span(len), what: piece.what };
        here += len;
        match parts.last_mut() {
            Some(last) if follows(last, &part) => last.len += part.len,
            _ => parts.push(part),
        }
    }
    // A chunk is made whole or not at all: what stands there already is read back with the rest.
    if done {
        parts.clear();
    }
    Ok((end, parts))
}

/// Lengths within a chunk.
fn span(n: u64) -> usize {
    usize::try_from(n).unwrap_or(CHUNK)
}

fn follows(last: &Part, next: &Part) -> bool {
    match (last.what, next.what) {
        (What::Data { at: a }, What::Data { at: b }) => {
            last.off + last.len == next.off && a + last.len as u64 == b
        }
        _ => false,
    }
}

/// Reads and expands the parts of one chunk.
async fn make(from: Arc<Stored>, at: u64, len: usize, parts: Vec<Part>) -> Made {
    if let [Part { off: 0, len: all, what: What::Data { at: place } }] = parts[..]
        && all == len
    {
        let data = from.read(place, len).await?;
        if data.len() == len {
            return Ok((at, data));
        }
    }
    let reads = futures::stream::iter(merge(&parts).into_iter().map(|(place, n)| {
        let from = from.clone();
        async move { Ok::<_, ImageError>((place, from.read(place, n).await?)) }
    }));
    let read: Vec<(u64, Bytes)> = reads.buffered(8).try_collect().await?;
    let data = tokio::task::spawn_blocking(move || assemble(len, &parts, &read)).await??;
    Ok((at, data))
}

/// The ranges of the file to read: neighbours become one read, also over small gaps.
fn merge(parts: &[Part]) -> Vec<(u64, usize)> {
    const GAP: u64 = 64 << 10;
    let mut ranges: Vec<(u64, u64)> = parts
        .iter()
        .map(|p| match p.what {
            What::Data { at } => (at, at + p.len as u64),
            What::Packed { at, packed, .. } => (at, at + u64::from(packed)),
            What::Zero => (0, 0),
        })
        .collect();
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (start, end) in ranges {
        match merged.last_mut() {
            Some((s, e)) if start <= e.saturating_add(GAP) && end.max(*e) - *s <= 2 * CHUNK as u64 => {
                *e = (*e).max(end);
            }
            _ => merged.push((start, end)),
        }
    }
    merged.into_iter().map(|(s, e)| (s, usize::try_from(e - s).unwrap_or_default())).collect()
}

fn assemble(len: usize, parts: &[Part], read: &[(u64, Bytes)]) -> Result<Bytes, Refusal> {
    let mut out = BytesMut::zeroed(len);
    let find = |at: u64, n: usize| -> &[u8] {
        // The file may end within its last block: what is missing is zeroes.
        let i = read.partition_point(|(s, _)| *s <= at);
        let Some((start, data)) = i.checked_sub(1).and_then(|i| read.get(i)) else { return &[] };
        let from = span_in(at - start, data.len());
        &data[from..from.saturating_add(n).min(data.len())]
    };
    for p in parts {
        let place = out.get_mut(p.off..p.off + p.len).ok_or(Refusal::Malformed("a block leaves the disk"))?;
        match p.what {
            What::Zero => {}
            What::Data { at } => {
                let data = find(at, p.len);
                place[..data.len()].copy_from_slice(data);
            }
            What::Packed { at, packed, skip, whole, codec } => {
                let data = find(at, usize::try_from(packed).unwrap_or_default());
                let (skip, whole) = (skip as usize, whole as usize);
                if skip == 0 && p.len == whole {
                    expand(data, codec, place)?;
                } else {
                    let mut all = vec![0; whole];
                    expand(data, codec, &mut all)?;
                    let wanted =
                        all.get(skip..skip + p.len).ok_or(Refusal::Malformed("a block is too short"))?;
                    place.copy_from_slice(wanted);
                }
            }
        }
    }
    Ok(out.freeze())
}

fn span_in(n: u64, len: usize) -> usize {
    usize::try_from(n).unwrap_or(len).min(len)
}

/// Expands one block into `out`, never beyond it. A block that ends early is filled up with zeroes.
fn expand(data: &[u8], codec: Codec, out: &mut [u8]) -> Result<(), Refusal> {
    let mut inflate = Decompress::new(matches!(codec, Codec::Zlib));
    let bad = Refusal::Malformed("a compressed block cannot be expanded");
    let ended = inflate.decompress(data, out, FlushDecompress::Finish).map_err(|_| bad.clone())?;
    let made = usize::try_from(inflate.total_out()).unwrap_or(usize::MAX);
    // A block is full before its stream has ended only where the stream holds more than a block.
    match ended {
        Status::StreamEnd => Ok(()),
        _ if made == out.len() => Ok(()),
        _ => Err(bad),
    }
}

/// The disk inside of a file in memory, put together as an upload's is: for properties. At most `chunks` of
/// its chunks are made; its whole size is told.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) async fn disk_of(
    file: &[u8],
    format: Format,
    cap: u64,
    chunks: usize,
) -> Result<(Vec<u8>, u64), ImageError> {
    let source = inspect::Slice(file);
    let found = inspect::inspect(&source, format, cap).await?;
    let (mut tables, mut disk) = (Tables::new(&source), Vec::new());
    for at in (0..found.virtual_size).step_by(CHUNK).take(chunks) {
        let end = found.virtual_size.min(at + CHUNK as u64);
        let (mut here, mut parts) = (at, Vec::new());
        while here < end {
            let piece = found.layout.piece(&mut tables, here).await?;
            let len = piece.len.min(end - here);
            if piece.what != What::Zero {
                parts.push(Part { off: span(here - at), len: span(len), what: piece.what });
            }
            here += len;
        }
        let mut read = Vec::new();
        for (place, n) in merge(&parts) {
            read.push((place, source.read(place, n).await?));
        }
        disk.extend_from_slice(&assemble(span(end - at), &parts, &read)?);
    }
    Ok((disk, found.virtual_size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, ZlibEncoder};
    use std::io::Write;

    #[test]
    fn a_block_expands_no_further_than_its_place() {
        let mut e = DeflateEncoder::new(Vec::new(), Compression::default());
        e.write_all(&[7; 100_000]).unwrap();
        let packed = e.finish().unwrap();
        let mut out = vec![0; 65_536];
        expand(&packed, Codec::Deflate, &mut out).unwrap();
        assert!(out.iter().all(|b| *b == 7));
        assert!(expand(&packed[..packed.len() / 2], Codec::Deflate, &mut vec![0; 200_000]).is_err());
        assert!(expand(&[0xff; 64], Codec::Deflate, &mut out).is_err());
    }

    #[test]
    fn chunks_are_put_together_from_plain_and_packed_parts() {
        let mut e = ZlibEncoder::new(Vec::new(), Compression::default());
        e.write_all(&[9; 8192]).unwrap();
        let packed = e.finish().unwrap();
        let n = u32::try_from(packed.len()).unwrap();
        let read = vec![(100, Bytes::from_static(&[1, 2, 3, 4])), (5000, Bytes::from(packed))];
        let parts = [
            Part { off: 0, len: 3, what: What::Data { at: 101 } },
            Part {
                off: 10,
                len: 8192,
                what: What::Packed { at: 5000, packed: n, skip: 0, whole: 8192, codec: Codec::Zlib },
            },
            Part {
                off: 9000,
                len: 5,
                what: What::Packed { at: 5000, packed: n, skip: 8000, whole: 8192, codec: Codec::Zlib },
            },
        ];
        let out = assemble(10_000, &parts, &read).unwrap();
        assert_eq!(out[..4], [2, 3, 4, 0]);
        assert_eq!((out[10], out[8201], out[8202], out[9004], out[9005]), (9, 9, 0, 9, 0));
    }

    #[test]
    fn reads_are_merged_over_small_gaps_only() {
        let at = |at, len| Part { off: 0, len, what: What::Data { at } };
        assert_eq!(merge(&[at(0, 10), at(100, 10)]), [(0, 110)]);
        assert_eq!(merge(&[at(1 << 30, 10), at(0, 10)]), [(0, 10), (1 << 30, 10)]);
    }
}
