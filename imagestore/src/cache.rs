//! The cache: a copy of an image in a near tier, made once where each use would read a far one, and gone at any time.
//!
//! ```text
//!          image.cache         cleared, or the least recently used            image.uncache
//!  queued ─────────────► cached ─────────────────────────────────► dropped ─────────────────► no row, no copy
//!    │                     ▲                                          │
//!    └─► no row            └───────── asked for again: it is there ───┘
//!        cleared, failed, too large
//! ```
//! An image that a store in that tier has is cached by saying so: nothing is copied twice. Whether it is such a one is
//! looked up, not written down, so that a copy becomes the store's when the image is copied there for good. A dropped copy
//! stays for a while, as somebody may just be cloning or copying from it. Whoever takes a row away sees to the bytes, in
//! a task of the image's own, so that it comes after what is under way.

use crate::model::{Form, Image, Status};
use crate::store::cache::{self, Entry, State};
use crate::store::{images as rows, uploads};
use crate::{ImageError, Images, policy, tasks};
use api::Context;
use pool::Tier;
use state::Tx;
use std::sync::Arc;

/// What an image becomes in the cache is decided by one transaction at a time.
pub(crate) const LOCK: &str = "image-cache";

impl Images {
    /// The tier that cached copies are in; `Missing` where the cache is off.
    fn caching(&self) -> Result<&str, ImageError> {
        let off = || ImageError::Missing("Caching via API is not supported at this site.".to_owned());
        self.config.cache().ok_or_else(off)
    }

    /// What is cached, by image, and what is queued, oldest first.
    pub(crate) async fn cache_state(&self, ctx: &Context) -> Result<(Vec<Entry>, Vec<Entry>), ImageError> {
        policy::check(&self.policy, ctx, "cache_list", &[])?;
        self.caching()?;
        let all = cache::all(self.db.read()).await?;
        let (cached, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|e| e.state == State::Cached);
        let mut queued: Vec<_> = rest.into_iter().filter(|e| e.state == State::Queued).collect();
        queued.sort_by_key(|e| e.since);
        Ok((cached, queued))
    }

    /// Has an image cached. One that is, or is on its way, is no error.
    pub(crate) async fn cache(&self, ctx: &Context, id: &str) -> Result<(), ImageError> {
        self.authorised(ctx, id, "cache_image").await?;
        self.caching()?;
        self.enqueue(id).await
    }

    /// Takes an image from the cache and its queue. One that is in neither is no error.
    pub(crate) async fn uncache(&self, ctx: &Context, id: &str) -> Result<(), ImageError> {
        self.authorised(ctx, id, "cache_delete").await?;
        self.caching()?;
        self.let_go_where(|e| e.image_id == id).await
    }

    /// Empties the `cache` or its `queue`, or with an empty word both.
    pub(crate) async fn clear_cache(&self, ctx: &Context, target: &str) -> Result<(), ImageError> {
        policy::check(&self.policy, ctx, "cache_delete", &[])?;
        self.caching()?;
        let which = match target.to_lowercase().as_str() {
            "" => None,
            "cache" => Some(State::Cached),
            "queue" => Some(State::Queued),
            _ => {
                return Err(ImageError::invalid(
                    "If provided 'x-image-cache-clear-target' must be 'cache', 'queue' or empty string.",
                ));
            }
        };
        self.let_go_where(|e| which.is_none_or(|state| e.state == state)).await
    }

    /// Where the cache was turned off, what it has goes.
    pub(crate) async fn sweep_cache(&self) -> Result<(), ImageError> {
        match self.config.cache() {
            Some(_) => Ok(()),
            None => self.let_go_where(|_| true).await,
        }
    }

