//! Encryption at rest: content is sealed chunk by chunk on its way into the cluster and opened on its way out.
//!
//! Every object has a data key of its own, which is kept with its metadata, wrapped: by the root secret (S3's SSE-S3), or
//! by a key that the client brings with every request and that is kept nowhere (SSE-C). A body's key is derived from the
//! data key and a salt, so that the parts of one upload never share a key. Chunks are sealed with AES-256-GCM; a chunk's
//! nonce is its number and whether it is the last, so that none can be moved, left out or cut off. Chunks are of fixed
//! size: a range is read by its chunks alone. What is measured (sizes, ETags, checksums) is the content before sealing.

use crate::container::Container;
use crate::range::Span;
use crate::{ObjectError, ObjectStore, store};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq;

/// Bytes of content in a chunk, and what sealing adds to it. Part of the layout on disk: never change them.
pub(crate) const CHUNK: u64 = 64 << 10;
const TAG: u64 = 16;
const KEY: usize = 32;
const NONCE: usize = 12;
const SALT: usize = 16;

/// Bytes that sealed content takes.
pub(crate) fn sealed_len(plain: u64) -> u64 {
    plain + plain.div_ceil(CHUNK) * TAG
}

/// A key that a client brings.
#[derive(Clone, PartialEq, Eq)]
pub struct CustomerKey {
    key: [u8; KEY],
    /// The key's MD5 in base64: what it is recognised by.
    md5: String,
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl CustomerKey {
    pub fn new(key: [u8; KEY]) -> Self {
        CustomerKey { md5: BASE64_STANDARD.encode(Md5::digest(key)), key }
    }

    pub fn md5(&self) -> &str {
        &self.md5
    }
}

/// How an object that is being written is to be sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealWith {
    Root,
    Customer(CustomerKey),
}

/// How an object is sealed: kept with its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The MD5 of the client's key; absent, the root secret wraps the data key.
    pub customer: Option<String>,
    pub(crate) wrapped: Vec<u8>,
}

/// The key that the keys of an object's bodies are derived from.
#[derive(Clone)]
pub(crate) struct DataKey([u8; KEY]);

fn aead(key: &[u8; KEY]) -> Result<LessSafeKey, ObjectError> {
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| ObjectError::Damaged("a key of no use"))?;
    Ok(LessSafeKey::new(key))
}

