//! How things are called in RADOS, and the ids that the names are made of.
//!
//! One container's objects, all under its id, which is never used again:
//!
//! ```text
//! h.<container>.<object name>   head: metadata in the xattr `m`, the first bytes of the content as data
//! v.<container>.<id>.<name>     a version that is not the latest: as a head, under its version id
//! t.<container>.<tag>.<n>       tail stripe n of the content written under <tag>
//! i.<container>.<gen>.<shard>   index shard (omap), in the index pool
//! u.<container>.<upload>        parts of a multipart upload (omap), in the index pool
//! ```
//!
//! A tag is made for every body and never used again, so a tail is written once and read by whoever holds
//! the head that names it. Its first half is the time in microseconds: a sweep can tell its age from the name.

use crate::codec::Damaged;
use crate::version::VersionId;
use std::fmt;

/// A container's identity: outlives renames of nothing and reuse of its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(u128);

impl ContainerId {
    /// A fresh one.
    pub fn random() -> Self {
        ContainerId(uuid::Uuid::new_v4().as_u128())
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(ContainerId))?
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of one body's tails, of a multipart upload, of a process: unique, and ordered by time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag([u8; 16]);

impl Tag {
    pub(crate) fn new() -> Self {
        let now = chrono::Utc::now().timestamp_micros() as u64;
        let mut tag = [0; 16];
        tag[..8].copy_from_slice(&now.to_be_bytes());
        tag[8..].copy_from_slice(&rand::random::<u64>().to_be_bytes());
        Tag(tag)
    }

    /// The tag that stands for a moment: the least of all that were made then.
    pub(crate) fn at(moment: state::Timestamp) -> Self {
        let mut tag = [0; 16];
        tag[..8].copy_from_slice(&moment.micros().to_be_bytes());
        Tag(tag)
    }

    /// A fresh one that is greater than `before`, whatever the clocks of other processes said.
    pub(crate) fn after(before: Tag) -> Self {
        let mut tag = Tag::new();
        if tag.micros() <= before.micros() {
            tag.0[..8].copy_from_slice(&before.micros().saturating_add(1).to_be_bytes());
        }
        tag
    }

    /// As text that sorts the other way round.
    pub(crate) fn inverted(self) -> Tag {
        Tag(self.0.map(|b| !b))
    }

    /// When it was made, in microseconds since the epoch.
    pub(crate) fn micros(self) -> i64 {
        let mut t = [0; 8];
        t.copy_from_slice(&self.0[..8]);
        i64::from_be_bytes(t)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut tag = [0; 16];
        hex::decode_to_slice(text, &mut tag).ok()?;
        Some(Tag(tag))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Damaged> {
        Ok(Tag(bytes.try_into().map_err(|_| Damaged)?))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Longest object name that either door accepts, in bytes of UTF-8.
pub const MAX_OBJECT_NAME: usize = 1024;

pub(crate) fn head(container: ContainerId, name: &str) -> String {
    format!("h.{container}.{name}")
}

pub(crate) fn version(container: ContainerId, id: VersionId, name: &str) -> String {
    format!("v.{container}.{id}.{name}")
}

/// The container, the version and the object name that a version's RADOS name stands for.
pub(crate) fn parse_version(oid: &str) -> Option<(ContainerId, VersionId, &str)> {
    let rest = oid.strip_prefix("v.")?;
    let id = ContainerId::parse(rest.get(..32)?)?;
    let (version, name) = rest[32..].strip_prefix('.')?.split_once('.')?;
    Some((id, VersionId::parse(version)?, name))
}

pub(crate) fn tail(container: ContainerId, tag: Tag, n: u64) -> String {
    format!("t.{container}.{tag}.{n}")
}

pub(crate) fn shard(container: ContainerId, generation: u32, shard: u32) -> String {
    format!("i.{container}.{generation}.{shard}")
}

pub(crate) fn upload(container: ContainerId, upload: Tag) -> String {
    format!("u.{container}.{upload}")
}

/// The object in which processes say that they are writing.
pub(crate) const PROCESSES: &str = "processes";

/// The object with events of containers that were deleted before their events were delivered.
pub(crate) const EVENTS: &str = "events";

/// The object that processes watch to hear of changes of containers.
pub(crate) const FACTS: &str = "facts";

/// The container and the object name that a head's RADOS name stands for.
pub(crate) fn parse_head(oid: &str) -> Option<(ContainerId, &str)> {
    let rest = oid.strip_prefix("h.")?;
    let id = ContainerId::parse(rest.get(..32)?)?;
    Some((id, rest[32..].strip_prefix('.')?))
}

/// The shard, of `shards`, that lists `name`: FNV-1a, mixed. Part of the layout on disk: never change it.
pub(crate) fn shard_of(name: &str, shards: u32) -> u32 {
    let mut h = 0xcbf2_9ce4_8422_2325_u64;
    for b in name.bytes() {
        h = (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    h ^= h >> 32;
    h = h.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h ^= h >> 29;
    u32::try_from(h % u64::from(shards.max(1))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let (id, tag) = (ContainerId::random(), Tag::new());
        assert_eq!(parse_head(&head(id, "a/b.c ü")), Some((id, "a/b.c ü")));
        assert_eq!(parse_head("h.nonsense"), None);
        assert_eq!(Tag::parse(&tag.to_string()), Some(tag));
        for version in [VersionId::Null, VersionId::Own(tag)] {
            assert_eq!(parse_version(&self::version(id, version, "a.b/c")), Some((id, version, "a.b/c")));
        }
        let far = Tag::at(state::Timestamp(i64::MAX / 2));
        assert!(Tag::after(tag) > tag && Tag::after(far) > far);
        assert!((chrono::Utc::now().timestamp_micros() - tag.micros()).abs() < 60_000_000);
    }

    #[test]
    fn the_shard_of_a_name_is_part_of_the_layout() {
        let got: Vec<u32> =
            ["", "a", "b", "dir/ü", "photos/2026/1.jpg"].iter().map(|n| shard_of(n, 64)).collect();
        assert_eq!(got, SHARDS_ON_DISK);
        let mut spread = [0u32; 8];
        (0..8000).for_each(|i| spread[shard_of(&format!("key-{i:08}"), 8) as usize] += 1);
        assert!(spread.iter().all(|n| (850..1150).contains(n)), "{spread:?}");
    }

    const SHARDS_ON_DISK: [u32; 5] = [51, 34, 5, 46, 38];
}
