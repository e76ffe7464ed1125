//! Users and groups that an LDAP directory keeps, with Debian's slapd.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod slapd;

use common::{Cloud, by_token, clouds, clouds_with, on_project};
use identity::{Config, LoginLimit};
use ldap3::Mod;
use serde_json::{Value, json};
use slapd::{Slapd, by_id, domain, listed, named, names, public, short, soon, token, user_dn};
use std::collections::HashSet;

#[tokio::test]
async fn who_logs_in() {
    let slapd = Slapd::start().await;
    for cloud in clouds().await {
        let id = domain(&cloud, "corp", &slapd.config()).await;
        let reply = cloud.auth(named("ann", "ann-pw"), Value::Null).await;
        let user = reply.body["token"]["user"].clone();
        assert_eq!(user["id"], public(&id, "user", "u1"), "upstream's generator");
        assert_eq!((&user["name"], &user["domain"]["name"]), (&json!("ann"), &json!("corp")));
        assert_eq!(user["password_expires_at"], Value::Null);
        let ann = user["id"].as_str().unwrap();
        let own = token(&cloud.auth(by_id(ann, "ann-pw"), Value::Null).await);
        assert_eq!(cloud.token("GET", &own, &own).await.status, 200);
        // A directory's names do not differ by case, and what it says is what is shown.
        let reply = cloud.auth(named("ANN", "ann-pw"), Value::Null).await;
        assert_eq!(reply.body["token"]["user"]["name"], "ann");

        // Every refusal is one text and costs one hash, whoever is asked for.
        let hashed = cloud.identity.passwords_hashed();
        let mut refused = Vec::new();
        for (name, password) in
            [("ann", "ann-pW"), ("nobody", "ann-pw"), ("bob", "bob-pw"), ("bob", "x"), ("ann", "")]
        {
            let reply = cloud.auth(named(name, password), Value::Null).await;
            refused.push((reply.status.as_u16(), reply.message().to_owned()));
        }
        assert_eq!(refused[0].0, 401);
        assert!(refused.iter().all(|r| *r == refused[0]), "{refused:?}");
        assert_eq!(cloud.identity.passwords_hashed() - hashed, 5);
        let reply = cloud.auth(by_id(ann, "wrong"), Value::Null).await;
        assert_eq!((reply.status.as_u16(), reply.message()), (401, refused[0].1.as_str()));
        // The default domain has its own users.
        assert!(cloud.login("ann", "ann-pw", Value::Null).await.is_err());
        cloud.admin().await;
    }
}

#[tokio::test]
async fn users_and_groups_are_listed() {
    let slapd = Slapd::start().await;
    slapd.modify(&user_dn("u1"), Mod::Add("description".into(), HashSet::from(["the boss".into()]))).await;
    for cloud in clouds().await {
        let id = domain(&cloud, "corp", &slapd.config()).await;
        let admin = cloud.admin().await;
        let users = format!("/v3/users?domain_id={id}");
        for (query, wanted) in [
            ("", &["ann", "bob", "cy"][..]),
            ("&name=cy", &["cy"]),
            ("&name=nobody", &[]),
            ("&name=*", &[]),
            ("&enabled=false", &["bob"]),
            ("&name__contains=n", &["ann"]),
            ("&name__startswith=b", &["bob"]),
        ] {
            assert_eq!(listed(&cloud, &admin, &format!("{users}{query}"), "users").await, wanted, "{query}");
        }
        let ann = public(&id, "user", "u1");
        let shown = cloud.get(&format!("/v3/users/{ann}"), &admin).await.expect(200);
        let links = shown["user"]["links"].clone();
        let wanted = json!({"id": ann, "name": "ann", "domain_id": id, "enabled": true, "email": "u1@corp.example",
            "description": "the boss", "options": {}, "default_project_id": null, "password_expires_at": null,
            "links": links});
        let mut got = shown["user"].clone();
        got.as_object_mut().unwrap().entry("default_project_id").or_insert(Value::Null);
        assert_eq!(got, wanted);
        // Pages, and the domain's own limit.
        let page = cloud.get(&format!("{users}&limit=2"), &admin).await.expect(200);
        assert_eq!(page["users"].as_array().unwrap().len(), 2);
        cloud
            .call(
                "PATCH",
                &format!("/v3/domains/{id}/config"),
                &admin,
                json!({"config": {"identity": {"list_limit": 1}}}),
            )
            .await
            .expect(200);
        let page = cloud.get(&users, &admin).await.expect(200);
        assert_eq!((page["users"].as_array().unwrap().len(), &page["truncated"]), (1, &json!(true)));

        let groups = format!("/v3/groups?domain_id={id}");
        assert_eq!(listed(&cloud, &admin, &format!("{groups}&name=staff"), "groups").await, ["staff"]);
        let staff = public(&id, "group", "staff");
        let empty = public(&id, "group", "empty");
        assert_eq!(cloud.get(&groups, &admin).await.expect(200)["groups"].as_array().unwrap().len(), 1);
        cloud
            .call("DELETE", &format!("/v3/domains/{id}/config/identity/list_limit"), &admin, Value::Null)
            .await
            .expect(204);
        assert_eq!(listed(&cloud, &admin, &groups, "groups").await, ["empty", "staff"]);
        assert_eq!(
            listed(&cloud, &admin, &format!("/v3/groups/{staff}/users"), "users").await,
            ["ann", "cy"]
        );
        assert_eq!(
            listed(&cloud, &admin, &format!("/v3/groups/{empty}/users"), "users").await,
            Vec::<String>::new()
        );
        assert_eq!(listed(&cloud, &admin, &format!("/v3/users/{ann}/groups"), "groups").await, ["staff"]);
        let member = async |group: &str, user: &str| {
            cloud
                .call("HEAD", &format!("/v3/groups/{group}/users/{user}"), &admin, Value::Null)
                .await
                .status
                .as_u16()
        };
        assert_eq!((member(&staff, &ann).await, member(&empty, &ann).await), (204, 404));
        assert_eq!(
            cloud.get(&format!("/v3/users/{}", public(&id, "user", "nobody")), &admin).await.status,
            404
        );
    }
}

