//! S3's grants, and how a container's are kept: as Swift's ACLs wherever these mean the same.
//!
//! A container is a bucket, so what one door grants the other must show. WRITE of a bucket is Swift's write ACL: `*:*` for
//! AuthenticatedUsers, `<project>:*` for a project; for AllUsers Swift has no word. READ of a bucket is to list it and no
//! more, where Swift's read ACL opens the objects too: it is kept as a grant, so that a bucket which may be listed does
//! not give away what is in it. Swift's read ACL is shown to S3 as READ. READ_ACP and WRITE_ACP have no word in Swift.
//! FULL_CONTROL is all four and is shown where all four are there.
//!
//! An object's own grants, where it has any, take the place of the container's for reading it.

use api::Caller;
use serde::{Deserialize, Serialize};

/// Most grants of an ACL.
pub(crate) const MOST_GRANTS: usize = 100;

/// To whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grantee {
    AllUsers,
    AuthenticatedUsers,
    /// Whoever delivers access logs: nobody here.
    LogDelivery,
    /// Everybody who acts for a project.
    Project(String),
}

/// What.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Permission {
    Read,
    Write,
    ReadAcp,
    WriteAcp,
    FullControl,
}

impl Permission {
    pub const ALL: [Permission; 5] = [
        Permission::Read,
        Permission::Write,
        Permission::ReadAcp,
        Permission::WriteAcp,
        Permission::FullControl,
    ];
    /// What full control is made of.
    const PARTS: [Permission; 4] =
        [Permission::Read, Permission::Write, Permission::ReadAcp, Permission::WriteAcp];

    /// As S3 writes it.
    pub fn name(self) -> &'static str {
        match self {
            Permission::Read => "READ",
            Permission::Write => "WRITE",
            Permission::ReadAcp => "READ_ACP",
            Permission::WriteAcp => "WRITE_ACP",
            Permission::FullControl => "FULL_CONTROL",
        }
    }

    pub fn of(name: &str) -> Option<Permission> {
        Permission::ALL.into_iter().find(|p| p.name() == name)
    }

    fn covers(self, wanted: Permission) -> bool {
        self == wanted || self == Permission::FullControl
    }
}

/// One line of an ACL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub to: Grantee,
    pub permission: Permission,
}

impl Grant {
    pub fn new(to: Grantee, permission: Permission) -> Self {
        Grant { to, permission }
    }

    /// Whether it lets in people whom nobody named.
    pub fn is_public(&self) -> bool {
        matches!(self.to, Grantee::AllUsers | Grantee::AuthenticatedUsers)
    }
}

impl Grantee {
    pub(crate) fn is(&self, caller: Option<&Caller>) -> bool {
        match self {
            Grantee::AllUsers => true,
            Grantee::AuthenticatedUsers => caller.is_some(),
            Grantee::LogDelivery => false,
            Grantee::Project(id) => caller.and_then(Caller::project).is_some_and(|p| p.id == *id),
        }
    }
}

/// Whether grants let a caller do something. With `private`, those to everybody do not count.
pub(crate) fn allow(grants: &[Grant], caller: Option<&Caller>, wanted: Permission, private: bool) -> bool {
    grants.iter().any(|g| g.permission.covers(wanted) && g.to.is(caller) && !(private && g.is_public()))
}

/// What a container keeps of grants: the write ACL, and the rest. The owner's own need no keeping.
pub(crate) fn keep(grants: &[Grant], owner: &str) -> (String, Vec<Grant>) {
    let (mut write, mut rest): (Vec<String>, Vec<Grant>) = Default::default();
    let push = |list: &mut Vec<String>, word: &str| {
        if !list.iter().any(|w| w == word) {
            list.push(word.to_owned());
        }
    };
    for grant in grants {
        if grant.to == Grantee::Project(owner.to_owned()) {
            continue;
        }
        let parts = match grant.permission {
            Permission::FullControl => Permission::PARTS.to_vec(),
            one => vec![one],
        };
        for part in parts {
            match (part, &grant.to) {
                (Permission::Write, Grantee::AuthenticatedUsers) => push(&mut write, "*:*"),
                (Permission::Write, Grantee::Project(id)) => push(&mut write, &format!("{id}:*")),
                (part, to) => {
                    let grant = Grant::new(to.clone(), part);
                    if !rest.contains(&grant) {
                        rest.push(grant);
                    }
                }
            }
        }
    }
    (write.join(","), rest)
}

