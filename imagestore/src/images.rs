//! An image's life but for its bytes: create, look up, change, delete.
//!
//! Look-up and authorisation are one step: [`Images::authorised`] gives an image only to who may do what is asked.

use crate::imports::TASK;
use crate::model::{Form, Image, ImageSource, NewImage, Status, Visibility};
use crate::quota::Resource;
use crate::store::{cache, images as rows, members};
use crate::{ImageError, Images, SNAP, policy, tasks};
use api::Context;
use pool::Tier;
use state::{NewTask, StateError, Timestamp, Tx};
use std::collections::BTreeMap;

impl Images {
    /// An image that the caller sees, or `NotFound`.
    pub async fn get(&self, ctx: &Context, id: &str) -> Result<Image, ImageError> {
        self.authorised(ctx, id, "get_image").await
    }

    /// The image if the caller sees it (else `NotFound`) and may do `rule` (else `Forbidden`).
    pub(crate) async fn authorised(&self, ctx: &Context, id: &str, rule: &str) -> Result<Image, ImageError> {
        let image = rows::get(&self.db, id).await?.ok_or_else(|| ImageError::NotFound(id.to_owned()))?;
        self.check(ctx, &image, rule).await?;
        Ok(image)
    }

    /// The same for a row that was read in a transaction.
    pub(crate) async fn check(&self, ctx: &Context, image: &Image, rule: &str) -> Result<(), ImageError> {
        let hidden = || ImageError::NotFound(image.id.clone());
        let member = self.membership(ctx, image).await?;
        let mine = ctx.project().is_some_and(|p| image.owner.as_deref() == Some(&p.id));
        let open = matches!(image.visibility, Visibility::Public | Visibility::Community);
        if !(ctx.is_admin() || mine || open || member.is_some()) {
            return Err(hidden());
        }
        policy::enforce(&self.policy, ctx, "get_image", image, member.as_deref()).map_err(|_| hidden())?;
        policy::enforce(&self.policy, ctx, rule, image, member.as_deref())
    }

    /// The caller's project where the image is shared with it, whatever it has said to that.
    async fn membership(&self, ctx: &Context, image: &Image) -> Result<Option<String>, ImageError> {
        let Some(project) = ctx.project().filter(|_| image.visibility == Visibility::Shared) else {
            return Ok(None);
        };
        Ok(members::get(&self.db, &image.id, &project.id).await?.map(|m| m.member_id))
    }

    /// Adds an image without bytes: `queued`.
    pub async fn create(&self, ctx: &Context, new: NewImage) -> Result<Image, ImageError> {
        let image = self.draft(ctx, new)?;
        self.may_turn(ctx, &BTreeMap::new(), &image.properties)?;
        let mut tx = self.db.begin().await?;
        self.add(&mut tx, &image).await?;
        tx.commit().await?;
        Ok(image)
    }

    /// A new image's row, checked against policy and limits.
    pub(crate) fn draft(&self, ctx: &Context, new: NewImage) -> Result<Image, ImageError> {
        let project = ctx.project().map(|p| p.id.clone());
        let owner = new.owner.clone().or_else(|| project.clone());
        if owner != project && !ctx.is_admin() {
            let who = owner.unwrap_or_default();
            return Err(ImageError::Forbidden(format!(
                "You are not permitted to create images owned by '{who}'."
            )));
        }
        let name = owner.clone().unwrap_or_default();
        policy::check(&self.policy, ctx, "add_image", &[("project_id", &name), ("owner", &name)])?;
        let now = Timestamp::now();
        let image = Image {
            id: new.id.unwrap_or_else(state::new_id),
            name: new.name,
            status: Status::Queued,
            visibility: new.visibility.unwrap_or(Visibility::Shared),
            owner,
            size: None,
            virtual_size: None,
            disk_format: new.disk_format,
            container_format: new.container_format,
            checksum: None,
            os_hash_algo: None,
            os_hash_value: None,
            min_disk: new.min_disk,
            min_ram: new.min_ram,
            protected: new.protected,
            os_hidden: new.os_hidden,
            properties: new.properties,
            tags: new.tags,
            store: self.config.tier.clone(),
            copies: Vec::new(),
            form: Form::Empty,
            created_at: now,
            updated_at: now,
        };
        self.may_show(ctx, &image)?;
        self.within_quota(&image, &BTreeMap::new())?;
        Ok(image)
    }

    pub(crate) async fn add(&self, tx: &mut Tx, image: &Image) -> Result<(), ImageError> {
        self.within(tx, image, &[(Resource::Images, 1)]).await?;
        match rows::insert(tx, image).await {
            Err(StateError::Conflict(_)) => {
                Err(ImageError::conflict(format!("Image ID {} already exists!", image.id)))
            }
            r => Ok(r?),
        }
    }

