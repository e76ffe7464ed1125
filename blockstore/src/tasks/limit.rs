//! `volume.limit`: after a retype, the image's limits become those of its type's QoS specs. Level-triggered: it looks at
//! the rows, so that the last of several retypes wins.

use super::{failed, storage, subject};
use crate::{VolumeError, Volumes, disk, store};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;

const KIND: &str = "volume.limit";

#[derive(Serialize, Deserialize)]
struct Params {
    volume_id: String,
}

pub(crate) async fn spawn(tx: &mut Tx, volume_id: &str) -> Result<(), VolumeError> {
    let params = Params { volume_id: volume_id.to_owned() };
    NewTask { kind: KIND, subject: &subject(volume_id) }.spawn(tx, &params).await?;
    Ok(())
}

pub(super) struct Limit(pub(super) Arc<Volumes>);

#[async_trait]
impl Operation for Limit {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["limit"]
    }

    async fn run(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        self.apply(&job.params::<Params>()?).await
    }

    /// The type is what it is: its limits are what the image should have, also after a failure.
    async fn undo(&self, _: &str, job: &mut Job) -> Result<(), StepError> {
        self.apply(&job.params::<Params>()?).await
    }

    async fn unwound(&self, _: &mut Job, _: &str) -> Result<(), StepError> {
        Ok(())
    }
}

impl Limit {
    async fn apply(&self, params: &Params) -> Result<(), StepError> {
        let volume = store::volumes::get(self.0.db.read(), &params.volume_id).await.map_err(failed)?;
        let Some(volume) = volume else { return Ok(()) };
        let tier = self.0.tiers.get(&volume.tier).map_err(storage)?;
        let limits = self.0.limits_of_type(&volume.type_id).await.map_err(failed)?;
        disk::limit(&tier, &volume.image_name(), &limits).await.map_err(storage)
    }
}
