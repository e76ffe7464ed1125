//! A volume moves to another tier while a guest writes to it: the guest never sees an error, nothing that it was told
//! to be written is lost, and nothing is left at the old place; also where `aquifer` is killed in the middle, and where
//! the guest's QEMU is.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod cloud;

use base64::Engine;
use cloud::{Cloud, Session};
use pool::{ClusterConfig, Clusters, Rbd, TierConfig, Tiers};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What the guest does: some MiB once, and from then on a numbered block after the other, each one flushed before it says
/// so. A guest that starts again goes on where it was.
const WRITER: &str = r#"#!/bin/sh
(
while [ ! -b /dev/vdb ]; do sleep 0.2; done
if [ "$(dd if=/dev/vdb bs=1M skip=512 count=1 2>/dev/null | head -c 6)" != filled ]; then
  dd if=/dev/urandom of=/tmp/noise bs=1M count=24 2>/dev/null
  dd if=/tmp/noise of=/dev/vdb bs=1M seek=256 conv=notrunc,fsync 2>/dev/null || echo WRITE-ERROR noise
  printf 'filled %s' "$(sha256sum </tmp/noise | head -c 64)" | dd of=/dev/vdb bs=1M seek=512 conv=notrunc,fsync 2>/dev/null
  rm /tmp/noise; n=0
else
  n=$(dd if=/dev/vdb bs=1M skip=768 count=1 2>/dev/null | head -c 8 | tr -d ' ')
fi
echo "WRITER-FROM $n"
while :; do
  n=$((n + 1))
  printf '%-4096d' $n | dd of=/dev/vdb bs=4096 seek=$n conv=notrunc,fsync 2>/dev/null || echo "WRITE-ERROR $n"
  printf '%-8d' $n | dd of=/dev/vdb bs=1M seek=768 conv=notrunc,fsync 2>/dev/null || echo "WRITE-ERROR at $n"
  echo "WROTE $n"
done
) &
"#;

struct Walk {
    cloud: Cloud,
    demo: Session,
    admin: Session,
    server: String,
    volume: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_moves_under_a_guest_that_writes() {
    let mut walk = Walk::begin().await;

    // As users do it.
    let from = walk.wrote_more_than(0).await;
    walk.openstack(&["volume", "set", "--type", "other", "--retype-policy", "on-demand", &walk.volume]);
    walk.moved("vms", "other").await;
    let said = walk.wrote_more_than(from + 3).await;
    walk.is_in("vms", "volumes", said).await;

    // Killed as soon as the copy is under way; the guest notices neither.
    let from = walk.wrote_more_than(0).await;
    walk.retype("first").await;
    walk.until_copying().await;
    walk.cloud.kill();
    walk.cloud.start();
    walk.login().await;
    walk.moved("volumes", "first").await;
    let said = walk.wrote_more_than(from + 3).await;
    walk.is_in("volumes", "vms", said).await;

    // Its QEMU dies in the middle: it is where it was, or where it was to be, with all that was written.
    walk.retype("other").await;
    walk.until_copying().await;
    let said = walk.wrote_more_than(0).await;
    kill_qemu(&walk.server);
    let (tier, old) = walk.rests().await;
    walk.is_in(tier, old, said).await;

    // The next boot finds it there.
    let action = format!("/compute/v2.1/servers/{}/action", walk.server);
    walk.demo.ok("POST", &action, Some(json!({"os-start": null}))).await;
    walk.demo.until(&format!("/compute/v2.1/servers/{}", walk.server), "/server/status", "ACTIVE").await;
    let said = walk.wrote_more_than(said + 1).await;
    walk.demo.ok("DELETE", &format!("/compute/v2.1/servers/{}", walk.server), None).await;
    walk.demo.until_gone(&format!("/compute/v2.1/servers/{}", walk.server)).await;
    walk.is_in(tier, old, said).await;
    assert!(walk.cloud.stop().success(), "{}", walk.cloud.output());
}

impl Walk {
    async fn begin() -> Walk {
        let cloud = Cloud::up();
        let (demo, admin) = (cloud.demo().await, cloud.admin().await);
        for (name, tier) in [("first", "volumes"), ("other", "vms")] {
            let specs = json!({"volume_backend_name": tier});
            let body = json!({"volume_type": {"name": name, "extra_specs": specs}});
            admin.ok("POST", "/volume/v3/types", Some(body)).await;
        }
        let body = json!({"volume": {"size": 1, "volume_type": "first"}});
        let volume = id(&demo.ok("POST", "/volume/v3/volumes", Some(body)).await["volume"]);
        demo.until(&format!("/volume/v3/volumes/{volume}"), "/volume/status", "available").await;
        let image = id(&demo.ok("GET", "/image/v2/images", None).await["images"][0]);
        let network =
            demo.ok("POST", "/network/v2.0/networks", Some(json!({"network": {"name": "n"}}))).await;
        let network = id(&network["network"]);
        let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.55.0.0/24"}});
        demo.ok("POST", "/network/v2.0/subnets", Some(subnet)).await;
        let disk = |index: i64, source: &str, to: &str, uuid: &str| {
            json!({"boot_index": index, "source_type": source, "destination_type": to, "uuid": uuid,
                "delete_on_termination": source == "image"})
        };
        let body = json!({"server": {"name": "writer", "imageRef": image, "flavorRef": "1", "networks": [{"uuid": network}],
            "user_data": base64::engine::general_purpose::STANDARD.encode(WRITER), "block_device_mapping_v2":
                [disk(0, "image", "local", &image), disk(-1, "volume", "volume", &volume)]}});
        let server = id(&demo.ok("POST", "/compute/v2.1/servers", Some(body)).await["server"]);
        demo.until(&format!("/compute/v2.1/servers/{server}"), "/server/status", "ACTIVE").await;
        Walk { cloud, demo, admin, server, volume }
    }

