//! cinder-csi-plugin: what its controller asks of Cinder and Nova for each call of the Container Storage Interface. A call
//! may come twice, and the second finds what the first did.

use crate::cloud::Cloud;
use crate::gopher::{Api, Gopher, Reply};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const DESCRIPTION: &str = "Created by OpenStack Cinder CSI driver";
const CLUSTER: &str = "cinder.csi.openstack.org/cluster";

/// What a new volume is made of.
enum Content<'a> {
    Empty,
    /// A snapshot's id or a backup's, for to the interface both are snapshots.
    Snapshot(&'a str),
    Volume(&'a str),
}

struct Driver<'a> {
    cloud: &'a Gopher,
    block: Api<'a>,
}

pub async fn sequence(cloud: &Cloud, demo: &Gopher, node: &str) {
    let driver = Driver { cloud: demo, block: demo.block() };
    let first = volumes_come_and_go_by_name(&driver).await;
    driver.grows_and_serves_its_node(cloud, &first, node).await;
    let (snapshot, backup) = driver.snapshots_and_backups(&first).await;
    driver.copies(&first, &snapshot, &backup).await;
    driver.pages(&first).await;
    driver.goes_in_every_order(&first, &snapshot, &backup).await;
}

fn id(of: &Value) -> String {
    of["id"].as_str().unwrap().to_owned()
}

async fn volumes_come_and_go_by_name(driver: &Driver<'_>) -> String {
    let made = driver.create_volume("pvc-1", 1, Content::Empty).await;
    assert_eq!((&made["size"], &made["availability_zone"]), (&json!(1), &json!("nova")), "{made}");
    let again = driver.create_volume("pvc-1", 1, Content::Empty).await;
    assert_eq!(made["id"], again["id"], "the second call made a second volume");
    let volume = driver.volume(&id(&made)).await.unwrap();
    let tags = json!({CLUSTER: "kubernetes", "csi.storage.k8s.io/pv/name": "pvc-1",
        "csi.storage.k8s.io/pvc/name": "data", "csi.storage.k8s.io/pvc/namespace": "default"});
    assert_eq!((&volume["metadata"], &volume["description"]), (&tags, &json!(DESCRIPTION)), "{volume}");
    assert_eq!(volume["multiattach"], json!(false));
    driver.block.until(&format!("volumes/{}", id(&made)), "/volume/status", "available").await;

    // What cannot be: more than there is, a type that is not there, a volume that is not there.
    let tags = json!({CLUSTER: "kubernetes"});
    let refused = |with: Value| {
        let mut v = json!({"name": "pvc-no", "size": 1, "description": DESCRIPTION, "metadata": tags});
        v.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        driver.refused("POST", "volumes", json!({"volume": v}))
    };
    assert_eq!(refused(json!({"size": 5000})).await.status, 413);
    assert_eq!(refused(json!({"volume_type": "absent"})).await.status, 404);
    assert_eq!(refused(json!({"source_volid": DESCRIPTION})).await.status / 100, 4);
    assert!(driver.volume("5e4c0cb4-6f4a-4b3a-9a4b-6a5ddb1d1111").await.is_none());
    assert!(driver.volume("no-volume").await.is_none());
    id(&made)
}

