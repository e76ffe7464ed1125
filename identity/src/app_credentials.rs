//! Application credentials: a user's own logins for programs, bound to one project and some of its roles there.

use crate::auth::expected;
use crate::input;
use crate::listing::Found;
use crate::password::hash_drawn;
use crate::store::record::Fields;
use crate::store::{ACCESS_RULE, APP_CREDENTIAL, Cond, ROLE, Record, subjects};
use crate::subject::ids;
use crate::token::{Method, Target};
use crate::{Identity, IdentityError};
use api::schema::Schema;
use api::{Context, Query};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use state::Timestamp;
use std::sync::LazyLock;

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let rule = json!({"type": "object", "additionalProperties": false, "properties": {
        "id": {"type": "string"}, "path": {"type": "string", "minLength": 1, "maxLength": 225, "pattern": "^/"},
        "method": {"type": "string", "pattern": "^(POST|GET|HEAD|PATCH|PUT|DELETE)$"},
        "service": {"type": "string", "minLength": 1, "maxLength": 225}}});
    let role =
        json!({"type": "object", "properties": {"id": {"type": "string"}, "name": {"type": "string"}}});
    Schema::new(&json!({"type": "object", "required": ["application_credential"], "properties": {
        "application_credential": {"type": "object", "required": ["name"], "additionalProperties": false,
            "properties": {"name": input::name(255), "description": input::text(),
                "secret": {"type": ["string", "null"], "maxLength": 255}, "expires_at": {"type": ["string", "null"]},
                "roles": {"type": "array", "items": role}, "project_id": {"type": "string"},
                "unrestricted": {"type": ["boolean", "null"]},
                "access_rules": {"type": "array", "items": rule}}}}}))
});

impl Identity {
    /// What a limited token must not make more of.
    pub(crate) async fn unlimited_token(&self, ctx: &Context, what: &str) -> Result<(), IdentityError> {
        let token = self.validated(&ctx.token.0).await?;
        // Nor must what began with a key that signs requests.
        if token.claims.methods.contains(&Method::Ec2) {
            return Err(IdentityError::Forbidden(format!(
                "Using method 'ec2credential' is not allowed for managing {what}."
            )));
        }
        let restricted = token.subject.app_credential.as_ref();
        // What is limited to some requests must not make what is not.
        let restricted = restricted.is_some_and(|a| !a.unrestricted || a.access_rules.is_some());
        if restricted {
            return Err(IdentityError::Forbidden(format!(
                "Using method 'application_credential' is not allowed for managing {what}."
            )));
        }
        Ok(())
    }

    async fn own_token(&self, ctx: &Context) -> Result<(), IdentityError> {
        let token = self.validated(&ctx.token.0).await?;
        if matches!(token.claims.target, Target::Trust(_)) {
            return Err(IdentityError::Forbidden(
                "A trust-scoped token cannot manage application credentials.".into(),
            ));
        }
        Ok(())
    }

