use super::*;
use proptest::prelude::*;

fn about(pairs: &[(&str, &[&str])]) -> Attributes {
    pairs.iter().map(|(n, v)| ((*n).to_owned(), v.iter().map(|s| (*s).to_owned()).collect())).collect()
}

fn apply(rules: Value, about: &Attributes) -> Result<Mapped, MappingError> {
    Mapping::new(&rules, Version::V1).unwrap().apply(about)
}

fn named(name: &str) -> MappedUser {
    MappedUser { name: Some(name.into()), ..MappedUser::default() }
}

#[test]
fn placeholders_and_static_text() {
    let rules = json!([{
        "local": [{"user": {"name": "{0} {1}", "email": "{2}"}}, {"group": {"id": "g1"}}],
        "remote": [{"type": "First"}, {"type": "Last"}, {"type": "Email"},
            {"type": "Kind", "any_one_of": ["Tester", "Boss"]}],
    }]);
    let ann = about(&[("First", &["Ann"]), ("Last", &["Lee"]), ("Email", &["a@x"]), ("Kind", &["Tester"])]);
    let mapped = apply(rules.clone(), &ann).unwrap();
    assert_eq!(mapped.user, MappedUser { email: Some("a@x".into()), ..named("Ann Lee") });
    assert_eq!(mapped.group_ids.iter().collect::<Vec<_>>(), ["g1"]);
    let mut other = ann.clone();
    other.insert("Kind".into(), vec!["Guest".into()]);
    assert_eq!(apply(rules.clone(), &other), Err(MappingError::NoRuleApplies));
    other.remove("Kind");
    assert_eq!(apply(rules, &other), Err(MappingError::NoRuleApplies), "what is absent is never enough");
    // Only what is mapped directly is counted.
    let counted = json!([{"local": [{"user": {"name": "{0}"}}],
        "remote": [{"type": "Kind", "not_any_of": ["Guest"]}, {"type": "Email"}]}]);
    assert_eq!(apply(counted, &ann).unwrap().user, named("a@x"));
    let missing = json!([{"local": [{"user": {"name": "{1}"}}], "remote": [{"type": "Email"}]}]);
    assert_eq!(apply(missing, &ann), Err(MappingError::NoSuchMatch));
    let odd = json!([{"local": [{"user": {"name": "{{{0}}} {}"}}], "remote": [{"type": "Email"}]}]);
    assert_eq!(apply(odd, &ann).unwrap().user, named("{a@x} a@x"));
    let none = json!([{"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "Kind", "any_one_of": ["Tester"]}]}]);
    assert_eq!(apply(none, &ann).unwrap().user, named("{0}"), "upstream leaves it where nothing is matched");
}

#[test]
fn the_first_user_counts_and_all_groups() {
    let rules = json!([
        {"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "U"}]},
        {"local": [{"user": {"name": "other"}}, {"group": {"name": "g", "domain": {"id": "d"}}}],
            "remote": [{"type": "U"}]},
        {"local": [{"groups": "{0}", "domain": {"name": "D"}}],
            "remote": [{"type": "G", "blacklist": ["no.*"], "regex": true}]},
        {"local": [{"group_ids": "{0}"}], "remote": [{"type": "I", "whitelist": ["i1", "i2"]}]},
        {"local": [{"groups": "['s1', \"s2\"]", "domain": {"id": "d"}}], "remote": [{"type": "U"}]},
    ]);
    let who = about(&[("U", &["u"]), ("G", &["a", "nope", "b"]), ("I", &["i1", "i3"])]);
    let mapped = apply(rules.clone(), &who).unwrap();
    assert_eq!(mapped.user, named("u"));
    let (id, name) = (DomainBy::Id("d".into()), DomainBy::Name("D".into()));
    let wanted: Vec<(String, DomainBy)> = [("g", &id), ("a", &name), ("b", &name), ("s1", &id), ("s2", &id)]
        .map(|(g, d)| (g.to_owned(), d.clone()))
        .into();
    assert_eq!(mapped.group_names, wanted);
    assert_eq!(mapped.group_ids.iter().collect::<Vec<_>>(), ["i1"]);
    // Filtered to nothing, the rule applies still, and gives no group.
    let none = apply(rules, &about(&[("U", &["u"]), ("G", &["nope"])])).unwrap();
    assert!(none.group_names.iter().all(|(_, d)| *d == id));
}

#[test]
fn nobody_chooses_its_groups_by_the_form_of_a_value() {
    let rules = json!([{"local": [{"user": {"name": "{0}"}}, {"groups": "{0}", "domain": {"id": "d"}}, {"group_ids": "{0}"}],
        "remote": [{"type": "U"}]}]);
    for name in ["['admins']", "x;admins", "[\"admins\"]", "{0}", "('admins',)"] {
        let mapped = apply(rules.clone(), &about(&[("U", &[name])])).unwrap();
        assert_eq!(mapped.group_names, [(name.to_owned(), DomainBy::Id("d".into()))]);
        assert_eq!(mapped.group_ids.iter().collect::<Vec<_>>(), [name]);
        assert_eq!(mapped.user, named(name), "a value's own placeholders are text");
    }
}

#[test]
fn regular_expressions_are_searched_for() {
    let rules = |regex: bool| {
        json!([{"local": [{"user": {"name": "{0}"}}],
            "remote": [{"type": "U"}, {"type": "M", "any_one_of": [".*@x\\.com$"], "regex": regex}]}])
    };
    let who = |mail: &str| about(&[("U", &["u"]), ("M", &[mail])]);
    assert!(apply(rules(true), &who("a@x.com")).is_ok());
    assert!(apply(rules(true), &who("a@x.com.evil")).is_err());
    assert!(apply(rules(false), &who("a@x.com")).is_err());
    let bad = |list: Value| {
        let rules = json!([{"local": [], "remote": [{"type": "M", "any_one_of": list, "regex": true}]}]);
        Mapping::new(&rules, Version::V1).is_err()
    };
    assert!(bad(json!(["("])) && bad(json!(["(?=a)b"])) && bad(json!(["a{1000}{1000}{1000}"])));
    assert!(bad(json!(["x".repeat(LONGEST_REGEX + 1)])));
    assert!(bad(json!(vec!["x"; MOST_REGEXES + 1])));
    assert!(!bad(json!(["^a+$", 5])));
}

#[test]
fn local_users_and_projects() {
    let rules = json!([{"local": [
        {"user": {"id": "{0}", "type": "local"}},
        {"projects": [{"name": "P-{0}", "roles": [{"name": "member"}, {"name": "{1}"}]}]}],
        "remote": [{"type": "U"}, {"type": "R"}]}]);
    let mapped = apply(rules, &about(&[("U", &["u"]), ("R", &["reader"])])).unwrap();
    assert!(mapped.user.local && mapped.user.id.as_deref() == Some("u"));
    let wanted =
        MappedProject { name: "P-u".into(), domain: None, roles: vec!["member".into(), "reader".into()] };
    assert_eq!(mapped.projects, [wanted]);
}

#[test]
fn the_second_version_gives_a_rules_domain_to_its_user_and_projects() {
    let rules = json!([{"local": [{"user": {"name": "u"}, "domain": {"id": "D"},
        "projects": [{"name": "p", "roles": []}]}], "remote": [{"type": "U"}]}]);
    let who = about(&[("U", &["u"])]);
    let domain = |version| {
        let mapped = Mapping::new(&rules, version).unwrap().apply(&who).unwrap();
        (mapped.user.domain, mapped.projects[0].domain.clone())
    };
    let d = Some(DomainBy::Id("D".into()));
    assert_eq!(domain(Version::V1), (None, None));
    assert_eq!(domain(Version::V2), (d.clone(), d));
    let own = json!([{"local": [{"projects": [{"name": "p", "domain": {"name": "X"}, "roles": []}]}],
        "remote": [{"type": "U"}]}]);
    assert!(Mapping::new(&own, Version::V1).is_err() && Mapping::new(&own, Version::V2).is_ok());
}

#[test]
fn what_the_schema_refuses() {
    let remote = json!([{"type": "U"}]);
    let with = |local: Value, remote: Value| json!([{"local": local, "remote": remote}]);
    for bad in [
        json!([]),
        json!({}),
        json!(null),
        json!([{}]),
        json!([{"local": []}]),
        json!([{"local": [], "remote": []}]),
        json!([{"local": [], "remote": [{"type": "U"}], "more": 1}]),
        with(json!([{"user": {"type": "root"}}]), remote.clone()),
        with(json!([{"user": {"password": "x"}}]), remote.clone()),
        with(json!([{"group": {"name": "g"}}]), remote.clone()),
        with(json!([{"group": {"id": "g", "name": "g"}}]), remote.clone()),
        with(json!([{"groups": ["a"]}]), remote.clone()),
        with(json!([{"projects": [{"name": "p"}]}]), remote.clone()),
        with(json!([]), json!([{"any_one_of": ["a"]}])),
        with(json!([]), json!([{"type": "U", "any_one_of": ["a"], "not_any_of": ["b"]}])),
        with(json!([]), json!([{"type": "U", "regex": true}])),
        with(json!([]), json!([{"type": 5}])),
        json!(vec![json!({"local": [], "remote": [{"type": "U"}]}); MOST_RULES + 1]),
    ] {
        assert!(Mapping::new(&bad, Version::V1).is_err(), "{bad}");
    }
    let alone = with(json!([{"groups": "g"}]), remote);
    let mapping = Mapping::new(&alone, Version::V1).unwrap();
    assert_eq!(mapping.apply(&about(&[("U", &["u"])])), Err(MappingError::GroupsWithoutDomain));
    assert!(Version::parse("3.0").is_err());
}

fn remote() -> impl Strategy<Value = Value> {
    let values = prop::collection::vec("[abc]{1,2}", 0..4);
    ("[A-D]", 0..5u8, values, any::<bool>()).prop_map(|(attribute, kind, values, regex)| {
        let name = ["any_one_of", "not_any_of", "blacklist", "whitelist"].get(usize::from(kind));
        match name {
            Some(name) => json!({"type": attribute, *name: values, "regex": regex}),
            None => json!({"type": attribute}),
        }
    })
}

fn rules() -> impl Strategy<Value = Value> {
    let local = ("[a-c{}0-2]{0,6}", "[a-c{}0-2]{0,6}").prop_map(|(name, groups)| {
        json!({"user": {"name": name}, "groups": groups, "domain": {"id": "d"}, "group_ids": "{0}"})
    });
    let rule = (prop::collection::vec(local, 0..3), prop::collection::vec(remote(), 1..4))
        .prop_map(|(local, remote)| json!({"local": local, "remote": remote}));
    prop::collection::vec(rule, 1..5).prop_map(Value::from)
}

fn anybody() -> impl Strategy<Value = Attributes> {
    prop::collection::btree_map("[A-D]", prop::collection::vec("[abc{}';\\[\\]]{0,3}", 0..4), 0..4)
}

proptest! {
    #[test]
    fn any_rules_and_anybody(rules in rules(), about in anybody()) {
        let Ok(mapping) = Mapping::new(&rules, Version::V1) else { return Ok(()) };
        let Ok(mapped) = mapping.apply(&about) else { return Ok(()) };
        // An id of a group is a value that was said, or the rule's own text.
        let said: Vec<&String> = about.values().flatten().collect();
        for id in &mapped.group_ids {
            prop_assert!(said.contains(&id) || id == "{0}", "{id}");
        }
        prop_assert_eq!(mapping.apply(&about).unwrap(), mapped);
    }

    #[test]
    fn a_filter_lets_only_through_what_it_may(values in prop::collection::vec("[ab]{1,3}", 1..6), list in prop::collection::vec("[ab]{1,3}", 0..6)) {
        for (name, wanted) in [("whitelist", true), ("blacklist", false)] {
            let rules = json!([{"local": [{"group_ids": "{0}"}], "remote": [{"type": "G", name: list}]}]);
            let about = Attributes::from([("G".to_owned(), values.clone())]);
            let got = Mapping::new(&rules, Version::V1).unwrap().apply(&about).unwrap().group_ids;
            let all: BTreeSet<String> = values.iter().filter(|v| list.contains(v) == wanted).cloned().collect();
            prop_assert_eq!(got, all);
        }
    }

    #[test]
    fn text_is_never_read_as_something_else(template in "\\PC{0,40}", values in prop::collection::vec("\\PC{0,10}", 1..4)) {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let _ = fill(&template, std::slice::from_ref(&values));
        let _ = literal_list(&template);
        prop_assert_eq!(fill("{0}", &[vec![values[0]]]).unwrap(), values[0]);
    }
}
