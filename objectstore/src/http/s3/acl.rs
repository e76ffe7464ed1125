//! S3's ACLs: canned ones, grants in headers, grants in XML. What they come to is kept as [`crate::grants`] says.
//!
//! The owner may everything, whatever an ACL says, and is shown in it: behind groups, before others. Where a bucket's ownership is enforced, an
//! ACL may say nothing more than that.

use super::error::{self, S3Error, S3Result, access_denied, malformed_xml, method_not_allowed};
use super::xml::{Node, Xml};
use super::{Call, bare, config, versions, xml_reply};
use crate::container::{Container, ContainerInfo};
use crate::grants::{self, Grant, Grantee, MOST_GRANTS, Permission};
use crate::sharing::Ownership;
use crate::{Need, ObjectError, ObjectStore};
use axum::response::Response;
use http::{Method, StatusCode};

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
const LOG_DELIVERY: &str = "http://acs.amazonaws.com/groups/s3/LogDelivery";

/// The canned ACL that says no more than what a bucket's owner has anyway where ownership is enforced.
const OWNERS: &str = "bucket-owner-full-control";

const HEADERS: [(&str, Permission); 5] = [
    ("x-amz-grant-read", Permission::Read),
    ("x-amz-grant-write", Permission::Write),
    ("x-amz-grant-read-acp", Permission::ReadAcp),
    ("x-amz-grant-write-acp", Permission::WriteAcp),
    ("x-amz-grant-full-control", Permission::FullControl),
];

fn not_supported() -> S3Error {
    S3Error {
        code: "AccessControlListNotSupported",
        ..S3Error::invalid_request("The bucket does not allow ACLs")
    }
}

pub(super) fn with_enforced() -> S3Error {
    let text = "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting";
    S3Error { code: "InvalidBucketAclWithObjectOwnership", ..S3Error::invalid_request(text) }
}

fn malformed(text: &str) -> S3Error {
    S3Error { code: "MalformedACLError", ..S3Error::invalid_request(text) }
}

/// Whose what is, as far as canned ACLs speak of them.
struct Owners<'a> {
    bucket: &'a str,
    /// Of the object; of a bucket's own ACL, the same.
    object: &'a str,
}

pub(super) async fn of_bucket(call: &Call) -> S3Result<Response> {
    match call.method {
        Method::GET => {
            let container = call.store.bucket(&call.access, &call.bucket, Need::ReadAcl).await?;
            Ok(show(&container.project_id, &of_container(&container.info)))
        }
        Method::PUT => {
            let container = call.store.bucket(&call.access, &call.bucket, Need::WriteAcl).await?;
            let owner = container.project_id.as_str();
            let grants = wanted(call, &Owners { bucket: owner, object: owner }).await?;
            check(call, &container, &grants)?;
            let rule = |info: &mut ContainerInfo| {
                info.read.clear();
                (info.write, info.sharing.grants) = grants::keep(&grants, owner);
                Ok::<(), ObjectError>(())
            };
            let need = Need::WriteAcl;
            call.store.change_container_for(&call.access, owner, &container.name, need, &rule).await?;
            Ok(bare(StatusCode::OK))
        }
        _ => Err(method_not_allowed()),
    }
}

pub(super) async fn of_object(call: &Call) -> S3Result<Response> {
    let bucket = call.store.find_bucket(&call.access, &call.bucket).await?;
    let container = call.store.acl_reading(&call.access, bucket).await?;
    let version = versions::wanted(call)?;
    let absent = |e| container.absent(e);
    let meta = versions::open(call, &container, &call.key, version, 0, absent).await?.meta;
    let bucket_owner = container.project_id.as_str();
    let owner = owner_of(&call.store, &container, &meta.owner);
    match call.method {
        Method::GET => {
            container.admit(&meta, Permission::ReadAcp)?;
            let enforced = call.store.ownership(&container.info) == Ownership::BucketOwnerEnforced;
            let grants = match &meta.grants {
                Some(grants) if !enforced => grants.clone(),
                _ => grants::shown(&container.info.read, "", &[]),
            };
            Ok(show(owner, &grants))
        }
        Method::PUT => {
            container.admit(&meta, Permission::WriteAcp)?;
            let grants = wanted(call, &Owners { bucket: bucket_owner, object: owner }).await?;
            check(call, &container, &grants)?;
            if call.store.ownership(&container.info) != Ownership::BucketOwnerEnforced {
                call.store.set_object_grants(&container, &call.key, version, grants).await?;
            }
            Ok(bare(StatusCode::OK))
        }
        _ => Err(method_not_allowed()),
    }
}

