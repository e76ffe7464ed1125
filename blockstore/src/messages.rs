//! Messages: what went wrong with a request after it was accepted, in words for its owner.

use crate::{VolumeError, Volumes, store};
use api::Context;
use state::{Timestamp, Tx};
use std::time::Duration;

/// A message, as its row has it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) project_id: String,
    pub(crate) request_id: String,
    pub(crate) resource_type: String,
    pub(crate) resource_id: String,
    pub(crate) event_id: String,
    pub(crate) text: String,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

/// What was being done, in upstream's numbers and words.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    Allocate,
    Upload,
    Extend,
    CreateSnapshot,
    DeleteSnapshot,
    DeleteVolume,
    Revert,
    Manage,
    Migrate,
    Reimage,
    BackUp,
    DeleteBackup,
    RestoreBackup,
}

impl Action {
    fn number(self) -> &'static str {
        match self {
            Action::Allocate => "001",
            Action::Upload => "003",
            Action::Extend => "007",
            Action::CreateSnapshot => "010",
            Action::DeleteSnapshot => "011",
            Action::DeleteVolume => "018",
            Action::BackUp => "013",
            Action::DeleteBackup => "014",
            Action::RestoreBackup => "015",
            Action::Revert => "019",
            Action::Manage => "020",
            Action::Migrate => "021",
            Action::Reimage => "022",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Action::Allocate => "schedule allocate volume",
            Action::Upload => "copy volume to image",
            Action::Extend => "extend volume",
            Action::CreateSnapshot => "create snapshot",
            Action::DeleteSnapshot => "delete snapshot",
            Action::DeleteVolume => "delete volume",
            Action::BackUp => "create backup",
            Action::DeleteBackup => "delete backup",
            Action::RestoreBackup => "restore backup",
            Action::Revert => "revert volume to snapshot",
            Action::Manage => "manage existing",
            Action::Migrate => "migrate volume",
            Action::Reimage => "reimage volume",
        }
    }
}

/// What upstream says where no tier has what a type asks for.
pub(crate) const NO_BACKEND: &str = "Could not find any available weighted backend.";

/// Whose request went wrong; part of every task's parameters.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Asker {
    pub project_id: String,
    pub request_id: String,
    #[serde(default)]
    pub user_id: String,
}

impl Asker {
    pub(crate) fn of(ctx: &Context, project_id: &str) -> Self {
        Asker {
            project_id: project_id.to_owned(),
            request_id: ctx.request_id.as_str().to_owned(),
            user_id: ctx.user.id.clone(),
        }
    }
}

impl Volumes {
    /// Leaves a message. `task` makes it the same message when it is left twice.
    pub(crate) async fn tell(
        &self,
        tx: &mut Tx,
        task: &str,
        asker: &Asker,
        action: Action,
        resource: (&str, &str),
        reason: &str,
    ) -> Result<(), VolumeError> {
        let now = Timestamp::now();
        let (resource_type, resource_id) = resource;
        let detail = if reason == NO_BACKEND { "003" } else { "001" };
        let space = uuid::Uuid::parse_str(task).unwrap_or_default();
        let message = Message {
            id: uuid::Uuid::new_v5(&space, resource_id.as_bytes()).to_string(),
            project_id: asker.project_id.clone(),
            request_id: asker.request_id.clone(),
            resource_type: resource_type.to_owned(),
            resource_id: resource_id.to_owned(),
            event_id: format!("VOLUME_{resource_type}_{}_{detail}", action.number()),
            text: format!("{}:{reason}", action.words()),
            created_at: now,
            expires_at: now.plus(Duration::from_secs(self.config.message_days * 24 * 3600)),
        };
        store::messages::insert(tx, &message).await
    }

    pub(crate) async fn list_messages(&self, ctx: &Context) -> Result<Vec<Message>, VolumeError> {
        let home = Self::home(ctx)?;
        self.may(ctx, "message:get_all", home)?;
        store::messages::of_project(self.db.read(), home).await
    }

    pub(crate) async fn get_message(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
    ) -> Result<Message, VolumeError> {
        let message = store::messages::get(self.db.read(), id)
            .await?
            .filter(|m| Self::sees(ctx, &m.project_id))
            .ok_or_else(|| VolumeError::MessageNotFound(id.to_owned()))?;
        self.may(ctx, rule, &message.project_id)?;
        Ok(message)
    }

    pub(crate) async fn delete_message(&self, ctx: &Context, id: &str) -> Result<(), VolumeError> {
        let message = self.get_message(ctx, id, "message:delete").await?;
        let mut tx = self.db.begin().await?;
        store::messages::remove(&mut tx, &message.id).await?;
        Ok(tx.commit().await?)
    }
}
