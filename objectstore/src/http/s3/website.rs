//! Buckets as web sites: the configuration, and serving it.
//!
//! A site is reached by a host name below one of `s3_website_hosts`, with GET and HEAD, by nobody in particular: what it
//! shows must be open to everybody, by ACL or by policy. Its errors are pages, its folders end in an index.

use super::config;
use super::error::{S3Error, S3Result, malformed_xml, method_not_allowed};
use super::xml::{Node, Xml, escape_into};
use super::{Call, Payload, bare, object, virtual_bucket, xml_reply};
use crate::access::{Access, Asks, GET};
use crate::http::facts::RequestFacts;
use crate::sharing::{RoutingRule, Website};
use crate::{Config, ObjectStore};
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use percent_encoding::percent_decode_str;
use std::sync::{Arc, Mutex};

const MOST_RULES: usize = 50;
/// Where an object's place is another one's, or another site's.
pub(super) const ELSEWHERE: &str = "x-amz-website-redirect-location";

pub(super) async fn answer(call: &Call) -> S3Result<Response> {
    let container = config::container(call).await?;
    match call.method.as_str() {
        "GET" => container.info.sharing.website.as_ref().map(show).ok_or_else(not_configured),
        "PUT" => {
            let site = parse(&call.small_body().await?)?;
            config::share(call, &container, |s| s.website = Some(site.clone())).await?;
            Ok(bare(StatusCode::OK))
        }
        "DELETE" => {
            config::share(call, &container, |s| s.website = None).await?;
            Ok(bare(StatusCode::NO_CONTENT))
        }
        _ => Err(method_not_allowed()),
    }
}

fn not_configured() -> S3Error {
    let text = "The specified bucket does not have a website configuration";
    S3Error::not_configured("NoSuchWebsiteConfiguration", text)
}

pub(super) fn parse(body: &[u8]) -> S3Result<Website> {
    let node = Node::parse(body, "WebsiteConfiguration")?;
    let filled = |node: Option<&Node>, name: &str| {
        node.and_then(|n| n.value(name)).map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
    };
    if let Some(to) = node.child("RedirectAllRequestsTo") {
        if node.children.len() > 1 {
            return Err(S3Error::invalid_request(
                "RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules.",
            ));
        }
        let host = filled(Some(to), "HostName").ok_or_else(malformed_xml)?;
        let redirect_all = Some((host, protocol(filled(Some(to), "Protocol"))?));
        return Ok(Website { redirect_all, ..Website::default() });
    }
    let index = filled(node.child("IndexDocument"), "Suffix").ok_or_else(|| {
        S3Error::invalid_argument(
            "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty",
        )
        .with("ArgumentName", "IndexDocument")
    })?;
    if index.contains('/') {
        return Err(S3Error::invalid_argument("The IndexDocument Suffix is not well formed")
            .with("ArgumentName", "IndexDocument")
            .with("ArgumentValue", index));
    }
    let error = match node.child("ErrorDocument") {
        None => String::new(),
        some => filled(some, "Key").ok_or_else(malformed_xml)?,
    };
    let rules = node.child("RoutingRules").into_iter().flat_map(|r| r.all("RoutingRule"));
    let rules = rules.map(rule).collect::<S3Result<Vec<_>>>()?;
    if rules.len() > MOST_RULES {
        return Err(malformed_xml());
    }
    Ok(Website { redirect_all: None, index, error, rules })
}

fn protocol(text: Option<String>) -> S3Result<Option<String>> {
    match text.as_deref() {
        None | Some("http" | "https") => Ok(text),
        Some(_) => Err(S3Error::invalid_request(
            "Invalid protocol, protocol can be http or https. If not defined the protocol will be selected automatically.",
        )),
    }
}

