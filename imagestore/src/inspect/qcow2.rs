//! qcow2, versions 2 and 3: one file that refers to nothing outside of itself.
//!
//! An L1 table points to L2 tables, these to clusters. Reference counts and internal snapshots are not looked at:
//! only the active state is read, and nothing is written.

use super::bytes::{Fields, inside};
use super::{Codec, Piece, Refusal, Tables, What};
use crate::ImageError;
use std::collections::HashMap;

/// What reading the map needs.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    cluster_bits: u32,
    l1_at: u64,
    l1_entries: u64,
    file_size: u64,
    version: u32,
}

const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
/// Dirty only means that reference counts are stale.
const DIRTY: u64 = 1;
/// As QEMU: 32 MiB of L1 table.
const MAX_L1: u64 = (32 << 20) / 8;
const EXT_END: u32 = 0;
const EXT_DATA_FILE: u32 = 0x4441_5441;
/// Bits 9 to 55 of a table's entry: an offset in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;

/// Checks the header and its extensions.
pub(super) fn open(head: &[u8], file_size: u64) -> Result<(u64, super::Layout), Refusal> {
    let h = Fields { bytes: head, what: "qcow2 header" };
    let version = h.be32(4)?;
    if !(2..=3).contains(&version) {
        return Err(Refusal::Feature(format!("qcow2 version {version}")));
    }
    if h.be64(8)? != 0 || h.be32(16)? != 0 {
        return Err(Refusal::BackingFile);
    }
    let cluster_bits = h.be32(20)?;
    if !(9..=21).contains(&cluster_bits) {
        return Err(Refusal::Malformed("the qcow2 cluster size is out of range"));
    }
    let size = h.be64(24)?;
    match h.be32(32)? {
        0 => {}
        1 | 2 => return Err(Refusal::Encrypted),
        _ => return Err(Refusal::Malformed("the qcow2 encryption method is unknown")),
    }
    let header_len = if version == 3 { features(h)? } else { 72 };
    extensions(h, header_len, cluster_bits)?;
    let (l1_entries, l1_at) = (u64::from(h.be32(36)?), h.be64(40)?);
    let per_l1 = 1u64 << (cluster_bits + cluster_bits - 3);
    if l1_entries > MAX_L1 || size.div_ceil(per_l1) > l1_entries {
        return Err(Refusal::Malformed("the qcow2 L1 table does not fit the disk's size"));
    }
    if l1_at % (1 << cluster_bits) != 0 {
        return Err(Refusal::Malformed("the qcow2 L1 table is not aligned"));
    }
    inside(l1_at, l1_entries * 8, file_size, "qcow2 L1 table")?;
    let layout = Layout { cluster_bits, l1_at, l1_entries, file_size, version };
    Ok((size, super::Layout::Qcow2(layout)))
}

/// Refuses every incompatible feature that changes how the file is read; gives the header's length.
fn features(h: Fields<'_>) -> Result<u32, Refusal> {
    let incompatible = h.be64(72)?;
    if incompatible & CORRUPT != 0 {
        return Err(Refusal::Corrupt);
    }
    if incompatible & DATA_FILE != 0 {
        return Err(Refusal::DataFile);
    }
    let unknown = incompatible & !(DIRTY | CORRUPT | DATA_FILE);
    match unknown {
        0 => {}
        0x8 => return Err(Refusal::Feature("qcow2 compression other than zlib".into())),
        0x10 => return Err(Refusal::Feature("qcow2 extended L2 entries".into())),
        bits => return Err(Refusal::Feature(format!("qcow2 incompatible features {bits:#x}"))),
    }
    let len = h.be32(100)?;
    if !(104..=4096).contains(&len) || len % 8 != 0 {
        return Err(Refusal::Malformed("the qcow2 header length is out of range"));
    }
    Ok(len)
}

/// Walks the header extensions in the first cluster.
fn extensions(h: Fields<'_>, header_len: u32, cluster_bits: u32) -> Result<(), Refusal> {
    let end = (1u64 << cluster_bits).min(h.bytes.len() as u64);
    let mut at = u64::from(header_len);
    while at + 8 <= end {
        let off = usize::try_from(at).unwrap_or(usize::MAX);
        let (kind, len) = (h.be32(off)?, h.be32(off.saturating_add(4))?);
        match kind {
            EXT_END => return Ok(()),
            EXT_DATA_FILE => return Err(Refusal::DataFile),
            _ => {}
        }
        at += 8 + u64::from(len).next_multiple_of(8);
        if at > 1u64 << cluster_bits {
            return Err(Refusal::Malformed("a qcow2 header extension leaves the first cluster"));
        }
    }
    Ok(())
}

