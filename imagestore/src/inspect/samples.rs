//! One good file of every format, small and made by code: what tests damage and fuzzers begin with.

use super::{Format, vhdx};

/// A small, valid qcow2: 64 KiB clusters, one L2 table, one plain and one compressed cluster.
pub(crate) fn qcow2() -> Vec<u8> {
    const C: usize = 65536;
    let mut f = vec![0u8; 5 * C];
    f[..4].copy_from_slice(b"QFI\xfb");
    f[4..8].copy_from_slice(&3u32.to_be_bytes());
    f[20..24].copy_from_slice(&16u32.to_be_bytes());
    f[24..32].copy_from_slice(&(1u64 << 20).to_be_bytes());
    f[36..40].copy_from_slice(&1u32.to_be_bytes());
    f[40..48].copy_from_slice(&(C as u64).to_be_bytes());
    f[100..104].copy_from_slice(&104u32.to_be_bytes());
    f[C..C + 8].copy_from_slice(&((2 * C as u64) | (1 << 63)).to_be_bytes());
    f[2 * C..2 * C + 8].copy_from_slice(&((3 * C as u64) | (1 << 63)).to_be_bytes());
    let packed = (4 * C as u64) | (1 << 62);
    f[2 * C + 8..2 * C + 16].copy_from_slice(&packed.to_be_bytes());
    f
}

pub(crate) fn vdi() -> Vec<u8> {
    let mut f = vec![0u8; 3 << 20];
    let put = |f: &mut Vec<u8>, at: usize, n: u32| f[at..at + 4].copy_from_slice(&n.to_le_bytes());
    put(&mut f, 0x40, 0xbeda_107f);
    put(&mut f, 0x44, 0x0001_0001);
    put(&mut f, 0x4c, 1);
    put(&mut f, 0x154, 512);
    put(&mut f, 0x158, 1024);
    put(&mut f, 0x168, 512);
    put(&mut f, 0x170, 2 << 20);
    put(&mut f, 0x178, 1 << 20);
    put(&mut f, 0x180, 2);
    put(&mut f, 516, 0xffff_ffff);
    f
}

