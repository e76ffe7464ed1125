//! Server groups.

use crate::model::ServerGroup;
use crate::store::groups as store;
use crate::{Compute, ComputeError};
use api::Context;

/// A group with the ids of its members.
pub(crate) struct WithMembers {
    pub(crate) group: ServerGroup,
    pub(crate) members: Vec<String>,
}

fn not_found(id: &str) -> ComputeError {
    ComputeError::NotFound(format!("Instance group {id} could not be found."))
}

impl Compute {
    pub(crate) async fn create_group(
        &self,
        ctx: &Context,
        name: String,
        policy: String,
        max_server_per_host: Option<i64>,
    ) -> Result<WithMembers, ComputeError> {
        let project = ctx.project_id()?.to_owned();
        self.may(ctx, "os_compute_api:os-server-groups:create", &project)?;
        let group = ServerGroup {
            id: state::new_id(),
            name,
            project_id: project.clone(),
            user_id: ctx.user.id.clone(),
            policy,
            max_server_per_host,
        };
        let mut tx = self.db.begin().await?;
        self.room_for_group(&mut tx, &project).await?;
        store::insert(&mut tx, &group).await?;
        tx.commit().await?;
        Ok(WithMembers { group, members: Vec::new() })
    }

    async fn group_row(&self, ctx: &Context, id: &str, rule: &str) -> Result<ServerGroup, ComputeError> {
        let found = store::get(&self.db, id).await?;
        let mine = |g: &ServerGroup| ctx.is_admin() || ctx.project().is_some_and(|p| p.id == g.project_id);
        let group = found.filter(mine).ok_or_else(|| not_found(id))?;
        self.may(ctx, rule, &group.project_id)?;
        Ok(group)
    }

    async fn with_members(&self, group: ServerGroup) -> Result<WithMembers, ComputeError> {
        let members = store::members(&self.db, &group.id).await?.into_iter().map(|(id, ..)| id).collect();
        Ok(WithMembers { group, members })
    }

    pub(crate) async fn group(&self, ctx: &Context, id: &str) -> Result<WithMembers, ComputeError> {
        let group = self.group_row(ctx, id, "os_compute_api:os-server-groups:show").await?;
        self.with_members(group).await
    }

    pub(crate) async fn groups(
        &self,
        ctx: &Context,
        all_projects: bool,
    ) -> Result<Vec<WithMembers>, ComputeError> {
        let project = ctx.project_id()?.to_owned();
        self.may(ctx, "os_compute_api:os-server-groups:index", &project)?;
        let all =
            all_projects && self.allows(ctx, "os_compute_api:os-server-groups:index:all_projects", &project);
        let rows = store::list(&self.db, (!all).then_some(project.as_str())).await?;
        let mut out = Vec::with_capacity(rows.len());
        for group in rows {
            out.push(self.with_members(group).await?);
        }
        Ok(out)
    }

    pub(crate) async fn delete_group(&self, ctx: &Context, id: &str) -> Result<(), ComputeError> {
        self.group_row(ctx, id, "os_compute_api:os-server-groups:delete").await?;
        let mut tx = self.db.begin().await?;
        store::delete(&mut tx, id).await?;
        Ok(tx.commit().await?)
    }
}
