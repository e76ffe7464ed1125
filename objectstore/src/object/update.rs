//! Changing an object's metadata in place: its content stays where it is.

use crate::access::Access;
use crate::container::Container;
use crate::index::Change;
use crate::index::VersionChange;
use crate::index::entry::Entry;
use crate::meta::{META_XATTR, Modified, ObjectMeta};
use crate::names;
use crate::version::{Retention, VersionId};
use crate::{ObjectError, ObjectStore, cause, fail};
use bytes::Bytes;
use pool::WriteOp;
use state::Timestamp;
use std::sync::Arc;

/// What an object's metadata is to become.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// Absent: as it is.
    pub content_type: Option<String>,
    pub headers: Vec<(String, String)>,
    pub user: Vec<(String, String)>,
    pub delete_at: Option<i64>,
}

/// Which version a change is about.
#[derive(Clone, Copy)]
enum Which {
    Latest,
    /// The latest also if it has expired.
    Unswept,
    One(VersionId),
}

impl From<Option<VersionId>> for Which {
    fn from(version: Option<VersionId>) -> Self {
        version.map_or(Which::Latest, Which::One)
    }
}

impl ObjectStore {
    /// Replaces an object's metadata; also of one that has expired, if it may still be opened.
    pub async fn update_object(
        &self,
        access: &Access,
        container: &Arc<Container>,
        name: &str,
        update: Update,
    ) -> Result<ObjectMeta, ObjectError> {
        let which = if access.opens_expired { Which::Unswept } else { Which::Latest };
        let change = move |meta: &mut ObjectMeta| {
            if meta.lock.holds(Timestamp::now(), false) {
                return Err(ObjectError::Locked);
            }
            if let Some(content_type) = &update.content_type {
                meta.content_type.clone_from(content_type);
            }
            meta.headers.clone_from(&update.headers);
            meta.user.clone_from(&update.user);
            meta.delete_at = update.delete_at;
            meta.modified = Modified(Timestamp::now());
            Ok(())
        };
        self.change_version(container, name, which, change).await
    }

    /// Replaces an object's tags, or those of one version of it. It was not modified by that: its time stays.
    pub async fn tag_object(
        &self,
        container: &Arc<Container>,
        name: &str,
        version: Option<VersionId>,
        tags: Vec<(String, String)>,
    ) -> Result<ObjectMeta, ObjectError> {
        let change = move |meta: &mut ObjectMeta| {
            meta.tags.clone_from(&tags);
            Ok(())
        };
        self.change_version(container, name, version.into(), change).await
    }

    /// Sets a version's legal hold, or takes it back.
    pub async fn set_legal_hold(
        &self,
        container: &Arc<Container>,
        name: &str,
        version: Option<VersionId>,
        held: bool,
    ) -> Result<ObjectMeta, ObjectError> {
        let change = move |meta: &mut ObjectMeta| {
            meta.lock.legal_hold = Some(held);
            Ok(())
        };
        self.change_version(container, name, version.into(), change).await
    }

    /// Sets a version's retention. `bypass` is a caller's who may break governance and says so.
    pub async fn set_retention(
        &self,
        container: &Arc<Container>,
        name: &str,
        version: Option<VersionId>,
        retention: Option<Retention>,
        bypass: bool,
    ) -> Result<ObjectMeta, ObjectError> {
        let change = move |meta: &mut ObjectMeta| {
            if !meta.lock.may_become(retention, Timestamp::now(), bypass) {
                return Err(ObjectError::Locked);
            }
            meta.lock.retention = retention;
            Ok(())
        };
        self.change_version(container, name, version.into(), change).await
    }

    /// Replaces an object's own ACL.
    pub(crate) async fn set_object_grants(
        &self,
        container: &Arc<Container>,
        name: &str,
        version: Option<VersionId>,
        grants: Vec<crate::grants::Grant>,
    ) -> Result<ObjectMeta, ObjectError> {
        let change = move |meta: &mut ObjectMeta| {
            meta.grants = Some(grants.clone());
            Ok(())
        };
        self.change_version(container, name, version.into(), change).await
    }

    /// Changes one version's metadata. `change` may refuse, and is made anew, on what is there then, where another
    /// change came between.
    async fn change_version(
        &self,
        container: &Arc<Container>,
        name: &str,
        which: Which,
        change: impl Fn(&mut ObjectMeta) -> Result<(), ObjectError> + Send + Sync + 'static,
    ) -> Result<ObjectMeta, ObjectError> {
        super::check_name(name)?;
        let (this, container, name) = (self.clone(), container.clone(), name.to_owned());
        cause::spawn(async move { this.finish_update(&container, &name, which, change).await })
            .await
            .map_err(|_| ObjectError::Damaged("an update was cut off"))?
    }

    async fn finish_update(
        &self,
        container: &Arc<Container>,
        name: &str,
        which: Which,
        change: impl Fn(&mut ObjectMeta) -> Result<(), ObjectError> + Send + Sync,
    ) -> Result<ObjectMeta, ObjectError> {
        self.mark_writing().await?;
        for _ in 0..20 {
            let object = match which {
                Which::Latest => self.open_object(container, name, 0).await?,
                Which::Unswept => self.open_unswept(container, name, 0).await?,
                Which::One(id) => self.open_version(container, name, id, 0).await?,
            };
            if object.meta.is_marker() {
                return Err(ObjectError::IsMarker);
            }
            let (oid, mut meta) = (object.oid, object.meta);
            change(&mut meta)?;
            let guard = WriteOp::new().assert_version(object.version);
            let op = guard.set_xattr(META_XATTR, Bytes::from(meta.encode()));
            match container.policy.data.write_op(&oid, op).await {
                // The index tells nothing of an older version that could have changed.
                Ok(_) if oid != names::head(container.id, name) => return Ok(meta),
                Ok(outcome) => {
                    fail("object.post:index:before").await?;
                    self.list_head(container, name, &meta, outcome.version).await?;
                    return Ok(meta);
                }
                Err(e) if e.is_cancelled() || e.is_not_found() => {} // replaced, or moved out of the head
                Err(e) => {
                    self.repair_later(container, name);
                    return Err(e.into());
                }
            }
        }
        Err(ObjectError::Contended)
    }

    /// Has the index list a head whose metadata were changed.
    async fn list_head(
        &self,
        container: &Arc<Container>,
        name: &str,
        meta: &ObjectMeta,
        written: u64,
    ) -> Result<(), ObjectError> {
        let entry = Entry::of(meta, written);
        let name = name.to_owned();
        let change = match container.info.versioning.is_set() {
            false => Change::Put { name: name.clone(), entry, upload: None },
            true => Change::Versions(Box::new(VersionChange {
                name: name.clone(),
                written,
                head: Some(entry),
                ..VersionChange::default()
            })),
        };
        self.commit(container, change, &name).await.map(drop)
    }
}
