//! Receiving a body: what fits the head stays in memory, the rest becomes tails while it arrives.
//!
//! Back-pressure is the reader's: no more is taken from the client than is under way to the cluster. What all requests
//! hold in memory as whole objects comes out of one budget ([`super::budget`]); when it is spent and none of it comes
//! back, bodies are taken in small pieces.

use crate::container::Container;
use crate::digest::{self, Summed, Sums};
use crate::index::Change;
use crate::index::entry;
use crate::names::{self, Tag};
use crate::object::budget::Share;
use crate::object::write::{Body, Expect};
use crate::policy::{PolicyId, StoragePolicy};
use crate::seal::{Seal, Sealer, sealed_len};
use crate::sweep::Debris;
use crate::{ObjectError, ObjectStore};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use pool::WriteOp;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Bytes of a body from which on it is worth summing together with others.
const LARGE: u64 = 256 << 10;

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
    _permit: Option<Share>,
}

/// Bodies in pieces: how large, and how many are under way.
#[derive(Clone, Copy)]
struct Pace {
    whole: usize,
    piece: usize,
    window: usize,
}

impl ObjectStore {
    /// Takes a body in, and checks it against what was said of it.
    pub(crate) async fn receive(
        &self,
        container: &Arc<Container>,
        body: Body,
        most: u64,
        home: Home<'_>,
    ) -> Result<Received, ObjectError> {
        let Body { stream, length, expect, sealer, customer: _, reseller: _, policy } = body;
        let elsewhere = policy.filter(|p| p.place_from(&container.policy).is_some());
        let stored = if sealer.is_some() { length.map(sealed_len) } else { length };
        let whole = matches!(home, Home::Name(_)) && elsewhere.is_none();
        let (pace, permit) = self.pace(stored, self.most_in_head(container), whole).await;
        // What is sealed is summed before: then it is gone.
        let large = sealer.is_none() && length.is_none_or(|n| n >= LARGE);
        let mut receiver = Receiver {
            store: self,
            container,
            elsewhere,
            home,
            length: stored,
            pace,
            sums: Sums::new(expect.algorithm),
            large: large.then(|| self.inner.together.begin()),
            summed: 0,
            flushed: 0,
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

    /// Bytes of a body that go into the head. A version that is replaced is copied from the head to an object of its
    /// own: where versions are kept a head is small, and the bytes of a larger body stay where they were written.
    fn most_in_head(&self, container: &Container) -> u64 {
        let config = &self.inner.config;
        match container.info.versioning.is_set() {
            true => config.head_bytes.min(config.version_head_bytes),
            false => config.head_bytes,
        }
    }

    /// How a body of this length is to be taken in, given what goes into the head and what other requests hold in
    /// memory.
    async fn pace(&self, length: Option<u64>, head: u64, whole: bool) -> (Pace, Option<Share>) {
        let config = &self.inner.config;
        const PRESSED: Pace = Pace { whole: 256 << 10, piece: 256 << 10, window: 2 };
        let fits = |n: u64| whole && n <= head;
        let head = usize::try_from(head).unwrap_or(usize::MAX);
        let relaxed = Pace { whole: head, piece: config.piece_bytes, window: config.write_window };
        let pressed = Pace { whole: PRESSED.whole.min(head), ..PRESSED };
        let holds = match length {
            Some(n) if fits(n) => n as usize,
            _ => relaxed.piece * (relaxed.window + 1),
        };
        if holds <= PRESSED.piece {
            return (Pace { whole: head, ..relaxed }, None);
        }
        let wanted = u32::try_from(holds).unwrap_or(u32::MAX);
        match self.inner.budget.take(wanted).await {
            // A body of unknown length, or one that is too long, is not gathered beyond its share.
            Some(share) => {
                let whole = if length.is_some_and(fits) { head } else { relaxed.piece.min(head) };
                (Pace { whole, ..relaxed }, Some(share))
            }
            None => (pressed, None),
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
    /// The policy that holds the tails, where that is not the container's: nothing but an empty body is then in memory.
    elsewhere: Option<Arc<StoragePolicy>>,
    home: Home<'a>,
    /// Bytes that will go to storage, and that have come for it: of sealed content more than its own.
    length: Option<u64>,
    pace: Pace,
    sums: Sums,
    /// A large body: what is gathered of it is summed together with others'.
    large: Option<digest::Body>,
    /// Bytes of it that are in the MD5, and that were handed to the cluster.
    summed: u64,
    flushed: u64,
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
            let is_next = self.summed == self.content;
            self.content += frame.len() as u64;
            if self.content > most {
                return Err(ObjectError::TooLarge(most));
            }
            if is_next && self.large.as_ref().is_none_or(digest::Body::is_alone) {
                self.sums.update(&frame);
                self.summed = self.content;
            } else {
                self.sums.update_extra(&frame);
            }
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
            self.buffer.reserve(self.expected(self.pace.whole, first.len() + frame.len()));
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
            none => {
                let place = self.elsewhere.as_ref().map(|p| p.id);
                none.insert(Tails::begin(self.store, self.container, self.home, place).await?)
            }
        };
        let pool = self.elsewhere.as_ref().map_or(&self.container.policy.data, |p| &p.data);
        let gathered = self.buffer.split().freeze();
        let mut data = gathered.clone();
        while !data.is_empty() {
            let (n, at) = (tails.sent / stripe, tails.sent % stripe);
            let room = usize::try_from(stripe - at).unwrap_or(usize::MAX);
            let piece = data.split_to(room.min(data.len()).min(self.pace.piece.max(1)));
            tails.sent += piece.len() as u64;
            while tails.under_way.len() >= self.pace.window {
                tails.wait_for_one().await?;
            }
            let pool = pool.clone();
            let oid = names::tail(self.container.id, tails.tag, n);
            tails.under_way.spawn(async move { pool.write(&oid, at, piece).await });
        }
        self.sum(&gathered).await?;
        self.flushed += gathered.len() as u64;
        Ok(())
    }

    /// Has what was gathered added to the MD5, but for what was when it came.
    async fn sum(&mut self, gathered: &Bytes) -> Result<(), ObjectError> {
        let done = usize::try_from(self.summed - self.flushed.min(self.summed)).unwrap_or(usize::MAX);
        if self.large.is_some() && done < gathered.len() {
            self.sums.update_md5(&self.store.inner.together, &gathered.slice(done..)).await?;
            self.summed = self.flushed + gathered.len() as u64;
        }
        Ok(())
    }

    async fn finish(mut self, permit: Option<Share>) -> Result<Received, ObjectError> {
        let (mut data, mut tag, mut debris) = (Bytes::new(), None, None);
        let away = self.elsewhere.is_some() && self.size > 0;
        if self.tails.is_some() || away || matches!(self.home, Home::Upload(_)) {
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
            self.sum(&data).await?;
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
        place: Option<PolicyId>,
    ) -> Result<Self, ObjectError> {
        let tag = Tag::new();
        // The name in the record lets the sweep ask the head whether it names the tag after all.
        let name = if let Home::Name(name) = home { name } else { "" };
        let intent = entry::intent(name, place);
        let row = (entry::intent_key(tag), Bytes::from(intent.clone()));
        let index = &container.policy.index;
        let debris = match home {
            Home::Name(name) => {
                let shard = container.shard_of(name);
                let change = Change::Rows { set: vec![row], remove: Vec::new(), adds: true };
                store.inner.index.commit(index, shard, change).await?;
                Some(store.inner.sweeper.debris(container, shard, tag, &intent))
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
