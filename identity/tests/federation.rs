//! Federation against a provider that says whatever a test wants, forgeries included.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod idp;

use common::{Cloud, by_token};
use http::Request;
use identity::Federation;
use idp::{DOOR, Idp, Key, enter, group, group_with, patch, project_scope, put, token};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

/// A user by its name at the provider, its groups by name, and for those of `staff` a project.
fn rules() -> Value {
    json!([
        {"local": [{"user": {"name": "{0}", "email": "{1}"}}],
            "remote": [{"type": "OIDC-preferred_username"}, {"type": "OIDC-email"}]},
        {"local": [{"groups": "{0}", "domain": {"id": "default"}}],
            "remote": [{"type": "OIDC-groups", "blacklist": ["secret"]}]},
        {"local": [{"projects": [{"name": "Dev of {0}", "roles": [{"name": "member"}]}]}],
            "remote": [{"type": "OIDC-preferred_username"}, {"type": "OIDC-groups", "any_one_of": ["staff"]}]},
    ])
}

async fn federated() -> (Idp, Vec<(Cloud, String)>) {
    idp::clouds(rules()).await
}

#[tokio::test]
async fn from_a_providers_token_to_a_project() {
    let (idp, clouds) = federated().await;
    for (cloud, admin) in clouds {
        let (group, project) = group_with(&cloud, &admin, "ops", "ops-p", "member").await;
        let reply =
            enter(&cloud, &idp.token_with("ann", json!({"groups": ["ops", "secret", "unknown"]}))).await;
        let unscoped = token(&reply);
        let t = &reply.body["token"];
        assert_eq!(t["methods"], json!(["openid"]));
        assert!(t["project"].is_null() && t["roles"].is_null() && t["catalog"].is_null());
        let from = json!({"identity_provider": {"id": "corp"}, "protocol": {"id": "openid"}, "groups": [{"id": group}]});
        assert_eq!(t["user"]["OS-FEDERATION"], from);
        assert_eq!(t["user"]["name"], "ann");
        let user = t["user"]["id"].as_str().unwrap().to_owned();
        assert_eq!(user.len(), 64);

        // Where it may go, by both of upstream's paths.
        for path in ["/v3/auth/projects", "/v3/OS-FEDERATION/projects"] {
            let found = cloud.get(path, &unscoped).await.expect(200);
            assert_eq!(found["projects"][0]["id"], *project, "{found}");
        }
        assert_eq!(cloud.get("/v3/OS-FEDERATION/domains", &unscoped).await.expect(200)["domains"], json!([]));

        let scoped = cloud.auth(by_token(&unscoped), project_scope(&project)).await;
        let t = &scoped.body["token"];
        assert_eq!((&t["project"]["id"], &t["methods"]), (&json!(project), &json!(["openid", "token"])));
        assert_eq!(t["user"]["OS-FEDERATION"], from);
        assert_eq!(
            t["expires_at"], reply.body["token"]["expires_at"],
            "it ends with the one it was made from"
        );
        let scoped = token(&scoped);
        let seen = cloud.token("GET", &admin, &scoped).await.expect(200);
        assert_eq!(seen["token"]["user"]["OS-FEDERATION"], from);
        // Elsewhere it has nothing.
        let other = cloud.identity.ensure_project("other").await.unwrap();
        cloud.auth(by_token(&unscoped), project_scope(&other)).await.expect(401);

        // The same person has the same id, and comes with what the provider says then.
        let again = enter(&cloud, &idp.token("ann")).await;
        assert_eq!(again.body["token"]["user"]["id"], *user);
        assert_eq!(again.body["token"]["user"]["OS-FEDERATION"]["groups"], json!([]));
        cloud.auth(by_token(&token(&again)), project_scope(&project)).await.expect(401);
        let shown = cloud.get(&format!("/v3/users/{user}"), &admin).await.expect(200);
        let names = json!([{"idp_id": "corp", "protocols": [{"protocol_id": "openid", "unique_id": "ann"}]}]);
        assert_eq!(
            (&shown["user"]["federated"], &shown["user"]["email"]),
            (&names, &json!("ann@corp.example"))
        );

        // Without the group there is no role; without the provider no token.
        cloud.call("DELETE", &format!("/v3/groups/{group}"), &admin, Value::Null).await.expect(204);
        cloud.token("GET", &admin, &scoped).await.expect(404);
        cloud.token("GET", &admin, &unscoped).await.expect(200);
        let off = json!({"identity_provider": {"enabled": false}});
        patch(&cloud, &admin, "identity_providers/corp", off).await.expect(200);
        cloud.token("GET", &admin, &unscoped).await.expect(404);
        let refused = enter(&cloud, &idp.token("ann")).await;
        assert_eq!((refused.status.as_u16(), refused.message()), (403, "Identity Provider corp is disabled"));
    }
}

