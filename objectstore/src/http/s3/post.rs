//! Uploads by a web page's form (POST Object): a policy says what the form may upload, and is what is signed.
//!
//! The fields come first, then one file, which goes to storage as it arrives. Each field must be allowed by a condition
//! of the policy; without a policy the upload is nobody's, and the bucket must be open to everybody.

use super::auth;
use super::error::{self, S3Error, S3Result, access_denied};
use super::object::{checksum_headers, described};
use super::sigv4::{SigningKey, encode};
use super::xml::Xml;
use super::{Call, sse, tags, versions, xml_reply};
use crate::access::{Access, Asks, PUT};
use crate::http::content;
use crate::http::form::{self, Form, FormError};
use crate::http::relay::{paced, relay};
use crate::object::{Body, Condition};
use crate::{Need, ObjectError};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;
use std::sync::Arc;

/// Bytes of all fields together, and how many there may be.
const MOST_BYTES: usize = 32 << 10;
const MOST_FIELDS: usize = 200;
/// Fields that need no condition: what the policy itself is made of, and the file.
const FREE: [&str; 6] =
    ["policy", "signature", "x-amz-signature", "awsaccesskeyid", "file", "x-amz-security-token"];

fn bad_policy(text: &str) -> S3Error {
    S3Error { code: "InvalidPolicyDocument", ..S3Error::invalid_argument(format!("Invalid Policy: {text}")) }
}

fn against(text: impl Into<String>) -> S3Error {
    S3Error { message: format!("Invalid according to Policy: {}", text.into()), ..access_denied() }
}

/// A form's fields; names in lower case.
#[derive(Debug, Clone, Default)]
struct Fields(Vec<(String, String)>);

impl Fields {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// What a policy allows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Policy {
    expires: DateTime<Utc>,
    rules: Vec<Rule>,
    /// Bytes of the file, at least and at most.
    length: Option<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq)]
struct Rule {
    /// In lower case.
    field: String,
    value: String,
    /// The field's value begins so; else it is so.
    prefix: bool,
}

impl Policy {
    pub(super) fn parse(json: &[u8]) -> S3Result<Policy> {
        let value: Value = serde_json::from_slice(json).map_err(|_| bad_policy("Invalid JSON."))?;
        let expires = value.get("expiration").ok_or_else(|| bad_policy("Policy missing expiration."))?;
        let utc = |t: &&str| t.contains('T') && t.ends_with('Z');
        let expires = expires.as_str().filter(utc).and_then(|t| DateTime::parse_from_rfc3339(t).ok());
        let expires = expires.ok_or_else(|| bad_policy("Invalid 'expiration' value."))?.with_timezone(&Utc);
        let conditions = value.get("conditions").ok_or_else(|| bad_policy("Policy missing conditions."))?;
        let conditions = conditions.as_array().ok_or_else(|| bad_policy("Invalid 'conditions' value."))?;
        let (mut rules, mut length) = (Vec::new(), None);
        for condition in conditions {
            match condition {
                Value::Object(members) if !members.is_empty() => {
                    for (field, value) in members {
                        let value = value.as_str().ok_or_else(|| bad_policy("Invalid Simple-Condition."))?;
                        rules.push(Rule { field: field.to_lowercase(), value: value.into(), prefix: false });
                    }
                }
                Value::Array(items) => match items.as_slice() {
                    [Value::String(kind), least, most]
                        if kind.eq_ignore_ascii_case("content-length-range") =>
                    {
                        length = Some((bytes(least)?, bytes(most)?));
                    }
                    [Value::String(kind), Value::String(field), Value::String(value)] => {
                        let prefix = match kind.to_ascii_lowercase().as_str() {
                            "eq" => false,
                            "starts-with" => true,
                            _ => return Err(bad_policy("Invalid Condition: unknown operation.")),
                        };
                        let field = field.strip_prefix('$').ok_or_else(|| {
                            bad_policy("Invalid Condition: Condition key must start with '$'.")
                        })?;
                        rules.push(Rule { field: field.to_lowercase(), value: value.clone(), prefix });
                    }
                    _ => return Err(bad_policy("Invalid Condition: wrong number of arguments.")),
                },
                _ => return Err(bad_policy("Invalid Condition.")),
            }
        }
        Ok(Policy { expires, rules, length })
    }

