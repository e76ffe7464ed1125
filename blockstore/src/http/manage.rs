//! `/manageable_volumes` and `/manageable_snapshots` (3.8), and their older names

use super::schemas::{MANAGE_SNAPSHOT, MANAGE_VOLUME};
use super::{Answer, Ask, Shared, boolean, inner, text, view, volumes::map};
use crate::manage::{ManagedSnapshot, ManagedVolume};
use crate::model::NewVolume;
use api::{Error, Json, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .post("/os-volume-manage", volume)
        .post("/manageable_volumes", volume)
        .post("/os-snapshot-manage", snapshot)
        .post("/manageable_snapshots", snapshot)
}

/// The one way of naming things that RBD has.
fn source(v: &Value) -> Result<String, Error> {
    let name = text(v["ref"].get("source-name")).filter(|n| !n.is_empty());
    name.ok_or_else(|| Error::bad_request("Reference must contain source-name element."))
}

fn since(ask: &Ask) -> Result<(), Error> {
    if ask.site.here.starts_with("/manageable_") { ask.since(8) } else { Ok(()) }
}

async fn volume(
    State(v): State<Shared>,
    ask: Ask,
    Json(body): Json<Value>,
) -> Answer<(StatusCode, Json<Value>)> {
    since(&ask)?;
    MANAGE_VOLUME.check(&body)?;
    let m = inner(&body, "volume")?;
    let word = |key: &str| text(m.get(key)).filter(|t| !t.is_empty());
    let wanted = ManagedVolume {
        host: word("host")
            .ok_or_else(|| Error::bad_request("Missing required element 'host' in request body."))?,
        source: source(m)?,
        bootable: m.get("bootable").map_or(Ok(false), |b| boolean(b, "bootable"))?,
        new: NewVolume {
            name: text(m.get("name")),
            description: text(m.get("description")),
            volume_type: word("volume_type"),
            zone: word("availability_zone"),
            metadata: map(m.get("metadata")),
            ..NewVolume::default()
        },
    };
    let made = v.manage(&ask.ctx, wanted).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"volume": view::plain(&ask, &made)}))))
}

async fn snapshot(
    State(v): State<Shared>,
    ask: Ask,
    Json(body): Json<Value>,
) -> Answer<(StatusCode, Json<Value>)> {
    since(&ask)?;
    MANAGE_SNAPSHOT.check(&body)?;
    let m = inner(&body, "snapshot")?;
    let wanted = ManagedSnapshot {
        volume_id: text(m.get("volume_id")).unwrap_or_default(),
        source: source(m)?,
        name: text(m.get("name")),
        description: text(m.get("description")),
        metadata: map(m.get("metadata")),
    };
    let made = v.manage_snapshot(&ask.ctx, wanted).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"snapshot": view::snapshot(&ask, &made, false)}))))
}
