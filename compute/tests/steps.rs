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

async fn obeying(c: &Controller) -> tokio::task::JoinHandle<()> {
    let puppet = Arc::new(Puppet::register(c, "h1").await);
    puppet.report(json!([])).await;
    puppet.run()
}

struct Kit {
    c: Controller,
    user: Client,
    image: String,
    net: String,
    _host: tokio::task::JoinHandle<()>,
}

impl Kit {
    /// A host that obeys, a network and an image.
    async fn new(c: Controller) -> Kit {
        let user = c.client("member");
        let net = user.post("/network/v2.0/networks", json!({"network": {"name": "net"}})).await;
        let net = net["network"]["id"].as_str().unwrap().to_owned();
        let subnet = json!({"subnet": {"network_id": net, "ip_version": 4, "cidr": "10.7.0.0/24"}});
        user.post("/network/v2.0/subnets", subnet).await;
        let image = small_image(&c).await;
        let _host = obeying(&c).await;
        Kit { c, user, image, net, _host }
    }

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

    /// A server with a port, a config drive, and a volume beside its own disk.
    async fn order(&self, volume: &str) -> String {
        let disks = json!([{"uuid": volume, "source_type": "volume", "destination_type": "volume", "boot_index": -1}]);
        let body = json!({"server": {"name": "s", "imageRef": self.image, "flavorRef": "42",
            "networks": [{"uuid": self.net}], "block_device_mapping_v2": disks, "config_drive": true}});
        self.user.post(S, body).await["server"]["id"].as_str().unwrap().to_owned()
    }

    async fn delete(&self, id: &str) {
        assert_eq!(self.user.call("DELETE", &format!("{S}/{id}"), None).await.0, 204);
        self.user.until_gone(id, 30).await;
    }

    /// Another interface of the server; its port.
    async fn plug(&self, id: &str) -> String {
        let ask = json!({"interfaceAttachment": {"net_id": self.net}});
        let made = self.user.post(&format!("{S}/{id}/os-interface"), ask).await;
        made["interfaceAttachment"]["port_id"].as_str().unwrap().to_owned()
    }

    async fn unplug(&self, id: &str, port: &str) -> u16 {
        self.user.call("DELETE", &format!("{S}/{id}/os-interface/{port}"), None).await.0
    }

    /// How many of the server's actions have failed.
    async fn failed(&self, id: &str) -> usize {
        let all = self.user.get(&format!("{S}/{id}/os-instance-actions")).await;
        all["instanceActions"].as_array().unwrap().iter().filter(|a| !a["message"].is_null()).count()
    }

