//! Objects that stand for others, as Swift's symlinks do: where they lead, and what is behind them.

use crate::access::{Access, GET};
use crate::meta::ObjectMeta;
use crate::object::Object;
use crate::{ObjectError, ObjectStore, Permission, reseller};
use percent_encoding::percent_decode_str;

/// Links that are followed one after the other.
pub(crate) const DEEPEST: u32 = 2;

/// The headers of a link: where it leads (`container/object`, URL-encoded) and of which account; of a static one the ETag
/// of what it is bound to, its bytes, and, of a large object, the ETag that its readers see.
pub(crate) const TARGET: &str = "x-symlink-target";
pub(crate) const ACCOUNT: &str = "x-symlink-target-account";
pub(crate) const ETAG: &str = "x-symlink-target-etag";
pub(crate) const BYTES: &str = "x-symlink-target-bytes";
pub(crate) const SLO_ETAG: &str = "x-symlink-slo-etag";

/// Where a link leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Empty: the link's own.
    pub(crate) project: String,
    pub(crate) container: String,
    pub(crate) object: String,
}

fn split(text: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(percent_decode_str(text.trim_start_matches('/')).collect()).ok()?;
    let (container, object) = decoded.split_once('/')?;
    (!container.is_empty() && !object.is_empty() && !decoded.contains('\0'))
        .then(|| (container.to_owned(), object.to_owned()))
}

impl Target {
    /// Reads the headers of a link; what is wrong with them, for the client.
    pub(crate) fn read(target: &str, account: Option<&str>) -> Result<Target, &'static str> {
        let (container, object) = split(target)
            .ok_or("X-Symlink-Target header must be of the form <container name>/<object name>")?;
        let project = match account.filter(|a| !a.is_empty()) {
            None => String::new(),
            Some(name) => reseller::key(name).ok_or("Account name cannot contain slashes")?,
        };
        Ok(Target { project, container, object })
    }

    /// The target of a stored object, if that is a link.
    pub(crate) fn of(meta: &ObjectMeta) -> Option<Target> {
        Target::read(meta.header(TARGET)?, meta.header(ACCOUNT)).ok()
    }
}

impl ObjectStore {
    /// Opens what a reader of an object gets: what is behind it, where it is a link.
    pub(crate) async fn open_behind(
        &self,
        access: &Access,
        project: &str,
        container: &str,
        name: &str,
        first: u64,
    ) -> Result<Object, ObjectError> {
        let mut place =
            Target { project: project.to_owned(), container: container.to_owned(), object: name.to_owned() };
        let mut bound: Option<String> = None;
        for _ in 0..=DEEPEST {
            let access = access.asking(GET, &place.object);
            let container = self.container_to_read(&access, &place.project, &place.container).await?;
            let object = self.open_object_for(&access, &container, &place.object, first).await;
            let object = object.map_err(|e| container.absent(e))?;
            container.admit(&object.meta, Permission::Read)?;
            let etag = object.meta.header(ETAG);
            if bound.is_some_and(|bound| bound != etag.unwrap_or(&object.meta.etag)) {
                return Err(ObjectError::Damaged("a static link is bound to other content"));
            }
            let Some(next) = Target::of(&object.meta) else { return Ok(object) };
            bound = etag.map(str::to_owned);
            let project = if next.project.is_empty() { place.project } else { next.project };
            place = Target { project, ..next };
        }
        Err(ObjectError::Damaged("links lead to links without end"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn targets() {
        let target = Target::read("/c/a%20b/ü", None).unwrap();
        assert_eq!((target.container.as_str(), target.object.as_str()), ("c", "a b/ü"));
        assert_eq!(Target::read("c/o", Some("AUTH_q")).unwrap().project, "q");
        for bad in ["", "c", "c/", "/", "%ff/o", "c/%00"] {
            assert!(Target::read(bad, None).is_err(), "{bad}");
        }
        assert!(Target::read("c/o", Some("q")).is_err() && Target::read("c/o", Some("AUTH_a/b")).is_err());
    }

    proptest! {
        #[test]
        fn what_is_stored_is_read_back(container in "[a-z%]{1,9}", object in "[ -~ü/]{1,20}") {
            let mut link = String::new();
            crate::http::encode(&mut link, format!("{container}/{object}").as_bytes(), true);
            let back = Target::read(&link, None).unwrap();
            prop_assert_eq!((back.container, back.object), (container, object));
        }

        #[test]
        fn noise_never_panics(noise in ".{0,40}") {
            let _ = Target::read(&noise, Some(&noise));
        }
    }
}
