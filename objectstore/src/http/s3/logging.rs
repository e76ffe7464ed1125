//! `?logging`: where a bucket's access log goes; and the lines of that log ("Amazon S3 server access log format").

use super::config::{container as owned, share};
use super::endpoint::Endpoint;
use super::error::{S3Error, S3Result, malformed_xml, method_not_allowed};
use super::sigv4::encode;
use super::xml::{Node, Xml};
use super::{Call, acl, bare, config, text, xml_reply};
use crate::access_log::AccessLog;
use crate::http::facts::RequestFacts;
use crate::sharing::Ownership;
use crate::{Access, ObjectError};
use axum::extract::Request;
use axum::response::Response;
use http::{Method, StatusCode, header};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

pub(super) async fn answer(call: &Call) -> S3Result<Response> {
    let container = owned(call).await?;
    match call.method.as_str() {
        "GET" => Ok(show(container.info.sharing.log.as_ref())),
        "PUT" => {
            let log = read(&call.small_body().await?, &container.project_id)?;
            if let Some(log) = &log {
                check_target(call, &container.project_id, log).await?;
            }
            share(call, &container, |s| s.log.clone_from(&log)).await?;
            Ok(bare(StatusCode::OK))
        }
        _ => Err(method_not_allowed()),
    }
}

/// The log goes to a bucket of the same project, and of no other.
async fn check_target(call: &Call, project: &str, log: &AccessLog) -> S3Result<()> {
    let refused = |text: &str| {
        let e = S3Error { code: "InvalidTargetBucketForLogging", ..S3Error::invalid_argument(text) };
        e.with("TargetBucket", &log.bucket)
    };
    match call.store.find_container(project, &log.bucket).await {
        Ok(target)
            if !log.grants.is_empty()
                && call.store.ownership(&target.info) == Ownership::BucketOwnerEnforced =>
        {
            Err(refused("The target bucket for logging does not allow ACLs"))
        }
        Ok(_) => Ok(()),
        Err(ObjectError::NoSuchContainer) => Err(refused("The target bucket for logging does not exist")),
        Err(e) => Err(e.into()),
    }
}

/// The document of a bucket of this owner.
pub(super) fn read(body: &[u8], owner: &str) -> S3Result<Option<AccessLog>> {
    let node = Node::parse(body, "BucketLoggingStatus")?;
    let Some(enabled) = node.child("LoggingEnabled") else { return Ok(None) };
    let grants = enabled.child("TargetGrants").map(|list| acl::of_list(list, owner));
    let partitioned = match enabled.child("TargetObjectKeyFormat").map(|f| f.children.as_slice()) {
        None | Some([]) => false,
        Some([one]) if one.name == "SimplePrefix" => false,
        Some([one]) if one.name == "PartitionedPrefix" => match one.value("PartitionDateSource") {
            None | Some("DeliveryTime") => true,
            Some("EventTime") => return Err(S3Error::not_implemented("PartitionDateSource EventTime")),
            Some(_) => return Err(malformed_xml()),
        },
        Some(_) => return Err(malformed_xml()),
    };
    let bucket = enabled.value("TargetBucket").filter(|b| !b.is_empty()).ok_or_else(malformed_xml)?;
    let prefix = enabled.value("TargetPrefix").unwrap_or_default();
    if prefix.len() > 512 {
        return Err(S3Error::invalid_argument("The target prefix is too long"));
    }
    let grants = grants.transpose()?.unwrap_or_default();
    Ok(Some(AccessLog { bucket: bucket.to_owned(), prefix: prefix.to_owned(), partitioned, grants }))
}

fn show(log: Option<&AccessLog>) -> Response {
    let mut xml = Xml::new();
    xml.root("BucketLoggingStatus");
    if let Some(log) = log {
        xml.open("LoggingEnabled").text("TargetBucket", &log.bucket).text("TargetPrefix", &log.prefix);
        if !log.grants.is_empty() {
            xml.open("TargetGrants");
            log.grants.iter().for_each(|grant| acl::show_grant(&mut xml, grant));
            xml.close("TargetGrants");
        }
        xml.open("TargetObjectKeyFormat");
        match log.partitioned {
            true => {
                let xml = xml.open("PartitionedPrefix").text("PartitionDateSource", "DeliveryTime");
                xml.close("PartitionedPrefix")
            }
            false => xml.open("SimplePrefix").close("SimplePrefix"),
        };
        xml.close("TargetObjectKeyFormat");
        xml.close("LoggingEnabled");
    }
    xml.close("BucketLoggingStatus");
    xml_reply(StatusCode::OK, xml)
}

