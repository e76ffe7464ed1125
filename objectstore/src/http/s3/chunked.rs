//! `aws-chunked` bodies: chunks inside of the HTTP body, each signed, or unsigned with checksums behind them.
//!
//! ```text
//! <hex size>[;chunk-signature=<64 hex>]\r\n <data> \r\n     … repeated, the last with size 0
//! [<trailer-name>:<value>\r\n …]
//! [x-amz-trailer-signature:<64 hex>\r\n]
//! \r\n
//! ```
//!
//! The decoder is a plain state machine over bytes as they arrive: data goes on as slices of the frames that
//! brought it, only lines are gathered. A chunk's signature is checked when the chunk has passed; the object
//! becomes visible only after the last one, so nothing unsigned is ever served.

use super::sigv4::{EMPTY_SHA256, SigningKey};
use crate::ObjectError;
use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};

/// What chunk signatures are made with.
pub(crate) struct Signer {
    pub(crate) key: SigningKey,
    /// The timestamp of the request, as it was sent.
    pub(crate) timestamp: String,
    pub(crate) scope: String,
    /// The signature of the request, then of each chunk: they form a chain.
    pub(crate) previous: String,
}

impl Signer {
    fn check_chunk(&mut self, hash: &str, signature: &str) -> Result<(), ObjectError> {
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{}\n{EMPTY_SHA256}\n{hash}",
            self.timestamp, self.scope, self.previous
        );
        self.check(&text, signature)
    }

    fn check_trailer(&mut self, hash: &str, signature: &str) -> Result<(), ObjectError> {
        let text = format!(
            "AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{}\n{hash}",
            self.timestamp, self.scope, self.previous
        );
        self.check(&text, signature)
    }

    fn check(&mut self, text: &str, signature: &str) -> Result<(), ObjectError> {
        if !self.key.matches(text, signature) {
            return Err(ObjectError::ChecksumMismatch("chunk-signature"));
        }
        self.previous = signature.to_owned();
        Ok(())
    }
}

enum State {
    /// Gathering a chunk's header line.
    Header,
    /// Passing data on; how much is left.
    Data(u64),
    /// The line end behind a chunk's data.
    AfterData,
    /// Gathering trailer lines.
    Trailer,
    Done,
}

/// Decodes one body.
pub(crate) struct Decoder {
    state: State,
    line: Vec<u8>,
    signer: Option<Signer>,
    hash: Sha256,
    signature: String,
    trailers: Vec<(String, String)>,
    /// Trailers were announced (a body without them ends right behind the last chunk).
    with_trailer: bool,
    /// What `x-amz-decoded-content-length` promised, and what chunks have said to bring.
    promised: Option<u64>,
    announced: u64,
    /// The size of the chunk before, and its number.
    last: (u64, u64),
}

/// Signed chunks but for the last are no smaller.
const SMALLEST_CHUNK: u64 = 8192;

/// Longest line: a chunk header or a trailer. Anything longer is an attempt to fill our memory.
const LONGEST_LINE: usize = 1024;
const MOST_TRAILERS: usize = 16;

fn broken(what: &str) -> ObjectError {
    ObjectError::BrokenBody(format!("malformed chunked encoding: {what}"))
}

impl Decoder {
    pub(crate) fn new(signer: Option<Signer>, with_trailer: bool, decoded_length: Option<u64>) -> Self {
        Decoder {
            state: State::Header,
            line: Vec::new(),
            signer,
            hash: Sha256::new(),
            signature: String::new(),
            trailers: Vec::new(),
            with_trailer,
            promised: decoded_length,
            announced: 0,
            last: (SMALLEST_CHUNK, 0),
        }
    }