#[tokio::test]
async fn projects_are_made_and_memberships_last_as_long_as_the_provider_says() {
    let (idp, clouds) = federated().await;
    for (cloud, admin) in clouds {
        let reply = enter(&cloud, &idp.token_with("bob", json!({"groups": ["staff"]}))).await;
        let unscoped = token(&reply);
        let user = reply.body["token"]["user"]["id"].as_str().unwrap().to_owned();
        let found = cloud.get("/v3/auth/projects", &unscoped).await.expect(200);
        assert_eq!(found["projects"][0]["name"], "Dev of bob");
        let home = cloud.get("/v3/OS-FEDERATION/identity_providers/corp", &admin).await.expect(200);
        assert_eq!(found["projects"][0]["domain_id"], home["identity_provider"]["domain_id"]);
        enter(&cloud, &idp.token_with("bob", json!({"groups": ["staff"]}))).await.expect(201);
        let all = cloud.get("/v3/auth/projects", &unscoped).await.expect(200);
        assert_eq!(all["projects"].as_array().unwrap().len(), 1);

        // For an hour the membership is the user's, so that what it makes with it goes on working.
        let (group, project) = group_with(&cloud, &admin, "ops", "ops-p", "member").await;
        let hour = json!({"identity_provider": {"authorization_ttl": 60}});
        let shown = patch(&cloud, &admin, "identity_providers/corp", hour).await.expect(200);
        assert_eq!(shown["identity_provider"]["authorization_ttl"], 60);
        let reply = enter(&cloud, &idp.token_with("bob", json!({"groups": ["ops"]}))).await;
        let scoped = token(&cloud.auth(by_token(&token(&reply)), project_scope(&project)).await);
        let wanted = json!({"application_credential": {"name": "ci", "secret": "s3cret"}});
        let path = format!("/v3/users/{user}/application_credentials");
        let made = cloud.call("POST", &path, &scoped, wanted).await.expect(201);
        let by_app = json!({"methods": ["application_credential"], "application_credential":
            {"id": made["application_credential"]["id"], "secret": "s3cret"}});
        cloud.auth(by_app.clone(), Value::Null).await.expect(201);
        let members = cloud.get(&format!("/v3/groups/{group}/users"), &admin).await.expect(200);
        assert_eq!(members["users"][0]["id"], *user);
        let groups = cloud.get(&format!("/v3/users/{user}/groups"), &admin).await.expect(200);
        assert_eq!(groups["groups"][0]["id"], *group);

        // When the hour is over, so is that.
        cloud
            .sql("UPDATE identity_expiring_members SET expires_at = verified_at WHERE user_id = $1", &[&user])
            .await;
        let other = cloud.sibling().await;
        other.auth(by_app.clone(), Value::Null).await.expect(401);
        // A login that does not name the group ends it at once, one that does begins it anew.
        enter(&cloud, &idp.token_with("bob", json!({"groups": ["ops"]}))).await.expect(201);
        cloud.auth(by_app.clone(), Value::Null).await.expect(201);
        enter(&cloud, &idp.token("bob")).await.expect(201);
        cloud.auth(by_app.clone(), Value::Null).await.expect(401);

        // With the provider go its users and all that is theirs.
        enter(&cloud, &idp.token_with("bob", json!({"groups": ["ops"]}))).await.expect(201);
        cloud
            .call("DELETE", "/v3/OS-FEDERATION/identity_providers/corp", &admin, Value::Null)
            .await
            .expect(204);
        cloud.auth(by_app, Value::Null).await.expect(401);
        cloud.get(&format!("/v3/users/{user}"), &admin).await.expect(404);
    }
}

