//! Copies: of an object, and into a part of an upload.

use super::error::{self, S3Error, S3Result};
use super::list::time;
use super::multipart::{algorithm, tell_seal, upload_id};
use super::object::{condition, described};
use super::website::ELSEWHERE;
use super::xml::Xml;
use super::{Call, sse, versions, xml_reply};
use crate::access::GET;
use crate::http::manifest::{self, Opened};
use crate::http::precondition::{date, etags};
use crate::meta::Checksum;
use crate::object::{Body, Expect};
use crate::range::{Ranges, Span};
use crate::version::VersionId;
use crate::{Algorithm, Need, ObjectError, Permission};
use axum::response::Response;
use http::StatusCode;
use percent_encoding::percent_decode_str;
use state::Timestamp;

struct From {
    bucket: String,
    key: String,
    version: Option<VersionId>,
}

/// `x-amz-copy-source`: `[/]bucket/key[?versionId=…]`, URL-encoded.
fn source(call: &Call) -> S3Result<From> {
    let text = call.header("x-amz-copy-source").unwrap_or_default();
    let bad = || {
        S3Error::invalid_argument(
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
        )
        .with("ArgumentName", "x-amz-copy-source")
        .with("ArgumentValue", text)
    };
    let (path, version) = match text.split_once("?versionId=") {
        Some((path, version)) => (path, Some(versions::parse("x-amz-copy-source", version)?)),
        None => (text, None),
    };
    let decoded = String::from_utf8(percent_decode_str(path).collect()).map_err(|_| bad())?;
    let (bucket, key) = crate::large::split_path(&decoded).ok_or_else(bad)?;
    Ok(From { bucket: bucket.to_owned(), key: key.to_owned(), version })
}

/// Opens the source, if it is as the request's conditions want it; and which version it is, if it is one.
async fn open(call: &Call, from: &From) -> S3Result<(Opened, Option<VersionId>)> {
    call.expect_owner(&from.bucket, "x-amz-source-expected-bucket-owner").await?;
    let access =
        call.access.asking(if from.version.is_some() { "s3:GetObjectVersion" } else { GET }, &from.key);
    let container = call.store.bucket_to_read(&access, &from.bucket).await.map_err(|e| match e {
        ObjectError::NoSuchContainer => error::no_such_bucket().with("BucketName", &from.bucket),
        e => e.into(),
    })?;
    let absent = |e| container.absent(e);
    let first = call.store.first_read();
    let mut object =
        versions::open(call, &container, &from.key, from.version, first, absent).await.map_err(|e| {
            // The answer's headers and its method are about the copy, not about its source.
            let marker = e.status == http::StatusCode::METHOD_NOT_ALLOWED;
            let e = S3Error { headers: Vec::new(), ..e };
            if !marker {
                return e;
            }
            S3Error::invalid_request(
                "The source of a copy request may not specifically refer to a delete marker by version id.",
            )
        })?;
    container.admit(&object.meta, Permission::Read)?;
    object.unlock(sse::customer(call, sse::SOURCE)?)?;
    let opened = manifest::open(&call.store, &access, &container, object, false).await?;
    let modified = opened.meta.modified.0.secs();
    let hit = |text: &str| etags(text).iter().any(|e| e == "*" || *e == opened.etag);
    let given = |name: &str| call.header(&format!("x-amz-copy-source-if-{name}"));
    let refused = given("match").is_some_and(|t| !hit(t))
        || given("none-match").is_some_and(hit)
        || (given("match").is_none()
            && given("unmodified-since").and_then(date).is_some_and(|at| modified > at))
        || (given("none-match").is_none()
            && given("modified-since").and_then(date).is_some_and(|at| modified <= at));
    let id = container.info.versioning.is_set().then(|| opened.meta.version_id());
    if refused { Err(error::precondition()) } else { Ok((opened, id)) }
}

