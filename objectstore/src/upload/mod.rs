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

mod checksum;
mod complete;
mod list;

pub use complete::{NamedPart, Whole};
pub use list::{PartPage, UploadPage, UploadQuery};

use crate::container::Container;
use crate::digest::{Algorithm, SumKind};
use crate::index::Change;
use crate::index::entry::{self, Garbage};
use crate::meta::{Checksum, Modified, ObjectMeta, Part};
use crate::names::{self, Tag};
use crate::object::{Body, Home, NewObject, check_name};
use crate::policy::PolicyId;
use crate::{ObjectError, ObjectStore, fail};
use bytes::Bytes;
use checksum::{FULL_OBJECT, expect_algorithm};
use pool::{Cmp, OptionalExt, ReadOp, WriteOp};
use state::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;

const OPEN: &str = "open";
const CLOSING: &str = "closing";
const DONE: &str = "done";
const ABORTED: &str = "aborted";
/// S3's limit of parts.
pub(crate) const MOST_PARTS: u32 = 10_000;

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
    /// The checksum that the client wants.
    pub sum: Option<SumKind>,
}

impl Upload {
    /// What the index keeps of one beside its name and id: `[<policy>][ [<owner>][ <checksum>]]`.
    fn row(place: Option<PolicyId>, owner: &str, sum: Option<SumKind>) -> Bytes {
        let place = place.map(|p| p.number().to_string()).unwrap_or_default();
        let sum = sum.map(|s| s.number().to_string()).unwrap_or_default();
        Bytes::from(format!("{place} {owner} {sum}").trim_end().to_owned())
    }

    fn of_row(name: &str, id: Tag, value: &[u8]) -> Upload {
        let text = std::str::from_utf8(value).unwrap_or_default();
        let mut words = text.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let place = word().parse().ok().and_then(PolicyId::from_number);
        let (name, owner) = (name.to_owned(), word().to_owned());
        let sum = word().parse().ok().and_then(SumKind::of_number);
        Upload { id, name, started: Timestamp(id.micros()), place, owner, sum }
    }
}

/// An upload's record, but for its parts.
struct Record {
    state: String,
    meta: ObjectMeta,
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
        let sum = algorithm.map(|algorithm| SumKind { algorithm, composite: !full_checksum });
        let value = Upload::row(meta.place, &meta.owner, sum);
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
}