#[tokio::test]
async fn no_forged_token_opens_the_door() {
    let (idp, clouds) = federated().await;
    let now = state::Timestamp::now().secs();
    let stranger = Key::new("k1");
    let unknown = Key::new("k9");
    let claims = idp.claims("ann");
    let good = idp.token("ann");
    let (body, signature) = good.rsplit_once('.').unwrap();
    let b64 = |v: &Value| {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(v.to_string())
    };
    let swapped = format!("{}.{}.{signature}", good.split('.').next().unwrap(), b64(&idp.claims("root")));
    let none = |alg: &str| format!("{}.{}.", b64(&json!({"alg": alg})), b64(&claims));
    let header = |more: Value| {
        let mut header = json!({"alg": "ES256", "typ": "JWT", "kid": "k1"});
        for (k, v) in more.as_object().unwrap() {
            header[k] = v.clone();
        }
        header
    };
    let own = json!({"jwk": stranger.jwk(), "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/"});
    let mut forged: Vec<(&str, String)> = vec![
        ("another key of the same id", stranger.token(&claims)),
        ("an unknown key", unknown.token(&claims)),
        ("claims of somebody else", swapped),
        ("no signature", format!("{body}.")),
        ("half a signature", format!("{body}.{}", &signature[..40])),
        ("alg none", none("none")),
        ("alg None", none("None")),
        ("a shared secret", idp.key.sign(&header(json!({"alg": "HS256"})), &claims)),
        ("another algorithm than the key's", idp.key.sign(&header(json!({"alg": "RS256"})), &claims)),
        ("a key in the header", stranger.sign(&header(own), &claims)),
        ("a critical extension", idp.key.sign(&header(json!({"crit": ["b64"], "b64": false})), &claims)),
        ("a logout token", idp.key.sign(&header(json!({"typ": "logout+jwt"})), &claims)),
        ("five parts", format!("{good}.x.y")),
        ("nothing", String::new()),
        ("nonsense", "a.b.c".into()),
        ("too long", "x".repeat(100_000)),
    ];
    for (why, more) in [
        ("another issuer", json!({"iss": "http://127.0.0.1:9/"})),
        ("an issuer with a slash more", json!({"iss": format!("{}/", idp.issuer)})),
        ("an issuer of another type", json!({"iss": [idp.issuer]})),
        ("another audience", json!({"aud": "wiki"})),
        ("audiences without us", json!({"aud": ["wiki", "mail", 5]})),
        ("no audience", json!({"aud": null})),
        ("expired", json!({"exp": now - 120})),
        ("no end", json!({"exp": null})),
        ("an end of another type", json!({"exp": "9999999999"})),
        ("not yet", json!({"nbf": now + 600})),
        ("issued in the future", json!({"iat": now + 600})),
        ("nobody", json!({"sub": ""})),
    ] {
        forged.push((why, idp.token_with("ann", more)));
    }
    for (cloud, _) in clouds {
        enter(&cloud, &good).await.expect(201);
        enter(&cloud, &idp.token_with("ann", json!({"aud": ["wiki", "aquifer"]}))).await.expect(201);
        for (why, bearer) in &forged {
            let reply = enter(&cloud, bearer).await;
            assert_eq!(reply.status, 401, "{why}: {}", reply.body);
            assert!(!reply.headers.contains_key("x-subject-token"), "{why}");
        }
        let bare = cloud.raw("POST", DOOR, None, "").await;
        assert_eq!(
            (bare.status.as_u16(), &bare.headers["www-authenticate"]),
            (401, &"Bearer".parse().unwrap())
        );
        // Another's door has no key to it.
        let other = DOOR.replace("corp", "elsewhere");
        let request = Request::builder().method("GET").uri(format!("/identity{other}"));
        let reply = cloud
            .send(request.header("authorization", format!("Bearer {good}")).body("".into()).unwrap())
            .await;
        assert_eq!(reply.status, 404);
    }
}

#[tokio::test]
async fn keys_rotate_and_the_provider_may_be_away() {
    let (idp, clouds) = federated().await;
    for (cloud, _) in clouds {
        *idp.said.keys.lock().unwrap() = vec![idp.key.jwk()];
        idp.said.down.store(true, Ordering::SeqCst);
        let away = enter(&cloud, &idp.token("ann")).await;
        assert_eq!(away.status, 503, "{}", away.body);
        idp.said.down.store(false, Ordering::SeqCst);
        enter(&cloud, &idp.token("ann")).await.expect(201);
        let next = Key::new("k2");
        *idp.said.keys.lock().unwrap() =
            vec![next.jwk(), json!({"kty": "oct", "k": "c2VjcmV0", "kid": "k3"})];
        enter(&cloud, &next.token(&idp.claims("ann"))).await.expect(201);
        enter(&cloud, &idp.token("ann")).await.expect(401);
        // What is known stays good while it is away.
        idp.said.down.store(true, Ordering::SeqCst);
        enter(&cloud, &next.token(&idp.claims("bob"))).await.expect(201);
        idp.said.down.store(false, Ordering::SeqCst);
        // Nonsense does not make us ask for each.
        let before = idp.said.keys_read.load(Ordering::SeqCst);
        for n in 0..20 {
            enter(&cloud, &Key::new(&format!("x{n}")).token(&idp.claims("ann"))).await.expect(401);
        }
        assert!(idp.said.keys_read.load(Ordering::SeqCst) - before <= 6);
    }
}

