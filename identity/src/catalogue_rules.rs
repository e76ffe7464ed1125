//! Regions, services and endpoints, as the API changes them.

use crate::input::{self, Shape};
use crate::listing::Found;
use crate::store::policy_associations::{self, Gone};
use crate::store::record::Fields;
use crate::store::{Cond, ENDPOINT, REGION, Record, SERVICE};
use crate::{Identity, IdentityError};
use api::{Context, Query};
use serde_json::{Value, json};
use std::sync::LazyLock;

static REGION_SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let id = json!({"type": ["string", "null"], "maxLength": 255});
    let properties = json!({"id": id, "description": input::text(), "parent_region_id": id});
    Shape::new("region", properties, &[])
});
static SERVICE_SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let kind = json!({"type": "string", "minLength": 1, "maxLength": 255});
    let name = json!({"type": ["string", "null"], "maxLength": 255});
    let properties =
        json!({"type": kind, "name": name, "description": input::text(), "enabled": input::flag()});
    Shape::new("service", properties, &["type"])
});
static ENDPOINT_SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let properties = json!({"service_id": input::id(), "region_id": {"type": ["string", "null"]},
        "region": {"type": ["string", "null"]}, "enabled": input::flag(), "url": input::url(),
        "interface": {"type": "string", "enum": ["admin", "internal", "public"]}});
    Shape::new("endpoint", properties, &["interface", "service_id", "url"])
});

impl Identity {
    /// `id`: the one in the path of a PUT.
    pub(crate) async fn create_region(
        &self,
        ctx: &Context,
        id: Option<&str>,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:create_region", &[])?;
        let mut r = REGION_SHAPE.new_record(body)?;
        let own = body["region"]["id"].as_str().filter(|s| !s.is_empty());
        if id.is_some() && own.is_some() && id != own {
            return Err(IdentityError::Invalid(
                "Conflicting region IDs specified: the one in the URL differs from the one in the body."
                    .into(),
            ));
        }
        let id = id.or(own).map_or_else(state::new_hex_id, str::to_owned);
        r.insert("id".into(), id.into());
        if r.get("description").is_none_or(Value::is_null) {
            r.insert("description".into(), "".into());
        }
        input::default(&mut r, "parent_region_id", Value::Null);
        if let Some(parent) = r.opt_text("parent_region_id") {
            REGION.need(self.db.read(), parent).await?;
        }
        let mut change = self.begin().await?;
        REGION.insert(change.conn(), &r).await?;
        change.commit().await?;
        Ok(r)
    }

    pub(crate) async fn list_regions(&self, ctx: &Context, query: &Query) -> Result<Found, IdentityError> {
        self.enforce(ctx, "identity:list_regions", &[])?;
        self.list(&REGION, &["parent_region_id"], Vec::new(), query).await
    }

