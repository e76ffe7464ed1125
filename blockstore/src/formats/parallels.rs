//! Parallels' expanding disk, which OpenStack calls `ploop`: blocks of 1 MiB.

use super::{Blocks, File, Head, SECTOR, Table, Width, padded, too_large};
use crate::VolumeError;

const BLOCK: u64 = 1 << 20;
const HEADER: u64 = 64;

pub(super) fn file(disk: u64, extents: &[(u64, u64)]) -> Result<File, VolumeError> {
    let disk = disk.next_multiple_of(SECTOR);
    let blocks = Blocks::new(disk, BLOCK, extents);
    let small = |n: u64| u32::try_from(n).map_err(|_| too_large("ploop"));
    let data_at = (HEADER + blocks.total() * 4).next_multiple_of(BLOCK);
    let head = Head::default()
        .raw(b"WithouFreSpacExt")
        .raw(&2u32.to_le_bytes())
        .raw(&16u32.to_le_bytes())
        .raw(&small(disk / SECTOR / 16 / 32)?.to_le_bytes())
        .raw(&small(BLOCK / SECTOR)?.to_le_bytes())
        .raw(&small(blocks.total())?.to_le_bytes())
        .raw(&(disk / SECTOR).to_le_bytes())
        .raw(&[0; 4]) // closed
        .raw(&small(data_at / SECTOR)?.to_le_bytes());
    let map = blocks.clone();
    let first = data_at / BLOCK;
    let map =
        Table::piece((data_at - HEADER) / 4, Width::Le32, move |i| map.index(i).map_or(0, |k| first + k));
    let size = data_at + blocks.used() * BLOCK;
    Ok(File { size, pieces: Box::new(padded(head.0, HEADER).chain([map]).chain(blocks.data())) })
}
