//! CORS at Swift's door: what a container's metadata allow pages of other origins to do.
//!
//! `X-Container-Meta-Access-Control-Allow-Origin`, `-Max-Age` and `-Expose-Headers` are the owner's to set. A preflight
//! carries no token and is answered before anybody is asked for one; an answer of any kind is marked as the container
//! says, so that a page also sees why it was refused.

use super::Call;
use crate::ContainerInfo;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::collections::BTreeSet;

/// What a page may always see of an answer, beside the user's metadata.
const EXPOSED: [&str; 10] = [
    "cache-control",
    "content-language",
    "content-type",
    "expires",
    "last-modified",
    "pragma",
    "etag",
    "x-timestamp",
    "x-trans-id",
    "x-openstack-request-id",
];

/// The methods of an account, a container, an object.
fn methods(call: &Call) -> &'static [&'static str] {
    match (call.container.is_empty(), call.object.is_empty()) {
        (true, _) => &["HEAD", "GET", "POST", "OPTIONS"],
        (false, true) => &["HEAD", "GET", "PUT", "POST", "OPTIONS", "DELETE"],
        (false, false) => &["HEAD", "GET", "PUT", "POST", "OPTIONS", "DELETE", "COPY"],
    }
}

/// What a container, and the operator, allow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rules {
    origins: Vec<String>,
    /// The container says `*`, and nothing else.
    anybody: bool,
    max_age: Option<String>,
    exposed: Vec<String>,
}

impl Rules {
    fn of(info: &ContainerInfo, config: &crate::Config) -> Rules {
        let meta = |name: &str| info.meta.get(&format!("access-control-{name}"));
        let words = |text: Option<&String>| -> Vec<String> {
            text.into_iter().flat_map(|t| t.split_whitespace()).map(str::to_owned).collect()
        };
        let allowed = meta("allow-origin");
        let mut origins = words(allowed);
        origins.extend(config.cors_allow_origin.iter().cloned());
        let mut exposed = words(meta("expose-headers"));
        exposed.extend(config.cors_expose_headers.iter().cloned());
        Rules {
            origins,
            anybody: allowed.is_some_and(|a| a.trim() == "*"),
            max_age: meta("max-age").cloned(),
            exposed: exposed.iter().map(|h| h.to_ascii_lowercase()).collect(),
        }
    }

    fn allow(&self, origin: &str) -> bool {
        self.origins.iter().any(|o| o == "*" || o == origin)
    }

    /// Names the origin in an answer.
    fn admit(&self, out: &mut HeaderMap, origin: &str) {
        if self.anybody {
            out.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            return;
        }
        if let Ok(origin) = HeaderValue::from_str(origin) {
            out.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            vary(out, "Origin");
        }
    }

    /// Marks the answer to a request of `origin`.
    fn mark(&self, out: &mut HeaderMap, origin: &str) {
        if !self.allow(origin) {
            return;
        }
        if !out.contains_key(header::ACCESS_CONTROL_EXPOSE_HEADERS) {
            let mut exposed: BTreeSet<String> = EXPOSED.iter().map(|h| (*h).to_owned()).collect();
            exposed.extend(self.exposed.iter().cloned());
            let users = |n: &&HeaderName| {
                ["x-container-meta", "x-object-meta"].iter().any(|p| n.as_str().starts_with(p))
            };
            exposed.extend(out.keys().filter(users).map(|n| n.as_str().to_owned()));
            set(out, header::ACCESS_CONTROL_EXPOSE_HEADERS, &join(exposed.iter().map(String::as_str)));
        }
        if !out.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            self.admit(out, origin);
        }
    }
}

fn join<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

pub(super) fn set(out: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        out.insert(name, value);
    }
}

fn vary(out: &mut HeaderMap, what: &str) {
    let before = out.get(header::VARY).and_then(|v| v.to_str().ok()).map(|v| format!("{v}, {what}"));
    set(out, header::VARY, before.as_deref().unwrap_or(what));
}

/// The rules that hold where a request goes; those of nobody where there is no such container.
async fn rules(call: &Call) -> Rules {
    match call.store.find_container(&call.project, &call.container).await {
        Ok(container) => Rules::of(&container.info, call.store.config()),
        Err(_) => Rules::of(&ContainerInfo::default(), call.store.config()),
    }
}