/// The grants that a container's ACLs come to, but for the owner's. What S3 has no words for is left out.
pub(crate) fn shown(read: &str, write: &str, rest: &[Grant]) -> Vec<Grant> {
    let mut all: Vec<Grant> = Vec::new();
    for (acl, permission) in [(read, Permission::Read), (write, Permission::Write)] {
        for word in acl.split(',').map(str::trim) {
            let to = match word.split_once(':') {
                Some((".r", "*")) => Grantee::AllUsers,
                Some(("*", "*")) => Grantee::AuthenticatedUsers,
                Some((id, "*")) if !id.starts_with('.') => Grantee::Project(id.to_owned()),
                _ => continue,
            };
            all.push(Grant::new(to, permission));
        }
    }
    all.extend(rest.iter().cloned());
    join(all)
}

/// Makes all four permissions of one grantee full control.
fn join(all: Vec<Grant>) -> Vec<Grant> {
    let has = |to: &Grantee, p: Permission| all.iter().any(|g| g.to == *to && g.permission == p);
    let full = |to: &Grantee| Permission::PARTS.iter().all(|p| has(to, *p));
    let mut out: Vec<Grant> = Vec::new();
    for grant in &all {
        let permission = if full(&grant.to) { Permission::FullControl } else { grant.permission };
        let grant = Grant::new(grant.to.clone(), permission);
        if !out.contains(&grant) {
            out.push(grant);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grant() -> impl Strategy<Value = Grant> {
        let to = prop_oneof![
            Just(Grantee::AllUsers),
            Just(Grantee::AuthenticatedUsers),
            Just(Grantee::LogDelivery),
            "[a-f0-9]{1,4}".prop_map(Grantee::Project),
        ];
        (to, 0usize..5).prop_map(|(to, p)| Grant::new(to, Permission::ALL[p]))
    }

    proptest! {
        /// Whatever is granted is kept, and nothing else.
        #[test]
        fn grants_come_back(grants in proptest::collection::vec(grant(), 0..6)) {
            let (write, rest) = keep(&grants, "owner");
            let back = shown("", &write, &rest);
            for p in Permission::PARTS {
                for to in grants.iter().chain(&back).map(|g| &g.to) {
                    let of = |list: &[Grant]| list.iter().any(|g| g.to == *to && g.permission.covers(p));
                    prop_assert_eq!(of(&grants), of(&back), "{:?} {:?}", to, p);
                }
            }
        }
    }

    #[test]
    fn the_words_of_both_doors() {
        let all = |p| Grant::new(Grantee::AllUsers, p);
        let other = |p| Grant::new(Grantee::Project("q".into()), p);
        let (write, rest) =
            keep(&[all(Permission::Read), other(Permission::FullControl), all(Permission::Write)], "p");
        assert_eq!(write, "q:*");
        let parts = [Permission::Read, Permission::ReadAcp, Permission::WriteAcp].map(other);
        assert_eq!(rest, [&[all(Permission::Read)], parts.as_slice(), &[all(Permission::Write)]].concat());
        assert_eq!(
            shown("", &write, &rest),
            [other(Permission::FullControl), all(Permission::Read), all(Permission::Write)]
        );
        assert_eq!(shown(".r:*,.rlistings", "", &[]), [all(Permission::Read)]);
        // What S3 can't say is not shown as something else.
        assert_eq!(shown(".r:.example.com,.r:-*,member,p:alice", "member", &[]), []);
    }

    #[test]
    fn a_closed_bucket_takes_no_notice_of_everybody() {
        let all = [Grant::new(Grantee::AllUsers, Permission::FullControl)];
        assert!(allow(&all, None, Permission::Read, false));
        assert!(!allow(&all, None, Permission::Read, true));
        assert!(!allow(&[Grant::new(Grantee::LogDelivery, Permission::Read)], None, Permission::Read, false));
    }
}
