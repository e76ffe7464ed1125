//! Reading a tar archive as it arrives: one entry after the other, nothing held but a header.
//!
//! Knows ustar, GNU's long names and pax headers. What an archive may say before an entry is bounded; an entry's
//! content is not read here but handed on, piece by piece.

use bytes::{Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

const BLOCK: usize = 512;
/// Most bytes of a long name or a pax header.
const LONGEST: u64 = 64 << 10;
/// Bytes of content that are handed on at once.
const PIECE: usize = 128 << 10;

/// A file in an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) size: u64,
    /// What a pax header says beside path and size: xattrs carry content types and metadata.
    pub(crate) attributes: Vec<(String, String)>,
}

pub(crate) struct Reader<R> {
    from: R,
    /// Bytes of the current entry's content, and of the padding behind it, that have not been read.
    content: u64,
    padding: u64,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(from: R) -> Self {
        Reader { from, content: 0, padding: 0 }
    }

    /// The next file; folders and links are passed over. `None` at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Entry>> {
        let (mut long, mut pax): (Option<Vec<u8>>, Vec<(String, String)>) = (None, Vec::new());
        loop {
            while self.piece().await?.is_some() {}
            self.skip(self.padding).await?;
            self.padding = 0;
            let Some(header) = self.header().await? else { return Ok(None) };
            let mut size = number(&header[124..136]).ok_or_else(|| invalid("invalid size"))?;
            match header[156] {
                b'L' => long = Some(trim(&self.small(size).await?).to_vec()),
                b'x' => pax = records(&self.small(size).await?)?,
                b'g' | b'K' => drop(self.small(size).await?),
                b'0' | 0 | b'7' => {
                    let named =
                        |name: &str| pax.iter().rev().find(|(k, _)| k == name).map(|(_, v)| v.clone());
                    if let Some(text) = named("size") {
                        size = text.parse().map_err(|_| invalid("invalid size"))?;
                    }
                    let path = match (named("path"), long.take()) {
                        (Some(path), _) => path.into_bytes(),
                        (None, Some(path)) => path,
                        (None, None) => short_name(&header),
                    };
                    self.expect(size);
                    pax.retain(|(k, _)| !matches!(k.as_str(), "path" | "size"));
                    return Ok(Some(Entry { path, size, attributes: pax }));
                }
                // A folder, a link, a device: nothing that an object could be. Some have content all the same.
                b'1'..=b'6' => {
                    self.expect(size);
                    (long, pax) = (None, Vec::new());
                }
                _ => return Err(invalid("an entry of an unknown kind")),
            }
        }
    }

    /// The next piece of the current entry's content.
    pub(crate) async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        if self.content == 0 {
            return Ok(None);
        }
        let most = usize::try_from(self.content).unwrap_or(usize::MAX).min(PIECE);
        let mut data = BytesMut::with_capacity(most);
        let mut limited = (&mut self.from).take(most as u64);
        while data.len() < most {
            if limited.read_buf(&mut data).await? == 0 {
                return Err(invalid("unexpected end of data"));
            }
        }
        self.content -= data.len() as u64;
        Ok(Some(data.freeze()))
    }

    fn expect(&mut self, size: u64) {
        self.content = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    async fn skip(&mut self, n: u64) -> io::Result<()> {
        let mut limited = (&mut self.from).take(n);
        match tokio::io::copy(&mut limited, &mut tokio::io::sink()).await? {
            m if m == n => Ok(()),
            _ => Err(invalid("unexpected end of data")),
        }
    }

    /// The next header; `None` at the end, which is a block of zeroes or, sloppily, the end of the data.
    async fn header(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            match self.from.read(&mut block[have..]).await? {
                0 if have == 0 => return Ok(None),
                0 => return Err(invalid("truncated header")),
                n => have += n,
            }
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        // The sum is over the header with its own field blank.
        let sum: u64 =
            (0..BLOCK).map(|i| if (148..156).contains(&i) { 32 } else { u64::from(block[i]) }).sum();
        if number(&block[148..156]) != Some(sum) {
            return Err(invalid("invalid header"));
        }
        Ok(Some(block))
    }

    /// All of a header's own content.
    async fn small(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > LONGEST {
            return Err(invalid("a header is too long"));
        }
        self.expect(size);
        let mut all = Vec::new();
        while let Some(piece) = self.piece().await? {
            all.extend_from_slice(&piece);
        }
        self.skip(self.padding).await?;
        self.padding = 0;
        Ok(all)
    }
}

fn trim(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}

/// Octal digits, or binary where the first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if let Some(first) = field.first().filter(|b| **b & 0x80 != 0) {
        let rest = field[1..]
            .iter()
            .try_fold(u64::from(first & 0x7f), |n, b| n.checked_mul(256).map(|n| n | u64::from(*b)));
        return rest.filter(|n| *n <= i64::MAX as u64);
    }
    let text = std::str::from_utf8(trim(field)).ok()?.trim();
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

