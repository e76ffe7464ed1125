//! Swift's container ACLs: `X-Container-Read` and `X-Container-Write`.
//!
//! An ACL is a list of elements: `.r:*` and `.r:[-]host` (who links here, by `Referer`), `.rlistings` (the
//! former may list too), `project:user`, `project:*`, `*:user`, `*:*`, and role names.

use api::Caller;

/// Brings an ACL into the form in which it is kept and shown, or says what is wrong with it.
pub(crate) fn clean(header: &str, text: &str) -> Result<String, String> {
    let mut out = Vec::new();
    for raw in text.split(',') {
        let raw = raw.trim();
        if raw.is_empty() {
            continue;
        }
        let Some((first, second)) = raw.split_once(':') else {
            out.push(raw.to_owned());
            continue;
        };
        let (first, second) = (first.trim(), second.trim());
        if first.is_empty() || !first.starts_with('.') {
            out.push(raw.to_owned());
            continue;
        }
        if !matches!(first, ".r" | ".ref" | ".referer" | ".referrer") {
            return Err(format!("Unknown designator {first:?} in ACL: {raw:?}"));
        }
        if header.to_ascii_lowercase().contains("write") {
            return Err(format!("Referrers not allowed in write ACL: {raw:?}"));
        }
        let (not, mut host) = match second.strip_prefix('-') {
            Some(rest) => ("-", rest.trim()),
            None => ("", second),
        };
        if host != "*" {
            host = host.strip_prefix('*').unwrap_or(host);
        }
        if host.is_empty() || host == "." {
            return Err(format!("No host/domain value after referrer designation in ACL: {raw:?}"));
        }
        out.push(format!(".r:{not}{host}"));
    }
    Ok(out.join(","))
}

/// What a request may do to a container by virtue of an ACL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Grant {
    /// Read objects (or, of a write ACL, write them).
    pub objects: bool,
    /// List the container.
    pub listing: bool,
}

/// Whether an ACL lets in people whom nobody named: anonymous ones (what they say of where they come from is theirs to
/// say), or everybody with a token.
pub(crate) fn is_public(acl: &str) -> bool {
    acl.split(',').map(str::trim).any(is_public_item)
}

fn is_public_item(item: &str) -> bool {
    item == "*:*" || item.strip_prefix(".r:").is_some_and(|host| !host.starts_with('-'))
}

/// Which elements of an ACL count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counting {
    /// What would let in everybody does not.
    pub private: bool,
    /// Those that name projects and users do not, but for their ids: names are of one domain.
    pub only_ids: bool,
}

/// Whether `acl` lets this request in: `caller` is who holds a token, if anyone; `referer` the header.
pub(crate) fn grants(acl: &str, caller: Option<&Caller>, referer: Option<&str>, counting: Counting) -> Grant {
    let Counting { private, only_ids } = counting;
    let mut by_referrer = false;
    let mut listings = false;
    let mut named = false;
    let items = acl.split(',').map(str::trim).filter(|i| !i.is_empty());
    for item in items.filter(|i| !(private && is_public_item(i))) {
        if item == ".rlistings" {
            listings = true;
        } else if let Some(host) = item.strip_prefix(".r:") {
            let (allow, host) = match host.strip_prefix('-') {
                Some(h) => (false, h),
                None => (true, host),
            };
            // As upstream: the last element that matches decides.
            if host == "*" || referer.and_then(host_of).is_some_and(|h| host_matches(&h, host)) {
                by_referrer = allow;
            }
        } else if let Some(caller) = caller {
            named |= is_named(item, caller, only_ids);
        }
    }
    Grant { objects: by_referrer || named, listing: named || (by_referrer && listings) }
}

fn is_named(item: &str, caller: &Caller, only_ids: bool) -> bool {
    let Some((project, user)) = item.split_once(':') else {
        return caller.has_role(item);
    };
    // A name is one project's, one user's, only within a domain: as upstream, names are of the default one.
    let default = |d: &api::DomainRef| !only_ids && d.id == DEFAULT_DOMAIN;
    let is_project = |p: &api::ProjectRef| p.id == project || (p.name == project && default(&p.domain));
    let project_ok = project == "*" || caller.project().is_some_and(is_project);
    let user_ok =
        user == "*" || user == caller.user.id || (user == caller.user.name && default(&caller.user.domain));
    project_ok && user_ok
}

/// Whether an element of an account's ACL names the caller: by user id, or as the elements of containers' ACLs do.
pub(crate) fn is_user(item: &str, caller: &Caller) -> bool {
    match item.contains(':') {
        true => item != "*:*" && is_named(item, caller, false),
        false => item == caller.user.id,
    }
}

/// The domain that an ACL's names are of.
pub(crate) const DEFAULT_DOMAIN: &str = "default";