    /// The new credential and its secret, which is shown this once.
    pub(crate) async fn create_app_credential(
        &self,
        ctx: &Context,
        user: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:create_application_credential", &[("target.user.id", user)])?;
        SCHEMA.check(body).map_err(|e| match e.message().contains("field/attribute secret") {
            true => IdentityError::Invalid("Invalid input for field/attribute secret.".into()),
            false => e.into(),
        })?;
        self.unlimited_token(ctx, "additional application credentials").await?;
        self.own_token(ctx).await?;
        let asked = &body["application_credential"];
        let project = ctx.project().ok_or_else(|| {
            IdentityError::Invalid("An application credential needs a project-scoped token.".into())
        })?;
        let expires_at = expiry(&asked["expires_at"])?;
        let mut app = Record::new();
        app.insert("id".into(), state::new_hex_id().into());
        app.insert("user_id".into(), user.into());
        app.insert("project_id".into(), project.id.as_str().into());
        app.insert("name".into(), asked["name"].as_str().unwrap_or_default().trim().into());
        app.insert("description".into(), asked["description"].clone());
        app.insert("unrestricted".into(), asked["unrestricted"].as_bool().unwrap_or(false).into());
        app.insert("expires_at".into(), expires_at.map(Timestamp::micros).into());
        app.insert("roles".into(), json!(self.delegable(ctx, &asked["roles"]).await?));
        let (secret, hash) = match asked["secret"].as_str().filter(|s| !s.is_empty()) {
            Some(own) => (own.to_owned(), self.hasher.hash(own).await?),
            None => {
                let drawn = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 64]>());
                let hash = hash_drawn(&drawn);
                (drawn, hash)
            }
        };
        let mut change = self.begin().await?;
        let rules = match asked["access_rules"].as_array() {
            Some(rules) => Value::from(put_rules(&mut change, user, rules).await?),
            None => Value::Null,
        };
        app.insert("access_rules".into(), rules);
        APP_CREDENTIAL.insert(change.conn(), &app).await?;
        subjects::set_app_secret(change.conn(), app.text("id"), &hash).await?;
        change.commit().await?;
        let mut shown = self.app_credential_view(app).await?;
        shown.insert("secret".into(), secret.into());
        Ok(shown)
    }

    /// The ids of the roles asked for (all of the token's where none is): the caller must have them here.
    async fn delegable(&self, ctx: &Context, asked: &Value) -> Result<Vec<String>, IdentityError> {
        let asked = asked.as_array().cloned().unwrap_or_default();
        let lasting = self.lasting_roles(ctx).await?;
        if asked.is_empty() && !lasting.is_empty() {
            return Ok(lasting.into_iter().map(|r| r.id).collect());
        }
        if asked.is_empty() {
            return Err(IdentityError::Invalid(
                "Invalid application credential: the token's roles are not the user's own.".into(),
            ));
        }
        let mut out = Vec::new();
        for role in &asked {
            let held = match (role["id"].as_str(), role["name"].as_str()) {
                (Some(id), _) => lasting.iter().find(|r| r.id == id),
                (None, Some(name)) => lasting.iter().find(|r| r.name == name),
                (None, None) => return Err(expected("id or name", "role")),
            };
            let wanted = role["id"].as_str().or(role["name"].as_str()).unwrap_or_default();
            let held = held.ok_or_else(|| {
                IdentityError::Invalid(format!(
                    "Invalid application credential: Could not find role assignment with role: {wanted}, user or \
                     group: {}, project, domain, or system: {}.",
                    ctx.user.id,
                    ctx.project().map(|p| p.id.as_str()).unwrap_or_default()
                ))
            })?;
            out.push(held.id.clone());
        }
        out.sort();
        out.dedup();
        Ok(out)
    }

    async fn app_credential_for(
        &self,
        ctx: &Context,
        rule: &str,
        user: &str,
        id: &str,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, rule, &[("target.user.id", user)])?;
        let found = APP_CREDENTIAL.get(self.db.read(), id).await?;
        found
            .filter(|a| a.text("user_id") == user)
            .ok_or_else(|| IdentityError::not_found("application credential", id))
    }

    pub(crate) async fn show_app_credential(
        &self,
        ctx: &Context,
        user: &str,
        id: &str,
    ) -> Result<Record, IdentityError> {
        let app = self.app_credential_for(ctx, "identity:get_application_credential", user, id).await?;
        self.app_credential_view(app).await
    }

    pub(crate) async fn list_app_credentials(
        &self,
        ctx: &Context,
        user: &str,
        query: &Query,
    ) -> Result<Found, IdentityError> {
        let rule = "identity:list_application_credentials";
        self.enforce(ctx, rule, &[("target.user.id", user)])?;
        let must = vec![Cond::eq("user_id", user)];
        let mut found = self.list(&APP_CREDENTIAL, &["name"], must, query).await?;
        let mut out = Vec::new();
        for app in found.records {
            out.push(self.app_credential_view(app).await?);
        }
        found.records = out;
        Ok(found)
    }

    pub(crate) async fn delete_app_credential(
        &self,
        ctx: &Context,
        user: &str,
        id: &str,
    ) -> Result<(), IdentityError> {
        let rule = "identity:delete_application_credential";
        self.app_credential_for(ctx, rule, user, id).await?;
        self.unlimited_token(ctx, "additional application credentials").await?;
        self.own_token(ctx).await?;
        let mut change = self.begin().await?;
        APP_CREDENTIAL.delete(change.conn(), id).await?;
        change.commit().await
    }

    /// The access rules of a credential, or `None` where it may do everything its roles allow.
    pub(crate) async fn access_rules_of(&self, app: &Record) -> Result<Option<Vec<Record>>, IdentityError> {
        if app.get("access_rules").is_none_or(Value::is_null) {
            return Ok(None);
        }
        let ids = ids(app, "access_rules");
        let mut rules = ACCESS_RULE.find(self.db.read(), &[Cond::In("id", ids)], 0).await?;
        for rule in &mut rules {
            rule.remove("user_id");
        }
        Ok(Some(rules))
    }

    async fn app_credential_view(&self, mut app: Record) -> Result<Record, IdentityError> {
        let roles = ROLE.find(self.db.read(), &[Cond::In("id", ids(&app, "roles"))], 0).await?;
        let roles: Vec<Value> = roles
            .iter()
            .map(|r| json!({"id": r.text("id"), "name": r.text("name"), "domain_id": r["domain_id"]}))
            .collect();
        match self.access_rules_of(&app).await? {
            Some(rules) => drop(app.insert("access_rules".into(), json!(rules))),
            None => drop(app.remove("access_rules")),
        }
        app.insert("roles".into(), roles.into());
        let at = app.get("expires_at").and_then(Value::as_i64).map(|t| Timestamp(t).micros_naive());
        app.insert("expires_at".into(), at.into());
        // Upstream shows whose it is only to its owner's path; the user's id is in the link.
        app.remove("user_id");
        Ok(app)
    }

    pub(crate) async fn list_access_rules(
        &self,
        ctx: &Context,
        user: &str,
        query: &Query,
    ) -> Result<Found, IdentityError> {
        self.enforce(ctx, "identity:list_access_rules", &[("target.user.id", user)])?;
        let filters = &["service", "path", "method"];
        let mut found = self.list(&ACCESS_RULE, filters, vec![Cond::eq("user_id", user)], query).await?;
        for rule in &mut found.records {
            rule.remove("user_id");
        }
        Ok(found)
    }

    pub(crate) async fn access_rule_for(
        &self,
        ctx: &Context,
        rule: &str,
        user: &str,
        id: &str,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, rule, &[("target.user.id", user)])?;
        let found = ACCESS_RULE.get(self.db.read(), id).await?;
        let found = found.filter(|r| r.text("user_id") == user);
        let mut found = found.ok_or_else(|| IdentityError::not_found("access rule", id))?;
        found.remove("user_id");
        Ok(found)
    }

    pub(crate) async fn delete_access_rule(
        &self,
        ctx: &Context,
        user: &str,
        id: &str,
    ) -> Result<(), IdentityError> {
        self.access_rule_for(ctx, "identity:delete_access_rule", user, id).await?;
        let mut change = self.begin().await?;
        let own = [Cond::eq("user_id", user)];
        let used = APP_CREDENTIAL.find(change.conn(), &own, 0).await?;
        if used.iter().any(|a| ids(a, "access_rules").iter().any(|r| r == id)) {
            return Err(IdentityError::Forbidden(
                "This access rule is in use by an existing application credential and cannot be deleted."
                    .into(),
            ));
        }
        ACCESS_RULE.delete(change.conn(), id).await?;
        change.commit().await
    }
}

