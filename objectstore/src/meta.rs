//! What a head object says of its object: one xattr, written with the content in one operation.

use crate::codec::{self, Damaged, Encoder};
use crate::grants::Grant;
use crate::names::Tag;
use crate::policy::PolicyId;
use crate::seal::{Seal, sealed_len};
use crate::version::{Lock, LockMode, Retention, VersionId};
use state::Timestamp;

/// The xattr that holds an [`ObjectMeta`].
pub(crate) const META_XATTR: &str = "m";

/// How an object's content is to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// The bytes themselves, in the head and its tails.
    #[default]
    Plain,
    /// The head's data lists the parts of an S3 multipart upload; [`Layout::tag`] is the upload.
    Multipart,
    /// The stored bytes are a Swift static large object's manifest, in JSON.
    Slo,
    /// A delete marker: a version that says that there is no object.
    Marker,
}

/// Where an object's stored bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Layout {
    /// Bytes in the head object.
    pub head: u64,
    /// The name of the tails that hold the rest, or of the multipart upload.
    pub tag: Option<Tag>,
    /// Bytes in each tail but the last.
    pub stripe: u64,
}

impl Layout {
    /// How many tails hold the rest of `size` stored bytes.
    pub(crate) fn tails(&self, size: u64) -> u64 {
        if self.stripe == 0 { 0 } else { size.saturating_sub(self.head).div_ceil(self.stripe) }
    }
}

/// A Swift static large object as a whole: what a listing and a HEAD show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Large {
    /// MD5, in hexadecimal, of the segments' ETags.
    pub etag: String,
    /// Bytes of all segments.
    pub size: u64,
}

/// A checksum that a client asked for beside the ETag, as S3 names and writes it (`CRC32`, base64).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    pub algorithm: String,
    pub value: String,
}

impl Checksum {
    /// Whether it is over the sums of an object's parts, of which it then tells how many there are.
    pub(crate) fn is_composite(&self) -> bool {
        self.value.contains('-')
    }
}

/// Everything about an object but its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectMeta {
    /// Bytes of content; of a static large object, of its manifest.
    pub size: u64,
    /// MD5 in hexadecimal; of a multipart object with `-<parts>` behind it. Without quotes.
    pub etag: String,
    /// When the content or, through POST, the metadata was written.
    pub modified: Modified,
    pub content_type: String,
    pub kind: Kind,
    pub layout: Layout,
    /// `content-encoding`, `content-disposition`, `cache-control`, `expires`, `content-language`,
    /// `x-object-manifest`: sent back as they came. Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The user's metadata: the part of the name after `X-Object-Meta-` or `x-amz-meta-`, in lower case.
    pub user: Vec<(String, String)>,
    /// Seconds since the epoch from which the object is gone.
    pub delete_at: Option<i64>,
    pub large: Option<Large>,
    pub checksum: Option<Checksum>,
    /// Parts of a multipart object.
    pub parts: u32,
    /// S3's tags, in the order in which they were given.
    pub tags: Vec<(String, String)>,
    /// The project that wrote it, where that is not the container's and the object is its own.
    pub owner: String,
    /// The object's own ACL; absent, it is as its container is.
    pub grants: Option<Vec<Grant>>,
    /// How the content is encrypted, if it is.
    pub seal: Option<Seal>,
    /// Where it stands among the versions of its name, and whether that is its version id: see
    /// [`ObjectMeta::version_id`].
    pub(crate) order: Option<Tag>,
    pub(crate) own_id: bool,
    pub lock: Lock,
    /// The policy that holds its content, where that is not the container's: all of it is then in tails.
    pub(crate) place: Option<PolicyId>,
}

/// A point in time, in microseconds since the epoch; zero until it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Modified(pub Timestamp);

impl Default for Modified {
    fn default() -> Self {
        Modified(Timestamp(0))
    }
}

