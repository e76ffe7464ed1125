//! Writing an object: its body is received, its head is written, its index entry is committed.
//!
//! A body that fits the head goes into it, with the metadata, in one operation. A larger one is written as tails
//! while it arrives, under a tag of its own, and becomes the object only when the head that names the tag is
//! written; before the first tail an intent in the index says that tails of this tag may exist. Whatever happens
//! in between, the object's name shows the old content or the new, whole.
//!
//! From the head on, everything runs in a task of its own: a client that hangs up can't leave a head that the
//! index doesn't list.

use crate::container::Container;
use crate::digest::Algorithm;
use crate::index::Entry;
use crate::index::{Change, Committed, Foreseen};
use crate::meta::{Checksum, Kind, Large, Layout, META_XATTR, Modified, ObjectMeta};
use crate::names::{self, Tag};
use crate::object::check_name;
use crate::object::receive::{Home, Received};
use crate::policy::StoragePolicy;
use crate::seal::{CustomerKey, Seal, SealWith, Sealer};
use crate::version::{Lock, VersionId};
use crate::{ObjectError, ObjectStore, cause, fail, notify, sync};
use bytes::Bytes;
use futures::future::{Either, select};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use pool::WriteOp;
use state::Timestamp;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

/// What an object is to be, but for its content.
#[derive(Debug, Clone, Default)]
pub struct NewObject {
    pub name: String,
    pub content_type: String,
    /// Stored headers and user metadata; see [`ObjectMeta`].
    pub headers: Vec<(String, String)>,
    pub user: Vec<(String, String)>,
    pub delete_at: Option<i64>,
    /// See [`ObjectMeta::tags`].
    pub tags: Vec<(String, String)>,
    /// See [`ObjectMeta`].
    pub owner: String,
    pub grants: Option<Vec<crate::grants::Grant>>,
    /// Whether, and with whose key, the content is to be encrypted.
    pub seal: Option<SealWith>,
    pub lock: Lock,
    /// The policy that is to hold the content; absent, the container's.
    pub policy: Option<Arc<StoragePolicy>>,
    /// The body is a static large object's manifest.
    pub large: Option<Large>,
    /// When it was written first, in another container; absent, it is written now.
    pub modified: Option<Timestamp>,
}

/// A checksum in base64 that comes with the body, or behind it.
#[derive(Debug, Clone, Default)]
pub struct Claim(Arc<Mutex<Option<String>>>);

impl Claim {
    pub fn set(&self, value: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the client says the body's sums are.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// MD5 in hexadecimal.
    pub md5: Option<String>,
    pub algorithm: Option<Algorithm>,
    pub claim: Claim,
}

/// Content on its way in.
pub struct Body {
    pub stream: BoxStream<'static, Result<Bytes, ObjectError>>,
    /// How many bytes will come, where that is known.
    pub length: Option<u64>,
    pub expect: Expect,
    /// The key that the client brings for a part of an upload that is encrypted with it.
    pub customer: Option<CustomerKey>,
    /// Sent by a reseller admin, whom an account's quotas do not hold.
    pub(crate) reseller: bool,
    /// What encrypts it on its way.
    pub(crate) sealer: Option<Sealer>,
    /// The policy that is to hold it, where that is not the container's.
    pub(crate) policy: Option<Arc<StoragePolicy>>,
}

impl Body {
    pub fn new(
        stream: impl Stream<Item = Result<Bytes, ObjectError>> + Send + 'static,
        length: Option<u64>,
    ) -> Self {
        let (stream, expect) = (stream.boxed(), Expect::default());
        Body { stream, length, expect, customer: None, reseller: false, sealer: None, policy: None }
    }

    /// With a checksum in any case: where the client names none, CRC64NVME, as S3 has it.
    pub(crate) fn summed(mut self) -> Self {
        self.expect.algorithm.get_or_insert(Algorithm::Crc64Nvme);
        self
    }

