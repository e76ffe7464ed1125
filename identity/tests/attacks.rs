//! What is sent to a login by those who should not have one. Each hole that an identity service has had here is named
//! by its CVE.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use api::TokenValidator;
use common::{Cloud, PASSWORD, Reply, by_password, by_token, clouds, clouds_with, on_project};
use identity::{Config, LoginLimit};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

const COMMON: &str = "The request you have made requires authentication.";

fn auth(identity: Value) -> Value {
    json!({"auth": {"identity": identity}})
}

async fn post(cloud: &Cloud, body: &Value) -> Reply {
    cloud.raw("POST", "/v3/auth/tokens", None, body.to_string()).await
}

#[track_caller]
fn is_refusal(reply: &Reply, sent: &str) {
    let status = reply.status.as_u16();
    assert!((400..500).contains(&status), "{status} for {sent:.300}: {}", reply.body);
    assert_eq!(reply.body["error"]["code"], status, "{sent:.300}");
    assert!(reply.message().len() < 1000, "{}", reply.message().len());
}

/// Any JSON, not too large.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-z_:-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z_:-]{0,14}", inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// Every place in a value.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(k, v)| places(v, &format!("{at}/{}", k.replace('/', "~1")), out));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(n, v)| places(v, &format!("{at}/{n}"), out));
        }
        _ => {}
    }
}

/// CVE-2012-1572, CVE-2013-2014: requests of odd shapes and sizes that a service fell over.
#[tokio::test]
async fn a_login_with_anything_in_any_place() {
    let whole = json!({"auth": {
        "identity": {"methods": ["password", "token", "totp", "application_credential"],
            "password": {"user": {"id": "x", "name": "n", "domain": {"id": "default", "name": "d"},
                "password": "p"}},
            "token": {"id": "gAAAA"},
            "totp": {"user": {"name": "n", "domain": {"name": "Default"}, "passcode": "123456"}},
            "application_credential": {"id": "x", "name": "n", "secret": "s", "user": {"id": "u"}}},
        "scope": {"project": {"name": "p", "domain": {"id": "default"}}}}});
    let scopes = [
        json!({"project": {"id": "p"}}),
        json!({"domain": {"name": "d"}}),
        json!({"system": {"all": true}}),
        json!({"OS-TRUST:trust": {"id": "t"}}),
        json!("unscoped"),
    ];
    let mut all = Vec::new();
    places(&whole, "", &mut all);
    for cloud in clouds().await {
        let mut runner = TestRunner::default();
        for round in 0..200 {
            let mut body = whole.clone();
            body["auth"]["scope"] = scopes[round % scopes.len()].clone();
            // One method only, in turns, or all.
            if round % 5 > 0 {
                body["auth"]["identity"]["methods"] =
                    json!([whole["auth"]["identity"]["methods"][round % 4]]);
            }
            for _ in 0..=round % 3 {
                let at = &all[(0..all.len()).new_tree(&mut runner).unwrap().current()];
                if let Some(place) = body.pointer_mut(at) {
                    *place = any_json().new_tree(&mut runner).unwrap().current();
                }
            }
            let text = body.to_string();
            is_refusal(&cloud.raw("POST", "/v3/auth/tokens", None, text.clone()).await, &text);
        }
        for text in [
            String::new(),
            "{".into(),
            "\u{feff}{}".into(),
            "[".repeat(50_000),
            format!("{}1{}", "{\"auth\":".repeat(10_000), "}".repeat(10_000)),
            format!("{{\"auth\": {}}}", "9".repeat(5000)),
            "{\"auth\": {\"identity\": {\"methods\": [\"\\ud800\"]}}}".into(),
            json!({"auth": {"identity": by_password("a\0b", "x")}}).to_string(),
            json!({"auth": {"identity": by_password("a", "x\0")}}).to_string(),
        ] {
            is_refusal(&cloud.raw("POST", "/v3/auth/tokens", None, text.clone()).await, &text);
        }
        let raw: Vec<u8> = vec![0xff, 0xfe, b'{'];
        assert_eq!(cloud.raw("POST", "/v3/auth/tokens", None, raw).await.status, 400);
    }
}

