//! A body into an RBD image: with back-pressure, hashed on the way, its beginning inspected before the rest comes.

use super::moved::Part;
use super::{Body, CHUNK, Hasher, Split, Splitter};
use crate::ImageError;
use crate::inspect::{self, Format};
use crate::model::Digest;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use pool::ImageWriter;
use std::time::Duration;

/// What is being received.
pub(crate) struct Receive {
    /// The empty image that takes the bytes.
    pub(crate) image: pool::Image,
    /// Its size now, in bytes.
    pub(crate) room: u64,
    /// The most bytes that are taken.
    pub(crate) cap: u64,
    /// What was announced, in bytes: exactly so many must come.
    pub(crate) announced: Option<u64>,
    /// What the beginning must be; `None` takes anything.
    pub(crate) format: Option<Format>,
    /// Takes out what can go to its place at once.
    pub(crate) split: Option<Splitter>,
    pub(crate) hasher: Hasher,
}

/// What has come.
pub(crate) struct Received {
    pub(crate) digest: Digest,
    /// The disk, as far as it could be made on the way.
    pub(crate) split: Option<Split>,
}

/// An image that turns out larger than it was made grows by this, or by half of what it is.
const GROWTH: u64 = 1 << 30;

/// Takes the whole body; the image has exactly its size when this returns.
pub(crate) async fn receive(mut to: Receive, body: &mut Body) -> Result<Received, ImageError> {
    let seen = match take_all(&mut to, body).await {
        Ok(seen) => seen,
        Err(e) => {
            if let Some(split) = to.split.filter(|_| !e.is_unavailable()) {
                split.give_up().await?;
            }
            return Err(e);
        }
    };
    let split = match to.split {
        Some(splitter) => splitter.finish().await?,
        None => None,
    };
    if let Some(split) = &split {
        split.moved.save(&to.image, seen).await?;
    }
    Ok(Received { digest: to.hasher.finish().await?, split })
}

/// Takes the body's bytes; how many there were.
async fn take_all(to: &mut Receive, body: &mut Body) -> Result<u64, ImageError> {
    let mut writer = ImageWriter::new(to.image.clone(), 0);
    let mut gathered = BytesMut::with_capacity(CHUNK);
    let mut seen = 0u64;
    while let Some(frame) = body.next().await {
        let mut frame = frame?;
        seen += frame.len() as u64;
        check_size(seen, to)?;
        while !frame.is_empty() {
            let part = frame.split_to(frame.len().min(CHUNK - gathered.len()));
            gathered.extend_from_slice(&part);
            if gathered.len() == CHUNK {
                let chunk = std::mem::replace(&mut gathered, BytesMut::with_capacity(CHUNK)).freeze();
                to.take(chunk, &mut writer).await?;
            }
        }
    }
    if to.announced.is_some_and(|n| n != seen) {
        return Err(ImageError::invalid("The size of the uploaded data is not the one that was announced."));
    }
    if !gathered.is_empty() || seen == 0 {
        to.take(gathered.freeze(), &mut writer).await?;
    }
    writer.finish().await?;
    if to.room != seen {
        to.image.resize(seen, true).await?;
    }
    Ok(seen)
}

fn check_size(seen: u64, to: &Receive) -> Result<(), ImageError> {
    if seen > to.cap {
        return Err(ImageError::TooLarge(format!(
            "Image exceeds the storage quota: at most {} bytes may be uploaded.",
            to.cap
        )));
    }
    if to.announced.is_some_and(|n| seen > n) {
        return Err(ImageError::invalid("The uploaded data is larger than was announced."));
    }
    Ok(())
}

impl Receive {
    async fn take(&mut self, chunk: Bytes, writer: &mut ImageWriter) -> Result<(), ImageError> {
        if let Some(format) = self.format.take() {
            inspect::check_head(&chunk[..chunk.len().min(inspect::HEAD)], format)?;
        }
        let end = writer.position() + chunk.len() as u64;
        if end > self.room {
            let more = end.max(self.room + GROWTH.max(self.room / 2)).min(self.cap.max(end));
            self.image.resize(more, false).await?;
            self.room = more;
        }
        self.hasher.update(chunk.clone()).await?;
        let Some(split) = &mut self.split else { return Ok(writer.write(chunk).await?) };
        for part in split.take(end - chunk.len() as u64, &chunk).await? {
            match part {
                Part::Kept(bytes) => writer.write(bytes).await?,
                Part::Moved(len) => writer.skip(len).await?,
            }
        }
        Ok(())
    }
}

/// What a refused client may still send before it is cut off.
const DRAIN: u64 = 256 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(20);

/// Reads on for a while, so that a client that sends first and reads later gets to see why it was refused.
pub(crate) async fn drain(body: &mut Body) {
    let read = async {
        let mut left = DRAIN;
        while let Some(Ok(frame)) = body.next().await {
            left = left.saturating_sub(frame.len() as u64);
            if left == 0 {
                return;
            }
        }
    };
    // Whoever is slower than this is cut off.
    let _ = tokio::time::timeout(DRAIN_TIME, read).await;
}
