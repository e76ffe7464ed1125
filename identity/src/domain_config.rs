//! The options of domains: which driver keeps a domain's users and groups, and where its directory is.
//!
//! As upstream, only the options of its list can be set; what they say is not looked at before they are used. The
//! password of a directory can be set and is shown to nobody.

use crate::bootstrap::DEFAULT_DOMAIN;
use crate::ldap;
use crate::store::directory;
use crate::{Identity, IdentityError};
use api::Context;
use serde_json::{Map, Value, json};
use sqlx::{Any, Executor};

/// The group of options that hold for the whole cloud.
const COMPLIANCE: &str = "security_compliance";
const LDAP: &str = "ldap";
/// What is set and never shown, of the group `ldap`.
const PASSWORD: &str = "password";

/// The part of a domain's options that a path names.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Part<'a> {
    pub(crate) group: Option<&'a str>,
    pub(crate) option: Option<&'a str>,
}

impl Part<'_> {
    fn check(self) -> Result<(), IdentityError> {
        self.group.map_or(Ok(()), |group| known(group, self.option))
    }

    fn of(self, all: &Map<String, Value>) -> Option<Value> {
        match (self.group, self.option) {
            (None, _) => (!all.is_empty()).then(|| all.clone().into()),
            (Some(group), None) => all.get(group).map(|g| json!({group: g})),
            (Some(group), Some(option)) => all.get(group)?.get(option).map(|v| json!({option: v})),
        }
    }

    fn absent(self, domain: &str) -> IdentityError {
        let what = match (self.group, self.option) {
            (Some(group), Some(option)) => format!("option {option} in group {group}"),
            (Some(group), None) => format!("group {group}"),
            (None, _) => "any options".into(),
        };
        IdentityError::Absent(format!("Could not find {what} in domain configuration for domain {domain}."))
    }
}

fn invalid(why: &str) -> IdentityError {
    IdentityError::Forbidden(format!("Invalid domain specific configuration: {why}."))
}

/// Refuses what no domain may set.
fn known(group: &str, option: Option<&str>) -> Result<(), IdentityError> {
    let good = |option: &str| match group {
        LDAP => option == PASSWORD || ldap::DEFAULTS.contains_key(option),
        _ => ["driver", "list_limit"].contains(&option),
    };
    match option {
        _ if !["identity", LDAP].contains(&group) => {
            Err(invalid(&format!("Group {group} is not supported for domain specific configurations")))
        }
        Some(option) if !good(option) => Err(invalid(&format!(
            "Option {option} in group {group} is not supported for domain specific configurations"
        ))),
        _ => Ok(()),
    }
}

/// Every option of a domain, secrets too.
async fn options<'e>(
    on: impl Executor<'e, Database = Any>,
    domain: &str,
) -> Result<Map<String, Value>, IdentityError> {
    let sql = "SELECT grp, opt, value FROM identity_domain_options WHERE domain_id = $1 ORDER BY grp, opt";
    let rows: Vec<(String, String, String)> =
        sqlx::query_as(sql).bind(domain.to_owned()).fetch_all(on).await?;
    let mut out = Map::new();
    for (group, option, value) in rows {
        let group = out.entry(group).or_insert_with(|| json!({}));
        group[option] = serde_json::from_str(&value)?;
    }
    Ok(out)
}

fn without_secrets(mut all: Map<String, Value>) -> Map<String, Value> {
    if let Some(ldap) = all.get_mut(LDAP).and_then(Value::as_object_mut) {
        ldap.remove(PASSWORD);
    }
    all.retain(|_, group| group.as_object().is_none_or(|g| !g.is_empty()));
    all
}

impl Identity {
    pub(crate) async fn domain_options(&self, domain: &str) -> Result<Map<String, Value>, IdentityError> {
        options(self.db.read(), domain).await
    }

    /// A domain's options as `{group: {option: value}}`, narrowed to what the path names; 404 where that is not set.
    /// How passwords must be is the same in every domain and for everybody to read.
    pub(crate) async fn domain_config(
        &self,
        ctx: &Context,
        domain: &str,
        part: Part<'_>,
    ) -> Result<Value, IdentityError> {
        if part.group == Some(COMPLIANCE) {
            return self.compliance_config(ctx, domain, part);
        }
        self.enforce(ctx, "identity:get_domain_config", &[])?;
        self.need_domain(domain).await?;
        part.check()?;
        let all = without_secrets(self.domain_options(domain).await?);
        part.of(&all).ok_or_else(|| part.absent(domain))
    }

    /// As upstream, it is asked of the default domain, and shows what users need to choose a password.
    fn compliance_config(&self, ctx: &Context, domain: &str, part: Part<'_>) -> Result<Value, IdentityError> {
        self.enforce(ctx, "identity:get_security_compliance_domain_config", &[])?;
        if domain != DEFAULT_DOMAIN {
            return Err(invalid(
                "Reading security compliance information for any domain other than the default domain is not allowed \
                 or supported",
            ));
        }
        let mut all = Map::new();
        all.insert(COMPLIANCE.into(), self.compliance.readable());
        part.of(&all).ok_or_else(|| {
            invalid(
                "Reading security compliance values other than password_regex and password_regex_description is not \
                 allowed",
            )
        })
    }

    /// What holds for a domain that sets nothing itself.
    pub(crate) fn default_config(&self, ctx: &Context, part: Part<'_>) -> Result<Value, IdentityError> {
        self.enforce(ctx, "identity:get_domain_config_default", &[])?;
        let limit = Some(self.config.list_limit).filter(|n| *n > 0);
        let all = json!({"identity": {"driver": "sql", "list_limit": limit}, LDAP: *ldap::DEFAULTS});
        let all = all.as_object().cloned().unwrap_or_default();
        part.check()?;
        part.of(&all).ok_or_else(|| invalid("Reading the default of this option is not supported"))
    }

