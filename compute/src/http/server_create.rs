//! The body of `POST /servers`, checked as upstream's schemas check it, by microversion.

use crate::ComputeError;
use crate::model::{NetworkRequest, NicRequest};
use crate::servers::create::DiskFrom;
use crate::servers::{NewDisk, NewServer};
use api::{Error, Microversion, schema::Schema};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// A request with what only its response needs.
pub(super) struct Asked {
    pub(super) new: NewServer,
    pub(super) return_reservation_id: bool,
    pub(super) admin_pass: String,
    pub(super) security_groups: Vec<String>,
}

const UUID: &str = "^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$";

static CREATE: LazyLock<Schema> = LazyLock::new(|| {
    let boolean = json!({"enum": [true, "True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes", "y", "t",
        false, "False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no", "n", "f"]});
    let count = json!({"type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 1, "minLength": 1});
    let metadata = json!({"type": "object", "additionalProperties": false, "patternProperties":
        {"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": "string", "maxLength": 255}}});
    let network = json!({"type": "object", "additionalProperties": false, "properties": {
        "fixed_ip": {"type": ["string", "null"]},
        "port": {"oneOf": [{"type": "string", "pattern": UUID}, {"type": "null"}]},
        "uuid": {"type": "string", "pattern": UUID},
        "tag": {"type": "string", "minLength": 1, "maxLength": 60, "pattern": "^[^,/]*$"},
    }});
    let bdm = json!({"type": "object", "additionalProperties": false, "properties": {
        "virtual_name": {"type": "string", "maxLength": 255},
        "volume_id": {"type": "string", "pattern": UUID},
        "snapshot_id": {"type": "string", "pattern": UUID},
        "image_id": {"type": "string", "pattern": UUID},
        "volume_size": {"type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 1, "maximum": 2147483647, "minLength": 1},
        "device_name": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9._-r/]*$"},
        "delete_on_termination": boolean,
        "no_device": {},
        "connection_info": {"type": "string", "maxLength": 255},
        "source_type": {"enum": ["volume", "image", "snapshot", "blank"]},
        "uuid": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9._-]*$"},
        "destination_type": {"enum": ["local", "volume"]},
        "guest_format": {"type": "string", "maxLength": 255},
        "device_type": {"type": "string", "maxLength": 255},
        "disk_bus": {"type": "string", "maxLength": 255},
        "boot_index": {"type": ["integer", "string", "null"], "pattern": "^-?[0-9]+$"},
        "tag": {"type": "string", "minLength": 1, "maxLength": 60, "pattern": "^[^,/]*$"},
        "volume_type": {"type": ["string", "null"], "maxLength": 255},
    }});
    let hints = json!({"type": "object", "properties": {
        "group": {"type": "string", "pattern": UUID},
    }});
    Schema::new(&json!({
        "type": "object",
        "properties": {
            "server": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "\\S"},
                    "imageRef": {"oneOf": [{"type": "string", "pattern": UUID}, {"type": "string", "maxLength": 0}]},
                    "flavorRef": {"type": ["string", "integer"], "minLength": 1},
                    "adminPass": {"type": "string"},
                    "metadata": metadata,
                    "networks": {"oneOf": [{"type": "array", "items": network}, {"enum": ["none", "auto"]}]},
                    "OS-DCF:diskConfig": {"enum": ["AUTO", "MANUAL"]},
                    "accessIPv4": {"type": "string"},
                    "accessIPv6": {"type": "string"},
                    "personality": {"type": "array"},
                    "availability_zone": {"type": "string", "minLength": 1, "maxLength": 255},
                    "block_device_mapping": {"type": "array", "items": bdm},
                    "block_device_mapping_v2": {"type": "array", "items": bdm},
                    "config_drive": boolean,
                    "key_name": {"type": "string", "minLength": 1, "maxLength": 255},
                    "min_count": count,
                    "max_count": count,
                    "return_reservation_id": boolean,
                    "security_groups": {"type": "array", "items": {"type": "object", "additionalProperties": false,
                        "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 255}}}},
                    "user_data": {"type": ["string", "null"]},
                    "description": {"type": ["string", "null"], "maxLength": 255},
                    "tags": {"type": "array", "maxItems": 50, "items": {"type": "string", "minLength": 1,
                        "maxLength": 60, "pattern": "^[^,/]*$"}},
                    "trusted_image_certificates": {"anyOf": [{"type": "null"}, {"type": "array", "minItems": 1, "maxItems": 50,
                        "uniqueItems": true, "items": {"type": "string", "minLength": 1}}]},
                    "host": {"type": "string", "minLength": 1, "maxLength": 255},
                    "hypervisor_hostname": {"type": "string", "minLength": 1, "maxLength": 255},
                    "hostname": {"type": "string", "minLength": 2, "maxLength": 255,
                        "pattern": "^[a-zA-Z0-9]+[a-zA-Z0-9.-]*[a-zA-Z0-9]+$"},
                },
                "required": ["name", "flavorRef"],
                "additionalProperties": false,
            },
            "os:scheduler_hints": hints,
            "OS-SCH-HNT:scheduler_hints": hints,
        },
        "required": ["server"],
        "additionalProperties": false,
    }))
});

