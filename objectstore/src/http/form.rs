//! Reading a form with files (`multipart/form-data`, RFC 7578) as it arrives.
//!
//! Nothing is held but a part's headers and one frame of the body: files go to storage while they come. What a browser
//! may put before a file is bounded.

use crate::ObjectError;
use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use memchr::memmem;

/// Most bytes of a part's headers, and of a delimiter.
const LONGEST_HEAD: usize = 8 << 10;
const LONGEST_BOUNDARY: usize = 200;
/// Bytes of a refused form that are read all the same.
const MOST_DRAINED: usize = 16 << 20;

/// What a part says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// Present, and perhaps empty, for a file.
    pub(crate) filename: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
}

/// A form that makes no sense, or a body that broke off.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum FormError {
    #[error("{0}")]
    Invalid(&'static str),
    #[error(transparent)]
    Body(#[from] ObjectError),
}

type FormResult<T> = Result<T, FormError>;

pub(crate) struct Form {
    frames: BoxStream<'static, Result<Bytes, ObjectError>>,
    buffer: BytesMut,
    /// `\r\n--boundary`
    delimiter: Vec<u8>,
    ended: bool,
    /// A part's content is being read.
    inside: bool,
}

/// The boundary in a form's content type; `None` where that is not a form with files.
pub(crate) fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary")?;
    (1..=LONGEST_BOUNDARY).contains(&boundary.len()).then_some(boundary)
}

/// A parameter of a header: `; name="value"`. Quotes and backslashes in it as browsers write them.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut value = String::new();
                let mut chars = quoted.char_indices();
                let end = loop {
                    match chars.next()? {
                        (at, '"') => break at,
                        (_, '\\') => match chars.next()?.1 {
                            c @ ('"' | '\\') => value.push(c),
                            // A path of an old browser on Windows.
                            c => value.extend(['\\', c]),
                        },
                        (_, c) => value.push(c),
                    }
                };
                (value, &quoted[end + 1..])
            }
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
}

impl Form {
    pub(crate) fn new(frames: BoxStream<'static, Result<Bytes, ObjectError>>, boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first delimiter may stand at the very beginning: as if a line had ended before it.
        let buffer = BytesMut::from(&b"\r\n"[..]);
        Form { frames: frames.fuse().boxed(), buffer, delimiter, ended: false, inside: true }
    }

    async fn more(&mut self) -> FormResult<bool> {
        match self.frames.next().await {
            None => Ok(false),
            Some(frame) => {
                self.buffer.extend_from_slice(&frame?);
                Ok(true)
            }
        }
    }

    /// The next part; what is left of the one before is passed over. `None` at the end.
    pub(crate) async fn next(&mut self) -> FormResult<Option<Part>> {
        while self.piece().await?.is_some() {}
        if self.ended {
            return Ok(None);
        }
        // Behind a delimiter: `--` ends the form, a line's end begins a part.
        loop {
            if self.buffer.starts_with(b"--") {
                self.ended = true;
                return Ok(None);
            }
            if let Some(line) = memmem::find(&self.buffer, b"\r\n") {
                if !self.buffer[..line].iter().all(|b| matches!(b, b' ' | b'\t')) {
                    return Err(FormError::Invalid("invalid boundary"));
                }
                break;
            }
            if self.buffer.len() > LONGEST_BOUNDARY || !self.more().await? {
                return Err(FormError::Invalid("unexpected end of form"));
            }
        }
        let end = loop {
            if let Some(at) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            if self.buffer.len() > LONGEST_HEAD {
                return Err(FormError::Invalid("the headers of a part are too long"));
            }
            if !self.more().await? {
                return Err(FormError::Invalid("unexpected end of form"));
            }
        };
        let head = self.buffer.split_to(end);
        self.buffer.advance(4);
        self.inside = true;
        part(&head).map(Some)
    }

    /// The next piece of the current part's content; `None` at its end.
    pub(crate) async fn piece(&mut self) -> FormResult<Option<Bytes>> {
        while self.inside {
            if let Some(at) = memmem::find(&self.buffer, &self.delimiter) {
                self.inside = false;
                let data = self.buffer.split_to(at).freeze();
                self.buffer.advance(self.delimiter.len());
                return Ok((!data.is_empty()).then_some(data));
            }
            // What may be the beginning of a delimiter waits for what follows it.
            let safe = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
            if safe > 0 {
                return Ok(Some(self.buffer.split_to(safe).freeze()));
            }
            if !self.more().await? {
                return Err(FormError::Invalid("unexpected end of form"));
            }
        }
        Ok(None)
    }

    /// Reads what a refused form still sends, if that is not much: a client that is still sending hears no answer.
    pub(crate) async fn drain(&mut self) {
        let mut left = MOST_DRAINED;
        while let Some(Ok(frame)) = self.frames.next().await {
            left = left.saturating_sub(frame.len());
            if left == 0 {
                return;
            }
        }
    }

    /// All of a part that is no file, up to `most` bytes.
    pub(crate) async fn text(&mut self, most: usize) -> FormResult<String> {
        let mut all = Vec::new();
        while let Some(piece) = self.piece().await? {
            if all.len() + piece.len() > most {
                return Err(FormError::Invalid("a field is too long"));
            }
            all.extend_from_slice(&piece);
        }
        String::from_utf8(all).map_err(|_| FormError::Invalid("a field is not UTF-8"))
    }
}

