//! VMDK, `monolithicSparse`: grains of 64 KiB, the descriptor inside. At most 2 TiB, which is what its sector numbers reach.

use super::{Blocks, File, Head, SECTOR, Table, Width, padded, too_large};
use crate::VolumeError;

const GRAIN: u64 = 64 << 10;
const GRAIN_SECTORS: u64 = GRAIN / SECTOR;
/// Grains that a table speaks of.
const ENTRIES: u64 = 512;
const TABLE_SECTORS: u64 = ENTRIES * 4 / SECTOR;
const DESCRIPTOR: u64 = 20;

pub(super) fn file(disk: u64, extents: &[(u64, u64)]) -> Result<File, VolumeError> {
    let capacity = disk.div_ceil(SECTOR);
    let blocks = Blocks::new(disk, GRAIN, extents);
    let tables = blocks.total().div_ceil(ENTRIES);
    let directory = (tables * 4).div_ceil(SECTOR);
    let spare_at = 1 + DESCRIPTOR;
    let directory_at = spare_at + directory + tables * TABLE_SECTORS;
    let end = directory_at + directory + tables * TABLE_SECTORS;
    let data_at = end.next_multiple_of(GRAIN_SECTORS);
    let sectors = data_at + blocks.used() * GRAIN_SECTORS;
    if sectors > u64::from(u32::MAX) {
        return Err(too_large("vmdk"));
    }
    let head = Head::default()
        .raw(b"KDMV")
        .raw(&1u32.to_le_bytes())
        .raw(&3u32.to_le_bytes())
        .raw(&capacity.to_le_bytes())
        .raw(&GRAIN_SECTORS.to_le_bytes())
        .raw(&1u64.to_le_bytes())
        .raw(&DESCRIPTOR.to_le_bytes())
        .raw(&u32::try_from(ENTRIES).unwrap_or_default().to_le_bytes())
        .raw(&spare_at.to_le_bytes())
        .raw(&directory_at.to_le_bytes())
        .raw(&data_at.to_le_bytes())
        .raw(&[0])
        .raw(b"\n \r\n")
        .to(512)
        .raw(descriptor(capacity).as_bytes());
    let level = |at: u64| {
        let map = blocks.clone();
        [
            Table::piece(directory * SECTOR / 4, Width::Le32, move |i| match i < tables {
                true => at + directory + i * TABLE_SECTORS,
                false => 0,
            }),
            Table::piece(tables * ENTRIES, Width::Le32, move |i| {
                map.index(i).map_or(0, |k| data_at + k * GRAIN_SECTORS)
            }),
        ]
    };
    let pieces = padded(head.0, spare_at * SECTOR)
        .chain(level(spare_at))
        .chain(level(directory_at))
        .chain([super::Piece::Zeroes((data_at - end) * SECTOR)].into_iter().filter(|p| p.len() > 0))
        .chain(blocks.data());
    Ok(File { size: sectors * SECTOR, pieces: Box::new(pieces) })
}

fn descriptor(sectors: u64) -> String {
    let id = uuid::Uuid::new_v4().as_fields().0;
    let cylinders = (sectors / 63 / 16).min(16383);
    format!(
        "# Disk DescriptorFile\nversion=1\nCID={id:08x}\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\n\n\
         # Extent description\nRW {sectors} SPARSE \"disk.vmdk\"\n\n# The Disk Data Base\n#DDB\n\n\
         ddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"{cylinders}\"\nddb.geometry.heads = \"16\"\n\
         ddb.geometry.sectors = \"63\"\nddb.adapterType = \"ide\"\n"
    )
}