    pub fn of(data: impl Into<Bytes>) -> Self {
        let data = data.into();
        let length = data.len() as u64;
        Body::new(futures::stream::iter([Ok(data)]), Some(length))
    }
}

/// On what condition an object is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Condition {
    #[default]
    Always,
    /// Nothing of this name exists (`If-None-Match: *`).
    Absent,
    /// The object has one of these ETags (`If-Match`); `*` is any.
    Match(Vec<String>),
    /// There is no object with one of these ETags (`If-None-Match`).
    NoneMatch(Vec<String>),
    /// The object is still the one whose head has this RADOS version.
    Unchanged(u64),
    /// There is none, or it is from before this time.
    Older(Timestamp),
    /// The object is as the request says it is, in all that it says: its ETag, the seconds of its time, its bytes.
    Like { etags: Option<Vec<String>>, modified: Option<i64>, size: Option<u64> },
}

impl Condition {
    /// As `admit`, for what the head of an object's name holds. What is no object there is nothing, but to who tells
    /// which head it is, or from when.
    pub(super) fn admit_head(&self, head: Option<(&ObjectMeta, u64)>) -> Result<(), ObjectError> {
        let raw = matches!(self, Condition::Unchanged(_) | Condition::Older(_));
        self.admit(head.filter(|(meta, _)| meta.is_there() || (raw && !meta.is_marker())))
    }

    /// Refuses where the condition does not hold for the object that is there, if there is one: its metadata and the
    /// RADOS version of its head.
    pub(super) fn admit(&self, found: Option<(&ObjectMeta, u64)>) -> Result<(), ObjectError> {
        let holds = match (self, found) {
            (Condition::Always, _)
            | (Condition::Absent | Condition::Older(_) | Condition::NoneMatch(_), None) => true,
            (Condition::Older(at), Some((meta, _))) => sync::coarse(meta.modified.0) < sync::coarse(*at),
            (Condition::Absent, Some(_)) => false,
            (_, None) => return Err(ObjectError::NoSuchObject),
            (Condition::Match(etags), Some((meta, _))) => meta.answers_to(etags),
            (Condition::NoneMatch(etags), Some((meta, _))) => !meta.answers_to(etags),
            (Condition::Unchanged(then), Some((_, now))) => *then == now,
            (Condition::Like { etags, modified, size }, Some((meta, _))) => {
                let bytes = meta.large.as_ref().map_or(meta.size, |l| l.size);
                etags.as_ref().is_none_or(|e| meta.answers_to(e))
                    && modified.is_none_or(|at| at == meta.modified.0.secs())
                    && size.is_none_or(|n| n == bytes)
            }
        };
        if holds { Ok(()) } else { Err(ObjectError::PreconditionFailed) }
    }
}

/// What was written.
#[derive(Debug, Clone)]
pub struct Written {
    pub etag: String,
    pub modified: Timestamp,
    pub size: u64,
    pub checksum: Option<Checksum>,
    /// Absent where the container keeps no versions.
    pub version: Option<VersionId>,
    pub seal: Option<Seal>,
}

impl Written {
    /// What is to be told of an object that was written.
    pub(crate) fn of(container: &Container, meta: ObjectMeta) -> Self {
        Written {
            version: container.info.versioning.is_set().then(|| meta.version_id()),
            etag: meta.etag,
            modified: meta.modified.0,
            size: meta.size,
            checksum: meta.checksum,
            seal: meta.seal,
        }
    }
}

impl ObjectStore {
    /// Writes an object.
    pub async fn put_object(
        &self,
        container: &Arc<Container>,
        new: NewObject,
        body: Body,
        condition: Condition,
    ) -> Result<Written, ObjectError> {
        check_name(&new.name)?;
        let most = self.inner.config.limits.max_file_size;
        if body.length.is_some_and(|n| n > most) {
            return Err(ObjectError::TooLarge(most));
        }
        let reseller = body.reseller;
        self.check_quota(container, body.length.unwrap_or(0), reseller).await?;
        if condition != Condition::Always {
            self.condition_version(container, &new.name, &condition).await?;
        }
        let length = body.length;
        let mut body = body;
        body.sealer = self.sealer(container, new.seal.as_ref()).await?;
        body.policy.clone_from(&new.policy);
        let received = self.receive(container, body, most, Home::Name(&new.name)).await?;
        if length.is_none() {
            self.check_quota(container, received.size, reseller).await?;
        }
        let (this, container) = (self.clone(), container.clone());
        cause::spawn(async move { this.finish_put(&container, new, received, condition).await })
            .await
            .map_err(|_| ObjectError::Damaged("a write was cut off"))?
    }

