//! Listings of servers: filters, order, pages.

use crate::model::Server;
use crate::states::{of_status, status};
use crate::store::servers::{self as store, Find};
use crate::{Compute, ComputeError};
use api::{Context, Microversion, Page, Query};
use regex::Regex;
use state::Timestamp;
use std::cmp::Ordering;

/// A page is as long as this at most.
pub(crate) const MAX_PAGE: usize = 1000;
pub(crate) const SORT_KEYS: [&str; 20] = [
    "access_ip_v4",
    "access_ip_v6",
    "auto_disk_config",
    "availability_zone",
    "config_drive",
    "created_at",
    "display_description",
    "display_name",
    "host",
    "image_ref",
    "instance_type_id",
    "key_name",
    "launched_at",
    "name",
    "node",
    "power_state",
    "project_id",
    "task_state",
    "updated_at",
    "uuid",
];

/// A page of servers, and whether more follow.
pub(crate) struct Found {
    pub(crate) servers: Vec<Server>,
    pub(crate) more: bool,
}

impl Compute {
    pub(crate) async fn list_servers(
        &self,
        ctx: &Context,
        query: &Query,
        version: Microversion,
        detail: bool,
    ) -> Result<Found, ComputeError> {
        let home = ctx.project().map(|p| p.id.clone()).unwrap_or_default();
        let rule = if detail { "os_compute_api:servers:detail" } else { "os_compute_api:servers:index" };
        self.may(ctx, rule, &home)?;
        let all = match query.get("all_tenants").or_else(|| query.get("all_projects")) {
            None => false,
            Some("") => true,
            Some(_) => query.bool("all_tenants")?.or(query.bool("all_projects")?).unwrap_or(false),
        };
        if all {
            self.may(ctx, &format!("{rule}:get_all_tenants"), &home)?;
        }
        let filters = Filters::read(self, ctx, query, version)?;
        let other =
            query.get("project_id").or_else(|| query.get("tenant_id")).filter(|_| ctx.is_admin() && all);
        let find = Find {
            project: if all { other } else { Some(&home) },
            host: filters.host.as_deref(),
            group: None,
            user: filters.user.as_deref(),
            deleted: filters.deleted,
        };
        let page = Page::parse(query, MAX_PAGE, &SORT_KEYS)?;
        let mut rows = store::list(&self.db, &find).await?;
        rows.retain(|s| filters.admit(s));
        if let Some(ip) = &filters.ip {
            rows = self.with_address(rows, ip).await?;
        }
        sort(&mut rows, &page);
        if let Some(marker) = &page.marker {
            let at = rows.iter().position(|s| s.id == *marker);
            let at = at.ok_or_else(|| ComputeError::invalid(format!("marker [{marker}] not found")))?;
            rows.drain(..=at);
        }
        let more = page.cut(&mut rows);
        Ok(Found { servers: rows, more })
    }
}

impl Compute {
    /// Those of the servers that have an address which matches.
    async fn with_address(&self, rows: Vec<Server>, ip: &Regex) -> Result<Vec<Server>, ComputeError> {
        let mut kept = Vec::new();
        for s in rows {
            let ports = self.networks.ports_of_device(&s.id).await?;
            let mut addresses = ports.iter().flat_map(|p| &p.fixed_ips);
            if addresses.any(|a| ip.is_match(&a.ip_address.to_string())) {
                kept.push(s);
            }
        }
        Ok(kept)
    }
}

/// What is asked of each row.
#[derive(Default)]
struct Filters {
    host: Option<String>,
    user: Option<String>,
    deleted: bool,
    name: Option<Regex>,
    status: Option<Vec<String>>,
    image: Option<String>,
    flavor: Option<String>,
    ip: Option<Regex>,
    key: Option<String>,
    zone: Option<String>,
    reservation: Option<String>,
    uuid: Option<String>,
    locked: Option<bool>,
    changes_since: Option<Timestamp>,
    changes_before: Option<Timestamp>,
    tags: Vec<String>,
    tags_any: Vec<String>,
    not_tags: Vec<String>,
    not_tags_any: Vec<String>,
}

