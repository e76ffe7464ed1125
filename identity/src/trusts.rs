//! Trusts: a user (the trustor) lends another (the trustee) some of its roles in a project.

use crate::app_credentials::expiry;
use crate::auth::expected;
use crate::input;
use crate::store::record::Fields;
use crate::store::{Cond, PROJECT, ROLE, Record, TRUST, USER};
use crate::subject::{ids, until};
use crate::token::Target;
use crate::{Identity, IdentityError};
use api::schema::Schema;
use api::{Context, Query};
use serde_json::{Value, json};
use state::Timestamp;
use std::sync::LazyLock;

/// How often a trust may be passed on, at most.
const MAX_REDELEGATION: i64 = 3;

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let role =
        json!({"type": "object", "properties": {"id": {"type": "string"}, "name": {"type": "string"}}});
    Schema::new(&json!({"type": "object", "required": ["trust"], "properties": {"trust": {"type": "object",
        "required": ["trustee_user_id", "trustor_user_id", "impersonation"],
        "properties": {"trustor_user_id": input::id(), "trustee_user_id": input::id(),
            "impersonation": {"type": "boolean"}, "project_id": input::maybe_id(),
            "remaining_uses": {"type": ["integer", "null"], "minimum": 1},
            "expires_at": {"type": ["string", "null"]}, "allow_redelegation": {"type": ["boolean", "null"]},
            "redelegation_count": {"type": ["integer", "null"], "minimum": 0},
            "roles": {"type": "array", "items": role}}}}}))
});

fn target(t: &Record) -> [(&str, &str); 2] {
    [
        ("target.trust.trustor_user_id", t.text("trustor_user_id")),
        ("target.trust.trustee_user_id", t.text("trustee_user_id")),
    ]
}

impl Identity {
    pub(crate) async fn create_trust(&self, ctx: &Context, body: &Value) -> Result<Record, IdentityError> {
        SCHEMA.check(body)?;
        let asked = &body["trust"];
        let text = |name: &str| asked[name].as_str().unwrap_or_default();
        let about = [("target.trust.trustor_user_id", text("trustor_user_id"))];
        self.enforce(ctx, "identity:create_trust", &about)?;
        self.unlimited_token(ctx, "trusts").await?;
        USER.need(self.db.read(), text("trustee_user_id")).await?;
        let project = asked["project_id"].as_str();
        if let Some(id) = project {
            PROJECT.need(self.db.read(), id).await?;
        }
        let expires_at = expiry(&asked["expires_at"])?;
        let mut trust = Record::new();
        trust.insert("id".into(), state::new_hex_id().into());
        for name in ["trustor_user_id", "trustee_user_id", "impersonation", "project_id", "remaining_uses"] {
            trust.insert(name.into(), asked[name].clone());
        }
        trust.insert("expires_at".into(), expires_at.map(Timestamp::micros).into());
        trust.insert("roles".into(), json!(self.lent_roles(ctx, project, &asked["roles"]).await?));
        trust.insert("redelegated_trust_id".into(), Value::Null);
        trust.insert("deleted_at".into(), Value::Null);
        let passes_on = asked["allow_redelegation"].as_bool().unwrap_or(false);
        let count = asked["redelegation_count"].as_i64();
        if count.is_some_and(|c| c > MAX_REDELEGATION) {
            return Err(IdentityError::Forbidden(format!(
                "The redelegation depth must not exceed {MAX_REDELEGATION}."
            )));
        }
        if passes_on && !asked["remaining_uses"].is_null() {
            return Err(IdentityError::Invalid(
                "remaining_uses must not be set if redelegation is allowed".into(),
            ));
        }
        let count = if passes_on { count.unwrap_or(MAX_REDELEGATION) } else { 0 };
        trust.insert("redelegation_count".into(), count.into());
        self.redelegate(ctx, &mut trust).await?;
        let mut change = self.begin().await?;
        TRUST.insert(change.conn(), &trust).await?;
        change.commit().await?;
        self.trust_view(trust, true).await
    }