/// The ACL of a bucket that is being made.
pub(super) fn of_new_bucket(call: &Call, project: &str, ownership: Ownership) -> S3Result<Vec<Grant>> {
    let grants = of_headers(call, &Owners { bucket: project, object: project })?.unwrap_or_default();
    if ownership == Ownership::BucketOwnerEnforced && !grants.is_empty() {
        return Err(with_enforced());
    }
    Ok(grants)
}

/// Whose an object is that says so of itself (empty: the bucket's): the bucket's, too, where ownership is enforced.
pub(super) fn owner_of<'a>(store: &ObjectStore, container: &'a Container, said: &'a str) -> &'a str {
    let enforced = store.ownership(&container.info) == Ownership::BucketOwnerEnforced;
    if enforced || said.is_empty() { &container.project_id } else { said }
}

/// The owner (empty for the bucket's) and the ACL of an object that is being written.
pub(super) fn of_new_object(call: &Call, container: &Container) -> S3Result<(String, Option<Vec<Grant>>)> {
    let bucket = container.project_id.as_str();
    let given_up = call.header("x-amz-acl") == Some(OWNERS);
    let writer = match call.store.ownership(&container.info) {
        Ownership::BucketOwnerEnforced => bucket,
        Ownership::BucketOwnerPreferred if given_up => bucket,
        _ => call.access.project().unwrap_or(bucket),
    };
    let grants = of_headers(call, &Owners { bucket, object: writer })?;
    if let Some(grants) = &grants {
        check(call, container, grants)?;
    }
    let enforced = call.store.ownership(&container.info) == Ownership::BucketOwnerEnforced;
    let owner = if writer == bucket { String::new() } else { writer.to_owned() };
    Ok((owner, grants.filter(|_| !enforced)))
}

/// Refuses an ACL that the bucket does not allow.
fn check(call: &Call, container: &Container, grants: &[Grant]) -> S3Result<()> {
    let other = call.header("x-amz-acl").is_some_and(|canned| canned != OWNERS);
    if call.store.ownership(&container.info) == Ownership::BucketOwnerEnforced
        && (other || !grants.is_empty())
    {
        return Err(not_supported());
    }
    let blocked = container.info.sharing.public_access.is_some_and(|b| b.block_acls);
    if blocked && grants.iter().any(Grant::is_public) {
        return Err(access_denied());
    }
    Ok(())
}

/// A container's grants, but for the owner's.
pub(super) fn of_container(info: &ContainerInfo) -> Vec<Grant> {
    grants::shown(&info.read, &info.write, &info.sharing.grants)
}

/// The ACL that a request sets.
async fn wanted(call: &Call, owners: &Owners<'_>) -> S3Result<Vec<Grant>> {
    let by_header = of_headers(call, owners)?;
    let body = call.small_body().await?;
    match by_header {
        Some(_) if !body.is_empty() => {
            let text = "This request does not support content";
            Err(S3Error { code: "UnexpectedContent", ..S3Error::invalid_request(text) })
        }
        Some(grants) => Ok(grants),
        None if body.is_empty() => {
            let text = "Your request was missing a required header";
            Err(S3Error { code: "MissingSecurityHeader", ..S3Error::invalid_request(text) }
                .with("MissingHeaderName", "x-amz-acl"))
        }
        None => of_document(&body, owners.object),
    }
}

/// The ACL in a request's headers, if there is one; without what the owner may anyway.
fn of_headers(call: &Call, owners: &Owners<'_>) -> S3Result<Option<Vec<Grant>>> {
    let mut grants: Option<Vec<Grant>> = None;
    for (name, permission) in HEADERS {
        let Some(text) = call.header(name) else { continue };
        let all = grants.get_or_insert_default();
        for (kind, value) in grantees(text).ok_or_else(|| invalid_argument(name, text))? {
            all.push(Grant::new(grantee(&kind, &value)?, permission));
        }
    }
    match (call.header("x-amz-acl"), grants) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => {
            Err(S3Error::invalid_request("Specifying both Canned ACLs and Header Grants is not allowed"))
        }
        (Some(canned), None) => Ok(Some(of_canned(canned, owners)?)),
        (None, Some(grants)) => bounded(grants, owners.object).map(Some),
    }
}

fn invalid_argument(name: &'static str, value: &str) -> S3Error {
    S3Error::invalid_argument("Argument format not recognized")
        .with("ArgumentName", name)
        .with("ArgumentValue", value)
}

