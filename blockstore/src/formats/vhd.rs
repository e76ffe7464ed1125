//! VHD, dynamic: blocks of 2 MiB, each behind a bitmap of its sectors. At most 2,040 GiB.

use super::{Blocks, File, Head, Piece, SECTOR, Table, Width, too_large};
use crate::VolumeError;
use bytes::Bytes;

const BLOCK: u64 = 2 << 20;
const TABLE: u64 = 512 + 1024;
const FREE: u64 = u32::MAX as u64;
const MOST: u64 = 2040 << 30;

pub(super) fn file(disk: u64, extents: &[(u64, u64)]) -> Result<File, VolumeError> {
    let disk = disk.next_multiple_of(SECTOR);
    if disk > MOST {
        return Err(too_large("vhd"));
    }
    let blocks = Blocks::new(disk, BLOCK, extents);
    let table = (blocks.total() * 4).next_multiple_of(SECTOR);
    let data_at = TABLE + table;
    let footer = footer(disk);
    let entries = u32::try_from(blocks.total()).map_err(|_| too_large("vhd"))?;
    let header = Head::default()
        .raw(b"cxsparse")
        .raw(&[0xff; 8])
        .raw(&TABLE.to_be_bytes())
        .raw(&0x0001_0000_u32.to_be_bytes())
        .raw(&entries.to_be_bytes())
        .raw(&u32::try_from(BLOCK).unwrap_or_default().to_be_bytes())
        .to(1024);
    let map = blocks.clone();
    let pitch = (SECTOR + BLOCK) / SECTOR;
    let map = Table::piece(table / 4, Width::Be32, move |i| {
        map.index(i).map_or(FREE, |k| data_at / SECTOR + k * pitch)
    });
    let size = data_at + blocks.used() * (SECTOR + BLOCK) + SECTOR;
    let bytes = |b: Vec<u8>| Piece::Bytes(b.into());
    let pieces = [bytes(footer.clone()), bytes(summed(header.0, 36)), map]
        .into_iter()
        .chain(blocks.each_after(Bytes::from_static(&[0xff; 512])))
        .chain([bytes(footer)]);
    Ok(File { size, pieces: Box::new(pieces) })
}

fn footer(disk: u64) -> Vec<u8> {
    let (cylinders, heads, sectors) = geometry(disk / SECTOR);
    let footer = Head::default()
        .raw(b"conectix")
        .raw(&2u32.to_be_bytes())
        .raw(&0x0001_0000_u32.to_be_bytes())
        .raw(&512u64.to_be_bytes())
        .raw(&[0; 4]) // made at the beginning of the format's time
        .raw(b"qem2") // the size below is meant, not the geometry
        .raw(&0x0005_0003_u32.to_be_bytes())
        .raw(b"Wi2k")
        .raw(&disk.to_be_bytes())
        .raw(&disk.to_be_bytes())
        .raw(&cylinders.to_be_bytes())
        .raw(&[heads, sectors])
        .raw(&3u32.to_be_bytes())
        .raw(&[0; 4])
        .raw(uuid::Uuid::new_v4().as_bytes())
        .to(512);
    summed(footer.0, 64)
}

/// Puts the complement of the sum of all bytes where it belongs.
fn summed(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    let sum = bytes.iter().fold(0u32, |sum, b| sum.wrapping_add(u32::from(*b)));
    bytes[at..at + 4].copy_from_slice(&(!sum).to_be_bytes());
    bytes
}

/// Cylinders, heads and sectors a track, as the format's specification computes them.
fn geometry(sectors: u64) -> (u16, u8, u8) {
    let sectors = sectors.min(65535 * 16 * 255);
    let (per_track, heads, across) = if sectors >= 65535 * 16 * 63 {
        (255, 16, sectors / 255)
    } else {
        let across = sectors / 17;
        let heads = across.div_ceil(1024).max(4);
        if across < heads * 1024 && heads <= 16 {
            (17, heads, across)
        } else if sectors / 31 < 16 * 1024 {
            (31, 16, sectors / 31)
        } else {
            (63, 16, sectors / 63)
        }
    };
    let small = |n: u64| u8::try_from(n).unwrap_or(u8::MAX);
    (u16::try_from(across / heads).unwrap_or(u16::MAX), small(heads), small(per_track))
}
