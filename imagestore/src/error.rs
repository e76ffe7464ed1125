//! What this crate refuses and what can fail below it.

use crate::inspect::Refusal;

/// What came of a request for an image. The texts are the caller's; sources are the log's.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No such image, or one of another project that the caller may not know of.
    #[error("No image found with ID {0}")]
    NotFound(String),
    /// Something beside an image is missing: a tag, a member, a task.
    #[error("{0}")]
    Missing(String),
    /// The image went while its bytes came.
    #[error("The image {0} was deleted during its upload.")]
    Gone(String),
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Conflict(String),
    /// The bytes are not those that were signed, or that cannot be found out.
    #[error("{0}")]
    Signature(String),
    /// Over a quota or a size limit.
    #[error("{0}")]
    TooLarge(String),
    /// The body's media type is not one this resource takes.
    #[error("{0}")]
    MediaType(String),
    /// The range lies outside of the image's `size` bytes.
    #[error("The requested range is not satisfiable: the image has {size} bytes.")]
    Range { size: u64 },
    /// The bytes are not an image that may be stored.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The client went away, or sent less than it announced.
    #[error("The upload ended early.")]
    Aborted(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// What was to be fetched did not come.
    #[error("{0}")]
    Web(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What this cloud does not offer.
    #[error("{0}")]
    NotBuilt(String),
    #[error("The image's storage failed.")]
    Storage(#[from] pool::Error),
    #[error("The image's record could not be read or written.")]
    State(#[from] state::StateError),
    #[error("The configuration of the image service is wrong: {0}")]
    Config(String),
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    /// A helper thread ended without an answer: a defect of ours.
    #[error("A part of the image service ended unexpectedly.")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<sqlx::Error> for ImageError {
    fn from(e: sqlx::Error) -> Self {
        ImageError::State(e.into())
    }
}

impl From<tokio::task::JoinError> for ImageError {
    fn from(e: tokio::task::JoinError) -> Self {
        ImageError::Internal(Box::new(e))
    }
}

impl ImageError {
    pub(crate) fn forbidden(text: impl Into<String>) -> Self {
        ImageError::Forbidden(text.into())
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        ImageError::Invalid(text.into())
    }

    pub(crate) fn conflict(text: impl Into<String>) -> Self {
        ImageError::Conflict(text.into())
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            ImageError::Storage(e) => e.is_transient(),
            ImageError::State(e) => e.is_transient(),
            _ => false,
        }
    }

    /// Whether the storage did not answer.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, ImageError::Storage(e) if e.is_unavailable())
    }

    /// What an image's owner may read as the reason of a failure.
    pub(crate) fn reason(&self) -> String {
        match self {
            ImageError::Storage(pool::Error::NoSpace { .. }) => {
                "There is no space left for the image.".into()
            }
            ImageError::Storage(_) => "The storage could not be reached or refused the image.".into(),
            other => other.to_string(),
        }
    }
}

/// How a durable step goes on after this error.
impl From<ImageError> for state::StepError {
    fn from(e: ImageError) -> Self {
        let reason = e.reason();
        // A full pool may have room again, but an import that waits for it would hold its caller for long.
        let full = matches!(e, ImageError::Storage(pool::Error::NoSpace { .. }));
        match e.is_transient() && !full {
            true => state::StepError::retry(reason).because(e),
            false => state::StepError::fail(reason).because(e),
        }
    }
}
