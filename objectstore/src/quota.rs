//! Quotas: of a container (`X-Container-Meta-Quota-Bytes`, `-Count`), of an account and of what it keeps under one
//! storage policy (both set by a reseller admin).
//!
//! Checked before a body is taken in, against what is there. As upstream's, they are limits of good behaviour:
//! uploads that run at the same moment may together go past one.

use crate::account::Quota;
use crate::container::{Container, Counts};
use crate::{ObjectError, ObjectStore};

/// The names, in metadata, that a container's quotas have.
const CONTAINER_BYTES: &str = "quota-bytes";
const CONTAINER_COUNT: &str = "quota-count";

fn number(text: Option<&String>) -> Option<u64> {
    text?.trim().parse().ok()
}

impl Quota {
    pub(crate) fn is_set(&self) -> bool {
        self.bytes.is_some() || self.objects.is_some()
    }

    /// Whether there is room for one object more, of `bytes`.
    fn allows(&self, used: Counts, bytes: u64) -> bool {
        self.bytes.is_none_or(|most| used.bytes.saturating_add(bytes) <= most)
            && self.objects.is_none_or(|most| used.objects < most)
    }
}

impl ObjectStore {
    /// Whether `bytes` more, in one object more, may be put into a container. Costs nothing where there is no quota.
    /// What is said of the account does not hold a `reseller`.
    pub(crate) async fn check_quota(
        &self,
        container: &Container,
        bytes: u64,
        reseller: bool,
    ) -> Result<(), ObjectError> {
        const SPENT: ObjectError = ObjectError::OverQuota("Upload exceeds quota.");
        let meta = &container.info.meta;
        let own =
            Quota { bytes: number(meta.get(CONTAINER_BYTES)), objects: number(meta.get(CONTAINER_COUNT)) };
        if own.is_set() && !own.allows(self.counts(container).await?, bytes) {
            return Err(SPENT);
        }
        let account = self.find_account(&container.project_id).await?;
        let policy = account.info.policy_quotas.get(&container.policy.name).copied().unwrap_or_default();
        if reseller || !(account.info.quota.is_set() || policy.is_set()) {
            return Ok(());
        }
        let usage = self.account_usage(&container.project_id).await?;
        if !account.info.quota.allows(usage.counts, bytes) {
            return Err(SPENT);
        }
        let used = usage.policies.iter().find(|p| p.policy == container.policy.name);
        if !policy.allows(used.map(|p| p.counts).unwrap_or_default(), bytes) {
            return Err(ObjectError::OverQuota("Upload exceeds policy quota."));
        }
        Ok(())
    }
}
