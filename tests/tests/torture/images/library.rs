//! The files that images are made of, and a web server that has them, too.

use sha2::{Digest, Sha512};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One file, and the disk inside.
#[derive(Debug, PartialEq)]
pub struct Book {
    pub format: &'static str,
    pub file: Vec<u8>,
    pub disk: Vec<u8>,
    pub sha512: String,
}

#[derive(Clone)]
pub struct Library {
    pub books: Arc<Vec<Arc<Book>>>,
    port: u16,
}

/// Bytes that do not repeat, zeroes, and bytes that do: no multiple of anything where `len` is none.
fn disk(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut state = u64::from(seed) + 1;
    for b in &mut bytes[..len / 2] {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *b = (state >> 56) as u8;
    }
    bytes[len * 3 / 4..].fill(seed);
    bytes
}

impl Book {
    fn new(format: &'static str, file: Vec<u8>, disk: Vec<u8>) -> Arc<Book> {
        let sha512 = hex::encode(Sha512::digest(&file));
        Arc::new(Book { format, file, disk, sha512 })
    }

    /// An image of the disk alone.
    pub fn raw(&self) -> Arc<Book> {
        Book::new("raw", self.disk.clone(), self.disk.clone())
    }
}

/// The same disk in another format.
fn converted(disk: Vec<u8>, format: &'static str, options: &[&str]) -> Arc<Book> {
    let dir = tempfile::tempdir().unwrap();
    let (raw, out) = (dir.path().join("raw"), dir.path().join("out"));
    std::fs::write(&raw, &disk).unwrap();
    let mut qemu = Command::new("qemu-img");
    qemu.args(["convert", "-f", "raw", "-O", format]).args(options).arg(&raw).arg(&out);
    assert!(qemu.status().unwrap().success());
    Book::new(format, std::fs::read(out).unwrap(), disk)
}

impl Library {
    pub async fn open() -> Library {
        let raw = |len, seed| Book::new("raw", disk(len, seed), disk(len, seed));
        let books = Arc::new(vec![
            raw(700_001, 1),
            raw((9 << 20) + 12_345, 2),
            Book::new("raw", vec![0; 5 << 20], vec![0; 5 << 20]),
            converted(disk(9 << 20, 4), "qcow2", &[]),
            converted(disk(7 << 20, 5), "qcow2", &["-c"]),
            converted(disk(5 << 20, 6), "vmdk", &["-o", "subformat=streamOptimized"]),
            converted(disk(6 << 20, 7), "vhdx", &[]),
        ]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shelf = books.clone();
        tokio::spawn(async move {
            while let Ok((peer, _)) = listener.accept().await {
                tokio::spawn(lend(peer, shelf.clone()));
            }
        });
        Library { books, port }
    }

    /// A configuration file that lets images be fetched from here. What leaves the cache goes at once,
    /// and what a killed process leaves in the trash soon.
    pub fn config(&self) -> tempfile::NamedTempFile {
        let filter = format!("allowed_ports = [{}]\nallowed_networks = [\"127.0.0.1/32\"]\n", self.port);
        crate::cloud::config(&format!(
            "trash_sweep_s = 5\n[image]\ncache_grace_s = 0\n[image.import_filter]\n{filter}"
        ))
    }

    pub fn url(&self, book: usize) -> String {
        format!("http://127.0.0.1:{}/{book}", self.port)
    }
}

/// Answers one request, slowly.
async fn lend(mut peer: TcpStream, books: Arc<Vec<Arc<Book>>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(peer.read_u8().await?);
    }
    let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap().to_owned();
    let file = &books[path[1..].parse::<usize>().unwrap()].file;
    peer.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", file.len()).as_bytes()).await?;
    for part in file.chunks(1 << 20) {
        peer.write_all(part).await?;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    Ok(())
}
