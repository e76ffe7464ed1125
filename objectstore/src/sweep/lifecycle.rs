//! Lifecycle rules, carried out: see [`crate::lifecycle`] for what is due.

use super::ObjectStore;
use crate::ObjectError;
use crate::cause::{self, Cause, Doing};
use crate::container::Container;
use crate::index::{Entry, VersionItem, VersionQuery};
use crate::lifecycle::{self, Day, LifecycleRule};
use crate::object::{Condition, DeleteVersion};
use crate::store;
use crate::upload::UploadQuery;
use crate::version::VersionId;
use state::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Containers, versions and uploads that are read at once.
const PAGE: usize = 200;
const ROWS: usize = 1000;

impl ObjectStore {
    pub(crate) fn day(&self) -> Day {
        Day(i64::try_from(self.inner.config.lifecycle_day_s).unwrap_or(i64::MAX))
    }

    pub(super) async fn lifecycle_rounds(self, stop: CancellationToken) {
        let mut tick =
            tokio::time::interval(Duration::from_secs(self.inner.config.lifecycle_interval_s.max(1)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                done = self.lifecycle_once(Timestamp::now()) => self.logged("lifecycle", done),
            }
        }
    }

    /// Carries out the rules of all containers, as if it were `now`. What `sweep` does every so often; tests call it
    /// with a time of theirs.
    pub async fn lifecycle_once(&self, now: Timestamp) -> Result<(), ObjectError> {
        let (who, request_id) = (String::new(), String::new());
        let cause = Cause { doing: Doing::Age, who, source: None, request_id, at: None };
        cause::within(Some(cause), self.age_all(now)).await
    }

