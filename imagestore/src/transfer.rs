//! Bytes up and down.
//!
//! An upload outlives its request: a task of this process receives the body, so that a client that goes away leaves
//! the cleaning up to somebody. The row in `image_uploads` says who receives; its lease is renewed meanwhile, and
//! `tasks/watch.rs` takes back what a dead process has left.

use crate::data::{Disk, Receive, receive};
use crate::inspect::Format;
use crate::model::{Digest, Form, Image, Status};
use crate::quota::Resource;
use crate::signature::{self, Terms, Verified};
use crate::store::{images as rows, uploads};
use crate::{Body, ImageError, Images, data, tasks};
use api::Context;
use futures::StreamExt;
use state::Timestamp;
use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// An upload that was admitted.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    pub(crate) image: Image,
    pub(crate) upload: String,
    pub(crate) kind: uploads::Kind,
    /// The most bytes that it may have.
    cap: u64,
}

/// How an image's bytes are to be kept, by what was declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// The bytes are the disk.
    Disk(Format),
    /// The disk is inside.
    Convert(Format),
    /// Whatever it is.
    Opaque,
}

impl Plan {
    pub(crate) fn of(image: &Image) -> Plan {
        let disk = image.disk_format.as_deref().unwrap_or_default();
        match image.container_format.as_deref() {
            Some("bare" | "ami" | "ari" | "aki") => {}
            _ => return Plan::Opaque,
        }
        match Format::declared(disk) {
            f if f.is_converted() => Plan::Convert(f),
            f => Plan::Disk(f),
        }
    }

    /// What the content must be.
    pub(crate) fn format(self) -> Option<Format> {
        match self {
            Plan::Disk(f) | Plan::Convert(f) => Some(f),
            Plan::Opaque => None,
        }
    }
}

impl Images {
    /// Takes an image's bytes. When this returns, the image is `active` and durable. `announced` is the exact size in
    /// bytes where the client knows it.
    pub async fn upload(
        self: &Arc<Self>,
        ctx: &Context,
        id: &str,
        announced: Option<u64>,
        body: Body,
    ) -> Result<(), ImageError> {
        self.upload_to(ctx, id, None, announced, body).await
    }

    /// The same into a store of the caller's choice.
    pub(crate) async fn upload_to(
        self: &Arc<Self>,
        ctx: &Context,
        id: &str,
        store: Option<String>,
        announced: Option<u64>,
        body: Body,
    ) -> Result<(), ImageError> {
        self.take(ctx, id, (uploads::Kind::File, store), announced, body).await
    }

    /// Takes an image's bytes for a later import: the image is `uploading`.
    pub(crate) async fn stage(
        self: &Arc<Self>,
        ctx: &Context,
        id: &str,
        announced: Option<u64>,
        body: Body,
    ) -> Result<(), ImageError> {
        self.take(ctx, id, (uploads::Kind::Stage, None), announced, body).await
    }

    async fn take(
        self: &Arc<Self>,
        ctx: &Context,
        id: &str,
        place: (uploads::Kind, Option<String>),
        announced: Option<u64>,
        mut body: Body,
    ) -> Result<(), ImageError> {
        match self.admit(ctx, id, place, announced).await {
            Ok(admitted) => self.run(admitted, announced, body).await,
            Err(e) => {
                data::drain(&mut body).await;
                Err(e)
            }
        }
    }

