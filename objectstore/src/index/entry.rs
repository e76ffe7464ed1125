//! What an index shard holds: one omap for a share of a container's names.
//!
//! ```text
//! !                     header: exact counts and bytes, and whether the shard still takes changes
//! #                     where the shard stands when its rows move to other shards (see [`super::moves`])
//! d<name>..<order>      tombstone of one version
//! e<due>.<name>         the object <name> expires at <due> (10 digits of seconds)
//! g<tag>                tails that nothing refers to any more, to be removed when readers have left
//! l<version>            the keys that one change touched, while rows move
//! o<name>               the listing entry of an object
//! p<tag>                tails being written for a name; gone when the head that names them is listed
//! q<tag>                an event that somebody wants to be told of, in the order of time
//! u<name>\x01<upload>   a multipart upload in progress
//! v<name>..<order>      a version of an object that `o<name>` does not show: an older one, or a delete marker
//! x<name>               tombstone: the version at which the object was deleted
//! y<tag>                a change that the other end of a container in step is to hear of, in the order of time
//! z<name>               when an object of such a container was deleted
//! ```
//!
//! Every entry carries the RADOS version of the head write that it reports. Versions of one head only grow, also
//! across delete and re-creation, so whichever order two index changes arrive in, the newer head's is kept.

use crate::codec::{self, Damaged, Encoder};
use crate::digest::SumKind;
use crate::meta::{Kind, ObjectMeta};
use crate::names::{ContainerId, Tag};
use crate::policy::PolicyId;
use crate::version::VersionId;
use state::Timestamp;

pub(crate) const HEADER: &str = "!";
/// See [`super::moves::Standing`].
pub(crate) const STANDING: &str = "#";
/// Rows about a shard itself: they never move to another.
pub(crate) const LOG: &str = "l";
/// Events that somebody wants to be told of: see [`crate::notify`].
pub(crate) const EVENT: &str = "q";

/// What another container is to hear of, and what was deleted when: see [`crate::sync`].
pub(crate) const SYNC_ROW: &str = "y";
pub(crate) const SYNC_GRAVE: &str = "z";

/// Where the change is logged that was made to this version of a shard.
pub(crate) fn log_key(version: u64) -> String {
    format!("{LOG}{version:016x}")
}

/// The object name whose shard a row belongs to; none where it may be in any.
pub(crate) fn name_of(key: &str, value: &[u8]) -> Option<String> {
    let rest = key.get(1..)?;
    match key.as_bytes().first()? {
        b'o' | b'x' | b'z' => Some(rest.to_owned()),
        b'y' => std::str::from_utf8(value).ok().filter(|name| !name.is_empty()).map(str::to_owned),
        b'v' | b'd' => parse_version_key(rest),
        b'e' => rest.split_once('.').map(|(_, name)| name.to_owned()),
        b'u' => parse_upload_key(rest).map(|(name, _)| name.to_owned()),
        b'p' => {
            std::str::from_utf8(value).ok().map(|v| parse_intent(v).0.to_owned()).filter(|n| !n.is_empty())
        }
        _ => None,
    }
}

pub(crate) fn object_key(name: &str) -> String {
    format!("o{name}")
}

pub(crate) fn tombstone_key(name: &str) -> String {
    format!("x{name}")
}

pub(crate) fn intent_key(tag: Tag) -> String {
    format!("p{tag}")
}

/// What an intent says: whose tails they are, and where they lie. A name holds no NUL.
pub(crate) fn intent(name: &str, place: Option<PolicyId>) -> String {
    match place {
        None => name.to_owned(),
        Some(place) => format!("{name}\0{}", place.number()),
    }
}

pub(crate) fn parse_intent(text: &str) -> (&str, Option<PolicyId>) {
    match text.split_once('\0') {
        None => (text, None),
        Some((name, place)) => (name, place.parse().ok().and_then(PolicyId::from_number)),
    }
}

pub(crate) fn garbage_key(tag: Tag) -> String {
    format!("g{tag}")
}