fn part(head: &[u8]) -> FormResult<Part> {
    let text = std::str::from_utf8(head).map_err(|_| FormError::Invalid("invalid headers"))?;
    let mut part = Part::default();
    let mut named = false;
    for line in text.split("\r\n") {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "content-disposition" => {
                let (kind, parameters) = value.split_once(';').unwrap_or((value, ""));
                if !kind.trim().eq_ignore_ascii_case("form-data") {
                    return Err(FormError::Invalid("a part that is not of a form"));
                }
                part.name = parameter(parameters, "name").unwrap_or_default();
                part.filename = parameter(parameters, "filename");
                named = true;
            }
            "content-type" => part.content_type = Some(value.to_owned()),
            "content-encoding" => part.content_encoding = Some(value.to_owned()),
            _ => {}
        }
    }
    if named { Ok(part) } else { Err(FormError::Invalid("a part without a name")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(data: &[u8], size: usize) -> BoxStream<'static, Result<Bytes, ObjectError>> {
        let all: Vec<_> = data.chunks(size.max(1)).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        futures::stream::iter(all).boxed()
    }

    fn read(data: &[u8], size: usize) -> FormResult<Vec<(Part, Vec<u8>)>> {
        let run = tokio::runtime::Builder::new_current_thread().build().unwrap();
        run.block_on(async {
            let mut form = Form::new(frames(data, size), "XX");
            let mut all = Vec::new();
            while let Some(part) = form.next().await? {
                let mut content = Vec::new();
                while let Some(piece) = form.piece().await? {
                    content.extend_from_slice(&piece);
                }
                all.push((part, content));
            }
            Ok(all)
        })
    }

    fn written(parts: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (head, data) in parts {
            out.extend_from_slice(format!("--XX\r\n{head}\r\n\r\n").as_bytes());
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"--XX--\r\n");
        out
    }

    #[test]
    fn a_form() {
        let text = written(&[
            ("Content-Disposition: form-data; name=\"key\"", b"a/b".to_vec()),
            ("Content-Disposition: form-data; name=empty", Vec::new()),
            (
                "content-disposition: form-data; name=\"file\"; filename=\"C:\\x \\\"q\\\".txt\"\r\nContent-Type: text/plain",
                b"line\r\n--X\r\n\r\nmore".to_vec(),
            ),
        ]);
        for size in [1, 3, 7, 10_000] {
            let got = read(&text, size).unwrap();
            assert_eq!(got.len(), 3, "{size}");
            assert_eq!((got[0].0.name.as_str(), got[0].1.as_slice()), ("key", &b"a/b"[..]));
            assert_eq!((got[1].0.name.as_str(), got[1].1.as_slice()), ("empty", &b""[..]));
            assert_eq!(got[2].0.filename.as_deref(), Some("C:\\x \"q\".txt"));
            assert_eq!(got[2].0.content_type.as_deref(), Some("text/plain"));
            assert_eq!(got[2].1, b"line\r\n--X\r\n\r\nmore");
        }
    }

    #[test]
    fn a_boundary_of_hyphens() {
        let (content_type, b) = ("multipart/form-data; boundary=--b--", "--b--");
        assert_eq!(boundary(content_type).as_deref(), Some(b));
        let text = format!("--{b}\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--{b}--\r\n");
        let run = tokio::runtime::Builder::new_current_thread().build().unwrap();
        run.block_on(async {
            let mut form = Form::new(frames(text.as_bytes(), 5), b);
            assert_eq!(form.next().await.unwrap().map(|p| p.name).as_deref(), Some("a"));
            assert_eq!(form.text(10).await.unwrap(), "x");
            assert_eq!(form.next().await.unwrap(), None);
        });
    }

    #[test]
    fn what_is_no_form() {
        for bad in [
            "",
            "--XX",
            "--XX\r\n",
            "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nb",
            "--XXX\r\n\r\n",
        ] {
            assert!(read(bad.as_bytes(), 100).is_err(), "{bad}");
        }
        let long = written(&[(&"x".repeat(LONGEST_HEAD + 1), Vec::new())]);
        assert!(read(&long, 1000).is_err());
        assert!(read(&written(&[("Content-Type: a/b", Vec::new())]), 10).is_err());
        assert_eq!(boundary("multipart/form-data; boundary=\"a b\"").as_deref(), Some("a b"));
        assert_eq!(boundary("multipart/form-data;charset=x; boundary=ab").as_deref(), Some("ab"));
        assert_eq!(boundary("multipart/mixed; boundary=ab"), None);
        assert_eq!(boundary("multipart/form-data"), None);
    }

    proptest! {
        #[test]
        fn contents_come_back(contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..4), size in 1usize..50) {
            prop_assume!(!contents.iter().any(|c| memmem::find(c, b"--XX").is_some()));
            let parts: Vec<_> = contents.iter().map(|c| ("Content-Disposition: form-data; name=f", c.clone())).collect();
            let got = read(&written(&parts), size).unwrap();
            let back: Vec<Vec<u8>> = got.into_iter().map(|(_, c)| c).collect();
            prop_assert_eq!(back, contents);
        }

        #[test]
        fn noise_never_panics(noise: Vec<u8>, text in ".{0,60}", size in 1usize..20) {
            let _ = read(&noise, size);
            let _ = read(&written(&[(&text, noise)]), size);
            let _ = boundary(&text);
        }
    }
}
