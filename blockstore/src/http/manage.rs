//! `/manageable_volumes` and `/manageable_snapshots` (3.8), and their older names

use super::schemas::{MANAGE_SNAPSHOT, MANAGE_VOLUME};
use super::{Answer, Ask, Shared, boolean, inner, text, view, volumes::map};
use crate::Volumes;
use crate::manage::{ManagedSnapshot, ManagedVolume};
use crate::manageable::Manageable;
use crate::model::NewVolume;
use api::{Error, Json, Page, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/os-volume-manage", list_volumes)
        .get("/os-volume-manage/detail", list_volumes_detail)
        .get("/manageable_volumes", list_volumes)
        .get("/manageable_volumes/detail", list_volumes_detail)
        .get("/os-snapshot-manage", list_snapshots)
        .get("/os-snapshot-manage/detail", list_snapshots_detail)
        .get("/manageable_snapshots", list_snapshots)
        .get("/manageable_snapshots/detail", list_snapshots_detail)
        .post("/os-volume-manage", volume)
        .post("/manageable_volumes", volume)
        .post("/os-snapshot-manage", snapshot)
        .post("/manageable_snapshots", snapshot)
}

fn source(v: &Value) -> Option<String> {
    text(v["ref"].get("source-name")).filter(|n| !n.is_empty())
}

fn since(ask: &Ask) -> Result<(), Error> {
    if ask.site.here.starts_with("/manageable_") { ask.since(8) } else { Ok(()) }
}

/// The host whose things are listed.
fn host_asked(ask: &Ask) -> Result<&str, Error> {
    since(ask)?;
    let host = ask.query.get("host").or_else(|| ask.query.get("cluster").filter(|_| ask.at(17)));
    host.filter(|h| !h.is_empty()).ok_or_else(|| Error::bad_request("A host must be specified in query."))
}

/// A page of what is there: sorted by `size` or `reference`, from `offset` or behind the `marker`.
fn page(
    v: &Volumes,
    ask: &Ask,
    mut all: Vec<Manageable>,
    detailed: bool,
    snapshots: bool,
) -> Result<Vec<Value>, Error> {
    let page = Page::parse(&ask.query, v.config.page_max, &["size", "reference"])?;
    for sort in page.sort.iter().rev() {
        match sort.key.as_str() {
            "size" => all.sort_by_key(|m| m.size_gib),
            _ => all.sort_by(|a, b| a.name.cmp(&b.name)),
        }
        if sort.descending {
            all.reverse();
        }
    }
    let reference = |name: &str| json!({"source-name": name});
    let from = match &page.marker {
        None => 0,
        Some(marker) => all
            .iter()
            .position(|m| {
                *marker == m.name
                    || serde_json::from_str::<Value>(marker)
                        .is_ok_and(|r| r["source-name"] == m.name.as_str())
            })
            .map(|i| i + 1)
            .ok_or_else(|| Error::bad_request(format!("marker [{marker}] not found")))?,
    };
    let one = |m: Manageable| {
        let mut view = json!({"reference": reference(&m.name), "size": m.size_gib, "safe_to_manage": m.reason.is_none()});
        if snapshots {
            view["source_reference"] = json!({"id": m.of});
        }
        if detailed {
            view["reason_not_safe"] = json!(m.reason);
            view["cinder_id"] = json!(m.known);
            view["extra_info"] = Value::Null;
        }
        view
    };
    Ok(all.into_iter().skip(from + page.offset).take(page.limit).map(one).collect())
}

async fn volumes_of(v: &Volumes, ask: &Ask, detailed: bool) -> Answer<Json<Value>> {
    let all = v.manageable_volumes(&ask.ctx, host_asked(ask)?).await?;
    Ok(Json(json!({"manageable-volumes": page(v, ask, all, detailed, false)?})))
}

async fn snapshots_of(v: &Volumes, ask: &Ask, detailed: bool) -> Answer<Json<Value>> {
    let all = v.manageable_snapshots(&ask.ctx, host_asked(ask)?).await?;
    Ok(Json(json!({"manageable-snapshots": page(v, ask, all, detailed, true)?})))
}

async fn list_volumes(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    volumes_of(&v, &ask, false).await
}

async fn list_volumes_detail(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    volumes_of(&v, &ask, true).await
}

async fn list_snapshots(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    snapshots_of(&v, &ask, false).await
}

async fn list_snapshots_detail(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    snapshots_of(&v, &ask, true).await
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
        source: source(m),
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
        source: source(m),
        name: text(m.get("name")),
        description: text(m.get("description")),
        metadata: map(m.get("metadata")),
    };
    let made = v.manage_snapshot(&ask.ctx, wanted).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"snapshot": view::snapshot_summary(&made)}))))
}
