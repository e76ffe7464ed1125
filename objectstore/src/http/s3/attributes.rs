//! GetObjectAttributes: what an object is, without its content: ETag, checksum, parts, class, size.

use super::error::{S3Error, S3Result};
use super::xml::Xml;
use super::{Call, sse, versions, xml_reply};
use crate::Permission;
use crate::http::content::http_date;
use crate::http::manifest;
use crate::meta::Part;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

const KNOWN: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];
/// Parts of a page.
const PAGE: usize = 1000;

pub(super) async fn answer(call: Call) -> S3Result<Response> {
    let wanted = wanted(&call)?;
    let wants = |name: &str| wanted.iter().any(|w| w == name);
    let (after, most) =
        (number(&call, "x-amz-part-number-marker", 0)?, number(&call, "x-amz-max-parts", PAGE)?);
    let container = call.store.bucket_to_read(&call.access, &call.bucket).await?;
    let version = versions::wanted(&call)?;
    let absent = |e| container.absent(e);
    let mut object = versions::open(&call, &container, &call.key, version, 0, absent).await?;
    container.admit(&object.meta, Permission::Read)?;
    object.unlock(sse::of_reader(&call)?)?;
    let parts = call.store.parts(&object).await?;
    let opened = manifest::open(&call.store, &call.access, &container, object, false).await?;
    let mut xml = Xml::new();
    xml.root("GetObjectAttributesResponse");
    if wants("ETag") {
        xml.text("ETag", &opened.etag);
    }
    if let Some(sum) = opened.meta.checksum.as_ref().filter(|_| wants("Checksum")) {
        // Here a sum over parts' sums does not say how many they are: that is with the parts.
        let value = sum.value.rsplit_once('-').map_or(sum.value.as_str(), |(value, _)| value);
        xml.open("Checksum").text(&format!("Checksum{}", sum.algorithm), value);
        xml.text("ChecksumType", sum.kind()).close("Checksum");
    }
    if wants("ObjectParts") && !parts.is_empty() {
        show(&mut xml, &parts, after, most.min(PAGE));
    }
    if wants("StorageClass") {
        let class = call.store.policies().class_at(&container.policy, opened.meta.place);
        xml.text("StorageClass", class);
    }
    if wants("ObjectSize") {
        xml.text("ObjectSize", &opened.size.to_string());
    }
    xml.close("GetObjectAttributesResponse");
    let mut response = xml_reply(StatusCode::OK, xml);
    versions::name(response.headers_mut(), &container, opened.meta.version_id());
    if let Ok(at) = HeaderValue::from_str(&http_date(opened.meta.modified.0.secs())) {
        response.headers_mut().insert(header::LAST_MODIFIED, at);
    }
    Ok(response)
}

/// What the request asks for, of what there is.
fn wanted(call: &Call) -> S3Result<Vec<String>> {
    let lines = call.headers.get_all("x-amz-object-attributes").into_iter();
    let words = lines.filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let wanted: Vec<String> = words.map(|w| w.trim().to_owned()).filter(|w| !w.is_empty()).collect();
    let bad = |text: &str| S3Error::invalid_argument(text).with("ArgumentName", "x-amz-object-attributes");
    match wanted.iter().find(|w| !KNOWN.contains(&w.as_str())) {
        Some(other) => Err(bad("Invalid attribute name specified.").with("ArgumentValue", other)),
        None if wanted.is_empty() => Err(bad("The x-amz-object-attributes header is required")),
        None => Ok(wanted),
    }
}

fn number(call: &Call, name: &'static str, default: usize) -> S3Result<usize> {
    match call.header(name).map(str::trim).filter(|t| !t.is_empty()) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| {
            S3Error::invalid_argument(format!("Provided {name} not an integer or within integer range"))
                .with("ArgumentName", name)
                .with("ArgumentValue", text)
        }),
    }
}

/// A page of the parts; each is told only where it has a checksum.
fn show(xml: &mut Xml, parts: &[Part], after: usize, most: usize) {
    let behind: Vec<&Part> = parts.iter().filter(|p| p.number as usize > after).collect();
    let page = &behind[..behind.len().min(most)];
    let next = page.last().map_or(0, |p| p.number);
    xml.open("ObjectParts")
        .text("PartsCount", &parts.len().to_string())
        .text("PartNumberMarker", &after.to_string())
        .text("NextPartNumberMarker", &next.to_string())
        .text("MaxParts", &most.to_string())
        .text("IsTruncated", if page.len() < behind.len() { "true" } else { "false" });
    for part in page {
        let Some(sum) = &part.checksum else { continue };
        xml.open("Part").text("PartNumber", &part.number.to_string()).text("Size", &part.size.to_string());
        xml.text(&format!("Checksum{}", sum.algorithm), &sum.value).close("Part");
    }
    xml.close("ObjectParts");
}