    /// Says who receives, before the first byte is taken.
    async fn admit(
        &self,
        ctx: &Context,
        id: &str,
        (kind, store): (uploads::Kind, Option<String>),
        announced: Option<u64>,
    ) -> Result<Admitted, ImageError> {
        self.authorised(ctx, id, "upload_image").await?;
        let next = if kind == uploads::Kind::File { Status::Saving } else { Status::Uploading };
        let mut tx = self.db.begin().await?;
        let mut image =
            rows::get_locked(&mut tx, id).await?.ok_or_else(|| ImageError::NotFound(id.to_owned()))?;
        if image.status != Status::Queued {
            return Err(ImageError::conflict(format!(
                "Image status transition from {} to {next} is not allowed",
                image.status
            )));
        }
        if kind == uploads::Kind::File {
            has_formats(&image)?;
            if let Err(e) = self.signature_terms(&image).await {
                image.emptied(Status::Killed);
                rows::update(&mut tx, &image).await?;
                tx.commit().await?;
                return Err(e);
            }
        }
        let bytes = if kind == uploads::Kind::File { Resource::Size } else { Resource::Staged };
        self.within(&mut tx, &image, &[(bytes, 0), (Resource::Uploading, 1)]).await?;
        let cap = self.room(&mut tx, &image).await?;
        if announced.is_some_and(|n| n > cap) {
            return Err(ImageError::TooLarge(format!("Image exceeds the limit of {cap} bytes.")));
        }
        (image.status, image.updated_at) = (next, Timestamp::now());
        image.store = store.unwrap_or_else(|| self.config.tier.clone());
        rows::update(&mut tx, &image).await?;
        let upload = state::new_id();
        let row = uploads::Upload {
            image_id: id.to_owned(),
            upload_id: upload.clone(),
            kind,
            node: self.config.node.clone(),
            lease_until: Timestamp::now().plus(self.lease()),
            digest: None,
        };
        uploads::insert(&mut tx, &row).await?;
        tasks::watch::spawn(&mut tx, id, &upload).await?;
        // Known before the row is seen: the watch must not take it for an earlier life's.
        self.receiving.lock().unwrap_or_else(PoisonError::into_inner).insert(upload.clone());
        if let Err(e) = tx.commit().await {
            self.forget(&upload);
            return Err(e.into());
        }
        Ok(Admitted { image, upload, kind, cap })
    }

    /// How many more bytes the image's project may store.
    pub(crate) async fn room(&self, tx: &mut state::Tx, image: &Image) -> Result<u64, ImageError> {
        let (quota, owner) = (self.config.project_quota, image.owner.as_deref());
        let Some(owner) = owner.filter(|_| quota > 0) else { return Ok(self.config.size_cap) };
        tx.lock(&format!("quota:{owner}")).await?;
        let used = u64::try_from(rows::usage(tx.conn(), owner).await?.bytes).unwrap_or_default();
        Ok(quota.saturating_sub(used).min(self.config.size_cap))
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(self.config.upload_lease_s.max(3))
    }

    fn forget(&self, upload: &str) {
        self.receiving.lock().unwrap_or_else(PoisonError::into_inner).remove(upload);
    }

    /// Receives in a task of its own, so that it ends properly whatever becomes of the request.
    async fn run(
        self: &Arc<Self>,
        a: Admitted,
        announced: Option<u64>,
        mut body: Body,
    ) -> Result<(), ImageError> {
        let images = self.clone();
        tokio::spawn(async move {
            let mut over = pin!(images.keep(&a));
            let received = match whole(images.begin(&a, announced), over.as_mut()).await {
                Ok(to) => tokio::select! {
                    r = images.fill(&a, to, announced, &mut body) => r,
                    e = over => Err(e),
                },
                Err(e) => Err(e),
            };
            let ended = match received {
                Ok((digest, form, virtual_size)) => images.settle(&a, digest, form, virtual_size).await,
                Err(e) => Err(e),
            };
            if let Err(e) = &ended {
                let cause = std::error::Error::source(e).map(ToString::to_string).unwrap_or_default();
                tracing::info!(image = %a.image.id, error = %e, cause, "an upload ended without an image");
                // While the cluster is away nothing can be removed: that is left to the upload's watch.
                let next = if matches!(e, ImageError::Signature(_)) { Status::Killed } else { Status::Queued };
                if !e.is_unavailable()
                    && let Err(e) = images.abandon(&a.image, &a.upload, next).await
                {
                    tracing::warn!(image = %a.image.id, error = %e, "an upload's remains are left to its watch");
                }
            }
            images.forget(&a.upload);
            if ended.is_err() {
                data::drain(&mut body).await;
            }
            ended
        })
        .await?
    }

