//! Users and their passwords.

use crate::federation::{set_ties, take_ties, ties_schema};
use crate::input::{self, Shape};
use crate::listing::Found;
use crate::logins::By;
use crate::password::MAX_LEN;
use crate::projects::home_domain;
use crate::store::assignments::{self, Forget};
use crate::store::directory::Entity;
use crate::store::federation::Tie;
use crate::store::passwords::{self, Mark, NewPassword};
use crate::store::record::Fields;
use crate::store::subjects::{self, Holder};
use crate::store::{ACCESS_RULE, APP_CREDENTIAL, CREDENTIAL, Cond, PROJECT, Record, TRUST, USER};
use crate::{Identity, IdentityError};
use api::{Context, Query, Secret};
use serde_json::{Value, json};
use state::{Timestamp, Tx};
use std::sync::LazyLock;

static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let options = json!({"type": "object", "properties": {
        "ignore_change_password_upon_first_use": {"type": ["boolean", "null"]},
        "ignore_password_expiry": {"type": ["boolean", "null"]},
        "ignore_lockout_failure_attempts": {"type": ["boolean", "null"]},
        "lock_password": {"type": ["boolean", "null"]},
        "ignore_user_inactivity": {"type": ["boolean", "null"]},
        "multi_factor_auth_enabled": {"type": ["boolean", "null"]},
        "multi_factor_auth_rules": {"type": ["array", "null"], "uniqueItems": true, "items": {
            "type": "array", "minItems": 1, "uniqueItems": true, "items": {"type": "string"}}}}, "additionalProperties": false});
    let properties = json!({"name": input::name(255), "description": input::text(), "enabled": input::flag(),
        "domain_id": input::maybe_id(), "default_project_id": input::maybe_id(), "options": options,
        "password": {"type": ["string", "null"], "maxLength": MAX_LEN}, "federated": ties_schema()});
    Shape::new("user", properties, &["name"])
});

const FILTERS: &[&str] = &["domain_id", "enabled", "name", "default_project_id"];

pub(crate) fn target(u: &Record) -> [(&str, &str); 2] {
    [("target.user.id", u.text("id")), ("target.user.domain_id", u.text("domain_id"))]
}

impl Identity {
    /// The user if the caller may do this with it.
    pub(crate) async fn user_for(
        &self,
        ctx: &Context,
        rule: &str,
        id: &str,
    ) -> Result<Record, IdentityError> {
        self.refresh_user(id).await?;
        match USER.get(self.db.read(), id).await? {
            Some(u) => {
                self.enforce(ctx, rule, &target(&u))?;
                Ok(u)
            }
            None => {
                self.enforce(ctx, rule, &[("target.user.id", id)])?;
                Err(IdentityError::not_found("user", id))
            }
        }
    }

    pub(crate) async fn create_user(&self, ctx: &Context, body: &Value) -> Result<Record, IdentityError> {
        let mut u = read(|| SHAPE.new_record(body))?;
        input::trim_name(&mut u);
        if u.opt_text("domain_id").is_none() {
            u.insert("domain_id".into(), home_domain(ctx).into());
        }
        self.enforce(ctx, "identity:create_user", &[("target.user.domain_id", u.text("domain_id"))])?;
        self.need_writable(u.text("domain_id")).await?;
        let password = take_password(&mut u);
        if let Some(p) = &password {
            self.compliance.check_strength(&p.0)?;
        }
        self.insert_user(u, password).await
    }

    pub(crate) async fn insert_user(
        &self,
        mut u: Record,
        password: Option<Secret>,
    ) -> Result<Record, IdentityError> {
        self.need_domain(u.text("domain_id")).await?;
        self.check_default_project(&u).await?;
        let ties = take_ties(&mut u).unwrap_or_default();
        self.check_ties(&ties).await?;
        u.insert("id".into(), state::new_hex_id().into());
        input::default(&mut u, "enabled", true);
        let mut options = json!({"options": u.remove("options").unwrap_or_else(|| json!({}))});
        u.insert("options".into(), json!({}));
        if let Some(options) = options.as_object_mut() {
            input::merge_options(&mut u, options);
        }
        let now = Timestamp::now();
        let new = match &password {
            Some(p) => Some(self.new_password(p, &u["options"], By::Administrator).await?),
            None => None,
        };
        let expires_at = new.as_ref().and_then(|n| n.expires_at);
        u.insert("password_expires_at".into(), expires_at.map(Timestamp::micros).into());
        // A new user has no tokens, and nothing of it is remembered.
        let mut change = self.begin_aside().await?;
        USER.insert(change.conn(), &u).await?;
        passwords::mark(change.conn(), u.text("id"), Mark::Created, now).await?;
        if let Some(new) = &new {
            passwords::set(&mut change, u.text("id"), new, now, 0).await?;
        }
        set_ties(&mut change, u.text("id"), &ties).await?;
        change.commit().await?;
        self.add_federated(&mut u).await?;
        Ok(u)
    }

