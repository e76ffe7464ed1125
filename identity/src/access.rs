//! Access rules: an application credential may be good for certain requests only.
//!
//! A rule names a service by its type, a method and a path in which `*` and `{name}` stand for one segment and `**`
//! for any number. Users write paths as a service's own documentation does (`/v2.1/servers`), so a path also
//! matches without the first segment, under which the service is mounted here.

use crate::store::Record;
use crate::store::record::Fields;
use api::Asking;

/// The types under which clients know a service.
fn types(service: &str) -> &'static [&'static str] {
    match service {
        "identity" => &["identity"],
        "image" => &["image"],
        "volume" => &["volumev3", "block-storage", "block-store", "volume"],
        "compute" => &["compute"],
        "placement" => &["placement"],
        "network" => &["network"],
        "object-store" => &["object-store"],
        _ => &[],
    }
}

pub(crate) fn allows(rules: &[Record], request: &Asking<'_>) -> bool {
    let mounted = request.path.get(1..).and_then(|p| p.find('/').map(|at| &p[at..]));
    rules.iter().any(|rule| {
        types(request.service).contains(&rule.text("service"))
            && rule.text("method") == request.method
            && [Some(request.path), mounted]
                .into_iter()
                .flatten()
                .any(|path| matches(rule.text("path"), path))
    })
}

fn matches(pattern: &str, path: &str) -> bool {
    // What a router might read in another way than we do is allowed by no rule.
    if path.contains('%') || path.contains("//") || path.split('/').any(|s| s == "." || s == "..") {
        return false;
    }
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    segments(&pattern, &path)
}

/// Which prefixes of the path each prefix of the pattern can match, one after the other: no pattern takes longer
/// than its length times the path's.
fn segments(pattern: &[&str], path: &[&str]) -> bool {
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for part in pattern {
        let mut next = vec![false; path.len() + 1];
        let any = *part == "*" || (part.starts_with('{') && part.ends_with('}'));
        let mut before = false;
        for at in 0..=path.len() {
            before |= reached[at];
            if *part == "**" {
                next[at] = before;
            } else if at > 0 && reached[at - 1] {
                let segment = path[at - 1];
                next[at] = (any && !segment.is_empty()) || *part == segment;
            }
        }
        reached = next;
    }
    reached[path.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_rules_allow() {
        let rule = json!({"service": "compute", "method": "GET", "path": "/v2.1/servers/{server_id}"});
        let rules = [rule.as_object().cloned().unwrap()];
        let may = |service, method, path| allows(&rules, &Asking { service, method, path });
        assert!(may("compute", "GET", "/compute/v2.1/servers/abc"));
        assert!(may("compute", "GET", "/v2.1/servers/abc"));
        for (service, method, path) in [
            ("compute", "DELETE", "/compute/v2.1/servers/abc"),
            ("network", "GET", "/compute/v2.1/servers/abc"),
            ("compute", "GET", "/compute/v2.1/servers"),
            ("compute", "GET", "/compute/v2.1/servers/abc/ips"),
            ("compute", "GET", "/compute/v2.1/servers/"),
            ("compute", "GET", "/compute/v2.1/servers/a%2Fb"),
            ("compute", "GET", "/compute/v2.1/servers/.."),
        ] {
            assert!(!may(service, method, path), "{service} {method} {path}");
        }
        assert!(
            matches("/v1/**", "/v1/a/b/c") && matches("/**/c", "/v1/a/b/c") && !matches("/v1/*", "/v1/a/b")
        );
    }
}