    /// Whether the policy allows these fields, now.
    fn check(&self, fields: &Fields, bucket: &str, now: DateTime<Utc>) -> S3Result<()> {
        if now > self.expires {
            return Err(against("Policy expired."));
        }
        for rule in &self.rules {
            let value = match rule.field.as_str() {
                "bucket" => bucket,
                field => fields.get(field).unwrap_or_default(),
            };
            let holds = match rule.prefix {
                false => value == rule.value,
                // A list of types begins as the rule says in each of its parts.
                true if rule.field == "content-type" => {
                    value.split(',').all(|v| v.trim().starts_with(&rule.value))
                }
                true => value.starts_with(&rule.value),
            };
            if !holds {
                let kind = if rule.prefix { "starts-with" } else { "eq" };
                let Rule { field, value, .. } = rule;
                return Err(against(format!(
                    "Policy Condition failed: [\"{kind}\", \"${field}\", \"{value}\"]"
                )));
            }
        }
        let named = |field: &str| self.rules.iter().any(|r| r.field == field);
        // The bucket is in the form's URL, and as good as a field.
        let extra = std::iter::once("bucket").chain(fields.0.iter().map(|(n, _)| n.as_str())).find(|n| {
            !FREE.contains(n) && !n.starts_with("x-ignore-") && !n.starts_with("x-amz-checksum-") && !named(n)
        });
        match extra {
            Some(name) => Err(against(format!("Extra input fields: {name}"))),
            None => Ok(()),
        }
    }
}

fn bytes(value: &Value) -> S3Result<u64> {
    let number = match value {
        Value::Number(n) => n.as_u64(),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| bad_policy("Invalid content-length-range."))
}

/// Whether a request is a form with a file.
pub(super) fn is_form(call: &Call) -> bool {
    call.header("content-type").and_then(form::boundary).is_some()
}

pub(super) async fn object(call: Call) -> S3Result<Response> {
    let boundary = call.header("content-type").and_then(form::boundary).unwrap_or_default();
    let (body, _) = call.take_body().ok_or_else(error::internal)?;
    let idle = call.store.body_idle();
    let mut form = Form::new(paced(content::frames(body), idle), &boundary);
    let answered = upload(call, &mut form).await;
    if answered.is_err() {
        form.drain().await;
    }
    answered
}

async fn upload(mut call: Call, form: &mut Form) -> S3Result<Response> {
    let (fields, filename, kind) = head(form).await?;
    let key = fields.get("key").filter(|k| !k.is_empty()).ok_or_else(|| missing("key"))?;
    call.key = key.replace("${filename}", &filename);
    if call.key.len() > crate::MAX_OBJECT_NAME {
        return Err(error::key_too_long());
    }
    let length = permission(&mut call, &fields).await?;
    // The file's own type is no field of the form: no condition is about it.
    if let Some(kind) = kind.and_then(|k| HeaderValue::from_str(&k).ok()) {
        call.headers.entry(header::CONTENT_TYPE).or_insert(kind);
    }
    let container = call.store.bucket(&call.access, &call.bucket, Need::Write).await?;
    let mut new = described(&call, &container)?;
    if let Some(text) = fields.get("tagging") {
        new.tags = tags::of_document(text.as_bytes())?;
    }
    let (relay, stream) = relay();
    let mut body = Body::new(stream, None);
    body.expect = call.expect()?;
    let put = call.store.put_object(&container, new, body.summed(), Condition::Always);
    let pump = async move {
        let mut size = 0;
        let refused = loop {
            match form.piece().await {
                Ok(None) if length.is_some_and(|(least, _)| size < least) => break too_small(),
                Ok(None) => return Ok(()),
                Ok(Some(piece)) => {
                    size += piece.len() as u64;
                    if length.is_some_and(|(_, most)| size > most) {
                        break error::entity_too_large();
                    }
                    if !relay.send(piece).await {
                        return Ok(());
                    }
                }
                Err(e) => break told(e),
            }
        };
        relay.fail(ObjectError::BrokenBody(refused.message.clone())).await;
        Err(refused)
    };
    let (pumped, put) = tokio::join!(pump, put);
    pumped?;
    let written = put?;
    answer(&call, &fields, &written)
}

fn too_small() -> S3Error {
    let text = "Your proposed upload is smaller than the minimum allowed size";
    S3Error { code: "EntityTooSmall", ..S3Error::invalid_argument(text) }
}

fn told(e: FormError) -> S3Error {
    match e {
        FormError::Body(e) => e.into(),
        FormError::Invalid(text) => {
            let text =
                format!("The body of your POST request is not well-formed multipart/form-data: {text}.");
            S3Error { code: "MalformedPOSTRequest", ..S3Error::invalid_argument(text) }
        }
    }
}

fn missing(field: &str) -> S3Error {
    S3Error::invalid_argument(format!(
        "Bucket POST must contain a field named '{field}'.  If it is specified, please check the order of the fields."
    ))
    .with("ArgumentName", field)
}

