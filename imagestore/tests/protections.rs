//! Property protections, as the file that an operator writes rules them.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Cloud, body};
use imagestore::{Config, RuleFormat};
use reqwest::StatusCode;
use serde_json::{Value, json};

const ROLES: &str = "
# what billing knows
[^billing_]
create = admin
read = admin,member
update = admin
delete = admin
[^secret_]
create = admin
read = admin
update = admin
delete = admin
[^fixed_]
create = @
read = @
update = !
[^free_|^os_]
create = @
read = @
update = @
delete = @
";

const POLICIES: &str = "
[^secret_]
create = context_is_admin
read = context_is_admin
update = context_is_admin
delete = context_is_admin
[.*]
create = @
read = @
update = @
delete = @
";

async fn cloud(rules: &str, format: RuleFormat) -> (Cloud, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("protections.conf");
    std::fs::write(&file, rules).unwrap();
    let config = Config {
        property_protection_file: Some(file),
        property_protection_rule_format: format,
        ..Config::default()
    };
    (Cloud::with(testbed::databases().await.remove(0), config).await, dir)
}

async fn patched(c: &Cloud, who: &str, id: &str, op: &str, name: &str, value: &str) -> u16 {
    let mut change = json!({"op": op, "path": format!("/{name}")});
    if op != "remove" {
        change["value"] = json!(value);
    }
    c.patch(who, id, json!([change])).await.status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn roles() {
    let (c, _dir) = cloud(ROLES, RuleFormat::Roles).await;
    let made = async |who: &str, name: &str| c.post(who, "/v2/images", json!({name: "x"})).await.status();
    for name in ["billing_code", "secret_key", "anything"] {
        assert_eq!(made("alice", name).await, StatusCode::FORBIDDEN, "{name}");
    }
    assert_eq!(made("admin", "anything").await, StatusCode::FORBIDDEN, "ruled by no section");

    let id = c.create("alice", json!({"free_a": "1", "fixed_a": "1"})).await;
    assert_eq!(patched(&c, "admin", &id, "add", "billing_code", "7").await, 200);
    assert_eq!(patched(&c, "admin", &id, "add", "secret_key", "7").await, 200);
    let seen = async |who: &str| c.read(who, &format!("/v2/images/{id}")).await;
    let (alice, rita, admin) = (seen("alice").await, seen("rita").await, seen("admin").await);
    assert_eq!((&alice["billing_code"], alice.get("secret_key")), (&json!("7"), None));
    assert_eq!((rita.get("billing_code"), &rita["free_a"]), (None, &json!("1")));
    assert_eq!((&admin["billing_code"], &admin["secret_key"]), (&json!("7"), &json!("7")));
    let listed = c.read("alice", "/v2/images").await["images"][0].clone();
    assert_eq!((&listed["billing_code"], listed.get("secret_key")), (&json!("7"), None));

    for (who, op, name, status) in [
        ("alice", "replace", "billing_code", 403),
        ("alice", "remove", "billing_code", 403),
        // what one may not read is not there
        ("alice", "replace", "secret_key", 409),
        ("alice", "remove", "secret_key", 409),
        ("alice", "add", "secret_key", 403),
        ("alice", "replace", "fixed_a", 403),
        ("admin", "replace", "fixed_a", 403),
        ("admin", "remove", "fixed_a", 403),
        ("alice", "add", "anything", 403),
        ("alice", "replace", "free_a", 200),
        ("alice", "remove", "free_a", 200),
        ("alice", "add", "name", 200),
        ("admin", "replace", "billing_code", 200),
    ] {
        assert_eq!(patched(&c, who, &id, op, name, "2").await, status, "{who} {op} {name}");
    }
    // What was hidden from whoever changed the rest is still there.
    let admin = seen("admin").await;
    assert_eq!((&admin["secret_key"], &admin["billing_code"]), (&json!("7"), &json!("2")));
    assert_eq!((&admin["fixed_a"], admin.get("free_a")), (&json!("1"), None));
    assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
    c.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies() {
    let (c, _dir) = cloud(POLICIES, RuleFormat::Policies).await;
    let r = c.post("alice", "/v2/images", json!({"secret_key": "x"})).await;
    assert_eq!(r.status(), StatusCode::FORBIDDEN);
    let r =
        c.post("admin", "/v2/images", json!({"secret_key": "x", "other": "y", "visibility": "public"})).await;
    let made: Value = body(r).await;
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["secret_key"], "x");
    let alice = c.read("alice", &format!("/v2/images/{id}")).await;
    assert_eq!((alice.get("secret_key"), &alice["other"]), (None, &json!("y")));
    assert_eq!(c.delete("admin", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
    c.end().await;
}
