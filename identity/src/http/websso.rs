//! Logins by browser, for dashboards: `/v3/auth/OS-FEDERATION/…/websso`, where the browser begins, and `redirect_uri`, where
//! the provider sends it back to. The last page posts the token to the dashboard.

use super::auth::{Source, issued};
use super::{Answer, App, IN_PATH};
use crate::Identity;
use crate::audit::{self, Claimed};
use crate::auth::{Entrance, Outcome};
use crate::federation::{Ended, LIFETIME_SECS};
use api::{Error, Origin, Path, Query, Routes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use percent_encoding::utf8_percent_encode;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::Arc;

const BACK: &str = "auth/OS-FEDERATION/redirect_uri";
const SUBMIT: &str = "document.forms[0].submit()";

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    let by_protocol = "/v3/auth/OS-FEDERATION/websso/{protocol_id}";
    let by_idp = "/v3/auth/OS-FEDERATION/identity_providers/{id}/protocols/{protocol_id}/websso";
    r.open(|r| {
        r.get(by_protocol, choose)
            .post(by_protocol, choose)
            .get(by_idp, begin)
            .post(by_idp, begin)
            .get("/v3/auth/OS-FEDERATION/redirect_uri", end)
    })
}

/// With one provider for the protocol the login begins there; of several the browser's user chooses one.
async fn choose(State(identity): App, Path(protocol): Path<String>, query: Query) -> Answer {
    let origin = identity.trusted_origin(&query).map_err(|e| identity.challenge(e))?;
    let choices = identity.login_choices(&protocol).await?;
    if let [idp] = &choices[..] {
        return to_provider(&identity, idp, &protocol, origin).await;
    }
    let mut links = String::new();
    for idp in &choices {
        let part = |s| utf8_percent_encode(s, IN_PATH).to_string();
        let path = format!("identity_providers/{}/protocols/{}/websso", part(idp), part(&protocol));
        let url = identity.url(&format!("auth/OS-FEDERATION/{path}?origin={}", part(&origin)));
        let _ = write!(links, "<li><a href=\"{}\">{}</a></li>", escaped(&url), escaped(idp));
    }
    Ok(page(&format!("<h1>Log in with</h1><ul>{links}</ul>")))
}

async fn begin(State(identity): App, Path((idp, protocol)): Path<(String, String)>, query: Query) -> Answer {
    let origin = identity.trusted_origin(&query).map_err(|e| identity.challenge(e))?;
    to_provider(&identity, &idp, &protocol, origin).await
}

async fn to_provider(identity: &Identity, idp: &str, protocol: &str, origin: String) -> Answer {
    let begun = identity.begin_login(idp, protocol, origin).await?;
    let cookie = identity.login_cookie(&begun.state, &begun.sealed, LIFETIME_SECS);
    let location = HeaderValue::from_str(begun.page.as_str()).map_err(Error::internal)?;
    let mut response = StatusCode::FOUND.into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    headers.insert(header::SET_COOKIE, HeaderValue::from_str(&cookie).map_err(Error::internal)?);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn end(
    State(identity): App,
    Source(from): Source,
    origin: Origin,
    headers: HeaderMap,
    query: Query,
) -> Answer {
    let state = query.get("state").filter(|s| s.len() == 32 && s.bytes().all(|b| b.is_ascii_hexdigit()));
    let state = state.ok_or_else(|| Error::bad_request("The request must have the state of a login."))?;
    let entrance = Entrance { from, receipt: None, catalogue: true };
    let Ended { idp, outcome } = identity.end_login(&query, cookie(&headers, &name(state)), &entrance).await;
    let origin = Origin { address: from, ..origin };
    audit::authenticated(&origin, Claimed::vouched_by(&idp), outcome.as_ref().map(|(o, _)| o.body()));
    let mut response = match outcome.map_err(|e| identity.challenge(e))? {
        (Outcome::Token(issued), dashboard) => page(&format!(
            "<form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"token\" value=\"{}\">\
             <noscript><input type=\"submit\" value=\"Continue\"></noscript></form><script>{SUBMIT}</script>",
            escaped(&dashboard),
            escaped(&issued.token)
        )),
        (receipt, _) => issued(receipt)?,
    };
    let spent = HeaderValue::from_str(&identity.login_cookie(state, "", 0)).map_err(Error::internal)?;
    response.headers_mut().insert(header::SET_COOKIE, spent);
    Ok(response)
}

/// The name of a login's cookie: a browser may be about several.
fn name(state: &str) -> String {
    format!("aquifer_login_{state}")
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|v| v.to_str().ok());
    let mut pairs = all.flat_map(|v| v.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(n, _)| *n == name).map(|(_, value)| value)
}

impl Identity {
    /// It goes only back to where a login ends, and comes along when the provider's page sends the browser there.
    fn login_cookie(&self, state: &str, value: &str, age: i64) -> String {
        let back = self.url(BACK);
        let secure = if back.starts_with("https:") { "; Secure" } else { "" };
        let path = url::Url::parse(&back).map(|u| u.path().to_owned()).unwrap_or_else(|_| "/".into());
        format!("{}={value}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}", name(state))
    }
}

/// A page that nothing is loaded into, that no other page frames, and that is not kept.
fn page(body: &str) -> Response {
    let hash = STANDARD.encode(Sha256::digest(SUBMIT));
    let policy =
        format!("default-src 'none'; script-src 'sha256-{hash}'; base-uri 'none'; frame-ancestors 'none'");
    let html = format!("<!DOCTYPE html><html><head><title>Log in</title></head><body>{body}</body></html>");
    let mut response = ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, &*policy),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_holds_is_text() {
        assert_eq!(escaped("https://a/?b=\"><script>'&"), "https://a/?b=&quot;&gt;&lt;script&gt;&#39;&amp;");
    }

    #[test]
    fn cookies() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=1; aquifer_login_x=abc=".parse().unwrap());
        headers.append(header::COOKIE, "b=2".parse().unwrap());
        assert_eq!(cookie(&headers, "aquifer_login_x"), Some("abc="));
        assert_eq!((cookie(&headers, "b"), cookie(&headers, "c")), (Some("2"), None));
    }
}
