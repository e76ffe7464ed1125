//! Images that the cloud brings itself, such as the one to try it with.

use crate::data::CHUNK;
use crate::model::{Image, NewImage, Status, Visibility};
use crate::store::images as rows;
use crate::{Body, ImageError, Images};
use api::Context;
use bytes::BytesMut;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

impl Images {
    /// Sees to it that there is a public image of this name and owner with a file's bytes. Twice is no error, also
    /// where the first time was cut short; an image that is there already is left as it is.
    pub async fn ensure(
        self: &Arc<Self>,
        name: &str,
        file: &Path,
        disk_format: &str,
        properties: BTreeMap<String, String>,
        owner: Option<&str>,
    ) -> Result<Image, ImageError> {
        let ctx = Context::service("image");
        let new = NewImage {
            name: Some(name.to_owned()),
            visibility: Some(Visibility::Public),
            owner: owner.map(str::to_owned),
            disk_format: Some(disk_format.to_owned()),
            container_format: Some("bare".to_owned()),
            properties,
            ..NewImage::default()
        };
        let draft = self.draft(&ctx, new)?;
        let mut tx = self.db.begin().await?;
        tx.lock(&format!("image-ensure:{name}")).await?;
        let image = match rows::by_name(&mut tx, name, owner).await? {
            Some(image) => image,
            None => {
                self.add(&mut tx, &draft).await?;
                tx.commit().await?;
                draft
            }
        };
        if image.status == Status::Queued {
            let (size, body) = read(file).await?;
            self.upload(&ctx, &image.id, Some(size), body).await?;
        }
        self.get(&ctx, &image.id).await
    }
}

/// A file as a body, and its size in bytes.
async fn read(path: &Path) -> Result<(u64, Body), ImageError> {
    let failed = |source| ImageError::Io { what: format!("{} cannot be read", path.display()), source };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let size = file.metadata().await.map_err(failed)?.len();
    let body = futures::stream::unfold(Some(file), |file| async move {
        let mut file = file?;
        let mut chunk = BytesMut::with_capacity(CHUNK / 4);
        match file.read_buf(&mut chunk).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(chunk.freeze()), Some(file))),
            Err(e) => Some((Err(ImageError::Aborted(Some(Box::new(e)))), None)),
        }
    });
    Ok((size, body.boxed()))
}
