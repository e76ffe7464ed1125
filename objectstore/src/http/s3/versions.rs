//! Versions: a bucket's versioning, which version a request means and what it is told of it, the listing of all.

use super::acl::owner_of;
use super::config::{container as owned, owner};
use super::error::{self, S3Error, S3Result, malformed_xml};
use super::list::{Names, check_attributes, most, tell_sum, time};
use super::xml::{Node, Xml};
use super::{Call, bare, xml_reply};
use crate::container::Container;
use crate::http::content::http_date;
use crate::index::{VersionItem, VersionQuery};
use crate::version::{VersionId, Versioning};
use crate::{ContainerInfo, Need, Object, ObjectError};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode};
use std::sync::Arc;

/// The version that a request names.
pub(super) fn wanted(call: &Call) -> S3Result<Option<VersionId>> {
    call.param("versionId").map(|text| parse("versionId", text)).transpose()
}

pub(super) fn parse(name: &'static str, text: &str) -> S3Result<VersionId> {
    VersionId::parse(text).ok_or_else(|| {
        let what = if text.is_empty() {
            "Version id cannot be the empty string"
        } else {
            "Invalid version id specified"
        };
        S3Error::invalid_argument(what).with("ArgumentName", name).with("ArgumentValue", text)
    })
}

/// Opens the version that is asked for, or the latest. A delete marker is told as what it is. What is not there is
/// an error of `absent`, which knows whether the caller may know.
pub(super) async fn open(
    call: &Call,
    container: &Arc<Container>,
    key: &str,
    version: Option<VersionId>,
    first: u64,
    absent: impl FnOnce(ObjectError) -> ObjectError,
) -> S3Result<Object> {
    let opened = match version {
        None => call.store.open_latest(container, key, first).await,
        Some(id) => call.store.open_version(container, key, id, first).await,
    };
    let refused = match opened {
        Ok(object) if !object.meta.is_marker() => return Ok(object),
        Ok(object) => {
            let modified = http_date(object.meta.modified.0.secs());
            let e = match version {
                None => S3Error::from(absent(ObjectError::NoSuchObject)),
                Some(_) => {
                    let e = error::method_not_allowed().header("allow", "DELETE");
                    e.header("last-modified", modified).with("Method", call.method.as_str())
                }
            };
            if e.status == StatusCode::FORBIDDEN {
                return Err(e);
            }
            e.header("x-amz-delete-marker", "true")
                .header("x-amz-version-id", object.meta.version_id().to_string())
        }
        Err(ObjectError::NoSuchVersion) => S3Error::from(absent(ObjectError::NoSuchVersion))
            .with("VersionId", version.map(|v| v.to_string()).unwrap_or_default()),
        Err(e) => S3Error::from(absent(e)),
    };
    Err(if refused.status == StatusCode::NOT_FOUND { refused.with("Key", key) } else { refused })
}

/// Names the version that a response is about, where the bucket has any.
pub(super) fn name(out: &mut HeaderMap, container: &Container, id: VersionId) {
    if container.info.versioning.is_set() {
        name_some(out, "x-amz-version-id", Some(id));
    }
}

pub(super) fn name_some(out: &mut HeaderMap, header: &'static str, id: Option<VersionId>) {
    if let Some(value) = id.and_then(|id| HeaderValue::from_str(&id.to_string()).ok()) {
        out.insert(header, value);
    }
}

/// `?versioning`
pub(super) async fn of_bucket(call: &Call) -> S3Result<Response> {
    let container = owned(call).await?;
    match call.method.as_str() {
        "GET" => Ok(show(container.info.versioning)),
        "PUT" => set(call, &container).await,
        _ => Err(error::method_not_allowed()),
    }
}

fn show(versioning: Versioning) -> Response {
    let mut xml = Xml::new();
    xml.root("VersioningConfiguration");
    match versioning {
        Versioning::Unset => {}
        Versioning::Enabled => drop(xml.text("Status", "Enabled")),
        Versioning::Suspended => drop(xml.text("Status", "Suspended")),
    }
    xml.close("VersioningConfiguration");
    xml_reply(StatusCode::OK, xml)
}