    /// The server's interfaces and the ports that name it are so many.
    async fn until_ports(&self, id: &str, wanted: usize) {
        let began = Instant::now();
        loop {
            let shown = self.user.get(&format!("{S}/{id}/os-interface")).await;
            let shown = shown["interfaceAttachments"].as_array().unwrap().len();
            let bound = self.c.networks.ports_of_device(id).await.unwrap().len();
            if (shown, bound) == (wanted, wanted) {
                return;
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{shown} interfaces, {bound} ports, not {wanted}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Nothing is left of the server anywhere.
    async fn clean(&self, id: &str, volume: &str) {
        let disks = self.c.tiers.get("vms").unwrap().pool.rbd().list().await.unwrap();
        assert!(!disks.iter().any(|d| d.starts_with(id)), "a disk is left: {disks:?}");
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
        let kit = Kit::new(c).await;
        every_step_repeated(&kit).await;
        a_failure_at_every_step(&kit).await;
        deleted_at_every_step(&kit).await;
        attachments_under_faults(&kit).await;
        interfaces_under_faults(&kit).await;
        an_image_of_volumes(&kit).await;
        kit._host.abort();
        kit.c.images.delete(&common::context(), &kit.image).await.unwrap();
        kit.c.stop().await;
    }
    interfaces_in_another_life().await;
}

const CREATE: [&str; 3] = ["schedule", "prepare", "boot"];

async fn every_step_repeated(kit: &Kit) {
    let all = [
        ("server.create", &CREATE[..]),
        ("server.delete", &["gone", "release", "forget"]),
        ("server.attach-volume", &["take", "plug", "complete"]),
        ("server.detach-volume", &["unplug", "release"]),
        ("server.detach-interface", &["unplug", "release"]),
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
    let port = kit.plug(&id).await;
    assert_eq!(kit.unplug(&id, &port).await, 202);
    kit.until_ports(&id, 1).await;
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

/// A server that boots from a volume becomes an image that names snapshots, and such an image a server; what fails on
/// the way leaves neither.
async fn an_image_of_volumes(kit: &Kit) {
    let snapshots = format!("/volume/v3/{}/snapshots", common::PROJECT);
    let disk = |from: Value, index: i64| {
        let mut d = json!({"destination_type": "volume", "boot_index": index, "volume_size": 1});
        d.as_object_mut().unwrap().extend(from.as_object().unwrap().clone());
        d
    };
    let image = json!({"source_type": "image", "uuid": kit.image});
    let disks = json!([disk(image, 0), disk(json!({"source_type": "blank"}), -1)]);
    let body = json!({"server": {"name": "v", "flavorRef": "42", "networks": [{"uuid": kit.net}],
        "block_device_mapping_v2": disks}});
    let id = kit.user.post(S, body).await["server"]["id"].as_str().unwrap().to_owned();
    kit.user.until_status(&id, "ACTIVE", 30).await;
    let shoot = || async {
        let act = format!("{S}/{id}/action");
        let made = kit.user.post(&act, json!({"createImage": {"name": "shot"}})).await;
        let began = Instant::now();
        while !kit.user.get(&format!("{S}/{id}")).await["server"]["OS-EXT-STS:task_state"].is_null() {
            assert!(began.elapsed() < Duration::from_secs(30), "the server never comes to rest");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        made["image_id"].as_str().unwrap().to_owned()
    };
    for step in ["snap:before", "snap:after", "image:before"] {
        let point = format!("server.snapshot_volumes:{step}");
        failpoint::set(&*point, Action::Fail);
        failpoint::set("server.snapshot_volumes:undo:snap:after", Action::RetryOnce);
        let shot = shoot().await;
        failpoint::clear(&point);
        assert!(kit.c.images.get(&common::context(), &shot).await.is_err(), "{step}: an image is left");
        no_snapshots(kit, &snapshots).await;
    }
    for step in ["snap", "image", "end"] {
        failpoint::set(format!("server.snapshot_volumes:{step}:after"), Action::RetryOnce);
    }
    let shot = shoot().await;
    let image = kit.c.images.get(&common::context(), &shot).await.unwrap();
    assert_eq!((image.status.to_string(), image.size), ("active".to_owned(), Some(0)));
    let mapping: Value = serde_json::from_str(&image.properties["block_device_mapping"]).unwrap();
    let seen = kit.user.get(&snapshots).await["snapshots"].as_array().unwrap().clone();
    assert_eq!((mapping.as_array().unwrap().len(), seen.len()), (2, 2), "{mapping} {seen:?}");

    let body = json!({"server": {"name": "again", "imageRef": shot, "flavorRef": "42",
        "networks": [{"uuid": kit.net}]}});
    let again = kit.user.post(S, body).await["server"]["id"].as_str().unwrap().to_owned();
    let s = kit.user.until_status(&again, "ACTIVE", 30).await;
    assert_eq!(s["image"], "", "it boots from a volume");
    let held = kit.user.get(&format!("{S}/{again}/os-volume_attachments")).await;
    let mut from = Vec::new();
    for a in held["volumeAttachments"].as_array().unwrap() {
        let id = a["volumeId"].as_str().unwrap();
        from.push(kit.user.get(&format!("{}/{id}", Kit::volumes())).await["volume"]["snapshot_id"].clone());
    }
    let mut named: Vec<_> = mapping.as_array().unwrap().iter().map(|m| m["snapshot_id"].clone()).collect();
    from.sort_by_key(Value::to_string);
    named.sort_by_key(Value::to_string);
    assert_eq!(from, named, "its volumes are made from the image's snapshots");
    for server in [&id, &again] {
        kit.delete(server).await;
    }
    kit.c.images.delete(&common::context(), &shot).await.unwrap();
    for snapshot in seen {
        let path = format!("{snapshots}/{}", snapshot["id"].as_str().unwrap());
        assert_eq!(kit.user.call("DELETE", &path, None).await.0, 202);
    }
    no_snapshots(kit, &snapshots).await;
    let left = kit.user.get(&Kit::volumes()).await["volumes"].as_array().unwrap().clone();
    for v in left.iter().filter(|v| v["name"] == "") {
        let id = v["id"].as_str().unwrap();
        kit.until_volume(id, "available").await;
        kit.c.volumes.delete(&common::context(), id).await.unwrap();
    }
}

async fn no_snapshots(kit: &Kit, path: &str) {
    let began = Instant::now();
    while kit.user.get(path).await["snapshots"] != json!([]) {
        assert!(began.elapsed() < Duration::from_secs(30), "snapshots are left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn interfaces_under_faults(kit: &Kit) {
    let volume = kit.volume().await;
    let id = kit.order(&volume).await;
    kit.user.until_status(&id, "ACTIVE", 30).await;
    let port = kit.c.networks.ports_of_device(&id).await.unwrap()[0].meta.id.clone();
    // Undone, the undo twice: the interface stays, and can be detached again.
    for point in ["unplug:before", "unplug:after", "release:before"] {
        let point = format!("server.detach-interface:{point}");
        failpoint::set(&*point, Action::Fail);
        failpoint::set("server.detach-interface:undo:unplug:after", Action::RetryOnce);
        let before = kit.failed(&id).await;
        assert_eq!(kit.unplug(&id, &port).await, 202);
        let began = Instant::now();
        while kit.failed(&id).await == before {
            assert!(began.elapsed() < Duration::from_secs(30), "{point}: the task does not fail");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        failpoint::clear(&point);
        kit.until_ports(&id, 1).await;
    }
    // What has failed after all was done is done.
    failpoint::set("server.detach-interface:release:after", Action::Fail);
    assert_eq!(kit.unplug(&id, &port).await, 202);
    kit.until_ports(&id, 0).await;
    failpoint::clear("server.detach-interface:release:after");
    // A server that goes takes a half-detached interface along.
    let port = kit.plug(&id).await;
    failpoint::set("server.detach-interface:unplug:after", Action::Pause);
    assert_eq!(kit.unplug(&id, &port).await, 202);
    assert_eq!(kit.user.call("DELETE", &format!("{S}/{id}"), None).await.0, 204);
    failpoint::clear("server.detach-interface:unplug:after");
    kit.user.until_gone(&id, 30).await;
    kit.clean(&id, &volume).await;
    kit.c.volumes.delete(&common::context(), &volume).await.unwrap();
}

/// A controller that dies between any two steps of a detach is taken up by the next, which ends the work.
async fn interfaces_in_another_life() {
    let life = Lives::begin().await;
    let mut kit = Kit::new(life.start().await).await;
    let volume = kit.volume().await;
    let id = kit.order(&volume).await;
    kit.user.until_status(&id, "ACTIVE", 30).await;
    for point in ["unplug:before", "unplug:after", "release:before", "release:after"] {
        let point = format!("server.detach-interface:{point}");
        let port = kit.plug(&id).await;
        failpoint::set(&*point, Action::Pause);
        assert_eq!(kit.unplug(&id, &port).await, 202);
        tokio::time::sleep(Duration::from_millis(150)).await;
        kit._host.abort();
        kit.c.kill().await;
        failpoint::clear(&point);
        kit.c = life.start().await;
        kit._host = obeying(&kit.c).await;
        kit.until_ports(&id, 1).await;
    }
    kit.delete(&id).await;
    kit.clean(&id, &volume).await;
    kit.c.volumes.delete(&common::context(), &volume).await.unwrap();
    kit._host.abort();
    kit.c.images.delete(&common::context(), &kit.image).await.unwrap();
    kit.c.stop().await;
}

/// Controllers one after another, on one database and at one address.
struct Lives {
    dir: tempfile::TempDir,
    address: std::net::SocketAddr,
}

impl Lives {
    async fn begin() -> Lives {
        let any = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        Lives { dir: tempfile::tempdir().unwrap(), address: any.local_addr().unwrap() }
    }

    async fn listener(&self) -> tokio::net::TcpListener {
        loop {
            match tokio::net::TcpListener::bind(self.address).await {
                Ok(l) => return l,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn start(&self) -> Controller {
        let listener = self.listener().await;
        let url = format!("sqlite://{}", self.dir.path().join("db.sqlite").display());
        let db = state::Db::open(&url).await.unwrap();
        Controller::build(db, &Place::shared(), listener, compute::Config::default()).await
    }
}

/// A controller that dies at any point is taken up by the next: what was acknowledged comes about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_life() {
    let life = Lives::begin().await;
    let mut c = life.start().await;
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
        c = life.start().await;
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
