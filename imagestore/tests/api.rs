//! The Image API's rules: who may what, and which answer bad input gets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod common;

use common::{Cloud, body};
use imagestore::Config;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

fn ids(list: &Value) -> Vec<String> {
    list["images"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect()
}

async fn list(c: &Cloud, who: &str, query: &str) -> Vec<String> {
    ids(&c.read(who, &format!("/v2/images{query}")).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_needs_a_token_unless_it_is_open() {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    let http = reqwest::Client::new();
    let routes = imagestore::routes();
    assert!(routes.table().len() >= 30);
    for route in routes.table() {
        let path = route.path.replace(['{', '}'], "");
        let method = Method::from_bytes(route.method.as_bytes()).unwrap();
        let got = http.request(method, format!("{}/image{path}", c.url)).send().await.unwrap().status();
        match route.open {
            true => assert_ne!(got, StatusCode::UNAUTHORIZED, "{} {path}", route.method),
            false => assert_eq!(got, StatusCode::UNAUTHORIZED, "{} {path}", route.method),
        }
    }
    assert_eq!(
        http.get(format!("{}/image", c.url)).send().await.unwrap().status(),
        StatusCode::MULTIPLE_CHOICES
    );
    c.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_schemas_and_info() {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    for v in c.read("alice", "/versions").await["versions"].as_array().unwrap() {
        assert!(v["links"][0]["href"].as_str().unwrap().ends_with("/image/v2/"));
    }
    let versions = c.read("alice", "/versions").await;
    let current = versions["versions"].as_array().unwrap().iter().filter(|v| v["status"] == "CURRENT");
    assert_eq!(current.map(|v| v["id"].as_str().unwrap()).collect::<Vec<_>>(), ["v2.17"]);
    let ids: Vec<_> = versions["versions"].as_array().unwrap().iter().map(|v| v["id"].clone()).collect();
    assert!(ids.contains(&json!("v2.14")) && ids.contains(&json!("v2.16")), "these are the cache's");
    for name in ["image", "images", "member", "members", "task", "tasks"] {
        assert_eq!(c.read("alice", &format!("/v2/schemas/{name}")).await["name"], name);
    }
    assert_eq!(c.get("alice", "/v2/schemas/none").await.status(), StatusCode::NOT_FOUND);
    let import = c.read("alice", "/v2/info/import").await;
    assert_eq!(import["import-methods"]["value"], json!(["glance-direct", "web-download"]));
    assert_eq!(c.read("alice", "/v2/info/stores").await["stores"][0]["id"], "images");
    assert_eq!(c.get("alice", "/v2/info/stores/detail").await.status(), StatusCode::FORBIDDEN);
    assert_eq!(c.read("alice", "/v2/info/usage").await["usage"]["image_count_total"]["usage"], 0);
    c.end().await;
}

/// Without a cache whoever may ask hears so.
#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_cache() {
    let config = Config { cache_bytes: 0, ..Config::default() };
    let c = Cloud::with(testbed::databases().await.remove(0), config).await;
    let versions = c.read("alice", "/versions").await["versions"].to_string();
    assert!(versions.contains("v2.15") && !versions.contains("v2.14") && !versions.contains("v2.16"));
    let id = c.raw("alice").await;
    let image = format!("/{id}");
    let asked = async |who: &str, method: &Method, path: &str| {
        let r = c.ask(who, method.clone(), &format!("/v2/cache{path}")).send().await.unwrap();
        (r.status().as_u16(), r.text().await.unwrap())
    };
    for (method, path) in
        [(Method::GET, ""), (Method::DELETE, ""), (Method::PUT, &*image), (Method::DELETE, &*image)]
    {
        assert_eq!(asked("alice", &method, path).await.0, 403);
        let (code, text) = asked("admin", &method, path).await;
        assert_eq!(code, 404);
        assert!(text.contains("Caching via API is not supported at this site."), "{text}");
        if !path.is_empty() {
            // Who does not see the image hears that there is none.
            for (who, path) in [("bob", path), ("alice", "/x"), ("admin", "/x")] {
                let (code, text) = asked(who, &method, path).await;
                assert!(code == 404 && text.contains("No image found"), "{who} {method} {code} {text}");
            }
        }
    }
    assert_eq!(asked("admin", &Method::POST, "").await.0, 405);
    c.delete("alice", &format!("/v2/images/{id}")).await;
    c.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn create_show_change_delete() {
    for db in testbed::databases().await {
        let c = Cloud::new(db).await;
        let new = json!({"name": "ä", "disk_format": "raw", "container_format": "bare", "min_disk": 3, "tags": ["a", "b"],
            "os_distro": "debian", "id": "5ba0f4c2-1111-4222-8333-444455556666"});
        let id = c.create("alice", new.clone()).await;
        assert_eq!(id, "5ba0f4c2-1111-4222-8333-444455556666");
        assert_eq!(c.post("alice", "/v2/images", new).await.status(), StatusCode::CONFLICT);
        let i = c.read("alice", &format!("/v2/images/{id}")).await;
        for (key, value) in [
            ("name", json!("ä")),
            ("status", json!("queued")),
            ("visibility", json!("shared")),
            ("owner", json!("p1")),
            ("min_disk", json!(3)),
            ("min_ram", json!(0)),
            ("protected", json!(false)),
            ("os_hidden", json!(false)),
            ("size", Value::Null),
            ("checksum", Value::Null),
            ("os_distro", json!("debian")),
            ("tags", json!(["a", "b"])),
            ("self", json!(format!("/v2/images/{id}"))),
            ("file", json!(format!("/v2/images/{id}/file"))),
        ] {
            assert_eq!(i[key], value, "{key}");
        }
        let r = c.patch("alice", &id, json!([
            {"op": "replace", "path": "/name", "value": "b"}, {"op": "add", "path": "/speed", "value": "88"},
            {"op": "replace", "path": "/speed", "value": "89"}, {"op": "remove", "path": "/os_distro"},
            {"op": "replace", "path": "/tags", "value": ["c"]},
        ])).await;
        assert_eq!(r.status(), StatusCode::OK);
        let i = body(r).await;
        assert_eq!((&i["name"], &i["speed"], &i["tags"]), (&json!("b"), &json!("89"), &json!(["c"])));
        assert!(i.get("os_distro").is_none());
        for (changes, code) in [
            (json!([{"op": "remove", "path": "/name"}]), 403),
            (json!([{"op": "remove", "path": "/none"}]), 409),
            (json!([{"op": "replace", "path": "/none", "value": "x"}]), 409),
            (json!([{"op": "replace", "path": "/status", "value": "active"}]), 403),
            (json!([{"op": "add", "path": "/os_glance_x", "value": "x"}]), 403),
            (json!([{"op": "replace", "path": "/visibility", "value": "public"}]), 403),
            (json!([{"op": "replace", "path": "/owner", "value": "p2"}]), 403),
            (json!([{"op": "add", "path": "/n", "value": 5}]), 400),
            (json!([{"op": "replace", "path": "/min_ram", "value": -1}]), 400),
            (json!({}), 400),
            // Locations are not shown, so nobody changes them here.
            (json!([{"op": "add", "path": "/locations/-", "value": {}}]), 403),
            (json!([{"op": "replace", "path": "/locations", "value": []}]), 403),
            (json!([{"op": "remove", "path": "/locations/0"}]), 403),
        ] {
            assert_eq!(c.patch("alice", &id, changes.clone()).await.status().as_u16(), code, "{changes}");
        }
        // In the older dialect nothing is added over what is there.
        for (name, code) in [("name", 409), ("speed", 409), ("other", 200)] {
            let r = c.ask("alice", Method::PATCH, &format!("/v2/images/{id}"));
            let r = r.header("content-type", "application/openstack-images-v2.0-json-patch");
            let changes = json!([{"add": format!("/{name}"), "value": "x"}, {"remove": "/other"}]);
            assert_eq!(r.body(changes.to_string()).send().await.unwrap().status().as_u16(), code, "{name}");
        }
        let shown = |mut i: Value| i.as_object_mut().unwrap().remove("updated_at").map(|_| i);
        let after = c.read("alice", &format!("/v2/images/{id}")).await;
        assert_eq!(shown(after), shown(i), "nothing changed");
        let r = c.ask("alice", Method::PATCH, &format!("/v2/images/{id}")).body("[]").send().await.unwrap();
        assert_eq!(r.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        assert_eq!(c.get("alice", &format!("/v2/images/{id}")).await.status(), StatusCode::NOT_FOUND);
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NOT_FOUND);
        c.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies() {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    for (text, code) in [
        ("{", 400),
        ("[]", 400),
        ("{\"name\": 1}", 400),
        ("{\"disk_format\": \"wrong\"}", 400),
        ("{\"min_disk\": -1}", 400),
        ("{\"visibility\": \"x\"}", 400),
        ("{\"status\": \"active\"}", 403),
        ("{\"visibility\": \"public\"}", 403),
        ("{\"owner\": \"p2\"}", 403),
        ("{\"os_glance_a\": \"b\"}", 403),
        ("{\"n\": {}}", 400),
        ("{\"name\": \"a\\u0000b\"}", 400),
    ] {
        let r = c.ask("alice", Method::POST, "/v2/images").body(text).send().await.unwrap();
        assert_eq!(r.status().as_u16(), code, "{text}");
        assert!(body(r).await["message"].is_string(), "{text}");
    }
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(2 << 20));
    let r = c.ask("alice", Method::POST, "/v2/images").body(large).send().await.unwrap();
    assert_eq!(r.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(list(&c, "alice", "").await.is_empty());
    let r = c.post("rita", "/v2/images", json!({})).await;
    assert_eq!(r.status(), StatusCode::FORBIDDEN);
    c.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sees_what() {
    for db in testbed::databases().await {
        let c = Cloud::new(db).await;
        let make = async |who: &str, v: &str| c.create(who, json!({"name": v, "visibility": v})).await;
        let private = make("alice", "private").await;
        let shared = make("alice", "shared").await;
        let community = make("alice", "community").await;
        let public = make("admin", "public").await;
        let see = async |who: &str, id: &str| c.get(who, &format!("/v2/images/{id}")).await.status().as_u16();
        for (id, code) in [(&private, 404), (&shared, 404), (&community, 200), (&public, 200)] {
            assert_eq!(
                (see("bob", id).await, see("rita", id).await, see("admin", id).await),
                (code, 200, 200)
            );
        }
        assert_eq!(list(&c, "bob", "").await, [public.as_str()]);
        assert_eq!(list(&c, "bob", "?visibility=community").await, [community.as_str()]);
        assert_eq!(list(&c, "alice", "").await.len(), 4);
        assert_eq!(list(&c, "admin", "?visibility=all").await.len(), 4);
        // Seen is not owned.
        assert_eq!(c.delete("bob", &format!("/v2/images/{public}")).await, StatusCode::FORBIDDEN);
        assert_eq!(c.delete("bob", &format!("/v2/images/{private}")).await, StatusCode::NOT_FOUND);
        assert_eq!(c.delete("rita", &format!("/v2/images/{private}")).await, StatusCode::FORBIDDEN);
        // Sharing.
        let members = format!("/v2/images/{shared}/members");
        assert_eq!(c.post("bob", &members, json!({"member": "p2"})).await.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            c.post("alice", &members, json!({"nobody": "p2"})).await.status(),
            StatusCode::BAD_REQUEST
        );
        let r = c.post("alice", &members, json!({"member": "p2"})).await;
        assert_eq!(r.status(), StatusCode::OK);
        assert_eq!(body(r).await["status"], "pending");
        assert_eq!(c.post("alice", &members, json!({"member": "p2"})).await.status(), StatusCode::CONFLICT);
        assert_eq!(see("bob", &shared).await, 200);
        assert!(!list(&c, "bob", "").await.contains(&shared));
        assert_eq!(list(&c, "bob", "?visibility=shared&member_status=pending").await, [shared.as_str()]);
        let answer = async |who: &str, status: &str| {
            let r =
                c.ask(who, Method::PUT, &format!("{members}/p2")).body(json!({"status": status}).to_string());
            r.send().await.unwrap().status().as_u16()
        };
        assert_eq!(answer("alice", "accepted").await, 403);
        assert_eq!(answer("bob", "perhaps").await, 400);
        assert_eq!(answer("bob", "accepted").await, 200);
        assert!(list(&c, "bob", "").await.contains(&shared));
        assert_eq!(c.read("bob", &members).await["members"].as_array().unwrap().len(), 1);
        assert_eq!(c.post("bob", &members, json!({"member": "p9"})).await.status(), StatusCode::FORBIDDEN);
        assert_eq!(c.read("rita", &format!("{members}/p2")).await["status"], "accepted");
        assert_eq!(c.delete("alice", &format!("{members}/p2")).await, StatusCode::NO_CONTENT);
        assert_eq!(c.delete("alice", &format!("{members}/p2")).await, StatusCode::NOT_FOUND);
        assert_eq!(see("bob", &shared).await, 404);
        let on_private =
            c.post("alice", &format!("/v2/images/{private}/members"), json!({"member": "p2"})).await;
        assert_eq!(on_private.status(), StatusCode::FORBIDDEN);
        for id in [private, shared, community, public] {
            assert_eq!(c.delete("admin", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        }
        c.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_sorted_and_paged() {
    for db in testbed::databases().await {
        let c = Cloud::new(db).await;
        let mut all = Vec::new();
        for n in 0..7 {
            let format = if n % 2 == 0 { "raw" } else { "qcow2" };
            let hidden = n == 6;
            let image = json!({"name": format!("n{}", n / 2), "disk_format": format, "tags": [format!("t{n}"), "every"],
                "os_hidden": hidden, "kind": format!("k{}", n % 3), "min_ram": n});
            all.push(c.create("alice", image).await);
        }
        let q = async |query: &str| list(&c, "alice", query).await;
        let pick = |ns: &[usize]| ns.iter().map(|n| all[*n].clone()).collect::<Vec<_>>();
        assert_eq!(q("").await, pick(&[5, 4, 3, 2, 1, 0]));
        assert_eq!(q("?os_hidden=true").await, pick(&[6]));
        assert_eq!(q("?name=n1&sort=disk_format:asc").await, pick(&[3, 2]));
        assert_eq!(q("?name=in:n0,n2&sort_key=created_at&sort_dir=asc").await, pick(&[0, 1, 4, 5]));
        assert_eq!(q("?tag=t3&tag=every").await, pick(&[3]));
        assert_eq!(q("?kind=k1").await, pick(&[4, 1]));
        assert_eq!(q("?disk_format=raw&min_ram=4").await, pick(&[4]));
        assert_eq!(q("?owner=p1&status=queued&protected=false").await.len(), 6);
        assert!(q("?status=active").await.is_empty());
        assert!(q("?created_at=lt:2020-01-01T00:00:00Z").await.is_empty());
        assert_eq!(q("?updated_at=gt:2020-01-01T00:00:00Z").await.len(), 6);
        for (sort, expected) in
            [("sort=name:asc,disk_format:desc", [0, 1, 2, 3, 4, 5]), ("sort=size:desc", [5, 4, 3, 2, 1, 0])]
        {
            let mut seen = Vec::new();
            let mut url = format!("/v2/images?limit=4&{sort}");
            loop {
                let page = c.read("alice", &url).await;
                seen.extend(ids(&page));
                match page.get("next") {
                    Some(next) => url = next.as_str().unwrap().to_owned(),
                    None => break,
                }
            }
            assert_eq!(seen, pick(&expected), "{sort}");
        }
        assert!(q("?limit=0").await.is_empty());
        for bad in ["?limit=x", "?marker=none", "?sort=secret", "?visibility=x", "?size_min=x"] {
            assert_eq!(
                c.get("alice", &format!("/v2/images{bad}")).await.status(),
                StatusCode::BAD_REQUEST,
                "{bad}"
            );
        }
        for id in &all {
            c.delete("alice", &format!("/v2/images/{id}")).await;
        }
        c.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_protection_and_deactivation() {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    let id = c.raw("alice").await;
    let at = |rest: &str| format!("/v2/images/{id}{rest}");
    let put = async |path: String| c.ask("alice", Method::PUT, &path).send().await.unwrap().status().as_u16();
    assert_eq!(put(at("/tags/a%20b")).await, 204);
    assert_eq!(c.show(&id).await["tags"], json!(["a b"]));
    assert_eq!(put(at(&format!("/tags/{}", "x".repeat(256)))).await, 400);
    assert_eq!(c.delete("alice", &at("/tags/a%20b")).await, StatusCode::NO_CONTENT);
    assert_eq!(c.delete("alice", &at("/tags/a%20b")).await, StatusCode::NOT_FOUND);
    let act = async |what: &str| {
        c.post("alice", &at(&format!("/actions/{what}")), json!({})).await.status().as_u16()
    };
    assert_eq!(act("deactivate").await, 403);
    c.put("alice", &id, "file", "bytes").await;
    assert_eq!(act("deactivate").await, 204);
    assert_eq!(c.show(&id).await["status"], "deactivated");
    assert_eq!(c.get("alice", &at("/file")).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(c.get("admin", &at("/file")).await.status(), StatusCode::OK);
    assert_eq!(act("reactivate").await, 204);
    assert_eq!(c.file("alice", &id).await, b"bytes");
    c.patch("alice", &id, json!([{"op": "replace", "path": "/protected", "value": true}])).await;
    assert_eq!(c.delete("alice", &at("")).await, StatusCode::FORBIDDEN);
    c.patch("alice", &id, json!([{"op": "replace", "path": "/protected", "value": false}])).await;
    let frozen =
        c.patch("alice", &id, json!([{"op": "replace", "path": "/disk_format", "value": "iso"}])).await;
    assert_eq!(frozen.status(), StatusCode::FORBIDDEN);
    assert_eq!(c.delete("alice", &at("")).await, StatusCode::NO_CONTENT);
    c.end().await;
}