/// A request, as far as its line needs it.
pub(super) struct Line {
    began: Instant,
    method: Method,
    uri: String,
    referer: String,
    agent: String,
    host: String,
    version: String,
    key: String,
    operation: String,
    facts: Option<Arc<RequestFacts>>,
}

impl Line {
    pub(super) fn of(request: &Request) -> Line {
        let header = |name: &str| text(request.headers(), name).unwrap_or_default().to_owned();
        Line {
            began: Instant::now(),
            method: request.method().clone(),
            uri: format!("{} {} {:?}", request.method(), unsigned(request.uri()), request.version()),
            referer: header("referer"),
            agent: header("user-agent"),
            host: header("host"),
            version: String::new(),
            key: String::new(),
            operation: String::new(),
            facts: None,
        }
    }

    /// What the request turned out to ask for.
    pub(super) fn asks(&mut self, endpoint: Endpoint, call: &Call) {
        self.key.clone_from(&call.key);
        self.version = call.param("versionId").unwrap_or_default().to_owned();
        self.operation = operation(endpoint, call);
        self.facts = Some(call.facts.clone());
    }

    /// The line, in the end.
    pub(super) fn write(
        &self,
        owner: &str,
        bucket: &str,
        access: &Access,
        id: &str,
        error: Option<&str>,
        response: &Response,
    ) -> String {
        let some = |text: &str| if text.is_empty() { "-".to_owned() } else { plain(text) };
        let quoted =
            |text: &str| if text.is_empty() { "\"-\"".to_owned() } else { format!("\"{}\"", plain(text)) };
        let mut key = String::new();
        encode(&mut key, self.key.as_bytes(), true);
        let sent = response.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
        let sent = sent.filter(|n| *n != "0" && self.method != Method::HEAD).unwrap_or("-");
        let source = self.facts.as_ref().and_then(|f| f.source());
        let (how, signature) = self.facts.as_ref().map_or(("", ""), |f| f.signature());
        let signature = match signature {
            "AWS4-HMAC-SHA256" => "SigV4",
            "AWS" => "SigV2",
            _ => "-",
        };
        let how = match how {
            "REST-HEADER" => "AuthHeader",
            "REST-QUERY-STRING" => "QueryString",
            _ => "-",
        };
        let mut line = String::with_capacity(400);
        let at = chrono::Utc::now().format("[%d/%b/%Y:%H:%M:%S +0000]");
        let ms = self.began.elapsed().as_millis();
        // Writing into a String does not fail.
        let _ = write!(
            line,
            "{owner} {bucket} {at} {} {} {id} {} {} {} {} {} {sent} - {ms} {ms} {} {} {} {id} {signature} - {how} {} - - -",
            source.map_or_else(|| "-".to_owned(), |a| a.to_string()),
            some(access.project().unwrap_or_default()),
            some(&self.operation),
            some(&key),
            quoted(&self.uri),
            response.status().as_u16(),
            some(error.unwrap_or_default()),
            quoted(&self.referer),
            quoted(&self.agent),
            some(&self.version),
            some(&self.host),
        );
        line
    }
}

/// A URI without its signature: whoever reads the log is not to use it.
fn unsigned(uri: &http::Uri) -> String {
    let Some(query) = uri.query() else { return uri.path().to_owned() };
    let secret = |p: &&str| {
        let name = p.split('=').next().unwrap_or_default();
        ["x-amz-signature", "signature", "x-amz-security-token"].iter().any(|s| name.eq_ignore_ascii_case(s))
    };
    let kept: Vec<&str> = query.split('&').filter(|p| !secret(p)).collect();
    format!("{}?{}", uri.path(), kept.join("&"))
}

/// Without what would end a line or a field.
fn plain(text: &str) -> String {
    text.replace(['\r', '\n', '"'], "?")
}

