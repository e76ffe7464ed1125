//! What a limited login must not turn into: each of these was once a hole in somebody's identity service.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use api::{Asking, Scope, Secret, TokenValidator};
use common::{Cloud, PASSWORD, by_password, by_token, clouds, on_project};
use serde_json::{Value, json};

async fn token_of(cloud: &Cloud, identity: Value, scope: Value) -> String {
    let reply = cloud.auth(identity, scope).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.headers["x-subject-token"].to_str().unwrap().to_owned()
}

async fn app_credential(cloud: &Cloud, user: &str, token: &str, more: Value) -> Value {
    let mut body = json!({"application_credential": {"name": testbed::unique("app")}});
    let fields = body["application_credential"].as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    let path = format!("/v3/users/{user}/application_credentials");
    cloud.call("POST", &path, token, body).await.expect(201)["application_credential"].clone()
}

fn by_app(app: &Value) -> Value {
    json!({"methods": ["application_credential"],
        "application_credential": {"id": app["id"], "secret": app["secret"]}})
}

/// CVE-2020-12689: a login limited to some roles made itself a key without limits. CVE-2022-2447: its tokens outlived it.
#[tokio::test]
async fn application_credentials_stay_as_limited_as_they_were_made() {
    for cloud in clouds().await {
        let (project, user) = cloud.tenant("ann", &["member"]).await;
        let token = cloud.tenant_token("ann").await;
        let reader = cloud.role("reader").await;
        let app = app_credential(&cloud, &user, &token, json!({"roles": [{"id": reader}]})).await;
        let limited = token_of(&cloud, by_app(&app), Value::Null).await;
        let caller = cloud.identity.validate(&limited).await.unwrap();
        assert_eq!(caller.roles.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["reader"]);
        assert!(matches!(&caller.scope, Scope::Project(p) if p.id == project));

        // A wrong secret, another scope, another credential from it, a trust, a key.
        let mut wrong = by_app(&app);
        wrong["application_credential"]["secret"] = json!("wrong");
        assert_eq!(cloud.auth(wrong, Value::Null).await.status, 401);
        for scope in [on_project("admin"), json!({"system": {"all": true}}), json!("unscoped")] {
            assert_eq!(cloud.auth(by_app(&app), scope.clone()).await.status, 401, "{scope}");
            assert_eq!(cloud.auth(by_token(&limited), scope.clone()).await.status, 401, "{scope}");
        }
        let again = token_of(&cloud, by_token(&limited), Value::Null).await;
        assert!(!cloud.identity.validate(&again).await.unwrap().has_role("member"), "rescoped");
        let path = format!("/v3/users/{user}/application_credentials");
        let more = json!({"application_credential": {"name": "more"}});
        assert_eq!(cloud.call("POST", &path, &limited, more).await.status, 403);
        let id = app["id"].as_str().unwrap();
        assert_eq!(cloud.call("DELETE", &format!("{path}/{id}"), &limited, Value::Null).await.status, 403);
        let trust = json!({"trust": {"trustor_user_id": user, "trustee_user_id": user, "impersonation": true,
            "project_id": project, "roles": [{"id": reader}]}});
        assert_eq!(cloud.call("POST", "/v3/OS-TRUST/trusts", &limited, trust).await.status, 403);
        let key = json!({"tenant_id": project});
        let keys = format!("/v3/users/{user}/credentials/OS-EC2");
        assert_eq!(cloud.call("POST", &keys, &limited, key).await.status, 403);

        // Roles that the user does not have.
        let admin_role = cloud.role("admin").await;
        let greedy = json!({"application_credential": {"name": "g", "roles": [{"id": admin_role}]}});
        assert_eq!(cloud.call("POST", &path, &token, greedy).await.status, 400);
        // Another user's.
        cloud.tenant("bob", &["member"]).await;
        let bob = cloud.tenant_token("bob").await;
        let alien = json!({"application_credential": {"name": "x"}});
        assert_eq!(cloud.call("POST", &path, &bob, alien).await.status, 403);
        assert_eq!(cloud.get(&format!("{path}/{id}"), &bob).await.status, 403);

        // What the user loses, the credential loses; deleted, its tokens end.
        let admin = cloud.admin().await;
        let full = app_credential(&cloud, &user, &token, json!({"unrestricted": true})).await;
        let full_token = token_of(&cloud, by_app(&full), Value::Null).await;
        let gone = format!("{path}/{}", full["id"].as_str().unwrap());
        cloud.call("DELETE", &gone, &token, Value::Null).await.expect(204);
        assert!(cloud.identity.validate(&full_token).await.is_err());
        let member = cloud.role("member").await;
        let grant = format!("/v3/projects/{project}/users/{user}/roles/{member}");
        cloud.call("DELETE", &grant, &admin, Value::Null).await.expect(204);
        assert!(cloud.identity.validate(&limited).await.is_err());
        assert_eq!(cloud.auth(by_app(&app), Value::Null).await.status, 401);
    }
}

