//! VHDX: headers, a region table, metadata, and a table of blocks. A disk with a parent is refused, and so is one
//! whose log was not replayed.

use super::bytes::{Fields, inside};
use super::{Piece, Refusal, Tables, What};
use crate::ImageError;

#[derive(Debug, Clone)]
pub(crate) struct Layout {
    table_at: u64,
    entries: u64,
    block: u64,
    /// After this many blocks an entry for a bitmap stands in the table.
    ratio: u64,
    file_size: u64,
}

type Guid = [u8; 16];

/// A GUID as it stands in the file: the first three groups are little-endian.
const fn guid(a: u32, b: u16, c: u16, d: [u8; 8]) -> Guid {
    let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

pub(super) const BAT: Guid =
    guid(0x2dc2_7766, 0xf623, 0x4200, [0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08]);
pub(super) const METADATA: Guid =
    guid(0x8b7c_a206, 0x4790, 0x4b9a, [0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e]);
pub(super) const PARAMETERS: Guid =
    guid(0xcaa1_6737, 0xfa36, 0x4d43, [0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b]);
pub(super) const DISK_SIZE: Guid =
    guid(0x2fa5_4224, 0xcd1b, 0x4876, [0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8]);
pub(super) const SECTOR_SIZE: Guid =
    guid(0x8141_bf1d, 0xa96f, 0x4709, [0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f]);
const PARENT: Guid = guid(0xa8d3_5f2d, 0xb30b, 0x454d, [0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c]);

const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
const REGIONS: u64 = 192 << 10;

pub(super) async fn open(
    tables: &mut Tables<'_>,
    file_size: u64,
) -> Result<(u64, super::Layout), ImageError> {
    clean(tables).await?;
    let (bat, metadata) = regions(tables).await?;
    let (size, block, sector) = parameters(tables, metadata).await?;
    let ratio = (sector << 23) / block;
    let blocks = size.div_ceil(block);
    let entries = blocks + blocks.saturating_sub(1) / ratio;
    let (table_at, table_len) = bat;
    if entries * 8 > table_len {
        return Err(Refusal::Malformed("the VHDX table does not fit the disk's size").into());
    }
    inside(table_at, entries * 8, file_size, "VHDX table")?;
    let layout = Layout { table_at, entries, block, ratio, file_size };
    Ok((size, super::Layout::Vhdx(layout)))
}

/// The newest header must not name a log.
async fn clean(tables: &mut Tables<'_>) -> Result<(), ImageError> {
    let mut newest: Option<(u64, bool)> = None;
    for at in HEADERS {
        let bytes = tables.read(at, 4096, "VHDX header").await?;
        let h = Fields { bytes: &bytes, what: "VHDX header" };
        if h.slice(0, 4)? == b"head" {
            let (sequence, empty) = (h.le64(8)?, h.slice(48, 16)?.iter().all(|b| *b == 0));
            if newest.is_none_or(|(n, _)| sequence > n) {
                newest = Some((sequence, empty));
            }
        }
    }
    match newest {
        Some((_, true)) => Ok(()),
        Some((_, false)) => Err(Refusal::Corrupt.into()),
        None => Err(Refusal::Malformed("the VHDX headers are missing").into()),
    }
}

/// (offset, length) of the table of blocks, and the offset of the metadata.
async fn regions(tables: &mut Tables<'_>) -> Result<((u64, u64), u64), ImageError> {
    let bytes = tables.read(REGIONS, 64 << 10, "VHDX region table").await?;
    let r = Fields { bytes: &bytes, what: "VHDX region table" };
    let count = usize::try_from(r.le32(8)?).unwrap_or(usize::MAX);
    if r.slice(0, 4)? != b"regi" || count > 2047 {
        return Err(Refusal::Malformed("the VHDX region table is missing").into());
    }
    let (mut bat, mut metadata) = (None, None);
    for i in 0..count {
        let e = 16 + i * 32;
        let place = (r.le64(e + 16)?, u64::from(r.le32(e + 24)?));
        match r.slice(e, 16)? {
            g if g == BAT => bat = Some(place),
            g if g == METADATA => metadata = Some(place.0),
            _ if r.le32(e + 28)? & 1 != 0 => {
                return Err(Refusal::Feature("an unknown VHDX region".into()).into());
            }
            _ => {}
        }
    }
    bat.zip(metadata).ok_or_else(|| Refusal::Malformed("a VHDX region is missing").into())
}

/// (size of the disk, block size, sector size), in bytes.
async fn parameters(tables: &mut Tables<'_>, at: u64) -> Result<(u64, u64, u64), ImageError> {
    let bytes = tables.read(at, 64 << 10, "VHDX metadata").await?;
    let m = Fields { bytes: &bytes, what: "VHDX metadata" };
    let count = usize::from(m.le16(10)?);
    if m.slice(0, 8)? != b"metadata" || count > 2047 {
        return Err(Refusal::Malformed("the VHDX metadata is missing").into());
    }
    let (mut size, mut block, mut sector) = (None, None, None);
    for i in 0..count {
        let e = 32 + i * 32;
        let item_at = at.saturating_add(u64::from(m.le32(e + 16)?));
        match m.slice(e, 16)? {
            g if g == PARAMETERS => {
                block = Some(u64::from(tables.le32(item_at, "VHDX metadata").await?));
                if tables.le32(item_at + 4, "VHDX metadata").await? & 2 != 0 {
                    return Err(Refusal::BackingFile.into());
                }
            }
            g if g == DISK_SIZE => size = Some(tables.le64(item_at, "VHDX metadata").await?),
            g if g == SECTOR_SIZE => sector = Some(u64::from(tables.le32(item_at, "VHDX metadata").await?)),
            g if g == PARENT => return Err(Refusal::BackingFile.into()),
            _ => {}
        }
    }
    let missing = || Refusal::Malformed("a VHDX parameter is missing");
    let (size, block, sector) =
        (size.ok_or_else(missing)?, block.ok_or_else(missing)?, sector.ok_or_else(missing)?);
    let fits = (1 << 20..=256 << 20).contains(&block) && block.is_power_of_two();
    if !fits || !matches!(sector, 512 | 4096) || size % sector != 0 {
        return Err(Refusal::Malformed("a VHDX parameter is out of range").into());
    }
    Ok((size, block, sector))
}

impl Layout {
    pub(super) async fn piece(&self, tables: &mut Tables<'_>, at: u64) -> Result<Piece, ImageError> {
        let (number, within) = (at / self.block, at % self.block);
        let index = number + number / self.ratio;
        if index >= self.entries {
            return Err(Refusal::Malformed("the VHDX table ends early").into());
        }
        let entry = tables.le64(self.table_at + index * 8, "VHDX table").await?;
        let len = self.block - within;
        let block_at = entry >> 20 << 20;
        match entry & 7 {
            0..=3 => Ok(Piece { len, what: What::Zero }),
            6 => {
                inside(block_at, 1, self.file_size, "VHDX block")?;
                Ok(Piece { len, what: What::Data { at: block_at + within } })
            }
            7 => Err(Refusal::BackingFile.into()),
            _ => Err(Refusal::Malformed("a VHDX block has an unknown state").into()),
        }
    }
}