/// What a header says, as far as it can be believed before the rest has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streamed {
    pub(crate) cluster_bits: u32,
    /// Bytes of the disk.
    pub(crate) size: u64,
    pub(crate) l1_at: u64,
    pub(crate) l1_entries: u64,
    version: u32,
}

/// Checks a header whose file is still coming. `cap` bounds the disk.
pub(crate) fn streamed(head: &[u8], cap: u64) -> Result<Streamed, Refusal> {
    let head = &head[..head.len().min(super::HEAD)];
    let (size, layout) = open(head, u64::MAX)?;
    if size > cap {
        return Err(Refusal::TooLarge { size, cap });
    }
    let super::Layout::Qcow2(l) = layout else { return Err(Refusal::Malformed("the qcow2 header")) };
    let Layout { cluster_bits, l1_at, l1_entries, version, .. } = l;
    Ok(Streamed { cluster_bits, size, l1_at, l1_entries, version })
}

impl Streamed {
    /// Where the L2 tables are, and the first cluster of the disk that each names.
    pub(crate) fn l2_tables(&self, l1: &[u8]) -> HashMap<u64, u64> {
        let per_table = 1u64 << (self.cluster_bits - 3);
        let entries =
            l1.chunks_exact(8).map(|e| u64::from_be_bytes(e.try_into().unwrap_or_default()) & OFFSET);
        entries.zip(0..).filter(|(at, _)| *at != 0).map(|(at, n)| (at, n * per_table)).collect()
    }

    /// (cluster of the file, cluster of the disk) of an L2 table's plain clusters.
    pub(crate) fn plain_clusters<'t>(
        &'t self,
        table: &'t [u8],
        first: u64,
    ) -> impl Iterator<Item = (u64, u64)> + 't {
        let entries = table.chunks_exact(8).map(|e| u64::from_be_bytes(e.try_into().unwrap_or_default()));
        entries.zip(first..).filter_map(|(entry, cluster)| {
            let offset = entry & OFFSET;
            let zero = self.version >= 3 && entry & 1 != 0;
            let plain = entry & COMPRESSED == 0
                && !zero
                && offset != 0
                && offset.is_multiple_of(1 << self.cluster_bits);
            plain.then_some((offset >> self.cluster_bits, cluster))
        })
    }
}

impl Layout {
    pub(super) async fn piece(&self, tables: &mut Tables<'_>, at: u64) -> Result<Piece, ImageError> {
        let cluster = 1u64 << self.cluster_bits;
        let l2_entries = cluster / 8;
        let (index, within) = (at >> self.cluster_bits, at & (cluster - 1));
        let (l1_index, l2_index) = (index / l2_entries, index % l2_entries);
        if l1_index >= self.l1_entries {
            return Err(Refusal::Malformed("the qcow2 L1 table ends early").into());
        }
        let l2_at = tables.be64(self.l1_at + l1_index * 8, "qcow2 L1 table").await? & OFFSET;
        if l2_at == 0 {
            let len = (l2_entries - l2_index) * cluster - within;
            return Ok(Piece { len, what: What::Zero });
        }
        if !l2_at.is_multiple_of(cluster) {
            return Err(Refusal::Malformed("a qcow2 L2 table is not aligned").into());
        }
        let entry = tables.be64(l2_at + l2_index * 8, "qcow2 L2 table").await?;
        let what =
            if entry & COMPRESSED != 0 { self.packed(entry, within)? } else { self.plain(entry, within)? };
        Ok(Piece { len: cluster - within, what })
    }

    fn plain(&self, entry: u64, within: u64) -> Result<What, Refusal> {
        let offset = entry & OFFSET;
        let zero = self.version >= 3 && entry & 1 != 0;
        if offset == 0 || zero {
            return Ok(What::Zero);
        }
        if !offset.is_multiple_of(1 << self.cluster_bits) {
            return Err(Refusal::Malformed("a qcow2 cluster is not aligned"));
        }
        // The file may end within its last cluster: what is missing reads as zeroes.
        inside(offset, 1, self.file_size, "qcow2 cluster")?;
        Ok(What::Data { at: offset + within })
    }

    fn packed(&self, entry: u64, within: u64) -> Result<What, Refusal> {
        let shift = 62 - (self.cluster_bits - 8);
        let at = entry & ((1 << shift) - 1);
        let sectors = (entry & (COMPRESSED - 1)) >> shift;
        // The last sector is not always there whole.
        let len = ((sectors + 1) * 512 - (at & 511)).min(self.file_size.saturating_sub(at));
        inside(at, 1, self.file_size, "compressed qcow2 cluster")?;
        let packed =
            u32::try_from(len).map_err(|_| Refusal::Malformed("a compressed cluster is too long"))?;
        let skip = u32::try_from(within).unwrap_or_default();
        Ok(What::Packed { at, packed, skip, whole: 1 << self.cluster_bits, codec: Codec::Deflate })
    }
}
