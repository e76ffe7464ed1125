//! Resources on the wire: what goes in comes out, and what must not go in does not.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Cloud, clouds, on_project};
use serde_json::{Value, json};

async fn made(cloud: &Cloud, token: &str, path: &str, body: Value) -> Value {
    let noun = body.as_object().unwrap().keys().next().unwrap().clone();
    let reply = cloud.call("POST", path, token, body).await.expect(201);
    let one = reply[&noun].clone();
    let id = one["id"].as_str().unwrap();
    assert_eq!(one["links"]["self"], format!("http://cloud.example:5000/identity{path}/{id}"));
    one
}

#[tokio::test]
async fn a_users_life() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let body = json!({"user": {"name": " ann ", "password": "pw", "email": "a@b", "colour": ["red", 7]}});
        let user = made(&cloud, &admin, "/v3/users", body).await;
        let path = format!("/v3/users/{}", user["id"].as_str().unwrap());
        let shown = cloud.get(&path, &admin).await.expect(200)["user"].clone();
        assert_eq!(shown, user);
        assert_eq!(shown["name"], "ann");
        assert_eq!(shown["colour"], json!(["red", 7]), "what clients add is kept");
        assert_eq!(
            (&shown["enabled"], &shown["domain_id"], &shown["options"], &shown["password_expires_at"]),
            (&json!(true), &json!("default"), &json!({}), &Value::Null)
        );
        assert!(shown.get("password").is_none() && shown.get("default_project_id").is_none());

        let change = json!({"user": {"email": "c@d", "options": {"lock_password": true}}});
        let changed = cloud.call("PATCH", &path, &admin, change).await.expect(200)["user"].clone();
        assert_eq!(changed["email"], "c@d");
        assert_eq!(changed["colour"], json!(["red", 7]), "what a change does not name stays");
        assert_eq!(changed["options"], json!({"lock_password": true}));
        let change = json!({"user": {"options": {"lock_password": null}}});
        assert_eq!(
            cloud.call("PATCH", &path, &admin, change).await.expect(200)["user"]["options"],
            json!({})
        );

        let twice = cloud.call("POST", "/v3/users", &admin, json!({"user": {"name": "ann"}})).await;
        assert_eq!(twice.status, 409);
        assert!(
            twice.message().starts_with("Conflict occurred attempting to store user"),
            "{}",
            twice.message()
        );
        cloud.call("DELETE", &path, &admin, Value::Null).await.expect(204);
        let gone = cloud.get(&path, &admin).await;
        assert_eq!(gone.message(), format!("Could not find user: {}.", user["id"].as_str().unwrap()));
        assert_eq!(gone.body["error"], json!({"code": 404, "title": "Not Found", "message": gone.message()}));
    }
}

#[tokio::test]
async fn listings_filter_and_page() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        for (name, enabled) in [("Ada_1", true), ("ada%2", false), ("bob", true), ("Åda", true)] {
            let body = json!({"user": {"name": name, "enabled": enabled}});
            made(&cloud, &admin, "/v3/users", body).await;
        }
        let names = async |query: &str| {
            let body = cloud.get(&format!("/v3/users?{query}"), &admin).await.expect(200);
            let mut names: Vec<String> = body["users"]
                .as_array()
                .unwrap()
                .iter()
                .map(|u| u["name"].as_str().unwrap().to_owned())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names("name=bob").await, ["bob"]);
        assert_eq!(names("name__startswith=Ada").await, ["Ada_1"]);
        assert_eq!(names("name__istartswith=ADA").await, ["Ada_1", "ada%2"]);
        assert_eq!(names("name__contains=_").await, ["Ada_1"], "no wildcard");
        assert_eq!(names("name__contains=%25").await, ["ada%2"], "no wildcard");
        assert_eq!(names("name__icontains=%C3%A5DA").await, ["Åda"]);
        assert_eq!(names("name__endswith=ob&enabled=true").await, ["bob"]);
        assert_eq!(names("enabled=false").await, ["ada%2"]);
        assert_eq!(names("domain_id=nowhere").await, [""; 0]);
        assert_eq!(names("name='%20OR%201=1%20--").await, [""; 0]);
        assert_eq!(names("colour=red&name=bob").await, ["bob"], "unknown filters mean nothing");

        let mut seen = Vec::new();
        let mut path = "/v3/users?limit=2".to_owned();
        loop {
            let body = cloud.get(&path, &admin).await.expect(200);
            let page = body["users"].as_array().unwrap();
            assert!(page.len() <= 2);
            seen.extend(page.iter().map(|u| u["id"].clone()));
            match body["links"]["next"].as_str() {
                Some(next) => {
                    path = next.strip_prefix("http://cloud.example:5000/identity").unwrap().to_owned()
                }
                None => break,
            }
        }
        seen.dedup();
        assert_eq!(seen.len(), 5);
        for bad in ["limit=-1", "limit=x", "name=%ff", "name=%00"] {
            assert_eq!(cloud.get(&format!("/v3/users?{bad}"), &admin).await.status, 400, "{bad}");
        }
    }
}

