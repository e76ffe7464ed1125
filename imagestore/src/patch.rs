//! Changes to an image's metadata, in both dialects of JSON patch, and the attributes that a body may name.
//!
//! Dialect 2.1 is RFC 6902's `{"op": "add", "path": "/name", "value": …}`, 2.0 says `{"add": "/name", "value": …}`.

use crate::model::{Image, NewImage, Status, Visibility};
use crate::{Config, ImageError};
use serde_json::{Map, Value};

/// A dialect, by media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    V20,
    V21,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Add,
    /// As 2.0 has it: not over what is there.
    AddNew,
    Replace,
    Remove,
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    verb: Verb,
    name: String,
    value: Value,
}

const READ_ONLY: &[&str] = &[
    "created_at",
    "updated_at",
    "status",
    "checksum",
    "size",
    "virtual_size",
    "direct_url",
    "self",
    "file",
    "schema",
    "stores",
    "os_hash_algo",
    "os_hash_value",
];
const RESERVED: &[&str] = &["location", "deleted", "deleted_at"];
const BASE: &[&str] = &[
    "id",
    "name",
    "visibility",
    "owner",
    "disk_format",
    "container_format",
    "min_disk",
    "min_ram",
    "protected",
    "os_hidden",
    "tags",
];

/// Whether this is an attribute of every image, and no additional property.
pub(crate) fn is_attribute(name: &str) -> bool {
    READ_ONLY.contains(&name)
        || RESERVED.contains(&name)
        || BASE.contains(&name)
        || name.starts_with("os_glance_")
}

/// Whether a caller may name the attribute at all.
fn nameable(name: &str) -> Result<(), ImageError> {
    if READ_ONLY.contains(&name) {
        return Err(ImageError::forbidden(format!("Attribute '{name}' is read-only.")));
    }
    if RESERVED.contains(&name) || name.starts_with("os_glance_") {
        return Err(ImageError::forbidden(format!("Attribute '{name}' is reserved.")));
    }
    if name == "locations" {
        return Err(ImageError::forbidden("It's not allowed to add locations if locations are invisible."));
    }
    Ok(())
}

/// An attribute with a value of its type.
enum Field {
    Id(String),
    Name(Option<String>),
    Visibility(Visibility),
    Owner(Option<String>),
    DiskFormat(Option<String>),
    ContainerFormat(Option<String>),
    MinDisk(u32),
    MinRam(u32),
    Protected(bool),
    Hidden(bool),
    Tags(Vec<String>),
    Property(String, Option<String>),
}

fn mismatch(name: &str, value: &Value, why: &str) -> ImageError {
    let mut shown = value.to_string();
    if shown.chars().count() > 100 {
        shown = shown.chars().take(100).chain("…".chars()).collect();
    }
    ImageError::Invalid(format!("Provided object does not match schema 'image': {name}: {shown} {why}"))
}

impl Field {
    /// Reads an attribute as the schema `image` has it.
    fn read(config: &Config, name: &str, value: Value) -> Result<Field, ImageError> {
        let flag = |v: &Value| v.as_bool().ok_or_else(|| mismatch(name, v, "is not of type 'boolean'"));
        Ok(match name {
            "id" => match value.as_str().filter(|s| uuid::Uuid::parse_str(s).is_ok() && s.len() == 36) {
                Some(id) => Field::Id(id.to_ascii_lowercase()),
                None => return Err(mismatch(name, &value, "is not a UUID")),
            },
            "name" => Field::Name(text(name, value)?),
            "owner" => Field::Owner(text(name, value)?),
            "disk_format" => Field::DiskFormat(one_of(name, value, &config.disk_formats)?),
            "container_format" => Field::ContainerFormat(one_of(name, value, &config.container_formats)?),
            "min_disk" => Field::MinDisk(number(name, &value)?),
            "min_ram" => Field::MinRam(number(name, &value)?),
            "protected" => Field::Protected(flag(&value)?),
            "os_hidden" => Field::Hidden(flag(&value)?),
            "visibility" => match value.as_str().and_then(Visibility::parse) {
                Some(v) => Field::Visibility(v),
                None => return Err(mismatch(name, &value, "is not one of the visibilities")),
            },
            "tags" => Field::Tags(tags(name, value)?),
            _ => return property(name, value),
        })
    }
}