    async fn finish_put(
        &self,
        container: &Arc<Container>,
        new: NewObject,
        received: Received,
        condition: Condition,
    ) -> Result<Written, ObjectError> {
        let container = &self.refreshed(container).await?;
        if container.info.history.is_none() {
            return self.write_received(container, new, received, condition).await;
        }
        let _one = self.inner.histories.lock(container, &new.name).await;
        self.keep_history(container, &new.name).await?;
        self.write_received(container, new, received, condition).await
    }

    /// Makes an object of a body that has been received.
    pub(super) async fn write_received(
        &self,
        container: &Arc<Container>,
        new: NewObject,
        received: Received,
        condition: Condition,
    ) -> Result<Written, ObjectError> {
        let whole = received.tag.is_none();
        let meta = ObjectMeta {
            size: received.size,
            etag: received.sums.etag,
            modified: Modified(new.modified.unwrap_or_else(Timestamp::now)),
            content_type: new.content_type,
            kind: if new.large.is_some() { Kind::Slo } else { Kind::Plain },
            layout: Layout {
                head: if whole { received.stored } else { 0 },
                tag: received.tag,
                stripe: if whole { 0 } else { self.inner.config.stripe_bytes },
            },
            headers: new.headers,
            user: new.user,
            delete_at: new.delete_at,
            large: new.large,
            checksum: received.sums.checksum,
            parts: 0,
            tags: new.tags,
            owner: new.owner,
            grants: new.grants,
            seal: received.seal,
            lock: new.lock,
            place: new.policy.and_then(|p| p.place_from(&container.policy)),
            ..ObjectMeta::default()
        };
        let meta = self.write_head(container, &new.name, meta, received.data, condition, None).await?;
        if let Some(debris) = received.debris {
            debris.keep();
        }
        Ok(Written::of(container, meta))
    }

    /// A container's facts as they are now: they may have changed while a body came in.
    pub(crate) async fn refreshed(&self, container: &Arc<Container>) -> Result<Arc<Container>, ObjectError> {
        let now = self.find_container(&container.project_id, &container.name).await?;
        if now.id == container.id { Ok(now) } else { Err(ObjectError::NoSuchContainer) }
    }

