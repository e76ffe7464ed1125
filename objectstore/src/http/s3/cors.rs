//! CORS at S3's door: a bucket's rules, the preflights that ask for them, and the marks on answers.
//!
//! A preflight carries no signature and is answered before anybody is asked for one. An answer of any kind is marked
//! as the first rule that fits says.

use super::error::{self, S3Error, S3Result, malformed_xml, method_not_allowed};
use super::xml::{Node, Xml};
use super::{Call, bare, config, xml_reply};
use crate::sharing::CorsRule;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// Most rules of a bucket, the characters of a rule's name, bytes of the document.
const MOST_RULES: usize = 100;
const LONGEST_ID: usize = 255;
const LARGEST: usize = 64 << 10;
const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];

pub(super) async fn answer(call: &Call) -> S3Result<Response> {
    let container = config::container(call).await?;
    match call.method.as_str() {
        "GET" if container.info.sharing.cors.is_empty() => {
            Err(S3Error::not_configured("NoSuchCORSConfiguration", "The CORS configuration does not exist"))
        }
        "GET" => Ok(show(&container.info.sharing.cors)),
        "PUT" => {
            let rules = parse(&call.small_body().await?)?;
            config::share(call, &container, |s| s.cors.clone_from(&rules)).await?;
            Ok(bare(StatusCode::OK))
        }
        "DELETE" => {
            config::share(call, &container, |s| s.cors.clear()).await?;
            Ok(bare(StatusCode::NO_CONTENT))
        }
        _ => Err(method_not_allowed()),
    }
}

pub(super) fn parse(body: &[u8]) -> S3Result<Vec<CorsRule>> {
    if body.len() > LARGEST {
        return Err(malformed_xml());
    }
    let node = Node::parse(body, "CORSConfiguration")?;
    let rules: Vec<CorsRule> = node.all("CORSRule").map(rule).collect::<S3Result<_>>()?;
    if rules.is_empty() || rules.len() > MOST_RULES {
        return Err(malformed_xml());
    }
    Ok(rules)
}

fn rule(node: &Node) -> S3Result<CorsRule> {
    let texts = |name: &'static str| node.all(name).map(|n| n.text.trim().to_owned()).collect::<Vec<_>>();
    let known = ["ID", "AllowedHeader", "AllowedMethod", "AllowedOrigin", "ExposeHeader", "MaxAgeSeconds"];
    if node.children.iter().any(|c| !known.contains(&c.name.as_str())) {
        return Err(malformed_xml());
    }
    let max_age = match node.value("MaxAgeSeconds") {
        None => None,
        Some(text) => Some(text.trim().parse().map_err(|_| malformed_xml())?),
    };
    let rule = CorsRule {
        id: node.value("ID").unwrap_or_default().to_owned(),
        origins: texts("AllowedOrigin"),
        methods: texts("AllowedMethod"),
        headers: texts("AllowedHeader"),
        exposed: texts("ExposeHeader"),
        max_age,
    };
    if rule.origins.is_empty() || rule.methods.is_empty() || rule.id.chars().count() > LONGEST_ID {
        return Err(malformed_xml());
    }
    if let Some(method) = rule.methods.iter().find(|m| !METHODS.contains(&m.as_str())) {
        return Err(S3Error::invalid_request(format!(
            "Found unsupported HTTP method in CORS config. Unsupported method is {method}"
        )));
    }
    for (what, list) in [("AllowedOrigin", &rule.origins), ("AllowedHeader", &rule.headers)] {
        if let Some(text) = list.iter().find(|t| t.matches('*').count() > 1) {
            return Err(S3Error::invalid_request(format!(
                "{what} \"{text}\" can not have more than one wildcard."
            )));
        }
    }
    if let Some(text) = rule.exposed.iter().find(|t| t.contains('*')) {
        return Err(S3Error::invalid_request(format!(
            "ExposeHeader \"{text}\" contains wildcard. We currently do not support wildcard for ExposeHeader."
        )));
    }
    Ok(rule)
}

