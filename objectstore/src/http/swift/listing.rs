//! Listings in text, JSON and XML.

use super::Call;
use super::error::{SwiftError, SwiftResult};
use crate::account::AccountItem;
use crate::http::encode;
use crate::index::{Entry, Item};
use crate::link::SLO_ETAG;
use crate::reseller;
use crate::version::VersionId;
use state::Timestamp;
use std::fmt::Write;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
    Xml,
}

impl Format {
    /// The form that a request asks for: by `format`, or else by `Accept`.
    pub(crate) fn of(call: &Call) -> SwiftResult<Format> {
        Format::choose(call.query.get("format"), call.header("accept"))
    }

    fn choose(parameter: Option<&str>, accept: Option<&str>) -> SwiftResult<Format> {
        match parameter.map(str::to_ascii_lowercase).as_deref() {
            Some("json") => Ok(Format::Json),
            Some("xml") => Ok(Format::Xml),
            Some("plain" | "text") => Ok(Format::Text),
            _ => Format::accepted(accept),
        }
    }

    /// The form that a client accepts best; text where it says nothing.
    pub(super) fn accepted(accept: Option<&str>) -> SwiftResult<Format> {
        let Some(accept) = accept.filter(|a| !a.trim().is_empty()) else { return Ok(Format::Text) };
        // The best of what is offered: by weight, then in the order of the offer.
        let mut best: Option<(u32, Format)> = None;
        for item in accept.split(',') {
            let mut pieces = item.split(';').map(str::trim);
            let kind = pieces.next().unwrap_or_default().to_ascii_lowercase();
            let weight =
                pieces.find_map(|p| p.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok());
            let weight = (weight.unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0) as u32;
            let format = match kind.as_str() {
                "application/json" => Format::Json,
                "application/xml" | "text/xml" => Format::Xml,
                "text/plain" | "text/*" | "*/*" => Format::Text,
                "application/*" => Format::Json,
                _ => continue,
            };
            if weight > 0 && best.is_none_or(|(w, _)| weight > w) {
                best = Some((weight, format));
            }
        }
        match best {
            Some((_, format)) => Ok(format),
            None => Err(SwiftError::of(http::StatusCode::NOT_ACCEPTABLE)),
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; charset=utf-8",
            Format::Json => "application/json; charset=utf-8",
            Format::Xml => "application/xml; charset=utf-8",
        }
    }
}

/// The `limit` of a listing: at most what there may be; more is refused.
pub(crate) fn limit(call: &Call, most: usize) -> SwiftResult<usize> {
    match call.query.get("limit").filter(|l| !l.is_empty()) {
        None => Ok(most),
        Some(text) => match text.parse::<usize>() {
            Ok(n) if n > most => Err(SwiftError::precondition(format!("Maximum limit is {most}"))),
            Ok(n) => Ok(n),
            Err(_) => Ok(most), // as upstream: what is not a number is as if it were not there
        },
    }
}

/// Times in listings: microseconds, no zone.
pub(crate) fn time(at: Timestamp) -> String {
    // As far as `X-Timestamp` tells it: a copy that is kept in step elsewhere shows the same.
    Timestamp(at.micros().div_euclid(10) * 10).micros_naive()
}

pub(crate) fn container(format: Format, project: &str, name: &str, items: &[Item]) -> String {
    let mut out = String::with_capacity(items.len() * 64 + 64);
    match format {
        Format::Text => {
            for item in items {
                out.push_str(item.name());
                out.push('\n');
            }
        }
        Format::Json => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                json_item(&mut out, project, name, item);
            }
            out.push(']');
        }
        Format::Xml => {
            let _ =
                write!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<container name=\"{}\">", xml(name));
            for item in items {
                xml_item(&mut out, item);
            }
            out.push_str("</container>");
        }
    }
    out
}

fn json_item(out: &mut String, project: &str, container: &str, item: &Item) {
    // Writing into a String does not fail.
    let _ = match item {
        Item::Prefix(name) => write!(out, "{{\"subdir\": {}}}", json(name)),
        Item::Object(name, e) => {
            let _ = write!(
                out,
                "{{\"hash\": {}, \"last_modified\": \"{}\", \"bytes\": {}, \"name\": {}, \"content_type\": {}",
                json(&e.etag),
                time(e.modified()),
                e.shown_size(),
                json(name),
                json(&e.content_type)
            );
            if let Some((etag, _)) = e.large.as_deref() {
                let _ = write!(out, ", \"slo_etag\": {}", json(&format!("\"{etag}\"")));
            }
            symlink(out, project, &e.link);
            version(out, project, container, name, e);
            out.write_char('}')
        }
    };
}

