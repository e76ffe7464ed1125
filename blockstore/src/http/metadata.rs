//! Metadata of volumes, of snapshots, and of the images that volumes were made from.

use super::schemas::{META, METADATA};
use super::{Answer, Ask, Shared, volumes::map};
use crate::model::{Metadata, Volume};
use crate::{VolumeError, Volumes};
use api::{Error, Json, Path, Routes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/volumes/{volume_id}/metadata", show)
        .post("/volumes/{volume_id}/metadata", add)
        .put("/volumes/{volume_id}/metadata", replace)
        .get("/volumes/{volume_id}/metadata/{key}", show_one)
        .put("/volumes/{volume_id}/metadata/{key}", put_one)
        .delete("/volumes/{volume_id}/metadata/{key}", delete_one)
        .get("/snapshots/{snapshot_id}/metadata", snapshot_show)
        .post("/snapshots/{snapshot_id}/metadata", snapshot_add)
        .put("/snapshots/{snapshot_id}/metadata", snapshot_replace)
        .get("/snapshots/{snapshot_id}/metadata/{key}", snapshot_show_one)
        .put("/snapshots/{snapshot_id}/metadata/{key}", snapshot_put_one)
        .delete("/snapshots/{snapshot_id}/metadata/{key}", snapshot_delete_one)
}

fn whole(metadata: &Metadata) -> Json<Value> {
    Json(json!({"metadata": metadata}))
}

/// The whole map of a body.
fn given(body: &Value) -> Result<Metadata, Error> {
    METADATA.check(body)?;
    Ok(map(body.get("metadata")))
}

/// The one pair of a body, whose key must be the path's.
fn pair(body: &Value, key: &str) -> Result<Metadata, Error> {
    META.check(body)?;
    let pair = map(body.get("meta"));
    match pair.contains_key(key) {
        true => Ok(pair),
        false => Err(Error::bad_request("Request body and URI mismatch")),
    }
}

fn absent(key: &str, id: &str) -> VolumeError {
    VolumeError::NotFound(format!("Metadata item {key} of {id} could not be found."))
}

fn one(metadata: &Metadata, key: &str, id: &str) -> Result<Json<Value>, VolumeError> {
    let value = metadata.get(key).ok_or_else(|| absent(key, id))?;
    Ok(Json(json!({"meta": {key: value}})))
}

type Edited = Result<(), VolumeError>;

fn adding(given: Metadata) -> impl FnOnce(&mut Metadata) -> Edited {
    |m| {
        m.extend(given);
        Ok(())
    }
}

fn replacing(given: Metadata) -> impl FnOnce(&mut Metadata) -> Edited {
    |m| {
        *m = given;
        Ok(())
    }
}

/// 404 where the key is not there.
fn removing(key: &str, id: &str) -> impl FnOnce(&mut Metadata) -> Edited {
    move |m| m.remove(key).map(drop).ok_or_else(|| absent(key, id))
}

fn own(v: &mut Volume) -> &mut Metadata {
    &mut v.metadata
}

fn of_its_image(v: &mut Volume) -> &mut Metadata {
    &mut v.image_metadata
}

async fn show(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    Ok(whole(&v.find(&ask.ctx, &id, "volume:get_volume_metadata").await?.metadata))
}

async fn add(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    let edit = adding(given(&body)?);
    let rule = "volume:create_volume_metadata";
    Ok(whole(&v.edit_metadata(&ask.ctx, &id, rule, own, edit).await?))
}

async fn replace(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    let edit = replacing(given(&body)?);
    let rule = "volume:update_volume_metadata";
    Ok(whole(&v.edit_metadata(&ask.ctx, &id, rule, own, edit).await?))
}

async fn show_one(
    State(v): State<Shared>,
    ask: Ask,
    Path((id, key)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    let volume = v.find(&ask.ctx, &id, "volume:get_volume_metadata").await?;
    Ok(one(&volume.metadata, &key, &id)?)
}

async fn put_one(
    State(v): State<Shared>,
    ask: Ask,
    Path((id, key)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    let edit = adding(pair(&body, &key)?);
    let rule = "volume:update_volume_metadata";
    let now = v.edit_metadata(&ask.ctx, &id, rule, own, edit).await?;
    Ok(one(&now, &key, &id)?)
}

async fn delete_one(
    State(v): State<Shared>,
    ask: Ask,
    Path((id, key)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let rule = "volume:delete_volume_metadata";
    v.edit_metadata(&ask.ctx, &id, rule, own, removing(&key, &id)).await?;
    Ok(StatusCode::OK)
}

/// The actions on what a volume knows of its image.
pub(super) async fn of_image(v: &Volumes, ask: &Ask, id: &str, verb: &str, arg: &Value) -> Answer<Response> {
    let family = "volume_extension:volume_image_metadata";
    match verb {
        "os-show_image_metadata" => {
            let volume = v.find(&ask.ctx, id, &format!("{family}:show")).await?;
            Ok(whole(&volume.image_metadata).into_response())
        }
        "os-set_image_metadata" => {
            let edit = adding(super::actions::argument_map(arg, "metadata")?);
            let now = v.edit_metadata(&ask.ctx, id, &format!("{family}:set"), of_its_image, edit).await?;
            Ok(whole(&now).into_response())
        }
        _ => {
            let key = arg["key"].as_str().ok_or_else(|| Error::bad_request("The key cannot be None."))?;
            let rule = format!("{family}:remove");
            v.edit_metadata(&ask.ctx, id, &rule, of_its_image, removing(key, id)).await?;
            Ok(StatusCode::OK.into_response())
        }
    }
}

async fn snapshot_show(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    Ok(whole(&v.find_snapshot(&ask.ctx, &id, "volume:get_snapshot_metadata").await?.metadata))
}

const UPDATE: &str = "volume:update_snapshot_metadata";

async fn snapshot_add(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    Ok(whole(&v.edit_snapshot_metadata(&ask.ctx, &id, UPDATE, adding(given(&body)?)).await?))
}

async fn snapshot_replace(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    Ok(whole(&v.edit_snapshot_metadata(&ask.ctx, &id, UPDATE, replacing(given(&body)?)).await?))
}

async fn snapshot_show_one(
    State(v): State<Shared>,
    ask: Ask,
    Path((id, key)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    let snapshot = v.find_snapshot(&ask.ctx, &id, "volume:get_snapshot_metadata").await?;
    Ok(one(&snapshot.metadata, &key, &id)?)
}

async fn snapshot_put_one(
    State(v): State<Shared>,
    ask: Ask,
    Path((id, key)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    let now = v.edit_snapshot_metadata(&ask.ctx, &id, UPDATE, adding(pair(&body, &key)?)).await?;
    Ok(one(&now, &key, &id)?)
}

async fn snapshot_delete_one(
    State(v): State<Shared>,
    ask: Ask,
    Path((id, key)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let rule = "volume:delete_snapshot_metadata";
    v.edit_snapshot_metadata(&ask.ctx, &id, rule, removing(&key, &id)).await?;
    Ok(StatusCode::OK)
}
