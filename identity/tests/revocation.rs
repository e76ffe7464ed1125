//! Every way to end a token, at once in the process where it is done and within a second in another one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use api::TokenValidator;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Cloud, by_token};
use hmac::{Hmac, KeyInit, Mac};
use identity::{Config, Revoke, TokenProvider};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::time::Duration;

async fn ends(cloud: &Cloud, other: &Cloud, token: &str, what: &str) {
    assert!(cloud.identity.validate(token).await.is_err(), "{what}: at once here");
    let seen = async {
        while other.identity.validate(token).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), seen)
        .await
        .unwrap_or_else(|_| panic!("{what}: not seen there"));
}

async fn lives(cloud: &Cloud, other: &Cloud, token: &str, what: &str) {
    assert!(cloud.identity.validate(token).await.is_ok(), "{what} here");
    assert!(other.identity.validate(token).await.is_ok(), "{what} there");
}

async fn audit(cloud: &Cloud, token: &str) -> Vec<String> {
    cloud.identity.validate(token).await.unwrap().audit_ids.clone()
}

async fn by_every_id(adjust: fn(Config) -> Config) {
    for (cloud, other) in Cloud::pairs(adjust).await {
        let (project, user) = cloud.tenant("ann", &["member"]).await;
        cloud.tenant("bob", &["reader"]).await;
        let member = cloud.role("member").await;
        let bob = cloud.tenant_token("bob").await;
        for (what, revoke) in [
            ("user", Revoke::User(user.clone())),
            ("project", Revoke::Project(project.clone())),
            ("role", Revoke::Role(member.clone())),
            ("domain", Revoke::Domain("default".into())),
        ] {
            let token = cloud.tenant_token("ann").await;
            lives(&cloud, &other, &token, what).await;
            cloud.identity.revoke_tokens_of(&revoke).await.unwrap();
            ends(&cloud, &other, &token, what).await;
            let new = cloud.tenant_token("ann").await;
            lives(&cloud, &other, &new, "a newer token").await;
        }
        ends(&cloud, &other, &bob, "of the same domain").await;
        let bob = cloud.tenant_token("bob").await;
        cloud.identity.revoke_tokens_of(&Revoke::User(user.clone())).await.unwrap();
        lives(&cloud, &other, &bob, "another's").await;

        // A chain: the first token, and what was made from it.
        let first = cloud.tenant_token("ann").await;
        let second = cloud.auth(by_token(&first), json!({"project": {"id": project}})).await;
        let second = second.headers["x-subject-token"].to_str().unwrap().to_owned();
        let apart = cloud.tenant_token("ann").await;
        let chain = audit(&cloud, &second).await.pop().unwrap();
        cloud.identity.revoke_tokens_of(&Revoke::Chain(chain)).await.unwrap();
        ends(&cloud, &other, &first, "the chain's first").await;
        ends(&cloud, &other, &second, "made from it").await;
        lives(&cloud, &other, &apart, "not of the chain").await;
        // One of a chain alone.
        let second = cloud.auth(by_token(&apart), json!({"project": {"id": project}})).await;
        let second = second.headers["x-subject-token"].to_str().unwrap().to_owned();
        assert_eq!(cloud.token("DELETE", &second, &second).await.status, 204);
        ends(&cloud, &other, &second, "by itself").await;
        lives(&cloud, &other, &apart, "its parent").await;

        // What services ask for that check tokens on their own.
        let admin = cloud.admin().await;
        let events = cloud.get("/v3/OS-REVOKE/events", &admin).await.expect(200);
        let events = events["events"].as_array().unwrap().clone();
        for name in ["user_id", "project_id", "role_id", "domain_id", "audit_chain_id", "audit_id"] {
            assert!(events.iter().any(|e| e[name].is_string()), "{name}: {events:?}");
        }
        let since = events.last().unwrap()["issued_before"].as_str().unwrap();
        let newer = cloud.get(&format!("/v3/OS-REVOKE/events?since={since}"), &admin).await.expect(200);
        assert_eq!(newer["events"].as_array().unwrap().len(), 1);
        assert_eq!(cloud.get("/v3/OS-REVOKE/events?since=yesterday", &admin).await.status, 400);
        assert_eq!(cloud.get("/v3/OS-REVOKE/events", &bob).await.status, 403);
    }
}

#[tokio::test]
async fn fernet_by_every_id() {
    by_every_id(|c| c).await;
}

#[tokio::test]
async fn jws_by_every_id() {
    by_every_id(|c| Config { token_provider: TokenProvider::Jws, ..c }).await;
}