fn text(name: &str, value: Value) -> Result<Option<String>, ImageError> {
    match value {
        Value::Null => Ok(None),
        Value::String(s) if s.chars().count() <= 255 && !s.contains('\0') => Ok(Some(s)),
        Value::String(_) => Err(mismatch(name, &value, "is too long")),
        _ => Err(mismatch(name, &value, "is not of type 'null', 'string'")),
    }
}

fn one_of(name: &str, value: Value, allowed: &[String]) -> Result<Option<String>, ImageError> {
    match value {
        Value::Null => Ok(None),
        Value::String(s) if allowed.contains(&s) => Ok(Some(s)),
        _ => Err(mismatch(name, &value, &format!("is not one of {allowed:?}"))),
    }
}

fn number(name: &str, value: &Value) -> Result<u32, ImageError> {
    let n = value.as_i64().ok_or_else(|| mismatch(name, value, "is not of type 'integer'"))?;
    match u32::try_from(n) {
        Ok(n) if i32::try_from(n).is_ok() => Ok(n),
        _ => Err(mismatch(name, value, "is not between 0 and 2147483647")),
    }
}

fn tags(name: &str, value: Value) -> Result<Vec<String>, ImageError> {
    let Value::Array(items) = &value else { return Err(mismatch(name, &value, "is not of type 'array'")) };
    let mut tags = Vec::with_capacity(items.len());
    for item in items {
        match item.as_str() {
            Some(t) if t.chars().count() <= 255 && !t.contains('\0') => {
                if !tags.iter().any(|have| have == t) {
                    tags.push(t.to_owned());
                }
            }
            _ => return Err(mismatch(name, item, "is not a string of at most 255 characters")),
        }
    }
    Ok(tags)
}

/// Additional properties are strings. Two of upstream's own may be null.
fn property(name: &str, value: Value) -> Result<Field, ImageError> {
    if name.is_empty() || name.chars().count() > 255 || name.contains('\0') {
        return Err(ImageError::invalid("The name of a property is empty or longer than 255 characters."));
    }
    let reference = matches!(name, "kernel_id" | "ramdisk_id");
    match value {
        Value::Null if reference => Ok(Field::Property(name.to_owned(), None)),
        Value::String(s) if reference && uuid::Uuid::parse_str(&s).is_err() => {
            Err(mismatch(name, &Value::String(s), "is not a UUID"))
        }
        Value::String(s) if s.len() <= 65_535 && !s.contains('\0') => {
            Ok(Field::Property(name.to_owned(), Some(s)))
        }
        _ => Err(mismatch(name, &value, "is not of type 'string'")),
    }
}

/// Reads the body of a new image.
pub(crate) fn read_new(config: &Config, body: Map<String, Value>) -> Result<NewImage, ImageError> {
    body.keys().try_for_each(|name| nameable(name))?;
    let mut new = NewImage::default();
    for (name, value) in body {
        match Field::read(config, &name, value)? {
            Field::Id(v) => new.id = Some(v),
            Field::Name(v) => new.name = v,
            Field::Visibility(v) => new.visibility = Some(v),
            Field::Owner(v) => new.owner = v,
            Field::DiskFormat(v) => new.disk_format = v,
            Field::ContainerFormat(v) => new.container_format = v,
            Field::MinDisk(v) => new.min_disk = v,
            Field::MinRam(v) => new.min_ram = v,
            Field::Protected(v) => new.protected = v,
            Field::Hidden(v) => new.os_hidden = v,
            Field::Tags(v) => new.tags = v,
            Field::Property(k, Some(v)) => {
                new.properties.insert(k, v);
            }
            Field::Property(_, None) => {}
        }
    }
    Ok(new)
}

