//! Unified limits: a default per resource, and a project's or domain's own; see [`crate::limit_model`] for how these
//! stand to each other.

use crate::auth::expected;
use crate::input;
use crate::listing::Found;
use crate::projects::target as project_target;
use crate::store::record::Fields;
use crate::store::{Cond, LIMIT, PROJECT, REGION, REGISTERED_LIMIT, Record, SERVICE};
use crate::{Identity, IdentityError};
use api::schema::Schema;
use api::{Context, Query};
use serde_json::{Value, json};
use std::sync::LazyLock;

fn count() -> Value {
    json!({"type": "integer", "minimum": -1, "maximum": 0x7fff_ffff})
}

fn schema(key: &str, properties: Value, required: &[&str], list: bool) -> Schema {
    let one = json!({"type": "object", "properties": properties, "required": required,
        "additionalProperties": false});
    let inner = if list { json!({"type": "array", "minItems": 1, "items": one}) } else { one };
    Schema::new(&json!({"type": "object", "required": [key], "properties": {key: inner}}))
}

fn resource() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 255})
}

static REGISTER: LazyLock<Schema> = LazyLock::new(|| {
    let properties = json!({"service_id": input::id(), "region_id": {"type": ["string", "null"]},
        "resource_name": resource(), "default_limit": count(), "description": input::text()});
    schema("registered_limits", properties, &["service_id", "resource_name", "default_limit"], true)
});
static REREGISTER: LazyLock<Schema> = LazyLock::new(|| {
    let properties = json!({"service_id": input::id(), "region_id": {"type": ["string", "null"]},
        "resource_name": resource(), "default_limit": count(), "description": input::text()});
    schema("registered_limit", properties, &[], false)
});
static CREATE: LazyLock<Schema> = LazyLock::new(|| {
    let properties = json!({"project_id": input::maybe_id(), "domain_id": input::maybe_id(),
        "service_id": input::id(), "region_id": {"type": ["string", "null"]}, "resource_name": resource(),
        "resource_limit": count(), "description": input::text()});
    schema("limits", properties, &["service_id", "resource_name", "resource_limit"], true)
});
static UPDATE: LazyLock<Schema> = LazyLock::new(|| {
    schema("limit", json!({"resource_limit": count(), "description": input::text()}), &[], false)
});

/// The items of a creation, with ids.
fn items(body: &Value, key: &str) -> Vec<Record> {
    let list = body[key].as_array().into_iter().flatten().filter_map(Value::as_object).cloned();
    list.map(|mut item| {
        item.insert("id".into(), state::new_hex_id().into());
        for name in ["region_id", "description"] {
            input::default(&mut item, name, Value::Null);
        }
        item
    })
    .collect()
}

impl Identity {
    async fn check_place(&self, item: &Record, target: &str) -> Result<(), IdentityError> {
        SERVICE
            .get(self.db.read(), item.text("service_id"))
            .await?
            .ok_or_else(|| expected("service_id", target))?;
        if let Some(region) = item.opt_text("region_id") {
            REGION.get(self.db.read(), region).await?.ok_or_else(|| expected("region_id", target))?;
        }
        Ok(())
    }

    pub(crate) async fn register_limits(
        &self,
        ctx: &Context,
        body: &Value,
    ) -> Result<Vec<Record>, IdentityError> {
        self.enforce(ctx, "identity:create_registered_limits", &[])?;
        REGISTER.check(body)?;
        let items = items(body, "registered_limits");
        for item in &items {
            self.check_place(item, "registered_limit").await?;
        }
        let mut change = self.begin_aside().await?;
        for item in &items {
            REGISTERED_LIMIT.insert(change.conn(), item).await?;
        }
        change.commit().await?;
        Ok(items)
    }

    pub(crate) async fn list_registered_limits(
        &self,
        ctx: &Context,
        query: &Query,
    ) -> Result<Found, IdentityError> {
        self.enforce(ctx, "identity:list_registered_limits", &[])?;
        self.list(&REGISTERED_LIMIT, &["service_id", "region_id", "resource_name"], Vec::new(), query).await
    }

    pub(crate) async fn show_registered_limit(
        &self,
        ctx: &Context,
        id: &str,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:get_registered_limit", &[])?;
        REGISTERED_LIMIT.need(self.db.read(), id).await
    }

    pub(crate) async fn update_registered_limit(
        &self,
        ctx: &Context,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:update_registered_limit", &[])?;
        REREGISTER.check(body)?;
        let mut limit = REGISTERED_LIMIT.need(self.db.read(), id).await?;
        let before = limit.clone();
        limit.extend(body["registered_limit"].as_object().cloned().unwrap_or_default());
        self.check_place(&limit, "registered_limit").await?;
        let moved = ["service_id", "region_id", "resource_name"].iter().any(|n| limit[*n] != before[*n]);
        if moved {
            self.unused(&before).await?;
        }
        let mut change = self.begin_aside().await?;
        REGISTERED_LIMIT.update(change.conn(), &limit).await?;
        change.commit().await?;
        Ok(limit)
    }

    /// A registered limit that projects have limits of cannot go.
    async fn unused(&self, limit: &Record) -> Result<(), IdentityError> {
        match LIMIT.one(self.db.read(), &same_resource(limit)).await? {
            Some(_) => Err(IdentityError::Forbidden(format!(
                "Unable to update or delete registered limit {} because there are project limits associated with it.",
                limit.text("id")
            ))),
            None => Ok(()),
        }
    }

