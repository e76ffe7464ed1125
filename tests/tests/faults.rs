//! Engines that fail under a running cloud: a hung OSD and a full pool are told clearly, nothing acknowledged is
//! lost, nothing sticks, and the cloud heals by itself.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod cloud;

use cloud::wire::Wire;
use cloud::{Cloud, Session};
use serde_json::json;
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_osd_and_a_full_pool_lose_nothing() {
    let cloud = Cloud::up();
    let demo = cloud.demo().await;
    let bucket = cloud.url(&format!("/v1/AUTH_{}/faults", demo.project().await));
    demo.put(&bucket, b"").await;
    demo.put(&format!("{bucket}/before"), b"acknowledged").await;
    hung_osd(&cloud, &demo, &bucket).await;
    full_pool(&cloud, &demo, &bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_database_is_told_and_nothing_sticks() {
    let url = testbed::database_url().await;
    let target = url.split('@').nth(1).unwrap().split('/').next().unwrap();
    let wire = Wire::to(target).await;
    let through = url.replacen(target, &format!("127.0.0.1:{}", wire.port), 1);
    let cloud = Cloud::up_with(&["--database", &through]);
    let demo = cloud.demo().await;
    let bucket = cloud.url(&format!("/v1/AUTH_{}/faults", demo.project().await));
    demo.put(&bucket, b"").await;
    demo.put(&format!("{bucket}/before"), b"acknowledged").await;
    let before = volume(&demo).await;
    demo.until(&before, "/volume/status", "available").await;
    let during = volume(&demo).await;

    wire.cut();
    let (status, body) = demo.get("/volume/v3/volumes").await;
    assert_eq!(status, 503, "{body}");
    let (status, body) = demo.call("POST", "/volume/v3/volumes", Some(json!({"volume": {"size": 1}}))).await;
    assert_eq!(status, 503, "{body}");
    // A token that has been seen, and objects, need no database.
    assert_eq!(demo.bytes(&format!("{bucket}/before")).await, b"acknowledged");

    wire.mend();
    // What was on its way goes on, and what was refused has left nothing.
    demo.until(&during, "/volume/status", "available").await;
    let listed = demo.ok("GET", "/volume/v3/volumes", None).await;
    assert_eq!(listed["volumes"].as_array().unwrap().len(), 2, "{listed}");
    for path in [before, during] {
        demo.ok("DELETE", &path, None).await;
        demo.until_gone(&path).await;
    }
}

/// Asks for a volume of 1 GiB: its path.
async fn volume(demo: &Session) -> String {
    let volume = demo.ok("POST", "/volume/v3/volumes", Some(json!({"volume": {"size": 1}}))).await;
    format!("/volume/v3/volumes/{}", volume["volume"]["id"].as_str().unwrap())
}

async fn hung_osd(cloud: &Cloud, demo: &Session, bucket: &str) {
    let osd = std::fs::read_to_string(cloud.path("run/ceph-osd.0.pid")).unwrap();
    signal(&osd, "STOP");
    let path = volume(demo).await;
    let (status, text) = demo.try_put(&format!("{bucket}/during"), b"never acknowledged").await;
    signal(&osd, "CONT");
    assert_eq!(status, 503, "{text}");
    assert_eq!(demo.bytes(&format!("{bucket}/before")).await, b"acknowledged");
    demo.put(&format!("{bucket}/after"), b"healed").await;
    demo.until(&path, "/volume/status", "available").await;
    demo.ok("DELETE", &path, None).await;
    demo.until_gone(&path).await;
}

async fn full_pool(cloud: &Cloud, demo: &Session, bucket: &str) {
    quota(cloud, "1");
    // The monitors tell the OSDs that the pool is full within a few seconds; until then writes are taken. A name
    // each: what takes no more room than before is taken by a full pool too.
    let mut n = 0;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let (status, text) = loop {
        n += 1;
        let answer = demo.try_put(&format!("{bucket}/full-{n}"), &vec![7; 1 << 20]).await;
        if answer.0 >= 300 {
            break answer;
        }
        assert!(std::time::Instant::now() < end, "the pool takes writes beyond its quota");
    };
    assert!(matches!(status, 503 | 507), "{status} {text}");
    assert_eq!(demo.bytes(&format!("{bucket}/before")).await, b"acknowledged");
    quota(cloud, "0");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while demo.try_put(&format!("{bucket}/full"), b"room again").await.0 != 201 {
        assert!(std::time::Instant::now() < end, "the pool stays full");
    }
    assert_eq!(demo.bytes(&format!("{bucket}/full")).await, b"room again");
}

fn signal(pid: &str, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), pid.trim()]).status().unwrap();
    assert!(sent.success());
}

fn quota(cloud: &Cloud, bytes: &str) {
    let mut ceph = Command::new("ceph");
    ceph.arg("-c").arg(cloud.path("ceph/ceph.conf")).args([
        "osd",
        "pool",
        "set-quota",
        "objects",
        "max_bytes",
        bytes,
    ]);
    let out = ceph.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