impl ObjectMeta {
    /// Whether the object's time has run out. A lock is stronger.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.delete_at.is_some_and(|at| at <= now.secs()) && !self.lock.holds(now, false)
    }

    /// The version that this is.
    pub fn version_id(&self) -> VersionId {
        VersionId::of(self.order, self.own_id)
    }

    pub(crate) fn order(&self) -> Tag {
        self.order.unwrap_or_else(|| Tag::at(self.modified.0))
    }

    /// Whether one of these ETags is the object's; `*` is any.
    pub(crate) fn answers_to(&self, etags: &[String]) -> bool {
        let shown = self.large.as_ref().map_or(&self.etag, |l| &l.etag);
        etags.iter().any(|e| e == "*" || e == shown)
    }

    /// A delete marker is no object.
    pub fn is_marker(&self) -> bool {
        self.kind == Kind::Marker
    }

    /// Whether this is an object to who asks for one by its name: no delete marker, and its time has not run out.
    pub(crate) fn is_there(&self) -> bool {
        !self.is_marker() && !self.expired(Timestamp::now())
    }

    /// Bytes of content as they lie in head and tails.
    pub(crate) fn stored(&self) -> u64 {
        if self.seal.is_some() { sealed_len(self.size) } else { self.size }
    }

    /// A stored header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.number_opt(1, self.size)
            .text(2, &self.etag)
            .number(3, self.modified.0.micros() as u64)
            .text_opt(4, &self.content_type)
            .number_opt(5, self.kind as u64)
            .number_opt(6, self.layout.head)
            .number_opt(8, self.layout.stripe)
            .number_opt(11, self.delete_at.unwrap_or(0) as u64)
            .number_opt(16, u64::from(self.parts));
        if let Some(tag) = &self.layout.tag {
            e.bytes(7, tag.as_bytes());
        }
        for (k, v) in &self.headers {
            e.pair(9, k, v);
        }
        for (k, v) in &self.user {
            e.pair(10, k, v);
        }
        for (k, v) in &self.tags {
            e.pair(17, k, v);
        }
        e.text_opt(40, &self.owner);
        if let Some(seal) = &self.seal {
            e.bytes(42, &seal.wrapped).text_opt(43, seal.customer.as_deref().unwrap_or_default());
        }
        e.number_opt(44, self.place.map_or(0, PolicyId::number));
        if let Some(grants) = &self.grants {
            e.text(41, &serde_json::to_string(grants).unwrap_or_default());
        }
        if let Some(order) = &self.order {
            e.bytes(50, order.as_bytes()).number_opt(51, u64::from(self.own_id));
        }
        if let Some(retention) = &self.lock.retention {
            e.number(52, retention.mode as u64 + 1).number(53, retention.until.micros() as u64);
        }
        e.number_opt(54, self.lock.legal_hold.map_or(0, |held| if held { 1 } else { 2 }));
        if let Some(large) = &self.large {
            e.text(12, &large.etag).number(13, large.size);
        }
        if let Some(sum) = &self.checksum {
            e.text(14, &sum.algorithm).text(15, &sum.value);
        }
        e.done()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let mut m = ObjectMeta::default();
        let (mut wrapped, mut customer) = (None, None);
        let mut large = Large { etag: String::new(), size: 0 };
        let mut sum = Checksum { algorithm: String::new(), value: String::new() };
        let (mut mode, mut until) = (None, Timestamp(0));
        codec::decode(value, |f| {
            match f.id {
                1 => m.size = f.number()?,
                2 => m.etag = f.text()?,
                3 => m.modified = Modified(Timestamp(f.number()? as i64)),
                4 => m.content_type = f.text()?,
                5 => {
                    m.kind = match f.number()? {
                        0 => Kind::Plain,
                        1 => Kind::Multipart,
                        2 => Kind::Slo,
                        3 => Kind::Marker,
                        _ => return Err(Damaged),
                    }
                }
                6 => m.layout.head = f.number()?,
                7 => m.layout.tag = Some(Tag::from_bytes(f.bytes)?),
                8 => m.layout.stripe = f.number()?,
                9 => m.headers.push(f.pair()?),
                10 => m.user.push(f.pair()?),
                11 => m.delete_at = Some(f.number()? as i64),
                12 => large.etag = f.text()?,
                13 => large.size = f.number()?,
                14 => sum.algorithm = f.text()?,
                15 => sum.value = f.text()?,
                16 => m.parts = u32::try_from(f.number()?).map_err(|_| Damaged)?,
                17 => m.tags.push(f.pair()?),
                40 => m.owner = f.text()?,
                42 => wrapped = Some(f.bytes.to_vec()),
                43 => customer = Some(f.text()?),
                44 => m.place = Some(PolicyId::from_number(f.number()?).ok_or(Damaged)?),
                50 => m.order = Some(Tag::from_bytes(f.bytes)?),
                51 => m.own_id = f.number()? != 0,
                52 => {
                    mode = match f.number()? {
                        1 => Some(LockMode::Governance),
                        2 => Some(LockMode::Compliance),
                        _ => return Err(Damaged),
                    }
                }
                53 => until = Timestamp(f.number()? as i64),
                54 => m.lock.legal_hold = Some(f.number()? == 1),
                41 => m.grants = Some(serde_json::from_str(&f.text()?).map_err(|_| Damaged)?),
                _ => {}
            }
            Ok(())
        })?;
        m.lock.retention = mode.map(|mode| Retention { mode, until });
        m.seal = wrapped.map(|wrapped| Seal { wrapped, customer });
        m.large = (!large.etag.is_empty()).then_some(large);
        m.checksum = (!sum.algorithm.is_empty()).then_some(sum);
        Ok(m)
    }
}

