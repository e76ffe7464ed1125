//! Inspectors against random and damaged files: whatever comes, they answer, within bounds.

use super::samples::*;
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
        let _ = futures::executor::block_on(crate::fuzzing::walk(&file, format));
    }
}
