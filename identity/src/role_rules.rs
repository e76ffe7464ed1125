//! Roles and what they imply, as the API changes them. (What follows from them is in [`crate::roles`].)

use crate::input::{self, Shape};
use crate::listing::Found;
use crate::store::assignments::{self, Forget};
use crate::store::record::Fields;
use crate::store::{Cond, ROLE, Record};
use crate::{Identity, IdentityError};
use api::{Context, Query};
use serde_json::{Value, json};
use state::Tx;
use std::sync::LazyLock;

static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let properties = json!({"name": input::name(255), "description": input::text(),
        "domain_id": input::maybe_id(), "options": input::immutable()});
    Shape::new("role", properties, &["name"])
});

/// The rule for a role, or for a domain's role.
fn rule(verb: &str, role: &Record) -> String {
    let kind = if role.opt_text("domain_id").is_some() { "domain_role" } else { "role" };
    format!("identity:{verb}_{kind}")
}

impl Identity {
    pub(crate) async fn role_for(
        &self,
        ctx: &Context,
        verb: &str,
        id: &str,
    ) -> Result<Record, IdentityError> {
        match ROLE.get(self.db.read(), id).await? {
            Some(role) => {
                let domain = role.opt_text("domain_id").unwrap_or("None");
                let about = [("target.role.domain_id", domain), ("target.role.name", role.text("name"))];
                self.enforce(ctx, &rule(verb, &role), &about)?;
                Ok(role)
            }
            None => {
                self.enforce(ctx, &format!("identity:{verb}_role"), &[])?;
                Err(IdentityError::not_found("role", id))
            }
        }
    }

    pub(crate) async fn create_role(&self, ctx: &Context, body: &Value) -> Result<Record, IdentityError> {
        let mut role = SHAPE.new_record(body)?;
        self.enforce(ctx, &rule("create", &role), &[])?;
        input::trim_name(&mut role);
        if let Some(domain) = role.opt_text("domain_id") {
            self.need_domain(domain).await?;
        }
        role.insert("id".into(), state::new_hex_id().into());
        for (name, value) in
            [("description", Value::Null), ("domain_id", Value::Null), ("options", json!({}))]
        {
            input::default(&mut role, name, value);
        }
        let mut change = self.begin().await?;
        ROLE.insert(change.conn(), &role).await?;
        change.commit().await?;
        Ok(role)
    }

    pub(crate) async fn list_roles(&self, ctx: &Context, query: &Query) -> Result<Found, IdentityError> {
        let must = match query.get("domain_id").filter(|d| !d.is_empty()) {
            Some(domain) => {
                self.enforce(ctx, "identity:list_domain_roles", &[("target.role.domain_id", domain)])?;
                Vec::new()
            }
            None => {
                self.enforce(ctx, "identity:list_roles", &[])?;
                vec![Cond::eq("domain_id", "")]
            }
        };
        self.list(&ROLE, &["name", "domain_id"], must, query).await
    }

    pub(crate) async fn update_role(
        &self,
        ctx: &Context,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        let mut role = self.role_for(ctx, "update", id).await?;
        let mut changes = SHAPE.changes(body, id)?;
        input::trim_name(&mut changes);
        if changes.get("domain_id").is_some_and(|d| *d != role["domain_id"]) {
            return Err(IdentityError::Invalid("Cannot change Domain ID".into()));
        }
        input::may_change("role", &role, &changes)?;
        input::merge_options(&mut role, &mut changes);
        role.extend(changes);
        let mut change = self.begin().await?;
        ROLE.update(change.conn(), &role).await?;
        change.commit().await?;
        Ok(role)
    }

    pub(crate) async fn delete_role(&self, ctx: &Context, id: &str) -> Result<(), IdentityError> {
        let role = self.role_for(ctx, "delete", id).await?;
        input::may_delete("role", &role)?;
        let mut change = self.begin().await?;
        forget_role(&mut change, id).await?;
        change.commit().await
    }