/// The fields before the file; the file's name and type.
async fn head(form: &mut Form) -> S3Result<(Fields, String, Option<String>)> {
    let mut fields = Fields::default();
    let mut left = MOST_BYTES;
    while let Some(part) = form.next().await.map_err(told)? {
        let name = part.name.to_lowercase();
        if name == "file" {
            let filename = part.filename.unwrap_or_default();
            // Old browsers send the whole path.
            let filename = filename.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
            return Ok((fields, filename, part.content_type));
        }
        if fields.0.len() == MOST_FIELDS {
            return Err(too_long());
        }
        let value = form.text(left).await.map_err(|e| match e {
            FormError::Invalid("a field is too long") => too_long(),
            e => told(e),
        })?;
        left -= value.len();
        fields.0.push((name, value));
    }
    Err(S3Error::invalid_argument("POST requires exactly one file upload per request.")
        .with("ArgumentName", "file"))
}

fn too_long() -> S3Error {
    let text = "Your POST request fields preceding the upload file were too large.";
    S3Error { code: "MaxPostPreDataLengthExceededError", ..S3Error::invalid_argument(text) }
}

/// Whom the form acts for; then the bounds of the file's length.
async fn permission(call: &mut Call, fields: &Fields) -> S3Result<Option<(u64, u64)>> {
    call.headers = headers(fields)?;
    let facts = Arc::new(call.facts.with(&call.headers));
    let asks = call.access.asks.take().map(|asks| Asks { facts, ..asks });
    let mut length = None;
    let mut access = Access { referer: call.access.referer.clone(), ..Access::default() };
    if let Some(encoded) = fields.get("policy") {
        access.caller = Some(signer(call, fields, encoded).await?);
        let json = BASE64_STANDARD.decode(encoded.replace(['\r', '\n'], ""));
        let policy = Policy::parse(&json.map_err(|_| bad_policy("Invalid Base64."))?)?;
        policy.check(fields, &call.bucket, Utc::now())?;
        length = policy.length;
    }
    access.asks = asks;
    call.access = access.asking(PUT, &call.key);
    Ok(length)
}

/// Whose signature the policy has.
async fn signer(call: &Call, fields: &Fields, policy: &str) -> S3Result<Arc<api::Caller>> {
    let need = |name: &'static str| fields.get(&name.to_lowercase()).ok_or_else(|| missing(name));
    if let Some(algorithm) = fields.get("x-amz-algorithm") {
        if algorithm != "AWS4-HMAC-SHA256" {
            return Err(S3Error::invalid_argument("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
        }
        let (scope, date, signature) =
            (need("X-Amz-Credential")?, need("X-Amz-Date")?, need("X-Amz-Signature")?);
        let mut parts = scope.rsplitn(5, '/');
        let (Some("aws4_request"), Some("s3"), Some(region), Some(day), Some(access_key)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(S3Error::invalid_argument("the Credential is mal-formed"));
        };
        if !date.starts_with(day) {
            return Err(S3Error::invalid_argument("Invalid credential date."));
        }
        let credential = auth::credential(&call.store, access_key).await?;
        let key = SigningKey::derive(&credential.secret.0, day, region);
        return match key.matches(policy, signature) {
            true => Ok(credential.caller.clone()),
            false => Err(error::signature_mismatch()),
        };
    }
    let (access_key, signature) = (need("AWSAccessKeyId")?, need("signature")?);
    let credential = auth::credential(&call.store, access_key).await?;
    match auth::matches_v2(&credential.secret.0, policy, signature) {
        true => Ok(credential.caller.clone()),
        false => Err(error::signature_mismatch()),
    }
}

/// What the fields say of the object, as headers of a PUT would.
fn headers(fields: &Fields) -> S3Result<HeaderMap> {
    const PLAIN: [&str; 6] = [
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
    ];
    const SIGNING: [&str; 5] =
        ["x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature", "x-amz-security-token"];
    let mut out = HeaderMap::new();
    for (name, value) in &fields.0 {
        let name = match name.as_str() {
            "acl" => "x-amz-acl",
            name if PLAIN.contains(&name) => name,
            name if name.starts_with("x-amz-") && !SIGNING.contains(&name) => name,
            _ => continue,
        };
        let bad = || S3Error::invalid_argument(format!("The field {name} cannot be a header."));
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad())?;
        out.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?, value);
    }
    Ok(out)
}

