//! A private libvirtd and its virtlogd, in a mount namespace in which the folders that libvirt has built
//! in are the cloud's own, and in the cloud's network namespace, where its guests' taps belong.
//!
//! Guests are children of libvirtd in a session of their own: they go on without it, and the next libvirtd
//! finds them by what is in these folders.

use crate::error::{EngineError, Result};
use crate::files;
use crate::netns::Namespace;
use crate::ovn;
use crate::process::{self, Daemon, EngineStatus, Spec, run_with};
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

const START_LIMIT: Duration = Duration::from_secs(60);
const LIBVIRTD: &str = "libvirtd";
const VIRTLOGD: &str = "virtlogd";
/// In the order in which they end.
pub(crate) const DAEMONS: [&str; 2] = [LIBVIRTD, VIRTLOGD];
/// Folders of ours and what libvirt takes them for.
const FOLDERS: [(&str, &str); 5] = [
    ("etc", "/etc/libvirt"),
    ("run", "/run/libvirt"),
    ("var", "/var/lib/libvirt"),
    ("log", "/var/log/libvirt"),
    ("cache", "/var/cache/libvirt"),
];

const QEMU_CONF: &str = r#"# Written by aquifer on every start; changes are lost.
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = [ ]
cgroup_controllers = [ ]
vnc_listen = "127.0.0.1"
stdio_handler = "logd"
max_core = 0
"#;

pub(crate) struct Libvirt {
    virtlogd: Daemon,
    libvirtd: Daemon,
}

/// The address for clients on this machine, from either namespace.
pub(crate) fn uri(dir: &Path) -> String {
    format!("qemu+unix:///system?socket={}/run/libvirt-sock", home(dir).display())
}

fn home(dir: &Path) -> PathBuf {
    dir.join("libvirt")
}

/// Starts what does not run; returns when a connection has got the host's capabilities, which takes
/// seconds the first time and nothing afterwards: libvirt keeps them in the folder `cache`.
pub(crate) async fn start(dir: &Path, namespace: &Namespace, host: Uuid) -> Result<Libvirt> {
    for program in [LIBVIRTD, VIRTLOGD, "virsh", "qemu-system-x86_64"] {
        process::find(program).ok_or(EngineError::Missing { program })?;
    }
    write_files(dir, host)?;
    let daemon = |name: &str| {
        let mut spec = Spec::new(
            dir,
            name,
            vec![name.into(), "-p".into(), format!("{}/{name}.lock", home(dir).display())],
        );
        spec.netns = Some(namespace.name.clone());
        spec.mounts = Some(mounts(dir));
        spec.env.push(("MALLOC_ARENA_MAX".into(), "2".into()));
        Daemon::start(spec)
    };
    let virtlogd = daemon(VIRTLOGD)?;
    let log_socket = home(dir).join("run/virtlogd-sock");
    virtlogd.wait_ready(START_LIMIT, async || connects(&log_socket).await).await?;
    let libvirtd = daemon(LIBVIRTD)?;
    let socket = home(dir).join("run/libvirt-sock");
    libvirtd.wait_ready(START_LIMIT, async || connects(&socket).await).await?;
    let uri = uri(dir);
    run_with(
        &["timeout", "60", "virsh", "-q", "-c", &uri, "domcapabilities", "--virttype", "qemu"],
        &[],
        None,
    )
    .await?;
    Ok(Libvirt { virtlogd, libvirtd })
}

async fn connects(socket: &Path) -> bool {
    tokio::net::UnixStream::connect(socket).await.is_ok()
}

fn write_files(dir: &Path, host: Uuid) -> Result<()> {
    for (folder, _) in FOLDERS {
        files::make_dir(&home(dir).join(folder))?;
    }
    for folder in ["qemu", "images", "boot", "dnsmasq"] {
        files::make_dir(&home(dir).join("var").join(folder))?;
    }
    let libvirtd = format!(
        "# Written by aquifer on every start; changes are lost.\nunix_sock_group = \"root\"\n\
         unix_sock_rw_perms = \"0700\"\nunix_sock_ro_perms = \"0700\"\nauth_unix_ro = \"none\"\n\
         auth_unix_rw = \"none\"\nhost_uuid = \"{host}\"\nlog_filters = \"3:*\"\nlog_outputs = \"3:stderr\"\n"
    );
    let etc = home(dir).join("etc");
    files::write_atomic(&etc.join("qemu.conf"), QEMU_CONF, 0o600)?;
    files::write_atomic(&etc.join("libvirtd.conf"), &libvirtd, 0o600)?;
    files::write_atomic(&etc.join("virtlogd.conf"), "log_outputs = \"3:stderr\"\n", 0o600)
}

/// Shell text that makes libvirt's view: its folders are ours, its Open vSwitch is ours, and only the
/// emulator of this machine's kind is there, since libvirt starts every one it finds to ask what it can.
fn mounts(dir: &Path) -> String {
    let home = home(dir);
    let mut text = String::new();
    let mut bind = |from: PathBuf, to: &str| {
        text.push_str(&format!("mkdir -p {to}\nmount --bind {} {to}\n", from.display()));
    };
    for (folder, place) in FOLDERS {
        bind(home.join(folder), place);
    }
    bind(ovn::run_dir(dir), "/run/openvswitch");
    text.push_str(
        "for other in /usr/bin/qemu-system-*; do\n case $other in *-x86_64) ;; \
         *) mount --bind /dev/null \"$other\";; esac\ndone\n",
    );
    text
}

impl Libvirt {
    pub(crate) fn status(&self) -> Vec<EngineStatus> {
        vec![self.virtlogd.status(), self.libvirtd.status()]
    }

    pub(crate) async fn stop(&self) -> Result<()> {
        let libvirtd = self.libvirtd.stop().await;
        let virtlogd = self.virtlogd.stop().await;
        libvirtd.and(virtlogd)
    }
}

/// Ends what runs of it, whoever started it.
pub(crate) async fn stop(dir: &Path) -> Result<()> {
    for name in DAEMONS {
        process::end_by_name(dir, name, name, Duration::from_secs(5)).await?;
    }
    Ok(())
}
