//! OS-EP-FILTER: a project may be shown a part of the catalogue only.

use crate::input::{self, Shape};
use crate::listing::Found;
use crate::store::record::Fields;
use crate::store::{Cond, ENDPOINT, ENDPOINT_GROUP, PROJECT, Record};
use crate::{Identity, IdentityError};
use api::{Context, Query};
use serde_json::{Value, json};
use std::sync::LazyLock;

static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let filters = json!({"type": "object", "additionalProperties": false, "properties": {
        "interface": {"type": "string", "enum": ["admin", "internal", "public"]},
        "service_id": {"type": "string"}, "region_id": {"type": "string"}, "enabled": {"type": "boolean"}}});
    let properties = json!({"name": input::name(255), "description": input::text(), "filters": filters});
    Shape::new("endpoint_group", properties, &["name", "filters"])
});

/// What a project can be given.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Given {
    Endpoint,
    Group,
}

impl Given {
    fn as_str(self) -> &'static str {
        match self {
            Given::Endpoint => "endpoint",
            Given::Group => "group",
        }
    }

    fn rule(self, verb: &str) -> String {
        match (self, verb) {
            (Given::Endpoint, "check") => "identity:check_endpoint_in_project".into(),
            (Given::Endpoint, "add") => "identity:add_endpoint_to_project".into(),
            (Given::Endpoint, _) => "identity:remove_endpoint_from_project".into(),
            (Given::Group, "check") => "identity:get_endpoint_group_in_project".into(),
            (Given::Group, "add") => "identity:add_endpoint_group_to_project".into(),
            (Given::Group, _) => "identity:remove_endpoint_group_from_project".into(),
        }
    }
}

fn in_group(group: &Record, endpoint: &Record) -> bool {
    let filters = group.get("filters").and_then(Value::as_object);
    filters.into_iter().flatten().all(|(name, value)| endpoint.get(name) == Some(value))
}

impl Identity {
    async fn given(&self, column: &str, id: &str, kind: Given) -> Result<Vec<String>, IdentityError> {
        let sql = match column {
            "project_id" => {
                "SELECT endpoint_id FROM identity_project_endpoints WHERE project_id = $1 AND kind = $2"
            }
            _ => "SELECT project_id FROM identity_project_endpoints WHERE endpoint_id = $1 AND kind = $2",
        };
        let query = sqlx::query_scalar(sql).bind(id.to_owned()).bind(kind.as_str());
        Ok(query.fetch_all(self.db.read()).await?)
    }

    /// The endpoints that a project is shown, or `None` where it is shown all.
    pub(crate) async fn endpoints_of_project(
        &self,
        project: &str,
    ) -> Result<Option<Vec<String>>, IdentityError> {
        let mut ids = self.given("project_id", project, Given::Endpoint).await?;
        let groups = self.given("project_id", project, Given::Group).await?;
        if ids.is_empty() && groups.is_empty() {
            return Ok(None);
        }
        if !groups.is_empty() {
            let all = ENDPOINT.find(self.db.read(), &[], 0).await?;
            for group in ENDPOINT_GROUP.find(self.db.read(), &[Cond::In("id", groups)], 0).await? {
                ids.extend(all.iter().filter(|e| in_group(&group, e)).map(|e| e.text("id").to_owned()));
            }
        }
        Ok(Some(ids))
    }

    async fn both(&self, kind: Given, project: &str, id: &str) -> Result<(), IdentityError> {
        PROJECT.need(self.db.read(), project).await?;
        match kind {
            Given::Endpoint => ENDPOINT.need(self.db.read(), id).await?,
            Given::Group => ENDPOINT_GROUP.need(self.db.read(), id).await?,
        };
        Ok(())
    }

    pub(crate) async fn give_endpoint(
        &self,
        ctx: &Context,
        kind: Given,
        project: &str,
        id: &str,
    ) -> Result<(), IdentityError> {
        self.enforce(ctx, &kind.rule("add"), &[])?;
        self.both(kind, project, id).await?;
        let mut change = self.begin().await?;
        sqlx::query(
            "INSERT INTO identity_project_endpoints (project_id, kind, endpoint_id) VALUES ($1, $2, $3) \
             ON CONFLICT DO NOTHING",
        )
        .bind(project.to_owned())
        .bind(kind.as_str())
        .bind(id.to_owned())
        .execute(change.conn())
        .await?;
        change.commit().await
    }

    pub(crate) async fn check_given(
        &self,
        ctx: &Context,
        kind: Given,
        project: &str,
        id: &str,
    ) -> Result<(), IdentityError> {
        self.enforce(ctx, &kind.rule("check"), &[])?;
        self.both(kind, project, id).await?;
        match self.given("project_id", project, kind).await?.iter().any(|g| g == id) {
            true => Ok(()),
            false => Err(IdentityError::Absent(format!("Endpoint {id} not found in project {project}."))),
        }
    }

