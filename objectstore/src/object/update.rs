//! Changing an object's metadata in place: its content stays where it is.

use crate::container::Container;
use crate::index::Change;
use crate::index::entry::Entry;
use crate::meta::{META_XATTR, Modified, ObjectMeta};
use crate::names;
use crate::{ObjectError, ObjectStore, fail};
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

impl ObjectStore {
    /// Replaces an object's metadata.
    pub async fn update_object(
        &self,
        container: &Arc<Container>,
        name: &str,
        update: Update,
    ) -> Result<ObjectMeta, ObjectError> {
        let change = move |meta: &mut ObjectMeta| {
            if let Some(content_type) = &update.content_type {
                meta.content_type.clone_from(content_type);
            }
            meta.headers.clone_from(&update.headers);
            meta.user.clone_from(&update.user);
            meta.delete_at = update.delete_at;
            meta.modified = Modified(Timestamp::now());
        };
        self.change_meta(container, name, change).await
    }

    /// Replaces an object's tags. It was not modified by that: its time stays.
    pub async fn tag_object(
        &self,
        container: &Arc<Container>,
        name: &str,
        tags: Vec<(String, String)>,
    ) -> Result<ObjectMeta, ObjectError> {
        self.change_meta(container, name, move |meta| meta.tags.clone_from(&tags)).await
    }

    /// `change` is made anew, on what is there then, where another change came between.
    async fn change_meta(
        &self,
        container: &Arc<Container>,
        name: &str,
        change: impl Fn(&mut ObjectMeta) + Send + Sync + 'static,
    ) -> Result<ObjectMeta, ObjectError> {
        super::check_name(name)?;
        let (this, container, name) = (self.clone(), container.clone(), name.to_owned());
        tokio::spawn(async move { this.finish_update(&container, &name, change).await })
            .await
            .map_err(|_| ObjectError::Damaged("an update was cut off"))?
    }

    async fn finish_update(
        &self,
        container: &Arc<Container>,
        name: &str,
        change: impl Fn(&mut ObjectMeta) + Send + Sync,
    ) -> Result<ObjectMeta, ObjectError> {
        self.mark_writing().await?;
        let oid = names::head(container.id, name);
        for _ in 0..20 {
            let (mut meta, version) = self.stat_object(container, name).await?;
            change(&mut meta);
            let op = WriteOp::new().assert_version(version).set_xattr(META_XATTR, Bytes::from(meta.encode()));
            match container.policy.data.write_op(&oid, op).await {
                Ok(outcome) => {
                    fail("object.post:index:before").await?;
                    let entry = Entry::of(&meta, outcome.version);
                    let change = Change::Put { name: name.to_owned(), entry, upload: None };
                    self.commit(container, change, name).await?;
                    return Ok(meta);
                }
                Err(e) if e.is_cancelled() => {}
                Err(e) if e.is_not_found() => return Err(ObjectError::NoSuchObject),
                Err(e) => {
                    self.repair_later(container, name);
                    return Err(e.into());
                }
            }
        }
        Err(ObjectError::Contended)
    }
}
