//! Multipart uploads, as S3's clients drive them.

use super::acl::owner_of;
use super::config::owner;
use super::error::{self, S3Error, S3Result, malformed_xml};
use super::list::{Names, most, tell_sum, time};
use super::object::{checksum_headers, condition, described};
use super::xml::{Node, Xml};
use super::{Call, bare, lifecycle, sse, versions, xml_reply};
use crate::container::Container;
use crate::meta::{Checksum, Part};
use crate::seal::{CustomerKey, SealWith};
use crate::upload::{NamedPart, UploadQuery, Whole};
use crate::{Algorithm, Need, SumKind, Tag};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode};

/// The `uploadId` of a request. What is no id is no upload.
pub(super) fn upload_id(call: &Call) -> S3Result<Tag> {
    call.param("uploadId").and_then(Tag::parse).ok_or_else(error::no_such_upload)
}

pub(super) fn part_number(call: &Call) -> S3Result<u32> {
    number_of_part(call.param("partNumber").unwrap_or_default())
}

pub(super) fn number_of_part(text: &str) -> S3Result<u32> {
    let number = text.parse().ok().filter(|n| (1..=crate::upload::MOST_PARTS).contains(n));
    number.ok_or_else(|| {
        S3Error::invalid_argument("Part number must be an integer between 1 and 10000, inclusive")
            .with("ArgumentName", "partNumber")
            .with("ArgumentValue", text)
    })
}

pub(super) async fn begin(call: Call) -> S3Result<Response> {
    let container = call.store.bucket(&call.access, &call.bucket, Need::Write).await?;
    let new = described(&call, &container)?;
    let sum = sum_wanted(&call)?;
    let (algorithm, full) = (sum.map(|s| s.algorithm), sum.is_some_and(|s| !s.composite));
    let seal = new.seal.clone();
    let id = call.store.begin_upload(&container, new, algorithm, full).await?;
    let mut xml = Xml::new();
    xml.root("InitiateMultipartUploadResult").text("Bucket", &call.bucket).text("Key", &call.key);
    xml.text("UploadId", &id.to_string()).close("InitiateMultipartUploadResult");
    let mut response = xml_reply(StatusCode::OK, xml);
    lifecycle::tell_upload(response.headers_mut(), &call, &container);
    sse::tell_wish(response.headers_mut(), seal.as_ref());
    if let Some(sum) = sum {
        let (algorithm, kind) = (sum.algorithm.name(), sum.name());
        response.headers_mut().insert("x-amz-checksum-algorithm", HeaderValue::from_static(algorithm));
        response.headers_mut().insert("x-amz-checksum-type", HeaderValue::from_static(kind));
    }
    Ok(response)
}

/// The checksum that a request names.
pub(super) fn algorithm(name: &str) -> S3Result<Algorithm> {
    Algorithm::of(name).ok_or_else(|| {
        S3Error::invalid_request("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
    })
}

/// Which checksum the object is to have.
fn sum_wanted(call: &Call) -> S3Result<Option<SumKind>> {
    let full = sum_kind(call)?;
    let Some(name) = call.header("x-amz-checksum-algorithm") else {
        return match full {
            None => Ok(None),
            Some(_) => Err(S3Error::invalid_request(
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )),
        };
    };
    let algorithm = algorithm(name)?;
    let composite = !full.unwrap_or(algorithm == Algorithm::Crc64Nvme);
    let sum = SumKind { algorithm, composite };
    let can = match algorithm {
        Algorithm::Crc32 | Algorithm::Crc32c => true,
        Algorithm::Crc64Nvme => !composite,
        Algorithm::Sha1 | Algorithm::Sha256 => composite,
    };
    if can {
        return Ok(Some(sum));
    }
    Err(S3Error::invalid_request(format!(
        "The {} checksum type cannot be used with the {} checksum algorithm.",
        sum.name(),
        algorithm.name().to_ascii_lowercase()
    )))
}

/// `x-amz-checksum-type`: whether a checksum is over the object's content.
fn sum_kind(call: &Call) -> S3Result<Option<bool>> {
    match call.header("x-amz-checksum-type") {
        None => Ok(None),
        Some("FULL_OBJECT") => Ok(Some(true)),
        Some("COMPOSITE") => Ok(Some(false)),
        Some(_) => Err(S3Error::invalid_request("Value for x-amz-checksum-type header is invalid.")),
    }
}

pub(super) async fn put_part(call: Call) -> S3Result<Response> {
    let container = call.store.bucket(&call.access, &call.bucket, Need::Write).await?;
    let (id, number) = (upload_id(&call)?, part_number(&call)?);
    let mut body = call.body()?;
    body.customer = sse::customer(&call, sse::OWN)?;
    let customer = body.customer.clone();
    if body.length.is_none() && !call.headers.contains_key("transfer-encoding") {
        return Err(error::missing_length());
    }
    let part = call.store.put_part(&container, &call.key, id, number, body).await?;
    let mut out = HeaderMap::new();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", part.etag)) {
        out.insert(http::header::ETAG, etag);
    }
    tell_seal(&mut out, customer, &part);
    checksum_headers(&mut out, part.checksum.as_ref());
    out.remove("x-amz-checksum-type");
    Ok((StatusCode::OK, out).into_response())
}