    async fn check_default_project(&self, u: &Record) -> Result<(), IdentityError> {
        let Some(id) = u.opt_text("default_project_id") else { return Ok(()) };
        match PROJECT.get(self.db.read(), id).await? {
            Some(p) if p.flag("is_domain") => {
                Err(IdentityError::Invalid(format!("User's default project ID cannot be a domain ID: {id}")))
            }
            _ => Ok(()),
        }
    }

    pub(crate) async fn show_user(&self, ctx: &Context, id: &str) -> Result<Record, IdentityError> {
        let found = self.user_for(ctx, "identity:get_user", id).await?;
        let mut found = self.with_activity(vec![found]).await?.remove(0);
        self.add_federated(&mut found).await?;
        Ok(found)
    }

    pub(crate) async fn list_users(&self, ctx: &Context, query: &Query) -> Result<Found, IdentityError> {
        let domain = ctx.domain_id().or(query.get("domain_id")).unwrap_or_default();
        self.enforce(ctx, "identity:list_users", &[("target.domain_id", domain)])?;
        let mut must = Vec::new();
        if let Some(own) = ctx.domain_id().filter(|_| !ctx.is_admin()) {
            must.push(Cond::eq("domain_id", own));
        }
        must.extend(expiry_filter(query)?);
        let names = ["idp_id", "protocol_id", "unique_id"].map(|name| query.get(name).map(str::to_owned));
        if names.iter().any(Option::is_some) {
            let [idp, protocol, unique] = names;
            must.push(Cond::Federated { idp, protocol, unique });
        }
        let domain = listed_domain(ctx, query);
        self.read_users_of(domain, query).await?;
        self.list_up_to(self.list_limit_of(domain).await?, &USER, FILTERS, must, query).await
    }

    pub(crate) async fn update_user(
        &self,
        ctx: &Context,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        let u = self.user_for(ctx, "identity:update_user", id).await?;
        self.need_own(Entity::User, id).await?;
        let mut changes = read(|| SHAPE.changes(body, id))?;
        input::trim_name(&mut changes);
        if changes.get("domain_id").is_some_and(|d| *d != u["domain_id"]) {
            return Err(IdentityError::Invalid("Cannot change Domain ID".into()));
        }
        let password = take_password(&mut changes);
        let ties = take_ties(&mut changes);
        self.check_ties(ties.as_deref().unwrap_or_default()).await?;
        for name in ["original_password", "password_expires_at"] {
            changes.remove(name);
        }
        if let Some(p) = &password {
            self.compliance.check_strength(&p.0)?;
        }
        let mut after = u.clone();
        input::merge_options(&mut after, &mut changes);
        after.extend(changes.clone());
        self.check_default_project(&after).await?;
        let new = match &password {
            Some(p) => Some(self.new_password(p, &after["options"], By::Administrator).await?),
            None => None,
        };
        let mut written = self.write_user(after, changes, new, ties.as_deref()).await?;
        self.add_federated(&mut written).await?;
        Ok(written)
    }

    async fn write_user(
        &self,
        mut u: Record,
        changes: Record,
        new: Option<NewPassword>,
        ties: Option<&[Tie]>,
    ) -> Result<Record, IdentityError> {
        let id = u.text("id").to_owned();
        let now = Timestamp::now();
        let mut change = self.begin().await?;
        change.lock(&format!("user:{id}")).await?;
        let before = USER.need(change.conn(), &id).await?;
        // The user may have changed its password since it was read.
        u.insert("password_expires_at".into(), before["password_expires_at"].clone());
        USER.update(change.conn(), &u).await?;
        if let Some(ties) = ties {
            set_ties(&mut change, &id, ties).await?;
        }
        if let Some(new) = &new {
            u.insert("password_expires_at".into(), new.expires_at.map(Timestamp::micros).into());
            passwords::set(&mut change, &id, new, now, self.former_passwords()).await?;
        }
        if u.flag("enabled") {
            passwords::mark(change.conn(), &id, Mark::Forgiven, now).await?;
            if changes.contains_key("enabled") {
                passwords::mark(change.conn(), &id, Mark::Active, now).await?;
            }
        }
        if new.is_some() || before.flag("enabled") && !u.flag("enabled") {
            subjects::refuse_tokens(change.conn(), Holder::User, &id, now).await?;
        }
        change.commit().await?;
        Ok(u)
    }

    pub(crate) async fn delete_user(&self, ctx: &Context, id: &str) -> Result<(), IdentityError> {
        self.user_for(ctx, "identity:delete_user", id).await?;
        self.need_own(Entity::User, id).await?;
        let mut change = self.begin().await?;
        forget_user(&mut change, id).await?;
        change.commit().await
    }

