//! One at a time removes an image.
//!
//! librbd closes an image, and so gives its lock back, before it removes the header. Who begins to remove the same image in
//! that instant gets the lock, and loses the header while he is at it, which ends the process (`TrimRequest`'s assertion), or
//! leaves him waiting for ever. So whoever comes second here hears that it is busy, as librbd says at any other moment.
//! Another process is not kept away: several that remove what was a parent of each other's clones may still meet there.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Rbd;
use crate::error::Error;

/// By cluster, place and id.
static UNDER_WAY: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn under_way() -> MutexGuard<'static, BTreeSet<String>> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// That this process removes an image; to be kept until librbd is done, whoever still waits for it.
pub(super) struct Removal(String);

impl Drop for Removal {
    fn drop(&mut self) {
        under_way().remove(&self.0);
    }
}

impl Rbd {
    /// Begins to remove the image with this id. `Busy`: somebody here has.
    pub(super) fn removal(&self, id: &str) -> Result<Removal, Error> {
        let what = self.pool().path("remove image", id);
        match under_way().insert(what.clone()) {
            true => Ok(Removal(what)),
            false => Err(Error::Busy { what }),
        }
    }
}
