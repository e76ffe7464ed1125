//! `/types`, their extra specs and who may use them; `/default-types`

use super::schemas::{CREATE_TYPE, EXTRA_SPEC, EXTRA_SPECS, UPDATE_TYPE};
use super::{Answer, Ask, Shared, boolean, cut, inner, sort, text, view, volumes::map};
use crate::VolumeError;
use crate::model::{Metadata, VolumeType};
use crate::types::{NewType, Public, TypeChange};
use api::{Error, Json, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/types", list)
        .post("/types", create)
        .get("/types/{type_id}", show)
        .put("/types/{type_id}", update)
        .delete("/types/{type_id}", delete)
        .post("/types/{type_id}/action", act)
        .get("/types/{type_id}/os-volume-type-access", access)
        .get("/types/{type_id}/extra_specs", specs)
        .post("/types/{type_id}/extra_specs", add_specs)
        .get("/types/{type_id}/extra_specs/{key}", show_spec)
        .put("/types/{type_id}/extra_specs/{key}", put_spec)
        .delete("/types/{type_id}/extra_specs/{key}", delete_spec)
        .get("/default-types", list_defaults)
        .get("/default-types/{project_id}", show_default)
        .put("/default-types/{project_id}", set_default)
        .delete("/default-types/{project_id}", unset_default)
}

/// Extra specs that every tenant may see.
const OPEN_SPECS: [&str; 4] =
    ["multiattach", "replication_enabled", "RESKEY:availability_zones", "capabilities:multiattach"];

fn visible(ask: &Ask, kind: &VolumeType) -> Metadata {
    let mut specs = kind.extra_specs.clone();
    if !ask.ctx.is_admin() {
        specs.retain(|k, _| OPEN_SPECS.contains(&k.as_str()));
    }
    specs
}

/// What create and update answer.
fn plain(ask: &Ask, kind: &VolumeType) -> Value {
    json!({
        "id": kind.id,
        "name": kind.name,
        "is_public": kind.is_public,
        "description": kind.description,
        "extra_specs": visible(ask, kind),
    })
}

fn full(ask: &Ask, kind: &VolumeType) -> Value {
    let mut view = plain(ask, kind);
    view["os-volume-type-access:is_public"] = kind.is_public.into();
    if ask.ctx.is_admin() {
        view["qos_specs_id"] = json!(kind.qos_specs_id);
    }
    view
}

/// The whole row, as an upload's answer shows it.
pub(super) fn row(kind: &VolumeType) -> Value {
    json!({
        "id": kind.id, "name": kind.name, "description": kind.description, "is_public": kind.is_public,
        "extra_specs": kind.extra_specs, "qos_specs_id": kind.qos_specs_id, "deleted": false, "deleted_at": null,
        "created_at": kind.created_at.micros_naive(), "updated_at": view::time(kind.updated_at),
    })
}

async fn list(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    let page = ask.page(&v, &["id", "name", "created_at", "updated_at"])?;
    let which = match ask.query.get("is_public") {
        None => Public::Usable,
        Some(none) if none.eq_ignore_ascii_case("none") => Public::All,
        Some(_) if ask.query.bool("is_public")?.unwrap_or(true) => Public::Yes,
        Some(_) => Public::No,
    };
    let mut all = v.list_types(&ask.ctx, which).await?;
    if let Some(name) = ask.query.get("name") {
        all.retain(|t| t.name == name);
    }
    if let Some(specs) = ask.query.get("extra_specs").filter(|_| ask.at(52)) {
        let wanted = super::filters::pairs("extra_specs", specs)?;
        all.retain(|t| wanted.iter().all(|(k, v)| visible(&ask, t).get(k) == Some(v)));
    }
    sort(&page, &mut all, |key, a, b| match key {
        "id" => a.id.cmp(&b.id),
        "name" => a.name.cmp(&b.name),
        "updated_at" => a.updated_at.cmp(&b.updated_at),
        _ => a.created_at.cmp(&b.created_at),
    });
    let (found, more) = cut(&page, all, |t| &t.id, VolumeError::TypeNotFound)?;
    let shown = found.iter().map(|t| full(&ask, t)).collect();
    Ok(Json(ask.listed(&page, ("volume_types", "volume_type_links"), shown, more)))
}

async fn show(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    let kind = match id.as_str() {
        "default" => v.effective_default(&ask.ctx).await?,
        id => v.show_type(&ask.ctx, id).await?,
    };
    Ok(Json(json!({"volume_type": full(&ask, &kind)})))
}

async fn create(State(v): State<Shared>, ask: Ask, Json(body): Json<Value>) -> Answer<Json<Value>> {
    CREATE_TYPE.check(&body)?;
    let t = inner(&body, "volume_type")?;
    let name = text(t.get("name")).filter(|n| !n.is_empty());
    let public = t.get("os-volume-type-access:is_public");
    let new = NewType {
        name: name.ok_or_else(|| Error::bad_request("Volume type name can not be empty."))?,
        description: text(t.get("description")),
        is_public: public.map_or(Ok(true), |p| boolean(p, "os-volume-type-access:is_public"))?,
        extra_specs: map(t.get("extra_specs")),
    };
    let kind = v.create_type(&ask.ctx, new).await?;
    let mut view = plain(&ask, &kind);
    view["os-volume-type-access:is_public"] = kind.is_public.into();
    Ok(Json(json!({"volume_type": view})))
}