fn host_of(referer: &str) -> Option<String> {
    let rest = referer.split_once("://").map(|(_, r)| r)?;
    let host = rest.split(['/', '?', '#']).next()?;
    let host = host.rsplit_once('@').map_or(host, |(_, h)| h);
    let host = host.split(':').next()?;
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

fn host_matches(host: &str, pattern: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    host == pattern || (pattern.starts_with('.') && host.ends_with(&pattern))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{DomainRef, ProjectRef, RoleRef, Scope, Secret, UserRef};

    fn domain(id: &str) -> DomainRef {
        DomainRef { id: id.into(), name: id.into() }
    }

    fn grants(acl: &str, caller: Option<&Caller>, referer: Option<&str>) -> Grant {
        super::grants(acl, caller, referer, Counting::default())
    }

    fn caller(project: &str, user: &str, role: &str) -> Caller {
        Caller {
            user: UserRef { id: format!("{user}-id"), name: user.into(), domain: domain("default") },
            scope: Scope::Project(ProjectRef {
                id: format!("{project}-id"),
                name: project.into(),
                domain: domain("default"),
            }),
            roles: vec![RoleRef { id: role.into(), name: role.into() }],
            expires_at: state::Timestamp(i64::MAX),
            audit_ids: Vec::new(),
            token: Secret(String::new()),
        }
    }

    #[test]
    fn acls_are_brought_into_form() {
        let r = |t| clean("X-Container-Read", t);
        assert_eq!(r(" .r : * , .rlistings ").unwrap(), ".r:*,.rlistings");
        assert_eq!(r(".referrer:*.example.com,, a:b").unwrap(), ".r:.example.com,a:b");
        assert_eq!(r(".ref:-.bad.com").unwrap(), ".r:-.bad.com");
        assert!(r(".x:1").is_err());
        assert!(r(".r:").is_err());
        assert!(clean("X-Container-Write", ".r:*").is_err());
    }

    #[test]
    fn who_may() {
        let alice = caller("p", "alice", "member");
        let both = Grant { objects: true, listing: true };
        let objects = Grant { objects: true, listing: false };
        assert_eq!(grants(".r:*", None, None), objects);
        assert_eq!(grants(".r:*,.rlistings", None, None), both);
        assert_eq!(grants(".rlistings", None, None), Grant::default());
        assert_eq!(grants(".r:.example.com", None, Some("http://www.example.com:80/x")), objects);
        assert_eq!(grants(".r:.example.com", None, Some("http://example.org/")), Grant::default());
        assert_eq!(grants(".r:*,.r:-evil.org", None, Some("http://evil.org/")), Grant::default());
        for acl in ["p-id:alice-id", "p:alice", "*:alice-id", "p-id:*", "*:*", "member"] {
            assert_eq!(grants(acl, Some(&alice), None), both, "{acl}");
            assert_eq!(grants(acl, None, None), Grant::default(), "{acl}");
        }
        for acl in ["q:alice-id", "p-id:bob", "admin", ""] {
            assert_eq!(grants(acl, Some(&alice), None), Grant::default(), "{acl}");
        }
    }

    #[test]
    fn who_an_account_lets_in() {
        let alice = caller("p", "alice", "member");
        assert!(["alice-id", "p-id:alice-id", "p-id:*", "*:alice-id"].iter().all(|i| is_user(i, &alice)));
        assert!(["", "member", "alice", "*:*", "q:alice-id"].iter().all(|i| !is_user(i, &alice)));
    }

    #[test]
    fn names_are_of_the_default_domain() {
        let mut other = caller("p", "alice", "member");
        other.user.domain = domain("elsewhere");
        assert_eq!(grants("p-id:alice", Some(&other), None), Grant::default());
        assert!(grants("p-id:alice-id", Some(&other), None).objects);
        let mut scope = other.project().unwrap().clone();
        scope.domain = domain("elsewhere");
        other.scope = Scope::Project(scope);
        assert_eq!(grants("p:*", Some(&other), None), Grant::default());
        // Nor do they count in an account of another domain.
        let only_ids = Counting { only_ids: true, ..Counting::default() };
        let alice = caller("p", "alice", "member");
        for (acl, counts) in [("p:alice", false), ("p:*", false), ("*:alice", false), ("p-id:alice-id", true)]
        {
            assert_eq!(super::grants(acl, Some(&alice), None, only_ids).objects, counts, "{acl}");
        }
        assert!(grants("p-id:*", Some(&other), None).objects);
    }

    #[test]
    fn what_is_public_can_be_left_out() {
        let alice = caller("p", "alice", "member");
        let private = Counting { private: true, ..Counting::default() };
        for acl in [".r:*,.rlistings", ".r:.example.com", "*:*"] {
            assert!(is_public(acl), "{acl}");
            let referer = Some("http://www.example.com/");
            assert_eq!(super::grants(acl, Some(&alice), referer, private), Grant::default(), "{acl}");
        }
        for acl in ["", ".r:-evil.org", "p-id:*", "member", "*:alice", ".rlistings"] {
            assert!(!is_public(acl), "{acl}");
        }
        assert!(super::grants("p-id:*", Some(&alice), None, private).objects);
    }

    proptest::proptest! {
        #[test]
        fn noise_never_panics_and_stays_clean(text in ".{0,60}", referer in ".{0,30}") {
            let alice = caller("p", "alice", "member");
            let _ = grants(&text, Some(&alice), Some(&referer));
            if let Ok(clean) = clean("X-Container-Read", &text) {
                proptest::prop_assert_eq!(super::clean("X-Container-Read", &clean), Ok(clean));
            }
        }
    }
}
