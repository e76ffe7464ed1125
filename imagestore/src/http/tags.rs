//! `/v2/images/<id>/tags/<tag>`.

use super::App;
use crate::Images;
use api::{Context, Error, Path, Routes};
use http::StatusCode;
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.put("/v2/images/{image_id}/tags/{tag}", add).delete("/v2/images/{image_id}/tags/{tag}", remove)
}

async fn add(
    images: App,
    ctx: Context,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    images.add_tag(&ctx, &id, &tag).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    images: App,
    ctx: Context,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    images.remove_tag(&ctx, &id, &tag).await?;
    Ok(StatusCode::NO_CONTENT)
}
