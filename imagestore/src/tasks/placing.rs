//! Puts an image into further stores: the part that imports and copies have in common.

use crate::data::Onlooker;
use crate::store::{images as rows, tasks as task_rows, uploads};
use crate::{ImageError, Images};
use futures::FutureExt;
use state::{Job, StepError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often users are shown how far it is.
const SHOWN: Duration = Duration::from_secs(5);
/// How often a store that need not have it is tried while it cannot be reached.
const TRIES: u32 = 4;

/// An image on its way from one store into another.
pub(super) struct Placing<'a> {
    pub(super) image: &'a str,
    /// The task that users see.
    pub(super) task: &'a str,
    pub(super) home: &'a str,
    /// Its upload stands beside its disk.
    pub(super) original: bool,
    /// Where one store fails, all do.
    pub(super) must: bool,
}

/// What came of a store.
pub(super) enum Placed {
    There,
    Failed,
    /// The image was deleted meanwhile: its delete task, which waits for this one, removes what there is.
    Gone,
}

impl Placing<'_> {
    /// Copies the image into `store`, whatever was left there by an earlier attempt.
    pub(super) async fn run(&self, images: &Images, store: &str, job: &mut Job) -> Result<Placed, StepError> {
        let e = match self.copy(images, store).await {
            Ok(()) => return Ok(Placed::There),
            Err(ImageError::NotFound(_)) => return Ok(Placed::Gone),
            Err(e) if self.must => return Err(e.into()),
            Err(e) => e,
        };
        let key = format!("tried:{store}");
        let tried = job.recall::<u32>(&key).unwrap_or(0) + 1;
        if e.is_transient() && tried < TRIES {
            job.remember(&key, &tried)?;
            return Err(e.into());
        }
        tracing::warn!(image = self.image, store, error = %e, "an image could not be put into a store");
        Ok(Placed::Failed)
    }

    async fn copy(&self, images: &Images, store: &str) -> Result<(), ImageError> {
        // A cached copy becomes the store's own.
        if images.is_in(self.image, store).await? {
            return Ok(());
        }
        let (home, there) = (images.blobs(self.home)?, images.blobs(store)?);
        let done = AtomicU64::new(0);
        let progress = |bytes: u64| done.store(bytes, Ordering::Relaxed);
        let over = self.shown(images, store, &done).boxed();
        let mut onlooker = Onlooker { progress: &progress, over };
        there.copy_of(&home, self.image, self.original, &mut onlooker).await
    }

    /// Shows users how far it is; ends when the image is deleted.
    async fn shown(&self, images: &Images, store: &str, done: &AtomicU64) -> ImageError {
        let mut signal = images.db.signal(&uploads::topic(self.image));
        let mut last = 0;
        loop {
            signal.wait(SHOWN).await;
            match rows::get(&images.db, self.image).await {
                Ok(None) => return ImageError::NotFound(self.image.to_owned()),
                Ok(Some(_)) => {}
                Err(e) if e.is_transient() => continue,
                Err(e) => return e.into(),
            }
            let mib = done.load(Ordering::Relaxed) >> 20;
            if mib > last {
                last = mib;
                let text = format!("Copied {mib} MiB to {store}");
                if let Err(e) = task_rows::say(&images.db, self.task, &text).await {
                    tracing::warn!(image = self.image, error = %e, "how far a copy is cannot be shown");
                }
            }
        }
    }
}
