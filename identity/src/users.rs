//! Users and their passwords.

use crate::input::{self, Shape};
use crate::listing::Found;
use crate::password::MAX_LEN;
use crate::projects::home_domain;
use crate::store::assignments::{self, Forget};
use crate::store::record::Fields;
use crate::store::subjects::{self, Holder};
use crate::store::{ACCESS_RULE, APP_CREDENTIAL, CREDENTIAL, Cond, PROJECT, Record, TRUST, USER};
use crate::{Identity, IdentityError};
use api::schema::Schema;
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
        "multi_factor_auth_rules": {"type": ["array", "null"], "items": {"type": "array",
            "items": {"type": "string"}}}}, "additionalProperties": false});
    let properties = json!({"name": input::name(255), "description": input::text(), "enabled": input::flag(),
        "domain_id": input::maybe_id(), "default_project_id": input::maybe_id(), "options": options,
        "password": {"type": ["string", "null"], "maxLength": MAX_LEN}});
    Shape::new("user", properties, &["name"])
});

static PASSWORD: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(&json!({"type": "object", "required": ["user"], "properties": {"user": {"type": "object",
        "required": ["original_password", "password"], "properties": {
            "original_password": {"type": "string"}, "password": {"type": "string"}}}}}))
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
        let password = take_password(&mut u);
        self.insert_user(u, password).await
    }

    pub(crate) async fn insert_user(
        &self,
        mut u: Record,
        password: Option<Secret>,
    ) -> Result<Record, IdentityError> {
        self.need_domain(u.text("domain_id")).await?;
        self.check_default_project(&u).await?;
        u.insert("id".into(), state::new_hex_id().into());
        input::default(&mut u, "enabled", true);
        let mut options = json!({"options": u.remove("options").unwrap_or_else(|| json!({}))});
        u.insert("options".into(), json!({}));
        if let Some(options) = options.as_object_mut() {
            input::merge_options(&mut u, options);
        }
        u.insert("password_expires_at".into(), Value::Null);
        let hash = match &password {
            Some(p) => Some(self.hasher.hash(&p.0).await?),
            None => None,
        };
        let mut change = self.begin().await?;
        USER.insert(change.conn(), &u).await?;
        if let Some(hash) = hash {
            // A new user has no tokens to refuse.
            subjects::set_password(change.conn(), u.text("id"), &hash, Timestamp(0)).await?;
        }
        change.commit().await?;
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

    pub(crate) async fn list_users(&self, ctx: &Context, query: &Query) -> Result<Found, IdentityError> {
        let domain = ctx.domain_id().or(query.get("domain_id")).unwrap_or_default();
        self.enforce(ctx, "identity:list_users", &[("target.domain_id", domain)])?;
        let mut must = Vec::new();
        if let Some(own) = ctx.domain_id().filter(|_| !ctx.is_admin()) {
            must.push(Cond::eq("domain_id", own));
        }
        self.list(&USER, FILTERS, must, query).await
    }

    pub(crate) async fn update_user(
        &self,
        ctx: &Context,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        let mut u = self.user_for(ctx, "identity:update_user", id).await?;
        let mut changes = read(|| SHAPE.changes(body, id))?;
        input::trim_name(&mut changes);
        if changes.get("domain_id").is_some_and(|d| *d != u["domain_id"]) {
            return Err(IdentityError::Invalid("Cannot change Domain ID".into()));
        }
        let password = take_password(&mut changes);
        changes.remove("original_password");
        input::merge_options(&mut u, &mut changes);
        let stops = u.flag("enabled") && changes.get("enabled") == Some(&Value::Bool(false));
        changes.remove("password_expires_at");
        u.extend(changes);
        self.check_default_project(&u).await?;
        let hash = match &password {
            Some(p) => Some(self.hasher.hash(&p.0).await?),
            None => None,
        };
        let now = Timestamp::now();
        let mut change = self.begin().await?;
        USER.update(change.conn(), &u).await?;
        if let Some(hash) = hash {
            subjects::set_password(change.conn(), id, &hash, now).await?;
        }
        if stops {
            subjects::refuse_tokens(change.conn(), Holder::User, id, now).await?;
        }
        change.commit().await?;
        Ok(u)
    }

    /// A user changes its own password, proving itself by the old one instead of a token.
    pub(crate) async fn change_password(&self, id: &str, body: &Value) -> Result<(), IdentityError> {
        PASSWORD.check(body).map_err(|_| {
            IdentityError::Invalid("Expecting to find original_password and password in user.".into())
        })?;
        let (old, new) = (&body["user"]["original_password"], &body["user"]["password"]);
        let (old, new) = (old.as_str().unwrap_or_default(), new.as_str().unwrap_or_default());
        if old.len() > MAX_LEN || new.len() > MAX_LEN || new.is_empty() {
            return Err(IdentityError::Invalid("The password is empty or too long.".into()));
        }
        let user = subjects::user_by_id(self.db.read(), id).await?;
        let hash = user.as_ref().and_then(|u| u.password_hash.as_ref());
        let right = self.hasher.verify(old, hash).await?;
        if !user.is_some_and(|u| right && u.enabled) {
            return Err(IdentityError::Unauthenticated("wrong original password"));
        }
        if old == new {
            return Err(IdentityError::Invalid(
                "The new password must not be the same as the original one.".into(),
            ));
        }
        let locked = USER.get(self.db.read(), id).await?;
        if locked.is_some_and(|u| u["options"]["lock_password"] == Value::Bool(true)) {
            return Err(IdentityError::Invalid("The password of this user is locked.".into()));
        }
        let hash = self.hasher.hash(new).await?;
        let mut change = self.begin().await?;
        subjects::set_password(change.conn(), id, &hash, Timestamp::now()).await?;
        change.commit().await
    }

    pub(crate) async fn delete_user(&self, ctx: &Context, id: &str) -> Result<(), IdentityError> {
        self.user_for(ctx, "identity:delete_user", id).await?;
        let mut change = self.begin().await?;
        forget_user(&mut change, id).await?;
        change.commit().await
    }

    /// The projects in which a user has a role, directly, through a group or inherited.
    pub(crate) async fn projects_of(&self, user: &str) -> Result<Vec<Record>, IdentityError> {
        let mut actors = assignments::groups_of(self.db.read(), user).await?;
        actors.push(user.to_owned());
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
    pub(crate) async fn domains_of(&self, user: &str) -> Result<Vec<Record>, IdentityError> {
        let mut actors = assignments::groups_of(self.db.read(), user).await?;
        actors.push(user.to_owned());
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
