//! Access keys: whose they are and what signs for them. Identity keeps them; here they are remembered for a minute.

use crate::ObjectError;
use crate::container::Cache;
use api::{Caller, Secret};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// An S3 access key.
#[derive(Debug, Clone)]
pub struct Credential {
    pub secret: Secret,
    /// Whom requests signed with it act for.
    pub caller: Arc<Caller>,
}

/// Identity, as the S3 door sees it.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// The credential of an access key that is valid now; `None` where there is none.
    async fn credential(&self, access_key: &str) -> Result<Option<Credential>, ObjectError>;
}

/// Credentials, remembered for a bounded time. Unknown keys are asked for every time.
pub(crate) struct SecretCache {
    identity: Arc<dyn Credentials>,
    known: Cache<String, Credential>,
}

/// Access keys that are remembered.
const MOST: usize = 4096;

impl SecretCache {
    pub(crate) fn new(identity: Arc<dyn Credentials>, age: Duration) -> Self {
        SecretCache { identity, known: Cache::new(MOST, age) }
    }

    pub(crate) async fn get(&self, access_key: &str) -> Result<Option<Arc<Credential>>, ObjectError> {
        let key = access_key.to_owned();
        let epoch = match self.known.get(&key) {
            Ok(known) => return Ok(Some(known)),
            Err(epoch) => epoch,
        };
        let Some(found) = self.identity.credential(access_key).await?.map(Arc::new) else { return Ok(None) };
        self.known.put(key, found.clone(), epoch);
        Ok(Some(found))
    }
}
