//! Reading an object: its head tells what it is and, for most objects, is all of it.

use crate::access::Access;
use crate::container::Container;
use crate::index::entry::{self, Entry};
use crate::meta::{Kind, META_XATTR, ObjectMeta, Part};
use crate::names::{self, Tag};
use crate::object::piece::{self, Piece, Place};
use crate::policy::PolicyId;
use crate::range::Span;
use crate::seal::{CustomerKey, DataKey, Stretch};
use crate::version::VersionId;
use crate::{ObjectError, ObjectStore};
use bytes::Bytes;
use futures::future::Either;
use futures::{Stream, StreamExt};
use pool::{OptionalExt, Pool, ReadOp};
use state::Timestamp;
use std::sync::Arc;

/// An object, opened.
#[derive(Clone)]
pub struct Object {
    pub meta: ObjectMeta,
    pub version: u64,
    pub(crate) container: Arc<Container>,
    /// The RADOS object that holds its metadata and the beginning of its content.
    pub(super) oid: String,
    /// The first bytes of the head's data, read together with the metadata.
    start: Bytes,
    /// The key that the reader brings, for an object that is encrypted with it.
    key: Option<CustomerKey>,
}

impl Object {
    /// What was opened, where that is what was meant.
    fn only(self, meant: impl FnOnce(&ObjectMeta) -> bool) -> Result<Object, ObjectError> {
        if meant(&self.meta) { Ok(self) } else { Err(ObjectError::NoSuchObject) }
    }

    /// Takes the key that a reader brings, or none; refuses where that is not the one that is needed.
    pub(crate) fn unlock(&mut self, key: Option<CustomerKey>) -> Result<(), ObjectError> {
        match &self.meta.seal {
            Some(seal) => seal.check(key.as_ref())?,
            None if key.is_some() => return Err(ObjectError::NotSealed),
            None => {}
        }
        self.key = key;
        Ok(())
    }
}

/// Where content comes from; made by [`ObjectStore::source`]. Cheap to clone.
#[derive(Clone)]
pub struct Source {
    pool: Pool,
    /// Holds the tails.
    tails: Pool,
    /// The head, and how much of its data is content.
    head: Option<Place>,
    head_len: u64,
    start: Bytes,
    runs: Vec<Run>,
    read_bytes: u64,
    window: usize,
    /// The bodies of sealed content: all else here is then about what is stored.
    sealed: Option<Arc<[Stretch]>>,
}

/// Content under one tag.
#[derive(Clone)]
struct Run {
    tag: Tag,
    container: names::ContainerId,
    /// Where in the object it begins, and how long it is.
    at: u64,
    len: u64,
    stripe: u64,
}

impl ObjectStore {
    /// Opens an object. `first` bytes of its content are asked for in the same operation.
    pub async fn open_object(
        &self,
        container: &Arc<Container>,
        name: &str,
        first: u64,
    ) -> Result<Object, ObjectError> {
        self.open_head(container, name, first).await?.only(ObjectMeta::is_there)
    }

    /// As `open_object`, or `open_unswept` for whom what has expired is still there.
    pub(crate) async fn open_object_for(
        &self,
        access: &Access,
        container: &Arc<Container>,
        name: &str,
        first: u64,
    ) -> Result<Object, ObjectError> {
        match access.opens_expired {
            true => self.open_unswept(container, name, first).await,
            false => self.open_object(container, name, first).await,
        }
    }

    /// Opens an object also if it has expired, until it is removed.
    pub(crate) async fn open_unswept(
        &self,
        container: &Arc<Container>,
        name: &str,
        first: u64,
    ) -> Result<Object, ObjectError> {
        self.open_head(container, name, first).await?.only(|meta| !meta.is_marker())
    }

    /// Opens the latest version of an object, which may be a delete marker.
    pub(crate) async fn open_latest(
        &self,
        container: &Arc<Container>,
        name: &str,
        first: u64,
    ) -> Result<Object, ObjectError> {
        self.open_head(container, name, first).await?.only(|meta| !meta.expired(Timestamp::now()))
    }