#[tokio::test]
async fn roles_of_users_and_groups() {
    let slapd = Slapd::start().await;
    for cloud in clouds().await {
        let id = domain(&cloud, "corp", &slapd.config()).await;
        let admin = cloud.admin().await;
        let (project, _) = cloud.tenant("here", &["member"]).await;
        listed(&cloud, &admin, &format!("/v3/users?domain_id={id}"), "users").await;
        listed(&cloud, &admin, &format!("/v3/groups?domain_id={id}"), "groups").await;
        let (ann, cy) = (public(&id, "user", "u1"), public(&id, "user", "u3"));
        let staff = public(&id, "group", "staff");
        let (reader, member) = (cloud.role("reader").await, cloud.role("member").await);
        let give = async |kind: &str, who: &str, role: &str| {
            let path = format!("/v3/projects/{project}/{kind}/{who}/roles/{role}");
            cloud.call("PUT", &path, &admin, Value::Null).await.expect(204);
        };
        assert_eq!(cloud.auth(named("cy", "cy-pw"), on_project("here-p")).await.status, 401);
        give("users", &ann, &member).await;
        give("groups", &staff, &reader).await;
        let roles = async |name: &str| {
            let reply = cloud.auth(named(name, &format!("{name}-pw")), on_project("here-p")).await;
            assert_eq!(reply.status, 201, "{}", reply.body);
            names(&reply.body["token"], "roles")
        };
        assert_eq!(
            (roles("ann").await, roles("cy").await),
            (vec!["member".into(), "reader".into()], vec!["reader".into()])
        );
        let of_cy = format!("/v3/role_assignments?user.id={cy}&effective&include_names");
        let found = cloud.get(&of_cy, &admin).await.expect(200);
        assert_eq!(found["role_assignments"][0]["user"]["domain"]["name"], "corp");
        assert_eq!(found["role_assignments"][0]["role"]["name"], "reader");
        // Who has not been here yet is in the group all the same.
        let mut ldap = slapd.root().await;
        let (late, name) = (format!("late-{}", &id[..6]), "late");
        slapd.add_user(&mut ldap, &late, name, &[]).await;
        slapd.change("empty", Mod::Replace("member".into(), HashSet::from([user_dn(&late)]))).await;
        give("groups", &public(&id, "group", "empty"), &reader).await;
        let path = format!("/v3/role_assignments?scope.project.id={project}&effective");
        let found = cloud.get(&path, &admin).await.expect(200).to_string();
        assert!(found.contains(&public(&id, "user", &late)), "{found}");
        slapd.remove(&user_dn(&late)).await;
        let projects = token(&cloud.auth(named("cy", "cy-pw"), Value::Null).await);
        assert_eq!(listed(&cloud, &projects, "/v3/auth/projects", "projects").await, ["here-p"]);
        // An application credential of a user that is not kept here.
        let own = token(&cloud.auth(named("ann", "ann-pw"), on_project("here-p")).await);
        let made = cloud
            .call(
                "POST",
                &format!("/v3/users/{ann}/application_credentials"),
                &own,
                json!({"application_credential": {"name": "robot"}}),
            )
            .await
            .expect(201);
        let made = &made["application_credential"];
        let identity = json!({"methods": ["application_credential"],
            "application_credential": {"id": made["id"], "secret": made["secret"]}});
        assert_eq!(cloud.auth(identity.clone(), Value::Null).await.status, 201);
        slapd.set("u1", "employeeType", "FALSE").await;
        assert_eq!(cloud.auth(named("ann", "ann-pw"), Value::Null).await.status, 401, "at once");
        assert_eq!(cloud.auth(identity, Value::Null).await.status, 401, "and this one with it");
        slapd.set("u1", "employeeType", "TRUE").await;
    }
}

