//! Listings as Neutron's clients ask for them: filters on any attribute, `fields`, order and pages.
//!
//! The rows are those that the caller may see; views are filtered, so that a filter never tells more than the
//! view does.

use std::cmp::Ordering;
use std::collections::HashSet;

use api::Query;
use serde_json::{Map, Value, json};

use crate::{NetError, Networks};

/// The most items of one page; a larger `limit` is this one.
const MAX_PAGE: usize = 10_000;
const CONTROL: [&str; 6] = ["fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"];
const TAG_FILTERS: [&str; 4] = ["tags", "tags-any", "not-tags", "not-tags-any"];

type View = Map<String, Value>;

/// What a resource is called, and what may be asked of it.
pub(super) struct Collection {
    /// `networks`
    pub name: &'static str,
    /// Every attribute of its view, for the check of filters and sort keys.
    pub attributes: &'static [&'static str],
}

/// The body of a listing: the page, and the links to its neighbours.
pub(super) fn list(
    networks: &Networks,
    collection: &Collection,
    query: &Query,
    mut views: Vec<View>,
) -> Result<Value, NetError> {
    check_filters(collection, query)?;
    views.retain(|view| matches(view, query));
    sort(&mut views, collection, query)?;
    let (page, links) = page(networks, collection, query, views)?;
    let items: Vec<Value> = page.into_iter().map(|view| Value::Object(select(view, query))).collect();
    let mut body = json!({ collection.name: items });
    if !links.is_empty() {
        body[format!("{}_links", collection.name)] = Value::Array(links);
    }
    Ok(body)
}

/// A single view, with only the `fields` that were asked for.
pub(super) fn select(view: View, query: &Query) -> View {
    let fields: HashSet<&str> = query.all("fields").filter(|f| !f.is_empty()).collect();
    if fields.is_empty() {
        return view;
    }
    view.into_iter().filter(|(name, _)| fields.contains(name.as_str())).collect()
}

fn check_filters(collection: &Collection, query: &Query) -> Result<(), NetError> {
    let unknown: Vec<&str> = query
        .iter()
        .map(|(key, _)| key)
        .filter(|key| !CONTROL.contains(key) && !TAG_FILTERS.contains(key))
        .filter(|key| !collection.attributes.contains(key))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = unknown.iter().map(|n| format!("'{n}'")).collect();
    Err(NetError::bad_request(format!("[{}] is invalid attribute for filtering", names.join(", "))))
}

/// Whether a view has, for every attribute that is filtered on, one of the values asked for.
fn matches(view: &View, query: &Query) -> bool {
    let keys: HashSet<&str> = query.iter().map(|(key, _)| key).filter(|key| !CONTROL.contains(key)).collect();
    keys.into_iter().all(|key| {
        let mut values = query.all(key);
        match key {
            "tags" | "tags-any" | "not-tags" | "not-tags-any" => {
                let has: Vec<&str> = view
                    .get("tags")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                let all: Vec<&str> = values.flat_map(|v| v.split(',')).collect();
                match key {
                    "tags" => all.iter().all(|t| has.contains(t)),
                    "tags-any" => all.iter().any(|t| has.contains(t)),
                    "not-tags" => !all.iter().all(|t| has.contains(t)),
                    _ => !all.iter().any(|t| has.contains(t)),
                }
            }
            // every one of several conditions, each on some address
            "fixed_ips" => values.all(|value| match view.get(key) {
                Some(Value::Array(items)) => items.iter().any(|item| has_address(item, value)),
                _ => false,
            }),
            _ => values.any(|value| view.get(key).is_some_and(|have| equals(have, value))),
        }
    })
}

fn has_address(item: &Value, condition: &str) -> bool {
    let (name, wanted) = condition.split_once('=').unwrap_or(("ip_address", condition));
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    match name {
        "ip_address_substr" => text("ip_address").is_some_and(|ip| ip.contains(wanted)),
        name => text(name) == Some(wanted),
    }
}

fn equals(have: &Value, wanted: &str) -> bool {
    match have {
        Value::String(s) => s == wanted,
        Value::Bool(b) => match wanted.to_lowercase().as_str() {
            "true" | "1" => *b,
            "false" | "0" => !*b,
            _ => false,
        },
        Value::Number(n) => n.to_string() == wanted,
        Value::Null => matches!(wanted, "" | "None" | "null"),
        Value::Array(items) => items.iter().any(|item| equals(item, wanted)),
        Value::Object(_) => false,
    }
}