fn rule(node: &Node) -> S3Result<RoutingRule> {
    let text = |node: Option<&Node>, name: &str| node.and_then(|n| n.value(name)).map(str::to_owned);
    let (when, to) = (node.child("Condition"), node.child("Redirect"));
    if to.is_none_or(|t| t.children.is_empty()) || when.is_some_and(|w| w.children.is_empty()) {
        return Err(malformed_xml());
    }
    let code = |text: Option<String>, is_valid: fn(u16) -> bool, what: &str, valid: &str| match text {
        None => Ok(None),
        Some(text) => text.trim().parse().ok().filter(|c| is_valid(*c)).map(Some).ok_or_else(|| {
            let text =
                format!("The provided HTTP {what} code ({text}) is not valid. Valid codes are {valid}.");
            S3Error::invalid_request(text)
        }),
    };
    let is_error = |c| (400..600).contains(&c);
    let redirects = |c| matches!(c, 301..=305 | 307 | 308);
    let rule = RoutingRule {
        prefix: text(when, "KeyPrefixEquals"),
        error_code: code(text(when, "HttpErrorCodeReturnedEquals"), is_error, "error", "4XX or 5XX")?,
        host: text(to, "HostName"),
        protocol: protocol(text(to, "Protocol"))?,
        replace_prefix: text(to, "ReplaceKeyPrefixWith"),
        replace_key: text(to, "ReplaceKeyWith"),
        status: code(text(to, "HttpRedirectCode"), redirects, "redirect", "3XX except 300")?,
    };
    if rule.replace_key.is_some() && rule.replace_prefix.is_some() {
        return Err(S3Error::invalid_request(
            "You can only define ReplaceKeyPrefix or ReplaceKey but not both.",
        ));
    }
    Ok(rule)
}

fn show(site: &Website) -> Response {
    let mut xml = Xml::new();
    xml.root("WebsiteConfiguration");
    if let Some((host, protocol)) = &site.redirect_all {
        xml.open("RedirectAllRequestsTo").text("HostName", host).text_opt("Protocol", protocol.as_deref());
        xml.close("RedirectAllRequestsTo");
    } else {
        xml.open("IndexDocument").text("Suffix", &site.index).close("IndexDocument");
    }
    if !site.error.is_empty() {
        xml.open("ErrorDocument").text("Key", &site.error).close("ErrorDocument");
    }
    if !site.rules.is_empty() {
        xml.open("RoutingRules");
        for rule in &site.rules {
            let number = |n: Option<u16>| n.map(|n| n.to_string());
            xml.open("RoutingRule");
            if rule.prefix.is_some() || rule.error_code.is_some() {
                xml.open("Condition").text_opt("KeyPrefixEquals", rule.prefix.as_deref());
                xml.text_opt("HttpErrorCodeReturnedEquals", number(rule.error_code).as_deref());
                xml.close("Condition");
            }
            xml.open("Redirect")
                .text_opt("Protocol", rule.protocol.as_deref())
                .text_opt("HostName", rule.host.as_deref())
                .text_opt("ReplaceKeyPrefixWith", rule.replace_prefix.as_deref())
                .text_opt("ReplaceKeyWith", rule.replace_key.as_deref())
                .text_opt("HttpRedirectCode", number(rule.status).as_deref())
                .close("Redirect");
            xml.close("RoutingRule");
        }
        xml.close("RoutingRules");
    }
    xml.close("WebsiteConfiguration");
    xml_reply(StatusCode::OK, xml)
}

/// The bucket whose site a request goes to.
pub(super) fn bucket_of(headers: &HeaderMap, config: &Config) -> Option<String> {
    virtual_bucket(headers, &config.s3_website_hosts)
}

/// A request to a site.
struct Visit {
    store: ObjectStore,
    parts: Parts,
    bucket: String,
    key: String,
}

pub(super) async fn serve(store: ObjectStore, request: Request, bucket: String) -> Response {
    let (parts, _) = request.into_parts();
    let path = parts.uri.path();
    let key = percent_decode_str(path.strip_prefix('/').unwrap_or(path)).decode_utf8_lossy().into_owned();
    let head = parts.method == Method::HEAD;
    let visit = Visit { store, parts, bucket, key };
    match visit.answer().await {
        Ok(response) => response,
        Err(e) => page(&e, head),
    }
}

