//! Tags of buckets and objects. An object's lie with its metadata, a bucket's with the container's facts.
//!
//! ACLs say nothing of tags: who does not belong to the project neither sees nor sets them, but for an object that
//! they write themselves.

use super::error::{S3Error, S3Result, malformed_xml, method_not_allowed};
use super::xml::{Node, Xml};
use super::{Call, bare, versions, xml_reply};
use crate::{ContainerInfo, Need, ObjectError, ObjectMeta};
use axum::response::Response;
use http::StatusCode;

pub(super) type Tags = Vec<(String, String)>;

/// Most tags, and the characters of a key and of a value.
const OF_OBJECT: usize = 10;
const OF_BUCKET: usize = 50;
const LONGEST_KEY: usize = 128;
const LONGEST_VALUE: usize = 256;

pub(super) async fn of_bucket(call: &Call) -> S3Result<Response> {
    let need = if call.method == http::Method::GET { Need::Look } else { Need::Own };
    let container = call.store.bucket(&call.access, &call.bucket, need).await?;
    let (tags, status) = match call.method.as_str() {
        "GET" if container.info.tags.is_empty() => {
            return Err(S3Error::not_configured("NoSuchTagSet", "The TagSet does not exist"));
        }
        "GET" => return Ok(show(&container.info.tags)),
        "PUT" => (of_body(&call.small_body().await?, OF_BUCKET)?, StatusCode::NO_CONTENT),
        "DELETE" => (Tags::new(), StatusCode::NO_CONTENT),
        _ => return Err(method_not_allowed()),
    };
    let rule = |info: &mut ContainerInfo| {
        info.tags.clone_from(&tags);
        Ok::<(), ObjectError>(())
    };
    call.store.change_container(&call.access, &container.project_id, &container.name, &rule).await?;
    Ok(bare(status))
}

pub(super) async fn of_object(call: &Call) -> S3Result<Response> {
    let need = if call.method == http::Method::GET { Need::Look } else { Need::Own };
    let container = call.store.bucket(&call.access, &call.bucket, need).await?;
    let version = versions::wanted(call)?;
    let (tags, status) = match call.method.as_str() {
        "GET" => {
            let object = versions::open(call, &container, &call.key, version, 0, |e| e).await?;
            let mut response = show(&object.meta.tags);
            versions::name(response.headers_mut(), &container, object.meta.version_id());
            return Ok(response);
        }
        "PUT" => (of_body(&call.small_body().await?, OF_OBJECT)?, StatusCode::OK),
        "DELETE" => (Tags::new(), StatusCode::NO_CONTENT),
        _ => return Err(method_not_allowed()),
    };
    let meta = call.store.tag_object(&container, &call.key, version, tags).await?;
    let mut response = bare(status);
    versions::name(response.headers_mut(), &container, meta.version_id());
    Ok(response)
}

/// The tags that a written object gets by `x-amz-tagging`.
pub(super) fn of_header(call: &Call) -> S3Result<Tags> {
    let Some(text) = call.headers.get("x-amz-tagging") else { return Ok(Tags::new()) };
    let bad = || {
        S3Error::invalid_argument(
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.",
        )
        .with("ArgumentName", "x-amz-tagging")
    };
    let decode = |s: &str| {
        let spaced = s.replace('+', " ");
        String::from_utf8(percent_encoding::percent_decode_str(&spaced).collect()).map_err(|_| bad())
    };
    let mut tags = Tags::new();
    for pair in text.to_str().map_err(|_| bad())?.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decode(key)?, decode(value)?);
        if tags.iter().any(|(k, _)| *k == key) {
            return Err(bad());
        }
        tags.push((key, value));
    }
    check(tags, OF_OBJECT)
}

/// The tags of a copy: its source's, or with `x-amz-tagging-directive: REPLACE` those of the request.
pub(super) fn of_copy(call: &Call, source: &ObjectMeta) -> S3Result<Tags> {
    match call.header("x-amz-tagging-directive") {
        None | Some("COPY") => Ok(source.tags.clone()),
        Some("REPLACE") => of_header(call),
        Some(_) => Err(S3Error::invalid_argument("Unknown tagging directive.")),
    }
}