/// The same for signatures, which a service passes on from strangers.
#[tokio::test]
async fn a_signature_with_anything_in_any_place() {
    let whole = json!({"credentials": {"access": "a", "signature": "s", "host": "h:80", "verb": "GET",
        "path": "/", "body_hash": "", "token": "QVdTNC1ITUFDLVNIQTI1Ng==",
        "params": {"SignatureVersion": "2", "Timestamp": "2012-01-01T00:00:00Z"},
        "headers": {"X-Amz-Date": "20120101T000000Z", "Authorization": "AWS4-HMAC-SHA256 Credential=a/b/c/d/e"}}});
    let mut all = Vec::new();
    places(&whole, "", &mut all);
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let (project, user) = cloud.tenant("ann", &["member"]).await;
        let secret = api::Secret("s3cr3t".into());
        cloud.identity.ensure_ec2_credential(&user, &project, "a", &secret).await.unwrap();
        let mut runner = TestRunner::default();
        for round in 0..200 {
            let mut body = whole.clone();
            let at = &all[(0..all.len()).new_tree(&mut runner).unwrap().current()];
            *body.pointer_mut(at).unwrap() = any_json().new_tree(&mut runner).unwrap().current();
            let path = if round % 2 == 0 { "/v3/ec2tokens" } else { "/v3/s3tokens" };
            let text = body.to_string();
            is_refusal(&cloud.raw("POST", path, Some(&admin), text.clone()).await, &text);
        }
    }
}

/// CVE-2014-2828: a method named again and again was checked again and again.
#[tokio::test]
async fn a_method_repeated_is_checked_once() {
    for cloud in clouds().await {
        let mut identity = by_password("admin", "wrong");
        identity["methods"] = json!(vec!["password"; 5000]);
        let before = cloud.identity.passwords_hashed();
        assert_eq!(post(&cloud, &auth(identity.clone())).await.status, 401);
        assert_eq!(cloud.identity.passwords_hashed(), before + 1);
        identity["password"]["user"]["password"] = json!(PASSWORD);
        let reply = post(&cloud, &auth(identity.clone())).await.expect(201);
        assert_eq!(reply["token"]["methods"], json!(["password"]));
        identity["methods"] = (0..5000).map(|n| format!("m{n}")).collect();
        assert_eq!(post(&cloud, &auth(identity)).await.status, 401);
    }
}

/// CVE-2018-20170 and its kin: by answer, by header or by time, who does not know the password does not learn whether
/// there is such a user, domain or credential. Time is counted in hashes.
#[tokio::test]
async fn nobody_learns_who_exists() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let (_, ann) = cloud.tenant("ann", &["member"]).await;
        let token = cloud.tenant_token("ann").await;
        let users = [("off", json!({"enabled": false, "password": "pw"})), ("bare", json!({}))];
        for (name, more) in users {
            let mut body = json!({"user": {"name": name}});
            body["user"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            cloud.call("POST", "/v3/users", &admin, body).await.expect(201);
        }
        let path = format!("/v3/users/{ann}/application_credentials");
        let drawn = json!({"application_credential": {"name": "drawn"}});
        let drawn = cloud.call("POST", &path, &token, drawn).await.expect(201);
        let own = json!({"application_credential": {"name": "own", "secret": "chosen"}});
        cloud.call("POST", &path, &token, own).await.expect(201);
        let in_domain = |domain: &str| {
            let mut identity = by_password("ann", "wrong");
            identity["password"]["user"]["domain"] = json!({"name": domain});
            identity
        };
        let app = |name: &str, user: &str| {
            json!({"methods": ["application_credential"], "application_credential": {"name": name,
                "secret": "wrong", "user": {"name": user, "domain": {"id": "default"}}}})
        };
        let app_id = |id: &Value| {
            json!({"methods": ["application_credential"],
                "application_credential": {"id": id, "secret": "wrong"}})
        };
        let cases = [
            by_password("ann", "wrong"),
            by_password("nobody", "wrong"),
            by_password("off", "pw"),
            by_password("off", "wrong"),
            by_password("bare", ""),
            json!({"methods": ["password"], "password": {"user": {"id": ann, "password": "wrong"}}}),
            json!({"methods": ["password"], "password": {"user": {"id": "nobody", "password": "wrong"}}}),
            in_domain("Default"),
            in_domain("Nowhere"),
            app("drawn", "ann"),
            app("own", "ann"),
            app("none", "ann"),
            app("drawn", "nobody"),
            app_id(&drawn["application_credential"]["id"]),
            app_id(&json!("nothing")),
        ];
        for identity in cases {
            let before = cloud.identity.passwords_hashed();
            let reply = post(&cloud, &auth(identity.clone())).await;
            assert_eq!(cloud.identity.passwords_hashed() - before, 1, "{identity}");
            assert_eq!((reply.status.as_u16(), reply.message()), (401, COMMON), "{identity}");
            let mut names: Vec<&str> = reply.headers.keys().map(|k| k.as_str()).collect();
            names.sort_unstable();
            assert_eq!(
                names,
                ["content-length", "content-type", "www-authenticate", "x-openstack-request-id"],
                "{identity}"
            );
        }
        // Nor is one told from another by the scope that is asked for.
        for scope in [on_project("ann-p"), on_project("nowhere"), json!({"domain": {"id": "default"}})] {
            assert_eq!(cloud.auth(by_password("ann", "wrong"), scope).await.message(), COMMON);
        }
    }
}