/// Those who come while a provider does not answer wait for one answer, not one after the other.
#[tokio::test]
async fn a_provider_that_does_not_answer_holds_nobody_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (idp, clouds) = federated().await;
    let (cloud, _) = clouds.into_iter().next().unwrap();
    let oidc = identity::OidcProvider {
        discovery_url: format!("http://{}/", silent.local_addr().unwrap()),
        ..idp.config()
    };
    let cloud = cloud.sibling_with(Federation { oidc: vec![oidc], ..Federation::default() }).await;
    let (cloud, bearer) = (&cloud, &idp.token("ann"));
    let began = std::time::Instant::now();
    let all = futures::future::join_all((0..8).map(|_| enter(cloud, bearer))).await;
    assert!(all.iter().all(|reply| reply.status == 503));
    assert!(began.elapsed().as_secs() < 12, "{:?}", began.elapsed());
}

#[tokio::test]
async fn opaque_tokens_are_asked_about() {
    let (idp, clouds) = federated().await;
    let now = state::Timestamp::now().secs();
    let good = json!({"active": true, "sub": "ann", "client_id": "aquifer", "exp": now + 60});
    let say = |token: &str, more: Value| {
        let mut said = good.clone();
        for (k, v) in more.as_object().unwrap() {
            said[k] = v.clone();
        }
        idp.said.introspection.lock().unwrap().insert(token.into(), said);
        let about = json!({"sub": "ann", "preferred_username": "ann", "email": "a@x", "groups": ["ops"]});
        idp.said.userinfo.lock().unwrap().insert(token.into(), about);
    };
    say("good", json!({}));
    say("other-client", json!({"client_id": "wiki"}));
    say("other-audience", json!({"aud": ["wiki"]}));
    say("other-issuer", json!({"iss": "https://else.example"}));
    say("expired", json!({"exp": now - 600}));
    say("ended", json!({"active": false}));
    say("odd", json!({"active": "true"}));
    say("somebody-else", json!({"sub": "eve"}));
    for (cloud, admin) in clouds {
        let id = group(&cloud, &admin, "ops").await;
        let reply = enter(&cloud, "good").await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        assert_eq!(reply.body["token"]["user"]["OS-FEDERATION"]["groups"], json!([{"id": id}]));
        for bad in [
            "other-client",
            "other-audience",
            "other-issuer",
            "expired",
            "ended",
            "odd",
            "somebody-else",
            "unknown",
        ] {
            assert_eq!(enter(&cloud, bad).await.status, 401, "{bad}");
        }
    }
}

