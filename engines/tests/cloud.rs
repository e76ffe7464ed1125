//! The engines on this machine: made, taken up again, side by side, stopped. Needs root and the packages.

#![allow(clippy::unwrap_used)]

use engines::{Endpoints, EngineError, EngineState, Engines, EnginesConfig, Running, Silent, ceph};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn config() -> EnginesConfig {
    EnginesConfig { osd_size: Some(6 << 30), ..EnginesConfig::default() }
}

/// Ends what a failed test has left running below a folder.
struct Cleanup(std::path::PathBuf);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let left = format!(
            "for p in $(pgrep -f '{0}/'); do [ $p = $$ ] || [ $p = {1} ] || kill -9 $p; done; sleep 0.5; \
             for n in {0}/*/engines.toml; do [ -f $n ] && h=$(printf %s $(dirname $n) | sha256sum | cut -c1-8) && \
             {{ kill -9 $(ip netns pids aquifer-$h); ip link del aq${{h}}c; ip link del aq${{h}}p; ip netns del aquifer-$h; }}; done 2>/dev/null",
            self.0.display(),
            std::process::id()
        );
        if std::thread::panicking() {
            let _ = Command::new("bash").args(["-c", &left]).status();
        }
    }
}

fn sh(text: &str) -> String {
    let output = Command::new("bash").args(["-c", text]).output().unwrap();
    assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn pids(running: &Running) -> Vec<(String, u32)> {
    running
        .status()
        .into_iter()
        .map(|e| (e.name.clone(), e.pid.unwrap_or_else(|| panic!("{} has no pid", e.name))))
        .collect()
}

async fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What of the machine a cloud must leave as it is: firewall, forwarding, mounts.
fn host() -> String {
    sh(
        "(nft list ruleset 2>/dev/null || true); cat /proc/sys/net/ipv4/ip_forward; grep -v netns /proc/mounts | sort",
    )
}

/// The links, namespaces and routes that the cloud of a namespace has on the host.
fn traces(netns: &str) -> String {
    let hash = netns.strip_prefix("aquifer-").unwrap();
    sh(&format!("(ip -br link; ip netns; ip route show table all) | grep {hash} || true"))
}

fn put(conf: &Path, key: &str, text: &str) {
    sh(&format!(
        "echo -n '{text}' | timeout 30 rados -c {} -p objects --id aquifer put {key} -",
        conf.display()
    ));
}

fn get(conf: &Path, key: &str) -> String {
    sh(&format!("timeout 30 rados -c {} -p objects --id aquifer get {key} -", conf.display()))
}

/// Starts a guest on an RBD image and waits for its user space; gives the emulator's pid.
async fn boot_guest(endpoints: &Endpoints, dir: &Path) -> String {
    let (conf, uri) = (endpoints.ceph_conf.display(), &endpoints.libvirt_uri);
    let image = endpoints.test_image.as_ref().unwrap().display();
    let virsh = |what: &str| sh(&format!("virsh -q -c '{uri}' {what}"));
    sh(&format!("qemu-img convert -O raw {image} rbd:vms/guest:id=aquifer:conf={conf}"));
    let secret = dir.join("secret.xml");
    let uuid = "5a6b1f8e-5c0e-4b7e-9d5e-0a1b2c3d4e5f";
    let usage = "<usage type='ceph'><name>test</name></usage>";
    std::fs::write(&secret, format!("<secret private='yes'><uuid>{uuid}</uuid>{usage}</secret>")).unwrap();
    virsh(&format!("secret-define {}", secret.display()));
    let key = sh(&format!("sed -n 's/.*key = //p' {}", endpoints.ceph_keyring.display()));
    virsh(&format!("secret-set-value {uuid} {key}"));
    let (address, console) = (endpoints.netns_address, dir.join("console.log"));
    let xml = format!(
        "<domain type='qemu'><name>guest</name><memory unit='MiB'>192</memory>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features><devices>\
         <disk type='network' device='disk'><driver name='qemu' type='raw'/>\
         <auth username='aquifer'><secret type='ceph' uuid='{uuid}'/></auth>\
         <source protocol='rbd' name='vms/guest'><host name='{address}' port='3300'/></source>\
         <target dev='vda' bus='virtio'/></disk>\
         <serial type='pty'><log file='{}'/></serial></devices></domain>",
        console.display()
    );
    let file = dir.join("guest.xml");
    std::fs::write(&file, xml).unwrap();
    virsh(&format!("create {}", file.display()));
    until("the guest is in user space", Duration::from_secs(60), || {
        std::fs::read(&console).is_ok_and(|text| String::from_utf8_lossy(&text).contains("TESTIMG-USERSPACE"))
    })
    .await;
    sh(&format!(
        "for p in $(ip netns pids {}); do grep -aq qemu-system /proc/$p/cmdline && echo $p; done; true",
        endpoints.netns
    ))
}

/// One test for the whole life, so that machines with two cores see one cloud at a time.
#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_lives() {
    let before = host();
    let temp = tempfile::tempdir().unwrap();
    let _cleanup = Cleanup(temp.path().to_owned());
    let dir = temp.path().join("one");

    // made
    let running = Engines::up(&dir, &config(), &Silent).await.unwrap();
    let endpoints = running.endpoints().clone();
    assert!(running.status().iter().all(|e| e.state == EngineState::Running && e.restarts == 0));
    assert!(running.rss() < 290 << 20, "{} MiB", running.rss() >> 20);
    put(&endpoints.ceph_conf, "kept", "first");
    let pools = sh(&format!("ceph -c {} osd pool ls | sort | xargs", endpoints.ceph_conf.display()));
    assert_eq!(pools, "images objects objects.index vms volumes");
    let nb = endpoints.nb_socket.display();
    sh(&format!("ovn-nbctl --db=unix:{nb} ls-add kept"));
    assert_eq!(sh(&format!("virsh -q -c '{}' list --all", endpoints.libvirt_uri)), "");
    sh(&format!("ip -n {} addr show br-ex", endpoints.netns));

    // one supervisor at a time
    assert!(matches!(Engines::up(&dir, &config(), &Silent).await, Err(EngineError::InUse { .. })));
    assert!(matches!(engines::stop(&dir).await, Err(EngineError::InUse { .. })));

    let guest = boot_guest(&endpoints, &dir).await;
    assert_ne!(guest, "");

    // taken up again
    let first = pids(&running);
    drop(running);
    assert!(engines::observe(&dir).await.iter().all(|e| e.pid.is_some()));
    let from = Instant::now();
    let running = Engines::up(&dir, &config(), &Silent).await.unwrap();
    assert!(from.elapsed() < Duration::from_secs(5), "taking up took {:?}", from.elapsed());
    assert_eq!(pids(&running), first);
    assert_eq!(running.endpoints().public, endpoints.public);

    // each daemon killed: it comes back, and so do its clients
    for (name, pid) in pids(&running) {
        kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
        until(&format!("{name} is back"), Duration::from_secs(20), || {
            let status = running.status().into_iter().find(|e| e.name == name).unwrap();
            status.state == EngineState::Running
                && status.pid.is_some_and(|now| now != pid)
                && status.restarts == 1
        })
        .await;
    }
    assert_eq!(get(&endpoints.ceph_conf, "kept"), "first");
    put(&endpoints.ceph_conf, "after", "second");
    sh(&format!("ovn-nbctl --timeout=20 --wait=hv --db=unix:{nb} sync"));
    until("libvirt answers", Duration::from_secs(20), || {
        Command::new("virsh")
            .args(["-q", "-c", &endpoints.libvirt_uri, "version"])
            .output()
            .unwrap()
            .status
            .success()
    })
    .await;

    // the guest has noticed nothing
    assert!(Path::new("/proc").join(&guest).exists());
    assert_eq!(sh(&format!("virsh -q -c '{}' domstate guest", endpoints.libvirt_uri)), "running");

    // stopped: nothing is left
    assert_ne!(traces(&endpoints.netns), "");
    let from = Instant::now();
    running.stop().await.unwrap();
    assert!(from.elapsed() < Duration::from_secs(10), "stopping took {:?}", from.elapsed());
    drop(running);
    // The machine's init may not have reaped it yet: a zombie has no command line.
    assert_eq!(std::fs::read(Path::new("/proc").join(&guest).join("cmdline")).unwrap_or_default(), b"");
    // The machine's init may not have reaped it yet: a zombie has no command line.
    assert_eq!(std::fs::read(Path::new("/proc").join(&guest).join("cmdline")).unwrap_or_default(), b"");
    assert!(engines::observe(&dir).await.iter().all(|e| e.pid.is_none()));
    assert_eq!(traces(&endpoints.netns), "");
    assert_eq!(host(), before);

    // started again: the data is there
    let running = Engines::up(&dir, &config(), &Silent).await.unwrap();
    assert_eq!(running.endpoints().public, endpoints.public);
    assert_eq!(get(&endpoints.ceph_conf, "after"), "second");
    assert!(sh(&format!("ovn-nbctl --db=unix:{nb} ls-list")).contains("(kept)"));

    // everything killed at once, the namespace gone with it, as a power cut does
    let all = pids(&running);
    drop(running);
    all.iter().for_each(|(_, pid)| kill(Pid::from_raw((*pid).try_into().unwrap()), Signal::SIGKILL).unwrap());
    sh(&format!("ip netns del {0}", endpoints.netns));
    let running = Engines::up(&dir, &config(), &Silent).await.unwrap();
    assert_eq!(get(&endpoints.ceph_conf, "after"), "second");

    // a second cloud beside it
    let other = temp.path().join("two");
    let second = Engines::up(&other, &config(), &Silent).await.unwrap();
    assert_ne!(second.endpoints().public.cidr, endpoints.public.cidr);
    assert_ne!(second.endpoints().netns, endpoints.netns);
    put(&second.endpoints().ceph_conf, "kept", "other");
    assert_eq!(get(&endpoints.ceph_conf, "kept"), "first");

    // what a crashed process left is stopped without one
    drop(second);
    engines::stop(&other).await.unwrap();
    assert_eq!(get(&endpoints.ceph_conf, "kept"), "first");
    running.stop().await.unwrap();
    assert_eq!(traces(&endpoints.netns), "");
    assert_eq!(host(), before);
}

