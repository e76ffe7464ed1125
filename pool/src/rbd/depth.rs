//! Clones of clones: how long a row of parents is.

use super::image::{Image, ImageLink};
use crate::error::Error;

impl Image {
    /// How many parents stand behind one another here. A parent that has gone meanwhile ends the row.
    pub async fn depth(&self) -> Result<u32, Error> {
        let (mut depth, mut next) = (0, self.parent().await?);
        while let Some(link) = next {
            depth += 1;
            let place = self.pool().cluster().pool(&link.pool, Some(&link.namespace));
            let parent = match place.rbd().open_by_id(&link.id, true).await {
                Err(Error::NotFound { .. }) => break,
                opened => opened?,
            };
            let found = parent.parent_at(link.snap_id).await;
            parent.close().await?;
            next = found?;
        }
        Ok(depth)
    }

    /// The parent that this image had at a snapshot. (Where it has no deep flatten, flattening leaves its snapshots.)
    async fn parent_at(&self, snap: Option<u64>) -> Result<Option<ImageLink>, Error> {
        if let Some(id) = snap {
            self.snap_set(id).await?;
        }
        self.parent().await
    }
}
