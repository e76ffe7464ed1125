//! The durable work under faults: every step repeated, a failure at every step, a controller that dies in between.
//! Failpoints belong to the whole process, so this is one test after another.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Client, Controller, Place, Puppet, small_image};
use serde_json::{Value, json};
use state::failpoint::{self, Action};
use std::sync::Arc;
use std::time::{Duration, Instant};

const S: &str = "/compute/v2.1/servers";

struct Kit {
    c: Controller,
    user: Client,
    image: String,
    net: String,
    _host: tokio::task::JoinHandle<()>,
}

impl Kit {
    fn volumes() -> String {
        format!("/volume/v3/{}/volumes", common::PROJECT)
    }

    async fn volume(&self) -> String {
        let made = self.user.post(&Self::volumes(), json!({"volume": {"size": 1}})).await;
        let id = made["volume"]["id"].as_str().unwrap().to_owned();
        self.until_volume(&id, "available").await;
        id
    }

    async fn until_volume(&self, id: &str, wanted: &str) {
        let began = Instant::now();
        loop {
            let now = self.user.get(&format!("{}/{id}", Self::volumes())).await["volume"]["status"].clone();
            if now == wanted {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "volume is {now}, not {wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A server with a port and a volume beside its own disk.
    async fn order(&self, volume: &str) -> String {
        let disks = json!([{"uuid": volume, "source_type": "volume", "destination_type": "volume", "boot_index": -1}]);
        let body = json!({"server": {"name": "s", "imageRef": self.image, "flavorRef": "42",
            "networks": [{"uuid": self.net}], "block_device_mapping_v2": disks}});
        self.user.post(S, body).await["server"]["id"].as_str().unwrap().to_owned()
    }

    async fn delete(&self, id: &str) {
        assert_eq!(self.user.call("DELETE", &format!("{S}/{id}"), None).await.0, 204);
        self.user.until_gone(id, 30).await;
    }

    /// Nothing is left of the server anywhere.
    async fn clean(&self, id: &str, volume: &str) {
        let disks = self.c.tiers.get("vms").unwrap().pool.rbd().list().await.unwrap();
        assert!(!disks.contains(&format!("{id}_disk")), "its disk is left");
        assert!(self.c.networks.ports_of_device(id).await.unwrap().is_empty(), "a port is left");
        assert!(self.c.volumes.attachments_of_server(id).await.unwrap().is_empty(), "a volume is held");
        self.until_volume(volume, "available").await;
        let placing = self.c.client("admin").at("1.39");
        let (_, left) = placing.call("GET", &format!("/placement/allocations/{id}"), None).await;
        assert_eq!(left["allocations"], json!({}), "room is held");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_under_faults() {
    for db in testbed::databases().await {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let c = Controller::build(db, &Place::shared(), listener, compute::Config::default()).await;
        let puppet = Arc::new(Puppet::register(&c, "h1").await);
        puppet.report(json!([])).await;
        let host = puppet.run();
        let user = c.client("member");
        let net = user.post("/network/v2.0/networks", json!({"network": {"name": "net"}})).await;
        let net = net["network"]["id"].as_str().unwrap().to_owned();
        let subnet = json!({"subnet": {"network_id": net, "ip_version": 4, "cidr": "10.7.0.0/24"}});
        user.post("/network/v2.0/subnets", subnet).await;
        let image = small_image(&c).await;
        let kit = Kit { c, user, image, net, _host: host };
        every_step_repeated(&kit).await;
        a_failure_at_every_step(&kit).await;
        deleted_at_every_step(&kit).await;
        attachments_under_faults(&kit).await;
        kit._host.abort();
        kit.c.images.delete(&common::context(), &kit.image).await.unwrap();
        kit.c.stop().await;
    }
}

const CREATE: [&str; 3] = ["schedule", "prepare", "boot"];

async fn every_step_repeated(kit: &Kit) {
    let all = [
        ("server.create", &CREATE[..]),
        ("server.delete", &["gone", "release", "forget"]),
        ("server.attach-volume", &["take", "plug", "complete"]),
        ("server.detach-volume", &["unplug", "release"]),
        ("server.resize", &["down", "disk", "boot"]),
        ("server.rebuild", &["down", "disk", "boot"]),
        ("server.snapshot", &["snap", "image", "drop"]),
    ];
    for (kind, steps) in all {
        for step in steps {
            failpoint::set(format!("{kind}:{step}:after"), Action::RetryOnce);
        }
    }
    let (first, second) = (kit.volume().await, kit.volume().await);
    let id = kit.order(&first).await;
    let s = kit.user.until_status(&id, "ACTIVE", 30).await;
    assert_eq!(s["addresses"]["net"].as_array().unwrap().len(), 1, "one port: {s}");
    let path = format!("{S}/{id}/os-volume_attachments");
    kit.user.post(&path, json!({"volumeAttachment": {"volumeId": second}})).await;
    kit.until_volume(&second, "in-use").await;
    assert_eq!(kit.user.get(&path).await["volumeAttachments"].as_array().unwrap().len(), 2);
    assert_eq!(kit.user.call("DELETE", &format!("{path}/{second}"), None).await.0, 202);
    kit.until_volume(&second, "available").await;
    kit.user.action(&id, json!({"resize": {"flavorRef": "1"}})).await;
    kit.user.until_status(&id, "VERIFY_RESIZE", 30).await;
    kit.user.action(&id, json!({"confirmResize": null})).await;
    let act = format!("{S}/{id}/action");
    let shot = kit.user.post(&act, json!({"createImage": {"name": "shot"}})).await["image_id"].clone();
    kit.user.until_status(&id, "ACTIVE", 30).await;
    kit.user.post(&act, json!({"rebuild": {"imageRef": shot}})).await;
    kit.user.until_status(&id, "ACTIVE", 30).await;
    kit.c.images.delete(&common::context(), shot.as_str().unwrap()).await.unwrap();
    kit.delete(&id).await;
    kit.clean(&id, &first).await;
    for v in [first, second] {
        kit.c.volumes.delete(&common::context(), &v).await.unwrap();
    }
}

async fn a_failure_at_every_step(kit: &Kit) {
    for step in CREATE {
        for when in ["before", "after"] {
            let volume = kit.volume().await;
            let point = format!("server.create:{step}:{when}");
            failpoint::set(&*point, Action::Fail);
            if step == "boot" {
                // The undo of what went before runs twice.
                failpoint::set("server.create:undo:prepare:after", Action::RetryOnce);
            }
            let id = kit.order(&volume).await;
            let s = kit.user.until_status(&id, "ERROR", 30).await;
            failpoint::clear(&point);
            assert!(s["fault"]["message"].as_str().unwrap().contains(&point), "{s}");
            kit.clean(&id, &volume).await;
            kit.delete(&id).await;
            kit.c.volumes.delete(&common::context(), &volume).await.unwrap();
        }
    }
}

async fn deleted_at_every_step(kit: &Kit) {
    for step in CREATE {
        let volume = kit.volume().await;
        let point = format!("server.create:{step}:after");
        failpoint::set(&*point, Action::Pause);
        let id = kit.order(&volume).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(kit.user.call("DELETE", &format!("{S}/{id}"), None).await.0, 204);
        assert_eq!(kit.user.call("DELETE", &format!("{S}/{id}"), None).await.0, 204, "twice is fine");
        failpoint::clear(&point);
        kit.user.until_gone(&id, 30).await;
        kit.clean(&id, &volume).await;
        kit.c.volumes.delete(&common::context(), &volume).await.unwrap();
    }
}

async fn attachments_under_faults(kit: &Kit) {
    let (root, volume) = (kit.volume().await, kit.volume().await);
    let id = kit.order(&root).await;
    kit.user.until_status(&id, "ACTIVE", 30).await;
    let path = format!("{S}/{id}/os-volume_attachments");
    let attach = json!({"volumeAttachment": {"volumeId": volume}});
    for step in ["take", "plug", "complete"] {
        let point = format!("server.attach-volume:{step}:before");
        failpoint::set(&*point, Action::Fail);
        failpoint::set(format!("server.attach-volume:undo:{step}:after"), Action::RetryOnce);
        // Refused at once where the task was faster, else undone soon after.
        kit.user.call("POST", &path, Some(attach.clone())).await;
        let began = Instant::now();
        while kit.user.get(&path).await["volumeAttachments"].as_array().unwrap().len() > 1 {
            assert!(began.elapsed() < Duration::from_secs(30), "{step}: the disk stays");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        failpoint::clear(&point);
        kit.until_volume(&volume, "available").await;
    }
    // A server that goes takes its half-made attachments along.
    failpoint::set("server.attach-volume:take:after", Action::Pause);
    kit.user.post(&path, attach).await;
    assert_eq!(kit.user.call("DELETE", &format!("{S}/{id}"), None).await.0, 204);
    failpoint::clear("server.attach-volume:take:after");
    kit.user.until_gone(&id, 30).await;
    kit.clean(&id, &volume).await;
    for v in [root, volume] {
        kit.c.volumes.delete(&common::context(), &v).await.unwrap();
    }
}

/// A controller that dies at any point is taken up by the next: what was acknowledged comes about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_life() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("db.sqlite").display());
    let start = async |listener| {
        let db = state::Db::open(&url).await.unwrap();
        Controller::build(db, &Place::shared(), listener, compute::Config::default()).await
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut c = start(listener).await;
    let image = small_image(&c).await;
    let body = json!({"server": {"name": "s", "imageRef": image, "flavorRef": "42", "networks": "none"}});
    let mut servers: Vec<String> = Vec::new();
    for n in 0..4u64 {
        let host = Puppet::register(&c, "h1").await;
        host.report(json!([])).await;
        let user = c.client("member");
        let made: Value = user.post(S, body.clone()).await;
        servers.push(made["server"]["id"].as_str().unwrap().to_owned());
        if n == 2 {
            assert_eq!(user.call("DELETE", &format!("{S}/{}", servers[0]), None).await.0, 204);
        }
        tokio::time::sleep(Duration::from_millis(n * 15)).await;
        c.kill().await;
        let listener = loop {
            match tokio::net::TcpListener::bind(address).await {
                Ok(l) => break l,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        c = start(listener).await;
    }
    let host = Arc::new(Puppet::register(&c, "h1").await).run();
    let user = c.client("member");
    for id in &servers[1..] {
        user.until_status(id, "ACTIVE", 60).await;
    }
    user.until_gone(&servers[0], 60).await;
    for id in &servers[1..] {
        assert_eq!(user.call("DELETE", &format!("{S}/{id}"), None).await.0, 204);
        user.until_gone(id, 30).await;
    }
    host.abort();
    c.images.delete(&common::context(), &image).await.unwrap();
    c.stop().await;
}