/// A field that a request of this microversion does not know is refused as an unknown one.
pub(super) fn too_new(body: &Value, v: Microversion, fields: &[(&str, u16)]) -> Result<(), Error> {
    for (field, minor) in fields {
        if v < Microversion(2, *minor) && body.get(field).is_some() {
            return Err(Error::bad_request(format!(
                "Invalid input for field/attribute server. Additional properties are not allowed ('{field}' was unexpected)"
            )));
        }
    }
    Ok(())
}

pub(super) fn address(text: &str, field: &str, v4: bool) -> Result<String, ComputeError> {
    match text.parse::<std::net::IpAddr>() {
        // One way to write an address, whatever way it came.
        Ok(ip) if ip.is_ipv4() == v4 => return Ok(ip.to_string()),
        Err(_) if text.is_empty() => return Ok(String::new()),
        _ => {}
    }
    let kind = if v4 { "ipv4" } else { "ipv6" };
    Err(ComputeError::invalid(format!(
        "Invalid input for field/attribute {field}. Value: {text}. '{text}' is not a '{kind}'"
    )))
}

pub(super) fn read(body: &Value, v: Microversion) -> Result<Asked, Error> {
    CREATE.check(body)?;
    let s = &body["server"];
    too_new(
        s,
        v,
        &[
            ("description", 19),
            ("tags", 52),
            ("trusted_image_certificates", 63),
            ("host", 74),
            ("hypervisor_hostname", 74),
            ("hostname", 90),
        ],
    )?;
    if v >= Microversion(2, 57) && s.get("personality").is_some() {
        return Err(Error::bad_request(
            "Invalid input for field/attribute server. Additional properties are not allowed ('personality' was unexpected)",
        ));
    }
    if s.get("personality").and_then(Value::as_array).is_some_and(|p| !p.is_empty()) {
        return Err(Error::bad_request("Injected files are not offered; use user_data."));
    }
    if s.get("block_device_mapping").is_some() && s.get("block_device_mapping_v2").is_some() {
        return Err(Error::bad_request(
            "Block Device Mapping is Invalid: Using different block_device_mapping syntaxes is not allowed in the same request.",
        ));
    }
    let text = |key: &str| s.get(key).and_then(Value::as_str).map(str::to_owned);
    let (min, max) = counts(s)?;
    let groups = s.get("security_groups").and_then(Value::as_array);
    let names: Vec<String> =
        groups.into_iter().flatten().filter_map(|g| g["name"].as_str().map(str::to_owned)).collect();
    let hints = body.get("os:scheduler_hints").or_else(|| body.get("OS-SCH-HNT:scheduler_hints"));
    let new = NewServer {
        name: text("name").unwrap_or_default().trim().to_owned(),
        hostname: text("hostname"),
        description: text("description").or_else(|| {
            // Before there was a description, it was the name.
            (v < Microversion(2, 19)).then(|| text("name")).flatten()
        }),
        image_id: text("imageRef").unwrap_or_default(),
        flavor_id: match &s["flavorRef"] {
            Value::String(id) => id.rsplit('/').next().unwrap_or_default().to_owned(),
            other => other.to_string(),
        },
        key_name: text("key_name"),
        user_data: text("user_data"),
        metadata: strings(&s["metadata"]),
        tags: words(&s["tags"]),
        networks: networks(s, v)?,
        security_groups: names.clone(),
        disks: disks(s, v)?,
        availability_zone: text("availability_zone"),
        host: text("host"),
        hypervisor_hostname: text("hypervisor_hostname"),
        scheduler_hints: hints.cloned().unwrap_or_else(|| json!({})),
        config_drive: boolean(&s["config_drive"]),
        access_ipv4: address(&text("accessIPv4").unwrap_or_default(), "accessIPv4", true)?,
        access_ipv6: address(&text("accessIPv6").unwrap_or_default(), "accessIPv6", false)?,
        trusted_image_certificates: s
            .get("trusted_image_certificates")
            .and_then(Value::as_array)
            .map(|a| a.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()),
        disk_config: text("OS-DCF:diskConfig").unwrap_or_else(|| "MANUAL".into()),
        min_count: min,
        max_count: max,
    };
    Ok(Asked {
        new,
        return_reservation_id: boolean(&s["return_reservation_id"]),
        admin_pass: text("adminPass").unwrap_or_else(password),
        security_groups: if names.is_empty() { vec!["default".into()] } else { names },
    })
}

