//! How chunked backups look in their store.
//!
//! ```text
//! chunks/<2 digits>/<id>    a chunk of up to 4 MiB: one byte of flags, then what it packs
//! backups/<backup>/<n>      the ids of the chunks of the n-th 4 GiB, 32 bytes each; zeroes for a chunk of zeroes
//! backups/<backup>/head     JSON: written last, so a backup without it is none
//! ```
//! A chunk's id is the SHA-256 of what it holds, so that equal chunks are one, and so that what is read is known to be
//! what was written. Where a repository is sealed, the id is an HMAC and the chunk is under AES-256-GCM: whoever has the
//! store can neither read, nor guess contents by their ids, nor put one backup's parts into another.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub(super) const ID: usize = 32;
pub(super) type Id = [u8; ID];
pub(super) const ZEROES: Id = [0; ID];

const PACKED: u8 = 1;
const SEALED: u8 = 2;
/// Of zstd: fast, and most of what there is to gain.
const LEVEL: i32 = 3;

/// Something in the store is not what was written there, or does not open.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("what is stored is not what was written")]
pub(super) struct Broken;

/// A key of 256 bits. Never shown.
#[derive(Clone)]
pub(super) struct Key(pub(super) [u8; 32]);

impl Key {
    pub(super) fn fresh() -> Result<Key, Broken> {
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).map_err(|_| Broken)?;
        Ok(Key(key))
    }

    pub(super) fn from_base64(text: &str) -> Result<Key, Broken> {
        let key = STANDARD.decode(text.trim()).ok().and_then(|k| k.try_into().ok());
        key.map(Key).ok_or(Broken)
    }

    pub(super) fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    fn cipher(&self) -> Result<LessSafeKey, Broken> {
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.0).map_err(|_| Broken)?))
    }

    /// Nonce, content and tag; good only together with `context`.
    fn seal(&self, context: &[u8], data: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| Broken)?;
        let mut sealed = data.to_vec();
        let cipher = self.cipher()?;
        cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut sealed)
            .map_err(|_| Broken)?;
        Ok([&nonce[..], &sealed].concat())
    }

    fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Broken> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or(Broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Broken)?;
        let mut body = body.to_vec();
        let len =
            self.cipher()?.open_in_place(nonce, Aad::from(context), &mut body).map_err(|_| Broken)?.len();
        body.truncate(len);
        Ok(body)
    }

    /// This key, for `what`, as it may be kept anywhere.
    pub(super) fn wrap(&self, root: &Key, what: &str) -> Result<String, Broken> {
        Ok(STANDARD.encode(root.seal(what.as_bytes(), &self.0)?))
    }

    pub(super) fn unwrap(wrapped: &str, root: &Key, what: &str) -> Result<Key, Broken> {
        let sealed = STANDARD.decode(wrapped).map_err(|_| Broken)?;
        root.open(what.as_bytes(), &sealed)?.try_into().map(Key).map_err(|_| Broken)
    }

    fn derive(&self, purpose: &str) -> [u8; 32] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), purpose.as_bytes());
        let mut out = [0; 32];
        out.copy_from_slice(tag.as_ref());
        out
    }
}

/// Packs and unpacks the chunks of one backup.
pub(super) struct Coder {
    seal: Option<(Key, hmac::Key)>,
    compress: bool,
}

impl Coder {
    pub(super) fn new(key: Option<&Key>, compress: bool) -> Coder {
        let seal =
            key.map(|k| (Key(k.derive("chunks")), hmac::Key::new(hmac::HMAC_SHA256, &k.derive("ids"))));
        Coder { seal, compress }
    }

    fn sum(&self, parts: &[&[u8]]) -> Id {
        let mut id = ZEROES;
        match &self.seal {
            Some((_, key)) => {
                let mut hmac = hmac::Context::with_key(key);
                parts.iter().for_each(|p| hmac.update(p));
                id.copy_from_slice(hmac.sign().as_ref());
            }
            None => {
                let mut sha = Sha256::new();
                parts.iter().for_each(|p| sha.update(p));
                id.copy_from_slice(&sha.finalize());
            }
        }
        id
    }

    /// What a chunk is called.
    pub(super) fn id(&self, data: &[u8]) -> Id {
        if data.iter().all(|b| *b == 0) { ZEROES } else { self.sum(&[data]) }
    }