fn short_name(header: &[u8; BLOCK]) -> Vec<u8> {
    let (name, prefix) = (trim(&header[..100]), trim(&header[345..500]));
    if &header[257..262] != b"ustar" || prefix.is_empty() || &header[257..265] == b"ustar  \0" {
        return name.to_vec();
    }
    [prefix, name].join(&b'/')
}

/// `<length> <name>=<value>\n`, one after the other.
fn records(mut data: &[u8]) -> io::Result<Vec<(String, String)>> {
    let bad = || invalid("invalid pax header");
    let mut all = Vec::new();
    while !data.is_empty() {
        let space = data.iter().position(|b| *b == b' ').ok_or_else(bad)?;
        let length: usize =
            std::str::from_utf8(&data[..space]).ok().and_then(|t| t.parse().ok()).ok_or_else(bad)?;
        let record = data.get(space + 1..length).and_then(|r| r.strip_suffix(b"\n")).ok_or_else(bad)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| bad());
        all.push((text(&record[..equals])?, text(&record[equals + 1..])?));
        data = &data[length..];
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header as `tar` writes it.
    fn header(name: &[u8], size: usize, kind: u8) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        let n = name.len().min(100);
        block[..n].copy_from_slice(&name[..n]);
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[156] = kind;
        block[257..263].copy_from_slice(b"ustar\0");
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    fn entry(name: &[u8], data: &[u8], kind: u8) -> Vec<u8> {
        let mut out = header(name, data.len(), kind);
        out.extend_from_slice(data);
        out.resize(out.len().div_ceil(BLOCK) * BLOCK, 0);
        out
    }

    async fn read(archive: &[u8]) -> io::Result<Vec<(Entry, Vec<u8>)>> {
        let mut reader = Reader::new(archive);
        let mut all = Vec::new();
        while let Some(entry) = reader.next().await? {
            let mut data = Vec::new();
            while let Some(piece) = reader.piece().await? {
                data.extend_from_slice(&piece);
            }
            all.push((entry, data));
        }
        Ok(all)
    }

    #[tokio::test]
    async fn entries_of_every_kind() {
        let long = format!("dir/{}", "x".repeat(300));
        let pax = |key: &str, value: &str| {
            let rest = format!(" {key}={value}\n");
            let mut n = rest.len() + 1;
            while format!("{n}{rest}").len() != n {
                n += 1;
            }
            format!("{n}{rest}")
        };
        let mut archive = entry(b"dir/", b"", b'5');
        archive.extend(entry(b"dir/a", b"hello", b'0'));
        archive.extend(entry(b"././@LongLink", format!("{long}\0").as_bytes(), b'L'));
        archive.extend(entry(b"short", &[7; 1000], 0));
        archive.extend(entry(b"dir/link", b"", b'2'));
        let said = pax("path", "dir/ü") + &pax("SCHILY.xattr.user.mime_type", "a/b");
        archive.extend(entry(b"pax", said.as_bytes(), b'x'));
        archive.extend(entry(b"short", b"p", b'0'));
        archive.extend([0; 2 * BLOCK]);
        let got = read(&archive).await.unwrap();
        let names: Vec<_> =
            got.iter().map(|(e, d)| (String::from_utf8_lossy(&e.path).into_owned(), d.len())).collect();
        assert_eq!(names, [("dir/a".to_owned(), 5), (long, 1000), ("dir/ü".to_owned(), 1)]);
        assert_eq!(got[2].0.attributes, [("SCHILY.xattr.user.mime_type".to_owned(), "a/b".to_owned())]);
        assert_eq!(got[0].0.attributes, []);
        // Not read to the end, an entry is passed over.
        let mut reader = Reader::new(archive.as_slice());
        let mut count = 0;
        while reader.next().await.unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 3);
    }

    #[tokio::test]
    async fn what_is_no_archive() {
        assert!(read(&[1; BLOCK]).await.is_err());
        assert!(read(b"short").await.is_err());
        assert!(read(&entry(b"a", b"hello", b'0')[..BLOCK + 2]).await.is_err());
        assert!(read(&header(b"long", 1 << 20, b'L')).await.is_err(), "a name of a megabyte");
        assert!(read(&entry(b"a", b"99 path=x\n", b'x')).await.is_err());
        assert_eq!(read(b"").await.unwrap(), []);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]), Some(1 << 32));
        assert_eq!(number(&[0xff; 12]), None);
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise: Vec<u8>, at in 0usize..512, byte: u8) {
            let run = tokio::runtime::Builder::new_current_thread().build().unwrap();
            run.block_on(async {
                let _ = read(&noise).await;
                let mut archive = entry(b"dir/a", b"hello", b'0');
                archive[at] = byte;
                let _ = read(&archive).await;
                let _ = records(&noise);
                let _ = number(&noise);
            });
        }
    }
}
