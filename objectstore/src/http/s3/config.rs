//! Configurations of buckets and objects that clients ask for whether there are any or not.
//!
//! ACLs are those of the container: `private`, `public-read`; tags are in [`tags`]. Of the others none is built: reading one is answered
//! as S3 answers for a bucket that has none, removing one has nothing to do, setting one is a 501.

use super::error::{S3Error, S3Result, access_denied, method_not_allowed};
use super::xml::{Node, Xml};
use super::{Call, bare, tags, xml_reply};
use crate::container::Container;
use crate::{Need, ObjectError};
use axum::response::Response;
use http::StatusCode;

/// What a bucket without this configuration answers.
enum Absent {
    /// An error: (code, message).
    Error(&'static str, &'static str),
    /// An empty document of this name, with this inside.
    Document(&'static str, &'static str),
}

use Absent::{Document, Error};

const BUCKET: [(&str, Absent); 22] = [
    ("acl", Document("", "")),
    ("location", Document("", "")),
    ("versioning", Document("VersioningConfiguration", "")),
    ("policy", Error("NoSuchBucketPolicy", "The bucket policy does not exist")),
    ("policyStatus", Error("NoSuchBucketPolicy", "The bucket policy does not exist")),
    ("cors", Error("NoSuchCORSConfiguration", "The CORS configuration does not exist")),
    ("lifecycle", Error("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")),
    ("tagging", Error("NoSuchTagSet", "The TagSet does not exist")),
    (
        "website",
        Error("NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration"),
    ),
    (
        "encryption",
        Error(
            "ServerSideEncryptionConfigurationNotFoundError",
            "The server side encryption configuration was not found",
        ),
    ),
    (
        "replication",
        Error("ReplicationConfigurationNotFoundError", "The replication configuration was not found"),
    ),
    (
        "object-lock",
        Error(
            "ObjectLockConfigurationNotFoundError",
            "Object Lock configuration does not exist for this bucket",
        ),
    ),
    (
        "publicAccessBlock",
        Error("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found"),
    ),
    (
        "ownershipControls",
        Error("OwnershipControlsNotFoundError", "The bucket ownership controls were not found"),
    ),
    ("logging", Document("BucketLoggingStatus", "")),
    ("notification", Document("NotificationConfiguration", "")),
    ("requestPayment", Document("RequestPaymentConfiguration", "<Payer>BucketOwner</Payer>")),
    ("accelerate", Document("AccelerateConfiguration", "")),
    ("analytics", Error("NoSuchConfiguration", "The specified configuration does not exist.")),
    ("inventory", Error("NoSuchConfiguration", "The specified configuration does not exist.")),
    ("metrics", Error("NoSuchConfiguration", "The specified configuration does not exist.")),
    ("intelligent-tiering", Error("NoSuchConfiguration", "The specified configuration does not exist.")),
];

const OBJECT: [(&str, Absent); 5] = [
    ("acl", Document("", "")),
    ("tagging", Document("Tagging", "<TagSet></TagSet>")),
    (
        "legal-hold",
        Error(
            "NoSuchObjectLockConfiguration",
            "The specified object does not have a ObjectLock configuration",
        ),
    ),
    (
        "retention",
        Error(
            "NoSuchObjectLockConfiguration",
            "The specified object does not have a ObjectLock configuration",
        ),
    ),
    ("torrent", Error("NoSuchKey", "The specified key does not exist.")),
];

fn find<'a>(call: &Call, table: &'a [(&'static str, Absent)]) -> Option<(&'static str, &'a Absent)> {
    table.iter().find(|(name, _)| call.has(name)).map(|(name, absent)| (*name, absent))
}

/// The configuration that a request on a bucket is about.
pub(super) fn of_bucket(call: &Call) -> Option<&'static str> {
    find(call, &BUCKET).map(|(name, _)| name)
}

pub(super) fn of_object(call: &Call) -> Option<&'static str> {
    find(call, &OBJECT).map(|(name, _)| name)
}

pub(super) async fn bucket(call: Call) -> S3Result<Response> {
    let Some((name, absent)) = find(&call, &BUCKET) else { return Err(method_not_allowed()) };
    if name == "tagging" {
        return tags::of_bucket(&call).await;
    }
    let own = matches!(call.method.as_str(), "PUT" | "DELETE" | "POST") || matches!(name, "acl" | "policy");
    let need = if own { Need::Own } else { Need::List };
    let container = call.store.bucket(&call.access, &call.bucket, need).await?;
    match (call.method.as_str(), name) {
        ("GET", "acl") => Ok(show_acl(&container)),
        ("PUT", "acl") => set_acl(&call, &container).await,
        ("GET", "location") => {
            let mut xml = Xml::new();
            xml.root("LocationConstraint").raw(&call.store.config().s3_region).close("LocationConstraint");
            Ok(xml_reply(StatusCode::OK, xml))
        }
        ("GET", _) => show(absent),
        ("DELETE", "acl" | "location" | "versioning" | "logging" | "notification") => {
            Err(method_not_allowed())
        }
        ("DELETE", _) => Ok(bare(StatusCode::NO_CONTENT)),
        ("PUT", "requestPayment") => {
            // It is so anyway.
            let node = Node::parse(&call.small_body().await?, "RequestPaymentConfiguration")?;
            match node.value("Payer") {
                Some("BucketOwner") => Ok(bare(StatusCode::OK)),
                Some("Requester") => Err(S3Error::not_implemented("Requester pays")),
                _ => Err(super::error::malformed_xml()),
            }
        }
        ("PUT", _) => Err(S3Error::not_implemented(name)),
        _ => Err(method_not_allowed()),
    }
}