/// Answers `OPTIONS`: a preflight where it names an origin, else what may be done here.
pub(super) async fn options(call: &Call) -> Response {
    let methods = methods(call);
    let allowed = join(methods.iter().copied());
    let mut out = HeaderMap::new();
    set(&mut out, header::ALLOW, &allowed);
    let Some(origin) = call.header("origin").filter(|_| !call.container.is_empty()) else {
        return (StatusCode::OK, out, "").into_response();
    };
    let rules = rules(call).await;
    let wanted = call.header("access-control-request-method").unwrap_or_default();
    if !rules.allow(origin) || !methods.contains(&wanted) {
        return (StatusCode::UNAUTHORIZED, out, "").into_response();
    }
    rules.admit(&mut out, origin);
    if let Some(seconds) = &rules.max_age {
        set(&mut out, header::ACCESS_CONTROL_MAX_AGE, seconds);
    }
    set(&mut out, header::ACCESS_CONTROL_ALLOW_METHODS, &allowed);
    let headers = call.header("access-control-request-headers").unwrap_or_default();
    let headers: Vec<&str> = headers.split(',').map(str::trim).filter(|h| !h.is_empty()).collect();
    if !headers.is_empty() {
        set(&mut out, header::ACCESS_CONTROL_ALLOW_HEADERS, &headers.join(", "));
        vary(&mut out, "Access-Control-Request-Headers");
    }
    (StatusCode::OK, out, "").into_response()
}

/// A request of a page: its origin, and the rules that hold for it.
pub(super) struct Page {
    origin: String,
    rules: Rules,
}

impl Page {
    /// `None` where no page asks, or for an account, which has no rules.
    pub(super) async fn of(call: &Call) -> Option<Page> {
        let origin = call.header("origin").filter(|_| !call.container.is_empty())?.to_owned();
        Some(Page { origin, rules: rules(call).await })
    }

    pub(super) fn mark(&self, response: &mut Response) {
        self.rules.mark(response.headers_mut(), &self.origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(meta: &[(&str, &str)]) -> Rules {
        let mut info = ContainerInfo::default();
        for (k, v) in meta {
            info.meta.insert((*k).to_owned(), (*v).to_owned());
        }
        Rules::of(&info, &crate::Config::default())
    }

    fn marked(rules: &Rules, origin: &str) -> HeaderMap {
        let mut out = HeaderMap::new();
        out.insert("x-object-meta-colour", HeaderValue::from_static("red"));
        rules.mark(&mut out, origin);
        out
    }

    #[test]
    fn an_origin_is_named_or_not() {
        let none = rules(&[]);
        assert!(!marked(&none, "http://a").contains_key("access-control-allow-origin"));
        let all = rules(&[("access-control-allow-origin", "*")]);
        assert_eq!(marked(&all, "http://a")["access-control-allow-origin"], "*");
        let two = rules(&[
            ("access-control-allow-origin", "http://a  https://b:8443"),
            ("access-control-expose-headers", "X-Extra x-more"),
        ]);
        let out = marked(&two, "https://b:8443");
        assert_eq!(out["access-control-allow-origin"], "https://b:8443");
        assert_eq!(out["vary"], "Origin");
        let exposed = out["access-control-expose-headers"].to_str().unwrap();
        for name in ["etag", "x-trans-id", "x-object-meta-colour", "x-extra", "x-more"] {
            assert!(exposed.split(", ").any(|e| e == name), "{name} in {exposed}");
        }
        // Whole origins, not their beginnings.
        assert!(!two.allow("http://a.evil"));
        assert!(!two.allow("https://b"));
    }

    proptest! {
        #[test]
        fn whatever_is_said_no_other_origin_gets_in(said in "[a-z:/. ]{0,40}", origin in "[a-z:/.]{1,12}") {
            let rules = rules(&[("access-control-allow-origin", &said)]);
            let named = said.split(' ').any(|o| o == origin);
            prop_assert_eq!(rules.allow(&origin), named);
        }
    }
}