    async fn let_go_where(&self, which: impl Fn(&Entry) -> bool + Send) -> Result<(), ImageError> {
        let mut tx = self.db.begin().await?;
        tx.lock(LOCK).await?;
        for entry in cache::all(tx.conn()).await?.iter().filter(|e| which(e)) {
            let_go(&mut tx, entry).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn enqueue(&self, id: &str) -> Result<(), ImageError> {
        let tier = self.caching()?;
        let mut tx = self.db.begin().await?;
        let image =
            rows::get_locked(&mut tx, id).await?.ok_or_else(|| ImageError::NotFound(id.to_owned()))?;
        if image.status != Status::Active {
            return Err(ImageError::invalid("Only images with status active can be targeted for queueing"));
        }
        tx.lock(LOCK).await?;
        let entry = state::new_id();
        match cache::get(tx.conn(), id).await? {
            Some(e) if e.state != State::Dropped => return Ok(()),
            Some(_) => {
                cache::set(&mut tx, id, State::Cached).await?;
                self.prune(&mut tx).await?;
            }
            None if is_there(&image, tier) => {
                cache::insert(&mut tx, id, &entry, tier, State::Cached).await?;
            }
            None => {
                cache::insert(&mut tx, id, &entry, tier, State::Queued).await?;
                tasks::cache::spawn(&mut tx, id, &entry, tier).await?;
            }
        }
        Ok(tx.commit().await?)
    }

    /// Lets copies go, the least recently used first, until no more than `cache_bytes` are there for the cache alone.
    pub(crate) async fn prune(&self, tx: &mut Tx) -> Result<(), ImageError> {
        let mut all = cache::all(tx.conn()).await?;
        all.retain(|e| e.state == State::Cached && !e.stored);
        all.sort_by_key(|e| e.last_accessed);
        let mut bytes: u64 = all.iter().map(|e| e.bytes).sum();
        for entry in all {
            if bytes <= self.config.cache_bytes {
                break;
            }
            tracing::info!(image = %entry.image_id, bytes = entry.bytes, "the cache is full; a copy goes");
            let_go(tx, &entry).await?;
            bytes -= entry.bytes;
        }
        Ok(())
    }

    /// The tier to read an image from: the cache's where it is there, else its own.
    pub(crate) async fn nearest(&self, image: &Image) -> Result<String, ImageError> {
        let Some(near) = self.config.cache() else { return Ok(image.store.clone()) };
        if image.stores().contains(&near) {
            return Ok(near.to_owned());
        }
        let usable = |e: &Entry| e.state == State::Cached && self.tiers.get(&e.tier).is_ok();
        let cached = cache::get(self.db.read(), &image.id).await?.filter(usable);
        Ok(cached.map_or_else(|| image.store.clone(), |e| e.tier))
    }

    /// The tier to clone an image's disk from into `to`: that itself, else the nearest in its cluster, else the nearest.
    pub(crate) async fn origin(&self, image: &Image, to: &Tier) -> Result<Tier, ImageError> {
        let stores = image.stores();
        if stores.contains(&to.name.as_str()) {
            return Ok(to.clone());
        }
        let near = self.nearest(image).await?;
        let near = self.tiers.get(&near)?;
        let mut others = stores.iter().filter_map(|store| self.tiers.get(store).ok());
        let beside = if near.same_cluster(to) { None } else { others.find(|store| store.same_cluster(to)) };
        let from = beside.unwrap_or(near);
        if !stores.contains(&from.name.as_str()) {
            self.lent(&image.id);
        }
        Ok(from)
    }

    /// Whether a copy of what [`Images::source`] has named is whole: what goes while it is copied reads as zeroes, so the
    /// tier must have the image's bytes afterwards, too. `NotFound` where the image is gone; an error that is transient
    /// where its bytes are elsewhere now.
    pub async fn stayed(&self, id: &str, tier: &Tier) -> Result<(), ImageError> {
        if self.is_in(id, &tier.name).await? {
            return Ok(());
        }
        if rows::get(&self.db, id).await?.is_none() {
            return Err(ImageError::NotFound(id.to_owned()));
        }
        let what = format!("copy image {id} out of tier {}: it has moved", tier.name);
        Err(ImageError::Storage(pool::Error::Busy { what }))
    }

    /// Whether a tier has an image's bytes, as one of its stores or as the cache: what was read there until now was they.
    pub(crate) async fn is_in(&self, id: &str, tier: &str) -> Result<bool, ImageError> {
        let Some(image) = rows::get(&self.db, id).await? else { return Ok(false) };
        if image.stores().contains(&tier) {
            return Ok(true);
        }
        let entry = cache::get(self.db.read(), id).await?;
        Ok(entry.is_some_and(|e| e.tier == tier && e.state != State::Queued))
    }

    /// Notes in the background that a copy was handed out: it is not the least recently used.
    pub(crate) fn lent(&self, id: &str) {
        let (db, id) = (self.db.clone(), id.to_owned());
        tokio::spawn(async move {
            if let Err(e) = cache::used(&db, &id, 0).await {
                tracing::warn!(image = id, error = %e, "the use of a cached image is not noted");
            }
        });
    }

    /// Notes in the background that an active image was downloaded as a whole: a hit, or a reason to cache it.
    pub(crate) fn downloaded(self: &Arc<Self>, id: &str) {
        if self.config.cache().is_none() {
            return;
        }
        let (images, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            let noted = match cache::used(&images.db, &id, 1).await {
                Ok(true) => Ok(()),
                Ok(false) => images.enqueue(&id).await,
                Err(e) => Err(e.into()),
            };
            if let Err(e) = noted {
                tracing::warn!(image = id, error = %e, "a download is not noted in the cache");
            }
        });
    }
}

/// Whether a tier needs no copy of an image: it has one, or there is nothing to copy.
pub(crate) fn is_there(image: &Image, tier: &str) -> bool {
    image.form == Form::Empty || image.stores().contains(&tier)
}

async fn let_go(tx: &mut Tx, e: &Entry) -> Result<(), ImageError> {
    match e.state {
        State::Dropped => {}
        State::Cached if e.stored => drop(cache::take(tx, &e.image_id).await?),
        State::Cached => {
            cache::set(tx, &e.image_id, State::Dropped).await?;
            tasks::uncache::spawn(tx, &e.image_id, &e.entry).await?;
        }
        // Who is making the copy stops; what it leaves goes after it.
        State::Queued => {
            cache::take(tx, &e.image_id).await?;
            tx.wake(uploads::topic(&e.image_id));
            tasks::delete::spawn_from(tx, &e.image_id, &e.tier).await?;
        }
    }
    Ok(())
}
