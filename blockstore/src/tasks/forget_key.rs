//! `volume.forget_key`: an image that was an encrypted volume has been deleted; its passphrase goes with it.
//!
//! What an image says of its passphrase is anybody's word: one goes only where the image's owner has it, where the image
//! says that it is to go, and where nothing else is opened with it.

use super::failed;
use crate::images::{KEY_POLICY, KEY_PROPERTY};
use crate::{VolumeError, Volumes};
use async_trait::async_trait;
use imagestore::Deleted;
use state::{Job, Operation, StepError};
use std::sync::Arc;

/// The images' service adds such tasks: [`imagestore::Images::follow_deletions`].
pub(crate) const KIND: &str = "volume.forget_key";

pub(super) struct Forget(pub(super) Arc<Volumes>);

#[async_trait]
impl Operation for Forget {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["forget"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        self.0.forget_image_key(&job.params::<Deleted>()?).await.map_err(failed)
    }

    /// What is forgotten is forgotten; what is not is only a row.
    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    async fn unwound(&self, _: &mut Job, reason: &str) -> Result<(), StepError> {
        tracing::error!(reason, "the passphrase of a deleted image is still kept");
        Ok(())
    }
}

impl Volumes {
    async fn forget_image_key(&self, gone: &Deleted) -> Result<(), VolumeError> {
        let Some(key) = gone.properties.get(KEY_PROPERTY) else { return Ok(()) };
        let goes = gone.properties.get(KEY_POLICY.0).is_some_and(|p| p == KEY_POLICY.1);
        let owner = self.keys.owner(key).await?;
        if !goes || owner.is_none() || owner != gone.owner {
            return Ok(());
        }
        self.forget_unused_key(Some(key)).await
    }
}