    /// Both roles of an inference rule.
    async fn inference(
        &self,
        ctx: &Context,
        rule: &str,
        prior: &str,
        implied: &str,
    ) -> Result<(Record, Record), IdentityError> {
        self.enforce(ctx, rule, &[])?;
        Ok((ROLE.need(self.db.read(), prior).await?, ROLE.need(self.db.read(), implied).await?))
    }

    pub(crate) async fn imply(
        &self,
        ctx: &Context,
        prior: &str,
        implied: &str,
    ) -> Result<(Record, Record), IdentityError> {
        let pair = self.inference(ctx, "identity:create_implied_role", prior, implied).await?;
        if pair.0.opt_text("domain_id").is_none() && pair.1.opt_text("domain_id").is_some() {
            return Err(IdentityError::Forbidden(
                "A global role cannot imply a domain-specific role.".into(),
            ));
        }
        let began = self.facts.now();
        if self.role_model(began).await?.closure([implied.to_owned()]).contains(prior) {
            return Err(IdentityError::Invalid("The implied role would imply itself.".into()));
        }
        // Upstream never lets a role imply the one that rules the cloud.
        if pair.1.text("name").eq_ignore_ascii_case("admin") {
            return Err(IdentityError::Forbidden(format!("Role {implied} cannot be an implied role.")));
        }
        let mut change = self.begin().await?;
        assignments::imply(change.conn(), prior, implied).await?;
        change.commit().await?;
        Ok(pair)
    }

    pub(crate) async fn check_implied(
        &self,
        ctx: &Context,
        rule: &str,
        prior: &str,
        implied: &str,
    ) -> Result<(Record, Record), IdentityError> {
        let pair = self.inference(ctx, rule, prior, implied).await?;
        let rules = assignments::implied(self.db.read()).await?;
        match rules.iter().any(|(p, i)| p == prior && i == implied) {
            true => Ok(pair),
            false => Err(IdentityError::Absent(format!("Role {prior} does not imply {implied}."))),
        }
    }

    pub(crate) async fn unimply(
        &self,
        ctx: &Context,
        prior: &str,
        implied: &str,
    ) -> Result<(), IdentityError> {
        self.inference(ctx, "identity:delete_implied_role", prior, implied).await?;
        let mut change = self.begin().await?;
        if !assignments::unimply(change.conn(), prior, implied).await? {
            return Err(IdentityError::Absent(format!("Role {prior} does not imply {implied}.")));
        }
        change.commit().await
    }

    /// A role and those it implies directly.
    pub(crate) async fn implied_by(
        &self,
        ctx: &Context,
        prior: &str,
    ) -> Result<(Record, Vec<Record>), IdentityError> {
        self.enforce(ctx, "identity:list_implied_roles", &[])?;
        let role = ROLE.need(self.db.read(), prior).await?;
        let began = self.facts.now();
        let ids = self.role_model(began).await?.implied_by(prior).to_vec();
        Ok((role, ROLE.find(self.db.read(), &[Cond::In("id", ids)], 0).await?))
    }

    /// Every role that implies others, with those.
    pub(crate) async fn inferences(
        &self,
        ctx: &Context,
    ) -> Result<Vec<(Record, Vec<Record>)>, IdentityError> {
        self.enforce(ctx, "identity:list_role_inference_rules", &[])?;
        let roles = ROLE.find(self.db.read(), &[], 0).await?;
        let rules = assignments::implied(self.db.read()).await?;
        let mut out = Vec::new();
        for prior in &roles {
            let implied: Vec<Record> = roles
                .iter()
                .filter(|r| rules.iter().any(|(p, i)| p == prior.text("id") && i == r.text("id")))
                .cloned()
                .collect();
            if !implied.is_empty() {
                out.push((prior.clone(), implied));
            }
        }
        Ok(out)
    }
}

pub(crate) async fn forget_role(tx: &mut Tx, id: &str) -> Result<(), IdentityError> {
    ROLE.delete(tx.conn(), id).await?;
    assignments::forget(tx.conn(), Forget::Role, id).await?;
    sqlx::query("DELETE FROM identity_implied_roles WHERE prior_id = $1 OR implied_id = $1")
        .bind(id.to_owned())
        .execute(tx.conn())
        .await?;
    Ok(())
}
