//! `/messages` (3.3)

use super::{Answer, Ask, Shared, cut};
use crate::VolumeError;
use crate::messages::Message;
use api::{Json, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes.get("/messages", list).get("/messages/{message_id}", show).delete("/messages/{message_id}", delete)
}

fn view(ask: &Ask, m: &Message) -> Value {
    json!({
        "id": m.id,
        "event_id": m.event_id,
        "user_message": m.text,
        "message_level": "ERROR",
        "resource_type": m.resource_type,
        "resource_uuid": m.resource_id,
        "request_id": m.request_id,
        "created_at": m.created_at.micros_naive(),
        "guaranteed_until": m.expires_at.micros_naive(),
        "links": ask.site.pair(&format!("/messages/{}", m.id)),
    })
}

async fn list(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    ask.since(3)?;
    let page =
        ask.page(&v, &["id", "event_id", "resource_type", "resource_uuid", "request_id", "created_at"])?;
    let mut all = v.list_messages(&ask.ctx).await?;
    let wanted = |key: &str, has: &str| ask.query.get(key).is_none_or(|w| w == has);
    all.retain(|m| {
        wanted("event_id", &m.event_id)
            && wanted("resource_type", &m.resource_type)
            && wanted("resource_uuid", &m.resource_id)
            && wanted("request_id", &m.request_id)
            && wanted("message_level", "ERROR")
    });
    if page.sort.first().is_some_and(|s| !s.descending) {
        all.reverse();
    }
    let (found, more) = cut(&page, all, |m| &m.id, VolumeError::MessageNotFound)?;
    let shown = found.iter().map(|m| view(&ask, m)).collect();
    Ok(Json(ask.listed(&page, ("messages", "messages_links"), shown, more)))
}

async fn show(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    ask.since(3)?;
    let message = v.get_message(&ask.ctx, &id, "message:get").await?;
    Ok(Json(json!({"message": view(&ask, &message)})))
}

async fn delete(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<StatusCode> {
    ask.since(3)?;
    v.delete_message(&ask.ctx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
