//! Imports: what was staged, or what stands in the web, becomes an image in the background; and an image that is there
//! is put into further stores.

use crate::fetch::Remote;
use crate::model::{Form, Image, NewImage, RbdSource, Status};
use crate::quota::Resource;
use crate::store::{images as rows, tasks as task_rows, uploads};
use crate::transfer::has_formats;
use crate::{Config, ImageError, Images, tasks};
use api::Context;
use serde_json::{Value, json};
use state::Timestamp;
use std::collections::BTreeMap;

/// Where an import's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Method {
    /// They were staged.
    Direct,
    /// They are fetched from a URL.
    Web(String),
    /// The image has them already: they go to further stores.
    Copy,
    /// They are another image's, here or in another region.
    Remote(Remote),
}

impl Method {
    pub(crate) const NAMES: [&str; 4] = ["glance-direct", "web-download", "copy-image", "glance-download"];

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Method::Direct => Self::NAMES[0],
            Method::Web(_) => Self::NAMES[1],
            Method::Copy => Self::NAMES[2],
            Method::Remote(_) => Self::NAMES[3],
        }
    }
}

/// Whether the operator names only methods that there are.
pub(crate) fn check_methods(config: &Config) -> Result<(), ImageError> {
    match config.import_methods.iter().find(|m| !Method::NAMES.contains(&m.as_str())) {
        Some(odd) => Err(ImageError::Config(format!("{odd:?} is no import method"))),
        None => Ok(()),
    }
}

/// A request to import.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    pub(crate) method: Method,
    /// Where the image is to be.
    pub(crate) stores: Vec<String>,
    /// They are all there are: those that have the image already are no error.
    pub(crate) all: bool,
    /// Where one of the stores fails, all do.
    pub(crate) all_must_succeed: bool,
    /// The request's body, which the task shows.
    pub(crate) input: Value,
}

/// What the API shows of an import under way: its task, the stores it still works on, and those it failed on.
pub(crate) const TASK: &str = "os_glance_import_task";
pub(crate) const IMPORTING: &str = "os_glance_importing_to_stores";
pub(crate) const FAILED: &str = "os_glance_failed_import";

/// Notes an import that begins.
pub(crate) fn begun(image: &mut Image, task: &str, stores: &[String]) {
    image.properties.insert(TASK.to_owned(), task.to_owned());
    image.properties.insert(IMPORTING.to_owned(), stores.join(","));
    image.properties.insert(FAILED.to_owned(), String::new());
    image.updated_at = Timestamp::now();
}

/// Notes an import that has ended.
pub(crate) fn ended(image: &mut Image, failed: &[String]) {
    image.properties.remove(TASK);
    image.properties.insert(IMPORTING.to_owned(), String::new());
    image.properties.insert(FAILED.to_owned(), failed.join(","));
    image.updated_at = Timestamp::now();
}

impl Images {
    /// The methods that are offered: copies where there are several stores, other regions where those are known.
    pub(crate) fn import_methods(&self) -> Vec<&str> {
        let several = self.config.all_stores().nth(1).is_some();
        let offered = |m: &&str| match Method::NAMES.iter().position(|n| n == m) {
            Some(2) => several,
            Some(3) => self.around.get().is_some(),
            known => known.is_some(),
        };
        self.config.import_methods.iter().map(String::as_str).filter(offered).collect()
    }

    /// Starts an import.
    pub(crate) async fn import(&self, ctx: &Context, id: &str, asked: Import) -> Result<(), ImageError> {
        let copies = asked.method == Method::Copy;
        self.authorised(ctx, id, if copies { "copy_image" } else { "modify_image" }).await?;
        let mut tx = self.db.begin().await?;
        let mut image =
            rows::get_locked(&mut tx, id).await?.ok_or_else(|| ImageError::NotFound(id.to_owned()))?;
        importable(&image, &asked.method)?;
        let digest = match asked.method {
            Method::Direct => {
                let received = uploads::get(&self.db, id).await?.and_then(|u| u.digest);
                Some(received.ok_or_else(|| ImageError::conflict("The image is still being staged."))?)
            }
            _ => None,
        };
        let stores = if copies { missing(&image, &asked)? } else { asked.stores };
        let (size, more) = (image.size.unwrap_or_default() >> 20, stores.len() as u64);
        let wanted = if copies { i64::try_from(size.saturating_mul(more)).unwrap_or(i64::MAX) } else { 0 };
        self.within(&mut tx, &image, &[(Resource::Size, wanted)]).await?;
        let task = task(ctx, id, "api_image_import", &asked.input, &stores);
        task_rows::insert(&mut tx, &task).await?;
        begun(&mut image, &task.id, &stores);
        let must = asked.all_must_succeed;
        if copies {
            tasks::copy::spawn(&mut tx, id, &task.id, stores, must).await?;
        } else {
            image.status = Status::Importing;
            if let (None, Some(first)) = (&digest, stores.first()) {
                image.store.clone_from(first);
            }
            let (uri, remote) = match asked.method {
                Method::Web(uri) => (Some(uri), None),
                Method::Remote(remote) => {
                    self.tokens.keep(&task.id, ctx.token.clone());
                    (None, Some((remote, self.config.node.clone())))
                }
                Method::Direct | Method::Copy => (None, None),
            };
            let task = task.id;
            let params = tasks::import::Params {
                image: id.to_owned(),
                digest,
                task,
                uri,
                remote,
                stores,
                must,
                made: false,
            };
            tasks::import::spawn(&mut tx, &params).await?;
        }
        rows::update(&mut tx, &image).await?;
        Ok(tx.commit().await?)
    }