/// One part of a multipart object, in the order of the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub number: u32,
    pub size: u64,
    pub etag: String,
    pub tag: Tag,
    pub stripe: u64,
    pub modified: Timestamp,
    pub checksum: Option<Checksum>,
    /// What the key of a sealed part is derived with; empty for one that is not sealed.
    pub salt: Vec<u8>,
}

impl Part {
    /// Bytes that the part takes in storage.
    pub(crate) fn stored(&self) -> u64 {
        if self.salt.is_empty() { self.size } else { sealed_len(self.size) }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.number(1, u64::from(self.number))
            .number_opt(2, self.size)
            .text(3, &self.etag)
            .bytes(4, self.tag.as_bytes())
            .number(5, self.stripe)
            .number(6, self.modified.micros() as u64);
        if let Some(sum) = &self.checksum {
            e.text(7, &sum.algorithm).text(8, &sum.value);
        }
        if !self.salt.is_empty() {
            e.bytes(9, &self.salt);
        }
        e.done()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let (mut number, mut size, mut etag, mut tag, mut stripe, mut modified) =
            (0, 0, String::new(), None, 0, 0);
        let mut salt = Vec::new();
        let mut sum = Checksum { algorithm: String::new(), value: String::new() };
        codec::decode(value, |f| {
            match f.id {
                1 => number = u32::try_from(f.number()?).map_err(|_| Damaged)?,
                2 => size = f.number()?,
                3 => etag = f.text()?,
                4 => tag = Some(Tag::from_bytes(f.bytes)?),
                5 => stripe = f.number()?,
                6 => modified = f.number()? as i64,
                7 => sum.algorithm = f.text()?,
                8 => sum.value = f.text()?,
                9 => salt = f.bytes.to_vec(),
                _ => {}
            }
            Ok(())
        })?;
        let checksum = (!sum.algorithm.is_empty()).then_some(sum);
        Ok(Part {
            number,
            size,
            etag,
            tag: tag.ok_or(Damaged)?,
            stripe,
            modified: Timestamp(modified),
            checksum,
            salt,
        })
    }

