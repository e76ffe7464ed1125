//! What one login may be turned into: tokens of tokens, of keys that sign, of credentials for some requests only.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use api::{Secret, TokenValidator};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Cloud, PASSWORD, Reply, by_password, by_token, clouds, clouds_with, on_project};
use hmac::{Hmac, KeyInit, Mac};
use identity::Config;
use serde_json::{Value, json};
use sha2::Sha256;
use state::Timestamp;

fn token(reply: &Reply) -> String {
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.headers["x-subject-token"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn from_scope_to_scope() {
    for cloud in clouds().await {
        cloud.tenant("ann", &["member"]).await;
        let system =
            token(&cloud.auth(by_password("admin", PASSWORD), json!({"system": {"all": true}})).await);
        for scope in [on_project("admin"), json!({"domain": {"id": "default"}})] {
            assert_eq!(cloud.auth(by_token(&system), scope).await.status, 403);
        }
        token(&cloud.auth(by_token(&system), json!({"system": {"all": true}})).await);
        token(&cloud.auth(by_token(&system), json!("unscoped")).await);

        let body =
            json!({"auth": {"identity": by_password("ann", "pw"), "scope": {"project": {"name": "ann-p"}}}});
        let reply = cloud.raw("POST", "/v3/auth/tokens", None, body.to_string()).await;
        assert_eq!(reply.status, 400, "no domain is implied");
        assert!(reply.message().contains("Expecting to find domain in project"), "{}", reply.message());
        let by_name = json!({"project": {"name": "ann-p", "domain": {"name": "Default"}}});
        token(&cloud.auth(by_password("ann", "pw"), by_name).await);
        for scope in
            [json!({"system": {"all": true}}), json!({"domain": {"id": "default"}}), on_project("admin")]
        {
            let reply = cloud.auth(by_password("ann", "pw"), scope).await;
            assert_eq!(reply.status, 401, "no role there");
            let realm = "Keystone uri=\"http://cloud.example:5000/identity\"";
            assert_eq!(reply.headers["www-authenticate"], realm);
        }
        let gone = json!({"OS-TRUST:trust": {"id": "none"}});
        assert_eq!(cloud.auth(by_password("ann", "pw"), gone).await.status, 401);
    }
    for cloud in clouds_with(|c| Config { allow_rescope_scoped_token: false, ..c }).await {
        cloud.tenant("ann", &["member"]).await;
        let unscoped = token(&cloud.auth(by_password("ann", "pw"), Value::Null).await);
        let scoped = token(&cloud.auth(by_token(&unscoped), on_project("ann-p")).await);
        for scope in [on_project("ann-p"), json!("unscoped")] {
            let reply = cloud.auth(by_token(&scoped), scope).await;
            assert_eq!(reply.status, 403);
            assert!(reply.message().ends_with("rescope a scoped token."), "{}", reply.message());
        }
    }
}

#[tokio::test]
async fn by_application_credential() {
    for cloud in clouds().await {
        let (_, ann) = cloud.tenant("ann", &["member"]).await;
        let mine = cloud.tenant_token("ann").await;
        let path = format!("/v3/users/{ann}/application_credentials");
        let body = json!({"application_credential": {"name": "app", "access_rules": [
            {"service": "identity", "method": "GET", "path": "/v3/auth/tokens"}]}});
        let app = cloud.call("POST", &path, &mine, body).await.expect(201)["application_credential"].clone();
        let by = |named: Value| {
            let mut app = named;
            app["secret"] = json!("wrong");
            json!({"methods": ["application_credential"], "application_credential": app})
        };
        let with = |mut identity: Value| {
            identity["application_credential"]["secret"] = app["secret"].clone();
            identity
        };
        let names = [
            by(json!({"id": app["id"]})),
            by(json!({"name": "app", "user": {"id": ann}})),
            by(json!({"name": "app", "user": {"name": "ann", "domain": {"id": "default"}}})),
            by(json!({"name": "app", "user": {"name": "ann", "domain": {"name": "Default"}}})),
        ];
        for identity in &names {
            assert_eq!(cloud.auth(identity.clone(), Value::Null).await.status, 401);
            let reply = cloud.auth(with(identity.clone()), Value::Null).await;
            let said = &reply.body["token"]["application_credential"];
            assert_eq!((&said["id"], &said["restricted"]), (&app["id"], &json!(true)));
            assert_eq!(said["access_rules"][0]["path"], "/v3/auth/tokens");
            token(&reply);
            for scope in [on_project("ann-p"), json!("unscoped"), json!({"system": {"all": true}})] {
                let reply = cloud.auth(with(identity.clone()), scope).await;
                assert_eq!(reply.status, 401);
                assert!(reply.message().ends_with("Application credentials cannot request a scope."));
            }
        }
        for bad in [json!({"name": "app"}), json!({}), json!({"name": "app", "user": {"name": "ann"}})] {
            assert_eq!(cloud.auth(with(by(bad)), Value::Null).await.status, 400);
        }

        // A service that does not know of access rules is not told what the token is good for.
        let limited = token(&cloud.auth(with(names[0].clone()), Value::Null).await);
        let admin = cloud.admin().await;
        for (version, status) in [
            (None, 404),
            (Some("0.9"), 404),
            (Some("x"), 404),
            (Some("NaN"), 404),
            (Some("1.0"), 200),
            (Some("2"), 200),
        ] {
            for method in ["GET", "HEAD"] {
                let mut request = http::Request::builder()
                    .method(method)
                    .uri("/identity/v3/auth/tokens")
                    .header("x-auth-token", &admin)
                    .header("x-subject-token", &limited);
                if let Some(version) = version {
                    request = request.header("openstack-identity-access-rules", version);
                }
                let reply = cloud.send(request.body(axum::body::Body::empty()).unwrap()).await;
                assert_eq!(reply.status, status, "{method} {version:?}");
            }
        }
        // At its end.
        cloud.sql("UPDATE identity_app_credentials SET expires_at = 1 WHERE user_id = $1", &[&ann]).await;
        assert_eq!(cloud.auth(with(names[0].clone()), Value::Null).await.status, 401);
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// An EC2 request of signature version 2, signed so many seconds ago.
fn v2(access: &str, secret: &str, host: &str, ago: i64) -> Value {
    let time = Timestamp::from_secs(Timestamp::now().secs() - ago).seconds_z();
    let query =
        format!("SignatureMethod=HmacSHA256&SignatureVersion=2&Timestamp={}", time.replace(':', "%3A"));
    let signature = STANDARD.encode(mac(secret.as_bytes(), &format!("GET\nec2.example\n/\n{query}")));
    json!({"credentials": {"access": access, "signature": signature, "host": host, "verb": "GET", "path": "/",
        "params": {"SignatureMethod": "HmacSHA256", "SignatureVersion": "2", "Timestamp": time}}})
}

/// What S3 has a client sign, version 4.
fn s3_v4(access: &str, secret: &str, service: &str, ago: i64) -> Value {
    let then = Timestamp::from_secs(Timestamp::now().secs() - ago).seconds_z();
    let time = then.replace(['-', ':'], "");
    let scope = format!("{}/r/{service}/aws4_request", &time[..8]);
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", "0".repeat(64));
    let key = scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |k, part| mac(&k, part));
    let signature: String = mac(&key, &text).iter().map(|b| format!("{b:02x}")).collect();
    json!({"credentials": {"access": access, "signature": signature, "token": STANDARD.encode(text)}})
}

#[tokio::test]
async fn signed_requests() {
    for cloud in clouds().await {
        let (project, ann) = cloud.tenant("ann", &["member"]).await;
        let (other, _) = cloud.tenant("bob", &["member"]).await;
        let admin = cloud.admin().await;
        let secret = Secret("s3cr3t".into());
        cloud.identity.ensure_ec2_credential(&ann, &project, "key", &secret).await.unwrap();
        let ec2 = async |token: &str, body: Value| cloud.call("POST", "/v3/ec2tokens", token, body).await;
        let s3 = async |token: &str, body: Value| cloud.call("POST", "/v3/s3tokens", token, body).await;

        // CVE-2025-65073: whoever had seen a signature was given a token for it.
        let mine = cloud.tenant_token("ann").await;
        for token in [mine.as_str(), ""] {
            let wanted = if token.is_empty() { 401 } else { 403 };
            assert_eq!(ec2(token, v2("key", "s3cr3t", "ec2.example", 0)).await.status, wanted);
            assert_eq!(s3(token, s3_v4("key", "s3cr3t", "s3", 0)).await.status, wanted);
        }

        for reply in [
            ec2(&admin, v2("key", "s3cr3t", "ec2.example", 0)).await,
            ec2(&admin, v2("key", "s3cr3t", "ec2.example:8773", 0)).await,
            s3(&admin, s3_v4("key", "s3cr3t", "s3", 0)).await,
        ] {
            assert_eq!(reply.status, 200, "{}", reply.body);
            let token = &reply.body["token"];
            assert_eq!((&token["user"]["id"], &token["project"]["id"]), (&json!(ann), &json!(project)));
            assert_eq!(token["methods"], json!(["ec2credential"]));
        }
        // CVE-2020-12692: signatures were good for ever.
        for reply in [
            ec2(&admin, v2("key", "s3cr3t", "ec2.example", 1000)).await,
            ec2(&admin, v2("key", "s3cr3t", "ec2.example", -1000)).await,
            s3(&admin, s3_v4("key", "s3cr3t", "s3", 1000)).await,
            s3(&admin, s3_v4("key", "s3cr3t", "ec2", 0)).await,
            ec2(&admin, v2("key", "wrong", "ec2.example", 0)).await,
            ec2(&admin, v2("none", "s3cr3t", "ec2.example", 0)).await,
            ec2(&admin, v2("key", "s3cr3t", "ec2.elsewhere", 0)).await,
            s3(&admin, s3_v4("key", "wrong", "s3", 0)).await,
            ec2(&admin, json!({"credentials": {"access": "key"}})).await,
            ec2(&admin, json!({"credentials": {"access": "key", "signature": ""}})).await,
            s3(&admin, json!({"credentials": {"signature": "x"}})).await,
        ] {
            assert_eq!(reply.status, 401, "{}", reply.body);
        }
        assert_eq!(ec2(&admin, json!({})).await.status, 400);

        // A key is for its project: its token is not exchanged for another, nor made into what outlives it.
        let reply = ec2(&admin, v2("key", "s3cr3t", "ec2.example", 0)).await;
        let signed = reply.headers["x-subject-token"].to_str().unwrap().to_owned();
        cloud.tenant("ann2", &["member"]).await;
        let member = cloud.role("member").await;
        let grant = format!("/v3/projects/{other}/users/{ann}/roles/{member}");
        cloud.call("PUT", &grant, &admin, Value::Null).await.expect(204);
        for scope in [json!({"project": {"id": other}}), json!("unscoped")] {
            assert_eq!(cloud.auth(by_token(&signed), scope).await.status, 401);
        }
        let again = token(&cloud.auth(by_token(&signed), json!({"project": {"id": project}})).await);
        for signed in [&signed, &again] {
            let app = json!({"application_credential": {"name": "x"}});
            let apps = format!("/v3/users/{ann}/application_credentials");
            assert_eq!(cloud.call("POST", &apps, signed, app).await.status, 403);
            let keys = format!("/v3/users/{ann}/credentials/OS-EC2");
            assert_eq!(cloud.call("POST", &keys, signed, json!({"tenant_id": project})).await.status, 403);
        }

        // CVE-2012-5571: the role is gone. CVE-2013-0282: the user is disabled.
        let path = format!("/v3/users/{ann}");
        cloud.call("PATCH", &path, &admin, json!({"user": {"enabled": false}})).await.expect(200);
        assert_eq!(s3(&admin, s3_v4("key", "s3cr3t", "s3", 0)).await.status, 401);
        cloud.call("PATCH", &path, &admin, json!({"user": {"enabled": true}})).await.expect(200);
        assert_eq!(s3(&admin, s3_v4("key", "s3cr3t", "s3", 0)).await.status, 200);
        let grant = format!("/v3/projects/{project}/users/{ann}/roles/{member}");
        cloud.call("DELETE", &grant, &admin, Value::Null).await.expect(204);
        assert_eq!(s3(&admin, s3_v4("key", "s3cr3t", "s3", 0)).await.status, 401);
        assert_eq!(ec2(&admin, v2("key", "s3cr3t", "ec2.example", 0)).await.status, 401);
    }
}

/// CVE-2015-7546: a revoked token, changed where nobody looks, was good again.
#[tokio::test]
async fn a_revoked_token_in_disguise() {
    for cloud in clouds().await {
        cloud.tenant("ann", &["member"]).await;
        let mine = cloud.tenant_token("ann").await;
        let disguises = |token: &str| {
            let (start, last) = token.split_at(token.len() - 1);
            let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let ends = alphabet.chars().map(|c| format!("{start}{c}"));
            let mut all: Vec<String> = ends.filter(|d| !d.ends_with(last)).collect();
            all.extend(["=", "==", "A", " ", "%3D", "\t"].map(|tail| format!("{token}{tail}")));
            all
        };
        assert_eq!(cloud.token("DELETE", &mine, &mine).await.status, 204);
        for token in disguises(&mine).iter().chain([&mine]) {
            assert!(cloud.identity.validate(token).await.is_err(), "{token}");
        }
    }
}

/// CVE-2012-4457, CVE-2013-2059: what a token stands on is gone, and so is it, also as a way to another.
#[tokio::test]
async fn tokens_of_what_is_gone_open_nothing() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        for (name, path) in [("ann", "users"), ("bob", "projects")] {
            let (project, user) = cloud.tenant(name, &["member"]).await;
            let unscoped = token(&cloud.auth(by_password(name, "pw"), Value::Null).await);
            let scoped = cloud.tenant_token(name).await;
            let id = if path == "users" { &user } else { &project };
            cloud.call("DELETE", &format!("/v3/{path}/{id}"), &admin, Value::Null).await.expect(204);
            let scope = on_project(&format!("{name}-p"));
            for old in [&unscoped, &scoped] {
                let status = cloud.auth(by_token(old), scope.clone()).await.status.as_u16();
                assert!(matches!(status, 401 | 404), "{status}");
            }
            assert_eq!(cloud.get("/v3/auth/projects", &scoped).await.status, 401);
            assert_eq!(show(&cloud, &admin, &scoped).await, 404);
        }
    }
}

async fn show(cloud: &Cloud, asker: &str, token: &str) -> u16 {
    cloud.token("GET", asker, token).await.status.as_u16()
}
