//! What can go wrong in the object store, in the terms that both doors answer in.

use crate::codec::Damaged;

/// Cheap to clone, so that one failed group commit can be told to everyone who waits for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ObjectError {
    #[error("the container does not exist")]
    NoSuchContainer,
    #[error("the object does not exist")]
    NoSuchObject,
    #[error("the object has no such version")]
    NoSuchVersion,
    /// What is asked for cannot be done with a delete marker.
    #[error("the version is a delete marker")]
    IsMarker,
    /// A version is kept by retention or by a legal hold.
    #[error("the version is locked")]
    Locked,
    /// The container that is to keep what is replaced is not there.
    #[error("the versions container does not exist")]
    NoHistory,
    #[error("the container is not empty")]
    NotEmpty,
    /// Only older versions and delete markers are left.
    #[error("the container still has versions")]
    HasVersions,
    /// A bucket of this name exists; `mine` tells whether the asking project owns it.
    #[error("the bucket exists")]
    BucketExists { mine: bool },
    /// The container exists with another storage policy.
    #[error("the container has another storage policy")]
    OtherPolicy,
    #[error("the topic does not exist")]
    NoSuchTopic,
    #[error("there is no storage policy {0:?}")]
    NoSuchPolicy(String),
    #[error("{0}")]
    BadName(&'static str),
    /// Something in the request makes no sense; the text is for the caller.
    #[error("{0}")]
    Invalid(String),
    /// The account, or all of them, may not be changed.
    #[error("writes are disabled for this account")]
    ReadOnly,
    #[error("the caller may not do this")]
    Forbidden,
    /// The object opens only with the key that its writer has.
    #[error("the object is encrypted with a key of the client's")]
    Sealed,
    /// A key came for an object that is not encrypted with one.
    #[error("the object is not encrypted with a key of the client's")]
    NotSealed,
    /// A part comes with other keys than its upload began with. The text is for the caller.
    #[error("{0}")]
    OtherSeal(&'static str),
    #[error("the object is larger than {0} bytes")]
    TooLarge(u64),
    #[error("fewer bytes arrived than were announced")]
    Incomplete,
    /// The client went away or broke the transfer's framing.
    #[error("the body could not be read: {0}")]
    BrokenBody(String),
    #[error("the client sent nothing for too long")]
    SlowBody,
    #[error("the content is not what its ETag says")]
    EtagMismatch,
    /// A checksum is of another algorithm than the upload's. The text is for the caller.
    #[error("{0}")]
    OtherChecksum(String),
    /// The content is not what a checksum that came with it says.
    #[error("the content is not what its {0} says")]
    ChecksumMismatch(&'static str),
    #[error("{provided} bytes arrived where {promised} were announced")]
    OtherLength { promised: u64, provided: u64 },
    /// A signed chunk that is not the last is too small; it was seen when the chunk of this number came.
    #[error("a chunk has {size} bytes only")]
    SmallChunk { number: u64, size: u64 },
    #[error("the body's SHA-256 is {computed}")]
    Sha256Mismatch { computed: String },
    #[error("a precondition failed")]
    PreconditionFailed,
    #[error("a quota is spent: {0}")]
    OverQuota(&'static str),
    #[error("the multipart upload does not exist")]
    NoSuchUpload,
    #[error("part {0} was not uploaded, or has another ETag")]
    InvalidPart(u32),
    #[error("the parts are not in ascending order")]
    PartOrder,
    #[error("part {0} is smaller than a part may be")]
    PartTooSmall(u32),
    /// Others changed the same thing again and again while this was trying to.
    #[error("others keep changing the same thing")]
    Contended,
    #[error("storage has no space left")]
    NoSpace(#[source] pool::Error),
    /// The storage cluster does not answer.
    #[error("storage is unavailable")]
    Unavailable(#[source] pool::Error),
    /// Storage refused: a defect of ours or of its setup.
    #[error("storage failed")]
    Storage(#[source] pool::Error),
    #[error("{0}")]
    State(#[source] state::StateError),
    /// What was read from storage makes no sense.
    #[error("stored data is damaged: {0}")]
    Damaged(&'static str),
    /// Identity is away, or says something else than yes or no.
    #[error("identity failed: {0}")]
    Identity(String),
    #[error("a failpoint said so")]
    Failpoint,
}

impl ObjectError {
    /// Whether the same request may succeed later without anyone doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            ObjectError::Unavailable(_) | ObjectError::Contended | ObjectError::Identity(_) => true,
            ObjectError::State(e) => e.is_transient(),
            _ => false,
        }
    }
}

impl From<pool::Error> for ObjectError {
    fn from(e: pool::Error) -> Self {
        match e {
            pool::Error::NoSpace { .. } => ObjectError::NoSpace(e),
            e if e.is_unavailable() => ObjectError::Unavailable(e),
            e => ObjectError::Storage(e),
        }
    }
}

impl From<state::StateError> for ObjectError {
    fn from(e: state::StateError) -> Self {
        ObjectError::State(e)
    }
}

impl From<sqlx::Error> for ObjectError {
    fn from(e: sqlx::Error) -> Self {
        ObjectError::State(e.into())
    }
}

impl From<Damaged> for ObjectError {
    fn from(_: Damaged) -> Self {
        ObjectError::Damaged("a record cannot be read")
    }
}
