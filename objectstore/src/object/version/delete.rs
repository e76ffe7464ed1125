//! Taking versions away: one for good, or the latest without a delete marker.

use super::{ATTEMPTS, Stored, entry_of, kept};
use crate::container::Container;
use crate::index::VersionChange;
use crate::index::entry::Entry;
use crate::names;
use crate::object::{Condition, check_name};
use crate::version::VersionId;
use crate::{ObjectError, ObjectStore, cause};
use pool::WriteOp;
use state::Timestamp;
use std::sync::Arc;

/// A version that was deleted, or the delete marker that was made instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// Absent where the container keeps no versions.
    pub version: Option<VersionId>,
    /// What was made, or what was deleted, is a delete marker.
    pub marker: bool,
    /// There was an object before, and its time had not run out.
    pub existed: bool,
}

/// How a version is to be deleted.
#[derive(Debug, Clone, Default)]
pub struct DeleteVersion {
    /// The caller may break governance, and says so.
    pub bypass: bool,
    /// If the latest version goes, the one before it becomes the latest, as S3 has it. Otherwise there is none, as
    /// Swift has it.
    pub promote: bool,
    /// Only if it is the latest, in a head of this RADOS version.
    pub head: Option<u64>,
    /// Only if the version is like this.
    pub condition: Condition,
}

impl ObjectStore {
    /// Deletes one version for good.
    pub async fn delete_version(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: VersionId,
        how: DeleteVersion,
    ) -> Result<Deleted, ObjectError> {
        check_name(name)?;
        let (this, container, name) = (self.clone(), container.clone(), name.to_owned());
        cause::spawn(async move { this.finish_delete_version(&container, &name, id, how).await })
            .await
            .map_err(|_| ObjectError::Damaged("a deletion was cut off"))?
    }

    async fn finish_delete_version(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: VersionId,
        how: DeleteVersion,
    ) -> Result<Deleted, ObjectError> {
        let container = &self.refreshed(container).await?;
        if !container.info.versioning.is_set() {
            return match id {
                VersionId::Null => self.delete_object(container, name, how.condition).await,
                VersionId::Own(_) => Err(ObjectError::NoSuchVersion),
            };
        }
        self.mark_writing().await?;
        let _one = self.inner.names.lock(container, name).await;
        let data = &container.policy.data;
        for _ in 0..ATTEMPTS {
            let head = self.raw_head(container, name).await?;
            let (change, meta) = match head {
                Some((meta, version)) if meta.version_id() == id && how.head.is_none_or(|v| v == version) => {
                    how.condition.admit(Some((&meta, version)))?;
                    kept(&meta, how.bypass)?;
                    let next = match how.promote {
                        true => self.next_after(container, name, &meta).await?,
                        false => None,
                    };
                    let guard = WriteOp::new().assert_version(version);
                    let op = match &next {
                        None => guard.remove(),
                        Some(next) => next.write(guard),
                    };
                    let copy = match id {
                        VersionId::Null => self.known_version(container, name, id).await?.map(|k| k.1),
                        VersionId::Own(_) => None,
                    };
                    let written = match data.write_op(&names::head(container.id, name), op).await {
                        Ok(outcome) => outcome.version,
                        Err(e) if e.is_cancelled() || e.is_not_found() => continue,
                        Err(e) => {
                            self.repair_later(container, name);
                            return Err(e.into());
                        }
                    };
                    if copy.is_some() || matches!(id, VersionId::Own(_)) {
                        self.drop_copy(container, name, id, copy).await?;
                    }
                    let gone = entry_of(&meta, version);
                    let head = next.as_ref().map(|n| Entry { version: written, ..n.entry() });
                    (
                        self.settle(
                            container,
                            name,
                            VersionChange { written, head, gone: vec![gone], ..VersionChange::default() },
                            next,
                        ),
                        meta,
                    )
                }
                _ if how.head.is_some() => return Err(ObjectError::NoSuchVersion),
                _ => {
                    let Some((found, version)) = self.known_version(container, name, id).await? else {
                        if self.raw_head(container, name).await?.map(|h| h.1) != head.map(|h| h.1) {
                            continue;
                        }
                        return Err(ObjectError::NoSuchVersion);
                    };
                    how.condition.admit(Some((&found, version)))?;
                    kept(&found, how.bypass)?;
                    if !self.drop_copy(container, name, id, Some(version)).await? {
                        continue;
                    }
                    let gone = vec![entry_of(&found, version)];
                    let change = VersionChange { gone, ..VersionChange::default() };
                    (self.settle(container, name, change, None), found)
                }
            };
            change.await?;
            // A version with an id of its own stays, whatever its time, until it is deleted by that.
            let existed = id != VersionId::Null || !meta.expired(Timestamp::now());
            return Ok(Deleted { version: Some(id), marker: meta.is_marker(), existed });
        }
        Err(ObjectError::Contended)
    }

    /// Takes the latest version away without a delete marker: what Swift does where versions are suspended. A null
    /// version is deleted, any other stays behind.
    pub(crate) async fn unlink_object(
        &self,
        container: &Arc<Container>,
        name: &str,
        condition: Condition,
    ) -> Result<Deleted, ObjectError> {
        check_name(name)?;
        let (this, container, name) = (self.clone(), container.clone(), name.to_owned());
        let meant = move |old: &Stored| condition.admit_head(Some((&old.meta, old.version)));
        cause::spawn(async move { this.finish_unlink(&container, &name, meant).await })
            .await
            .map_err(|_| ObjectError::Damaged("a deletion was cut off"))?
    }

    /// The same of an object whose time has run out; what has taken its place meanwhile stays.
    pub(crate) async fn unlink_expired(
        &self,
        container: &Arc<Container>,
        name: &str,
    ) -> Result<(), ObjectError> {
        let meant = |old: &Stored| match old.meta.expired(Timestamp::now()) {
            true => Ok(()),
            false => Err(ObjectError::NoSuchObject),
        };
        match self.finish_unlink(container, name, meant).await {
            Err(ObjectError::NoSuchObject) => Ok(()),
            done => done.map(drop),
        }
    }

    /// `meant` refuses what is not to go.
    async fn finish_unlink(
        &self,
        container: &Arc<Container>,
        name: &str,
        meant: impl Fn(&Stored) -> Result<(), ObjectError>,
    ) -> Result<Deleted, ObjectError> {
        self.mark_writing().await?;
        let _one = self.inner.names.lock(container, name).await;
        for _ in 0..ATTEMPTS {
            let old = self.stored_head(container, name).await?.ok_or(ObjectError::NoSuchObject)?;
            if old.meta.is_marker() {
                return Err(ObjectError::NoSuchObject);
            }
            meant(&old)?;
            let existed = old.meta.is_there();
            let mut change = VersionChange::default();
            match old.meta.version_id() {
                VersionId::Null => {
                    kept(&old.meta, false)?;
                    change.gone.push(old.entry());
                }
                VersionId::Own(_) => {
                    self.move_out(container, name, &old).await?;
                    change.behind.push(old.entry());
                }
            }
            let op = WriteOp::new().assert_version(old.version).remove();
            match container.policy.data.write_op(&names::head(container.id, name), op).await {
                Ok(outcome) => {
                    change.written = outcome.version;
                    self.settle(container, name, change, None).await?;
                    return Ok(Deleted { version: None, marker: false, existed });
                }
                Err(e) if e.is_cancelled() || e.is_not_found() => {}
                Err(e) => {
                    self.repair_later(container, name);
                    return Err(e.into());
                }
            }
        }
        Err(ObjectError::Contended)
    }
}