/// A provider names people as it likes; that makes nobody of this cloud of them.
#[tokio::test]
async fn nobody_becomes_another_by_its_name() {
    let (idp, clouds) = federated().await;
    for (cloud, admin) in clouds {
        let home = cloud.get("/v3/OS-FEDERATION/identity_providers/corp", &admin).await.expect(200);
        let home = home["identity_provider"]["domain_id"].clone();
        let wanted = json!({"user": {"name": "boss", "domain_id": home, "password": "pw"}});
        let boss = cloud.call("POST", "/v3/users", &admin, wanted).await.expect(201)["user"]["id"].clone();
        let victim = cloud.get("/v3/users?name=admin", &admin).await.expect(200)["users"][0]["id"].clone();

        // The name of a user of the same domain, of the cloud's admin, and an admin's id.
        let by_id = json!([{"local": [{"user": {"id": "{0}", "name": "admin", "domain": {"id": "default"}}}],
            "remote": [{"type": "OIDC-preferred_username"}]}]);
        for (rules, sub) in [(rules(), "boss"), (rules(), "admin"), (by_id, victim.as_str().unwrap())] {
            patch(&cloud, &admin, "mappings/corp", json!({"mapping": {"rules": rules}})).await.expect(200);
            let reply = enter(&cloud, &idp.token(sub)).await;
            let unscoped = token(&reply);
            let id = &reply.body["token"]["user"]["id"];
            assert!(*id != boss && *id != victim && id.as_str().unwrap().len() == 64, "{sub}");
            assert_eq!(
                cloud.get("/v3/auth/projects", &unscoped).await.expect(200)["projects"],
                json!([]),
                "{sub}"
            );
            cloud.auth(by_token(&unscoped), json!({"system": {"all": true}})).await.expect(401);
        }
        // A password login by that name means the user who has a password.
        let login = json!({"methods": ["password"], "password": {"user": {"name": "boss", "domain": {"id": home},
            "password": "pw"}}});
        let reply = cloud.auth(login, Value::Null).await;
        assert_eq!(reply.body["token"]["user"]["id"], boss, "{}", reply.body);

        // Two providers of one domain that know somebody by the same name know two people.
        let second = json!({"identity_provider": {"enabled": true, "domain_id": home}});
        put(&cloud, &admin, "identity_providers/second", second).await.expect(201);
        let same = json!({"identity_provider": {"remote_ids": [idp.issuer]}});
        let clash = patch(&cloud, &admin, "identity_providers/second", same).await;
        assert_eq!(clash.status, 409, "{}", clash.body);
        let (ours, door) = ("identity_providers/%3Cb%3E", DOOR.replace("corp", "%3Cb%3E"));
        let third = json!({"identity_provider": {"enabled": true, "domain_id": home}});
        put(&cloud, &admin, ours, third).await.expect(201);
        let protocol = json!({"protocol": {"mapping_id": "corp"}});
        put(&cloud, &admin, &format!("{ours}/protocols/openid"), protocol).await.expect(201);
        patch(&cloud, &admin, "mappings/corp", json!({"mapping": {"rules": rules()}})).await.expect(200);
        let request = Request::builder().method("GET").uri(format!("/identity{door}"));
        let request = request.header("authorization", format!("Bearer {}", idp.token("cat")));
        let there = cloud.send(request.body("".into()).unwrap()).await;
        let here = enter(&cloud, &idp.token("cat")).await;
        for reply in [&there, &here] {
            assert_eq!((reply.status.as_u16(), &reply.body["token"]["user"]["name"]), (201, &json!("cat")));
        }
        assert_ne!(there.body["token"]["user"]["id"], here.body["token"]["user"]["id"]);

        // Only where the operator's mapping says `local` is somebody a user of this cloud, and only one that exists.
        let local = json!([{"local": [{"user": {"name": "{0}", "type": "local", "domain": {"id": home}}}],
            "remote": [{"type": "OIDC-preferred_username"}]}]);
        patch(&cloud, &admin, "mappings/corp", json!({"mapping": {"rules": local}})).await.expect(200);
        let reply = enter(&cloud, &idp.token("boss")).await;
        assert_eq!(reply.body["token"]["user"]["id"], boss, "{}", reply.body);
        assert!(reply.body["token"]["user"]["OS-FEDERATION"].is_null());
        enter(&cloud, &idp.token("admin")).await.expect(401);
        cloud
            .call(
                "PATCH",
                &format!("/v3/users/{}", boss.as_str().unwrap()),
                &admin,
                json!({"user": {"enabled": false}}),
            )
            .await
            .expect(200);
        enter(&cloud, &idp.token("boss")).await.expect(401);
    }
}

