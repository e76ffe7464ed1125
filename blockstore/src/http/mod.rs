//! The Cinder v3 API: routes and wire types, one resource a file. Nothing here decides anything.

mod actions;
mod attachments;
mod backups;
mod consistency;
mod encryption;
mod filters;
mod group_snapshots;
mod group_types;
mod groups;
mod manage;
mod messages;
mod metadata;
mod qos;
mod quotas;
mod replication;
mod schedules;
mod schemas;
mod services;
mod snapshots;
mod transfers;
mod types;
mod versions;
mod view;
mod volumes;

use crate::{VolumeError, Volumes};
use api::{Context, Error, Links, Microversion, Page, Query, RouteInfo, Routes, Service, TokenValidator};
use axum::Router;
use axum::extract::{FromRequestParts, OriginalUri};
use http::request::Parts;
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::sync::Arc;

const MOUNT: &str = "/volume/v3";

type Shared = Arc<Volumes>;

fn declare() -> Routes<Shared> {
    Routes::new()
        .with(versions::routes)
        .with(volumes::routes)
        .with(actions::routes)
        .with(metadata::routes)
        .with(snapshots::routes)
        .with(attachments::routes)
        .with(types::routes)
        .with(qos::routes)
        .with(quotas::routes)
        .with(services::routes)
        .with(transfers::routes)
        .with(encryption::routes)
        .with(group_types::routes)
        .with(groups::routes)
        .with(group_snapshots::routes)
        .with(consistency::routes)
        .with(manage::routes)
        .with(messages::routes)
        .with(backups::routes)
        .with(schedules::routes)
}

/// Every route below `/volume/v3`, for the table of unauthorised access.
pub fn routes() -> Vec<RouteInfo> {
    declare().table().to_vec()
}

/// The whole service, with its versions at `/volume`.
pub fn router(volumes: &Arc<Volumes>, tokens: Arc<dyn TokenValidator>) -> Router {
    let served = Service::volume().mount(MOUNT, declare(), volumes.clone(), tokens, &volumes.links);
    served.merge(versions::root(volumes.links.clone()))
}

/// What every handler needs to know of a request.
pub(crate) struct Ask {
    pub(crate) ctx: Context,
    pub(crate) version: Microversion,
    pub(crate) query: Query,
    pub(crate) site: Site,
}

impl FromRequestParts<Shared> for Ask {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, volumes: &Shared) -> Result<Self, Error> {
        let ctx = Context::from_request_parts(parts, volumes).await?;
        let Ok(version) = Microversion::from_request_parts(parts, volumes).await;
        let query = Query::from_request_parts(parts, volumes).await?;
        // Links have the shape of the request's own path: with the project in it where the client put it there.
        let original = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |o| &o.0);
        let inner = parts.uri.path();
        let path = original.path();
        let prefix = path.strip_suffix(inner).filter(|p| p.starts_with(MOUNT)).unwrap_or(MOUNT);
        let project = prefix.strip_prefix(MOUNT).unwrap_or_default().to_owned();
        let site = Site { links: volumes.links.clone(), project, here: inner.to_owned() };
        Ok(Ask { ctx, version, query, site })
    }
}

impl Ask {
    /// 404 where the request's microversion does not know this resource or action yet.
    fn since(&self, minor: u16) -> Result<(), Error> {
        if self.at(minor) { Ok(()) } else { Err(Error::not_found("The resource could not be found.")) }
    }

    fn at(&self, minor: u16) -> bool {
        self.version >= Microversion(3, minor)
    }

    /// `all_tenants`, which only an administrator's requests have.
    fn all_projects(&self) -> Result<bool, Error> {
        match self.query.get("all_tenants") {
            None | Some("") => Ok(false),
            Some(_) => Ok(self.query.bool("all_tenants")?.unwrap_or(false)),
        }
    }

    fn page(&self, volumes: &Volumes, keys: &[&str]) -> Result<Page, Error> {
        Page::parse(&self.query, volumes.config.page_max, keys)
    }

    /// Whether a listing is to say how many there are on all its pages (`with_count`, 3.45).
    fn counts(&self) -> Result<bool, Error> {
        Ok(self.at(45) && self.query.bool("with_count")?.unwrap_or(false))
    }

    /// What a query has beside filters: 400 since 3.31; before, as upstream, it narrows nothing.
    fn no_filter(&self, key: &str) -> Result<(), Error> {
        match self.at(31) {
            true => Err(Error::bad_request(format!("Invalid filters {key} are found in query options."))),
            false => Ok(()),
        }
    }

