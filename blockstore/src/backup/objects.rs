//! What a chunked backup's store must do: whole objects, by name, in one repository for each project and container.
//!
//! The object store implements it where services are put together, so that this crate needs nothing of it; a directory
//! is [`super::directory`].

use async_trait::async_trait;
use bytes::Bytes;
use std::error::Error as Source;

/// Where a project's backups are in a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Repository {
    pub project_id: String,
    pub container: String,
}

/// Why a store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It may work again later.
    #[error("the backup store does not answer")]
    Unavailable(#[source] Box<dyn Source + Send + Sync>),
    /// It will not, whoever asks again. The text is for the caller.
    #[error("{0}")]
    Refused(String),
}

/// A store of whole objects. Names are of letters, digits, `-` and `/`.
#[async_trait]
pub trait BackupStore: Send + Sync {
    /// Writes an object, all of it or nothing; it is durable when this returns.
    async fn put(&self, at: &Repository, name: &str, data: Bytes) -> Result<(), StoreError>;
    async fn get(&self, at: &Repository, name: &str) -> Result<Option<Bytes>, StoreError>;
    async fn has(&self, at: &Repository, name: &str) -> Result<bool, StoreError>;
    /// Twice is no error.
    async fn remove(&self, at: &Repository, name: &str) -> Result<(), StoreError>;
    /// Every name that begins so; a prefix ends with `/`.
    async fn list(&self, at: &Repository, prefix: &str) -> Result<Vec<String>, StoreError>;
}
