//! An image's bytes on their way out, from the nearest place that has them.
//!
//! That place may go meanwhile: a cached copy at any time, a store when it is emptied, all with the image. What is in the
//! pool no more reads as zeroes, so bytes that may be such are given away only while the image is still there. Where it
//! is elsewhere, the download goes on from there; where the image is gone, it ends in an error.

use crate::model::{Image, Status};
use crate::store::images as rows;
use crate::{Body, ImageError, Images, data};
use bytes::Bytes;
use futures::StreamExt;
use std::sync::Arc;

/// A download under way.
struct Download {
    images: Arc<Images>,
    image: Image,
    /// What it is read from.
    tier: String,
    bytes: Body,
    /// The place of the next byte, and of the end.
    at: u64,
    end: u64,
    /// It is one that the cache counts.
    whole: bool,
}

impl Images {
    /// `len` bytes from `off` of what was uploaded.
    pub(crate) async fn bytes(
        self: &Arc<Self>,
        image: &Image,
        off: u64,
        len: u64,
    ) -> Result<Body, ImageError> {
        let mut tier = self.nearest(image).await?;
        let read = async |tier: &str| self.blobs(tier)?.stream(image, off, len).await;
        let bytes = match read(&tier).await {
            Err(e) if tier != image.store => {
                tracing::warn!(image = %image.id, tier, error = %e, "a copy cannot be read");
                tier.clone_from(&image.store);
                read(&tier).await?
            }
            read => read?,
        };
        let whole = off == 0 && image.size == Some(len) && image.status == Status::Active;
        let (images, image) = (self.clone(), image.clone());
        let download = Download { images, image, tier, bytes, at: off, end: off + len, whole };
        Ok(futures::stream::try_unfold(download, Download::next).boxed())
    }
}

impl Download {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, ImageError> {
        while let Some(read) = self.bytes.next().await {
            let failure = match read {
                Ok(chunk) if !data::may_have_gone(&chunk) || self.is_there().await? => {
                    self.at += chunk.len() as u64;
                    if self.whole && self.at == self.end {
                        self.images.downloaded(&self.image.id);
                    }
                    return Ok(Some((chunk, self)));
                }
                read => read.err(),
            };
            self.turn(failure).await?;
        }
        Ok(None)
    }

    /// Whether what was just read was the image's.
    async fn is_there(&mut self) -> Result<bool, ImageError> {
        self.images.is_in(&self.image.id, &self.tier).await
    }

    /// Goes on from the image's own store, unless that is what has failed.
    async fn turn(&mut self, failure: Option<ImageError>) -> Result<(), ImageError> {
        let gone = || ImageError::NotFound(self.image.id.clone());
        let store = rows::get(&self.images.db, &self.image.id).await?.ok_or_else(gone)?.store;
        if store == self.tier {
            return Err(failure.unwrap_or_else(gone));
        }
        tracing::info!(image = %self.image.id, tier = self.tier, store, "a download goes on from the store");
        self.bytes = self.images.blobs(&store)?.stream(&self.image, self.at, self.end - self.at).await?;
        self.tier = store;
        Ok(())
    }
}