/// `REST.GET.OBJECT`
fn operation(endpoint: Endpoint, call: &Call) -> String {
    use Endpoint as E;
    let config =
        || config::of_bucket(call).or(config::of_object(call)).unwrap_or_default().to_ascii_uppercase();
    let resource = match endpoint {
        E::ListBuckets => "SERVICE".to_owned(),
        E::CreateBucket | E::HeadBucket | E::DeleteBucket | E::ListObjects | E::ListObjectsV2 => {
            "BUCKET".into()
        }
        E::ListVersions => "BUCKETVERSIONS".into(),
        E::ListUploads | E::BeginUpload => "UPLOADS".into(),
        E::CompleteUpload | E::AbortUpload | E::ListParts => "UPLOAD".into(),
        E::PutPart | E::CopyPart => "PART".into(),
        E::DeleteObjects => "MULTI_OBJECT_DELETE".into(),
        E::BucketConfig | E::ObjectConfig => config(),
        E::Attributes => "OBJECT_ATTRIBUTES".into(),
        E::GetObject | E::HeadObject | E::PutObject | E::PostObject | E::CopyObject | E::DeleteObject => {
            "OBJECT".into()
        }
        E::RestoreObject => "RESTORE".into(),
    };
    let method = if matches!(endpoint, E::CopyObject | E::CopyPart) { "COPY" } else { call.method.as_str() };
    format!("REST.{method}.{resource}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::{Grant, Grantee, Permission};

    #[test]
    fn signatures_are_not_logged() {
        let uri = "/b/k?X-Amz-Date=d&X-Amz-Signature=abc&versionId=v".parse().unwrap();
        assert_eq!(unsigned(&uri), "/b/k?X-Amz-Date=d&versionId=v");
    }

    #[test]
    fn configurations_are_read() {
        let read = |inside: &str| {
            read(format!("<BucketLoggingStatus>{inside}</BucketLoggingStatus>").as_bytes(), "p")
                .map_err(|e| e.code)
        };
        let log = |more: &str| {
            read(&format!(
                "<LoggingEnabled><TargetBucket>b</TargetBucket><TargetPrefix>l/</TargetPrefix>{more}</LoggingEnabled>"
            ))
        };
        assert_eq!(read(""), Ok(None));
        let plain =
            AccessLog { bucket: "b".into(), prefix: "l/".into(), partitioned: false, grants: Vec::new() };
        assert_eq!(log(""), Ok(Some(plain.clone())));
        let format = |inside: &str| log(&format!("<TargetObjectKeyFormat>{inside}</TargetObjectKeyFormat>"));
        assert_eq!(format("<SimplePrefix/>"), Ok(Some(plain.clone())));
        let delivery =
            "<PartitionedPrefix><PartitionDateSource>DeliveryTime</PartitionDateSource></PartitionedPrefix>";
        assert_eq!(format(delivery), Ok(Some(AccessLog { partitioned: true, ..plain.clone() })));
        assert_eq!(format("<Else/>"), Err("MalformedXML"));
        assert_eq!(read("<LoggingEnabled/>"), Err("MalformedXML"));
        let grants = |id: &str| {
            log(&format!(
                "<TargetGrants><Grant><Grantee><ID>{id}</ID></Grantee><Permission>READ</Permission></Grant></TargetGrants>"
            ))
        };
        let to_q = vec![Grant::new(Grantee::Project("q".into()), Permission::Read)];
        assert_eq!(grants("q").map(|log| log.map(|l| l.grants)), Ok(Some(to_q)));
        assert_eq!(grants("p"), Ok(Some(plain)), "the owner has what it has");
        assert_eq!(log("<TargetGrants><Grant/></TargetGrants>"), Err("MalformedACLError"));
    }

    proptest::proptest! {
        #[test]
        fn noise_never_panics(noise: Vec<u8>, inside in "(<[A-Z][A-Za-z]{0,12}/?>|</[A-Z][A-Za-z]{0,12}>|[a-z0-9:-]{0,6}){0,12}") {
            let _ = read(&noise, "p");
            let _ = read(format!("<BucketLoggingStatus>{inside}</BucketLoggingStatus>").as_bytes(), "p");
        }
    }
}
