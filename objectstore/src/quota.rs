//! Quotas: of a container (`X-Container-Meta-Quota-Bytes`, `-Count`) and of an account (set by a reseller admin).
//!
//! Checked before a body is taken in, against what is there. As upstream's, they are limits of good behaviour:
//! uploads that run at the same moment may together go past one.

use crate::account::AccountInfo;
use crate::container::Container;
use crate::{ObjectError, ObjectStore};

/// The names, in metadata, that a container's quotas have.
const CONTAINER_BYTES: &str = "quota-bytes";
const CONTAINER_COUNT: &str = "quota-count";

fn number(text: Option<&String>) -> Option<u64> {
    text?.trim().parse().ok()
}

impl AccountInfo {
    fn has_quota(&self) -> bool {
        self.quota_bytes.is_some() || self.quota_objects.is_some()
    }
}

impl ObjectStore {
    /// Whether `bytes` more, in one object more, may be put into a container. Costs nothing where there is no quota.
    pub(crate) async fn check_quota(&self, container: &Container, bytes: u64) -> Result<(), ObjectError> {
        let (most_bytes, most_objects) = (
            number(container.info.meta.get(CONTAINER_BYTES)),
            number(container.info.meta.get(CONTAINER_COUNT)),
        );
        if most_bytes.is_some() || most_objects.is_some() {
            let counts = self.counts(container).await?;
            if most_bytes.is_some_and(|most| counts.bytes + bytes > most)
                || most_objects.is_some_and(|most| counts.objects + 1 > most)
            {
                return Err(ObjectError::OverQuota("Upload exceeds quota."));
            }
        }
        let account = self.find_account(&container.project_id).await?;
        if account.info.has_quota() {
            let usage = self.account_usage(&container.project_id).await?.counts;
            if account.info.quota_bytes.is_some_and(|most| usage.bytes + bytes > most)
                || account.info.quota_objects.is_some_and(|most| usage.objects + 1 > most)
            {
                return Err(ObjectError::OverQuota("Upload exceeds quota."));
            }
        }
        Ok(())
    }
}
