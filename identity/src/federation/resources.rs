//! `identity_providers`, `protocols`, `mappings` and `service_providers`: what the operator says of federation.

use super::mapping::{Mapping, Version};
use crate::bootstrap::DEFAULT_DOMAIN;
use crate::input::{self, Shape};
use crate::listing::Found;
use crate::projects::fill_domain;
use crate::store::federation::{self, Protocol};
use crate::store::record::Fields;
use crate::store::{Cond, DOMAIN, IDENTITY_PROVIDER, Kind, MAPPING, Record, SERVICE_PROVIDER, USER};
use crate::users::forget_user as forget_whole_user;
use crate::{Identity, IdentityError};
use api::{Context, Query};
use serde_json::{Value, json};
use state::Tx;
use std::sync::LazyLock;

static PROVIDER_SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let properties = json!({"enabled": input::flag(), "description": input::text(),
        "domain_id": input::maybe_id(),
        "authorization_ttl": {"type": ["integer", "null"], "minimum": 0, "maximum": 52_560_000},
        "remote_ids": {"type": ["array", "null"], "uniqueItems": true, "maxItems": 1000,
            "items": {"type": "string", "minLength": 1, "maxLength": 255}}});
    Shape::closed("identity_provider", properties, &[], &["domain_id"])
});
static PROTOCOL_SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let properties = json!({"mapping_id": {"type": "string", "minLength": 1, "maxLength": 64},
        "remote_id_attribute": {"type": ["string", "null"], "maxLength": 64}});
    Shape::closed("protocol", properties, &["mapping_id"], &[])
});
static MAPPING_SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let properties =
        json!({"rules": {"type": "array", "minItems": 1}, "schema_version": {"type": ["string", "null"]}});
    Shape::closed("mapping", properties, &["rules"], &[])
});
static SERVICE_SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let properties = json!({"auth_url": input::url(), "sp_url": input::url(), "enabled": input::flag(),
        "description": input::text(), "relay_state_prefix": input::text()});
    Shape::closed("service_provider", properties, &["auth_url", "sp_url"], &[])
});

/// What upstream puts before a relay state where the operator says nothing.
const RELAY_STATE_PREFIX: &str = "ss:mem:";
const MINUTE: i64 = 60_000_000;

/// The resources whose id their path gives, and which need no more than their columns.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Federal {
    Provider,
    Mapping,
    Service,
}

impl Federal {
    fn kind(self) -> &'static Kind {
        match self {
            Federal::Provider => &IDENTITY_PROVIDER,
            Federal::Mapping => &MAPPING,
            Federal::Service => &SERVICE_PROVIDER,
        }
    }

    fn shape(self) -> &'static Shape {
        match self {
            Federal::Provider => &PROVIDER_SHAPE,
            Federal::Mapping => &MAPPING_SHAPE,
            Federal::Service => &SERVICE_SHAPE,
        }
    }

    fn rule(self, verb: &str) -> String {
        let noun = self.kind().noun;
        if verb == "list" { format!("identity:list_{noun}s") } else { format!("identity:{verb}_{noun}") }
    }
}

