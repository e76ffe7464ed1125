//! VDI, dynamic: blocks of 1 MiB.

use super::{Blocks, File, Head, SECTOR, Table, Width, padded, too_large};
use crate::VolumeError;

const BLOCK: u64 = 1 << 20;
const FREE: u64 = u32::MAX as u64;
const MAP: u64 = 512;

pub(super) fn file(disk: u64, extents: &[(u64, u64)]) -> Result<File, VolumeError> {
    let blocks = Blocks::new(disk, BLOCK, extents);
    let count = |n: u64| u32::try_from(n).map_err(|_| too_large("vdi"));
    let data_at = (MAP + blocks.total() * 4).next_multiple_of(BLOCK);
    let head = Head::default()
        .raw(b"<<< QEMU VM Virtual Disk Image >>>\n")
        .to(0x40)
        .raw(&0xbeda_107f_u32.to_le_bytes())
        .raw(&0x0001_0001_u32.to_le_bytes())
        .raw(&0x180_u32.to_le_bytes())
        .raw(&1u32.to_le_bytes()) // dynamic
        .to(0x154)
        .raw(&512u32.to_le_bytes())
        .raw(&count(data_at)?.to_le_bytes())
        .raw(&[0; 12])
        .raw(&512u32.to_le_bytes())
        .to(0x170)
        .raw(&disk.next_multiple_of(SECTOR).to_le_bytes())
        .raw(&u32::try_from(BLOCK).unwrap_or_default().to_le_bytes())
        .raw(&[0; 4])
        .raw(&count(blocks.total())?.to_le_bytes())
        .raw(&count(blocks.used())?.to_le_bytes())
        .raw(uuid::Uuid::new_v4().as_bytes())
        .raw(uuid::Uuid::new_v4().as_bytes());
    let (total, map) = (blocks.total(), blocks.clone());
    let map = Table::piece((data_at - MAP) / 4, Width::Le32, move |i| match i < total {
        true => map.index(i).unwrap_or(FREE),
        false => 0,
    });
    let size = data_at + blocks.used() * BLOCK;
    Ok(File { size, pieces: Box::new(padded(head.0, MAP).chain([map]).chain(blocks.data())) })
}
