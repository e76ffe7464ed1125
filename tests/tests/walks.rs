//! The heart of the project, end to end: a cloud comes up, unmodified clients walk through it, it is killed
//! in the middle and comes back, it stops cleanly and comes back again.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod cloud;

use cloud::Cloud;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn unmodified_clients_walk_through_a_cloud() {
    let mut cloud = Cloud::up();
    cloud.walk("objects");
    cloud.walk("cloud");
    assert!(cloud.stop().success(), "{}", cloud.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_is_killed_stopped_and_brought_back() {
    let config = cloud::config("trash_sweep_s = 1\n");
    let mut cloud = Cloud::up_with(&["--config", config.path().to_str().unwrap()]);
    survives_a_kill(&mut cloud).await;
    comes_back_after_a_clean_stop(&mut cloud).await;
}

/// `kill -9` with work of every kind in flight: what was acknowledged is carried out.
async fn survives_a_kill(cloud: &mut Cloud) {
    let demo = cloud.demo().await;
    let (image, network) = (image(&demo).await, network(&demo, "kill").await);
    let server = server(&demo, "kill", &image, &network).await;
    let volume =
        |name: &str, from: Option<&str>| json!({"volume": {"name": name, "size": 1, "imageRef": from}});
    let mut made = Vec::new();
    for i in 0..8 {
        let from = (i % 2 == 0).then_some(image.as_str());
        let v = demo.ok("POST", "/volume/v3/volumes", Some(volume(&format!("k{i}"), from))).await;
        made.push(id(&v["volume"]));
    }
    demo.until(&format!("/volume/v3/volumes/{}", made[0]), "/volume/status", "available").await;
    demo.ok("DELETE", &format!("/volume/v3/volumes/{}", made[0]), None).await;
    let doomed =
        demo.ok("POST", "/compute/v2.1/servers", Some(server_body("doomed", &image, &network))).await;
    cloud.kill();
    assert!(qemu_runs(&server), "the guest died with aquifer");
    cloud.start();
    let demo = cloud.demo().await;
    assert!(qemu_runs(&server), "the guest died in the restart");
    demo.until_gone(&format!("/volume/v3/volumes/{}", made[0])).await;
    for v in &made[1..] {
        demo.until(&format!("/volume/v3/volumes/{v}"), "/volume/status", "available").await;
    }
    let doomed = id(&doomed["server"]);
    demo.until(&format!("/compute/v2.1/servers/{doomed}"), "/server/status", "ACTIVE").await;
    demo.until(&format!("/compute/v2.1/servers/{server}"), "/server/status", "ACTIVE").await;
    for v in &made[1..] {
        demo.ok("DELETE", &format!("/volume/v3/volumes/{v}"), None).await;
    }
    for s in [&doomed, &server] {
        demo.ok("DELETE", &format!("/compute/v2.1/servers/{s}"), None).await;
        demo.until_gone(&format!("/compute/v2.1/servers/{s}")).await;
    }
    demo.ok("DELETE", &format!("/network/v2.0/networks/{network}"), None).await;
}

/// Ctrl-C, then `up` again: the same cloud, its data and its servers.
async fn comes_back_after_a_clean_stop(cloud: &mut Cloud) {
    let demo = cloud.demo().await;
    let (image, network) = (image(&demo).await, network(&demo, "stop").await);
    let server = server(&demo, "stop", &image, &network).await;
    assert!(cloud.stop().success(), "{}", cloud.output());
    assert!(!cloud.path("ready").exists());
    assert!(!qemu_runs(&server), "a guest outlived a clean stop");
    cloud.start();
    let demo = cloud.demo().await;
    demo.until(&format!("/compute/v2.1/servers/{server}"), "/server/status", "ACTIVE").await;
    assert!(qemu_runs(&server));
    leaves_no_disk(cloud, &demo, &server).await;
    demo.ok("DELETE", &format!("/network/v2.0/networks/{network}"), None).await;
    assert!(cloud.stop().success(), "{}", cloud.output());
}

/// A server's disk goes with the image that is the last of its clones.
async fn leaves_no_disk(cloud: &Cloud, demo: &cloud::Session, server: &str) {
    let path = format!("/compute/v2.1/servers/{server}");
    demo.ok("POST", &format!("{path}/action"), Some(json!({"createImage": {"name": "last"}}))).await;
    let images = demo.ok("GET", "/image/v2/images?name=last", None).await;
    let image = format!("/image/v2/images/{}", id(&images["images"][0]));
    demo.until(&image, "/status", "active").await;
    demo.ok("DELETE", &path, None).await;
    demo.until_gone(&path).await;
    let disks = pool::ClusterConfig::new("main", cloud.path("ceph/ceph.conf"));
    let disks = pool::Clusters::connect(&[disks]).await.unwrap().get("main").unwrap().pool("vms", None);
    let trash = async || disks.rbd().trash_list().await.unwrap();
    assert_eq!(trash().await.len(), 1, "the image needs it");
    demo.ok("DELETE", &image, None).await;
    let end = Instant::now() + Duration::from_secs(60);
    while !trash().await.is_empty() {
        assert!(Instant::now() < end, "{:?}", trash().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn id(of: &Value) -> String {
    of["id"].as_str().unwrap().to_owned()
}

async fn image(demo: &cloud::Session) -> String {
    id(&demo.ok("GET", "/image/v2/images", None).await["images"][0])
}

async fn network(demo: &cloud::Session, name: &str) -> String {
    let n = demo.ok("POST", "/network/v2.0/networks", Some(json!({"network": {"name": name}}))).await;
    let n = id(&n["network"]);
    let subnet = json!({"subnet": {"network_id": n, "ip_version": 4, "cidr": "10.55.0.0/24"}});
    demo.ok("POST", "/network/v2.0/subnets", Some(subnet)).await;
    n
}

fn server_body(name: &str, image: &str, network: &str) -> Value {
    json!({"server": {"name": name, "imageRef": image, "flavorRef": "1", "networks": [{"uuid": network}]}})
}

async fn server(demo: &cloud::Session, name: &str, image: &str, network: &str) -> String {
    let s = demo.ok("POST", "/compute/v2.1/servers", Some(server_body(name, image, network))).await;
    let s = id(&s["server"]);
    demo.until(&format!("/compute/v2.1/servers/{s}"), "/server/status", "ACTIVE").await;
    s
}

/// Whether a QEMU with this server's uuid runs on this machine.
fn qemu_runs(server: &str) -> bool {
    let out =
        std::process::Command::new("pgrep").args(["-f", &format!("qemu-system.*{server}")]).output().unwrap();
    out.status.success()
}
