//! Multipart uploads: parts are written as tails, each under a tag of its own; completing an upload writes a head
//! that lists them. No byte is copied.
//!
//! An upload is on record in an object of its own in the index pool (an omap), and in the index shard of its name:
//!
//! ```text
//! a        the object's metadata, as it was given when the upload began
//! k        the object's name
//! s        state: `open`, `closing` (a completion has begun), `done`, `aborted`
//! n<part>  a part that was uploaded (5 digits)
//! p<tag>   tails of this tag may exist
//! ```
//!
//! After completion the record stays: it is what the sweep reads when the object is replaced or deleted.

use crate::container::Container;
use crate::digest::{Algorithm, Running};
use crate::index::entry::{self, Garbage, ShardId};
use crate::index::{Change, Index};
use crate::meta::{Checksum, Kind, Layout, Modified, ObjectMeta, Part};
use crate::names::{self, Tag};
use crate::object::Home;
use crate::object::{Body, Condition, NewObject, Written, check_name};
use crate::policy::PolicyId;
use crate::{ObjectError, ObjectStore, cause, fail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::future::try_join_all;
use md5::{Digest, Md5};
use pool::{Cmp, OptionalExt, ReadOp, WriteOp};
use state::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

const OPEN: &str = "open";
const CLOSING: &str = "closing";
const DONE: &str = "done";
const ABORTED: &str = "aborted";
/// Kept in the place of an upload's checksum: the object's is to be over its content, not over its parts' sums.
const FULL_OBJECT: &str = "FULL_OBJECT";
/// S3's limits.
pub(crate) const MOST_PARTS: u32 = 10_000;
const MOST_BYTES: u64 = 5 << 40;

/// An upload in progress.
#[derive(Debug, Clone)]
pub struct Upload {
    pub id: Tag,
    pub name: String,
    pub started: Timestamp,
    /// The policy that holds its parts, where that is not the container's.
    pub(crate) place: Option<PolicyId>,
    /// The project that the object will be of; empty for the bucket's.
    pub owner: String,
}

impl Upload {
    /// What the index keeps of one beside its name and id: `[<policy>][ <owner>]`.
    fn row(place: Option<PolicyId>, owner: &str) -> Bytes {
        let place = place.map(|p| p.number().to_string()).unwrap_or_default();
        Bytes::from(if owner.is_empty() { place } else { format!("{place} {owner}") })
    }

    fn of_row(name: &str, id: Tag, value: &[u8]) -> Upload {
        let text = std::str::from_utf8(value).unwrap_or_default();
        let (place, owner) = text.split_once(' ').unwrap_or((text, ""));
        let place = place.parse().ok().and_then(PolicyId::from_number);
        let (name, owner) = (name.to_owned(), owner.to_owned());
        Upload { id, name, started: Timestamp(id.micros()), place, owner }
    }
}

/// A part as the client names it when it completes an upload.
#[derive(Debug, Clone)]
pub struct NamedPart {
    pub number: u32,
    /// Without quotes.
    pub etag: String,
    pub checksum: Option<String>,
}

/// What a client says, when it completes an upload, that the object will be.
#[derive(Debug, Clone, Default)]
pub struct Whole {
    pub size: Option<u64>,
    pub checksum: Option<Checksum>,
}

/// A page of parts.
#[derive(Debug, Clone, Default)]
pub struct PartPage {
    pub parts: Vec<Part>,
    pub truncated: bool,
    pub algorithm: Option<String>,
    /// The object's checksum will be over its content, not over its parts' sums.
    pub full_checksum: bool,
    /// The project that the object will be of; empty for the bucket's.
    pub owner: String,
    pub(crate) place: Option<PolicyId>,
}

/// Which uploads to list.
#[derive(Debug, Clone, Default)]
pub struct UploadQuery {
    pub prefix: String,
    pub key_marker: String,
    pub id_marker: Option<Tag>,
    pub delimiter: String,
    pub limit: usize,
}

#[derive(Debug, Clone, Default)]
pub struct UploadPage {
    pub uploads: Vec<Upload>,
    pub prefixes: Vec<String>,
    pub truncated: bool,
}

/// An upload's record, but for its parts.
struct Record {
    state: String,
    meta: ObjectMeta,
}

impl Record {
    /// The checksum of an object that is made of these parts. Where the client named none when it began, parts that
    /// came without one have CRC64NVME, and so has the object if all did.
    fn checksum(&self, parts: &[Part]) -> Option<Checksum> {
        let Some(wanted) = self.meta.checksum.as_ref() else {
            return full_checksum(Algorithm::Crc64Nvme, parts);
        };
        let algorithm = Algorithm::of(&wanted.algorithm)?;
        match wanted.value == FULL_OBJECT {
            true => full_checksum(algorithm, parts),
            false => checksum_of(algorithm, parts),
        }
    }
}

impl Whole {
    /// `named`: the client said when it began which checksum the object is to have.
    fn check(&self, parts: &[Part], sum: Option<&Checksum>, named: bool) -> Result<(), ObjectError> {
        let size: u64 = parts.iter().map(|p| p.size).sum();
        if self.size.is_some_and(|said| said != size) {
            return Err(ObjectError::OtherChecksum(
                "The provided 'x-amz-mp-object-size' header does not match what was computed.".into(),
            ));
        }
        let Some(said) = &self.checksum else { return Ok(()) };
        let known = Algorithm::of(&said.algorithm).map_or("checksum", Algorithm::name);
        match sum.filter(|sum| sum.algorithm == said.algorithm) {
            Some(sum) if sum.value != said.value => Err(ObjectError::ChecksumMismatch(known)),
            None if named => Err(mismatch(sum.map_or("null", |sum| sum.algorithm.as_str()), &said.algorithm)),
            // What nobody asked for when the upload began, nobody has: S3 takes no notice of it.
            Some(_) | None => Ok(()),
        }
    }
}

fn mismatch(expected: &str, actual: &str) -> ObjectError {
    let (expected, actual) = (expected.to_ascii_lowercase(), actual.to_ascii_lowercase());
    ObjectError::OtherChecksum(format!(
        "Checksum Type mismatch occurred, expected checksum Type: {expected}, actual checksum Type: {actual}"
    ))
}

/// A part has the checksum of its upload, whether the client sends one or not; another one it may not send. Where the
/// upload has none, the part has the client's, or CRC64NVME.
fn expect_algorithm(body: &mut Body, upload: Option<&Checksum>) -> Result<(), ObjectError> {
    let Some(algorithm) = upload.and_then(|c| Algorithm::of(&c.algorithm)) else {
        body.expect.algorithm.get_or_insert(Algorithm::Crc64Nvme);
        return Ok(());
    };
    match body.expect.algorithm {
        Some(given) if given != algorithm => Err(mismatch(algorithm.name(), given.name())),
        _ => {
            body.expect.algorithm = Some(algorithm);
            Ok(())
        }
    }
}

fn part_key(number: u32) -> String {
    format!("n{number:05}")
}

impl ObjectStore {
    /// Begins an upload. With `full_checksum`, the checksum of the object is that of its whole content (CRCs only).
    pub async fn begin_upload(
        &self,
        container: &Arc<Container>,
        new: NewObject,
        algorithm: Option<Algorithm>,
        full_checksum: bool,
    ) -> Result<Tag, ObjectError> {
        check_name(&new.name)?;
        let id = Tag::new();
        let meta = ObjectMeta {
            modified: Modified(Timestamp::now()),
            content_type: new.content_type,
            headers: new.headers,
            user: new.user,
            delete_at: new.delete_at,
            tags: new.tags,
            owner: new.owner,
            grants: new.grants,
            seal: self.upload_seal(container, new.seal.as_ref()).await?,
            lock: new.lock,
            place: new.policy.and_then(|p| p.place_from(&container.policy)),
            checksum: algorithm.map(|a| {
                let kind = if full_checksum { FULL_OBJECT } else { "" };
                Checksum { algorithm: a.name().into(), value: kind.into() }
            }),
            ..ObjectMeta::default()
        };
        let rows = [
            ("a".to_owned(), Bytes::from(meta.encode())),
            ("k".to_owned(), Bytes::from(new.name.clone())),
            ("s".to_owned(), Bytes::from_static(OPEN.as_bytes())),
        ];
        let index = &container.policy.index;
        let oid = names::upload(container.id, id);
        index.write_op(&oid, WriteOp::new().create_exclusive().omap_set(rows)).await?;
        let value = Upload::row(meta.place, &meta.owner);
        let row = (entry::upload_key(&new.name, id), value);
        let change = Change::Rows { set: vec![row], remove: Vec::new(), adds: true };
        let listed = self.inner.index.commit(index, container.shard_of(&new.name), change).await;
        if let Err(e) = listed {
            let _ = index.remove(&oid).await; // unlisted, it would never be found again
            return Err(e);
        }
        Ok(id)
    }

    async fn upload_record(&self, container: &Container, name: &str, id: Tag) -> Result<Record, ObjectError> {
        let keys = ["a", "k", "s"].map(str::to_owned);
        let oid = names::upload(container.id, id);
        let read = container.policy.index.read_op(&oid, ReadOp::new().omap_get_by_keys(keys)).await;
        let mut read = read.optional()?.ok_or(ObjectError::NoSuchUpload)?;
        let rows: HashMap<String, Bytes> = read.omap().unwrap_or_default().entries.into_iter().collect();
        let row = |key: &str| rows.get(key).ok_or(ObjectError::NoSuchUpload);
        if row("k")? != name.as_bytes() {
            return Err(ObjectError::NoSuchUpload);
        }
        let state = String::from_utf8_lossy(row("s")?).into_owned();
        Ok(Record { state, meta: ObjectMeta::decode(row("a")?)? })
    }

    /// Puts an upload on record that holds the parts of an object whose content moves to another storage class.
    pub(crate) async fn record_moved_upload(
        &self,
        container: &Container,
        name: &str,
        id: Tag,
        meta: &ObjectMeta,
    ) -> Result<(), ObjectError> {
        let rows = [
            ("a".to_owned(), Bytes::from(meta.encode())),
            ("k".to_owned(), Bytes::from(name.to_owned())),
            ("s".to_owned(), Bytes::from_static(DONE.as_bytes())),
        ];
        let op = WriteOp::new().create_exclusive().omap_set(rows);
        Ok(container.policy.index.write_op(&names::upload(container.id, id), op).await.map(drop)?)
    }

    /// Writes a part; a part of the same number is replaced.
    pub async fn put_part(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: Tag,
        number: u32,
        body: Body,
    ) -> Result<Part, ObjectError> {
        if !(1..=MOST_PARTS).contains(&number) {
            return Err(ObjectError::Invalid(
                "Part number must be an integer between 1 and 10000, inclusive".into(),
            ));
        }
        let most = self.inner.config.limits.max_file_size;
        if body.length.is_some_and(|n| n > most) {
            return Err(ObjectError::TooLarge(most));
        }
        let record = self.upload_record(container, name, id).await?;
        if record.state != OPEN {
            return Err(ObjectError::NoSuchUpload);
        }
        self.check_quota(container, body.length.unwrap_or(0), body.reseller).await?;
        let mut body = body;
        expect_algorithm(&mut body, record.meta.checksum.as_ref())?;
        let seal = record.meta.seal.as_ref();
        body.sealer = self.part_sealer(container, seal, body.customer.as_ref()).await?;
        body.policy = self.inner.policies.at(&container.policy, record.meta.place)?;
        let received = self.receive(container, body, most, Home::Upload(id)).await?;
        let part = Part {
            number,
            size: received.size,
            etag: received.sums.etag,
            tag: received.tag.ok_or(ObjectError::Damaged("a part without a tag"))?,
            stripe: self.inner.config.stripe_bytes,
            modified: Timestamp::now(),
            checksum: received.sums.checksum,
            salt: received.salt,
        };
        fail("object.part:record:before").await?;
        let op = WriteOp::new()
            .assert_exists()
            .omap_cmp("s", Cmp::Eq, OPEN)
            .omap_set([(part_key(number), Bytes::from(part.encode()))]);
        match container.policy.index.write_op(&names::upload(container.id, id), op).await {
            Ok(_) => Ok(part),
            Err(e) if e.is_cancelled() || e.is_not_found() => Err(ObjectError::NoSuchUpload),
            Err(e) => Err(e.into()),
        }
    }

    /// Lists the parts of an upload with numbers after `after`.
    pub async fn list_parts(
        &self,
        container: &Container,
        name: &str,
        id: Tag,
        after: u32,
        limit: usize,
    ) -> Result<PartPage, ObjectError> {
        let record = self.upload_record(container, name, id).await?;
        if !matches!(record.state.as_str(), OPEN | CLOSING) {
            return Err(ObjectError::NoSuchUpload);
        }
        let op = ReadOp::new().omap_get(part_key(after), "n", limit as u64 + 1);
        let oid = names::upload(container.id, id);
        let mut read =
            container.policy.index.read_op(&oid, op).await.optional()?.ok_or(ObjectError::NoSuchUpload)?;
        let rows = read.omap().unwrap_or_default();
        let truncated = rows.more || rows.entries.len() > limit;
        let parts =
            rows.entries.iter().take(limit).map(|(_, v)| Part::decode(v)).collect::<Result<_, _>>()?;
        let place = record.meta.place;
        let full_checksum = record.meta.checksum.as_ref().is_some_and(|c| c.value == FULL_OBJECT);
        let algorithm = record.meta.checksum.map(|c| c.algorithm);
        let owner = record.meta.owner;
        Ok(PartPage { parts, truncated, algorithm, full_checksum, owner, place })
    }

    /// Lists the uploads in progress, by name and then by age.
    pub async fn list_uploads(
        &self,
        container: &Container,
        query: &UploadQuery,
    ) -> Result<UploadPage, ObjectError> {
        let after = match query.id_marker {
            Some(id) => entry::upload_key(&query.key_marker, id),
            None if query.key_marker.is_empty() => "u".to_owned(),
            None => format!("u{}\u{1}~", query.key_marker), // behind all ids of that very name
        };
        let prefix = format!("u{}", query.prefix);
        let pages = try_join_all(container.shards().into_iter().map(|shard| {
            let (index, pool) = (&self.inner.index, &container.policy.index);
            uploads_of(index, pool, shard, &after, &prefix, query.limit + 1)
        }))
        .await?;
        let mut all: Vec<Upload> = pages.into_iter().flatten().collect();
        all.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        let mut page = UploadPage::default();
        for upload in all {
            let rest = upload.name.strip_prefix(query.prefix.as_str()).unwrap_or_default();
            let roll = rest.find(query.delimiter.as_str()).filter(|_| !query.delimiter.is_empty());
            let rolled =
                roll.map(|at| upload.name[..query.prefix.len() + at + query.delimiter.len()].to_owned());
            if rolled.as_ref().is_some_and(|r| page.prefixes.last() == Some(r)) {
                continue;
            }
            if page.uploads.len() + page.prefixes.len() == query.limit {
                page.truncated = true;
                break;
            }
            match rolled {
                Some(prefix) => page.prefixes.push(prefix),
                None => page.uploads.push(upload),
            }
        }
        Ok(page)
    }

    /// Gives an upload up; its parts are removed.
    pub async fn abort_upload(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: Tag,
    ) -> Result<(), ObjectError> {
        let record = self.upload_record(container, name, id).await?;
        let held = match record.state.as_str() {
            OPEN => false,
            // A completion was cut short: before its head was written, or after?
            CLOSING => {
                self.stat_object(container, name).await.is_ok_and(|(m, _)| m.layout.tag == Some(id))
                    || self.version_of_tag(container, name, id).await?.is_some()
            }
            _ => true,
        };
        if held {
            return Err(ObjectError::NoSuchUpload);
        }
        let index = &container.policy.index;
        let op = WriteOp::new()
            .assert_exists()
            .omap_cmp("s", Cmp::Eq, record.state.clone())
            .omap_set([("s".to_owned(), Bytes::from_static(ABORTED.as_bytes()))]);
        match index.write_op(&names::upload(container.id, id), op).await {
            Err(e) if e.is_cancelled() || e.is_not_found() => return Err(ObjectError::NoSuchUpload),
            done => done?,
        };
        let shard = container.shard_of(name);
        let garbage = Garbage { since: Timestamp::now().micros(), tails: 0, multipart: true, place: None };
        let change = Change::Rows {
            set: vec![(entry::garbage_key(id), Bytes::from(garbage.encode()))],
            remove: vec![entry::upload_key(name, id)],
            adds: false,
        };
        self.inner.index.commit(index, shard, change).await?;
        self.inner.sweeper.bin(container, shard, id, garbage);
        Ok(())
    }

    /// Makes an object of an upload's parts.
    pub async fn complete_upload(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: Tag,
        named: Vec<NamedPart>,
        condition: Condition,
    ) -> Result<Written, ObjectError> {
        self.complete_upload_as(container, name, id, named, condition, Whole::default()).await
    }

    /// As `complete_upload`, if the object will be what the client says.
    pub async fn complete_upload_as(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: Tag,
        named: Vec<NamedPart>,
        condition: Condition,
        whole: Whole,
    ) -> Result<Written, ObjectError> {
        let record = self.upload_record(container, name, id).await?;
        if record.state == DONE {
            return self.completed_before(container, name, id, &named).await;
        }
        if record.state == ABORTED {
            return Err(ObjectError::NoSuchUpload);
        }
        let oid = names::upload(container.id, id);
        let rows = container.policy.index.omap_get_all(&oid, "n").await?;
        let mut there: BTreeMap<u32, Part> = BTreeMap::new();
        for (_, value) in rows {
            let part = Part::decode(&value)?;
            there.insert(part.number, part);
        }
        let parts = self.choose_parts(there, &named)?;
        whole.check(&parts, record.checksum(&parts).as_ref(), record.meta.checksum.is_some())?;
        let (this, container, name) = (self.clone(), container.clone(), name.to_owned());
        cause::spawn(async move { this.finish_upload(&container, &name, id, record, parts, condition).await })
            .await
            .map_err(|_| ObjectError::Damaged("a completion was cut off"))?
    }

    /// The client did not hear of its completion and asks again: for the same parts, or for what is no upload any more.
    async fn completed_before(
        &self,
        container: &Container,
        name: &str,
        id: Tag,
        named: &[NamedPart],
    ) -> Result<Written, ObjectError> {
        let made = match self.stat_object(container, name).await {
            Ok((meta, _)) if meta.layout.tag == Some(id) => Some(meta),
            Ok(_) | Err(ObjectError::NoSuchObject) => {
                self.version_of_tag(container, name, id).await?.map(|found| found.meta)
            }
            Err(e) => return Err(e),
        };
        let etag = etag_of(named.iter().map(|p| p.etag.as_str()));
        let made = made.filter(|meta| etag.is_ok_and(|etag| etag == meta.etag));
        made.map(|meta| Written::of(container, meta)).ok_or(ObjectError::NoSuchUpload)
    }

    fn choose_parts(
        &self,
        mut there: BTreeMap<u32, Part>,
        named: &[NamedPart],
    ) -> Result<Vec<Part>, ObjectError> {
        if named.windows(2).any(|w| w[0].number >= w[1].number) {
            return Err(ObjectError::PartOrder);
        }
        let mut parts = Vec::with_capacity(named.len());
        for (i, want) in named.iter().enumerate() {
            let part = there.remove(&want.number).ok_or(ObjectError::InvalidPart(want.number))?;
            let sum = part.checksum.as_ref().map(|c| c.value.as_str());
            if !part.etag.eq_ignore_ascii_case(&want.etag)
                || want.checksum.as_deref().is_some_and(|c| sum.is_some_and(|s| s != c))
            {
                return Err(ObjectError::InvalidPart(want.number));
            }
            if i + 1 < named.len() && part.size < self.inner.config.limits.min_part_size {
                return Err(ObjectError::PartTooSmall(want.number));
            }
            parts.push(part);
        }
        Ok(parts)
    }

    async fn finish_upload(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: Tag,
        record: Record,
        parts: Vec<Part>,
        condition: Condition,
    ) -> Result<Written, ObjectError> {
        let size: u64 = parts.iter().map(|p| p.size).sum();
        if size > MOST_BYTES {
            return Err(ObjectError::TooLarge(MOST_BYTES));
        }
        let index = &container.policy.index;
        let oid = names::upload(container.id, id);
        let step = |from: &str, to: &'static str| {
            WriteOp::new()
                .assert_exists()
                .omap_cmp("s", Cmp::Eq, from.to_owned())
                .omap_set([("s".to_owned(), Bytes::from_static(to.as_bytes()))])
        };
        match index.write_op(&oid, step(&record.state, CLOSING)).await {
            Err(e) if e.is_cancelled() || e.is_not_found() => return Err(ObjectError::NoSuchUpload),
            done => done?,
        };
        fail("object.complete:head:before").await?;
        let data = Bytes::from(Part::encode_all(&parts));
        let checksum = record.checksum(&parts);
        let meta = ObjectMeta {
            size,
            etag: etag_of(parts.iter().map(|p| p.etag.as_str()))?,
            modified: Modified(Timestamp::now()),
            kind: Kind::Multipart,
            layout: Layout { head: data.len() as u64, tag: Some(id), stripe: 0 },
            checksum,
            parts: u32::try_from(parts.len()).unwrap_or(u32::MAX),
            ..record.meta
        };
        let container = &self.refreshed(container).await?;
        if container.info.history.is_some() {
            let _one = self.inner.histories.lock(container, name).await;
            self.keep_history(container, name).await?;
        }
        let meta = match self.write_head(container, name, meta, data, condition, Some(id)).await {
            Ok(meta) => meta,
            Err(e) => {
                if matches!(e, ObjectError::PreconditionFailed | ObjectError::NoSpace(_)) {
                    index.write_op(&oid, step(CLOSING, OPEN)).await?;
                }
                return Err(e);
            }
        };
        fail("object.complete:done:before").await?;
        index.write_op(&oid, step(CLOSING, DONE)).await?;
        self.drop_unused_parts(container, id, &parts, meta.place).await?;
        Ok(Written::of(container, meta))
    }

    /// Removes the parts that the object does not use: replaced, left out, or cut short.
    async fn drop_unused_parts(
        &self,
        container: &Arc<Container>,
        id: Tag,
        used: &[Part],
        place: Option<PolicyId>,
    ) -> Result<(), ObjectError> {
        let used: HashSet<Tag> = used.iter().map(|p| p.tag).collect();
        let oid = names::upload(container.id, id);
        let rows = container.policy.index.omap_get_all(&oid, "p").await?;
        let unused: Vec<Tag> =
            rows.iter().filter_map(|(k, _)| Tag::parse(&k[1..])).filter(|t| !used.contains(t)).collect();
        if unused.is_empty() {
            return Ok(());
        }
        let (this, container) = (self.clone(), container.clone());
        // In the background: should it not come to an end, the rows are still there when the object goes.
        tokio::spawn(async move {
            for tag in unused {
                if let Err(e) = this.remove_part(&container, &oid, tag, place).await {
                    tracing::warn!(error = ?e, "the tails of an unused part stay until the object goes");
                }
            }
        });
        Ok(())
    }
}

