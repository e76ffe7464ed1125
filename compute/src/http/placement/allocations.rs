//! `/allocations` and `/usages`: by consumer, by provider, by project.

use super::super::App;
use super::{since, uuid, whole};
use crate::ComputeError;
use crate::placement::Amounts;
use crate::placement::allocations::{Claim, claim};
use crate::placement::providers as rules;
use crate::placement::store;
use api::{Context, Error, Json, Microversion, Path, Query, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(super) fn routes(r: Routes<App>) -> Routes<App> {
    r.post("/allocations", set_several)
        .get("/allocations/{consumer}", of_consumer)
        .put("/allocations/{consumer}", set)
        .delete("/allocations/{consumer}", delete)
        .get("/resource_providers/{uuid}/allocations", of_provider)
        .get("/usages", usages)
}

async fn of_consumer(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    let mut tx = app.placing(&ctx).await?;
    let mut by_provider: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for a in store::allocations_of(&mut tx, &id).await? {
        by_provider.entry(a.provider_id).or_default().insert(a.class, json!(a.used));
    }
    let mut all = Map::new();
    for (provider, resources) in by_provider {
        let generation = rules::provider(&mut tx, &provider).await?.generation;
        all.insert(provider, json!({"resources": resources, "generation": generation}));
    }
    let mut out = json!({"allocations": all});
    if let Some(c) = store::consumer(&mut tx, &id).await? {
        if v >= Microversion(1, 12) {
            out["project_id"] = json!(c.project_id);
            out["user_id"] = json!(c.user_id);
        }
        if v >= Microversion(1, 28) {
            out["consumer_generation"] = json!(c.generation);
        }
        if v >= Microversion(1, 38) {
            out["consumer_type"] = json!(c.kind);
        }
    }
    Ok(Json(out))
}

async fn of_provider(app: State<App>, ctx: Context, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    let mut tx = app.placing(&ctx).await?;
    let p = rules::provider(&mut tx, &id).await?;
    let mut by_consumer: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for a in store::allocations_on(&mut tx, &id).await? {
        by_consumer.entry(a.consumer_id).or_default().insert(a.class, json!(a.used));
    }
    let all: Map<_, _> =
        by_consumer.into_iter().map(|(c, resources)| (c, json!({"resources": resources}))).collect();
    Ok(Json(json!({"resource_provider_generation": p.generation, "allocations": all})))
}

fn amounts(v: &Value) -> Result<Amounts, Error> {
    let object = v.as_object().filter(|o| !o.is_empty());
    let object = object
        .ok_or_else(|| Error::bad_request("JSON does not validate: 'resources' is a required property"))?;
    object
        .iter()
        .map(|(class, n)| match whole(n, class)? {
            0 => Err(Error::bad_request(format!(
                "JSON does not validate: 0 is less than the minimum of 1 for {class}"
            ))),
            n => Ok((class.clone(), n)),
        })
        .collect()
}

/// One consumer's claim, in the form of this microversion.
fn read(consumer: &str, body: &Value, v: Microversion) -> Result<Claim, Error> {
    let mut all = BTreeMap::new();
    match &body["allocations"] {
        // Before 1.12 a list, a dictionary by provider from there on.
        Value::Array(list) if v < Microversion(1, 12) => {
            for a in list {
                let id = uuid(a["resource_provider"]["uuid"].as_str().unwrap_or_default())?;
                all.insert(id, amounts(&a["resources"])?);
            }
        }
        Value::Object(by_provider) if v >= Microversion(1, 12) => {
            for (id, a) in by_provider {
                all.insert(uuid(id)?, amounts(&a["resources"])?);
            }
            if all.is_empty() && v < Microversion(1, 28) {
                return Err(Error::bad_request("JSON does not validate: {} does not have enough properties"));
            }
        }
        _ => return Err(Error::bad_request("JSON does not validate: 'allocations' is a required property")),
    }
    let text = |key: &str, from: u16| -> Result<String, Error> {
        match body[key].as_str().filter(|t| !t.is_empty() && t.len() <= 255) {
            Some(t) => Ok(t.to_owned()),
            None if v < Microversion(1, from) => Ok("00000000-0000-0000-0000-000000000000".into()),
            None => {
                Err(Error::bad_request(format!("JSON does not validate: '{key}' is a required property")))
            }
        }
    };
    let generation = match body.get("consumer_generation") {
        _ if v < Microversion(1, 28) => None,
        Some(g) => Some(g.as_i64()),
        None => {
            return Err(Error::bad_request(
                "JSON does not validate: 'consumer_generation' is a required property",
            ));
        }
    };
    let kind = if v >= Microversion(1, 38) { text("consumer_type", 38)? } else { "unknown".into() };
    Ok(Claim {
        consumer: uuid(consumer)?,
        project_id: text("project_id", 8)?,
        user_id: text("user_id", 8)?,
        kind,
        generation,
        amounts: all,
    })
}

async fn set(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<StatusCode, Error> {
    let mut tx = app.placing(&ctx).await?;
    claim(&mut tx, &[read(&id, &body, v)?]).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_several(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Json(body): Json<Value>,
) -> Result<StatusCode, Error> {
    since(v, 13)?;
    let mut tx = app.placing(&ctx).await?;
    let by_consumer = body.as_object().ok_or_else(|| Error::bad_request("JSON does not validate"))?;
    let claims = by_consumer.iter().map(|(id, one)| read(id, one, v)).collect::<Result<Vec<_>, _>>()?;
    claim(&mut tx, &claims).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete(app: State<App>, ctx: Context, Path(id): Path<String>) -> Result<StatusCode, Error> {
    let mut tx = app.placing(&ctx).await?;
    let absent = || ComputeError::NotFound(format!("No allocations for consumer '{id}'"));
    let consumer = store::consumer(&mut tx, &id).await?.ok_or_else(absent)?;
    store::set_allocations(&mut tx, &consumer, &[]).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn usages(app: State<App>, ctx: Context, v: Microversion, query: Query) -> Result<Json<Value>, Error> {
    since(v, 9)?;
    let project = query.get("project_id").filter(|p| !p.is_empty());
    let project = project.ok_or_else(|| Error::bad_request("'project_id' is a required property"))?;
    app.may(&ctx, "placement:usages", project)?;
    let mut tx = app.db.begin().await?;
    let rows = store::usages_of(&mut tx, project, query.get("user_id")).await?;
    if v < Microversion(1, 38) {
        let mut sum = Amounts::new();
        for (_, _, class, used) in rows {
            *sum.entry(class).or_default() += used;
        }
        return Ok(Json(json!({"usages": sum})));
    }
    let wanted = query.get("consumer_type").unwrap_or("");
    let mut by_kind: BTreeMap<String, (BTreeMap<String, ()>, Amounts)> = BTreeMap::new();
    for (kind, consumer, class, used) in rows {
        let key = match wanted {
            "all" => "all".to_owned(),
            "" => kind,
            one if one == kind => kind,
            _ => continue,
        };
        let (consumers, sum) = by_kind.entry(key).or_default();
        consumers.insert(consumer, ());
        *sum.entry(class).or_default() += used;
    }
    let view: Map<_, _> = by_kind
        .into_iter()
        .map(|(kind, (consumers, sum))| {
            let mut out = json!(sum);
            out["consumer_count"] = json!(consumers.len());
            (kind, out)
        })
        .collect();
    Ok(Json(json!({"usages": view})))
}
