//! VDI: a map of blocks, dynamic or static, without a parent.

use super::bytes::{Fields, inside};
use super::{Piece, Refusal, Tables, What};
use crate::ImageError;

#[derive(Debug, Clone)]
pub(crate) struct Layout {
    map_at: u64,
    data_at: u64,
    block: u64,
    blocks: u64,
    file_size: u64,
}

const FREE: u32 = 0xffff_fffe; // and 0xffff_ffff: discarded, never written

pub(super) fn open(head: &[u8], file_size: u64) -> Result<(u64, super::Layout), Refusal> {
    let h = Fields { bytes: head, what: "VDI header" };
    if h.le32(0x44)? != 0x0001_0001 {
        return Err(Refusal::Feature("VDI version other than 1.1".into()));
    }
    match h.le32(0x4c)? {
        1 | 2 => {}
        _ => return Err(Refusal::BackingFile),
    }
    let links = [h.slice(0x1a8, 16)?, h.slice(0x1b8, 16)?];
    if links.iter().any(|l| l.iter().any(|b| *b != 0)) {
        return Err(Refusal::BackingFile);
    }
    if h.le32(0x168)? != 512 || h.le32(0x17c)? != 0 {
        return Err(Refusal::Feature("VDI sector size or extra block data".into()));
    }
    let (map_at, data_at) = (u64::from(h.le32(0x154)?), u64::from(h.le32(0x158)?));
    let (size, block) = (h.le64(0x170)?, u64::from(h.le32(0x178)?));
    let blocks = u64::from(h.le32(0x180)?);
    if block != 1 << 20 || map_at % 512 != 0 || data_at % 512 != 0 {
        return Err(Refusal::Malformed("the VDI block size or an offset is out of range"));
    }
    if size.div_ceil(block) > blocks {
        return Err(Refusal::Malformed("the VDI map does not fit the disk's size"));
    }
    inside(map_at, blocks * 4, file_size, "VDI map")?;
    Ok((size, super::Layout::Vdi(Layout { map_at, data_at, block, blocks, file_size })))
}

impl Layout {
    pub(super) async fn piece(&self, tables: &mut Tables<'_>, at: u64) -> Result<Piece, ImageError> {
        let (index, within) = (at / self.block, at % self.block);
        if index >= self.blocks {
            return Err(Refusal::Malformed("the VDI map ends early").into());
        }
        let entry = tables.le32(self.map_at + index * 4, "VDI map").await?;
        let len = self.block - within;
        if entry >= FREE {
            return Ok(Piece { len, what: What::Zero });
        }
        let block_at = self.data_at + u64::from(entry) * self.block;
        inside(block_at, 1, self.file_size, "VDI block")?;
        Ok(Piece { len, what: What::Data { at: block_at + within } })
    }
}
