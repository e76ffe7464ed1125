//! What hangs on a server: metadata, tags, security groups, the record of what was done to it.

use super::App;
use super::server_create::strings;
use crate::model::Server;
use crate::states::Act;
use crate::store::{actions as action_rows, servers as rows};
use crate::{Compute, ComputeError};
use api::{Context, Error, Json, Microversion, Path, Routes, schema::Schema};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

pub(super) fn routes(r: Routes<App>) -> Routes<App> {
    r.get("/servers/{server_id}/metadata", metadata)
        .post("/servers/{server_id}/metadata", add_metadata)
        .put("/servers/{server_id}/metadata", set_metadata)
        .get("/servers/{server_id}/metadata/{key}", metadatum)
        .put("/servers/{server_id}/metadata/{key}", set_metadatum)
        .delete("/servers/{server_id}/metadata/{key}", delete_metadatum)
        .get("/servers/{server_id}/tags", tags)
        .put("/servers/{server_id}/tags", set_tags)
        .delete("/servers/{server_id}/tags", clear_tags)
        .get("/servers/{server_id}/tags/{tag}", has_tag)
        .put("/servers/{server_id}/tags/{tag}", add_tag)
        .delete("/servers/{server_id}/tags/{tag}", delete_tag)
        .get("/servers/{server_id}/os-security-groups", security_groups)
        .get("/servers/{server_id}/os-instance-actions", instance_actions)
        .get("/servers/{server_id}/os-instance-actions/{request_id}", instance_action)
        .get("/servers/{server_id}/os-server-password", password)
        .delete("/servers/{server_id}/os-server-password", clear_password)
        .get("/servers/{server_id}/migrations", migrations)
}

static METADATA: LazyLock<Schema> = LazyLock::new(|| {
    let pairs = json!({"type": "object", "additionalProperties": false, "patternProperties":
        {"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": "string", "maxLength": 255}}});
    Schema::new(&json!({"type": "object", "properties": {"metadata": pairs.clone(), "meta": pairs},
        "additionalProperties": false}))
});

/// Metadata that comes inside another request.
pub(super) fn check_metadata(args: &Value) -> Result<(), Error> {
    match args.get("metadata") {
        Some(metadata) => METADATA.check(&json!({"metadata": metadata})),
        None => Ok(()),
    }
}

async fn metadata(app: State<App>, ctx: Context, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    let s = app.server(&ctx, &id, "os_compute_api:server-metadata:index").await?;
    Ok(Json(json!({"metadata": s.metadata})))
}

/// Changes the metadata; what exceeds the quota is refused as a whole.
async fn change_metadata(
    app: &Compute,
    ctx: &Context,
    id: &str,
    rule: &str,
    change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), ComputeError> + Send,
) -> Result<Server, ComputeError> {
    let seen = app.server(ctx, id, rule).await?;
    app.check_lock(ctx, &seen)?;
    let most = app.limits(&seen.project_id).await?.get("metadata_items").copied().unwrap_or(-1);
    app.change_server(ctx, id, rule, |s| {
        change(&mut s.metadata)?;
        if most >= 0 && i64::try_from(s.metadata.len()).unwrap_or(i64::MAX) > most {
            return Err(ComputeError::Forbidden("Maximum number of metadata items exceeds the quota".into()));
        }
        Ok(())
    })
    .await
}

async fn add_metadata(
    app: State<App>,
    ctx: Context,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    let more = given(&body, "metadata")?;
    let rule = "os_compute_api:server-metadata:create";
    let s = change_metadata(&app, &ctx, &id, rule, |m| {
        m.extend(more);
        Ok(())
    });
    Ok(Json(json!({"metadata": s.await?.metadata})))
}

async fn set_metadata(
    app: State<App>,
    ctx: Context,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    let all = given(&body, "metadata")?;
    let rule = "os_compute_api:server-metadata:update_all";
    let s = change_metadata(&app, &ctx, &id, rule, |m| {
        *m = all;
        Ok(())
    });
    Ok(Json(json!({"metadata": s.await?.metadata})))
}

fn given(body: &Value, key: &str) -> Result<BTreeMap<String, String>, Error> {
    METADATA.check(body)?;
    let pairs = body.get(key).ok_or_else(|| Error::bad_request(format!("'{key}' is a required property")))?;
    Ok(strings(pairs))
}

fn no_item() -> ComputeError {
    ComputeError::NotFound("Metadata item was not found".into())
}