/// Reads a patch. Nothing is applied yet.
pub(crate) fn read(dialect: Dialect, body: Value) -> Result<Vec<Change>, ImageError> {
    let Value::Array(items) = body else {
        return Err(ImageError::invalid("Request body must be a JSON array of operation objects."));
    };
    items
        .into_iter()
        .map(|item| match item {
            Value::Object(o) => change(dialect, o),
            _ => Err(ImageError::invalid("Operations must be JSON objects.")),
        })
        .collect()
}

fn change(dialect: Dialect, mut o: Map<String, Value>) -> Result<Change, ImageError> {
    let add = if dialect == Dialect::V20 { Verb::AddNew } else { Verb::Add };
    let verbs = [("add", add), ("replace", Verb::Replace), ("remove", Verb::Remove)];
    let (verb, path) = match dialect {
        Dialect::V20 => {
            let mut named = verbs.iter().filter(|(word, _)| o.contains_key(*word));
            match (named.next(), named.next()) {
                (Some((word, verb)), None) => (*verb, o.remove(*word)),
                _ => {
                    return Err(ImageError::invalid(
                        "Operation objects must contain exactly one member named \"add\", \"remove\", or \"replace\".",
                    ));
                }
            }
        }
        Dialect::V21 => {
            let word = o.remove("op");
            let known = verbs.iter().find(|(w, _)| word.as_ref().and_then(Value::as_str) == Some(w));
            let (_, verb) = known.ok_or_else(|| {
                ImageError::invalid("Operations must be \"add\", \"remove\", or \"replace\": unable to find 'op' in JSON Schema change")
            })?;
            (*verb, o.remove("path"))
        }
    };
    let Some(Value::String(path)) = path else {
        return Err(ImageError::invalid("Unable to find 'path' in JSON Schema change"));
    };
    let name = pointer(&path)?;
    let value = match (verb, o.remove("value")) {
        (Verb::Remove, _) => Value::Null,
        (_, Some(value)) => value,
        _ => return Err(ImageError::invalid("Operation is missing required member \"value\".")),
    };
    Ok(Change { verb, name, value })
}

/// The attribute that a JSON pointer names. Only whole attributes can be changed.
fn pointer(path: &str) -> Result<String, ImageError> {
    let bad = |why: &str| Err(ImageError::Invalid(format!("Pointer `{path}` {why}.")));
    let Some(rest) = path.strip_prefix('/') else { return bad("does not start with \"/\"") };
    if rest.is_empty() || rest.ends_with('/') {
        return bad("ends with \"/\"");
    }
    if rest.contains("//") {
        return bad("contains adjacent \"/\"");
    }
    if rest.replace("~0", "").replace("~1", "").contains('~') {
        return bad("contains \"~\" that is not part of a recognized escape sequence");
    }
    let first = rest.split('/').next().unwrap_or_default().replace("~1", "/").replace("~0", "~");
    nameable(&first)?;
    if rest.contains('/') {
        return Err(ImageError::Invalid(format!("Invalid JSON pointer for this resource: '{path}'")));
    }
    Ok(first)
}

/// Applies a patch.
pub(crate) fn apply(config: &Config, image: &mut Image, changes: Vec<Change>) -> Result<(), ImageError> {
    for change in changes {
        apply_one(config, image, change)?;
    }
    Ok(())
}