impl Filters {
    fn read(
        compute: &Compute,
        ctx: &Context,
        q: &Query,
        version: Microversion,
    ) -> Result<Self, ComputeError> {
        let home = ctx.project().map(|p| p.id.clone()).unwrap_or_default();
        let operator = compute.allows(ctx, "os_compute_api:servers:allow_all_filters", &home);
        let text = |key: &str| q.get(key).map(str::to_owned);
        let admin = |key: &str| q.get(key).filter(|_| operator).map(str::to_owned);
        let time = |key: &str| match q.get(key) {
            Some(t) => Timestamp::parse(t).map(Some).ok_or_else(|| {
                ComputeError::invalid(format!("Invalid input for query parameters {key}. Value: {t}."))
            }),
            None => Ok(None),
        };
        let list = |key: &str| {
            let words = if version >= Microversion(2, 26) { q.get(key) } else { None };
            words.map(|w| w.split(',').map(str::to_owned).collect()).unwrap_or_default()
        };
        Ok(Filters {
            host: admin("host"),
            user: admin("user_id"),
            deleted: operator && q.bool("deleted")?.unwrap_or(false),
            name: q.get("name").map(pattern).transpose()?,
            status: q.has("status").then(|| q.all("status").map(str::to_ascii_uppercase).collect()),
            image: text("image"),
            flavor: text("flavor"),
            ip: q.get("ip").or_else(|| q.get("ip6")).map(pattern).transpose()?,
            key: text("key_name"),
            zone: text("availability_zone"),
            reservation: text("reservation_id"),
            uuid: text("uuid"),
            locked: if version >= Microversion(2, 73) { q.bool("locked")? } else { None },
            changes_since: time("changes-since")?,
            changes_before: if version >= Microversion(2, 66) { time("changes-before")? } else { None },
            tags: list("tags"),
            tags_any: list("tags-any"),
            not_tags: list("not-tags"),
            not_tags_any: list("not-tags-any"),
        })
    }

    fn admit(&self, s: &Server) -> bool {
        let is = |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|w| w == has);
        let has = |tag: &String| s.tags.contains(tag);
        self.name.as_ref().is_none_or(|r| r.is_match(&s.name))
            && self.status.as_ref().is_none_or(|wanted| wanted.iter().any(|w| self.is_status(s, w)))
            && is(&self.image, &s.image_id)
            && is(&self.flavor, &s.flavor.id)
            && is(&self.key, s.key_name.as_deref().unwrap_or_default())
            && is(&self.zone, &s.availability_zone)
            && is(&self.reservation, &s.reservation_id)
            && is(&self.uuid, &s.id)
            && self.locked.is_none_or(|l| l == s.locked.is_some())
            && self.changes_since.is_none_or(|t| s.updated_at >= t)
            && self.changes_before.is_none_or(|t| s.updated_at <= t)
            && self.tags.iter().all(has)
            && (self.tags_any.is_empty() || self.tags_any.iter().any(has))
            && (self.not_tags.is_empty() || !self.not_tags.iter().all(has))
            && !self.not_tags_any.iter().any(has)
    }

    /// The very status, or one that upstream counts under it.
    fn is_status(&self, s: &Server, wanted: &str) -> bool {
        status(s.vm_state, s.task_state) == wanted
            || (of_status(wanted) == Some(s.vm_state) && wanted == status(s.vm_state, None))
    }
}

/// A pattern from outside: linear time, bounded size.
fn pattern(text: &str) -> Result<Regex, ComputeError> {
    regex::RegexBuilder::new(text).size_limit(1 << 18).case_insensitive(true).build().map_err(|_| {
        ComputeError::invalid(format!("Invalid input for query parameters name. Value: {text}."))
    })
}

fn sort(rows: &mut [Server], page: &Page) {
    if page.sort.is_empty() {
        return;
    }
    rows.sort_by(|a, b| {
        page.sort.iter().fold(Ordering::Equal, |so_far, by| {
            so_far.then_with(|| {
                let order = key(a, &by.key).cmp(&key(b, &by.key));
                if by.descending { order.reverse() } else { order }
            })
        })
    });
}

fn key(s: &Server, name: &str) -> (i64, String) {
    let text = |t: &str| (0, t.to_owned());
    match name {
        "created_at" => (s.created_at.0, String::new()),
        "updated_at" => (s.updated_at.0, String::new()),
        "launched_at" => (s.launched_at.map_or(0, |t| t.0), String::new()),
        "power_state" => (s.seen.power.code(), String::new()),
        "display_name" | "name" => text(&s.name),
        "display_description" => text(s.description.as_deref().unwrap_or_default()),
        "host" | "node" => text(&s.host),
        "image_ref" => text(&s.image_id),
        "instance_type_id" => text(&s.flavor.id),
        "key_name" => text(s.key_name.as_deref().unwrap_or_default()),
        "availability_zone" => text(&s.availability_zone),
        "project_id" => text(&s.project_id),
        "task_state" => text(s.task_state.map(|t| t.as_str()).unwrap_or_default()),
        "uuid" => text(&s.id),
        _ => text(""),
    }
}
