//! `/volumes/{id}/action`: one verb a body, under its own key.

use super::schemas::{
    ATTACH, EXTEND, EXTEND_COMPLETION, MIGRATE, MIGRATE_COMPLETION, REIMAGE, RESET, RETYPE, UPLOAD,
};
use super::{Answer, Ask, Shared, boolean, inner, integer, text, view, volumes};
use crate::Volumes;
use crate::migrate::Destination;
use crate::model::AttachMode;
use crate::uploads::NewUpload;
use api::{Error, Json, Path, Routes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use imagestore::Visibility;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes.post("/volumes/{volume_id}/action", act)
}

async fn act(
    State(volumes): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Response> {
    let verb = super::actions::verb(&body)?;
    perform(&volumes, &ask, &id, verb, &body).await
}

/// The one key of an action's body.
pub(super) fn verb(body: &Value) -> Result<&str, Error> {
    match body.as_object().map(|o| o.keys().collect::<Vec<_>>()).as_deref() {
        Some([verb]) => Ok(verb.as_str()),
        _ => Err(Error::bad_request("An action's body has exactly one key: the action.")),
    }
}

pub(super) fn unknown(verb: &str) -> Error {
    Error::bad_request(format!("There is no such action: {verb}"))
}

async fn perform(v: &Volumes, ask: &Ask, id: &str, verb: &str, body: &Value) -> Answer<Response> {
    let (ctx, arg) = (&ask.ctx, &body[verb]);
    let accepted = StatusCode::ACCEPTED.into_response();
    match verb {
        "os-extend" => {
            EXTEND.check(body)?;
            v.extend(ctx, id, integer(&arg["new_size"]).unwrap_or(i64::MAX), ask.at(42)).await?;
        }
        "os-reset_status" => {
            RESET.check(body)?;
            reset(v, ask, id, arg).await?;
        }
        "os-force_delete" => v.delete_with(ctx, id, false, true).await?,
        "os-set_bootable" => {
            let on = boolean(inner(body, verb)?.get("bootable").unwrap_or(&Value::Null), "bootable")?;
            v.set_bootable(ctx, id, on).await?;
            return Ok(StatusCode::OK.into_response());
        }
        "os-update_readonly_flag" => {
            let on = boolean(inner(body, verb)?.get("readonly").unwrap_or(&Value::Null), "readonly")?;
            v.set_readonly(ctx, id, on).await?;
        }
        "os-retype" => {
            RETYPE.check(body)?;
            let on_demand = arg["migration_policy"] == "on-demand";
            v.retype(ctx, id, arg["new_type"].as_str().unwrap_or_default(), on_demand).await?;
        }
        "os-reserve" => v.old_reserve(ctx, id).await?,
        "os-unreserve" => v.old_unreserve(ctx, id).await?,
        "os-begin_detaching" => v.old_detaching(ctx, id, true).await?,
        "os-roll_detaching" => v.old_detaching(ctx, id, false).await?,
        "os-attach" => {
            ATTACH.check(body)?;
            attach(v, ask, id, arg).await?;
        }
        "os-detach" => v.old_detach(ctx, id, arg["attachment_id"].as_str(), false).await?,
        "os-force_detach" => v.old_detach(ctx, id, arg["attachment_id"].as_str(), true).await?,
        "os-initialize_connection" => {
            let info = v.initialize_connection(ctx, id).await?;
            return Ok(Json(json!({"connection_info": info})).into_response());
        }
        "os-terminate_connection" => v.terminate_connection(ctx, id).await?,
        "os-volume_upload_image" => {
            UPLOAD.check(body)?;
            return upload(v, ask, id, arg).await;
        }
        "os-set_image_metadata" | "os-unset_image_metadata" | "os-show_image_metadata" => {
            return super::metadata::of_image(v, ask, id, verb, arg).await;
        }
        "revert" => {
            ask.since(40)?;
            let snapshot = text(inner(body, verb)?.get("snapshot_id")).filter(|s| !s.is_empty());
            let missing = || Error::bad_request("Missing required element 'snapshot_id' in request body.");
            v.revert(ctx, id, &snapshot.ok_or_else(missing)?).await?;
        }
        "os-unmanage" => v.unmanage(ctx, id).await?,
        "os-migrate_volume" => {
            MIGRATE.check(body)?;
            v.migrate(ctx, id, destination(ask, arg)?).await?;
        }
        "os-migrate_volume_completion" => {
            MIGRATE_COMPLETION.check(body)?;
            let failed = arg.get("error").map_or(Ok(false), |e| boolean(e, "error"))?;
            let new = arg["new_volume"].as_str().unwrap_or_default();
            let id = v.complete_migration(ctx, id, new, failed).await?;
            return Ok(Json(json!({"save_volume_id": id})).into_response());
        }
        "os-reimage" => {
            ask.since(68)?;
            REIMAGE.check(body)?;
            let reserved =
                arg.get("reimage_reserved").map_or(Ok(false), |b| boolean(b, "reimage_reserved"))?;
            v.reimage(ctx, id, arg["image_id"].as_str().unwrap_or_default(), reserved).await?;
        }
        "os-extend_volume_completion" => {
            ask.since(71)?;
            EXTEND_COMPLETION.check(body)?;
            v.complete_extend(ctx, id).await?;
        }
        other => return Err(unknown(other).into()),
    }
    Ok(accepted)
}

/// Where to. A cluster (3.16) is a host by another name.
fn destination(ask: &Ask, arg: &Value) -> Result<Destination, Error> {
    let word = |key: &str| text(arg.get(key)).filter(|t| !t.is_empty());
    let host = match (word("host"), word("cluster").filter(|_| ask.at(16))) {
        (Some(_), Some(_)) => return Err(Error::bad_request("Both cluster and host cannot be provided.")),
        (host, cluster) => host.or(cluster),
    };
    let host = host.ok_or_else(|| Error::bad_request("Must specify 'host'."))?;
    // Whoever wants bytes copied gets that where tiers need it; the result is the same.
    arg.get("force_host_copy").map_or(Ok(false), |b| boolean(b, "force_host_copy"))?;
    let lock = arg.get("lock_volume").map_or(Ok(false), |b| boolean(b, "lock_volume"))?;
    Ok(Destination { host, lock })
}

async fn reset(v: &Volumes, ask: &Ask, id: &str, arg: &Value) -> Answer<()> {
    let word = |key: &str| arg.get(key).and_then(Value::as_str).map(str::to_lowercase);
    let status = word("status").map(|s| {
        s.parse().map_err(|_| Error::bad_request(format!("Invalid status '{s}' for a volume's reset.")))
    });
    let migration = arg.get("migration_status").map(|_| word("migration_status").filter(|m| m != "none"));
    let detached = word("attach_status").as_deref() == Some("detached");
    if status.is_none() && !detached && migration.is_none() && word("attach_status").is_none() {
        return Err(Error::bad_request(
            "Must specify 'status', 'attach_status' or 'migration_status' for update.",
        )
        .into());
    }
    Ok(v.reset_status(&ask.ctx, id, status.transpose()?, detached, migration).await?)
}

async fn attach(v: &Volumes, ask: &Ask, id: &str, arg: &Value) -> Answer<()> {
    let word = |key: &str| text(arg.get(key)).filter(|t| !t.is_empty());
    let (server, host) = (word("instance_uuid"), word("host_name"));
    if server.is_some() && host.is_some() {
        return Err(Error::bad_request(
            "Invalid request to attach volume to an instance and a host at once.",
        )
        .into());
    }
    if server.is_none() && host.is_none() {
        return Err(Error::bad_request("Invalid request to attach volume to an invalid target").into());
    }
    let mode = if arg["mode"] == "ro" { AttachMode::Ro } else { AttachMode::Rw };
    Ok(v.old_attach(&ask.ctx, id, server, host, word("mountpoint"), mode).await?)
}

async fn upload(v: &Volumes, ask: &Ask, id: &str, arg: &Value) -> Answer<Response> {
    let flag = |key: &str| arg.get(key).map_or(Ok(false), |b| boolean(b, key));
    let word = |key: &str, or: &str| arg[key].as_str().unwrap_or(or).to_owned();
    let new = NewUpload {
        image_name: word("image_name", ""),
        disk_format: word("disk_format", "raw"),
        container_format: word("container_format", "bare"),
        force: flag("force")?,
        visibility: arg["visibility"].as_str().and_then(Visibility::parse).or(Some(Visibility::Private)),
        protected: flag("protected")?,
    };
    let (volume, image) = v.upload(&ask.ctx, id, new).await?;
    let kind = v.find_type(&ask.ctx, &volume.type_id).await?;
    let mut answer = json!({
        "id": volume.id,
        "updated_at": view::time(volume.updated_at),
        "status": "uploading",
        "display_description": volume.description,
        "size": volume.size_gib,
        "volume_type": super::types::row(&kind),
        "image_id": image.id,
        "container_format": image.container_format,
        "disk_format": image.disk_format,
        "image_name": image.name,
    });
    if ask.at(1) {
        answer["visibility"] = image.visibility.as_str().into();
        answer["protected"] = image.protected.into();
    }
    Ok((StatusCode::ACCEPTED, Json(json!({"os-volume_upload_image": answer}))).into_response())
}

/// A map in an action's argument.
pub(super) fn argument_map(arg: &Value, key: &str) -> Result<crate::Metadata, Error> {
    super::schemas::METADATA.check(&json!({"metadata": arg.get(key).cloned().unwrap_or(Value::Null)}))?;
    Ok(volumes::map(arg.get(key)))
}
