//! Making a version the latest: a new one, a delete marker, or an older one that is put back.

use super::{ATTEMPTS, Deleted, entry_of, kept};
use crate::container::Container;
use crate::index::entry::Entry;
use crate::index::{Change, VersionChange};
use crate::meta::{Kind, META_XATTR, Modified, ObjectMeta};
use crate::names::{self, Tag};
use crate::object::{Condition, check_name};
use crate::version::{VersionId, Versioning};
use crate::{ObjectError, ObjectStore, cause, fail};
use bytes::Bytes;
use pool::WriteOp;
use state::Timestamp;
use std::sync::Arc;

/// A new version up to this size is sent on the guess that the name is new: one operation.
const GUESS: usize = 64 << 10;

impl ObjectStore {
    /// Makes `meta` the latest version of an object, or a delete marker of it; the version that it gets.
    pub(crate) async fn write_version(
        &self,
        container: &Arc<Container>,
        name: &str,
        mut meta: ObjectMeta,
        data: Bytes,
        condition: &Condition,
        upload: Option<Tag>,
    ) -> Result<(ObjectMeta, bool), ObjectError> {
        self.mark_writing().await?;
        fail("object.put:head:before").await?;
        let _one = self.inner.names.lock(container, name).await;
        let oid = names::head(container.id, name);
        meta.own_id = container.info.versioning == Versioning::Enabled;
        if meta.lock.retention.is_none() && !meta.is_marker() {
            let default = container.info.lock.and_then(|l| l.default);
            meta.lock.retention = default.map(|d| d.from(meta.modified.0));
        }
        let unconditional = matches!(condition, Condition::Always | Condition::Absent);
        let mut guess = meta.own_id
            && unconditional
            && data.len() <= GUESS
            && !self.inner.known_names.is_known(container, name);
        for _ in 0..ATTEMPTS {
            let mut change = VersionChange { name: name.to_owned(), upload, ..VersionChange::default() };
            // The null version that this one takes the place of, where that is not the head.
            let mut replaced = None;
            let old = if guess { None } else { self.stored_head(container, name).await? };
            if !guess {
                condition.admit_head(old.as_ref().map(|o| (&o.meta, o.version)))?;
            }
            let op = match &old {
                None => WriteOp::new().create_exclusive(),
                Some(old) => WriteOp::new().assert_version(old.version),
            };
            meta.order = Some(old.as_ref().map_or_else(Tag::new, |o| Tag::after(o.meta.order())));
            let in_place = old.as_ref().filter(|o| !meta.own_id && o.meta.version_id() == VersionId::Null);
            match (&old, in_place) {
                (_, Some(null)) => {
                    kept(&null.meta, false)?;
                    change.gone.push(null.entry());
                }
                (Some(old), None) => {
                    self.move_out(container, name, old).await?;
                    change.behind.push(old.entry());
                }
                (None, None) => {}
            }
            if !meta.own_id && in_place.is_none() {
                replaced = self.known_version(container, name, VersionId::Null).await?;
                if let Some((null, version)) = &replaced {
                    kept(null, false)?;
                    change.gone.push(entry_of(null, *version));
                }
            }
            let op = op.write_full(data.clone()).set_xattr(META_XATTR, Bytes::from(meta.encode()));
            match container.policy.data.write_op(&oid, op).await {
                Ok(outcome) => {
                    self.inner.known_names.note(container, name);
                    fail("object.put:index:before").await?;
                    change.written = outcome.version;
                    change.head = Some(Entry::of(&meta, outcome.version));
                    self.commit(container, Change::Versions(Box::new(change)), name).await?;
                    if let Some((_, version)) = replaced {
                        self.drop_copy(container, name, VersionId::Null, Some(version)).await?;
                    }
                    let existed = old.is_some_and(|o| o.meta.is_there());
                    return Ok((meta, existed));
                }
                Err(e) if e.is_exists() || e.is_cancelled() || e.is_not_found() => guess = false,
                Err(e) => {
                    self.repair_later(container, name);
                    return Err(e.into());
                }
            }
        }
        Err(ObjectError::Contended)
    }

    /// Deletes an object as a client does that names no version: by a delete marker where versions are kept.
    pub(in crate::object) async fn mark_deleted(
        &self,
        container: &Arc<Container>,
        name: &str,
        condition: &Condition,
    ) -> Result<Deleted, ObjectError> {
        let meta =
            ObjectMeta { kind: Kind::Marker, modified: Modified(Timestamp::now()), ..ObjectMeta::default() };
        let (meta, existed) =
            self.write_version(container, name, meta, Bytes::new(), condition, None).await?;
        Ok(Deleted { version: Some(meta.version_id()), marker: true, existed })
    }

    /// Makes an older version the latest again. Nothing is deleted by that.
    pub async fn restore_version(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: VersionId,
    ) -> Result<ObjectMeta, ObjectError> {
        check_name(name)?;
        let (this, container, name) = (self.clone(), container.clone(), name.to_owned());
        cause::spawn(async move { this.finish_restore(&container, &name, id).await })
            .await
            .map_err(|_| ObjectError::Damaged("a write was cut off"))?
    }

    async fn finish_restore(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: VersionId,
    ) -> Result<ObjectMeta, ObjectError> {
        self.mark_writing().await?;
        let _one = self.inner.names.lock(container, name).await;
        for _ in 0..ATTEMPTS {
            let old = self.stored_head(container, name).await?;
            if let Some(old) = old.as_ref().filter(|o| o.meta.version_id() == id) {
                return if old.meta.is_marker() {
                    Err(ObjectError::NoSuchVersion)
                } else {
                    Ok(old.meta.clone())
                };
            }
            let found = self.stored_version(container, name, id).await?;
            let found = found.filter(|f| !f.meta.is_marker()).ok_or(ObjectError::NoSuchVersion)?;
            let mut change = VersionChange::default();
            let op = match &old {
                None => WriteOp::new().create_exclusive(),
                Some(old) => {
                    self.move_out(container, name, old).await?;
                    change.behind.push(old.entry());
                    WriteOp::new().assert_version(old.version)
                }
            };
            let op = found.write(op);
            match container.policy.data.write_op(&names::head(container.id, name), op).await {
                Ok(outcome) => {
                    change.written = outcome.version;
                    change.head = Some(Entry { version: outcome.version, ..found.entry() });
                    let meta = found.meta.clone();
                    self.settle(container, name, change, Some(found)).await?;
                    return Ok(meta);
                }
                Err(e) if e.is_exists() || e.is_cancelled() || e.is_not_found() => {}
                Err(e) => {
                    self.repair_later(container, name);
                    return Err(e.into());
                }
            }
        }
        Err(ObjectError::Contended)
    }
}
