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
        Just(Format::Iso)
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

#[test]
fn the_samples_are_good() {
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
fn a_disk_above_the_cap_is_refused() {
    let e = inspect_bytes(&qcow2(), Format::Qcow2, 1 << 10, 1).unwrap_err();
    assert!(matches!(e, ImageError::Refused(Refusal::TooLarge { size: 1_048_576, cap: 1024 })));
}

#[test]
fn every_truncation_is_answered() {
    for (file, format) in [(qcow2(), Format::Qcow2), (vdi(), Format::Vdi)] {
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

    #[test]
    fn a_damaged_qcow2_never_points_outside(
        changes in proptest::collection::vec((0usize..200_000, any::<u8>()), 1..12),
        low in proptest::collection::vec((0usize..128, any::<u8>()), 0..3),
    ) {
        let mut file = qcow2();
        for (at, byte) in changes.into_iter().chain(low) {
            file[at] = byte;
        }
        let source = Slice(&file);
        futures::executor::block_on(async {
            let Ok(found) = inspect(&source, Format::Qcow2, CAP).await else { return };
            let mut tables = Tables::new(&source);
            let mut at = 0;
            for _ in 0..64 {
                if at >= found.virtual_size { break; }
                let Ok(piece) = found.layout.piece(&mut tables, at).await else { return };
                assert!(piece.len > 0);
                match piece.what {
                    What::Zero => {}
                    What::Data { at } => assert!(at < file.len() as u64 + (2 << 20)),
                    What::Packed { at, packed, whole, skip, .. } => {
                        assert!(at + u64::from(packed) <= file.len() as u64);
                        assert!(whole <= 2 << 20 && skip < whole);
                    }
                }
                at += piece.len;
            }
        });
    }
}
