//! The rule language against callers of every persona.

use super::*;
use crate::{DomainRef, ProjectRef, RoleRef, Secret, UserRef};
use state::Timestamp;

fn caller(roles: &[&str], scope: Scope) -> Caller {
    Caller {
        user: UserRef { id: "u1".into(), ..UserRef::default() },
        scope,
        roles: roles.iter().map(|r| RoleRef { id: (*r).into(), name: (*r).into() }).collect(),
        expires_at: Timestamp(0),
        audit_ids: vec![],
        token: Secret(String::new()),
    }
}

fn project(id: &str) -> Scope {
    Scope::Project(ProjectRef { id: id.into(), ..ProjectRef::default() })
}

const RULES: &[Rule] = &[
    Rule { name: "admin", check: "role:admin" },
    Rule { name: "owner", check: "project_id:%(project_id)s" },
    Rule { name: "member_of", check: "role:member and rule:owner" },
    Rule { name: "thing:get", check: "rule:admin or (role:reader and rule:owner)" },
    Rule { name: "thing:system", check: "role:reader and system_scope:all" },
    Rule { name: "thing:own", check: "user_id:%(user_id)s and not role:banned" },
    Rule { name: "thing:public", check: "'public':%(visibility)s" },
    Rule { name: "thing:domain", check: "domain_id:%(target.domain_id)s" },
    Rule { name: "loop", check: "rule:loop" },
    Rule { name: "open", check: "" },
];

#[test]
fn every_persona() {
    let p = Policy::new(RULES, |r| format!("no {r}")).unwrap();
    let reader = caller(&["reader"], project("p1"));
    assert!(p.allows(&reader, "thing:get", &[("project_id", "p1")]));
    assert!(!p.allows(&reader, "thing:get", &[("project_id", "p2")]));
    assert!(!p.allows(&reader, "thing:get", &[]));
    assert!(!p.allows(&reader, "member_of", &[("project_id", "p1")]));
    assert!(p.allows(&caller(&["Admin"], project("p9")), "thing:get", &[("project_id", "p1")]));
    assert!(p.allows(&caller(&["reader"], Scope::System), "thing:system", &[]));
    assert!(!p.allows(&reader, "thing:system", &[]));
    assert!(p.allows(&reader, "thing:own", &[("user_id", "u1")]));
    assert!(!p.allows(&caller(&["banned"], Scope::Unscoped), "thing:own", &[("user_id", "u1")]));
    assert!(p.allows(&reader, "thing:public", &[("visibility", "public")]));
    let domain = Scope::Domain(DomainRef { id: "d1".into(), name: "D".into() });
    assert!(p.allows(&caller(&[], domain), "thing:domain", &[("target.domain_id", "d1")]));
    assert!(p.allows(&reader, "open", &[]));
    assert!(!p.allows(&reader, "loop", &[]));
    assert!(!p.allows(&caller(&["admin"], Scope::System), "no such rule", &[]));
}

#[test]
fn bad_rules_are_refused() {
    for bad in
        ["role:", "(role:a", "role:a)", "role:a or", "nonsense", "not", &"(".repeat(99), &"a:b ".repeat(4000)]
    {
        assert!(Check::parse(bad).is_err(), "{bad:.40}");
    }
}

#[test]
fn the_operators_file_replaces_rules() {
    let p = Policy::new(RULES, |r| format!("no {r}")).unwrap();
    let file = std::env::temp_dir().join(format!("policy-{}.yaml", std::process::id()));
    std::fs::write(&file, "\"thing:get\": \"role:auditor\"\n").unwrap();
    p.load(&file).unwrap();
    assert!(p.allows(&caller(&["auditor"], Scope::System), "thing:get", &[]));
    assert!(!p.allows(&caller(&["admin"], Scope::System), "thing:get", &[]));
    std::fs::write(&file, "\"thing:gte\": \"role:auditor\"\n").unwrap();
    assert!(matches!(p.load(&file), Err(PolicyError::Unknown(_))));
    std::fs::remove_file(&file).unwrap();
}