    /// Writes a head and has the index list it. On success the head's tails are the object's. The metadata come
    /// back as they were written.
    pub(crate) async fn write_head(
        &self,
        container: &Arc<Container>,
        name: &str,
        meta: ObjectMeta,
        data: Bytes,
        condition: Condition,
        upload: Option<Tag>,
    ) -> Result<ObjectMeta, ObjectError> {
        if container.info.versioning.is_set() {
            let written = self.write_version(container, name, meta, data, &condition, upload).await?;
            return Ok(written.0);
        }
        let oid = names::head(container.id, name);
        let pool = &container.policy.data;
        let xattr = Bytes::from(meta.encode());
        self.mark_writing().await?;
        fail("object.put:head:before").await?;
        let mut attempts = 0;
        // What the index will be asked is read while the head is written; it is not waited for.
        let index = (&self.inner.index, &container.policy.index, container.shard_of(name));
        let mut foresee = Some(Box::pin(async move { index.0.foresee(index.1, index.2, name).await }));
        let mut foreseen = None;
        // Without a condition there is nothing to be tried again: the bytes are not held twice while they are written.
        let (again, mut data) = (condition != Condition::Always, data);
        let version = loop {
            let body = if again { data.clone() } else { std::mem::take(&mut data) };
            let op = match &condition {
                Condition::Always => WriteOp::new(),
                // What is there may have expired: that is seen when it stands in the way.
                Condition::Absent if attempts == 0 => WriteOp::new().create_exclusive(),
                Condition::Absent | Condition::Older(_) | Condition::NoneMatch(_) => {
                    match self.condition_version(container, name, &condition).await? {
                        Some(version) => WriteOp::new().assert_version(version),
                        None => WriteOp::new().create_exclusive(),
                    }
                }
                matching => match self.condition_version(container, name, matching).await? {
                    Some(version) => WriteOp::new().assert_version(version),
                    None => return Err(ObjectError::PreconditionFailed),
                },
            };
            let op = op.write_full(body).set_xattr(META_XATTR, xattr.clone());
            let write = pin!(pool.write_op(&oid, op));
            let written = match foresee.take() {
                None => write.await,
                Some(read) => match select(write, read).await {
                    Either::Left((written, read)) => {
                        foresee = Some(read);
                        written
                    }
                    Either::Right((rows, write)) => {
                        foreseen = rows;
                        write.await
                    }
                },
            };
            match written {
                Ok(outcome) => break outcome.version,
                Err(e) if again && (e.is_cancelled() || e.is_not_found() || e.is_exists()) => {
                    attempts += 1;
                    if attempts > 20 {
                        return Err(ObjectError::Contended);
                    }
                }
                Err(e) => {
                    // An operation that was given up on may still have happened.
                    self.repair_later(container, name);
                    return Err(e.into());
                }
            }
        };
        fail("object.put:index:before").await?;
        drop(foresee);
        let entry = Entry::of(&meta, version);
        let change = Change::Put { name: name.to_owned(), entry, upload };
        self.commit_foreseen(container, change, name, foreseen).await?;
        Ok(meta)
    }

    /// Commits a change of `name` that was made to its head.
    pub(crate) async fn commit(
        &self,
        container: &Arc<Container>,
        change: Change,
        name: &str,
    ) -> Result<Committed, ObjectError> {
        self.commit_foreseen(container, change, name, None).await
    }

    async fn commit_foreseen(
        &self,
        container: &Arc<Container>,
        change: Change,
        name: &str,
        foreseen: Option<Foreseen>,
    ) -> Result<Committed, ObjectError> {
        let shard = container.shard_of(name);
        let change = notify::told(container, change);
        let told = matches!(change, Change::Told(..));
        let change = sync::told(container, change);
        match self.inner.index.commit_foreseen(&container.policy.index, shard, change, foreseen).await {
            Ok(done) => {
                if told {
                    self.inner.deliverer.wake();
                }
                self.inner.syncer.changed(container);
                self.inner.dirty.add(container);
                self.grow_if_full(container, done.rows);
                let shard = done.shard.unwrap_or(shard);
                for (tag, garbage) in done.garbage.iter().copied() {
                    self.inner.sweeper.bin(container, shard, tag, garbage);
                }
                Ok(done)
            }
            Err(ObjectError::NoSuchContainer) => {
                // The container was deleted meanwhile: what was written goes with it.
                let _ = container.policy.data.remove(&names::head(container.id, name)).await;
                self.forget();
                Err(ObjectError::NoSuchContainer)
            }
            Err(e) => {
                self.repair_later(container, name);
                Err(e)
            }
        }
    }

    /// Makes sure that `condition` holds now; the version of the head that it holds for, if there is one: of what has
    /// expired, too.
    pub(crate) async fn condition_version(
        &self,
        container: &Container,
        name: &str,
        condition: &Condition,
    ) -> Result<Option<u64>, ObjectError> {
        if *condition == Condition::Always {
            return Ok(None);
        }
        let head = self.raw_head(container, name).await?;
        condition.admit_head(head.as_ref().map(|(meta, version)| (meta, *version)))?;
        Ok(head.map(|(_, version)| version))
    }
}