    /// What a list of chunks must sum up to, as the n-th of a backup of so many bytes.
    pub(super) fn sum_of_list(&self, backup: &str, bytes: u64, n: u64, list: &[u8]) -> Id {
        self.sum(&[backup.as_bytes(), &bytes.to_be_bytes(), &n.to_be_bytes(), list])
    }

    pub(super) fn pack(&self, id: &Id, data: &[u8]) -> Result<Bytes, Broken> {
        let mut flags = 0;
        let mut body = std::borrow::Cow::from(data);
        if self.compress {
            let packed = zstd::bulk::compress(data, LEVEL).map_err(|_| Broken)?;
            if packed.len() < data.len() {
                flags |= PACKED;
                body = packed.into();
            }
        }
        if let Some((key, _)) = &self.seal {
            flags |= SEALED;
            body = key.seal(&[&[flags], &id[..]].concat(), &body)?.into();
        }
        Ok([&[flags], &body[..]].concat().into())
    }

    /// A chunk of at most so many bytes, if it is the one of this id.
    pub(super) fn unpack(&self, id: &Id, stored: &[u8], most: usize) -> Result<Vec<u8>, Broken> {
        let (flags, body) = stored.split_first().ok_or(Broken)?;
        let body = match (&self.seal, flags & SEALED != 0) {
            (Some((key, _)), true) => key.open(&[&[*flags], &id[..]].concat(), body)?,
            (None, false) => body.to_vec(),
            _ => return Err(Broken),
        };
        let data = match flags & PACKED != 0 {
            true => zstd::bulk::decompress(&body, most).map_err(|_| Broken)?,
            false => body,
        };
        if data.len() <= most && self.id(&data) == *id { Ok(data) } else { Err(Broken) }
    }
}

/// What ends a backup and says what it is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) version: u32,
    pub(super) bytes: u64,
    /// What its lists of chunks sum up to, in hexadecimal.
    pub(super) lists: Vec<String>,
    /// The repository's key, wrapped by the root secret, where it is sealed.
    pub(super) key: Option<String>,
}

pub(super) const VERSION: u32 = 1;

pub(super) fn chunk_name(id: &Id) -> String {
    let id = hex::encode(id);
    format!("chunks/{}/{id}", &id[..2])
}

pub(super) fn list_name(backup: &str, n: u64) -> String {
    format!("backups/{backup}/{n}")
}

pub(super) fn head_name(backup: &str) -> String {
    format!("backups/{backup}/head")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_back_or_are_broken() {
        let key = Key([7; 32]);
        let even = vec![5; 100_000];
        let odd: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for sealed in [None, Some(&key)] {
            for compress in [false, true] {
                let coder = Coder::new(sealed, compress);
                for data in [&even, &odd] {
                    let id = coder.id(data);
                    let stored = coder.pack(&id, data).unwrap();
                    assert_eq!(&coder.unpack(&id, &stored, 100_000).unwrap(), data);
                    assert_eq!(stored.len() < 1000, compress && data == &even);
                    for at in [0, 1, stored.len() / 2, stored.len() - 1] {
                        let mut bad = stored.to_vec();
                        bad[at] ^= 1;
                        assert_eq!(coder.unpack(&id, &bad, 100_000), Err(Broken), "byte {at}");
                    }
                    assert_eq!(coder.unpack(&id, &stored[..stored.len() - 1], 100_000), Err(Broken));
                    assert_eq!(coder.unpack(&coder.id(b"x"), &stored, 100_000), Err(Broken));
                    assert!(coder.unpack(&id, &stored, 99_999).is_err());
                    let other = Coder::new(Some(&Key([8; 32])), true);
                    assert_ne!(other.id(data), id);
                    assert_eq!(other.unpack(&id, &stored, 100_000), Err(Broken));
                }
            }
        }
    }

    #[test]
    fn keys_open_only_for_what_they_were_wrapped() {
        let (root, key) = (Key::fresh().unwrap(), Key::fresh().unwrap());
        let wrapped = key.wrap(&root, "here").unwrap();
        assert!(Key::unwrap(&wrapped, &root, "here").is_ok_and(|k| k.0 == key.0));
        assert!(Key::unwrap(&wrapped, &root, "there").is_err());
        assert!(Key::unwrap(&wrapped, &Key::fresh().unwrap(), "here").is_err());
        assert!(Key::from_base64(&key.to_base64()).is_ok_and(|k| k.0 == key.0));
        assert!(Key::from_base64("c2hvcnQ=").is_err());
    }
}