#[tokio::test]
async fn what_schemas_refuse() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let long = |n: usize| "n".repeat(n);
        let bad = [
            ("/v3/users", json!({"user": {}})),
            ("/v3/users", json!({"user": {"name": ""}})),
            ("/v3/users", json!({"user": {"name": "  "}})),
            ("/v3/users", json!({"user": {"name": long(256)}})),
            ("/v3/users", json!({"user": {"name": long(64 << 10)}})),
            ("/v3/users", json!({"user": {"name": 7}})),
            ("/v3/users", json!({"user": {"name": "n", "enabled": "yes"}})),
            ("/v3/users", json!({"user": {"name": "n", "password": 7}})),
            ("/v3/users", json!({"user": {"name": "n", "options": {"magic": true}}})),
            ("/v3/users", json!({"user": {"name": "a\u{0}b"}})),
            ("/v3/users", json!({"user": [1]})),
            ("/v3/users", json!({"name": "n"})),
            ("/v3/users", json!([])),
            ("/v3/projects", json!({"project": {"name": long(65)}})),
            ("/v3/projects", json!({"project": {"name": "n", "tags": ["a,b"]}})),
            ("/v3/projects", json!({"project": {"name": "n", "parent_id": 5}})),
            ("/v3/domains", json!({"domain": {"name": long(65)}})),
            ("/v3/roles", json!({"role": {"name": long(256)}})),
            ("/v3/groups", json!({"group": {"name": long(65)}})),
            ("/v3/services", json!({"service": {"name": "n"}})),
            (
                "/v3/endpoints",
                json!({"endpoint": {"interface": "odd", "url": "http://x", "service_id": "x"}}),
            ),
            (
                "/v3/endpoints",
                json!({"endpoint": {"interface": "public", "url": "http://x", "service_id": "x"}}),
            ),
            ("/v3/regions", json!({"region": {"id": long(256)}})),
            ("/v3/credentials", json!({"credential": {"type": "ec2", "blob": "x", "user_id": "u"}})),
        ];
        for (path, body) in bad {
            let reply = cloud.call("POST", path, &admin, body.clone()).await;
            assert_eq!(reply.status, 400, "{path} {body:.80} {}", reply.body);
            assert_eq!(reply.body["error"]["title"], "Bad Request");
            assert!(reply.message().len() < 600, "{}", reply.message().len());
        }
        for text in ["", "{", "[[[[", "nope", "{\"user\": {\"name\": \"\\ud800\"}}"] {
            let reply = cloud.raw("POST", "/v3/users", Some(&admin), text.to_owned()).await;
            assert_eq!(reply.status, 400, "{text}");
        }
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        assert_eq!(cloud.raw("POST", "/v3/users", Some(&admin), deep).await.status, 400);
        let before = cloud.get("/v3/users", &admin).await.expect(200);
        assert_eq!(before["users"].as_array().unwrap().len(), 1, "nothing was made");
        for odd in ["/v3/users/%00", "/v3/users/%ff", "/v3/users/..", "/v3/nothing", "/v2.0/tokens"] {
            assert_eq!(cloud.get(odd, &admin).await.status, 404, "{odd}");
        }
        assert_eq!(cloud.call("PUT", "/v3/users", &admin, json!({})).await.status, 405);
    }
}