fn apply_one(config: &Config, image: &mut Image, change: Change) -> Result<(), ImageError> {
    let Change { verb, name, value } = change;
    let base = BASE.contains(&name.as_str());
    let absent = || ImageError::Conflict(format!("Property {name} does not exist."));
    match verb {
        Verb::Remove if base => {
            return Err(ImageError::Forbidden(format!("Property {name} may not be removed.")));
        }
        Verb::Remove => return image.properties.remove(&name).map(drop).ok_or_else(absent),
        Verb::AddNew if base || image.properties.contains_key(&name) => {
            return Err(ImageError::Conflict(format!("Property {name} already present.")));
        }
        Verb::Replace if !base && !image.properties.contains_key(&name) => return Err(absent()),
        _ => {}
    }
    if matches!(name.as_str(), "disk_format" | "container_format") && image.status != Status::Queued {
        return Err(ImageError::Forbidden(format!(
            "Attribute {name} can be only replaced for a queued image."
        )));
    }
    match Field::read(config, &name, value)? {
        Field::Id(_) => return Err(ImageError::forbidden("Attribute 'id' is read-only.")),
        Field::Name(v) => image.name = v,
        Field::Visibility(v) => image.visibility = v,
        Field::Owner(v) => image.owner = v,
        Field::DiskFormat(v) => image.disk_format = v,
        Field::ContainerFormat(v) => image.container_format = v,
        Field::MinDisk(v) => image.min_disk = v,
        Field::MinRam(v) => image.min_ram = v,
        Field::Protected(v) => image.protected = v,
        Field::Hidden(v) => image.os_hidden = v,
        Field::Tags(v) => image.tags = v,
        Field::Property(k, Some(v)) => {
            image.properties.insert(k, v);
        }
        Field::Property(k, None) => {
            image.properties.remove(&k);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(r: Result<impl Sized, ImageError>) -> &'static str {
        match r {
            Ok(_) => "ok",
            Err(ImageError::Invalid(_)) => "400",
            Err(ImageError::Forbidden(_)) => "403",
            Err(ImageError::Conflict(_)) => "409",
            Err(_) => "?",
        }
    }

    #[test]
    fn bodies_of_new_images() {
        let read = |v: Value| status(read_new(&Config::default(), v.as_object().unwrap().clone()));
        assert_eq!(
            read(json!({"name": "a", "min_disk": 1, "tags": ["x", "x"], "os_distro": "debian"})),
            "ok"
        );
        for bad in [
            json!({"name": 1}),
            json!({"name": "x".repeat(256)}),
            json!({"min_disk": -1}),
            json!({"min_ram": "1"}),
            json!({"min_ram": 1u64 << 31}),
            json!({"disk_format": "wrong"}),
            json!({"visibility": "secret"}),
            json!({"protected": "yes"}),
            json!({"tags": "x"}),
            json!({"tags": [1]}),
            json!({"speed": 88}),
            json!({"id": "x"}),
            json!({"kernel_id": "x"}),
        ] {
            assert_eq!(read(bad.clone()), "400", "{bad}");
        }
        for bad in ["status", "size", "os_glance_x", "deleted", "locations", "self"] {
            assert_eq!(read(json!({bad: "x"})), "403", "{bad}");
        }
    }

    #[test]
    fn both_dialects_say_the_same() {
        let old = read(Dialect::V20, json!([{"replace": "/name", "value": "n"}])).unwrap();
        let new = read(Dialect::V21, json!([{"op": "replace", "path": "/name", "value": "n"}])).unwrap();
        assert_eq!(old, new);
        for bad in [
            json!({}),
            json!([1]),
            json!([{"add": "/a", "remove": "/b"}]),
            json!([{"add": "/a"}]),
            json!([{"add": "a", "value": ""}]),
            json!([{"add": "/a/", "value": ""}]),
            json!([{"add": "/a//b", "value": ""}]),
            json!([{"add": "/a~2", "value": ""}]),
            json!([{"add": "/tags/0", "value": ""}]),
            json!([{"add": 1, "value": ""}]),
        ] {
            assert_eq!(status(read(Dialect::V20, bad.clone())), "400", "{bad}");
        }
        assert_eq!(status(read(Dialect::V21, json!([{"op": "move", "path": "/a", "from": "/b"}]))), "400");
        assert_eq!(status(read(Dialect::V20, json!([{"remove": "/status"}]))), "403");
    }
}
