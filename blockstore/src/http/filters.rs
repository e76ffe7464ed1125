//! Filters of listings: which query keys narrow what, and how their values are read.

use super::Ask;
use crate::model::Metadata;
use crate::store::volumes::{Compare, Filter};
use crate::{Volumes, store};
use api::Error;
use state::Timestamp;

/// Query keys that are no filters.
pub(super) const OTHERS: [&str; 9] =
    ["limit", "marker", "offset", "sort", "sort_key", "sort_dir", "all_tenants", "with_count", "fields"];

/// A map in a query, as clients write it: JSON, or Python's own form of a dict.
pub(super) fn pairs(key: &str, value: &str) -> Result<Metadata, Error> {
    serde_json::from_str(value)
        .or_else(|_| serde_json::from_str(&value.replace('\'', "\"")))
        .map_err(|_| Error::bad_request(format!("Invalid value for filter {key}: {value}")))
}

/// A list in a query: `['a', 'b']`, or one value.
fn ids(value: &str) -> Vec<String> {
    match serde_json::from_str(&value.replace('\'', "\"")) {
        Ok(list) => list,
        Err(_) => vec![value.to_owned()],
    }
}

/// `gt:2026-01-01T00:00:00,lt:…`; without an operator it is equality.
fn times(key: &str, value: &str) -> Result<Vec<(Compare, i64)>, Error> {
    let bad = || Error::bad_request(format!("Invalid filter {key}: {value}"));
    value
        .split(',')
        .map(|part| {
            let (how, at) = match part.split_once(':') {
                Some(("gt", at)) => (Compare::Gt, at),
                Some(("gte", at)) => (Compare::Gte, at),
                Some(("eq", at)) => (Compare::Eq, at),
                Some(("neq", at)) => (Compare::Neq, at),
                Some(("lt", at)) => (Compare::Lt, at),
                Some(("lte", at)) => (Compare::Lte, at),
                _ => (Compare::Eq, part),
            };
            Ok((how, Timestamp::parse(at).ok_or_else(bad)?.0))
        })
        .collect()
}

pub(super) fn volumes(service: &Volumes, ask: &Ask) -> Result<Filter, Error> {
    let mut f = Filter::default();
    for (key, value) in ask.query.iter().filter(|(k, _)| !OTHERS.contains(k)) {
        let some = || Some(value.to_owned());
        match key {
            "name" | "display_name" => f.name = some(),
            "name~" | "display_name~" if ask.at(34) => f.name_like = some(),
            "description" => f.description = some(),
            "status" => f.status = some(),
            "id" => f.ids = Some(ids(value)),
            "availability_zone" => f.zone = some(),
            "volume_type" | "volume_type_id" => f.volume_type = some(),
            "size" => f.size = ask.query.int("size")?,
            "bootable" => {
                f.bootable =
                    Some(truth(value).ok_or_else(|| Error::bad_request(format!("bootable={value}")))?);
            }
            "multiattach" => f.multiattach = truth(value),
            "metadata" => f.metadata = pairs(key, value)?,
            "glance_metadata" => f.image_metadata = pairs(key, value)?,
            "snapshot_id" => f.snapshot_id = some(),
            "source_volid" => f.source_volid = some(),
            "user_id" => f.user_id = some(),
            "migration_status" => f.migration_status = some(),
            "project_id" | "tenant_id" if ask.ctx.is_admin() => f.project_id = some(),
            "host" => match service.tier_of_host(value) {
                Some(tier) => f.tier = Some(tier),
                None => f.nothing = true,
            },
            "created_at" if ask.at(60) => f.created = times(key, value)?,
            "updated_at" if ask.at(60) => f.updated = times(key, value)?,
            "consumes_quota" if ask.at(65) => f.nothing |= truth(value) == Some(false),
            "group_id" if !value.is_empty() => f.group_id = some(),
            // No volume here has one; consistency groups are in upstream's `group_id`, too.
            "group_id"
            | "consistencygroup_id"
            | "cluster_name"
            | "replication_status"
            | "service_uuid"
            | "encryption_key_id" => f.nothing |= !value.is_empty(),
            _ => ask.no_filter(key)?,
        }
    }
    Ok(f)
}

pub(super) fn snapshots(ask: &Ask) -> Result<store::snapshots::Filter, Error> {
    let mut f = store::snapshots::Filter::default();
    for (key, value) in ask.query.iter().filter(|(k, _)| !OTHERS.contains(k)) {
        let some = || Some(value.to_owned());
        match key {
            "name" | "display_name" => f.name = some(),
            "name~" | "display_name~" if ask.at(34) => f.name_like = some(),
            "status" => f.status = some(),
            "volume_id" => f.volume_id = some(),
            "id" => f.ids = Some(ids(value)),
            "metadata" => f.metadata = pairs(key, value)?,
            "project_id" | "tenant_id" if ask.ctx.is_admin() => f.project_id = some(),
            "group_snapshot_id" if !value.is_empty() => f.group_snapshot_id = some(),
            "group_snapshot_id" | "cgsnapshot_id" => f.nothing |= !value.is_empty(),
            "consumes_quota" if ask.at(65) => f.nothing |= truth(value) == Some(false),
            _ => ask.no_filter(key)?,
        }
    }
    Ok(f)
}

fn truth(value: &str) -> Option<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "t" | "yes" | "y" | "on" => Some(true),
        "0" | "false" | "f" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_times_as_clients_write_them() {
        let want = Metadata::from_iter([("Type".to_owned(), "work".to_owned())]);
        assert_eq!(pairs("metadata", "{'Type': 'work'}").unwrap(), want);
        assert_eq!(pairs("metadata", r#"{"Type": "work"}"#).unwrap(), want);
        assert!(pairs("metadata", "work").is_err());
        assert_eq!(times("created_at", "gt:2026-01-01T00:00:00,lt:2026-01-02T00:00:00").unwrap().len(), 2);
        assert!(times("created_at", "gt:yesterday").is_err());
        assert_eq!(ids("['a','b']"), ["a", "b"]);
    }
}