fn sort(views: &mut [View], collection: &Collection, query: &Query) -> Result<(), NetError> {
    let keys: Vec<&str> = query.all("sort_key").collect();
    let dirs: Vec<&str> = query.all("sort_dir").collect();
    if !dirs.is_empty() && dirs.len() != keys.len() {
        return Err(NetError::bad_request("The number of sort_keys and sort_dirs must be same"));
    }
    if let Some(key) = keys.iter().find(|key| !collection.attributes.contains(key)) {
        return Err(NetError::bad_request(
            format!("[{key:?}] is invalid attribute for sort keys").replace('"', "'"),
        ));
    }
    if let Some(dir) = dirs.iter().find(|dir| !["asc", "desc"].contains(dir)) {
        return Err(NetError::bad_request(format!("{dir} is invalid attribute for sort_dirs")));
    }
    views.sort_by(|a, b| {
        for (i, key) in keys.iter().enumerate() {
            let order = compare(a.get(*key), b.get(*key));
            let order = if dirs.get(i) == Some(&"desc") { order.reverse() } else { order };
            if order != Ordering::Equal {
                return order;
            }
        }
        // pages need an order that is always the same
        compare(a.get("id"), b.get("id"))
    });
    Ok(())
}

fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => a.cmp(b),
        (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
        (a, b) => a.map(ToString::to_string).cmp(&b.map(ToString::to_string)),
    }
}

fn page(
    networks: &Networks,
    collection: &Collection,
    query: &Query,
    views: Vec<View>,
) -> Result<(Vec<View>, Vec<Value>), NetError> {
    let limit = match query.get("limit") {
        None => None,
        Some(text) => match text.parse::<i64>() {
            Ok(0) => None,
            Ok(n) if n > 0 => Some(usize::try_from(n).unwrap_or(MAX_PAGE).min(MAX_PAGE)),
            _ => {
                return Err(NetError::bad_request(format!(
                    "Limit must be an integer 0 or greater and not '{text}'"
                )));
            }
        },
    };
    let reverse = query.get("page_reverse").is_some_and(|v| v.eq_ignore_ascii_case("true"));
    let id = |view: &View| view.get("id").and_then(Value::as_str).unwrap_or("").to_owned();
    let (mut from, mut to) = (0, views.len());
    if let Some(marker) = query.get("marker").filter(|m| !m.is_empty()) {
        let Some(at) = views.iter().position(|view| id(view) == marker) else {
            return Err(NetError::bad_request(format!("Invalid marker: {marker}")));
        };
        if reverse { to = at } else { from = at + 1 }
    }
    let Some(limit) = limit else {
        return Ok((views.into_iter().skip(from).take(to - from).collect(), Vec::new()));
    };
    if reverse {
        from = to.saturating_sub(limit).max(from);
    } else {
        to = to.min(from.saturating_add(limit));
    }
    let total = views.len();
    let page: Vec<View> = views.into_iter().skip(from).take(to - from).collect();
    let mut links = Vec::new();
    let href = |marker: &str, back: bool| {
        let mut url = String::new();
        for (key, value) in query.iter().filter(|(k, _)| *k != "marker" && *k != "page_reverse") {
            url.push_str(&format!("{}={}&", encode(key), encode(value)));
        }
        let tail = if back { "&page_reverse=True" } else { "" };
        networks.links().to(&format!("/network/v2.0/{}?{url}marker={marker}{tail}", collection.name))
    };
    if let (Some(first), Some(last)) = (page.first(), page.last()) {
        if to < total {
            links.push(json!({"rel": "next", "href": href(&id(last), false)}));
        }
        if from > 0 {
            links.push(json!({"rel": "previous", "href": href(&id(first), true)}));
        }
    }
    Ok((page, links))
}

/// A query without one of its keys.
pub(super) fn without(query: &Query, key: &str) -> Result<Query, NetError> {
    let kept: Vec<String> = query
        .iter()
        .filter(|(name, _)| *name != key)
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    Query::parse(&kept.join("&")).map_err(|error| NetError::bad_request(error.message()))
}

/// Percent-encodes what is not plain in a query string.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(value: Value) -> View {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn filters_match_any_of_the_values_of_a_key_and_all_keys() {
        let v = view(json!({"id": "1", "name": "a", "admin_state_up": true, "mtu": 1442, "gateway_ip": null,
            "tags": ["x", "y"], "fixed_ips": [{"subnet_id": "s", "ip_address": "10.0.0.5"}]}));
        let yes = [
            "name=a",
            "name=b&name=a",
            "admin_state_up=True",
            "mtu=1442",
            "gateway_ip=",
            "tags=x,y",
            "tags-any=x,z",
            "not-tags=x,z",
            "not-tags-any=z",
            "fixed_ips=ip_address%3D10.0.0.5",
            "fixed_ips=subnet_id%3Ds&fixed_ips=ip_address%3D10.0.0.5",
            "fixed_ips=ip_address_substr%3D0.5",
        ];
        let no = ["name=b", "name=a&mtu=1", "admin_state_up=False", "tags=x,z", "fixed_ips=subnet_id%3Dt"];
        for q in yes {
            assert!(matches(&v, &Query::parse(q).unwrap()), "{q}");
        }
        for q in no {
            assert!(!matches(&v, &Query::parse(q).unwrap()), "{q}");
        }
    }
}