#[tokio::test]
async fn a_tree_of_projects() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let project = async |name: &str, parent: &str| {
            let body = json!({"project": {"name": name, "parent_id": parent}});
            made(&cloud, &admin, "/v3/projects", body).await["id"].as_str().unwrap().to_owned()
        };
        let a = project("a", "default").await;
        let b = project("b", &a).await;
        let c = project("c", &b).await;
        let show = async |query: &str| {
            cloud.get(&format!("/v3/projects/{query}"), &admin).await.expect(200)["project"].clone()
        };
        assert_eq!(show(&format!("{c}?parents_as_ids")).await["parents"], json!({&b: {&a: null}}));
        assert_eq!(show(&format!("{a}?subtree_as_ids")).await["subtree"], json!({&b: {&c: null}}));
        let parents = show(&format!("{c}?parents_as_list")).await["parents"].clone();
        assert_eq!(parents.as_array().unwrap().len(), 2);
        let both = cloud.get(&format!("/v3/projects/{c}?parents_as_ids&parents_as_list"), &admin).await;
        assert_eq!(both.status, 400);

        let (d, e) = (project("d", &c).await, ());
        let _ = (project("e", &d).await, e);
        let deep = cloud.get("/v3/projects?name=e", &admin).await.expect(200)["projects"][0]["id"].clone();
        let body = json!({"project": {"name": "f", "parent_id": deep}});
        let too_deep = cloud.call("POST", "/v3/projects", &admin, body).await;
        assert_eq!(too_deep.status, 403, "{}", too_deep.message());

        // Inherited roles reach down, and only down.
        let ann = cloud.identity.ensure_user("ann", &api::Secret("pw".into()), &a, &[]).await.unwrap();
        let member = cloud.role("member").await;
        let path = format!("/v3/OS-INHERIT/projects/{b}/users/{ann}/roles/{member}/inherited_to_projects");
        cloud.call("PUT", &path, &admin, Value::Null).await.expect(204);
        cloud.call("HEAD", &path, &admin, Value::Null).await.expect(204);
        assert!(cloud.login("ann", "pw", on_project("c")).await.is_ok());
        assert!(cloud.login("ann", "pw", on_project("b")).await.is_err(), "not where it stands");
        assert!(cloud.login("ann", "pw", on_project("a")).await.is_err());
        let query = format!("/v3/role_assignments?user.id={ann}&effective&include_names");
        let lines = cloud.get(&query, &admin).await.expect(200)["role_assignments"].clone();
        let mut found: Vec<String> = lines
            .as_array()
            .unwrap()
            .iter()
            .map(|l| {
                format!(
                    "{} {}",
                    l["scope"]["project"]["name"].as_str().unwrap(),
                    l["role"]["name"].as_str().unwrap()
                )
            })
            .collect();
        found.sort();
        assert_eq!(found, ["c member", "c reader", "d member", "d reader", "e member", "e reader"]);
        assert_eq!(lines[0]["user"]["domain"]["name"], "Default");

        let gone = cloud.call("DELETE", &format!("/v3/projects/{a}"), &admin, Value::Null).await;
        assert_eq!(gone.status, 403, "not a leaf");
        let off = json!({"project": {"enabled": false}});
        assert_eq!(cloud.call("PATCH", &format!("/v3/projects/{a}"), &admin, off).await.status, 403);
        let moved = json!({"project": {"parent_id": c}});
        assert_eq!(cloud.call("PATCH", &format!("/v3/projects/{a}"), &admin, moved).await.status, 403);

        let fixed = json!({"project": {"name": "fixed", "options": {"immutable": true}}});
        let fixed = made(&cloud, &admin, "/v3/projects", fixed).await["id"].as_str().unwrap().to_owned();
        let path = format!("/v3/projects/{fixed}");
        assert_eq!(cloud.call("DELETE", &path, &admin, Value::Null).await.status, 403);
        let change = |p: Value| json!({"project": p});
        assert_eq!(cloud.call("PATCH", &path, &admin, change(json!({"name": "x"}))).await.status, 403);
        let free = change(json!({"options": {"immutable": null}}));
        cloud.call("PATCH", &path, &admin, free).await.expect(200);
        cloud.call("DELETE", &path, &admin, Value::Null).await.expect(204);
    }
}

#[tokio::test]
async fn discovery_needs_no_token() {
    for cloud in clouds().await {
        let all = cloud.raw("GET", "", None, "").await.expect(300);
        assert_eq!(all["versions"]["values"][0]["id"], "v3.14");
        for path in ["/v3", "/v3/"] {
            let v3 = cloud.raw("GET", path, None, "").await.expect(200);
            assert_eq!(v3["version"]["links"][0]["href"], "http://cloud.example:5000/identity/v3/");
        }
    }
}

