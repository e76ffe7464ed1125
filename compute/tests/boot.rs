//! A server's whole life on real engines: Ceph, OVN, libvirt and QEMU.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Client, Controller, Host, end, engines, furnish};
use serde_json::json;
use std::time::{Duration, Instant};

async fn console_file(host: &Host, id: &str, text: &str, within: u64) -> Duration {
    let began = Instant::now();
    loop {
        let log = tokio::fs::read_to_string(host.console(id)).await.unwrap_or_default();
        if log.contains(text) {
            return began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(within), "no {text}: {log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What has the guest say how large its disks are, whenever that changes.
const SIZES: &str = r#"#!/bin/sh
(while :; do
  for d in /sys/block/vd*; do
    now="${d##*/}=$(cat $d/size 2>/dev/null)"
    case "$said" in *" $now "*) ;; *) said="$said $now "; echo "SIZE $now" ;; esac
  done
  sleep 0.5
done) &
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_servers_life() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let engines = engines().await;
    let outcome = tokio::spawn(life(engines.0.endpoints().clone())).await;
    end(engines).await;
    if let Err(e) = outcome {
        std::panic::resume_unwind(e.into_panic());
    }
}

/// A volume of 1 GiB in a LUKS container, of a type whose limits the hypervisor keeps. `provider`: `luks` or `luks2`.
async fn sealed_volume(c: &Controller, provider: &str) -> String {
    let (admin, user) = (c.client("admin"), c.client("member"));
    let base = format!("/volume/v3/{}", common::PROJECT);
    let kind = admin.post(&format!("{base}/types"), json!({"volume_type": {"name": provider}})).await;
    let kind = kind["volume_type"]["id"].as_str().unwrap().to_owned();
    let settings =
        json!({"encryption": {"provider": provider, "control_location": "front-end", "key_size": 256}});
    admin.post(&format!("{base}/types/{kind}/encryption"), settings).await;
    let specs = json!({"qos_specs": {"name": provider, "consumer": "front-end", "total_iops_sec": "500",
        "read_bytes_sec_per_gb": "20000000"}});
    let qos =
        admin.post(&format!("{base}/qos-specs"), specs).await["qos_specs"]["id"].as_str().unwrap().to_owned();
    let (status, _) =
        admin.call("GET", &format!("{base}/qos-specs/{qos}/associate?vol_type_id={kind}"), None).await;
    assert_eq!(status, 202);
    let volume = json!({"volume": {"size": 1, "volume_type": kind}});
    let v = user.post(&format!("{base}/volumes"), volume).await["volume"]["id"].as_str().unwrap().to_owned();
    let until = Instant::now() + Duration::from_secs(60);
    while user.get(&format!("{base}/volumes/{v}")).await["volume"]["status"] != "available" {
        assert!(Instant::now() < until, "the sealed volume is not made");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    v
}

async fn until_in_use(user: &Client, volume: &str, gib: u64) {
    let path = format!("/volume/v3/{}/volumes/{volume}", common::PROJECT);
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let now = user.get(&path).await["volume"].clone();
        if now["status"] == "in-use" && now["size"] == gib {
            return;
        }
        assert!(Instant::now() < until, "the volume is not in use with {gib} GiB: {now}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn life(e: engines::Endpoints) {
    let dir = tempfile::tempdir().unwrap();
    let c = Controller::start(&e, &dir.path().join("db.sqlite")).await;
    let config = Host::configure(&c, &e, dir.path()).await;
    let host = Host::start(config).await;
    tokio::time::timeout(Duration::from_secs(30), c.compute.host_is_up(&e.chassis)).await.unwrap().unwrap();
    let (net, image) = furnish(&c, &e).await;
    let user = c.client("member");

    // from an image, to user space, with address and metadata
    let began = Instant::now();
    let body = json!({"server": {"name": "walk-a", "imageRef": image, "flavorRef": "42", "networks": [{"uuid": net}],
        "config_drive": true, "user_data": STANDARD.encode(SIZES)}});
    let a = user.post("/compute/v2.1/servers", body).await["server"]["id"].as_str().unwrap().to_owned();
    let view = user.until_status(&a, "ACTIVE", 60).await;
    println!("ACTIVE after {:?}", began.elapsed());
    console_file(&host, &a, "TESTIMG-USERSPACE", 120).await;
    println!("user space after {:?}", began.elapsed());
    let console = user.until_console(&a, "TESTIMG-READY", 120).await;
    println!("{console}");
    assert!(console.contains("LEASE") && console.contains("ip=10.77.0."), "{console}");
    assert!(console.contains("META /latest/meta-data/hostname walk-a.novalocal"), "{console}");
    assert!(console.contains("\"name\":\"walk-a\"") || console.contains("\"name\": \"walk-a\""), "{console}");
    let addr = view["addresses"]["net"][0]["addr"].as_str().unwrap();
    assert!(console.contains(&format!("ip={addr}")));

    // a volume comes while it runs, and is seen after a hard reboot
    let volume = json!({"volume": {"size": 2}});
    let v = user.post(&format!("/volume/v3/{}/volumes", common::PROJECT), volume).await;
    let v = v["volume"]["id"].as_str().unwrap().to_owned();
    let path = format!("/volume/v3/{}/volumes/{v}", common::PROJECT);
    while user.get(&path).await["volume"]["status"] != "available" {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let attachments = format!("/compute/v2.1/servers/{a}/os-volume_attachments");
    let attach =
        async |volume: &str| user.post(&attachments, json!({"volumeAttachment": {"volumeId": volume}})).await;
    let attached = attach(&v).await;
    assert_eq!(attached["volumeAttachment"]["device"], "/dev/vdb");
    until_in_use(&user, &v, 2).await;
    // so does a sealed one with limits: the guest sees what is in the container, whose header it does not see
    let luks = sealed_volume(&c, "luks").await;
    attach(&luks).await;
    until_in_use(&user, &luks, 1).await;
    user.action(&a, json!({"reboot": {"type": "HARD"}})).await;
    user.until_status(&a, "ACTIVE", 60).await;
    let console = user.until_console(&a, "TESTIMG-READY", 120).await;
    assert!(console.contains("DISK vdb sectors=4194304"), "{console}");
    let sectors = |console: &str, disk: &str| {
        let sectors = console.split(&format!("DISK {disk} sectors=")).nth(1);
        let sectors: u64 = sectors.and_then(|s| s.split_whitespace().next()).unwrap().parse().unwrap();
        assert!((2_097_152 - 32_768..2_097_152).contains(&sectors), "{disk}: {sectors}");
        sectors
    };
    let sectors_of_luks = sectors(&console, "vdc");

    // stop asks the guest, start brings it back
    let began = Instant::now();
    user.action(&a, json!({"os-stop": null})).await;
    user.until_status(&a, "SHUTOFF", 60).await;
    println!("stopped after {:?}", began.elapsed());
    let console = user.until_console(&a, "ACPI-POWEROFF", 5).await;
    assert!(!console.is_empty());
    // one that is sealed by librbd waits for the start: libvirt 9 cannot give QEMU its key while the guest runs
    let luks2 = sealed_volume(&c, "luks2").await;
    attach(&luks2).await;
    until_in_use(&user, &luks2, 1).await;
    user.action(&a, json!({"os-start": null})).await;
    user.until_status(&a, "ACTIVE", 60).await;
    let console = user.until_console(&a, "TESTIMG-READY", 120).await;
    let sectors_of_luks2 = sectors(&console, "vdd");

    // all of them grow under the guest, which sees it
    const GIB: u64 = 2_097_152;
    for (volume, gib, seen) in [
        (&v, 3, format!("SIZE vdb={}", 3 * GIB)),
        (&luks, 2, format!("SIZE vdc={}", sectors_of_luks + GIB)),
        (&luks2, 2, format!("SIZE vdd={}", sectors_of_luks2 + GIB)),
    ] {
        let path = format!("/volume/v3/{}/volumes/{volume}", common::PROJECT);
        user.post(&format!("{path}/action"), json!({"os-extend": {"new_size": gib}})).await;
        until_in_use(&user, volume, gib).await;
        console_file(&host, &a, &seen, 60).await;
        let image = c.tiers.get("volumes").unwrap().pool.rbd();
        let image = image.open_read_only(&format!("volume-{volume}")).await.unwrap();
        assert_eq!(image.size().await.unwrap(), gib << 30, "{seen}");
        image.close().await.unwrap();
    }
    assert_eq!(user.results(&a, "extend_volume").await, ["Success"; 3]);

    // the agent dies and comes back; the guest goes on
    let config = host.kill().await;
    let host = Host::start(config).await;
    user.action(&a, json!({"pause": null})).await;
    user.until_status(&a, "PAUSED", 60).await;
    user.action(&a, json!({"unpause": null})).await;
    user.until_status(&a, "ACTIVE", 60).await;
    user.action(&a, json!({"reboot": {"type": "SOFT"}})).await;
    user.until_status(&a, "ACTIVE", 60).await;
    user.until_console(&a, "TESTIMG-READY", 120).await;

    // the volume leaves while the guest runs
    let began = Instant::now();
    let (status, _) =
        user.call("DELETE", &format!("/compute/v2.1/servers/{a}/os-volume_attachments/{v}"), None).await;
    assert_eq!(status, 202);
    let until = Instant::now() + Duration::from_secs(60);
    while user.get(&path).await["volume"]["status"] != "available" {
        assert!(Instant::now() < until, "the volume does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("detached after {:?}", began.elapsed());

    // a clean stop, and another life of the whole cloud
    host.agent.stop_guests(Duration::from_secs(20)).await.unwrap();
    let config = host.kill().await;
    let base = c.base.clone();
    c.stop().await;
    let listener = tokio::net::TcpListener::bind(base.trim_start_matches("http://")).await.unwrap();
    let c = Controller::start_on(&e, &dir.path().join("db.sqlite"), listener).await;
    let host = Host::start(config).await;
    let user = c.client("member");
    console_file(&host, &a, "TESTIMG-USERSPACE", 120).await;
    user.until_status(&a, "ACTIVE", 60).await;

    // gone without a trace
    let (status, _) = user.call("DELETE", &format!("/compute/v2.1/servers/{a}"), None).await;
    assert_eq!(status, 204);
    user.until_gone(&a, 60).await;
    let disks = c.tiers.get("vms").unwrap().pool.rbd().list().await.unwrap();
    assert!(disks.is_empty(), "{disks:?}");
    assert!(c.networks.ports_of_device(&a).await.unwrap().is_empty());

    // deleted in the middle of being made
    let body = json!({"server": {"name": "brief", "imageRef": image, "flavorRef": "42", "networks": [{"uuid": net}]}});
    let b = user.post("/compute/v2.1/servers", body).await["server"]["id"].as_str().unwrap().to_owned();
    let (status, _) = user.call("DELETE", &format!("/compute/v2.1/servers/{b}"), None).await;
    assert_eq!(status, 204);
    user.until_gone(&b, 60).await;
    let disks = c.tiers.get("vms").unwrap().pool.rbd().list().await.unwrap();
    assert!(disks.is_empty(), "{disks:?}");
    let (status, _) = user.call("DELETE", &format!("/network/v2.0/networks/{net}"), None).await;
    assert_eq!(status, 204, "the network is still in use");
    host.kill().await;
    c.stop().await;
}
