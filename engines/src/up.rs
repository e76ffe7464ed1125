//! All engines of one cloud: up, looked at, stopped.

use crate::ceph::{self, Bind, Ceph};
use crate::cloud;
use crate::config::EnginesConfig;
use crate::error::{EngineError, Result};
use crate::kvm::kvm_works;
use crate::libvirt::{self, Libvirt};
use crate::netns::{self, Namespace, PublicNetwork};
use crate::ovn::{self, Ovn};
use crate::process::{self, EngineStatus, run};
use crate::progress::{Progress, step};
use crate::test_image;
use nix::fcntl::{Flock, FlockArg};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a guest that nobody stopped may take to flush its disks.
const GUEST_GRACE: Duration = Duration::from_secs(15);

/// Where the engines are reached. Paths are absolute; all are reachable from the host's namespace and,
/// with the same names, from the cloud's.
#[derive(Debug, Clone)]
pub struct Endpoints {
    pub ceph_conf: PathBuf,
    /// Without `client.`.
    pub ceph_user: String,
    pub ceph_keyring: PathBuf,
    /// OVSDB sockets.
    pub nb_socket: PathBuf,
    pub sb_socket: PathBuf,
    pub ovs_socket: PathBuf,
    /// This machine's name in OVN's southbound database, also its libvirt host UUID.
    pub chassis: String,
    pub libvirt_uri: String,
    /// As in `ip netns`.
    pub netns: String,
    /// The host's and the namespace's address on the control link.
    pub host_address: std::net::Ipv4Addr,
    pub netns_address: std::net::Ipv4Addr,
    pub public: PublicNetwork,
    /// The bootable test image, where it could be made.
    pub test_image: Option<PathBuf>,
}

/// The way in: see [`Engines::up`].
pub struct Engines;

impl Engines {
    /// Brings up every engine of the cloud in `dir`, or takes up those that run. Needs root. Returns when
    /// all are ready: a write has succeeded in every pool, the chassis is registered, libvirt answers.
    ///
    /// Where it fails and no engine ran before, those that it started are stopped again.
    pub async fn up(dir: &Path, config: &EnginesConfig, progress: &dyn Progress) -> Result<Running> {
        need_root()?;
        let dir = cloud::prepare(dir)?;
        let lock = lock(&dir)?;
        let found = names(&dir)
            .iter()
            .filter(|(name, program)| process::look(&dir, name, program).pid.is_some())
            .count();
        if found > 0 && !netns::exists(&dir) {
            progress.note("engines of this cloud are running without its namespace; they are started again");
            stop_all(&dir).await?;
        } else if found > 0 {
            progress.note("engines of this cloud are running; they are taken up again");
        }
        match Self::start(dir.clone(), lock, config, progress).await {
            Err(error) if found == 0 => {
                if let Err(also) = stop_all(&dir).await {
                    tracing::error!(error = %also, "engines that were started could not be stopped again");
                }
                Err(error)
            }
            result => result,
        }
    }

    async fn start(
        dir: PathBuf,
        lock: Flock<std::fs::File>,
        config: &EnginesConfig,
        progress: &dyn Progress,
    ) -> Result<Running> {
        let (namespace, cloud) =
            step(progress, "make the network namespace", Namespace::up(&dir, config.public_cidr)).await?;
        ovn::prepare(&dir)?;
        let options = ceph::Options {
            osds: config.osds,
            osd_size: config.osd_size,
            osd_cache: config.osd_cache,
            bind: Bind::Namespace { name: namespace.name.clone(), address: namespace.address },
        };
        let ceph = ceph::start(&dir, &options, progress);
        let ovn = step(progress, "start OVN and Open vSwitch", ovn::start(&dir, &namespace, cloud.host));
        let libvirt = step(progress, "start libvirt", libvirt::start(&dir, &namespace, cloud.host));
        let image = async {
            match step(progress, "provide the test image", test_image::ensure(&dir)).await {
                Ok(image) => {
                    // Whoever asks later finds the answer.
                    kvm_works(&dir).await?;
                    Ok(Some(image.qcow2))
                }
                Err(error) => {
                    progress.note(&format!("there is no test image: {error}"));
                    Ok(None)
                }
            }
        };
        let (ceph, ovn, libvirt, test_image) = futures::try_join!(ceph, ovn, libvirt, image)?;
        let endpoints = Endpoints {
            ceph_conf: ceph.conf(),
            ceph_user: ceph.user().into(),
            ceph_keyring: ceph.keyring(),
            nb_socket: ovn::nb_socket(&dir),
            sb_socket: ovn::sb_socket(&dir),
            ovs_socket: ovn::ovs_socket(&dir),
            chassis: cloud.host.to_string(),
            libvirt_uri: libvirt::uri(&dir),
            netns: namespace.name,
            host_address: namespace.host_address,
            netns_address: namespace.address,
            public: namespace.public,
            test_image,
        };
        Ok(Running { dir, endpoints, ceph, ovn, libvirt, _lock: lock })
    }
}

