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
use crate::link::{ACCOUNT, BYTES, DEEPEST, SLO_ETAG};
pub(super) use crate::link::{ETAG, TARGET, Target};
use crate::meta::ObjectMeta;
use crate::object::NewObject;
use crate::{ObjectError, Permission, reseller};
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

impl Target {
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
    let target = Target::read(text, call.header(ACCOUNT)).map_err(SwiftError::precondition)?;
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
        let absent = || SwiftError::new(StatusCode::CONFLICT, "X-Symlink-Target does not exist");
        let bound = Box::pin(look_up(call, project, &target, 0)).await?.ok_or_else(absent)?;
        if bound.etag != etag {
            return Err(
                mismatch(&bound.etag, etag).with(header::CONTENT_LOCATION, target.path(&call.project))
            );
        }
        new.headers.push((ETAG.to_owned(), bound.etag));
        new.headers.push((BYTES.to_owned(), bound.bytes.to_string()));
        new.headers.extend(bound.large.map(|etag| (SLO_ETAG.to_owned(), etag)));
        if !call.headers.contains_key("content-type") {
            new.content_type = bound.content_type;
        }
    }
    Ok(true)
}

fn mismatch(found: &str, wanted: &str) -> SwiftError {
    SwiftError::new(
        StatusCode::CONFLICT,
        format!("Object Etag '{found}' does not match X-Symlink-Target-Etag header '{wanted}'"),
    )
}

/// What a static link is bound to.
struct Bound {
    etag: String,
    bytes: u64,
    content_type: String,
    /// The ETag that readers of a large object see.
    large: Option<String>,
}

/// What a static link's target is now. A target that is a static link itself stands for its own target, one that is a
/// dynamic link for itself; a static large object is known by its manifest's ETag.
/// `None` where there is none.
async fn look_up(call: &Call, project: &str, target: &Target, links: u32) -> SwiftResult<Option<Bound>> {
    let access = call.access.asking(GET, &target.object);
    let found = async {
        let container = call.store.container_to_read(&access, project, &target.container).await?;
        let object = call.store.open_object_for(&access, &container, &target.object, 0).await;
        let object = object.map_err(|e| container.absent(e))?;
        container.admit(&object.meta, Permission::Read)?;
        Ok(object)
    };
    let place = target.path(&call.project);
    let at = |e: SwiftError| e.with(header::CONTENT_LOCATION, place.clone());
    let object = match found.await {
        Ok(object) => object,
        Err(ObjectError::NoSuchContainer | ObjectError::NoSuchObject) => return Ok(None),
        Err(e) => return Err(at(e.into())),
    };
    let meta = &object.meta;
    if let (Some(next), Some(etag)) = (Target::of(meta), meta.header(ETAG)) {
        if links == DEEPEST {
            return Err(at(too_many()));
        }
        let project = if next.project.is_empty() { project } else { &next.project };
        let bound = Box::pin(look_up(call, project, &next, links + 1)).await?;
        return match bound {
            Some(bound) if bound.etag != etag => Err(at(mismatch(&bound.etag, etag))),
            bound => Ok(bound),
        };
    }
    let bytes = meta.large.as_ref().map_or(meta.size, |large| large.size);
    let large = meta.large.as_ref().map(|large| large.etag.clone());
    Ok(Some(Bound { etag: meta.etag.clone(), bytes, content_type: meta.content_type.clone(), large }))
}

fn too_many() -> SwiftError {
    let text = format!("Too many levels of symbolic links, maximum allowed is {DEEPEST}");
    SwiftError::new(StatusCode::CONFLICT, text)
}

impl Call {
    /// The same request, one link further.
    pub(super) fn next_link(mut self) -> SwiftResult<Call> {
        if self.links == DEEPEST {
            return Err(too_many());
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
        let absent = || SwiftError::of(StatusCode::NOT_FOUND).with(header::CONTENT_LOCATION, place.clone());
        let bound = Box::pin(look_up(call, &project, target, call.links)).await?.ok_or_else(absent)?;
        if bound.etag != etag {
            return Err(mismatch(&bound.etag, etag).with(header::CONTENT_LOCATION, place));
        }
    }
    let mut next = call.again(&target.object).next_link()?;
    next.container.clone_from(&target.container);
    next.project = project;
    // A version is one of the link's.
    next.query.remove("version-id");
    let mut response =
        Box::pin(object::answer(next)).await.map_err(|e| e.with(header::CONTENT_LOCATION, place.clone()))?;
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().entry(header::CONTENT_LOCATION).or_insert(place);
    }
    Ok(response)
}

/// What a POST to a link is told, beside having been done to the link.
pub(super) fn posted(call: &Call, target: &Target, bound: Option<&str>) -> Response {
    let mut out = Out::default();
    if let Some(etag) = bound {
        out.set(ETAG, etag);
    }
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
    let own = |n: &str| [TARGET, ACCOUNT, ETAG, BYTES, SLO_ETAG].contains(&n);
    meta.headers.iter().filter(|(n, _)| own(n)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_link_leads_is_shown_as_a_path() {
        let path = |target, account| Target::read(target, account).unwrap().path("p");
        assert_eq!(path("/c/a%20b/ü", None), "/v1/AUTH_p/c/a%20b/%C3%BC");
        assert_eq!(path("c/o", Some("AUTH_q")), "/v1/AUTH_q/c/o");
    }
}
