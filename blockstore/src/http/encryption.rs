//! `/types/{id}/encryption`

use super::schemas::{ENCRYPTION, ENCRYPTION_UPDATE};
use super::{Answer, Ask, Shared, inner, integer, text, view};
use crate::VolumeError;
use crate::encryption::{Encryption, Wanted};
use api::{Json, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/volumes/{volume_id}/encryption", of_volume)
        .get("/volumes/{volume_id}/encryption/{key}", item_of_volume)
        .get("/types/{type_id}/encryption", show)
        .post("/types/{type_id}/encryption", create)
        .get("/types/{type_id}/encryption/{encryption_id}", show_item)
        .put("/types/{type_id}/encryption/{encryption_id}", update)
        .delete("/types/{type_id}/encryption/{encryption_id}", delete)
}

fn plain(e: &Encryption) -> Value {
    json!({
        "volume_type_id": e.type_id, "encryption_id": e.id, "provider": e.provider, "cipher": e.cipher,
        "key_size": e.key_size, "control_location": e.control_location,
    })
}

fn full(e: &Encryption) -> Value {
    let mut view = plain(e);
    view["created_at"] = e.created_at.micros_naive().into();
    view["updated_at"] = view::time(e.updated_at);
    view["deleted"] = false.into();
    view["deleted_at"] = Value::Null;
    view
}

fn wanted(e: &Value) -> Wanted {
    Wanted {
        provider: text(e.get("provider")),
        cipher: e.get("cipher").map(|c| text(Some(c))),
        key_size: e.get("key_size").map(integer),
        control_location: text(e.get("control_location")),
    }
}

async fn settings(v: &Shared, ask: &Ask, id: &str) -> Answer<Value> {
    Ok(match v.volume_encryption(&ask.ctx, id).await? {
        None => json!({"encryption_key_id": null}),
        Some((e, key)) => json!({
            "encryption_key_id": key, "provider": e.provider, "cipher": e.cipher, "key_size": e.key_size,
            "control_location": e.control_location,
        }),
    })
}

async fn of_volume(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    Ok(Json(settings(&v, &ask, &id).await?))
}

/// One of the values, as plain text.
async fn item_of_volume(
    State(v): State<Shared>,
    ask: Ask,
    Path((id, key)): Path<(String, String)>,
) -> Answer<String> {
    Ok(match &settings(&v, &ask, &id).await?[&key] {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    })
}

/// Nothing, where the type is not encrypted.
async fn show(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    let found = v.type_encryption(&ask.ctx, &id).await?;
    Ok(Json(found.map_or(json!({}), |e| full(&e))))
}

async fn show_item(
    State(v): State<Shared>,
    ask: Ask,
    Path((id, key)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    let found = v.type_encryption(&ask.ctx, &id).await?;
    let value = found.and_then(|e| full(&e).get(&key).cloned());
    let value = value.ok_or_else(|| {
        VolumeError::NotFound(format!("Volume type encryption for type {id} has no {key}."))
    })?;
    Ok(Json(json!({key: value})))
}

async fn create(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    ENCRYPTION.check(&body)?;
    let made = v.encrypt_type(&ask.ctx, &id, wanted(inner(&body, "encryption")?)).await?;
    Ok(Json(json!({"encryption": plain(&made)})))
}

/// A type has one encryption, so nobody asks which: clients say `provider` in place of its id.
async fn update(
    State(v): State<Shared>,
    ask: Ask,
    Path((id, _)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    ENCRYPTION_UPDATE.check(&body)?;
    v.update_encryption(&ask.ctx, &id, wanted(inner(&body, "encryption")?)).await?;
    Ok(Json(body))
}

/// As [`update`].
async fn delete(
    State(v): State<Shared>,
    ask: Ask,
    Path((id, _)): Path<(String, String)>,
) -> Answer<StatusCode> {
    v.delete_encryption(&ask.ctx, &id).await?;
    Ok(StatusCode::ACCEPTED)
}
