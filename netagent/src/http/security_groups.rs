//! `/v2.0/security-groups` and `/v2.0/security-group-rules`

use std::collections::HashMap;

use api::{Context, Query, Routes};
use serde_json::{Value, json};

use super::listing::Collection;
use super::resource::{self, Change, Resource, View, changeable};
use super::{base, body};
use crate::attr::{Body, NAME_MAX, cidr_of, int_of, ip_of};
use crate::model::{Direction, EtherType, SecurityGroup, SecurityGroupRule};
use crate::security_group::{GroupFields, NewRule};
use crate::{NetError, Networks};

pub(super) fn routes(routes: Routes<Networks>) -> Routes<Networks> {
    let (rules, rule) = ("/v2.0/security-group-rules", "/v2.0/security-group-rules/{rule_id}");
    routes
        .with(changeable::<OfGroups>("/v2.0/security-groups", "/v2.0/security-groups/{security_group_id}"))
        .with(resource::routes::<OfRules>(rules, rule))
}

struct OfGroups;
struct OfRules;

const GROUPS: Collection = Collection {
    name: "security_groups",
    attributes: &[
        "id",
        "name",
        "description",
        "project_id",
        "tenant_id",
        "revision_number",
        "created_at",
        "updated_at",
        "tags",
        "stateful",
        "security_group_rules",
        "shared",
    ],
};
const RULES: Collection = Collection {
    name: "security_group_rules",
    attributes: &[
        "id",
        "description",
        "project_id",
        "tenant_id",
        "revision_number",
        "created_at",
        "updated_at",
        "security_group_id",
        "direction",
        "ethertype",
        "protocol",
        "port_range_min",
        "port_range_max",
        "remote_ip_prefix",
        "remote_group_id",
        "normalized_cidr",
        "remote_address_group_id",
        "belongs_to_default_sg",
        "tags",
    ],
};

fn parse(b: &Body, method: &str) -> Result<GroupFields, NetError> {
    let settable: &[&str] = if method == "PUT" {
        &["name", "description", "stateful"]
    } else {
        &["name", "description", "stateful", "project_id", "tenant_id"]
    };
    b.only(settable, GROUPS.attributes, method)?;
    Ok(GroupFields {
        project_id: body::project(b)?,
        name: b.text("name", NAME_MAX)?,
        description: b.text("description", NAME_MAX)?,
        stateful: b.bool("stateful")?,
    })
}

fn parse_rule(b: &Body) -> Result<NewRule, NetError> {
    let settable = [
        "project_id",
        "tenant_id",
        "security_group_id",
        "description",
        "direction",
        "ethertype",
        "protocol",
        "port_range_min",
        "port_range_max",
        "remote_ip_prefix",
        "remote_group_id",
        "remote_address_group_id",
    ];
    b.only(&settable, RULES.attributes, "POST")?;
    b.required("security_group_id")?;
    b.required("direction")?;
    let direction = match b.choice("direction", &["ingress", "egress"])? {
        Some("egress") => Direction::Egress,
        _ => Direction::Ingress,
    };
    let ethertype = match b.nullable_text("ethertype", 16)?.flatten() {
        None => EtherType::IPv4,
        Some(text) if text.eq_ignore_ascii_case("ipv4") => EtherType::IPv4,
        Some(text) if text.eq_ignore_ascii_case("ipv6") => EtherType::IPv6,
        Some(other) => {
            return Err(NetError::refused(
                400,
                "SecurityGroupRuleInvalidEtherType",
                format!(
                    "Security group rule for ethertype '{other}' not supported. Allowed values are ['IPv4', 'IPv6']."
                ),
            ));
        }
    };
    if b.get("remote_address_group_id").is_some_and(|v| !v.is_null()) {
        return Err(NetError::refused(404, "AddressGroupNotFound", "Address group could not be found."));
    }
    let protocol = match b.get("protocol") {
        None | Some(Value::Null) => None,
        Some(Value::Number(n)) => Some(n.to_string()),
        Some(Value::String(s)) if s.is_empty() => None,
        Some(_) => b.text("protocol", 40)?.map(|p| p.to_lowercase()),
    };
    let remote_ip_prefix = match b.get("remote_ip_prefix") {
        None | Some(Value::Null) => None,
        Some(value) => match cidr_of("remote_ip_prefix", value) {
            Ok(cidr) => Some(cidr),
            Err(error) => match ip_of("remote_ip_prefix", value) {
                Ok(ip) => Some(ip.into()),
                Err(_) => return Err(error),
            },
        },
    };
    Ok(NewRule {
        project_id: body::project(b)?,
        // what is no id is not found, as upstream has it
        security_group_id: b.text("security_group_id", 255)?.unwrap_or_default(),
        description: b.nullable_text("description", NAME_MAX)?.flatten().unwrap_or_default(),
        direction,
        ethertype,
        protocol,
        port_range_min: port_value(b, "port_range_min")?,
        port_range_max: port_value(b, "port_range_max")?,
        remote_ip_prefix,
        remote_group_id: b.nullable_text("remote_group_id", 255)?.flatten(),
    })
}

