//! What request bodies may hold: the schemas of upstream's resources, and the first cleaning of a body.

use crate::IdentityError;
use crate::store::Record;
use api::schema::Schema;
use serde_json::{Value, json};

/// A resource's two schemas.
pub(crate) struct Shape {
    key: &'static str,
    create: Schema,
    update: Schema,
}

impl Shape {
    /// `properties` of the object under `key`, those in `required` being demanded of a new one. Attributes that are
    /// not named may be anything.
    pub(crate) fn new(key: &'static str, properties: Value, required: &[&str]) -> Self {
        let schema = |required: &[&str], least: u32| {
            Schema::new(&json!({"type": "object", "required": [key], "properties": {
                key: {"type": "object", "properties": properties, "required": required,
                    "minProperties": least}}}))
        };
        Shape { key, create: schema(required, 0), update: schema(&[], 1) }
    }

    /// The same where there are no other attributes.
    pub(crate) fn closed(
        key: &'static str,
        mut properties: Value,
        required: &[&str],
        fixed: &[&str],
    ) -> Self {
        let schema = |properties: &Value, required: &[&str], least: u32| {
            Schema::new(&json!({"type": "object", "required": [key], "properties": {
                key: {"type": "object", "properties": properties, "required": required,
                    "minProperties": least, "additionalProperties": false}}}))
        };
        // What clients send back with the rest.
        properties["id"] = json!({"type": "string"});
        properties["links"] = json!({"type": "object"});
        let create = schema(&properties, required, 0);
        if let Some(all) = properties.as_object_mut() {
            all.retain(|name, _| !fixed.contains(&name.as_str()));
        }
        Shape { key, create, update: schema(&properties, &[], 1) }
    }

    /// The attributes of a new resource, without an id or links.
    pub(crate) fn new_record(&self, body: &Value) -> Result<Record, IdentityError> {
        self.create.check(body)?;
        Ok(self.inner(body))
    }

    /// The attributes to change in the resource of this id.
    pub(crate) fn changes(&self, body: &Value, id: &str) -> Result<Record, IdentityError> {
        self.update.check(body)?;
        if body[self.key].get("id").is_some_and(|other| other != id) {
            return Err(IdentityError::Invalid("Cannot change the ID".into()));
        }
        Ok(self.inner(body))
    }

    fn inner(&self, body: &Value) -> Record {
        let mut record = body[self.key].as_object().cloned().unwrap_or_default();
        record.remove("id");
        record.remove("links");
        record
    }
}

pub(crate) fn name(longest: u32) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": longest, "pattern": r"\S"})
}

/// An id, or absent.
pub(crate) fn maybe_id() -> Value {
    json!({"type": ["string", "null"], "maxLength": 64, "pattern": "^[a-zA-Z0-9-]*$"})
}

pub(crate) fn id() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9-]+$"})
}

pub(crate) fn text() -> Value {
    json!({"type": ["string", "null"]})
}

pub(crate) fn flag() -> Value {
    json!({"type": "boolean"})
}

pub(crate) fn url() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 225, "pattern": "^[a-zA-Z0-9+.-]+:.+"})
}

/// The one option that projects, domains and roles have.
pub(crate) fn immutable() -> Value {
    json!({"type": "object", "additionalProperties": false,
        "properties": {"immutable": {"type": ["boolean", "null"]}}})
}

pub(crate) fn tags() -> Value {
    json!({"type": "array", "maxItems": 80, "uniqueItems": true, "items": tag()})
}

pub(crate) fn tag() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[^,/]*$"})
}

/// Sets an attribute that was not given.
pub(crate) fn default(record: &mut Record, name: &str, value: impl Into<Value>) {
    if !record.contains_key(name) {
        record.insert(name.to_owned(), value.into());
    }
}

/// A name loses the blanks around it, as upstream's does.
pub(crate) fn trim_name(record: &mut Record) {
    if let Some(Value::String(name)) = record.get_mut("name") {
        *name = name.trim().to_owned();
    }
}

/// Options set to null are removed, others replaced.
pub(crate) fn merge_options(record: &mut Record, changes: &mut Record) {
    let Some(Value::Object(new)) = changes.remove("options") else { return };
    let mut options = record.get("options").and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, value) in new {
        if value.is_null() {
            options.remove(&name);
        } else {
            options.insert(name, value);
        }
    }
    record.insert("options".into(), options.into());
}

/// Whether the resource may be neither changed nor deleted.
pub(crate) fn is_immutable(record: &Record) -> bool {
    record.get("options").is_some_and(|o| o["immutable"] == Value::Bool(true))
}

/// An immutable resource accepts one change: that it no longer is.
pub(crate) fn may_change(kind: &str, record: &Record, changes: &Record) -> Result<(), IdentityError> {
    let frees = changes
        .get("options")
        .is_some_and(|o| o.get("immutable").is_some_and(|v| v.is_null() || *v == Value::Bool(false)));
    if is_immutable(record) && !(frees && changes.len() == 1) {
        return Err(immutable_error(kind, record, "update"));
    }
    Ok(())
}

pub(crate) fn may_delete(kind: &str, record: &Record) -> Result<(), IdentityError> {
    if is_immutable(record) { Err(immutable_error(kind, record, "delete")) } else { Ok(()) }
}

fn immutable_error(kind: &str, record: &Record, what: &str) -> IdentityError {
    let id = record.get("id").and_then(Value::as_str).unwrap_or_default();
    IdentityError::Forbidden(format!("Unable to {what} immutable {kind} resource: `{id}`."))
}