async fn update(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    UPDATE_TYPE.check(&body)?;
    let t = inner(&body, "volume_type")?;
    let name = text(t.get("name"));
    if name.as_deref() == Some("") {
        return Err(Error::bad_request("Volume type name can not be empty.").into());
    }
    let change = TypeChange {
        name,
        description: t.get("description").map(|d| text(Some(d))),
        is_public: t.get("is_public").map(|p| boolean(p, "is_public")).transpose()?,
    };
    if change.name.is_none() && change.description.is_none() && change.is_public.is_none() {
        return Err(Error::bad_request(
            "Specify volume type name, description, is_public or a combination thereof.",
        )
        .into());
    }
    let kind = v.update_type(&ask.ctx, &id, change).await?;
    Ok(Json(json!({"volume_type": plain(&ask, &kind)})))
}

async fn delete(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<StatusCode> {
    v.delete_type(&ask.ctx, &id).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn act(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<StatusCode> {
    let verb = super::actions::verb(&body)?;
    let project = text(body[verb].get("project"))
        .filter(|p| !p.is_empty() && p.len() <= 255)
        .ok_or_else(|| Error::bad_request("Invalid input for field/attribute project."))?;
    match verb {
        "addProjectAccess" => v.grant_type(&ask.ctx, &id, &project).await?,
        "removeProjectAccess" => v.revoke_type(&ask.ctx, &id, &project).await?,
        other => return Err(super::actions::unknown(other).into()),
    }
    Ok(StatusCode::ACCEPTED)
}

async fn access(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    let projects = v.type_access(&ask.ctx, &id).await?;
    let shown: Vec<Value> = projects.iter().map(|p| json!({"volume_type_id": id, "project_id": p})).collect();
    Ok(Json(json!({"volume_type_access": shown})))
}

async fn specs(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    let kind = v.show_type(&ask.ctx, &id).await?;
    Ok(Json(json!({"extra_specs": visible(&ask, &kind)})))
}

async fn show_spec(
    State(v): State<Shared>,
    ask: Ask,
    Path((id, key)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    let kind = v.show_type(&ask.ctx, &id).await?;
    let value = visible(&ask, &kind).remove(&key).ok_or_else(|| no_spec(&id, &key))?;
    Ok(Json(json!({key: value})))
}

fn no_spec(id: &str, key: &str) -> VolumeError {
    VolumeError::NotFound(format!("Volume Type {id} has no extra specs with key {key}."))
}

async fn add_specs(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    EXTRA_SPECS.check(&body)?;
    let given = map(body.get("extra_specs"));
    let rule = "volume_extension:types_extra_specs:create";
    let added = given.clone();
    let edit = |specs: &mut Metadata| {
        specs.extend(given);
        Ok(())
    };
    v.edit_extra_specs(&ask.ctx, &id, rule, edit).await?;
    Ok(Json(json!({"extra_specs": added})))
}

async fn put_spec(
    State(v): State<Shared>,
    ask: Ask,
    Path((id, key)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    EXTRA_SPEC.check(&body)?;
    let value = map(Some(&body)).remove(&key);
    let value = value.ok_or_else(|| Error::bad_request("Request body and URI mismatch"))?;
    let rule = "volume_extension:types_extra_specs:update";
    let edit = |specs: &mut Metadata| {
        specs.insert(key, value);
        Ok(())
    };
    v.edit_extra_specs(&ask.ctx, &id, rule, edit).await?;
    Ok(Json(body))
}

async fn delete_spec(
    State(v): State<Shared>,
    ask: Ask,
    Path((id, key)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let rule = "volume_extension:types_extra_specs:delete";
    let edit = |specs: &mut Metadata| specs.remove(&key).map(drop).ok_or_else(|| no_spec(&id, &key));
    v.edit_extra_specs(&ask.ctx, &id, rule, edit).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn list_defaults(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    ask.since(62)?;
    let all = v.default_types(&ask.ctx).await?;
    let shown: Vec<Value> = all.iter().map(|(p, t)| json!({"project_id": p, "volume_type_id": t})).collect();
    Ok(Json(json!({"default_types": shown})))
}

async fn show_default(State(v): State<Shared>, ask: Ask, Path(project): Path<String>) -> Answer<Json<Value>> {
    ask.since(62)?;
    let kind = v.project_default(&ask.ctx, &project).await?;
    Ok(Json(json!({"default_type": {"project_id": project, "volume_type_id": kind}})))
}

async fn set_default(
    State(v): State<Shared>,
    ask: Ask,
    Path(project): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    ask.since(62)?;
    let wanted = text(inner(&body, "default_type")?.get("volume_type")).filter(|t| !t.is_empty());
    let wanted =
        wanted.ok_or_else(|| Error::bad_request("Invalid input for field/attribute volume_type."))?;
    let kind = v.set_project_default(&ask.ctx, &project, &wanted).await?;
    Ok(Json(json!({"default_type": {"project_id": project, "volume_type_id": kind.id}})))
}

async fn unset_default(State(v): State<Shared>, ask: Ask, Path(project): Path<String>) -> Answer<StatusCode> {
    ask.since(62)?;
    v.unset_project_default(&ask.ctx, &project).await?;
    Ok(StatusCode::NO_CONTENT)
}