    async fn login(&mut self) {
        (self.demo, self.admin) = (self.cloud.demo().await, self.cloud.admin().await);
    }

    fn openstack(&self, args: &[&str]) {
        let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.clients/bin/openstack");
        let mut command = Command::new(clients);
        command.env("OS_CLIENT_CONFIG_FILE", self.cloud.path("clouds.yaml")).env("OS_CLOUD", "aquifer");
        let out = command.args(args).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    async fn retype(&self, kind: &str) {
        let path = format!("/volume/v3/volumes/{}/action", self.volume);
        let body = json!({"os-retype": {"new_type": kind, "migration_policy": "on-demand"}});
        self.demo.ok("POST", &path, Some(body)).await;
    }

    async fn shown(&self) -> Value {
        self.admin.ok("GET", &format!("/volume/v3/volumes/{}", self.volume), None).await["volume"].clone()
    }

    /// The volume has moved, and is in use.
    async fn moved(&self, tier: &str, kind: &str) {
        let path = format!("/volume/v3/volumes/{}", self.volume);
        self.admin.until(&path, "/volume/migration_status", "success").await;
        let shown = self.shown().await;
        assert_eq!((&shown["status"], &shown["volume_type"]), (&json!("in-use"), &json!(kind)), "{shown}");
        assert_eq!(shown["os-vol-host-attr:host"], format!("aquifer@{tier}#{tier}"));
    }

    /// Where the volume is once its move has ended, well or not, and where it is not.
    async fn rests(&self) -> (&'static str, &'static str) {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let shown = self.shown().await;
            match shown["migration_status"].as_str() {
                Some("success") if shown["status"] == "in-use" => return ("vms", "volumes"),
                Some("error") if shown["status"] == "in-use" => {
                    assert_eq!(shown["volume_type"], "first", "{shown}");
                    return ("volumes", "vms");
                }
                _ => assert!(Instant::now() < end, "the move does not end: {shown}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// QEMU copies the volume, or has copied it and writes to both images.
    async fn until_copying(&self) {
        let socket = self.cloud.path("libvirt/run/libvirt-sock");
        let uri = format!("qemu+unix:///system?socket={}", socket.display());
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let out = Command::new("virsh").args(["-c", &uri, "dumpxml", &self.server]).output().unwrap();
            if String::from_utf8_lossy(&out.stdout).contains("<mirror") {
                return;
            }
            assert!(Instant::now() < end, "no copy begins: {}", self.shown().await);
        }
    }

    /// Waits until the guest has written a block beyond this one and says so: the block's number.
    async fn wrote_more_than(&self, number: u64) -> u64 {
        let end = Instant::now() + Duration::from_secs(120);
        let path = format!("/compute/v2.1/servers/{}/action", self.server);
        loop {
            let ask = json!({"os-getConsoleOutput": {}});
            let console = self.demo.call("POST", &path, Some(ask)).await.1;
            let text = console["output"].as_str().unwrap_or_default();
            // (The guest also shows its script.)
            let failed = |l: &str| l.trim_start().starts_with("WRITE-ERROR") || l.contains("I/O error");
            assert!(!text.lines().any(failed), "{text}");
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let last = whole.lines().rev().find_map(|l| l.trim().strip_prefix("WROTE ")?.parse().ok());
            match last {
                Some(last) if last > number => return last,
                _ => assert!(Instant::now() < end, "the guest does not write: {text}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn rbd(&self, tier: &str) -> Rbd {
        let conf = ClusterConfig::new("moving", self.cloud.path("ceph/ceph.conf"));
        let clusters = Clusters::connect(&[conf]).await.unwrap();
        let tier = TierConfig {
            name: tier.into(),
            cluster: "moving".into(),
            pool: tier.into(),
            data_pool: None,
            namespace: None,
        };
        Tiers::new(&clusters, std::slice::from_ref(&tier)).unwrap().get(&tier.name).unwrap().pool.rbd()
    }

    /// The number of the last of the guest's blocks in a tier; all before it are what they are to be.
    async fn last_block(&self, tier: &str) -> u64 {
        let image = self.rbd(tier).await.open_read_only(&format!("volume-{}", self.volume)).await.unwrap();
        let blocks = image.read_at(0, 64 << 20).await.unwrap();
        let text = |b: &[u8]| String::from_utf8_lossy(b).trim_matches(['\0', ' ']).to_owned();
        let good = |n: &usize| text(&blocks[n * 4096..(n + 1) * 4096]) == n.to_string();
        let last = (1..blocks.len() / 4096).take_while(good).last().unwrap_or(0);
        let noise = image.read_at(256 << 20, 24 << 20).await.unwrap();
        let note = image.read_at(512 << 20, 80).await.unwrap();
        assert_eq!(text(&note), format!("filled {}", hex::encode(Sha256::digest(&noise))));
        image.close().await.unwrap();
        last as u64
    }

    /// The volume is in one tier with all the guest has written, and nothing of it in the other.
    async fn is_in(&self, tier: &str, old: &str, said: u64) {
        assert!(self.last_block(tier).await >= said, "what the guest was told to be written is lost");
        let left = self.rbd(old).await.list().await.unwrap();
        let left: Vec<_> = left.iter().filter(|i| format!("{i:?}").contains(&self.volume)).collect();
        assert!(left.is_empty(), "{left:?}");
        let shown = self.shown().await;
        assert_eq!(shown["os-vol-host-attr:host"], format!("aquifer@{tier}#{tier}"));
    }
}

fn kill_qemu(server: &str) {
    let found = Command::new("pgrep").args(["-f", &format!("qemu-system.*{server}")]).output().unwrap();
    let pid = String::from_utf8(found.stdout).unwrap();
    let killed = Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
    assert!(killed.success(), "{pid:?}");
}

fn id(of: &Value) -> String {
    of["id"].as_str().unwrap().to_owned()
}
