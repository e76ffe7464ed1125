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
    assert!(!p.allows(&caller(&["admin"], Scope::System), "no such rule", &[]));
}

#[test]
fn bad_rules_are_refused() {
    for bad in [
        "role:",
        "(role:a",
        "role:a)",
        "role:a or",
        "nonsense",
        "not",
        "project:%(x)s",
        "user_id:%x",
        "user_id:%()s",
        &"(".repeat(99),
        &"user_id:b ".repeat(4000),
    ] {
        assert!(Check::parse(bad).is_err(), "{bad:.40}");
    }
    let http = Check::parse("http://policy.example/%(project_id)s").unwrap_err();
    assert!(http.contains("another server"), "{http}");
}

#[test]
fn the_whole_language() {
    let who = caller(&["admin", "ops"], project("p1"));
    let target: Target<'_> = &[("id", "u1"), ("n", "5"), ("absent", "None"), ("role", "ops"), ("on", "True")];
    for (check, holds) in [
        ("@", true),
        ("!", false),
        ("not !", true),
        ("NOT ! AND role:OPS", true),
        ("role:admin and not (role:ops or !)", false),
        ("role:x or role:y or role:ops", true),
        ("role:x or role:admin and role:ops", true),
        ("(role:admin or role:x) and role:y", false),
        ("role:%(role)s", true),
        ("role:%(nothing)s", false),
        ("user_id:%(id)s", true),
        ("user_id:u%(n)s", false),
        ("'u5':u%(n)s", true),
        ("'100%%':100%%", false),
        ("5:%(n)s", true),
        ("None:%(absent)s", true),
        ("\"True\":%(on)s", true),
        ("True:%(on)s", true),
        ("roles:ops", true),
        ("roles:op", false),
        ("is_admin:True", true),
        ("is_admin:1", true),
        ("is_admin:False", false),
        ("token.project.id:p1", true),
        ("tenant_id:'p1'", true),
        ("domain_id:None", false),
        ("system_scope:all", false),
    ] {
        let check = Check::parse(check).unwrap_or_else(|e| panic!("{check}: {e}"));
        assert_eq!(check.holds(&who, target, &Entries::new()), holds, "{check}");
        assert_eq!(Check::parse(&check.to_string()).as_ref(), Ok(&check), "what is shown can be read again");
    }
}

#[test]
fn scopes_come_before_the_rule() {
    let rules = [
        ScopedRule { name: "a", scopes: Scopes::Any, check: "role:admin" },
        ScopedRule { name: "sp", scopes: Scopes::SystemOrProject, check: "role:admin" },
        ScopedRule { name: "p", scopes: Scopes::Project, check: "role:admin" },
    ];
    let p = Policy::scoped(&rules, |r| format!("no {r}")).unwrap();
    let domain = Scope::Domain(DomainRef { id: "d1".into(), name: "D".into() });
    for (scope, may) in
        [(Scope::System, "a sp"), (project("p1"), "a sp p"), (domain, "a"), (Scope::Unscoped, "a sp p")]
    {
        let who = caller(&["admin"], scope);
        let allowed: Vec<_> = p.names().filter(|n| p.allows(&who, n, &[])).collect();
        assert_eq!(allowed.join(" "), may);
        assert!(p.names().all(|n| p.explain(&who, n, &[]).unwrap().allowed == p.allows(&who, n, &[])));
    }
}

fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.yaml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn policy() -> Policy {
    Policy::new(RULES, |r| format!("no {r}")).unwrap()
}

