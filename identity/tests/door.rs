//! No route answers without a token, and no token that is not ours opens one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Cloud, clouds, on_project};
use serde_json::{Value, json};

/// The table's paths with something in place of each parameter.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|p| if p.starts_with('{') { "x" } else { p });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_route_needs_a_token() {
    for cloud in clouds().await {
        let routes = identity::routes();
        assert!(routes.table().len() > 150, "{}", routes.table().len());
        for route in routes.table() {
            let path = filled(route.path);
            let none = cloud.raw(route.method, &path, None, "{}").await;
            let bad = cloud.raw(route.method, &path, Some("gAAAAABnonsense"), "{}").await;
            if route.open {
                let known = ["/", "/v3", "/v3/auth/tokens", "/v3/users/{user_id}/password"];
                // Where a provider's token is shown, and where browsers log in.
                let doors = ["/auth", "/websso", "/redirect_uri", "/websso/{protocol_id}"];
                let ends = doors.iter().any(|d| route.path.ends_with(d)) || route.path.contains("/saml2");
                let door = route.path.contains("/OS-FEDERATION/") && ends;
                assert!(door || known.contains(&route.path), "{} {} is open", route.method, route.path);
                continue;
            }
            for reply in [none, bad] {
                assert_eq!(reply.status, 401, "{} {path}", route.method);
                assert!(reply.headers.contains_key("www-authenticate"), "{} {path}", route.method);
                if route.method != "HEAD" {
                    assert_eq!(reply.body["error"]["code"], 401, "{} {path}", route.method);
                }
            }
        }
    }
}

/// Someone without any role in the cloud changes nothing, whatever the route.
#[tokio::test]
async fn a_reader_changes_nothing() {
    for cloud in clouds().await {
        cloud.tenant("nobody", &["reader"]).await;
        let token = cloud.tenant_token("nobody").await;
        let own = ["application_credentials", "OS-TRUST", "/auth/tokens", "OS-EC2", "/v3/credentials"];
        for route in identity::routes().table() {
            if route.open
                || matches!(route.method, "GET" | "HEAD")
                || own.iter().any(|o| route.path.contains(o))
            {
                continue;
            }
            let noun = route.path.trim_start_matches("/v3/").split('/').next().unwrap_or_default();
            let noun =
                noun.strip_suffix("ies").map_or(noun.trim_end_matches('s').to_owned(), |n| format!("{n}y"));
            let body = sample(&noun);
            let reply = cloud.call(route.method, &filled(route.path), &token, body).await;
            assert!(
                matches!(reply.status.as_u16(), 400 | 403 | 404),
                "{} {}: {} {}",
                route.method,
                route.path,
                reply.status,
                reply.body
            );
            if matches!(route.method, "PUT" | "DELETE") && !route.path.contains("tags") {
                assert_eq!(reply.status, 403, "{} {}: {}", route.method, route.path, reply.body);
            }
        }
    }
}

fn sample(noun: &str) -> Value {
    let one = json!({"name": "n", "type": "t", "blob": "b", "url": "http://x", "service_id": "x",
        "interface": "public", "domain_id": "default", "user_id": "x"});
    json!({noun: one, "tags": []})
}

#[tokio::test]
async fn tokens_of_others_and_broken_ones() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        assert_eq!(cloud.get("/v3/users", &admin).await.status, 200);

        // Another cloud's token: other keys.
        let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
        let other = Cloud::start(cloud.db.clone(), dir, |c| c).await;
        let foreign = other.admin().await;
        assert_eq!(cloud.get("/v3/users", &foreign).await.status, 401);
        assert_eq!(cloud.token("GET", &admin, &foreign).await.status, 404);

        for cut in [0, 1, 10, admin.len() / 2, admin.len() - 1] {
            assert_eq!(cloud.get("/v3/users", &admin[..cut]).await.status, 401, "cut at {cut}");
        }
        for at in (0..admin.len() - 1).step_by(7) {
            let mut bytes = admin.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let flipped = String::from_utf8(bytes).unwrap();
            assert_eq!(cloud.get("/v3/users", &flipped).await.status, 401, "flipped at {at}");
        }
        for odd in ["null", "' OR 1=1 --", "../../etc/passwd", &"A".repeat(4000), "{}", "%00"] {
            assert_eq!(cloud.get("/v3/users", odd).await.status, 401, "{odd:.20}");
            assert_eq!(cloud.token("GET", &admin, odd).await.status, 404, "{odd:.20}");
        }
    }
}

