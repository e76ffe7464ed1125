//! A store whose cluster is away: what concerns it is refused within its deadline, and the others serve.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Cloud, body, ended, new, noise};
use imagestore::Config;
use pool::{ClusterConfig, Clusters, TierConfig, Tiers};
use reqwest::{Method, StatusCode};
use serde_json::json;
use std::time::{Duration, Instant};

/// With the further store `far`, whose monitors nobody has ever seen. An operation there has a second.
async fn cloud() -> Cloud {
    let dir = std::env::temp_dir().join(testbed::unique("away"));
    std::fs::create_dir_all(&dir).unwrap();
    // Nobody listens there.
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let conf = dir.join("ceph.conf");
    let text = format!("[global]\nmon_host = [v2:127.0.0.1:{port}]\nauth_client_required = none\n");
    std::fs::write(&conf, text).unwrap();
    let far = ClusterConfig { timeout_s: 1, ..ClusterConfig::new("far", conf) };
    let clusters =
        Clusters::connect(&[ClusterConfig::new("main", &testbed::ceph().conf), far]).await.unwrap();
    let namespace = testbed::unique("image");
    let tier = |name: &str, cluster: &str| TierConfig {
        name: name.into(),
        cluster: cluster.into(),
        pool: "rbd".into(),
        data_pool: None,
        namespace: Some(namespace.clone()),
    };
    let tiers = Tiers::new(&clusters, &[tier("images", "main"), tier("far", "far")]).unwrap();
    tiers.get("images").unwrap().pool.rbd().namespace_create(&namespace).await.unwrap();
    let config = Config { stores: vec!["far".into()], ..Config::default() };
    Cloud::start(testbed::databases().await.remove(0), tiers, namespace, config).await
}

/// Done, or refused, before anybody thinks that it hangs.
async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let done = work.await;
    assert!(began.elapsed() < Duration::from_secs(25), "{what} took {:?}", began.elapsed());
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_nobody_elses_trouble() {
    let c = cloud().await;
    let bytes = noise(3_000_000, 3);
    let image = |id: &str| format!("/v2/images/{id}");
    let near = new(&c, "raw").await;
    assert_eq!(c.put("alice", &near, "file", bytes.clone()).await.status(), StatusCode::NO_CONTENT);

    // An upload there.
    let far = new(&c, "raw").await;
    let put = c.ask("alice", Method::PUT, &format!("{}/file", image(&far)));
    let put = put.header("content-type", "application/octet-stream").header("x-image-meta-store", "far");
    let r = soon("an upload", put.body(bytes.clone()).send()).await.unwrap();
    assert_eq!(r.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(body(r).await["message"].is_string());

    // A download from there.
    let lost = new(&c, "raw").await;
    assert_eq!(c.put("alice", &lost, "file", bytes.clone()).await.status(), StatusCode::NO_CONTENT);
    let away = async |store: &str| {
        let mut tx = c.db.begin().await.unwrap();
        let move_it = sqlx::query("UPDATE images SET store = $1 WHERE id = $2").bind(store).bind(&lost);
        move_it.execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
    };
    away("far").await;
    let r = soon("a download", c.get("alice", &format!("{}/file", image(&lost)))).await;
    assert_eq!(r.status(), StatusCode::SERVICE_UNAVAILABLE);
    let r = soon("locations", c.get("service", &format!("{}/locations", image(&lost)))).await;
    assert_eq!(r.status(), StatusCode::SERVICE_UNAVAILABLE);
    // It can be described, and goes at once.
    assert_eq!(c.show(&lost).await["stores"], "far");
    away("images").await;

    // A copy there: the image serves all the while.
    let copy = json!({"method": {"name": "copy-image"}, "stores": ["far"]});
    let asked = soon("a copy", c.post("admin", &format!("{}/import", image(&lost)), copy)).await;
    assert_eq!(asked.status(), StatusCode::ACCEPTED);
    assert!(c.file("alice", &lost).await == bytes);

    // An import that need not be in all stores is in the others.
    let both = new(&c, "raw").await;
    assert_eq!(c.put("alice", &both, "stage", bytes.clone()).await.status(), StatusCode::NO_CONTENT);
    let all =
        json!({"method": {"name": "glance-direct"}, "all_stores": true, "all_stores_must_succeed": false});
    assert_eq!(common::import(&c, &both, all).await, 202);
    assert_eq!(ended(&c, &both).await["status"], "success");
    let shown = c.show(&both).await;
    assert_eq!((&shown["stores"], &shown["os_glance_failed_import"]), (&json!("images"), &json!("far")));

    // Nothing else has noticed.
    for id in [&near, &both] {
        assert!(c.file("alice", id).await == bytes);
    }
    assert_eq!(soon("a list", c.read("alice", "/v2/images")).await["images"].as_array().unwrap().len(), 4);
    soon("the stores", c.read("admin", "/v2/info/stores/detail")).await;
    for id in [&near, &far, &lost, &both] {
        assert_eq!(soon("a delete", c.delete("alice", &image(id))).await, StatusCode::NO_CONTENT);
        assert_eq!(c.get("alice", &image(id)).await.status(), StatusCode::NOT_FOUND);
    }
    let near_by = async || c.rbd().list().await.unwrap();
    // What was to be in the far store as well waits for it; the others go.
    common::until("the rest is gone", async || !near_by().await.iter().any(|n| *n == near || *n == both))
        .await;
    c.stop.cancel();
}
