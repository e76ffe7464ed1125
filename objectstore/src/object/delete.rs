//! Deleting an object: its head goes, then its line in the index. Its tails follow when readers have left. Where
//! versions are kept nothing goes: a delete marker is the latest version then.

use crate::container::Container;
use crate::index::Change;
use crate::names;
use crate::object::{Condition, Deleted};
use crate::{ObjectError, ObjectStore, cause, fail};
use pool::WriteOp;
use std::sync::Arc;

impl ObjectStore {
    /// Deletes an object: one operation on its head, one on the index.
    pub async fn delete_object(
        &self,
        container: &Arc<Container>,
        name: &str,
        condition: Condition,
    ) -> Result<Deleted, ObjectError> {
        super::check_name(name)?;
        let (this, container, name) = (self.clone(), container.clone(), name.to_owned());
        // A task of its own: a client that hangs up can't leave a line in the index without an object.
        cause::spawn(async move { this.finish_delete(&container, &name, condition).await })
            .await
            .map_err(|_| ObjectError::Damaged("a deletion was cut off"))?
    }

    async fn finish_delete(
        &self,
        container: &Arc<Container>,
        name: &str,
        condition: Condition,
    ) -> Result<Deleted, ObjectError> {
        let container = &self.refreshed(container).await?;
        if container.info.versioning.is_set() {
            return self.mark_deleted(container, name, &condition).await;
        }
        if let Some(history) = &container.info.history {
            return self.delete_with_history(container, name, history.mode, condition).await;
        }
        self.delete_plain(container, name, condition).await
    }

    pub(super) async fn delete_plain(
        &self,
        container: &Arc<Container>,
        name: &str,
        condition: Condition,
    ) -> Result<Deleted, ObjectError> {
        self.mark_writing().await?;
        let oid = names::head(container.id, name);
        let mut attempts = 0;
        let version = loop {
            let op = match self.condition_version(container, name, &condition).await? {
                Some(version) => WriteOp::new().assert_version(version),
                // What comes now is none of its business.
                None if matches!(condition, Condition::Older(_)) => return Err(ObjectError::NoSuchObject),
                None => WriteOp::new().assert_exists(),
            };
            match container.policy.data.write_op(&oid, op.remove()).await {
                Ok(outcome) => break outcome.version,
                Err(e) if e.is_not_found() => {
                    // Should the index list it all the same, an earlier deletion was cut short.
                    self.repair_later(container, name);
                    return Err(ObjectError::NoSuchObject);
                }
                Err(e) if e.is_cancelled() => {
                    attempts += 1;
                    if attempts > 20 {
                        return Err(ObjectError::Contended);
                    }
                }
                Err(e) => {
                    self.repair_later(container, name);
                    return Err(e.into());
                }
            }
        };
        fail("object.delete:index:before").await?;
        let change = Change::Delete { name: name.to_owned(), version };
        let done = self.commit(container, change, name).await?;
        Ok(Deleted { version: None, marker: false, existed: !done.expired })
    }
}