#[tokio::test]
async fn the_provider_must_be_known_by_what_it_calls_itself() {
    let (idp, clouds) = federated().await;
    for (cloud, admin) in clouds {
        let ids = |ids: Value| json!({"identity_provider": {"remote_ids": ids}});
        patch(&cloud, &admin, "identity_providers/corp", ids(json!(["https://other.example"])))
            .await
            .expect(200);
        let reply = enter(&cloud, &idp.token("ann")).await;
        let text = "Incoming identity provider identifier not included among the accepted identifiers.";
        assert_eq!((reply.status.as_u16(), reply.message()), (403, text));
        patch(&cloud, &admin, "identity_providers/corp", ids(json!(["acme"]))).await.expect(200);
        let protocol = json!({"protocol": {"mapping_id": "corp", "remote_id_attribute": "OIDC-tenant"}});
        let path = "identity_providers/corp/protocols/openid";
        patch(&cloud, &admin, path, protocol).await.expect(200);
        enter(&cloud, &idp.token("ann")).await.expect(400);
        enter(&cloud, &idp.token_with("ann", json!({"tenant": "evil"}))).await.expect(403);
        enter(&cloud, &idp.token_with("ann", json!({"tenant": "acme"}))).await.expect(201);
        // A mapping that does not apply, and one that gives what there is not.
        let none = json!([{"local": [{"user": {"name": "x"}}], "remote": [{"type": "OIDC-absent"}]}]);
        patch(&cloud, &admin, "mappings/corp", json!({"mapping": {"rules": none}})).await.expect(200);
        enter(&cloud, &idp.token_with("ann", json!({"tenant": "acme"}))).await.expect(400);
        for (local, status) in [
            (json!({"group": {"id": "nope"}}), 403),
            (json!({"projects": [{"name": "p", "roles": [{"name": "nope"}]}]}), 404),
            (json!({"user": {"name": "{7}"}}), 403),
            (json!({"user": {"name": "u", "domain": {"name": "nope"}}}), 404),
            (json!({"user": {"name": "x".repeat(300)}}), 400),
        ] {
            let rules = json!([{"local": [local], "remote": [{"type": "OIDC-sub"}]}]);
            patch(&cloud, &admin, "mappings/corp", json!({"mapping": {"rules": rules}})).await.expect(200);
            enter(&cloud, &idp.token_with("ann", json!({"tenant": "acme"}))).await.expect(status);
        }
    }
}

