//! Bytes of images on their way into and out of the pool. Memory is bounded for each transfer, whatever its size:
//! a few chunks of 4 MiB.

mod blob;
mod convert;
mod hash;
mod moved;
mod receive;
mod split;

pub(crate) use blob::{Blobs, Disk, Onlooker};
pub(crate) use convert::{Limits, convert};
pub(crate) use hash::Hasher;
pub(crate) use receive::{Receive, Received, drain, receive};
pub(crate) use split::{Split, Splitter};

use crate::ImageError;
use bytes::Bytes;
use futures::stream::BoxStream;

/// A body, up or down.
pub type Body = BoxStream<'static, Result<Bytes, ImageError>>;

/// Bytes that travel together: an object of RBD.
pub(crate) const CHUNK: usize = 4 << 20;