    /// Makes an image and fills it from a URL: the task `import` of upstream's tasks. Where it fails, the image goes.
    pub(crate) async fn import_task(
        &self,
        ctx: &Context,
        new: NewImage,
        uri: &str,
        input: Value,
    ) -> Result<task_rows::Row, ImageError> {
        let mut image = self.draft(ctx, new)?;
        self.may_turn(ctx, &BTreeMap::new(), &image.properties)?;
        has_formats(&image)?;
        let stores = vec![image.store.clone()];
        let task = task_rows::Row {
            r#type: "import".to_owned(),
            input: input.to_string(),
            ..task(ctx, &image.id, "import", &Value::Null, &[])
        };
        begun(&mut image, &task.id, &stores);
        image.status = Status::Importing;
        let mut tx = self.db.begin().await?;
        self.add(&mut tx, &image).await?;
        task_rows::insert(&mut tx, &task).await?;
        let params = tasks::import::Params {
            image: image.id,
            digest: None,
            task: task.id.clone(),
            uri: Some(uri.to_owned()),
            remote: None,
            stores,
            must: true,
            made: true,
        };
        tasks::import::spawn(&mut tx, &params).await?;
        tx.commit().await?;
        Ok(task)
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

/// Whether an image may be imported so, as it stands.
fn importable(image: &Image, method: &Method) -> Result<(), ImageError> {
    let name = method.name();
    let refused = match (method, image.status) {
        (Method::Copy, Status::Active) if image.properties.contains_key(TASK) => {
            Some("Image has active task".to_owned())
        }
        (Method::Copy, Status::Active) if image.form == Form::Empty => {
            Some("The image has no data that could be copied".to_owned())
        }
        (Method::Copy, Status::Active) => None,
        (Method::Copy, _) => Some("Only images with status active can be targeted for copying".to_owned()),
        (_, Status::Active) => Some("Image with status active cannot be target for import".to_owned()),
        (Method::Web(_) | Method::Remote(_), Status::Queued) | (Method::Direct, Status::Uploading) => None,
        (Method::Web(_) | Method::Remote(_), _) => {
            Some(format!("Image needs to be in 'queued' state to use '{name}' method"))
        }
        (Method::Direct, _) => Some(format!("Image needs to be staged before '{name}' method can be used")),
    };
    if let Some(text) = refused {
        return Err(ImageError::Conflict(text));
    }
    for (format, what) in [(&image.container_format, "container_format"), (&image.disk_format, "disk_format")]
    {
        if format.is_none() {
            return Err(ImageError::Conflict(format!("'{what}' needs to be set before import")));
        }
    }
    Ok(())
}

/// The stores that do not have the image yet.
fn missing(image: &Image, asked: &Import) -> Result<Vec<String>, ImageError> {
    let there = image.stores();
    match asked.stores.iter().find(|s| there.contains(&s.as_str())) {
        Some(store) if !asked.all => {
            Err(ImageError::Invalid(format!("Image is already present at store '{store}'")))
        }
        _ => Ok(asked.stores.iter().filter(|s| !there.contains(&s.as_str())).cloned().collect()),
    }
}

fn raw_only(image: &Image) -> Result<(), ImageError> {
    match (image.disk_format.as_deref(), image.container_format.as_deref()) {
        (Some("raw"), Some("bare")) => Ok(()),
        _ => Err(ImageError::invalid("An image of a disk in the pool is raw and bare.")),
    }
}

/// A task for users to see.
pub(crate) fn task(
    ctx: &Context,
    image: &str,
    kind: &str,
    input: &Value,
    stores: &[String],
) -> task_rows::Row {
    let now = Timestamp::now();
    task_rows::Row {
        id: state::new_id(),
        image_id: image.to_owned(),
        r#type: kind.to_owned(),
        status: "pending".to_owned(),
        owner: ctx.project().map(|p| p.id.clone()).unwrap_or_default(),
        user_id: ctx.user.id.clone(),
        request_id: ctx.request_id.as_str().to_owned(),
        input: json!({"image_id": image, "import_req": input, "backend": stores}).to_string(),
        result: "{}".to_owned(),
        message: String::new(),
        created_at: now,
        updated_at: now,
    }
}