pub(crate) fn event_key(event: Tag) -> String {
    format!("{EVENT}{event}")
}

pub(crate) fn sync_row_key(change: Tag) -> String {
    format!("{SYNC_ROW}{change}")
}

pub(crate) fn sync_grave_key(name: &str) -> String {
    format!("{SYNC_GRAVE}{name}")
}

pub(crate) fn expiry_key(due: i64, name: &str) -> String {
    format!("e{:010}.{name}", due.max(0))
}

pub(crate) fn upload_key(name: &str, upload: Tag) -> String {
    format!("u{name}\u{1}{upload}")
}

/// Behind a name, before what tells its versions apart. Its byte within a name is written as two, so that keys sort
/// as names do.
const END: &str = "\u{1}\u{1}";

pub(crate) fn folded(name: &str) -> String {
    name.replace('\u{1}', "\u{1}\u{2}")
}

pub(super) fn unfolded(key: &str) -> String {
    key.replace("\u{1}\u{2}", "\u{1}")
}

/// The rows of all versions of a name begin with this.
pub(crate) fn versions_prefix(name: &str) -> String {
    format!("v{}{END}", folded(name))
}

pub(crate) fn version_key(name: &str, order: Tag) -> String {
    format!("{}{}", versions_prefix(name), order.inverted())
}

/// The name that a version's row without its `v` is of.
pub(crate) fn parse_version_key(rest: &str) -> Option<String> {
    let (name, order) = rest.rsplit_once(END)?;
    (order.len() == 32).then(|| unfolded(name))
}

pub(crate) fn buried_version_key(name: &str, order: Tag) -> String {
    format!("d{}{END}{order}", folded(name))
}

/// The name and upload of an upload's key without its `u`.
pub(crate) fn parse_upload_key(rest: &str) -> Option<(&str, Tag)> {
    let at = rest.len().checked_sub(32)?;
    let (name, id) = (rest.get(..at)?, rest.get(at..)?);
    Some((name.strip_suffix('\u{1}')?, Tag::parse(id)?))
}

/// A shard's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Header {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    /// Since when the container is being deleted and nothing may be added, in microseconds since the epoch;
    /// zero while it is not.
    pub(crate) closed: i64,
    /// Versions beside the objects that are shown, delete markers among them, and their bytes.
    pub(crate) versions: u64,
    pub(crate) version_bytes: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.number(1, self.objects).number(2, self.bytes).number_opt(3, self.closed as u64);
        e.number_opt(4, self.versions).number_opt(5, self.version_bytes);
        e.done()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let mut h = Header::default();
        codec::decode(value, |f| {
            match f.id {
                1 => h.objects = f.number()?,
                2 => h.bytes = f.number()?,
                3 => h.closed = f.number()? as i64,
                4 => h.versions = f.number()?,
                5 => h.version_bytes = f.number()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(h)
    }
}

/// What a listing tells of one object, and what its removal must know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// RADOS version of the head write that this entry reports.
    pub version: u64,
    /// Bytes of content; of a static large object, of its manifest. Counted in the container's bytes.
    pub size: u64,
    /// Microseconds since the epoch.
    pub modified: i64,
    pub etag: String,
    pub content_type: String,
    /// A static large object's own ETag and the bytes of all its segments.
    pub large: Option<Box<(String, u64)>>,
    pub delete_at: Option<i64>,
    pub(crate) tag: Option<Tag>,
    /// Tails written under `tag`.
    pub(crate) tails: u64,
    pub(crate) multipart: bool,
    /// Where it stands among the versions of its name; absent where there were none when it was written.
    pub(crate) order: Option<Tag>,
    /// It has a version id of its own. If not, it is the null version.
    pub(crate) own_id: bool,
    /// A delete marker.
    pub marker: bool,
    /// Of a Swift symlink: its headers, which listings show.
    pub link: Vec<(String, String)>,
    /// The policy that holds its content, where that is not the container's.
    pub(crate) place: Option<PolicyId>,
    pub sum: Option<SumKind>,
    /// The project that owns it by S3's rules, where that is not the container's.
    pub(crate) owner: String,
}

