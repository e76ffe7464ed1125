//! Copies: of an object, and into a part of an upload.

use super::error::{self, S3Error, S3Result};
use super::list::time;
use super::multipart::upload_id;
use super::object::{condition, described};
use super::xml::Xml;
use super::{Call, xml_reply};
use crate::http::manifest::{self, Opened};
use crate::http::precondition::{date, etags};
use crate::meta::Checksum;
use crate::object::{Body, Expect};
use crate::range::{Ranges, Span};
use crate::{Algorithm, Need};
use axum::response::Response;
use http::StatusCode;
use percent_encoding::percent_decode_str;
use state::Timestamp;

struct From {
    bucket: String,
    key: String,
}

/// `x-amz-copy-source`: `[/]bucket/key[?versionId=null]`, URL-encoded.
fn source(call: &Call) -> S3Result<From> {
    let text = call.header("x-amz-copy-source").unwrap_or_default();
    let bad = || {
        S3Error::invalid_argument(
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
        )
        .with("ArgumentName", "x-amz-copy-source")
        .with("ArgumentValue", text)
    };
    let (path, version) = text.split_once("?versionId=").unwrap_or((text, ""));
    if !version.is_empty() && version != "null" {
        return Err(S3Error::invalid_argument("Invalid version id specified"));
    }
    let decoded = String::from_utf8(percent_decode_str(path).collect()).map_err(|_| bad())?;
    let (bucket, key) = crate::large::split_path(&decoded).ok_or_else(bad)?;
    Ok(From { bucket: bucket.to_owned(), key: key.to_owned() })
}

/// Opens the source, if it is as the request's conditions want it.
async fn open(call: &Call, from: &From) -> S3Result<Opened> {
    let container = call.store.bucket(&call.access, &from.bucket, Need::Read).await?;
    let object = call.store.open_object(&container, &from.key, call.store.first_read()).await?;
    let opened = manifest::open(&call.store, &call.access, &container, object, false).await?;
    let modified = opened.meta.modified.0.secs();
    let hit = |text: &str| etags(text).iter().any(|e| e == "*" || *e == opened.etag);
    let given = |name: &str| call.header(&format!("x-amz-copy-source-if-{name}"));
    let refused = given("match").is_some_and(|t| !hit(t))
        || given("none-match").is_some_and(hit)
        || (given("match").is_none()
            && given("unmodified-since").and_then(date).is_some_and(|at| modified > at))
        || (given("none-match").is_none()
            && given("modified-since").and_then(date).is_some_and(|at| modified <= at));
    if refused { Err(error::precondition()) } else { Ok(opened) }
}

pub(super) async fn object(call: Call) -> S3Result<Response> {
    let from = source(&call)?;
    let target = call.store.bucket(&call.access, &call.bucket, Need::Write).await?;
    let replace = match call.header("x-amz-metadata-directive") {
        None | Some("COPY") => false,
        Some("REPLACE") => true,
        Some(_) => return Err(S3Error::invalid_argument("Unknown metadata directive.")),
    };
    let same = from.bucket == call.bucket && from.key == call.key;
    if same && !replace && !call.headers.contains_key("x-amz-storage-class") {
        return Err(S3Error::invalid_request(
            "This copy request is illegal because it is trying to copy an object to itself without changing the \
             object's metadata, storage class, website redirect location or encryption attributes.",
        ));
    }
    let mut new = described(&call, &target)?;
    let opened = open(&call, &from).await?;
    new.tags = super::tags::of_copy(&call, &opened.meta)?;
    if !replace {
        new.content_type.clone_from(&opened.meta.content_type);
        new.headers = opened.meta.headers.iter().filter(|(n, _)| n != manifest::DLO).cloned().collect();
        new.user.clone_from(&opened.meta.user);
    }
    let kept = opened.meta.checksum.as_ref().and_then(|c| Algorithm::of(&c.algorithm));
    let wanted = call.header("x-amz-checksum-algorithm").and_then(Algorithm::of);
    let size = opened.size;
    let mut body = Body::new(opened.content.stream(Span { start: 0, end: size }), Some(size));
    body.expect = Expect { algorithm: wanted.or(kept), ..Expect::default() };
    let written = call.store.put_object(&target, new, body, condition(&call)?).await?;
    Ok(result("CopyObjectResult", &written.etag, written.modified, written.checksum.as_ref()))
}

pub(super) async fn part(call: Call) -> S3Result<Response> {
    let from = source(&call)?;
    let target = call.store.bucket(&call.access, &call.bucket, Need::Write).await?;
    let (id, number) = (upload_id(&call)?, super::multipart::part_number(&call)?);
    let opened = open(&call, &from).await?;
    let span = match call.header("x-amz-copy-source-range") {
        None => Span { start: 0, end: opened.size },
        Some(text) => {
            let spans = Ranges::parse(text).and_then(|r| r.within(opened.size));
            match spans.as_deref() {
                Some([span]) => *span,
                _ => {
                    return Err(S3Error::invalid_argument(
                        "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy",
                    ));
                }
            }
        }
    };
    let mut body = Body::new(opened.content.stream(span), Some(span.len()));
    let page = call.store.list_parts(&target, &call.key, id, crate::upload::MOST_PARTS, 1).await?;
    body.expect.algorithm = page.algorithm.as_deref().and_then(Algorithm::of);
    let part = call.store.put_part(&target, &call.key, id, number, body).await?;
    Ok(result("CopyPartResult", &part.etag, part.modified, part.checksum.as_ref()))
}

fn result(root: &str, etag: &str, modified: Timestamp, checksum: Option<&Checksum>) -> Response {
    let mut xml = Xml::new();
    xml.root(root).text("LastModified", &time(modified)).text("ETag", &format!("\"{etag}\""));
    if let Some(sum) = checksum {
        xml.text(&format!("Checksum{}", sum.algorithm), &sum.value);
    }
    xml.close(root);
    xml_reply(StatusCode::OK, xml)
}
