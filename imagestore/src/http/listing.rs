//! The query of `GET /v2/images`, and the page it gives.

use super::view;
use crate::model::{Image, MemberStatus, Visibility};
use crate::store::listing::{Filter, Listing, Op};
use crate::{Config, ImageError};
use api::Query;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use state::Timestamp;

const SORT_KEYS: &[&str] =
    &["name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at"];
const TEXTS: &[&str] = &["owner", "checksum", "os_hash_value", "os_hash_algo"];
/// Those that take an operator: `eq`, or `in` with several values.
const LISTS: &[&str] = &["name", "status", "container_format", "disk_format", "id"];
const NUMBERS: &[&str] = &["size", "virtual_size", "min_disk", "min_ram"];
const TIMES: &[&str] = &["created_at", "updated_at"];

/// What was asked for, and the marker.
pub(super) fn read<'q>(config: &Config, query: &'q Query) -> Result<(Listing, Option<&'q str>), ImageError> {
    let mut listing = Listing {
        member_status: Some(MemberStatus::Accepted),
        sort: sort(query)?,
        limit: limit(config, query)?,
        ..Listing::default()
    };
    let mut marker = None;
    let mut hidden = false;
    for (key, value) in query.iter() {
        match key {
            "limit" | "sort" | "sort_key" | "sort_dir" => {}
            "marker" => marker = Some(value),
            "visibility" => listing.visibility = Some(visibility(value)?),
            "member_status" => listing.member_status = member_status(value)?,
            "os_hidden" => hidden = flag(key, value)?,
            "protected" => listing.filters.push(Filter::Flag("protected", flag(key, value)?)),
            "tag" => listing.filters.push(Filter::Tag(value.trim().to_owned())),
            _ => listing.filters.push(filter(key, value)?),
        }
    }
    listing.filters.push(Filter::Flag("os_hidden", hidden));
    Ok((listing, marker))
}

pub(super) fn limit(config: &Config, query: &Query) -> Result<usize, ImageError> {
    match query.get("limit") {
        None => Ok(config.page.min(config.page_max)),
        Some(text) => match text.trim().parse::<i64>() {
            Ok(n) if n >= 0 => Ok(usize::try_from(n).unwrap_or(usize::MAX).min(config.page_max)),
            Ok(_) => Err(ImageError::invalid("limit param must be positive")),
            Err(_) => Err(ImageError::invalid("limit param must be an integer")),
        },
    }
}

fn sort(query: &Query) -> Result<Vec<(&'static str, bool)>, ImageError> {
    let key = |k: &str| {
        let known = SORT_KEYS.iter().find(|s| **s == k);
        known.copied().ok_or_else(|| {
            ImageError::Invalid(format!(
                "Invalid sort key: {k}. It must be one of the following: {}.",
                SORT_KEYS.join(", ")
            ))
        })
    };
    let down = |d: &str| match d {
        "asc" => Ok(false),
        "desc" => Ok(true),
        _ => Err(ImageError::Invalid(format!(
            "Invalid sort direction: {d}. It must be one of the following: asc, desc."
        ))),
    };
    let (old, new) = (query.has("sort_key") || query.has("sort_dir"), query.get("sort"));
    let sorted: Vec<_> = match new {
        Some(_) if old => return Err(ImageError::invalid("Old and new sorting syntax cannot be combined")),
        Some(list) => list
            .split(',')
            .map(|s| {
                let (k, d) = s.trim().split_once(':').unwrap_or((s.trim(), "desc"));
                Ok((key(k)?, down(d)?))
            })
            .collect::<Result<_, ImageError>>()?,
        None => {
            let dirs: Vec<_> = query.all("sort_dir").map(down).collect::<Result<_, _>>()?;
            let keys: Vec<_> = query.all("sort_key").map(key).collect::<Result<_, _>>()?;
            if dirs.len() > 1 && dirs.len() != keys.len() {
                return Err(ImageError::invalid(
                    "Number of sort dirs does not match the number of sort keys",
                ));
            }
            let first = dirs.first().copied().unwrap_or(true);
            let keys = if keys.is_empty() { vec!["created_at"] } else { keys };
            keys.into_iter().enumerate().map(|(i, k)| (k, dirs.get(i).copied().unwrap_or(first))).collect()
        }
    };
    Ok(sorted)
}

