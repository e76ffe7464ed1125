//! Bytes of images on their way into and out of the pool. Memory is bounded for each transfer, whatever its size:
//! a few chunks of 4 MiB.

mod blob;
mod convert;
mod hash;
mod moved;
mod receive;
mod split;

pub(crate) use blob::{Blobs, Disk, Onlooker};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use convert::disk_of;
pub(crate) use convert::{Limits, convert};
pub(crate) use hash::{Hasher, hash_of};
pub(crate) use receive::{Receive, Received, drain, receive};
pub(crate) use split::{Split, Splitter};

use crate::ImageError;
use bytes::Bytes;
use futures::stream::BoxStream;

/// A body, up or down.
pub type Body = BoxStream<'static, Result<Bytes, ImageError>>;

/// Bytes that travel together: an object of RBD.
pub(crate) const CHUNK: usize = 4 << 20;

/// Whether objects of RBD may have been missing from these bytes, which are within one chunk: they read as zeroes. Objects
/// have 64 KiB at least.
pub(crate) fn may_have_gone(bytes: &[u8]) -> bool {
    let places = bytes.iter().step_by(64 << 10).chain(bytes.last());
    places.copied().any(|b| b == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_object_is_never_overlooked() {
        let all = vec![1; CHUNK];
        assert!(!may_have_gone(&all) && !may_have_gone(&[]));
        for (from, to) in [(0, 1), (CHUNK - 1, CHUNK), (777_777, 777_777 + (64 << 10)), (0, CHUNK)] {
            let mut bytes = all.clone();
            bytes[from..to].fill(0);
            assert!(may_have_gone(&bytes), "{from} {to}");
        }
    }
}
