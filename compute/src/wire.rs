//! What controller and host agent say to each other. Desired state goes down, observed state comes up; both
//! are always the whole of it, so a message that is lost costs nothing but time.
//!
//! ```text
//! POST /compute/agent/v1/hosts/{host}/poll      {known}  → Desired   (held open until it differs from `known`)
//! POST /compute/agent/v1/hosts/{host}/report    Report   → {}
//! GET  /compute/agent/v1/hosts/{host}/metadata  ?network=&address=&path=  → bytes, or 404
//! GET  /compute/agent/v1/hosts/{host}/secrets/{volume}  → Passphrase, or 404
//! POST /compute/agent/v1/hosts/{host}/consoles  ConsoleReply → {}  (the requests travel inside Desired)
//! ```

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub use crate::states::PowerState;
pub use netagent::agent::HostNetwork;

/// The state of a guest's machine that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    On,
    Off,
    Paused,
    /// Its memory is saved on the host's disk.
    Suspended,
    /// Nothing of it is left on the host.
    Gone,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PollRequest {
    /// The `version` of the desired state that the agent has; empty at first.
    pub known: String,
}

/// Everything that a host is to make true.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Differs whenever the rest differs.
    pub version: String,
    pub guests: Vec<Guest>,
    /// Networks that have a guest here, each of which needs a metadata door.
    pub networks: Vec<HostNetwork>,
    /// Consoles whose text somebody waits for.
    pub consoles: Vec<ConsoleRequest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    pub id: String,
    /// The server's name, for people who look at the host.
    pub name: String,
    pub generation: i64,
    pub incarnation: i64,
    pub power: Power,
    pub graceful: bool,
    /// Seconds that a guest gets to shut down when asked.
    pub shutdown_secs: u64,
    pub vcpus: u32,
    pub memory_mib: u64,
    pub disks: Vec<GuestDisk>,
    pub nics: Vec<GuestNic>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestDisk {
    /// `vda`
    pub device: String,
    pub bus: String,
    /// What the guest reads as the disk's serial: the volume's id, or the server's for its own disk.
    pub serial: String,
    pub cluster: String,
    pub pool: String,
    pub image: String,
    /// 1 for the disk that firmware boots from.
    pub boot_order: Option<u32>,
    pub read_only: bool,
    /// A CD, which is there from the guest's start to its end.
    #[serde(default)]
    pub cdrom: bool,
    /// The bytes are a LUKS container, `luks` or `luks2`; its passphrase is asked for by itself
    /// (`GET /compute/agent/v1/hosts/{host}/secrets/{volume}`), so that it stands in no message that is kept.
    #[serde(default)]
    pub encryption: Option<String>,
    /// libvirt's `iotune`, by its elements' names.
    #[serde(default)]
    pub limits: BTreeMap<String, u64>,
    /// Where the disk is to go while the guest runs.
    #[serde(default)]
    pub mirror: Option<MirrorTo>,
    /// How large its guest is to see the disk, in bytes, where it has grown under it.
    #[serde(default)]
    pub grown: Option<u64>,
}

/// An image that a disk is copied to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorTo {
    pub cluster: String,
    pub pool: String,
    pub image: String,
    /// The guest is to go over to it. From here on it may have, whatever its host says last: nobody starts it before the
    /// controller has made one of the two images its disk.
    pub pivot: bool,
}

impl MirrorTo {
    /// What [`Mirrored`] calls it.
    pub fn name(&self) -> String {
        format!("{}:{}/{}", self.cluster, self.pool, self.image)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNic {
    pub port_id: String,
    pub network_id: String,
    pub mac: String,
    pub mtu: i64,
}

/// Somebody waits for the end of a console's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleRequest {
    pub request: String,
    pub guest: String,
    /// Bytes at most, from the end.
    pub bytes: u64,
}

/// What opens an encrypted volume. Has no Debug.
#[derive(Clone, Serialize, Deserialize)]
pub struct Passphrase {
    pub passphrase: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConsoleReply {
    pub request: String,
    /// `None` where the guest has no console yet.
    pub text: Option<String>,
}

/// What a host has and does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    pub facts: Option<HostFacts>,
    /// Every guest of ours on the host, and every guest the host was told of.
    pub guests: Vec<Observed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observed {
    pub id: String,
    /// The generation that is fully applied; 0 while none is.
    pub generation: i64,
    pub incarnation: i64,
    pub power: PowerState,
    pub disks: BTreeSet<String>,
    pub ports: BTreeSet<String>,
    /// Of the disks that are to be elsewhere, by serial.
    #[serde(default)]
    pub mirrors: BTreeMap<String, Mirrored>,
    /// Of the disks that have grown, by serial, what the guest was shown.
    #[serde(default)]
    pub grown: BTreeMap<String, Shown>,
    /// Why the desired state cannot be reached, and of which generation that is said.
    pub error: Option<GuestError>,
}

/// That a guest sees how large a disk is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// [`GuestDisk::grown`] of what was asked for.
    pub bytes: u64,
    /// Why it does not, until it starts anew.
    pub error: Option<String>,
}

/// How far a disk has come on its way to another image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirrored {
    /// [`MirrorTo::name`] of what was asked for.
    pub to: String,
    /// What [`MirrorTo::pivot`] was.
    pub pivot: bool,
    pub state: MirrorState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MirrorState {
    /// Percent of it, 0 also before it has begun.
    Copying(u8),
    /// Both images have whatever the guest was told to be written.
    Ready,
    /// The guest has the disk there, and only there.
    Moved,
    /// The guest has it at its old place only, and no copy is under way.
    Lost,
    /// The guest does not run, or does not have the disk.
    Off,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestError {
    pub generation: i64,
    pub message: String,
    /// The serial or port of the device that could not be attached; absent where the guest itself failed.
    pub device: Option<String>,
}

/// What a host is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostFacts {
    pub vcpus: u32,
    pub memory_mib: u64,
    pub reserved_memory_mib: u64,
    pub free_memory_mib: u64,
    pub disk_gib: u64,
    pub free_disk_gib: u64,
    pub arch: String,
    pub cpu_model: String,
    pub cpu_vendor: String,
    pub topology: Topology,
    /// `kvm` or `qemu`
    pub virt_type: String,
    /// libvirt's number for QEMU's version, 7002000
    pub hypervisor_version: u32,
    pub agent_version: String,
    pub address: String,
    pub uptime_secs: u64,
    pub load: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Topology {
    pub sockets: u32,
    pub cores: u32,
    pub threads: u32,
}
