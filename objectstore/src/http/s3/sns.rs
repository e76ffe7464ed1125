//! Topics, managed as over SNS: a form in, XML out, at the door's root. What `aws sns` and boto3 send is understood; the
//! address that events go to is the attribute `push-endpoint`, as in other stores over RADOS.

use super::auth::credential;
use super::error::{S3Error, S3Result, access_denied, entity_too_large};
use super::sigv4::{Claim, Request as Signed, SNS, parse_query};
use super::xml::Xml;
use crate::http::content::read_small;
use crate::notify::Topic;
use crate::store::topics::Row;
use crate::{Access, ObjectStore};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use serde_json::json;
use sha2::{Digest, Sha256};

const NAMESPACE: &str = "https://sns.amazonaws.com/doc/2010-03-31/";
/// Bytes of a form, and topics on a page.
const MOST: usize = 64 << 10;
const PAGE: usize = 100;

/// Whether a request is about topics.
pub(super) fn is(request: &Request) -> bool {
    let text = |name| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    request.method() == Method::POST
        && request.uri().path() == "/"
        && text(header::CONTENT_TYPE).starts_with("application/x-www-form-urlencoded")
        && text(header::AUTHORIZATION).contains("/sns/aws4_request")
}

pub(super) async fn serve(store: ObjectStore, request: Request, id: &str) -> Response {
    match answer(store, request, id).await {
        Ok(xml) => (StatusCode::OK, [(header::CONTENT_TYPE, "text/xml")], xml).into_response(),
        Err(e) => refuse(&e, id),
    }
}

fn refuse(e: &S3Error, id: &str) -> Response {
    let mut xml = Xml::new();
    xml.raw(&format!("<ErrorResponse xmlns=\"{NAMESPACE}\">")).open("Error");
    xml.text("Type", if e.status.is_server_error() { "Receiver" } else { "Sender" });
    xml.text("Code", code(e.code)).text("Message", &e.message).close("Error").text("RequestId", id);
    xml.close("ErrorResponse");
    (e.status, [(header::CONTENT_TYPE, "text/xml")], xml.done()).into_response()
}

/// SNS's word for an error.
fn code(s3: &'static str) -> &'static str {
    match s3 {
        "InvalidArgument" => "InvalidParameter",
        "AccessDenied" => "AuthorizationError",
        other => other,
    }
}

async fn answer(store: ObjectStore, request: Request, id: &str) -> S3Result<String> {
    let (parts, body) = request.into_parts();
    let body = read_small(body, MOST, store.body_idle()).await?.ok_or_else(entity_too_large)?;
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let signed = Signed { method: parts.method.as_str(), path, query, headers: &parts.headers };
    let claim = Claim::of(&signed)?.filter(|c| c.service == SNS).ok_or_else(access_denied)?;
    claim.check_time(chrono::Utc::now())?;
    let known = credential(&store, &claim.access_key).await?;
    claim.verify(&signed, &hex::encode(Sha256::digest(&body)), &known.secret.0)?;
    let form = parse_query(std::str::from_utf8(&body).map_err(|_| invalid("the body is not UTF-8"))?);
    Form { store, access: Access::of(known.caller.clone()), fields: form }.run(id).await
}

fn invalid(text: &str) -> S3Error {
    S3Error::invalid_argument(format!("Invalid parameter: {text}"))
}

struct Form {
    store: ObjectStore,
    access: Access,
    fields: Vec<(String, String)>,
}

impl Form {
    fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    fn need(&self, name: &str) -> S3Result<&str> {
        self.get(name).ok_or_else(|| invalid(name))
    }

    /// `Attributes.entry.1.key=…&Attributes.entry.1.value=…`
    fn attributes(&self) -> S3Result<Vec<(String, String)>> {
        let keys = self.fields.iter().filter_map(|(k, name)| {
            let n = k.strip_prefix("Attributes.entry.")?.strip_suffix(".key")?;
            Some((n, name))
        });
        let pair = |(n, name): (&str, &String)| {
            Ok((name.clone(), self.need(&format!("Attributes.entry.{n}.value"))?.to_owned()))
        };
        keys.map(pair).collect()
    }

    async fn run(&self, id: &str) -> S3Result<String> {
        let action = self.need("Action")?;
        let (store, access) = (&self.store, &self.access);
        let mut xml = Xml::new();
        xml.raw(&format!("<{action}Response xmlns=\"{NAMESPACE}\">"));
        match action {
            "CreateTopic" => {
                if self.fields.iter().any(|(k, _)| k.starts_with("Tags.")) {
                    return Err(invalid("tags are not supported"));
                }
                let topic = store.make_topic(access, self.need("Name")?, &self.attributes()?).await?;
                xml.open("CreateTopicResult").text("TopicArn", &topic.to_string()).close("CreateTopicResult");
            }
            "ListTopics" => self.list(&mut xml).await?,
            "GetTopicAttributes" => show(&mut xml, &store.topic(access, self.need("TopicArn")?).await?),
            "SetTopicAttributes" => {
                let (name, value) =
                    (self.need("AttributeName")?, self.get("AttributeValue").unwrap_or_default());
                store.change_topic(access, self.need("TopicArn")?, name, value).await?;
            }
            "DeleteTopic" => store.delete_topic(access, self.need("TopicArn")?).await?,
            other => {
                let text = format!("The action {other} is not valid for this endpoint.");
                return Err(S3Error { code: "InvalidAction", ..S3Error::invalid_argument(text) });
            }
        }
        xml.open("ResponseMetadata").text("RequestId", id).close("ResponseMetadata");
        xml.close(&format!("{action}Response"));
        Ok(xml.done())
    }

    async fn list(&self, xml: &mut Xml) -> S3Result<()> {
        let after = self.get("NextToken").unwrap_or_default();
        let topics: Vec<Topic> = self.store.list_topics(&self.access, after, PAGE + 1).await?;
        xml.open("ListTopicsResult").open("Topics");
        for topic in topics.iter().take(PAGE) {
            xml.open("member").text("TopicArn", &topic.to_string()).close("member");
        }
        xml.close("Topics");
        if topics.len() > PAGE {
            xml.text("NextToken", &topics[PAGE - 1].name);
        }
        xml.close("ListTopicsResult");
        Ok(())
    }
}

fn show(xml: &mut Xml, row: &Row) {
    let Row { topic, info } = row;
    let endpoint = json!({
        "EndpointAddress": info.endpoint,
        "EndpointArgs": format!("push-endpoint={}", info.endpoint),
        "EndpointTopic": topic.name,
        "HasStoredSecret": false,
        "Persistent": true,
    });
    xml.open("GetTopicAttributesResult").open("Attributes");
    for (key, value) in [
        ("User", topic.project.clone()),
        ("Owner", topic.project.clone()),
        ("Name", topic.name.clone()),
        ("EndPoint", endpoint.to_string()),
        ("TopicArn", topic.to_string()),
        ("OpaqueData", info.opaque.clone()),
    ] {
        xml.open("entry").text("key", key).text("value", &value).close("entry");
    }
    xml.close("Attributes").close("GetTopicAttributesResult");
}
