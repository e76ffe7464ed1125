//! What identity only keeps for others: policy documents, OAuth consumers and the options of domains.

use crate::bootstrap::DEFAULT_DOMAIN;
use crate::input::{self, Shape};
use crate::listing::Found;
use crate::store::{CONSUMER, Kind, POLICY, Record};
use crate::{Identity, IdentityError};
use api::{Context, Query};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

static POLICY_SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let properties =
        json!({"type": {"type": "string", "minLength": 1, "maxLength": 255}, "blob": {"type": "string"}});
    Shape::new("policy", properties, &["type", "blob"])
});
static CONSUMER_SHAPE: LazyLock<Shape> =
    LazyLock::new(|| Shape::new("consumer", json!({"description": input::text()}), &[]));

/// The group of domain options that hold for the whole cloud.
const COMPLIANCE: &str = "security_compliance";

/// The kinds of documents, each with its rules.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Document {
    Policy,
    Consumer,
}

impl Document {
    fn kind(self) -> &'static Kind {
        match self {
            Document::Policy => &POLICY,
            Document::Consumer => &CONSUMER,
        }
    }

    fn shape(self) -> &'static Shape {
        match self {
            Document::Policy => &POLICY_SHAPE,
            Document::Consumer => &CONSUMER_SHAPE,
        }
    }

    fn rule(self, verb: &str) -> String {
        match (self, verb) {
            (Document::Policy, "list") => "identity:list_policies".into(),
            (Document::Policy, verb) => format!("identity:{verb}_policy"),
            (Document::Consumer, "list") => "identity:list_consumers".into(),
            (Document::Consumer, verb) => format!("identity:{verb}_consumer"),
        }
    }
}

/// A consumer's secret is shown once, when it is made.
fn shown(mut record: Record) -> Record {
    record.remove("secret");
    record
}

