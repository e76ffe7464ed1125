//! Symlinks: an object without content that stands for another one, of any container and account.
//!
//! `X-Symlink-Target` (with `-Account`) makes one; with `-Etag` it is static: bound to the content that the target had.
//! A GET or HEAD follows it, by the rights that the caller has on the target; `?symlink=get` is about the link itself.

use super::copy::End;
use super::error::{SwiftError, SwiftResult};
use super::headers::Out;
use super::{Call, object};
use crate::access::GET;
use crate::http::s3::sigv4::encode;
use crate::meta::ObjectMeta;
use crate::object::NewObject;
use crate::{Kind, ObjectError, Permission, reseller};
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use percent_encoding::percent_decode_str;

/// Links that are followed one after the other.
pub(super) const DEEPEST: u32 = 2;

pub(super) const TARGET: &str = "x-symlink-target";
const ACCOUNT: &str = "x-symlink-target-account";
const ETAG: &str = "x-symlink-target-etag";
const BYTES: &str = "x-symlink-target-bytes";

/// Where a link leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Empty: the link's own.
    project: String,
    container: String,
    object: String,
}

/// `container/object`, URL-encoded.
fn split(text: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(percent_decode_str(text.trim_start_matches('/')).collect()).ok()?;
    let (container, object) = decoded.split_once('/')?;
    (!container.is_empty() && !object.is_empty() && !decoded.contains('\0'))
        .then(|| (container.to_owned(), object.to_owned()))
}

impl Target {
    fn read(target: &str, account: Option<&str>) -> SwiftResult<Target> {
        let (container, object) = split(target).ok_or_else(|| {
            SwiftError::precondition(
                "X-Symlink-Target header must be of the form <container name>/<object name>",
            )
        })?;
        let project = match account.filter(|a| !a.is_empty()) {
            None => String::new(),
            Some(name) => reseller::key(name)
                .ok_or_else(|| SwiftError::precondition("Account name cannot contain slashes"))?,
        };
        Ok(Target { project, container, object })
    }

    /// The target of a stored object, if that is a link.
    pub(super) fn of(meta: &ObjectMeta) -> Option<Target> {
        Target::read(meta.header(TARGET)?, meta.header(ACCOUNT)).ok()
    }

    /// As the source of a copy that meets a link of project `own`.
    pub(super) fn end(&self, own: &str) -> End {
        let project = if self.project.is_empty() { own.to_owned() } else { self.project.clone() };
        End { project, container: self.container.clone(), object: self.object.clone(), version: None }
    }

    fn path(&self, own: &str) -> String {
        let project = if self.project.is_empty() { own } else { &self.project };
        let mut out = format!("/v1/{}/", reseller::name(project));
        encode(&mut out, format!("{}/{}", self.container, self.object).as_bytes(), true);
        out
    }
}

/// Makes a link of an object that is being put, if its request says so. Where its answer tells what it is bound to.
/// What comes from another cloud was looked at there: its target may come later.
pub(super) async fn describe(call: &Call, new: &mut NewObject) -> SwiftResult<bool> {
    let Some(text) = call.header(TARGET).filter(|t| !t.is_empty()) else {
        return match call.headers.contains_key(ACCOUNT) || call.headers.contains_key(ETAG) {
            true => Err(SwiftError::bad_request("X-Symlink-Target header is required")),
            false => Ok(false),
        };
    };
    if crate::http::content::content_length(&call.headers) != Some(0) {
        return Err(SwiftError::bad_request("Symlink requests require a zero byte body"));
    }
    let target = Target::read(text, call.header(ACCOUNT))?;
    let project = if target.project.is_empty() { &call.project } else { &target.project };
    if (project, &target.container, &target.object) == (&call.project, &call.container, &call.object) {
        return Err(SwiftError::bad_request("Symlink cannot target itself"));
    }
    let mut link = String::new();
    encode(&mut link, format!("{}/{}", target.container, target.object).as_bytes(), true);
    new.headers.push((TARGET.to_owned(), link));
    if !target.project.is_empty() {
        new.headers.push((ACCOUNT.to_owned(), reseller::name(&target.project)));
    }
    if !call.headers.contains_key("content-type") {
        new.content_type = "application/symlink".to_owned();
    }
    if let Some(etag) = call.header(ETAG).map(|e| e.trim().trim_matches('"')).filter(|e| !e.is_empty()) {
        if call.synced.is_some() {
            new.headers.push((ETAG.to_owned(), etag.to_owned()));
            let bytes = call.header(BYTES).and_then(|b| b.parse::<u64>().ok()).unwrap_or(0);
            new.headers.push((BYTES.to_owned(), bytes.to_string()));
            return Ok(true);
        }
        let (found, bytes) = look_up(call, project, &target).await?;
        if found != etag {
            return Err(mismatch(&found, etag));
        }
        new.headers.push((ETAG.to_owned(), found));
        new.headers.push((BYTES.to_owned(), bytes.to_string()));
    }
    Ok(true)
}

