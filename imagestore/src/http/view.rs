//! Rows as JSON.

use crate::model::{Image, Member};
use crate::store::tasks::{KEEP, Row};
use serde_json::{Map, Value, json};

/// An image. Its additional properties stand beside the attributes, and never hide one.
pub(super) fn image(i: &Image) -> Value {
    let mut out = Map::new();
    for (name, value) in &i.properties {
        out.insert(name.clone(), Value::String(value.clone()));
    }
    let path = format!("/v2/images/{}", i.id);
    let base = [
        ("name", json!(i.name)),
        ("disk_format", json!(i.disk_format)),
        ("container_format", json!(i.container_format)),
        ("visibility", json!(i.visibility)),
        ("size", json!(i.size)),
        ("virtual_size", json!(i.virtual_size)),
        ("status", json!(i.status)),
        ("checksum", json!(i.checksum)),
        ("protected", json!(i.protected)),
        ("min_ram", json!(i.min_ram)),
        ("min_disk", json!(i.min_disk)),
        ("owner", json!(i.owner)),
        ("os_hidden", json!(i.os_hidden)),
        ("os_hash_algo", json!(i.os_hash_algo)),
        ("os_hash_value", json!(i.os_hash_value)),
        ("id", json!(i.id)),
        ("created_at", json!(i.created_at.seconds_z())),
        ("updated_at", json!(i.updated_at.seconds_z())),
        ("tags", json!(i.tags)),
        ("self", json!(path)),
        ("file", json!(format!("{path}/file"))),
        ("schema", json!("/v2/schemas/image")),
    ];
    out.extend(base.map(|(name, value)| (name.to_owned(), value)));
    if i.size.is_some() {
        out.insert("stores".to_owned(), json!(i.stores().join(",")));
    }
    Value::Object(out)
}

pub(super) fn member(m: &Member) -> Value {
    json!({
        "member_id": m.member_id,
        "image_id": m.image_id,
        "status": m.status,
        "created_at": m.created_at.seconds_z(),
        "updated_at": m.updated_at.seconds_z(),
        "schema": "/v2/schemas/member",
    })
}

/// A task, whole.
pub(super) fn task(t: &Row) -> Value {
    let object = |text: &str| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
    let mut out = task_brief(t);
    out["input"] = object(&t.input);
    out["result"] = object(&t.result);
    out["message"] = json!(t.message);
    out
}

/// A task, as a list has it.
pub(super) fn task_brief(t: &Row) -> Value {
    let done = matches!(t.status.as_str(), "success" | "failure");
    let path = format!("/v2/tasks/{}", t.id);
    json!({
        "id": t.id,
        "type": t.r#type,
        "status": t.status,
        "owner": t.owner,
        "image_id": t.image_id,
        "request_id": t.request_id,
        "user_id": t.user_id,
        "created_at": t.created_at.seconds_z(),
        "updated_at": t.updated_at.seconds_z(),
        "expires_at": done.then(|| t.updated_at.plus(KEEP).seconds_z()),
        "self": path,
        "schema": "/v2/schemas/task",
    })
}
