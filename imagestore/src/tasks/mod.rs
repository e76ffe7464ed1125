//! The durable work of this service, one operation a file.

pub(crate) mod cache;
pub(crate) mod clone;
pub(crate) mod copy;
pub(crate) mod delete;
pub(crate) mod import;
pub(crate) mod locate;
mod placing;
mod purge;
pub(crate) mod uncache;
pub(crate) mod watch;

use crate::Images;
use crate::model::Image;
use crate::store::{images as rows, tasks as task_rows};
use serde_json::json;
use state::{Operation, StateError, StepError, Tx};
use std::sync::Arc;
use std::time::Duration;

/// Tasks of one image run one after another.
pub(crate) fn subject(image: &str) -> String {
    format!("image/{image}")
}

/// How long a long step waits before it asks again for its turn.
const TURN: Duration = Duration::from_millis(500);

/// Shows users that their task has begun.
async fn began(images: &Images, task: &str) -> Result<(), StepError> {
    let mut tx = images.db.begin().await?;
    task_rows::set_status(&mut tx, task, "processing", "{}", "").await?;
    Ok(tx.commit().await?)
}

/// Shows users that their task is done, together with what it has made of the image.
async fn succeeded(tx: &mut Tx, image: &Image, task: &str) -> Result<(), StateError> {
    rows::update(tx, image).await?;
    let result = json!({"image_id": image.id}).to_string();
    task_rows::set_status(tx, task, "success", &result, "").await
}

pub(crate) fn all(images: &Arc<Images>) -> Vec<Arc<dyn Operation>> {
    vec![
        Arc::new(cache::Cache(images.clone())),
        Arc::new(clone::CloneDisk(images.clone())),
        Arc::new(copy::Copy(images.clone())),
        Arc::new(delete::Delete(images.clone())),
        Arc::new(import::Import(images.clone())),
        Arc::new(locate::Locate(images.clone())),
        Arc::new(purge::Purge(images.clone())),
        Arc::new(uncache::Uncache(images.clone())),
        Arc::new(watch::Watch(images.clone())),
    ]
}