#[tokio::test]
async fn what_ends_in_the_directory_ends_here() {
    for (cloud, other) in Cloud::pairs(short).await {
        let slapd = Slapd::start().await;
        let id = domain(&cloud, "corp", &slapd.config()).await;
        let admin = cloud.admin().await;
        let (project, _) = cloud.tenant("here", &["member"]).await;
        listed(&cloud, &admin, &format!("/v3/groups?domain_id={id}"), "groups").await;
        let staff = public(&id, "group", "staff");
        let member = cloud.role("member").await;
        let path = format!("/v3/projects/{project}/groups/{staff}/roles/{member}");
        cloud.call("PUT", &path, &admin, Value::Null).await.expect(204);
        let login =
            async |name: &str, scope: Value| cloud.auth(named(name, &format!("{name}-pw")), scope).await;
        let scoped = token(&login("ann", on_project("here-p")).await);
        let plain = token(&login("ann", Value::Null).await);
        let of_cy = token(&login("cy", Value::Null).await);
        let good = async |t: &str| {
            use api::TokenValidator;
            (cloud.identity.validate(t).await.is_ok(), other.identity.validate(t).await.is_ok())
        };
        assert_eq!(
            (good(&scoped).await, good(&plain).await, good(&of_cy).await),
            ((true, true), (true, true), (true, true))
        );
        // An EC2 key of the same user.
        let ann = public(&id, "user", "u1");
        let key = cloud
            .call(
                "POST",
                &format!("/v3/users/{ann}/credentials/OS-EC2"),
                &scoped,
                json!({"tenant_id": project}),
            )
            .await
            .expect(201);
        let key = key["credential"]["access"].as_str().unwrap().to_owned();
        let signs = async || cloud.identity.s3_credential(&key).await.unwrap().is_some();
        assert!(signs().await);

        // Out of the group: the role goes, the user stays.
        slapd.change("staff", Mod::Delete("member".into(), HashSet::from([user_dn("u1")]))).await;
        soon("a role through a group ends", async || good(&scoped).await == (false, false) && !signs().await)
            .await;
        assert_eq!(good(&plain).await, (true, true));
        slapd.change("staff", Mod::Add("member".into(), HashSet::from([user_dn("u1")]))).await;
        soon("and comes back", async || good(&scoped).await == (true, true)).await;
        // Disabled, and enabled again.
        slapd.set("u1", "employeeType", "FALSE").await;
        soon("disabled", async || good(&plain).await == (false, false) && !signs().await).await;
        assert_eq!(cloud.auth(by_token(&plain), Value::Null).await.status, 404);
        slapd.set("u1", "employeeType", "TRUE").await;
        soon("enabled", async || good(&plain).await == (true, true)).await;
        let own = format!("/v3/projects/{project}/users/{ann}/roles/{member}");
        cloud.call("PUT", &own, &admin, Value::Null).await.expect(204);
        // Gone.
        slapd.remove(&user_dn("u1")).await;
        soon("gone", async || good(&plain).await == (false, false) && !signs().await).await;
        assert_eq!(cloud.get(&format!("/v3/users/{ann}"), &admin).await.status, 404);
        // Its roles can still be taken.
        let own = format!("/v3/projects/{project}/users/{ann}/roles/{member}");
        assert_eq!(cloud.call("DELETE", &own, &admin, Value::Null).await.status, 204);
        assert_eq!(cloud.call("DELETE", &own, &admin, Value::Null).await.status, 404);
        assert_eq!(cloud.call("PUT", &own, &admin, Value::Null).await.status, 404);
        assert_eq!(good(&of_cy).await, (true, true), "another's");
        // Somebody new with the name is somebody else.
        let mut ldap = slapd.root().await;
        slapd.add_user(&mut ldap, "u9", "ann", &[]).await;
        let new = login("ann", Value::Null).await;
        assert_eq!(new.body["token"]["user"]["id"], public(&id, "user", "u9"));
        assert_eq!(login("ann", on_project("here-p")).await.status, 401);
        // Two exchange their names.
        slapd.set("u9", "cn", "cy").await;
        slapd.set("u3", "cn", "ann").await;
        let all = format!("/v3/users?domain_id={id}");
        assert_eq!(listed(&cloud, &admin, &all, "users").await, ["ann", "bob", "cy"]);
        let shown = cloud.get(&format!("/v3/users/{}", public(&id, "user", "u3")), &admin).await.expect(200);
        assert_eq!(shown["user"]["name"], "ann");
    }
}

