//! Domain remap: an account, and a container in it, in the host name (`container.AUTH_project.swift.example.org`), as
//! upstream's middleware has it. What comes by such a name is the path below it. Where that is switched on, a name which
//! the DNS calls another name of an account comes by that ([`super::cname`]).

use super::cname::{Found, Lookup};
use crate::{ObjectStore, reseller};
use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use http::{HeaderValue, StatusCode, Uri, header};
use percent_encoding::{CONTROLS, utf8_percent_encode};
use std::sync::Arc;
use tower::ServiceExt;

impl ObjectStore {
    /// The same router, for requests that name an account in their host name too. To be put around all routes of the
    /// listener: which route a request is for is known only behind this.
    pub fn remapped(&self, router: Router) -> Router {
        let domains = self.config().swift_domains.clone();
        let prefixes = reseller::prefixes(self.config());
        if domains.is_empty() {
            return router;
        }
        let around = Arc::new((domains, prefixes, Lookup::new(self.config())));
        Router::new().fallback(move |request: Request| {
            let (router, around) = (router.clone(), around.clone());
            async move {
                let (domains, prefixes, lookup) = &*around;
                let named = match lookup {
                    Some(lookup) => looked_up(request, lookup, domains).await,
                    None => Ok(request),
                };
                let bad = |status: StatusCode| (status, "Bad domain in host header".to_owned());
                let request = named.and_then(|r| rewritten(r, domains, prefixes).map_err(bad));
                match request {
                    Ok(request) => match router.oneshot(request).await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    },
                    Err(told) => told.into_response(),
                }
            }
        })
    }
}

/// The path that was asked for, of a request that stands for another.
#[derive(Debug, Clone)]
pub(super) struct Asked(pub(super) String);

/// A request with the host name that its own stands for.
async fn looked_up(
    mut request: Request,
    lookup: &Lookup,
    domains: &[String],
) -> Result<Request, (StatusCode, String)> {
    let host = request.headers().get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    match lookup.resolve(host, domains).await {
        Found::Own => {}
        Found::Nowhere(text) => return Err((StatusCode::BAD_REQUEST, text)),
        Found::Below(name) => {
            if let Ok(name) = HeaderValue::from_str(&name) {
                request.headers_mut().insert(header::HOST, name);
            }
        }
    }
    Ok(request)
}

fn rewritten(mut request: Request, domains: &[String], prefixes: &[String]) -> Result<Request, StatusCode> {
    let host = request.headers().get(header::HOST).map(|h| std::str::from_utf8(h.as_bytes()));
    let host = host.and_then(Result::ok).unwrap_or_default();
    let Some(place) = place(host, domains, prefixes)? else { return Ok(request) };
    let rest = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let asked = Asked(request.uri().path().to_owned());
    let mut parts = request.uri().clone().into_parts();
    let path = format!("/v1/{place}{rest}").parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    parts.path_and_query = Some(path);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| StatusCode::BAD_REQUEST)?;
    request.extensions_mut().insert(asked);
    Ok(request)
}

/// `AUTH_project` or `AUTH_project/container`, if the host name names one.
fn place(host: &str, domains: &[String], prefixes: &[String]) -> Result<Option<String>, StatusCode> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let lower = name.to_ascii_lowercase();
    let below = domains
        .iter()
        .find_map(|d| lower.strip_suffix(d.to_ascii_lowercase().as_str())?.strip_suffix('.').map(str::len));
    let Some(below) = below else { return Ok(None) };
    let (container, account) = match name[..below].split_once('.') {
        None => (None, &name[..below]),
        Some((_, account)) if account.contains('.') => return Err(StatusCode::BAD_REQUEST),
        Some((container, account)) => (Some(container), account),
    };
    // Host names know neither case nor underscores.
    let begins = |prefix: &&String| {
        let given = account.get(..prefix.len()).map(|p| p.replace('-', "_"));
        given.is_some_and(|p| p.eq_ignore_ascii_case(prefix.as_str()))
    };
    let Some(prefix) = prefixes.iter().find(begins) else { return Ok(None) };
    let project = &account[prefix.len()..];
    Ok(Some(match container {
        None => format!("{prefix}{project}"),
        // Names of hosts have no such characters, but clients send them.
        Some(container) => format!("{prefix}{project}/{}", utf8_percent_encode(container, CONTROLS)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_in_host_names() {
        let domains = ["swift.example.org".to_owned()];
        let prefixes = ["AUTH_".to_owned(), "SERVICE_".to_owned()];
        let of = |host: &str| place(host, &domains, &prefixes);
        assert_eq!(of("swift.example.org:8080"), Ok(None));
        assert_eq!(of("elsewhere.org"), Ok(None));
        assert_eq!(of("evilswift.example.org"), Ok(None));
        assert_eq!(of("AUTH_p.swift.example.org:8080"), Ok(Some("AUTH_p".into())));
        assert_eq!(of("auth-p.Swift.Example.org"), Ok(Some("AUTH_p".into())));
        assert_eq!(of("c.auth_p.swift.example.org"), Ok(Some("AUTH_p/c".into())));
        assert_eq!(of("c.service-p.swift.example.org"), Ok(Some("SERVICE_p/c".into())));
        assert_eq!(of("ü.auth_p.swift.example.org"), Ok(Some("AUTH_p/%C3%BC".into())));
        assert_eq!(of("a.b.auth_p.swift.example.org"), Err(StatusCode::BAD_REQUEST));
        assert_eq!(of("www.swift.example.org"), Ok(None));
    }
}