    /// Whether the caller may give an image its visibility.
    fn may_show(&self, ctx: &Context, image: &Image) -> Result<(), ImageError> {
        match image.visibility {
            Visibility::Public => policy::enforce(&self.policy, ctx, "publicize_image", image, None),
            Visibility::Community => policy::enforce(&self.policy, ctx, "communitize_image", image, None),
            Visibility::Shared | Visibility::Private => Ok(()),
        }
    }

    /// Properties count only where some are new, and not those that imports set: whoever is above a quota that was
    /// lowered may still change the rest.
    fn within_quota(&self, image: &Image, before: &BTreeMap<String, String>) -> Result<(), ImageError> {
        let over = |attempted: usize, maximum: usize, what: &str| {
            let text = format!(
                "The limit has been exceeded on the number of allowed image {what}. \
                Attempted: {attempted}, Maximum: {maximum}"
            );
            if attempted > maximum { Err(ImageError::TooLarge(text)) } else { Ok(()) }
        };
        if image.properties.keys().any(|name| !before.contains_key(name)) {
            let named = image.properties.keys().filter(|n| !n.starts_with("os_glance_")).count();
            over(named, self.config.property_quota, "properties")?;
        }
        over(image.tags.len(), self.config.tag_quota, "tags")
    }

    /// Changes an image's metadata. `change` gets the row and may refuse.
    pub(crate) async fn update(
        &self,
        ctx: &Context,
        id: &str,
        change: impl FnOnce(&mut Image) -> Result<(), ImageError> + Send,
    ) -> Result<Image, ImageError> {
        let change = |image: &mut Image| {
            let hidden = self.hide(ctx, image);
            let before = image.properties.clone();
            change(image)?;
            self.may_turn(ctx, &before, &image.properties)?;
            for (name, value) in hidden {
                image.properties.entry(name).or_insert(value);
            }
            Ok(())
        };
        self.change(ctx, id, change).await
    }

    /// The same, whatever protects properties.
    async fn change(
        &self,
        ctx: &Context,
        id: &str,
        change: impl FnOnce(&mut Image) -> Result<(), ImageError> + Send,
    ) -> Result<Image, ImageError> {
        self.authorised(ctx, id, "modify_image").await?;
        let mut tx = self.db.begin().await?;
        let mut image =
            rows::get_locked(&mut tx, id).await?.ok_or_else(|| ImageError::NotFound(id.to_owned()))?;
        let before = image.clone();
        change(&mut image)?;
        if image.visibility != before.visibility {
            self.may_show(ctx, &image)?;
        }
        if image.owner != before.owner && !ctx.is_admin() {
            return Err(ImageError::forbidden("You are not permitted to set the owner of an image."));
        }
        self.within_quota(&image, &before.properties)?;
        if image != before {
            image.updated_at = Timestamp::now();
            rows::update(&mut tx, &image).await?;
            tx.commit().await?;
        }
        Ok(image)
    }

