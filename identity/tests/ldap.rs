//! Domains whose users and groups an LDAP directory keeps, with Debian's slapd.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod slapd;

use common::{Cloud, Reply, by_token, clouds, clouds_with, on_project};
use identity::{Config, LoginLimit};
use ldap3::Mod;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use slapd::{Slapd, add, group_dn, user_dn};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// What was read is believed for a second.
fn short(config: Config) -> Config {
    Config { directory_age_seconds: 1, ..config }
}

/// A domain with this configuration: its id.
async fn domain(cloud: &Cloud, name: &str, config: &Value) -> String {
    let admin = cloud.admin().await;
    let made = cloud.call("POST", "/v3/domains", &admin, json!({"domain": {"name": name}})).await.expect(201);
    let id = made["domain"]["id"].as_str().unwrap().to_owned();
    cloud
        .call("PUT", &format!("/v3/domains/{id}/config"), &admin, json!({"config": config}))
        .await
        .expect(201);
    id
}

fn named(name: &str, password: &str) -> Value {
    json!({"methods": ["password"],
        "password": {"user": {"name": name, "domain": {"name": "corp"}, "password": password}}})
}

fn by_id(id: &str, password: &str) -> Value {
    json!({"methods": ["password"], "password": {"user": {"id": id, "password": password}}})
}

fn token(reply: &Reply) -> String {
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.headers["x-subject-token"].to_str().unwrap().to_owned()
}

fn public(domain: &str, kind: &str, local: &str) -> String {
    hex::encode(Sha256::new().chain_update(domain).chain_update(kind).chain_update(local).finalize())
}

fn names(list: &Value, of: &str) -> Vec<String> {
    let mut all: Vec<String> =
        list[of].as_array().unwrap().iter().map(|u| u["name"].as_str().unwrap().to_owned()).collect();
    all.sort();
    all
}

async fn listed(cloud: &Cloud, admin: &str, path: &str, of: &str) -> Vec<String> {
    names(&cloud.get(path, admin).await.expect(200), of)
}