fn of_canned(name: &str, owners: &Owners<'_>) -> S3Result<Vec<Grant>> {
    use Grantee as To;
    use Permission as P;
    let bucket = || To::Project(owners.bucket.to_owned());
    let grants = match name {
        "private" => Vec::new(),
        "public-read" => vec![Grant::new(To::AllUsers, P::Read)],
        "public-read-write" => vec![Grant::new(To::AllUsers, P::Read), Grant::new(To::AllUsers, P::Write)],
        "authenticated-read" => vec![Grant::new(To::AuthenticatedUsers, P::Read)],
        "bucket-owner-read" => vec![Grant::new(bucket(), P::Read)],
        OWNERS => vec![Grant::new(bucket(), P::FullControl)],
        "log-delivery-write" => {
            vec![Grant::new(To::LogDelivery, P::Write), Grant::new(To::LogDelivery, P::ReadAcp)]
        }
        _ => {
            return Err(S3Error::invalid_argument("")
                .with("ArgumentName", "x-amz-acl")
                .with("ArgumentValue", name));
        }
    };
    bounded(grants, owners.object)
}

/// `id="…", uri="…", emailAddress="…"`, with quotes or without.
pub(super) fn grantees(text: &str) -> Option<Vec<(String, String)>> {
    let mut out = Vec::new();
    for one in text.split(',') {
        let (kind, value) = one.split_once('=')?;
        let value = value.trim();
        let value = match value.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"')?,
            None => value,
        };
        if value.contains('"') {
            return None;
        }
        out.push((kind.trim().to_owned(), value.to_owned()));
    }
    Some(out)
}

pub(super) fn grantee(kind: &str, value: &str) -> S3Result<Grantee> {
    let id = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    match kind.to_ascii_lowercase().as_str() {
        "id" if (1..=64).contains(&value.len()) && value.bytes().all(id) => {
            Ok(Grantee::Project(value.to_owned()))
        }
        "id" => Err(S3Error::invalid_argument("Invalid id")
            .with("ArgumentName", "CanonicalUser/ID")
            .with("ArgumentValue", value)),
        "uri" => match value {
            ALL_USERS => Ok(Grantee::AllUsers),
            AUTHENTICATED => Ok(Grantee::AuthenticatedUsers),
            LOG_DELIVERY => Ok(Grantee::LogDelivery),
            _ => Err(S3Error::invalid_argument("Invalid group uri")
                .with("ArgumentName", "Group/URI")
                .with("ArgumentValue", value)),
        },
        "emailaddress" => {
            let text = "The email address you provided does not match any account on record.";
            Err(S3Error { code: "UnresolvableGrantByEmailAddress", ..S3Error::invalid_argument(text) })
        }
        _ => Err(S3Error::invalid_argument("Argument format not recognized")),
    }
}

/// Without the owner's own; not too many.
fn bounded(grants: Vec<Grant>, owner: &str) -> S3Result<Vec<Grant>> {
    if grants.len() > MOST_GRANTS {
        return Err(malformed("There may be no more than 100 grants."));
    }
    let others = |g: &Grant| g.to != Grantee::Project(owner.to_owned());
    Ok(grants.into_iter().filter(others).collect())
}

pub(super) fn of_document(body: &[u8], owner: &str) -> S3Result<Vec<Grant>> {
    let node = Node::parse(body, "AccessControlPolicy")?;
    let said = node.child("Owner").and_then(|o| o.value("ID")).map(str::trim);
    match said {
        None => return Err(malformed("The ACL names no owner.")),
        Some(said) if said != owner => return Err(error::access_denied()),
        Some(_) => {}
    }
    of_list(node.child("AccessControlList").ok_or_else(malformed_xml)?, owner)
}

/// A list of `Grant`, but for the owner's own.
pub(super) fn of_list(list: &Node, owner: &str) -> S3Result<Vec<Grant>> {
    let mut grants = Vec::new();
    for grant in list.all("Grant") {
        let permission = grant.value("Permission").and_then(|p| Permission::of(p.trim()));
        let permission = permission.ok_or_else(|| malformed("A grant has no permission that there is."))?;
        let to = grant.child("Grantee").ok_or_else(|| malformed("A grant has no grantee."))?;
        let kinds = [("ID", "id"), ("URI", "uri"), ("EmailAddress", "emailaddress")];
        let named = kinds.iter().find_map(|(element, kind)| Some((*kind, to.value(element)?)));
        let (kind, value) = named.ok_or_else(|| malformed("A grantee has no name."))?;
        grants.push(Grant::new(grantee(kind, value.trim())?, permission));
    }
    bounded(grants, owner)
}

