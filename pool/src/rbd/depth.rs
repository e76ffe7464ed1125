//! Clones of clones: how long a row of parents is.

use super::image::{Image, ImageLink};
use super::manage::Rbd;
use crate::error::{Error, OptionalExt};

impl Rbd {
    /// [`Image::depth`] of an image as it was at a snapshot. `NotFound`.
    pub async fn depth(&self, name: &str, snap: &str) -> Result<u32, Error> {
        let image = self.open_snapshot(name, snap).await?;
        let depth = image.depth().await;
        image.close().await?;
        depth
    }
}

impl Image {
    /// How many parents stand behind one another here. A parent that goes meanwhile ends the row.
    pub async fn depth(&self) -> Result<u32, Error> {
        let (mut depth, mut next) = (0, self.parent().await?);
        while let Some(link) = next {
            depth += 1;
            next = self.parent_of(&link).await.optional()?.flatten();
        }
        Ok(depth)
    }

    /// The parent that a parent had at its snapshot. (Where it has no deep flatten, flattening leaves its snapshots.)
    async fn parent_of(&self, link: &ImageLink) -> Result<Option<ImageLink>, Error> {
        let place = self.pool().cluster().pool(&link.pool, Some(&link.namespace));
        let parent = place.rbd().open_by_id(&link.id, true).await?;
        let found = parent.parent_at(link.snap_id).await;
        parent.close().await?;
        found
    }

    async fn parent_at(&self, snap: Option<u64>) -> Result<Option<ImageLink>, Error> {
        if let Some(id) = snap {
            self.snap_set(id).await?;
        }
        self.parent().await
    }
}
