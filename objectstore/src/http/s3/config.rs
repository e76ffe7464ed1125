//! Configurations of buckets and objects that clients ask for whether there are any or not.
//!
//! Those that are built have files of their own. Of the others, reading one is answered as S3 answers for a bucket that
//! has none, removing one has nothing to do, setting one is a 501.

use super::error::{S3Error, S3Result, malformed_xml, method_not_allowed};
use super::xml::{Node, Xml};
use super::{
    Call, acl, bare, cors, lifecycle, lock, logging, notification, policy, public, sse, tags, versions,
    website, xml_reply,
};
use crate::container::{Container, ContainerInfo};
use crate::{Need, ObjectError, Sharing};
use axum::response::Response;
use http::StatusCode;
use std::sync::Arc;

/// What a bucket without this configuration answers.
enum Absent {
    /// It has a file of its own.
    Built,
    /// An error: (code, message).
    Error(&'static str, &'static str),
    /// An empty document of this name, with this inside.
    Document(&'static str, &'static str),
}

use Absent::{Built, Document, Error};

const BUCKET: [(&str, Absent); 22] = [
    ("acl", Built),
    ("location", Built),
    ("versioning", Document("VersioningConfiguration", "")),
    ("policyStatus", Built),
    ("policy", Built),
    ("cors", Built),
    ("lifecycle", Error("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")),
    ("tagging", Error("NoSuchTagSet", "The TagSet does not exist")),
    ("website", Built),
    ("encryption", Built),
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
    ("publicAccessBlock", Built),
    ("ownershipControls", Built),
    ("logging", Built),
    ("notification", Built),
    ("requestPayment", Built),
    ("accelerate", Document("AccelerateConfiguration", "")),
    ("analytics", Error("NoSuchConfiguration", "The specified configuration does not exist.")),
    ("inventory", Error("NoSuchConfiguration", "The specified configuration does not exist.")),
    ("metrics", Error("NoSuchConfiguration", "The specified configuration does not exist.")),
    ("intelligent-tiering", Error("NoSuchConfiguration", "The specified configuration does not exist.")),
];

const OBJECT: [(&str, Absent); 5] = [
    ("acl", Built),
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
    match name {
        "acl" => return acl::of_bucket(&call).await,
        "cors" => return cors::answer(&call).await,
        "ownershipControls" => return public::ownership(&call).await,
        "encryption" => return sse::of_bucket(&call).await,
        "policy" => return policy::answer(&call).await,
        "requestPayment" => return payment(&call).await,
        "policyStatus" => return policy::status(&call).await,
        "publicAccessBlock" => return public::access_block(&call).await,
        "lifecycle" => return lifecycle::answer(&call).await,
        "logging" => return logging::answer(&call).await,
        "notification" => return notification::answer(&call).await,
        "object-lock" => return lock::of_bucket(&call).await,
        "tagging" => return tags::of_bucket(&call).await,
        "website" => return website::answer(&call).await,
        "versioning" => return versions::of_bucket(&call).await,
        _ => {}
    }
    // Where a bucket is, whoever may list it may know; the rest is its owner's.
    let need = if name == "location" { Need::List } else { Need::Own };
    call.store.bucket(&call.access, &call.bucket, need).await?;
    match (call.method.as_str(), name) {
        ("GET", "location") => {
            let mut xml = Xml::new();
            xml.root("LocationConstraint").raw(&call.store.config().s3_region).close("LocationConstraint");
            Ok(xml_reply(StatusCode::OK, xml))
        }
        ("GET", _) => show(absent),
        ("DELETE", "location") => Err(method_not_allowed()),
        ("DELETE", _) => Ok(bare(StatusCode::NO_CONTENT)),
        ("PUT", _) => Err(S3Error::not_implemented(name)),
        _ => Err(method_not_allowed()),
    }
}

/// `?requestPayment`: who pays. Nobody is sent a bill: what is kept is that strangers must say that they would pay.
async fn payment(call: &Call) -> S3Result<Response> {
    let owned = container(call).await?;
    match call.method.as_str() {
        "GET" => {
            let payer = if owned.info.sharing.requester_pays { "Requester" } else { "BucketOwner" };
            let mut xml = Xml::new();
            xml.root("RequestPaymentConfiguration").text("Payer", payer).close("RequestPaymentConfiguration");
            Ok(xml_reply(StatusCode::OK, xml))
        }
        "PUT" => {
            let node = Node::parse(&call.small_body().await?, "RequestPaymentConfiguration")?;
            let requester = match node.value("Payer") {
                Some("BucketOwner") => false,
                Some("Requester") => true,
                _ => return Err(malformed_xml()),
            };
            share(call, &owned, |s| s.requester_pays = requester).await?;
            Ok(bare(StatusCode::OK))
        }
        _ => Err(method_not_allowed()),
    }
}

pub(super) async fn object(call: Call) -> S3Result<Response> {
    let Some((name, absent)) = find(&call, &OBJECT) else { return Err(method_not_allowed()) };
    match name {
        "acl" => return acl::of_object(&call).await,
        "legal-hold" | "retention" => return lock::of_object(&call, name).await,
        "tagging" => return tags::of_object(&call).await,
        _ => {}
    }
    let container = call.store.bucket(&call.access, &call.bucket, Need::Own).await?;
    call.store.open_object(&container, &call.key, 0).await?;
    match (call.method.as_str(), name) {
        ("GET", _) => show(absent),
        ("PUT", _) => Err(S3Error::not_implemented(name)),
        _ => Err(method_not_allowed()),
    }
}

fn show(absent: &Absent) -> S3Result<Response> {
    match absent {
        Built => Err(method_not_allowed()),
        Error(code, message) => Err(S3Error::not_configured(code, message)),
        Document(root, inside) => {
            let mut xml = Xml::new();
            xml.root(root).raw(inside).close(root);
            Ok(xml_reply(StatusCode::OK, xml))
        }
    }
}

/// The `Owner` element.
pub(super) fn owner(xml: &mut Xml, project: &str) {
    xml.open("Owner").text("ID", project).text("DisplayName", project).close("Owner");
}

/// The bucket that a configuration is of, for its owner, or for whom its policy lets.
pub(super) async fn container(call: &Call) -> S3Result<Arc<Container>> {
    Ok(call.store.bucket(&call.access, &call.bucket, Need::Own).await?)
}

/// Changes what a bucket says of its use by others.
pub(super) async fn share(
    call: &Call,
    container: &Container,
    change: impl Fn(&mut Sharing) + Sync,
) -> S3Result<()> {
    let rule = |info: &mut ContainerInfo| {
        change(&mut info.sharing);
        Ok::<(), ObjectError>(())
    };
    Ok(call.store.change_container(&call.access, &container.project_id, &container.name, &rule).await?)
}