impl DataKey {
    fn wrap(&self, with: &[u8; KEY], context: &[u8]) -> Result<Vec<u8>, ObjectError> {
        let nonce: [u8; NONCE] = rand::random();
        let mut sealed = self.0.to_vec();
        aead(with)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut sealed)
            .map_err(|_| ObjectError::Damaged("a key cannot be wrapped"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// `None` where the key is not the one that wrapped it.
    fn unwrap(wrapped: &[u8], with: &[u8; KEY], context: &[u8]) -> Result<Option<DataKey>, ObjectError> {
        let (Some(nonce), Some(sealed)) = (wrapped.get(..NONCE), wrapped.get(NONCE..)) else {
            return Err(ObjectError::Damaged("a wrapped key is cut off"));
        };
        let nonce = Nonce::try_assume_unique_for_key(nonce)
            .map_err(|_| ObjectError::Damaged("a wrapped key is cut off"))?;
        let mut sealed = sealed.to_vec();
        match aead(with)?.open_in_place(nonce, Aad::from(context), &mut sealed) {
            Ok(key) => {
                let key = (&*key).try_into().map_err(|_| ObjectError::Damaged("a wrapped key is cut off"))?;
                Ok(Some(DataKey(key)))
            }
            Err(_) => Ok(None),
        }
    }

    /// The key of one body.
    fn body(&self, salt: &[u8]) -> Result<LessSafeKey, ObjectError> {
        let mac =
            Hmac::<Sha256>::new_from_slice(&self.0).map_err(|_| ObjectError::Damaged("a key of no use"))?;
        aead(&mac.chain_update(salt).finalize().into_bytes().into())
    }
}

fn nonce(chunk: u64, last: bool) -> Nonce {
    let mut nonce = [0; NONCE];
    nonce[..8].copy_from_slice(&chunk.to_be_bytes());
    nonce[NONCE - 1] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

/// Seals a body as it arrives.
pub struct Sealer {
    key: LessSafeKey,
    /// What has come and is not sealed: a full chunk waits until it is known not to be the last.
    waiting: BytesMut,
    chunk: u64,
    /// Of a whole object.
    pub(crate) seal: Option<Seal>,
    /// Of a part.
    pub(crate) salt: Vec<u8>,
}

impl Sealer {
    fn object(key: &DataKey, seal: Seal) -> Result<Self, ObjectError> {
        let key = key.body(&[])?;
        Ok(Sealer { key, waiting: BytesMut::new(), chunk: 0, seal: Some(seal), salt: Vec::new() })
    }

    fn part(key: &DataKey) -> Result<Self, ObjectError> {
        let salt = rand::random::<[u8; SALT]>().to_vec();
        Ok(Sealer { key: key.body(&salt)?, waiting: BytesMut::new(), chunk: 0, seal: None, salt })
    }

    /// Takes content; what of it is sealed now, which may be nothing.
    pub(crate) fn push(&mut self, content: &[u8]) -> Result<Bytes, ObjectError> {
        self.waiting.extend_from_slice(content);
        let mut out = BytesMut::new();
        while self.waiting.len() as u64 > CHUNK {
            let chunk = self.waiting.split_to(CHUNK as usize);
            self.seal_chunk(chunk, false, &mut out)?;
        }
        Ok(out.freeze())
    }

    /// What is left at the end. Nothing of nothing.
    pub(crate) fn finish(&mut self) -> Result<Bytes, ObjectError> {
        let mut out = BytesMut::new();
        if !self.waiting.is_empty() {
            let chunk = self.waiting.split();
            self.seal_chunk(chunk, true, &mut out)?;
        }
        Ok(out.freeze())
    }

    fn seal_chunk(&mut self, mut data: BytesMut, last: bool, out: &mut BytesMut) -> Result<(), ObjectError> {
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(self.chunk, last), Aad::empty(), &mut data)
            .map_err(|_| ObjectError::Damaged("content cannot be sealed"))?;
        self.chunk += 1;
        out.extend_from_slice(&data);
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

/// One sealed body among the stored bytes of an object.
#[derive(Clone)]
pub(crate) struct Stretch {
    /// Where its content begins in the object's, and how long it is.
    pub(crate) at: u64,
    pub(crate) len: u64,
    /// Where it begins among the stored bytes.
    pub(crate) stored_at: u64,
    pub(crate) key: DataKey,
    pub(crate) salt: Vec<u8>,
}

/// Opens a body's chunks.
pub(crate) struct Opener {
    key: LessSafeKey,
    len: u64,
    /// What is wanted of the body's content.
    span: Span,
    chunk: u64,
    have: BytesMut,
}

impl Stretch {
    /// The stored bytes that hold `span` of the body's content, and what opens them.
    pub(crate) fn open(&self, span: Span) -> Result<(Span, Opener), ObjectError> {
        let (first, end) = (span.start / CHUNK, span.end.div_ceil(CHUNK));
        let stored = Span {
            start: self.stored_at + first * (CHUNK + TAG),
            end: self.stored_at + (end * (CHUNK + TAG)).min(sealed_len(self.len)),
        };
        let key = self.key.body(&self.salt)?;
        Ok((stored, Opener { key, len: self.len, span, chunk: first, have: BytesMut::new() }))
    }
}

impl Opener {
    /// Takes stored bytes; what content they complete.
    pub(crate) fn push(&mut self, stored: &[u8]) -> Result<Bytes, ObjectError> {
        self.have.extend_from_slice(stored);
        let mut out = BytesMut::new();
        loop {
            let at = self.chunk * CHUNK;
            let size = CHUNK.min(self.len.saturating_sub(at));
            if size == 0 || (self.have.len() as u64) < size + TAG {
                return Ok(out.freeze());
            }
            let mut sealed = self.have.split_to((size + TAG) as usize);
            let last = at + size == self.len;
            let content = self
                .key
                .open_in_place(nonce(self.chunk, last), Aad::empty(), &mut sealed)
                .map_err(|_| ObjectError::Damaged("sealed content does not open"))?;
            let from = self.span.start.saturating_sub(at).min(size) as usize;
            let to = self.span.end.saturating_sub(at).min(size) as usize;
            out.extend_from_slice(&content[from..to]);
            self.chunk += 1;
        }
    }
}

impl ObjectStore {
    /// The root secret: of the configuration, or one that was made once and is kept with the rows.
    async fn root_key(&self) -> Result<&[u8; KEY], ObjectError> {
        self.inner
            .root_key
            .get_or_try_init(|| async {
                let text = match &self.inner.config.encryption_key_file {
                    Some(file) => tokio::fs::read_to_string(file)
                        .await
                        .map_err(|_| ObjectError::Damaged("the root secret's file cannot be read"))?,
                    None => {
                        let fresh = BASE64_STANDARD.encode(rand::random::<[u8; KEY]>());
                        store::keys::root(&self.inner.db, &fresh).await?
                    }
                };
                let key = BASE64_STANDARD.decode(text.trim()).ok().and_then(|k| k.try_into().ok());
                key.ok_or(ObjectError::Damaged("the root secret is not 32 bytes in base64"))
            })
            .await
    }

    /// What ties a wrapped key to its container: an object's metadata are of no use in another's.
    fn context(container: &Container) -> Vec<u8> {
        format!("object key of {}", container.id).into_bytes()
    }

    /// A fresh data key, and how it is kept.
    async fn new_seal(&self, container: &Container, with: &SealWith) -> Result<(DataKey, Seal), ObjectError> {
        let key = DataKey(rand::random());
        let (wrapping, customer) = match with {
            SealWith::Root => (self.root_key().await?, None),
            SealWith::Customer(customer) => (&customer.key, Some(customer.md5.clone())),
        };
        let wrapped = key.wrap(wrapping, &Self::context(container))?;
        Ok((key, Seal { customer, wrapped }))
    }

    /// What seals a new object's body: as it wants, or else as its container does with all.
    pub(crate) async fn sealer(
        &self,
        container: &Container,
        with: Option<&SealWith>,
    ) -> Result<Option<Sealer>, ObjectError> {
        let Some(with) = with.or(container.info.sharing.default_seal()) else { return Ok(None) };
        let (key, seal) = self.new_seal(container, with).await?;
        Sealer::object(&key, seal).map(Some)
    }

    /// How the object of a new upload will be sealed.
    pub(crate) async fn upload_seal(
        &self,
        container: &Container,
        with: Option<&SealWith>,
    ) -> Result<Option<Seal>, ObjectError> {
        let Some(with) = with.or(container.info.sharing.default_seal()) else { return Ok(None) };
        Ok(Some(self.new_seal(container, with).await?.1))
    }

    /// What seals a part of an upload.
    pub(crate) async fn part_sealer(
        &self,
        container: &Container,
        seal: Option<&Seal>,
        customer: Option<&CustomerKey>,
    ) -> Result<Option<Sealer>, ObjectError> {
        match (seal, customer) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(ObjectError::NotSealed),
            (Some(seal), customer) => {
                seal.check(customer).map_err(of_part)?;
                Sealer::part(&self.data_key(container, seal, customer).await?).map(Some)
            }
        }
    }

    pub(crate) async fn data_key(
        &self,
        container: &Container,
        seal: &Seal,
        customer: Option<&CustomerKey>,
    ) -> Result<DataKey, ObjectError> {
        seal.check(customer)?;
        let with = match customer {
            Some(customer) => &customer.key,
            None => self.root_key().await?,
        };
        match (DataKey::unwrap(&seal.wrapped, with, &Self::context(container))?, customer) {
            (Some(key), _) => Ok(key),
            (None, Some(_)) => Err(ObjectError::Forbidden),
            (None, None) => Err(ObjectError::Damaged("the root secret is not the one that wrapped a key")),
        }
    }
}

impl Seal {
    /// Whether a request brings the key that this wants.
    pub(crate) fn check(&self, customer: Option<&CustomerKey>) -> Result<(), ObjectError> {
        match (&self.customer, customer) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(ObjectError::NotSealed),
            (Some(_), None) => Err(ObjectError::Sealed),
            (Some(md5), Some(key)) if bool::from(md5.as_bytes().ct_eq(key.md5.as_bytes())) => Ok(()),
            (Some(_), Some(_)) => Err(ObjectError::Forbidden),
        }
    }
}

/// What is wrong with a key, said of a part.
fn of_part(e: ObjectError) -> ObjectError {
    ObjectError::OtherSeal(match e {
        ObjectError::Sealed => {
            "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption parameters."
        }
        ObjectError::Forbidden => {
            "The provided encryption parameters did not match the ones used originally."
        }
        e => return e,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealed(key: &DataKey, content: &[u8], step: usize) -> Vec<u8> {
        let seal = Seal { customer: None, wrapped: Vec::new() };
        let mut sealer = Sealer::object(key, seal).unwrap();
        let mut out = Vec::new();
        for piece in content.chunks(step.max(1)) {
            out.extend_from_slice(&sealer.push(piece).unwrap());
        }
        out.extend_from_slice(&sealer.finish().unwrap());
        out
    }

    fn opened(
        key: &DataKey,
        stored: &[u8],
        len: u64,
        span: Span,
        step: usize,
    ) -> Result<Vec<u8>, ObjectError> {
        let stretch = Stretch { at: 0, len, stored_at: 0, key: key.clone(), salt: Vec::new() };
        let (from, mut opener) = stretch.open(span)?;
        let mut out = Vec::new();
        for piece in stored[from.start as usize..from.end as usize].chunks(step.max(1)) {
            out.extend_from_slice(&opener.push(piece)?);
        }
        Ok(out)
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    #[test]
    fn nothing_can_be_moved_or_cut_off() {
        let key = DataKey([7; KEY]);
        let content = noise(3 * CHUNK as usize);
        let stored = sealed(&key, &content, 1000);
        assert_eq!(stored.len() as u64, sealed_len(content.len() as u64));
        let whole = Span { start: 0, end: content.len() as u64 };
        let open = |stored: &[u8], len: u64| {
            let span = Span { start: 0, end: len };
            opened(&key, stored, len, span, 5000).map(|c| c.len())
        };
        assert_eq!(opened(&key, &stored, whole.end, whole, 70_000).unwrap(), content);
        let one = (CHUNK + TAG) as usize;
        assert!(open(&stored[..2 * one], 2 * CHUNK).is_err(), "a chunk less");
        let mut swapped = stored.clone();
        swapped[..one].copy_from_slice(&stored[one..2 * one]);
        assert!(open(&swapped, whole.end).is_err(), "chunks in another order");
        let mut flipped = stored.clone();
        flipped[100] ^= 1;
        assert!(open(&flipped, whole.end).is_err(), "a bit that has changed");
        assert!(opened(&DataKey([8; KEY]), &stored, whole.end, whole, 5000).is_err(), "another key");
    }

    #[test]
    fn keys_are_wrapped() {
        let (key, root) = (DataKey([1; KEY]), [2; KEY]);
        let wrapped = key.wrap(&root, b"here").unwrap();
        let back =
            |with: &[u8; KEY], context: &[u8]| DataKey::unwrap(&wrapped, with, context).unwrap().map(|k| k.0);
        assert_eq!(back(&root, b"here"), Some([1; KEY]));
        assert_eq!(back(&[3; KEY], b"here"), None);
        assert_eq!(back(&root, b"there"), None);
        assert!(DataKey::unwrap(&[0; 5], &root, b"").is_err());
        assert_eq!(format!("{:?}", CustomerKey::new([9; KEY])), "…");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_range_comes_back(len in 0u64..200_000, a in 0u64..200_000, b in 0u64..200_000, step in 1usize..100_000) {
            let key = DataKey([7; KEY]);
            let content = noise(len as usize);
            let stored = sealed(&key, &content, step);
            prop_assert_eq!(stored.len() as u64, sealed_len(len));
            let (start, end) = (a.min(b).min(len), a.max(b).min(len));
            prop_assume!(start < end);
            let got = opened(&key, &stored, len, Span { start, end }, step).unwrap();
            prop_assert_eq!(&got, &content[start as usize..end as usize]);
        }
    }
}
