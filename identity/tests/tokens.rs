//! What a token says, and how long it says it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use api::{Scope, TokenValidator};
use common::{Cloud, PASSWORD, by_password, by_token, clouds, clouds_with, on_project};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn the_body_of_a_project_token() {
    for cloud in clouds().await {
        let reply = cloud.auth(by_password("admin", PASSWORD), on_project("admin")).await;
        assert!(reply.headers["x-subject-token"].len() < 512);
        assert_eq!(reply.headers["vary"], "X-Auth-Token");
        let token = &reply.expect(201)["token"];
        assert_eq!(token["methods"], json!(["password"]));
        assert_eq!(token["user"]["name"], "admin");
        assert_eq!(token["user"]["domain"], json!({"id": "default", "name": "Default"}));
        assert_eq!(token["user"]["password_expires_at"], Value::Null);
        assert_eq!(token["project"]["name"], "admin");
        assert_eq!(token["is_domain"], false);
        let roles: Vec<&str> =
            token["roles"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
        assert_eq!(roles, ["admin", "manager", "member", "reader"], "the implied ones too");
        assert_eq!(token["audit_ids"].as_array().unwrap().len(), 1);
        assert!(token["expires_at"].as_str().unwrap().ends_with(".000000Z"));
        let project = token["project"]["id"].as_str().unwrap();
        let volume = token["catalog"].as_array().unwrap().iter().find(|s| s["type"] == "volumev3").unwrap();
        assert_eq!(volume["endpoints"].as_array().unwrap().len(), 3);
        let url = format!("http://cloud.example:5000/volume/v3/{project}");
        assert_eq!(volume["endpoints"][0]["url"], url);
        assert_eq!(volume["endpoints"][0]["region"], "RegionOne");
    }
}

#[tokio::test]
async fn scopes_and_rescoping() {
    for cloud in clouds().await {
        let (project, user) = cloud.tenant("ann", &["member"]).await;
        let unscoped = cloud.login("ann", "pw", Value::Null).await.ok().unwrap();
        let body = cloud.token("GET", &unscoped, &unscoped).await.expect(200);
        assert!(body["token"].get("catalog").is_none() && body["token"].get("roles").is_none());

        let scoped = cloud.auth(by_token(&unscoped), json!({"project": {"id": project}})).await;
        let second = scoped.headers["x-subject-token"].to_str().unwrap().to_owned();
        let scoped = scoped.expect(201);
        assert_eq!(scoped["token"]["methods"], json!(["password", "token"]));
        assert_eq!(scoped["token"]["expires_at"], body["token"]["expires_at"], "it ends with its parent");
        assert_eq!(scoped["token"]["audit_ids"][1], body["token"]["audit_ids"][0]);
        let caller = cloud.identity.validate(&second).await.unwrap();
        assert_eq!(caller.user.id, user);
        assert!(matches!(&caller.scope, Scope::Project(p) if p.id == project && p.name == "ann-p"));
        assert!(caller.has_role("member") && caller.has_role("reader") && !caller.has_role("admin"));

        let admin = cloud.admin().await;
        let change = json!({"user": {"default_project_id": project}});
        cloud.call("PATCH", &format!("/v3/users/{user}"), &admin, change).await.expect(200);
        let by_default = cloud.auth(by_password("ann", "pw"), Value::Null).await.expect(201);
        assert_eq!(by_default["token"]["project"]["id"], *project);
        let explicit = cloud.auth(by_password("ann", "pw"), json!("unscoped")).await.expect(201);
        assert!(explicit["token"].get("project").is_none());

        let system = cloud.auth(by_password("admin", PASSWORD), json!({"system": {"all": true}})).await;
        assert_eq!(system.expect(201)["token"]["system"], json!({"all": true}));

        // Without a catalogue where it is not wanted.
        let body = json!({"auth": {"identity": by_password("ann", "pw"), "scope": on_project("ann-p")}});
        let bare = cloud.raw("POST", "/v3/auth/tokens?nocatalog", None, body.to_string()).await.expect(201);
        assert!(bare["token"].get("catalog").is_none() && bare["token"].get("roles").is_some());
    }
}

#[tokio::test]
async fn what_ends_a_token() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let patch = async |path: String, body: Value| {
            cloud.call("PATCH", &path, &admin, body).await.expect(200);
        };
        let good = async |token: &str| cloud.identity.validate(token).await.is_ok();

        // Revoked: this one only.
        let (project, user) = cloud.tenant("ann", &["member"]).await;
        let (one, two) = (cloud.tenant_token("ann").await, cloud.tenant_token("ann").await);
        assert!(good(&one).await && good(&two).await);
        assert_eq!(cloud.token("DELETE", &one, &one).await.status, 204);
        assert!(!good(&one).await && good(&two).await);
        assert_eq!(cloud.token("GET", &admin, &one).await.status, 404);
        assert_eq!(cloud.token("HEAD", &admin, &two).await.status, 200);

        // The password changed.
        let change = json!({"user": {"original_password": "pw", "password": "new"}});
        let path = format!("/v3/users/{user}/password");
        assert_eq!(cloud.raw("POST", &path, None, change.to_string()).await.status, 204);
        assert!(!good(&two).await);
        assert_eq!(cloud.raw("POST", &path, None, change.to_string()).await.status, 401);
        patch(format!("/v3/users/{user}"), json!({"user": {"password": "pw"}})).await;

        // The user was disabled; enabling does not bring old tokens back.
        let token = cloud.tenant_token("ann").await;
        patch(format!("/v3/users/{user}"), json!({"user": {"enabled": false}})).await;
        assert!(!good(&token).await);
        patch(format!("/v3/users/{user}"), json!({"user": {"enabled": true}})).await;
        assert!(!good(&token).await);

        // The project.
        let token = cloud.tenant_token("ann").await;
        patch(format!("/v3/projects/{project}"), json!({"project": {"enabled": false}})).await;
        assert!(!good(&token).await);
        assert!(cloud.login("ann", "pw", on_project("ann-p")).await.is_err());
        patch(format!("/v3/projects/{project}"), json!({"project": {"enabled": true}})).await;

        // The role, at once and back.
        let token = cloud.tenant_token("ann").await;
        let member = cloud.role("member").await;
        let grant = format!("/v3/projects/{project}/users/{user}/roles/{member}");
        assert!(good(&token).await);
        cloud.call("DELETE", &grant, &admin, Value::Null).await.expect(204);
        assert!(!good(&token).await);
        cloud.call("PUT", &grant, &admin, Value::Null).await.expect(204);

        // Deleted.
        let token = cloud.tenant_token("ann").await;
        cloud.call("DELETE", &format!("/v3/projects/{project}"), &admin, Value::Null).await.expect(204);
        assert!(!good(&token).await);
        let unscoped = cloud.login("ann", "pw", Value::Null).await.ok().unwrap();
        cloud.call("DELETE", &format!("/v3/users/{user}"), &admin, Value::Null).await.expect(204);
        assert!(!good(&unscoped).await);
    }
}