/// A port, or a type or code of ICMP.
fn port_value(b: &Body, name: &str) -> Result<Option<i64>, NetError> {
    let value = match b.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    int_of(name, value, 0, 65_535).map(Some).map_err(|_| {
        let shown = value.to_string().chars().take(40).collect::<String>();
        NetError::refused(400, "SecurityGroupInvalidPortValue", format!("Invalid value for port {shown}"))
    })
}

fn rule_view(rule: &SecurityGroupRule) -> View {
    let mut view = base(&rule.meta);
    view.remove("name");
    view.remove("tags");
    let mut put = |name: &str, value: Value| view.insert(name.to_owned(), value);
    put("security_group_id", rule.security_group_id.clone().into());
    put("direction", json!(rule.direction));
    put("ethertype", json!(rule.ethertype));
    put("protocol", rule.protocol.clone().into());
    put("port_range_min", rule.port_range_min.into());
    put("port_range_max", rule.port_range_max.into());
    put("remote_ip_prefix", json!(rule.remote_ip_prefix));
    put("normalized_cidr", json!(rule.remote_ip_prefix.map(|p| p.trunc())));
    put("remote_group_id", rule.remote_group_id.clone().into());
    put("remote_address_group_id", Value::Null);
    view
}

fn view(group: &SecurityGroup, rules: &[SecurityGroupRule]) -> View {
    let mut view = base(&group.meta);
    let mut put = |name: &str, value: Value| view.insert(name.to_owned(), value);
    put("stateful", group.stateful.into());
    put("shared", false.into());
    put("security_group_rules", rules.iter().map(|r| Value::Object(rule_view(r))).collect());
    view
}

impl Resource for OfGroups {
    const ONE: &'static str = "security_group";
    const COLLECTION: Collection = GROUPS;
    type Row = SecurityGroup;
    type New = GroupFields;

    fn parse(body: &Body) -> Result<GroupFields, NetError> {
        parse(body, "POST")
    }

    fn id(row: &SecurityGroup) -> &str {
        &row.meta.id
    }

    async fn view(networks: &Networks, _ctx: &Context, row: &SecurityGroup) -> Result<View, NetError> {
        Ok(view(row, &networks.rules_of(&row.meta.id).await?))
    }

    async fn views(networks: &Networks, ctx: &Context, _query: &Query) -> Result<Vec<View>, NetError> {
        let groups = networks.security_groups(ctx).await?;
        let mut rules: HashMap<String, Vec<SecurityGroupRule>> = HashMap::new();
        for rule in networks.security_group_rules(ctx).await? {
            rules.entry(rule.security_group_id.clone()).or_default().push(rule);
        }
        Ok(groups.iter().map(|g| view(g, &rules.remove(&g.meta.id).unwrap_or_default())).collect())
    }

    async fn get(networks: &Networks, ctx: &Context, id: &str) -> Result<SecurityGroup, NetError> {
        networks.security_group(ctx, id).await
    }

    async fn create(networks: &Networks, ctx: &Context, new: GroupFields) -> Result<SecurityGroup, NetError> {
        networks.create_security_group(ctx, new).await
    }

    async fn delete(
        networks: &Networks,
        ctx: &Context,
        id: &str,
        revision: Option<i64>,
    ) -> Result<(), NetError> {
        networks.delete_security_group(ctx, id, revision).await
    }
}

impl Change for OfGroups {
    type Fields = GroupFields;

    fn parse_change(body: &Body) -> Result<GroupFields, NetError> {
        parse(body, "PUT")
    }

    async fn update(
        networks: &Networks,
        ctx: &Context,
        id: &str,
        fields: GroupFields,
        revision: Option<i64>,
    ) -> Result<SecurityGroup, NetError> {
        networks.update_security_group(ctx, id, fields, revision).await
    }
}

impl Resource for OfRules {
    const ONE: &'static str = "security_group_rule";
    const COLLECTION: Collection = RULES;
    type Row = SecurityGroupRule;
    type New = NewRule;

    fn parse(body: &Body) -> Result<NewRule, NetError> {
        parse_rule(body)
    }

    fn id(row: &SecurityGroupRule) -> &str {
        &row.meta.id
    }

    async fn view(_networks: &Networks, _ctx: &Context, row: &SecurityGroupRule) -> Result<View, NetError> {
        Ok(rule_view(row))
    }

    async fn views(networks: &Networks, ctx: &Context, _query: &Query) -> Result<Vec<View>, NetError> {
        Ok(networks.security_group_rules(ctx).await?.iter().map(rule_view).collect())
    }

    async fn get(networks: &Networks, ctx: &Context, id: &str) -> Result<SecurityGroupRule, NetError> {
        networks.security_group_rule(ctx, id).await
    }

    async fn create(networks: &Networks, ctx: &Context, new: NewRule) -> Result<SecurityGroupRule, NetError> {
        networks.create_security_group_rule(ctx, new).await
    }

    async fn delete(
        networks: &Networks,
        ctx: &Context,
        id: &str,
        _revision: Option<i64>,
    ) -> Result<(), NetError> {
        networks.delete_security_group_rule(ctx, id).await
    }
}