impl Visit {
    async fn answer(&self) -> S3Result<Response> {
        if !matches!(self.parts.method, Method::GET | Method::HEAD) {
            return Err(method_not_allowed());
        }
        let container = self.store.find_bucket(&Access::default(), &self.bucket).await?;
        let site = container.info.sharing.website.clone().ok_or_else(not_configured)?;
        if let Some((host, protocol)) = &site.redirect_all {
            let protocol = protocol.as_deref().unwrap_or("http");
            let to = format!("{protocol}://{host}{}", self.parts.uri.path());
            return Ok(moved(StatusCode::MOVED_PERMANENTLY, &to));
        }
        if let Some(rule) = find(&site.rules, &self.key, None) {
            return Ok(self.follow(rule));
        }
        let folder = self.key.is_empty() || self.key.ends_with('/');
        let key = if folder { format!("{}{}", self.key, site.index) } else { self.key.clone() };
        let e = match self.read(&key, self.parts.headers.clone()).await {
            Ok(response) => return Ok(elsewhere(response)),
            Err(e) => e,
        };
        let status = e.status.as_u16();
        if matches!(status, 403 | 404) && !folder {
            let index = format!("{}/{}", self.key, site.index);
            if self.read(&index, HeaderMap::new()).await.is_ok() {
                return Ok(moved(StatusCode::FOUND, &format!("{}/", self.parts.uri.path())));
            }
        }
        if let Some(rule) = find(&site.rules, &key, Some(status)) {
            return Ok(self.follow(rule));
        }
        if !site.error.is_empty() && (400..500).contains(&status) {
            // The whole page, whatever part of what is not there was asked for.
            if let Ok(mut response) = self.read(&site.error, HeaderMap::new()).await {
                *response.status_mut() = e.status;
                return Ok(response);
            }
        }
        Err(e)
    }

    /// Reads an object as nobody in particular.
    async fn read(&self, key: &str, headers: HeaderMap) -> S3Result<Response> {
        let facts = Arc::new(RequestFacts::of(&self.parts, &[], self.store.config()));
        let asks = Asks { action: GET, key: key.to_owned(), facts: facts.clone(), tags: Vec::new() };
        let referer = super::text(&self.parts.headers, "referer").map(str::to_owned);
        let access = Access { referer, asks: Some(asks), ..Access::default() };
        let call = Call {
            store: self.store.clone(),
            access,
            method: self.parts.method.clone(),
            bucket: self.bucket.clone(),
            key: key.to_owned(),
            query: Vec::new(),
            headers,
            facts,
            body: Mutex::new(Some((Body::empty(), Payload::Unsigned))),
        };
        object::read(call).await
    }

    fn follow(&self, rule: &RoutingRule) -> Response {
        let key = match (&rule.replace_key, &rule.replace_prefix) {
            (Some(key), _) => key.clone(),
            (None, Some(prefix)) => {
                let rest = self.key.strip_prefix(rule.prefix.as_deref().unwrap_or_default());
                format!("{prefix}{}", rest.unwrap_or(&self.key))
            }
            (None, None) => self.key.clone(),
        };
        let mut path = String::from("/");
        super::sigv4::encode(&mut path, key.as_bytes(), true);
        let own = super::text(&self.parts.headers, "host").unwrap_or_default();
        let host = rule.host.as_deref().unwrap_or(own);
        let to = format!("{}://{host}{path}", rule.protocol.as_deref().unwrap_or("http"));
        let status = rule.status.and_then(|s| StatusCode::from_u16(s).ok());
        moved(status.unwrap_or(StatusCode::MOVED_PERMANENTLY), &to)
    }
}