/// CVE-2021-3563: only the first 72 bytes of a secret were looked at.
#[tokio::test]
async fn long_names_and_passwords() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let huge = "x".repeat(64 << 10);
        for body in [
            json!({"user": {"name": huge, "password": "x"}}),
            json!({"user": {"name": "n", "password": huge}}),
        ] {
            let reply = cloud.call("POST", "/v3/users", &admin, body).await;
            is_refusal(&reply, "a huge user");
        }
        for identity in [by_password(&huge, "x"), by_password("admin", &huge), by_token(&huge)] {
            is_refusal(&post(&cloud, &auth(identity)).await, "a huge login");
        }
        assert_eq!(post(&cloud, &auth(by_password("n", &"x".repeat(200 << 10)))).await.status, 413);

        let long = "é".repeat(2000);
        let body = json!({"user": {"name": "long", "password": long}});
        cloud.call("POST", "/v3/users", &admin, body).await.expect(201);
        assert!(cloud.login("long", &long, Value::Null).await.is_ok());
        for wrong in [&long[..72], &long[..3998], &format!("{long}é"), &long.replacen('é', "e", 1)] {
            assert!(cloud.login("long", wrong, Value::Null).await.is_err(), "{}", wrong.len());
        }
    }
}

/// Names are what they are, byte by byte: no two that look alike are one.
#[tokio::test]
async fn names_that_look_alike() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        // Full width, Cyrillic, composed or not, with a joiner, turned around, and what SQL might read into them.
        let names = [
            "ann",
            "Ann",
            "ａｎｎ",
            "аnn",
            "ann\u{200d}",
            "\u{202e}nna",
            "café",
            "cafe\u{301}",
            "ﬁn",
            "fin",
            "ß",
            "ss",
            "İ",
            "i",
            "a%",
            "a_",
            "a' OR '1'='1",
            "a\"; --",
            "a\\",
            "$1",
            "{0}",
            "<a>",
            "a\r\nb: c",
        ];
        for (n, name) in names.iter().enumerate() {
            let body = json!({"user": {"name": name, "password": format!("pw{n}")}});
            let made = cloud.call("POST", "/v3/users", &admin, body).await.expect(201);
            assert_eq!(made["user"]["name"], *name);
        }
        for (n, name) in names.iter().enumerate() {
            let reply = cloud.auth(by_password(name, &format!("pw{n}")), Value::Null).await;
            assert_eq!(reply.expect(201)["token"]["user"]["name"], *name);
            let other = format!("pw{}", (n + 1) % names.len());
            assert!(cloud.login(name, &other, Value::Null).await.is_err());
        }
        for stranger in ["ANN", "ann ", " ann", "an%", "___", "ann\u{0}"] {
            assert!(cloud.login(stranger, "pw0", Value::Null).await.is_err(), "{stranger:?}");
        }
    }
}