async fn metadatum(
    app: State<App>,
    ctx: Context,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<Value>, Error> {
    let s = app.server(&ctx, &id, "os_compute_api:server-metadata:show").await?;
    let value = s.metadata.get(&key).ok_or_else(no_item)?;
    Ok(Json(json!({"meta": {key: value}})))
}

async fn set_metadatum(
    app: State<App>,
    ctx: Context,
    Path((id, key)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    let pairs = given(&body, "meta")?;
    let Some(value) = pairs.get(&key).filter(|_| pairs.len() == 1).cloned() else {
        return Err(Error::bad_request("Request body and URI mismatch"));
    };
    let rule = "os_compute_api:server-metadata:update";
    change_metadata(&app, &ctx, &id, rule, |m| {
        m.insert(key.clone(), value.clone());
        Ok(())
    })
    .await?;
    Ok(Json(json!({"meta": pairs})))
}

async fn delete_metadatum(
    app: State<App>,
    ctx: Context,
    Path((id, key)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    let rule = "os_compute_api:server-metadata:delete";
    change_metadata(&app, &ctx, &id, rule, |m| m.remove(&key).map(drop).ok_or_else(no_item)).await?;
    Ok(StatusCode::NO_CONTENT)
}

const MAX_TAGS: usize = 50;

fn since_tags(v: Microversion) -> Result<(), Error> {
    if v < Microversion(2, 26) { Err(Error::not_found("The resource could not be found.")) } else { Ok(()) }
}

fn check_tag(tag: &str) -> Result<(), ComputeError> {
    if tag.is_empty() || tag.chars().count() > 60 || tag.contains([',', '/']) {
        return Err(ComputeError::invalid(format!(
            "Tag '{tag}' is invalid. It must be a non empty string without characters '/' and ','. Validation error \
             message: '{tag}' is too long or does not match"
        )));
    }
    Ok(())
}

async fn tags(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    since_tags(v)?;
    let s = app.server(&ctx, &id, "os_compute_api:os-server-tags:index").await?;
    Ok(Json(json!({"tags": s.tags})))
}

async fn set_tags(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    since_tags(v)?;
    let list = body["tags"].as_array().ok_or_else(|| Error::bad_request("'tags' is a required property"))?;
    let mut tags = Vec::with_capacity(list.len());
    for tag in list {
        let tag =
            tag.as_str().ok_or_else(|| Error::bad_request("Invalid input for field/attribute tags."))?;
        check_tag(tag)?;
        tags.push(tag.to_owned());
    }
    if tags.len() > MAX_TAGS {
        return Err(Error::bad_request(format!(
            "The number of tags exceeded the per-server limit {MAX_TAGS}"
        )));
    }
    let s = app
        .change_server(&ctx, &id, "os_compute_api:os-server-tags:update_all", |s| {
            s.tags = tags.into_iter().collect();
            Ok(())
        })
        .await?;
    Ok(Json(json!({"tags": s.tags})))
}

async fn clear_tags(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    since_tags(v)?;
    app.change_server(&ctx, &id, "os_compute_api:os-server-tags:delete_all", |s| {
        s.tags.clear();
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn no_tag(id: &str, tag: &str) -> ComputeError {
    ComputeError::NotFound(format!("Server {id} has no tag '{tag}'"))
}

async fn has_tag(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    since_tags(v)?;
    let s = app.server(&ctx, &id, "os_compute_api:os-server-tags:show").await?;
    if s.tags.contains(&tag) { Ok(StatusCode::NO_CONTENT) } else { Err(no_tag(&id, &tag).into()) }
}

async fn add_tag(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path((id, tag)): Path<(String, String)>,
) -> Result<Response, Error> {
    since_tags(v)?;
    check_tag(&tag)?;
    let mut new = false;
    app.change_server(&ctx, &id, "os_compute_api:os-server-tags:update", |s| {
        new = s.tags.insert(tag.clone());
        if s.tags.len() > MAX_TAGS {
            return Err(ComputeError::invalid(format!(
                "The number of tags exceeded the per-server limit {MAX_TAGS}"
            )));
        }
        Ok(())
    })
    .await?;
    if !new {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let mut response = StatusCode::CREATED.into_response();
    if let Ok(at) = HeaderValue::from_str(&app.links.to(&format!("/compute/v2.1/servers/{id}/tags/{tag}"))) {
        response.headers_mut().insert(header::LOCATION, at);
    }
    Ok(response)
}

async fn delete_tag(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    since_tags(v)?;
    app.change_server(&ctx, &id, "os_compute_api:os-server-tags:delete", |s| {
        if s.tags.remove(&tag) { Ok(()) } else { Err(no_tag(&id, &tag)) }
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn security_groups(
    app: State<App>,
    ctx: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    app.server(&ctx, &id, "os_compute_api:os-security-groups:list").await?;
    let ports = app.networks.ports_of_device(&id).await.map_err(ComputeError::from)?;
    let all = app.networks.security_groups(&ctx).await.map_err(ComputeError::from)?;
    let used =
        |g: &&netagent::model::SecurityGroup| ports.iter().any(|p| p.security_groups.contains(&g.meta.id));
    let view = |g: &netagent::model::SecurityGroup| {
        json!({"id": g.meta.id, "name": g.meta.name, "description": g.meta.description,
            "tenant_id": g.meta.project_id, "rules": []})
    };
    Ok(Json(json!({"security_groups": all.iter().filter(used).map(view).collect::<Vec<_>>()})))
}

impl Compute {
    /// Adds a security group to every port of the server, or takes it away.
    pub(crate) async fn change_security_group(
        &self,
        ctx: &Context,
        id: &str,
        name: &str,
        add: bool,
    ) -> Result<(), ComputeError> {
        let rule = if add {
            "os_compute_api:os-security-groups:add"
        } else {
            "os_compute_api:os-security-groups:remove"
        };
        let s = self.server(ctx, id, rule).await?;
        self.check_lock(ctx, &s)?;
        crate::servers::actions::check_state(&s, Act::AttachInterface)?;
        let ids = self.networks.security_group_ids(ctx, &[name.to_owned()]).await?;
        for port in self.networks.ports_of_device(id).await? {
            let mut groups = port.security_groups.clone();
            groups.retain(|g| !ids.contains(g));
            if !add && groups.len() == port.security_groups.len() {
                continue;
            }
            if add {
                groups.extend(ids.iter().cloned());
            }
            let fields = netagent::PortFields { security_groups: Some(groups), ..Default::default() };
            self.networks.update_port(ctx, &port.meta.id, fields, None).await?;
        }
        Ok(())
    }
}

fn action_view(a: &action_rows::Action, v: Microversion) -> Value {
    let mut out = json!({
        "action": a.action,
        "instance_uuid": a.server_id,
        "request_id": a.request_id,
        "user_id": a.user_id,
        "project_id": a.project_id,
        "start_time": a.started_at.micros_naive(),
        "message": Some(&a.message).filter(|_| a.result == "Error").map(|_| "Error"),
    });
    if v >= Microversion(2, 58) {
        out["updated_at"] = json!(a.updated_at.micros_naive());
    }
    out
}

/// Deleted servers have a past too, from 2.21 on.
async fn with_past(app: &Compute, ctx: &Context, v: Microversion, id: &str, rule: &str) -> Result<(), Error> {
    match app.server(ctx, id, rule).await {
        Err(ComputeError::NotFound(_)) if v >= Microversion(2, 21) => {}
        other => return Ok(other.map(drop)?),
    }
    let gone = rows::get_ever(&app.db, id).await?;
    let mine = |s: &Server| ctx.is_admin() || ctx.project().is_some_and(|p| p.id == s.project_id);
    let gone = gone.filter(mine).ok_or_else(|| ComputeError::server_not_found(id))?;
    Ok(app.may(ctx, rule, &gone.project_id)?)
}

async fn instance_actions(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    with_past(&app, &ctx, v, &id, "os_compute_api:os-instance-actions:list").await?;
    let all = action_rows::list(&app.db, &id).await?;
    Ok(Json(json!({"instanceActions": all.iter().map(|a| action_view(a, v)).collect::<Vec<_>>()})))
}

async fn instance_action(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path((id, request)): Path<(String, String)>,
) -> Result<Json<Value>, Error> {
    with_past(&app, &ctx, v, &id, "os_compute_api:os-instance-actions:show").await?;
    let all = action_rows::list(&app.db, &id).await?;
    let one = all.iter().find(|a| a.request_id == request);
    let one = one.ok_or_else(|| {
        Error::not_found(format!("Action for request_id {request} on instance {id} not found"))
    })?;
    let mut out = action_view(one, v);
    let finished = Some(one.finished_at).filter(|t| t.0 > 0).map(state::Timestamp::micros_naive);
    let mut event = json!({
        "event": format!("compute_{}", one.action),
        "start_time": one.started_at.micros_naive(),
        "finish_time": finished,
        "result": Some(&one.result).filter(|r| !r.is_empty()),
    });
    if ctx.is_admin() {
        event["traceback"] = Value::Null;
    }
    if v >= Microversion(2, 51) || ctx.is_admin() {
        out["events"] = json!([event]);
    }
    Ok(Json(json!({"instanceAction": out})))
}

async fn password(app: State<App>, ctx: Context, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    app.server(&ctx, &id, "os_compute_api:os-server-password:show").await?;
    Ok(Json(json!({"password": ""})))
}

async fn clear_password(app: State<App>, ctx: Context, Path(id): Path<String>) -> Result<StatusCode, Error> {
    app.server(&ctx, &id, "os_compute_api:os-server-password:clear").await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Servers do not move here.
async fn migrations(app: State<App>, ctx: Context, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    app.server(&ctx, &id, "os_compute_api:os-migrations:index").await?;
    Ok(Json(json!({"migrations": []})))
}
