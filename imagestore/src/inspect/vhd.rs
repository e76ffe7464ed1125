//! VHD: a footer, and for dynamic disks a header and a table of blocks. Differencing disks are refused.

use super::bytes::{Fields, inside};
use super::{Piece, Refusal, Tables, What};
use crate::ImageError;

#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// `None`: a fixed disk, whose bytes are the file's.
    table: Option<Table>,
    file_size: u64,
}

#[derive(Debug, Clone, Copy)]
struct Table {
    at: u64,
    entries: u64,
    block: u64,
    /// Bytes of the sector bitmap before each block.
    bitmap: u64,
}

const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const FREE: u32 = u32::MAX;

pub(super) async fn open(
    tables: &mut Tables<'_>,
    file_size: u64,
) -> Result<(u64, super::Layout), ImageError> {
    // A dynamic disk has a copy of its footer in front; the footer itself is what counts.
    let at = file_size.checked_sub(512).ok_or(Refusal::Truncated("VHD footer"))?;
    let footer = tables.read(at, 512, "VHD footer").await?;
    let f = Fields { bytes: &footer, what: "VHD footer" };
    if f.slice(0, 8)? != b"conectix" {
        return Err(Refusal::Truncated("VHD footer").into());
    }
    checksum(&footer, 64)?;
    let size = f.be64(48)?;
    if size % 512 != 0 {
        return Err(Refusal::Malformed("the VHD size is not a multiple of 512").into());
    }
    let table = match f.be32(60)? {
        FIXED => {
            inside(0, size, at, "VHD disk")?;
            None
        }
        DYNAMIC => Some(table(tables, f.be64(16)?, size, file_size).await?),
        _ => return Err(Refusal::BackingFile.into()),
    };
    Ok((size, super::Layout::Vhd(Layout { table, file_size })))
}

async fn table(tables: &mut Tables<'_>, at: u64, size: u64, file_size: u64) -> Result<Table, ImageError> {
    let header = tables.read(at, 1024, "VHD header").await?;
    let h = Fields { bytes: &header, what: "VHD header" };
    if h.slice(0, 8)? != b"cxsparse" {
        return Err(Refusal::Malformed("the VHD header is missing").into());
    }
    checksum(&header, 36)?;
    let (at, entries, block) = (h.be64(16)?, u64::from(h.be32(28)?), u64::from(h.be32(32)?));
    if !(4096..=256 << 20).contains(&block) || !block.is_power_of_two() {
        return Err(Refusal::Malformed("the VHD block size is out of range").into());
    }
    if size.div_ceil(block) > entries {
        return Err(Refusal::Malformed("the VHD table does not fit the disk's size").into());
    }
    inside(at, entries * 4, file_size, "VHD table")?;
    Ok(Table { at, entries, block, bitmap: (block / 512 / 8).next_multiple_of(512) })
}

/// The complement of the sum of all bytes but the checksum's own.
fn checksum(bytes: &[u8], at: usize) -> Result<(), Refusal> {
    let stated = Fields { bytes, what: "VHD header" }.be32(at)?;
    let sum = bytes
        .iter()
        .enumerate()
        .filter(|(i, _)| !(at..at + 4).contains(i))
        .fold(0u32, |sum, (_, b)| sum.wrapping_add(u32::from(*b)));
    if !sum == stated { Ok(()) } else { Err(Refusal::Malformed("a VHD checksum is wrong")) }
}

impl Layout {
    pub(super) async fn piece(&self, tables: &mut Tables<'_>, at: u64) -> Result<Piece, ImageError> {
        let Some(t) = self.table else { return Ok(Piece { len: u64::MAX - at, what: What::Data { at } }) };
        let (index, within) = (at / t.block, at % t.block);
        if index >= t.entries {
            return Err(Refusal::Malformed("the VHD table ends early").into());
        }
        let entry = tables.be32(t.at + index * 4, "VHD table").await?;
        let len = t.block - within;
        if entry == FREE {
            return Ok(Piece { len, what: What::Zero });
        }
        let block_at = u64::from(entry) * 512 + t.bitmap;
        inside(block_at, 1, self.file_size, "VHD block")?;
        Ok(Piece { len, what: What::Data { at: block_at + within } })
    }
}
