//! Imports: a staged body becomes an image in the background.

use crate::model::{Digest, Image, NewImage, RbdSource, Status};
use crate::store::{images as rows, tasks as task_rows, uploads};
use crate::transfer::has_formats;
use crate::{ImageError, Images, tasks};
use api::Context;
use serde_json::{Value, json};
use state::Timestamp;

/// The import methods that are built.
pub(crate) const METHODS: &[&str] = &["glance-direct"];

impl Images {
    /// Starts the import of what was staged. `input` is the request's body, which the task shows.
    pub(crate) async fn import(&self, ctx: &Context, id: &str, input: Value) -> Result<(), ImageError> {
        self.authorised(ctx, id, "modify_image").await?;
        let mut tx = self.db.begin().await?;
        let mut image =
            rows::get_locked(&mut tx, id).await?.ok_or_else(|| ImageError::NotFound(id.to_owned()))?;
        if image.status != Status::Uploading {
            return Err(ImageError::conflict(
                "Image needs to be in 'uploading' state to use glance-direct import method",
            ));
        }
        has_formats(&image).map_err(|_| {
            ImageError::invalid("'disk_format' and 'container_format' need to be set before import")
        })?;
        let digest = self.staged(id).await?;
        let task = task(ctx, id, &input);
        task_rows::insert(&mut tx, &task).await?;
        (image.status, image.updated_at) = (Status::Importing, Timestamp::now());
        image.properties.insert(IMPORTING.to_owned(), image.store.clone());
        image.properties.insert(FAILED.to_owned(), String::new());
        rows::update(&mut tx, &image).await?;
        tasks::import::spawn(&mut tx, id, &digest, &task.id).await?;
        Ok(tx.commit().await?)
    }

    async fn staged(&self, id: &str) -> Result<Digest, ImageError> {
        let received = uploads::get(&self.db, id).await?.and_then(|u| u.digest);
        received.ok_or_else(|| ImageError::conflict("The image is still being staged."))
    }

    /// Makes an image of a snapshot of a volume's or a server's disk: a clone where both are in one cluster,
    /// whatever its size; else a copy. The image is `saving` until it is `active`, or `killed` where it fails. The
    /// source's snapshot may be removed once it is `active`.
    pub async fn create_from_rbd(
        &self,
        ctx: &Context,
        new: NewImage,
        source: RbdSource,
    ) -> Result<Image, ImageError> {
        self.tiers.get(&source.tier)?;
        let mut image = self.draft(ctx, new)?;
        image.disk_format.get_or_insert_with(|| "raw".to_owned());
        image.container_format.get_or_insert_with(|| "bare".to_owned());
        raw_only(&image)?;
        image.status = Status::Saving;
        let mut tx = self.db.begin().await?;
        self.add(&mut tx, &image).await?;
        tasks::clone::spawn(&mut tx, &image.id, &source).await?;
        tx.commit().await?;
        Ok(image)
    }

    /// The same for an image that was made before (`queued`), so that its id could be told early. For an image that is
    /// being filled from the same source already it does nothing.
    pub async fn fill_from_rbd(
        &self,
        ctx: &Context,
        id: &str,
        source: RbdSource,
    ) -> Result<Image, ImageError> {
        self.tiers.get(&source.tier)?;
        self.authorised(ctx, id, "upload_image").await?;
        let mut tx = self.db.begin().await?;
        let mut image =
            rows::get_locked(&mut tx, id).await?.ok_or_else(|| ImageError::NotFound(id.to_owned()))?;
        match image.status {
            Status::Queued => {}
            Status::Saving | Status::Active => return Ok(image),
            other => return Err(ImageError::conflict(format!("Image {id} is {other}, not queued."))),
        }
        raw_only(&image)?;
        (image.status, image.updated_at) = (Status::Saving, Timestamp::now());
        rows::update(&mut tx, &image).await?;
        tasks::clone::spawn(&mut tx, id, &source).await?;
        tx.commit().await?;
        Ok(image)
    }
}

/// The stores an import still works on, and those it failed on, as upstream shows them.
pub(crate) const IMPORTING: &str = "os_glance_importing_to_stores";
pub(crate) const FAILED: &str = "os_glance_failed_import";

fn raw_only(image: &Image) -> Result<(), ImageError> {
    match (image.disk_format.as_deref(), image.container_format.as_deref()) {
        (Some("raw"), Some("bare")) => Ok(()),
        _ => Err(ImageError::invalid("An image of a disk in the pool is raw and bare.")),
    }
}

fn task(ctx: &Context, image: &str, input: &Value) -> task_rows::Row {
    let now = Timestamp::now();
    task_rows::Row {
        id: state::new_id(),
        image_id: image.to_owned(),
        r#type: "api_image_import".to_owned(),
        status: "pending".to_owned(),
        owner: ctx.project().map(|p| p.id.clone()).unwrap_or_default(),
        user_id: ctx.user.id.clone(),
        request_id: ctx.request_id.as_str().to_owned(),
        input: json!({"image_id": image, "import_req": input, "backend": []}).to_string(),
        result: "{}".to_owned(),
        message: String::new(),
        created_at: now,
        updated_at: now,
    }
}