    /// PUT: these options take the place of all that there were, if there were any: whether all is new.
    pub(crate) async fn create_domain_config(
        &self,
        ctx: &Context,
        domain: &str,
        body: &Value,
    ) -> Result<(Value, bool), IdentityError> {
        self.enforce(ctx, "identity:create_domain_config", &[])?;
        self.need_domain(domain).await?;
        let config = wanted(&body["config"], Part::default())?;
        let new = self.domain_options(domain).await?.is_empty();
        Ok((self.write_domain_config(domain, &config, Part::default(), true).await?, new))
    }

    /// PATCH changes what it names, which must be within what the path names and, where it names something, be there.
    pub(crate) async fn update_domain_config(
        &self,
        ctx: &Context,
        domain: &str,
        part: Part<'_>,
        body: &Value,
    ) -> Result<Value, IdentityError> {
        self.enforce(ctx, "identity:update_domain_config", &[])?;
        self.need_domain(domain).await?;
        let config = wanted(&body["config"], part)?;
        self.write_domain_config(domain, &config, part, false).await
    }

    async fn write_domain_config(
        &self,
        domain: &str,
        config: &Map<String, Value>,
        part: Part<'_>,
        replace: bool,
    ) -> Result<Value, IdentityError> {
        let mut change = self.begin().await?;
        if part.group.is_some() {
            let before = options(change.conn(), domain).await?;
            part.of(&before).ok_or_else(|| part.absent(domain))?;
        }
        if replace {
            sqlx::query("DELETE FROM identity_domain_options WHERE domain_id = $1")
                .bind(domain.to_owned())
                .execute(change.conn())
                .await?;
        }
        for (group, options) in config {
            for (option, value) in options.as_object().into_iter().flatten() {
                let sql = "INSERT INTO identity_domain_options (domain_id, grp, opt, value) VALUES ($1, $2, $3, $4) \
                    ON CONFLICT (domain_id, grp, opt) DO UPDATE SET value = excluded.value";
                let query = sqlx::query(sql).bind(domain.to_owned()).bind(group.clone()).bind(option.clone());
                query.bind(value.to_string()).execute(change.conn()).await?;
            }
        }
        let after = options(change.conn(), domain).await?;
        if !ldap::drives(&after) {
            directory::unmirror_domain(&mut change, domain).await?;
        }
        change.commit().await?;
        Ok(without_secrets(after).into())
    }

    pub(crate) async fn delete_domain_config(
        &self,
        ctx: &Context,
        domain: &str,
        part: Part<'_>,
    ) -> Result<(), IdentityError> {
        self.enforce(ctx, "identity:delete_domain_config", &[])?;
        self.need_domain(domain).await?;
        part.check()?;
        let mut change = self.begin().await?;
        if part.group.is_some() {
            let before = options(change.conn(), domain).await?;
            part.of(&before).ok_or_else(|| part.absent(domain))?;
        }
        let sql = "DELETE FROM identity_domain_options WHERE domain_id = $1 AND ($2 = '' OR grp = $2) \
            AND ($3 = '' OR opt = $3)";
        let query = sqlx::query(sql).bind(domain.to_owned()).bind(part.group.unwrap_or_default().to_owned());
        query.bind(part.option.unwrap_or_default().to_owned()).execute(change.conn()).await?;
        if !ldap::drives(&options(change.conn(), domain).await?) {
            directory::unmirror_domain(&mut change, domain).await?;
        }
        change.commit().await
    }

    /// The most rows that a list of the domain's users or groups returns; 0 is all.
    pub(crate) async fn list_limit_of(&self, domain: Option<&str>) -> Result<usize, IdentityError> {
        let Some(domain) = domain else { return Ok(self.config.list_limit) };
        let sql = "SELECT value FROM identity_domain_options \
            WHERE domain_id = $1 AND grp = 'identity' AND opt = 'list_limit'";
        let own: Option<String> =
            sqlx::query_scalar(sql).bind(domain.to_owned()).fetch_optional(self.db.read()).await?;
        // A number may be a text.
        let own = own.and_then(|v| v.trim_matches('"').parse().ok());
        Ok(own.unwrap_or(self.config.list_limit))
    }
}

/// The configuration in a body, as `{group: {option: value}}`.
fn wanted(config: &Value, part: Part<'_>) -> Result<Map<String, Value>, IdentityError> {
    let config =
        config.as_object().filter(|c| !c.is_empty()).ok_or_else(|| invalid("No options specified"))?;
    let config = match (part.group, part.option) {
        (Some(group), Some(_)) => Map::from_iter([(group.to_owned(), config.clone().into())]),
        _ => config.clone(),
    };
    for (group, options) in &config {
        known(group, None)?;
        let options = options.as_object().filter(|o| !o.is_empty()).ok_or_else(|| {
            invalid(&format!(
                "The value of group {group} specified in the config should be a dictionary of options"
            ))
        })?;
        options.keys().try_for_each(|option| known(group, Some(option)))?;
    }
    part.check()?;
    let only = |all: &Map<String, Value>, one: &str| all.len() == 1 && all.contains_key(one);
    if let Some(group) = part.group.filter(|g| !only(&config, g)) {
        return Err(invalid(&format!(
            "Trying to update group {group}, so that, and only that, group must be specified \
            in the config"
        )));
    }
    let inner = part.group.and_then(|g| config[g].as_object());
    if let (Some(option), Some(inner)) = (part.option, inner)
        && !only(inner, option)
    {
        return Err(invalid(&format!(
            "Trying to update option {option}, so that, and only that, option must be \
            specified in the config"
        )));
    }
    Ok(config)
}