pub(crate) fn put(f: &mut [u8], at: usize, bytes: &[u8]) {
    f[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A sparse VMDK of 128 KiB: a descriptor, one directory, one table, one grain of two.
fn vmdk() -> Vec<u8> {
    let mut f = vec![0u8; 256 << 10];
    put(&mut f, 0, b"KDMV");
    for (at, n) in [(4, 1u32), (8, 3), (44, 512)] {
        put(&mut f, at, &n.to_le_bytes());
    }
    // capacity, grain, descriptor, its length, then the directory
    for (at, n) in [(12, 256u64), (20, 128), (28, 1), (36, 2), (56, 8)] {
        put(&mut f, at, &n.to_le_bytes());
    }
    put(&mut f, 512, b"# Disk DescriptorFile\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\nRW 256 SPARSE \"a.vmdk\"\n");
    put(&mut f, 8 * 512, &16u32.to_le_bytes());
    put(&mut f, 16 * 512, &128u32.to_le_bytes());
    f
}

pub(crate) fn checksummed(block: &mut [u8], at: usize) {
    block[at..at + 4].fill(0);
    let sum = block.iter().fold(0u32, |sum, b| sum.wrapping_add(u32::from(*b)));
    put(block, at, &(!sum).to_be_bytes());
}

/// A dynamic VHD of 4 MiB in blocks of 2 MiB, the first of which is there.
fn vhd() -> Vec<u8> {
    let mut f = vec![0u8; 4096 + 512 + (2 << 20) + 512];
    let mut footer = [0u8; 512];
    put(&mut footer, 0, b"conectix");
    put(&mut footer, 16, &512u64.to_be_bytes());
    put(&mut footer, 48, &(4u64 << 20).to_be_bytes());
    put(&mut footer, 60, &3u32.to_be_bytes());
    checksummed(&mut footer, 64);
    let mut header = [0u8; 1024];
    put(&mut header, 0, b"cxsparse");
    put(&mut header, 16, &2048u64.to_be_bytes());
    put(&mut header, 28, &2u32.to_be_bytes());
    put(&mut header, 32, &(2u32 << 20).to_be_bytes());
    checksummed(&mut header, 36);
    put(&mut f, 0, &footer);
    put(&mut f, 512, &header);
    put(&mut f, 2048, &8u32.to_be_bytes());
    put(&mut f, 2052, &u32::MAX.to_be_bytes());
    let end = f.len() - 512;
    put(&mut f, end, &footer);
    f
}

/// A VHDX of 2 MiB in blocks of 1 MiB, the second of which is there.
fn vhdx() -> Vec<u8> {
    let mut f = vec![0u8; 4 << 20];
    put(&mut f, 0, b"vhdxfile");
    put(&mut f, 64 << 10, b"head");
    put(&mut f, (64 << 10) + 8, &1u64.to_le_bytes());
    let regions = 192 << 10;
    put(&mut f, regions, b"regi");
    put(&mut f, regions + 8, &2u32.to_le_bytes());
    let ids: [(&[u8; 16], u64); 2] = [(&vhdx::BAT, 2 << 20), (&vhdx::METADATA, 1 << 20)];
    for (i, (id, at)) in ids.into_iter().enumerate() {
        let e = regions + 16 + i * 32;
        put(&mut f, e, id);
        put(&mut f, e + 16, &at.to_le_bytes());
        put(&mut f, e + 24, &(1u32 << 20).to_le_bytes());
    }
    let metadata = 1 << 20;
    put(&mut f, metadata, b"metadata");
    put(&mut f, metadata + 10, &3u16.to_le_bytes());
    let items: [(&[u8; 16], u64); 3] =
        [(&vhdx::PARAMETERS, 1 << 20), (&vhdx::DISK_SIZE, 2 << 20), (&vhdx::SECTOR_SIZE, 512)];
    for (i, (id, value)) in items.into_iter().enumerate() {
        let (e, at) = (metadata + 32 + i * 32, (64 << 10) + i * 8);
        put(&mut f, e, id);
        put(&mut f, e + 16, &(at as u32).to_le_bytes());
        put(&mut f, metadata + at, &value.to_le_bytes());
    }
    put(&mut f, (2 << 20) + 8, &((3u64 << 20) | 6).to_le_bytes());
    f
}

/// A GPT with its table in the two sectors behind the header.
pub(crate) fn gpt() -> Vec<u8> {
    let mut f = vec![0u8; 64 << 10];
    put(&mut f, 446, &[0, 0, 2, 0, PROTECTIVE, 0xff, 0xff, 0xff, 1, 0, 0, 0, 127, 0, 0, 0]);
    put(&mut f, 510, &[0x55, 0xaa]);
    put(&mut f, 512, b"EFI PART");
    put(&mut f, 512 + 72, &2u64.to_le_bytes());
    put(&mut f, 512 + 80, &8u32.to_le_bytes());
    put(&mut f, 512 + 84, &128u32.to_le_bytes());
    f
}

const PROTECTIVE: u8 = 0xee;

fn iso() -> Vec<u8> {
    let mut f = vec![0u8; 40 << 10];
    put(&mut f, 0x8001, b"CD001");
    f
}

/// One good file of every format, and the parts of it that say where things are.
pub(crate) fn samples() -> Vec<(Vec<u8>, Format)> {
    vec![
        (qcow2(), Format::Qcow2),
        (vdi(), Format::Vdi),
        (vmdk(), Format::Vmdk),
        (vhd(), Format::Vhd),
        (vhdx(), Format::Vhdx),
        (gpt(), Format::Gpt),
        (iso(), Format::Iso),
    ]
}
