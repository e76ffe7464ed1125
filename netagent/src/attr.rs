//! Request bodies, checked attribute by attribute in upstream's words. What has passed here is typed; rules
//! never see JSON.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::NetError;

pub(crate) const NAME_MAX: usize = 255;

/// The attributes of one resource in a request.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    attributes: Map<String, Value>,
}

fn invalid(attribute: &str, reason: impl std::fmt::Display) -> NetError {
    NetError::bad_request(format!("Invalid input for {attribute}. Reason: {reason}."))
}

/// A value as messages show it, cut short.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    text.chars().take(300).collect()
}

impl Body {
    /// Reads `{"network": {…}}`.
    pub(crate) fn one(body: &Value, resource: &str) -> Result<Self, NetError> {
        let missing = || NetError::bad_request(format!("Unable to find '{resource}' in request body"));
        match body.get(resource) {
            Some(Value::Object(attributes)) => Ok(Self { attributes: attributes.clone() }),
            Some(_) => Err(NetError::bad_request("Invalid resource body")),
            None => Err(missing()),
        }
    }

    /// Reads `{"network": {…}}` or the bulk form `{"networks": [{…}, …]}`; true for bulk.
    pub(crate) fn one_or_many(
        body: &Value,
        resource: &str,
        collection: &str,
    ) -> Result<(Vec<Self>, bool), NetError> {
        match body.get(collection) {
            Some(Value::Array(items)) if !items.is_empty() => items
                .iter()
                .map(|item| match item {
                    Value::Object(map) => match map.get(resource) {
                        Some(Value::Object(inner)) if map.len() == 1 => {
                            Ok(Self { attributes: inner.clone() })
                        }
                        _ => Ok(Self { attributes: map.clone() }),
                    },
                    _ => Err(NetError::bad_request("Invalid resource body")),
                })
                .collect::<Result<Vec<_>, _>>()
                .map(|bodies| (bodies, true)),
            Some(_) => Err(NetError::bad_request("Resources required")),
            None => Ok((vec![Self::one(body, resource)?], false)),
        }
    }

    /// Refuses attributes that are neither settable nor known, and known ones that this method may not set.
    pub(crate) fn only(&self, settable: &[&str], known: &[&str], method: &str) -> Result<(), NetError> {
        let unknown: Vec<&str> = self
            .attributes
            .keys()
            .map(String::as_str)
            .filter(|name| !settable.contains(name) && !known.contains(name))
            .collect();
        if !unknown.is_empty() {
            return Err(NetError::bad_request(format!("Unrecognized attribute(s) '{}'", unknown.join(", "))));
        }
        match self.attributes.keys().find(|name| !settable.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) if method == "PUT" => {
                Err(NetError::bad_request(format!("Cannot update read-only attribute {name}")))
            }
            Some(name) => Err(NetError::bad_request(format!("Attribute '{name}' not allowed in {method}"))),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.attributes.contains_key(name)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.attributes.get(name)
    }

    pub(crate) fn required(&self, name: &str) -> Result<(), NetError> {
        if self.has(name) {
            return Ok(());
        }
        Err(NetError::bad_request(format!(
            "Failed to parse request. Required attribute '{name}' not specified"
        )))
    }

    /// Text of at most `max` characters.
    pub(crate) fn text(&self, name: &str, max: usize) -> Result<Option<String>, NetError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => text_of(name, value, max).map(Some),
        }
    }

    /// Text, or null for none.
    pub(crate) fn nullable_text(&self, name: &str, max: usize) -> Result<Option<Option<String>>, NetError> {
        match self.get(name) {
            Some(Value::Null) => Ok(Some(None)),
            _ => Ok(self.text(name, max)?.map(Some)),
        }
    }

    pub(crate) fn bool(&self, name: &str) -> Result<Option<bool>, NetError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let parsed = match value {
            Value::Bool(b) => Some(*b),
            Value::String(s) => match s.to_lowercase().as_str() {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            },
            Value::Number(n) => match n.as_i64() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            _ => None,
        };
        parsed
            .map(Some)
            .ok_or_else(|| invalid(name, format!("'{}' cannot be converted to boolean", shown(value))))
    }

    /// An integer, or its decimal digits, within bounds. Null is none.
    pub(crate) fn int(&self, name: &str, min: i64, max: i64) -> Result<Option<i64>, NetError> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => int_of(name, value, min, max).map(Some),
        }
    }

    pub(crate) fn uuid(&self, name: &str) -> Result<Option<String>, NetError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => uuid_of(name, value).map(Some),
        }
    }

    /// An id, or null for none.
    pub(crate) fn nullable_uuid(&self, name: &str) -> Result<Option<Option<String>>, NetError> {
        match self.get(name) {
            Some(Value::Null) => Ok(Some(None)),
            _ => Ok(self.uuid(name)?.map(Some)),
        }
    }

    /// An address, or null for none.
    pub(crate) fn nullable_ip(&self, name: &str) -> Result<Option<Option<IpAddr>>, NetError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(value) => ip_of(name, value).map(|ip| Some(Some(ip))),
        }
    }

    pub(crate) fn mac(&self, name: &str) -> Result<Option<String>, NetError> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => mac_of(name, value).map(Some),
        }
    }

    /// One of a few words.
    pub(crate) fn choice(&self, name: &str, of: &[&'static str]) -> Result<Option<&'static str>, NetError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        of.iter()
            .find(|word| value.as_str() == Some(word))
            .map(|word| Some(*word))
            .ok_or_else(|| invalid(name, format!("'{}' is not in {of:?}", shown(value)).replace('"', "'")))
    }

    /// A list whose items `item` reads. Null is the empty list.
    pub(crate) fn list<T>(
        &self,
        name: &str,
        item: impl Fn(&str, &Value) -> Result<T, NetError>,
    ) -> Result<Option<Vec<T>>, NetError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(Vec::new())),
            Some(Value::Array(items)) => {
                items.iter().map(|v| item(name, v)).collect::<Result<_, _>>().map(Some)
            }
            Some(other) => Err(invalid(name, format!("'{}' is not a list", shown(other)))),
        }
    }
}