    /// A page of views under `name`, and under `links` where the next one is.
    fn listed(&self, page: &Page, (name, links): (&str, &str), shown: Vec<Value>, more: bool) -> Value {
        let next = self.next(page, shown.len(), more, shown.last().and_then(|v| v["id"].as_str()));
        let mut body = json!({name: shown});
        if let Some(next) = next {
            body[links] = next;
        }
        body
    }

    /// `<collection>_links`: the next page, where the page is full.
    fn next(&self, page: &Page, count: usize, more: bool, last: Option<&str>) -> Option<Value> {
        let full = page.limited && page.limit > 0 && count == page.limit;
        let last = last.filter(|_| more || full)?;
        let url = page.next(&self.site.url(&self.site.here), &self.query, last);
        Some(json!([{"rel": "next", "href": url}]))
    }
}

#[derive(serde::Serialize)]
struct Link {
    rel: &'static str,
    href: String,
}

/// Builds links.
pub(crate) struct Site {
    links: Links,
    /// `/<project id>` or nothing.
    project: String,
    /// The request's path below the project.
    here: String,
}

impl Site {
    fn url(&self, path: &str) -> String {
        self.links.to(&format!("{MOUNT}{}{path}", self.project))
    }

    fn links_of(&self, path: &str) -> [Link; 2] {
        let bookmark = self.links.to(&format!("/volume{}{path}", self.project));
        [Link { rel: "self", href: self.url(path) }, Link { rel: "bookmark", href: bookmark }]
    }

    fn pair(&self, path: &str) -> Value {
        json!(self.links_of(path))
    }
}

/// The page of a list that is all at hand, and whether there is more. `absent`: its marker is not in it.
fn cut<T>(
    page: &Page,
    all: Vec<T>,
    id: fn(&T) -> &str,
    absent: fn(String) -> VolumeError,
) -> Result<(Vec<T>, bool), VolumeError> {
    let start = match &page.marker {
        Some(m) => 1 + all.iter().position(|t| id(t) == m).ok_or_else(|| absent(m.clone()))?,
        None => 0,
    };
    let mut shown: Vec<T> = all.into_iter().skip(start + page.offset).take(page.fetch()).collect();
    let more = page.cut(&mut shown);
    Ok((shown, more))
}

/// Sorts by the page's keys, the first of them first.
fn sort<T>(page: &Page, all: &mut [T], compare: impl Fn(&str, &T, &T) -> Ordering) {
    for by in page.sort.iter().rev() {
        all.sort_by(|a, b| {
            let order = compare(&by.key, a, b);
            if by.descending { order.reverse() } else { order }
        });
    }
}

/// What the body is about: the object under `key`, or upstream's 400.
fn inner<'a>(body: &'a Value, key: &str) -> Result<&'a Value, Error> {
    body.get(key)
        .filter(|v| v.is_object())
        .ok_or_else(|| Error::bad_request(format!("Missing required element '{key}' in request body.")))
}

/// oslo.utils' strict booleans, from JSON's own or from words.
fn boolean(value: &Value, name: &str) -> Result<bool, Error> {
    let word = match value {
        Value::Bool(b) => return Ok(*b),
        Value::Number(n) => n.to_string(),
        Value::String(s) => s.trim().to_ascii_lowercase(),
        _ => String::new(),
    };
    match word.as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Ok(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Ok(false),
        _ => Err(Error::bad_request(format!(
            "Invalid input for field/attribute {name}. Value: {value}. {value} is not a 'boolean'"
        ))),
    }
}

/// A number, from JSON's own or from digits.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64(),
        Value::String(s) if s.bytes().all(|b| b.is_ascii_digit()) => s.parse().ok(),
        _ => None,
    }
}

/// A text, trimmed as upstream trims names.
fn text(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).map(|s| s.trim().to_owned())
}

impl From<VolumeError> for Refusal {
    fn from(e: VolumeError) -> Self {
        Refusal(e.into())
    }
}

/// Lets handlers use `?` on this crate's errors and on the API's own alike.
pub(crate) struct Refusal(Error);

impl From<Error> for Refusal {
    fn from(e: Error) -> Self {
        Refusal(e)
    }
}

impl axum::response::IntoResponse for Refusal {
    fn into_response(self) -> axum::response::Response {
        self.0.into_response()
    }
}

type Answer<T> = Result<T, Refusal>;