fn visibility(value: &str) -> Result<Option<Visibility>, ImageError> {
    match (value, Visibility::parse(value)) {
        ("all", _) => Ok(None),
        (_, Some(v)) => Ok(Some(v)),
        _ => Err(ImageError::Invalid(format!("Invalid visibility value: {value}"))),
    }
}

fn member_status(value: &str) -> Result<Option<MemberStatus>, ImageError> {
    match (value, MemberStatus::parse(value)) {
        ("all", _) => Ok(None),
        (_, Some(s)) => Ok(Some(s)),
        _ => Err(ImageError::Invalid(format!("Invalid status: {value}"))),
    }
}

fn flag(key: &str, value: &str) -> Result<bool, ImageError> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(ImageError::Invalid(format!(
            "Invalid value '{value}' for '{key}' filter. Valid values are case insensitive 'true' or 'false'."
        ))),
    }
}

fn range(value: &str) -> Result<i64, ImageError> {
    let n: Option<i64> = value.trim().parse().ok();
    n.filter(|n| *n >= 0)
        .ok_or_else(|| ImageError::invalid("Unable to filter on a range with a non-numeric value."))
}

fn filter(key: &str, value: &str) -> Result<Filter, ImageError> {
    let find = |names: &'static [&'static str]| names.iter().find(|n| **n == key).copied();
    if let Some(column) = find(LISTS) {
        let values = match operator(value) {
            ("in", list) => quoted(list)?,
            ("eq", one) => vec![one.to_owned()],
            (odd, _) => return Err(unknown(odd)),
        };
        return Ok(Filter::Text(column, values));
    }
    if let Some(column) = find(TEXTS) {
        return Ok(Filter::Text(column, vec![value.to_owned()]));
    }
    if let Some(column) = find(NUMBERS) {
        return Ok(Filter::Int(column, Op::Eq, range(value)?));
    }
    for (end, op) in [("_min", Op::Gte), ("_max", Op::Lte)] {
        let bound = NUMBERS.iter().copied().find(|n| key.strip_suffix(end) == Some(n));
        if let Some(column) = bound {
            return Ok(Filter::Int(column, op, range(value)?));
        }
    }
    if let Some(column) = find(TIMES) {
        let (op, time) = match operator(value) {
            ("gt", t) => (Op::Gt, t),
            ("gte", t) => (Op::Gte, t),
            ("lt", t) => (Op::Lt, t),
            ("lte", t) => (Op::Lte, t),
            ("neq", t) => (Op::Neq, t),
            ("eq", t) => (Op::Eq, t),
            (odd, _) => return Err(unknown(odd)),
        };
        let at = Timestamp::parse(time)
            .ok_or_else(|| ImageError::Invalid(format!("Unable to filter {key}: {time:?} is not a time.")))?;
        return Ok(Filter::Second(column, op, at.0.div_euclid(1_000_000)));
    }
    if key == "changes-since" {
        return Err(ImageError::invalid("The \"changes-since\" filter is no longer available on v2."));
    }
    Ok(Filter::Property(key.to_owned(), value.to_owned()))
}

/// What stands before a value's first colon, and the rest; `eq` where nothing does, and before a time.
fn operator(value: &str) -> (&str, &str) {
    match value.split_once(':') {
        Some(parts) if Timestamp::parse(value).is_none() => parts,
        _ => ("eq", value),
    }
}

fn unknown(operator: &str) -> ImageError {
    ImageError::Invalid(format!("Unable to filter by unknown operator '{operator}'."))
}

/// Values with commas between them; one in quotes may hold a comma.
fn quoted(list: &str) -> Result<Vec<String>, ImageError> {
    let bad =
        || ImageError::Invalid(format!("Invalid filter value {list}. The quote is not closed or misplaced."));
    let (mut values, mut rest) = (Vec::new(), list);
    loop {
        let (value, after) = match rest.strip_prefix('"') {
            Some(inner) => inner.split_once('"').ok_or_else(bad)?,
            None => rest.split_at(rest.find(',').unwrap_or(rest.len())),
        };
        if value.contains('"') {
            return Err(bad());
        }
        values.push(value.to_owned());
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(values),
            None => return Err(bad()),
        }
    }
}