/// Uploads on record in what was one shard, after a row key: at least the first `most`.
async fn uploads_of(
    index: &Index,
    pool: &pool::Pool,
    shard: ShardId,
    after: &str,
    prefix: &str,
    most: usize,
) -> Result<Vec<Upload>, ObjectError> {
    let mut uploads = Vec::new();
    let mut todo = vec![(shard, after.to_owned())];
    while let Some((shard, after)) = todo.pop() {
        let more = |op: ReadOp| op.omap_get(after.clone(), prefix.to_owned(), most as u64);
        for (shard, mut read) in index.read_all(pool, shard, more).await? {
            let page = read.omap().unwrap_or_default();
            for (key, value) in &page.entries {
                if let Some((name, id)) = entry::parse_upload_key(&key[1..]) {
                    uploads.push(Upload::of_row(name, id, value));
                }
            }
            if let Some((last, _)) = page.entries.last().filter(|_| page.more && page.entries.len() < most) {
                todo.push((shard, last.clone()));
            }
        }
    }
    Ok(uploads)
}

/// The MD5 of the parts' MD5s, and how many there are.
fn etag_of<'a>(parts: impl ExactSizeIterator<Item = &'a str>) -> Result<String, ObjectError> {
    let (mut md5, number) = (Md5::new(), parts.len());
    for etag in parts {
        md5.update(hex::decode(etag).map_err(|_| ObjectError::Damaged("a part's ETag"))?);
    }
    Ok(format!("{}-{number}", hex::encode(md5.finalize())))
}