/// CVE-2021-3563: only the first 72 bytes of a secret were looked at.
#[tokio::test]
async fn long_secrets_count_to_their_end() {
    for cloud in clouds().await {
        let (_, user) = cloud.tenant("ann", &["member"]).await;
        let token = cloud.tenant_token("ann").await;
        let secret = "s".repeat(100);
        let app = app_credential(&cloud, &user, &token, json!({"secret": secret})).await;
        token_of(&cloud, by_app(&app), Value::Null).await;
        let mut cut = by_app(&app);
        cut["application_credential"]["secret"] = json!("s".repeat(72));
        assert_eq!(cloud.auth(cut, Value::Null).await.status, 401);
    }
}

#[tokio::test]
async fn access_rules_hold_at_every_door() {
    for cloud in clouds().await {
        let (_, user) = cloud.tenant("ann", &["member"]).await;
        let token = cloud.tenant_token("ann").await;
        let rules = json!([{"service": "identity", "method": "GET", "path": format!("/v3/users/{user}")},
            {"service": "compute", "method": "GET", "path": "/v2.1/servers"}]);
        let more = json!({"access_rules": rules, "unrestricted": true});
        let app = app_credential(&cloud, &user, &token, more).await;
        assert_eq!(app["access_rules"].as_array().unwrap().len(), 2);
        let limited = token_of(&cloud, by_app(&app), Value::Null).await;
        assert_eq!(cloud.get(&format!("/v3/users/{user}"), &limited).await.status, 200);
        assert_eq!(cloud.get("/v3/auth/projects", &limited).await.status, 401);
        assert!(cloud.identity.validate(&limited).await.is_err(), "a service that does not ask gets nothing");
        let ask = |method, path| Asking { service: "compute", method, path };
        assert!(cloud.identity.validate_for(&limited, &ask("GET", "/compute/v2.1/servers")).await.is_ok());
        assert!(cloud.identity.validate_for(&limited, &ask("POST", "/compute/v2.1/servers")).await.is_err());
        let again = token_of(&cloud, by_token(&limited), Value::Null).await;
        assert!(cloud.identity.validate(&again).await.is_err(), "a token of the token");

        let listed = cloud.get(&format!("/v3/users/{user}/access_rules"), &token).await.expect(200);
        let id = listed["access_rules"][0]["id"].as_str().unwrap();
        let path = format!("/v3/users/{user}/access_rules/{id}");
        assert_eq!(cloud.call("DELETE", &path, &token, Value::Null).await.status, 403, "in use");
    }
}

