//! The parsers of what strangers send, each as a function over bytes that panics where the parser breaks its word: the
//! targets below `fuzz/` call them, and every test run feeds them noise and damaged samples.

use crate::data::disk_of;
use crate::inspect::samples::{put, samples};
use crate::inspect::{Format, HEAD, Slice, Tables, What, check_head, detect, inspect};
use crate::patch::{Dialect, read, read_new};
use crate::{Config, ImageError};
use futures::executor::block_on;
use serde_json::Value;

/// The largest disk that is let in: none that a test could not walk through.
const CAP: u64 = 1 << 50;
/// Chunks of 4 MiB of a disk that are put together.
const CHUNKS: usize = 2;

/// A file and what it is declared as. The first byte names a good file that what follows damages (three bytes of place,
/// one of length, the bytes), or a format that what follows is declared as, whole.
fn file(data: &[u8]) -> Option<(Vec<u8>, Format)> {
    let (which, mut rest) = data.split_first()?;
    let (which, mut all) = (usize::from(*which), samples());
    if which >= all.len() {
        let (_, format) = &all[which % all.len()];
        return Some((rest.to_vec(), if which > 250 { Format::Raw } else { *format }));
    }
    let (mut file, format) = all.swap_remove(which);
    while let [a, b, c, n, more @ ..] = rest {
        let at = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
        let (bytes, more) = more.split_at(usize::from(*n).min(more.len()));
        let at = at % file.len();
        let n = bytes.len().min(file.len() - at);
        put(&mut file, at, &bytes[..n]);
        rest = more;
    }
    Some((file, format))
}

/// What a file is, and where its disk's bytes are.
pub fn images(data: &[u8]) {
    let Some((file, format)) = file(data) else { return };
    let head = &file[..file.len().min(HEAD)];
    let _ = (detect(head), check_head(head, format));
    let _ = block_on(walk(&file, format));
}

/// Whatever is found lies inside of the file, and every piece leads on.
pub(crate) async fn walk(file: &[u8], format: Format) -> Result<(), ImageError> {
    let source = Slice(file);
    let found = inspect(&source, format, CAP).await?;
    let (mut tables, mut at) = (Tables::new(&source), 0);
    for _ in 0..64 {
        if at >= found.virtual_size {
            break;
        }
        let piece = found.layout.piece(&mut tables, at).await?;
        assert!(piece.len > 0, "a piece of nothing");
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
    Ok(())
}

/// The conversion to the bytes of the disk.
pub fn converter(data: &[u8]) {
    let Some((file, format)) = file(data) else { return };
    if let Ok((disk, size)) = block_on(disk_of(&file, format, CAP, CHUNKS)) {
        assert_eq!(disk.len() as u64, size.min((CHUNKS * crate::data::CHUNK) as u64));
    }
}

/// The body of a new image, or a patch in both dialects.
pub fn patches(data: &[u8]) {
    match serde_json::from_slice(data) {
        Ok(Value::Object(body)) => {
            let _ = read_new(&Config::default(), body);
        }
        Ok(body) => {
            let _ = (read(Dialect::V20, body.clone()), read(Dialect::V21, body));
        }
        Err(_) => {}
    }
}

/// What to begin with: the target's name and an input that is good, or nearly.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let patch = r#"[{"op": "replace", "path": "/name", "value": "a"}, {"op": "add", "path": "/p~1q", "value": "b"},
        {"op": "remove", "path": "/tags"}, {"replace": "/min_disk", "value": 3}]"#;
    let image = r#"{"name": "a", "disk_format": "raw", "visibility": "private", "tags": ["t"], "min_ram": 1, "p": "q"}"#;
    let mut all = vec![("patches", patch.as_bytes().to_vec()), ("patches", image.as_bytes().to_vec())];
    for which in 0..samples().len() {
        let which = u8::try_from(which).unwrap_or_default();
        for target in ["images", "converter"] {
            all.push((target, vec![which]));
            all.push((target, vec![which, 24, 0, 0, 2, 0, 1]));
        }
    }
    all.push(("images", [b"\x07".as_slice(), b"QFI\xfb\0\0\0\x03"].concat()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn samples_become_disks() {
        let sizes = samples().into_iter().map(|(file, format)| {
            let (disk, size) = block_on(disk_of(&file, format, CAP, CHUNKS)).unwrap_or_default();
            assert_eq!(disk.len() as u64, size, "{format:?}");
            size >> 10
        });
        // The compressed cluster of the qcow2 holds no stream.
        assert_eq!(sizes.collect::<Vec<_>>(), [0, 2048, 128, 4096, 2048, 64, 40]);
        for (name, seed) in seeds() {
            match name {
                "images" => images(&seed),
                "converter" => converter(&seed),
                _ => patches(&seed),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn noise(data: Vec<u8>, edits in prop::collection::vec((0u8..16, any::<u8>(), any::<u8>()), 0..4), which in 0u8..8) {
            let mut edited = vec![which];
            edited.extend(edits.into_iter().flat_map(|(page, at, byte)| [at, page, 0, 1, byte]));
            for data in [&data, &edited] {
                images(data);
                converter(data);
                patches(data);
            }
        }
    }
}
