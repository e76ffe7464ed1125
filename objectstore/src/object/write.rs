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
use crate::digest::{Algorithm, Summed, Sums};
use crate::index::entry::{self, Entry};
use crate::index::{Change, Committed};
use crate::meta::{Checksum, Kind, Large, Layout, META_XATTR, Modified, ObjectMeta};
use crate::names::{self, Tag};
use crate::object::check_name;
use crate::seal::{CustomerKey, Seal, SealWith, Sealer, sealed_len};
use crate::sweep::Debris;
use crate::version::{Lock, VersionId};
use crate::{ObjectError, ObjectStore, fail};
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use pool::WriteOp;
use state::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

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
    /// The body is a static large object's manifest.
    pub large: Option<Large>,
}

/// A checksum in base64 that comes with the body, or behind it.
#[derive(Debug, Clone, Default)]
pub struct Claim(Arc<Mutex<Option<String>>>);

impl Claim {
    pub fn set(&self, value: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    fn get(&self) -> Option<String> {
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
    /// What encrypts it on its way.
    pub(crate) sealer: Option<Sealer>,
}

impl Body {
    pub fn new(
        stream: impl Stream<Item = Result<Bytes, ObjectError>> + Send + 'static,
        length: Option<u64>,
    ) -> Self {
        Body { stream: stream.boxed(), length, expect: Expect::default(), customer: None, sealer: None }
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
    /// The object is still the one whose head has this RADOS version.
    Unchanged(u64),
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

/// Who a body is for.
#[derive(Clone, Copy)]
pub(crate) enum Home<'a> {
    /// An object: what fits its head stays in memory.
    Name(&'a str),
    /// A part of a multipart upload: all of it becomes tails, recorded with the upload.
    Upload(Tag),
}

/// A body that has been received: in memory, or as tails.
pub(crate) struct Received {
    /// Bytes of content, and what they take in storage.
    pub(crate) size: u64,
    pub(crate) stored: u64,
    pub(crate) seal: Option<Seal>,
    pub(crate) salt: Vec<u8>,
    pub(crate) sums: Summed,
    /// The content, where it fits the head.
    pub(crate) data: Bytes,
    pub(crate) tag: Option<Tag>,
    /// Cleans an object's tails up unless it came to be.
    pub(crate) debris: Option<Debris>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Bodies in pieces: how large, and how many are under way.
#[derive(Clone, Copy)]
struct Pace {
    whole: usize,
    piece: usize,
    window: usize,
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
        self.check_quota(container, body.length.unwrap_or(0)).await?;
        if condition != Condition::Always {
            self.condition_version(container, &new.name, &condition).await?;
        }
        let length = body.length;
        let mut body = body;
        body.sealer = self.sealer(container, new.seal.as_ref()).await?;
        let received = self.receive(container, body, most, Home::Name(&new.name)).await?;
        if length.is_none() {
            self.check_quota(container, received.size).await?;
        }
        let (this, container) = (self.clone(), container.clone());
        tokio::spawn(async move { this.finish_put(&container, new, received, condition).await })
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
            modified: Modified(Timestamp::now()),
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
        let version = loop {
            let op = match &condition {
                Condition::Always => WriteOp::new(),
                Condition::Absent => WriteOp::new().create_exclusive(),
                matching => match self.condition_version(container, name, matching).await? {
                    Some(version) => WriteOp::new().assert_version(version),
                    None => return Err(ObjectError::PreconditionFailed),
                },
            };
            let op = op.write_full(data.clone()).set_xattr(META_XATTR, xattr.clone());
            match pool.write_op(&oid, op).await {
                Ok(outcome) => break outcome.version,
                Err(e) if e.is_exists() => return Err(ObjectError::PreconditionFailed),
                Err(e) if e.is_cancelled() || e.is_not_found() => {
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
        let entry = Entry::of(&meta, version);
        self.commit(container, Change::Put { name: name.to_owned(), entry, upload }, name).await?;
        Ok(meta)
    }

    /// Commits a change of `name` that was made to its head.
    pub(crate) async fn commit(
        &self,
        container: &Arc<Container>,
        change: Change,
        name: &str,
    ) -> Result<Committed, ObjectError> {
        let shard = container.shard_of(name);
        match self.inner.index.commit(&container.policy.index, shard, change).await {
            Ok(done) => {
                self.inner.dirty.add(container);
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

    /// Makes sure that `condition` holds now; the version of the head that it holds for, if it is about one.
    pub(crate) async fn condition_version(
        &self,
        container: &Container,
        name: &str,
        condition: &Condition,
    ) -> Result<Option<u64>, ObjectError> {
        if *condition == Condition::Always {
            return Ok(None);
        }
        let found = match self.stat_object(container, name).await {
            Ok(found) => Some(found),
            Err(ObjectError::NoSuchObject) => None,
            Err(e) => return Err(e),
        };
        match (condition, found) {
            (Condition::Always, _) | (Condition::Absent, None) => Ok(None),
            (Condition::Absent, Some(_)) => Err(ObjectError::PreconditionFailed),
            (Condition::Match(_) | Condition::Unchanged(_), None) => Err(ObjectError::NoSuchObject),
            (Condition::Unchanged(then), Some((_, now))) if *then == now => Ok(Some(now)),
            (Condition::Unchanged(_), Some(_)) => Err(ObjectError::PreconditionFailed),
            (Condition::Match(etags), Some((meta, version))) => {
                if meta.answers_to(etags) {
                    Ok(Some(version))
                } else {
                    Err(ObjectError::PreconditionFailed)
                }
            }
        }
    }

    /// Takes a body in, and checks it against what was said of it.
    pub(crate) async fn receive(
        &self,
        container: &Arc<Container>,
        body: Body,
        most: u64,
        home: Home<'_>,
    ) -> Result<Received, ObjectError> {
        let Body { stream, length, expect, sealer, customer: _ } = body;
        let stored = if sealer.is_some() { length.map(sealed_len) } else { length };
        let (pace, permit) = self.pace(stored, matches!(home, Home::Name(_)));
        let mut receiver = Receiver {
            store: self,
            container,
            home,
            length: stored,
            pace,
            sums: Sums::new(expect.algorithm),
            size: 0,
            content: 0,
            sealer,
            first: None,
            buffer: BytesMut::new(),
            tails: None,
        };
        receiver.run(stream, most).await?;
        if length.is_some_and(|n| n != receiver.content) {
            return Err(ObjectError::Incomplete);
        }
        let received = receiver.finish(permit).await?;
        expect.verify(&received.sums)?;
        Ok(received)
    }

    /// How a body of this length is to be taken in, given what other requests hold in memory.
    fn pace(&self, length: Option<u64>, whole: bool) -> (Pace, Option<OwnedSemaphorePermit>) {
        let config = &self.inner.config;
        let head = usize::try_from(config.head_bytes).unwrap_or(usize::MAX);
        const PRESSED: Pace = Pace { whole: 256 << 10, piece: 256 << 10, window: 2 };
        let relaxed = Pace { whole: head, piece: config.piece_bytes, window: config.write_window };
        let fits = |n: u64| whole && n <= config.head_bytes;
        let holds = match length {
            Some(n) if fits(n) => n as usize,
            _ => relaxed.piece * (relaxed.window + 1),
        };
        if holds <= PRESSED.piece {
            return (Pace { whole: head, ..relaxed }, None);
        }
        let wanted = u32::try_from(holds).unwrap_or(u32::MAX);
        match self.inner.budget.clone().try_acquire_many_owned(wanted) {
            // A body of unknown length, or one that is too long, is not gathered beyond its share.
            Ok(permit) => {
                let whole = if length.is_some_and(fits) { head } else { relaxed.piece };
                (Pace { whole, ..relaxed }, Some(permit))
            }
            Err(_) => (PRESSED, None),
        }
    }
}

impl Expect {
    /// Whether the body is what was said of it.
    pub(crate) fn verify(&self, sums: &Summed) -> Result<(), ObjectError> {
        if self.md5.as_ref().is_some_and(|md5| !md5.eq_ignore_ascii_case(&sums.etag)) {
            return Err(ObjectError::EtagMismatch);
        }
        match (self.algorithm, self.claim.get(), &sums.checksum) {
            (Some(a), Some(claimed), Some(sum)) if claimed != sum.value => {
                Err(ObjectError::ChecksumMismatch(a.name()))
            }
            _ => Ok(()),
        }
    }
}

/// A body being received.
struct Receiver<'a> {
    store: &'a ObjectStore,
    container: &'a Arc<Container>,
    home: Home<'a>,
    /// Bytes that will go to storage, and that have come for it: of sealed content more than its own.
    length: Option<u64>,
    pace: Pace,
    sums: Sums,
    size: u64,
    /// Bytes of content so far.
    content: u64,
    sealer: Option<Sealer>,
    /// The only frame so far: a small body is written from where the network put it.
    first: Option<Bytes>,
    buffer: BytesMut,
    tails: Option<Tails>,
}

/// Tails being written.
struct Tails {
    tag: Tag,
    /// Bytes handed over so far.
    sent: u64,
    under_way: JoinSet<Result<(), pool::Error>>,
    debris: Option<Debris>,
}

impl Receiver<'_> {
    async fn run(
        &mut self,
        mut stream: BoxStream<'static, Result<Bytes, ObjectError>>,
        most: u64,
    ) -> Result<(), ObjectError> {
        let idle = Duration::from_secs(self.store.inner.config.body_idle_s);
        while let Some(frame) =
            tokio::time::timeout(idle, stream.next()).await.map_err(|_| ObjectError::SlowBody)?
        {
            let frame = frame?;
            if frame.is_empty() {
                continue;
            }
            self.content += frame.len() as u64;
            if self.content > most {
                return Err(ObjectError::TooLarge(most));
            }
            self.sums.update(&frame);
            let frame = match &mut self.sealer {
                Some(sealer) => sealer.push(&frame)?,
                None => frame,
            };
            self.store_frame(frame).await?;
        }
        if let Some(sealer) = &mut self.sealer {
            let rest = sealer.finish()?;
            self.store_frame(rest).await?;
        }
        Ok(())
    }

    async fn store_frame(&mut self, frame: Bytes) -> Result<(), ObjectError> {
        if frame.is_empty() {
            return Ok(());
        }
        self.size += frame.len() as u64;
        self.take(frame).await
    }

    async fn take(&mut self, frame: Bytes) -> Result<(), ObjectError> {
        if self.size == frame.len() as u64 && frame.len() <= self.pace.whole {
            self.first = Some(frame);
            return Ok(());
        }
        if let Some(first) = self.first.take() {
            self.buffer.extend_from_slice(&first);
        }
        let mut rest = frame;
        while !rest.is_empty() {
            // A body in memory grows to its limit; once it has become tails, piece by piece.
            let full = if self.tails.is_some() { self.pace.piece } else { self.pace.whole };
            if self.buffer.len() >= full {
                self.flush().await?;
                continue;
            }
            let n = (full - self.buffer.len()).min(rest.len());
            if self.buffer.is_empty() {
                self.buffer.reserve(self.expected(full, rest.len()));
            }
            self.buffer.extend_from_slice(&rest.split_to(n));
        }
        Ok(())
    }

    /// How much room the next buffer wants: all that will come, up to its limit.
    fn expected(&self, full: usize, at_hand: usize) -> usize {
        let Some(length) = self.length else { return if self.tails.is_some() { full } else { at_hand } };
        let taken = self.size - at_hand as u64;
        usize::try_from(length.saturating_sub(taken)).unwrap_or(full).clamp(at_hand.min(full), full)
    }

    /// Hands what has been gathered to the cluster.
    async fn flush(&mut self) -> Result<(), ObjectError> {
        let stripe = self.store.inner.config.stripe_bytes;
        let tails = match &mut self.tails {
            Some(tails) => tails,
            none => none.insert(Tails::begin(self.store, self.container, self.home).await?),
        };
        let mut data = self.buffer.split().freeze();
        while !data.is_empty() {
            let (n, at) = (tails.sent / stripe, tails.sent % stripe);
            let room = usize::try_from(stripe - at).unwrap_or(usize::MAX);
            let piece = data.split_to(room.min(data.len()).min(self.pace.piece.max(1)));
            tails.sent += piece.len() as u64;
            while tails.under_way.len() >= self.pace.window {
                tails.wait_for_one().await?;
            }
            let pool = self.container.policy.data.clone();
            let oid = names::tail(self.container.id, tails.tag, n);
            tails.under_way.spawn(async move { pool.write(&oid, at, piece).await });
        }
        Ok(())
    }

    async fn finish(mut self, permit: Option<OwnedSemaphorePermit>) -> Result<Received, ObjectError> {
        let (mut data, mut tag, mut debris) = (Bytes::new(), None, None);
        if self.tails.is_some() || matches!(self.home, Home::Upload(_)) {
            if let Some(first) = self.first.take() {
                self.buffer.extend_from_slice(&first);
            }
            if self.tails.is_none() || !self.buffer.is_empty() {
                self.flush().await?;
            }
        } else {
            data = match self.first.take() {
                Some(first) => first,
                None => self.buffer.split().freeze(),
            };
        }
        if let Some(mut tails) = self.tails.take() {
            while !tails.under_way.is_empty() {
                tails.wait_for_one().await?;
            }
            (tag, debris) = (Some(tails.tag), tails.debris);
        }
        let (seal, salt) = self.sealer.map(|s| (s.seal, s.salt)).unwrap_or_default();
        Ok(Received {
            size: self.content,
            stored: self.size,
            seal,
            salt,
            sums: self.sums.finish(),
            data,
            tag,
            debris,
            _permit: permit,
        })
    }
}

impl Tails {
    /// A tag, and the record that tails of it may exist.
    async fn begin(
        store: &ObjectStore,
        container: &Arc<Container>,
        home: Home<'_>,
    ) -> Result<Self, ObjectError> {
        let tag = Tag::new();
        // The name in the record lets the sweep ask the head whether it names the tag after all.
        let name = if let Home::Name(name) = home { name } else { "" };
        let row = (entry::intent_key(tag), Bytes::from(name.to_owned()));
        let index = &container.policy.index;
        let debris = match home {
            Home::Name(name) => {
                let shard = container.shard_of(name);
                let change = Change::Rows { set: vec![row], remove: Vec::new(), adds: true };
                store.inner.index.commit(index, shard, change).await?;
                Some(store.inner.sweeper.debris(container, shard, tag, name))
            }
            Home::Upload(upload) => {
                let op = WriteOp::new().assert_exists().omap_set([row]);
                match index.write_op(&names::upload(container.id, upload), op).await {
                    Err(e) if e.is_not_found() => return Err(ObjectError::NoSuchUpload),
                    written => written?,
                };
                None
            }
        };
        Ok(Tails { tag, sent: 0, under_way: JoinSet::new(), debris })
    }

    async fn wait_for_one(&mut self) -> Result<(), ObjectError> {
        match self.under_way.join_next().await {
            Some(Ok(written)) => Ok(written?),
            Some(Err(_)) => Err(ObjectError::Damaged("a write was cut off")),
            None => Ok(()),
        }
    }
}
