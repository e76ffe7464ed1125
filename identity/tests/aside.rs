//! What cannot change the meaning of a token leaves alone what every process remembers of tokens.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod slapd;

use common::{Cloud, by_password, clouds_with};
use identity::{Config, SecurityCompliance};
use serde_json::{Value, json};
use slapd::Slapd;

/// Changes that end what is remembered.
async fn ends(cloud: &Cloud) -> i64 {
    sqlx::query_scalar("SELECT epoch FROM identity_epoch WHERE id = 1")
        .fetch_one(cloud.db.read())
        .await
        .unwrap()
}

#[tokio::test]
async fn failed_logins_and_new_users() {
    let locked = |c: Config| {
        let rules = SecurityCompliance {
            lockout_failure_attempts: 3,
            lockout_duration: 1800,
            ..c.security_compliance
        };
        Config { security_compliance: rules, ..c }
    };
    let slapd = Slapd::start().await;
    for cloud in clouds_with(locked).await {
        let admin = cloud.admin().await;
        let body = json!({"user": {"name": "ann", "password": "pw"}});
        let made = cloud.call("POST", "/v3/users", &admin, body).await.expect(201);
        let ann = made["user"]["id"].as_str().unwrap().to_owned();
        let made =
            cloud.call("POST", "/v3/domains", &admin, json!({"domain": {"name": "corp"}})).await.expect(201);
        let corp = made["domain"]["id"].as_str().unwrap().to_owned();
        let config = json!({"config": slapd.config()});
        cloud.call("PUT", &format!("/v3/domains/{corp}/config"), &admin, config).await.expect(201);
        let before = ends(&cloud).await;

        // Failures are counted, and forgiven by a success; then one locks the user out.
        for (password, status) in [("x", 401), ("pw", 201), ("x", 401), ("x", 401), ("x", 401), ("pw", 401)] {
            assert_eq!(cloud.auth(by_password("ann", password), Value::Null).await.status, status);
        }
        for n in 0..3 {
            let body = json!({"user": {"name": format!("new{n}"), "password": "new-pw"}});
            cloud.call("POST", "/v3/users", &admin, body).await.expect(201);
            cloud
                .login(&format!("new{n}"), "new-pw", Value::Null)
                .await
                .unwrap_or_else(|r| panic!("{}", r.body));
        }
        // Users of a directory, with their groups, when they are seen first.
        for name in ["ann", "cy"] {
            let asked = json!({"methods": ["password"], "password": {"user": {"name": name,
                "domain": {"id": corp}, "password": format!("{name}-pw")}}});
            assert_eq!(cloud.auth(asked, Value::Null).await.status, 201);
        }
        cloud.get(&format!("/v3/users?domain_id={corp}"), &admin).await.expect(200);
        cloud.get(&format!("/v3/groups?domain_id={corp}"), &admin).await.expect(200);
        assert_eq!(ends(&cloud).await, before);

        // What does count, counts.
        let body = json!({"user": {"description": "changed"}});
        cloud.call("PATCH", &format!("/v3/users/{ann}"), &admin, body).await.expect(200);
        assert_eq!(ends(&cloud).await, before + 1);
        slapd.set("u3", "description", "changed").await;
        cloud.get(&format!("/v3/users?domain_id={corp}"), &admin).await.expect(200);
        assert_eq!(ends(&cloud).await, before + 2);
        slapd.set("u3", "description", "as it was").await;
    }
}