    /// Opens what the head of an object's name holds, whatever it is.
    async fn open_head(
        &self,
        container: &Arc<Container>,
        name: &str,
        first: u64,
    ) -> Result<Object, ObjectError> {
        super::check_name(name)?;
        let oid = names::head(container.id, name);
        self.open_oid(container, oid, first).await?.ok_or(ObjectError::NoSuchObject)
    }

    /// Opens one version of an object, which may be a delete marker.
    pub async fn open_version(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: VersionId,
        first: u64,
    ) -> Result<Object, ObjectError> {
        super::check_name(name)?;
        let head = names::head(container.id, name);
        let mut seen = None;
        loop {
            let latest = self.open_oid(container, head.clone(), first).await?;
            let now = latest.as_ref().map(|o| o.version);
            let found = match latest {
                Some(object) if object.meta.version_id() == id => Some(object),
                _ if container.info.versioning.is_set() => {
                    let oid = names::version(container.id, id, name);
                    match self.open_oid(container, oid, first).await? {
                        Some(object) if self.is_listed(container, name, &object.meta).await? => Some(object),
                        _ => None,
                    }
                }
                _ => None,
            };
            match found {
                // A version with an id of its own stays until it is deleted by that.
                Some(object) if id == VersionId::Null && object.meta.expired(Timestamp::now()) => {
                    return Err(ObjectError::NoSuchVersion);
                }
                Some(object) => return Ok(object),
                // Unless the head was replaced meanwhile: the version may have passed through it.
                None if seen == Some(now) => return Err(ObjectError::NoSuchVersion),
                None => seen = Some(now),
            }
        }
    }

