//! What bodies of metadata definitions look like: for checking them, and for clients that ask.

use api::schema::Schema;
use serde_json::{Value, json};
use std::sync::LazyLock;

fn name() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 80})
}

fn text() -> Value {
    json!({"type": ["string", "null"], "maxLength": 500})
}

fn strings() -> Value {
    json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true})
}

/// What a property says, without its name.
fn property_fields() -> Value {
    let count = json!({"type": "integer", "minimum": 0});
    json!({
        "title": {"type": "string"},
        "description": {"type": "string"},
        "operators": {"type": "array", "items": {"type": "string"}},
        "type": {"type": "string",
            "enum": ["array", "boolean", "integer", "number", "object", "string", null]},
        "required": strings(),
        "minimum": {"type": "number"},
        "maximum": {"type": "number"},
        "maxLength": count,
        "minLength": count,
        "pattern": {"type": "string", "format": "regex"},
        "enum": {"type": "array"},
        "readonly": {"type": "boolean"},
        "default": {},
        "items": {"type": "object", "properties": {"type": {"type": "string"}, "enum": {"type": "array"}}},
        "maxItems": count,
        "minItems": count,
        "uniqueItems": {"type": "boolean"},
        "additionalItems": {"type": "boolean"},
    })
}

fn shown_only(properties: &mut Value) {
    for field in ["created_at", "updated_at"] {
        properties[field] = json!({"type": "string", "format": "date-time", "readOnly": true});
    }
    for field in ["self", "schema"] {
        properties[field] = json!({"type": "string", "readOnly": true});
    }
}

fn body(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn property_body(with_name: bool) -> Value {
    let mut fields = property_fields();
    if with_name {
        fields["name"] = name();
        return body(fields, &["name", "title", "type"]);
    }
    body(fields, &["title", "type"])
}

fn object_body() -> Value {
    let mut fields = json!({"name": name(), "description": text(), "required": strings(),
        "properties": {"type": "object", "maxProperties": 1000, "additionalProperties": property_body(false)}});
    shown_only(&mut fields);
    body(fields, &["name"])
}

fn tag_body() -> Value {
    let mut fields = json!({"name": name()});
    shown_only(&mut fields);
    body(fields, &["name"])
}

fn association_body() -> Value {
    let mut fields = json!({"name": name(), "prefix": {"type": ["string", "null"], "maxLength": 80},
        "properties_target": {"type": ["string", "null"], "maxLength": 80}});
    shown_only(&mut fields);
    body(fields, &["name"])
}

fn namespace_body() -> Value {
    let mut fields = json!({
        "namespace": name(), "display_name": {"type": ["string", "null"], "maxLength": 80}, "description": text(),
        "visibility": {"type": "string", "enum": ["public", "private"]},
        "protected": {"type": "boolean"},
        "owner": {"type": "string", "maxLength": 255},
        "resource_type_associations": {"type": "array", "maxItems": 1000, "items": association_body()},
        "objects": {"type": "array", "maxItems": 1000, "items": object_body()},
        "properties": {"type": "object", "maxProperties": 1000, "additionalProperties": property_body(false)},
        "tags": {"type": "array", "maxItems": 1000, "items": tag_body()},
    });
    shown_only(&mut fields);
    body(fields, &["namespace"])
}

pub(super) static NAMESPACE: LazyLock<Schema> = LazyLock::new(|| Schema::new(&namespace_body()));
pub(super) static OBJECT: LazyLock<Schema> = LazyLock::new(|| Schema::new(&object_body()));
pub(super) static PROPERTY: LazyLock<Schema> = LazyLock::new(|| Schema::new(&property_body(true)));
pub(super) static TAG: LazyLock<Schema> = LazyLock::new(|| Schema::new(&tag_body()));
pub(super) static ASSOCIATION: LazyLock<Schema> = LazyLock::new(|| Schema::new(&association_body()));
pub(super) static TAGS: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(&body(json!({"tags": {"type": "array", "maxItems": 1000, "items": tag_body()}}), &["tags"]))
});

/// The schema of a name below `/v2/schemas/metadefs`; `None` where there is none.
pub(in crate::http) fn shown(name: &str) -> Option<Value> {
    let named = |name: &str, mut schema: Value| {
        schema["name"] = name.into();
        schema
    };
    let collection = |name: &str, item: Value| super::super::schemas::collection(name, item);
    Some(match name {
        "namespace" => named("namespace", namespace_body()),
        "namespaces" => collection("namespaces", named("namespace", namespace_body())),
        "object" => named("object", object_body()),
        "objects" => collection("objects", named("object", object_body())),
        "property" => named("property", property_body(true)),
        "properties" => {
            let mut all = collection("properties", Value::Null);
            all["properties"]["properties"] =
                json!({"type": "object", "additionalProperties": property_body(false)});
            all
        }
        "tag" => named("tag", tag_body()),
        "tags" => collection("tags", named("tag", tag_body())),
        "resource_type" => named("resource_type_association", association_body()),
        "resource_types" => {
            collection("resource_type_associations", named("resource_type_association", association_body()))
        }
        _ => return None,
    })
}
