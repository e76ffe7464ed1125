//! Lists as they were last answered. Every change in any process counts up a number in the database; a list whose
//! numbers are still the same is answered again without its rows being read, so it is never older than the request.

use crate::http::rendered;
use crate::store::subjects;
use crate::{Identity, IdentityError};
use axum::response::Response;
use bytes::Bytes;
use lru::LruCache;
use serde_json::Value;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

/// Lists remembered, each of at most [`LARGEST`] bytes.
const ROOM: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);
const LARGEST: usize = 128 << 10;

pub(crate) struct Pages(Mutex<LruCache<String, Page>>);

struct Page {
    revision: (i64, i64),
    body: Bytes,
}

impl Pages {
    pub(crate) fn new() -> Self {
        Pages(Mutex::new(LruCache::new(ROOM)))
    }
}

impl Identity {
    /// The list that `make` makes of the records alone, or the one it made last if nothing has changed since. `key`
    /// says everything that it depends on besides the records.
    pub(crate) async fn page(
        &self,
        key: String,
        make: impl AsyncFnOnce() -> Result<Value, IdentityError>,
    ) -> Result<Response, IdentityError> {
        let revision = subjects::revision(self.db.read()).await?;
        let lock = || self.pages.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(page) = lock().get(&key).filter(|p| p.revision == revision) {
            return Ok(rendered(page.body.clone()));
        }
        let body = Bytes::from(serde_json::to_vec(&make().await?)?);
        if body.len() <= LARGEST {
            lock().put(key, Page { revision, body: body.clone() });
        }
        Ok(rendered(body))
    }
}
