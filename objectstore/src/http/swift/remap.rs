//! Domain remap: an account, and a container in it, in the host name (`container.AUTH_project.swift.example.org`), as
//! upstream's middleware has it. What comes by such a name is the path below it.

use crate::ObjectStore;
use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use http::{StatusCode, Uri, header};
use tower::ServiceExt;

impl ObjectStore {
    /// The same router, for requests that name an account in their host name too. To be put around all routes of the
    /// listener: which route a request is for is known only behind this.
    pub fn remapped(&self, router: Router) -> Router {
        let domains = self.config().swift_domains.clone();
        if domains.is_empty() {
            return router;
        }
        Router::new().fallback(move |request: Request| {
            let routed = rewritten(request, &domains).map(|request| router.clone().oneshot(request));
            async move {
                match routed {
                    Ok(routed) => match routed.await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    },
                    Err(status) => (status, "Bad domain in host header").into_response(),
                }
            }
        })
    }
}

fn rewritten(mut request: Request, domains: &[String]) -> Result<Request, StatusCode> {
    let host = request.headers().get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let Some(place) = place(host, domains)? else { return Ok(request) };
    let rest = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let mut parts = request.uri().clone().into_parts();
    let path = format!("/v1/{place}{rest}").parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    parts.path_and_query = Some(path);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| StatusCode::BAD_REQUEST)?;
    Ok(request)
}

/// `AUTH_project` or `AUTH_project/container`, if the host name names one.
fn place(host: &str, domains: &[String]) -> Result<Option<String>, StatusCode> {
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
    let prefix =
        account.get(..5).filter(|p| p.eq_ignore_ascii_case("auth_") || p.eq_ignore_ascii_case("auth-"));
    let project = match prefix {
        Some(_) => &account[5..],
        None => return Ok(None),
    };
    Ok(Some(match container {
        None => format!("AUTH_{project}"),
        Some(container) => format!("AUTH_{project}/{container}"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_in_host_names() {
        let domains = ["swift.example.org".to_owned()];
        let of = |host: &str| place(host, &domains);
        assert_eq!(of("swift.example.org:8080"), Ok(None));
        assert_eq!(of("elsewhere.org"), Ok(None));
        assert_eq!(of("evilswift.example.org"), Ok(None));
        assert_eq!(of("AUTH_p.swift.example.org:8080"), Ok(Some("AUTH_p".into())));
        assert_eq!(of("auth-p.Swift.Example.org"), Ok(Some("AUTH_p".into())));
        assert_eq!(of("c.auth_p.swift.example.org"), Ok(Some("AUTH_p/c".into())));
        assert_eq!(of("a.b.auth_p.swift.example.org"), Err(StatusCode::BAD_REQUEST));
        assert_eq!(of("www.swift.example.org"), Ok(None));
    }
}