    pub(crate) async fn show_region(&self, ctx: &Context, id: &str) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:get_region", &[])?;
        REGION.need(self.db.read(), id).await
    }

    pub(crate) async fn update_region(
        &self,
        ctx: &Context,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:update_region", &[])?;
        let mut r = REGION.need(self.db.read(), id).await?;
        r.extend(REGION_SHAPE.changes(body, id)?);
        let mut next = r.opt_text("parent_region_id").map(str::to_owned);
        while let Some(parent) = next {
            if parent == id {
                return Err(IdentityError::Invalid("A region cannot be below itself.".into()));
            }
            next =
                REGION.need(self.db.read(), &parent).await?.opt_text("parent_region_id").map(str::to_owned);
        }
        let mut change = self.begin().await?;
        REGION.update(change.conn(), &r).await?;
        change.commit().await?;
        Ok(r)
    }

    pub(crate) async fn delete_region(&self, ctx: &Context, id: &str) -> Result<(), IdentityError> {
        self.enforce(ctx, "identity:delete_region", &[])?;
        let mut change = self.begin().await?;
        if ENDPOINT.one(change.conn(), &[Cond::eq("region_id", id)]).await?.is_some() {
            return Err(IdentityError::Forbidden(format!(
                "Unable to delete region {id} because it or its child regions have associated endpoints."
            )));
        }
        REGION.delete(change.conn(), id).await?;
        REGION.delete_where(change.conn(), &[Cond::eq("parent_region_id", id)]).await?;
        policy_associations::forget(change.conn(), Gone::Region, id).await?;
        change.commit().await
    }

    pub(crate) async fn create_service(&self, ctx: &Context, body: &Value) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:create_service", &[])?;
        let mut s = SERVICE_SHAPE.new_record(body)?;
        s.insert("id".into(), state::new_hex_id().into());
        input::default(&mut s, "enabled", true);
        input::default(&mut s, "name", "");
        let mut change = self.begin().await?;
        SERVICE.insert(change.conn(), &s).await?;
        change.commit().await?;
        Ok(s)
    }

    pub(crate) async fn list_services(&self, ctx: &Context, query: &Query) -> Result<Found, IdentityError> {
        self.enforce(ctx, "identity:list_services", &[])?;
        self.list(&SERVICE, &["type", "name"], Vec::new(), query).await
    }

    pub(crate) async fn show_service(&self, ctx: &Context, id: &str) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:get_service", &[])?;
        SERVICE.need(self.db.read(), id).await
    }

    pub(crate) async fn update_service(
        &self,
        ctx: &Context,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:update_service", &[])?;
        let mut s = SERVICE.need(self.db.read(), id).await?;
        s.extend(SERVICE_SHAPE.changes(body, id)?);
        let mut change = self.begin().await?;
        SERVICE.update(change.conn(), &s).await?;
        change.commit().await?;
        Ok(s)
    }

    pub(crate) async fn delete_service(&self, ctx: &Context, id: &str) -> Result<(), IdentityError> {
        self.enforce(ctx, "identity:delete_service", &[])?;
        let mut change = self.begin().await?;
        SERVICE.delete(change.conn(), id).await?;
        ENDPOINT.delete_where(change.conn(), &[Cond::eq("service_id", id)]).await?;
        policy_associations::forget(change.conn(), Gone::Service, id).await?;
        change.commit().await
    }

    pub(crate) async fn create_endpoint(&self, ctx: &Context, body: &Value) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:create_endpoint", &[])?;
        let mut e = ENDPOINT_SHAPE.new_record(body)?;
        e.insert("id".into(), state::new_hex_id().into());
        input::default(&mut e, "enabled", true);
        self.check_endpoint(&mut e).await?;
        let mut change = self.begin().await?;
        ENDPOINT.insert(change.conn(), &e).await?;
        change.commit().await?;
        Ok(e)
    }

    /// `region` is an old name for `region_id`. The service must exist; a region that does not is made by the old
    /// name only, as upstream has it.
    async fn check_endpoint(&self, e: &mut Record) -> Result<(), IdentityError> {
        if let Some(region) = e.remove("region")
            && e.get("region_id").is_none_or(Value::is_null)
        {
            if let Some(id) = region.as_str()
                && REGION.get(self.db.read(), id).await?.is_none()
            {
                let mut new = Record::new();
                new.insert("id".into(), id.into());
                new.insert("description".into(), "".into());
                let mut change = self.begin().await?;
                REGION.insert(change.conn(), &new).await?;
                change.commit().await?;
            }
            e.insert("region_id".into(), region);
        }
        input::default(e, "region_id", Value::Null);
        let invalid = |e: IdentityError| match e {
            IdentityError::NotFound { .. } => IdentityError::Invalid(e.to_string()),
            other => other,
        };
        SERVICE.need(self.db.read(), e.text("service_id")).await.map_err(invalid)?;
        if let Some(region) = e.opt_text("region_id") {
            REGION.need(self.db.read(), region).await.map_err(invalid)?;
        }
        Ok(())
    }

    pub(crate) async fn list_endpoints(&self, ctx: &Context, query: &Query) -> Result<Found, IdentityError> {
        self.enforce(ctx, "identity:list_endpoints", &[])?;
        self.list(&ENDPOINT, &["interface", "service_id", "region_id"], Vec::new(), query).await
    }

    pub(crate) async fn show_endpoint(&self, ctx: &Context, id: &str) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:get_endpoint", &[])?;
        ENDPOINT.need(self.db.read(), id).await
    }

    pub(crate) async fn update_endpoint(
        &self,
        ctx: &Context,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:update_endpoint", &[])?;
        let mut e = ENDPOINT.need(self.db.read(), id).await?;
        let changes = ENDPOINT_SHAPE.changes(body, id)?;
        if changes.contains_key("region") && !changes.contains_key("region_id") {
            e.remove("region_id");
        }
        e.extend(changes);
        self.check_endpoint(&mut e).await?;
        let mut change = self.begin().await?;
        ENDPOINT.update(change.conn(), &e).await?;
        change.commit().await?;
        Ok(e)
    }

    pub(crate) async fn delete_endpoint(&self, ctx: &Context, id: &str) -> Result<(), IdentityError> {
        self.enforce(ctx, "identity:delete_endpoint", &[])?;
        let mut change = self.begin().await?;
        ENDPOINT.delete(change.conn(), id).await?;
        policy_associations::forget(change.conn(), Gone::Endpoint, id).await?;
        sqlx::query("DELETE FROM identity_project_endpoints WHERE endpoint_id = $1")
            .bind(id.to_owned())
            .execute(change.conn())
            .await?;
        change.commit().await
    }
}

/// An endpoint as clients see it: the region under its old name too.
pub(crate) fn shown_endpoint(mut e: Record) -> Record {
    let region = e["region_id"].clone();
    e.insert("region".into(), region);
    e
}
