//! Deleting objects: one, or up to a thousand at once.

use super::error::{self, S3Error, S3Result, malformed_xml};
use super::xml::{Node, Xml};
use super::{Call, bare, lock, versions, xml_reply};
use crate::access::DELETE;
use crate::container::Container;
use crate::http::precondition;
use crate::object::{Condition, DeleteVersion, Deleted};
use crate::version::VersionId;
use crate::{Need, ObjectError};
use axum::response::Response;
use futures::{FutureExt, StreamExt};
use http::{HeaderValue, StatusCode};
use std::sync::Arc;

/// Most keys in one request, and deletions under way at once.
const MOST: usize = 1000;
const AT_ONCE: usize = 16;

pub(super) async fn one(call: Call) -> S3Result<Response> {
    let container = call.store.bucket(&call.access, &call.bucket, Need::Write).await?;
    let condition = like(
        call.header("if-match"),
        call.header("x-amz-if-match-last-modified-time"),
        call.header("x-amz-if-match-size"),
    )?;
    let version = versions::wanted(&call)?;
    let how = how(&call, &container);
    let done = delete(&call, &container, &call.key, version, condition, how).await?;
    let mut response = bare(StatusCode::NO_CONTENT);
    let out = response.headers_mut();
    versions::name_some(out, "x-amz-version-id", done.map_or(version, |deleted| deleted.version));
    if done.is_some_and(|deleted| deleted.marker) {
        out.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Deletes an object or a version of it; `None` where there is nothing: what is not there has been deleted. A delete
/// marker is there, and is like no object.
async fn delete(
    call: &Call,
    container: &Arc<Container>,
    key: &str,
    version: Option<VersionId>,
    condition: Condition,
    how: DeleteVersion,
) -> Result<Option<Deleted>, ObjectError> {
    let store = &call.store;
    let any = match &condition {
        Condition::Match(etags) => etags.iter().any(|e| e == "*"),
        condition => *condition == Condition::Always,
    };
    let done = match version {
        None => store.delete_object(container, key, condition).await,
        Some(id) => store.delete_version(container, key, id, DeleteVersion { condition, ..how }).await,
    };
    match done {
        Ok(deleted) => Ok(Some(deleted)),
        Err(ObjectError::NoSuchObject) if !any && container.info.versioning.is_set() => {
            match store.open_latest(container, key, 0).await {
                Ok(latest) if latest.meta.is_marker() => Err(ObjectError::PreconditionFailed),
                Ok(_) | Err(ObjectError::NoSuchObject) => Ok(None),
                Err(e) => Err(e),
            }
        }
        Err(ObjectError::NoSuchObject | ObjectError::NoSuchVersion) => Ok(None),
        Err(e) => Err(e),
    }
}

/// What the object must be like to be deleted.
fn like(etag: Option<&str>, modified: Option<&str>, size: Option<&str>) -> S3Result<Condition> {
    let etags = etag.map(precondition::etags);
    if modified.is_none() && size.is_none() {
        return Ok(etags.map_or(Condition::Always, Condition::Match));
    }
    let bad = |what: &str| {
        S3Error::invalid_argument(format!("The {what} that the object is to have makes no sense"))
    };
    let size = size.map(|n| n.trim().parse().map_err(|_| bad("size"))).transpose()?;
    let seconds = |text: &str| {
        let iso = || chrono::DateTime::parse_from_rfc3339(text.trim()).ok().map(|at| at.timestamp());
        precondition::date(text).or_else(iso).ok_or_else(|| bad("time"))
    };
    Ok(Condition::Like { etags, modified: modified.map(seconds).transpose()?, size })
}

/// How a request deletes versions.
fn how(call: &Call, container: &Container) -> DeleteVersion {
    DeleteVersion { bypass: lock::bypasses(call, container), promote: true, ..DeleteVersion::default() }
}

/// One object that a request for many names.
pub(super) struct Named<'a> {
    key: &'a str,
    version: Option<&'a str>,
    condition: Condition,
}

/// The objects that a document names, at least one and not too many.
pub(super) fn named(node: &Node) -> S3Result<Vec<Named<'_>>> {
    let mut all = Vec::new();
    for object in node.all("Object") {
        all.push(Named {
            key: object.value("Key").ok_or_else(malformed_xml)?,
            version: object.value("VersionId").filter(|v| !v.is_empty()),
            condition: like(object.value("ETag"), object.value("LastModifiedTime"), object.value("Size"))?,
        });
    }
    match all.len() {
        1..=MOST => Ok(all),
        _ => Err(malformed_xml()),
    }
}

pub(super) async fn many(call: Call) -> S3Result<Response> {
    let container = call.store.find_bucket(&call.access, &call.bucket).await?;
    if !call.has_sum() {
        return Err(error::missing_sum());
    }
    let body = call.small_body().await?;
    let node = Node::parse(&body, "Delete")?;
    let quiet = node.value("Quiet") == Some("true");
    let all = named(&node)?;
    let how = how(&call, &container);
    let mut deletions = Vec::with_capacity(all.len());
    for Named { key, version, condition } in &all {
        let action = if version.is_some() { "s3:DeleteObjectVersion" } else { DELETE };
        let (access, container, call) = (call.access.asking(action, key), &container, &call);
        let how = how.clone();
        let deletion = async move {
            call.store.admit(&access, container, Need::Write).await?;
            // What is no id is no version of this object; the others are deleted all the same.
            let id = |text: &str| VersionId::parse(text).ok_or(ObjectError::NoSuchVersion);
            let version = version.map(id).transpose()?;
            delete(call, container, key, version, condition.clone(), how).await
        };
        deletions.push(deletion.boxed());
    }
    let done: Vec<Result<Option<Deleted>, ObjectError>> =
        futures::stream::iter(deletions).buffered(AT_ONCE).collect().await;
    let mut xml = Xml::new();
    xml.root("DeleteResult");
    for (Named { key, version, .. }, done) in all.iter().zip(done) {
        match done {
            Ok(_) if quiet => {}
            Ok(deleted) => {
                xml.open("Deleted").text("Key", key).text_opt("VersionId", *version);
                if let Some(marker) = deleted.filter(|d| d.marker).and_then(|d| d.version) {
                    xml.text("DeleteMarker", "true").text("DeleteMarkerVersionId", &marker.to_string());
                }
                xml.close("Deleted");
            }
            Err(e) => {
                let e = S3Error::from(e);
                xml.open("Error").text("Key", key).text_opt("VersionId", *version);
                xml.text("Code", e.code).text("Message", &e.message);
                xml.close("Error");
            }
        }
    }
    xml.close("DeleteResult");
    Ok(xml_reply(StatusCode::OK, xml))
}
