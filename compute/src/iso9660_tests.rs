//! Read back by another reader: `isoinfo`, of the program that upstream writes its config drives with.

use super::*;
use std::process::Command;

fn isoinfo(args: &[&str]) -> Vec<u8> {
    let out = Command::new("isoinfo").args(args).output().expect("isoinfo (package genisoimage)");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

#[test]
fn another_reader_finds_every_file() {
    let mut files = vec![("a".to_owned(), Bytes::new())];
    // Enough that a folder takes more than a sector, in both views.
    for n in 0..120usize {
        let content: Vec<u8> = (0..n * 97).map(|b| b as u8).collect();
        files.push((format!("openstack/latest/document-{n:03}.json"), content.into()));
        files.push((format!("ec2/2009-04-{n:03}/meta_data"), Bytes::from_static(b"the same")));
    }
    let iso = volume("config-2", &files, Utc::now());
    assert_eq!(iso.len() % SECTOR, 0);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("drive.iso");
    std::fs::write(&path, &iso).unwrap();
    let path = path.to_str().unwrap();
    let about = String::from_utf8(isoinfo(&["-d", "-i", path])).unwrap();
    assert!(about.contains("Volume id: config-2"), "{about}");
    assert!(about.contains("Joliet with UCS level 3 found"), "{about}");
    assert!(about.contains(&format!("Volume size is: {}", iso.len() / SECTOR)), "{about}");
    let listed = String::from_utf8(isoinfo(&["-f", "-J", "-i", path])).unwrap();
    for (name, content) in files.iter().step_by(7) {
        assert!(listed.lines().any(|l| l == format!("/{name}")), "{name}: {listed}");
        assert_eq!(isoinfo(&["-J", "-i", path, "-x", &format!("/{name}")]), content[..], "{name}");
        let dot = if name.contains('.') { "" } else { "." };
        assert_eq!(isoinfo(&["-i", path, "-x", &format!("/{name}{dot};1")]), content[..], "{name}");
    }
}
