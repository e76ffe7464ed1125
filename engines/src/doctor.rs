//! Is this machine fit for a cloud? Looked at before anything is started; changes nothing on the machine
//! but the memory of the KVM probe in the data directory.

use crate::kvm::kvm_works;
use crate::process::{find, run};
use crate::{ceph, netns, test_image};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckState {
    Ok,
    /// The cloud comes up, with less than it could have.
    Warn,
    /// The cloud does not come up.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone)]
pub struct Check {
    pub name: &'static str,
    pub state: CheckState,
    pub detail: String,
    /// What to do about it, where it is not well.
    pub remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: CheckState::Ok, detail: detail.into(), remedy: None }
    }

    fn not(name: &'static str, state: CheckState, detail: impl Into<String>, remedy: &str) -> Self {
        Self { name, state, detail: detail.into(), remedy: Some(remedy.into()) }
    }
}

/// What must be there, which package brings it, and how it tells its version.
const PROGRAMS: [(&str, &str, &str); 13] = [
    ("ceph-mon", "ceph-mon", "--version"),
    ("ceph-mgr", "ceph-mgr", "--version"),
    ("ceph-osd", "ceph-osd", "--version"),
    ("rbd", "ceph-common", "--version"),
    ("ovsdb-server", "openvswitch-switch", "--version"),
    ("ovs-vswitchd", "openvswitch-switch", "--version"),
    ("ovn-northd", "ovn-central", "--version"),
    ("ovn-controller", "ovn-host", "--version"),
    ("libvirtd", "libvirt-daemon", "--version"),
    ("virsh", "libvirt-clients", "--version"),
    ("qemu-system-x86_64", "qemu-system-x86", "--version"),
    ("qemu-img", "qemu-utils", "--version"),
    ("ip", "iproute2", "-V"),
];
const INSTALL: &str = "run scripts/install";
/// The default listeners of `aquifer up`: API and S3.
const LISTENERS: [std::net::SocketAddrV4; 2] = [
    std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 5000),
    std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 7480),
];
const GIB: u64 = 1 << 30;

/// Looks at everything that a cloud in `dir` needs. Takes a few seconds, of which the first KVM probe
/// takes the most.
pub async fn doctor(dir: &Path) -> Vec<Check> {
    let (packages, driver, kvm, tcg, datapath, clock) =
        futures::join!(packages(), rbd_driver(), kvm(dir), tcg(), datapath(), clock());
    vec![
        root(),
        packages,
        driver,
        kvm,
        tcg,
        datapath,
        ranges(dir).await,
        ports(dir),
        disk(dir),
        memory(),
        clock,
        image().await,
    ]
}

/// Whether a Ceph that somebody else runs answers to `user` (without `client.`) by the configuration `conf`.
pub async fn ceph_reachable(conf: &Path, user: &str) -> Check {
    let name = "ceph";
    let conf_text = conf.display().to_string();
    let fsid = ["timeout", "15", "ceph", "-c", &conf_text, "--id", user, "--connect-timeout", "10", "fsid"];
    match run(&fsid).await {
        Ok(fsid) => Check::ok(name, format!("the cluster {fsid} answers")),
        Err(error) => Check::not(
            name,
            CheckState::Fail,
            error.to_string(),
            "check mon_host in the configuration, the user's keyring, and that the monitors are reachable",
        ),
    }
}

fn root() -> Check {
    if nix::unistd::geteuid().is_root() {
        Check::ok("root", "running as root")
    } else {
        Check::not("root", CheckState::Fail, "not running as root", "run aquifer with sudo")
    }
}

async fn packages() -> Check {
    let missing: Vec<String> = PROGRAMS
        .iter()
        .filter(|(program, ..)| find(program).is_none())
        .map(|(program, package, _)| format!("{program} (package {package})"))
        .collect();
    if !missing.is_empty() {
        return Check::not("packages", CheckState::Fail, format!("missing: {}", missing.join(", ")), INSTALL);
    }
    let version = async |program: &str, flag: &str| {
        let said = run(&[program, flag]).await.unwrap_or_default();
        let words = said.split_whitespace().map(|word| word.trim_end_matches(','));
        words
            .into_iter()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
            .unwrap_or("?")
            .to_owned()
    };
    let (ceph, ovs, ovn, libvirt, qemu) = futures::join!(
        version("ceph-osd", "--version"),
        version("ovs-vswitchd", "--version"),
        version("ovn-controller", "--version"),
        version("libvirtd", "--version"),
        version("qemu-system-x86_64", "--version"),
    );
    Check::ok(
        "packages",
        format!("Ceph {ceph}, Open vSwitch {ovs}, OVN {ovn}, libvirt {libvirt}, QEMU {qemu}"),
    )
}

/// QEMU reads a guest's disk through librbd: a driver that comes in a package of its own.
async fn rbd_driver() -> Check {
    let formats = run(&["qemu-img", "--help"]).await.unwrap_or_default();
    if formats.split_whitespace().any(|word| word == "rbd") {
        return Check::ok("qemu rbd driver", "present");
    }
    let detail = "QEMU cannot open RBD images";
    Check::not(
        "qemu rbd driver",
        CheckState::Fail,
        detail,
        "install qemu-block-extra, or run scripts/install",
    )
}

async fn kvm(dir: &Path) -> Check {
    let remedy = "guests run under TCG, slowly; switch hardware (or nested) virtualisation on";
    let home = if dir.is_dir() { dir.to_owned() } else { std::env::temp_dir() };
    match kvm_works(&home).await {
        Ok(kvm) if kvm.works => Check::ok("kvm", kvm.detail),
        Ok(kvm) => Check::not("kvm", CheckState::Warn, kvm.detail, remedy),
        Err(error) => Check::not("kvm", CheckState::Warn, error.to_string(), remedy),
    }
}

