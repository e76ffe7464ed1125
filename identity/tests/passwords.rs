//! Security compliance: how passwords are stored, how they end, and how accounts are closed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use api::TokenValidator;
use common::{Cloud, Reply, clouds, clouds_with, on_project};
use identity::{Config, PasswordAlgorithm, SecurityCompliance};
use serde_json::{Value, json};

/// A user made by an administrator, and its id.
async fn user(cloud: &Cloud, name: &str, password: &str, options: Value) -> String {
    let admin = cloud.admin().await;
    let body = json!({"user": {"name": name, "password": password, "options": options}});
    let made = cloud.call("POST", "/v3/users", &admin, body).await.expect(201);
    made["user"]["id"].as_str().unwrap().to_owned()
}

async fn patch(cloud: &Cloud, id: &str, change: Value) -> Reply {
    let admin = cloud.admin().await;
    cloud.call("PATCH", &format!("/v3/users/{id}"), &admin, json!({"user": change})).await
}

async fn change(cloud: &Cloud, id: &str, old: &str, new: &str) -> Reply {
    let body = json!({"user": {"original_password": old, "password": new}});
    cloud.raw("POST", &format!("/v3/users/{id}/password"), None, body.to_string()).await
}

async fn shown(cloud: &Cloud, id: &str) -> Value {
    let admin = cloud.admin().await;
    cloud.get(&format!("/v3/users/{id}"), &admin).await.expect(200)["user"].clone()
}

async fn may_log_in(cloud: &Cloud, name: &str, password: &str) -> bool {
    match cloud.login(name, password, Value::Null).await {
        Ok(_) => true,
        Err(reply) => {
            assert_eq!(reply.status, 401, "{}", reply.body);
            false
        }
    }
}

fn with(config: Config, security_compliance: SecurityCompliance) -> Config {
    Config { security_compliance, ..config }
}

const COMMON: &str = "The request you have made requires authentication.";

#[tokio::test]
async fn hashes_brought_along_from_keystone() {
    for cloud in clouds_with(|c| Config {
        password_hash_algorithm: PasswordAlgorithm::Pbkdf2Sha512,
        password_hash_rounds: 1000,
        ..c
    })
    .await
    {
        let id = user(&cloud, "ann", "other", json!({})).await;
        // passlib made these of the same password.
        for hash in [
            "$2b$04$IJQjCRozRDrSAa/b0xlll.D1gPhuFKTWVfzprWLw7x3smH6q4VKbi",
            "$bcrypt-sha256$v=2,t=2b,r=4$D08/t.haVYNiEt9tR0Yj9.$yV5PWM0sP3oDenF1vN2pAft4g9Lk1ti",
            "$scrypt$ln=4,r=8,p=1$l7I2xnhvjTFGCMFYy1nr/Q$OH8ky1B6XuViFKxI0dr+pOUExn/cFhNYHgmBsynQh/Q",
            "$pbkdf2-sha512$10$nFMqBUAIoXQu5XwvZWyttQ$ypR1RTD98HaqIdn/1Tr64M10pqHlvpjLGUVSzezJnxFK.Y.Ukpk5KHygzjM/LChDtp16mx11GJbhAE59SaL0aw",
        ] {
            cloud.sql("UPDATE identity_users SET password_hash = $2 WHERE id = $1", &[&id, hash]).await;
            assert!(may_log_in(&cloud, "ann", "Grüße, 1!").await, "{hash}");
            assert!(!may_log_in(&cloud, "ann", "Grüße, 1").await, "{hash}");
        }
        // As upstream: of PBKDF2, too few rounds are made more, and nothing else changes.
        let token = cloud.login("ann", "Grüße, 1!", Value::Null).await.ok().unwrap();
        let now: String = sqlx::query_scalar("SELECT password_hash FROM identity_users WHERE id = $1")
            .bind(id.clone())
            .fetch_one(cloud.db.read())
            .await
            .unwrap();
        assert!(now.starts_with("$pbkdf2-sha512$1000$"), "{now}");
        assert!(
            cloud.identity.validate(&token).await.is_ok() && may_log_in(&cloud, "ann", "Grüße, 1!").await
        );
    }
}

fn three_tries(c: Config) -> Config {
    with(c, SecurityCompliance { lockout_failure_attempts: 3, lockout_duration: 600, ..Default::default() })
}

