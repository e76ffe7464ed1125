//! What can go wrong below. One variant for each thing a caller decides on; everything else is
//! [`Error::Other`] with its errno. Every variant carries `what`: the operation and the object it was
//! about, for the log (never for a tenant's eyes: it names pools and images).

/// An errno of librados or librbd, as a positive number, before it is given its context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

pub(crate) mod errno {
    //! The numbers that decide a variant (Linux, every architecture Ceph is packaged for).
    pub(crate) const EPERM: i32 = 1;
    pub(crate) const ENOENT: i32 = 2;
    pub(crate) const E2BIG: i32 = 7;
    pub(crate) const EAGAIN: i32 = 11;
    pub(crate) const EACCES: i32 = 13;
    pub(crate) const EBUSY: i32 = 16;
    pub(crate) const EEXIST: i32 = 17;
    pub(crate) const EINVAL: i32 = 22;
    pub(crate) const EFBIG: i32 = 27;
    pub(crate) const ENOSPC: i32 = 28;
    pub(crate) const EROFS: i32 = 30;
    pub(crate) const EDOM: i32 = 33;
    pub(crate) const ERANGE: i32 = 34;
    pub(crate) const ENAMETOOLONG: i32 = 36;
    pub(crate) const ENOTEMPTY: i32 = 39;
    pub(crate) const ENODATA: i32 = 61;
    pub(crate) const EOVERFLOW: i32 = 75;
    pub(crate) const EILSEQ: i32 = 84;
    pub(crate) const EMSGSIZE: i32 = 90;
    pub(crate) const ECONNABORTED: i32 = 103;
    pub(crate) const ECONNRESET: i32 = 104;
    pub(crate) const ENOTCONN: i32 = 107;
    /// A client that was fenced (put on the OSDs' blocklist) gets this for every operation.
    pub(crate) const ESHUTDOWN: i32 = 108;
    pub(crate) const ETIMEDOUT: i32 = 110;
    pub(crate) const ECONNREFUSED: i32 = 111;
    pub(crate) const EHOSTUNREACH: i32 = 113;
    /// What librbd says of an image that is still on its way into the trash.
    pub(crate) const EUCLEAN: i32 = 117;
    pub(crate) const EDQUOT: i32 = 122;
    pub(crate) const ECANCELED: i32 = 125;
    /// Comparisons report where they failed as `-(MAX_ERRNO + offset)`.
    pub(crate) const MAX_ERRNO: i32 = 4095;
}

/// What an operation on a pool can end in.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pool, object, attribute, image or snapshot does not exist.
    #[error("{what}: not found")]
    NotFound { what: String },
    /// It exists already.
    #[error("{what}: exists already")]
    Exists { what: String },
    /// In use: watched, locked, or an image or namespace that is not empty (snapshots, children).
    #[error("{what}: in use")]
    Busy { what: String },
    /// The cluster or the pool is full, or the pool's quota is spent.
    #[error("{what}: no space left")]
    NoSpace { what: String },
    /// No answer within the deadline. A write may still have happened.
    #[error("{what}: no answer within the deadline")]
    TimedOut { what: String },
    /// The cluster cannot be reached, or has fenced this client (the next call connects anew).
    #[error("{what}: the cluster cannot be reached (errno {errno})")]
    Unreachable { errno: i32, what: String },
    /// An assertion of a compound operation failed; nothing was changed.
    #[error("{what}: an assertion failed")]
    Cancelled { what: String },
    /// A number is outside of its range.
    #[error("{what}: out of range")]
    Range { what: String },
    /// The image was opened read-only, or is a snapshot.
    #[error("{what}: read only")]
    ReadOnly { what: String },
    /// An argument makes no sense to Ceph.
    #[error("{what}: invalid argument")]
    Invalid { what: String },
    /// This client's key does not allow it.
    #[error("{what}: permission denied")]
    Permission { what: String },
    /// Anything else.
    #[error("{what}: errno {errno}")]
    Other { errno: i32, what: String },
}

impl Error {
    /// Gives an errno (positive) its variant and its context.
    pub fn from_errno(errno: i32, what: impl Into<String>) -> Self {
        use errno::*;
        let what = what.into();
        match errno {
            ENOENT | ENODATA => Self::NotFound { what },
            EEXIST => Self::Exists { what },
            EBUSY | ENOTEMPTY | EAGAIN | EUCLEAN => Self::Busy { what },
            ENOSPC | EDQUOT => Self::NoSpace { what },
            ETIMEDOUT => Self::TimedOut { what },
            ENOTCONN | ESHUTDOWN | EHOSTUNREACH | ECONNREFUSED | ECONNRESET | ECONNABORTED => {
                Self::Unreachable { errno, what }
            }
            ECANCELED => Self::Cancelled { what },
            ERANGE | EOVERFLOW => Self::Range { what },
            EROFS => Self::ReadOnly { what },
            EINVAL | ENAMETOOLONG | EDOM | E2BIG | EFBIG | EMSGSIZE | EILSEQ => Self::Invalid { what },
            EPERM | EACCES => Self::Permission { what },
            e if e >= MAX_ERRNO => Self::Cancelled { what },
            _ => Self::Other { errno, what },
        }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }

    /// The operation and the object it was about, for the log.
    pub fn what(&self) -> &str {
        match self {
            Self::NotFound { what }
            | Self::Exists { what }
            | Self::Busy { what }
            | Self::NoSpace { what }
            | Self::TimedOut { what }
            | Self::Unreachable { what, .. }
            | Self::Cancelled { what }
            | Self::Range { what }
            | Self::ReadOnly { what }
            | Self::Invalid { what }
            | Self::Permission { what }
            | Self::Other { what, .. } => what,
        }
    }

    /// Whether the same call may well succeed later without anything else having changed: the cluster is
    /// away, slow, full, or somebody else is using the thing right now.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Busy { .. } | Self::NoSpace { .. } | Self::TimedOut { .. } | Self::Unreachable { .. }
        )
    }

    /// Whether the cluster did not answer (a 503 to whoever asked).
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Unreachable { .. })
    }

    /// Whether the thing does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the thing exists already.
    pub fn is_exists(&self) -> bool {
        matches!(self, Self::Exists { .. })
    }

    /// Whether the thing is in use or not empty.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }

    /// Whether an assertion of a compound operation failed.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled { .. })
    }
}

/// `Ok(None)` where the thing does not exist.
pub trait OptionalExt<T> {
    /// Turns [`Error::NotFound`] into `Ok(None)`.
    fn optional(self) -> Result<Option<T>, Error>;
}

impl<T> OptionalExt<T> for Result<T, Error> {
    fn optional(self) -> Result<Option<T>, Error> {
        match self {
            Ok(v) => Ok(Some(v)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Gives a raw errno its context. The closure runs only on failure: the fast path formats nothing.
pub(crate) trait Context<T> {
    fn what(self, f: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Context<T> for Result<T, Errno> {
    fn what(self, f: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|e| Error::from_errno(e.0, f()))
    }
}
