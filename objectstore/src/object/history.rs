//! Swift's older kind of versions: `X-Versions-Location` and `X-History-Location`.
//!
//! What a container's object was is copied to another container before it is replaced or deleted, under
//! `<length of its name, 3 hex digits><its name>/<its time>`. A deletion takes the newest of those back (stack), or
//! leaves a delete marker there (history). The copies are objects like others: nothing is atomic across the two
//! containers, here as upstream; within this process a name's lock keeps its changes apart.

use crate::container::Container;
use crate::index::{Item, ListQuery};
use crate::object::Home;
use crate::object::{Body, Condition, Deleted, NewObject, Written};
use crate::range::Span;
use crate::seal::SealWith;
use crate::version::HistoryMode;
use crate::{ObjectError, ObjectStore};
use state::Timestamp;
use std::sync::Arc;

/// The content type by which a delete marker is known.
pub(crate) const MARKER_TYPE: &str = "application/x-deleted;swift_versions_deleted=1";

fn prefix_of(name: &str) -> String {
    format!("{:03x}{name}/", name.len())
}

/// Seconds with five decimals, as Swift writes times.
fn time(at: Timestamp) -> String {
    format!("{:010}.{:05}", at.secs(), at.micros().rem_euclid(1_000_000) / 10)
}

impl ObjectStore {
    async fn history_of(&self, container: &Container) -> Result<Arc<Container>, ObjectError> {
        let name = container.info.history.as_ref().map(|h| h.container.as_str()).unwrap_or_default();
        match self.find_container(&container.project_id, name).await {
            Err(ObjectError::NoSuchContainer) => Err(ObjectError::NoHistory),
            found => found,
        }
    }

    /// Copies an object as it is stored, a manifest as a manifest.
    async fn copy_stored(
        &self,
        from: &Arc<Container>,
        name: &str,
        to: &Arc<Container>,
        new_name: impl FnOnce(Timestamp) -> String,
    ) -> Result<Written, ObjectError> {
        let object = self.open_object(from, name, self.first_read()).await?;
        let meta = object.meta.clone();
        let new = NewObject {
            name: new_name(meta.modified.0),
            content_type: meta.content_type,
            headers: meta.headers,
            user: meta.user,
            delete_at: meta.delete_at,
            tags: meta.tags,
            large: meta.large,
            owner: meta.owner,
            grants: meta.grants,
            ..NewObject::default()
        };
        let span = Span { start: 0, end: meta.size };
        let seal = meta.seal.is_some().then_some(SealWith::Root);
        let mut body = Body::new(self.source(object).await?.stream(span), Some(meta.size));
        body.sealer = self.sealer(to, seal.as_ref()).await?;
        let home = new.name.clone();
        let received = self.receive(to, body, u64::MAX, Home::Name(&home)).await?;
        self.write_received(to, new, received, Condition::Always).await
    }

    /// Keeps what is about to be replaced, if there is anything.
    pub(crate) async fn keep_history(
        &self,
        container: &Arc<Container>,
        name: &str,
    ) -> Result<(), ObjectError> {
        // Without an object nothing is kept, and so the other container is not missed.
        match self.open_object(container, name, 0).await {
            Err(ObjectError::NoSuchObject) => return Ok(()),
            found => drop(found?),
        }
        let history = self.history_of(container).await?;
        let kept = |at| format!("{}{}", prefix_of(name), time(at));
        match self.copy_stored(container, name, &history, kept).await {
            Ok(_) | Err(ObjectError::NoSuchObject) => Ok(()),
            Err(e) => Err(e),
        }
    }

    pub(super) async fn delete_with_history(
        &self,
        container: &Arc<Container>,
        name: &str,
        mode: HistoryMode,
        condition: Condition,
    ) -> Result<Deleted, ObjectError> {
        let _one = self.inner.histories.lock(container, name).await;
        self.condition_version(container, name, &condition).await?;
        match mode {
            HistoryMode::History => self.push_deletion(container, name).await,
            HistoryMode::Stack => self.pop(container, name).await,
        }
    }

    async fn push_deletion(&self, container: &Arc<Container>, name: &str) -> Result<Deleted, ObjectError> {
        self.keep_history(container, name).await?;
        let history = self.history_of(container).await?;
        let new = NewObject {
            name: format!("{}{}", prefix_of(name), time(Timestamp::now())),
            content_type: MARKER_TYPE.into(),
            ..NewObject::default()
        };
        let home = new.name.clone();
        let nothing = self.receive(&history, Body::of(""), 0, Home::Name(&home)).await?;
        self.write_received(&history, new, nothing, Condition::Always).await?;
        self.delete_plain(container, name, Condition::Always).await
    }

    /// Deletes the object, or puts the one before it in its place.
    async fn pop(&self, container: &Arc<Container>, name: &str) -> Result<Deleted, ObjectError> {
        let history = match self.history_of(container).await {
            Ok(history) => history,
            Err(ObjectError::NoHistory) => {
                return self.delete_plain(container, name, Condition::Always).await;
            }
            Err(e) => return Err(e),
        };
        let kept = self.kept(&history, name).await?;
        let mut kept = kept.iter().rev();
        while let Some((older, marker)) = kept.next() {
            if *marker {
                match self.open_object(container, name, 0).await {
                    // The deletion that the marker stands for is undone by deleting what came after it.
                    Ok(_) => break,
                    Err(ObjectError::NoSuchObject) => {}
                    Err(e) => return Err(e),
                }
                for (before, marker) in kept.by_ref() {
                    if *marker || self.put_back(&history, before, container, name).await? {
                        break;
                    }
                }
                return self.delete_kept(&history, older).await;
            }
            if self.put_back(&history, older, container, name).await? {
                return Ok(Deleted { version: None, marker: false, existed: true });
            }
        }
        self.delete_plain(container, name, Condition::Always).await
    }

    /// Makes a kept object the current one, and keeps it no longer; whether it was there.
    async fn put_back(
        &self,
        history: &Arc<Container>,
        kept: &str,
        container: &Arc<Container>,
        name: &str,
    ) -> Result<bool, ObjectError> {
        match self.copy_stored(history, kept, container, |_| name.to_owned()).await {
            Ok(_) => {}
            Err(ObjectError::NoSuchObject) => return Ok(false),
            Err(e) => return Err(e),
        }
        match self.delete_kept(history, kept).await {
            Ok(_) | Err(ObjectError::NoSuchObject) => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// The other container may keep versions of its own.
    async fn delete_kept(&self, history: &Arc<Container>, name: &str) -> Result<Deleted, ObjectError> {
        match history.info.versioning.is_set() {
            true => self.mark_deleted(history, name, &Condition::Always).await,
            false => self.delete_plain(history, name, Condition::Always).await,
        }
    }

    /// What is kept of an object, oldest first: its name there, and whether it is a delete marker.
    async fn kept(&self, history: &Container, name: &str) -> Result<Vec<(String, bool)>, ObjectError> {
        let mut query = ListQuery { prefix: prefix_of(name), limit: 10_000, ..ListQuery::default() };
        let mut all = Vec::new();
        loop {
            let page = self.list_objects(history, &query).await?;
            if let Some(last) = page.items.last() {
                last.name().clone_into(&mut query.marker);
            }
            for item in page.items {
                if let Item::Object(name, entry) = item {
                    all.push((name, entry.content_type == MARKER_TYPE));
                }
            }
            if !page.truncated {
                return Ok(all);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_is_kept() {
        assert_eq!(prefix_of("ü/x"), "004ü/x/");
        assert_eq!(time(Timestamp(1_500_000_012_349)), "0001500000.01234");
    }
}