/// CVE-2013-6391, CVE-2014-3476, CVE-2014-3520: what a trust had lent was made into more, by keys, chains and scopes.
#[tokio::test]
async fn trusts_lend_no_more_than_was_lent() {
    for cloud in clouds().await {
        let (project, ann) = cloud.tenant("ann", &["manager"]).await;
        let (_, bob) = cloud.tenant("bob", &["member"]).await;
        let (_, eve) = cloud.tenant("eve", &["member"]).await;
        let (ann_token, bob_token) = (cloud.tenant_token("ann").await, cloud.tenant_token("bob").await);
        let eve_token = cloud.tenant_token("eve").await;
        let (reader, admin_role) = (cloud.role("reader").await, cloud.role("admin").await);
        let trust = |trustor: &str, trustee: &str, role: &str, more: Value| {
            let mut t = json!({"trustor_user_id": trustor, "trustee_user_id": trustee, "project_id": project,
                "impersonation": true, "roles": [{"id": role}]});
            t.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"trust": t})
        };
        const PATH: &str = "/v3/OS-TRUST/trusts";
        let refused = |body: Value, token: String| async move { (body, token) };
        for (body, token) in [
            refused(trust(&ann, &bob, &admin_role, json!({})), ann_token.clone()).await,
            refused(trust(&ann, &bob, &reader, json!({})), bob_token.clone()).await,
            refused(trust(&ann, &bob, &reader, json!({"roles": []})), ann_token.clone()).await,
        ] {
            assert_eq!(cloud.call("POST", PATH, &token, body).await.status, 403);
        }
        let made =
            cloud.call("POST", PATH, &ann_token, trust(&ann, &bob, &reader, json!({}))).await.expect(201);
        let id = made["trust"]["id"].as_str().unwrap().to_owned();
        let scope = json!({"OS-TRUST:trust": {"id": id}});
        assert_eq!(cloud.auth(by_token(&eve_token), scope.clone()).await.status, 403, "not the trustee");
        assert_eq!(cloud.auth(by_token(&ann_token), scope.clone()).await.status, 403, "not the trustee");
        let lent = token_of(&cloud, by_token(&bob_token), scope.clone()).await;
        let caller = cloud.identity.validate(&lent).await.unwrap();
        assert_eq!(caller.user.id, ann, "it impersonates");
        assert_eq!(caller.roles.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["reader"]);

        // No other token of it, no credential, no further trust.
        assert_eq!(cloud.auth(by_token(&lent), on_project("ann-p")).await.status, 403);
        assert_eq!(cloud.auth(by_token(&lent), Value::Null).await.status, 403);
        let app = json!({"application_credential": {"name": "x"}});
        let apps = format!("/v3/users/{ann}/application_credentials");
        assert_eq!(cloud.call("POST", &apps, &lent, app).await.status, 403);
        let on = trust(&ann, &eve, &reader, json!({}));
        assert_eq!(cloud.call("POST", PATH, &lent, on).await.status, 403, "redelegation was not allowed");
        assert_eq!(cloud.get(&format!("{PATH}/{id}"), &eve_token).await.status, 403);

        // A reader makes no key; one made with a trust's token signs for the trust only.
        let keys = format!("/v3/users/{ann}/credentials/OS-EC2");
        assert_eq!(cloud.call("POST", &keys, &lent, json!({"tenant_id": project})).await.status, 403);
        let member = cloud.role("member").await;
        let made =
            cloud.call("POST", PATH, &ann_token, trust(&ann, &bob, &member, json!({}))).await.expect(201);
        let of_member = made["trust"]["id"].as_str().unwrap().to_owned();
        let by_member =
            token_of(&cloud, by_token(&bob_token), json!({"OS-TRUST:trust": {"id": of_member}})).await;
        let key = cloud.call("POST", &keys, &by_member, json!({"tenant_id": project})).await.expect(201);
        assert_eq!(key["credential"]["trust_id"], *of_member);
        let access = key["credential"]["access"].as_str().unwrap().to_owned();
        let signer = cloud.identity.s3_credential(&access).await.unwrap().unwrap();
        assert!(signer.caller.has_role("member") && !signer.caller.has_role("manager"));

        // Uses run out.
        let body = trust(&ann, &bob, &reader, json!({"remaining_uses": 1}));
        let once = cloud.call("POST", PATH, &ann_token, body).await.expect(201);
        let once = json!({"OS-TRUST:trust": {"id": once["trust"]["id"]}});
        token_of(&cloud, by_token(&bob_token), once.clone()).await;
        assert_eq!(cloud.auth(by_token(&bob_token), once).await.status, 403);

        // Its end is the end of its tokens and keys.
        for id in [&id, &of_member] {
            cloud.call("DELETE", &format!("{PATH}/{id}"), &ann_token, Value::Null).await.expect(204);
        }
        assert!(cloud.identity.validate(&lent).await.is_err());
        assert!(cloud.identity.s3_credential(&access).await.unwrap().is_none());
        assert_eq!(cloud.auth(by_token(&bob_token), scope).await.status, 401);
    }
}

