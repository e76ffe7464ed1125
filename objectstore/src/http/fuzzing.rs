//! What both doors read from bodies, as fuzzers feed it: see [`crate::fuzzing`].

pub(crate) use super::s3::fuzzing as s3;
pub(crate) use super::swift::fuzzing as swift;

use super::form::{Form, Part};
use super::raw;
use super::tar::Reader;
use async_compression::tokio::bufread::{BzDecoder, GzipDecoder};
use bytes::Bytes;
use futures::StreamExt;
use futures::executor::block_on;
use tokio::io::AsyncRead;

/// More of an archive is not read: what it expands to may be without end.
const MOST: usize = 4 << 20;

/// A form with files whose boundary is `XX`, behind a byte that says how it is cut: whatever the cuts, it says the same.
pub(crate) fn forms(data: &[u8]) {
    let Some((step, body)) = data.split_first() else { return };
    let run = |step: usize| {
        let frames: Vec<_> = body.chunks(step.max(1)).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        let mut form = Form::new(futures::stream::iter(frames).boxed(), "XX");
        block_on(async {
            let mut all: Vec<(Part, Vec<u8>)> = Vec::new();
            while let Some(part) = form.next().await.ok()? {
                let mut content = Vec::new();
                while let Some(piece) = form.piece().await.ok()? {
                    content.extend_from_slice(&piece);
                }
                all.push((part, content));
            }
            Some(all)
        })
    };
    assert_eq!(run(usize::MAX), run(usize::from(*step)), "the cuts of the form change what it says");
    let _ = super::form::boundary(&String::from_utf8_lossy(body));
}

/// An archive, behind a byte that says how it is packed.
pub(crate) fn archives(data: &[u8]) {
    let Some((kind, archive)) = data.split_first() else { return };
    let from: Box<dyn AsyncRead + Send + Unpin + '_> = match kind % 3 {
        0 => Box::new(archive),
        1 => {
            let mut gzip = GzipDecoder::new(archive);
            gzip.multiple_members(true);
            Box::new(gzip)
        }
        _ => {
            let mut bzip2 = BzDecoder::new(archive);
            bzip2.multiple_members(true);
            Box::new(bzip2)
        }
    };
    let mut reader = Reader::new(from);
    block_on(async {
        let mut read = 0;
        while let Ok(Some(entry)) = reader.next().await {
            let (mut left, mut whole) = (entry.size, false);
            while let Ok(piece) = reader.piece().await {
                let Some(piece) = piece else {
                    whole = true;
                    break;
                };
                left -= piece.len() as u64;
                read += piece.len();
                if read > MOST {
                    return;
                }
            }
            assert!(!whole || left == 0, "an entry is shorter than it says");
            if !whole {
                return;
            }
            read += 512;
            if read > MOST {
                return;
            }
        }
    });
}

/// A header's value: what is kept of it brings it back, and text is kept as it is.
pub(crate) fn values(data: &[u8]) {
    let kept = raw::keep(data);
    assert_eq!(raw::raw(&kept), data);
    assert_eq!(raw::len(&kept), data.len());
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(kept == text || text.chars().any(|c| c >= '\u{10ff00}'), "{text} is not kept as text");
    }
}
