//! A request's body: decoded from its chunks, and measured against everything that was said of it.

use super::Call;
use super::auth::Payload;
use super::chunked::Decoder;
use super::error::{self, S3Error, S3Result};
use crate::ObjectError;
use crate::digest::{Algorithm, Sums};
use crate::http::content::{content_length, frames};
use crate::http::relay::paced;
use crate::meta::Checksum;
use crate::object::{Body, Claim, Expect};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;

type Frames = BoxStream<'static, Result<Bytes, ObjectError>>;

impl Call {
    /// The body, for the engine.
    pub(crate) fn body(&self) -> S3Result<Body> {
        let (body, payload) = self.take_body().ok_or_else(error::internal)?;
        let expect = self.expect()?;
        let trailer = self.headers.contains_key("x-amz-trailer");
        if trailer && !self.header("x-amz-content-sha256").is_some_and(|h| h.starts_with("STREAMING-")) {
            return Err(error::malformed_trailer());
        }
        let behind = expect.algorithm.filter(|_| trailer);
        let raw = frames(body).boxed();
        let (stream, length) = match payload {
            Payload::Unsigned => (raw, content_length(&self.headers)),
            Payload::Hashed(hash) => {
                let length = content_length(&self.headers);
                if hash.starts_with("STREAMING-") {
                    self.check_streamed(length)?;
                }
                (hashed(raw, hash), length)
            }
            Payload::Chunked { signer, trailer } => {
                let length = Some(self.decoded_length()?);
                // Chunks are longer than what is in them.
                if length == content_length(&self.headers) {
                    return Err(error::broken_body());
                }
                let decoder = Decoder::new(signer, trailer, length);
                (chunked(raw, decoder, behind, expect.claim.clone()), length)
            }
        };
        Ok(Body { expect, ..Body::new(stream, length) })
    }

    /// How long a body in chunks is without them.
    fn decoded_length(&self) -> S3Result<u64> {
        let length = self.header("x-amz-decoded-content-length").and_then(|l| l.trim().parse().ok());
        length.ok_or_else(error::missing_length)
    }

    /// A body that says to come in chunks where the request's signature is none that could sign them: it is taken as it
    /// is, if it is as long as it would be without.
    fn check_streamed(&self, length: Option<u64>) -> S3Result<()> {
        let (decoded, length) = (self.decoded_length()?, length.unwrap_or_default());
        match decoded == length {
            true => Ok(()),
            false => Err(ObjectError::OtherLength { promised: decoded, provided: length }.into()),
        }
    }

    /// Whether the request says what the body's sum is.
    pub(super) fn has_sum(&self) -> bool {
        let named = |name: &str| self.headers.contains_key(name);
        named("content-md5") || named("x-amz-trailer") || Algorithm::ALL.iter().any(|a| named(a.header()))
    }

    /// What the headers say the body's sums are.
    pub(super) fn expect(&self) -> S3Result<Expect> {
        let mut expect = Expect::default();
        if let Some(md5) = self.header("content-md5") {
            let bad = || error::invalid_digest().with("Content-MD5", md5);
            let sum = BASE64_STANDARD.decode(md5.trim()).map_err(|_| bad())?;
            if sum.len() != 16 {
                return Err(bad());
            }
            expect.md5 = Some(hex::encode(sum));
        }
        let (named, behind) = (self.named_sum()?, self.trailing_sum()?);
        if named.is_some() && behind.is_some() {
            return Err(several());
        }
        expect.algorithm = named.or(behind);
        if let Some(name) = self.header("x-amz-sdk-checksum-algorithm") {
            let text = match expect.algorithm {
                None => {
                    "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found."
                }
                known if known != Algorithm::of(name) => {
                    "Value for x-amz-sdk-checksum-algorithm header is invalid."
                }
                Some(_) => "",
            };
            if !text.is_empty() {
                return Err(S3Error::invalid_request(text));
            }
        }
        if let Some(algorithm) = named {
            let (name, value) = (algorithm.header(), self.header(algorithm.header()).unwrap_or_default());
            // Of parts' sums a sum says how many they are.
            let parts = |n: &str| self.has("uploadId") && n.parse::<u32>().is_ok();
            let sum = value.rsplit_once('-').filter(|(_, n)| parts(n)).map_or(value, |(sum, _)| sum);
            if !algorithm.is_sum(sum) {
                return Err(S3Error::invalid_request(format!("Value for {name} header is invalid.")));
            }
            expect.claim.set(value.to_owned());
        }
        Ok(expect)
    }

    /// The checksum whose value is in the headers.
    fn named_sum(&self) -> S3Result<Option<Algorithm>> {
        const OTHER: [&str; 3] = ["algorithm", "type", "mode"];
        let names = self.headers.keys().filter_map(|n| n.as_str().strip_prefix("x-amz-checksum-"));
        let known: Vec<Option<Algorithm>> = names.filter(|n| !OTHER.contains(n)).map(Algorithm::of).collect();
        if known.contains(&None) {
            return Err(S3Error::invalid_request(
                "The algorithm type you specified in x-amz-checksum- header is invalid.",
            ));
        }
        single(known)
    }

