//! What a federated token is and is not good for, and attempts to get more out of one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod idp;

use common::{Cloud, by_token};
use http::Request;
use idp::{DOOR, Idp, enter, group, group_with, patch, project_scope, put, token};
use serde_json::{Value, json};

/// Groups of the default domain, by the names that the provider gives.
async fn federated() -> (Idp, Vec<(Cloud, String)>) {
    idp::clouds(json!([
        {"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "OIDC-preferred_username"}]},
        {"local": [{"groups": "{0}", "domain": {"id": "default"}}], "remote": [{"type": "OIDC-groups"}]},
    ]))
    .await
}

fn by(method: &str, token: &str) -> Value {
    json!({"methods": [method], method: {"id": token}})
}

#[tokio::test]
async fn upstreams_methods_take_a_federated_token_only() {
    let (idp, clouds) = federated().await;
    for (cloud, admin) in clouds {
        let (_, project) = group_with(&cloud, &admin, "ops", "ops-p", "member").await;
        let unscoped = token(&enter(&cloud, &idp.token_with("ann", json!({"groups": ["ops"]}))).await);
        for method in ["saml2", "openid", "mapped"] {
            let scoped = cloud.auth(by(method, &unscoped), project_scope(&project)).await;
            let t = &scoped.body["token"];
            assert_eq!((scoped.status.as_u16(), &t["methods"]), (201, &json!(["openid"])), "{}", scoped.body);
            assert!(t["user"].get("password_expires_at").is_none(), "{t}");
            assert_eq!(t["roles"].as_array().unwrap().len(), 2, "member and reader: {t}");
            // A token of this cloud, no token at all, and what only a web server may say.
            cloud.auth(by(method, &admin), project_scope(&project)).await.expect(401);
            cloud.auth(by(method, "gAAAAnonsense"), project_scope(&project)).await.expect(404);
            let said = json!({"identity_provider": "corp", "protocol": "openid"});
            cloud.auth(json!({"methods": [method], method: said}), Value::Null).await.expect(400);
            cloud.auth(json!({"methods": [method]}), Value::Null).await.expect(400);
        }
        cloud.auth(json!({"methods": ["kerberos"]}), Value::Null).await.expect(401);
    }
}

/// Upstream's web server hands over what a provider said in variables, and a header that looks like one must be none.
#[tokio::test]
async fn headers_say_nothing() {
    let (idp, clouds) = federated().await;
    for (cloud, admin) in clouds {
        group_with(&cloud, &admin, "ops", "ops-p", "admin").await;
        let spoofed = [
            ("REMOTE_USER", "admin"),
            ("X-Remote-User", "admin"),
            ("OIDC-preferred_username", "admin"),
            ("OIDC-groups", "ops"),
            ("OIDC_CLAIM_groups", "ops"),
            ("OIDC-iss", idp.issuer.as_str()),
            ("X-User-Id", "admin"),
            ("X-Roles", "admin"),
            ("X-Is-Admin-Project", "true"),
            ("X-Identity-Status", "Confirmed"),
        ];
        let call = async |path: &str, bearer: Option<&str>| {
            let mut request = Request::builder().method("POST").uri(format!("/identity{path}"));
            for (name, value) in spoofed {
                request = request.header(name, value);
            }
            if let Some(bearer) = bearer {
                request = request.header("authorization", format!("Bearer {bearer}"));
            }
            cloud.send(request.body(axum::body::Body::empty()).unwrap()).await
        };
        call(DOOR, None).await.expect(401);
        let reply = call(DOOR, Some(&idp.token("ann"))).await;
        token(&reply);
        let user = &reply.body["token"]["user"];
        assert_eq!((&user["name"], &user["OS-FEDERATION"]["groups"]), (&json!("ann"), &json!([])));
    }
}

/// CVE-2017-2673: the roles of one of a federated user's projects are not those of its others. CVE-2018-14432: nobody is
/// shown projects that it cannot enter.
#[tokio::test]
async fn roles_stay_where_they_were_given() {
    let (idp, clouds) = federated().await;
    for (cloud, admin) in clouds {
        let (_, a) = group_with(&cloud, &admin, "readers", "a", "reader").await;
        let (_, b) = group_with(&cloud, &admin, "admins", "b", "admin").await;
        cloud.identity.ensure_project("hidden").await.unwrap();
        let both = json!({"groups": ["readers", "admins"]});
        let unscoped = token(&enter(&cloud, &idp.token_with("ann", both)).await);
        let on_a = cloud.auth(by_token(&unscoped), project_scope(&a)).await;
        let names: Vec<&str> = on_a.body["token"]["roles"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["reader"], "{}", on_a.body);
        // Neither by way of the other project, nor of the system or a domain.
        let on_b = token(&cloud.auth(by_token(&unscoped), project_scope(&b)).await);
        let again = cloud.auth(by_token(&on_b), project_scope(&a)).await;
        assert_eq!(again.body["token"]["roles"], on_a.body["token"]["roles"]);
        for scope in [json!({"system": {"all": true}}), json!({"domain": {"id": "default"}})] {
            cloud.auth(by_token(&unscoped), scope).await.expect(401);
        }
        for path in ["/v3/OS-FEDERATION/projects", "/v3/auth/projects"] {
            let found = cloud.get(path, &unscoped).await.expect(200);
            let mut ids: Vec<&str> =
                found["projects"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap()).collect();
            ids.sort_unstable();
            let mut wanted = [a.as_str(), b.as_str()];
            wanted.sort_unstable();
            assert_eq!(ids, wanted);
        }
        let alone = token(&enter(&cloud, &idp.token("eve")).await);
        for path in ["/v3/OS-FEDERATION/projects", "/v3/OS-FEDERATION/domains"] {
            let found = cloud.get(path, &alone).await.expect(200);
            assert!(found["projects"] == json!([]) || found["domains"] == json!([]), "{found}");
            cloud.raw("GET", path, None, "").await.expect(401);
        }
    }
}

/// A name that a provider's user chooses is a group only where the mapping says so, and only in the mapping's domain.
#[tokio::test]
async fn no_group_by_a_name() {
    let (idp, clouds) = federated().await;
    for (cloud, admin) in clouds {
        let (admins, _) = group_with(&cloud, &admin, "admins", "b", "admin").await;
        let made =
            cloud.call("POST", "/v3/domains", &admin, json!({"domain": {"name": "own"}})).await.expect(201);
        let own = made["domain"]["id"].clone();
        let confined = json!([{"local": [{"user": {"name": "{0}"}}, {"groups": "{1}", "domain": {"id": own}}],
            "remote": [{"type": "OIDC-preferred_username"}, {"type": "OIDC-groups"}]}]);
        patch(&cloud, &admin, "mappings/corp", json!({"mapping": {"rules": confined}})).await.expect(200);
        for said in [
            json!(["admins"]),
            json!("admins"),
            json!("['admins']"),
            json!("x;admins"),
            json!([admins]),
            json!(["{1}", "default:admins"]),
            json!([["admins"]]),
            json!([{"name": "admins", "domain": {"id": "default"}}]),
        ] {
            let reply = enter(&cloud, &idp.token_with("ann", json!({"groups": said}))).await;
            assert_eq!(reply.status, 201, "{}", reply.body);
            assert_eq!(reply.body["token"]["user"]["OS-FEDERATION"]["groups"], json!([]), "{said}");
        }
        // As many groups as a token carries, and no more.
        let many: Vec<String> = (0..101).map(|n| format!("g{n}")).collect();
        for name in &many {
            let wanted = json!({"group": {"name": name, "domain_id": own}});
            cloud.call("POST", "/v3/groups", &admin, wanted).await.expect(201);
        }
        enter(&cloud, &idp.token_with("ann", json!({"groups": many}))).await.expect(403);
        let reply = enter(&cloud, &idp.token_with("ann", json!({"groups": many[..100]}))).await;
        let long = token(&reply);
        assert!(long.len() < 8000, "{}", long.len());
        cloud.token("GET", &admin, &long).await.expect(200);
    }
}

/// What a token carries is not its user's, so nothing that outlives the token can be made of it.
#[tokio::test]
async fn nothing_lasting_comes_of_a_passing_membership() {
    let (idp, clouds) = federated().await;
    for (cloud, admin) in clouds {
        let (_, project) = group_with(&cloud, &admin, "ops", "ops-p", "member").await;
        let reply = enter(&cloud, &idp.token_with("ann", json!({"groups": ["ops"]}))).await;
        let user = reply.body["token"]["user"]["id"].as_str().unwrap().to_owned();
        let scoped = token(&cloud.auth(by_token(&token(&reply)), project_scope(&project)).await);

        let path = format!("/v3/users/{user}/application_credentials");
        for roles in [Value::Null, json!([{"name": "member"}])] {
            let mut wanted = json!({"application_credential": {"name": "ci", "secret": "s3cret"}});
            if roles.is_array() {
                wanted["application_credential"]["roles"] = roles;
            }
            cloud.call("POST", &path, &scoped, wanted).await.expect(400);
        }
        let (_, other) = cloud.tenant("bob", &["member"]).await;
        let member = cloud.role("member").await;
        let trust = json!({"trust": {"trustor_user_id": user, "trustee_user_id": other, "project_id": project,
            "impersonation": true, "roles": [{"id": member}]}});
        cloud.call("POST", "/v3/OS-TRUST/trusts", &scoped, trust).await.expect(403);
        // The token itself goes on, until its project's group loses the role.
        cloud.token("GET", &admin, &scoped).await.expect(200);
    }
}

#[tokio::test]
async fn who_was_deleted_does_not_get_its_tokens_back() {
    let (idp, clouds) = federated().await;
    for (cloud, admin) in clouds {
        let reply = enter(&cloud, &idp.token("ann")).await;
        let (old, user) = (token(&reply), reply.body["token"]["user"]["id"].as_str().unwrap().to_owned());
        cloud.call("DELETE", &format!("/v3/users/{user}"), &admin, Value::Null).await.expect(204);
        cloud.token("GET", &admin, &old).await.expect(404);
        let again = enter(&cloud, &idp.token("ann")).await;
        assert_eq!(again.body["token"]["user"]["id"], *user);
        cloud.token("GET", &admin, &old).await.expect(404);
        cloud.token("GET", &admin, &token(&again)).await.expect(200);
        // Disabled, it stays out.
        let off = json!({"user": {"enabled": false}});
        cloud.call("PATCH", &format!("/v3/users/{user}"), &admin, off).await.expect(200);
        enter(&cloud, &idp.token("ann")).await.expect(401);
        cloud.token("GET", &admin, &token(&again)).await.expect(404);
    }
}

/// An administrator ties users of this cloud to what a provider calls them.
#[tokio::test]
async fn tied_users() {
    let (idp, clouds) = federated().await;
    for (cloud, admin) in clouds {
        let (project, bob) = cloud.tenant("bob", &["member"]).await;
        let ties = |unique: &str| json!([{"idp_id": "corp", "protocols": [{"protocol_id": "openid", "unique_id": unique}]}]);
        let tie = async |user: &str, ties: Value| {
            cloud
                .call("PATCH", &format!("/v3/users/{user}"), &admin, json!({"user": {"federated": ties}}))
                .await
        };
        let tied = tie(&bob, ties("robert")).await.expect(200);
        assert_eq!(tied["user"]["federated"], ties("robert"));
        let reply = enter(&cloud, &idp.token("robert")).await;
        let t = &reply.body["token"];
        assert_eq!((&t["user"]["id"], &t["user"]["name"]), (&json!(bob), &json!("bob")), "it keeps its name");
        cloud.auth(by_token(&token(&reply)), project_scope(&project)).await.expect(201);
        let shown = cloud.get(&format!("/v3/users/{bob}"), &admin).await.expect(200);
        assert_eq!((&shown["user"]["federated"], &shown["user"]["name"]), (&ties("robert"), &json!("bob")));
        // It may be made so, is found so, and is one user's.
        let wanted = json!({"user": {"name": "carol", "federated": ties("caro")}});
        let made = cloud.call("POST", "/v3/users", &admin, wanted).await.expect(201)["user"].clone();
        assert_eq!(made["federated"], ties("caro"));
        assert_eq!(tie(made["id"].as_str().unwrap(), ties("robert")).await.status, 409);
        for (query, count) in [
            ("unique_id=caro", 1),
            ("idp_id=corp&protocol_id=openid", 2),
            ("idp_id=x", 0),
            ("idp_id=corp&unique_id=robert&name=bob", 1),
            ("unique_id=caro&name=bob", 0),
        ] {
            let found = cloud.get(&format!("/v3/users?{query}"), &admin).await.expect(200);
            assert_eq!(found["users"].as_array().unwrap().len(), count, "{query}");
        }
        for bad in [
            json!([{"idp_id": "none", "protocols": [{"protocol_id": "openid", "unique_id": "x"}]}]),
            json!([{"idp_id": "corp", "protocols": [{"protocol_id": "none", "unique_id": "x"}]}]),
            json!([{"idp_id": "corp"}]),
            json!([{"idp_id": "corp", "protocols": [{"protocol_id": "openid"}]}]),
            json!("corp"),
        ] {
            tie(&bob, bad.clone()).await.expect(400);
        }
        // Whom nobody is tied to is a user of its own; who was untied as well.
        tie(&bob, json!([])).await.expect(200);
        let reply = enter(&cloud, &idp.token("robert")).await;
        let own = reply.body["token"]["user"]["id"].as_str().unwrap().to_owned();
        assert_ne!(own, bob);
        tie(&own, json!([])).await.expect(200);
        assert_eq!(enter(&cloud, &idp.token("robert")).await.body["token"]["user"]["id"], *own);
        // It ties nobody to itself.
        let (_, eve) = cloud.tenant("eve", &["member"]).await;
        let eves = cloud.tenant_token("eve").await;
        let body = json!({"user": {"federated": ties("victim")}});
        cloud.call("PATCH", &format!("/v3/users/{eve}"), &eves, body).await.expect(403);
        // With the provider the tie goes, and the user of this cloud stays.
        cloud
            .call("DELETE", "/v3/OS-FEDERATION/identity_providers/corp", &admin, Value::Null)
            .await
            .expect(204);
        let left =
            cloud.get(&format!("/v3/users/{}", made["id"].as_str().unwrap()), &admin).await.expect(200);
        assert!(left["user"].get("federated").is_none());
        cloud.get(&format!("/v3/users/{own}"), &admin).await.expect(404);
    }
}

/// A tied user's membership that a provider vouched for ends as well.
#[tokio::test]
async fn a_tied_users_membership_ends() {
    let (idp, clouds) = federated().await;
    for (cloud, admin) in clouds {
        let (_, project) = group_with(&cloud, &admin, "ops", "ops-p", "member").await;
        let (_, bob) = cloud.tenant("bob", &["member"]).await;
        let ties = json!([{"idp_id": "corp", "protocols": [{"protocol_id": "openid", "unique_id": "bob"}]}]);
        let path = format!("/v3/users/{bob}");
        cloud.call("PATCH", &path, &admin, json!({"user": {"federated": ties}})).await.expect(200);
        let minute = json!({"identity_provider": {"authorization_ttl": 1}});
        patch(&cloud, &admin, "identity_providers/corp", minute).await.expect(200);
        enter(&cloud, &idp.token_with("bob", json!({"groups": ["ops"]}))).await.expect(201);
        // By its password it is in the group too, for that minute.
        let ends = state::Timestamp::now().micros() + 3_000_000;
        let sql = "UPDATE identity_expiring_members SET expires_at = CAST($1 AS BIGINT)";
        cloud.sql(sql, &[&ends.to_string()]).await;
        let mine = cloud.login("bob", "pw", project_scope(&project)).await.ok().expect("a member");
        cloud.token("GET", &admin, &mine).await.expect(200);
        let left = u64::try_from(ends - state::Timestamp::now().micros()).unwrap_or_default();
        tokio::time::sleep(std::time::Duration::from_micros(left + 1000)).await;
        cloud.token("GET", &admin, &mine).await.expect(404);
    }
}

#[tokio::test]
async fn tokens_name_the_clouds_that_believe_this_one() {
    for cloud in common::clouds().await {
        let admin = cloud.admin().await;
        let seen = async || {
            cloud.token("GET", &admin, &admin).await.expect(200)["token"]["service_providers"].clone()
        };
        assert_eq!(seen().await, Value::Null);
        let wanted = |enabled: bool| {
            json!({"service_provider": {"auth_url": "https://a.example/v3", "sp_url": "https://a.example/sp",
                "enabled": enabled}})
        };
        put(&cloud, &admin, "service_providers/off", wanted(false)).await.expect(201);
        assert_eq!(seen().await, Value::Null);
        put(&cloud, &admin, "service_providers/on", wanted(true)).await.expect(201);
        let all = json!([{"id": "on", "auth_url": "https://a.example/v3", "sp_url": "https://a.example/sp"}]);
        assert_eq!(seen().await, all);
        let unscoped = cloud.auth(by_token(&admin), json!("unscoped")).await;
        assert_eq!(unscoped.body["token"]["service_providers"], all);
        patch(&cloud, &admin, "service_providers/on", json!({"service_provider": {"enabled": false}}))
            .await
            .expect(200);
        assert_eq!(seen().await, Value::Null);
        group(&cloud, &admin, "unrelated").await;
    }
}