    async fn age_all(&self, now: Timestamp) -> Result<(), ObjectError> {
        let mut after = String::new();
        loop {
            let rows = store::containers::round(&self.inner.db, &after, PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.id.to_string();
            for row in rows {
                if row.info.lifecycle.iter().any(|r| r.enabled) {
                    let container = Arc::new(self.read_row(row)?);
                    self.age_uploads(&container, now).await?;
                    self.age_objects(&container, now).await?;
                }
            }
        }
    }

    async fn age_uploads(&self, container: &Arc<Container>, now: Timestamp) -> Result<(), ObjectError> {
        let rules = &container.info.lifecycle;
        if rules.iter().all(|r| r.abort_days.is_none()) {
            return Ok(());
        }
        let mut query = UploadQuery { limit: ROWS, ..UploadQuery::default() };
        loop {
            let page = self.list_uploads(container, &query).await?;
            for upload in page.uploads {
                let due = |r: &LifecycleRule| {
                    r.aborts(&upload.name, upload.started, self.day()).is_some_and(|at| at <= now)
                };
                if rules.iter().any(due) {
                    match self.abort_upload(container, &upload.name, upload.id).await {
                        Ok(()) | Err(ObjectError::NoSuchUpload) => {}
                        Err(e) => return Err(e),
                    }
                }
            }
            match page.next {
                Some(next) => (query.key_marker, query.id_marker) = next,
                None => return Ok(()),
            }
        }
    }

    async fn age_objects(&self, container: &Arc<Container>, now: Timestamp) -> Result<(), ObjectError> {
        let rules = &container.info.lifecycle;
        let idle = |r: &LifecycleRule| {
            r.expiration.is_none()
                && r.noncurrent.is_none()
                && r.transitions.is_empty()
                && r.noncurrent_transitions.is_empty()
        };
        if rules.iter().all(idle) {
            return Ok(());
        }
        let mut query = VersionQuery { limit: ROWS, ..VersionQuery::default() };
        // The versions of one name, which may be on several pages.
        let mut name = String::new();
        let mut versions: Vec<Entry> = Vec::new();
        let mut is_latest = false;
        loop {
            let page = self.list_versions(container, &query).await?;
            for item in page.items {
                let VersionItem::Version { name: of, entry, latest } = item else { continue };
                (query.key_marker, query.version_marker) = (of.clone(), Some(entry.id()));
                if of != name {
                    self.age_name(container, &name, &versions, is_latest, now).await?;
                    (name, is_latest) = (of, latest);
                    versions.clear();
                }
                versions.push(*entry);
            }
            if !page.truncated {
                return self.age_name(container, &name, &versions, is_latest, now).await;
            }
        }
    }

    async fn age_name(
        &self,
        container: &Arc<Container>,
        name: &str,
        versions: &[Entry],
        latest: bool,
        now: Timestamp,
    ) -> Result<(), ObjectError> {
        let rules = &container.info.lifecycle;
        // The oldest first: what is behind a marker goes before the marker is looked at again, in the next round.
        for n in (0..versions.len()).rev() {
            let due = lifecycle::due(rules, name, versions, n, latest, now, self.day());
            let e = &versions[n];
            if due.is_empty() {
                let moves = lifecycle::moves(rules, name, versions, n, latest, now, self.day());
                self.settled(self.move_by(container, name, e, moves).await)?;
                continue;
            }
            let gone = async {
                if due.iter().all(|r| !r.filter.tags.is_empty()) {
                    let meta = self.open_version(container, name, e.id(), 0).await?.meta;
                    if !due.iter().any(|r| r.filter.has_tags(&meta.tags)) {
                        return Ok(());
                    }
                }
                let latest = n == 0 && latest;
                self.age_version(container, name, e, latest).await
            };
            self.settled(gone.await)?;
        }
        Ok(())
    }

    /// What was replaced, deleted or kept by somebody at this moment is not due any more.
    fn settled(&self, done: Result<(), ObjectError>) -> Result<(), ObjectError> {
        match done {
            Err(
                ObjectError::NoSuchVersion
                | ObjectError::NoSuchObject
                | ObjectError::NoSuchContainer
                | ObjectError::PreconditionFailed
                | ObjectError::Locked,
            ) => Ok(()),
            done => done,
        }
    }

    /// Moves a version to the first of these classes whose rule is for its size and its tags too.
    async fn move_by(
        &self,
        container: &Arc<Container>,
        name: &str,
        e: &Entry,
        moves: Vec<(&LifecycleRule, &str)>,
    ) -> Result<(), ObjectError> {
        let small = container.info.small_moves;
        let admitted = |(r, class): &(&LifecycleRule, &str)| small.admit(&r.filter, class, e.shown_size());
        let moves: Vec<_> = moves.into_iter().filter(admitted).collect();
        let wants_tags = moves.iter().any(|(r, _)| !r.filter.tags.is_empty());
        let tags = match wants_tags {
            true => self.open_version(container, name, e.id(), 0).await?.meta.tags,
            false => Vec::new(),
        };
        let Some((_, class)) = moves.iter().find(|(r, _)| r.filter.has_tags(&tags)) else { return Ok(()) };
        let to = match self.inner.policies.of_class(&container.policy, class) {
            Ok(to) => to,
            Err(e) => {
                tracing::warn!(container = %container.id, error = %e, "a lifecycle rule names a class that is no more");
                return Ok(());
            }
        };
        match to.place_from(&container.policy) == e.place {
            true => Ok(()),
            false => self.move_version(container, name, e.id(), e.order(), &to).await,
        }
    }

    async fn age_version(
        &self,
        container: &Arc<Container>,
        name: &str,
        e: &Entry,
        latest: bool,
    ) -> Result<(), ObjectError> {
        // The null version's id says nothing: another may have taken its place.
        let still = match e.id() {
            VersionId::Null if !latest => self.open_version(container, name, e.id(), 0).await?.meta.order(),
            _ => e.order(),
        };
        if still != e.order() {
            return Ok(());
        }
        match latest && !e.marker {
            true => self.delete_object(container, name, Condition::Unchanged(e.version)).await.map(drop),
            false => {
                let how = DeleteVersion { promote: true, ..DeleteVersion::default() };
                self.delete_version(container, name, e.id(), how).await.map(drop)
            }
        }
    }
}
