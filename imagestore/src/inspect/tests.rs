//! Inspectors against random and damaged files: whatever comes, they answer, within bounds.

use super::*;
use proptest::prelude::*;

const CAP: u64 = 1 << 50;

fn formats() -> impl Strategy<Value = Format> {
    prop_oneof![
        Just(Format::Raw),
        Just(Format::Qcow2),
        Just(Format::Vmdk),
        Just(Format::Vdi),
        Just(Format::Vhd),
        Just(Format::Vhdx),
        Just(Format::Iso),
        Just(Format::Gpt)
    ]
}

/// A small, valid qcow2: 64 KiB clusters, one L2 table, one plain and one compressed cluster.
fn qcow2() -> Vec<u8> {
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

fn vdi() -> Vec<u8> {
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

fn put(f: &mut [u8], at: usize, bytes: &[u8]) {
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

fn checksummed(block: &mut [u8], at: usize) {
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
    let ids: [(&[u8; 16], u64); 2] = [(&super::vhdx::BAT, 2 << 20), (&super::vhdx::METADATA, 1 << 20)];
    for (i, (id, at)) in ids.into_iter().enumerate() {
        let e = regions + 16 + i * 32;
        put(&mut f, e, id);
        put(&mut f, e + 16, &at.to_le_bytes());
        put(&mut f, e + 24, &(1u32 << 20).to_le_bytes());
    }
    let metadata = 1 << 20;
    put(&mut f, metadata, b"metadata");
    put(&mut f, metadata + 10, &3u16.to_le_bytes());
    let items: [(&[u8; 16], u64); 3] = [
        (&super::vhdx::PARAMETERS, 1 << 20),
        (&super::vhdx::DISK_SIZE, 2 << 20),
        (&super::vhdx::SECTOR_SIZE, 512),
    ];
    for (i, (id, value)) in items.into_iter().enumerate() {
        let (e, at) = (metadata + 32 + i * 32, (64 << 10) + i * 8);
        put(&mut f, e, id);
        put(&mut f, e + 16, &u32::try_from(at).unwrap().to_le_bytes());
        put(&mut f, metadata + at, &value.to_le_bytes());
    }
    put(&mut f, (2 << 20) + 8, &((3u64 << 20) | 6).to_le_bytes());
    f
}

/// A GPT with its table in the two sectors behind the header.
fn gpt() -> Vec<u8> {
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
fn samples() -> Vec<(Vec<u8>, Format)> {
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

#[test]
fn the_samples_are_good() {
    let sizes = samples().into_iter().map(|(file, format)| {
        let found = inspect_bytes(&file, format, CAP, 100).unwrap_or_else(|e| panic!("{format:?}: {e}"));
        found.virtual_size >> 10
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [1024, 2048, 128, 4096, 2048, 64, 40]);
    let found = inspect_bytes(&qcow2(), Format::Qcow2, CAP, 100).unwrap();
    assert_eq!((found.format, found.virtual_size), (Format::Qcow2, 1 << 20));
    assert_eq!(inspect_bytes(&vdi(), Format::Vdi, CAP, 100).unwrap().virtual_size, 2 << 20);
}

#[test]
fn the_pieces_of_a_qcow2() {
    let file = qcow2();
    let source = Slice(&file);
    let mut tables = Tables::new(&source);
    let found = futures::executor::block_on(inspect(&source, Format::Qcow2, CAP)).unwrap();
    let mut at = |place| futures::executor::block_on(found.layout.piece(&mut tables, place)).unwrap();
    assert_eq!(at(100), Piece { len: 65536 - 100, what: What::Data { at: 3 * 65536 + 100 } });
    assert!(matches!(at(65536).what, What::Packed { at: 262_144, skip: 0, whole: 65536, .. }));
    assert_eq!(at(131_072), Piece { len: 65536, what: What::Zero });
}

#[test]
fn what_a_head_says() {
    assert_eq!(detect(b""), Format::Raw);
    assert_eq!(detect(&qcow2()), Format::Qcow2);
    assert_eq!(detect(&vdi()), Format::Vdi);
    let mut iso = vec![0u8; HEAD];
    iso[0x8001..0x8006].copy_from_slice(b"CD001");
    assert_eq!(detect(&iso), Format::Iso);
    assert_eq!(check_head(&iso, Format::Raw), Err(Refusal::Mismatch { declared: "raw", found: "iso" }));
    assert!(check_head(b"# Disk DescriptorFile\n", Format::Raw).is_err());
    assert!(check_head(b"anything", Format::Vhd).is_ok());
}

#[test]
fn a_gpt_is_what_it_is_declared_as() {
    let (good, raw) = (gpt(), vec![0u8; HEAD]);
    assert!(check_head(&good, Format::Gpt).is_ok() && check_head(&good, Format::Raw).is_ok());
    assert!(check_head(&raw, Format::Gpt).is_err() && check_head(&qcow2(), Format::Gpt).is_err());
    // A hybrid MBR, a table beyond the end, and one that is too large.
    for (at, bytes) in [
        (446 + 16 + 4, &[0x83u8][..]),
        (446 + 8, &[0, 8]),
        (510, &[0, 0]),
        (512 + 72, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (512 + 72, &[127]),
        (512 + 80, &[0xff, 0xff]),
        (512 + 84, &[0]),
    ] {
        let mut bad = gpt();
        put(&mut bad, at, bytes);
        assert!(inspect_bytes(&bad, Format::Gpt, CAP, 1).is_err(), "{at} {bytes:?}");
    }
}

#[test]
fn a_disk_above_the_cap_is_refused() {
    let e = inspect_bytes(&qcow2(), Format::Qcow2, 1 << 10, 1).unwrap_err();
    assert!(matches!(e, ImageError::Refused(Refusal::TooLarge { size: 1_048_576, cap: 1024 })));
}

#[test]
fn every_truncation_is_answered() {
    for (file, format) in samples() {
        for len in (0..2048).chain((2048..file.len()).step_by(32_768)) {
            let _ = inspect_bytes(&file[..len], format, CAP, 64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_answered(file in proptest::collection::vec(any::<u8>(), 0..4096), format in formats()) {
        let _ = inspect_bytes(&file, format, CAP, 64);
    }

    #[test]
    fn random_headers_behind_the_right_magic_are_answered(
        rest in proptest::collection::vec(any::<u8>(), 512..2048),
        format in formats(),
    ) {
        let (at, magic): (usize, &[u8]) = match format {
            Format::Qcow2 => (0, b"QFI\xfb\0\0\0\x03"),
            Format::Vmdk => (0, b"KDMV\x01\0\0\0"),
            Format::Vdi => (0x40, b"\x7f\x10\xda\xbe\x01\0\x01\0"),
            Format::Vhd => (0, b"conectix"),
            Format::Vhdx => (0, b"vhdxfile"),
            _ => (0, b""),
        };
        let mut file = rest;
        file[at..at + magic.len()].copy_from_slice(magic);
        let _ = inspect_bytes(&file, format, CAP, 64);
    }

    /// Wherever a file of any format is damaged: what is found lies inside of it, and every piece leads on.
    #[test]
    fn damaged_files_never_point_outside(
        which in 0usize..7,
        changes in proptest::collection::vec((0usize..4 << 20, any::<u8>()), 0..8),
        low in proptest::collection::vec((0usize..2600, any::<u8>()), 0..4),
        tables in proptest::collection::vec((0usize..64, any::<u64>()), 0..3),
    ) {
        let (mut file, format) = samples().swap_remove(which);
        let len = file.len();
        for (at, byte) in changes.into_iter().chain(low) {
            file[at % len] = byte;
        }
        // Whole entries of the tables, where each format has them.
        let place = match format {
            Format::Qcow2 => 2 * 65_536,
            Format::Vdi => 512,
            Format::Vmdk => 16 * 512,
            Format::Vhd => 2048,
            Format::Vhdx => 2 << 20,
            _ => 512,
        };
        for (at, entry) in tables {
            put(&mut file, place + at * 8, &entry.to_be_bytes());
        }
        if format == Format::Vhd {
            checksummed(&mut file[512..1536], 36);
            checksummed(&mut file[len - 512..], 64);
        }
        let source = Slice(&file);
        futures::executor::block_on(async {
            let Ok(found) = inspect(&source, format, CAP).await else { return };
            let mut tables = Tables::new(&source);
            let mut at = 0;
            for _ in 0..64 {
                if at >= found.virtual_size { break; }
                let Ok(piece) = found.layout.piece(&mut tables, at).await else { return };
                assert!(piece.len > 0);
                match piece.what {
                    What::Zero => {}
                    // The file may end within its last block.
                    What::Data { at } => assert!(at < file.len() as u64 + (256 << 20)),
                    What::Packed { at, packed, whole, skip, .. } => {
                        assert!(at + u64::from(packed) <= file.len() as u64);
                        assert!(whole <= 2 << 20 && skip < whole);
                    }
                }
                at = at.saturating_add(piece.len);
            }
        });
    }
}
