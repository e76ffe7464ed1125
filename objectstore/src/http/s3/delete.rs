//! Deleting objects: one, or up to a thousand at once.

use super::error::{S3Error, S3Result, malformed_xml};
use super::xml::{Node, Xml};
use super::{Call, bare, xml_reply};
use crate::http::precondition;
use crate::object::Condition;
use crate::{Need, ObjectError};
use axum::response::Response;
use futures::{FutureExt, StreamExt};
use http::StatusCode;

/// Most keys in one request, and deletions under way at once.
const MOST: usize = 1000;
const AT_ONCE: usize = 16;

pub(super) async fn one(call: Call) -> S3Result<Response> {
    let container = call.store.bucket(&call.access, &call.bucket, Need::Write).await?;
    let condition = match call.header("if-match") {
        None => Condition::Always,
        Some(etags) => Condition::Match(precondition::etags(etags)),
    };
    let conditional = condition != Condition::Always;
    match call.store.delete_object(&container, &call.key, condition).await {
        // What is not there has been deleted.
        Err(ObjectError::NoSuchObject) if !conditional => {}
        done => done?,
    }
    Ok(bare(StatusCode::NO_CONTENT))
}

pub(super) async fn many(call: Call) -> S3Result<Response> {
    let container = call.store.bucket(&call.access, &call.bucket, Need::Write).await?;
    let body = call.small_body().await?;
    let node = Node::parse(&body, "Delete")?;
    let quiet = node.value("Quiet") == Some("true");
    let mut keys: Vec<&str> = Vec::new();
    for object in node.all("Object") {
        keys.push(object.value("Key").ok_or_else(malformed_xml)?);
        if object.value("VersionId").is_some_and(|v| !v.is_empty() && v != "null") {
            return Err(S3Error::invalid_argument("Invalid version id specified"));
        }
    }
    if keys.is_empty() || keys.len() > MOST {
        return Err(malformed_xml());
    }
    let mut deletions = Vec::with_capacity(keys.len());
    for key in &keys {
        deletions.push(call.store.delete_object(&container, key, Condition::Always).boxed());
    }
    let done: Vec<Result<(), ObjectError>> =
        futures::stream::iter(deletions).buffered(AT_ONCE).collect().await;
    let mut xml = Xml::new();
    xml.root("DeleteResult");
    for (key, done) in keys.iter().zip(done) {
        match done {
            Ok(()) | Err(ObjectError::NoSuchObject) => {
                if !quiet {
                    xml.open("Deleted").text("Key", key).close("Deleted");
                }
            }
            Err(e) => {
                let e = S3Error::from(e);
                xml.open("Error").text("Key", key).text("Code", e.code).text("Message", &e.message);
                xml.close("Error");
            }
        }
    }
    xml.close("DeleteResult");
    Ok(xml_reply(StatusCode::OK, xml))
}
