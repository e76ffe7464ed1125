//! After a process died while it was writing: heads and index are compared, all of them.
//!
//! A process that writes is on record in the object `processes`, with the time it last said that it lives. One
//! that ends cleanly takes itself off. Of one that died, heads may exist that the index does not list (or lists as
//! they were before), and lines whose head is gone. Nothing else tells which, so everything is compared once, in
//! the background; such objects were never acknowledged.

use super::{DEAD, ObjectStore};
use crate::ObjectError;
use crate::container::Container;
use crate::index::entry::{self, Entry};
use crate::index::{Item, ListQuery};
use crate::names::{self, ContainerId};
use crate::policy::StoragePolicy;
use crate::store;
use crate::version::VersionId;
use futures::StreamExt;
use pool::OptionalExt;
use state::Timestamp;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

/// Heads that are looked at at once.
const LOOKS: usize = 16;

impl ObjectStore {
    /// Compares everything if a process died; then takes the dead off the record.
    pub(super) async fn reconcile_after_the_dead(&self) -> Result<(), ObjectError> {
        let index = self.inner.policies.default_policy().index.clone();
        let rows = index.omap_get_all(names::PROCESSES, "").await.optional()?.unwrap_or_default();
        let deadline = Timestamp::now().micros() - i64::try_from(DEAD.as_micros()).unwrap_or(0);
        let lived = |v: &[u8]| std::str::from_utf8(v).ok().and_then(|t| t.parse::<i64>().ok()).unwrap_or(0);
        let me = self.inner.process.to_string();
        let dead: Vec<String> =
            rows.into_iter().filter(|(p, v)| *p != me && lived(v) < deadline).map(|(p, _)| p).collect();
        if dead.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            processes = dead.len(),
            "processes died while writing objects; comparing heads and index"
        );
        self.reconcile().await?;
        Ok(index.omap_remove(names::PROCESSES, dead).await?)
    }

    /// Compares all heads with all indexes and repairs what differs.
    pub async fn reconcile(&self) -> Result<(), ObjectError> {
        let mut after = String::new();
        loop {
            let rows = store::containers::round(&self.inner.db, &after, 200).await?;
            let Some(last) = rows.last() else { break };
            after = last.id.to_string();
            for row in rows {
                let container = Arc::new(self.read_row(row)?);
                self.compare_lines(&container).await?;
                if container.info.versioning.is_set() {
                    self.compare_versions(&container).await?;
                }
            }
        }
        let policies: Vec<Arc<StoragePolicy>> = self.inner.policies.iter().cloned().collect();
        for policy in policies {
            self.compare_heads(&policy).await?;
        }
        Ok(())
    }

    /// Every line has its head, of its version.
    async fn compare_lines(&self, container: &Arc<Container>) -> Result<(), ObjectError> {
        let mut query = ListQuery { limit: 1000, ..ListQuery::default() };
        loop {
            let page = self.list_objects(container, &query).await?;
            let last = page.items.last().filter(|_| page.truncated).map(|i| i.name().to_owned());
            let looks = page.items.into_iter().filter_map(|item| match item {
                Item::Object(name, entry) => {
                    let (this, container) = (self.clone(), container.clone());
                    Some(async move { this.compare_line(&container, &name, &entry).await })
                }
                Item::Prefix(_) => None,
            });
            let mut looks = futures::stream::iter(looks).buffer_unordered(LOOKS);
            while let Some(done) = looks.next().await {
                done?;
            }
            match last {
                Some(last) => query.marker = last,
                None => return Ok(()),
            }
        }
    }

    async fn compare_line(
        &self,
        container: &Arc<Container>,
        name: &str,
        entry: &Entry,
    ) -> Result<(), ObjectError> {
        match self.raw_head(container, name).await? {
            Some((_, version)) if version == entry.version => Ok(()),
            _ => self.repair(container, name).await,
        }
    }

    /// Every version that is not the latest has its object.
    async fn compare_versions(&self, container: &Arc<Container>) -> Result<(), ObjectError> {
        for shard in container.shards() {
            let mut last = None;
            for (key, _) in self.inner.index.rows(&container.policy.index, shard, "v").await? {
                let name = entry::parse_version_key(&key[1..]);
                if name != last
                    && let Some(name) = &name
                {
                    self.repair_versions(container, name).await?;
                }
                last = name;
            }
        }
        Ok(())
    }

    /// A version's object that the index does not know was left by a change of a head that came to nothing.
    async fn compare_copy(
        &self,
        container: &Arc<Container>,
        oid: &str,
        name: &str,
        id: VersionId,
    ) -> Result<(), ObjectError> {
        let Some((meta, version)) = self.raw_meta(container, oid).await? else { return Ok(()) };
        if self.is_listed(container, name, &meta).await? {
            return Ok(());
        }
        let written = container.policy.data.stat(oid).await.optional()?;
        let settled = std::time::SystemTime::now() - super::SETTLED;
        if written.is_some_and(|s| s.mtime < settled) {
            self.drop_copy(container, name, id, Some(version)).await?;
        }
        Ok(())
    }

    /// Every head has its line.
    async fn compare_heads(&self, policy: &StoragePolicy) -> Result<(), ObjectError> {
        let mut containers: HashMap<ContainerId, Option<Arc<Container>>> = HashMap::new();
        let mut orphans = 0u64;
        let mut heads = Box::pin(policy.data.list());
        while let Some(oid) = heads.next().await {
            let oid = oid?;
            let version = names::parse_version(&oid);
            let Some((id, name)) = names::parse_head(&oid).or(version.map(|(id, _, name)| (id, name))) else {
                continue;
            };
            let container = match containers.entry(id) {
                Slot::Occupied(known) => known.into_mut(),
                Slot::Vacant(unknown) => {
                    let row = store::containers::find_id(&self.inner.db, id).await?;
                    unknown.insert(row.map(|r| self.read_row(r)).transpose()?.map(Arc::new))
                }
            };
            match container {
                Some(container) => {
                    if let Some((_, version, _)) = version {
                        self.compare_copy(container, &oid, name, version).await?;
                        continue;
                    }
                    if self.listed(container, name).await?.is_none() {
                        self.repair(container, name).await?;
                    }
                }
                // Of a deleted container, or of another cloud in the same pool: not this cloud's to remove.
                None => orphans += 1,
            }
        }
        if orphans > 0 {
            tracing::warn!(
                orphans,
                policy = policy.name,
                "heads of containers that this cloud does not know"
            );
        }
        Ok(())
    }
}