impl Entry {
    pub(crate) fn of(meta: &ObjectMeta, version: u64) -> Self {
        Entry {
            version,
            size: meta.size,
            modified: meta.modified.0.micros(),
            etag: meta.etag.clone(),
            content_type: meta.content_type.clone(),
            large: meta.large.as_ref().map(|l| Box::new((l.etag.clone(), l.size))),
            // Not while it is locked: it is listed then, whatever the time.
            delete_at: meta.delete_at.filter(|_| !meta.lock.holds(Timestamp::now(), false)),
            tag: meta.layout.tag,
            tails: if meta.kind == Kind::Multipart { 0 } else { meta.layout.tails(meta.stored()) },
            multipart: meta.kind == Kind::Multipart,
            order: meta.order,
            own_id: meta.own_id,
            marker: meta.kind == Kind::Marker,
            link: meta.headers.iter().filter(|(n, _)| n.starts_with("x-symlink-")).cloned().collect(),
            place: meta.place,
            sum: meta.checksum.as_ref().and_then(SumKind::of),
            owner: meta.owner.clone(),
        }
    }

    /// The version that this is.
    pub fn id(&self) -> VersionId {
        VersionId::of(self.order, self.own_id)
    }

    /// Where it stands among the versions of its name: later ones are greater.
    pub(crate) fn order(&self) -> Tag {
        self.order.unwrap_or_else(|| Tag::at(self.modified()))
    }

    /// Bytes as a listing shows them: of a static large object, those of its segments.
    pub fn shown_size(&self) -> u64 {
        self.large.as_deref().map_or(self.size, |(_, size)| *size)
    }

    /// The ETag as S3 shows it: of a static large object, its own.
    pub(crate) fn shown_etag(&self) -> &str {
        self.large.as_deref().map_or(&self.etag, |(etag, _)| etag)
    }

    pub fn modified(&self) -> Timestamp {
        Timestamp(self.modified)
    }

    pub fn expired(&self, now: Timestamp) -> bool {
        self.delete_at.is_some_and(|at| at <= now.secs())
    }

    /// The record that hands this entry's tails to the sweep.
    pub(crate) fn garbage(&self, now: Timestamp) -> Option<(Tag, Garbage)> {
        let (tails, multipart, place) = (self.tails, self.multipart, self.place);
        Some((self.tag?, Garbage { since: now.micros(), tails, multipart, place }))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.number(1, self.version).number_opt(2, self.size).number(3, self.modified as u64);
        // An MD5 takes 16 bytes as a number and 32 as a text; most entries of most containers have one.
        let mut md5 = [0; 16];
        match hex::decode_to_slice(&self.etag, &mut md5) {
            Ok(()) => e.bytes(4, &md5),
            Err(_) => e.text(5, &self.etag),
        };
        e.text_opt(6, &self.content_type)
            .number_opt(9, self.delete_at.unwrap_or(0) as u64)
            .number_opt(11, self.tails)
            .number_opt(12, u64::from(self.multipart));
        if let Some((etag, size)) = self.large.as_deref() {
            e.text(7, etag).number(8, *size);
        }
        if let Some(tag) = &self.tag {
            e.bytes(10, tag.as_bytes());
        }
        if let Some(order) = &self.order {
            e.bytes(13, order.as_bytes());
        }
        for (name, value) in &self.link {
            e.pair(40, name, value);
        }
        e.number_opt(14, u64::from(self.own_id)).number_opt(15, u64::from(self.marker));
        e.number_opt(41, self.place.map_or(0, PolicyId::number));
        e.number_opt(42, self.sum.map_or(0, SumKind::number)).text_opt(43, &self.owner);
        e.done()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let mut t = Entry::default();
        let mut large = (String::new(), 0);
        codec::decode(value, |f| {
            match f.id {
                1 => t.version = f.number()?,
                2 => t.size = f.number()?,
                3 => t.modified = f.number()? as i64,
                4 => t.etag = hex::encode(f.array::<16>()?),
                5 => t.etag = f.text()?,
                6 => t.content_type = f.text()?,
                7 => large.0 = f.text()?,
                8 => large.1 = f.number()?,
                9 => t.delete_at = Some(f.number()? as i64),
                10 => t.tag = Some(Tag::from_bytes(f.bytes)?),
                11 => t.tails = f.number()?,
                12 => t.multipart = f.number()? != 0,
                13 => t.order = Some(Tag::from_bytes(f.bytes)?),
                14 => t.own_id = f.number()? != 0,
                15 => t.marker = f.number()? != 0,
                40 => t.link.push(f.pair()?),
                41 => t.place = Some(PolicyId::from_number(f.number()?).ok_or(Damaged)?),
                42 => t.sum = SumKind::of_number(f.number()?),
                43 => t.owner = f.text()?,
                _ => {}
            }
            Ok(())
        })?;
        t.large = (!large.0.is_empty()).then(|| Box::new(large));
        Ok(t)
    }
}

