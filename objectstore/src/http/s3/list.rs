//! Listing objects, in S3's two versions of that request.

use super::acl::owner_of;
use super::config::owner;
use super::error::{S3Error, S3Result};
use super::sigv4::encode;
use super::xml::Xml;
use super::{Call, xml_reply};
use crate::container::Container;
use crate::index::{Entry, Item, ListPage, ListQuery};
use crate::{Need, ObjectStore, SumKind};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, SecondsFormat};
use http::StatusCode;
use state::Timestamp;
use std::borrow::Cow;
use std::sync::Arc;

/// Most keys on a page.
const PAGE: usize = 1000;

/// Times in S3's XML: milliseconds, UTC.
pub(super) fn time(at: Timestamp) -> String {
    DateTime::from_timestamp_micros(at.micros())
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// `max-keys` and its kin: a number, at most a page.
pub(super) fn most(call: &Call, name: &str) -> S3Result<usize> {
    match call.param(name).filter(|v| !v.is_empty()) {
        None => Ok(PAGE),
        Some(text) => match text.parse::<u32>() {
            Ok(n) if n <= i32::MAX as u32 => Ok((n as usize).min(PAGE)),
            _ => Err(S3Error::invalid_argument(format!(
                "Provided {name} not an integer or within integer range"
            ))
            .with("ArgumentName", name)
            .with("ArgumentValue", text)),
        },
    }
}

/// What a listing may tell beside the usual: `RestoreStatus`, of objects that are being restored from an archive, of which
/// there are none ([`super::object::restore`]).
pub(super) fn check_attributes(call: &Call) -> S3Result<()> {
    let wanted = call.header("x-amz-optional-object-attributes").unwrap_or_default();
    match wanted.split(',').map(str::trim).find(|w| !w.is_empty() && *w != "RestoreStatus") {
        None => Ok(()),
        Some(other) => Err(S3Error::invalid_argument("Invalid attribute name specified.")
            .with("ArgumentName", "x-amz-optional-object-attributes")
            .with("ArgumentValue", other)),
    }
}

/// Which checksum an object has, or will have.
pub(super) fn tell_sum(xml: &mut Xml, sum: Option<SumKind>) {
    if let Some(sum) = sum {
        xml.text("ChecksumAlgorithm", sum.algorithm.name()).text("ChecksumType", sum.name());
    }
}

/// How names are written: as they are, or URL-encoded where the client asks for it.
#[derive(Clone, Copy)]
pub(super) struct Names(bool);

impl Names {
    pub(super) fn of(call: &Call) -> S3Result<Names> {
        match call.param("encoding-type") {
            None => Ok(Names(false)),
            Some("url") => Ok(Names(true)),
            Some(_) => Err(S3Error::invalid_argument("Invalid Encoding Method specified in Request")
                .with("ArgumentName", "encoding-type")),
        }
    }

    pub(super) fn encoded(self) -> bool {
        self.0
    }

    pub(super) fn write<'a>(self, name: &'a str) -> Cow<'a, str> {
        if !self.0 {
            return Cow::Borrowed(name);
        }
        let mut out = String::with_capacity(name.len() + 8);
        encode(&mut out, name.as_bytes(), true);
        Cow::Owned(out)
    }
}

struct Listing {
    store: ObjectStore,
    container: Arc<Container>,
    names: Names,
    query: ListQuery,
    page: ListPage,
}

impl Listing {
    async fn run(call: &Call, marker: String) -> S3Result<Listing> {
        let names = Names::of(call)?;
        check_attributes(call)?;
        let query = ListQuery {
            prefix: call.param("prefix").unwrap_or_default().to_owned(),
            marker,
            delimiter: call.param("delimiter").unwrap_or_default().to_owned(),
            limit: most(call, "max-keys")?,
            ..ListQuery::default()
        };
        let container = call.store.bucket(&call.access, &call.bucket, Need::List).await?;
        let page = call.store.list_objects(&container, &query).await?;
        Ok(Listing { store: call.store.clone(), container, names, query, page })
    }

    fn last(&self) -> Option<&str> {
        self.page.items.last().filter(|_| self.page.truncated).map(Item::name)
    }

    fn head(&self, xml: &mut Xml, root: &str) {
        xml.root(root)
            .text("Name", &self.container.name)
            .text("Prefix", &self.names.write(&self.query.prefix));
        xml.text("MaxKeys", &self.query.limit.to_string());
        if !self.query.delimiter.is_empty() {
            xml.text("Delimiter", &self.names.write(&self.query.delimiter));
        }
        if self.names.0 {
            xml.text("EncodingType", "url");
        }
        xml.text("IsTruncated", if self.page.truncated { "true" } else { "false" });
    }

    fn items(&self, xml: &mut Xml, with_owner: bool) {
        for item in &self.page.items {
            if let Item::Object(name, entry) = item {
                xml.open("Contents").text("Key", &self.names.write(name));
                self.facts(xml, entry, with_owner);
                xml.close("Contents");
            }
        }
        self.prefixes(xml);
    }

    fn prefixes(&self, xml: &mut Xml) {
        for item in &self.page.items {
            if let Item::Prefix(name) = item {
                xml.open("CommonPrefixes").text("Prefix", &self.names.write(name)).close("CommonPrefixes");
            }
        }
    }

    fn facts(&self, xml: &mut Xml, entry: &Entry, with_owner: bool) {
        xml.text("LastModified", &time(entry.modified())).etag(entry.shown_etag());
        tell_sum(xml, entry.sum);
        xml.text("Size", &entry.shown_size().to_string());
        if with_owner {
            owner(xml, owner_of(&self.store, &self.container, &entry.owner));
        }
        xml.text("StorageClass", self.store.policies().class_at(&self.container.policy, entry.place));
    }
}

pub(super) async fn v1(call: Call) -> S3Result<Response> {
    let marker = call.param("marker").unwrap_or_default().to_owned();
    let listing = Listing::run(&call, marker.clone()).await?;
    let mut xml = Xml::new();
    listing.head(&mut xml, "ListBucketResult");
    xml.text("Marker", &listing.names.write(&marker));
    if let Some(last) = listing.last().filter(|_| !listing.query.delimiter.is_empty()) {
        xml.text("NextMarker", &listing.names.write(last));
    }
    listing.items(&mut xml, true);
    xml.close("ListBucketResult");
    Ok(xml_reply(StatusCode::OK, xml))
}

pub(super) async fn v2(call: Call) -> S3Result<Response> {
    let token = call.param("continuation-token");
    let after = call.param("start-after").unwrap_or_default();
    let marker = match token {
        None | Some("") => after.to_owned(),
        Some(token) => {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok().and_then(|b| String::from_utf8(b).ok());
            bytes.ok_or_else(|| {
                S3Error::invalid_argument("The continuation token provided is incorrect")
                    .with("ArgumentName", "continuation-token")
            })?
        }
    };
    let listing = Listing::run(&call, marker).await?;
    let mut xml = Xml::new();
    listing.head(&mut xml, "ListBucketResult");
    xml.text("KeyCount", &listing.page.items.len().to_string());
    if let Some(token) = token {
        xml.text("ContinuationToken", token);
    }
    if !after.is_empty() {
        xml.text("StartAfter", &listing.names.write(after));
    }
    if let Some(last) = listing.last() {
        xml.text("NextContinuationToken", &BASE64_URL_SAFE_NO_PAD.encode(last));
    }
    listing.items(&mut xml, call.param("fetch-owner") == Some("true"));
    xml.close("ListBucketResult");
    Ok(xml_reply(StatusCode::OK, xml))
}