    /// Takes an image away at once. Its bytes go in the background, whatever clones there are.
    pub async fn delete(&self, ctx: &Context, id: &str) -> Result<(), ImageError> {
        self.authorised(ctx, id, "delete_image").await?;
        let mut tx = self.db.begin().await?;
        let image =
            rows::get_locked(&mut tx, id).await?.ok_or_else(|| ImageError::NotFound(id.to_owned()))?;
        if image.protected {
            return Err(ImageError::forbidden(format!("Image {id} is protected and cannot be deleted.")));
        }
        tasks::delete::spawn(&mut tx, &image).await?;
        if let Some((property, kind)) = self.followed.get()
            && image.properties.contains_key(*property)
        {
            let subject = tasks::subject(&image.id);
            let Image { id: image_id, owner, properties, .. } = image;
            let gone = crate::Deleted { image_id, owner, properties };
            NewTask { kind, subject: &subject }.spawn(&mut tx, &gone).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Takes an image from one of the stores that hold it; not from the last one.
    pub(crate) async fn remove_from(&self, ctx: &Context, id: &str, store: &str) -> Result<(), ImageError> {
        if !self.config.all_stores().any(|s| s == store) {
            return Err(ImageError::Conflict(format!(
                "The selected store {store} is not available on this node."
            )));
        }
        self.authorised(ctx, id, "delete_image_location").await?;
        let mut tx = self.db.begin().await?;
        let mut image =
            rows::get_locked(&mut tx, id).await?.ok_or_else(|| ImageError::NotFound(id.to_owned()))?;
        if image.status != Status::Active {
            return Err(ImageError::conflict(
                "It's not allowed to remove image data from store if image status is not 'active'",
            ));
        }
        if image.properties.contains_key(TASK) {
            return Err(ImageError::conflict("Image has active task"));
        }
        if image.copies.is_empty() {
            return Err(ImageError::forbidden(
                "Cannot delete image data from the only store containing it. Consider deleting the image instead.",
            ));
        }
        if !image.stores().contains(&store) {
            return Err(ImageError::Missing(format!("Image {id} is not stored in store {store}.")));
        }
        match image.copies.iter().position(|s| s == store) {
            Some(at) => drop(image.copies.remove(at)),
            None => image.store = image.copies.remove(0),
        }
        image.updated_at = Timestamp::now();
        rows::update(&mut tx, &image).await?;
        cache::take_from(&mut tx, id, store).await?;
        tasks::delete::spawn_from(&mut tx, id, store).await?;
        Ok(tx.commit().await?)
    }

    /// Stops (or allows again) downloads and clones by others than administrators.
    pub(crate) async fn set_active(&self, ctx: &Context, id: &str, active: bool) -> Result<(), ImageError> {
        let (rule, word, to) = match active {
            true => ("reactivate", "reactivate", Status::Active),
            false => ("deactivate", "deactivate", Status::Deactivated),
        };
        self.authorised(ctx, id, rule).await?;
        let mut tx = self.db.begin().await?;
        let mut image =
            rows::get_locked(&mut tx, id).await?.ok_or_else(|| ImageError::NotFound(id.to_owned()))?;
        if image.status == to {
            return Ok(());
        }
        if !matches!(image.status, Status::Active | Status::Deactivated) {
            return Err(ImageError::forbidden(format!(
                "Not allowed to {word} image in status '{}'",
                image.status
            )));
        }
        (image.status, image.updated_at) = (to, Timestamp::now());
        rows::update(&mut tx, &image).await?;
        Ok(tx.commit().await?)
    }

    /// Where a disk in the tier `to` is cloned from, or copied where the image is nowhere in its cluster. Errors as of
    /// [`Images::disk`].
    pub async fn source(&self, ctx: &Context, id: &str, to: &Tier) -> Result<ImageSource, ImageError> {
        let image = self.disk(ctx, id).await?;
        let tier = self.origin(&image, to).await?;
        let size_bytes = image.disk_bytes().unwrap_or_default();
        Ok(ImageSource { tier, image: image.id, snap: SNAP, size_bytes })
    }

    /// An image whose disk can be cloned. `Conflict` while it has no bytes, `Forbidden` where it is deactivated, `Invalid`
    /// where it holds no disk.
    pub async fn disk(&self, ctx: &Context, id: &str) -> Result<Image, ImageError> {
        let image = self.get(ctx, id).await?;
        match image.status {
            Status::Active => {}
            Status::Deactivated if ctx.is_admin() => {}
            Status::Deactivated => return Err(ImageError::forbidden(format!("Image {id} is deactivated."))),
            other => return Err(ImageError::conflict(format!("Image {id} is {other}, not active."))),
        }
        if !matches!(image.form, Form::Disk | Form::Converted) {
            return Err(ImageError::invalid(format!("Image {id} holds no disk that could be cloned.")));
        }
        Ok(image)
    }

    /// The oldest image of this name that the caller sees in a plain list, if there is one.
    pub async fn find_by_name(&self, ctx: &Context, name: &str) -> Result<Option<Image>, ImageError> {
        let all = self.named(ctx, name).await?;
        Ok(all.into_iter().min_by_key(|i| i.created_at))
    }

    /// Sets or clears additional properties, for services that describe what they have stored. No protection counts.
    pub async fn set_properties(
        &self,
        ctx: &Context,
        id: &str,
        set: BTreeMap<String, Option<String>>,
    ) -> Result<Image, ImageError> {
        self.change(ctx, id, |image| {
            for (name, value) in set {
                match value {
                    Some(value) => image.properties.insert(name, value),
                    None => image.properties.remove(&name),
                };
            }
            Ok(())
        })
        .await
    }

    /// Adds a tag; one that is there already is no error.
    pub(crate) async fn add_tag(&self, ctx: &Context, id: &str, tag: &str) -> Result<(), ImageError> {
        if tag.chars().count() > 255 {
            return Err(ImageError::invalid(
                "Provided object does not match schema 'image': a tag is longer than 255 characters",
            ));
        }
        let add = |image: &mut Image| {
            if !image.tags.iter().any(|t| t == tag) {
                image.tags.push(tag.to_owned());
            }
            Ok(())
        };
        self.update(ctx, id, add).await.map(drop)
    }

    pub(crate) async fn remove_tag(&self, ctx: &Context, id: &str, tag: &str) -> Result<(), ImageError> {
        let remove = |image: &mut Image| {
            let before = image.tags.len();
            image.tags.retain(|t| t != tag);
            match image.tags.len() < before {
                true => Ok(()),
                false => Err(ImageError::Missing(format!("Failed to find tag {tag} of image {id}"))),
            }
        };
        self.update(ctx, id, remove).await.map(drop)
    }
}