    pub(crate) async fn take_endpoint(
        &self,
        ctx: &Context,
        kind: Given,
        project: &str,
        id: &str,
    ) -> Result<(), IdentityError> {
        self.enforce(ctx, &kind.rule("remove"), &[])?;
        self.both(kind, project, id).await?;
        let mut change = self.begin().await?;
        let done = sqlx::query(
            "DELETE FROM identity_project_endpoints WHERE project_id = $1 AND kind = $2 AND endpoint_id = $3",
        )
        .bind(project.to_owned())
        .bind(kind.as_str())
        .bind(id.to_owned())
        .execute(change.conn())
        .await?;
        if done.rows_affected() == 0 {
            return Err(IdentityError::Absent(format!("Endpoint {id} not found in project {project}.")));
        }
        change.commit().await
    }

    pub(crate) async fn endpoints_given(
        &self,
        ctx: &Context,
        project: &str,
    ) -> Result<Vec<Record>, IdentityError> {
        self.enforce(ctx, "identity:list_endpoints_for_project", &[])?;
        PROJECT.need(self.db.read(), project).await?;
        let ids = self.endpoints_of_project(project).await?.unwrap_or_default();
        ENDPOINT.find(self.db.read(), &[Cond::In("id", ids)], 0).await
    }

    pub(crate) async fn groups_given(
        &self,
        ctx: &Context,
        project: &str,
    ) -> Result<Vec<Record>, IdentityError> {
        self.enforce(ctx, "identity:list_endpoint_groups_for_project", &[])?;
        PROJECT.need(self.db.read(), project).await?;
        let ids = self.given("project_id", project, Given::Group).await?;
        ENDPOINT_GROUP.find(self.db.read(), &[Cond::In("id", ids)], 0).await
    }

    pub(crate) async fn projects_given(
        &self,
        ctx: &Context,
        kind: Given,
        id: &str,
    ) -> Result<Vec<Record>, IdentityError> {
        match kind {
            Given::Endpoint => {
                self.enforce(ctx, "identity:list_projects_for_endpoint", &[])?;
                ENDPOINT.need(self.db.read(), id).await?;
            }
            Given::Group => {
                self.enforce(ctx, "identity:list_projects_associated_with_endpoint_group", &[])?;
                ENDPOINT_GROUP.need(self.db.read(), id).await?;
            }
        }
        let ids = self.given("endpoint_id", id, kind).await?;
        PROJECT.find(self.db.read(), &[Cond::In("id", ids)], 0).await
    }

    pub(crate) async fn endpoints_in_group(
        &self,
        ctx: &Context,
        id: &str,
    ) -> Result<Vec<Record>, IdentityError> {
        self.enforce(ctx, "identity:list_endpoints_associated_with_endpoint_group", &[])?;
        let group = ENDPOINT_GROUP.need(self.db.read(), id).await?;
        let all = ENDPOINT.find(self.db.read(), &[], 0).await?;
        Ok(all.into_iter().filter(|e| in_group(&group, e)).collect())
    }

    pub(crate) async fn create_endpoint_group(
        &self,
        ctx: &Context,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:create_endpoint_group", &[])?;
        let mut g = SHAPE.new_record(body)?;
        g.insert("id".into(), state::new_hex_id().into());
        input::default(&mut g, "description", Value::Null);
        let mut change = self.begin().await?;
        ENDPOINT_GROUP.insert(change.conn(), &g).await?;
        change.commit().await?;
        Ok(g)
    }

    pub(crate) async fn list_endpoint_groups(
        &self,
        ctx: &Context,
        query: &Query,
    ) -> Result<Found, IdentityError> {
        self.enforce(ctx, "identity:list_endpoint_groups", &[])?;
        self.list(&ENDPOINT_GROUP, &["name"], Vec::new(), query).await
    }

    pub(crate) async fn show_endpoint_group(&self, ctx: &Context, id: &str) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:get_endpoint_group", &[])?;
        ENDPOINT_GROUP.need(self.db.read(), id).await
    }

    pub(crate) async fn update_endpoint_group(
        &self,
        ctx: &Context,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:update_endpoint_group", &[])?;
        let mut g = ENDPOINT_GROUP.need(self.db.read(), id).await?;
        g.extend(SHAPE.changes(body, id)?);
        let mut change = self.begin().await?;
        ENDPOINT_GROUP.update(change.conn(), &g).await?;
        change.commit().await?;
        Ok(g)
    }

    pub(crate) async fn delete_endpoint_group(&self, ctx: &Context, id: &str) -> Result<(), IdentityError> {
        self.enforce(ctx, "identity:delete_endpoint_group", &[])?;
        let mut change = self.begin().await?;
        ENDPOINT_GROUP.delete(change.conn(), id).await?;
        sqlx::query("DELETE FROM identity_project_endpoints WHERE endpoint_id = $1")
            .bind(id.to_owned())
            .execute(change.conn())
            .await?;
        change.commit().await
    }
}
