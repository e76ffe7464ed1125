//! `group.settle`: a group whose volumes are being made (a copy of another one) or deleted takes the state that they
//! come to. It does nothing to the volumes: each has a task of its own, which ends by itself.

use super::{LOOK_AGAIN, failed};
use crate::groups::Group;
use crate::{VolumeError, Volumes};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "group.settle";

#[derive(Serialize, Deserialize)]
struct Params {
    group_id: String,
}

pub(crate) async fn spawn(tx: &mut Tx, group: &Group) -> Result<(), VolumeError> {
    let params = Params { group_id: group.id.clone() };
    NewTask { kind: KIND, subject: &subject(&group.id) }.spawn(tx, &params).await?;
    Ok(())
}

/// The subject of everything that is done to a group.
pub(crate) fn subject(group_id: &str) -> String {
    format!("volume-group/{group_id}")
}

pub(super) struct Settle(pub(super) Arc<Volumes>);

#[async_trait]
impl Operation for Settle {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["follow"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        match self.0.settle_group(&params.group_id).await.map_err(failed)? {
            true => Ok(()),
            false => Err(StepError::Wait(LOOK_AGAIN)),
        }
    }

    /// It only looks.
    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    /// Giving up does not exist: what the volumes have come to is what the group is.
    async fn unwound(&self, job: &mut Job, _: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        match self.0.settle_group(&params.group_id).await.map_err(failed)? {
            true => Ok(()),
            false => Err(StepError::Wait(LOOK_AGAIN)),
        }
    }
}