pub(crate) fn text_of(name: &str, value: &Value, max: usize) -> Result<String, NetError> {
    match value {
        Value::String(s) if s.chars().count() <= max => Ok(s.clone()),
        Value::String(s) => {
            let head: String = s.chars().take(64).collect();
            Err(invalid(name, format!("'{head}…' exceeds maximum length of {max}")))
        }
        other => Err(invalid(name, format!("'{}' is not a valid string", shown(other)))),
    }
}

pub(crate) fn int_of(name: &str, value: &Value, min: i64, max: i64) -> Result<i64, NetError> {
    let number = match value {
        Value::Number(n) => n.as_i64(),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    };
    match number {
        Some(n) if n < min => Err(invalid(name, format!("'{n}' is too small - must be at least '{min}'"))),
        Some(n) if n > max => {
            Err(invalid(name, format!("'{n}' is too large - must be no larger than '{max}'")))
        }
        Some(n) => Ok(n),
        None => Err(invalid(name, format!("'{}' is not an integer", shown(value)))),
    }
}

pub(crate) fn uuid_of(name: &str, value: &Value) -> Result<String, NetError> {
    match value {
        Value::String(s) if uuid::Uuid::parse_str(s).is_ok() => Ok(s.clone()),
        other => Err(invalid(name, format!("'{}' is not a valid UUID", shown(other)))),
    }
}

pub(crate) fn ip_of(name: &str, value: &Value) -> Result<IpAddr, NetError> {
    value
        .as_str()
        .and_then(|s| s.parse().ok())
        .ok_or_else(|| invalid(name, format!("'{}' is not a valid IP address", shown(value))))
}

pub(crate) fn cidr_of(name: &str, value: &Value) -> Result<IpNet, NetError> {
    value
        .as_str()
        .and_then(|s| s.parse().ok())
        .ok_or_else(|| invalid(name, format!("'{}' is not a valid IP subnet", shown(value))))
}

/// An address or a network, as it was written.
pub(crate) fn ip_or_cidr_of(name: &str, value: &Value) -> Result<String, NetError> {
    let text = value.as_str().unwrap_or("");
    if text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok() {
        return Ok(text.to_owned());
    }
    Err(invalid(
        name,
        format!("'{}' is neither a valid IP address, nor is it a valid IP subnet", shown(value)),
    ))
}

pub(crate) fn mac_of(name: &str, value: &Value) -> Result<String, NetError> {
    let bad = || invalid(name, format!("'{}' is not a valid MAC address", shown(value)));
    let text = value.as_str().ok_or_else(bad)?.to_lowercase().replace('-', ":");
    let parts: Vec<&str> = text.split(':').collect();
    let bytes: Vec<u8> =
        parts.iter().filter(|p| p.len() == 2).filter_map(|p| u8::from_str_radix(p, 16).ok()).collect();
    // A group address is nobody's own, and all zeros is no address.
    if bytes.len() != 6 || parts.len() != 6 || bytes[0] & 1 == 1 || bytes.iter().all(|b| *b == 0) {
        return Err(bad());
    }
    Ok(text)
}

/// The attributes of an item of a list, none but these.
pub(crate) fn object_of(name: &str, value: &Value, keys: &[&str]) -> Result<Body, NetError> {
    match value {
        Value::Object(map) => {
            if let Some(key) = map.keys().find(|k| !keys.contains(&k.as_str())) {
                return Err(invalid(
                    name,
                    format!("Unexpected key(s) '{key}', expected keys: {}", keys.join(", ")),
                ));
            }
            Ok(Body { attributes: map.clone() })
        }
        other => Err(invalid(name, format!("'{}' is not a dictionary", shown(other)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn body(value: Value) -> Body {
        Body::one(&json!({ "x": value }), "x").unwrap()
    }

    #[test]
    fn wrong_types_are_refused_in_upstreams_words() {
        let b = body(json!({"flag": "maybe", "n": "x", "id": 5, "mac": "01:00:00:00:00:01", "name": 7}));
        for (error, part) in [
            (b.bool("flag").unwrap_err(), "cannot be converted to boolean"),
            (b.int("n", 0, 1).unwrap_err(), "is not an integer"),
            (b.uuid("id").unwrap_err(), "is not a valid UUID"),
            (b.mac("mac").unwrap_err(), "is not a valid MAC address"),
            (b.text("name", 5).unwrap_err(), "is not a valid string"),
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn unknown_attributes_are_named() {
        let error = body(json!({"a": 1, "b": 2})).only(&["a"], &["id"], "POST").unwrap_err();
        assert!(error.to_string().contains("Unrecognized attribute(s) 'b'"));
        let error = body(json!({"id": 1})).only(&["a"], &["id"], "POST").unwrap_err();
        assert!(error.to_string().contains("Attribute 'id' not allowed in POST"));
    }

    #[test]
    fn bulk_and_single_bodies() {
        assert!(Body::one_or_many(&json!({"nets": [{"a": 1}, {"a": 2}]}), "net", "nets").unwrap().1);
        assert!(!Body::one_or_many(&json!({"net": {}}), "net", "nets").unwrap().1);
        for bad in
            [json!({}), json!({"nets": []}), json!({"nets": [1]}), json!({"net": 1}), json!([]), json!(null)]
        {
            assert!(Body::one_or_many(&bad, "net", "nets").is_err(), "{bad}");
        }
    }
}
