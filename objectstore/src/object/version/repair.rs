//! Making the index say of a name what its objects say.

use super::{ATTEMPTS, entry_of};
use crate::container::Container;
use crate::index::{Change, VersionChange};
use crate::{ObjectError, ObjectStore};
use std::sync::Arc;

impl ObjectStore {
    /// Makes the index say of a name what its head and the objects of its versions say.
    ///
    /// The rows are read first: a version of theirs that has no object now was removed, or is the latest. The head
    /// is read before and after, so that no version can pass through it unseen.
    pub(crate) async fn repair_versions(
        &self,
        container: &Arc<Container>,
        name: &str,
    ) -> Result<(), ObjectError> {
        let _one = self.inner.names.lock(container, name).await;
        for _ in 0..ATTEMPTS {
            let listed = self.listed(container, name).await?;
            let behind = self.versions_behind(container, name).await?;
            let head = self.raw_head(container, name).await?;
            let mut change = VersionChange { name: name.to_owned(), ..VersionChange::default() };
            for e in behind.iter().chain(&listed) {
                if head.as_ref().is_some_and(|(meta, _)| meta.version_id() == e.id()) {
                    continue;
                }
                match self.known_version(container, name, e.id()).await? {
                    Some((meta, version)) if meta.order() == e.order() => {
                        change.behind.push(entry_of(&meta, version));
                    }
                    _ => change.gone.push(e.clone()),
                }
            }
            let again = self.raw_head(container, name).await?.map(|h| h.1);
            if again != head.as_ref().map(|h| h.1) {
                continue;
            }
            let shown = listed.as_ref().map(|e| (e.id(), e.version));
            match &head {
                Some((meta, version)) => {
                    let is_shown = if meta.is_marker() {
                        listed.is_none() && behind.iter().any(|e| e.id() == meta.version_id())
                    } else {
                        shown == Some((meta.version_id(), *version))
                    };
                    if is_shown && change.gone.is_empty() {
                        return Ok(());
                    }
                    change.written = *version;
                    change.head = Some(entry_of(meta, *version));
                }
                None if listed.is_none() && change.gone.is_empty() => return Ok(()),
                // Newer than the head of that row, older than any that may come.
                None => change.written = listed.as_ref().map_or(0, |e| e.version + 1),
            }
            let done = self.commit(container, Change::Versions(Box::new(change)), name).await?;
            tracing::info!(container = %container.id, stale = done.stale, "versions in the index were repaired");
            return Ok(());
        }
        Err(ObjectError::Contended)
    }
}
