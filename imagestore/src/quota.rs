//! What a project may have: the limits that are registered for it, as upstream counts them, and the operator's own
//! `project_quota`, which is exact.
//!
//! A registered limit of bytes is asked before it is known how many come: whoever is not above it yet may go above it
//! once. Nothing more is possible for a body of unknown length, and clients count on it.

use crate::store::{images as rows, uploads};
use crate::{Image, ImageError, Images};
use state::Tx;

/// What is limited, by upstream's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// MiB in all stores together.
    Size,
    /// MiB that wait for their import.
    Staged,
    Images,
    /// Images that are being filled.
    Uploading,
}

impl Resource {
    pub(crate) const ALL: [Resource; 4] =
        [Resource::Size, Resource::Staged, Resource::Images, Resource::Uploading];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Resource::Size => "image_size_total",
            Resource::Staged => "image_stage_total",
            Resource::Images => "image_count_total",
            Resource::Uploading => "image_count_uploading",
        }
    }
}

const MIB: u64 = 1 << 20;

/// What a project has of a resource.
fn used(usage: rows::Usage, staged: u64, resource: Resource) -> i64 {
    match resource {
        Resource::Size => usage.bytes / (1 << 20),
        Resource::Staged => i64::try_from(staged / MIB).unwrap_or(i64::MAX),
        Resource::Images => usage.images,
        Resource::Uploading => usage.uploading,
    }
}

impl Images {
    /// The limit that is registered; `None` where it is not, or is none.
    async fn registered(&self, project: &str, resource: Resource) -> Result<Option<i64>, ImageError> {
        let Some(around) = self.around.get() else { return Ok(None) };
        Ok(around.limit(project, resource.name()).await?.filter(|n| *n >= 0))
    }

    /// Each resource with its limit (-1 is none) and what the project has of it.
    pub(crate) async fn limits(&self, project: &str) -> Result<Vec<(Resource, i64, i64)>, ImageError> {
        let usage = rows::usage(self.db.read(), project).await?;
        let staged = uploads::staged_bytes(self.db.read(), project).await?;
        let mut all = Vec::new();
        for resource in Resource::ALL {
            let own = match (resource, self.config.project_quota) {
                (Resource::Size, n) if n > 0 => i64::try_from(n / MIB).unwrap_or(i64::MAX),
                _ => -1,
            };
            let limit = self.registered(project, resource).await?.unwrap_or(own);
            all.push((resource, limit, used(usage, staged, resource)));
        }
        Ok(all)
    }

    /// `TooLarge` where the image's project has more than its limit of these, or would have with so many more. Until
    /// the transaction ends nobody else asks for the same project.
    pub(crate) async fn within(
        &self,
        tx: &mut Tx,
        image: &Image,
        wanted: &[(Resource, i64)],
    ) -> Result<(), ImageError> {
        let Some(owner) = image.owner.as_deref().filter(|_| self.around.get().is_some()) else {
            return Ok(());
        };
        let mut limits = Vec::new();
        for (resource, more) in wanted {
            if let Some(limit) = self.registered(owner, *resource).await? {
                limits.push((*resource, *more, limit));
            }
        }
        if limits.is_empty() {
            return Ok(());
        }
        tx.lock(&format!("quota:{owner}")).await?;
        let usage = rows::usage(tx.conn(), owner).await?;
        let staged = uploads::staged_bytes(tx.conn(), owner).await?;
        for (resource, more, limit) in limits {
            let (name, used) = (resource.name(), used(usage, staged, resource));
            if used.saturating_add(more) > limit {
                return Err(ImageError::TooLarge(format!(
                    "Project {owner} is over a limit for [Resource {name} is over limit of {limit} due to current \
                     usage {used} and delta {more}]"
                )));
            }
        }
        Ok(())
    }
}