/// What upstream hands out although no guest of ours reads it: twelve letters and digits.
fn password() -> String {
    state::new_hex_id()[..12].to_owned()
}

fn counts(s: &Value) -> Result<(i64, i64), Error> {
    let number = |key: &str| match &s[key] {
        Value::String(t) => t.parse().ok(),
        other => other.as_i64(),
    };
    let min = number("min_count").unwrap_or(1);
    let max = number("max_count").unwrap_or(min);
    if min > max {
        return Err(Error::bad_request("min_count must be <= max_count"));
    }
    Ok((min, max))
}

/// oslo's spellings; the schema has let no others through.
pub(super) fn boolean(v: &Value) -> bool {
    match v {
        Value::Bool(b) => *b,
        Value::String(t) => {
            matches!(t.to_ascii_lowercase().as_str(), "true" | "1" | "on" | "yes" | "y" | "t")
        }
        _ => false,
    }
}

pub(super) fn strings(v: &Value) -> BTreeMap<String, String> {
    let pairs = v.as_object().into_iter().flatten();
    pairs.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

fn words(v: &Value) -> BTreeSet<String> {
    v.as_array().into_iter().flatten().filter_map(|t| t.as_str().map(str::to_owned)).collect()
}

fn networks(s: &Value, v: Microversion) -> Result<NetworkRequest, Error> {
    match s.get("networks") {
        None if v >= Microversion(2, 37) => Err(Error::bad_request(
            "Invalid input for field/attribute server. 'networks' is a required property",
        )),
        None => Ok(NetworkRequest::Default),
        Some(Value::String(word)) if v < Microversion(2, 37) => Err(Error::bad_request(format!(
            "Invalid input for field/attribute networks. Value: {word}. '{word}' is not of type 'array'"
        ))),
        Some(Value::String(word)) if word == "none" => Ok(NetworkRequest::None),
        Some(Value::String(_)) => Ok(NetworkRequest::Auto),
        Some(Value::Array(list)) if list.is_empty() && v < Microversion(2, 37) => Ok(NetworkRequest::Default),
        Some(Value::Array(list)) => {
            let nics = list.iter().map(|n| nic(n, v)).collect::<Result<Vec<_>, _>>()?;
            Ok(if nics.is_empty() { NetworkRequest::None } else { NetworkRequest::These(nics) })
        }
        Some(_) => Ok(NetworkRequest::Default),
    }
}

fn nic(n: &Value, v: Microversion) -> Result<NicRequest, Error> {
    let text = |key: &str| n.get(key).and_then(Value::as_str).map(str::to_owned);
    if n.get("tag").is_some() && v < Microversion(2, 32) {
        return Err(Error::bad_request(
            "Invalid input for field/attribute networks. Additional properties are not allowed ('tag' was unexpected)",
        ));
    }
    let nic = NicRequest {
        network_id: text("uuid"),
        port_id: text("port"),
        fixed_ip: text("fixed_ip"),
        tag: text("tag"),
    };
    if nic.network_id.is_none() && nic.port_id.is_none() {
        return Err(Error::bad_request("Bad networks format: network uuid is not in proper format (None)"));
    }
    if nic.port_id.is_some() && nic.fixed_ip.is_some() {
        return Err(Error::bad_request(
            "Specified Fixed IP cannot be used with port: the two cannot be specified together.",
        ));
    }
    if let Some(ip) = &nic.fixed_ip
        && ip.parse::<std::net::IpAddr>().is_err()
    {
        return Err(Error::bad_request(format!("Invalid fixed IP address ({ip})")));
    }
    Ok(NicRequest { network_id: nic.network_id.clone().filter(|_| nic.port_id.is_none()), ..nic })
}

fn disks(s: &Value, v: Microversion) -> Result<Vec<NewDisk>, Error> {
    let list = |key: &str| s.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut out = Vec::new();
    for d in list("block_device_mapping_v2") {
        if boolean(&d["no_device"]) {
            continue;
        }
        out.push(disk(&d, v)?);
    }
    for d in list("block_device_mapping") {
        out.push(old_disk(&d)?);
    }
    Ok(out)
}

fn number(v: &Value) -> Option<i64> {
    match v {
        Value::String(t) => t.parse().ok(),
        other => other.as_i64(),
    }
}

fn disk(d: &Value, v: Microversion) -> Result<NewDisk, Error> {
    let bad = |m: &str| Error::bad_request(format!("Block Device Mapping is Invalid: {m}"));
    let text = |key: &str| d.get(key).and_then(Value::as_str).map(str::to_owned);
    if d.get("tag").is_some() && v < Microversion(2, 32) {
        return Err(bad("tags are not known to this version."));
    }
    if d.get("volume_type").is_some() && v < Microversion(2, 67) {
        return Err(Error::bad_request(
            "Invalid input for field/attribute block_device_mapping_v2. Additional properties are not allowed ('volume_type' was unexpected)",
        ));
    }
    let id = || text("uuid").ok_or_else(|| bad("the mapping has no uuid."));
    let source = text("source_type").unwrap_or_else(|| "blank".into());
    let from = match source.as_str() {
        "volume" => DiskFrom::Volume(id()?),
        "image" => DiskFrom::Image(id()?),
        "snapshot" => DiskFrom::Snapshot(id()?),
        _ => DiskFrom::Blank,
    };
    if let DiskFrom::Volume(id) | DiskFrom::Image(id) | DiskFrom::Snapshot(id) = &from
        && uuid::Uuid::parse_str(id).is_err()
    {
        return Err(bad("Invalid uuid."));
    }
    let on_volume = match text("destination_type").as_deref() {
        Some("volume") => true,
        Some(_) => false,
        None => matches!(from, DiskFrom::Volume(_) | DiskFrom::Snapshot(_)),
    };
    if matches!(from, DiskFrom::Volume(_) | DiskFrom::Snapshot(_)) && !on_volume {
        return Err(bad(&format!("Mapping {source} to local is not supported.")));
    }
    Ok(NewDisk {
        from,
        on_volume,
        boot_index: number(&d["boot_index"]),
        size_gib: number(&d["volume_size"]),
        delete_on_termination: boolean(&d["delete_on_termination"]),
        device_name: text("device_name"),
        bus: text("disk_bus"),
        device_type: text("device_type"),
        tag: text("tag"),
        volume_type: text("volume_type"),
    })
}

/// The first form of block device mappings, in which a device called `vda` boots.
fn old_disk(d: &Value) -> Result<NewDisk, Error> {
    let text = |key: &str| d.get(key).and_then(Value::as_str).map(str::to_owned);
    let from = match (text("volume_id"), text("snapshot_id")) {
        (Some(id), _) => DiskFrom::Volume(id),
        (None, Some(id)) => DiskFrom::Snapshot(id),
        (None, None) => {
            return Err(Error::bad_request(
                "Block Device Mapping is Invalid: it names neither volume nor snapshot.",
            ));
        }
    };
    let device = text("device_name");
    let root = device.as_deref().is_some_and(|d| d.ends_with("da"));
    Ok(NewDisk {
        from,
        on_volume: true,
        boot_index: root.then_some(0),
        size_gib: number(&d["volume_size"]),
        delete_on_termination: boolean(&d["delete_on_termination"]),
        device_name: device,
        bus: None,
        device_type: None,
        tag: None,
        volume_type: None,
    })
}

#[cfg(test)]
#[path = "server_create_tests.rs"]
mod tests;
