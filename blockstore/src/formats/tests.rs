//! What is written is what QEMU reads: every format of one disk, compared by `qemu-img`.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::process::Command;

/// The file's bytes, with the disk in memory.
fn bytes(file: File, disk: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in file.pieces.flat_map(Piece::chunks) {
        match piece {
            Piece::Bytes(b) => out.extend_from_slice(&b),
            Piece::Zeroes(n) => out.resize(out.len() + whole(n), 0),
            Piece::Disk { off, len } => out.extend_from_slice(&disk[whole(off)..whole(off + len)]),
            Piece::Table(t) => out.extend_from_slice(&t.bytes()),
        }
    }
    assert_eq!(out.len() as u64, file.size);
    out
}

/// A disk of 70 MiB and a bit, with bytes in some places.
fn disk() -> (Vec<u8>, Vec<(u64, u64)>) {
    let mut disk = vec![0u8; (70 << 20) + 1024];
    let extents =
        vec![(0, 4096), (1 << 20, 70_000), (5 << 20, 4 << 20), (64 << 20, 6 << 20), (70 << 20, 1024)];
    for (off, len) in &extents {
        for i in *off..off + len {
            disk[whole(i)] = u8::try_from(i % 251).unwrap() | 1;
        }
    }
    (disk, extents)
}

#[test]
fn qemu_reads_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, extents) = disk();
    let raw = dir.path().join("disk.raw");
    std::fs::write(&raw, &disk).unwrap();
    for (format, qemu) in [
        ("qcow2", "qcow2"),
        ("vdi", "vdi"),
        ("vhd", "vpc"),
        ("vhdx", "vhdx"),
        ("vmdk", "vmdk"),
        ("ploop", "parallels"),
    ] {
        for extents in [extents.as_slice(), &[]] {
            let file = lay_out(format, disk.len() as u64, extents).unwrap();
            assert!(file.size < 40 << 20, "{format} is sparse");
            let path = dir.path().join("disk.img");
            std::fs::write(&path, bytes(file, &disk)).unwrap();
            let run = |args: &[&str]| {
                let done = Command::new("qemu-img").args(args).output().unwrap();
                let text = String::from_utf8_lossy(&done.stdout).into_owned();
                (done.status.code(), text + &String::from_utf8_lossy(&done.stderr))
            };
            let path = path.to_str().unwrap();
            if extents.is_empty() {
                let zeroes = dir.path().join("zeroes.raw");
                std::fs::File::create(&zeroes).unwrap().set_len(disk.len() as u64).unwrap();
                let zeroes = zeroes.to_str().unwrap();
                let (code, text) = run(&["compare", "-f", "raw", "-F", qemu, zeroes, path]);
                assert_eq!(code, Some(0), "{format}: {text}");
            } else {
                let (code, text) = run(&["compare", "-f", "raw", "-F", qemu, raw.to_str().unwrap(), path]);
                assert_eq!(code, Some(0), "{format}: {text}");
            }
            if qemu != "vpc" {
                let (code, text) = run(&["check", "-f", qemu, path]);
                assert!(code == Some(0) || text.contains("does not support checks"), "{format}: {text}");
            }
        }
    }
}

#[test]
fn a_disk_that_a_format_cannot_hold_is_refused() {
    let tib = 1u64 << 40;
    for format in ["vmdk", "vhd"] {
        assert!(lay_out(format, 4 * tib, &[(0, 4 * tib)]).is_err(), "{format}");
    }
    let file = lay_out("qcow2", 16 * tib, &[(0, 16 * tib)]).unwrap();
    assert!(file.size > 16 * tib);
    assert!(lay_out("iso", 1, &[]).is_err());
}

#[test]
fn blocks_are_found_by_their_place() {
    let b = Blocks::new(100, 10, &[(0, 5), (12, 3), (15, 6), (95, 50)]);
    assert_eq!(*b.runs, [(0, 3, 0), (9, 1, 3)]);
    assert_eq!((b.index(2), b.index(3), b.index(9), b.total(), b.used()), (Some(2), None, Some(3), 10, 4));
}