#[tokio::test]
async fn headers_say_nothing_that_the_client_chose() {
    for cloud in clouds().await {
        let headers = [
            ("host", "evil.example"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "evil"),
            ("forwarded", "host=evil.example"),
            ("origin", "http://evil.example"),
            ("x-openstack-request-id", "req-evil"),
            ("remote_user", "admin"),
            ("x-remote-user", "admin"),
            ("x-user-id", "evil"),
            ("x-identity-status", "Confirmed"),
        ];
        let wrong = json!({"identity": by_password("admin", "wrong")});
        let right = json!({"identity": by_password("admin", PASSWORD), "scope": on_project("admin")});
        let external = json!({"identity": {"methods": ["external"], "external": {}}});
        for (body, status) in [(wrong, 401), (right, 201), (external, 401)] {
            let reply = cloud.auth_from("192.0.2.1", &headers, body).await;
            assert_eq!(reply.status, status, "{}", reply.body);
            let text = format!("{:?} {}", reply.headers, reply.body);
            assert!(!text.contains("evil"), "{text}");
        }
    }
}

#[tokio::test]
async fn too_many_failures_are_not_checked() {
    let adjust = |c| Config {
        login_limit: LoginLimit {
            failures_per_source: 8,
            failures_per_user: 5,
            window_seconds: 3600,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            ..Default::default()
        },
        ..c
    };
    for cloud in clouds_with(adjust).await {
        cloud.tenant("ann", &["member"]).await;
        let login = |name: &str, password: &str| json!({"identity": by_password(name, password)});
        let try_as = async |from: &str, headers: &[(&str, &str)], name: &str, password: &str| {
            cloud.auth_from(from, headers, login(name, password)).await
        };
        // Who was here before is let in all the same.
        assert_eq!(try_as("192.0.2.7", &[], "ann", "pw").await.status, 201);
        for name in ["ann", "nobody"] {
            for n in 0..5 {
                let from = format!("198.51.100.{n}");
                assert_eq!(try_as(&from, &[], name, "wrong").await.status, 401);
            }
            let before = cloud.identity.passwords_hashed();
            let reply = try_as("203.0.113.1", &[], name, "pw").await;
            assert_eq!(reply.status, 429, "{}", reply.body);
            let wait: u64 = reply.headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=3600).contains(&wait), "{wait}");
            assert_eq!(cloud.identity.passwords_hashed(), before, "it costs no hash");
        }
        assert_eq!(try_as("192.0.2.7", &[], "ann", "pw").await.status, 201);

        // One source, whatever it says of itself and whatever it is after.
        for n in 0..8 {
            let fake = format!("1.2.3.{n}");
            let headers = [("x-forwarded-for", fake.as_str())];
            assert_eq!(try_as("203.0.113.9", &headers, &format!("u{n}"), "x").await.status, 401, "{n}");
        }
        assert_eq!(
            try_as("203.0.113.9", &[("x-forwarded-for", "1.2.3.9")], "admin", PASSWORD).await.status,
            429
        );
        assert_eq!(try_as("10.0.0.1", &[("x-forwarded-for", "203.0.113.9")], "u", "x").await.status, 429);
        assert_eq!(
            try_as("10.0.0.1", &[("x-forwarded-for", "203.0.113.10")], "admin", PASSWORD).await.status,
            201
        );
        // A request that is not for a login is not held up.
        let admin = cloud.admin().await;
        assert_eq!(cloud.get("/v3/users", &admin).await.status, 200);
    }
}

#[tokio::test]
async fn a_storm_of_logins_holds_up_nobody_else() {
    for cloud in clouds_with(|c| Config { password_hash_rounds: 8, ..c }).await {
        let admin = cloud.admin().await;
        let body = auth(by_password("admin", "wrong")).to_string();
        let before = cloud.identity.passwords_hashed();
        let storm: Vec<_> = (0..100)
            .map(|_| {
                let (router, body) = (cloud.router.clone(), body.clone());
                let request = http::Request::builder().method("POST").uri("/identity/v3/auth/tokens");
                let request = request.body(axum::body::Body::from(body)).unwrap();
                tokio::spawn(
                    async move { tower::ServiceExt::oneshot(router, request).await.unwrap().status() },
                )
            })
            .collect();
        while cloud.identity.passwords_hashed() == before {
            tokio::task::yield_now().await;
        }
        for _ in 0..50 {
            assert_eq!(cloud.get("/v3/auth/projects", &admin).await.status, 200);
            assert!(cloud.identity.validate(&admin).await.is_ok());
        }
        let during = cloud.identity.passwords_hashed() - before;
        assert!(during < 100, "all {during} hashes were made before 50 requests were answered");
        for task in storm {
            let status = task.await.unwrap().as_u16();
            assert!(matches!(status, 401 | 429), "{status}");
        }
    }
}