#[tokio::test]
async fn the_resources() {
    for cloud in common::clouds().await {
        let admin = cloud.admin().await;
        let call = async |method: &str, path: &str, body: Value| {
            cloud.call(method, &format!("/v3/OS-FEDERATION/{path}"), &admin, body).await
        };
        let base = "http://cloud.example:5000/identity/v3/OS-FEDERATION";
        // Identity providers.
        let made = call(
            "PUT",
            "identity_providers/acme",
            json!({"identity_provider": {"description": "A",
            "remote_ids": ["r1", "r2"]}}),
        )
        .await
        .expect(201);
        let p = &made["identity_provider"];
        assert_eq!((&p["enabled"], &p["remote_ids"]), (&json!(false), &json!(["r1", "r2"])));
        assert_eq!(
            p["links"],
            json!({"self": format!("{base}/identity_providers/acme"),
            "protocols": format!("{base}/identity_providers/acme/protocols")})
        );
        let domain =
            cloud.get(&format!("/v3/domains/{}", p["domain_id"].as_str().unwrap()), &admin).await.expect(200);
        assert!(domain["domain"]["description"].as_str().unwrap().contains("acme"));
        let domains =
            async || cloud.get("/v3/domains", &admin).await.expect(200)["domains"].as_array().unwrap().len();
        let before = domains().await;
        let again = call("PUT", "identity_providers/acme", json!({"identity_provider": {}})).await;
        assert_eq!(again.status, 409);
        let clash =
            call("PUT", "identity_providers/two", json!({"identity_provider": {"remote_ids": ["r1"]}})).await;
        assert_eq!(clash.status, 409);
        assert_eq!(domains().await, before, "what is refused leaves no domain behind");
        for bad in [
            json!({"name": "x"}),
            json!({"enabled": "yes"}),
            json!({"remote_ids": ["a", "a"]}),
            json!({"authorization_ttl": -1}),
            json!({"remote_ids": "r"}),
        ] {
            call("PUT", "identity_providers/bad", json!({"identity_provider": bad})).await.expect(400);
        }
        call("PATCH", "identity_providers/acme", json!({"identity_provider": {"domain_id": "default"}}))
            .await
            .expect(400);
        let on = call(
            "PATCH",
            "identity_providers/acme",
            json!({"identity_provider": {"enabled": true, "remote_ids": ["r3"]}}),
        );
        let on = on.await.expect(200);
        assert_eq!(
            (&on["identity_provider"]["enabled"], &on["identity_provider"]["remote_ids"]),
            (&json!(true), &json!(["r3"]))
        );
        let all = call("GET", "identity_providers?enabled=true", Value::Null).await.expect(200);
        assert_eq!(all["identity_providers"][0]["id"], "acme");
        assert_eq!(
            call("GET", "identity_providers?id=none", Value::Null).await.expect(200)["identity_providers"],
            json!([])
        );
        // Mappings.
        let rules = json!([{"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "X"}]}]);
        let made = call("PUT", "mappings/m", json!({"mapping": {"rules": rules}})).await.expect(201);
        assert_eq!(
            made["mapping"],
            json!({"id": "m", "rules": rules, "schema_version": "1.0",
            "links": {"self": format!("{base}/mappings/m")}})
        );
        call("PUT", "mappings/m", json!({"mapping": {"rules": rules}})).await.expect(409);
        call("PUT", "mappings/n", json!({"mapping": {"rules": []}})).await.expect(400);
        call("PUT", "mappings/n", json!({"mapping": {"rules": rules, "schema_version": "9"}}))
            .await
            .expect(400);
        let two = json!({"mapping": {"rules": rules, "schema_version": "2.0"}});
        assert_eq!(call("PATCH", "mappings/m", two).await.expect(200)["mapping"]["schema_version"], "2.0");
        assert_eq!(call("GET", "mappings", Value::Null).await.expect(200)["mappings"][0]["id"], "m");
        // Protocols.
        let path = "identity_providers/acme/protocols/openid";
        let wanted = json!({"protocol": {"mapping_id": "m"}});
        let wrong = call("PUT", path, json!({"protocol": {"mapping_id": "nope"}})).await;
        assert_eq!((wrong.status.as_u16(), wrong.message()), (400, "Invalid mapping id: nope"));
        call("PUT", "identity_providers/none/protocols/openid", wanted.clone()).await.expect(404);
        let made = call("PUT", path, wanted.clone()).await.expect(201);
        assert_eq!(
            made["protocol"],
            json!({"id": "openid", "mapping_id": "m", "links": {
            "self": format!("{base}/{path}"), "identity_provider": format!("{base}/identity_providers/acme")}})
        );
        call("PUT", path, wanted).await.expect(409);
        let listed = call("GET", "identity_providers/acme/protocols", Value::Null).await.expect(200);
        assert_eq!(
            (&listed["protocols"][0]["idp_id"], &listed["protocols"][0]["id"]),
            (&json!("acme"), &json!("openid"))
        );
        call("DELETE", path, Value::Null).await.expect(204);
        let gone = call("GET", path, Value::Null).await;
        assert_eq!(
            (gone.status.as_u16(), gone.message()),
            (404, "Could not find federated protocol openid for Identity Provider: acme.")
        );
        // Service providers.
        let sp = json!({"service_provider": {"auth_url": "https://a.example/v3", "sp_url": "https://a.example/sp"}});
        let made = call("PUT", "service_providers/s", sp.clone()).await.expect(201);
        let made = &made["service_provider"];
        assert_eq!(
            (&made["enabled"], &made["relay_state_prefix"], &made["description"]),
            (&json!(false), &json!("ss:mem:"), &Value::Null)
        );
        call("PUT", "service_providers/t", json!({"service_provider": {"auth_url": "x"}})).await.expect(400);
        let on = call("PATCH", "service_providers/s", json!({"service_provider": {"enabled": true}}))
            .await
            .expect(200);
        assert_eq!(on["service_provider"]["enabled"], true);
        for path in ["service_providers/s", "mappings/m", "identity_providers/acme"] {
            call("DELETE", path, Value::Null).await.expect(204);
            call("GET", path, Value::Null).await.expect(404);
            call("DELETE", path, Value::Null).await.expect(404);
        }
        cloud.raw("GET", "/v3/OS-FEDERATION/saml2/metadata", None, "").await.expect(404);
        call("PUT", "mappings/%00", json!({"mapping": {"rules": rules}})).await.expect(404);
    }
}

/// No secret of the configuration shows where it is printed.
#[test]
fn the_configuration_hides_its_secrets() {
    let written = r#"
        [[oidc]]
        identity_provider = "corp"
        protocol = "openid"
        issuer = "https://idp.example"
        client_id = "aquifer"
        client_secret = "hunter2""#;
    let read: Federation = toml::from_str(written).unwrap();
    assert_eq!(read.oidc[0].client_secret.as_ref().unwrap().0, "hunter2");
    let shown = format!("{read:?} {}", toml::to_string(&read).unwrap());
    assert!(!shown.contains("hunter2") && shown.contains("corp"), "{shown}");
}