    /// The roles must be the caller's, in that project, and there must be some.
    async fn lent_roles(
        &self,
        ctx: &Context,
        project: Option<&str>,
        asked: &Value,
    ) -> Result<Vec<String>, IdentityError> {
        let asked = asked.as_array().cloned().unwrap_or_default();
        let Some(project) = project else {
            return match asked.is_empty() {
                true => Ok(Vec::new()),
                false => Err(IdentityError::Invalid("Roles can only be lent in a project.".into())),
            };
        };
        if asked.is_empty() {
            return Err(IdentityError::Forbidden("At least one role should be specified.".into()));
        }
        if ctx.project().is_none_or(|p| p.id != project) {
            return Err(IdentityError::Forbidden("The token is not for the trust's project.".into()));
        }
        let held = self.lasting_roles(ctx).await?;
        let mut out = Vec::new();
        for role in &asked {
            let id = match (role["id"].as_str(), role["name"].as_str()) {
                (Some(id), _) => ROLE.need(self.db.read(), id).await?.text("id").to_owned(),
                (None, Some(name)) => {
                    let named = [Cond::eq("name", name), Cond::eq("domain_id", "")];
                    let found = ROLE.one(self.db.read(), &named).await?;
                    found.ok_or_else(|| IdentityError::not_found("role", name))?.text("id").to_owned()
                }
                (None, None) => return Err(expected("id or name", "role")),
            };
            if !held.iter().any(|r| r.id == id) {
                return Err(IdentityError::Forbidden(format!(
                    "You are not authorized to lend the role {id}: you do not have it."
                )));
            }
            out.push(id);
        }
        out.sort();
        out.dedup();
        Ok(out)
    }

    /// A trust made with a trust's token is a part of that trust.
    async fn redelegate(&self, ctx: &Context, trust: &mut Record) -> Result<(), IdentityError> {
        let token = self.validated(&ctx.token.0).await?;
        let Target::Trust(id) = &token.claims.target else { return Ok(()) };
        let parent = self.living_trust(id).await?;
        let left = parent["redelegation_count"].as_i64().unwrap_or(0);
        if left < 1 {
            return Err(IdentityError::Forbidden("The trust may not be passed on.".into()));
        }
        if !parent.flag("impersonation") {
            return Err(IdentityError::Forbidden(
                "Impersonation is not allowed because redelegated trust does not specify impersonation."
                    .into(),
            ));
        }
        let mine = ids(&parent, "roles");
        let began = self.facts.now();
        let mine = self.role_model(began).await?.closure(mine);
        if ids(trust, "roles").iter().any(|r| !mine.contains(r)) {
            return Err(IdentityError::Forbidden("Some of the roles are not the trust's.".into()));
        }
        if until(trust) > until(&parent) {
            if trust.get("expires_at").is_some_and(|t| !t.is_null()) {
                return Err(IdentityError::Forbidden(
                    "Requested expiration time is more than the redelegated trust can provide.".into(),
                ));
            }
            trust.insert("expires_at".into(), parent["expires_at"].clone());
        }
        let count = trust["redelegation_count"].as_i64().unwrap_or(0);
        trust.insert("redelegation_count".into(), count.min(left - 1).into());
        trust.insert("redelegated_trust_id".into(), id.as_str().into());
        Ok(())
    }

    pub(crate) async fn list_trusts(
        &self,
        ctx: &Context,
        query: &Query,
    ) -> Result<Vec<Record>, IdentityError> {
        let (trustor, trustee) = (query.get("trustor_user_id"), query.get("trustee_user_id"));
        let mut must = vec![Cond::Null("deleted_at")];
        if trustor.is_none() && trustee.is_none() {
            self.enforce(ctx, "identity:list_trusts", &[])?;
        }
        if let Some(id) = trustor {
            self.enforce(ctx, "identity:list_trusts_for_trustor", &[("target.trust.trustor_user_id", id)])?;
            must.push(Cond::eq("trustor_user_id", id));
        }
        if let Some(id) = trustee {
            self.enforce(ctx, "identity:list_trusts_for_trustee", &[("target.trust.trustee_user_id", id)])?;
            must.push(Cond::eq("trustee_user_id", id));
        }
        let now = Timestamp::now();
        let mut out = Vec::new();
        for trust in TRUST.find(self.db.read(), &must, 0).await?.into_iter().filter(|t| now < until(t)) {
            out.push(self.trust_view(trust, false).await?);
        }
        Ok(out)
    }