pub(super) async fn object(call: Call) -> S3Result<Response> {
    let from = source(&call)?;
    let target = call.store.bucket(&call.access, &call.bucket, Need::Write).await?;
    let replace = match call.header("x-amz-metadata-directive") {
        None | Some("COPY") => false,
        Some("REPLACE") => true,
        Some(_) => return Err(S3Error::invalid_argument("Unknown metadata directive.")),
    };
    let same = from.bucket == call.bucket && from.key == call.key && from.version.is_none();
    let moves = ["x-amz-storage-class", "x-amz-server-side-encryption", ELSEWHERE];
    let moved =
        moves.iter().any(|n| call.headers.contains_key(*n)) || sse::customer(&call, sse::OWN)?.is_some();
    if same && !replace && !moved {
        return Err(S3Error::invalid_request(
            "This copy request is illegal because it is trying to copy an object to itself without changing the \
             object's metadata, storage class, website redirect location or encryption attributes.",
        ));
    }
    let mut new = described(&call, &target)?;
    let (opened, from_id) = open(&call, &from).await?;
    new.tags = super::tags::of_copy(&call, &opened.meta)?;
    if !replace {
        new.content_type.clone_from(&opened.meta.content_type);
        // Where an object is elsewhere is said for each anew.
        new.headers.retain(|(n, _)| n == ELSEWHERE);
        let own = |n: &str| n == manifest::DLO || n == ELSEWHERE;
        new.headers.extend(opened.meta.headers.iter().filter(|(n, _)| !own(n)).cloned());
        new.user.clone_from(&opened.meta.user);
    }
    let kept = opened.meta.checksum.as_ref().and_then(|c| Algorithm::of(&c.algorithm));
    let wanted = call.header("x-amz-checksum-algorithm").map(algorithm).transpose()?;
    let size = opened.size;
    check_size(&call, size)?;
    let mut body = Body::new(opened.content.stream(Span { start: 0, end: size }), Some(size));
    body.expect = Expect { algorithm: wanted.or(kept), ..Expect::default() };
    let body = body.summed();
    let written = call.store.put_object(&target, new, body, condition(&call)?).await?;
    let mut response = result("CopyObjectResult", &written.etag, written.modified, written.checksum.as_ref());
    versions::name_some(response.headers_mut(), "x-amz-version-id", written.version);
    sse::tell(response.headers_mut(), written.seal.as_ref());
    versions::name_some(response.headers_mut(), "x-amz-copy-source-version-id", from_id);
    Ok(response)
}

/// What is copied is no larger than what may be uploaded in one piece.
fn check_size(call: &Call, size: u64) -> S3Result<()> {
    let most = call.store.config().limits.max_file_size;
    if size <= most {
        return Ok(());
    }
    let text = format!(
        "The specified copy source is larger than the maximum allowable size for a copy source: {most}"
    );
    Err(S3Error::invalid_request(text))
}

pub(super) async fn part(call: Call) -> S3Result<Response> {
    let from = source(&call)?;
    let target = call.store.bucket(&call.access, &call.bucket, Need::Write).await?;
    let (id, number) = (upload_id(&call)?, super::multipart::part_number(&call)?);
    let (opened, from_id) = open(&call, &from).await?;
    let span = match call.header("x-amz-copy-source-range") {
        None => Span { start: 0, end: opened.size },
        Some(text) => {
            let ranges = Ranges::parse(text).filter(|r| r.count() == 1 && r.is_closed());
            match ranges.map(|r| r.whole_within(opened.size)) {
                Some(Some(span)) => span,
                Some(None) => {
                    let text =
                        format!("Range specified is not valid for source object of size: {}", opened.size);
                    return Err(S3Error { message: text, ..error::invalid_range() });
                }
                None => {
                    return Err(S3Error::invalid_argument(
                        "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy",
                    ));
                }
            }
        }
    };
    check_size(&call, span.len())?;
    let mut body = Body::new(opened.content.stream(span), Some(span.len()));
    let page = call.store.list_parts(&target, &call.key, id, crate::upload::MOST_PARTS, 1).await?;
    body.expect.algorithm = page.algorithm.as_deref().and_then(Algorithm::of);
    body.customer = sse::customer(&call, sse::OWN)?;
    let customer = body.customer.clone();
    let part = call.store.put_part(&target, &call.key, id, number, body).await?;
    let mut response = result("CopyPartResult", &part.etag, part.modified, part.checksum.as_ref());
    tell_seal(response.headers_mut(), customer, &part);
    versions::name_some(response.headers_mut(), "x-amz-copy-source-version-id", from_id);
    Ok(response)
}

fn result(root: &str, etag: &str, modified: Timestamp, checksum: Option<&Checksum>) -> Response {
    let mut xml = Xml::new();
    xml.root(root).text("LastModified", &time(modified)).etag(etag);
    if let Some(sum) = checksum {
        xml.text(&format!("Checksum{}", sum.algorithm), &sum.value);
        if root == "CopyObjectResult" {
            xml.text("ChecksumType", sum.kind());
        }
    }
    xml.close(root);
    xml_reply(StatusCode::OK, xml)
}