pub(super) async fn object(call: Call) -> S3Result<Response> {
    let Some((name, absent)) = find(&call, &OBJECT) else { return Err(method_not_allowed()) };
    if name == "tagging" {
        return tags::of_object(&call).await;
    }
    let need = if call.method == http::Method::GET { Need::Read } else { Need::Write };
    let container = call.store.bucket(&call.access, &call.bucket, need).await?;
    call.store.open_object(&container, &call.key, 0).await?;
    match (call.method.as_str(), name) {
        ("GET", "acl") => Ok(show_acl(&container)),
        ("GET", _) => show(absent),
        ("PUT", "acl") if call.header("x-amz-acl").is_some_and(|a| a == canned(&container)) => {
            Ok(bare(StatusCode::OK))
        }
        ("PUT", "acl") => {
            Err(S3Error::not_implemented("An ACL of one object that differs from its bucket's"))
        }
        ("PUT", _) => Err(S3Error::not_implemented(name)),
        _ => Err(method_not_allowed()),
    }
}

fn show(absent: &Absent) -> S3Result<Response> {
    match absent {
        Error(code, message) => Err(S3Error::not_configured(code, message)),
        Document(root, inside) => {
            let mut xml = Xml::new();
            xml.root(root).raw(inside).close(root);
            Ok(xml_reply(StatusCode::OK, xml))
        }
    }
}

/// The canned ACL that a container's read ACL comes to.
fn canned(container: &Container) -> &'static str {
    match container.info.read.split(',').any(|e| e == ".r:*") {
        true => "public-read",
        false => "private",
    }
}

fn show_acl(container: &Container) -> Response {
    const XSI: &str = "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"";
    let mut xml = Xml::new();
    xml.root("AccessControlPolicy");
    owner(&mut xml, &container.project_id);
    xml.open("AccessControlList").open("Grant");
    xml.raw(&format!("<Grantee {XSI} xsi:type=\"CanonicalUser\">"));
    xml.text("ID", &container.project_id).text("DisplayName", &container.project_id).close("Grantee");
    xml.text("Permission", "FULL_CONTROL").close("Grant");
    if canned(container) == "public-read" {
        xml.open("Grant").raw(&format!("<Grantee {XSI} xsi:type=\"Group\">"));
        xml.text("URI", "http://acs.amazonaws.com/groups/global/AllUsers").close("Grantee");
        xml.text("Permission", "READ").close("Grant");
    }
    xml.close("AccessControlList").close("AccessControlPolicy");
    xml_reply(StatusCode::OK, xml)
}

/// The `Owner` element.
pub(super) fn owner(xml: &mut Xml, project: &str) {
    xml.open("Owner").text("ID", project).text("DisplayName", project).close("Owner");
}

/// The read ACL that a canned one stands for.
pub(super) fn read_acl(canned: &str) -> S3Result<&'static str> {
    match canned {
        "private" => Ok(""),
        "public-read" => Ok(".r:*,.rlistings"),
        "public-read-write" | "authenticated-read" | "log-delivery-write" => {
            Err(S3Error::not_implemented("This canned ACL"))
        }
        _ => Err(S3Error::invalid_argument("").with("ArgumentName", "x-amz-acl")),
    }
}

async fn set_acl(call: &Call, container: &Container) -> S3Result<Response> {
    let acl = match call.header("x-amz-acl") {
        Some(name) => read_acl(name)?,
        None => acl_of_body(call, container).await?,
    };
    if container.project_id != call.access.project().unwrap_or_default() {
        return Err(access_denied());
    }
    let rule = |info: &mut crate::ContainerInfo| {
        info.read = acl.to_owned();
        Ok::<(), ObjectError>(())
    };
    call.store.change_container(&call.access, &container.project_id, &container.name, &rule).await?;
    Ok(bare(StatusCode::OK))
}

/// An ACL in XML, where it is one that a canned ACL could say.
async fn acl_of_body(call: &Call, container: &Container) -> S3Result<&'static str> {
    let body = call.small_body().await?;
    let node = Node::parse(&body, "AccessControlPolicy")?;
    let mut acl = "";
    for grant in node.child("AccessControlList").into_iter().flat_map(|l| l.all("Grant")) {
        let grantee = grant.child("Grantee");
        let permission = grant.value("Permission").unwrap_or_default();
        let to = |name: &str| grantee.and_then(|g| g.value(name)).unwrap_or_default();
        if to("ID") == container.project_id {
            continue; // the owner may everything anyway
        }
        match (to("URI"), permission) {
            ("http://acs.amazonaws.com/groups/global/AllUsers", "READ") => acl = ".r:*,.rlistings",
            _ => return Err(S3Error::not_implemented("This grant")),
        }
    }
    Ok(acl)
}