    /// The projects in which a user has a role, directly, through its groups and these, or inherited.
    pub(crate) async fn projects_of(
        &self,
        user: &str,
        groups: &[String],
    ) -> Result<Vec<Record>, IdentityError> {
        let mut actors = assignments::groups_of(self.db.read(), user).await?;
        actors.push(user.to_owned());
        actors.extend_from_slice(groups);
        let filter = assignments::GrantFilter { actors: Some(actors), ..Default::default() };
        let grants = assignments::find(self.db.read(), &filter).await?;
        let mut found: Vec<Record> = Vec::new();
        let direct: Vec<String> =
            grants.iter().filter(|g| !g.inherited).map(|g| g.target_id.clone()).collect();
        found.extend(PROJECT.find_among(self.db.read(), "id", &direct).await?);
        for g in grants.iter().filter(|g| g.inherited) {
            found.extend(self.subtree(&g.target_id).await?);
        }
        found.retain(|p| !p.flag("is_domain"));
        found.sort_by(|a, b| a.text("id").cmp(b.text("id")));
        found.dedup_by(|a, b| a.text("id") == b.text("id"));
        Ok(found)
    }

    /// The domains in which a user has a role of its own.
    pub(crate) async fn domains_of(
        &self,
        user: &str,
        groups: &[String],
    ) -> Result<Vec<Record>, IdentityError> {
        let mut actors = assignments::groups_of(self.db.read(), user).await?;
        actors.push(user.to_owned());
        actors.extend_from_slice(groups);
        let filter =
            assignments::GrantFilter { actors: Some(actors), inherited: Some(false), ..Default::default() };
        let grants = assignments::find(self.db.read(), &filter).await?;
        let ids: Vec<String> = grants.into_iter().map(|g| g.target_id).collect();
        let mut found = PROJECT.find_among(self.db.read(), "id", &ids).await?;
        found.retain(|p| p.flag("is_domain"));
        found.dedup();
        Ok(found)
    }
}

/// The domain whose users or groups a list is asked of, where it is one.
pub(crate) fn listed_domain<'a>(ctx: &'a Context, query: &'a Query) -> Option<&'a str> {
    match ctx.domain_id().filter(|_| !ctx.is_admin()) {
        Some(own) => Some(own),
        None => query.get("domain_id").or(ctx.domain_id()),
    }
}

/// A schema's refusal may quote the password that was sent: it does not leave this module.
fn read(body: impl FnOnce() -> Result<Record, IdentityError>) -> Result<Record, IdentityError> {
    body().map_err(|e| match e {
        IdentityError::Api(e) if e.message().contains("field/attribute password") => {
            IdentityError::Invalid("Invalid input for field/attribute password.".into())
        }
        other => other,
    })
}

fn take_password(u: &mut Record) -> Option<Secret> {
    match u.remove("password") {
        Some(Value::String(p)) => Some(Secret(p)),
        _ => None,
    }
}

/// A user goes, and with it whatever named it.
pub(crate) async fn forget_user(tx: &mut Tx, id: &str) -> Result<(), IdentityError> {
    USER.delete(tx.conn(), id).await?;
    crate::federation::forget_user(tx, id).await?;
    passwords::forget(tx.conn(), id).await?;
    assignments::forget(tx.conn(), Forget::Actor, id).await?;
    for kind in [&CREDENTIAL, &APP_CREDENTIAL, &ACCESS_RULE] {
        kind.delete_where(tx.conn(), &[Cond::eq("user_id", id)]).await?;
    }
    for party in ["trustor_user_id", "trustee_user_id"] {
        TRUST.delete_where(tx.conn(), &[Cond::eq(party, id)]).await?;
    }
    sqlx::query("DELETE FROM identity_members WHERE user_id = $1")
        .bind(id.to_owned())
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// `password_expires_at=lt:2026-11-21T00:00:00Z`, which may be repeated.
pub(crate) fn expiry_filter(query: &Query) -> Result<Vec<Cond>, IdentityError> {
    let cond = |asked: &str| {
        let (operator, time) = asked.split_once(':')?;
        let operator = match operator {
            "lt" => "<",
            "lte" => "<=",
            "gt" => ">",
            "gte" => ">=",
            "eq" => "=",
            "neq" => "<>",
            _ => return None,
        };
        Some(Cond::Int("password_expires_at", operator, Timestamp::parse(time)?.micros()))
    };
    let wrong = |asked: &str| {
        IdentityError::Invalid(format!(
            "Invalid input for password_expires_at: {}. Expected one of lt, lte, gt, gte, eq and neq, a colon and a \
             time such as 2016-11-06T15:32:17Z.",
            asked.chars().take(100).collect::<String>()
        ))
    };
    query.all("password_expires_at").map(|asked| cond(asked).ok_or_else(|| wrong(asked))).collect()
}

/// A user as clients see it.
pub(crate) fn shown(mut u: Record) -> Record {
    if u.get("default_project_id").is_some_and(Value::is_null) {
        u.remove("default_project_id");
    }
    if let Some(at) = u.get("password_expires_at").and_then(Value::as_i64) {
        u.insert("password_expires_at".into(), Timestamp(at).micros_naive().into());
    }
    u
}