    /// Whether the index knows a version. What a change of a head leaves that came to nothing is not known to it.
    pub(crate) async fn is_listed(
        &self,
        container: &Container,
        name: &str,
        meta: &ObjectMeta,
    ) -> Result<bool, ObjectError> {
        let keys = [entry::version_key(name, meta.order()), entry::object_key(name)];
        let (index, shard) = (&container.policy.index, container.shard_of(name));
        let more = |op: ReadOp| op.omap_get_by_keys(keys.clone());
        let Some(mut outcome) = self.inner.index.read(index, shard, name, more).await? else {
            return Ok(false);
        };
        for (_, row) in outcome.omap().unwrap_or_default().entries {
            if Entry::decode(&row)?.id() == meta.version_id() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn open_oid(
        &self,
        container: &Arc<Container>,
        oid: String,
        first: u64,
    ) -> Result<Option<Object>, ObjectError> {
        let op = ReadOp::new().get_xattrs();
        let op = if first > 0 { op.read(0, usize::try_from(first).unwrap_or(usize::MAX)) } else { op };
        let Some(mut outcome) = container.policy.data.read_op(&oid, op).await.optional()? else {
            return Ok(None);
        };
        let xattrs = outcome.xattrs().ok_or(ObjectError::Damaged("a head without metadata"))?;
        let meta = xattrs.get(META_XATTR).ok_or(ObjectError::Damaged("a head without metadata"))?;
        Ok(Some(Object {
            meta: ObjectMeta::decode(meta)?,
            version: outcome.version,
            container: container.clone(),
            oid,
            start: outcome.data().unwrap_or_default(),
            key: None,
        }))
    }

    /// How many bytes a GET should ask for at first.
    pub fn first_read(&self) -> u64 {
        self.inner.config.first_read_bytes
    }

    /// An object's metadata and its head's version.
    pub(crate) async fn stat_object(
        &self,
        container: &Container,
        name: &str,
    ) -> Result<(ObjectMeta, u64), ObjectError> {
        let head = self.raw_head(container, name).await?;
        head.filter(|(meta, _)| meta.is_there()).ok_or(ObjectError::NoSuchObject)
    }

    /// Gets ready to read an object's content.
    pub async fn source(&self, object: Object) -> Result<Source, ObjectError> {
        let seal = match &object.meta.seal {
            Some(seal) => Some(self.data_key(&object.container, seal, object.key.as_ref()).await?),
            None => None,
        };
        self.source_of(object, seal).await
    }

    /// Gets ready to read the bytes that an object of one body takes in storage, sealed or not.
    pub(super) async fn stored_source(&self, object: Object) -> Result<Source, ObjectError> {
        self.source_of(object, None).await
    }

    /// Gets ready to read the bytes that one part of a multipart object takes in storage.
    pub(super) fn part_source(
        &self,
        container: &Container,
        place: Option<PolicyId>,
        part: &Part,
    ) -> Result<Source, ObjectError> {
        let runs = runs_of(container.id, std::slice::from_ref(part));
        Ok(Source { runs, ..self.empty_source(container, place)? })
    }

    fn empty_source(&self, container: &Container, place: Option<PolicyId>) -> Result<Source, ObjectError> {
        let config = &self.inner.config;
        Ok(Source {
            pool: container.policy.data.clone(),
            tails: self.inner.policies.pool_at(&container.policy, place)?.clone(),
            head: None,
            head_len: 0,
            start: Bytes::new(),
            runs: Vec::new(),
            read_bytes: config.read_bytes.max(1),
            window: config.read_window.max(1),
            sealed: None,
        })
    }

    async fn source_of(&self, object: Object, seal: Option<DataKey>) -> Result<Source, ObjectError> {
        let Object { meta, version, container, oid, start, key: _ } = object;
        let mut source = self.empty_source(&container, meta.place)?;
        match meta.kind {
            Kind::Multipart => {
                let place = Place::of(&oid, version, &meta);
                let list = self.read_parts(&source.pool, place, meta.layout.head, start).await?;
                source.runs = runs_of(container.id, &list);
                source.sealed = seal.map(|key| stretches_of(&key, &list).into());
            }
            Kind::Plain | Kind::Slo | Kind::Marker => {
                source.head_len = meta.layout.head;
                source.head = Some(Place::of(&oid, version, &meta));
                source.start =
                    start.slice(..start.len().min(usize::try_from(meta.layout.head).unwrap_or(usize::MAX)));
                if let Some(tag) = meta.layout.tag {
                    let (at, stripe) = (meta.layout.head, meta.layout.stripe);
                    source.runs.push(Run {
                        tag,
                        container: container.id,
                        at,
                        len: meta.stored() - at,
                        stripe,
                    });
                }
                let whole = |key| Stretch { at: 0, len: meta.size, stored_at: 0, key, salt: Vec::new() };
                source.sealed = seal.map(|key| [whole(key)].into());
            }
        }
        Ok(source)
    }

    /// The parts of a multipart object, which its head's data lists.
    pub async fn parts(&self, object: &Object) -> Result<Vec<Part>, ObjectError> {
        if object.meta.kind != Kind::Multipart {
            return Ok(Vec::new());
        }
        let pool = &object.container.policy.data;
        let place = Place::of(&object.oid, object.version, &object.meta);
        self.read_parts(pool, place, object.meta.layout.head, object.start.clone()).await
    }

    async fn read_parts(
        &self,
        pool: &Pool,
        place: Place,
        len: u64,
        start: Bytes,
    ) -> Result<Vec<Part>, ObjectError> {
        let data = match start.len() as u64 >= len {
            true => start,
            false => piece::read(pool.clone(), Piece::Head { place, off: 0, len }).await?,
        };
        let data = data.get(..usize::try_from(len).unwrap_or(usize::MAX));
        Ok(Part::decode_all(data.ok_or(ObjectError::Damaged("a list of parts is cut off"))?)?)
    }

    /// All of a small object's content: manifests.
    pub(crate) async fn read_all(&self, object: Object, most: u64) -> Result<Bytes, ObjectError> {
        let size = object.meta.size;
        if size > most {
            return Err(ObjectError::TooLarge(most));
        }
        let plain = object.meta.kind != Kind::Multipart && object.meta.seal.is_none();
        if object.start.len() as u64 == size && plain {
            return Ok(object.start);
        }
        let mut stream = Box::pin(self.source(object).await?.stream(Span { start: 0, end: size }));
        let mut all = bytes::BytesMut::with_capacity(usize::try_from(size).unwrap_or(0));
        while let Some(data) = stream.next().await {
            all.extend_from_slice(&data?);
        }
        Ok(all.freeze())
    }
}

fn runs_of(container: names::ContainerId, parts: &[Part]) -> Vec<Run> {
    let mut at = 0;
    parts
        .iter()
        .map(|p| {
            let run = Run { tag: p.tag, container, at, len: p.stored(), stripe: p.stripe };
            at += p.stored();
            run
        })
        .collect()
}

fn stretches_of(key: &DataKey, parts: &[Part]) -> Vec<Stretch> {
    let (mut at, mut stored_at) = (0, 0);
    parts
        .iter()
        .map(|p| {
            let stretch = Stretch { at, len: p.size, stored_at, key: key.clone(), salt: p.salt.clone() };
            (at, stored_at) = (at + p.size, stored_at + p.stored());
            stretch
        })
        .collect()
}

impl Source {
    /// The bytes of `span`, which lies within the object. A few operations run ahead of the reader.
    pub fn stream(self, span: Span) -> impl Stream<Item = Result<Bytes, ObjectError>> + Send + 'static {
        match self.sealed.clone() {
            None => Either::Left(self.stored(span)),
            Some(stretches) => Either::Right(self.opened(stretches, span)),
        }
    }

    /// The content of `span`, opened body by body.
    fn opened(
        self,
        stretches: Arc<[Stretch]>,
        span: Span,
    ) -> impl Stream<Item = Result<Bytes, ObjectError>> + Send + 'static {
        let wanted: Vec<(Stretch, Span)> = stretches
            .iter()
            .filter(|s| s.at < span.end && s.at + s.len > span.start)
            .map(|s| {
                let (start, end) = (span.start.max(s.at) - s.at, span.end.min(s.at + s.len) - s.at);
                (s.clone(), Span { start, end })
            })
            .collect();
        futures::stream::iter(wanted)
            .map(move |(stretch, span)| {
                let (stored, mut opener) = match stretch.open(span) {
                    Ok(opened) => opened,
                    Err(e) => return Either::Left(futures::stream::iter([Err(e)])),
                };
                let pieces = self.clone().stored(stored);
                Either::Right(pieces.map(move |piece| opener.push(&piece?)))
            })
            .flatten()
            // A piece that completes no chunk gives nothing yet.
            .filter(|opened| futures::future::ready(!matches!(opened, Ok(content) if content.is_empty())))
    }