#[tokio::test]
async fn a_domain_stops_everything_in_it() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let made = async |path: &str, body: Value| {
            let noun = body.as_object().unwrap().keys().next().unwrap().clone();
            let body = cloud.call("POST", path, &admin, body).await.expect(201);
            body[&noun]["id"].as_str().unwrap().to_owned()
        };
        let domain = made("/v3/domains", json!({"domain": {"name": "d"}})).await;
        let user =
            made("/v3/users", json!({"user": {"name": "u", "password": "pw", "domain_id": domain}})).await;
        let project = made("/v3/projects", json!({"project": {"name": "p", "domain_id": domain}})).await;
        let group = made("/v3/groups", json!({"group": {"name": "g", "domain_id": domain}})).await;
        let member = cloud.role("member").await;
        for path in [
            format!("/v3/groups/{group}/users/{user}"),
            format!("/v3/OS-INHERIT/domains/{domain}/groups/{group}/roles/{member}/inherited_to_projects"),
        ] {
            cloud.call("PUT", &path, &admin, Value::Null).await.expect(204);
        }
        let identity = json!({"methods": ["password"], "password": {"user": {"id": user, "password": "pw"}}});
        let scope = json!({"project": {"id": project}});
        let reply = cloud.auth(identity.clone(), scope.clone()).await;
        let token = reply.headers["x-subject-token"].to_str().unwrap().to_owned();
        assert_eq!(reply.expect(201)["token"]["roles"][0]["name"], "member", "through group and domain");
        let mine = cloud.get("/v3/auth/projects", &token).await.expect(200);
        assert_eq!(mine["projects"][0]["id"], *project);

        let path = format!("/v3/domains/{domain}");
        let kept = cloud.call("DELETE", &path, &admin, Value::Null).await;
        assert_eq!(kept.status, 403, "{}", kept.message());
        cloud.call("PATCH", &path, &admin, json!({"domain": {"enabled": false}})).await.expect(200);
        assert!(cloud.identity.validate(&token).await.is_err());
        assert_eq!(cloud.auth(identity.clone(), scope).await.status, 401);
        cloud.call("DELETE", &path, &admin, Value::Null).await.expect(204);
        for gone in
            [format!("/v3/users/{user}"), format!("/v3/projects/{project}"), format!("/v3/groups/{group}")]
        {
            assert_eq!(cloud.get(&gone, &admin).await.status, 404, "{gone}");
        }
    }
}

