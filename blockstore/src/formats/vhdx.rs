//! VHDX, dynamic: blocks of 1 MiB, 512-byte sectors, an empty log.

use super::{Blocks, File, Head, SECTOR, Table, Width, padded};
use uuid::{Uuid, uuid};

const MIB: u64 = 1 << 20;
const KIB64: usize = 64 << 10;
const METADATA: u64 = 2 * MIB;
const BAT: u64 = 3 * MIB;
/// Blocks between two entries for bitmaps of sectors (which only differencing disks have).
const RATIO: u64 = (1 << 23) * SECTOR / MIB;
/// The block is in the file.
const PRESENT: u64 = 6;

const BAT_REGION: Uuid = uuid!("2DC27766-F623-4200-9D64-115E9BFD4A08");
const METADATA_REGION: Uuid = uuid!("8B7CA206-4790-4B9A-B8FE-575F050F886E");
const PARAMETERS: Uuid = uuid!("CAA16737-FA36-4D43-B3B6-33F0AA44E76B");
const DISK_SIZE: Uuid = uuid!("2FA54224-CD1B-4876-B211-5DBED83BF4B8");
const PAGE_83: Uuid = uuid!("BECA12AB-B2E6-4523-93EF-C309E000C746");
const LOGICAL: Uuid = uuid!("8141BF1D-A96F-4709-BA47-F233A8FAAB5F");
const PHYSICAL: Uuid = uuid!("CDA348C7-445D-4471-9CC9-E9885251C556");

pub(super) fn file(disk: u64, extents: &[(u64, u64)]) -> File {
    let disk = disk.next_multiple_of(SECTOR);
    let blocks = Blocks::new(disk, MIB, extents);
    let entries = blocks.total() + blocks.total().saturating_sub(1) / RATIO;
    let bat = (entries * 8).next_multiple_of(MIB).max(MIB);
    let data_at = BAT + bat;
    let identifier: Vec<u8> = "vhdxfile".bytes().collect();
    let front = Head(identifier)
        .to(KIB64)
        .raw(&header(1))
        .to(2 * KIB64)
        .raw(&header(2))
        .to(3 * KIB64)
        .raw(&regions(bat))
        .raw(&regions(bat))
        .to(5 * KIB64);
    let map = blocks.clone();
    let table = Table::piece(bat / 8, Width::Le64, move |i| {
        let (chunk, within) = (i / (RATIO + 1), i % (RATIO + 1));
        let index = if within < RATIO { map.index(chunk * RATIO + within) } else { None };
        index.map_or(0, |k| (data_at + k * MIB) | PRESENT)
    });
    let size = data_at + blocks.used() * MIB;
    let pieces =
        padded(front.0, METADATA).chain(padded(metadata(disk), MIB)).chain([table]).chain(blocks.data());
    File { size, pieces: Box::new(pieces) }
}

/// With the sum of the whole at its place.
fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(&bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn header(sequence: u64) -> Vec<u8> {
    let header = Head::default()
        .raw(b"head")
        .to(8)
        .raw(&sequence.to_le_bytes())
        .raw(&Uuid::new_v4().to_bytes_le())
        .raw(&Uuid::new_v4().to_bytes_le())
        .raw(&[0; 16]) // nothing to replay
        .raw(&0u16.to_le_bytes())
        .raw(&1u16.to_le_bytes())
        .raw(&u32::try_from(MIB).unwrap_or_default().to_le_bytes())
        .raw(&MIB.to_le_bytes())
        .to(4096);
    summed(header.0)
}

fn regions(bat: u64) -> Vec<u8> {
    let one = |head: Head, what: Uuid, at: u64, len: u64| {
        head.raw(&what.to_bytes_le())
            .raw(&at.to_le_bytes())
            .raw(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes())
            .raw(&1u32.to_le_bytes())
    };
    let head = Head::default().raw(b"regi").to(8).raw(&2u32.to_le_bytes()).to(16);
    let head = one(one(head, BAT_REGION, BAT, bat), METADATA_REGION, METADATA, MIB);
    summed(head.to(KIB64).0)
}

fn metadata(disk: u64) -> Vec<u8> {
    const REQUIRED: u32 = 4;
    const OF_DISK: u32 = 2;
    let page: Vec<u8> = Uuid::new_v4().to_bytes_le().to_vec();
    let mut parameters = u32::try_from(MIB).unwrap_or_default().to_le_bytes().to_vec();
    parameters.extend_from_slice(&[0; 4]);
    let items: [(Uuid, u32, Vec<u8>); 5] = [
        (PARAMETERS, REQUIRED, parameters),
        (DISK_SIZE, REQUIRED | OF_DISK, disk.to_le_bytes().to_vec()),
        (PAGE_83, REQUIRED | OF_DISK, page),
        (LOGICAL, REQUIRED | OF_DISK, 512u32.to_le_bytes().to_vec()),
        (PHYSICAL, REQUIRED | OF_DISK, 512u32.to_le_bytes().to_vec()),
    ];
    let mut head = Head::default().raw(b"metadata").raw(&[0; 2]).raw(&5u16.to_le_bytes()).to(32);
    let mut at = KIB64;
    let mut values = Vec::new();
    for (what, flags, value) in items {
        head = head
            .raw(&what.to_bytes_le())
            .raw(&u32::try_from(at).unwrap_or_default().to_le_bytes())
            .raw(&u32::try_from(value.len()).unwrap_or_default().to_le_bytes())
            .raw(&flags.to_le_bytes())
            .raw(&[0; 4]);
        at += value.len();
        values.extend_from_slice(&value);
    }
    head.to(KIB64).raw(&values).0
}
