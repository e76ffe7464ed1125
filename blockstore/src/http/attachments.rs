//! `/attachments` (3.27)

use super::schemas::{ATTACHMENT, ATTACHMENT_UPDATE};
use super::{Answer, Ask, Shared, inner, text, view};
use crate::Volumes;
use crate::attachments::NewAttachment;
use crate::model::{AttachMode, Attachment, Volume};
use crate::store::attachments::{Filter, SORT_KEYS};
use api::{Error, Json, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Map, Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/attachments", list)
        .post("/attachments", create)
        .get("/attachments/detail", list_detail)
        .get("/attachments/{attachment_id}", show)
        .put("/attachments/{attachment_id}", update)
        .delete("/attachments/{attachment_id}", delete)
        .post("/attachments/{attachment_id}/action", act)
}

fn summary(a: &Attachment) -> Value {
    json!({"id": a.id, "status": a.status.as_str(), "instance": a.server_id, "volume_id": a.volume_id})
}

/// With the connection where the host is known.
async fn detail(v: &Volumes, a: &Attachment, volume: &Volume) -> Answer<Value> {
    let info = if a.connector.is_empty() {
        Map::new()
    } else {
        v.connection_info(volume, a.mode, Some(&a.id)).await?
    };
    let mut shown = summary(a);
    shown["attached_at"] = view::time(a.attached_at);
    shown["detached_at"] = Value::Null;
    shown["attach_mode"] = a.mode.as_str().into();
    shown["connection_info"] = Value::Object(info);
    Ok(shown)
}

async fn list(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    listing(&v, &ask, false).await
}

async fn list_detail(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    listing(&v, &ask, true).await
}

async fn listing(v: &Shared, ask: &Ask, detailed: bool) -> Answer<Json<Value>> {
    ask.since(27)?;
    let page = ask.page(v, SORT_KEYS)?;
    let word = |key: &str| ask.query.get(key).map(str::to_owned);
    let filter = Filter {
        project_id: word("project_id").filter(|_| ask.ctx.is_admin()),
        volume_id: word("volume_id"),
        server_id: word("instance_id").or_else(|| word("instance_uuid")),
        status: word("status").or_else(|| word("attach_status")),
        id: word("id"),
    };
    let (found, more) = v.list_attachments(&ask.ctx, filter, ask.all_projects()?, &page).await?;
    let mut shown = Vec::with_capacity(found.len());
    for a in &found {
        shown.push(if detailed {
            let volume = v.find(&ask.ctx, &a.volume_id, "volume:get").await?;
            detail(v, a, &volume).await?
        } else {
            summary(a)
        });
    }
    Ok(Json(ask.listed(&page, ("attachments", "attachments_links"), shown, more)))
}

async fn show(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    ask.since(27)?;
    let a = v.find_attachment(&ask.ctx, &id).await?;
    let volume = v.find(&ask.ctx, &a.volume_id, "volume:get").await?;
    Ok(Json(json!({"attachment": detail(&v, &a, &volume).await?})))
}

fn mode(value: &Value) -> Option<AttachMode> {
    match value["mode"].as_str() {
        Some("ro") => Some(AttachMode::Ro),
        Some("rw") => Some(AttachMode::Rw),
        _ => None,
    }
}

fn connector(value: &Value) -> Option<Map<String, Value>> {
    value.get("connector").and_then(Value::as_object).filter(|c| !c.is_empty()).cloned()
}

async fn create(State(v): State<Shared>, ask: Ask, Json(body): Json<Value>) -> Answer<Json<Value>> {
    ask.since(27)?;
    ATTACHMENT.check(&body)?;
    let a = inner(&body, "attachment")?;
    let new = NewAttachment {
        volume_id: text(a.get("volume_uuid")).unwrap_or_default(),
        server_id: text(a.get("instance_uuid")).filter(|s| !s.is_empty()),
        connector: connector(a),
        mode: mode(a).unwrap_or(AttachMode::Rw),
    };
    let (a, volume) = v.create_attachment(&ask.ctx, new).await?;
    Ok(Json(json!({"attachment": detail(&v, &a, &volume).await?})))
}

async fn update(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    ask.since(27)?;
    ATTACHMENT_UPDATE.check(&body)?;
    let a = inner(&body, "attachment")?;
    let wanted =
        connector(a).ok_or_else(|| Error::bad_request("Invalid input received: connector required"))?;
    let mode = if ask.at(54) { mode(a) } else { None };
    let (a, volume) = v.update_attachment(&ask.ctx, &id, wanted, mode).await?;
    Ok(Json(json!({"attachment": detail(&v, &a, &volume).await?})))
}

async fn delete(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    ask.since(27)?;
    let left = v.delete_attachment(&ask.ctx, &id).await?;
    Ok(Json(json!({"attachments": left.iter().map(summary).collect::<Vec<_>>()})))
}

async fn act(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<StatusCode> {
    ask.since(44)?;
    match super::actions::verb(&body)? {
        "os-complete" => v.attach_complete(&ask.ctx, &id, None).await?,
        other => return Err(super::actions::unknown(other).into()),
    }
    Ok(StatusCode::NO_CONTENT)
}
