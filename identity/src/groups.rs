//! Groups and who is in them.

use crate::input::{self, Shape};
use crate::listing::Found;
use crate::projects::home_domain;
use crate::store::assignments::{self, Forget};
use crate::store::directory::Entity;
use crate::store::record::Fields;
use crate::store::{Cond, GROUP, Record, USER};
use crate::users::listed_domain;
use crate::{Identity, IdentityError};
use api::{Context, Query};
use serde_json::{Value, json};
use state::Tx;
use std::sync::LazyLock;

static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let properties =
        json!({"name": input::name(64), "description": input::text(), "domain_id": input::maybe_id()});
    Shape::new("group", properties, &["name"])
});

pub(crate) fn target(g: &Record) -> [(&str, &str); 2] {
    [("target.group.id", g.text("id")), ("target.group.domain_id", g.text("domain_id"))]
}

impl Identity {
    pub(crate) async fn group_for(
        &self,
        ctx: &Context,
        rule: &str,
        id: &str,
    ) -> Result<Record, IdentityError> {
        self.refresh_group(id).await?;
        match GROUP.get(self.db.read(), id).await? {
            Some(g) => {
                self.enforce(ctx, rule, &target(&g))?;
                Ok(g)
            }
            None => {
                self.enforce(ctx, rule, &[("target.group.id", id)])?;
                Err(IdentityError::not_found("group", id))
            }
        }
    }

    pub(crate) async fn create_group(&self, ctx: &Context, body: &Value) -> Result<Record, IdentityError> {
        let mut g = SHAPE.new_record(body)?;
        input::trim_name(&mut g);
        if g.opt_text("domain_id").is_none() {
            g.insert("domain_id".into(), home_domain(ctx).into());
        }
        self.enforce(ctx, "identity:create_group", &[("target.group.domain_id", g.text("domain_id"))])?;
        self.need_domain(g.text("domain_id")).await?;
        self.need_writable(g.text("domain_id")).await?;
        g.insert("id".into(), state::new_hex_id().into());
        if g.get("description").is_none_or(Value::is_null) {
            g.insert("description".into(), "".into());
        }
        let mut change = self.begin().await?;
        GROUP.insert(change.conn(), &g).await?;
        change.commit().await?;
        Ok(g)
    }

    pub(crate) async fn list_groups(&self, ctx: &Context, query: &Query) -> Result<Found, IdentityError> {
        let domain = ctx.domain_id().or(query.get("domain_id")).unwrap_or_default();
        self.enforce(ctx, "identity:list_groups", &[("target.group.domain_id", domain)])?;
        let mut must = Vec::new();
        if let Some(own) = ctx.domain_id().filter(|_| !ctx.is_admin()) {
            must.push(Cond::eq("domain_id", own));
        }
        let domain = listed_domain(ctx, query);
        self.read_groups_of(domain, query).await?;
        self.list_up_to(self.list_limit_of(domain).await?, &GROUP, &["domain_id", "name"], must, query).await
    }

    pub(crate) async fn update_group(
        &self,
        ctx: &Context,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        let mut g = self.group_for(ctx, "identity:update_group", id).await?;
        self.need_own(Entity::Group, id).await?;
        let mut changes = SHAPE.changes(body, id)?;
        input::trim_name(&mut changes);
        if changes.get("domain_id").is_some_and(|d| *d != g["domain_id"]) {
            return Err(IdentityError::Invalid("Cannot change Domain ID".into()));
        }
        g.extend(changes);
        let mut change = self.begin().await?;
        GROUP.update(change.conn(), &g).await?;
        change.commit().await?;
        Ok(g)
    }

    pub(crate) async fn delete_group(&self, ctx: &Context, id: &str) -> Result<(), IdentityError> {
        self.group_for(ctx, "identity:delete_group", id).await?;
        self.need_own(Entity::Group, id).await?;
        let mut change = self.begin().await?;
        forget_group(&mut change, id).await?;
        change.commit().await
    }

    /// Both sides of a membership, if the caller may do this with it.
    async fn membership(
        &self,
        ctx: &Context,
        rule: &str,
        group: &str,
        user: &str,
    ) -> Result<(), IdentityError> {
        self.refresh_group(group).await?;
        self.refresh_user(user).await?;
        let g = GROUP.get(self.db.read(), group).await?;
        let u = USER.get(self.db.read(), user).await?;
        let mut about = vec![("target.user.id", user)];
        about.extend(g.iter().flat_map(target));
        about.extend(u.iter().flat_map(crate::users::target));
        self.enforce(ctx, rule, &about)?;
        g.ok_or_else(|| IdentityError::not_found("group", group))?;
        u.ok_or_else(|| IdentityError::not_found("user", user))?;
        Ok(())
    }

    pub(crate) async fn join_group(
        &self,
        ctx: &Context,
        group: &str,
        user: &str,
    ) -> Result<(), IdentityError> {
        self.membership(ctx, "identity:add_user_to_group", group, user).await?;
        self.need_own_members(group, user).await?;
        let mut change = self.begin().await?;
        assignments::join(change.conn(), group, user).await?;
        change.commit().await
    }

    pub(crate) async fn check_member(
        &self,
        ctx: &Context,
        group: &str,
        user: &str,
    ) -> Result<(), IdentityError> {
        self.membership(ctx, "identity:check_user_in_group", group, user).await?;
        self.read_groups_of_user(user).await?;
        match assignments::is_member(self.db.read(), group, user).await? {
            true => Ok(()),
            false => Err(no_member(group, user)),
        }
    }

    pub(crate) async fn leave_group(
        &self,
        ctx: &Context,
        group: &str,
        user: &str,
    ) -> Result<(), IdentityError> {
        self.membership(ctx, "identity:remove_user_from_group", group, user).await?;
        self.need_own_members(group, user).await?;
        let mut change = self.begin().await?;
        if !assignments::leave(change.conn(), group, user).await? {
            return Err(no_member(group, user));
        }
        change.commit().await
    }

    pub(crate) async fn users_of_group(
        &self,
        ctx: &Context,
        group: &str,
        query: &Query,
    ) -> Result<Found, IdentityError> {
        self.group_for(ctx, "identity:list_users_in_group", group).await?;
        self.read_members_of(group).await?;
        let mut must = vec![Cond::MemberOf(group.to_owned())];
        must.extend(crate::users::expiry_filter(query)?);
        self.list(&USER, &["domain_id", "enabled", "name"], must, query).await
    }

    pub(crate) async fn groups_of_user(
        &self,
        ctx: &Context,
        user: &str,
        query: &Query,
    ) -> Result<Found, IdentityError> {
        self.user_for(ctx, "identity:list_groups_for_user", user).await?;
        self.read_groups_of_user(user).await?;
        let must = vec![Cond::GroupsOf(user.to_owned())];
        self.list(&GROUP, &["domain_id", "name"], must, query).await
    }
}

fn no_member(group: &str, user: &str) -> IdentityError {
    IdentityError::Absent(format!("User '{user}' not found in group '{group}'."))
}

pub(crate) async fn forget_group(tx: &mut Tx, id: &str) -> Result<(), IdentityError> {
    GROUP.delete(tx.conn(), id).await?;
    crate::store::federation::forget_group(tx, id).await?;
    assignments::forget(tx.conn(), Forget::Actor, id).await?;
    sqlx::query("DELETE FROM identity_members WHERE group_id = $1")
        .bind(id.to_owned())
        .execute(tx.conn())
        .await?;
    Ok(())
}
