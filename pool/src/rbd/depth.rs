//! Clones of clones: how long a row of parents is, and how an image leaves it a piece at a time.

use std::collections::HashSet;

use futures::stream::{StreamExt, TryStreamExt};

use super::image::{Extent, Image, ImageLink};
use crate::error::Error;

/// Objects that are taken over at once.
const AT_ONCE: usize = 4;
/// How much of an object is written to make librbd copy the rest of it.
const TOUCH: u64 = 512;

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

    /// Copies what a range still takes from the parents, while others read and write it. What [`Image::flatten`] does to a
    /// whole image, this does to a part, so that whoever waits for the image need not wait for all of it; a `flatten`
    /// afterwards finds nothing left to copy.
    pub async fn take_over(&self, off: u64, len: u64) -> Result<(), Error> {
        let all = self.diff(None, off, len, true, true).await?;
        let own = self.diff(None, off, len, false, true).await?;
        let own: HashSet<u64> = own.into_iter().filter(|e| e.exists).map(|e| e.off).collect();
        let theirs = all.into_iter().filter(|e| e.exists && !own.contains(&e.off));
        futures::stream::iter(theirs.map(|piece| self.touch(piece)))
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await
            .map(drop)
    }

    /// Writes what is there: librbd makes the object first, of the parent's.
    async fn touch(&self, piece: Extent) -> Result<(), Error> {
        let len = usize::try_from(piece.len.min(TOUCH)).unwrap_or(0);
        let there = self.read_at(piece.off, len).await?;
        match self.compare_and_write(piece.off, there.clone(), there).await {
            // Somebody else has written to it: it is there.
            Err(Error::Cancelled { .. }) => Ok(()),
            written => written,
        }
    }
}