#[tokio::test]
async fn nothing_is_written() {
    let slapd = Slapd::start().await;
    for cloud in clouds().await {
        let id = domain(&cloud, "corp", &slapd.config()).await;
        let admin = cloud.admin().await;
        listed(&cloud, &admin, &format!("/v3/users?domain_id={id}"), "users").await;
        listed(&cloud, &admin, &format!("/v3/groups?domain_id={id}"), "groups").await;
        let (ann, staff) = (public(&id, "user", "u1"), public(&id, "group", "staff"));
        let (_, local) = cloud.tenant("here", &["member"]).await;
        let made =
            cloud.call("POST", "/v3/groups", &admin, json!({"group": {"name": "own"}})).await.expect(201);
        let own = made["group"]["id"].as_str().unwrap();
        for (method, path, body) in [
            ("POST", "/v3/users".to_owned(), json!({"user": {"name": "new", "domain_id": id}})),
            ("PATCH", format!("/v3/users/{ann}"), json!({"user": {"enabled": false}})),
            ("PATCH", format!("/v3/users/{ann}"), json!({"user": {"password": "new"}})),
            ("DELETE", format!("/v3/users/{ann}"), Value::Null),
            ("POST", "/v3/groups".to_owned(), json!({"group": {"name": "new", "domain_id": id}})),
            ("PATCH", format!("/v3/groups/{staff}"), json!({"group": {"description": "x"}})),
            ("DELETE", format!("/v3/groups/{staff}"), Value::Null),
            ("PUT", format!("/v3/groups/{staff}/users/{ann}"), Value::Null),
            ("DELETE", format!("/v3/groups/{staff}/users/{ann}"), Value::Null),
            ("PUT", format!("/v3/groups/{staff}/users/{local}"), Value::Null),
            ("PUT", format!("/v3/groups/{own}/users/{ann}"), Value::Null),
            (
                "POST",
                format!("/v3/users/{ann}/password"),
                json!({"user": {"original_password": "ann-pw", "password": "new"}}),
            ),
        ] {
            let reply = cloud.call(method, &path, &admin, body).await;
            assert_eq!(reply.status, 403, "{method} {path}: {}", reply.body);
        }
        let text = cloud.call("DELETE", &format!("/v3/users/{ann}"), &admin, Value::Null).await;
        assert!(text.message().contains("LDAP does not support write operations"), "{}", text.body);
        // Who does not know the password learns nothing of that.
        let body = json!({"user": {"original_password": "wrong", "password": "new"}});
        assert_eq!(cloud.call("POST", &format!("/v3/users/{ann}/password"), &admin, body).await.status, 401);
        assert_eq!(cloud.auth(named("ann", "ann-pw"), Value::Null).await.status, 201);
        // The rest of the cloud is as writable as ever.
        cloud.call("PUT", &format!("/v3/groups/{own}/users/{local}"), &admin, Value::Null).await.expect(204);
        cloud
            .call("PATCH", &format!("/v3/users/{local}"), &admin, json!({"user": {"enabled": false}}))
            .await
            .expect(200);
        // The domain itself can go, and all that is known of it, also of those who are not seen now; the directory does
        // not notice.
        let grant = format!("/v3/domains/{id}/users/{ann}/roles/{}", cloud.role("member").await);
        cloud.call("PUT", &grant, &admin, Value::Null).await.expect(204);
        cloud.call("DELETE", &format!("/v3/domains/{id}/config"), &admin, Value::Null).await.expect(204);
        cloud
            .call("PATCH", &format!("/v3/domains/{id}"), &admin, json!({"domain": {"enabled": false}}))
            .await
            .expect(200);
        assert_eq!(cloud.auth(named("ann", "ann-pw"), Value::Null).await.status, 401);
        cloud.call("DELETE", &format!("/v3/domains/{id}"), &admin, Value::Null).await.expect(204);
        assert_eq!(cloud.get(&format!("/v3/users/{ann}"), &admin).await.status, 404);
        let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM identity_assignments WHERE actor_id = $1")
            .bind(ann.clone())
            .fetch_one(cloud.db.read())
            .await
            .unwrap();
        assert_eq!(left, 0);
        slapd.entry(&user_dn("u1")).await;
    }
}

