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
        let raw = frames(body).boxed();
        let (stream, length) = match payload {
            Payload::Unsigned => (raw, content_length(&self.headers)),
            Payload::Hashed(hash) => (hashed(raw, hash), content_length(&self.headers)),
            Payload::Chunked { signer, trailer } => {
                let length = self.header("x-amz-decoded-content-length").and_then(|l| l.trim().parse().ok());
                let decoder = Decoder::new(signer, trailer, length);
                (chunked(raw, decoder, expect.algorithm, expect.claim.clone()), length)
            }
        };
        Ok(Body { expect, ..Body::new(stream, length) })
    }

    /// What the headers say the body's sums are.
    pub(super) fn expect(&self) -> S3Result<Expect> {
        let mut expect = Expect::default();
        if let Some(md5) = self.header("content-md5") {
            let sum = BASE64_STANDARD.decode(md5.trim()).map_err(|_| error::invalid_digest())?;
            if sum.len() != 16 {
                return Err(error::invalid_digest());
            }
            expect.md5 = Some(hex::encode(sum));
        }
        for algorithm in Algorithm::ALL {
            let Some(value) = self.header(algorithm.header()) else { continue };
            if expect.algorithm.is_some() {
                return Err(S3Error::invalid_request(
                    "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
                ));
            }
            // Of parts' sums a sum says how many they are.
            let sum = value.rsplit_once('-').filter(|_| self.has("uploadId")).map_or(value, |(sum, _)| sum);
            if !algorithm.is_sum(sum) {
                let name = algorithm.header();
                return Err(S3Error::invalid_request(format!("Value for {name} header is invalid.")));
            }
            expect.algorithm = Some(algorithm);
            expect.claim.set(value.to_owned());
        }
        if let Some(trailer) = self.header("x-amz-trailer") {
            let named = trailer.split(',').find_map(|t| Algorithm::of_header(t.trim()));
            expect.algorithm = expect.algorithm.or(named);
        }
        if let Some(name) = self.header("x-amz-sdk-checksum-algorithm") {
            expect.algorithm = expect.algorithm.or(Algorithm::of(name));
        }
        Ok(expect)
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
            None if hex::encode(sum.finalize()) == hash => Ok(None),
            None => Err(ObjectError::ChecksumMismatch("x-amz-content-sha256")),
        }
    })
    .boxed()
}

/// Decodes chunks; what the trailer says of the body goes to `claim`.
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
                    for (name, value) in at.decoder.finish()? {
                        if at.algorithm.is_some_and(|a| a.header() == name) {
                            at.claim.set(value);
                        }
                    }
                    return Ok(None);
                }
            }
        }
    })
    .boxed()
}