#[tokio::test]
async fn redelegated_trusts_end_with_the_first() {
    for cloud in clouds().await {
        let (project, ann) = cloud.tenant("ann", &["member"]).await;
        let (_, bob) = cloud.tenant("bob", &["member"]).await;
        let (_, eve) = cloud.tenant("eve", &["member"]).await;
        let (reader, member) = (cloud.role("reader").await, cloud.role("member").await);
        let tokens = (
            cloud.tenant_token("ann").await,
            cloud.tenant_token("bob").await,
            cloud.tenant_token("eve").await,
        );
        const PATH: &str = "/v3/OS-TRUST/trusts";
        let first = json!({"trust": {"trustor_user_id": ann, "trustee_user_id": bob, "project_id": project,
            "impersonation": true, "roles": [{"id": reader}], "allow_redelegation": true, "redelegation_count": 1}});
        let first = cloud.call("POST", PATH, &tokens.0, first).await.expect(201);
        let first = first["trust"]["id"].as_str().unwrap().to_owned();
        let lent = token_of(&cloud, by_token(&tokens.1), json!({"OS-TRUST:trust": {"id": first}})).await;
        let next = |role: &str| {
            json!({"trust": {"trustor_user_id": ann, "trustee_user_id": eve, "project_id": project,
                "impersonation": true, "roles": [{"id": role}], "allow_redelegation": true}})
        };
        assert_eq!(cloud.call("POST", PATH, &lent, next(&member)).await.status, 403, "more than was lent");
        let second = cloud.call("POST", PATH, &lent, next(&reader)).await.expect(201);
        assert_eq!(second["trust"]["redelegation_count"], 0);
        let second = json!({"OS-TRUST:trust": {"id": second["trust"]["id"]}});
        let passed_on = token_of(&cloud, by_token(&tokens.2), second).await;
        assert_eq!(cloud.call("POST", PATH, &passed_on, next(&reader)).await.status, 403, "far enough");
        assert!(cloud.identity.validate(&passed_on).await.is_ok());
        cloud.call("DELETE", &format!("{PATH}/{first}"), &tokens.0, Value::Null).await.expect(204);
        assert!(cloud.identity.validate(&passed_on).await.is_err());
    }
}