async fn tcg() -> Check {
    let accelerators = run(&["qemu-system-x86_64", "-accel", "help"]).await.unwrap_or_default();
    if accelerators.lines().any(|line| line.trim() == "tcg") {
        Check::ok("tcg", "available")
    } else {
        Check::not("tcg", CheckState::Warn, "QEMU has no TCG", "where KVM does not work, guests cannot run")
    }
}

/// Tries the kernel's datapath in a namespace made for it.
async fn datapath() -> Check {
    let netns = format!("aquifer-doctor-{}", std::process::id());
    if let Err(error) = run(&["ip", "netns", "add", &netns]).await {
        let remedy = "network namespaces are needed: run as root, on a kernel that has them";
        return Check::not("network namespaces", CheckState::Fail, error.to_string(), remedy);
    }
    let kernel = crate::ovn::kernel_datapath(&netns).await;
    if let Err(error) = run(&["ip", "netns", "del", &netns]).await {
        tracing::warn!(%error, netns, "the namespace of a probe could not be removed");
    }
    if kernel {
        return Check::ok("ovs datapath", "the kernel's");
    }
    if Path::new("/dev/net/tun").exists() {
        let detail = "the kernel has no openvswitch module: the datapath in user space is used, at about a tenth of the speed";
        return Check::not(
            "ovs datapath",
            CheckState::Warn,
            detail,
            "boot a kernel with the openvswitch module",
        );
    }
    let remedy = "load the module tun, or boot a kernel with the openvswitch module";
    Check::not("ovs datapath", CheckState::Fail, "neither the kernel's nor /dev/net/tun", remedy)
}

async fn ranges(dir: &Path) -> Check {
    let remedy = "free the range, or start a cloud in another data directory";
    match netns::ranges_for(dir).await {
        Ok(ranges) => Check::ok("address ranges", ranges),
        Err(error) => Check::not("address ranges", CheckState::Fail, error.to_string(), remedy),
    }
}

/// Whether `up` could listen where it does by default.
fn ports(dir: &Path) -> Check {
    let taken: Vec<String> = LISTENERS
        .iter()
        .filter(|address| std::net::TcpListener::bind(address).is_err())
        .map(|address| address.to_string())
        .collect();
    if taken.is_empty() {
        return Check::ok("ports", "the default ones are free");
    }
    if dir.join("ready").exists() {
        return Check::ok("ports", format!("{} taken; a cloud runs in {}", taken.join(", "), dir.display()));
    }
    let remedy = "end who listens there, or choose others with --listen and --s3-listen";
    Check::not("ports", CheckState::Warn, format!("taken: {}", taken.join(", ")), remedy)
}

/// The nearest folder above `dir` that exists.
fn existing(dir: &Path) -> PathBuf {
    dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn disk(dir: &Path) -> Check {
    let place = existing(dir);
    let free = match ceph::free_space(&place) {
        Ok(free) => free,
        Err(error) => {
            return Check::not("disk", CheckState::Fail, error.to_string(), "choose another data directory");
        }
    };
    let detail = format!("{:.1} GiB free in {}", free as f64 / GIB as f64, place.display());
    let remedy = "free space, or choose a data directory on a larger file system";
    match free / GIB {
        0..=2 => Check::not("disk", CheckState::Fail, detail, remedy),
        3..=9 => Check::not("disk", CheckState::Warn, detail, remedy),
        _ => Check::ok("disk", detail),
    }
}

fn memory() -> Check {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = available.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
    let detail = format!("{} MiB available; a cloud without servers takes about 350", kib / 1024);
    let remedy = "end other programs, or use a machine with more memory";
    match kib / 1024 {
        0..=399 => Check::not("memory", CheckState::Fail, detail, remedy),
        400..=1535 => Check::not("memory", CheckState::Warn, detail, remedy),
        _ => Check::ok("memory", detail),
    }
}

/// Tokens and Ceph's tickets live by the clock: it must tell a time after this program was written, and
/// it must run as fast as the monotonic one.
async fn clock() -> Check {
    const WRITTEN: i64 = 1_735_689_600; // 2025-01-01
    let remedy = "set the clock, and keep it with chrony or systemd-timesyncd";
    let now = chrono::Utc::now();
    if now.timestamp() < WRITTEN {
        return Check::not("clock", CheckState::Fail, format!("it says {now}"), remedy);
    }
    let from = std::time::Instant::now();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let drift = (chrono::Utc::now() - now).num_milliseconds()
        - i64::try_from(from.elapsed().as_millis()).unwrap_or(0);
    if drift.abs() > 50 {
        return Check::not(
            "clock",
            CheckState::Warn,
            format!("it jumped by {drift} ms within half a second"),
            remedy,
        );
    }
    let synced = run(&["timedatectl", "show", "-p", "NTPSynchronized", "--value"]).await.unwrap_or_default();
    match synced.as_str() {
        "no" => Check::not("clock", CheckState::Warn, "steady, but not synchronised", remedy),
        "yes" => Check::ok("clock", "steady and synchronised"),
        _ => Check::ok("clock", "steady"),
    }
}

async fn image() -> Check {
    let remedy = "run scripts/install where Debian's archive is reachable; other images work without it";
    match test_image::cached().await {
        Ok(image) => Check::ok("test image", image.qcow2.display().to_string()),
        Err(error) => Check::not("test image", CheckState::Warn, error.to_string(), remedy),
    }
}