    /// Renews the lease for as long as the upload is wanted.
    async fn keep(&self, a: &Admitted) -> ImageError {
        let lease = self.lease();
        let mut signal = self.db.signal(&uploads::topic(&a.image.id));
        loop {
            signal.wait(lease / 3).await;
            match uploads::renew(&self.db, &a.upload, Timestamp::now().plus(lease)).await {
                Ok(true) => {}
                Ok(false) => return ImageError::Gone(a.image.id.clone()),
                Err(e) if e.is_transient() => tracing::warn!(error = %e, "an upload's lease is not renewed"),
                Err(e) => return e.into(),
            }
        }
    }

    fn hasher(&self) -> data::Hasher {
        data::Hasher::new(self.config.hashing_algorithm, self.config.md5_checksum)
    }

    /// Makes what the bytes go into.
    async fn begin(&self, a: &Admitted, announced: Option<u64>) -> Result<pool::Image, ImageError> {
        let aside = a.kind == uploads::Kind::Stage || matches!(Plan::of(&a.image), Plan::Convert(_));
        let disk = if aside { Disk::Original } else { Disk::Main };
        self.blobs(&a.image.store)?.create(&a.image.id, disk, announced.unwrap_or_default()).await
    }

    async fn fill(
        &self,
        a: &Admitted,
        image: pool::Image,
        announced: Option<u64>,
        body: &mut Body,
    ) -> Result<(Digest, Form, Option<u64>), ImageError> {
        if a.kind == uploads::Kind::Stage {
            return Ok((self.as_it_is(image, a.cap, announced, body).await?, Form::Empty, None));
        }
        let (id, plan) = (a.image.id.as_str(), Plan::of(&a.image));
        let (blobs, room) = (self.blobs(&a.image.store)?, announced.unwrap_or_default());
        let split = (plan == Plan::Convert(Format::Qcow2))
            .then(|| data::Splitter::new(blobs.clone(), id, self.config.virtual_size_cap));
        let (format, hasher) = (plan.format(), self.hasher());
        let to = Receive { image, room, cap: a.cap, announced, format, split, hasher };
        let received = self.received(to, body).await?;
        let (form, virtual_size) =
            self.shape(&a.image, &blobs, plan, received.digest.size, received.split).await?;
        Ok((received.digest, form, virtual_size))
    }

    async fn received(&self, to: Receive, body: &mut Body) -> Result<data::Received, ImageError> {
        let image = to.image.clone();
        let received = receive(to, body).await;
        // A cluster that does not answer would not close it either: the client hears of it now.
        if !received.as_ref().is_err_and(ImageError::is_unavailable) {
            image.close().await?;
        }
        received
    }

    /// Receives a body for an import, as it is: its declared format may still change, so it is inspected when it is
    /// imported.
    pub(crate) async fn put_aside(
        &self,
        image: &Image,
        cap: u64,
        announced: Option<u64>,
        body: &mut Body,
    ) -> Result<Digest, ImageError> {
        let room = announced.unwrap_or_default();
        let to = self.blobs(&image.store)?.create(&image.id, Disk::Original, room).await?;
        self.as_it_is(to, cap, announced, body).await
    }

    async fn as_it_is(
        &self,
        image: pool::Image,
        cap: u64,
        announced: Option<u64>,
        body: &mut Body,
    ) -> Result<Digest, ImageError> {
        let room = announced.unwrap_or_default();
        let to = Receive { image, room, cap, announced, format: None, split: None, hasher: self.hasher() };
        Ok(self.received(to, body).await?.digest)
    }

    /// Makes the disk of what was received, and its snapshot.
    pub(crate) async fn shape(
        &self,
        image: &Image,
        blobs: &data::Blobs,
        plan: Plan,
        size: u64,
        split: Option<data::Split>,
    ) -> Result<(Form, Option<u64>), ImageError> {
        let limits = data::Limits {
            virtual_size: self.config.virtual_size_cap,
            expansion: self.config.expansion_cap.max(1),
        };
        let made = match plan {
            Plan::Opaque => (Form::Opaque, None),
            Plan::Disk(_) => (Form::Disk, Some(size)),
            Plan::Convert(format) => {
                let found = data::convert(blobs, &image.id, size, format, limits, split).await?;
                (Form::Converted, Some(found.virtual_size))
            }
        };
        blobs.seal(&image.id).await?;
        Ok(made)
    }

