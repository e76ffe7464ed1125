//! `/v2.0/security-groups` and `/v2.0/security-group-rules`

use std::collections::HashMap;

use api::{Context, Error, Json, Path, Query, Routes};
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::listing::{Collection, list, select};
use super::{base, body, expected_revision};
use crate::attr::{Body, NAME_MAX, cidr_of, int_of, ip_of};
use crate::model::{Direction, EtherType, SecurityGroup, SecurityGroupRule};
use crate::security_group::{GroupFields, NewRule};
use crate::{NetError, Networks};

pub(super) fn routes(routes: Routes<Networks>) -> Routes<Networks> {
    routes
        .get("/v2.0/security-groups", index)
        .post("/v2.0/security-groups", create)
        .get("/v2.0/security-groups/{security_group_id}", show)
        .put("/v2.0/security-groups/{security_group_id}", update)
        .delete("/v2.0/security-groups/{security_group_id}", delete)
        .get("/v2.0/security-group-rules", rule_index)
        .post("/v2.0/security-group-rules", rule_create)
        .get("/v2.0/security-group-rules/{rule_id}", rule_show)
        .delete("/v2.0/security-group-rules/{rule_id}", rule_delete)
}

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

fn rule_view(rule: &SecurityGroupRule) -> Map<String, Value> {
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

fn view(group: &SecurityGroup, rules: &[SecurityGroupRule]) -> Map<String, Value> {
    let mut view = base(&group.meta);
    let mut put = |name: &str, value: Value| view.insert(name.to_owned(), value);
    put("stateful", group.stateful.into());
    put("shared", false.into());
    put("security_group_rules", rules.iter().map(|r| Value::Object(rule_view(r))).collect());
    view
}

async fn view_one(networks: &Networks, group: &SecurityGroup) -> Result<Map<String, Value>, NetError> {
    Ok(view(group, &networks.rules_of(&group.meta.id).await?))
}

async fn index(State(networks): State<Networks>, ctx: Context, query: Query) -> Result<Json<Value>, Error> {
    let groups = networks.security_groups(&ctx).await?;
    let mut rules: HashMap<String, Vec<SecurityGroupRule>> = HashMap::new();
    for rule in networks.security_group_rules(&ctx).await? {
        rules.entry(rule.security_group_id.clone()).or_default().push(rule);
    }
    let none = Vec::new();
    let views = groups.iter().map(|g| view(g, rules.get(&g.meta.id).unwrap_or(&none))).collect();
    Ok(Json(list(&networks, &GROUPS, &query, views)?))
}

async fn create(
    State(networks): State<Networks>,
    ctx: Context,
    Json(json): Json<Value>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let (bodies, bulk) = Body::one_or_many(&json, "security_group", "security_groups")?;
    let fields = bodies.iter().map(|b| parse(b, "POST")).collect::<Result<Vec<_>, _>>()?;
    let mut views = Vec::new();
    let mut made = Vec::new();
    for fields in fields {
        match networks.create_security_group(&ctx, fields).await {
            Ok(group) => {
                views.push(Value::Object(view_one(&networks, &group).await?));
                made.push(group.meta.id);
            }
            Err(error) => {
                for id in made {
                    networks.delete_security_group(&ctx, &id, None).await?;
                }
                return Err(error.into());
            }
        }
    }
    let body =
        if bulk { json!({ "security_groups": views }) } else { json!({ "security_group": views.pop() }) };
    Ok((StatusCode::CREATED, Json(body)))
}

async fn show(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Value>, Error> {
    let group = networks.security_group(&ctx, &id).await?;
    Ok(Json(json!({ "security_group": select(view_one(&networks, &group).await?, &query) })))
}

async fn update(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(json): Json<Value>,
) -> Result<Json<Value>, Error> {
    let fields = parse(&Body::one(&json, "security_group")?, "PUT")?;
    let group = networks.update_security_group(&ctx, &id, fields, expected_revision(&headers)?).await?;
    Ok(Json(json!({ "security_group": view_one(&networks, &group).await? })))
}

async fn delete(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Error> {
    networks.delete_security_group(&ctx, &id, expected_revision(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rule_index(
    State(networks): State<Networks>,
    ctx: Context,
    query: Query,
) -> Result<Json<Value>, Error> {
    let views = networks.security_group_rules(&ctx).await?.iter().map(rule_view).collect();
    Ok(Json(list(&networks, &RULES, &query, views)?))
}

async fn rule_create(
    State(networks): State<Networks>,
    ctx: Context,
    Json(json): Json<Value>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let (bodies, bulk) = Body::one_or_many(&json, "security_group_rule", "security_group_rules")?;
    let new = bodies.iter().map(parse_rule).collect::<Result<Vec<_>, _>>()?;
    let mut views = Vec::new();
    let mut made = Vec::new();
    for rule in new {
        match networks.create_security_group_rule(&ctx, rule).await {
            Ok(rule) => {
                views.push(Value::Object(rule_view(&rule)));
                made.push(rule.meta.id);
            }
            Err(error) => {
                for id in made {
                    networks.delete_security_group_rule(&ctx, &id).await?;
                }
                return Err(error.into());
            }
        }
    }
    let body = if bulk {
        json!({ "security_group_rules": views })
    } else {
        json!({ "security_group_rule": views.pop() })
    };
    Ok((StatusCode::CREATED, Json(body)))
}

async fn rule_show(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Value>, Error> {
    let rule = networks.security_group_rule(&ctx, &id).await?;
    Ok(Json(json!({ "security_group_rule": select(rule_view(&rule), &query) })))
}

async fn rule_delete(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    networks.delete_security_group_rule(&ctx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