#[test]
fn the_operators_file_replaces_and_adds_rules() {
    let text = "# ours\n\"thing:get\": \"rule:auditors or role:boss\"\n\"auditors\": \"role:auditor\"\n\
        thing:own: [[\"role:a\", \"role:b\"], \"role:c\"]\nthing:public: []\n";
    let (_dir, path) = file(text);
    let p = policy();
    p.load(&path).unwrap();
    let may = |roles: &[&str], rule| p.allows(&caller(roles, Scope::System), rule, &[]);
    assert!(may(&["auditor"], "thing:get") && may(&["boss"], "thing:get") && !may(&["admin"], "thing:get"));
    assert!(may(&["a", "b"], "thing:own") && may(&["c"], "thing:own") && !may(&["a"], "thing:own"));
    assert!(may(&[], "thing:public"));
    let listed = p.list();
    let get = listed.iter().find(|r| r.name == "thing:get").unwrap();
    assert!(get.replaced && get.default == Some(RULES[3].check) && get.check == "rule:auditors or role:boss");
    assert_eq!(listed.last().map(|r| (r.name.as_str(), r.default)), Some(("auditors", None)));
}

#[test]
fn bad_files_change_nothing() {
    let p = policy();
    let auditor = caller(&["auditor"], Scope::System);
    for (bad, why) in [
        ("\"thing:gte\": \"role:auditor\"", "no rule named \"thing:gte\""),
        ("\"thing:get\": \"rule:auditors\"", "no rule:auditors"),
        ("\"thing:get\": \"role:auditor and (\"", "thing:get"),
        ("\"thing:get\": \"projct_id:%(project_id)s\"", "no token has"),
        ("\"admin\": \"rule:owner\"\n\"owner\": \"rule:admin\"", "circle"),
        ("\"thing:get\": \"https://x/\"", "another server"),
        ("- a\n- b\n", "mapping"),
        ("\"thing:get\": {\"a\": 1}", "mapping"),
        ("a: b: c", "mapping"),
    ] {
        let (_dir, path) = file(bad);
        let e = p.load(&path).unwrap_err().to_string();
        assert!(e.contains(why), "{bad}: {e}");
        assert!(!p.allows(&auditor, "thing:get", &[]), "{bad}");
    }
    for empty in ["", "# only words\n", "---\n\n# words\n"] {
        let (_dir, path) = file(empty);
        p.load(&path).unwrap();
    }
}

/// Looks until the answer is the wanted one: a change is noticed within about a second.
fn within(seconds: f64, is: impl Fn() -> bool) -> bool {
    let began = std::time::Instant::now();
    while began.elapsed().as_secs_f64() < seconds {
        if is() {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    false
}

#[test]
fn a_followed_file_is_read_again() {
    let (_dir, path) = file("\"thing:get\": \"role:one\"");
    let p = policy();
    p.load(&path).unwrap();
    let may = |role: &str| p.allows(&caller(&[role], Scope::System), "thing:get", &[]);
    assert!(may("one") && !may("two"));
    std::fs::write(&path, "\"thing:get\": \"role:two\"").unwrap();
    assert!(within(5.0, || may("two")) && !may("one"));
    // A bad one leaves the rules, a good one after it counts again, also by a rename.
    std::fs::write(&path, "\"thing:get\": \"role:three or\"").unwrap();
    assert!(!within(1.5, || !may("two")));
    let next = path.with_extension("next");
    std::fs::write(&next, "\"thing:get\": \"role:four\"").unwrap();
    std::fs::rename(&next, &path).unwrap();
    assert!(within(5.0, || may("four")) && !may("two"));
    std::fs::remove_file(&path).unwrap();
    assert!(!within(1.5, || !may("four")), "a file that is gone takes no rule with it");
}

#[test]
fn an_explanation_reads_well() {
    let p = policy();
    let said = p.explain(&caller(&["reader"], project("p1")), "thing:get", &[("project_id", "p2")]).unwrap();
    assert!(!said.allowed);
    let wanted = "thing:get: denied
  rule:admin or (role:reader and rule:owner)
no   any of
no     rule:admin
no       role:admin  (the token's roles are reader)
no     all of
yes      role:reader  (the token's roles are reader)
no       rule:owner
no         project_id:%(project_id)s  (\"p1\" against \"p2\")
";
    assert_eq!(said.to_string(), wanted);
    let none = p.explain(&caller(&[], Scope::System), "thing:own", &[]).unwrap().to_string();
    assert!(none.contains("the target has no user_id"), "{none}");
    assert!(p.explain(&caller(&[], Scope::System), "thing:nothing", &[]).is_none());
}