    /// The bytes are safe: the row says so.
    async fn settle(
        &self,
        a: &Admitted,
        digest: Digest,
        form: Form,
        virtual_size: Option<u64>,
    ) -> Result<(), ImageError> {
        let gone = || ImageError::Gone(a.image.id.clone());
        let verified = match a.kind {
            uploads::Kind::File => self.verified(&a.image.id, &digest, form).await?,
            _ => Verified::NOTHING,
        };
        let finished = match a.kind {
            uploads::Kind::File => Some(self.finished(&a.image, digest.clone(), form, virtual_size).await?),
            _ => None,
        };
        let mut tx = self.db.begin().await?;
        let mut image = rows::get_locked(&mut tx, &a.image.id).await?.ok_or_else(gone)?;
        let wanted = match &finished {
            Some(f) => {
                verified.covers(&image)?;
                f.apply(&mut image);
                uploads::remove(&mut tx, &a.upload).await?
            }
            None => uploads::staged(&mut tx, &a.upload, &digest).await?,
        };
        if !wanted {
            return Err(gone());
        }
        rows::update(&mut tx, &image).await?;
        Ok(tx.commit().await?)
    }

    /// What an image asks to be checked with; `Signature` where it can never be.
    pub(crate) async fn signature_terms(&self, image: &Image) -> Result<Option<Terms>, ImageError> {
        signature::terms(self.config.signature_certificates.as_deref(), image).await
    }

    /// Checks the bytes that came, and lie in the store of this image in this form, against the signature that it asks for
    /// by now. Where that is of another hash than the image's own, they are read once more.
    pub(crate) async fn verified(
        &self,
        id: &str,
        digest: &Digest,
        form: Form,
    ) -> Result<Verified, ImageError> {
        let image = rows::get(&self.db, id).await?.ok_or_else(|| ImageError::Gone(id.to_owned()))?;
        let Some(terms) = self.signature_terms(&image).await? else { return Ok(Verified::NOTHING) };
        if terms.method == digest.algorithm.into() {
            return terms.verify(&image, &digest.hash);
        }
        let stored = Image { form, size: Some(digest.size), ..image.clone() };
        let bytes = self.blobs(&image.store)?.stream(&stored, 0, digest.size).await?;
        let hash = data::hash_of(terms.method, bytes).await?;
        terms.verify(&image, &hash)
    }

    /// What the row of a finished image says. Where the original is not kept, the image is now what it was
    /// converted to, and the hashes are made anew from that.
    pub(crate) async fn finished(
        &self,
        image: &Image,
        digest: Digest,
        form: Form,
        virtual_size: Option<u64>,
    ) -> Result<Finished, ImageError> {
        let (Form::Converted, false) = (form, self.config.keep_original) else {
            return Ok(Finished { digest, form, virtual_size, raw: false });
        };
        let blobs = self.blobs(&image.store)?;
        let converted = Image { form: Form::Disk, ..image.clone() };
        let mut bytes = blobs.stream(&converted, 0, virtual_size.unwrap_or_default()).await?;
        let mut hasher = self.hasher();
        while let Some(chunk) = bytes.next().await {
            hasher.update(chunk?).await?;
        }
        let digest = hasher.finish().await?;
        blobs.remove(&image.id, Disk::Original).await?;
        Ok(Finished { digest, form: Form::Disk, virtual_size, raw: true })
    }