#[tokio::test]
async fn ceph_alone_on_loopback() {
    let temp = tempfile::tempdir().unwrap();
    let _cleanup = Cleanup(temp.path().to_owned());
    let options = ceph::Options { osds: 3, osd_size: Some(4 << 30), ..ceph::Options::default() };
    let cluster = ceph::start(temp.path(), &options, &Silent).await.unwrap();
    let conf = cluster.conf();
    assert!(
        sh(&format!("ceph -c {} osd pool get volumes size -f json", conf.display())).contains("\"size\":3")
    );
    put(&conf, "a", "one");
    // One of three may be silent.
    assert!(cluster.signal_osd(2, Signal::SIGSTOP));
    assert!(!cluster.signal_osd(9, Signal::SIGSTOP));
    put(&conf, "a", "two");
    assert!(cluster.signal_osd(2, Signal::SIGCONT));
    assert_eq!(get(&conf, "a"), "two");
    // What was cut short while it was made is made anew.
    cluster.stop().await.unwrap();
    std::fs::remove_file(temp.path().join("ceph/complete")).unwrap();
    let cluster = ceph::start(temp.path(), &ceph::Options { osds: 1, ..options }, &Silent).await.unwrap();
    assert_eq!(cluster.status().len(), 3);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_machine_is_examined() {
    let temp = tempfile::tempdir().unwrap();
    let checks = engines::doctor(&temp.path().join("not-yet")).await;
    for name in [
        "root",
        "packages",
        "qemu rbd driver",
        "kvm",
        "tcg",
        "ovs datapath",
        "address ranges",
        "ports",
        "disk",
        "memory",
        "clock",
    ] {
        let check =
            checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check of {name}"));
        assert!(check.state == engines::CheckState::Ok || check.remedy.is_some(), "{check:?}");
    }
    assert!(!temp.path().join("not-yet").exists());
    let check = engines::ceph_reachable(&temp.path().join("none.conf"), "admin").await;
    assert_eq!(check.state, engines::CheckState::Fail);
}

#[tokio::test]
async fn the_test_image_boots_by_itself() {
    let temp = tempfile::tempdir().unwrap();
    let image = engines::test_image::ensure(temp.path()).await.unwrap();
    let disk = image.qcow2.display();
    let console = temp.path().join("console");
    let booted = sh(&format!(
        "qemu-system-x86_64 -accel tcg -cpu max -M q35 -m 192 -display none -no-reboot -nic none -monitor none \
         -serial file:{0} -snapshot -drive file={disk},if=virtio </dev/null & p=$!; \
         for i in $(seq 900); do grep -aq TESTIMG-USERSPACE {0} && break; sleep 0.1; done; kill $p; \
         grep -a TESTIMG-USERSPACE {0}",
        console.display()
    ));
    assert!(booted.contains("kernel="), "{booted}");
}
