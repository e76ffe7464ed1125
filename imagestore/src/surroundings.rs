//! What this service asks of the cloud around it; whoever puts the cloud together answers.

use crate::ImageError;
use async_trait::async_trait;

/// The cloud around the images.
#[async_trait]
pub trait Surroundings: Send + Sync {
    /// A project's limit of one of the resources that upstream registers for images (`image_size_total` and
    /// `image_stage_total` in MiB, `image_count_total`, `image_count_uploading`): -1 is none, `None` where the
    /// resource is not registered.
    async fn limit(&self, project: &str, resource: &str) -> Result<Option<i64>, ImageError>;

    /// The URL of a region's image service, without a version.
    async fn image_service(&self, region: &str, interface: &str) -> Result<Option<String>, ImageError>;
}