impl Identity {
    pub(crate) async fn create_federal(
        &self,
        ctx: &Context,
        what: Federal,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, &what.rule("create"), &[])?;
        let mut record = what.shape().new_record(body)?;
        check_id(id)?;
        record.insert("id".into(), id.into());
        let mut home = None;
        match what {
            Federal::Mapping => check_rules(&mut record)?,
            Federal::Service => {
                input::default(&mut record, "enabled", false);
                input::default(&mut record, "relay_state_prefix", RELAY_STATE_PREFIX);
            }
            Federal::Provider => {
                input::default(&mut record, "enabled", false);
                if IDENTITY_PROVIDER.get(self.db.read(), id).await?.is_some() {
                    return Err(IdentityError::Conflict {
                        noun: "identity_provider",
                        detail: format!("Duplicate entry found with id {id}"),
                    });
                }
                home = self.home_of_provider(&mut record).await?;
            }
        }
        let remote = take_remote_ids(&mut record);
        let mut change = self.begin().await?;
        if let Some(home) = home {
            DOMAIN.insert(change.conn(), &home).await?;
        }
        what.kind().insert(change.conn(), &record).await?;
        if matches!(what, Federal::Provider) {
            federation::set_remote_ids(&mut change, id, &remote.unwrap_or_default()).await?;
        }
        change.commit().await?;
        self.whole(what, record).await
    }

    /// The domain of a provider's users: the one it names, or one of its own, which is returned and is to be made.
    async fn home_of_provider(&self, record: &mut Record) -> Result<Option<Record>, IdentityError> {
        if let Some(domain) = record.opt_text("domain_id").filter(|d| !d.is_empty()) {
            self.need_domain(domain).await?;
            return Ok(None);
        }
        let id = state::new_hex_id();
        let described =
            format!("Auto generated federated domain for Identity Provider: {}", record.text("id"));
        let domain = json!({"id": id, "name": id, "description": described});
        let mut domain = domain.as_object().cloned().unwrap_or_default();
        fill_domain(&mut domain);
        record.insert("domain_id".into(), id.into());
        Ok(Some(domain))
    }

    async fn whole(&self, what: Federal, mut record: Record) -> Result<Record, IdentityError> {
        if let Federal::Provider = what {
            let ids = federation::remote_ids(self.db.read(), Some(record.text("id"))).await?;
            let ids: Vec<String> = ids.into_iter().map(|(_, remote)| remote).collect();
            record.insert("remote_ids".into(), ids.into());
            input::default(&mut record, "authorization_ttl", Value::Null);
            input::default(&mut record, "description", Value::Null);
        }
        if let Federal::Service = what {
            input::default(&mut record, "description", Value::Null);
        }
        Ok(record)
    }

    pub(crate) async fn list_federal(
        &self,
        ctx: &Context,
        what: Federal,
        query: &Query,
    ) -> Result<Found, IdentityError> {
        self.enforce(ctx, &what.rule("list"), &[])?;
        let filters: &[&str] = if matches!(what, Federal::Mapping) { &[] } else { &["id", "enabled"] };
        let mut found = self.list(what.kind(), filters, Vec::new(), query).await?;
        if let Federal::Provider = what {
            let all = federation::remote_ids(self.db.read(), None).await?;
            for record in &mut found.records {
                let own = all.iter().filter(|(idp, _)| idp == record.text("id"));
                let own: Vec<String> = own.map(|(_, remote)| remote.clone()).collect();
                record.insert("remote_ids".into(), own.into());
            }
        }
        Ok(found)
    }

    pub(crate) async fn show_federal(
        &self,
        ctx: &Context,
        what: Federal,
        id: &str,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, &what.rule("get"), &[])?;
        let record = what.kind().need(self.db.read(), id).await?;
        self.whole(what, record).await
    }

    pub(crate) async fn update_federal(
        &self,
        ctx: &Context,
        what: Federal,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, &what.rule("update"), &[])?;
        let mut changes = what.shape().changes(body, id)?;
        let remote = take_remote_ids(&mut changes);
        let mut change = self.begin().await?;
        change.lock(&format!("federation:{id}")).await?;
        let mut record = what.kind().need(change.conn(), id).await?;
        record.extend(changes);
        if let Federal::Mapping = what {
            check_rules(&mut record)?;
        }
        what.kind().update(change.conn(), &record).await?;
        if let Federal::Provider = what {
            if let Some(remote) = &remote {
                federation::set_remote_ids(&mut change, id, remote).await?;
            }
            federation::set_ttl(&mut change, id, self.authorization_ttl(&record)).await?;
        }
        change.commit().await?;
        self.whole(what, record).await
    }

    /// How long what a provider vouches for holds beyond a token, microseconds.
    pub(super) fn authorization_ttl(&self, provider: &Record) -> i64 {
        let default = i64::try_from(self.config.federation.default_authorization_ttl).unwrap_or(i64::MAX);
        let minutes = provider.get("authorization_ttl").and_then(Value::as_i64).unwrap_or(default);
        minutes.clamp(0, i64::MAX / MINUTE / 4) * MINUTE
    }

    /// A provider goes with its protocols and with the users that it alone knows.
    pub(crate) async fn delete_federal(
        &self,
        ctx: &Context,
        what: Federal,
        id: &str,
    ) -> Result<(), IdentityError> {
        self.enforce(ctx, &what.rule("delete"), &[])?;
        let mut change = self.begin().await?;
        match what {
            Federal::Provider => {
                IDENTITY_PROVIDER.need(change.conn(), id).await?;
                forget_provider(&mut change, id).await?;
            }
            other => other.kind().delete(change.conn(), id).await?,
        }
        change.commit().await
    }

    /// The protocol, or upstream's 404.
    pub(super) async fn protocol(&self, idp: &str, id: &str) -> Result<Protocol, IdentityError> {
        let found = federation::protocol_of(self.db.read(), idp, id).await?;
        found.ok_or_else(|| {
            IdentityError::Absent(format!(
                "Could not find federated protocol {id} for Identity Provider: {idp}."
            ))
        })
    }

    pub(crate) async fn show_protocol(
        &self,
        ctx: &Context,
        idp: &str,
        id: &str,
    ) -> Result<Protocol, IdentityError> {
        self.enforce(ctx, "identity:get_protocol", &[])?;
        self.protocol(idp, id).await
    }

    pub(crate) async fn list_protocols(
        &self,
        ctx: &Context,
        idp: &str,
    ) -> Result<Vec<Protocol>, IdentityError> {
        self.enforce(ctx, "identity:list_protocols", &[])?;
        IDENTITY_PROVIDER.need(self.db.read(), idp).await?;
        federation::protocols(self.db.read(), idp).await
    }

    pub(crate) async fn put_protocol(
        &self,
        ctx: &Context,
        (idp, id): (&str, &str),
        body: &Value,
    ) -> Result<Protocol, IdentityError> {
        self.enforce(ctx, "identity:create_protocol", &[])?;
        let new = PROTOCOL_SHAPE.new_record(body)?;
        check_id(id)?;
        IDENTITY_PROVIDER.need(self.db.read(), idp).await?;
        let made = Protocol {
            idp: idp.to_owned(),
            id: id.to_owned(),
            mapping: new.text("mapping_id").to_owned(),
            remote_id_attribute: new.opt_text("remote_id_attribute").map(str::to_owned),
        };
        self.write_protocol(&made, false).await?;
        Ok(made)
    }

    async fn write_protocol(&self, p: &Protocol, replace: bool) -> Result<(), IdentityError> {
        if MAPPING.get(self.db.read(), &p.mapping).await?.is_none() {
            return Err(IdentityError::Invalid(format!("Invalid mapping id: {}", p.mapping)));
        }
        let mut change = self.begin().await?;
        if !federation::put_protocol(&mut change, p, replace).await? {
            let detail = format!("Duplicate entry found with id {}", p.id);
            return Err(IdentityError::Conflict { noun: "federation_protocol", detail });
        }
        change.commit().await
    }

    pub(crate) async fn update_protocol(
        &self,
        ctx: &Context,
        (idp, id): (&str, &str),
        body: &Value,
    ) -> Result<Protocol, IdentityError> {
        self.enforce(ctx, "identity:update_protocol", &[])?;
        let changes = PROTOCOL_SHAPE.changes(body, id)?;
        let mut protocol = self.protocol(idp, id).await?;
        if let Some(mapping) = changes.opt_text("mapping_id") {
            protocol.mapping = mapping.to_owned();
        }
        if let Some(attribute) = changes.get("remote_id_attribute") {
            protocol.remote_id_attribute = attribute.as_str().map(str::to_owned);
        }
        self.write_protocol(&protocol, true).await?;
        Ok(protocol)
    }

    pub(crate) async fn delete_protocol(
        &self,
        ctx: &Context,
        idp: &str,
        id: &str,
    ) -> Result<(), IdentityError> {
        self.enforce(ctx, "identity:delete_protocol", &[])?;
        self.protocol(idp, id).await?;
        let mut change = self.begin().await?;
        forget_shadows(&mut change, idp, Some(id)).await?;
        federation::forget(&mut change, idp, Some(id)).await?;
        change.commit().await
    }
}