    pub(crate) async fn delete_registered_limit(&self, ctx: &Context, id: &str) -> Result<(), IdentityError> {
        self.enforce(ctx, "identity:delete_registered_limit", &[])?;
        let limit = REGISTERED_LIMIT.need(self.db.read(), id).await?;
        self.unused(&limit).await?;
        let mut change = self.begin_aside().await?;
        REGISTERED_LIMIT.delete(change.conn(), id).await?;
        change.commit().await
    }

    pub(crate) async fn create_limits(
        &self,
        ctx: &Context,
        body: &Value,
    ) -> Result<Vec<Record>, IdentityError> {
        self.enforce(ctx, "identity:create_limits", &[])?;
        CREATE.check(body)?;
        let mut items = items(body, "limits");
        for item in &mut items {
            for name in ["project_id", "domain_id"] {
                input::default(item, name, Value::Null);
            }
            self.check_place(item, "limit").await?;
            self.check_owner(item).await?;
            if REGISTERED_LIMIT.one(self.db.read(), &same_resource(item)).await?.is_none() {
                return Err(IdentityError::Forbidden(
                    "Unable to create a limit that has no corresponding registered limit.".into(),
                ));
            }
        }
        self.check_limits(&items).await?;
        let mut change = self.begin_aside().await?;
        for item in &items {
            LIMIT.insert(change.conn(), item).await?;
        }
        change.commit().await?;
        Ok(items)
    }

    /// The project or domain must exist. A project that is a domain has its limits as a domain.
    async fn check_owner(&self, item: &mut Record) -> Result<(), IdentityError> {
        let owner = |r: &Record, n: &str| r.opt_text(n).map(str::to_owned);
        match (owner(item, "project_id"), owner(item, "domain_id")) {
            (Some(id), None) => {
                let found = PROJECT.get(self.db.read(), &id).await?;
                if found.ok_or_else(|| expected("project_id", "limit"))?.flag("is_domain") {
                    item.insert("domain_id".into(), id.into());
                    item.insert("project_id".into(), Value::Null);
                }
                Ok(())
            }
            (None, Some(id)) => match self.need_domain(&id).await {
                Err(IdentityError::NotFound { .. }) => Err(expected("domain_id", "limit")),
                other => other.map(drop),
            },
            _ => Err(IdentityError::Invalid("A limit needs either a project_id or a domain_id.".into())),
        }
    }

    pub(crate) async fn list_limits(&self, ctx: &Context, query: &Query) -> Result<Found, IdentityError> {
        self.enforce(ctx, "identity:list_limits", &[])?;
        let mut must = Vec::new();
        let rule = "identity:get_limit";
        if !self.policy.allows(&ctx.caller, rule, &[]) {
            // Without more rights, one's own.
            match (ctx.project(), ctx.domain_id()) {
                (Some(p), _) => must.push(Cond::eq("project_id", p.id.as_str())),
                (_, Some(d)) => must.push(Cond::eq("domain_id", d)),
                _ => must.push(Cond::In("id", Vec::new())),
            }
        }
        let filters = &["service_id", "region_id", "resource_name", "project_id", "domain_id"];
        self.list(&LIMIT, filters, must, query).await
    }

    pub(crate) async fn show_limit(&self, ctx: &Context, id: &str) -> Result<Record, IdentityError> {
        let Some(limit) = LIMIT.get(self.db.read(), id).await? else {
            self.enforce(ctx, "identity:get_limit", &[])?;
            return Err(IdentityError::not_found("limit", id));
        };
        let project = match limit.opt_text("project_id") {
            Some(id) => PROJECT.get(self.db.read(), id).await?,
            None => None,
        };
        let mut about = Vec::new();
        if let Some(id) = limit.opt_text("domain_id") {
            about.push(("target.limit.domain.id", id));
        }
        if let Some(p) = &project {
            about.push(("target.limit.project_id", p.text("id")));
            about.push(("target.limit.project.domain_id", project_target(p)[1].1));
        }
        self.enforce(ctx, "identity:get_limit", &about)?;
        Ok(limit)
    }

    pub(crate) async fn update_limit(
        &self,
        ctx: &Context,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:update_limit", &[])?;
        UPDATE.check(body)?;
        let mut limit = LIMIT.need(self.db.read(), id).await?;
        limit.extend(body["limit"].as_object().cloned().unwrap_or_default());
        self.check_limits(std::slice::from_ref(&limit)).await?;
        let mut change = self.begin_aside().await?;
        LIMIT.update(change.conn(), &limit).await?;
        change.commit().await?;
        Ok(limit)
    }

    pub(crate) async fn delete_limit(&self, ctx: &Context, id: &str) -> Result<(), IdentityError> {
        self.enforce(ctx, "identity:delete_limit", &[])?;
        let mut change = self.begin_aside().await?;
        LIMIT.delete(change.conn(), id).await?;
        change.commit().await
    }
}

fn same_resource(limit: &Record) -> [Cond; 3] {
    [
        Cond::eq("service_id", limit.text("service_id")),
        Cond::eq("region_id", limit.text("region_id")),
        Cond::eq("resource_name", limit.text("resource_name")),
    ]
}