/// CVE-2021-38155: a locked account was told from an unknown one, so who exists could be asked.
#[tokio::test]
async fn a_locked_account_looks_like_any_other() {
    for cloud in clouds_with(three_tries).await {
        let id = user(&cloud, "ann", "pw", json!({})).await;
        let exempt = user(&cloud, "bot", "pw", json!({"ignore_lockout_failure_attempts": true})).await;
        for _ in 0..2 {
            assert!(!may_log_in(&cloud, "ann", "wrong").await);
        }
        assert!(may_log_in(&cloud, "ann", "pw").await, "not yet, and it starts anew");
        for name in ["ann", "bot", "nobody"] {
            for _ in 0..3 {
                assert!(!may_log_in(&cloud, name, "wrong").await);
            }
        }
        let before = cloud.identity.passwords_hashed();
        for (name, password) in [("ann", "pw"), ("ann", "wrong"), ("nobody", "pw")] {
            let reply = cloud.login(name, password, Value::Null).await.unwrap_err();
            assert_eq!((reply.status.as_u16(), reply.message()), (401, COMMON), "{name}");
        }
        assert_eq!(cloud.identity.passwords_hashed(), before + 3, "each costs one hash");
        assert_eq!(change(&cloud, &id, "pw", "new").await.status, 401, "nor by this door");
        assert!(may_log_in(&cloud, "bot", "pw").await);
        assert_eq!(shown(&cloud, &exempt).await["options"], json!({"ignore_lockout_failure_attempts": true}));

        // Time passes.
        cloud
            .sql(
                "UPDATE identity_users SET failed_login_at = failed_login_at - 600000000 WHERE id = $1",
                &[&id],
            )
            .await;
        assert!(may_log_in(&cloud, "ann", "pw").await);
        // Or an administrator helps.
        for _ in 0..3 {
            assert!(!may_log_in(&cloud, "ann", "wrong").await);
        }
        assert!(!may_log_in(&cloud, "ann", "pw").await);
        patch(&cloud, &id, json!({"enabled": true})).await.expect(200);
        assert!(may_log_in(&cloud, "ann", "pw").await);
    }
}

#[tokio::test]
async fn many_guesses_at_a_time_are_no_more_than_allowed() {
    for cloud in clouds_with(three_tries).await {
        user(&cloud, "ann", "pw", json!({})).await;
        let guesses = (0..24).map(|n| {
            let cloud = &cloud;
            // The right one is among the last.
            async move { cloud.login("ann", if n < 20 { "wrong" } else { "pw" }, Value::Null).await.is_ok() }
        });
        let right = futures::future::join_all(guesses).await;
        assert!(!right.contains(&true), "a guess beyond the third was answered");
    }
}

#[tokio::test]
async fn passwords_expire() {
    for cloud in
        clouds_with(|c| with(c, SecurityCompliance { password_expires_days: 30, ..Default::default() })).await
    {
        let id = user(&cloud, "ann", "pw", json!({})).await;
        let bot = user(&cloud, "bot", "pw", json!({"ignore_password_expiry": true})).await;
        assert_eq!(shown(&cloud, &bot).await["password_expires_at"], Value::Null);
        let ends = shown(&cloud, &id).await["password_expires_at"].as_str().unwrap().to_owned();
        assert!(ends.ends_with(".000000") && ends.len() == 26, "{ends}");
        let token = cloud.login("ann", "pw", Value::Null).await.ok().unwrap();
        let body = cloud.token("GET", &token, &token).await.expect(200);
        assert_eq!(body["token"]["user"]["password_expires_at"], *ends);

        // Listed by when it ends.
        let admin = cloud.admin().await;
        let listed = async |filter: String| {
            let reply = cloud.get(&format!("/v3/users?name=ann&{filter}"), &admin).await.expect(200);
            reply["users"].as_array().unwrap().len()
        };
        let at = format!("{}Z", &ends[..19]);
        for (operator, found) in [("lt", 0), ("lte", 1), ("gt", 0), ("gte", 1), ("eq", 1), ("neq", 0)] {
            assert_eq!(listed(format!("password_expires_at={operator}:{at}")).await, found, "{operator}");
        }
        let between =
            "password_expires_at=gt:2001-01-01T00:00:00Z&password_expires_at=lt:2999-01-01T00:00:00Z";
        assert_eq!(listed(between.into()).await, 1);
        for bad in ["lt", "lt:", "lt:tomorrow", "like:2001-01-01T00:00:00Z", "2001-01-01T00:00:00Z", ""] {
            let reply = cloud.get(&format!("/v3/users?password_expires_at={bad}"), &admin).await;
            assert_eq!(reply.status, 400, "{bad}");
        }

        cloud.sql("UPDATE identity_users SET password_expires_at = 1 WHERE id = $1", &[&id]).await;
        let reply = cloud.login("ann", "pw", Value::Null).await.unwrap_err();
        let told = format!("The password is expired and needs to be changed for user: {id}.");
        assert_eq!((reply.status.as_u16(), reply.message()), (401, told.as_str()));
        let reply = cloud.login("ann", "wrong", Value::Null).await.unwrap_err();
        assert_eq!(reply.message(), COMMON, "who does not know it learns nothing");
        assert_eq!(change(&cloud, &id, "pw", "new").await.status, 204);
        assert!(may_log_in(&cloud, "ann", "new").await);
    }
}