/// CVE-2019-19687: everybody could list every credential. CVE-2020-12691: a key was moved to another user or project.
#[tokio::test]
async fn keys_are_their_owners_and_their_projects() {
    for cloud in clouds().await {
        let (project, ann) = cloud.tenant("ann", &["member"]).await;
        let (_, bob) = cloud.tenant("bob", &["member"]).await;
        let (ann_token, bob_token) = (cloud.tenant_token("ann").await, cloud.tenant_token("bob").await);
        let keys = format!("/v3/users/{ann}/credentials/OS-EC2");
        let made = cloud.call("POST", &keys, &ann_token, json!({"tenant_id": project})).await.expect(201);
        let access = made["credential"]["access"].as_str().unwrap().to_owned();
        let secret = made["credential"]["secret"].as_str().unwrap().to_owned();
        let found = cloud.identity.s3_credential(&access).await.unwrap().unwrap();
        assert_eq!(found.secret.0, secret);
        assert_eq!((found.caller.user.id.as_str(), found.caller.project_id().unwrap()), (&*ann, &*project));
        assert!(found.caller.has_role("reader") && !format!("{found:?}").contains(&secret));
        assert!(cloud.identity.s3_credential("nothing").await.unwrap().is_none());

        // Another user neither sees nor makes nor takes it.
        assert_eq!(cloud.get(&format!("{keys}/{access}"), &bob_token).await.status, 403);
        assert_eq!(cloud.call("POST", &keys, &bob_token, json!({"tenant_id": project})).await.status, 403);
        let bobs = format!("/v3/users/{bob}/credentials/OS-EC2");
        assert_eq!(cloud.get(&format!("{bobs}/{access}"), &bob_token).await.status, 404);
        let listed = cloud.get("/v3/credentials", &bob_token).await.expect(200);
        assert_eq!(listed["credentials"], json!([]));

        // A key for a project where its owner has no role signs for nothing.
        let admin_project = cloud.identity.ensure_project("admin").await.unwrap();
        let blob = json!({"access": "stolen", "secret": "x", "trust_id": null}).to_string();
        let body =
            json!({"credential": {"type": "ec2", "blob": blob, "user_id": bob, "project_id": admin_project}});
        let made = cloud.call("POST", "/v3/credentials", &bob_token, body).await.expect(201);
        assert!(cloud.identity.s3_credential("stolen").await.unwrap().is_none());
        let path = format!("/v3/credentials/{}", made["credential"]["id"].as_str().unwrap());
        let admin_user =
            cloud.identity.ensure_user("admin", &Secret(PASSWORD.into()), &admin_project, &[]).await;
        for change in
            [json!({"user_id": admin_user.unwrap()}), json!({"project_id": project}), json!({"type": "cert"})]
        {
            let reply = cloud.call("PATCH", &path, &bob_token, json!({"credential": change})).await;
            assert_eq!(reply.status, 400, "{}", reply.body);
        }
        // Nor can one take another's access key.
        let blob = json!({"access": access, "secret": "x"}).to_string();
        let reply = cloud.call("PATCH", &path, &bob_token, json!({"credential": {"blob": blob}})).await;
        assert_eq!(reply.status, 409);
        assert!(!reply.body.to_string().contains(&access));

        // At rest it is encrypted.
        let rows: Vec<String> = sqlx::query_scalar("SELECT blob FROM identity_credentials")
            .fetch_all(cloud.db.read())
            .await
            .unwrap();
        assert!(!rows.is_empty() && rows.iter().all(|r| !r.contains(&secret) && !r.contains("secret")));

        // Disabled owner, deleted key.
        let admin = cloud.admin().await;
        let user = format!("/v3/users/{ann}");
        cloud.call("PATCH", &user, &admin, json!({"user": {"enabled": false}})).await.expect(200);
        assert!(cloud.identity.s3_credential(&access).await.unwrap().is_none());
        cloud.call("PATCH", &user, &admin, json!({"user": {"enabled": true}})).await.expect(200);
        assert!(cloud.identity.s3_credential(&access).await.unwrap().is_some());
        cloud.call("DELETE", &format!("{keys}/{access}"), &admin, Value::Null).await.expect(204);
        assert!(cloud.identity.s3_credential(&access).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_domains_manager_stays_in_the_domain() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let made = async |path: &str, token: &str, body: Value| {
            let noun = body.as_object().unwrap().keys().next().unwrap().clone();
            let body = cloud.call("POST", path, token, body).await.expect(201);
            body[&noun]["id"].as_str().unwrap().to_owned()
        };
        let domain = made("/v3/domains", &admin, json!({"domain": {"name": "d"}})).await;
        let boss = made(
            "/v3/users",
            &admin,
            json!({"user": {"name": "boss", "password": "pw", "domain_id": domain}}),
        )
        .await;
        let manager = cloud.role("manager").await;
        let grant = format!("/v3/domains/{domain}/users/{boss}/roles/{manager}");
        cloud.call("PUT", &grant, &admin, Value::Null).await.expect(204);
        let identity = json!({"methods": ["password"], "password": {"user": {"id": boss, "password": "pw"}}});
        let token = token_of(&cloud, identity.clone(), json!({"domain": {"id": domain}})).await;
        // A role on a domain is none on the project of the same id.
        assert_eq!(cloud.auth(identity, json!({"project": {"id": domain}})).await.status, 401);

        // In the domain.
        let user = made("/v3/users", &token, json!({"user": {"name": "u", "domain_id": domain}})).await;
        let project =
            made("/v3/projects", &token, json!({"project": {"name": "p", "domain_id": domain}})).await;
        let member = cloud.role("member").await;
        let path = format!("/v3/projects/{project}/users/{user}/roles");
        cloud.call("PUT", &format!("{path}/{member}"), &token, Value::Null).await.expect(204);
        let listed = cloud.get("/v3/users", &token).await.expect(200);
        assert!(listed["users"].as_array().unwrap().iter().all(|u| u["domain_id"] == *domain));
        assert_eq!(
            cloud.get("/v3/domains", &token).await.expect(200)["domains"].as_array().unwrap().len(),
            1
        );

        // Beyond it, or above himself.
        let admin_role = cloud.role("admin").await;
        let (outside, stranger) = cloud.tenant("ann", &["member"]).await;
        let refused = async |method: &str, path: String, body: Value| {
            let reply = cloud.call(method, &path, &token, body).await;
            assert_eq!(reply.status, 403, "{method} {path}: {}", reply.body);
        };
        refused("PUT", format!("{path}/{admin_role}"), Value::Null).await;
        refused("PUT", format!("/v3/domains/{domain}/users/{boss}/roles/{admin_role}"), Value::Null).await;
        refused("PUT", format!("/v3/projects/{outside}/users/{user}/roles/{member}"), Value::Null).await;
        refused("PUT", format!("/v3/projects/{project}/users/{stranger}/roles/{member}"), Value::Null).await;
        refused("PUT", format!("/v3/system/users/{boss}/roles/{member}"), Value::Null).await;
        refused("POST", "/v3/users".into(), json!({"user": {"name": "x", "domain_id": "default"}})).await;
        refused("PATCH", format!("/v3/users/{stranger}"), json!({"user": {"password": "mine"}})).await;
        refused("DELETE", format!("/v3/users/{stranger}"), Value::Null).await;
        refused("GET", format!("/v3/users/{stranger}"), Value::Null).await;
        refused("GET", format!("/v3/projects/{outside}"), Value::Null).await;
        refused("POST", "/v3/projects".into(), json!({"project": {"name": "x", "domain_id": "default"}}))
            .await;
        refused("POST", "/v3/projects".into(), json!({"project": {"name": "x", "is_domain": true}})).await;
        refused("PATCH", format!("/v3/domains/{domain}"), json!({"domain": {"name": "x"}})).await;
        refused("PATCH", format!("/v3/projects/{domain}"), json!({"project": {"name": "x"}})).await;
        refused("DELETE", format!("/v3/projects/{domain}"), Value::Null).await;
        refused("POST", "/v3/roles".into(), json!({"role": {"name": "x"}})).await;
        // Moving a user of his elsewhere is no way out.
        let moved = json!({"user": {"domain_id": "default"}});
        assert_eq!(cloud.call("PATCH", &format!("/v3/users/{user}"), &token, moved).await.status, 400);
    }
}

#[tokio::test]
async fn roles_cannot_be_made_to_imply_the_clouds_admin() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let role = cloud.call("POST", "/v3/roles", &admin, json!({"role": {"name": "r"}})).await.expect(201);
        let role = role["role"]["id"].as_str().unwrap().to_owned();
        let (admin_role, member) = (cloud.role("admin").await, cloud.role("member").await);
        let imply = async |prior: &str, implied: &str| {
            cloud
                .call("PUT", &format!("/v3/roles/{prior}/implies/{implied}"), &admin, Value::Null)
                .await
                .status
        };
        assert_eq!(imply(&role, &admin_role).await, 403);
        assert_eq!(imply(&role, &member).await, 201);
        assert_eq!(imply(&member, &role).await, 400, "a circle");
        let change = json!({"role": {"name": "king"}});
        let path = format!("/v3/roles/{admin_role}");
        assert_eq!(cloud.call("PATCH", &path, &admin, change).await.status, 403, "immutable");
        assert_eq!(cloud.call("DELETE", &path, &admin, Value::Null).await.status, 403, "immutable");
    }
}

#[tokio::test]
async fn two_methods_must_mean_one_user() {
    for cloud in clouds().await {
        cloud.tenant("ann", &["member"]).await;
        let ann = cloud.tenant_token("ann").await;
        let mut both = by_password("admin", PASSWORD);
        both["methods"] = json!(["token", "password"]);
        both["token"] = json!({"id": ann});
        assert_eq!(cloud.auth(both, Value::Null).await.status, 401);
    }
}
