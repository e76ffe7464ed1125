//! `/os-volume-transfer`, and `/volume-transfers` (3.55), which takes snapshots along

use super::schemas::{ACCEPT, TRANSFER};
use super::{Answer, Ask, Shared, boolean, inner, text};
use crate::transfers::Transfer;
use api::{Error, Json, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/os-volume-transfer", list)
        .post("/os-volume-transfer", create)
        .get("/os-volume-transfer/detail", list_detail)
        .get("/os-volume-transfer/{transfer_id}", show)
        .delete("/os-volume-transfer/{transfer_id}", delete)
        .post("/os-volume-transfer/{transfer_id}/accept", accept)
        .get("/volume-transfers", list)
        .post("/volume-transfers", create)
        .get("/volume-transfers/detail", list_detail)
        .get("/volume-transfers/{transfer_id}", show)
        .delete("/volume-transfers/{transfer_id}", delete)
        .post("/volume-transfers/{transfer_id}/accept", accept)
}

impl Ask {
    /// The newer of the two resources.
    fn newer(&self) -> Result<bool, Error> {
        let newer = self.site.here.starts_with("/volume-transfers");
        if newer {
            self.since(55)?;
        }
        Ok(newer)
    }
}

fn summary(ask: &Ask, t: &Transfer) -> Value {
    let family = if ask.site.here.starts_with("/volume-transfers") {
        "volume-transfers"
    } else {
        "os-volume-transfer"
    };
    json!({
        "id": t.id, "volume_id": t.volume_id, "name": t.name,
        "links": ask.site.pair(&format!("/{family}/{}", t.id)),
    })
}

fn detail(ask: &Ask, t: &Transfer) -> Value {
    let mut view = summary(ask, t);
    view["created_at"] = t.created_at.micros_naive().into();
    if ask.at(55) {
        view["no_snapshots"] = t.no_snapshots.into();
    }
    if ask.at(57) {
        view["source_project_id"] = json!(t.source_project_id);
        view["destination_project_id"] = Value::Null;
        view["accepted"] = false.into();
    }
    view
}

async fn list(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    listing(&v, &ask, summary).await
}

async fn list_detail(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    listing(&v, &ask, detail).await
}

async fn listing(v: &Shared, ask: &Ask, view: fn(&Ask, &Transfer) -> Value) -> Answer<Json<Value>> {
    ask.newer()?;
    let page = ask.page(v, &["id", "name", "volume_id", "created_at"])?;
    let all = v.list_transfers(&ask.ctx, ask.all_projects()?).await?;
    let start = match &page.marker {
        Some(m) => all
            .iter()
            .position(|t| t.id == *m)
            .map(|at| at + 1)
            .ok_or_else(|| crate::VolumeError::TransferNotFound(m.clone()))?,
        None => 0,
    };
    let shown = all.iter().skip(start + page.offset).take(page.limit);
    Ok(Json(json!({"transfers": shown.map(|t| view(ask, t)).collect::<Vec<_>>()})))
}

async fn create(
    State(v): State<Shared>,
    ask: Ask,
    Json(body): Json<Value>,
) -> Answer<(StatusCode, Json<Value>)> {
    let newer = ask.newer()?;
    TRANSFER.check(&body)?;
    let t = inner(&body, "transfer")?;
    let no_snapshots = t.get("no_snapshots").map_or(Ok(false), |b| boolean(b, "no_snapshots"))?;
    let volume = text(t.get("volume_id")).unwrap_or_default();
    let (transfer, key) =
        v.create_transfer(&ask.ctx, &volume, text(t.get("name")), no_snapshots, newer, ask.at(70)).await?;
    let mut view = detail(&ask, &transfer);
    view["auth_key"] = key.into();
    Ok((StatusCode::ACCEPTED, Json(json!({"transfer": view}))))
}

async fn show(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    ask.newer()?;
    let transfer = v.get_transfer(&ask.ctx, &id, "volume:get_transfer").await?;
    Ok(Json(json!({"transfer": detail(&ask, &transfer)})))
}

async fn delete(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<StatusCode> {
    ask.newer()?;
    v.delete_transfer(&ask.ctx, &id).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn accept(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<(StatusCode, Json<Value>)> {
    ask.newer()?;
    ACCEPT.check(&body)?;
    let key = text(inner(&body, "accept")?.get("auth_key")).unwrap_or_default();
    let transfer = v.accept_transfer(&ask.ctx, &id, &key).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"transfer": summary(&ask, &transfer)}))))
}