fn show(rules: &[CorsRule]) -> Response {
    let mut xml = Xml::new();
    xml.root("CORSConfiguration");
    for rule in rules {
        xml.open("CORSRule");
        if !rule.id.is_empty() {
            xml.text("ID", &rule.id);
        }
        let lists = [
            ("AllowedHeader", &rule.headers),
            ("AllowedMethod", &rule.methods),
            ("AllowedOrigin", &rule.origins),
            ("ExposeHeader", &rule.exposed),
        ];
        for (name, list) in lists {
            for value in list {
                xml.text(name, value);
            }
        }
        if let Some(seconds) = rule.max_age {
            xml.text("MaxAgeSeconds", &seconds.to_string());
        }
        xml.close("CORSRule");
    }
    xml.close("CORSConfiguration");
    xml_reply(StatusCode::OK, xml)
}

/// A preflight's answer.
pub(super) async fn preflight(call: &Call) -> S3Result<Response> {
    let bad = |text: &str| S3Error { code: "BadRequest", ..S3Error::invalid_argument(text) };
    let origin = call
        .header("origin")
        .ok_or_else(|| bad("Insufficient information. Origin request header needed."))?;
    let method = call.header("access-control-request-method");
    let method = method.filter(|m| METHODS.contains(m)).ok_or_else(|| {
        bad(&format!("Invalid Access-Control-Request-Method: {}", method.unwrap_or("null")))
    })?;
    let kind = if call.key.is_empty() { "BUCKET" } else { "OBJECT" };
    let refused = |text: &str| {
        S3Error { code: "AccessForbidden", message: text.to_owned(), ..error::access_denied() }
            .with("Method", method)
            .with("ResourceType", kind)
    };
    let container = call.store.find_bucket(&call.access, &call.bucket).await?;
    let rules = &container.info.sharing.cors;
    if rules.is_empty() {
        return Err(refused("CORSResponse: CORS is not enabled for this bucket."));
    }
    let headers: Vec<String> = call
        .header("access-control-request-headers")
        .unwrap_or_default()
        .split(',')
        .map(|h| h.trim().to_ascii_lowercase())
        .filter(|h| !h.is_empty())
        .collect();
    let rule = rules.iter().find(|r| r.admits(origin, method, &headers)).ok_or_else(|| {
        refused(
            "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.",
        )
    })?;
    let mut out = HeaderMap::new();
    mark(rule, origin, &mut out);
    if !headers.is_empty() {
        set(&mut out, header::ACCESS_CONTROL_ALLOW_HEADERS, &headers.join(", "));
    }
    Ok((StatusCode::OK, out).into_response())
}

/// A request of a page, as far as its answer's marks depend on it.
pub(super) struct Page {
    origin: String,
    method: String,
}

impl Page {
    /// `None` where no page asks.
    pub(super) fn of(method: &http::Method, headers: &HeaderMap) -> Option<Page> {
        let origin = headers.get(header::ORIGIN)?.to_str().ok()?.to_owned();
        let asked = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).and_then(|m| m.to_str().ok());
        let method = asked.filter(|_| method != http::Method::OPTIONS).unwrap_or(method.as_str());
        Some(Page { origin, method: method.to_owned() })
    }

    pub(super) fn mark(&self, rules: &[CorsRule], response: &mut Response) {
        let rule = rules.iter().find(|r| r.admits(&self.origin, &self.method, &[]));
        if let Some(rule) = rule.filter(|_| self.method != "OPTIONS") {
            mark(rule, &self.origin, response.headers_mut());
        }
    }
}