#[tokio::test]
async fn trusts_and_application_credentials() {
    for (cloud, other) in Cloud::pairs(|c| c).await {
        let (project, ann) = cloud.tenant("ann", &["member"]).await;
        let (_, bob) = cloud.tenant("bob", &["member"]).await;
        let token = cloud.tenant_token("ann").await;

        let made = async |name: &str| {
            let body = json!({"application_credential": {"name": name}});
            let path = format!("/v3/users/{ann}/application_credentials");
            let body =
                cloud.call("POST", &path, &token, body).await.expect(201)["application_credential"].clone();
            let identity = json!({"methods": ["application_credential"],
                "application_credential": {"id": body["id"], "secret": body["secret"]}});
            let reply = cloud.auth(identity, Value::Null).await;
            (
                body["id"].as_str().unwrap().to_owned(),
                reply.headers["x-subject-token"].to_str().unwrap().to_owned(),
            )
        };
        let (one, by_one) = made("one").await;
        let (two, by_two) = made("two").await;
        lives(&cloud, &other, &by_one, "by an application credential").await;
        cloud.identity.revoke_tokens_of(&Revoke::AppCredential(one)).await.unwrap();
        ends(&cloud, &other, &by_one, "application credential").await;
        lives(&cloud, &other, &by_two, "by another").await;
        let path = format!("/v3/users/{ann}/application_credentials/{two}");
        cloud.call("DELETE", &path, &token, Value::Null).await.expect(204);
        ends(&cloud, &other, &by_two, "a deleted application credential").await;

        let lent = async || {
            let body = json!({"trust": {"trustor_user_id": ann, "trustee_user_id": bob, "impersonation": true,
                "project_id": project, "roles": [{"name": "member"}]}});
            let trust = cloud.call("POST", "/v3/OS-TRUST/trusts", &token, body).await.expect(201);
            let id = trust["trust"]["id"].as_str().unwrap().to_owned();
            let bob = cloud.login("bob", "pw", Value::Null).await.unwrap_or_else(|r| panic!("{}", r.body));
            let reply = cloud.auth(by_token(&bob), json!({"OS-TRUST:trust": {"id": id}})).await;
            (id, reply.headers["x-subject-token"].to_str().unwrap().to_owned())
        };
        let (one, by_one) = lent().await;
        let (two, by_two) = lent().await;
        cloud.identity.revoke_tokens_of(&Revoke::Trust(one)).await.unwrap();
        ends(&cloud, &other, &by_one, "trust").await;
        lives(&cloud, &other, &by_two, "by another trust").await;
        let path = format!("/v3/OS-TRUST/trusts/{two}");
        cloud.call("DELETE", &path, &token, Value::Null).await.expect(204);
        ends(&cloud, &other, &by_two, "a deleted trust").await;
    }
}

#[tokio::test]
async fn the_tokens_of_a_key_end_with_it() {
    for (cloud, other) in Cloud::pairs(|c| c).await {
        let admin = cloud.admin().await;
        let (project, user) = cloud.tenant("ann", &["member"]).await;
        let token = cloud.tenant_token("ann").await;
        let keys = format!("/v3/users/{user}/credentials/OS-EC2");
        for by_id in [false, true] {
            let key = cloud.call("POST", &keys, &token, json!({"tenant_id": project})).await.expect(201);
            let text = |name: &str| key["credential"][name].as_str().unwrap();
            let mut mac = Hmac::<Sha1>::new_from_slice(text("secret").as_bytes()).unwrap();
            mac.update(b"PUT /x");
            let signature = STANDARD.encode(mac.finalize().into_bytes());
            let body = json!({"credentials": {"access": text("access"), "token": STANDARD.encode("PUT /x"),
                "signature": signature}});
            let reply = cloud.call("POST", "/v3/s3tokens", &admin, body).await;
            let signed = reply.headers["x-subject-token"].to_str().unwrap().to_owned();
            let made = cloud.auth(by_token(&signed), json!({"project": {"id": project}})).await;
            let made = made.headers["x-subject-token"].to_str().unwrap().to_owned();
            lives(&cloud, &other, &signed, "of a key").await;
            let path = match by_id {
                true => {
                    let id = hex::encode(Sha256::digest(text("access").as_bytes()));
                    format!("/v3/credentials/{id}")
                }
                false => format!("{keys}/{}", text("access")),
            };
            cloud.call("DELETE", &path, &token, Value::Null).await.expect(204);
            ends(&cloud, &other, &signed, "of a deleted key").await;
            ends(&cloud, &other, &made, "made from one of a deleted key").await;
            lives(&cloud, &other, &token, "the user's own").await;
        }
    }
}

#[tokio::test]
async fn what_is_disabled_or_taken_away_there_ends_here() {
    for (cloud, other) in Cloud::pairs(|c| c).await {
        let admin = cloud.admin().await;
        let (project, user) = cloud.tenant("ann", &["member"]).await;
        let member = cloud.role("member").await;
        let grant = format!("/v3/projects/{project}/users/{user}/roles/{member}");
        for (method, path, body) in [
            ("PATCH", format!("/v3/users/{user}"), json!({"user": {"enabled": false}})),
            ("PATCH", format!("/v3/projects/{project}"), json!({"project": {"enabled": false}})),
            ("DELETE", grant, Value::Null),
        ] {
            let token = cloud.tenant_token("ann").await;
            lives(&cloud, &other, &token, &path).await;
            let done = cloud.call(method, &path, &admin, body).await;
            assert!(done.status.is_success(), "{}", done.body);
            ends(&cloud, &other, &token, &path).await;
            for (path, body) in [
                (format!("/v3/users/{user}"), json!({"user": {"enabled": true}})),
                (format!("/v3/projects/{project}"), json!({"project": {"enabled": true}})),
            ] {
                cloud.call("PATCH", &path, &admin, body).await.expect(200);
            }
        }
    }
}
