//! Reading an object: its head tells what it is and, for most objects, is all of it.

use crate::container::Container;
use crate::meta::{Kind, META_XATTR, ObjectMeta, Part};
use crate::names::{self, Tag};
use crate::range::Span;
use crate::{ObjectError, ObjectStore};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use pool::{OptionalExt, Pool, ReadOp};
use state::Timestamp;
use std::sync::Arc;

/// An object, opened.
pub struct Object {
    pub meta: ObjectMeta,
    pub version: u64,
    pub(crate) container: Arc<Container>,
    pub(crate) name: String,
    /// The first bytes of the head's data, read together with the metadata.
    start: Bytes,
}

/// Where content comes from; made by [`ObjectStore::source`]. Cheap to clone.
#[derive(Clone)]
pub struct Source {
    pool: Pool,
    /// The head with its version, and how much of its data is content.
    head: Option<(String, u64)>,
    head_len: u64,
    start: Bytes,
    runs: Vec<Run>,
    read_bytes: u64,
    window: usize,
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

/// One read operation.
struct Piece {
    oid: String,
    version: Option<u64>,
    off: u64,
    len: u64,
}

impl ObjectStore {
    /// Opens an object. `first` bytes of its content are asked for in the same operation.
    pub async fn open_object(
        &self,
        container: &Arc<Container>,
        name: &str,
        first: u64,
    ) -> Result<Object, ObjectError> {
        super::check_name(name)?;
        let op = ReadOp::new().get_xattrs();
        let op = if first > 0 { op.read(0, usize::try_from(first).unwrap_or(usize::MAX)) } else { op };
        let oid = names::head(container.id, name);
        let mut outcome =
            container.policy.data.read_op(&oid, op).await.optional()?.ok_or(ObjectError::NoSuchObject)?;
        let xattrs = outcome.xattrs().ok_or(ObjectError::Damaged("a head without metadata"))?;
        let meta = xattrs.get(META_XATTR).ok_or(ObjectError::Damaged("a head without metadata"))?;
        let meta = ObjectMeta::decode(meta)?;
        if meta.expired(Timestamp::now()) {
            return Err(ObjectError::NoSuchObject);
        }
        Ok(Object {
            meta,
            version: outcome.version,
            container: container.clone(),
            name: name.to_owned(),
            start: outcome.data().unwrap_or_default(),
        })
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
        let oid = names::head(container.id, name);
        let op = ReadOp::new().get_xattrs();
        let mut outcome =
            container.policy.data.read_op(&oid, op).await.optional()?.ok_or(ObjectError::NoSuchObject)?;
        let xattrs = outcome.xattrs().unwrap_or_default();
        let meta = xattrs.get(META_XATTR).ok_or(ObjectError::Damaged("a head without metadata"))?;
        let meta = ObjectMeta::decode(meta)?;
        if meta.expired(Timestamp::now()) {
            return Err(ObjectError::NoSuchObject);
        }
        Ok((meta, outcome.version))
    }

    /// Gets ready to read an object's content.
    pub async fn source(&self, object: Object) -> Result<Source, ObjectError> {
        let Object { meta, version, container, name, start } = object;
        let oid = names::head(container.id, &name);
        let pool = container.policy.data.clone();
        let config = &self.inner.config;
        let mut source = Source {
            pool,
            head: None,
            head_len: 0,
            start: Bytes::new(),
            runs: Vec::new(),
            read_bytes: config.read_bytes.max(1),
            window: config.read_window.max(1),
        };
        match meta.kind {
            Kind::Multipart => {
                let list = self.read_parts(&source.pool, &oid, version, meta.layout.head, start).await?;
                source.runs = runs_of(container.id, &list);
            }
            Kind::Plain | Kind::Slo => {
                source.head_len = meta.layout.head;
                source.head = Some((oid, version));
                source.start =
                    start.slice(..start.len().min(usize::try_from(meta.layout.head).unwrap_or(usize::MAX)));
                if let Some(tag) = meta.layout.tag {
                    let (at, stripe) = (meta.layout.head, meta.layout.stripe);
                    source.runs.push(Run { tag, container: container.id, at, len: meta.size - at, stripe });
                }
            }
        }
        Ok(source)
    }

    /// The parts of a multipart object, which its head's data lists.
    pub async fn parts(&self, object: &Object) -> Result<Vec<Part>, ObjectError> {
        if object.meta.kind != Kind::Multipart {
            return Ok(Vec::new());
        }
        let oid = names::head(object.container.id, &object.name);
        let pool = &object.container.policy.data;
        self.read_parts(pool, &oid, object.version, object.meta.layout.head, object.start.clone()).await
    }

    async fn read_parts(
        &self,
        pool: &Pool,
        oid: &str,
        version: u64,
        len: u64,
        start: Bytes,
    ) -> Result<Vec<Part>, ObjectError> {
        let data = match start.len() as u64 >= len {
            true => start,
            false => {
                let piece = Piece { oid: oid.to_owned(), version: Some(version), off: 0, len };
                read_piece(pool.clone(), piece).await?
            }
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
        if object.start.len() as u64 == size && object.meta.kind != Kind::Multipart {
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
            let run = Run { tag: p.tag, container, at, len: p.size, stripe: p.stripe };
            at += p.size;
            run
        })
        .collect()
}

impl Source {
    /// The bytes of `span`, which lies within the object. A few operations run ahead of the reader.
    pub fn stream(self, span: Span) -> impl Stream<Item = Result<Bytes, ObjectError>> + Send + 'static {
        let known = (self.start.len() as u64).min(self.head_len);
        let first = match span.start < known && !span.is_empty() {
            true => self.start.slice(span.start as usize..span.end.min(known) as usize),
            false => Bytes::new(),
        };
        let rest = Span { start: span.start + first.len() as u64, end: span.end };
        let (pool, window) = (self.pool.clone(), self.window);
        let pieces = self.pieces(rest);
        let first = (!first.is_empty()).then_some(Ok(first));
        futures::stream::iter(first).chain(
            futures::stream::iter(pieces).map(move |piece| read_piece(pool.clone(), piece)).buffered(window),
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
            if let Some((oid, version)) = self.head.as_ref().filter(|_| at < self.head_len) {
                let len = (self.head_len.min(span.end) - at).min(self.read_bytes);
                let piece = Piece { oid: oid.clone(), version: Some(*version), off: at, len };
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
            Some(Piece { oid: names::tail(r.container, r.tag, n), version: None, off, len })
        })
    }
}

async fn read_piece(pool: Pool, piece: Piece) -> Result<Bytes, ObjectError> {
    let len = usize::try_from(piece.len).unwrap_or(usize::MAX);
    let data = match piece.version {
        None => pool.read(&piece.oid, piece.off, len).await?,
        // The head may be replaced between two reads of it: what is not of the same version is not mixed in.
        Some(version) => {
            let op = ReadOp::new().assert_version(version).read(piece.off, len);
            let mut outcome = pool.read_op(&piece.oid, op).await?;
            outcome.data().ok_or(ObjectError::Damaged("a read gave nothing"))?
        }
    };
    if data.len() == len {
        Ok(data)
    } else {
        Err(ObjectError::Damaged("content is shorter than it should be"))
    }
}
