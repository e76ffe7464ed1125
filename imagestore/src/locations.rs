//! Where an image's bytes are, as other services ask and say it: `rbd://<fsid>/<pool>/<image>/<snapshot>`.
//!
//! A location that is added becomes the image by a clone, so that what it was taken from may change or go. Its bytes
//! are read once, for their hashes. Such a name could be of anybody's disk, so only administrators and the cloud's
//! own services may give one, whatever the policy says.

use crate::imports::{begun, task};
use crate::model::{HashAlgorithm, Image, RbdSource, Status};
use crate::store::{images as rows, tasks as task_rows};
use crate::{ImageError, Images, SNAP, policy, tasks};
use api::Context;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an image is to hash to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expected {
    pub(crate) algorithm: HashAlgorithm,
    /// In hexadecimal digits; absent where only the algorithm is chosen.
    pub(crate) hash: Option<String>,
}

/// One place of an image's bytes.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    pub(crate) url: String,
    pub(crate) store: String,
    /// The namespace inside the pool, which the URL has no place for.
    pub(crate) namespace: Option<String>,
}

/// As upstream's store quotes the parts.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The fsid and the parts (pool, image, snapshot) of an RBD location.
fn parts(url: &str) -> Option<[String; 4]> {
    let decoded = |p: &str| percent_decode_str(p).decode_utf8().ok().map(|p| p.into_owned());
    let all: Vec<String> = url.strip_prefix("rbd://")?.split('/').map(decoded).collect::<Option<_>>()?;
    let all: [String; 4] = all.try_into().ok()?;
    all.iter().all(|p| !p.is_empty()).then_some(all)
}

impl Images {
    /// Where the bytes are that clones are made from; nowhere while there are none.
    pub(crate) async fn locations(&self, ctx: &Context, id: &str) -> Result<Vec<Location>, ImageError> {
        let image = self.served(ctx, id, "fetch_image_location").await?;
        let mut all = Vec::new();
        if image.size.is_none() {
            return Ok(all);
        }
        for store in std::iter::once(&image.store).chain(&image.copies) {
            let tier = self.tiers.get(store)?;
            let fsid = tier.cluster.fsid().await?;
            let quoted = |p: &str| utf8_percent_encode(p, PART).to_string();
            let url = format!("rbd://{fsid}/{}/{}/{SNAP}", quoted(tier.pool.name()), quoted(&image.id));
            all.push(Location {
                url,
                store: store.clone(),
                namespace: Some(tier.pool.namespace().to_owned()).filter(|n| !n.is_empty()),
            });
        }
        Ok(all)
    }

    /// Gives a queued image its bytes by saying where they are: the task `location_import`.
    pub(crate) async fn add_location(
        &self,
        ctx: &Context,
        id: &str,
        url: &str,
        expected: Option<Expected>,
        input: &Value,
    ) -> Result<(), ImageError> {
        self.served(ctx, id, "add_image_location").await?;
        let source = self.located(ctx, url).await?;
        let mut tx = self.db.begin().await?;
        let mut image =
            rows::get_locked(&mut tx, id).await?.ok_or_else(|| ImageError::NotFound(id.to_owned()))?;
        addable(&image)?;
        self.signature_terms(&image).await?;
        image.store.clone_from(&self.config.tier);
        let store = [image.store.clone()];
        let task = task(ctx, id, "location_import", input, &store);
        task_rows::insert(&mut tx, &task).await?;
        begun(&mut image, &task.id, &store);
        image.status = Status::Importing;
        rows::update(&mut tx, &image).await?;
        tasks::locate::spawn(&mut tx, id, source, expected, &task.id).await?;
        Ok(tx.commit().await?)
    }

    /// As [`Images::authorised`]; but the cloud's own services, which work for everybody, see every image.
    async fn served(&self, ctx: &Context, id: &str, rule: &str) -> Result<Image, ImageError> {
        if policy::check(&self.policy, ctx, "service_api", &[]).is_err() {
            return self.authorised(ctx, id, rule).await;
        }
        let image = rows::get(&self.db, id).await?.ok_or_else(|| ImageError::NotFound(id.to_owned()))?;
        policy::enforce(&self.policy, ctx, rule, &image, None)?;
        Ok(image)
    }

    /// The snapshot that a URL names, in one of the places that this cloud knows.
    async fn located(&self, ctx: &Context, url: &str) -> Result<RbdSource, ImageError> {
        let scheme = url.split_once("://").map(|(s, _)| s).unwrap_or_default();
        if scheme != "rbd" {
            return Err(ImageError::Invalid(format!("Unknown scheme '{scheme}' found in URI")));
        }
        policy::check(&self.policy, ctx, "service_api", &[])?;
        let unknown = || ImageError::Invalid("The location is not one that this cloud knows.".to_owned());
        let [fsid, pool, image, snap] = parts(url).ok_or_else(unknown)?;
        for tier in self.tiers.iter() {
            let here = tier.pool.name() == pool && tier.pool.namespace().is_empty();
            if here && tier.cluster.fsid().await? == fsid {
                return Ok(RbdSource { tier: tier.name.clone(), image, snap });
            }
        }
        Err(unknown())
    }
}

fn addable(image: &Image) -> Result<(), ImageError> {
    if image.status != Status::Queued {
        return Err(ImageError::conflict(
            "Only images with status queued can be targeted for adding a location",
        ));
    }
    match (image.disk_format.as_deref(), image.container_format.as_deref()) {
        (Some("raw"), Some("bare")) => Ok(()),
        (Some(_), Some(_)) => Err(ImageError::invalid("An image of a disk in the pool is raw and bare.")),
        _ => Err(ImageError::invalid(
            "Properties disk_format, container_format must be set prior to adding a location.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_location() {
        assert_eq!(parts("rbd://f/p%2Fq/i/s").unwrap(), ["f", "p/q", "i", "s"]);
        for bad in
            ["rbd://", "rbd://f/p/i", "rbd://f/p//s", "rbd://f/p/i/s/x", "http://f/p/i/s", "rbd://f/p/%ff/s"]
        {
            assert!(parts(bad).is_none(), "{bad}");
        }
    }
}