    /// Takes a frame, hands its data to `out`.
    pub(crate) fn push(&mut self, mut frame: Bytes, out: &mut impl FnMut(Bytes)) -> Result<(), ObjectError> {
        while !frame.is_empty() {
            match self.state {
                State::Data(left) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(frame.len());
                    let data = frame.split_to(take);
                    if self.signer.is_some() {
                        self.hash.update(&data);
                    }
                    let left = left - take as u64;
                    self.state = if left == 0 { State::AfterData } else { State::Data(left) };
                    out(data);
                }
                // S3 reads no further than the empty line behind what it was told to expect.
                State::Done if !self.trailers.is_empty() => return Ok(()),
                State::Done => return Err(ObjectError::ChecksumMismatch("x-amz-trailer")),
                State::Header | State::AfterData | State::Trailer => {
                    if let Some(line) = self.gather(&mut frame)? {
                        self.line(&line)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The body has ended: the trailers, if it was whole.
    pub(crate) fn finish(mut self) -> Result<Vec<(String, String)>, ObjectError> {
        // Some clients leave out the very last line end.
        if matches!(self.state, State::Trailer) && self.line.is_empty() {
            self.end()?;
        }
        if !matches!(self.state, State::Done) {
            return Err(broken("cut off"));
        }
        Ok(self.trailers)
    }

    /// Takes bytes up to a line end; the line without it, once it is whole.
    fn gather(&mut self, frame: &mut Bytes) -> Result<Option<String>, ObjectError> {
        let end = frame.iter().position(|b| *b == b'\n');
        let take = end.map_or(frame.len(), |e| e + 1);
        if self.line.len() + take > LONGEST_LINE {
            return Err(broken("a line is too long"));
        }
        self.line.extend_from_slice(&frame[..take]);
        frame.advance(take);
        if end.is_none() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        if !line.ends_with(b"\r\n") {
            return Err(broken("a line does not end as it should"));
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).map(Some).map_err(|_| broken("a line is not text"))
    }

    fn line(&mut self, line: &str) -> Result<(), ObjectError> {
        match self.state {
            State::Header => self.header(line),
            State::AfterData if line.is_empty() => {
                self.check_chunk()?;
                self.state = State::Header;
                Ok(())
            }
            State::AfterData => Err(broken("a chunk is longer than its size")),
            State::Trailer if line.is_empty() => self.end(),
            State::Trailer => {
                let (name, value) = line.split_once(':').ok_or_else(|| broken("a trailer has no colon"))?;
                let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
                let full = self.trailers.len() >= MOST_TRAILERS;
                match self.trailers.iter_mut().find(|(n, _)| *n == name) {
                    Some(same) => same.1 = value,
                    None if full => return Err(broken("too many trailers")),
                    None => self.trailers.push((name, value)),
                }
                Ok(())
            }
            State::Data(_) | State::Done => Err(broken("out of order")),
        }
    }

    fn header(&mut self, line: &str) -> Result<(), ObjectError> {
        let (size, extension) = line.split_once(';').unwrap_or((line, ""));
        let size = size.trim();
        if size.is_empty() || size.len() > 16 || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(broken("a chunk has no size"));
        }
        let size = u64::from_str_radix(size, 16).map_err(|_| broken("a chunk has no size"))?;
        if self.signer.is_some() {
            let (name, signature) = extension.split_once('=').unwrap_or_default();
            match (name.trim(), signature.trim()) {
                ("chunk-signature", signature) if !signature.is_empty() && !signature.contains(';') => {
                    signature.clone_into(&mut self.signature);
                }
                ("chunk-signature" | "", _) => return Err(broken("a chunk has no signature")),
                _ => return Err(ObjectError::ChecksumMismatch("chunk-signature")),
            }
            if size > 0 && self.last.0 < SMALLEST_CHUNK {
                let (size, number) = (self.last.0, self.last.1 + 1);
                return Err(ObjectError::SmallChunk { number, size });
            }
        }
        self.last = (size, self.last.1 + 1);
        self.announced = self.announced.saturating_add(size);
        if let Some(promised) =
            self.promised.filter(|n| self.announced > *n || size == 0 && self.announced < *n)
        {
            return Err(ObjectError::OtherLength { promised, provided: self.announced });
        }
        if size > 0 {
            self.state = State::Data(size);
            return Ok(());
        }
        self.check_chunk()?;
        self.state = State::Trailer;
        Ok(())
    }

    fn check_chunk(&mut self) -> Result<(), ObjectError> {
        if let Some(signer) = &mut self.signer {
            let hash = hex::encode(self.hash.finalize_reset_now());
            signer.check_chunk(&hash, &std::mem::take(&mut self.signature))?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), ObjectError> {
        self.state = State::Done;
        if !self.with_trailer {
            return Ok(());
        }
        let at = self.trailers.iter().position(|(n, _)| n == "x-amz-trailer-signature");
        let signature = at.map(|i| self.trailers.remove(i).1);
        let Some(signer) = &mut self.signer else { return Ok(()) };
        let text: String = self.trailers.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
        let signature = signature.filter(|_| !text.is_empty()).ok_or_else(|| broken("nothing is signed"))?;
        signer.check_trailer(&hex::encode(Sha256::digest(text)), &signature)
    }
}

/// Takes the hash and begins a new one.
trait FinalizeReset {
    fn finalize_reset_now(&mut self) -> Vec<u8>;
}

impl FinalizeReset for Sha256 {
    fn finalize_reset_now(&mut self) -> Vec<u8> {
        std::mem::take(self).finalize().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEED: &str = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";

    fn signer() -> Signer {
        Signer {
            key: SigningKey::derive("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1"),
            timestamp: "20130524T000000Z".into(),
            scope: "20130524/us-east-1/s3/aws4_request".into(),
            previous: SEED.into(),
        }
    }

    fn run(
        mut decoder: Decoder,
        body: &[u8],
        step: usize,
    ) -> Result<(usize, Vec<(String, String)>), ObjectError> {
        let mut n = 0;
        for frame in body.chunks(step.max(1)) {
            decoder.push(Bytes::copy_from_slice(frame), &mut |d| n += d.len())?;
        }
        Ok((n, decoder.finish()?))
    }

    /// The example of "Signature Calculations for the Authorization Header: Transferring Payload in Multiple
    /// Chunks": 66,560 bytes of `a` in two chunks.
    fn published() -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(
            b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n",
        );
        body.extend_from_slice(&[b'a'; 65536]);
        body.extend_from_slice(
            b"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n",
        );
        body.extend_from_slice(&[b'a'; 1024]);
        body.extend_from_slice(
            b"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n",
        );
        body
    }

    #[test]
    fn the_published_example_in_frames_of_any_size() {
        for step in [1, 7, 4096, 70_000] {
            let decoder = Decoder::new(Some(signer()), false, Some(66_560));
            assert_eq!(run(decoder, &published(), step).unwrap().0, 66_560, "{step}");
        }
    }

    #[test]
    fn a_changed_byte_a_missing_end_and_a_wrong_length_are_seen() {
        let decoder = || Decoder::new(Some(signer()), false, Some(66_560));
        let mut changed = published();
        changed[500] = b'b';
        assert!(matches!(run(decoder(), &changed, 999), Err(ObjectError::ChecksumMismatch(_))));
        let body = published();
        assert!(matches!(run(decoder(), &body[..60_000], 999), Err(ObjectError::BrokenBody(_))));
        let other = |n| run(Decoder::new(Some(signer()), false, Some(n)), &body, 999);
        for n in [10, 66_559, 66_561] {
            assert!(
                matches!(other(n), Err(ObjectError::OtherLength { promised, .. }) if promised == n),
                "{n}"
            );
        }
    }

    #[test]
    fn unsigned_chunks_with_a_checksum_behind_them() {
        let body = b"5\r\nhello\r\n1\r\n!\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
        let (n, trailers) = run(Decoder::new(None, true, Some(6)), body, 3).unwrap();
        assert_eq!((n, trailers), (6, vec![("x-amz-checksum-crc32".into(), "AAAAAA==".into())]));
        for bad in [
            "",
            "zz\r\n",
            "5\r\nhello!\r\n",
            "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
            "0\r\n\r\nmore",
            "5\nhello\n0\n\n",
        ] {
            assert!(run(Decoder::new(None, true, None), bad.as_bytes(), 4).is_err(), "{bad}");
        }
        // The last of one name counts; what comes behind the empty line does not.
        let twice = b"0\r\na:1\r\na: 2\r\n\r\nb:3\r\n";
        let (_, trailers) = run(Decoder::new(None, true, Some(0)), twice, 5).unwrap();
        assert_eq!(trailers, [("a".to_owned(), "2".to_owned())]);
        let long = format!("5;{}\r\n", "x".repeat(2000));
        assert!(run(Decoder::new(None, true, None), long.as_bytes(), 50).is_err());
    }

    #[test]
    fn signed_chunks_are_not_small() {
        let body = |size: usize| {
            let (mut signer, mut body) = (signer(), Vec::new());
            for data in [vec![b'a'; size], b"the last".to_vec(), Vec::new()] {
                let hash = hex::encode(Sha256::digest(&data));
                let text = format!(
                    "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{}\n{EMPTY_SHA256}\n{hash}",
                    signer.timestamp, signer.scope, signer.previous
                );
                signer.previous = signer.key.sign(&text);
                body.extend(format!("{:x} ; chunk-signature = {} \r\n", data.len(), signer.previous).bytes());
                body.extend(data);
                body.extend(b"\r\n");
            }
            body
        };
        let read = |size| run(Decoder::new(Some(signer()), false, None), &body(size), 999);
        assert_eq!(read(8192).unwrap().0, 8200);
        assert!(matches!(read(8191), Err(ObjectError::SmallChunk { number: 2, size: 8191 })));
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in "[0-9a-f;\\r\\n:x]{0,60}", step in 1usize..9) {
            let _ = run(Decoder::new(None, true, Some(3)), noise.as_bytes(), step);
        }
    }
}