    /// Takes an upload back: nothing of it stays in the pool, and the image waits for another one (`Queued`), or is of no
    /// use any more (`Killed`). Twice is no error.
    pub(crate) async fn abandon(&self, image: &Image, upload: &str, next: Status) -> Result<(), ImageError> {
        let blobs = self.blobs(&image.store)?;
        // Another upload may have begun meanwhile: then these bytes are its.
        match uploads::get(&self.db, &image.id).await? {
            Some(u) if u.upload_id == upload => {}
            _ => return Ok(()),
        }
        blobs.remove_both(&image.id).await?;
        let mut tx = self.db.begin().await?;
        let row = rows::get_locked(&mut tx, &image.id).await?;
        if uploads::remove(&mut tx, upload).await?
            && let Some(mut row) = row
        {
            row.emptied(next);
            rows::update(&mut tx, &row).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Whether nobody receives this upload any more.
    pub(crate) fn is_stale(&self, u: &uploads::Upload) -> bool {
        let mine = u.node == self.config.node;
        (mine && !self.receives(&u.upload_id)) || (!mine && u.lease_until < Timestamp::now())
    }

    /// The image and what it says of its bytes, for a download. `None`: there are none.
    pub(crate) async fn download(&self, ctx: &Context, id: &str) -> Result<Option<Image>, ImageError> {
        let image = self.authorised(ctx, id, "download_image").await?;
        match image.status {
            Status::Active => Ok(Some(image)),
            Status::Deactivated if ctx.is_admin() => Ok(Some(image)),
            Status::Deactivated => Err(ImageError::forbidden(
                "The requested image has been deactivated. Image data download is forbidden.",
            )),
            _ => Ok(None),
        }
    }

    /// Makes a queued image `active` without bytes of its own: its properties say what it stands for, as Nova's do of
    /// a server that boots from a volume. One that is active already stays as it is.
    pub async fn describe(
        &self,
        ctx: &Context,
        id: &str,
        properties: BTreeMap<String, String>,
    ) -> Result<Image, ImageError> {
        self.authorised(ctx, id, "upload_image").await?;
        let digest = self.hasher().finish().await?;
        let mut tx = self.db.begin().await?;
        let mut image =
            rows::get_locked(&mut tx, id).await?.ok_or_else(|| ImageError::NotFound(id.to_owned()))?;
        match image.status {
            Status::Queued => {}
            Status::Active => return Ok(image),
            other => return Err(ImageError::conflict(format!("Image {id} is {other}, not queued."))),
        }
        has_formats(&image)?;
        image.properties.extend(properties);
        signature::forget(&mut image);
        Finished { digest, form: Form::Empty, virtual_size: None, raw: false }.apply(&mut image);
        rows::update(&mut tx, &image).await?;
        tx.commit().await?;
        Ok(image)
    }
}

/// What comes of `work`, which is not cut short: what it makes would come to be all the same, behind whoever cleans up. An
/// error where it is `over` by then.
async fn whole<T>(
    work: impl Future<Output = Result<T, ImageError>>,
    over: Pin<&mut impl Future<Output = ImageError>>,
) -> Result<T, ImageError> {
    let mut work = pin!(work);
    tokio::select! {
        done = &mut work => done,
        e = over => {
            let _ = work.await;
            Err(e)
        }
    }
}

/// What the bytes have told about an image.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    digest: Digest,
    form: Form,
    virtual_size: Option<u64>,
    /// The original was not kept.
    raw: bool,
}

impl Finished {
    pub(crate) fn apply(&self, image: &mut Image) {
        image.status = Status::Active;
        image.form = self.form;
        image.size = Some(self.digest.size);
        image.virtual_size = self.virtual_size;
        image.checksum = self.digest.md5.clone();
        image.os_hash_algo = Some(self.digest.algorithm.as_str().to_owned());
        image.os_hash_value = Some(self.digest.hash.clone());
        if self.raw {
            image.disk_format = Some("raw".to_owned());
        }
        image.updated_at = Timestamp::now();
    }
}

/// An image needs both formats before it may have bytes.
pub(crate) fn has_formats(image: &Image) -> Result<(), ImageError> {
    let missing: Vec<_> =
        [("disk_format", &image.disk_format), ("container_format", &image.container_format)]
            .into_iter()
            .filter(|(_, f)| f.is_none())
            .map(|(name, _)| name)
            .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(ImageError::invalid(format!(
            "Properties {} must be set prior to saving data.",
            missing.join(", ")
        ))),
    }
}
