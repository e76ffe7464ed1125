//! Sharing: the owner names projects, each of them accepts or rejects.

use crate::model::{Image, Member, MemberStatus, Visibility};
use crate::store::members as rows;
use crate::{ImageError, Images, policy};
use api::Context;
use state::{StateError, Timestamp};

impl Images {
    /// Every member for the owner, itself for a member.
    pub(crate) async fn members(&self, ctx: &Context, id: &str) -> Result<Vec<Member>, ImageError> {
        let image = self.shared(ctx, id, "get_members").await?;
        let mut all = rows::list(&self.db, id).await?;
        if !self.owns(ctx, &image) {
            let me = ctx.project().map(|p| p.id.clone()).unwrap_or_default();
            all.retain(|m| m.member_id == me);
        }
        Ok(all)
    }

    pub(crate) async fn member(&self, ctx: &Context, id: &str, member: &str) -> Result<Member, ImageError> {
        let all = self.members(ctx, id).await?;
        all.into_iter().find(|m| m.member_id == member).ok_or_else(|| no_member(id, member))
    }

    /// Offers the image to a project: `pending`.
    pub(crate) async fn add_member(
        &self,
        ctx: &Context,
        id: &str,
        member: &str,
    ) -> Result<Member, ImageError> {
        self.shared(ctx, id, "add_member").await?;
        if member.is_empty() || member.chars().count() > 255 {
            return Err(ImageError::invalid("Member can't be empty or longer than 255 characters"));
        }
        let now = Timestamp::now();
        let m = Member {
            image_id: id.to_owned(),
            member_id: member.to_owned(),
            status: MemberStatus::Pending,
            created_at: now,
            updated_at: now,
        };
        let mut tx = self.db.begin().await?;
        tx.lock(&format!("image:{id}")).await?;
        let (attempted, maximum) = (rows::list(&self.db, id).await?.len() + 1, self.config.member_quota);
        if attempted > maximum {
            return Err(ImageError::TooLarge(format!(
                "The limit has been exceeded on the number of allowed image members for this image. \
                 Attempted: {attempted}, Maximum: {maximum}"
            )));
        }
        match rows::insert(&mut tx, &m).await {
            Err(StateError::Conflict(_)) => {
                Err(ImageError::conflict(format!("Image member {member} already exists for image {id}")))
            }
            r => {
                r?;
                tx.commit().await?;
                Ok(m)
            }
        }
    }

    /// What a member says to the offer. Only the member itself may (and an administrator).
    pub(crate) async fn answer(
        &self,
        ctx: &Context,
        id: &str,
        member: &str,
        status: MemberStatus,
    ) -> Result<Member, ImageError> {
        let image = self.shared(ctx, id, "get_members").await?;
        let mut m = rows::get(&self.db, id, member).await?.ok_or_else(|| no_member(id, member))?;
        policy::enforce(&self.policy, ctx, "modify_member", &image, Some(member))?;
        (m.status, m.updated_at) = (status, Timestamp::now());
        let mut tx = self.db.begin().await?;
        if !rows::set_status(&mut tx, &m).await? {
            return Err(no_member(id, member));
        }
        tx.commit().await?;
        Ok(m)
    }

    pub(crate) async fn remove_member(
        &self,
        ctx: &Context,
        id: &str,
        member: &str,
    ) -> Result<(), ImageError> {
        self.shared(ctx, id, "delete_member").await?;
        let mut tx = self.db.begin().await?;
        if !rows::remove(&mut tx, id, member).await? {
            return Err(no_member(id, member));
        }
        Ok(tx.commit().await?)
    }

    async fn shared(&self, ctx: &Context, id: &str, rule: &str) -> Result<Image, ImageError> {
        let image = self.authorised(ctx, id, rule).await?;
        match image.visibility {
            Visibility::Shared => Ok(image),
            _ => Err(ImageError::forbidden("Only shared images have members.")),
        }
    }

    fn owns(&self, ctx: &Context, image: &Image) -> bool {
        ctx.is_admin() || ctx.project().is_some_and(|p| image.owner.as_deref() == Some(&p.id))
    }
}

fn no_member(id: &str, member: &str) -> ImageError {
    ImageError::Missing(format!("{member} not found in the member list of the image {id}."))
}