/// Where a symlink leads, and what a static one is bound to.
fn symlink(out: &mut String, project: &str, link: &[(String, String)]) {
    let of = |name: &str| link.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let Some(target) = of("x-symlink-target") else { return };
    let own = reseller::name(project);
    let path = format!("/v1/{}/{target}", of("x-symlink-target-account").unwrap_or(&own));
    let _ = write!(out, ", \"symlink_path\": {}", json(&path));
    if let Some(etag) = of(SLO_ETAG) {
        let _ = write!(out, ", \"slo_etag\": {}", json(&format!("\"{etag}\"")));
    }
    if let (Some(etag), Some(bytes)) = (of("x-symlink-target-etag"), of("x-symlink-target-bytes")) {
        let bytes: u64 = bytes.parse().unwrap_or(0);
        let _ = write!(out, ", \"symlink_etag\": {}, \"symlink_bytes\": {bytes}", json(etag));
    }
}

/// Of an object with versions: which one it is, told as a link to that.
fn version(out: &mut String, project: &str, container: &str, name: &str, e: &Entry) {
    let id = e.id();
    if id == VersionId::Null || !e.link.is_empty() {
        return;
    }
    let mut path = format!("/v1/{}/", reseller::name(project));
    encode(&mut path, format!("{container}/{name}").as_bytes(), true);
    let path = json(&format!("{path}?version-id={id}"));
    let _ = write!(out, ", \"symlink_path\": {path}, \"version_symlink\": true");
}

fn xml_item(out: &mut String, item: &Item) {
    let _ = match item {
        Item::Prefix(name) => write!(out, "<subdir name=\"{0}\"><name>{0}</name></subdir>", xml(name)),
        Item::Object(name, e) => write!(
            out,
            "<object><name>{}</name><hash>{}</hash><bytes>{}</bytes><content_type>{}</content_type>\
             <last_modified>{}</last_modified></object>",
            xml(name),
            xml(&e.etag),
            e.shown_size(),
            xml(&e.content_type),
            time(e.modified())
        ),
    };
}

pub(crate) fn account(format: Format, name: &str, items: &[AccountItem]) -> String {
    let mut out = String::new();
    let mut first = true;
    match format {
        Format::Text => {}
        Format::Json => out.push('['),
        Format::Xml => {
            let _ =
                write!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<account name=\"{}\">", xml(name));
        }
    }
    for item in items {
        if format == Format::Json && !std::mem::take(&mut first) {
            out.push_str(", ");
        }
        let _ = match (format, item) {
            (Format::Text, AccountItem::Container(c, _)) => writeln!(out, "{}", c.name),
            (Format::Text, AccountItem::Prefix(p)) => writeln!(out, "{p}"),
            (Format::Json, AccountItem::Prefix(p)) => write!(out, "{{\"subdir\": {}}}", json(p)),
            (Format::Json, AccountItem::Container(c, n)) => write!(
                out,
                "{{\"name\": {}, \"count\": {}, \"bytes\": {}, \"last_modified\": \"{}\", \"storage_policy\": {}}}",
                json(&c.name),
                n.objects,
                n.bytes,
                time(c.changed_at),
                json(&c.policy.name)
            ),
            (Format::Xml, AccountItem::Prefix(p)) => write!(out, "<subdir name=\"{}\" />", xml(p)),
            (Format::Xml, AccountItem::Container(c, n)) => write!(
                out,
                "<container><name>{}</name><count>{}</count><bytes>{}</bytes><last_modified>{}</last_modified>\
                 <storage_policy>{}</storage_policy></container>",
                xml(&c.name),
                n.objects,
                n.bytes,
                time(c.changed_at),
                xml(&c.policy.name)
            ),
        };
    }
    match format {
        Format::Text => {}
        Format::Json => out.push(']'),
        Format::Xml => out.push_str("</account>"),
    }
    out
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    crate::http::s3::xml::escape_into(&mut out, text);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_chosen() {
        let choose = |p, a| Format::choose(p, a).ok();
        assert_eq!(choose(Some("json"), Some("text/plain")), Some(Format::Json));
        assert_eq!(choose(None, None), Some(Format::Text));
        assert_eq!(choose(None, Some("application/json")), Some(Format::Json));
        assert_eq!(choose(None, Some("text/plain;q=0.5, application/xml")), Some(Format::Xml));
        assert_eq!(choose(None, Some("*/*")), Some(Format::Text));
        assert_eq!(choose(None, Some("image/png")), None);
        assert_eq!(choose(Some("other"), None), Some(Format::Text));
    }

    #[test]
    fn items_are_escaped() {
        let items = [
            Item::Object("a<&\"\u{1}ü".into(), Entry { etag: "e".into(), size: 3, ..Entry::default() }),
            Item::Prefix("p/".into()),
        ];
        let text = container(Format::Json, "p", "c", &items);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value[0]["name"], "a<&\"\u{1}ü");
        assert_eq!(value[1]["subdir"], "p/");
        let text = container(Format::Xml, "p", "c", &items);
        assert!(
            text.contains("<name>a&lt;&amp;&quot;\u{fffd}ü</name>") && text.ends_with("</container>"),
            "{text}"
        );
        assert_eq!(container(Format::Text, "p", "c", &items), "a<&\"\u{1}ü\np/\n");
    }
}
