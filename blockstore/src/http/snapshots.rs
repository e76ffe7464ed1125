//! `/snapshots`

use super::schemas::{CREATE_SNAPSHOT, UPDATE_SNAPSHOT};
use super::{Answer, Ask, Shared, boolean, filters, inner, text, view, volumes};
use crate::model::Snapshot;
use crate::snapshots::NewSnapshot;
use crate::status::SnapshotStatus;
use crate::store::snapshots::SORT_KEYS;
use api::{Error, Json, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/snapshots", list)
        .post("/snapshots", create)
        .get("/snapshots/detail", list_detail)
        .get("/snapshots/{snapshot_id}", show)
        .put("/snapshots/{snapshot_id}", update)
        .delete("/snapshots/{snapshot_id}", delete)
        .post("/snapshots/{snapshot_id}/action", act)
}

async fn list(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    listing(&v, &ask, false).await
}

async fn list_detail(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    listing(&v, &ask, true).await
}

async fn listing(v: &Shared, ask: &Ask, detailed: bool) -> Answer<Json<Value>> {
    let page = ask.page(v, SORT_KEYS)?;
    let (filter, all) = (filters::snapshots(ask)?, ask.all_projects()?);
    let (found, more) = v.list_snapshots(&ask.ctx, filter.clone(), all, &page).await?;
    let one = |s: &Snapshot| match detailed {
        true => view::snapshot_detail(ask, s),
        false => view::snapshot_summary(s),
    };
    let shown = found.iter().map(one).collect();
    let mut body = ask.listed(&page, ("snapshots", "snapshots_links"), shown, more);
    if ask.counts()? {
        body["count"] = v.count_snapshots(&ask.ctx, filter, all).await?.into();
    }
    Ok(Json(body))
}

async fn show(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    let snapshot = v.get_snapshot(&ask.ctx, &id).await?;
    Ok(Json(json!({"snapshot": view::snapshot_detail(&ask, &snapshot)})))
}

async fn create(
    State(v): State<Shared>,
    ask: Ask,
    Json(body): Json<Value>,
) -> Answer<(StatusCode, Json<Value>)> {
    CREATE_SNAPSHOT.check(&body)?;
    let s = inner(&body, "snapshot")?;
    let force = s.get("force").map(|f| boolean(f, "force")).transpose()?;
    if ask.at(66) && force == Some(false) {
        return Err(Error::bad_request(
            "Invalid input received: snapshots of volumes in use are always allowed: 'force' cannot be false.",
        )
        .into());
    }
    let new = NewSnapshot {
        id: None,
        volume_id: text(s.get("volume_id")).unwrap_or_else(|| "None".into()),
        name: text(s.get("name")).or_else(|| text(s.get("display_name"))),
        description: text(s.get("description")).or_else(|| text(s.get("display_description"))),
        metadata: volumes::map(s.get("metadata")),
        force: ask.at(66) || force.unwrap_or(false),
    };
    let snapshot = v.create_snapshot(&ask.ctx, new).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"snapshot": view::snapshot(&ask, &snapshot)}))))
}

async fn update(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    UPDATE_SNAPSHOT.check(&body)?;
    let snapshot = v.update_snapshot(&ask.ctx, &id, volumes::change(inner(&body, "snapshot")?)).await?;
    Ok(Json(json!({"snapshot": view::snapshot(&ask, &snapshot)})))
}

async fn delete(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<StatusCode> {
    v.delete_snapshot(&ask.ctx, &id, false).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn act(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<StatusCode> {
    let verb = super::actions::verb(&body)?;
    let status = || -> Result<SnapshotStatus, Error> {
        let word = body[verb]["status"].as_str().unwrap_or_default();
        word.parse().map_err(|_| Error::bad_request(format!("Invalid status '{word}' for a snapshot.")))
    };
    match verb {
        "os-reset_status" => v.reset_snapshot(&ask.ctx, &id, status()?).await?,
        "os-force_delete" => v.delete_snapshot(&ask.ctx, &id, true).await?,
        "os-update_snapshot_status" => {
            let progress = progress(&body[verb]["progress"])?;
            v.report_snapshot(&ask.ctx, &id, status()?, progress).await?;
        }
        "os-unmanage" => v.unmanage_snapshot(&ask.ctx, &id).await?,
        other => return Err(super::actions::unknown(other).into()),
    }
    Ok(StatusCode::ACCEPTED)
}

/// `80%`, or nothing.
fn progress(value: &Value) -> Result<Option<String>, Error> {
    if value.is_null() {
        return Ok(None);
    }
    let percent = value.as_str().and_then(|s| s.strip_suffix('%')).and_then(|n| n.parse::<u8>().ok());
    match percent {
        Some(n) if n <= 100 => Ok(Some(format!("{n}%"))),
        _ => Err(Error::bad_request(format!(
            "Invalid input for field/attribute progress. Value: {value}. It must be a percentage, such as 80%."
        ))),
    }
}