/// Says how a part is encrypted.
pub(super) fn tell_seal(out: &mut HeaderMap, customer: Option<CustomerKey>, part: &Part) {
    let wish = match customer {
        Some(key) => Some(SealWith::Customer(key)),
        None => (!part.salt.is_empty()).then_some(SealWith::Root),
    };
    sse::tell_wish(out, wish.as_ref());
}

/// Who began an upload, and whose the object is to be. `said`: by the upload; empty, the bucket's owner.
fn people(xml: &mut Xml, call: &Call, container: &Container, said: &str) {
    let by = if said.is_empty() { &container.project_id } else { said };
    xml.open("Initiator").text("ID", by).text("DisplayName", by).close("Initiator");
    owner(xml, owner_of(&call.store, container, said));
}

pub(super) async fn list_parts(call: Call) -> S3Result<Response> {
    let container = call.store.bucket(&call.access, &call.bucket, Need::Write).await?;
    let (id, names, limit) = (upload_id(&call)?, Names::of(&call)?, most(&call, "max-parts")?);
    let after: u32 = match call.param("part-number-marker").filter(|m| !m.is_empty()) {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| S3Error::invalid_argument("Provided part-number-marker not an integer"))?,
    };
    let page = call.store.list_parts(&container, &call.key, id, after, limit).await?;
    let mut xml = Xml::new();
    xml.root("ListPartsResult").text("Bucket", &call.bucket).text("Key", &names.write(&call.key));
    xml.text("UploadId", &id.to_string());
    people(&mut xml, &call, &container, &page.owner);
    xml.text("StorageClass", call.store.policies().class_at(&container.policy, page.place))
        .text("PartNumberMarker", &after.to_string())
        .text("NextPartNumberMarker", &page.parts.last().map_or(0, |p| p.number).to_string())
        .text("MaxParts", &limit.to_string())
        .text("IsTruncated", if page.truncated { "true" } else { "false" })
        .text_opt("ChecksumAlgorithm", page.algorithm.as_deref());
    if page.algorithm.is_some() {
        xml.text("ChecksumType", if page.full_checksum { "FULL_OBJECT" } else { "COMPOSITE" });
    }
    for part in &page.parts {
        xml.open("Part").text("PartNumber", &part.number.to_string());
        xml.text("LastModified", &time(part.modified)).etag(&part.etag);
        xml.text("Size", &part.size.to_string());
        if let Some(sum) = &part.checksum {
            xml.text(&format!("Checksum{}", sum.algorithm), &sum.value);
        }
        xml.close("Part");
    }
    xml.close("ListPartsResult");
    Ok(xml_reply(StatusCode::OK, xml))
}

pub(super) async fn complete(call: Call) -> S3Result<Response> {
    let container = call.store.bucket(&call.access, &call.bucket, Need::Write).await?;
    let id = upload_id(&call)?;
    let condition = condition(&call)?;
    let (body, checksum) = call.small_body_about().await?;
    let parts = named_parts(&body)?;
    let size = match call.header("x-amz-mp-object-size") {
        None => None,
        Some(text) => Some(
            text.trim()
                .parse()
                .map_err(|_| S3Error::invalid_argument("x-amz-mp-object-size must be a number of bytes"))?,
        ),
    };
    let whole = Whole { size, checksum, full: sum_kind(&call)? };
    let written = call.store.complete_upload_as(&container, &call.key, id, parts, condition, whole).await?;
    let mut xml = Xml::new();
    xml.root("CompleteMultipartUploadResult");
    xml.text("Location", &format!("/{}/{}", call.bucket, call.key));
    xml.text("Bucket", &call.bucket).text("Key", &call.key).etag(&written.etag);
    if let Some(sum) = &written.checksum {
        xml.text(&format!("Checksum{}", sum.algorithm), &sum.value).text("ChecksumType", sum.kind());
    }
    xml.close("CompleteMultipartUploadResult");
    let mut response = xml_reply(StatusCode::OK, xml);
    versions::name_some(response.headers_mut(), "x-amz-version-id", written.version);
    sse::tell(response.headers_mut(), written.seal.as_ref());
    Ok(response)
}

