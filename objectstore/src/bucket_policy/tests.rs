use super::*;
use api::{DomainRef, ProjectRef, Scope, Secret, UserRef};
use proptest::prelude::*;
use serde_json::json;

fn caller(project: &str, user: &str) -> Caller {
    let domain = DomainRef { id: "default".into(), name: "Default".into() };
    Caller {
        user: UserRef { id: format!("{user}-id"), name: user.into(), domain: domain.clone() },
        scope: Scope::Project(ProjectRef { id: project.into(), name: project.into(), domain }),
        roles: Vec::new(),
        expires_at: state::Timestamp(i64::MAX),
        audit_ids: Vec::new(),
        token: Secret(String::new()),
    }
}

fn read(policy: serde_json::Value) -> Result<BucketPolicy, Malformed> {
    BucketPolicy::parse(&policy.to_string(), "b", "p")
}

/// One statement that lets everybody get everything, with these members changed or added.
fn statement(change: serde_json::Value) -> serde_json::Value {
    let mut one = json!({
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*",
    });
    for (k, v) in change.as_object().unwrap() {
        match v.is_null() {
            true => drop(one.as_object_mut().unwrap().remove(k)),
            false => one[k] = v.clone(),
        }
    }
    one
}

fn policy(change: serde_json::Value) -> serde_json::Value {
    json!({"Version": "2012-10-17", "Statement": [statement(change)]})
}

fn ask(
    policy: &BucketPolicy,
    action: &str,
    key: &str,
    who: Option<&Caller>,
    facts: &[(&str, &str)],
) -> Verdict {
    let of = |key: &str| {
        facts.iter().filter(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned()).collect::<Vec<String>>()
    };
    policy.ask(&Question { action, bucket: "b", key, caller: who, facts: &of })
}

#[test]
fn statements_speak_of_what_they_name() {
    let p = read(policy(json!({}))).unwrap();
    assert_eq!(ask(&p, "s3:GetObject", "k", None, &[]), Verdict::Allow);
    assert_eq!(ask(&p, "s3:PutObject", "k", None, &[]), Verdict::Silent);
    assert_eq!(ask(&p, "s3:ListBucket", "", None, &[]), Verdict::Silent);
    let p =
        read(policy(json!({"Action": "s3:Get*", "Resource": ["arn:aws:s3:::b", "arn:aws:s3:::b/pub/*"]})));
    let p = p.unwrap();
    assert_eq!(ask(&p, "s3:GetObjectAcl", "pub/k", None, &[]), Verdict::Allow);
    assert_eq!(ask(&p, "s3:GetObject", "k", None, &[]), Verdict::Silent);
    assert_eq!(ask(&p, "s3:GetBucketAcl", "", None, &[]), Verdict::Allow);
    let p = read(policy(json!({"Action": null, "NotAction": "s3:Delete*", "Effect": "Deny"}))).unwrap();
    assert_eq!(ask(&p, "s3:PutObject", "k", None, &[]), Verdict::Deny);
    assert_eq!(ask(&p, "s3:DeleteObject", "k", None, &[]), Verdict::Silent);
    let p = read(policy(json!({"Resource": null, "NotResource": "arn:aws:s3:::b/x/*"}))).unwrap();
    assert_eq!(ask(&p, "s3:GetObject", "k", None, &[]), Verdict::Allow);
    assert_eq!(ask(&p, "s3:GetObject", "x/k", None, &[]), Verdict::Silent);
}

#[test]
fn a_denial_wins() {
    let both = json!({"Statement": [
        statement(json!({"Action": "s3:*"})),
        statement(json!({"Effect": "Deny", "Action": "s3:PutObject"})),
    ]});
    let p = read(both).unwrap();
    assert_eq!(ask(&p, "s3:PutObject", "k", None, &[]), Verdict::Deny);
    assert_eq!(ask(&p, "s3:GetObject", "k", None, &[]), Verdict::Allow);
}