fn answer(call: &Call, fields: &Fields, written: &crate::Written) -> S3Result<Response> {
    let quoted = |text: &str, keep: bool| {
        let mut out = String::new();
        encode(&mut out, text.as_bytes(), keep);
        out
    };
    let etag = format!("\"{}\"", written.etag);
    let location = format!("/{}/{}", call.bucket, quoted(&call.key, true));
    let mut out = HeaderMap::new();
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            out.insert(name, value);
        }
    };
    set(header::ETAG, &etag);
    set(header::LOCATION, &location);
    let redirect = fields.get("success_action_redirect").or(fields.get("redirect"));
    let redirect = redirect.filter(|r| r.starts_with("http://") || r.starts_with("https://"));
    let status = match (redirect, fields.get("success_action_status")) {
        (Some(redirect), _) => {
            let joint = if redirect.contains('?') { '&' } else { '?' };
            let (bucket, key, etag) =
                (quoted(&call.bucket, false), quoted(&call.key, false), quoted(&etag, false));
            set(header::LOCATION, &format!("{redirect}{joint}bucket={bucket}&key={key}&etag={etag}"));
            StatusCode::SEE_OTHER
        }
        (None, Some("200")) => StatusCode::OK,
        (None, Some("201")) => StatusCode::CREATED,
        (None, _) => StatusCode::NO_CONTENT,
    };
    sse::tell(&mut out, written.seal.as_ref());
    checksum_headers(&mut out, written.checksum.as_ref());
    versions::name_some(&mut out, "x-amz-version-id", written.version);
    if status != StatusCode::CREATED {
        return Ok((status, out).into_response());
    }
    let mut xml = Xml::new();
    xml.open("PostResponse").text("Location", &location).text("Bucket", &call.bucket);
    xml.text("Key", &call.key).text("ETag", &etag).close("PostResponse");
    let mut response = xml_reply(status, xml);
    response.headers_mut().extend(out);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn fields(list: &[(&str, &str)]) -> Fields {
        Fields(list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    fn policy(conditions: Value) -> S3Result<Policy> {
        let text = json!({"expiration": "2100-01-01T12:00:00.000Z", "conditions": conditions});
        Policy::parse(text.to_string().as_bytes())
    }

    fn check(conditions: Value, given: &[(&str, &str)]) -> Result<(), String> {
        policy(conditions).unwrap().check(&fields(given), "b", Utc::now()).map_err(|e| e.message)
    }

    #[test]
    fn conditions() {
        let rules = json!([{"bucket": "b"}, ["starts-with", "$key", "user/"], {"ACL": "private"}, ["content-length-range", 1, "10"]]);
        assert_eq!(policy(rules.clone()).unwrap().length, Some((1, 10)));
        assert_eq!(check(rules.clone(), &[("key", "user/x"), ("acl", "private")]), Ok(()));
        assert!(check(rules.clone(), &[("key", "other"), ("acl", "private")]).is_err());
        assert!(check(rules.clone(), &[("key", "user/x")]).is_err());
        let extra = [("key", "user/x"), ("acl", "private"), ("x-amz-meta-a", "1")];
        assert_eq!(
            check(rules.clone(), &extra),
            Err("Invalid according to Policy: Extra input fields: x-amz-meta-a".into())
        );
        let ignored = [("key", "user/x"), ("acl", "private"), ("x-ignore-a", "1"), ("signature", "s")];
        assert_eq!(check(rules, &ignored), Ok(()));
        assert!(check(json!([{"bucket": "other"}]), &[]).is_err());
        assert_eq!(
            check(json!([{"key": "k"}]), &[("key", "k")]),
            Err("Invalid according to Policy: Extra input fields: bucket".into())
        );
        let types = json!([{"bucket": "b"}, ["starts-with", "$Content-Type", "image/"]]);
        assert_eq!(check(types.clone(), &[("content-type", "image/a,image/b")]), Ok(()));
        assert!(check(types, &[("content-type", "image/a,text/b")]).is_err());
    }

    #[test]
    fn what_is_no_policy() {
        for bad in [
            json!([["eq", "key", "x"]]),
            json!([["like", "$key", "x"]]),
            json!([["eq", "$key"]]),
            json!([["content-length-range", "a", 1]]),
            json!([{}]),
            json!([{"key": 1}]),
            json!("all"),
        ] {
            assert!(policy(bad.clone()).is_err(), "{bad}");
        }
        for bad in [
            "",
            "{}",
            "{\"conditions\": []}",
            "{\"expiration\": \"soon\", \"conditions\": []}",
            "{\"expiration\": \"2100-01-01 12:00:00+00:00\", \"conditions\": []}",
        ] {
            assert_eq!(
                Policy::parse(bad.as_bytes()).map_err(|e| e.code),
                Err("InvalidPolicyDocument"),
                "{bad}"
            );
        }
        let late = json!({"expiration": "2000-01-01T00:00:00Z", "conditions": []});
        let late = Policy::parse(late.to_string().as_bytes()).unwrap();
        assert!(late.check(&fields(&[]), "b", Utc::now()).is_err());
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise: Vec<u8>, text in ".{0,20}") {
            let _ = Policy::parse(&noise);
            let _ = policy(json!([[text.clone(), text.clone(), text]]));
        }
    }
}
