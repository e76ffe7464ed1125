//! POST server → the guest's first line of user space, against plain QEMU on an RBD clone of the same image.

use crate::cloud::{Cloud, Session, id};
use crate::report::Report;
use crate::{BenchError, Result};
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const LINE: &str = "TESTIMG-USERSPACE";
/// PCI Express ports of a server, taken ones included.
const PORTS: u32 = 14;
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) async fn to_user_space(
    cloud: &Cloud,
    session: &Session,
    runs: usize,
    report: &mut Report,
) -> Result<()> {
    let image = session.image().await?;
    let network =
        session.call("POST", "/network/v2.0/networks", Some(json!({"network": {"name": "bench"}}))).await?;
    let network = id(&network["network"])?;
    let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.44.0.0/24"}});
    session.call("POST", "/network/v2.0/subnets", Some(subnet)).await?;
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for run in 0..=runs {
        let bare = qemu(cloud, &image, run).await?;
        let took = server(cloud, session, &image, &network).await?;
        if run > 0 {
            plain.push(bare);
            ours.push(took);
        }
    }
    session.call("DELETE", &format!("/network/v2.0/networks/{network}"), None).await?;
    report.against("POST server → user space (plain QEMU on a clone)", &ours, &plain, "1.25×");
    Ok(())
}

/// Waits until a guest's serial console, which QEMU writes to a file on either side, has the line. Asking the API for
/// it so often would take the time from the guest that is measured.
async fn until_line(console: &Path, began: Instant) -> Result<Duration> {
    while began.elapsed() < LIMIT {
        if std::fs::read(console).is_ok_and(|t| String::from_utf8_lossy(&t).contains(LINE)) {
            return Ok(began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(BenchError::Said(format!("no user space in {}", console.display())))
}

async fn server(cloud: &Cloud, session: &Session, image: &str, network: &str) -> Result<Duration> {
    let began = Instant::now();
    let body = json!({"server": {"name": "bench", "imageRef": image, "flavorRef": "1", "networks": [{"uuid": network}]}});
    let server = id(&session.call("POST", "/compute/v2.1/servers", Some(body)).await?["server"])?;
    let path = format!("/compute/v2.1/servers/{server}");
    let took = until_line(&cloud.dir.path().join(format!("agent/consoles/{server}.log")), began).await?;
    session.call("DELETE", &path, None).await?;
    session.gone(&path).await?;
    Ok(took)
}

/// The devices that a server has: a disk, a network card (QEMU's own DHCP answers it), a display, a channel for the
/// guest agent, entropy, a balloon, and free ports for what is attached later.
fn devices(drive: &str) -> Vec<String> {
    let mut args = vec!["-nodefaults".to_owned(), "-drive".to_owned(), drive.to_owned()];
    let mut device = |text: &str| args.extend(["-device".to_owned(), text.to_owned()]);
    for n in 1..=PORTS {
        device(&format!("pcie-root-port,id=port{n},chassis={n}"));
    }
    device("virtio-blk-pci,drive=root,bus=port1,bootindex=1");
    device("virtio-net-pci,netdev=net,bus=port2,romfile=");
    device("virtio-serial-pci,bus=port3");
    device("virtio-balloon-pci,bus=port4");
    device("virtio-rng-pci,bus=port5");
    device("VGA");
    args.extend(["-netdev".to_owned(), "user,id=net".to_owned()]);
    args
}

/// Clone with `rbd`'s library, then QEMU with the devices a server of ours has.
///
/// The clone stays: the watch of a killed QEMU keeps it for half a minute, and the whole cluster goes afterwards.
async fn qemu(cloud: &Cloud, image: &str, run: usize) -> Result<Duration> {
    let clusters = pool::Clusters::connect(&[pool::ClusterConfig::new("bench", cloud.ceph_conf())]).await?;
    let cluster = clusters.get("bench")?;
    let (images, vms) = (cluster.pool("images", None).rbd(), cluster.pool("vms", None));
    let console = cloud.dir.path().join("bench-console");
    let _ = std::fs::remove_file(&console);
    let clone = format!("bench-boot-{run}");
    let began = Instant::now();
    images.clone_image(image, "snap", &vms, &clone, pool::CreateOptions::default()).await?;
    let drive = format!(
        "file=rbd:vms/{clone}:conf={},format=raw,if=none,id=root,cache=writeback,discard=unmap",
        cloud.ceph_conf().display()
    );
    let mut guest = tokio::process::Command::from(cloud.beside_engines("qemu-system-x86_64")?)
        .args([
            "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "192", "-smp", "1", "-display", "none",
        ])
        .args(["-monitor", "none", "-serial"])
        .arg(format!("file:{}", console.display()))
        .args(devices(&drive))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let seen = until_line(&console, began).await;
    guest.kill().await?;
    seen
}
