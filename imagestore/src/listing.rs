//! Lists of images, as their caller sees them.

use crate::model::{Image, MemberStatus};
use crate::store::listing::{self as rows, Filter, Listing, Viewer};
use crate::store::tasks as task_rows;
use crate::{ImageError, Images, policy};
use api::Context;

impl Images {
    /// A page of images. The marker is an image that the caller sees, else 400.
    pub(crate) async fn list(
        &self,
        ctx: &Context,
        mut listing: Listing,
        marker: Option<&str>,
    ) -> Result<Vec<Image>, ImageError> {
        policy::check(&self.policy, ctx, "get_images", &[])?;
        if let Some(marker) = marker {
            let seen = self.get(ctx, marker).await;
            listing.after = Some(seen.map_err(|e| match e {
                ImageError::NotFound(id) => ImageError::invalid(format!("Image {id} could not be found.")),
                e => e,
            })?);
        }
        Ok(rows::list(&self.db, &viewer(ctx), &listing).await?)
    }

    /// The images of this name that a plain list shows.
    pub(crate) async fn named(&self, ctx: &Context, name: &str) -> Result<Vec<Image>, ImageError> {
        let listing = Listing {
            member_status: Some(MemberStatus::Accepted),
            filters: vec![Filter::Text("name", vec![name.to_owned()])],
            sort: vec![("created_at", false)],
            limit: self.config.page_max,
            ..Listing::default()
        };
        Ok(rows::list(&self.db, &viewer(ctx), &listing).await?)
    }

    /// What has been imported into an image, newest first.
    pub(crate) async fn tasks_of(&self, ctx: &Context, id: &str) -> Result<Vec<task_rows::Row>, ImageError> {
        self.get(ctx, id).await?;
        Ok(task_rows::of_image(&self.db, id).await?)
    }

    /// A page of the tasks of all projects, after the one that `marker` names.
    pub(crate) async fn tasks(
        &self,
        ctx: &Context,
        mut asked: task_rows::Listing,
        marker: Option<&str>,
    ) -> Result<Vec<task_rows::Row>, ImageError> {
        policy::check(&self.policy, ctx, "tasks_api_access", &[])?;
        if let Some(marker) = marker {
            asked.after = Some(self.task(ctx, marker).await?);
        }
        Ok(task_rows::list(&self.db, &asked).await?)
    }

    pub(crate) async fn task(&self, ctx: &Context, id: &str) -> Result<task_rows::Row, ImageError> {
        policy::check(&self.policy, ctx, "tasks_api_access", &[])?;
        let missing = || ImageError::Missing(format!("Task not found for task_id {id}"));
        task_rows::get(&self.db, id).await?.ok_or_else(missing)
    }
}

fn viewer(ctx: &Context) -> Viewer {
    Viewer { project: ctx.project().map(|p| p.id.clone()), admin: ctx.is_admin() }
}