#[tokio::test]
async fn logins_that_fail_all_look_alike() {
    for cloud in clouds().await {
        let (_, user) = cloud.tenant("ann", &["member"]).await;
        let admin = cloud.admin().await;
        let disabled = json!({"user": {"name": "off", "password": "pw", "enabled": false}});
        cloud.call("POST", "/v3/users", &admin, disabled).await.expect(201);
        let by_id = |id: &str, password: &str| json!({"methods": ["password"], "password": {"user": {"id": id, "password": password}}});
        let mut seen = Vec::new();
        for identity in [
            common::by_password("ann", "wrong"),
            common::by_password("nobody", "pw"),
            common::by_password("off", "pw"),
            by_id(&user, "wrong"),
            by_id("0123", "pw"),
            by_id("", ""),
        ] {
            let reply = cloud.auth(identity, Value::Null).await;
            assert_eq!(reply.status, 401, "{}", reply.body);
            seen.push(reply.body.to_string());
        }
        // The right password, but no such project, or no role there.
        for scope in [
            on_project("nowhere"),
            on_project("admin"),
            json!({"system": {"all": true}}),
            json!({"domain": {"id": "default"}}),
            json!({"domain": {"name": "nowhere"}}),
            json!({"project": {"id": "x"}}),
        ] {
            let reply = cloud.auth(common::by_password("ann", "pw"), scope).await;
            assert_eq!(reply.status, 401, "{}", reply.body);
            seen.push(reply.body.to_string());
        }
        seen.dedup();
        assert_eq!(seen.len(), 1, "{seen:?}");
    }
}

#[tokio::test]
async fn malformed_logins_are_400_and_quote_no_secret() {
    for cloud in clouds().await {
        let user =
            |u: Value| json!({"auth": {"identity": {"methods": ["password"], "password": {"user": u}}}});
        for bad in [
            json!({}),
            json!([]),
            json!({"auth": 1}),
            json!({"auth": {"identity": {}}}),
            json!({"auth": {"identity": {"methods": "password"}}}),
            json!({"auth": {"identity": {"methods": []}}}),
            json!({"auth": {"identity": {"methods": ["password"]}}}),
            json!({"auth": {"identity": {"methods": ["token"]}}}),
            user(json!({"name": "admin", "password": "hunter2"})),
            user(json!({"name": "admin", "domain": {}, "password": "hunter2"})),
            user(json!({"id": 7, "password": "hunter2"})),
            user(json!({"id": "x", "password": {"hunter2": 1}})),
            user(json!({"id": "x", "password": "hunter2".repeat(2000)})),
            user(json!({"name": "a\u{0}b", "domain": {"id": "default"}, "password": "hunter2"})),
        ] {
            let reply = cloud.raw("POST", "/v3/auth/tokens", None, bad.to_string()).await;
            assert_eq!(reply.status, 400, "{bad} {}", reply.body);
            assert!(!reply.body.to_string().contains("hunter2"), "{}", reply.body);
        }
        for text in ["", "{", "nonsense", "\u{0}", "{\"auth\": {}} x", "{\"a\": \"\\ud800\"}"] {
            let reply = cloud.raw("POST", "/v3/auth/tokens", None, text.to_owned()).await;
            assert_eq!(reply.status, 400, "{text}");
        }
        let huge = format!("{{\"auth\": \"{}\"}}", "x".repeat(200 << 10));
        assert_eq!(cloud.raw("POST", "/v3/auth/tokens", None, huge).await.status, 413);
        let odd = json!({"auth": {"identity": {"methods": ["magic"], "magic": {}}}});
        assert_eq!(cloud.raw("POST", "/v3/auth/tokens", None, odd.to_string()).await.status, 401);
    }
}

/// Without its database identity vouches for nobody, and says that it is its own fault.
#[tokio::test]
async fn a_dead_database_is_503() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        cloud.db.close().await;
        // What was remembered is good for the moment in which it would be good anyway.
        let away = async {
            while cloud.get("/v3/regions", &admin).await.status != 503 {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(1), away).await.expect("still answers");
        let reply = cloud.auth(common::by_password("admin", common::PASSWORD), on_project("admin")).await;
        assert_eq!(reply.status, 503, "{}", reply.body);
        assert!(reply.headers.contains_key("retry-after"));
    }
}