    /// The data of a multipart object's head: its parts, in order.
    pub(crate) fn encode_all(parts: &[Part]) -> Vec<u8> {
        let mut e = Encoder::new();
        for part in parts {
            e.bytes(1, &part.encode());
        }
        e.done()
    }

    pub(crate) fn decode_all(value: &[u8]) -> Result<Vec<Part>, Damaged> {
        let mut parts = Vec::new();
        codec::decode(value, |f| {
            if f.id == 1 {
                parts.push(Part::decode(f.bytes)?);
            }
            Ok(())
        })?;
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_comes_back_as_it_was_written() {
        let meta = ObjectMeta {
            size: 9_000_000,
            etag: "d41d8cd98f00b204e9800998ecf8427e".into(),
            modified: Modified(Timestamp(1_792_544_523_000_004)),
            content_type: "text/plain; charset=UTF-8".into(),
            kind: Kind::Slo,
            layout: Layout { head: 4 << 20, tag: Some(Tag::new()), stripe: 4 << 20 },
            headers: vec![("content-encoding".into(), "gzip".into())],
            user: vec![("colour".into(), "".into()), ("größe".into(), "ü".into())],
            delete_at: Some(1_900_000_000),
            large: Some(Large { etag: "x".into(), size: 7 }),
            checksum: Some(Checksum { algorithm: "CRC32".into(), value: "AAAAAA==".into() }),
            parts: 3,
            tags: vec![("k".into(), "v".into()), ("leer".into(), "".into())],
            ..ObjectMeta::default()
        };
        assert_eq!(ObjectMeta::decode(&meta.encode()), Ok(meta.clone()));
        assert_eq!(meta.layout.tails(meta.size), 2);
        assert!(meta.encode().len() < 290);
    }

    #[test]
    fn an_object_with_an_acl() {
        use crate::grants::{Grantee, Permission};
        let grants = Some(vec![Grant::new(Grantee::Project("q".into()), Permission::Read)]);
        let seal = Some(Seal { customer: Some("m".into()), wrapped: vec![1, 2] });
        let place = PolicyId::from_number(7);
        let meta =
            ObjectMeta { etag: "e".into(), owner: "q".into(), grants, seal, place, ..ObjectMeta::default() };
        assert_eq!(ObjectMeta::decode(&meta.encode()), Ok(meta.clone()));
        // No grants are not the same as no ACL.
        let none = ObjectMeta { grants: Some(Vec::new()), ..meta };
        assert_eq!(ObjectMeta::decode(&none.encode()), Ok(none));
    }

    #[test]
    fn a_version_that_is_kept() {
        let order = Some(Tag::new());
        for mode in LockMode::ALL {
            let retention = Some(Retention { mode, until: Timestamp(7) });
            let lock = Lock { retention, legal_hold: Some(mode == LockMode::Compliance) };
            let meta = ObjectMeta {
                etag: "e".into(),
                order,
                own_id: true,
                lock,
                kind: Kind::Marker,
                ..ObjectMeta::default()
            };
            assert_eq!(ObjectMeta::decode(&meta.encode()), Ok(meta.clone()));
        }
    }

    #[test]
    fn ten_thousand_parts_fit_the_head() {
        let part = |number| Part {
            number,
            size: 5 << 20,
            etag: "d41d8cd98f00b204e9800998ecf8427e".into(),
            tag: Tag::new(),
            stripe: 4 << 20,
            modified: Timestamp::now(),
            checksum: Some(Checksum { algorithm: "CRC64NVME".into(), value: "AAAAAAAAAAA=".into() }),
            salt: vec![7; 16],
        };
        let parts: Vec<Part> = (1..=10_000).map(part).collect();
        let data = Part::encode_all(&parts);
        assert!(data.len() < 2 << 20, "{}", data.len());
        assert_eq!(Part::decode_all(&data), Ok(parts));
    }
}
