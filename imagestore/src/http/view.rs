//! Rows as JSON.

use crate::model::{Image, Member};
use crate::store::tasks::{KEEP, Row};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

/// Members of an image that no additional property hides.
const ATTRIBUTES: [&str; 23] = [
    "name",
    "disk_format",
    "container_format",
    "visibility",
    "size",
    "virtual_size",
    "status",
    "checksum",
    "protected",
    "min_ram",
    "min_disk",
    "owner",
    "os_hidden",
    "os_hash_algo",
    "os_hash_value",
    "id",
    "created_at",
    "updated_at",
    "tags",
    "self",
    "file",
    "schema",
    "stores",
];

/// An image, written without a tree of values between, for lists are long. Its additional properties stand beside the
/// attributes.
pub(super) struct View<'a>(pub(super) &'a Image);

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let i = self.0;
        let path = format!("/v2/images/{}", i.id);
        let mut out = to.serialize_map(None)?;
        for (name, value) in i.properties.iter().filter(|(name, _)| !ATTRIBUTES.contains(&name.as_str())) {
            out.serialize_entry(name, value)?;
        }
        out.serialize_entry("name", &i.name)?;
        out.serialize_entry("disk_format", &i.disk_format)?;
        out.serialize_entry("container_format", &i.container_format)?;
        out.serialize_entry("visibility", &i.visibility)?;
        out.serialize_entry("size", &i.size)?;
        out.serialize_entry("virtual_size", &i.virtual_size)?;
        out.serialize_entry("status", &i.status)?;
        out.serialize_entry("checksum", &i.checksum)?;
        out.serialize_entry("protected", &i.protected)?;
        out.serialize_entry("min_ram", &i.min_ram)?;
        out.serialize_entry("min_disk", &i.min_disk)?;
        out.serialize_entry("owner", &i.owner)?;
        out.serialize_entry("os_hidden", &i.os_hidden)?;
        out.serialize_entry("os_hash_algo", &i.os_hash_algo)?;
        out.serialize_entry("os_hash_value", &i.os_hash_value)?;
        out.serialize_entry("id", &i.id)?;
        out.serialize_entry("created_at", &i.created_at.seconds_z())?;
        out.serialize_entry("updated_at", &i.updated_at.seconds_z())?;
        out.serialize_entry("tags", &i.tags)?;
        out.serialize_entry("self", &path)?;
        out.serialize_entry("file", &format_args!("{path}/file"))?;
        out.serialize_entry("schema", "/v2/schemas/image")?;
        if i.size.is_some() {
            out.serialize_entry("stores", &i.stores().join(","))?;
        }
        out.end()
    }
}

pub(super) fn image(i: &Image) -> Value {
    json!(View(i))
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