fn of_body(body: &[u8], most: usize) -> S3Result<Tags> {
    let node = Node::parse(body, "Tagging")?;
    of_set(node.child("TagSet").ok_or_else(malformed_xml)?, most)
}

/// The tags that a bucket is to have from the beginning.
pub(super) fn of_new_bucket(configuration: &Node) -> S3Result<Tags> {
    configuration.child("Tags").map_or_else(|| Ok(Tags::new()), |set| of_set(set, OF_BUCKET))
}

fn of_set(set: &Node, most: usize) -> S3Result<Tags> {
    let mut tags = Tags::new();
    for tag in set.all("Tag") {
        let (Some(key), Some(value)) = (tag.value("Key"), tag.value("Value")) else {
            return Err(malformed_xml());
        };
        if tags.iter().any(|(k, _)| k == key) {
            return Err(invalid("Cannot provide multiple Tags with the same key", key));
        }
        tags.push((key.to_owned(), value.to_owned()));
    }
    check(tags, most)
}

/// The tags of an object, in XML.
pub(super) fn of_document(body: &[u8]) -> S3Result<Tags> {
    of_body(body, OF_OBJECT)
}

fn check(mut tags: Tags, most: usize) -> S3Result<Tags> {
    tags.sort();
    if tags.len() > most {
        let what = if most == OF_OBJECT { "Object" } else { "Bucket" };
        let message = format!("{what} tags cannot be greater than {most}");
        return Err(S3Error { code: "InvalidTag", ..S3Error::invalid_argument(message) });
    }
    let odd = |c: char| !(c.is_alphanumeric() || c == ' ' || "+-=._:/@".contains(c));
    for (key, value) in &tags {
        if key.is_empty() || key.chars().count() > LONGEST_KEY || key.contains(odd) {
            return Err(invalid("The TagKey you have provided is invalid", key));
        }
        if key.starts_with("aws:") {
            return Err(invalid("System tags cannot be added/updated by requester", key));
        }
        if value.chars().count() > LONGEST_VALUE || value.contains(odd) {
            return Err(invalid("The TagValue you have provided is invalid", key));
        }
    }
    Ok(tags)
}

fn invalid(message: &str, key: &str) -> S3Error {
    S3Error { code: "InvalidTag", ..S3Error::invalid_argument(message) }.with("TagKey", key)
}

fn show(tags: &Tags) -> Response {
    let mut xml = Xml::new();
    xml.root("Tagging").open("TagSet");
    for (key, value) in tags {
        xml.open("Tag").text("Key", key).text("Value", value).close("Tag");
    }
    xml.close("TagSet").close("Tagging");
    xml_reply(StatusCode::OK, xml)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doc(tags: &[(&str, &str)]) -> String {
        let tag = |(k, v): &(&str, &str)| format!("<Tag><Key>{k}</Key><Value>{v}</Value></Tag>");
        let tags: String = tags.iter().map(tag).collect();
        format!("<Tagging><TagSet>{tags}</TagSet></Tagging>")
    }

    #[test]
    fn tags_are_bounded() {
        let code = |tags: &[(&str, &str)]| of_body(doc(tags).as_bytes(), OF_OBJECT).map_err(|e| e.code);
        assert_eq!(code(&[("a", "1"), ("ü:/@", "")]).map(|t| t.len()), Ok(2));
        assert_eq!(code(&[("a", "1"), ("a", "2")]), Err("InvalidTag"));
        assert_eq!(code(&[("", "1")]), Err("InvalidTag"));
        assert_eq!(code(&[("aws:x", "1")]), Err("InvalidTag"));
        assert_eq!(code(&[("a", &"x".repeat(257))]), Err("InvalidTag"));
        let many: Vec<String> = (0..11).map(|n| n.to_string()).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|k| (k.as_str(), "")).collect();
        assert_eq!(code(&many), Err("InvalidTag"));
        assert_eq!(of_body(b"<Tagging/>", OF_OBJECT).map_err(|e| e.code), Err("MalformedXML"));
    }
}