/// Tails to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Garbage {
    /// Since when nothing refers to them, in microseconds since the epoch.
    pub(crate) since: i64,
    /// How many there are; zero where that was not known.
    pub(crate) tails: u64,
    /// The tag is a multipart upload's: its record says what to remove.
    pub(crate) multipart: bool,
    /// The policy that holds them, where that is not the container's.
    pub(crate) place: Option<PolicyId>,
}

impl Garbage {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.number(1, self.since as u64).number_opt(2, self.tails).number_opt(3, u64::from(self.multipart));
        e.number_opt(4, self.place.map_or(0, PolicyId::number));
        e.done()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let mut g = Garbage { since: 0, tails: 0, multipart: false, place: None };
        codec::decode(value, |f| {
            match f.id {
                1 => g.since = f.number()? as i64,
                2 => g.tails = f.number()?,
                3 => g.multipart = f.number()? != 0,
                4 => g.place = Some(PolicyId::from_number(f.number()?).ok_or(Damaged)?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(g)
    }
}

/// That an object was deleted: outlives every index change that was under way at the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tombstone {
    pub(crate) version: u64,
    pub(crate) since: i64,
    /// What was there may go on as a version behind the head.
    pub(crate) versions: bool,
}

impl Tombstone {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.number(1, self.version).number(2, self.since as u64).number_opt(3, u64::from(self.versions));
        e.done()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let mut t = Tombstone { version: 0, since: 0, versions: false };
        codec::decode(value, |f| {
            match f.id {
                1 => t.version = f.number()?,
                2 => t.since = f.number()? as i64,
                3 => t.versions = f.number()? != 0,
                _ => {}
            }
            Ok(())
        })?;
        Ok(t)
    }
}

/// Where an index shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ShardId {
    pub(crate) container: ContainerId,
    pub(crate) generation: u32,
    pub(crate) shard: u32,
    /// How many shards there are of its generation.
    pub(crate) of: u32,
}

impl ShardId {
    pub(crate) fn oid(&self) -> String {
        crate::names::shard(self.container, self.generation, self.shard)
    }

    /// All shards of a generation.
    pub(crate) fn all(container: ContainerId, generation: u32, of: u32) -> Vec<ShardId> {
        (0..of).map(|shard| ShardId { container, generation, shard, of }).collect()
    }

    /// The shards that this one's rows move to when the next generation has `shards`, a multiple of this one's: names
    /// that were together with others stay with some of them, so every shard can move by itself.
    pub(crate) fn children(&self, shards: u32) -> impl Iterator<Item = ShardId> + use<> {
        let (from, generation) = (*self, self.generation + 1);
        (from.shard..shards).step_by(from.of.max(1) as usize).map(move |shard| ShardId {
            shard,
            generation,
            of: shards,
            ..from
        })
    }

