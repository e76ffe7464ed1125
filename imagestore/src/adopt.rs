//! Taking over images that another Glance has kept in the same pools: a row is added, and nothing in the pool changes.

use crate::model::{Form, Image, Member, Status};
use crate::store::{images as rows, members};
use crate::{ImageError, Images, SNAP};
use pool::OptionalExt;

/// What became of something that was to be taken over, or, in a dry run, would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adoption {
    New,
    /// It is this cloud's already.
    There,
    /// It stays where it is; the text says why, for the operator.
    Conflict(String),
}

impl Images {
    /// Takes an active image over whose RBD image `<id>` with the snapshot `snap` is in the tier that it names. Its
    /// form is found out here: a raw disk is one to clone from, everything else is for downloads.
    pub async fn adopt(
        &self,
        mut image: Image,
        its_members: &[Member],
        apply: bool,
    ) -> Result<Adoption, ImageError> {
        if rows::get(&self.db, &image.id).await?.is_some() {
            return Ok(Adoption::There);
        }
        let Ok(tier) = self.tiers.get(&image.store) else {
            return Ok(Adoption::Conflict(format!("there is no tier {}", image.store)));
        };
        let pool = tier.pool.name();
        let there = tier.pool.rbd().open_snapshot(&image.id, SNAP).await.optional()?;
        let Some(there) = there else {
            return Ok(Adoption::Conflict(format!("pool {pool} has no {}@{SNAP}", image.id)));
        };
        let size = there.size().await;
        there.close().await?;
        let size = size?;
        if image.size.is_some_and(|s| s > size) {
            return Ok(Adoption::Conflict(format!("{}@{SNAP} is shorter than the image", image.id)));
        }
        let raw = image.disk_format.as_deref() == Some("raw");
        image.form = if raw { Form::Disk } else { Form::Opaque };
        image.size = image.size.or(Some(size));
        if !matches!(image.status, Status::Active | Status::Deactivated) {
            return Ok(Adoption::Conflict(format!("it is {}", image.status)));
        }
        if apply {
            let mut tx = self.db.begin().await?;
            rows::insert(&mut tx, &image).await?;
            for member in its_members {
                members::insert(&mut tx, member).await?;
            }
            tx.commit().await?;
        }
        Ok(Adoption::New)
    }
}
