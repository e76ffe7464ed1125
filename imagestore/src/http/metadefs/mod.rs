//! `/v2/metadefs/…`, as upstream's Metadata Definitions API.

mod items;
mod namespaces;
mod schemas;

use super::listing::{limit, link};
use crate::{Config, ImageError, Images};
use api::{Query, Routes};
use serde_json::Value;
use std::sync::Arc;

pub(super) use schemas::shown as schema;

const AT: &str = "/v2/metadefs/namespaces";

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.with(namespaces::routes).with(items::routes)
}

/// The page of a list that `marker` and `limit` ask for, and where the next one begins.
fn page<'a, T>(
    config: &Config,
    query: &Query,
    all: &'a [T],
    name: impl Fn(&T) -> &str,
) -> Result<(&'a [T], Option<&'a str>), ImageError>
where
    T: AsRef<str>,
{
    let from = match query.get("marker") {
        None => 0,
        Some(marker) => {
            let at = all.iter().position(|i| name(i) == marker);
            at.ok_or_else(|| ImageError::Missing(format!("{marker} was not found.")))? + 1
        }
    };
    let rest = &all[from..];
    let limit = limit(config, query)?;
    let page = &rest[..limit.min(rest.len())];
    let next = page.last().filter(|_| page.len() < rest.len()).map(AsRef::as_ref);
    Ok((page, next))
}

/// A list's body with its links.
fn list(at: &str, key: &str, shown: Value, next: Option<&str>, query: &Query) -> Value {
    let mut body = serde_json::json!({key: shown, "first": link(at, query, None),
        "schema": format!("/v2/schemas/metadefs/{key}")});
    if let Some(next) = next {
        body["next"] = link(at, query, Some(next)).into();
    }
    body
}

fn encoded(s: &str) -> String {
    percent_encoding::utf8_percent_encode(s, percent_encoding::NON_ALPHANUMERIC).to_string()
}