/// The engines under supervision. Dropping this ends the supervision and leaves them running, as a crash
/// would; [`Running::stop`] ends them.
pub struct Running {
    dir: PathBuf,
    endpoints: Endpoints,
    ceph: Ceph,
    ovn: Ovn,
    libvirt: Libvirt,
    /// Says to other processes that these engines have a supervisor.
    _lock: Flock<std::fs::File>,
}

impl Running {
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    pub fn ceph(&self) -> &Ceph {
        &self.ceph
    }

    /// Every daemon, as it stands now.
    pub fn status(&self) -> Vec<EngineStatus> {
        let ceph = self.ceph.status().into_iter();
        ceph.chain(self.ovn.status()).chain(self.libvirt.status()).collect()
    }

    /// The resident memory of all daemons together, in bytes.
    pub fn rss(&self) -> u64 {
        self.status().iter().map(|engine| engine.rss).sum()
    }

    /// Stops everything in order: libvirt, guests that nobody has stopped, the network, Ceph; then removes
    /// the namespace and its links. What cannot be stopped does not keep the rest from being stopped. The
    /// directory is free for others when this value is dropped.
    pub async fn stop(&self) -> Result<()> {
        let libvirt = self.libvirt.stop().await;
        let guests = end_guests(&self.dir).await;
        let (ovn, ceph) = futures::join!(self.ovn.stop(), self.ceph.stop());
        let rest = stop_all(&self.dir).await;
        libvirt.and(guests).and(ovn).and(ceph).and(rest)
    }
}

/// Every daemon of the cloud in `dir` as its pid file tells, for who does not supervise it.
pub async fn observe(dir: &Path) -> Vec<EngineStatus> {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    names(&dir).iter().map(|(name, program)| process::look(&dir, name, program)).collect()
}

/// Stops what a crashed process has left of the cloud in `dir`, guests included, in the order of
/// [`Running::stop`]. Refuses while a process supervises it.
pub async fn stop(dir: &Path) -> Result<()> {
    need_root()?;
    let dir = cloud::prepare(dir)?;
    let _lock = lock(&dir)?;
    stop_all(&dir).await
}

async fn stop_all(dir: &Path) -> Result<()> {
    libvirt::stop(dir).await?;
    end_guests(dir).await?;
    ovn::stop(dir).await?;
    ceph::stop(dir).await?;
    end_in_namespace(dir, "", Duration::from_secs(2)).await?;
    netns::remove(dir).await
}

async fn end_guests(dir: &Path) -> Result<()> {
    end_in_namespace(dir, "qemu-system-", GUEST_GRACE).await
}

/// Ends every process in the cloud's namespace whose command line holds `what`.
async fn end_in_namespace(dir: &Path, what: &str, grace: Duration) -> Result<()> {
    if !netns::exists(dir) {
        return Ok(());
    }
    let name = netns::name(dir);
    let pids = run(&["ip", "netns", "pids", &name]).await?;
    let meant = pids.lines().filter_map(|pid| pid.trim().parse::<u32>().ok()).filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(what)
    });
    let none = dir.join("run/no-such.pid");
    let ends = meant.map(|pid| process::end(&none, Some(pid), "a process in the cloud's namespace", grace));
    futures::future::try_join_all(ends).await.map(drop)
}

/// Every daemon that a cloud has: its name and its program.
fn names(dir: &Path) -> Vec<(String, &'static str)> {
    let same = |name: &'static str| (name.to_owned(), name);
    let others = ovn::DAEMONS.into_iter().rev().chain(libvirt::DAEMONS.into_iter().rev()).map(same);
    ceph::daemons(dir).into_iter().chain(others).collect()
}

fn need_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(EngineError::NotRoot) }
}

/// One supervisor a directory. The lock ends with the process that has it, however it ends.
fn lock(dir: &Path) -> Result<Flock<std::fs::File>> {
    let path = dir.join("engines.lock");
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(EngineError::file(&path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => EngineError::InUse { dir: dir.to_owned() },
        errno => EngineError::file(&path)(errno.into()),
    })
}