fn show(owner: &str, grants: &[Grant]) -> Response {
    let mut xml = Xml::new();
    xml.root("AccessControlPolicy");
    config::owner(&mut xml, owner);
    xml.open("AccessControlList");
    let own = Grant::new(Grantee::Project(owner.to_owned()), Permission::FullControl);
    let (groups, users): (Vec<&Grant>, Vec<&Grant>) =
        std::iter::once(&own).chain(grants).partition(|g| !matches!(g.to, Grantee::Project(_)));
    for grant in groups.into_iter().chain(users) {
        show_grant(&mut xml, grant);
    }
    xml.close("AccessControlList").close("AccessControlPolicy");
    xml_reply(StatusCode::OK, xml)
}

/// One `Grant`.
pub(super) fn show_grant(xml: &mut Xml, grant: &Grant) {
    const XSI: &str = "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"";
    let uri = match &grant.to {
        Grantee::AllUsers => ALL_USERS,
        Grantee::AuthenticatedUsers => AUTHENTICATED,
        Grantee::LogDelivery => LOG_DELIVERY,
        Grantee::Project(_) => "",
    };
    let kind = if uri.is_empty() { "CanonicalUser" } else { "Group" };
    xml.open("Grant").raw(&format!("<Grantee {XSI} xsi:type=\"{kind}\">"));
    match &grant.to {
        Grantee::Project(id) => xml.text("ID", id).text("DisplayName", id),
        _ => xml.text("URI", uri),
    };
    xml.close("Grantee").text("Permission", grant.permission.name()).close("Grant");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn doc(grants: &str) -> String {
        format!(
            "<AccessControlPolicy><Owner><ID>p</ID></Owner><AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
        )
    }

    fn grant(grantee: &str, permission: &str) -> String {
        format!("<Grant><Grantee>{grantee}</Grantee><Permission>{permission}</Permission></Grant>")
    }

    fn code(text: &str) -> Option<&'static str> {
        of_document(text.as_bytes(), "p").err().map(|e| e.code)
    }

    #[test]
    fn documents() {
        let text = doc(&format!(
            "{}{}{}",
            grant("<ID>p</ID>", "FULL_CONTROL"),
            grant(&format!("<URI>{ALL_USERS}</URI>"), "READ"),
            grant("<ID>q</ID><DisplayName>Q</DisplayName>", "WRITE_ACP")
        ));
        assert_eq!(
            of_document(text.as_bytes(), "p").unwrap(),
            [
                Grant::new(Grantee::AllUsers, Permission::Read),
                Grant::new(Grantee::Project("q".into()), Permission::WriteAcp)
            ]
        );
        assert_eq!(code(&doc("")), None);
        assert_eq!(code("<AccessControlPolicy/>"), Some("MalformedACLError"));
        assert_eq!(code(&doc("").replace(">p<", ">q<")), Some("AccessDenied"));
        assert_eq!(code(&doc(&grant("<ID>q</ID>", "OWN"))), Some("MalformedACLError"));
        assert_eq!(code(&doc(&grant("", "READ"))), Some("MalformedACLError"));
        assert_eq!(code(&doc(&grant("<ID>_foo</ID>", "READ"))), Some("InvalidArgument"));
        assert_eq!(code(&doc(&grant("<URI>http://x</URI>", "READ"))), Some("InvalidArgument"));
        let email = grant("<EmailAddress>a@b</EmailAddress>", "READ");
        assert_eq!(code(&doc(&email)), Some("UnresolvableGrantByEmailAddress"));
        assert_eq!(code(&doc(&grant("<ID>q</ID>", "READ").repeat(101))), Some("MalformedACLError"));
        let entity = format!("<!DOCTYPE x [<!ENTITY a 'q'>]>{}", doc(&grant("<ID>&a;</ID>", "READ")));
        assert_eq!(code(&entity), Some("MalformedXML"));
    }

    #[test]
    fn header_grants() {
        let of = |text: &str| grantees(text);
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(of("id=\"a\", uri=b"), Some(vec![pair("id", "a"), pair("uri", "b")]));
        assert_eq!(of("id=\"a"), None);
        assert_eq!(of("a"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn canned_ones() {
        let owners = Owners { bucket: "p", object: "q" };
        let full = of_canned("bucket-owner-full-control", &owners).unwrap();
        assert_eq!(full, [Grant::new(Grantee::Project("p".into()), Permission::FullControl)]);
        let own = Owners { bucket: "p", object: "p" };
        assert!(of_canned("bucket-owner-full-control", &own).unwrap().is_empty());
        assert_eq!(of_canned("public-read-write", &own).unwrap().len(), 2);
        assert!(of_canned("other", &own).is_err());
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise: Vec<u8>, text in ".{0,40}") {
            let _ = of_document(&noise, "p");
            let _ = of_document(doc(&text).as_bytes(), "p");
            let _ = grantees(&text);
        }
    }
}