impl Identity {
    pub(crate) async fn create_document(
        &self,
        ctx: &Context,
        what: Document,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, &what.rule("create"), &[])?;
        let mut record = what.shape().new_record(body)?;
        record.insert("id".into(), state::new_hex_id().into());
        if let Document::Consumer = what {
            record.insert("secret".into(), state::new_hex_id().into());
            input::default(&mut record, "description", Value::Null);
        }
        let mut change = self.begin_aside().await?;
        what.kind().insert(change.conn(), &record).await?;
        change.commit().await?;
        Ok(record)
    }

    pub(crate) async fn list_documents(
        &self,
        ctx: &Context,
        what: Document,
        query: &Query,
    ) -> Result<Found, IdentityError> {
        self.enforce(ctx, &what.rule("list"), &[])?;
        let mut found = self.list(what.kind(), &["type"], Vec::new(), query).await?;
        found.records = found.records.into_iter().map(shown).collect();
        Ok(found)
    }

    pub(crate) async fn show_document(
        &self,
        ctx: &Context,
        what: Document,
        id: &str,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, &what.rule("get"), &[])?;
        Ok(shown(what.kind().need(self.db.read(), id).await?))
    }

    pub(crate) async fn update_document(
        &self,
        ctx: &Context,
        what: Document,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, &what.rule("update"), &[])?;
        let mut record = what.kind().need(self.db.read(), id).await?;
        let changes = what.shape().changes(body, id)?;
        if changes.contains_key("secret") {
            return Err(IdentityError::Invalid("Cannot change consumer secret".into()));
        }
        record.extend(changes);
        let mut change = self.begin_aside().await?;
        what.kind().update(change.conn(), &record).await?;
        change.commit().await?;
        Ok(shown(record))
    }

    pub(crate) async fn delete_document(
        &self,
        ctx: &Context,
        what: Document,
        id: &str,
    ) -> Result<(), IdentityError> {
        self.enforce(ctx, &what.rule("delete"), &[])?;
        let mut change = self.begin_aside().await?;
        what.kind().delete(change.conn(), id).await?;
        change.commit().await
    }

    /// A domain's options as `{group: {option: value}}`, narrowed to what the path names; 404 where that is not set.
    pub(crate) async fn domain_config(
        &self,
        ctx: &Context,
        domain: &str,
        group: Option<&str>,
        option: Option<&str>,
    ) -> Result<Value, IdentityError> {
        self.enforce(ctx, "identity:get_domain_config", &[])?;
        self.need_domain(domain).await?;
        let all = self.domain_options(domain).await?;
        narrow(&all, group, option).ok_or_else(|| {
            IdentityError::Absent(format!("Could not find domain configuration for domain {domain}."))
        })
    }

    /// What a request for a part of a domain's options sees. How passwords must be is the same in every domain and for
    /// everybody to read.
    pub(crate) async fn domain_config_part(
        &self,
        ctx: &Context,
        domain: &str,
        group: &str,
        option: Option<&str>,
    ) -> Result<Value, IdentityError> {
        match group {
            COMPLIANCE => self.compliance_config(ctx, domain, option),
            group => self.domain_config(ctx, domain, Some(group), option).await,
        }
    }

    /// As upstream, it is asked of the default domain, and shows what users need to choose a password.
    fn compliance_config(
        &self,
        ctx: &Context,
        domain: &str,
        option: Option<&str>,
    ) -> Result<Value, IdentityError> {
        self.enforce(ctx, "identity:get_security_compliance_domain_config", &[])?;
        let invalid = |why: &str| {
            IdentityError::Forbidden(format!("Invalid domain specific configuration: {why} is not allowed."))
        };
        if domain != DEFAULT_DOMAIN {
            return Err(invalid(
                "Reading security compliance information for any domain other than the default domain",
            ));
        }
        let mut all = Map::new();
        all.insert(COMPLIANCE.into(), self.compliance.readable());
        narrow(&all, Some(COMPLIANCE), option).ok_or_else(|| {
            invalid(
                "Reading security compliance values other than password_regex and password_regex_description",
            )
        })
    }

    /// What holds for a domain that sets nothing itself.
    pub(crate) fn default_config(
        &self,
        ctx: &Context,
        group: Option<&str>,
        option: Option<&str>,
    ) -> Result<Value, IdentityError> {
        self.enforce(ctx, "identity:get_domain_config_default", &[])?;
        let limit = Some(self.config.list_limit).filter(|n| *n > 0);
        let all = json!({"identity": {"driver": "sql", "list_limit": limit}, "ldap": {}});
        let all = all.as_object().cloned().unwrap_or_default();
        narrow(&all, group, option).ok_or_else(|| {
            IdentityError::Forbidden("Invalid domain specific configuration group or option.".into())
        })
    }

    async fn domain_options(&self, domain: &str) -> Result<Map<String, Value>, IdentityError> {
        let sql =
            "SELECT grp, opt, value FROM identity_domain_options WHERE domain_id = $1 ORDER BY grp, opt";
        let rows: Vec<(String, String, String)> =
            sqlx::query_as(sql).bind(domain.to_owned()).fetch_all(self.db.read()).await?;
        let mut out = Map::new();
        for (group, option, value) in rows {
            let group = out.entry(group).or_insert_with(|| json!({}));
            group[option] = serde_json::from_str(&value)?;
        }
        Ok(out)
    }

    /// PUT replaces all; PATCH changes what it names, which must be within what the path names.
    pub(crate) async fn set_domain_config(
        &self,
        ctx: &Context,
        domain: &str,
        path: (Option<&str>, Option<&str>),
        body: &Value,
        replace: bool,
    ) -> Result<Value, IdentityError> {
        let rule = if replace { "identity:create_domain_config" } else { "identity:update_domain_config" };
        self.enforce(ctx, rule, &[])?;
        self.need_domain(domain).await?;
        let config = wanted(&body["config"], path)?;
        let before = self.domain_options(domain).await?;
        if !replace {
            narrow(&before, path.0, path.1).ok_or_else(|| {
                IdentityError::Absent(format!("Could not find domain configuration for domain {domain}."))
            })?;
        }
        let mut change = self.begin_aside().await?;
        if replace {
            sqlx::query("DELETE FROM identity_domain_options WHERE domain_id = $1")
                .bind(domain.to_owned())
                .execute(change.conn())
                .await?;
        }
        for (group, options) in &config {
            for (option, value) in options.as_object().into_iter().flatten() {
                sqlx::query(
                    "INSERT INTO identity_domain_options (domain_id, grp, opt, value) VALUES ($1, $2, $3, $4) \
                     ON CONFLICT (domain_id, grp, opt) DO UPDATE SET value = excluded.value",
                )
                .bind(domain.to_owned())
                .bind(group.clone())
                .bind(option.clone())
                .bind(value.to_string())
                .execute(change.conn())
                .await?;
            }
        }
        change.commit().await?;
        Ok(self.domain_options(domain).await?.into())
    }

    pub(crate) async fn delete_domain_config(
        &self,
        ctx: &Context,
        domain: &str,
        group: Option<&str>,
        option: Option<&str>,
    ) -> Result<(), IdentityError> {
        self.enforce(ctx, "identity:delete_domain_config", &[])?;
        self.domain_config(ctx, domain, group, option).await?;
        let mut change = self.begin_aside().await?;
        sqlx::query(
            "DELETE FROM identity_domain_options WHERE domain_id = $1 AND ($2 = '' OR grp = $2) \
             AND ($3 = '' OR opt = $3)",
        )
        .bind(domain.to_owned())
        .bind(group.unwrap_or_default().to_owned())
        .bind(option.unwrap_or_default().to_owned())
        .execute(change.conn())
        .await?;
        change.commit().await
    }
}

fn narrow(all: &Map<String, Value>, group: Option<&str>, option: Option<&str>) -> Option<Value> {
    match (group, option) {
        (None, _) => (!all.is_empty()).then(|| all.clone().into()),
        (Some(group), None) => all.get(group).map(|g| json!({group: g})),
        (Some(group), Some(option)) => all.get(group)?.get(option).map(|v| json!({option: v})),
    }
}

/// The configuration in a body, checked against upstream's groups and against the path.
fn wanted(
    config: &Value,
    (group, option): (Option<&str>, Option<&str>),
) -> Result<Map<String, Value>, IdentityError> {
    let invalid =
        |what: &str| IdentityError::Invalid(format!("Invalid domain specific configuration: {what}."));
    let config =
        config.as_object().filter(|c| !c.is_empty()).ok_or_else(|| invalid("no options specified"))?;
    let config = match (group, option) {
        (Some(group), Some(option)) => {
            let value = config.get(option).filter(|_| config.len() == 1);
            let value =
                value.ok_or_else(|| invalid("the option in the path is not the one in the request"))?;
            json!({group: {option: value}}).as_object().cloned().unwrap_or_default()
        }
        (Some(group), None) if config.len() != 1 || !config.contains_key(group) => {
            return Err(invalid("the group in the path is not the one in the request"));
        }
        _ => config.clone(),
    };
    for (group, options) in &config {
        if !["identity", "ldap"].contains(&group.as_str()) {
            return Err(invalid(&format!("group {group} is not supported")));
        }
        options.as_object().ok_or_else(|| invalid("options must be in groups"))?;
    }
    Ok(config)
}
