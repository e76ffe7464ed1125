//! Storage that fails under an upload.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod common;

use common::{Cloud, noise, until};
use imagestore::Config;
use reqwest::StatusCode;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_refuses_and_keeps_nothing() {
    let cluster = common::clusters().await.get("main").unwrap();
    let name = testbed::unique("image-full");
    cluster.create_pool(&name, "rbd").await.unwrap();
    let quota = async |bytes: &str| {
        let set = json!({"prefix": "osd pool set-quota", "pool": name, "field": "max_bytes", "val": bytes});
        cluster.mon_command(set).await.unwrap();
    };
    quota("20000000").await;
    let (tiers, namespace) = common::tiers_in(&name).await;
    let db = testbed::databases().await.remove(0);
    let c = Cloud::start(db, tiers, namespace, Config::default()).await;
    // A quota is noticed only after a while, so that some fit more than it says.
    let mut stored = Vec::new();
    let refused = loop {
        let id = c.raw("alice").await;
        let r = c.put("alice", &id, "file", noise(24_000_000, 1)).await;
        if r.status() != StatusCode::NO_CONTENT {
            assert_eq!(r.status(), StatusCode::PAYLOAD_TOO_LARGE, "{}", r.text().await.unwrap());
            break id;
        }
        stored.push(id);
        assert!(stored.len() < 60, "the quota is not noticed");
    };
    quota("0").await;
    c.until_status(&refused, "queued").await;
    until("only what was stored is left", async || c.rbd().list().await.unwrap().len() == stored.len()).await;
    assert!(c.show(&refused).await["size"].is_null());
    assert!(c.rbd().trash_list().await.unwrap().is_empty());
    until("there is room again", async || {
        c.put("alice", &refused, "file", noise(1_000_000, 1)).await.status() == StatusCode::NO_CONTENT
    })
    .await;
    for id in stored.iter().chain([&refused]) {
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
    }
    c.end().await;
    cluster.delete_pool(&name).await.unwrap();
}