/// What a query's value may hold unescaped.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The same question at another marker, or from the start: relative to the service, as upstream links its pages.
pub(super) fn link(at: &str, query: &Query, marker: Option<&str>) -> String {
    let kept = query.iter().filter(|(k, _)| *k != "marker");
    let pairs: Vec<_> = kept
        .chain(marker.map(|m| ("marker", m)))
        .map(|(k, v)| format!("{}={}", utf8_percent_encode(k, PLAIN), utf8_percent_encode(v, PLAIN)))
        .collect();
    if pairs.is_empty() { at.to_owned() } else { format!("{at}?{}", pairs.join("&")) }
}

/// A page with its links.
#[derive(Serialize)]
pub(super) struct Page<'a> {
    images: Vec<view::View<'a>>,
    first: String,
    schema: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) fn view<'a>(query: &Query, limit: usize, found: &'a [Image]) -> Page<'a> {
    let link = |marker: Option<&str>| link("/v2/images", query, marker);
    // As upstream: a full page may have another one behind it.
    let last = found.last().filter(|_| limit > 0 && found.len() >= limit);
    Page {
        images: found.iter().map(view::View).collect(),
        first: link(None),
        schema: "/v2/schemas/images",
        next: last.map(|last| link(Some(&last.id))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(q: &str) -> Result<Listing, ImageError> {
        let query = Query::parse(q).unwrap();
        read(&Config::default(), &query).map(|(l, _)| l)
    }

    #[test]
    fn what_upstream_takes() {
        assert_eq!(ask("").unwrap().limit, 25);
        assert_eq!(ask("limit=5000").unwrap().limit, 1000);
        assert_eq!(ask("sort=name:asc,size").unwrap().sort, [("name", false), ("size", true)]);
        assert_eq!(ask("sort_key=size&sort_dir=asc").unwrap().sort, [("size", false)]);
        assert_eq!(ask("visibility=all").unwrap().visibility, Some(None));
        assert_eq!(ask("member_status=all").unwrap().member_status, None);
        let l = ask("name=in:%22a,b%22,c").unwrap();
        assert!(matches!(&l.filters[0], Filter::Text("name", v) if v == &["a,b", "c"]));
        let l = ask("name=eq:debian:12").unwrap();
        assert!(matches!(&l.filters[0], Filter::Text("name", v) if v == &["debian:12"]));
        let l = ask("updated_at=2026-01-01T00:00:00Z").unwrap();
        assert!(matches!(l.filters[0], Filter::Second("updated_at", Op::Eq, 1_767_225_600)));
        let l = ask("created_at=gte:2026-01-01T00:00:00Z").unwrap();
        assert!(matches!(l.filters[0], Filter::Second("created_at", Op::Gte, _)));
        for (key, column, op) in [
            ("size_min", "size", Op::Gte),
            ("virtual_size_max", "virtual_size", Op::Lte),
            ("min_ram_max", "min_ram", Op::Lte),
            ("min_disk_min", "min_disk", Op::Gte),
            ("min_disk", "min_disk", Op::Eq),
        ] {
            let l = ask(&format!("{key}=7")).unwrap();
            assert!(matches!(l.filters[0], Filter::Int(c, o, 7) if c == column && o == op), "{key}");
        }
        assert!(matches!(&ask("os_distro=debian").unwrap().filters[0], Filter::Property(..)));
    }

    #[test]
    fn what_upstream_refuses() {
        for bad in [
            "limit=x",
            "limit=-1",
            "sort=secret",
            "sort=name:up",
            "sort=name&sort_key=size",
            "visibility=secret",
            "member_status=x",
            "protected=maybe",
            "size_min=x",
            "size_max=-1",
            "min_ram_min=x",
            "created_at=yesterday",
            "created_at=near:2026-01-01T00:00:00Z",
            "name=in:%22a",
            "name=debian:12",
            "id=neq:x",
            "changes-since=1",
        ] {
            assert!(ask(bad).is_err(), "{bad}");
        }
    }
}