    /// The checksum that is to come behind the body.
    fn trailing_sum(&self) -> S3Result<Option<Algorithm>> {
        let Some(names) = self.header("x-amz-trailer") else { return Ok(None) };
        let names = names.trim().trim_end_matches(',').split(',').map(str::trim);
        let known: Vec<Option<Algorithm>> = names.map(Algorithm::of_header).collect();
        if known.contains(&None) {
            return Err(S3Error::invalid_request(
                "The value specified in the x-amz-trailer header is not supported",
            ));
        }
        single(known)
    }

    /// All of a small body: XML.
    pub(crate) async fn small_body(&self) -> S3Result<Bytes> {
        let body = self.body()?;
        self.read_small(body).await
    }

    /// The same where the checksum in the headers is not the body's, but of the object that the request is about.
    pub(super) async fn small_body_about(&self) -> S3Result<(Bytes, Option<Checksum>)> {
        let mut body = self.body()?;
        let said = std::mem::take(&mut body.expect);
        let sum = Algorithm::ALL.into_iter().find_map(|a| Some((a, self.header(a.header())?)));
        body.expect.md5 = said.md5;
        let sum = sum.map(|(a, value)| Checksum { algorithm: a.name().to_owned(), value: value.to_owned() });
        Ok((self.read_small(body).await?, sum))
    }

    async fn read_small(&self, body: Body) -> S3Result<Bytes> {
        let most = self.store.config().limits.max_xml_size;
        let Body { stream, expect, length, .. } = body;
        let mut stream = paced(stream, self.store.body_idle());
        // One that is not much too large is read to its end: a client that is still sending does not hear an answer.
        let drained = 4 * most as u64;
        if length.is_some_and(|n| n > drained) {
            return Err(error::entity_too_large());
        }
        let mut size = 0;
        let mut sums = Sums::new(expect.algorithm);
        let mut all = bytes::BytesMut::new();
        while let Some(frame) = stream.next().await {
            let frame = frame?;
            size += frame.len() as u64;
            if size > drained {
                return Err(error::entity_too_large());
            }
            if size <= most as u64 {
                sums.update(&frame);
                all.extend_from_slice(&frame);
            }
        }
        if size > most as u64 {
            return Err(error::entity_too_large());
        }
        expect.verify(&sums.finish())?;
        Ok(all.freeze())
    }
}

/// The one of at most one.
fn single(known: Vec<Option<Algorithm>>) -> S3Result<Option<Algorithm>> {
    match known.as_slice() {
        [] => Ok(None),
        [one] => Ok(*one),
        _ => Err(several()),
    }
}

fn several() -> S3Error {
    S3Error::invalid_request(
        "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
    )
}

/// Checks a body's SHA-256 when it has passed.
fn hashed(raw: Frames, hash: String) -> Frames {
    futures::stream::try_unfold(Some((raw, Sha256::new(), hash)), |state| async move {
        let Some((mut raw, mut sum, hash)) = state else { return Ok(None) };
        match raw.next().await {
            Some(frame) => {
                let frame = frame?;
                sum.update(&frame);
                Ok(Some((frame, Some((raw, sum, hash)))))
            }
            None => {
                let computed = hex::encode(sum.finalize());
                let same = computed.eq_ignore_ascii_case(&hash);
                if same { Ok(None) } else { Err(ObjectError::Sha256Mismatch { computed }) }
            }
        }
    })
    .boxed()
}

/// Decodes chunks. With `algorithm`, a sum of it is behind them and goes to `claim`; else nothing is.
fn chunked(raw: Frames, decoder: Decoder, algorithm: Option<Algorithm>, claim: Claim) -> Frames {
    struct At {
        raw: Frames,
        decoder: Decoder,
        ready: VecDeque<Bytes>,
        algorithm: Option<Algorithm>,
        claim: Claim,
    }
    let at = At { raw, decoder, ready: VecDeque::new(), algorithm, claim };
    futures::stream::try_unfold(Some(at), |state| async move {
        let Some(mut at) = state else { return Ok(None) };
        loop {
            if let Some(data) = at.ready.pop_front() {
                return Ok(Some((data, Some(at))));
            }
            match at.raw.next().await {
                Some(frame) => {
                    let ready = &mut at.ready;
                    at.decoder.push(frame?, &mut |data| ready.push_back(data))?;
                }
                None => {
                    let trailers = at.decoder.finish()?;
                    let malformed = || ObjectError::ChecksumMismatch("x-amz-trailer");
                    match (at.algorithm, trailers.as_slice()) {
                        (None, []) => {}
                        (Some(a), [(name, value)]) if *name == a.header() => {
                            if !a.is_sum(value) {
                                return Err(ObjectError::OtherChecksum(format!(
                                    "Value for {name} trailing header is invalid."
                                )));
                            }
                            at.claim.set(value.clone());
                        }
                        _ => return Err(malformed()),
                    }
                    return Ok(None);
                }
            }
        }
    })
    .boxed()
}