pub(super) fn named_parts(body: &[u8]) -> S3Result<Vec<NamedPart>> {
    let node = Node::parse(body, "CompleteMultipartUpload")?;
    let mut parts = Vec::new();
    for part in node.all("Part") {
        let number =
            part.value("PartNumber").and_then(|n| n.trim().parse().ok()).ok_or_else(malformed_xml)?;
        let etag = part.value("ETag").ok_or_else(malformed_xml)?.trim().trim_matches('"').to_owned();
        parts.push(NamedPart { number, etag, checksum: sum_of(part)? });
    }
    if parts.is_empty() || parts.len() > crate::upload::MOST_PARTS as usize {
        return Err(malformed_xml());
    }
    Ok(parts)
}

/// The checksum that a client names of a part: one at most.
fn sum_of(part: &Node) -> S3Result<Option<Checksum>> {
    let named = |a: &Algorithm| Some((*a, part.value(&format!("Checksum{}", a.name()))?));
    let named: Vec<(Algorithm, &str)> = Algorithm::ALL.iter().filter_map(named).collect();
    match named.as_slice() {
        [] => Ok(None),
        [(algorithm, value)] if algorithm.is_sum(value) => {
            Ok(Some(Checksum { algorithm: algorithm.name().to_owned(), value: (*value).to_owned() }))
        }
        all => {
            let text: String = all.iter().map(|(a, value)| format!("{}:{value};", a.name())).collect();
            Err(S3Error::invalid_argument("Invalid Base64 or multiple checksums present in request")
                .with("ArgumentName", "Checksum")
                .with("ArgumentValue", text))
        }
    }
}

pub(super) async fn abort(call: Call) -> S3Result<Response> {
    let container = call.store.bucket(&call.access, &call.bucket, Need::Write).await?;
    call.store.abort_upload(&container, &call.key, upload_id(&call)?).await?;
    Ok(bare(StatusCode::NO_CONTENT))
}

pub(super) async fn list_uploads(call: Call) -> S3Result<Response> {
    let container = call.store.bucket(&call.access, &call.bucket, Need::List).await?;
    let names = Names::of(&call)?;
    let text = |name: &str| call.param(name).unwrap_or_default().to_owned();
    let query = UploadQuery {
        prefix: text("prefix"),
        key_marker: text("key-marker"),
        id_marker: call.param("upload-id-marker").and_then(Tag::parse),
        delimiter: text("delimiter"),
        limit: most(&call, "max-uploads")?,
    };
    let page = call.store.list_uploads(&container, &query).await?;
    let mut xml = Xml::new();
    xml.root("ListMultipartUploadsResult").text("Bucket", &call.bucket);
    xml.text("KeyMarker", &names.write(&query.key_marker)).text("UploadIdMarker", &text("upload-id-marker"));
    if let Some((name, id)) = &page.next {
        xml.text("NextKeyMarker", &names.write(name));
        xml.text("NextUploadIdMarker", &id.map(|id| id.to_string()).unwrap_or_default());
    }
    xml.text("Prefix", &names.write(&query.prefix));
    if !query.delimiter.is_empty() {
        xml.text("Delimiter", &names.write(&query.delimiter));
    }
    xml.text("MaxUploads", &query.limit.to_string());
    if names.encoded() {
        xml.text("EncodingType", "url");
    }
    xml.text("IsTruncated", if page.next.is_some() { "true" } else { "false" });
    for upload in &page.uploads {
        xml.open("Upload").text("Key", &names.write(&upload.name)).text("UploadId", &upload.id.to_string());
        people(&mut xml, &call, &container, &upload.owner);
        let class = call.store.policies().class_at(&container.policy, upload.place);
        xml.text("StorageClass", class);
        xml.text("Initiated", &time(upload.started));
        tell_sum(&mut xml, upload.sum);
        xml.close("Upload");
    }
    for prefix in &page.prefixes {
        xml.open("CommonPrefixes").text("Prefix", &names.write(prefix)).close("CommonPrefixes");
    }
    xml.close("ListMultipartUploadsResult");
    Ok(xml_reply(StatusCode::OK, xml))
}
