//! One read operation of an object's content.
//!
//! A head may be replaced between two reads of it: what is not of the same RADOS version is not mixed in. A version
//! with an id of its own goes on all the same: replaced in the head, it is in an object of its own, and the other way
//! round, and the id that is read with the bytes says that they are its.

use crate::ObjectError;
use crate::meta::{META_XATTR, ObjectMeta};
use crate::names;
use crate::version::VersionId;
use bytes::Bytes;
use pool::{OptionalExt, Pool, ReadOp};

/// Where an object's metadata and the beginning of its content are.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) oid: String,
    pub(super) version: u64,
    /// The version that is there, if that is known by its id.
    id: Option<VersionId>,
}

impl Place {
    pub(super) fn of(oid: &str, version: u64, meta: &ObjectMeta) -> Self {
        let id = Some(meta.version_id()).filter(|id| *id != VersionId::Null);
        Place { oid: oid.to_owned(), version, id }
    }

    /// Where else the same version may be.
    fn elsewhere(&self) -> Option<String> {
        let id = self.id?;
        match names::parse_version(&self.oid) {
            Some((container, _, name)) => Some(names::head(container, name)),
            None => names::parse_head(&self.oid).map(|(container, name)| names::version(container, id, name)),
        }
    }
}

/// One read operation.
pub(super) enum Piece {
    /// Of the object that holds the metadata.
    Head {
        place: Place,
        off: u64,
        len: u64,
    },
    Tail {
        oid: String,
        off: u64,
        len: u64,
    },
}

pub(super) async fn read(pool: Pool, piece: Piece) -> Result<Bytes, ObjectError> {
    let bytes = |len: u64| usize::try_from(len).unwrap_or(usize::MAX);
    let (data, len) = match piece {
        Piece::Tail { oid, off, len } => (pool.read(&oid, off, bytes(len)).await?, bytes(len)),
        Piece::Head { place, off, len } => (read_head(&pool, &place, off, bytes(len)).await?, bytes(len)),
    };
    if data.len() == len {
        Ok(data)
    } else {
        Err(ObjectError::Damaged("content is shorter than it should be"))
    }
}

async fn read_head(pool: &Pool, place: &Place, off: u64, len: usize) -> Result<Bytes, ObjectError> {
    let op = ReadOp::new().assert_version(place.version).read(off, len);
    let gone = match pool.read_op(&place.oid, op).await {
        Ok(mut outcome) => return outcome.data().ok_or(ObjectError::Damaged("a read gave nothing")),
        Err(e) if e.is_cancelled() || e.is_not_found() => e,
        Err(e) => return Err(e.into()),
    };
    let Some(other) = place.elsewhere() else { return Err(gone.into()) };
    // Twice around: it may be moved back while it is looked for.
    for oid in [&other, &place.oid, &other, &place.oid] {
        let op = ReadOp::new().get_xattrs().read(off, len);
        let Some(mut outcome) = pool.read_op(oid, op).await.optional()? else { continue };
        let (xattrs, data) = (outcome.xattrs().unwrap_or_default(), outcome.data());
        let meta = xattrs.get(META_XATTR).ok_or(ObjectError::Damaged("a head without metadata"))?;
        if Some(ObjectMeta::decode(meta)?.version_id()) == place.id {
            return data.ok_or(ObjectError::Damaged("a read gave nothing"));
        }
    }
    Err(gone.into())
}