/// The sum over the parts' sums, as S3 forms it for checksums of type COMPOSITE.
fn checksum_of(algorithm: Algorithm, parts: &[Part]) -> Option<Checksum> {
    let mut sum = Running::new(algorithm);
    for part in parts {
        let of_part = part.checksum.as_ref().filter(|c| c.algorithm == algorithm.name())?;
        sum.update(&BASE64_STANDARD.decode(&of_part.value).ok()?);
    }
    let value = format!("{}-{}", BASE64_STANDARD.encode(sum.finish()), parts.len());
    Some(Checksum { algorithm: algorithm.name().to_owned(), value })
}

/// The sum over the whole content, joined from those over the parts: what CRCs can do.
fn full_checksum(algorithm: Algorithm, parts: &[Part]) -> Option<Checksum> {
    let mut joined: Option<u64> = None;
    for part in parts {
        let of_part = part.checksum.as_ref().filter(|c| c.algorithm == algorithm.name())?;
        let bytes = BASE64_STANDARD.decode(&of_part.value).ok()?;
        let sum = bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
        joined = Some(match joined {
            None => sum,
            Some(before) => algorithm.join(before, sum, part.size)?,
        });
    }
    let bytes = joined?.to_be_bytes();
    let value = BASE64_STANDARD.encode(&bytes[8 - algorithm.width()..]);
    Some(Checksum { algorithm: algorithm.name().to_owned(), value })
}
