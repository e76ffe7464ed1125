//! Domains: projects at the top, which hold users, groups and projects.

use crate::bootstrap::DEFAULT_DOMAIN;
use crate::input::{self, Shape};
use crate::listing::Found;
use crate::projects::{fill_domain, forget_project};
use crate::store::assignments::{self, Forget};
use crate::store::record::Fields;
use crate::store::{Cond, DOMAIN, GROUP, PROJECT, ROLE, Record, USER};
use crate::users::forget_user;
use crate::{Identity, IdentityError};
use api::{Context, Query};
use serde_json::{Value, json};
use std::sync::LazyLock;

static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let properties = json!({"name": input::name(64), "description": input::text(), "enabled": input::flag(),
        "explicit_domain_id": input::id(), "tags": input::tags(), "options": input::immutable()});
    Shape::new("domain", properties, &["name"])
});

impl Identity {
    pub(crate) async fn domain_for(
        &self,
        ctx: &Context,
        rule: &str,
        id: &str,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, rule, &[("target.domain.id", id)])?;
        self.need_domain(id).await
    }

    pub(crate) async fn create_domain(&self, ctx: &Context, body: &Value) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:create_domain", &[])?;
        let mut d = SHAPE.new_record(body)?;
        input::trim_name(&mut d);
        let id = d.remove("explicit_domain_id");
        self.insert_domain(d, id.as_ref().and_then(Value::as_str)).await
    }

    pub(crate) async fn insert_domain(
        &self,
        mut d: Record,
        id: Option<&str>,
    ) -> Result<Record, IdentityError> {
        d.insert("id".into(), id.map_or_else(state::new_hex_id, str::to_owned).into());
        fill_domain(&mut d);
        let mut change = self.begin().await?;
        DOMAIN.insert(change.conn(), &d).await.map_err(|e| match e {
            IdentityError::Conflict { noun, .. } => IdentityError::Conflict {
                noun,
                detail: format!(
                    "it is not permitted to have two domains with the same name: {}",
                    d.text("name")
                ),
            },
            other => other,
        })?;
        change.commit().await?;
        Ok(d)
    }

    pub(crate) async fn list_domains(&self, ctx: &Context, query: &Query) -> Result<Found, IdentityError> {
        let own = ctx.domain_id().unwrap_or_default();
        self.enforce(ctx, "identity:list_domains", &[("target.domain.id", own)])?;
        // Both say the same; the second has an index.
        let mut must = vec![Cond::eq("is_domain", true), Cond::eq("domain_id", "")];
        if let Some(own) = ctx.domain_id().filter(|_| !ctx.is_admin()) {
            must.push(Cond::eq("id", own));
        }
        self.list(&DOMAIN, &["name", "enabled"], must, query).await
    }

    pub(crate) async fn update_domain(
        &self,
        ctx: &Context,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        let d = self.domain_for(ctx, "identity:update_domain", id).await?;
        let changes = SHAPE.changes(body, id)?;
        self.change_project(d, changes).await
    }

    pub(crate) async fn delete_domain(&self, ctx: &Context, id: &str) -> Result<(), IdentityError> {
        let d = self.domain_for(ctx, "identity:delete_domain", id).await?;
        self.drop_domain(&d).await
    }

    /// A disabled domain goes with all that it holds.
    pub(crate) async fn drop_domain(&self, d: &Record) -> Result<(), IdentityError> {
        let id = d.text("id");
        if id == DEFAULT_DOMAIN {
            return Err(IdentityError::Forbidden("The default domain cannot be deleted.".into()));
        }
        input::may_delete("domain", d)?;
        if d.flag("enabled") {
            return Err(IdentityError::Forbidden(
                "Cannot delete a domain that is enabled, please disable it first.".into(),
            ));
        }
        let mut change = self.begin().await?;
        let own = [Cond::eq("domain_id", id)];
        for user in USER.find(change.conn(), &own, 0).await? {
            forget_user(&mut change, user.text("id")).await?;
        }
        for group in GROUP.find(change.conn(), &own, 0).await? {
            crate::groups::forget_group(&mut change, group.text("id")).await?;
        }
        for role in ROLE.find(change.conn(), &own, 0).await? {
            crate::role_rules::forget_role(&mut change, role.text("id")).await?;
        }
        for project in PROJECT.find(change.conn(), &own, 0).await? {
            forget_project(&mut change, project.text("id")).await?;
        }
        crate::federation::forget_domain(&mut change, id).await?;
        DOMAIN.delete(change.conn(), id).await?;
        assignments::forget(change.conn(), Forget::Target, id).await?;
        for sql in [
            "DELETE FROM identity_domain_options WHERE domain_id = $1",
            "DELETE FROM identity_limits WHERE domain_id = $1",
        ] {
            sqlx::query(sql).bind(id.to_owned()).execute(change.conn()).await?;
        }
        change.commit().await
    }
}

/// A domain as clients see it: without what only a project has.
pub(crate) fn shown(mut d: Record) -> Record {
    for name in ["domain_id", "parent_id", "is_domain"] {
        d.remove(name);
    }
    d
}