    pub(crate) async fn trust_for(
        &self,
        ctx: &Context,
        rule: &str,
        id: &str,
    ) -> Result<Record, IdentityError> {
        let found = TRUST.get(self.db.read(), id).await?;
        let found = found.filter(|t| t["deleted_at"].is_null() && Timestamp::now() < until(t));
        match found {
            Some(t) => {
                self.enforce(ctx, rule, &target(&t))?;
                Ok(t)
            }
            None => Err(IdentityError::not_found("trust", id)),
        }
    }

    pub(crate) async fn show_trust(&self, ctx: &Context, id: &str) -> Result<Record, IdentityError> {
        let trust = self.trust_for(ctx, "identity:get_trust", id).await?;
        self.trust_view(trust, true).await
    }

    pub(crate) async fn delete_trust(&self, ctx: &Context, id: &str) -> Result<(), IdentityError> {
        let mut trust = self.trust_for(ctx, "identity:delete_trust", id).await?;
        trust.insert("deleted_at".into(), Timestamp::now().micros().into());
        let mut change = self.begin().await?;
        TRUST.update(change.conn(), &trust).await?;
        change.commit().await
    }

    pub(crate) async fn roles_of_trust(
        &self,
        ctx: &Context,
        rule: &str,
        id: &str,
    ) -> Result<Vec<Record>, IdentityError> {
        let trust = self.trust_for(ctx, rule, id).await?;
        ROLE.find(self.db.read(), &[Cond::In("id", ids(&trust, "roles"))], 0).await
    }

    /// Counts one use of a trust that has a limit; 403 where none is left.
    pub(crate) async fn use_trust(&self, id: &str) -> Result<(), IdentityError> {
        let limited = TRUST.get(self.db.read(), id).await?;
        if limited.is_none_or(|t| t["remaining_uses"].is_null()) {
            return Ok(());
        }
        let mut change = self.begin().await?;
        let done = sqlx::query(
            "UPDATE identity_trusts SET remaining_uses = remaining_uses - 1 WHERE id = $1 AND remaining_uses > 0",
        )
        .bind(id.to_owned())
        .execute(change.conn())
        .await?;
        if done.rows_affected() == 0 {
            return Err(IdentityError::Forbidden(format!("No remaining uses for trust: {id}.")));
        }
        change.commit().await
    }

    async fn trust_view(&self, mut trust: Record, whole: bool) -> Result<Record, IdentityError> {
        let roles = ROLE.find(self.db.read(), &[Cond::In("id", ids(&trust, "roles"))], 0).await?;
        match whole {
            true => {
                let links = |r: &Record| json!({"self": self.links.to(&format!("/identity/v3/roles/{}", r.text("id")))});
                let roles: Vec<Value> = roles
                    .into_iter()
                    .map(|mut r| {
                        r.insert("links".into(), links(&r));
                        r.into()
                    })
                    .collect();
                trust.insert("roles".into(), roles.into());
                let own = format!("/identity/v3/OS-TRUST/trusts/{}/roles", trust.text("id"));
                let links = json!({"self": self.links.to(&own), "next": null, "previous": null});
                trust.insert("roles_links".into(), links);
            }
            false => drop(trust.remove("roles")),
        }
        let at = trust.get("expires_at").and_then(Value::as_i64).map(|t| Timestamp(t).micros_z());
        trust.insert("expires_at".into(), at.into());
        Ok(trust)
    }
}
