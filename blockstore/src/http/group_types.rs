//! `/group_types` and their specs (3.11)

use super::schemas::{CREATE_GROUP_TYPE, EXTRA_SPEC, GROUP_SPECS, UPDATE_TYPE};
use super::{Answer, Ask, Shared, boolean, cut, inner, sort, text, volumes::map};
use crate::VolumeError;
use crate::group_types::GroupType;
use api::{Error, Json, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/group_types", list)
        .post("/group_types", create)
        .get("/group_types/{group_type_id}", show)
        .put("/group_types/{group_type_id}", update)
        .delete("/group_types/{group_type_id}", delete)
        .get("/group_types/{group_type_id}/group_specs", specs)
        .post("/group_types/{group_type_id}/group_specs", add_specs)
        .get("/group_types/{group_type_id}/group_specs/{key}", show_spec)
        .put("/group_types/{group_type_id}/group_specs/{key}", put_spec)
        .delete("/group_types/{group_type_id}/group_specs/{key}", delete_spec)
}

/// Only administrators see the specs.
fn view(ask: &Ask, t: &GroupType) -> Value {
    let mut view =
        json!({"id": t.id, "name": t.name, "description": t.description, "is_public": t.is_public});
    if ask.ctx.is_admin() {
        view["group_specs"] = json!(t.specs);
    }
    view
}

async fn list(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    ask.since(11)?;
    let page = ask.page(&v, &["id", "name", "created_at"])?;
    let mut all = v.list_group_types(&ask.ctx).await?;
    match ask.query.get("is_public") {
        Some(none) if none.eq_ignore_ascii_case("none") => {}
        Some(_) if ask.ctx.is_admin() => {
            let public = ask.query.bool("is_public")?.unwrap_or(true);
            all.retain(|t| t.is_public == public);
        }
        _ => all.retain(|t| t.is_public),
    }
    all.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    sort(&page, &mut all, |key, a, b| match key {
        "id" => a.id.cmp(&b.id),
        "name" => a.name.cmp(&b.name),
        _ => a.created_at.cmp(&b.created_at),
    });
    let (found, more) = cut(&page, all, |t| &t.id, VolumeError::GroupTypeNotFound)?;
    let shown = found.iter().map(|t| view(&ask, t)).collect();
    Ok(Json(ask.listed(&page, ("group_types", "group_type_links"), shown, more)))
}

async fn show(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    ask.since(11)?;
    let kind = match id.as_str() {
        // As upstream where none is configured.
        "default" => return Err(Error::not_found("Default group type can not be found.").into()),
        id => v.find_group_type(&ask.ctx, id, false).await?,
    };
    Ok(Json(json!({"group_type": view(&ask, &kind)})))
}

async fn create(
    State(v): State<Shared>,
    ask: Ask,
    Json(body): Json<Value>,
) -> Answer<(StatusCode, Json<Value>)> {
    ask.since(11)?;
    CREATE_GROUP_TYPE.check(&body)?;
    let t = inner(&body, "group_type")?;
    let public = t.get("is_public").map_or(Ok(true), |p| boolean(p, "is_public"))?;
    let (name, specs) = (named(t)?, map(t.get("group_specs")));
    let kind = v.create_group_type(&ask.ctx, name, text(t.get("description")), public, specs).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"group_type": view(&ask, &kind)}))))
}

fn named(t: &Value) -> Result<String, Error> {
    let name = text(t.get("name")).filter(|n| !n.is_empty());
    name.ok_or_else(|| Error::bad_request("Group type name can not be empty."))
}

async fn update(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    ask.since(11)?;
    let t = inner(&body, "group_type")?;
    UPDATE_TYPE.check(&json!({"volume_type": t}))?;
    let name = t.get("name").filter(|n| !n.is_null()).map(|_| named(t)).transpose()?;
    let description = t.get("description").map(|d| text(Some(d)));
    let public = t.get("is_public").map(|p| boolean(p, "is_public")).transpose()?;
    if name.is_none() && description.is_none() && public.is_none() {
        return Err(Error::bad_request(
            "Specify group type name, description or is_public or a combination thereof.",
        )
        .into());
    }
    let edit = |kind: &mut GroupType| {
        kind.name = name.unwrap_or(std::mem::take(&mut kind.name));
        kind.description = description.unwrap_or(kind.description.take());
        kind.is_public = public.unwrap_or(kind.is_public);
        Ok(())
    };
    let kind = v.edit_group_type(&ask.ctx, &id, "group:group_types:update", edit).await?;
    Ok(Json(json!({"group_type": view(&ask, &kind)})))
}

async fn delete(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<StatusCode> {
    ask.since(11)?;
    v.delete_group_type(&ask.ctx, &id).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn specs(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    ask.since(11)?;
    Ok(Json(json!({"group_specs": v.group_type_specs(&ask.ctx, &id).await?})))
}

async fn show_spec(
    State(v): State<Shared>,
    ask: Ask,
    Path((id, key)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    ask.since(11)?;
    let value = v.group_type_specs(&ask.ctx, &id).await?.remove(&key).ok_or_else(|| no_spec(&id, &key))?;
    Ok(Json(json!({key: value})))
}

fn no_spec(id: &str, key: &str) -> VolumeError {
    VolumeError::NotFound(format!("Group Type {id} has no specs with key {key}."))
}

async fn add_specs(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<(StatusCode, Json<Value>)> {
    ask.since(11)?;
    GROUP_SPECS.check(&body)?;
    let given = map(body.get("group_specs"));
    let edit = |kind: &mut GroupType| {
        kind.specs.extend(given);
        Ok(())
    };
    v.edit_group_type(&ask.ctx, &id, "group:group_types_specs:create", edit).await?;
    Ok((StatusCode::ACCEPTED, Json(body)))
}

async fn put_spec(
    State(v): State<Shared>,
    ask: Ask,
    Path((id, key)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    ask.since(11)?;
    EXTRA_SPEC.check(&body)?;
    let value = map(Some(&body)).remove(&key);
    let value = value.ok_or_else(|| Error::bad_request("Request body and URI mismatch"))?;
    let edit = |kind: &mut GroupType| {
        kind.specs.insert(key, value);
        Ok(())
    };
    v.edit_group_type(&ask.ctx, &id, "group:group_types_specs:update", edit).await?;
    Ok(Json(body))
}

async fn delete_spec(
    State(v): State<Shared>,
    ask: Ask,
    Path((id, key)): Path<(String, String)>,
) -> Answer<StatusCode> {
    ask.since(11)?;
    let edit = |kind: &mut GroupType| kind.specs.remove(&key).map(drop).ok_or_else(|| no_spec(&id, &key));
    v.edit_group_type(&ask.ctx, &id, "group:group_types_specs:delete", edit).await?;
    Ok(StatusCode::ACCEPTED)
}
