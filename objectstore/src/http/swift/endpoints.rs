//! `/endpoints/…`: where an object lies, as upstream's list_endpoints middleware tells it to programs that look for
//! locality (Hadoop, Spark). Off by default, and then there is no such path.
//!
//! The form is upstream's: `http://<address>/<device>/<partition>/<account>/<container>/<object>`. The address is the
//! OSD's, the device its name, the partition the placement group: that is where the first bytes are, and what such
//! programs read is the host. No HTTP is spoken there. An account is rows of a database and lies nowhere: its list is
//! empty. As upstream's, it asks for no token: only for listeners that nobody else reaches.

use super::error::{SwiftError, SwiftResult};
use crate::http::encode;
use crate::{ObjectStore, reseller};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::json;

const PATH: &str = "/endpoints/";

/// What is asked about.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// The form of the answer: 1 or 2.
    version: u8,
    account: String,
    container: Option<String>,
    object: Option<String>,
}

fn parse(path: &str) -> SwiftResult<Asked> {
    let no_account = || SwiftError::bad_request("No account specified");
    let mut rest = path;
    let (first, behind) = rest.split_once('/').unwrap_or((rest, ""));
    let version = match first {
        "v1" | "v1.0" => Some(1),
        "v2" | "v2.0" => Some(2),
        // It looks more like a version than like an account.
        v if v.starts_with('v') && !v.contains('_') => {
            return Err(SwiftError::bad_request(format!("Unsupported version '{v}'")));
        }
        _ => None,
    };
    if version.is_some() {
        rest = behind;
    }
    let mut parts = rest.splitn(3, '/').map(|part| {
        String::from_utf8(percent_decode_str(part).collect())
            .map_err(|_| SwiftError::precondition("Invalid UTF8 or contains NULL"))
    });
    let mut part = || parts.next().transpose().map(|p| p.filter(|p| !p.is_empty()));
    let (account, container, object) = (part()?, part()?, part()?);
    let account = account.ok_or_else(no_account)?;
    if container.is_none() && object.is_some() {
        return Err(no_account());
    }
    Ok(Asked { version: version.unwrap_or(1), account, container, object })
}

pub(super) async fn answer(State(store): State<ObjectStore>, request: Request) -> Response {
    let id = super::transaction_id();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = match told(&store, &method, &path).await {
        Ok(response) => response,
        Err(e) => e.respond(&id, false),
    };
    super::stamp(&mut response, &id);
    response
}

async fn told(store: &ObjectStore, method: &Method, path: &str) -> SwiftResult<Response> {
    if method != Method::GET {
        return Err(SwiftError::method_not_allowed("GET"));
    }
    let asked = parse(path.strip_prefix(PATH).unwrap_or_default())?;
    let key = reseller::key(&asked.account).filter(|key| reseller::is_known(store.config(), key));
    let key = key.ok_or_else(|| SwiftError::of(StatusCode::NOT_FOUND))?;
    let (mut endpoints, mut headers) = (Vec::new(), json!({}));
    if let Some(container) = &asked.container {
        let mut path = String::new();
        let object = asked.object.as_ref().map(|o| format!("/{o}")).unwrap_or_default();
        encode(&mut path, format!("{}/{container}{object}", asked.account).as_bytes(), true);
        for place in store.locations(&key, container, asked.object.as_deref()).await? {
            let (address, device, group) = (place.address, place.device, place.placement_group);
            endpoints.push(format!("http://{address}/{device}/{group}/{path}"));
        }
        if asked.object.is_some() {
            let policy = store.find_container(&key, container).await?.policy.clone();
            let index = store.policies().iter().position(|p| p.id == policy.id).unwrap_or_default();
            headers["X-Backend-Storage-Policy-Index"] = index.to_string().into();
        }
    }
    let text = match asked.version {
        1 => json!(endpoints),
        _ => json!({"endpoints": endpoints, "headers": headers}),
    };
    Ok(([(CONTENT_TYPE, "application/json")], text.to_string()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let asked = |version, account: &str, container: Option<&str>, object: Option<&str>| Asked {
            version,
            account: account.into(),
            container: container.map(str::to_owned),
            object: object.map(str::to_owned),
        };
        let of = |path: &str| parse(path).map_err(|e| (e.status(), e.text()));
        assert_eq!(of("AUTH_a"), Ok(asked(1, "AUTH_a", None, None)));
        assert_eq!(of("v1/AUTH_a/c%20d/"), Ok(asked(1, "AUTH_a", Some("c d"), None)));
        assert_eq!(of("v2/AUTH_a/c/o/p"), Ok(asked(2, "AUTH_a", Some("c"), Some("o/p"))));
        assert_eq!(of("v_x/c/o"), Ok(asked(1, "v_x", Some("c"), Some("o"))));
        for bad in ["", "v1", "v2/", "/c/o", "AUTH_a//o"] {
            assert_eq!(of(bad), Err((400, "No account specified".into())), "{bad}");
        }
        assert_eq!(of("v3/AUTH_a"), Err((400, "Unsupported version 'v3'".into())));
    }
}