impl Driver<'_> {
    async fn refused(&self, method: &str, path: &str, body: Value) -> Reply {
        let json = [("content-type", "application/json")];
        let reply = self.block.send(method, path, &json, Some(body.to_string().into_bytes())).await;
        assert!(reply.status >= 400, "{method} {path} {body} was accepted");
        reply
    }

    async fn volume(&self, volume: &str) -> Option<Value> {
        let reply = self.block.send("GET", &format!("volumes/{volume}"), &[], None).await;
        assert!([200, 404].contains(&reply.status), "{}", reply.status);
        (reply.status == 200).then(|| reply.json()["volume"].clone())
    }

    /// `CreateVolume`.
    async fn create_volume(&self, name: &str, gib: u64, content: Content<'_>) -> Value {
        let named = self.cloud.block_at("3.34").get(&format!("volumes/detail?name={name}")).await;
        let named = named["volumes"].as_array().unwrap();
        assert!(named.len() < 2, "several volumes are {name}");
        if let [one] = &named[..] {
            assert_eq!(one["size"], json!(gib));
            return one.clone();
        }
        let mut body = json!({"name": name, "size": gib, "description": DESCRIPTION, "metadata": {
            CLUSTER: "kubernetes", "csi.storage.k8s.io/pv/name": name, "csi.storage.k8s.io/pvc/name": "data",
            "csi.storage.k8s.io/pvc/namespace": "default"}});
        let mut block = self.cloud.block();
        match content {
            Content::Empty => {}
            Content::Volume(source) => {
                assert!(self.volume(source).await.is_some());
                body["source_volid"] = json!(source);
            }
            Content::Snapshot(source) if self.block.status(&format!("snapshots/{source}")).await == 200 => {
                body["snapshot_id"] = json!(source);
            }
            Content::Snapshot(source) => {
                let backup = self.block.get(&format!("backups/{source}")).await;
                assert_eq!(backup["backup"]["status"], json!("available"));
                body["backup_id"] = json!(source);
                block = self.cloud.block_at("3.51");
            }
        }
        block.call("POST", "volumes", Some(json!({"volume": body})), 202).await["volume"].clone()
    }

    /// `DeleteVolume`: a volume that is gone is deleted.
    async fn delete_volume(&self, volume: &str) {
        let Some(found) = self.volume(volume).await else { return };
        assert_eq!(found["attachments"], json!([]), "it is still attached");
        self.block.delete(&format!("volumes/{volume}")).await;
    }

    async fn attached_as(&self, volume: &str, node: &str) -> Option<String> {
        let volume = self.volume(volume).await.unwrap();
        let all = volume["attachments"].as_array().unwrap();
        all.iter().find(|a| a["server_id"] == node).map(|a| a["device"].as_str().unwrap().to_owned())
    }

    /// Polls, as the driver does with growing pauses.
    async fn wait(&self, what: &str, mut done: impl AsyncFnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !done().await {
            assert!(Instant::now() < end, "{what}: not within a minute");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// `ControllerPublishVolume`: the device's path.
    async fn publish(&self, volume: &str, node: &str) -> String {
        let compute = self.cloud.compute();
        assert_eq!(compute.status(&format!("servers/{node}")).await, 200);
        if self.attached_as(volume, node).await.is_none() {
            let body = json!({"volumeAttachment": {"volumeId": volume}});
            let path = format!("servers/{node}/os-volume_attachments");
            let made = compute.call("POST", &path, Some(body), 200).await;
            assert_eq!(made["volumeAttachment"]["volumeId"], volume);
        }
        self.wait("attach", async || self.attached_as(volume, node).await.is_some()).await;
        assert_eq!(self.volume(volume).await.unwrap()["status"], "in-use");
        self.attached_as(volume, node).await.unwrap()
    }

    /// `ControllerUnpublishVolume`.
    async fn unpublish(&self, volume: &str, node: &str) {
        let found = self.volume(volume).await.unwrap();
        if !["available", "detaching"].contains(&found["status"].as_str().unwrap()) {
            assert_eq!(found["status"], "in-use");
            let path = format!("servers/{node}/os-volume_attachments/{volume}");
            self.cloud.compute().call("DELETE", &path, None, 202).await;
        }
        self.wait("detach", async || self.attached_as(volume, node).await.is_none()).await;
        self.block.until(&format!("volumes/{volume}"), "/volume/status", "available").await;
    }

    /// `ControllerExpandVolume`.
    async fn expand(&self, volume: &str, gib: u64) {
        let found = self.volume(volume).await.unwrap();
        if found["size"].as_u64().unwrap() >= gib {
            return;
        }
        let block = match found["status"].as_str().unwrap() {
            "in-use" => self.cloud.block_at("3.42"),
            "available" => self.cloud.block(),
            other => panic!("a volume that is {other} does not grow"),
        };
        let body = json!({"os-extend": {"new_size": gib}});
        block.call("POST", &format!("volumes/{volume}/action"), Some(body), 202).await;
        self.wait("grow", async || {
            let status = self.volume(volume).await.unwrap()["status"].clone();
            assert!(!status.as_str().unwrap().starts_with("error"), "{status}");
            status == "available" || status == "in-use"
        })
        .await;
        assert_eq!(self.volume(volume).await.unwrap()["size"], json!(gib));
    }

    async fn grows_and_serves_its_node(&self, cloud: &Cloud, volume: &str, node: &str) {
        self.expand(volume, 2).await;
        self.expand(volume, 2).await;
        let device = self.publish(volume, node).await;
        assert_eq!(device, self.publish(volume, node).await, "the second call attached it again");
        assert!(device.starts_with("/dev/vd"), "{device}");
        let attached = self.block.send("DELETE", &format!("volumes/{volume}"), &[], None).await;
        assert_eq!(attached.status, 400, "an attached volume was deleted");
        // Without the microversion an attached volume does not grow.
        let body = json!({"os-extend": {"new_size": 3}});
        assert_eq!(self.refused("POST", &format!("volumes/{volume}/action"), body).await.status, 400);
        self.expand(volume, 3).await;
        self.node_sees(cloud, volume, node, 3).await;
        self.unpublish(volume, node).await;
        self.unpublish(volume, node).await;
    }

    /// The node's part: it finds the disk by its serial number, which is the beginning of the volume's id.
    async fn node_sees(&self, cloud: &Cloud, volume: &str, node: &str, gib: u64) {
        let compute = self.cloud.compute();
        let reboot = Some(json!({"reboot": {"type": "HARD"}}));
        compute.call("POST", &format!("servers/{node}/action"), reboot, 202).await;
        let disk = format!("sectors={} serial={}", gib << 21, &volume[..20]);
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let body = Some(json!({"os-getConsoleOutput": {}}));
            let said = compute.call("POST", &format!("servers/{node}/action"), body, 200).await;
            let said = said["output"].as_str().unwrap();
            if said.contains(&disk) {
                break;
            }
            assert!(Instant::now() < end, "no {disk} in the node:\n{said}\n{}", cloud.output());
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        compute.until(&format!("servers/{node}"), "/server/status", "ACTIVE").await;
    }

    /// `CreateSnapshot` of the type `snapshot`.
    async fn create_snapshot(&self, name: &str, volume: &str, force: bool) -> String {
        let named = self.block.get(&format!("snapshots?name={name}")).await;
        let snapshot = match &named["snapshots"].as_array().unwrap()[..] {
            [] => {
                let mut body = json!({"volume_id": volume, "name": name, "description": DESCRIPTION, "metadata": {
                    CLUSTER: "kubernetes", "csi.storage.k8s.io/volumesnapshot/name": name,
                    "csi.storage.k8s.io/volumesnapshot/namespace": "default",
                    "csi.storage.k8s.io/volumesnapshotcontent/name": "content"}});
                if force {
                    body["force"] = json!(true);
                }
                let made = self.block.call("POST", "snapshots", Some(json!({"snapshot": body})), 202).await;
                made["snapshot"].clone()
            }
            [one] => one.clone(),
            _ => panic!("several snapshots are {name}"),
        };
        assert_eq!(snapshot["volume_id"], volume);
        assert!(snapshot["created_at"].is_string() && snapshot["size"].is_u64(), "{snapshot}");
        self.block.until(&format!("snapshots/{}", id(&snapshot)), "/snapshot/status", "available").await;
        id(&snapshot)
    }

    /// `CreateSnapshot` of the type `backup`: a snapshot, its backup, and the snapshot goes.
    async fn create_backup(&self, name: &str, volume: &str) -> String {
        let named = self.block.get(&format!("backups?name={name}")).await;
        if let [one] = &named["backups"].as_array().unwrap()[..] {
            let found = self.block.get(&format!("backups/{}", id(one))).await;
            assert_eq!(found["backup"]["volume_id"], volume);
            return id(one);
        }
        let snapshot = self.create_snapshot(name, volume, false).await;
        let body = json!({"volume_id": volume, "snapshot_id": snapshot, "name": name, "description": DESCRIPTION,
            "metadata": {CLUSTER: "kubernetes", "type": "backup"}});
        let block = self.cloud.block_at("3.51");
        let made = block.call("POST", "backups", Some(json!({"backup": body})), 202).await;
        let path = format!("backups/{}", id(&made["backup"]));
        let backup = self.block.until(&path, "/backup/status", "available").await["backup"].clone();
        assert_eq!((&backup["snapshot_id"], &backup["size"]), (&json!(snapshot), &json!(3)), "{backup}");
        assert_eq!(block.get(&path).await["backup"]["metadata"][CLUSTER], "kubernetes");
        self.block.delete(&format!("snapshots/{snapshot}")).await;
        self.block.until_gone(&format!("snapshots/{snapshot}")).await;
        id(&backup)
    }

    async fn snapshots_and_backups(&self, volume: &str) -> (String, String) {
        let snapshot = self.create_snapshot("snapshot-1", volume, false).await;
        assert_eq!(snapshot, self.create_snapshot("snapshot-1", volume, false).await);
        let backup = self.create_backup("backup-1", volume).await;
        assert_eq!(backup, self.create_backup("backup-1", volume).await);
        // `ListSnapshots`: one by its id, those of a volume, those that are ready.
        let one = self.block.get(&format!("snapshots/{snapshot}")).await;
        assert_eq!(one["snapshot"]["metadata"][CLUSTER], "kubernetes");
        let of = self.block.get(&format!("snapshots?status=available&volume_id={volume}")).await;
        assert_eq!(ids(&of["snapshots"]), [snapshot.as_str()]);
        let none = self.block.get(&format!("snapshots?status=error&volume_id={volume}")).await;
        assert_eq!(none["snapshots"], json!([]));
        assert_eq!(self.block.status(&format!("snapshots/{backup}")).await, 404);
        assert_eq!(self.block.status(&format!("backups/{snapshot}")).await, 404);
        (snapshot, backup)
    }

    async fn copies(&self, volume: &str, snapshot: &str, backup: &str) {
        let of_snapshot = self.create_volume("pvc-of-snapshot", 4, Content::Snapshot(snapshot)).await;
        assert_eq!(of_snapshot["snapshot_id"], snapshot);
        let clone = self.create_volume("pvc-clone", 3, Content::Volume(volume)).await;
        assert_eq!(clone["source_volid"], volume);
        let of_backup = self.create_volume("pvc-of-backup", 3, Content::Snapshot(backup)).await;
        for (made, gib) in [(&of_snapshot, 4), (&clone, 3), (&of_backup, 3)] {
            let path = format!("volumes/{}", id(made));
            let ready = self.block.until(&path, "/volume/status", "available").await;
            assert_eq!(ready["volume"]["size"], json!(gib));
        }
        let found = self.cloud.block_at("3.47").get(&format!("volumes/{}", id(&of_backup))).await;
        assert_eq!(found["volume"]["metadata"]["src_backup_id"], backup, "{found}");
    }

    /// `ListVolumes` and `ListSnapshots`, a page at a time: the token is the marker of the next page's link.
    async fn pages(&self, volume: &str) {
        for (path, key) in [("volumes/detail", "volumes"), ("snapshots", "snapshots")] {
            let whole = self.block.get(path).await;
            let (mut seen, mut query) = (Vec::new(), "limit=1".to_owned());
            loop {
                let page = self.block.get(&format!("{path}?{query}")).await;
                seen.extend(ids(&page[key]).into_iter().map(str::to_owned));
                let links = page[format!("{key}_links")].as_array().cloned().unwrap_or_default();
                let Some(next) = links.iter().find(|l| l["rel"] == "next") else { break };
                let next = next["href"].as_str().unwrap();
                assert!(next.starts_with(&self.block.url(path)), "{next}");
                // For snapshots the driver reads the whole link as a query: the marker may not stand first.
                let marker = next.split('&').find_map(|p| p.strip_prefix("marker=")).unwrap();
                query = format!("limit=1&marker={marker}");
            }
            assert_eq!(seen, ids(&whole[key]), "{path} page by page");
        }
        let marker = "5e4c0cb4-6f4a-4b3a-9a4b-6a5ddb1d1111";
        let wrong =
            self.block.send("GET", &format!("volumes/detail?limit=1&marker={marker}"), &[], None).await;
        assert_eq!(wrong.status / 100, 4, "a marker that is no volume");
        assert!(ids(&self.block.get("volumes/detail").await["volumes"]).contains(&volume));
    }

    /// `DeleteSnapshot`: of a backup first, for the interface knows no difference.
    async fn delete_snapshot(&self, id: &str) {
        let reply = self.block.send("DELETE", &format!("snapshots/{id}"), &[], None).await;
        assert!([202, 404].contains(&reply.status), "{}", reply.status);
    }

    async fn goes_in_every_order(&self, volume: &str, snapshot: &str, backup: &str) {
        // A volume with a snapshot stays: the driver tells Kubernetes to try again.
        let early = self.block.send("DELETE", &format!("volumes/{volume}"), &[], None).await;
        assert_eq!(early.status, 400);
        let said = early.json()["badRequest"]["message"].as_str().unwrap().to_owned();
        assert!(said.contains("must not") || said.contains("snapshots"), "{said}");
        // Parents before their children, each call twice.
        self.block.delete(&format!("backups/{backup}")).await;
        self.block.until_gone(&format!("backups/{backup}")).await;
        self.delete_snapshot(snapshot).await;
        self.block.until_gone(&format!("snapshots/{snapshot}")).await;
        self.delete_snapshot(snapshot).await;
        self.delete_volume(volume).await;
        self.block.until_gone(&format!("volumes/{volume}")).await;
        self.delete_volume(volume).await;
        for name in ["pvc-of-snapshot", "pvc-clone", "pvc-of-backup"] {
            let one =
                self.create_volume(name, if name == "pvc-of-snapshot" { 4 } else { 3 }, Content::Empty).await;
            self.delete_volume(&id(&one)).await;
            self.block.until_gone(&format!("volumes/{}", id(&one))).await;
        }
    }
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|v| v["id"].as_str().unwrap()).collect()
}