fn check_id(id: &str) -> Result<(), IdentityError> {
    match (1..=64).contains(&id.chars().count()) {
        true => Ok(()),
        false => Err(IdentityError::Invalid("The id in the path must have from 1 to 64 characters.".into())),
    }
}

fn check_rules(record: &mut Record) -> Result<(), IdentityError> {
    if record.opt_text("schema_version").is_none() {
        record.insert("schema_version".into(), "1.0".into());
    }
    Mapping::new(&record["rules"], Version::parse(record.text("schema_version"))?)?;
    Ok(())
}

fn take_remote_ids(record: &mut Record) -> Option<Vec<String>> {
    let ids = record.remove("remote_ids")?;
    let ids = ids.as_array().into_iter().flatten().filter_map(Value::as_str);
    Some(ids.map(str::to_owned).collect())
}

async fn forget_provider(tx: &mut Tx, id: &str) -> Result<(), IdentityError> {
    forget_shadows(tx, id, None).await?;
    federation::forget(tx, id, None).await?;
    IDENTITY_PROVIDER.delete(tx.conn(), id).await
}

/// The users that exist only as this provider (or its protocol) knows them go with it: their application credentials and
/// keys would outlive it otherwise.
async fn forget_shadows(tx: &mut Tx, idp: &str, protocol: Option<&str>) -> Result<(), IdentityError> {
    for user in federation::users_from(tx, idp, protocol).await? {
        let shadow = [Cond::eq("id", user.as_str()), Cond::eq("source", user.as_str())];
        if USER.one(tx.conn(), &shadow).await?.is_some() {
            forget_whole_user(tx, &user).await?;
        }
    }
    Ok(())
}

/// A domain's providers go with it.
pub(crate) async fn forget_domain(tx: &mut Tx, id: &str) -> Result<(), IdentityError> {
    debug_assert_ne!(id, DEFAULT_DOMAIN);
    for provider in IDENTITY_PROVIDER.find(tx.conn(), &[Cond::eq("domain_id", id)], 0).await? {
        forget_provider(tx, provider.text("id")).await?;
    }
    crate::store::directory::forget_domain(tx, id).await
}
