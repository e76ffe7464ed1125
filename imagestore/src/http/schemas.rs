//! `/v2/schemas/…`: what bodies look like, as clients ask for it.

use super::App;
use crate::{Config, Images};
use api::{Context, Error, Json, Path, Routes};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.get("/v2/schemas/{name}", show).get("/v2/schemas/metadefs/{name}", metadef)
}

async fn show(images: App, _: Context, Path(name): Path<String>) -> Result<Json<Value>, Error> {
    let schema = match name.as_str() {
        "image" => image(&images.config),
        "images" => collection("images", image(&images.config)),
        "member" => member(),
        "members" => collection("members", member()),
        "task" => task(),
        "tasks" => collection("tasks", task()),
        _ => return Err(Error::not_found("The resource could not be found.")),
    };
    Ok(Json(schema))
}

async fn metadef(_: App, _: Context, Path(name): Path<String>) -> Result<Json<Value>, Error> {
    let found = super::metadefs::schema(&name);
    found.map(Json).ok_or_else(|| Error::not_found("The resource could not be found."))
}

pub(super) fn collection(name: &str, item: Value) -> Value {
    let mut properties = json!({"schema": {"type": "string"}});
    properties[name] = json!({"type": "array", "items": item});
    for link in ["first", "next"] {
        properties[link] = json!({"type": "string"});
    }
    let links = json!([
        {"rel": "first", "href": "{first}"}, {"rel": "next", "href": "{next}"},
        {"rel": "describedby", "href": "{schema}"},
    ]);
    json!({"name": name, "properties": properties, "links": links})
}

const UUID: &str = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$";

fn image(config: &Config) -> Value {
    let text = |what: &str| json!({"type": ["null", "string"], "maxLength": 255, "description": what});
    let shown = |kind: &str, what: &str| json!({"type": kind, "readOnly": true, "description": what});
    let maybe =
        |kind: &str, what: &str| json!({"type": ["null", kind], "readOnly": true, "description": what});
    let one_of = |names: &[String], what: &str| {
        let mut all: Vec<Value> = vec![Value::Null];
        all.extend(names.iter().map(|n| json!(n)));
        json!({"type": ["null", "string"], "enum": all, "description": what})
    };
    let count =
        |what: &str| json!({"type": "integer", "minimum": 0, "maximum": i32::MAX, "description": what});
    let reference = |what: &str| json!({"type": ["null", "string"], "pattern": UUID, "is_base": false, "description": what});
    json!({
        "name": "image",
        "properties": {
            "id": {"type": "string", "pattern": UUID, "description": "An identifier for the image"},
            "name": text("Descriptive name for the image"),
            "status": {"type": "string", "readOnly": true, "description": "Status of the image",
                "enum": ["queued", "saving", "active", "killed", "deleted", "uploading", "importing",
                    "pending_delete", "deactivated"]},
            "visibility": {"type": "string", "enum": ["community", "public", "private", "shared"],
                "description": "Scope of image accessibility"},
            "protected": {"type": "boolean", "description": "If true, image will not be deletable."},
            "os_hidden": {"type": "boolean", "description": "If true, image will not appear in default image list response."},
            "checksum": maybe("string", "md5 hash of image contents."),
            "os_hash_algo": maybe("string", "Algorithm to calculate the os_hash_value"),
            "os_hash_value": maybe("string", "Hexdigest of the image contents using os_hash_algo"),
            "owner": text("Owner of the image"),
            "size": maybe("integer", "Size of image file in bytes"),
            "virtual_size": maybe("integer", "Virtual size of image in bytes"),
            "container_format": one_of(&config.container_formats, "Format of the container"),
            "disk_format": one_of(&config.disk_formats, "Format of the disk"),
            "created_at": shown("string", "Date and time of image registration"),
            "updated_at": shown("string", "Date and time of the last image modification"),
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 255},
                "description": "List of strings related to the image"},
            "direct_url": shown("string", "URL to access the image file kept in external store"),
            "min_ram": count("Amount of ram (in MB) required to boot image."),
            "min_disk": count("Amount of disk space (in GB) required to boot image."),
            "self": shown("string", "An image self url"),
            "file": shown("string", "An image file url"),
            "stores": shown("string", "The stores that hold the image"),
            "schema": shown("string", "An image schema url"),
            "kernel_id": reference("ID of the kernel that should be used when booting an AMI-style image."),
            "ramdisk_id": reference("ID of the ramdisk that should be used when booting an AMI-style image."),
            "architecture": {"type": "string", "is_base": false, "description": "Operating system architecture."},
            "os_distro": {"type": "string", "is_base": false, "description": "Common name of operating system distribution."},
            "os_version": {"type": "string", "is_base": false, "description": "Operating system version."},
            "instance_uuid": {"type": "string", "is_base": false, "description": "The server that this image was made of."},
        },
        "additionalProperties": {"type": "string"},
        "links": [{"rel": "self", "href": "{self}"}, {"rel": "enclosure", "href": "{file}"},
            {"rel": "describedby", "href": "{schema}"}],
    })
}

fn member() -> Value {
    json!({
        "name": "member",
        "properties": {
            "created_at": {"type": "string", "description": "Date and time of image member creation"},
            "image_id": {"type": "string", "pattern": UUID, "description": "An identifier for the image"},
            "member_id": {"type": "string", "description": "An identifier for the image member (tenantId)"},
            "status": {"type": "string", "enum": ["pending", "accepted", "rejected"],
                "description": "The status of this image member"},
            "updated_at": {"type": "string", "description": "Date and time of last modification of image member"},
            "schema": {"type": "string", "readOnly": true},
        },
    })
}

fn task() -> Value {
    let text = |what: &str| json!({"type": "string", "description": what});
    json!({
        "name": "task",
        "properties": {
            "id": {"type": "string", "pattern": UUID, "description": "An identifier for the task"},
            "type": {"type": "string", "enum": ["import", "api_image_import", "location_import"],
                "description": "The type of task represented by this content"},
            "status": {"type": "string", "enum": ["pending", "processing", "success", "failure"],
                "description": "The current status of this task"},
            "input": {"type": ["null", "object"], "description": "The parameters required by task, JSON blob"},
            "result": {"type": ["null", "object"], "description": "The result of current task, JSON blob"},
            "owner": text("An identifier for the owner of this task"),
            "message": text("Human-readable informative message only included when appropriate (usually on failure)"),
            "image_id": text("Image associated with the task"),
            "request_id": text("Human-readable informative request-id"),
            "user_id": text("User associated with the task"),
            "created_at": text("Datetime when this resource was created"),
            "updated_at": text("Datetime when this resource was updated"),
            "expires_at": {"type": ["null", "string"], "description": "Datetime when this resource would be subject to removal"},
            "self": {"type": "string", "readOnly": true},
            "schema": {"type": "string", "readOnly": true},
        },
    })
}
