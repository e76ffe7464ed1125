//! Passcodes, logins by several methods, and the receipts between them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Cloud, Reply, by_password, by_token, clouds, clouds_with, on_project};
use hmac::{Hmac, KeyInit, Mac};
use identity::{Config, LoginLimit};
use serde_json::{Value, json};

const SECRET: &[u8] = b"12345678901234567890";
const IN_BASE32: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

/// The passcode of so many steps from now.
fn passcode(steps: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let step = i64::try_from(now).unwrap() / 30 + steps;
    let mac = Hmac::<sha1::Sha1>::new_from_slice(SECRET).unwrap().chain_update(step.to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let at = usize::from(hash[19] & 0xf);
    let number = u32::from_be_bytes(hash[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

fn totp(user: &str, passcode: &str) -> Value {
    json!({"methods": ["totp"],
        "totp": {"user": {"name": user, "domain": {"id": "default"}, "passcode": passcode}}})
}

fn both(user: &str, password: &str, passcode: &str) -> Value {
    json!({"methods": ["password", "totp"], "password": by_password(user, password)["password"],
        "totp": totp(user, passcode)["totp"]})
}

/// A user with a secret: its id.
async fn with_secret(cloud: &Cloud, name: &str, rules: Value) -> String {
    let (_, id) = cloud.tenant(name, &["member"]).await;
    let admin = cloud.admin().await;
    let body = json!({"credential": {"type": "totp", "blob": IN_BASE32, "user_id": id}});
    cloud.call("POST", "/v3/credentials", &admin, body).await.expect(201);
    let body = json!({"user": {"options": {"multi_factor_auth_rules": rules}}});
    cloud.call("PATCH", &format!("/v3/users/{id}"), &admin, body).await.expect(200);
    id
}

async fn with_receipt(cloud: &Cloud, receipt: &str, identity: Value, scope: Value) -> Reply {
    let mut auth = json!({"identity": identity});
    if !scope.is_null() {
        auth["scope"] = scope;
    }
    cloud.auth_from("127.0.0.1", &[("openstack-auth-receipt", receipt)], auth).await
}

fn receipt(reply: &Reply) -> String {
    assert_eq!(reply.status, 401, "{}", reply.body);
    reply.headers["openstack-auth-receipt"].to_str().unwrap().to_owned()
}

fn token(reply: &Reply) -> String {
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.headers["x-subject-token"].to_str().unwrap().to_owned()
}

/// Every step but the one that may end while the test runs.
async fn early_in_a_step() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let left = 30 - now.as_secs() % 30;
    if left < 8 {
        // Time itself is what is tested.
        tokio::time::sleep(std::time::Duration::from_secs(left)).await;
    }
}

#[tokio::test]
async fn passcodes_are_good_in_their_time_and_once() {
    early_in_a_step().await;
    let unlimited = LoginLimit { failures_per_user: 0, ..Default::default() };
    let unlimited = move |c| Config { login_limit: unlimited.clone(), ..c };
    for cloud in clouds_with(unlimited).await {
        with_secret(&cloud, "ann", json!(null)).await;
        for (steps, good) in [(-2, false), (1, false), (-1, true), (0, true)] {
            let reply = cloud.auth(totp("ann", &passcode(steps)), Value::Null).await;
            assert_eq!(reply.status, if good { 201 } else { 401 }, "{steps} {}", reply.body);
        }
        assert_eq!(cloud.auth(totp("ann", &passcode(0)), Value::Null).await.status, 401, "used");
        for wrong in ["", "0", "000000", "١٢٣٤٥٦", &"1".repeat(60000)] {
            assert_eq!(cloud.auth(totp("ann", wrong), Value::Null).await.status, 401);
        }
        let reply = cloud.auth(totp("nobody", "123456"), Value::Null).await;
        assert_eq!(reply.message(), "The request you have made requires authentication.");
        // A user without a secret has no passcode.
        cloud.tenant("bob", &["member"]).await;
        assert_eq!(cloud.auth(totp("bob", &passcode(0)), Value::Null).await.status, 401);
        assert_eq!(cloud.auth(totp("bob", ""), Value::Null).await.status, 401);
    }
    for cloud in clouds_with(|c| Config { totp_once: false, totp_previous_windows: 0, ..c }).await {
        with_secret(&cloud, "ann", json!(null)).await;
        for _ in 0..2 {
            let reply = cloud.auth(totp("ann", &passcode(0)), on_project("ann-p")).await.expect(201);
            assert_eq!(reply["token"]["methods"], json!(["totp"]));
        }
        assert_eq!(cloud.auth(totp("ann", &passcode(-1)), Value::Null).await.status, 401);
    }
}

#[tokio::test]
async fn six_digits_are_not_guessed() {
    for cloud in clouds_with(|c| Config { totp_once: false, ..c }).await {
        with_secret(&cloud, "ann", json!(null)).await;
        let mut tried = 0;
        while cloud.auth(totp("ann", "x"), Value::Null).await.status == 401 {
            tried += 1;
            assert!(tried <= 6, "wrong passcodes count for more than wrong passwords");
        }
        assert_eq!(cloud.auth(totp("ann", &passcode(0)), Value::Null).await.status, 429);
        token(&cloud.auth(by_password("ann", "pw"), Value::Null).await);
    }
}

#[tokio::test]
async fn a_login_by_two_methods() {
    early_in_a_step().await;
    for cloud in clouds_with(|c| Config { totp_once: false, ..c }).await {
        let id = with_secret(&cloud, "ann", json!([["password", "totp"], ["mystery"]])).await;
        // At once.
        let reply = cloud.auth(both("ann", "pw", &passcode(0)), on_project("ann-p")).await;
        let whole = token(&reply);
        assert_eq!(reply.body["token"]["methods"], json!(["password", "totp"]));
        assert_eq!(cloud.auth(both("ann", "pw", "000000"), Value::Null).await.status, 401);
        let wrong = cloud.auth(both("ann", "wrong", &passcode(0)), Value::Null).await;
        assert!(wrong.status == 401 && !wrong.headers.contains_key("openstack-auth-receipt"));
        // What was proved stays proved when the token is exchanged.
        token(&cloud.auth(by_token(&whole), on_project("ann-p")).await);

        // One after the other, in either order.
        let first = cloud.auth(by_password("ann", "pw"), on_project("ann-p")).await;
        let part = receipt(&first);
        assert!(!first.headers.contains_key("x-subject-token"));
        assert_eq!(first.body["receipt"]["methods"], json!(["password"]));
        assert_eq!(first.body["receipt"]["user"]["id"], *id);
        assert_eq!(first.body["receipt"]["user"]["domain"]["name"], "Default");
        assert!(first.body["receipt"]["expires_at"].as_str() > first.body["receipt"]["issued_at"].as_str());
        assert_eq!(first.body["required_auth_methods"], json!([["password", "totp"]]));
        let done = with_receipt(&cloud, &part, totp("ann", &passcode(0)), on_project("ann-p")).await;
        token(&done);
        assert_eq!(done.body["token"]["methods"], json!(["totp", "password"]));
        let part = receipt(&cloud.auth(totp("ann", &passcode(0)), Value::Null).await);
        token(&with_receipt(&cloud, &part, by_password("ann", "pw"), Value::Null).await);

        // Switched off.
        let admin = cloud.admin().await;
        let body = json!({"user": {"options": {"multi_factor_auth_enabled": false}}});
        cloud.call("PATCH", &format!("/v3/users/{id}"), &admin, body).await.expect(200);
        token(&cloud.auth(by_password("ann", "pw"), Value::Null).await);
    }
}

#[tokio::test]
async fn receipts_are_no_more_than_they_are() {
    early_in_a_step().await;
    for cloud in clouds_with(|c| Config { totp_once: false, ..c }).await {
        with_secret(&cloud, "ann", json!([["password", "totp"]])).await;
        with_secret(&cloud, "bob", json!([["password", "totp"]])).await;
        let part = receipt(&cloud.auth(by_password("ann", "pw"), Value::Null).await);

        // Not a token, nor a token a receipt.
        assert_eq!(cloud.get("/v3/auth/projects", &part).await.status, 401);
        assert_eq!(cloud.auth(by_token(&part), Value::Null).await.status, 404);
        let admin = cloud.admin().await;
        let reply = with_receipt(&cloud, &admin, totp("ann", &passcode(0)), Value::Null).await;
        assert_eq!(reply.status, 401);
        assert!(!reply.headers.contains_key("openstack-auth-receipt"), "nor is it passed over");

        // Not another user's, and not alone.
        assert_eq!(with_receipt(&cloud, &part, totp("bob", &passcode(0)), Value::Null).await.status, 401);
        let again = with_receipt(&cloud, &part, by_password("ann", "pw"), Value::Null).await;
        assert_eq!(again.body["receipt"]["methods"], json!(["password"]));
        let none = json!({"methods": []});
        assert_eq!(with_receipt(&cloud, &part, none, Value::Null).await.status, 400);

        // Changed, cut, of another cloud.
        for at in (0..part.len() - 2).step_by(7) {
            let mut bytes = part.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let bad = String::from_utf8(bytes).unwrap();
            let reply = with_receipt(&cloud, &bad, totp("ann", &passcode(0)), Value::Null).await;
            assert_eq!(reply.status, 401, "{at}");
        }
        for bad in ["", "x", &"A".repeat(9000)] {
            assert_eq!(with_receipt(&cloud, bad, totp("ann", &passcode(0)), Value::Null).await.status, 401);
        }
    }
    for cloud in clouds_with(|c| Config { receipt_lifetime_seconds: 1, totp_once: false, ..c }).await {
        with_secret(&cloud, "ann", json!([["password", "totp"]])).await;
        let part = receipt(&cloud.auth(by_password("ann", "pw"), Value::Null).await);
        // Time itself is what is tested.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        assert_eq!(with_receipt(&cloud, &part, totp("ann", &passcode(0)), Value::Null).await.status, 401);
    }
}

#[tokio::test]
async fn a_receipt_keeps_the_limits_of_what_it_was_given_for() {
    early_in_a_step().await;
    for cloud in clouds_with(|c| Config { totp_once: false, ..c }).await {
        let id = with_secret(&cloud, "ann", json!(null)).await;
        let mine = cloud.tenant_token("ann").await;
        let reader = cloud.role("reader").await;
        let body = json!({"application_credential": {"name": "a", "roles": [{"id": reader}]}});
        let path = format!("/v3/users/{id}/application_credentials");
        let app = cloud.call("POST", &path, &mine, body).await.expect(201)["application_credential"].clone();
        let old = cloud.token("GET", &mine, &mine).await.expect(200)["token"]["expires_at"].clone();
        let admin = cloud.admin().await;
        let rules = json!([["application_credential", "totp"], ["token", "totp"]]);
        let body = json!({"user": {"options": {"multi_factor_auth_rules": rules}}});
        cloud.call("PATCH", &format!("/v3/users/{id}"), &admin, body).await.expect(200);

        let by_app = json!({"methods": ["application_credential"],
            "application_credential": {"id": app["id"], "secret": app["secret"]}});
        let part = receipt(&cloud.auth(by_app, Value::Null).await);
        let done = with_receipt(&cloud, &part, totp("ann", &passcode(0)), Value::Null).await;
        token(&done);
        let roles = done.body["token"]["roles"].as_array().unwrap();
        assert_eq!((roles.len(), &roles[0]["name"]), (1, &json!("reader")), "still the credential's");
        let wider = with_receipt(&cloud, &part, totp("ann", &passcode(0)), json!("unscoped")).await;
        assert_eq!(wider.status, 401);

        let part = receipt(&cloud.auth(by_token(&mine), Value::Null).await);
        let done = with_receipt(&cloud, &part, totp("ann", &passcode(0)), Value::Null).await;
        token(&done);
        assert_eq!(done.body["token"]["expires_at"], old, "it ends with the token that was shown");
    }
}

#[tokio::test]
async fn rules_are_checked_when_they_are_set() {
    for cloud in clouds().await {
        let (_, id) = cloud.tenant("ann", &["member"]).await;
        let admin = cloud.admin().await;
        let set = async |rules: Value| {
            let body = json!({"user": {"options": {"multi_factor_auth_rules": rules}}});
            cloud.call("PATCH", &format!("/v3/users/{id}"), &admin, body).await.status.as_u16()
        };
        for bad in [
            json!("password"),
            json!(["password"]),
            json!([[]]),
            json!([[1]]),
            json!([["password", "password"]]),
            json!([["password"], ["password"]]),
        ] {
            assert_eq!(set(bad.clone()).await, 400, "{bad}");
        }
        for good in [json!([["password"]]), json!([]), json!(null)] {
            assert_eq!(set(good.clone()).await, 200, "{good}");
            cloud.tenant_token("ann").await;
        }
    }
}
