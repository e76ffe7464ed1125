//! Metadata definitions through the API, on both databases.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Cloud, body};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const AT: &str = "/v2/metadefs/namespaces";

async fn clouds() -> Vec<Cloud> {
    let mut all = Vec::new();
    for db in testbed::databases().await {
        all.push(Cloud::new(db).await);
    }
    all
}

/// The status, and the body where it is JSON.
async fn call(c: &Cloud, who: &str, method: Method, path: &str, sent: Value) -> (u16, Value) {
    let mut request = c.ask(who, method, path);
    if !sent.is_null() {
        request = request.json(&sent);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

async fn done(c: &Cloud, method: Method, path: &str, sent: Value, wanted: u16) -> Value {
    let (status, found) = call(c, "admin", method.clone(), path, sent).await;
    assert_eq!(status, wanted, "{method} {path}: {found}");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_whole() {
    for c in clouds().await {
        let new = json!({"namespace": "OS::Test", "display_name": "Test", "visibility": "public", "protected": true,
            "resource_type_associations": [{"name": "OS::Glance::Image", "prefix": "hw_"}],
            "properties": {"cores": {"title": "Cores", "type": "integer", "minimum": 1, "default": 2}},
            "objects": [{"name": "CPU", "required": ["x"], "properties": {"x": {"title": "X", "type": "string"}}}],
            "tags": [{"name": "fast"}]});
        let made = done(&c, Method::POST, AT, new.clone(), 201).await;
        assert_eq!(
            (&made["owner"], &made["schema"]),
            (&json!("p0"), &json!("/v2/schemas/metadefs/namespace"))
        );
        let (status, found) = call(&c, "admin", Method::POST, AT, new).await;
        assert_eq!((status, found.to_string().contains("already exists")), (409, true), "{found}");

        // Public: everybody reads it, nobody else writes it.
        let shown = c.read("rita", &format!("{AT}/OS::Test")).await;
        assert_eq!(
            shown["properties"]["cores"],
            json!({"title": "Cores", "type": "integer", "minimum": 1, "default": 2})
        );
        assert_eq!(shown["objects"][0]["name"], "CPU");
        assert_eq!(shown["tags"], json!([{"name": "fast"}]));
        assert_eq!(shown["resource_type_associations"][0]["prefix"], "hw_");
        let shown = c.read("rita", &format!("{AT}/OS::Test?resource_type=OS::Glance::Image")).await;
        assert!(shown["properties"]["hw_cores"].is_object(), "{shown}");
        let one = format!("{AT}/OS::Test/properties/hw_cores?resource_type=OS::Glance::Image");
        assert_eq!(c.read("rita", &one).await["name"], "hw_cores");
        for (method, path, sent) in [
            (Method::PUT, "", json!({"namespace": "OS::Test"})),
            (Method::DELETE, "", Value::Null),
            (Method::POST, "/tags/slow", Value::Null),
            (Method::POST, "/objects", json!({"name": "o"})),
            (Method::DELETE, "/properties/cores", Value::Null),
            (Method::POST, "/resource_types", json!({"name": "OS::Nova::Flavor"})),
        ] {
            let (status, found) = call(&c, "alice", method, &format!("{AT}/OS::Test{path}"), sent).await;
            assert_eq!(status, 403, "{path}: {found}");
        }
        assert_eq!(call(&c, "alice", Method::POST, AT, json!({"namespace": "mine"})).await.0, 403);

        // Protected until it is not; private for its owner alone; another name takes all along.
        for path in [
            "",
            "/objects/CPU",
            "/objects",
            "/properties/cores",
            "/tags/fast",
            "/tags",
            "/resource_types/OS::Glance::Image",
        ] {
            done(&c, Method::DELETE, &format!("{AT}/OS::Test{path}"), Value::Null, 403).await;
        }
        // What a change does not say is as in a new namespace: private and unprotected.
        let change = json!({"namespace": "OS::Other"});
        let changed = done(&c, Method::PUT, &format!("{AT}/OS::Test"), change, 200).await;
        assert_eq!((&changed["visibility"], &changed["protected"]), (&json!("private"), &json!(false)));
        assert!(changed.get("display_name").is_none(), "{changed}");
        assert_eq!(c.get("rita", &format!("{AT}/OS::Other")).await.status(), StatusCode::NOT_FOUND);
        assert_eq!(c.read("rita", AT).await["namespaces"], json!([]));
        assert_eq!(c.read("admin", &format!("{AT}/OS::Other")).await["tags"], json!([{"name": "fast"}]));
        done(&c, Method::DELETE, &format!("{AT}/OS::Other"), Value::Null, 204).await;
        done(&c, Method::GET, &format!("{AT}/OS::Other/objects"), Value::Null, 404).await;
        // The next of this name begins empty.
        done(&c, Method::POST, AT, json!({"namespace": "OS::Other"}), 201).await;
        assert_eq!(c.read("admin", &format!("{AT}/OS::Other/objects")).await["objects"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_properties_tags_and_types() {
    for c in clouds().await {
        done(&c, Method::POST, AT, json!({"namespace": "n", "visibility": "public"}), 201).await;
        let at = |path: &str| format!("{AT}/n/{path}");
        // objects
        let made =
            done(&c, Method::POST, &at("objects"), json!({"name": "o", "description": "d"}), 201).await;
        assert_eq!((&made["self"], &made["description"]), (&json!(at("objects/o")), &json!("d")));
        done(&c, Method::POST, &at("objects"), json!({"name": "o"}), 409).await;
        let changed = done(&c, Method::PUT, &at("objects/o"), json!({"name": "p"}), 200).await;
        assert_eq!((&changed["name"], changed.get("description")), (&json!("p"), None));
        done(&c, Method::GET, &at("objects/o"), Value::Null, 404).await;
        assert_eq!(c.read("rita", &at("objects")).await["objects"][0]["name"], "p");
        done(&c, Method::DELETE, &at("objects/p"), Value::Null, 204).await;
        done(&c, Method::DELETE, &at("objects/p"), Value::Null, 404).await;
        // properties
        let new = json!({"name": "q", "title": "Q", "type": "string", "enum": ["a", "b"]});
        assert_eq!(done(&c, Method::POST, &at("properties"), new.clone(), 201).await, new);
        done(&c, Method::POST, &at("properties"), new, 409).await;
        let change = json!({"name": "r", "title": "R", "type": "string"});
        done(&c, Method::PUT, &at("properties/q"), change, 200).await;
        assert_eq!(
            c.read("rita", &at("properties")).await,
            json!({"properties": {"r": {"title": "R", "type": "string"}}})
        );
        done(&c, Method::DELETE, &at("properties"), Value::Null, 204).await;
        assert_eq!(c.read("rita", &at("properties")).await, json!({"properties": {}}));
        // tags: replaced, appended, one by one
        let three = json!({"tags": [{"name": "a"}, {"name": "b"}, {"name": "c"}]});
        assert_eq!(done(&c, Method::POST, &at("tags"), three.clone(), 201).await, three);
        done(&c, Method::POST, &at("tags"), json!({"tags": [{"name": "d"}]}), 201).await;
        let request = c.ask("admin", Method::POST, &at("tags")).header("x-openstack-append", "True");
        let added = request.json(&json!({"tags": [{"name": "e"}]})).send().await.unwrap();
        assert_eq!(added.status(), StatusCode::CREATED);
        done(&c, Method::POST, &at("tags/f"), Value::Null, 201).await;
        done(&c, Method::POST, &at("tags/f"), Value::Null, 409).await;
        done(&c, Method::PUT, &at("tags/f"), json!({"name": "g"}), 200).await;
        let names = c.read("rita", &at("tags")).await["tags"].clone();
        assert_eq!(names, json!([{"name": "d"}, {"name": "e"}, {"name": "g"}]));
        let first = c.read("rita", &at("tags?limit=2")).await;
        assert_eq!(first["tags"].as_array().unwrap().len(), 2);
        let rest = c.read("rita", first["next"].as_str().unwrap()).await;
        assert_eq!((&rest["tags"], rest.get("next")), (&json!([{"name": "g"}]), None));
        done(&c, Method::DELETE, &at("tags"), Value::Null, 204).await;
        // resource types
        let known = c.read("rita", "/v2/metadefs/resource_types").await;
        assert!(known["resource_types"].as_array().unwrap().iter().any(|t| t["name"] == "OS::Glance::Image"));
        done(&c, Method::POST, &at("resource_types"), json!({"name": "My::Thing", "prefix": "my_"}), 201)
            .await;
        done(&c, Method::POST, &at("resource_types"), json!({"name": "My::Thing"}), 409).await;
        let known = c.read("rita", "/v2/metadefs/resource_types").await;
        assert!(known["resource_types"].as_array().unwrap().iter().any(|t| t["name"] == "My::Thing"));
        let all = c.read("rita", &format!("{AT}?resource_types=My::Thing,Other")).await;
        assert_eq!(all["namespaces"][0]["namespace"], "n");
        assert_eq!(c.read("rita", &format!("{AT}?resource_types=Other")).await["namespaces"], json!([]));
        done(&c, Method::DELETE, &at("resource_types/My::Thing"), Value::Null, 204).await;
        assert_eq!(c.read("rita", &at("resource_types")).await["resource_type_associations"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_schemas_and_bad_bodies() {
    let c = clouds().await.remove(0);
    for name in ["c", "a", "b"] {
        done(&c, Method::POST, AT, json!({"namespace": name, "visibility": "public"}), 201).await;
    }
    done(&c, Method::POST, AT, json!({"namespace": "private"}), 201).await;
    let names = async |query: &str| {
        let page = c.read("alice", &format!("{AT}{query}")).await;
        let all = page["namespaces"].as_array().unwrap().iter();
        all.map(|n| n["namespace"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("?sort_key=namespace&sort_dir=asc").await, ["a", "b", "c"]);
    assert_eq!(names("?sort_key=namespace&sort_dir=asc&limit=1&marker=a").await, ["b"]);
    assert_eq!(names("?sort_key=namespace&sort_dir=desc&limit=2").await, ["c", "b"]);
    assert!(names("?visibility=private").await.is_empty());
    for query in ["?visibility=shared", "?sort_key=colour", "?sort_dir=up", "?limit=-1", "?limit=x"] {
        assert_eq!(c.get("alice", &format!("{AT}{query}")).await.status(), 400, "{query}");
    }
    assert_eq!(c.get("alice", &format!("{AT}?marker=private")).await.status(), 404);

    for (schema, name) in [
        ("namespace", "namespace"),
        ("namespaces", "namespaces"),
        ("object", "object"),
        ("objects", "objects"),
        ("property", "property"),
        ("properties", "properties"),
        ("tag", "tag"),
        ("tags", "tags"),
        ("resource_type", "resource_type_association"),
        ("resource_types", "resource_type_associations"),
    ] {
        assert_eq!(c.read("rita", &format!("/v2/schemas/metadefs/{schema}")).await["name"], name);
    }
    assert_eq!(c.get("rita", "/v2/schemas/metadefs/nothing").await.status(), 404);

    let long = "x".repeat(81);
    for (path, sent) in [
        ("", json!({})),
        ("", json!({"namespace": ""})),
        ("", json!({"namespace": long})),
        ("", json!({"namespace": "x", "visibility": "shared"})),
        ("", json!({"namespace": "x", "colour": "red"})),
        ("", json!({"namespace": "x", "properties": {"p": {"title": "no type"}}})),
        ("/a/objects", json!({"name": "o", "properties": {"p": {"title": "t", "type": "nonsense"}}})),
        ("/a/objects", json!([])),
        ("/a/properties", json!({"name": "p"})),
        ("/a/tags", json!({"tags": [{"title": "t"}]})),
        ("/a/tags", json!({"tags": "all"})),
        ("/a/resource_types", json!({"prefix": "p"})),
    ] {
        let (status, found) = call(&c, "admin", Method::POST, &format!("{AT}{path}"), sent.clone()).await;
        assert_eq!(status, 400, "{path} {sent}: {found}");
    }
    let two = json!({"tags": [{"name": "same"}, {"name": "same"}]});
    done(&c, Method::POST, &format!("{AT}/a/tags"), two, 409).await;
    assert_eq!(
        body(c.get("rita", &format!("{AT}/a/tags")).await).await["tags"],
        json!([]),
        "none of a refused list"
    );
}

/// What tempest's suite for metadata definitions does, step by step.
#[tokio::test(flavor = "multi_thread")]
async fn as_the_integration_tests_walk() {
    for c in clouds().await {
        let known = c.read("admin", "/v2/metadefs/resource_types").await;
        let kind = known["resource_types"][0]["name"].as_str().unwrap().to_owned();
        // namespaces
        let new = json!({"namespace": "ns", "visibility": "public", "description": "Tempest", "display_name": "ns",
            "resource_type_associations": [{"name": kind}], "protected": true});
        done(&c, Method::POST, AT, new, 201).await;
        assert_eq!(c.read("admin", AT).await["namespaces"][0]["namespace"], "ns");
        let one = format!("{AT}/ns");
        let shown = c.read("admin", &one).await;
        assert_eq!((&shown["namespace"], &shown["visibility"]), (&json!("ns"), &json!("public")));
        done(&c, Method::DELETE, &one, Value::Null, 403).await;
        let change = json!({"namespace": "ns", "description": "Tempest", "visibility": "private", "display_name": "ns",
            "protected": false});
        let changed = done(&c, Method::PUT, &one, change, 200).await;
        assert_eq!((&changed["visibility"], &changed["protected"]), (&json!("private"), &json!(false)));
        done(&c, Method::DELETE, &one, Value::Null, 204).await;
        done(&c, Method::GET, &one, Value::Null, 404).await;

        let new = json!({"namespace": "t", "visibility": "public", "description": "Tempest", "protected": false, "display_name": "t"});
        done(&c, Method::POST, AT, new, 201).await;
        let at = |path: &str| format!("{AT}/t/{path}");
        // objects
        done(&c, Method::POST, &at("objects"), json!({"name": "object"}), 201).await;
        assert_eq!(c.read("admin", &at("objects")).await["objects"][0]["name"], "object");
        assert_eq!(c.read("admin", &at("objects/object")).await["name"], "object");
        let renamed =
            done(&c, Method::PUT, &at("objects/object"), json!({"name": "update-object"}), 200).await;
        assert_eq!(renamed["name"], "update-object");
        done(&c, Method::DELETE, &at("objects/update-object"), Value::Null, 204).await;
        assert_eq!(c.read("admin", &at("objects")).await["objects"], json!([]));
        // resource types
        let made = done(&c, Method::POST, &at("resource_types"), json!({"name": kind}), 201).await;
        assert_eq!(made["name"], kind);
        let listed = c.read("admin", &at("resource_types")).await;
        assert_eq!(listed["resource_type_associations"][0]["name"], kind);
        // properties, one of the name of a resource type
        let property = |title: &str| json!({"title": title, "name": kind, "type": "string", "enum": ["xen", "qemu", "kvm"]});
        assert_eq!(done(&c, Method::POST, &at("properties"), property("p"), 201).await["title"], "p");
        let path = at(&format!("properties/{kind}"));
        assert_eq!(c.read("admin", &path).await["name"], kind);
        assert_eq!(done(&c, Method::PUT, &path, property("q"), 200).await["title"], "q");
        done(&c, Method::DELETE, &path, Value::Null, 204).await;
        assert_eq!(c.read("admin", &at("properties")).await["properties"], json!({}));
        done(&c, Method::DELETE, &at(&format!("resource_types/{kind}")), Value::Null, 204).await;
        assert_eq!(c.read("admin", &at("resource_types")).await["resource_type_associations"], json!([]));
        // tags
        let three =
            json!({"tags": [{"name": "sample-tag1"}, {"name": "sample-tag2"}, {"name": "sample-tag3"}]});
        done(&c, Method::POST, &at("tags"), three, 201).await;
        assert_eq!(c.read("admin", &at("tags")).await["tags"].as_array().unwrap().len(), 3);
        done(&c, Method::POST, &at("tags/tag"), Value::Null, 201).await;
        assert_eq!(c.read("admin", &at("tags/tag")).await["name"], "tag");
        assert_eq!(
            done(&c, Method::PUT, &at("tags/tag"), json!({"name": "other"}), 200).await["name"],
            "other"
        );
        done(&c, Method::DELETE, &at("tags/other"), Value::Null, 204).await;
        done(&c, Method::DELETE, &at("tags"), Value::Null, 204).await;
        assert_eq!(c.read("admin", &at("tags")).await["tags"], json!([]));
        done(&c, Method::DELETE, &format!("{AT}/t"), Value::Null, 204).await;
    }
}