fn mismatch(found: &str, wanted: &str) -> SwiftError {
    SwiftError::new(
        StatusCode::CONFLICT,
        format!("Object Etag \"{found}\" does not match X-Symlink-Target-Etag header \"{wanted}\""),
    )
}

/// What a static link's target is now: its ETag and its size.
async fn look_up(call: &Call, project: &str, target: &Target) -> SwiftResult<(String, u64)> {
    let access = call.access.asking(GET, &target.object);
    let found = async {
        let container = call.store.container_to_read(&access, project, &target.container).await?;
        let object = call.store.open_object(&container, &target.object, 0).await;
        let object = object.map_err(|e| container.absent(e))?;
        container.admit(&object.meta, Permission::Read)?;
        Ok(object)
    };
    let object = match found.await {
        Ok(object) => object,
        Err(ObjectError::NoSuchContainer | ObjectError::NoSuchObject) => {
            return Err(SwiftError::new(StatusCode::CONFLICT, "X-Symlink-Target does not exist"));
        }
        Err(e) => return Err(e.into()),
    };
    match (&object.meta.large, object.meta.kind) {
        (Some(large), Kind::Slo) => Ok((large.etag.clone(), large.size)),
        _ => Ok((object.meta.etag.clone(), object.meta.size)),
    }
}

impl Call {
    /// The same request, one link further.
    pub(super) fn next_link(mut self) -> SwiftResult<Call> {
        if self.links == DEEPEST {
            let text = format!("Too many levels of symbolic links, maximum allowed is {DEEPEST}");
            return Err(SwiftError::new(StatusCode::CONFLICT, text));
        }
        self.links += 1;
        Ok(self)
    }
}

/// Follows a link that a GET or HEAD met.
pub(super) async fn follow(call: &Call, meta: &ObjectMeta, target: &Target) -> SwiftResult<Response> {
    let place = target.path(&call.project);
    let project = if target.project.is_empty() { call.project.clone() } else { target.project.clone() };
    if let Some(etag) = meta.header(ETAG) {
        let (found, _) = look_up(call, &project, target).await?;
        if found != etag {
            return Err(mismatch(&found, etag));
        }
    }
    let mut next = call.again(&target.object).next_link()?;
    next.container.clone_from(&target.container);
    next.project = project;
    let mut response =
        Box::pin(object::answer(next)).await.map_err(|e| e.with(header::CONTENT_LOCATION, place.clone()))?;
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().entry(header::CONTENT_LOCATION).or_insert(place);
    }
    Ok(response)
}

/// What a POST to a link is told, beside having been done to the link.
pub(super) fn posted(call: &Call, target: &Target) -> Response {
    let mut out = Out::default();
    out.set("location", target.path(&call.project)).set("content-type", "text/plain; charset=UTF-8");
    let text = "The requested POST was applied to a symlink. POST directly to the target to apply requested metadata.";
    super::reply::content(
        StatusCode::TEMPORARY_REDIRECT,
        out,
        text.len() as u64,
        axum::body::Body::from(text),
    )
}

/// The headers of a link: they stay when its metadata are replaced.
pub(super) fn kept(meta: &ObjectMeta) -> Vec<(String, String)> {
    let own = |n: &str| [TARGET, ACCOUNT, ETAG, BYTES].contains(&n);
    meta.headers.iter().filter(|(n, _)| own(n)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn targets() {
        let target = Target::read("/c/a%20b/ü", None).unwrap();
        assert_eq!((target.container.as_str(), target.object.as_str()), ("c", "a b/ü"));
        assert_eq!(target.path("p"), "/v1/AUTH_p/c/a%20b/%C3%BC");
        assert_eq!(Target::read("c/o", Some("AUTH_q")).unwrap().path("p"), "/v1/AUTH_q/c/o");
        for bad in ["", "c", "c/", "/", "%ff/o", "c/%00"] {
            assert!(Target::read(bad, None).is_err(), "{bad}");
        }
        assert!(Target::read("c/o", Some("q")).is_err() && Target::read("c/o", Some("AUTH_a/b")).is_err());
    }

    proptest! {
        #[test]
        fn what_is_stored_is_read_back(container in "[a-z%]{1,9}", object in "[ -~ü/]{1,20}") {
            let mut link = String::new();
            encode(&mut link, format!("{container}/{object}").as_bytes(), true);
            let back = Target::read(&link, None).unwrap();
            prop_assert_eq!((back.container, back.object), (container, object));
        }

        #[test]
        fn noise_never_panics(noise in ".{0,40}") {
            let _ = Target::read(&noise, Some(&noise));
        }
    }
}