#[tokio::test]
async fn tokens_expire() {
    for cloud in clouds_with(|c| identity::Config { token_lifetime_seconds: 1, ..c }).await {
        let token = cloud.admin().await;
        assert!(cloud.identity.validate(&token).await.is_ok());
        // Time itself is what is tested.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert!(cloud.identity.validate(&token).await.is_err());
        assert_eq!(cloud.get("/v3/users", &token).await.status, 401);
    }
}

#[tokio::test]
async fn tokens_live_through_rotations_and_restarts() {
    for cloud in clouds().await {
        let first = cloud.admin().await;
        let other = cloud.sibling().await;
        assert!(other.identity.validate(&first).await.is_ok(), "a restart finds the same keys");
        cloud.identity.rotate().await.unwrap();
        let second = cloud.admin().await;
        // The sibling has not looked at the keys again: it knows the new one, which was staged.
        assert!(other.identity.validate(&second).await.is_ok());
        assert!(cloud.identity.validate(&first).await.is_ok());
        for _ in 0..5 {
            let done = cloud.identity.rotate().await.unwrap();
            assert!(done.removed.is_empty(), "no key goes before its tokens");
        }
        let third = cloud.sibling().await;
        for token in [&first, &second] {
            assert!(cloud.identity.validate(token).await.is_ok());
            assert!(other.identity.validate(token).await.is_ok());
            assert!(third.identity.validate(token).await.is_ok());
        }
        // Keys that are known to others end their tokens, everywhere and at once.
        assert!(cloud.identity.renew_token_keys().await.unwrap().removed.len() > 5);
        let fresh = cloud.admin().await;
        for process in [&cloud, &other, &third] {
            let gone = async {
                while process.identity.validate(&first).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(2), gone).await.expect("an old key's token lives");
            assert!(process.identity.validate(&fresh).await.is_ok());
            assert!(process.identity.validate(&second).await.is_err());
        }
    }
}

#[tokio::test]
async fn another_process_sees_changes_within_a_second() {
    for cloud in clouds().await {
        let other = cloud.sibling().await;
        cloud.tenant("ann", &["member"]).await;
        let token = cloud.tenant_token("ann").await;
        assert!(other.identity.validate(&token).await.is_ok());
        assert_eq!(cloud.token("DELETE", &token, &token).await.status, 204);
        let seen = async {
            while other.identity.validate(&token).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(1), seen).await.expect("not seen within a second");
    }
}

#[tokio::test]
async fn a_role_taken_while_the_token_is_in_use() {
    for cloud in clouds().await {
        let (project, user) = cloud.tenant("ann", &["member"]).await;
        let token = cloud.tenant_token("ann").await;
        let admin = cloud.admin().await;
        let grant = format!("/v3/projects/{project}/users/{user}/roles/{}", cloud.role("member").await);
        for round in 0..10 {
            let users: Vec<_> = (0..4)
                .map(|_| {
                    let (identity, token) = (cloud.identity.clone(), token.clone());
                    tokio::spawn(async move {
                        for _ in 0..50 {
                            let _ = identity.validate(&token).await;
                        }
                    })
                })
                .collect();
            cloud.call("DELETE", &grant, &admin, Value::Null).await.expect(204);
            assert!(cloud.identity.validate(&token).await.is_err(), "round {round}: answered, so effective");
            for u in users {
                u.await.unwrap();
            }
            assert!(
                cloud.identity.validate(&token).await.is_err(),
                "round {round}: a late reader brought it back"
            );
            cloud.call("PUT", &grant, &admin, Value::Null).await.expect(204);
            assert!(cloud.identity.validate(&token).await.is_ok(), "round {round}");
        }
    }
}

#[tokio::test]
async fn bootstrap_again_changes_nothing_but_the_password() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let count = async |cloud: &Cloud| {
            let mut all = Vec::new();
            for what in ["users", "projects", "roles", "services", "endpoints", "regions", "role_assignments"]
            {
                let body = cloud.get(&format!("/v3/{what}"), &admin).await.expect(200);
                all.push((what, body[what].as_array().unwrap().len()));
            }
            all
        };
        let before = count(&cloud).await;
        let again = cloud.sibling().await;
        assert_eq!(count(&again).await, before);
        assert!(again.identity.validate(&admin).await.is_ok(), "the same password: its tokens live");
    }
}
