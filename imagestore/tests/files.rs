//! Bytes up and down: raw, converted, refused, cut off.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod common;

use common::{Cloud, body, disk, noise, until};
use futures::StreamExt;
use imagestore::{Config, HashAlgorithm};
use md5::{Digest, Md5};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

fn hex<D: Digest>(bytes: &[u8]) -> String {
    hex::encode(D::digest(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_goes_up_and_comes_down() {
    for db in testbed::databases().await {
        let c = Cloud::new(db).await;
        let id = c.raw("alice").await;
        let file = format!("/v2/images/{id}/file");
        assert_eq!(c.get("alice", &file).await.status(), StatusCode::NO_CONTENT);
        let bytes = disk(13 * 1024 * 1024 + 77);
        assert_eq!(c.put("alice", &id, "file", bytes.clone()).await.status(), StatusCode::NO_CONTENT);
        let image = c.show(&id).await;
        assert_eq!(image["status"], "active");
        assert_eq!(image["size"], bytes.len());
        assert_eq!(image["virtual_size"], bytes.len());
        assert_eq!(image["checksum"], hex::<Md5>(&bytes));
        assert_eq!(image["os_hash_algo"], "sha512");
        assert_eq!(image["os_hash_value"], hex::<sha2::Sha512>(&bytes));
        assert_eq!(c.get("rita", &file).await.status(), StatusCode::FORBIDDEN);
        assert!(c.file("alice", &id).await == bytes);
        assert!(c.disk(&id).await == bytes);
        let r = c.ask("alice", Method::GET, &file).header("range", "bytes=5-5000000").send().await.unwrap();
        assert_eq!(r.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(r.headers()["content-range"], format!("bytes 5-5000000/{}", bytes.len()));
        assert!(r.bytes().await.unwrap() == bytes[5..=5_000_000]);
        let r = c.ask("alice", Method::GET, &file).header("range", "bytes=99999999-").send().await.unwrap();
        assert_eq!(r.status(), StatusCode::RANGE_NOT_SATISFIABLE);
        let again = c.put("alice", &id, "file", vec![1]).await;
        assert_eq!(again.status(), StatusCode::CONFLICT);
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        c.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_unknown_length_and_an_empty_one() {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    let id = c.raw("alice").await;
    let bytes = disk(9_000_001);
    let parts: Vec<_> = bytes.chunks(100_000).map(|p| Ok::<_, std::io::Error>(p.to_vec())).collect();
    let stream = reqwest::Body::wrap_stream(futures::stream::iter(parts));
    assert_eq!(c.put("alice", &id, "file", stream).await.status(), StatusCode::NO_CONTENT);
    assert!(c.disk(&id).await == bytes);
    let empty = c.raw("alice").await;
    assert_eq!(c.put("alice", &empty, "file", Vec::new()).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(c.show(&empty).await["size"], 0);
    for id in [id, empty] {
        c.delete("alice", &format!("/v2/images/{id}")).await;
    }
    c.end().await;
}

/// Makes a file of another format from a raw disk.
fn convert(raw: &Path, format: &str, options: &[&str]) -> PathBuf {
    let out = raw.with_extension(format!("{format}{}", options.join("").replace([',', '=', ' '], "")));
    let format = if format == "vhd" { "vpc" } else { format };
    let mut qemu = Command::new("qemu-img");
    qemu.args(["convert", "-f", "raw", "-O", format]).args(options).arg(raw).arg(&out);
    assert!(qemu.status().unwrap().success());
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_becomes_the_disk_inside() {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk");
    // A size that VHD's geometry can say exactly, with zeroes, patterns and noise.
    let bytes = disk(512 * 17 * 4 * 500);
    std::fs::write(&raw, &bytes).unwrap();
    let cases: &[(&str, &[&str])] = &[
        ("qcow2", &[]),
        ("qcow2", &["-c"]),
        ("qcow2", &["-o", "compat=0.10"]),
        ("qcow2", &["-o", "cluster_size=512"]),
        ("qcow2", &["-o", "cluster_size=2M", "-c"]),
        ("vmdk", &["-o", "subformat=monolithicSparse"]),
        ("vmdk", &["-o", "subformat=streamOptimized"]),
        ("vdi", &[]),
        ("vdi", &["-o", "static=on"]),
        ("vhd", &[]),
        ("vhd", &["-o", "subformat=fixed"]),
        ("vhdx", &[]),
        ("vhdx", &["-o", "subformat=fixed"]),
    ];
    for (format, options) in cases {
        let file = std::fs::read(convert(&raw, format, options)).unwrap();
        let id = c.create("alice", json!({"disk_format": format, "container_format": "bare"})).await;
        let r = c.put("alice", &id, "file", file.clone()).await;
        assert_eq!(r.status(), StatusCode::NO_CONTENT, "{format} {options:?}: {}", r.text().await.unwrap());
        let image = c.show(&id).await;
        assert_eq!(image["disk_format"], *format);
        assert_eq!(image["size"], file.len());
        assert_eq!(image["checksum"], hex::<Md5>(&file));
        assert_eq!(image["virtual_size"], bytes.len(), "{format} {options:?}");
        assert!(c.disk(&id).await == bytes, "{format} {options:?}");
        assert!(c.file("alice", &id).await == file, "{format} {options:?}");
        c.delete("alice", &format!("/v2/images/{id}")).await;
    }
    c.end().await;
}

/// What a qcow2 has in common with the disk inside is stored once.
#[tokio::test(flavor = "multi_thread")]
async fn a_plain_qcow2_is_not_kept_twice() {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk");
    let bytes = noise(40 << 20, 11);
    std::fs::write(&raw, &bytes).unwrap();
    let file = std::fs::read(convert(&raw, "qcow2", &[])).unwrap();
    let id = c.create("alice", json!({"disk_format": "qcow2", "container_format": "bare"})).await;
    assert_eq!(c.put("alice", &id, "file", file.clone()).await.status(), StatusCode::NO_CONTENT);
    let original = c.rbd().open_read_only(&format!("{id}.orig")).await.unwrap();
    let used = original.used_bytes().await.unwrap();
    assert!(used <= 12 << 20, "{used} bytes are used by whole objects");
    original.close().await.unwrap();
    assert!(c.disk(&id).await == bytes);
    assert!(c.file("alice", &id).await == file);
    let path = format!("/v2/images/{id}/file");
    for (from, to) in [(0, 300_000), (100_000, 9_000_000), (file.len() - 5, file.len() - 1)] {
        let r = c.ask("alice", Method::GET, &path).header("range", format!("bytes={from}-{to}"));
        assert!(r.send().await.unwrap().bytes().await.unwrap() == file[from..=to], "{from}-{to}");
    }
    // Also where a clone keeps the disk and the image goes.
    c.delete("alice", &format!("/v2/images/{id}")).await;
    c.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_originals_an_image_becomes_raw() {
    let config = Config { keep_original: false, ..Config::default() };
    let c = Cloud::with(testbed::databases().await.remove(0), config).await;
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk");
    let bytes = disk(6 << 20);
    std::fs::write(&raw, &bytes).unwrap();
    let file = std::fs::read(convert(&raw, "qcow2", &["-c"])).unwrap();
    let id = c.create("alice", json!({"disk_format": "qcow2", "container_format": "bare"})).await;
    assert_eq!(c.put("alice", &id, "file", file).await.status(), StatusCode::NO_CONTENT);
    let image = c.show(&id).await;
    assert_eq!((&image["disk_format"], &image["size"]), (&json!("raw"), &json!(bytes.len())));
    assert_eq!(image["checksum"], hex::<Md5>(&bytes));
    assert!(c.file("alice", &id).await == bytes);
    assert_eq!(c.rbd().list().await.unwrap(), [id.as_str()]);
    c.delete("alice", &format!("/v2/images/{id}")).await;
    c.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_are_those_the_operator_chose() {
    let config =
        Config { hashing_algorithm: HashAlgorithm::Sha256, md5_checksum: false, ..Config::default() };
    let c = Cloud::with(testbed::databases().await.remove(0), config).await;
    let id = c.create("alice", json!({"disk_format": "raw", "container_format": "bare"})).await;
    let bytes = disk(6 << 20);
    assert_eq!(c.put("alice", &id, "file", bytes.clone()).await.status(), StatusCode::NO_CONTENT);
    let image = c.show(&id).await;
    assert_eq!((&image["checksum"], &image["os_hash_algo"]), (&Value::Null, &json!("sha256")));
    assert_eq!(image["os_hash_value"], hex::<sha2::Sha256>(&bytes));
    c.delete("alice", &format!("/v2/images/{id}")).await;
    c.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_images_are_refused_and_leave_nothing() {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let raw = at("disk");
    std::fs::write(&raw, disk(5 << 20)).unwrap();
    let qemu = |args: &[&str]| {
        let done = Command::new("qemu-img").args(args).current_dir(dir.path()).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let good = std::fs::read(convert(&raw, "qcow2", &[])).unwrap();
    qemu(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", "backed", "1M"]);
    qemu(&["create", "-q", "-f", "qcow2", "-o", "data_file=disk,data_file_raw=on", "external", "5M"]);
    qemu(&["create", "-q", "-f", "qcow2", "huge", "4P"].map(|a| if a == "4P" { "65T" } else { a }));
    qemu(&["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=monolithicFlat", "disk", "flat.vmdk"]);
    qemu(&["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", "disk", "two.vmdk"]);
    qemu(&["convert", "-f", "raw", "-O", "vmdk", "disk", "one.vmdk"]);
    let read = |name: &str| std::fs::read(at(name)).unwrap();
    let changed = |bytes: &[u8], at: usize, with: &[u8]| {
        let mut b = bytes.to_vec();
        b[at..at + with.len()].copy_from_slice(with);
        b
    };
    let shadow = {
        let mut b = read("one.vmdk");
        let from = b.windows(8).position(|w| w == b"SPARSE \"").unwrap() + 8;
        b[from..from + 8].copy_from_slice(b"/etc/pas");
        b
    };
    let mut bomb = good.clone();
    bomb[24..32].copy_from_slice(&(1u64 << 60).to_be_bytes());
    let cases: Vec<(&str, &str, Vec<u8>, u16)> = vec![
        ("qcow2", "not qcow2", noise(3_000_000, 3), 400),
        ("raw", "qcow2 as raw", good.clone(), 400),
        ("vmdk", "qcow2 as vmdk", good.clone(), 400),
        ("qcow2", "truncated in its data", good[..good.len() * 2 / 3].to_vec(), 400),
        ("qcow2", "truncated in its header", good[..60].to_vec(), 400),
        ("qcow2", "empty", Vec::new(), 400),
        ("qcow2", "backing file", read("backed"), 400),
        ("qcow2", "external data", read("external"), 400),
        ("qcow2", "too large inside", read("huge"), 413),
        ("qcow2", "impossible size", bomb, 400),
        ("qcow2", "corrupt bit", changed(&good, 79, &[2]), 400),
        ("qcow2", "unknown feature", changed(&good, 72, &[0x80]), 400),
        ("qcow2", "L1 beyond the end", changed(&good, 40, &(1u64 << 50).to_be_bytes()), 400),
        ("vmdk", "flat", read("flat.vmdk"), 400),
        ("vmdk", "two files", read("two.vmdk"), 400),
        ("vmdk", "extent elsewhere", shadow, 400),
        ("iso", "no ISO", noise(100_000, 4), 400),
    ];
    for (format, what, bytes, code) in cases {
        let id = c.create("alice", json!({"disk_format": format, "container_format": "bare"})).await;
        let r = c.put("alice", &id, "file", bytes).await;
        assert_eq!(r.status().as_u16(), code, "{what}");
        assert!(!body(r).await["message"].as_str().unwrap().is_empty(), "{what}");
        let image = c.show(&id).await;
        assert_eq!(image["status"], "queued", "{what}");
        assert!(image["size"].is_null() && image["checksum"].is_null(), "{what}");
        assert_eq!(c.rbd().list().await.unwrap(), Vec::<String>::new(), "{what}");
        c.delete("alice", &format!("/v2/images/{id}")).await;
    }
    c.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_wrong_requests() {
    let config = Config { size_cap: 5_000_000, project_quota: 6_000_000, ..Config::default() };
    let c = Cloud::with(testbed::databases().await.remove(0), config).await;
    let id = c.raw("alice").await;
    assert_eq!(
        c.put("alice", &id, "file", noise(5_000_001, 1)).await.status(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let unknown =
        reqwest::Body::wrap_stream(futures::stream::iter(vec![Ok::<_, std::io::Error>(noise(6_000_000, 1))]));
    assert_eq!(c.put("alice", &id, "file", unknown).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(c.show(&id).await["status"], "queued");
    let path = format!("/v2/images/{id}/file");
    let wrong = c.ask("alice", Method::PUT, &path).header("content-type", "application/json").body("{}");
    assert_eq!(wrong.send().await.unwrap().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let short = c.ask("alice", Method::PUT, &path).header("content-type", "application/octet-stream");
    let short = short.header("x-openstack-image-size", "10").body("12345").send().await.unwrap();
    assert_eq!(short.status(), StatusCode::BAD_REQUEST);
    assert_eq!(c.put("bob", &id, "file", "x").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(c.put("rita", &id, "file", "x").await.status(), StatusCode::FORBIDDEN);
    let formless = c.create("alice", json!({"name": "formless"})).await;
    assert_eq!(c.put("alice", &formless, "file", "x").await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(c.put("alice", &id, "file", noise(4_000_000, 1)).await.status(), StatusCode::NO_CONTENT);
    let second = c.raw("alice").await;
    assert_eq!(
        c.put("alice", &second, "file", noise(4_000_000, 1)).await.status(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
    for id in [id, formless, second] {
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
    }
    c.end().await;
}

/// A body that gives some bytes and then waits for the end of the sender.
fn endless(bytes: Vec<u8>) -> (tokio::sync::oneshot::Sender<()>, reqwest::Body) {
    let (tx, rx) = tokio::sync::oneshot::channel::<()>();
    let first = futures::stream::iter(vec![Ok::<_, std::io::Error>(bytes)]);
    let rest = futures::stream::once(async move {
        let _ = rx.await;
        Err(std::io::Error::other("gone"))
    });
    (tx, reqwest::Body::wrap_stream(first.chain(rest)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_nothing() {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("disk"), noise(9_000_000, 5)).unwrap();
    let qcow2 = std::fs::read(convert(&dir.path().join("disk"), "qcow2", &[])).unwrap();
    for (format, what) in [("raw", "file"), ("qcow2", "file"), ("raw", "stage")] {
        let id = c.create("alice", json!({"disk_format": format, "container_format": "bare"})).await;
        let head = if format == "raw" { noise(5_000_000, 5) } else { qcow2[..5_000_000].to_vec() };
        let (gone, stream) = endless(head);
        let request = c.ask("alice", Method::PUT, &format!("/v2/images/{id}/{what}"));
        let sent =
            tokio::spawn(request.header("content-type", "application/octet-stream").body(stream).send());
        until("bytes are in the pool", async || !c.rbd().list().await.unwrap().is_empty()).await;
        assert_ne!(c.show(&id).await["status"], "queued");
        drop(gone);
        assert!(sent.await.unwrap().is_err());
        c.until_status(&id, "queued").await;
        c.until_empty().await;
        c.delete("alice", &format!("/v2/images/{id}")).await;
    }
    c.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_deleted_while_it_comes_is_gone() {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    let id = c.raw("alice").await;
    let (gone, stream) = endless(noise(5_000_000, 5));
    let request = c.ask("alice", Method::PUT, &format!("/v2/images/{id}/file"));
    let sent = tokio::spawn(request.header("content-type", "application/octet-stream").body(stream).send());
    until("bytes are in the pool", async || !c.rbd().list().await.unwrap().is_empty()).await;
    assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
    assert_eq!(c.get("alice", &format!("/v2/images/{id}")).await.status(), StatusCode::NOT_FOUND);
    c.until_empty().await;
    drop(gone);
    let _ = sent.await.unwrap();
    c.end().await;
}

/// The client that still sends hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_a_deleted_image_ends_in_gone() {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    for what in ["file", "stage"] {
        let id = c.raw("alice").await;
        let (tx, rx) = tokio::sync::oneshot::channel::<()>();
        let first = futures::stream::iter([Ok::<_, std::io::Error>(noise(5_000_000, 5))]);
        let rest = futures::stream::once(async move {
            rx.await.unwrap();
            Ok(b"the end".to_vec())
        });
        let body = reqwest::Body::wrap_stream(first.chain(rest));
        let request = c.ask("alice", Method::PUT, &format!("/v2/images/{id}/{what}"));
        let request = request.header("content-type", "application/octet-stream").body(body);
        let sent = tokio::spawn(request.send());
        // Its own: of the first, something may still be there.
        let own = async || c.rbd().list().await.unwrap().iter().any(|name| name.starts_with(&id));
        until("bytes are in the pool", own).await;
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        tx.send(()).unwrap();
        let r = sent.await.unwrap().unwrap();
        assert_eq!(r.status(), StatusCode::GONE, "{what}: {}", r.text().await.unwrap());
    }
    c.end().await;
}

/// What is gone from the pool reads as zeroes there: nobody gets these for the image.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_of_a_deleted_image_is_cut_short() {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    let bytes = noise(120 << 20, 5);
    let id = c.raw("alice").await;
    assert_eq!(c.put("alice", &id, "file", bytes.clone()).await.status(), StatusCode::NO_CONTENT);
    // Nobody takes more of it than fits on the way.
    let mut r = c.get("alice", &format!("/v2/images/{id}/file")).await;
    let mut got = r.chunk().await.unwrap().unwrap().to_vec();
    assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
    c.until_empty().await;
    let ended = loop {
        match r.chunk().await {
            Ok(Some(part)) => got.extend_from_slice(&part),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    assert!(!ended && got.len() < bytes.len(), "{} bytes came", got.len());
    assert!(got == bytes[..got.len()]);
    c.end().await;
}

/// A qcow2 of clusters in any order: tables behind what they name, clusters that stand for several places of the
/// disk, and tables that are data, too. Gives the file and the disk.
fn shuffled(seed: u64) -> (Vec<u8>, Vec<u8>) {
    const C: usize = 4096;
    const CLUSTERS: usize = 2600;
    let mut random = noise(8 * 40_000, seed)
        .chunks_exact(8)
        .map(|b| u64::from_le_bytes(b.try_into().unwrap()) as usize)
        .collect::<Vec<_>>();
    let mut below = move |n: usize| random.pop().unwrap() % n;
    let mut file = noise(CLUSTERS * C, seed ^ 0xabcd);
    let mut places: Vec<usize> = (1..CLUSTERS).collect();
    for i in (1..places.len()).rev() {
        places.swap(i, below(i + 1));
    }
    let (l1, l2) = (places[0], &places[1..5]);
    file[..C].fill(0);
    for (at, n) in [(4, 3u32), (20, 12), (36, 4), (100, 104)] {
        file[at..at + 4].copy_from_slice(&n.to_be_bytes());
    }
    file[..4].copy_from_slice(b"QFI\xfb");
    let put = |file: &mut Vec<u8>, at: usize, n: u64| file[at..at + 8].copy_from_slice(&n.to_be_bytes());
    put(&mut file, 24, (4 * 512 * C) as u64);
    put(&mut file, 40, (l1 * C) as u64);
    let mut map = vec![0; 4 * 512];
    for (n, table) in l2.iter().enumerate() {
        put(&mut file, l1 * C + n * 8, ((table * C) as u64) | (1 << 63));
        for i in 0..512 {
            let run = i > 0 && below(3) > 0;
            let host = match below(4) {
                0 => 0,
                _ if run && map[n * 512 + i - 1] != 0 => (map[n * 512 + i - 1] + 1) % CLUSTERS,
                _ => below(CLUSTERS),
            };
            map[n * 512 + i] = host;
            put(&mut file, table * C + i * 8, (host * C) as u64);
        }
    }
    let disk = map
        .iter()
        .flat_map(|h| if *h == 0 { vec![0; C] } else { file[h * C..(h + 1) * C].to_vec() })
        .collect();
    (file, disk)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qcow2_in_any_order_is_the_same_disk() {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    for seed in 1..6 {
        let (file, disk) = shuffled(seed * 7919);
        let id = c.create("alice", json!({"disk_format": "qcow2", "container_format": "bare"})).await;
        let r = c.put("alice", &id, "file", file.clone()).await;
        assert_eq!(r.status(), StatusCode::NO_CONTENT, "{}", r.text().await.unwrap());
        assert!(c.disk(&id).await == disk, "{seed}");
        assert!(c.file("alice", &id).await == file, "{seed}");
        c.delete("alice", &format!("/v2/images/{id}")).await;
    }
    c.end().await;
}