/// The ids of these rules; those that the user does not have yet are made.
async fn put_rules(tx: &mut state::Tx, user: &str, rules: &[Value]) -> Result<Vec<String>, IdentityError> {
    let mut out = Vec::new();
    for rule in rules {
        if let Some(id) = rule["id"].as_str() {
            let own = ACCESS_RULE.get(tx.conn(), id).await?.filter(|r| r.text("user_id") == user);
            out.push(own.ok_or_else(|| IdentityError::not_found("access rule", id))?.text("id").to_owned());
            continue;
        }
        let part = |name: &str| rule[name].as_str().ok_or_else(|| expected(name, "access_rules"));
        let (service, path, method) = (part("service")?, part("path")?, part("method")?);
        let same = [
            Cond::eq("user_id", user),
            Cond::eq("service", service),
            Cond::eq("path", path),
            Cond::eq("method", method),
        ];
        if let Some(known) = ACCESS_RULE.one(tx.conn(), &same).await? {
            out.push(known.text("id").to_owned());
            continue;
        }
        let mut record = Record::new();
        let id = state::new_hex_id();
        for (name, value) in
            [("id", id.as_str()), ("user_id", user), ("service", service), ("path", path), ("method", method)]
        {
            record.insert(name.into(), value.into());
        }
        ACCESS_RULE.insert(tx.conn(), &record).await?;
        out.push(id);
    }
    Ok(out)
}

/// A time in the future, or none.
pub(crate) fn expiry(value: &Value) -> Result<Option<Timestamp>, IdentityError> {
    let Some(text) = value.as_str() else { return Ok(None) };
    let at = Timestamp::parse(text).ok_or_else(|| {
        IdentityError::Invalid(format!("Invalid input for field/attribute expires_at. Value: {text}."))
    })?;
    if at <= Timestamp::now() {
        return Err(IdentityError::Invalid("The 'expires_at' must not be before now.".into()));
    }
    Ok(Some(at))
}
