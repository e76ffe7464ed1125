//! `/images/{id}`: what Nova showed of images before 2.36. Clients of that age wait for a server's image here.

use super::App;
use crate::ComputeError;
use api::{Context, Error, Json, Microversion, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use imagestore::{Image, Status};
use serde_json::{Value, json};

pub(super) fn routes(r: Routes<App>) -> Routes<App> {
    r.get("/images/{image_id}", show).delete("/images/{image_id}", delete)
}

fn until_36(v: Microversion) -> Result<(), Error> {
    if v >= Microversion(2, 36) { Err(Error::not_found("The resource could not be found.")) } else { Ok(()) }
}

fn view(app: &App, i: &Image) -> Value {
    let (status, progress) = match i.status {
        Status::Queued | Status::Saving | Status::Uploading | Status::Importing => ("SAVING", 25),
        Status::Active => ("ACTIVE", 100),
        Status::Killed => ("ERROR", 0),
        Status::Deleted => ("DELETED", 0),
        Status::Deactivated => ("UNKNOWN", 0),
    };
    let to = |path: &str| app.links.to(&format!("{path}/images/{}", i.id));
    let mut out = json!({
        "id": i.id,
        "name": i.name,
        "minRam": i.min_ram,
        "minDisk": i.min_disk,
        "metadata": i.properties,
        "created": i.created_at.seconds_z(),
        "updated": i.updated_at.seconds_z(),
        "status": status,
        "progress": progress,
        "OS-EXT-IMG-SIZE:size": i.size,
        "links": [
            {"rel": "self", "href": to("/compute/v2.1")},
            {"rel": "bookmark", "href": to("/compute")},
            {"rel": "alternate", "type": "application/vnd.openstack.image", "href": to("/image/v2")},
        ],
    });
    if let Some(server) = i.properties.get("instance_uuid") {
        let links = super::server_view::links(&app.links, "servers", server);
        out["server"] = json!({"id": server, "links": links});
    }
    out
}

async fn show(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    until_36(v)?;
    let image = app.images.get(&ctx, &id).await.map_err(ComputeError::from)?;
    Ok(Json(json!({"image": view(&app, &image)})))
}

async fn delete(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    until_36(v)?;
    app.images.delete(&ctx, &id).await.map_err(ComputeError::from)?;
    Ok(StatusCode::NO_CONTENT)
}