#[tokio::test]
async fn a_given_password_must_be_changed_first() {
    for cloud in clouds_with(|c| {
        with(c, SecurityCompliance { change_password_upon_first_use: true, ..Default::default() })
    })
    .await
    {
        let id = user(&cloud, "ann", "given", json!({})).await;
        assert!(!may_log_in(&cloud, "ann", "given").await);
        assert_eq!(change(&cloud, &id, "given", "mine").await.status, 204);
        assert!(may_log_in(&cloud, "ann", "mine").await);
        patch(&cloud, &id, json!({"password": "again"})).await.expect(200);
        assert!(!may_log_in(&cloud, "ann", "again").await);
        user(&cloud, "bot", "given", json!({"ignore_change_password_upon_first_use": true})).await;
        assert!(may_log_in(&cloud, "bot", "given").await);
        // The cloud's own accounts are not shut out by it.
        cloud.tenant("svc", &["member"]).await;
        cloud.tenant_token("svc").await;
    }
}

#[tokio::test]
async fn history_and_age() {
    for cloud in
        clouds_with(|c| with(c, SecurityCompliance { unique_last_password_count: 3, ..Default::default() }))
            .await
    {
        let id = user(&cloud, "ann", "p0", json!({})).await;
        assert_eq!(change(&cloud, &id, "p0", "p1").await.status, 204);
        assert_eq!(change(&cloud, &id, "p1", "p2").await.status, 204);
        for again in ["p0", "p1", "p2"] {
            let reply = change(&cloud, &id, "p2", again).await;
            assert_eq!(reply.status, 400, "{again}");
            assert!(reply.message().ends_with("must be unique is 3."), "{}", reply.message());
        }
        assert_eq!(change(&cloud, &id, "p2", "p3").await.status, 204);
        assert_eq!(change(&cloud, &id, "p3", "p0").await.status, 204, "long enough ago");
        patch(&cloud, &id, json!({"password": "p0"})).await.expect(200);
        let kept: i64 = sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM identity_former_passwords")
            .fetch_one(cloud.db.read())
            .await
            .unwrap();
        assert_eq!(kept, 2, "no more than are asked for");
    }
    for cloud in
        clouds_with(|c| with(c, SecurityCompliance { minimum_password_age: 2, ..Default::default() })).await
    {
        let id = user(&cloud, "ann", "p0", json!({})).await;
        assert_eq!(change(&cloud, &id, "p0", "p1").await.status, 204, "the given one at once");
        let reply = change(&cloud, &id, "p1", "p2").await;
        assert_eq!(reply.status, 400);
        assert!(reply.message().contains("for 2 day(s)"), "{}", reply.message());
        patch(&cloud, &id, json!({"password": "p3"})).await.expect(200);
        assert_eq!(change(&cloud, &id, "p3", "p4").await.status, 204);
    }
}