#[test]
fn principals() {
    let (alice, bob) = (caller("q", "alice"), caller("r", "bob"));
    let who = |principal: serde_json::Value| {
        let p = read(policy(json!({"Principal": principal}))).unwrap();
        [None, Some(&alice), Some(&bob)].map(|c| ask(&p, "s3:GetObject", "k", c, &[]) == Verdict::Allow)
    };
    assert_eq!(who(json!({"AWS": "*"})), [true, true, true]);
    assert_eq!(who(json!({"AWS": "q"})), [false, true, false]);
    assert_eq!(who(json!({"AWS": ["arn:aws:iam::q:root", "r"]})), [false, true, true]);
    assert_eq!(who(json!({"AWS": "arn:aws:iam::q:user/alice"})), [false, true, false]);
    assert_eq!(who(json!({"AWS": "arn:aws:iam::q:user/bob"})), [false, false, false]);
    assert_eq!(who(json!({"AWS": "arn:aws:iam:::user/bob-id"})), [false, false, true]);
    assert_eq!(who(json!({"AWS": "arn:aws:iam:::user/bob"})), [false, false, false]);
    assert_eq!(who(json!({"CanonicalUser": "r"})), [false, false, true]);
    assert_eq!(who(json!({"Service": "logging.s3.amazonaws.com"})), [false, false, false]);
    let all_but = json!({"Effect": "Deny", "Principal": null, "NotPrincipal": {"AWS": "q"}});
    let p = read(policy(all_but)).unwrap();
    assert_eq!(ask(&p, "s3:GetObject", "k", Some(&alice), &[]), Verdict::Silent);
    assert_eq!(ask(&p, "s3:GetObject", "k", None, &[]), Verdict::Deny);
}

