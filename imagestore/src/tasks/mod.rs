//! The durable work of this service, one operation a file.

pub(crate) mod clone;
pub(crate) mod delete;
pub(crate) mod import;
pub(crate) mod watch;

use crate::Images;
use state::Operation;
use std::sync::Arc;

/// Tasks of one image run one after another.
pub(crate) fn subject(image: &str) -> String {
    format!("image/{image}")
}

pub(crate) fn all(images: &Arc<Images>) -> Vec<Arc<dyn Operation>> {
    vec![
        Arc::new(clone::CloneDisk(images.clone())),
        Arc::new(delete::Delete(images.clone())),
        Arc::new(import::Import(images.clone())),
        Arc::new(watch::Watch(images.clone())),
    ]
}