/// Says in an answer what a rule allows a page.
fn mark(rule: &CorsRule, origin: &str, out: &mut HeaderMap) {
    if rule.origins.iter().any(|o| o == "*") {
        set(out, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    } else {
        set(out, header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        set(out, header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    }
    set(out, header::ACCESS_CONTROL_ALLOW_METHODS, &rule.methods.join(", "));
    if !rule.exposed.is_empty() {
        set(out, header::ACCESS_CONTROL_EXPOSE_HEADERS, &rule.exposed.join(", "));
    }
    if let Some(seconds) = rule.max_age {
        set(out, header::ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
    }
    set(out, header::VARY, "Origin, Access-Control-Request-Headers, Access-Control-Request-Method");
}

fn set(out: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        out.insert(name, value);
    }
}

impl CorsRule {
    /// Whether the rule is for a page of `origin` that wants `method` with these headers (in lower case).
    fn admits(&self, origin: &str, method: &str, headers: &[String]) -> bool {
        self.origins.iter().any(|o| fits(o, origin))
            && self.methods.iter().any(|m| m == method)
            && headers.iter().all(|h| self.headers.iter().any(|p| fits(&p.to_ascii_lowercase(), h)))
    }
}

/// Whether a text is what a pattern with at most one `*` says.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => {
            text.len() >= head.len() + tail.len() && text.starts_with(head) && text.ends_with(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn doc(rule: &str) -> String {
        format!("<CORSConfiguration><CORSRule>{rule}</CORSRule></CORSConfiguration>")
    }

    fn code(rule: &str) -> Option<&'static str> {
        parse(doc(rule).as_bytes()).err().map(|e| e.code)
    }

    #[test]
    fn rules_are_checked() {
        let get = "<AllowedMethod>GET</AllowedMethod>";
        let a = "<AllowedOrigin>http://a</AllowedOrigin>";
        assert_eq!(code(&format!("{get}{a}")), None);
        assert_eq!(code(get), Some("MalformedXML"));
        assert_eq!(code(a), Some("MalformedXML"));
        assert_eq!(code(&format!("{a}<AllowedMethod>PATCH</AllowedMethod>")), Some("InvalidRequest"));
        assert_eq!(code(&format!("{get}<AllowedOrigin>*x*</AllowedOrigin>")), Some("InvalidRequest"));
        assert_eq!(code(&format!("{get}{a}<AllowedHeader>*x*</AllowedHeader>")), Some("InvalidRequest"));
        assert_eq!(code(&format!("{get}{a}<ExposeHeader>x-*</ExposeHeader>")), Some("InvalidRequest"));
        assert_eq!(code(&format!("{get}{a}<MaxAgeSeconds>soon</MaxAgeSeconds>")), Some("MalformedXML"));
        assert_eq!(code(&format!("{get}{a}<Other>1</Other>")), Some("MalformedXML"));
        assert!(parse(b"<CORSConfiguration/>").is_err());
        let many = format!("<CORSRule>{get}{a}</CORSRule>").repeat(101);
        assert!(parse(format!("<CORSConfiguration>{many}</CORSConfiguration>").as_bytes()).is_err());
    }

    #[test]
    fn a_rule_admits() {
        let rule = CorsRule {
            origins: vec!["http://*.example.org".into(), "http://exact".into()],
            methods: vec!["GET".into()],
            headers: vec!["X-Amz-*".into(), "content-type".into()],
            ..CorsRule::default()
        };
        let admits = |o: &str, m: &str, h: &[&str]| {
            rule.admits(o, m, &h.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>())
        };
        assert!(admits("http://www.example.org", "GET", &["x-amz-date", "content-type"]));
        assert!(admits("http://exact", "GET", &[]));
        assert!(!admits("http://example.org", "GET", &[]));
        assert!(!admits("http://exact", "PUT", &[]));
        assert!(!admits("http://exact", "GET", &["authorization"]));
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise: Vec<u8>) {
            let _ = parse(&noise);
        }

        #[test]
        fn a_pattern_fits_what_is_made_of_it(head in "[a-z]{0,5}", mid in "[a-z.]{0,5}", tail in "[a-z]{0,5}") {
            let pattern = format!("{head}*{tail}");
            let text = format!("{head}{mid}{tail}");
            prop_assert!(fits(&pattern, &text));
            let one_less = &text[..text.len().saturating_sub(mid.len() + 1)];
            prop_assert!(one_less.len() == text.len() - mid.len() || !fits(&pattern, one_less));
        }

        #[test]
        fn what_was_put_is_shown(origin in "[a-z:/]{1,9}", header in "[a-z-]{1,9}", age in 0u32..100_000) {
            let rule = CorsRule {
                id: "one".into(), origins: vec![origin], methods: vec!["PUT".into()], headers: vec![header.clone()],
                exposed: vec![header], max_age: Some(age),
            };
            let texts = |name: &str, list: &[String]| -> String {
                list.iter().map(|v| format!("<{name}>{v}</{name}>")).collect()
            };
            let text = doc(&format!("<ID>one</ID>{}{}{}{}<MaxAgeSeconds>{age}</MaxAgeSeconds>",
                texts("AllowedOrigin", &rule.origins), texts("AllowedMethod", &rule.methods),
                texts("AllowedHeader", &rule.headers), texts("ExposeHeader", &rule.exposed)));
            prop_assert_eq!(parse(text.as_bytes()).unwrap(), vec![rule]);
        }
    }
}