#[test]
fn conditions() {
    let holds = |condition: serde_json::Value, facts: &[(&str, &str)]| {
        let p = read(policy(json!({"Condition": condition}))).unwrap();
        ask(&p, "s3:GetObject", "k", Some(&caller("q", "alice")), facts) == Verdict::Allow
    };
    let ip = json!({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]}});
    assert!(holds(ip.clone(), &[("aws:sourceip", "10.1.2.3")]));
    assert!(holds(ip.clone(), &[("aws:sourceip", "::ffff:192.0.2.1")]));
    assert!(holds(ip.clone(), &[("aws:sourceip", "2001:db8::7")]));
    assert!(!holds(ip.clone(), &[("aws:sourceip", "192.0.2.2")]) && !holds(ip, &[]));
    let not = json!({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}});
    assert!(holds(not.clone(), &[("aws:sourceip", "11.0.0.1")]) && holds(not, &[]));
    let prefix = json!({"StringLike": {"s3:prefix": "home/${aws:username}/*"}});
    assert!(holds(prefix.clone(), &[("s3:prefix", "home/alice/x")]));
    assert!(!holds(prefix, &[("s3:prefix", "home/bob/x")]));
    let exact = json!({"StringEquals": {"s3:prefix": "a*"}});
    assert!(holds(exact.clone(), &[("s3:prefix", "a*")]) && !holds(exact, &[("s3:prefix", "ab")]));
    assert!(holds(
        json!({"StringEqualsIgnoreCase": {"aws:UserAgent": "Curl"}}),
        &[("aws:useragent", "cURL")]
    ));
    assert!(holds(json!({"StringNotEquals": {"s3:x-amz-acl": "private"}}), &[]));
    assert!(holds(json!({"StringEqualsIfExists": {"s3:x-amz-acl": "private"}}), &[]));
    assert!(!holds(json!({"StringEquals": {"s3:x-amz-acl": "private"}}), &[]));
    assert!(holds(json!({"Bool": {"aws:SecureTransport": false}}), &[("aws:securetransport", "false")]));
    assert!(holds(json!({"NumericLessThanEquals": {"s3:max-keys": 10}}), &[("s3:max-keys", "10")]));
    assert!(!holds(json!({"NumericLessThanEquals": {"s3:max-keys": "10"}}), &[("s3:max-keys", "many")]));
    assert!(holds(json!({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}), &[]));
    assert!(!holds(json!({"DateLessThan": {"aws:EpochTime": "1577836800"}}), &[]));
    assert!(holds(json!({"Null": {"s3:x-amz-acl": "true"}}), &[]));
    assert!(holds(json!({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::q:user/*"}}), &[]));
    let tag = json!({"StringEquals": {"s3:ExistingObjectTag/Colour": "red"}});
    assert!(holds(tag.clone(), &[("s3:existingobjecttag/Colour", "red")]));
    assert!(!holds(tag, &[("s3:existingobjecttag/colour", "red")]));
    let keys = [("s3:requestobjecttagkeys", "a"), ("s3:requestobjecttagkeys", "b")];
    assert!(holds(json!({"ForAnyValue:StringEquals": {"s3:RequestObjectTagKeys": "a"}}), &keys));
    assert!(!holds(json!({"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": "a"}}), &keys));
    assert!(holds(json!({"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["a", "b"]}}), &keys));
    assert!(holds(json!({"NumericLessThan": {"s3:signatureAge": 600_000}}), &[("s3:signatureage", "5")]));
    // All of them must hold.
    let two = json!({"StringEquals": {"s3:prefix": "a", "s3:delimiter": "/"}});
    assert!(!holds(two, &[("s3:prefix", "a")]));
}

#[test]
fn what_is_not_understood_is_refused() {
    let refused = |change| read(policy(change)).is_err();
    assert!(refused(json!({"Effect": "Maybe"})));
    assert!(refused(json!({"Effect": null})) && refused(json!({"Principal": null})));
    assert!(refused(json!({"Action": null})) && refused(json!({"Resource": null})));
    assert!(refused(json!({"NotAction": "s3:*"})));
    assert!(refused(json!({"Conditions": {}})));
    assert!(refused(json!({"Principal": "alice"})) && refused(json!({"Principal": {"AWS": "arn:x"}})));
    assert!(refused(json!({"Principal": {"Other": "*"}})) && refused(json!({"Principal": {}})));
    assert!(
        refused(json!({"Principal": null, "NotPrincipal": {"AWS": "q"}})),
        "an allowance to all but some"
    );
    assert!(refused(json!({"Action": "ec2:Start"})) && refused(json!({"Action": []})));
    assert!(refused(json!({"Action": "s3:Get Object"})));
    for resource in ["arn:aws:s3:::other/*", "b/*", "arn:aws:s3:::b2", "arn:aws:s3::q:b", "arn:aws:ec2:::b"] {
        assert!(refused(json!({"Resource": resource})), "{resource}");
    }
    for resource in ["*", "arn:aws:s3:::*", "arn:aws:s3::p:b/*", "arn:aws:s3::*:b", "arn:aws:s3:::b*"] {
        assert!(!refused(json!({"Resource": resource})), "{resource}");
    }
    assert!(refused(json!({"Condition": {"StringEquals": {"aws:SourceVpc": "v"}}})));
    assert!(refused(json!({"Condition": {"StringEqual": {"s3:prefix": "v"}}})));
    assert!(refused(json!({"Condition": {"ForSomeValues:StringEquals": {"s3:prefix": "v"}}})));
    assert!(refused(json!({"Condition": {"IpAddress": {"aws:SourceIp": "everywhere"}}})));
    assert!(refused(json!({"Condition": {"NumericEquals": {"s3:max-keys": "ten"}}})));
    assert!(refused(json!({"Condition": {"StringLike": {"s3:prefix": "${aws:nonsense}"}}})));
    assert!(read(json!({"Version": "2013-01-01", "Statement": []})).is_err());
    assert!(read(json!({"Version": "2012-10-17"})).is_err());
    for text in ["", "[]", "{", "{\"Statement\": [], \"Statement\": []}"] {
        assert!(BucketPolicy::parse(text, "b", "p").is_err(), "{text}");
    }
    let deep = format!("{}{}", "{\"a\":".repeat(5000), "}".repeat(5000));
    assert!(BucketPolicy::parse(&deep, "b", "p").is_err());
}

#[test]
fn what_is_public() {
    let public = |change| read(policy(change)).unwrap().is_public();
    assert!(public(json!({})));
    assert!(!public(json!({"Effect": "Deny"})));
    assert!(!public(json!({"Principal": {"AWS": "q"}})));
    assert!(!public(json!({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}})));
    assert!(public(json!({"Condition": {"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}})));
    assert!(public(json!({"Condition": {"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}})));
    assert!(public(json!({"Condition": {"StringEquals": {"s3:prefix": "x"}}})));
    assert!(!public(json!({"Condition": {"StringEquals": {"aws:PrincipalAccount": "q"}}})));
    assert!(public(json!({"Condition": {"StringLike": {"aws:PrincipalArn": "arn:*"}}})));
}

proptest! {
    #[test]
    fn noise_never_panics(noise in ".{0,80}") {
        let _ = BucketPolicy::parse(&noise, "b", "p");
        let _ = read(policy(json!({"Resource": noise.clone(), "Action": noise.clone()})));
        let _ = read(policy(json!({"Condition": {noise.clone(): {"s3:prefix": noise}}})));
    }

    /// Whatever else a policy says, what it denies outright is denied.
    #[test]
    fn nothing_outdoes_a_denial(actions in proptest::collection::vec("s3:[A-Za-z*]{1,8}", 0..5), key in "[a-z/]{1,9}") {
        let mut all: Vec<_> = actions.iter().map(|a| statement(json!({"Action": a}))).collect();
        all.insert(all.len() / 2, statement(json!({"Effect": "Deny", "Action": "s3:GetObject"})));
        let p = read(json!({"Statement": all})).unwrap();
        prop_assert_eq!(ask(&p, "s3:GetObject", &key, None, &[]), Verdict::Deny);
    }
}
