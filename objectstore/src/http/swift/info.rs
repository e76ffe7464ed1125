//! `/info`, `/healthcheck`, `/crossdomain.xml`. What `/info` names is built; clients use what it names.

use crate::ObjectStore;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE};
use serde_json::json;

/// The release of Swift whose API this is.
const VERSION: &str = "2.34.0";

pub(super) async fn show(State(store): State<ObjectStore>) -> Response {
    let (config, limits) = (store.config(), &store.config().limits);
    let policies: Vec<_> = store
        .policies()
        .iter()
        .enumerate()
        .filter(|(_, p)| !p.deprecated)
        .map(|(i, p)| {
            let names = [&p.name].into_iter().chain(&p.aliases).map(String::as_str);
            let aliases = names.collect::<Vec<_>>().join(", ");
            match i {
                0 => json!({"name": p.name, "aliases": aliases, "default": true}),
                _ => json!({"name": p.name, "aliases": aliases}),
            }
        })
        .collect();
    let mut info = json!({
        "swift": {
            "version": VERSION,
            "strict_cors_mode": true,
            "policies": policies,
            "allow_account_management": false,
            "account_autocreate": true,
            "allow_open_expired": config.allow_open_expired,
            "max_file_size": limits.max_file_size,
            "max_meta_name_length": limits.max_meta_name_length,
            "max_meta_value_length": limits.max_meta_value_length,
            "max_meta_count": limits.max_meta_count,
            "max_meta_overall_size": limits.max_meta_overall_size,
            "max_header_size": super::MAX_HEADER,
            "max_object_name_length": crate::MAX_OBJECT_NAME,
            "max_container_name_length": limits.max_container_name_length,
            "max_account_name_length": 256,
            "container_listing_limit": limits.container_listing_limit,
            "account_listing_limit": limits.account_listing_limit,
            "extra_header_count": 0,
            "valid_api_versions": ["v1", "v1.0"],
        },
        "slo": {
            "max_manifest_segments": limits.max_manifest_segments,
            "max_manifest_size": limits.max_manifest_size,
            "min_segment_size": 1,
            "yield_frequency": super::slo::HEARTBEAT.as_secs(),
            "allow_async_delete": false,
        },
        "dlo": {"max_segments": config.limits.container_listing_limit},
        "bulk_delete": {"max_deletes_per_request": limits.max_deletes_per_request, "max_failed_deletes": 1000},
        "bulk_upload": {"max_containers_per_extraction": 10000, "max_failed_extractions": 1000},
        "tempurl": {
            "methods": ["GET", "HEAD", "PUT", "POST", "DELETE"],
            "incoming_remove_headers": ["x-timestamp", "x-open-expired"],
            "incoming_allow_headers": [],
            "outgoing_remove_headers": ["x-object-meta-*"],
            "outgoing_allow_headers": ["x-object-meta-public-*"],
            "allowed_digests": ["sha1", "sha256", "sha512"],
            "deprecated_digests": ["sha1"],
        },
        "object_versioning": {},
        "versioned_writes": {"allowed_flags": ["x-versions-location", "x-history-location"]},
        "staticweb": {},
        "symlink": {"symloop_max": 2, "static_links": true},
        "formpost": {
            "allowed_digests": ["sha1", "sha256", "sha512"],
            "deprecated_digests": ["sha1"],
        },
        "account_quotas": {},
        "container_quotas": {},
        "crossdomain": {},
        "account_acls": {},
        "container_sync": {"realms": super::sync::realms(&config.sync)},
        "etag_quoter": {"enable_by_default": config.quoted_etags},
    });
    if config.read_only {
        info["read_only"] = json!({});
    }
    if config.ratelimit.are_set() {
        let rate = |rate: u32| if rate > 0 { json!([[0, rate]]) } else { json!([]) };
        info["ratelimit"] = json!({
            "account_ratelimit": config.ratelimit.account,
            "max_sleep_time_seconds": config.ratelimit.max_sleep_s,
            "container_ratelimits": rate(config.ratelimit.container),
            "container_listing_ratelimits": rate(config.ratelimit.container_listing),
        });
    }
    if !config.swift_domains.is_empty() {
        info["domain_remap"] = json!({"default_reseller_prefix": null});
        if config.cname.enabled {
            info["cname_lookup"] = json!({"lookup_depth": config.cname.lookup_depth});
        }
    }
    let body = info.to_string();
    stamped(([(CONTENT_TYPE, "application/json; charset=UTF-8")], body).into_response())
}

pub(super) async fn options() -> Response {
    stamped(([(ALLOW, "HEAD, GET, OPTIONS")], "").into_response())
}

pub(super) async fn healthcheck() -> Response {
    stamped(([(CONTENT_TYPE, "text/plain")], "OK").into_response())
}

pub(super) async fn crossdomain() -> Response {
    const POLICY: &str = "<?xml version=\"1.0\"?>\n<!DOCTYPE cross-domain-policy SYSTEM \
        \"http://www.adobe.com/xml/dtds/cross-domain-policy.dtd\" >\n<cross-domain-policy>\n\
        <allow-access-from domain=\"*\" secure=\"false\" />\n</cross-domain-policy>";
    stamped(([(CONTENT_TYPE, "application/xml")], POLICY).into_response())
}

fn stamped(mut response: Response) -> Response {
    super::stamp(&mut response, &super::transaction_id());
    response
}
