//! A server's whole life on real engines: Ceph, OVN, libvirt and QEMU.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use common::{Controller, Host, end, engines, furnish};
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

/// A volume of 1 GiB in a LUKS container, of a type whose limits the hypervisor keeps.
async fn sealed_volume(c: &Controller) -> String {
    let (admin, user) = (c.client("admin"), c.client("member"));
    let base = format!("/volume/v3/{}", common::PROJECT);
    let kind = admin.post(&format!("{base}/types"), json!({"volume_type": {"name": "sealed"}})).await;
    let kind = kind["volume_type"]["id"].as_str().unwrap().to_owned();
    let settings =
        json!({"encryption": {"provider": "luks", "control_location": "front-end", "key_size": 256}});
    admin.post(&format!("{base}/types/{kind}/encryption"), settings).await;
    let specs = json!({"qos_specs": {"name": "q", "consumer": "front-end", "total_iops_sec": "500",
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
        "config_drive": true}});
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
    let attach = json!({"volumeAttachment": {"volumeId": v}});
    let attached = user.post(&format!("/compute/v2.1/servers/{a}/os-volume_attachments"), attach).await;
    assert_eq!(attached["volumeAttachment"]["device"], "/dev/vdb");
    let until = Instant::now() + Duration::from_secs(30);
    while user.get(&path).await["volume"]["status"] != "in-use" {
        assert!(Instant::now() < until, "the volume is not in use: {}", user.get(&path).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // so does a sealed one with limits: the guest sees what is in the container, whose header it does not see
    let sealed = sealed_volume(&c).await;
    let attach = json!({"volumeAttachment": {"volumeId": sealed}});
    user.post(&format!("/compute/v2.1/servers/{a}/os-volume_attachments"), attach).await;
    let path_of_sealed = format!("/volume/v3/{}/volumes/{sealed}", common::PROJECT);
    let until = Instant::now() + Duration::from_secs(60);
    while user.get(&path_of_sealed).await["volume"]["status"] != "in-use" {
        assert!(
            Instant::now() < until,
            "the sealed volume is not in use: {}",
            user.get(&path_of_sealed).await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    user.action(&a, json!({"reboot": {"type": "HARD"}})).await;
    user.until_status(&a, "ACTIVE", 60).await;
    let console = user.until_console(&a, "TESTIMG-READY", 120).await;
    assert!(console.contains("DISK vdb sectors=4194304"), "{console}");
    let sectors = console.split("DISK vdc sectors=").nth(1).and_then(|s| s.split_whitespace().next());
    let sectors: u64 = sectors.unwrap().parse().unwrap();
    assert!((2_097_152 - 32_768..2_097_152).contains(&sectors), "{sectors}");

    // stop asks the guest, start brings it back
    let began = Instant::now();
    user.action(&a, json!({"os-stop": null})).await;
    user.until_status(&a, "SHUTOFF", 60).await;
    println!("stopped after {:?}", began.elapsed());
    let console = user.until_console(&a, "ACPI-POWEROFF", 5).await;
    assert!(!console.is_empty());
    user.action(&a, json!({"os-start": null})).await;
    user.until_status(&a, "ACTIVE", 60).await;
    user.until_console(&a, "TESTIMG-READY", 120).await;

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