/// Waits for what must come true within the age that is believed, and the look at the epoch.
async fn soon(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let all = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_millis(2500), all).await.unwrap_or_else(|_| panic!("{what}"));
}

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
        // The domain itself can go, and all that is known of it; the directory does not notice.
        cloud
            .call("PATCH", &format!("/v3/domains/{id}"), &admin, json!({"domain": {"enabled": false}}))
            .await
            .expect(200);
        assert_eq!(cloud.auth(named("ann", "ann-pw"), Value::Null).await.status, 401);
        cloud.call("DELETE", &format!("/v3/domains/{id}"), &admin, Value::Null).await.expect(204);
        assert_eq!(cloud.get(&format!("/v3/users/{ann}"), &admin).await.status, 404);
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
async fn a_directory_that_does_not_answer() {
    for cloud in clouds_with(short).await {
        let mut slapd = Slapd::start().await;
        let mut well = Slapd::start().await;
        let id = domain(&cloud, "corp", &slapd.config()).await;
        domain(&cloud, "other", &well.config()).await;
        let admin = cloud.admin().await;
        let other = json!({"methods": ["password"],
            "password": {"user": {"name": "ann", "domain": {"name": "other"}, "password": "ann-pw"}}});
        let own = token(&cloud.auth(named("ann", "ann-pw"), Value::Null).await);
        slapd.freeze();
        // Many at a time; none waits for long, and nobody else waits at all.
        let began = Instant::now();
        let tries = (0..40).map(|_| cloud.auth(named("ann", "ann-pw"), Value::Null));
        let elsewhere = async {
            let began = Instant::now();
            for _ in 0..5 {
                assert_eq!(cloud.auth(other.clone(), Value::Null).await.status, 201);
                assert_eq!(cloud.get("/v3/users?domain_id=default", &admin).await.status, 200);
                cloud.admin().await;
            }
            began.elapsed()
        };
        let (tries, elsewhere) = futures::future::join(futures::future::join_all(tries), elsewhere).await;
        for reply in tries {
            assert_eq!(reply.status, 503, "{}", reply.body);
            assert!(reply.message().contains("out of reach"), "{}", reply.body);
        }
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        assert!(elsewhere < Duration::from_secs(2), "{elsewhere:?}");
        // The token was good a moment ago; nobody can say now.
        soon("not believed for ever", async || cloud.token("HEAD", &admin, &own).await.status == 503).await;
        assert_eq!(cloud.get(&format!("/v3/users?domain_id={id}"), &admin).await.status, 503);
        // It is left alone for a while: the answer comes at once.
        let began = Instant::now();
        assert_eq!(cloud.auth(named("ann", "ann-pw"), Value::Null).await.status, 503);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        slapd.thaw();
        let back = async || cloud.auth(named("ann", "ann-pw"), Value::Null).await.status == 201;
        let wait = async |what: &str| {
            let until = Instant::now() + Duration::from_secs(8);
            while !back().await {
                assert!(Instant::now() < until, "{what}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        wait("back again").await;
        assert_eq!(cloud.token("HEAD", &admin, &own).await.status, 200);
        slapd.stop();
        assert_eq!(cloud.auth(named("ann", "ann-pw"), Value::Null).await.status, 503);
        assert_eq!(cloud.auth(other, Value::Null).await.status, 201);
        slapd.run().await;
        wait("started again").await;
        // Kept connections that the directory has closed meanwhile are not in the way.
        well.stop();
        well.run().await;
    }
}

#[tokio::test]
async fn connections_closed_meanwhile_are_made_again() {
    for cloud in clouds().await {
        let mut slapd = Slapd::start().await;
        let id = domain(&cloud, "corp", &slapd.config()).await;
        let admin = cloud.admin().await;
        let path = format!("/v3/users?domain_id={id}");
        assert_eq!(cloud.get(&path, &admin).await.status, 200);
        slapd.stop();
        slapd.run().await;
        assert_eq!(cloud.get(&path, &admin).await.status, 200);
    }
}

#[tokio::test]
async fn many_entries_come_in_pages() {
    let slapd = Slapd::start().await;
    let mut ldap = slapd.root().await;
    for i in 0..1500 {
        slapd.add_user(&mut ldap, &format!("m{i}"), &format!("many{i:04}"), &[]).await;
    }
    let members: HashSet<String> = (0..40).map(|i| user_dn(&format!("m{i}"))).collect();
    slapd.change("empty", Mod::Replace("member".into(), members)).await;
    for cloud in clouds().await {
        let id = domain(&cloud, "corp", &slapd.config_with(json!({"page_size": 100}))).await;
        let admin = cloud.admin().await;
        let path = format!("/v3/users?domain_id={id}");
        for _ in 0..2 {
            let all = listed(&cloud, &admin, &path, "users").await;
            assert_eq!((all.len(), all[3].as_str()), (1503, "many0000"));
        }
        let mut paged = Vec::new();
        let mut next = format!("{path}&limit=400");
        loop {
            let page = cloud.get(&next, &admin).await.expect(200);
            paged.extend(names(&page, "users"));
            let Some(link) = page["links"]["next"].as_str() else { break };
            next = link[link.find("/v3/").unwrap()..].to_owned();
        }
        assert_eq!((paged.len(), paged.iter().collect::<HashSet<_>>().len()), (1503, 1503));
        listed(&cloud, &admin, &format!("/v3/groups?domain_id={id}"), "groups").await;
        let group = public(&id, "group", "empty");
        assert_eq!(listed(&cloud, &admin, &format!("/v3/groups/{group}/users"), "users").await.len(), 40);
        // Without pages the directory refuses, which is no shorter list.
        let config = json!({"config": {"ldap": {"page_size": 0}}});
        cloud.call("PATCH", &format!("/v3/domains/{id}/config"), &admin, config).await.expect(200);
        let reply = cloud.get(&path, &admin).await;
        assert_eq!(reply.status, 503);
        assert!(reply.message().contains("size limit"), "{}", reply.body);
        assert_eq!(listed(&cloud, &admin, &format!("{path}&name=many1499"), "users").await, ["many1499"]);
        assert_eq!(cloud.auth(named("many1499", "many1499-pw"), Value::Null).await.status, 201);
    }
}

#[tokio::test]
async fn odd_entries() {
    let slapd = Slapd::start().await;
    let mut ldap = slapd.root().await;
    let odd = user_dn("u4");
    slapd.add_user(&mut ldap, "u4", "dee", &[]).await;
    slapd.add_user(&mut ldap, "u5", "eve", &[("audio", "Eve")]).await;
    let bytes = vec![Mod::Add(b"audio".to_vec(), HashSet::from([vec![0xff, 0xfe, 0x00]]))];
    ldap.modify(&odd, bytes).await.unwrap().success().unwrap();
    // No name, or a name that others have, or another kind of entry.
    slapd.add_user(&mut ldap, "u6", "  ", &[]).await;
    slapd.add_user(&mut ldap, "u7", "cy", &[]).await;
    add(&mut ldap, &format!("cn=device,ou=Users,{}", slapd::SUFFIX), &[("objectClass", "device")]).await;
    slapd.add_user(&mut ldap, "u8", &"x".repeat(300), &[]).await;
    // A referral that leads back, and one that leads nowhere.
    for (name, to) in [
        ("loop", format!("{}/ou=Users,{}", slapd.url(), slapd::SUFFIX)),
        ("lost", "ldap://127.0.0.1:1/dc=x".into()),
    ] {
        let dn = format!("cn={name},ou=Users,{}", slapd::SUFFIX);
        let bytes =
            [("objectClass", "referral"), ("objectClass", "extensibleObject"), ("cn", name), ("ref", &to)];
        let mut attributes: Vec<(&str, HashSet<&str>)> = Vec::new();
        for (n, v) in bytes {
            match attributes.iter_mut().find(|(k, _)| *k == n) {
                Some((_, all)) => drop(all.insert(v)),
                None => attributes.push((n, HashSet::from([v]))),
            }
        }
        ldap.with_controls(ldap3::controls::ManageDsaIt)
            .add(&dn, attributes)
            .await
            .unwrap()
            .success()
            .unwrap();
    }
    for cloud in clouds().await {
        for scope in ["one", "sub"] {
            let config =
                slapd.config_with(json!({"query_scope": scope, "user_description_attribute": "audio"}));
            let id = domain(&cloud, &format!("corp-{scope}"), &config).await;
            let admin = cloud.admin().await;
            let users = cloud.get(&format!("/v3/users?domain_id={id}"), &admin).await.expect(200);
            assert_eq!(names(&users, "users"), ["ann", "bob", "cy", "dee", "eve"], "{scope}");
            let shown =
                |id: &str| users["users"].as_array().unwrap().iter().find(|u| u["id"] == id).unwrap().clone();
            assert!(shown(&public(&id, "user", "u4")).get("description").is_none_or(Value::is_null));
            assert_eq!(shown(&public(&id, "user", "u5"))["description"], "Eve");
            let twice = json!({"methods": ["password"], "password": {"user": {"name": "cy", "domain": {"id": id},
                "password": "cy-pw"}}});
            assert_eq!(cloud.auth(twice, Value::Null).await.status, 401, "nobody can say which cy");
        }
        // A base that is elsewhere has nobody in it, and neither has one that is not there.
        for base in ["cn=loop", "ou=nowhere"] {
            let tree = format!("{base},ou=Users,{}", slapd::SUFFIX);
            let config = slapd.config_with(json!({"user_tree_dn": tree, "query_scope": "sub"}));
            let id = domain(&cloud, base, &config).await;
            let admin = cloud.admin().await;
            assert_eq!(
                listed(&cloud, &admin, &format!("/v3/users?domain_id={id}"), "users").await,
                Vec::<String>::new()
            );
        }
    }
}

#[tokio::test]
async fn encrypted_and_by_socket() {
    let slapd = Slapd::start().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(slapd.ca(), dir.path().join("ca.crt")).unwrap();
    std::fs::write(dir.path().join("README"), "no certificate").unwrap();
    let by_name = slapd.url().replace("127.0.0.1", "localhost");
    for cloud in clouds().await {
        for (n, (options, good)) in [
            (json!({"url": slapd.tls_url(), "tls_cacertfile": slapd.ca()}), true),
            (json!({"url": slapd.tls_url(), "tls_cacertdir": dir.path()}), true),
            (json!({"url": slapd.tls_url()}), false),
            (json!({"url": slapd.tls_url(), "tls_req_cert": "never"}), true),
            (json!({"url": slapd.tls_url(), "tls_cacertfile": "/nonexistent"}), false),
            (json!({"use_tls": true, "tls_cacertfile": slapd.ca()}), true),
            (json!({"use_tls": true}), false),
            // The certificate is for an address, not for this name.
            (json!({"use_tls": true, "tls_cacertfile": slapd.ca(), "url": by_name}), false),
            (json!({"url": slapd.socket_url()}), true),
            // The first that answers.
            (json!({"url": format!("ldap://127.0.0.1:1, {}", slapd.url())}), true),
            (json!({"url": "ldap://127.0.0.1:1"}), false),
            (json!({"url": "http://127.0.0.1:1"}), false),
            (json!({"password": "wrong"}), false),
            (json!({"user": null, "password": null}), false),
            (json!({"chase_referrals": true}), false),
            (json!({"user_filter": "((("}), false),
            (json!({"use_pool": false, "alias_dereferencing": "always"}), true),
        ]
        .into_iter()
        .enumerate()
        {
            let id = domain(&cloud, &format!("d{n}"), &slapd.config_with(options.clone())).await;
            let identity = json!({"methods": ["password"], "password": {"user": {"name": "ann", "domain": {"id": id},
                "password": "ann-pw"}}});
            let status = cloud.auth(identity, Value::Null).await.status.as_u16();
            // Who may read nothing finds nobody.
            let anonymous = options.get("user").is_some();
            let bad = if anonymous { 401 } else { 503 };
            assert_eq!(status, if good { 201 } else { bad }, "{options}");
        }
    }
}

#[tokio::test]
async fn ways_to_describe_a_directory() {
    let slapd = Slapd::start().await;
    let mut ldap = slapd.root().await;
    // Who is enabled by bits, by a lock, by a group.
    for (id, name, bits) in [("n1", "normal", "512"), ("n2", "off", "514"), ("n3", "odd", "x")] {
        slapd.add_user(&mut ldap, id, name, &[("departmentNumber", bits)]).await;
    }
    let posix =
        [("objectClass", "posixGroup"), ("gidNumber", "7"), ("memberUid", "u1"), ("description", "by ids")];
    add(&mut ldap, &group_dn("posix"), &posix).await;
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let enabled = async |name: &str, options: Value| {
            let id = domain(&cloud, name, &slapd.config_with(options)).await;
            listed(&cloud, &admin, &format!("/v3/users?domain_id={id}&enabled=true"), "users").await
        };
        let all = ["ann", "bob", "cy", "normal", "odd", "off"];
        let mask = json!({"user_enabled_attribute": "departmentNumber", "user_enabled_mask": 2, "user_enabled_default": 512});
        assert_eq!(enabled("mask", mask).await, ["ann", "bob", "cy", "normal"]);
        let lock = json!({"user_enabled_invert": true, "user_enabled_default": "False"});
        assert_eq!(enabled("lock", lock).await, ["bob", "normal", "odd", "off"]);
        let group = json!({"user_enabled_emulation": true, "user_enabled_emulation_dn": group_dn("staff")});
        assert_eq!(enabled("group", group).await, ["ann", "cy"]);
        let ids = json!({"user_enabled_emulation": true, "user_enabled_emulation_dn": group_dn("posix"),
            "user_enabled_emulation_use_group_config": true, "group_member_attribute": "memberUid",
            "group_members_are_ids": true});
        assert_eq!(enabled("ids", ids).await, ["ann"]);
        assert_eq!(enabled("ignored", json!({"user_attribute_ignore": "enabled"})).await, all);
        assert_eq!(enabled("filter", json!({"user_filter": "(uid=n*)"})).await, ["normal", "odd", "off"]);
        // Groups of ids.
        let id = domain(&cloud, "posix", &slapd.config_with(json!({"group_objectclass": "posixGroup",
            "group_member_attribute": "memberUid", "group_members_are_ids": true,
            "user_additional_attribute_mapping": "mail:address,employeeType:kind", "user_attribute_ignore": "email",
            "group_additional_attribute_mapping": "gidNumber:gid"}))).await;
        let groups = cloud.get(&format!("/v3/groups?domain_id={id}"), &admin).await.expect(200);
        let group = &groups["groups"][0];
        assert_eq!(
            (&group["name"], &group["gid"], &group["description"]),
            (&json!("posix"), &json!("7"), &json!("by ids"))
        );
        let path = format!("/v3/groups/{}/users", public(&id, "group", "posix"));
        let users = cloud.get(&path, &admin).await.expect(200);
        let user = &users["users"][0];
        assert_eq!(
            (&user["name"], &user["address"], &user["kind"]),
            (&json!("ann"), &json!("u1@corp.example"), &json!("TRUE"))
        );
        assert!(user.get("email").is_none());
    }
}

#[tokio::test]
async fn the_configuration_of_a_domain() {
    let slapd = Slapd::start().await;
    for (cloud, other) in Cloud::pairs(|c| c).await {
        let id = domain(&cloud, "corp", &slapd.config()).await;
        let admin = cloud.admin().await;
        let at = |rest: &str| format!("/v3/domains/{id}/config{rest}");
        let call =
            async |method: &str, rest: &str, body: Value| cloud.call(method, &at(rest), &admin, body).await;
        // The password is set and shown to nobody.
        for body in [
            call("GET", "", Value::Null).await.expect(200),
            call("GET", "/ldap", Value::Null).await.expect(200),
            call("PATCH", "", json!({"config": {"ldap": {"page_size": 7}}})).await.expect(200),
            call("PATCH", "/ldap/password", json!({"config": {"password": slapd::READERS_PASSWORD}}))
                .await
                .expect(200),
            call("PUT", "", json!({"config": slapd.config()})).await.expect(200),
        ] {
            assert!(!body.to_string().contains(slapd::READERS_PASSWORD), "{body}");
            assert_eq!(body["config"]["ldap"]["url"], slapd.url());
            assert!(body["config"]["ldap"].get("password").is_none());
        }
        assert_eq!(call("GET", "/ldap/password", Value::Null).await.status, 404);
        assert_eq!(
            cloud.auth(named("ann", "ann-pw"), Value::Null).await.status,
            201,
            "it is there all the same"
        );
        // What upstream does not take.
        for (method, rest, body, status) in [
            ("PUT", "", json!({"config": {}}), 403),
            ("PUT", "", json!({"config": {"ldap": {}}}), 403),
            ("PUT", "", json!({"config": {"ldap": {"nonsense": 1}}}), 403),
            ("PUT", "", json!({"config": {"token": {"expiration": 1}}}), 403),
            ("PATCH", "/ldap", json!({"config": {"identity": {"driver": "sql"}}}), 403),
            ("PATCH", "/ldap/url", json!({"config": {"user": "x"}}), 403),
            ("PATCH", "/ldap/url", json!({"config": {"url": "x", "user": "y"}}), 403),
            ("PATCH", "/ldap/page_size", json!({"config": {"page_size": 7}}), 404),
            ("PATCH", "/token", json!({"config": {"token": {"x": 1}}}), 403),
            ("GET", "/ldap/nonsense", Value::Null, 403),
            ("GET", "/token", Value::Null, 403),
            ("GET", "/ldap/page_size", Value::Null, 404),
            ("DELETE", "/ldap/page_size", Value::Null, 404),
            ("DELETE", "/token", Value::Null, 403),
        ] {
            let reply = call(method, rest, body).await;
            assert_eq!(reply.status, status, "{method} {rest}: {}", reply.body);
        }
        let (_, _) = cloud.tenant("here", &["admin"]).await;
        let defaults = cloud.get("/v3/domains/config/default", &admin).await.expect(200);
        assert_eq!(defaults["config"]["ldap"]["user_id_attribute"], "cn");
        assert!(defaults["config"]["ldap"].get("password").is_none());
        assert_eq!(cloud.get("/v3/domains/config/ldap/password/default", &admin).await.status, 403);
        let one = cloud.get("/v3/domains/config/ldap/query_scope/default", &admin).await.expect(200);
        assert_eq!(one["config"], json!({"query_scope": "one"}));

        // Another process follows: the domain has its own users again, and those of the directory are gone.
        let of_ann = async |on: &Cloud| on.auth(named("ann", "ann-pw"), Value::Null).await.status.as_u16();
        let own = token(&cloud.auth(named("ann", "ann-pw"), Value::Null).await);
        let ann = public(&id, "user", "u1");
        let member = cloud.role("member").await;
        let grant = format!("/v3/domains/{id}/users/{ann}/roles/{member}");
        cloud.call("PUT", &grant, &admin, Value::Null).await.expect(204);
        assert_eq!(of_ann(&other).await, 201);
        call("DELETE", "/identity", Value::Null).await.expect(204);
        assert_eq!(
            (of_ann(&cloud).await, cloud.token("HEAD", &admin, &own).await.status.as_u16()),
            (401, 404)
        );
        soon("elsewhere too", async || {
            of_ann(&other).await == 401 && other.token("HEAD", &admin, &own).await.status == 404
        })
        .await;
        assert_eq!(
            listed(&cloud, &admin, &format!("/v3/users?domain_id={id}"), "users").await,
            Vec::<String>::new()
        );
        let made = json!({"user": {"name": "ann", "domain_id": id, "password": "local-pw"}});
        cloud.call("POST", "/v3/users", &admin, made).await.expect(201);
        assert_eq!(cloud.auth(named("ann", "local-pw"), Value::Null).await.status, 201);
        // And back: they have their ids and roles again, and the names that were given away meanwhile are the directory's.
        call("PATCH", "", json!({"config": {"identity": {"driver": "ldap"}}})).await.expect(200);
        assert_eq!(cloud.auth(named("ann", "local-pw"), Value::Null).await.status, 401);
        let scope = json!({"domain": {"id": id}});
        let reply = cloud.auth(named("ann", "ann-pw"), scope).await;
        assert_eq!((reply.status.as_u16(), &reply.body["token"]["user"]["id"]), (201, &json!(ann)));
        soon("there too", async || of_ann(&other).await == 201).await;
        call("DELETE", "", Value::Null).await.expect(204);
        assert_eq!(call("GET", "", Value::Null).await.status, 404);
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
