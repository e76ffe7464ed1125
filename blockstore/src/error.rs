//! What can go wrong with volumes. The text of a variant is the caller's; its source is the log's.

use std::sync::Arc;

/// Every refusal and every failure of this crate. The wording is upstream's where clients show or match it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    #[error("Volume {0} could not be found.")]
    VolumeNotFound(String),
    #[error("Snapshot {0} could not be found.")]
    SnapshotNotFound(String),
    #[error("Volume attachment could not be found with filter: attachment_id = {0}.")]
    AttachmentNotFound(String),
    #[error("Volume type {0} could not be found.")]
    TypeNotFound(String),
    #[error("Volume type with name {0} could not be found.")]
    TypeNameNotFound(String),
    #[error("Transfer {0} could not be found.")]
    TransferNotFound(String),
    #[error("No such QoS spec {0}.")]
    QosNotFound(String),
    #[error("Message {0} could not be found.")]
    MessageNotFound(String),
    #[error("Image {0} could not be found.")]
    ImageNotFound(String),
    /// Anything else that is not there; the text says what.
    #[error("{0}")]
    NotFound(String),
    #[error("Invalid volume: {0}")]
    InvalidVolume(String),
    #[error("Group {0} could not be found.")]
    GroupNotFound(String),
    #[error("GroupSnapshot {0} could not be found.")]
    GroupSnapshotNotFound(String),
    #[error("Group type {0} could not be found.")]
    GroupTypeNotFound(String),
    #[error("Invalid group: {0}")]
    InvalidGroup(String),
    #[error("Invalid group snapshot: {0}")]
    InvalidGroupSnapshot(String),
    #[error("Invalid snapshot: {0}")]
    InvalidSnapshot(String),
    #[error("Invalid input received: {0}")]
    InvalidInput(String),
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Gone(String),
    /// The project's quota does not allow it (413, `overLimit`).
    #[error("{0}")]
    OverQuota(String),
    #[error("{0}")]
    NotImplemented(String),
    /// A policy said no; carries the API's own answer.
    #[error("{}", .0.message())]
    Refused(api::Error),
    /// The images' service refused or failed.
    #[error("{}", .0.message())]
    Image(api::Error),
    #[error("The storage is unavailable; please try again.")]
    Storage(#[from] pool::Error),
    #[error("The database is unavailable; please try again.")]
    State(#[from] state::StateError),
    #[error("The configuration of the volume service is wrong: {0}")]
    Config(String),
    /// A row or a task of ours cannot be read: a defect.
    #[error("The server has met an unexpected condition.")]
    Corrupt(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl From<sqlx::Error> for VolumeError {
    fn from(e: sqlx::Error) -> Self {
        VolumeError::State(e.into())
    }
}

impl From<serde_json::Error> for VolumeError {
    fn from(e: serde_json::Error) -> Self {
        VolumeError::Corrupt(Arc::new(e))
    }
}

impl From<crate::status::UnknownStatus> for VolumeError {
    fn from(e: crate::status::UnknownStatus) -> Self {
        VolumeError::Corrupt(Arc::new(e))
    }
}

impl From<VolumeError> for api::Error {
    fn from(e: VolumeError) -> Self {
        use VolumeError as E;
        let text = e.to_string();
        match e {
            E::VolumeNotFound(_)
            | E::SnapshotNotFound(_)
            | E::AttachmentNotFound(_)
            | E::TypeNotFound(_)
            | E::TypeNameNotFound(_)
            | E::GroupNotFound(_)
            | E::GroupSnapshotNotFound(_)
            | E::GroupTypeNotFound(_)
            | E::TransferNotFound(_)
            | E::QosNotFound(_)
            | E::MessageNotFound(_)
            | E::ImageNotFound(_)
            | E::NotFound(_) => api::Error::not_found(text),
            E::InvalidVolume(_)
            | E::InvalidGroup(_)
            | E::InvalidGroupSnapshot(_)
            | E::InvalidSnapshot(_)
            | E::InvalidInput(_)
            | E::BadRequest(_) => api::Error::bad_request(text),
            E::Conflict(_) => api::Error::conflict(text),
            E::Gone(_) => api::Error::new(http::StatusCode::GONE, text),
            E::OverQuota(_) => api::Error::over_limit(text),
            E::NotImplemented(_) => api::Error::not_implemented(text),
            E::Refused(inner) | E::Image(inner) => inner,
            E::Storage(inner) => api::Error::unavailable(text).with_source(inner),
            E::State(inner) => inner.into(),
            E::Config(inner) => api::Error::internal(std::io::Error::other(inner)),
            E::Corrupt(inner) => api::Error::internal(std::io::Error::other(inner)),
        }
    }
}