async fn set(call: &Call, container: &Container) -> S3Result<Response> {
    let node = Node::parse(&call.small_body().await?, "VersioningConfiguration")?;
    match node.value("MfaDelete") {
        None | Some("Disabled") => {}
        // Nobody here has a device that could say yes.
        Some("Enabled") => {
            let message = "Mfa Authentication must be used for this request";
            return Err(S3Error { message: message.into(), ..error::access_denied() });
        }
        Some(_) => return Err(malformed_xml()),
    }
    let versioning = match node.value("Status") {
        Some("Enabled") => Versioning::Enabled,
        Some("Suspended") => Versioning::Suspended,
        Some(_) => return Err(malformed_xml()),
        None => {
            return Err(S3Error {
                code: "IllegalVersioningConfigurationException",
                ..S3Error::invalid_argument("The Versioning element must be specified")
            });
        }
    };
    let rule = |info: &mut ContainerInfo| info.set_versioning(versioning);
    let changed =
        call.store.change_container(&call.access, &container.project_id, &container.name, &rule).await;
    changed.map_err(|e| match e {
        ObjectError::Locked => {
            let message = "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.";
            S3Error { message: message.into(), ..error::invalid_state() }
        }
        e => e.into(),
    })?;
    Ok(bare(StatusCode::OK))
}

/// `?versions`
pub(super) async fn list(call: Call) -> S3Result<Response> {
    let names = Names::of(&call)?;
    check_attributes(&call)?;
    let text = |name: &str| call.param(name).unwrap_or_default().to_owned();
    let marker = call.param("version-id-marker").filter(|m| !m.is_empty());
    let query = VersionQuery {
        prefix: text("prefix"),
        key_marker: text("key-marker"),
        version_marker: marker.map(|m| parse("version-id-marker", m)).transpose()?,
        delimiter: text("delimiter"),
        limit: most(&call, "max-keys")?,
    };
    if marker.is_some() && query.key_marker.is_empty() {
        let message = "A version-id marker cannot be specified without a key marker.";
        return Err(S3Error::invalid_argument(message).with("ArgumentName", "version-id-marker"));
    }
    let container = call.store.bucket(&call.access, &call.bucket, Need::List).await?;
    let page = call.store.list_versions(&container, &query).await?;
    let mut xml = Xml::new();
    xml.root("ListVersionsResult").text("Name", &container.name).text("Prefix", &names.write(&query.prefix));
    xml.text("KeyMarker", &names.write(&query.key_marker));
    xml.text("VersionIdMarker", marker.unwrap_or_default());
    match page.items.last().filter(|_| page.truncated) {
        Some(VersionItem::Version { name, entry, .. }) => {
            xml.text("NextKeyMarker", &names.write(name));
            xml.text("NextVersionIdMarker", &entry.id().to_string());
        }
        Some(VersionItem::Prefix(name)) => drop(xml.text("NextKeyMarker", &names.write(name))),
        None => {}
    }
    xml.text("MaxKeys", &query.limit.to_string());
    if !query.delimiter.is_empty() {
        xml.text("Delimiter", &names.write(&query.delimiter));
    }
    if names.encoded() {
        xml.text("EncodingType", "url");
    }
    xml.text("IsTruncated", if page.truncated { "true" } else { "false" });
    for item in &page.items {
        let VersionItem::Version { name, entry, latest } = item else { continue };
        let element = if entry.marker { "DeleteMarker" } else { "Version" };
        xml.open(element).text("Key", &names.write(name)).text("VersionId", &entry.id().to_string());
        xml.text("IsLatest", if *latest { "true" } else { "false" });
        xml.text("LastModified", &time(entry.modified()));
        if !entry.marker {
            tell_sum(xml.etag(entry.shown_etag()), entry.sum);
            xml.text("Size", &entry.shown_size().to_string());
            let class = call.store.policies().class_at(&container.policy, entry.place);
            xml.text("StorageClass", class);
        }
        owner(&mut xml, owner_of(&call.store, &container, &entry.owner));
        xml.close(element);
    }
    for item in &page.items {
        if let VersionItem::Prefix(name) = item {
            xml.open("CommonPrefixes").text("Prefix", &names.write(name)).close("CommonPrefixes");
        }
    }
    xml.close("ListVersionsResult");
    Ok(xml_reply(StatusCode::OK, xml))
}