    /// The stored bytes of `span`.
    fn stored(self, span: Span) -> impl Stream<Item = Result<Bytes, ObjectError>> + Send + 'static {
        let known = (self.start.len() as u64).min(self.head_len);
        let first = match span.start < known && !span.is_empty() {
            true => self.start.slice(span.start as usize..span.end.min(known) as usize),
            false => Bytes::new(),
        };
        let rest = Span { start: span.start + first.len() as u64, end: span.end };
        let (pool, tails, window) = (self.pool.clone(), self.tails.clone(), self.window);
        let pieces = self.pieces(rest);
        let first = (!first.is_empty()).then_some(Ok(first));
        futures::stream::iter(first).chain(
            futures::stream::iter(pieces)
                .map(move |piece| {
                    let pool = if matches!(piece, Piece::Tail { .. }) { &tails } else { &pool };
                    piece::read(pool.clone(), piece)
                })
                .buffered(window),
        )
    }

    /// The read operations that give `span`, in order; made as they are needed.
    fn pieces(self, span: Span) -> impl Iterator<Item = Piece> + Send + 'static {
        let mut at = span.start;
        // The run that `at` is in; runs are in order and touch.
        let mut run = self.runs.partition_point(|r| r.at + r.len <= at);
        std::iter::from_fn(move || {
            if at >= span.end {
                return None;
            }
            if let Some(place) = self.head.as_ref().filter(|_| at < self.head_len) {
                let len = (self.head_len.min(span.end) - at).min(self.read_bytes);
                let piece = Piece::Head { place: place.clone(), off: at, len };
                at += len;
                return Some(piece);
            }
            while self.runs.get(run).is_some_and(|r| r.at + r.len <= at) {
                run += 1;
            }
            let r = self.runs.get(run)?;
            let within = at - r.at;
            let (n, off) = (within / r.stripe.max(1), within % r.stripe.max(1));
            let len = (r.len - within).min(r.stripe - off).min(span.end - at).min(self.read_bytes);
            at += len;
            Some(Piece::Tail { oid: names::tail(r.container, r.tag, n), off, len })
        })
    }
}