/// Which persona may do what: a row a request, a column a persona.
#[tokio::test]
async fn the_personas() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let domain = made(&cloud, &admin, "/v3/domains", json!({"domain": {"name": "d"}})).await;
        let domain = domain["id"].as_str().unwrap();
        let (project, user) = cloud.tenant("own", &["reader"]).await;
        let mut tokens = vec![admin.clone()];
        let personas = [
            ("sys-reader", "reader", json!({"system": {"all": true}}), "system".to_owned()),
            ("dom-manager", "manager", json!({"domain": {"id": domain}}), format!("domains/{domain}")),
            ("dom-reader", "reader", json!({"domain": {"id": domain}}), format!("domains/{domain}")),
            ("prj-member", "member", json!({"project": {"id": project}}), format!("projects/{project}")),
            ("service", "service", json!({"project": {"id": project}}), format!("projects/{project}")),
        ];
        for (name, role, scope, place) in personas {
            let id =
                cloud.identity.ensure_user(name, &api::Secret("pw".into()), &project, &[]).await.unwrap();
            let grant = format!("/v3/{place}/users/{id}/roles/{}", cloud.role(role).await);
            cloud.call("PUT", &grant, &admin, Value::Null).await.expect(204);
            tokens.push(cloud.login(name, "pw", scope).await.unwrap_or_else(|r| panic!("{name} {}", r.body)));
        }
        let inner =
            made(&cloud, &admin, "/v3/users", json!({"user": {"name": "in", "domain_id": domain}})).await;
        let inner = inner["id"].as_str().unwrap();
        //                                          admin sysrd dommg domrd prjmb servc
        let table: Vec<(&str, String, Value, [u16; 6])> = vec![
            ("GET", "/v3/users".into(), Value::Null, [200, 200, 200, 200, 403, 403]),
            ("GET", format!("/v3/users/{inner}"), Value::Null, [200, 200, 200, 200, 403, 403]),
            ("GET", format!("/v3/users/{user}"), Value::Null, [200, 200, 403, 403, 403, 403]),
            ("GET", "/v3/users/unknown".into(), Value::Null, [404, 404, 403, 403, 403, 403]),
            ("GET", "/v3/projects".into(), Value::Null, [200, 200, 200, 200, 403, 403]),
            ("GET", format!("/v3/projects/{project}"), Value::Null, [200, 200, 403, 403, 200, 200]),
            ("GET", "/v3/domains".into(), Value::Null, [200, 200, 200, 200, 403, 403]),
            ("GET", format!("/v3/domains/{domain}"), Value::Null, [200, 200, 200, 200, 403, 403]),
            ("GET", "/v3/groups".into(), Value::Null, [200, 200, 200, 200, 403, 403]),
            ("GET", "/v3/roles".into(), Value::Null, [200, 200, 200, 403, 403, 403]),
            ("GET", "/v3/role_assignments".into(), Value::Null, [200, 200, 200, 200, 403, 403]),
            ("GET", "/v3/services".into(), Value::Null, [200, 200, 403, 403, 403, 403]),
            ("GET", "/v3/endpoints".into(), Value::Null, [200, 200, 403, 403, 403, 403]),
            ("GET", "/v3/regions".into(), Value::Null, [200; 6]),
            ("GET", "/v3/policies".into(), Value::Null, [200, 200, 403, 403, 403, 403]),
            ("GET", "/v3/OS-TRUST/trusts".into(), Value::Null, [200, 200, 403, 403, 403, 403]),
            ("GET", "/v3/auth/projects".into(), Value::Null, [200; 6]),
            ("GET", "/v3/auth/catalog".into(), Value::Null, [200; 6]),
            ("GET", "/v3/limits".into(), Value::Null, [200; 6]),
            ("POST", "/v3/ec2tokens".into(), json!({}), [400, 403, 403, 403, 403, 400]),
            (
                "POST",
                "/v3/users".into(),
                json!({"user": {"name": "x", "domain_id": "default"}}),
                [201, 403, 403, 403, 403, 403],
            ),
            (
                "POST",
                "/v3/users".into(),
                json!({"user": {"name": "y", "domain_id": domain}}),
                [201, 403, 409, 403, 403, 403],
            ),
            ("POST", "/v3/roles".into(), json!({"role": {"name": "z"}}), [201, 403, 403, 403, 403, 403]),
            ("POST", "/v3/domains".into(), json!({"domain": {"name": "z"}}), [201, 403, 403, 403, 403, 403]),
            ("POST", "/v3/regions".into(), json!({"region": {"id": "z"}}), [201, 403, 403, 403, 403, 403]),
        ];
        for (method, path, body, wanted) in table {
            for (column, token) in tokens.iter().enumerate() {
                let reply = cloud.call(method, &path, token, body.clone()).await;
                assert_eq!(reply.status, wanted[column], "{method} {path}, persona {column}: {}", reply.body);
            }
        }
        let subject = cloud.tenant_token("own").await;
        let seen: Vec<u16> = {
            let mut out = Vec::new();
            for token in tokens.iter().chain([&subject]) {
                out.push(cloud.token("GET", token, &subject).await.status.as_u16());
            }
            out
        };
        assert_eq!(seen, [200, 200, 403, 403, 403, 200, 200], "who may look at another's token");
    }
}