#[tokio::test]
async fn names_are_no_filters() {
    let slapd = Slapd::start().await;
    let mut ldap = slapd.root().await;
    slapd.add_user(&mut ldap, "u*(4)", "d*\\(e)", &[]).await;
    for cloud in clouds().await {
        let id = domain(&cloud, "corp", &slapd.config()).await;
        for name in
            ["*", "a*", "ann)(uid=*", "ann)(|(uid=*", "*)(objectClass=*", "\\61nn", "ann)(&)", "(", ")"]
        {
            let reply = cloud.auth(named(name, "ann-pw"), Value::Null).await;
            assert_eq!(reply.status, 401, "{name:?}: {}", reply.body);
        }
        let reply = cloud.auth(named("d*\\(e)", "d*\\(e)-pw"), Value::Null).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        assert_eq!(reply.body["token"]["user"]["id"], public(&id, "user", "u*(4)"));
        let own = reply.body["token"]["user"]["id"].as_str().unwrap();
        assert_eq!(cloud.auth(by_id(own, "d*\\(e)-pw"), Value::Null).await.status, 201);
        // A bind without a password would succeed: it is not tried.
        assert_eq!(cloud.auth(named("ann", ""), Value::Null).await.status, 401);
        for (name, password) in [("ann", "\0"), ("ann\0", "ann-pw")] {
            assert_eq!(cloud.auth(named(name, password), Value::Null).await.status, 400);
        }
    }
}

#[tokio::test]
async fn many_logins_at_a_time() {
    let slapd = Slapd::start().await;
    for (cloud, other) in Cloud::pairs(|c| c).await {
        let id = domain(&cloud, "corp", &slapd.config()).await;
        let logins = (0..24).map(|i| if i % 2 == 0 { &cloud } else { &other });
        let logins = logins.map(|on| on.auth(named("cy", "cy-pw"), Value::Null));
        for reply in futures::future::join_all(logins).await {
            assert_eq!(reply.status, 201, "{}", reply.body);
            assert_eq!(reply.body["token"]["user"]["id"], public(&id, "user", "u3"));
        }
    }
}

#[tokio::test]
async fn an_address_that_guesses_does_not_reach_the_directory() {
    let limited = |c: Config| {
        let login_limit = LoginLimit { failures_per_source: 3, ..c.login_limit.clone() };
        Config { login_limit, ..c }
    };
    for cloud in clouds_with(limited).await {
        let slapd = Slapd::start().await;
        domain(&cloud, "corp", &slapd.config()).await;
        let guess = async |from: &str, name: &str| {
            let auth = json!({"identity": named(name, "guess")});
            cloud.auth_from(from, &[], auth).await.status.as_u16()
        };
        for n in 0..3 {
            assert_eq!(guess("192.0.2.1", &format!("nobody{n}")).await, 401);
        }
        slapd.freeze();
        assert_eq!(guess("192.0.2.1", "ann").await, 429, "it is not even asked");
        assert_eq!(guess("192.0.2.2", "ann").await, 503);
        slapd.thaw();
    }
}

#[tokio::test]
async fn the_default_domain_can_have_a_directory() {
    let slapd = Slapd::start().await;
    let mut ldap = slapd.root().await;
    slapd.add_user(&mut ldap, "a1", "admin", &[]).await;
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let config = json!({"config": slapd.config()});
        cloud.call("PUT", "/v3/domains/default/config", &admin, config).await.expect(201);
        let ann = cloud.auth(common::by_password("ann", "ann-pw"), Value::Null).await;
        assert_eq!(ann.body["token"]["user"]["id"], public("default", "user", "u1"));
        // The operator's own account is not to be taken by a namesake, nor are its roles.
        assert!(cloud.login("admin", "admin-pw", Value::Null).await.is_err());
        let users = cloud.get("/v3/users?domain_id=default&name=admin", &admin).await.expect(200);
        assert_eq!(names(&users, "users"), ["admin", "admin"]);
        let other = cloud.sibling().await;
        other.admin().await;
        let namesake = public("default", "user", "a1");
        let path = format!("/v3/role_assignments?user.id={namesake}");
        assert_eq!(cloud.get(&path, &admin).await.expect(200)["role_assignments"], json!([]));
        assert_eq!(cloud.auth(by_id(&namesake, "admin-pw"), Value::Null).await.status, 201);
        assert_eq!(cloud.auth(by_id(&namesake, "admin-pw"), on_project("admin")).await.status, 401);
    }
}