/// The first rule that is for a key, and for an error, if there was one.
fn find<'a>(rules: &'a [RoutingRule], key: &str, error: Option<u16>) -> Option<&'a RoutingRule> {
    rules.iter().find(|r| r.error_code == error && r.prefix.as_deref().is_none_or(|p| key.starts_with(p)))
}

/// An object that says that it is elsewhere.
fn elsewhere(response: Response) -> Response {
    match response.headers().get(ELSEWHERE).and_then(|v| v.to_str().ok()) {
        Some(to) => moved(StatusCode::MOVED_PERMANENTLY, to),
        None => response,
    }
}

/// Checks where an object that is being written says that it is.
pub(super) fn check_elsewhere(to: &str) -> S3Result<()> {
    let ok = ["/", "http://", "https://"].iter().any(|p| to.starts_with(p)) && to.len() <= 2048;
    if ok {
        return Ok(());
    }
    let text = "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.";
    Err(S3Error { code: "InvalidRedirectLocation", ..S3Error::invalid_argument(text) })
}

fn moved(status: StatusCode, to: &str) -> Response {
    match HeaderValue::from_bytes(to.as_bytes()) {
        Ok(to) => (status, [(header::LOCATION, to)]).into_response(),
        Err(_) => bare(StatusCode::BAD_REQUEST),
    }
}

/// An error as a page.
fn page(e: &S3Error, head: bool) -> Response {
    let title = format!("{} {}", e.status.as_u16(), e.status.canonical_reason().unwrap_or_default());
    let (mut code, mut message) = (String::new(), String::new());
    escape_into(&mut code, e.code);
    escape_into(&mut message, &e.message);
    let text = format!(
        "<html>\n<head><title>{title}</title></head>\n<body>\n<h1>{title}</h1>\n<ul>\n<li>Code: {code}</li>\n\
         <li>Message: {message}</li>\n</ul>\n<hr/>\n</body>\n</html>\n"
    );
    let out = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    let body = if head { String::new() } else { text };
    (e.status, out, [("x-amz-error-code", e.code)], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(inside: &str) -> S3Result<Website> {
        parse(format!("<WebsiteConfiguration>{inside}</WebsiteConfiguration>").as_bytes())
    }

    #[test]
    fn configurations() {
        let index = "<IndexDocument><Suffix>i.html</Suffix></IndexDocument>";
        let site = read(&format!(
            "{index}<ErrorDocument><Key>e.html</Key></ErrorDocument><RoutingRules><RoutingRule><Condition>\
             <KeyPrefixEquals>a/</KeyPrefixEquals></Condition><Redirect><ReplaceKeyPrefixWith>b/</ReplaceKeyPrefixWith>\
             </Redirect></RoutingRule></RoutingRules>"
        ))
        .unwrap();
        assert_eq!((site.index.as_str(), site.error.as_str(), site.rules.len()), ("i.html", "e.html", 1));
        assert!(find(&site.rules, "a/x", None).is_some() && find(&site.rules, "a/x", Some(404)).is_none());
        assert!(find(&site.rules, "c", None).is_none());
        let all = "<RedirectAllRequestsTo><HostName>h</HostName></RedirectAllRequestsTo>";
        assert_eq!(read(all).unwrap().redirect_all, Some(("h".into(), None)));
        assert!(read(&format!("{all}{index}")).is_err());
        assert!(read("").is_err() && read("<IndexDocument><Suffix>a/b</Suffix></IndexDocument>").is_err());
        let rule = |inside: &str| {
            read(&format!("{index}<RoutingRules><RoutingRule>{inside}</RoutingRule></RoutingRules>")).is_err()
        };
        assert!(rule("") && rule("<Redirect/>"));
        assert!(rule("<Redirect><HttpRedirectCode>200</HttpRedirectCode></Redirect>"));
        assert!(rule("<Redirect><Protocol>ftp</Protocol></Redirect>"));
        assert!(check_elsewhere("/x").is_ok() && check_elsewhere("javascript:x").is_err());
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise: Vec<u8>) {
            let _ = parse(&noise);
        }
    }
}
