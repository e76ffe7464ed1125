//! QCOW2, version 3: 64 KiB clusters, reference counts of 16 bits, each 1.

use super::{Blocks, File, Head, Piece, Table, Width, padded};

const BITS: u32 = 16;
const CLUSTER: u64 = 1 << BITS;
const L2: u64 = CLUSTER / 8;
/// Reference counts in a cluster.
const COUNTS: u64 = CLUSTER / 2;
/// The cluster has one owner, which may write to it.
const COPIED: u64 = 1 << 63;

pub(super) fn file(disk: u64, extents: &[(u64, u64)]) -> File {
    let blocks = Blocks::new(disk, CLUSTER, extents);
    // One L2 table speaks of 512 MiB; there is one where anything is.
    let tables = Blocks::new(disk, CLUSTER * L2, extents);
    let l1 = (tables.total() * 8).div_ceil(CLUSTER).max(1);
    let fixed = 1 + l1 + tables.used() + blocks.used();
    // The counts count themselves.
    let (mut counts, mut table) = (1, 1);
    let total = loop {
        let total = fixed + counts + table;
        let needed = total.div_ceil(COUNTS);
        let its_table = (needed * 8).div_ceil(CLUSTER);
        if (needed, its_table) == (counts, table) {
            break total;
        }
        (counts, table) = (needed, its_table);
    };
    let counts_at = 1 + l1 + table;
    let tables_at = counts_at + counts;
    let data_at = tables_at + tables.used();
    let head = Head::default()
        .raw(b"QFI\xfb")
        .raw(&3u32.to_be_bytes())
        .raw(&[0; 12]) // no backing file
        .raw(&BITS.to_be_bytes())
        .raw(&disk.to_be_bytes())
        .raw(&[0; 4]) // not encrypted
        .raw(&u32::try_from(tables.total()).unwrap_or(u32::MAX).to_be_bytes())
        .raw(&CLUSTER.to_be_bytes())
        .raw(&((1 + l1) * CLUSTER).to_be_bytes())
        .raw(&u32::try_from(table).unwrap_or(u32::MAX).to_be_bytes())
        .to(96) // no snapshots, no features
        .raw(&4u32.to_be_bytes())
        .raw(&104u32.to_be_bytes())
        .to(112); // the end of the header's extensions
    let (roots, leaves, used) = (tables.clone(), tables.clone(), blocks.clone());
    let pieces = padded(head.0, CLUSTER)
        .chain([
            Table::piece(l1 * L2, Width::Be64, move |i| {
                roots.index(i).map_or(0, |t| ((tables_at + t) * CLUSTER) | COPIED)
            }),
            Table::piece(
                table * L2,
                Width::Be64,
                move |i| {
                    if i < counts { (counts_at + i) * CLUSTER } else { 0 }
                },
            ),
            // Four counts at once.
            Table::piece(counts * COUNTS / 4, Width::Be64, move |i| {
                (0..4).filter(|k| i * 4 + k < total).map(|k| 1 << (48 - 16 * k)).sum()
            }),
        ])
        .chain((0..leaves.runs.len()).flat_map(move |i| {
            let (first, n, _) = leaves.runs[i];
            let used = used.clone();
            (first..first + n).map(move |t| -> Piece {
                let used = used.clone();
                Table::piece(L2, Width::Be64, move |k| {
                    used.index(t * L2 + k).map_or(0, |c| ((data_at + c) * CLUSTER) | COPIED)
                })
            })
        }))
        .chain(blocks.data());
    File { size: total * CLUSTER, pieces: Box::new(pieces) }
}