    /// The one of `children` that a name is in.
    pub(crate) fn child(&self, shards: u32, name: &str) -> ShardId {
        let shard = crate::names::shard_of(name, shards);
        ShardId { shard, generation: self.generation + 1, of: shards, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_are_small() {
        let entry = Entry {
            version: 123_456,
            size: 4096,
            modified: 1_792_544_523_000_004,
            etag: "d41d8cd98f00b204e9800998ecf8427e".into(),
            content_type: "application/octet-stream".into(),
            ..Entry::default()
        };
        assert_eq!(Entry::decode(&entry.encode()), Ok(entry.clone()));
        assert!(entry.encode().len() < 72, "{}", entry.encode().len());
        let large = Entry {
            etag: "d41d8cd98f00b204e9800998ecf8427e-12".into(),
            large: Some(Box::new(("abc".into(), 9))),
            delete_at: Some(5),
            tag: Some(Tag::new()),
            tails: 3,
            multipart: true,
            order: Some(Tag::new()),
            own_id: true,
            marker: true,
            place: PolicyId::from_number(9),
            sum: SumKind::of_number(5),
            ..entry
        };
        assert_eq!(Entry::decode(&large.encode()), Ok(large));
    }

    #[test]
    fn version_keys_sort_by_name_and_then_newest_first() {
        let (old, new) = (Tag::at(Timestamp(1)), Tag::at(Timestamp(2)));
        let mut keys = Vec::new();
        for name in ["a", "a\u{1}", "a\u{1}\u{1}b", "a\u{1}\u{2}", "a\u{2}", "a b", "aü"] {
            for order in [new, old] {
                let key = version_key(name, order);
                assert_eq!(parse_version_key(&key[1..]).as_deref(), Some(name));
                keys.push(key);
            }
        }
        assert!(keys.is_sorted(), "{keys:?}");
    }

    #[test]
    fn intents_are_read_back() {
        for place in [None, PolicyId::from_number(u64::from(u32::MAX))] {
            assert_eq!(parse_intent(&intent("a/ü", place)), ("a/ü", place));
        }
    }

    #[test]
    fn rows_know_whose_they_are() {
        let (tag, name) = (Tag::new(), "a.b\u{1}/ü");
        let keys = [
            object_key(name),
            tombstone_key(name),
            version_key(name, tag),
            buried_version_key(name, tag),
            expiry_key(7, name),
            sync_grave_key(name),
            upload_key(name, tag),
        ];
        for key in keys {
            assert_eq!(name_of(&key, b"").as_deref(), Some(name), "{key:?}");
        }
        assert_eq!(name_of(&intent_key(tag), intent(name, None).as_bytes()).as_deref(), Some(name));
        assert_eq!(name_of(&sync_row_key(tag), name.as_bytes()).as_deref(), Some(name));
        assert_eq!(name_of(&garbage_key(tag), b"x"), None);
    }

    #[test]
    fn names_stay_among_a_shards_children() {
        let container = ContainerId::random();
        for shard in ShardId::all(container, 3, 6) {
            let children: Vec<ShardId> = shard.children(24).collect();
            assert_eq!(children.len(), 4);
            assert_eq!(children[0], ShardId { generation: 4, of: 24, ..shard });
        }
        for i in 0..500 {
            let name = format!("key-{i}");
            let shard = ShardId { container, generation: 3, shard: crate::names::shard_of(&name, 6), of: 6 };
            assert!(shard.children(24).any(|c| c == shard.child(24, &name)), "{name}");
        }
    }

    #[test]
    fn upload_keys_are_read_back() {
        let id = Tag::new();
        let key = upload_key("a\u{1}b/ü", id);
        assert_eq!(parse_upload_key(key.strip_prefix('u').unwrap()), Some(("a\u{1}b/ü", id)));
        assert_eq!(parse_upload_key("short"), None);
    }
}
