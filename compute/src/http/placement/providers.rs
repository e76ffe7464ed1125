//! `/resource_providers` and what hangs on one.

use super::super::App;
use super::{since, uuid, whole};
use crate::ComputeError;
use crate::placement::candidates::{Group, meeting};
use crate::placement::providers as rules;
use crate::placement::store::{self, Inventory, Provider, Set};
use api::{Context, Error, Json, Microversion, Path, Query, Routes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(super) fn routes(r: Routes<App>) -> Routes<App> {
    r.get("/resource_providers", index)
        .post("/resource_providers", create)
        .get("/resource_providers/{uuid}", show)
        .put("/resource_providers/{uuid}", update)
        .delete("/resource_providers/{uuid}", delete)
        .get("/resource_providers/{uuid}/inventories", inventories)
        .put("/resource_providers/{uuid}/inventories", set_inventories)
        .post("/resource_providers/{uuid}/inventories", add_inventory)
        .delete("/resource_providers/{uuid}/inventories", clear_inventories)
        .get("/resource_providers/{uuid}/inventories/{class}", inventory)
        .put("/resource_providers/{uuid}/inventories/{class}", set_inventory)
        .delete("/resource_providers/{uuid}/inventories/{class}", delete_inventory)
        .get("/resource_providers/{uuid}/usages", usages)
        .get("/resource_providers/{uuid}/traits", traits)
        .put("/resource_providers/{uuid}/traits", set_traits)
        .delete("/resource_providers/{uuid}/traits", clear_traits)
        .get("/resource_providers/{uuid}/aggregates", aggregates)
        .put("/resource_providers/{uuid}/aggregates", set_aggregates)
}

fn view(app: &App, p: &Provider, v: Microversion) -> Value {
    let base = format!("/placement/resource_providers/{}", p.id);
    let link = |rel: &str| {
        let path = if rel == "self" { base.clone() } else { format!("{base}/{rel}") };
        json!({"rel": rel, "href": app.links.to(&path)})
    };
    let mut rels = vec!["self", "inventories", "usages"];
    for (minor, rel) in [(1, "aggregates"), (6, "traits"), (11, "allocations")] {
        if v >= Microversion(1, minor) {
            rels.push(rel);
        }
    }
    let mut out = json!({
        "uuid": p.id,
        "name": p.name,
        "generation": p.generation,
        "links": rels.into_iter().map(link).collect::<Vec<_>>(),
    });
    if v >= Microversion(1, 14) {
        out["parent_provider_uuid"] = json!(Some(&p.parent_id).filter(|p| !p.is_empty()));
        out["root_provider_uuid"] = json!(p.root_id);
    }
    out
}

/// The filters of a listing, which are those of a candidate.
pub(super) fn group(query: &Query, suffix: &str, v: Microversion) -> Result<Group, Error> {
    let mut out = Group::default();
    let name = |base: &str| format!("{base}{suffix}");
    if let Some(list) = query.get(&name("resources")) {
        for part in list.split(',') {
            let (class, amount) = part.split_once(':').unwrap_or((part, ""));
            let amount: i64 = amount.parse().ok().filter(|n| *n > 0).ok_or_else(|| {
                Error::bad_request(format!(
                    "Requested resource {class} expected positive integer amount. Got: {amount}."
                ))
            })?;
            out.resources.insert(class.to_owned(), amount);
        }
    }
    let in_set = |list: &str| -> Vec<String> {
        match list.strip_prefix("in:") {
            Some(several) => several.split(',').map(str::to_owned).collect(),
            None => vec![list.to_owned()],
        }
    };
    for list in query.all(&name("required")) {
        if list.starts_with("in:") {
            if v < Microversion(1, 39) {
                return Err(Error::bad_request("The format 'in:' in required needs microversion 1.39."));
            }
            out.required.push(in_set(list));
            continue;
        }
        for word in list.split(',') {
            match word.strip_prefix('!') {
                Some(not) => out.forbidden.push(not.to_owned()),
                None => out.required.push(vec![word.to_owned()]),
            }
        }
    }
    for list in query.all(&name("member_of")) {
        match list.strip_prefix('!') {
            Some(not) => out.not_member_of.extend(in_set(not)),
            None => out.member_of.push(in_set(list)),
        }
    }
    out.in_tree = query.get(&name("in_tree")).map(uuid).transpose()?;
    Ok(out)
}

async fn index(app: State<App>, ctx: Context, v: Microversion, query: Query) -> Result<Json<Value>, Error> {
    let mut tx = app.placing(&ctx).await?;
    let wanted = group(&query, "", v)?;
    let known = store::traits(&mut tx).await?;
    let named = wanted.required.iter().flatten().chain(&wanted.forbidden);
    if let Some(unknown) = named.into_iter().find(|t| !known.contains(t)) {
        return Err(Error::bad_request(format!("No such trait(s): {unknown}.")));
    }
    let (name, id) = (query.get("name"), query.get("uuid").map(uuid).transpose()?);
    let found = meeting(&mut tx, &wanted).await?;
    let is = |p: &Provider| name.is_none_or(|n| n == p.name) && id.as_ref().is_none_or(|i| *i == p.id);
    let views: Vec<_> =
        found.iter().filter(|c| is(&c.provider)).map(|c| view(&app, &c.provider, v)).collect();
    Ok(Json(json!({"resource_providers": views})))
}

fn name_of(body: &Value) -> Result<&str, Error> {
    let name = body["name"].as_str().filter(|n| !n.is_empty() && n.chars().count() <= 200);
    name.ok_or_else(|| Error::bad_request("JSON does not validate: 'name' is a required property"))
}

fn parent_of(body: &Value, v: Microversion) -> Result<Option<String>, Error> {
    match body.get("parent_provider_uuid") {
        None | Some(Value::Null) => Ok(None),
        Some(_) if v < Microversion(1, 14) => Err(Error::bad_request(
            "JSON does not validate: Additional properties are not allowed ('parent_provider_uuid' was unexpected)",
        )),
        Some(id) => uuid(id.as_str().unwrap_or_default()).map(Some),
    }
}

async fn create(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Json(body): Json<Value>,
) -> Result<Response, Error> {
    let mut tx = app.placing(&ctx).await?;
    let id = match body.get("uuid") {
        Some(id) => uuid(id.as_str().unwrap_or_default())?,
        None => state::new_id(),
    };
    let made = rules::create(&mut tx, &id, name_of(&body)?, parent_of(&body, v)?.as_deref()).await?;
    tx.commit().await?;
    let mut response = if v >= Microversion(1, 20) {
        Json(view(&app, &made, v)).into_response()
    } else {
        StatusCode::CREATED.into_response()
    };
    if let Ok(at) = HeaderValue::from_str(&app.links.to(&format!("/placement/resource_providers/{id}"))) {
        response.headers_mut().insert(header::LOCATION, at);
    }
    Ok(response)
}

async fn show(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    let mut tx = app.placing(&ctx).await?;
    Ok(Json(view(&app, &rules::provider(&mut tx, &id).await?, v)))
}

async fn update(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    let mut tx = app.placing(&ctx).await?;
    let now = rules::provider(&mut tx, &id).await?;
    // A body that says nothing of the parent keeps it.
    let parent = match body.get("parent_provider_uuid") {
        None => Some(now.parent_id).filter(|p| !p.is_empty()),
        Some(_) => parent_of(&body, v)?,
    };
    let replace = v >= Microversion(1, 37);
    let changed = rules::update(&mut tx, &id, name_of(&body)?, parent.as_deref(), replace).await?;
    tx.commit().await?;
    Ok(Json(view(&app, &changed, v)))
}

async fn delete(app: State<App>, ctx: Context, Path(id): Path<String>) -> Result<StatusCode, Error> {
    let mut tx = app.placing(&ctx).await?;
    rules::delete(&mut tx, &id).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn inventories_view(p: &Provider, all: &BTreeMap<String, Inventory>) -> Value {
    json!({"resource_provider_generation": p.generation, "inventories": all})
}

fn read_inventory(body: &Value) -> Result<Inventory, Error> {
    let number = |key: &str, or: i64| match body.get(key) {
        Some(v) => whole(v, key),
        None => Ok(or),
    };
    let total = body
        .get("total")
        .ok_or_else(|| Error::bad_request("JSON does not validate: 'total' is a required property"))?;
    let ratio = body.get("allocation_ratio").map_or(Some(1.0), Value::as_f64);
    let inventory = Inventory {
        total: whole(total, "total")?,
        reserved: number("reserved", 0)?,
        min_unit: number("min_unit", 1)?,
        max_unit: number("max_unit", 0x7FFF_FFFF)?,
        step_size: number("step_size", 1)?,
        allocation_ratio: ratio.unwrap_or(-1.0),
    };
    let good = inventory.total >= 1
        && inventory.min_unit >= 1
        && inventory.max_unit >= 1
        && inventory.step_size >= 1
        && inventory.allocation_ratio >= 0.0;
    if good {
        Ok(inventory)
    } else {
        Err(Error::bad_request("JSON does not validate: the inventory's numbers are out of range"))
    }
}

fn generation(body: &Value) -> Result<i64, Error> {
    let at = body.get("resource_provider_generation");
    at.and_then(Value::as_i64).ok_or_else(|| {
        Error::bad_request("JSON does not validate: 'resource_provider_generation' is a required property")
    })
}

async fn inventories(app: State<App>, ctx: Context, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    let mut tx = app.placing(&ctx).await?;
    let p = rules::provider(&mut tx, &id).await?;
    Ok(Json(inventories_view(&p, &store::inventories(&mut tx, &id).await?)))
}

async fn set_inventories(
    app: State<App>,
    ctx: Context,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    let mut tx = app.placing(&ctx).await?;
    rules::provider(&mut tx, &id).await?;
    let given = body["inventories"].as_object();
    let given = given
        .ok_or_else(|| Error::bad_request("JSON does not validate: 'inventories' is a required property"))?;
    let all = given
        .iter()
        .map(|(class, i)| Ok((class.clone(), read_inventory(i)?)))
        .collect::<Result<BTreeMap<_, _>, Error>>()?;
    let p = rules::set_inventories(&mut tx, &id, generation(&body)?, &all).await?;
    tx.commit().await?;
    Ok(Json(inventories_view(&p, &all)))
}

async fn add_inventory(
    app: State<App>,
    ctx: Context,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Response, Error> {
    let mut tx = app.placing(&ctx).await?;
    let class = body["resource_class"].as_str().unwrap_or_default().to_owned();
    let p = rules::provider(&mut tx, &id).await?;
    let mut all = store::inventories(&mut tx, &id).await?;
    if all.insert(class.clone(), read_inventory(&body)?).is_some() {
        return Err(Error::conflict(format!("Inventory for {class} on {id} exists already.")));
    }
    let at = body.get("resource_provider_generation").and_then(Value::as_i64).unwrap_or(p.generation);
    let p = rules::set_inventories(&mut tx, &id, at, &all).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(one_inventory(&p, &all[&class]))).into_response())
}

async fn clear_inventories(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    since(v, 5)?;
    let mut tx = app.placing(&ctx).await?;
    let p = rules::provider(&mut tx, &id).await?;
    rules::set_inventories(&mut tx, &id, p.generation, &BTreeMap::new()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn one_inventory(p: &Provider, i: &Inventory) -> Value {
    let mut out = json!(i);
    out["resource_provider_generation"] = json!(p.generation);
    out
}

fn no_inventory(id: &str, class: &str) -> ComputeError {
    ComputeError::NotFound(format!("No inventory of class {class} for {id}"))
}

async fn inventory(
    app: State<App>,
    ctx: Context,
    Path((id, class)): Path<(String, String)>,
) -> Result<Json<Value>, Error> {
    let mut tx = app.placing(&ctx).await?;
    let p = rules::provider(&mut tx, &id).await?;
    let all = store::inventories(&mut tx, &id).await?;
    Ok(Json(one_inventory(&p, all.get(&class).ok_or_else(|| no_inventory(&id, &class))?)))
}

async fn set_inventory(
    app: State<App>,
    ctx: Context,
    Path((id, class)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    let mut tx = app.placing(&ctx).await?;
    rules::provider(&mut tx, &id).await?;
    let mut all = store::inventories(&mut tx, &id).await?;
    let new = read_inventory(&body)?;
    all.insert(class, new.clone());
    let p = rules::set_inventories(&mut tx, &id, generation(&body)?, &all).await?;
    tx.commit().await?;
    Ok(Json(one_inventory(&p, &new)))
}

async fn delete_inventory(
    app: State<App>,
    ctx: Context,
    Path((id, class)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    let mut tx = app.placing(&ctx).await?;
    let p = rules::provider(&mut tx, &id).await?;
    let mut all = store::inventories(&mut tx, &id).await?;
    all.remove(&class).ok_or_else(|| no_inventory(&id, &class))?;
    rules::set_inventories(&mut tx, &id, p.generation, &all).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn usages(app: State<App>, ctx: Context, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    let mut tx = app.placing(&ctx).await?;
    let p = rules::provider(&mut tx, &id).await?;
    let used = store::all_usages(&mut tx).await?.remove(&id).unwrap_or_default();
    let all = store::inventories(&mut tx, &id).await?;
    let view: Map<_, _> = all.keys().map(|c| (c.clone(), json!(used.get(c).copied().unwrap_or(0)))).collect();
    Ok(Json(json!({"resource_provider_generation": p.generation, "usages": view})))
}

async fn traits(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    since(v, 6)?;
    let mut tx = app.placing(&ctx).await?;
    let p = rules::provider(&mut tx, &id).await?;
    let traits = store::members(&mut tx, Set::Traits, &id).await?;
    Ok(Json(json!({"resource_provider_generation": p.generation, "traits": traits})))
}

fn strings(v: &Value, what: &str) -> Result<Vec<String>, Error> {
    let list = v.as_array().ok_or_else(|| {
        Error::bad_request(format!("JSON does not validate: '{what}' is a required property"))
    })?;
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let all: Option<Vec<_>> = list.iter().map(text).collect();
    all.ok_or_else(|| Error::bad_request(format!("JSON does not validate: {what} must be strings")))
}

async fn set_traits(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    since(v, 6)?;
    let mut tx = app.placing(&ctx).await?;
    let traits = strings(&body["traits"], "traits")?;
    let p = rules::set_traits(&mut tx, &id, generation(&body)?, &traits).await?;
    tx.commit().await?;
    Ok(Json(json!({"resource_provider_generation": p.generation, "traits": traits})))
}

async fn clear_traits(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    since(v, 6)?;
    let mut tx = app.placing(&ctx).await?;
    let p = rules::provider(&mut tx, &id).await?;
    rules::set_traits(&mut tx, &id, p.generation, &[]).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn aggregates_view(p: &Provider, ids: &[String], v: Microversion) -> Value {
    let mut out = json!({"aggregates": ids});
    if v >= Microversion(1, 19) {
        out["resource_provider_generation"] = json!(p.generation);
    }
    out
}

async fn aggregates(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    since(v, 1)?;
    let mut tx = app.placing(&ctx).await?;
    let p = rules::provider(&mut tx, &id).await?;
    Ok(Json(aggregates_view(&p, &store::members(&mut tx, Set::Aggregates, &id).await?, v)))
}

async fn set_aggregates(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    since(v, 1)?;
    let mut tx = app.placing(&ctx).await?;
    let list = if v >= Microversion(1, 19) {
        rules::unchanged(&mut tx, &id, generation(&body)?).await?;
        strings(&body["aggregates"], "aggregates")?
    } else {
        strings(&body, "aggregates")?
    };
    // They stay as they are written, with dashes or without.
    for aggregate in &list {
        uuid(aggregate)?;
    }
    rules::provider(&mut tx, &id).await?;
    store::set_members(&mut tx, Set::Aggregates, &id, &list).await?;
    let p = rules::provider(&mut tx, &id).await?;
    tx.commit().await?;
    Ok(Json(aggregates_view(&p, &list, v)))
}