#[tokio::test]
async fn strength() {
    for cloud in clouds_with(|c| {
        let rules = SecurityCompliance {
            password_regex: Some(r"^(?=.*\d)(?=.*[a-zA-Z]).{7,}$".into()),
            password_regex_description: Some("seven characters, a letter and a digit".into()),
            ..Default::default()
        };
        with(c, rules)
    })
    .await
    {
        let admin = cloud.admin().await;
        let id = user(&cloud, "ann", "passw0rd", json!({})).await;
        let wanted = "The password does not match the requirements: seven characters, a letter and a digit.";
        let weak = json!({"user": {"name": "bob", "password": "password"}});
        for reply in [
            cloud.call("POST", "/v3/users", &admin, weak).await,
            patch(&cloud, &id, json!({"password": "short1"})).await,
            change(&cloud, &id, "passw0rd", "password").await,
        ] {
            assert_eq!((reply.status.as_u16(), reply.message()), (400, wanted));
        }

        // Everybody may read what is asked for, and nothing else.
        cloud.tenant("eve", &["reader"]).await;
        let eve = cloud.tenant_token("eve").await;
        let config = async |path: &str| cloud.get(&format!("/v3/domains/{path}"), &eve).await;
        let all = config("default/config/security_compliance").await.expect(200);
        assert_eq!(all["config"]["security_compliance"]["password_regex"], r"^(?=.*\d)(?=.*[a-zA-Z]).{7,}$");
        assert_eq!(all["config"]["security_compliance"].as_object().unwrap().len(), 2);
        let one = config("default/config/security_compliance/password_regex_description").await.expect(200);
        assert_eq!(
            one,
            json!({"config": {"password_regex_description": "seven characters, a letter and a digit"}})
        );
        assert_eq!(config("default/config/security_compliance/lockout_duration").await.status, 403);
        assert_eq!(config("other/config/security_compliance").await.status, 403);
        assert_eq!(config("default/config/ldap").await.status, 403);
        assert_eq!(config("default/config").await.status, 403);
    }
}

#[tokio::test]
async fn who_is_not_seen_is_disabled() {
    for cloud in clouds_with(|c| {
        with(c, SecurityCompliance { disable_user_account_days_inactive: 30, ..Default::default() })
    })
    .await
    {
        let (_, id) = cloud.tenant("ann", &["member"]).await;
        let (_, bot) = cloud.tenant("bot", &["member"]).await;
        patch(&cloud, &bot, json!({"options": {"ignore_user_inactivity": true}})).await.expect(200);
        cloud.tenant_token("ann").await;
        let token = cloud.tenant_token("ann").await;
        cloud
            .sql("UPDATE identity_users SET last_active_at = 1 WHERE id = $1 OR id = $2", &[&id, &bot])
            .await;
        assert!(cloud.login("ann", "pw", on_project("ann-p")).await.is_err());
        cloud.tenant_token("bot").await;
        assert_eq!(shown(&cloud, &id).await["enabled"], false);
        let admin = cloud.admin().await;
        let listed = cloud.get("/v3/users?name=ann", &admin).await.expect(200);
        assert_eq!(listed["users"][0]["enabled"], false);
        // Its tokens end with the next change of anything.
        patch(&cloud, &bot, json!({"description": "x"})).await.expect(200);
        assert!(cloud.identity.validate(&token).await.is_err());
        patch(&cloud, &id, json!({"enabled": true})).await.expect(200);
        cloud.tenant_token("ann").await;
        assert_eq!(shown(&cloud, &id).await["enabled"], true);
    }
}

#[tokio::test]
async fn changing_ones_own_password() {
    for cloud in clouds().await {
        let id = user(&cloud, "ann", "pw", json!({})).await;
        assert_eq!(change(&cloud, &id, "pw", "pw").await.status, 204, "no history is kept: any is good");
        assert_eq!(change(&cloud, &id, "wrong", "new").await.status, 401);
        let wrong = change(&cloud, "nobody", "wrong", "new").await;
        assert_eq!((wrong.status.as_u16(), wrong.message()), (401, COMMON));
        assert!(wrong.headers.contains_key("www-authenticate"));
        for bad in [
            json!({}),
            json!({"user": {}}),
            json!({"user": {"password": "x"}}),
            json!({"user": {"original_password": "pw", "password": null}}),
            json!({"user": {"original_password": "pw", "password": ""}}),
            json!({"user": {"original_password": ["pw"], "password": "x"}}),
            json!({"user": {"original_password": "pw", "password": "x".repeat(4097)}}),
        ] {
            let reply = cloud.raw("POST", &format!("/v3/users/{id}/password"), None, bad.to_string()).await;
            assert_eq!(reply.status, 400, "{bad}");
        }
        patch(&cloud, &id, json!({"options": {"lock_password": true}})).await.expect(200);
        let locked = change(&cloud, &id, "pw", "new").await;
        assert_eq!(locked.status, 400);
        assert!(locked.message().starts_with("You cannot change your password at this time"));
        patch(&cloud, &id, json!({"options": {"lock_password": null}})).await.expect(200);
        patch(&cloud, &id, json!({"enabled": false})).await.expect(200);
        assert_eq!(change(&cloud, &id, "pw", "new").await.status, 401);
    }
}
