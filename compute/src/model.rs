//! The nouns of the compute service as rows hold them: a server's intent, what its host last observed, and
//! the states in between. What is searched or constrained is also a column (see `store`); the rest of a row is
//! one JSON document, these structs.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use state::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) use crate::states::{PowerState, TaskState, VmState};
pub(crate) use crate::wire::{MirrorTo, Mirrored, Power, Shown};

/// A size of server. Servers keep a copy of theirs: a flavor may go while they live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flavor {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub vcpus: i64,
    pub ram_mib: i64,
    pub disk_gib: i64,
    pub ephemeral_gib: i64,
    pub swap_mib: i64,
    pub rxtx_factor: f64,
    pub is_public: bool,
    pub disabled: bool,
    #[serde(default)]
    pub extra_specs: BTreeMap<String, String>,
    #[serde(default)]
    pub access: BTreeSet<String>,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
}

/// A public key that a user's servers may let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keypair {
    pub user_id: String,
    pub name: String,
    pub kind: String,
    pub public_key: String,
    pub fingerprint: String,
    pub created_at: Timestamp,
}

/// Where the bytes of a disk are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum DiskSource {
    /// Made for this server alone (`<server id>_disk`), from an image; goes with the server.
    Local { tier: String, image: String },
    /// A volume of the Block Storage service.
    Volume { volume_id: String },
}

/// How far a disk is on its way into or out of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Plug {
    /// Reserved; no task has made it usable yet, so the host does not see it.
    Planned,
    /// The host is to attach it.
    Attaching,
    Attached,
    /// The host is to detach it.
    Detaching,
}

/// One disk of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Disk {
    /// This attachment's own id, which `os-volume_attachments` shows as `bdm_uuid`.
    pub bdm_id: String,
    pub source: DiskSource,
    pub boot_index: Option<i64>,
    /// `vda`
    pub device: String,
    pub bus: String,
    pub device_type: String,
    pub size_gib: i64,
    pub delete_on_termination: bool,
    pub tag: Option<String>,
    pub plug: Plug,
    /// The Block Storage service's attachment, once there is one.
    pub attachment_id: Option<String>,
    /// How the host reaches the bytes; known once the disk is ready.
    pub place: Option<RbdPlace>,
    /// Where the host is to bring the bytes while the guest runs.
    #[serde(default)]
    pub moving: Option<MirrorTo>,
    /// How large the guest is to see the disk, in bytes, since it has grown; until the host says that it does.
    #[serde(default)]
    pub grown: Option<u64>,
    /// What a volume is to be made from before the server starts.
    #[serde(default)]
    pub make: Option<MakeVolume>,
}

impl Disk {
    /// Whether only Block Storage's task knows where the bytes are: the disk can neither be let go nor booted from.
    pub(crate) fn is_pivoting(&self) -> bool {
        self.moving.as_ref().is_some_and(|m| m.pivot)
    }

    pub(crate) fn volume_id(&self) -> Option<&str> {
        match &self.source {
            DiskSource::Volume { volume_id } => Some(volume_id),
            DiskSource::Local { .. } => None,
        }
    }
}

/// A server's config drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConfigDrive {
    pub tier: String,
    /// Known once it is written.
    pub place: Option<RbdPlace>,
}

/// An RBD image, as a host finds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RbdPlace {
    /// The cluster's name in the configuration of controller and host.
    pub cluster: String,
    pub pool: String,
    pub image: String,
    /// How the bytes are sealed; the passphrase is asked for when the host opens them.
    #[serde(default)]
    pub encryption: Option<blockstore::VolumeEncryption>,
    /// What the hypervisor keeps the guest to, by libvirt's names.
    #[serde(default)]
    pub limits: BTreeMap<String, u64>,
}

/// A volume that is made together with its server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MakeVolume {
    pub from: MakeFrom,
    pub size_gib: i64,
    pub volume_type: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "lowercase")]
pub(crate) enum MakeFrom {
    Blank,
    Image(String),
    Snapshot(String),
}

/// One network interface of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Nic {
    pub port_id: String,
    pub network_id: String,
    pub mac: String,
    pub mtu: i64,
    /// Whether the port was made for this server and goes with it.
    pub ours: bool,
    pub tag: Option<String>,
    pub plug: Plug,
}

/// What a request to create says of networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NetworkRequest {
    /// The project's one network, or a 409 where there are several; none is fine.
    Default,
    Auto,
    None,
    These(Vec<NicRequest>),
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct NicRequest {
    pub network_id: Option<String>,
    pub port_id: Option<String>,
    pub fixed_ip: Option<String>,
    pub tag: Option<String>,
}

/// Why a server is in `ERROR`, or why its last operation failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub code: u16,
    pub message: String,
    pub created_at: Timestamp,
}

/// What the host is to make true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub power: Power,
    /// Which boot of the guest this is; a running guest of an earlier one is restarted.
    pub incarnation: i64,
    /// Whether a stop or restart asks the guest first.
    pub graceful: bool,
    /// Grows with every change of anything the host is to do.
    pub generation: i64,
}

/// What the host last said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub power: PowerState,
    pub generation: i64,
    pub incarnation: i64,
    /// Why the guest cannot be as it is wanted.
    pub error: Option<String>,
    /// Which device could not be attached, by serial or port, and why.
    #[serde(default)]
    pub device_error: Option<(String, String)>,
    /// Serials of the disks that the guest has.
    pub disks: BTreeSet<String>,
    /// Ports of the interfaces that the guest has.
    pub ports: BTreeSet<String>,
    /// How far disks have come on their way to other images, by serial.
    #[serde(default)]
    pub mirrors: BTreeMap<String, Mirrored>,
    /// What guests were shown of disks that have grown, by serial.
    #[serde(default)]
    pub grown: BTreeMap<String, Shown>,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Server {
    pub id: String,
    pub project_id: String,
    pub user_id: String,
    pub name: String,
    pub description: Option<String>,
    pub hostname: String,
    /// Empty for a server that boots from a volume.
    pub image_id: String,
    pub flavor: Flavor,
    pub key_name: Option<String>,
    pub public_key: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub tags: BTreeSet<String>,
    pub system_metadata: BTreeMap<String, String>,
    pub vm_state: VmState,
    pub task_state: Option<TaskState>,
    pub intent: Intent,
    pub seen: Seen,
    /// Empty until scheduled.
    pub host: String,
    /// What the user asked for; empty for any.
    pub availability_zone: String,
    pub wanted_host: Option<String>,
    pub locked: Option<Lock>,
    pub config_drive: bool,
    /// Known before it is made, so that whoever deletes the server knows where it would be.
    #[serde(default)]
    pub drive: Option<ConfigDrive>,
    pub access_ipv4: String,
    pub access_ipv6: String,
    pub reservation_id: String,
    pub launch_index: i64,
    pub root_device: String,
    pub disks: Vec<Disk>,
    pub nics: Vec<Nic>,
    pub networks: NetworkRequest,
    pub security_groups: Vec<String>,
    pub group_id: Option<String>,
    pub scheduler_hints: Value,
    pub trusted_image_certificates: Option<Vec<String>>,
    pub fault: Option<Fault>,
    /// What the server was before a resize that is not confirmed yet.
    #[serde(default)]
    pub old_flavor: Option<Flavor>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub launched_at: Option<Timestamp>,
    pub terminated_at: Option<Timestamp>,
    pub deleted_at: Option<Timestamp>,
}

/// A server that refuses changes by its own project's members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lock {
    /// `owner` or `admin`
    pub by: String,
    pub reason: Option<String>,
}

impl Server {
    /// The key under which this server's tasks run one after another.
    pub(crate) fn subject(id: &str) -> String {
        format!("server/{id}")
    }

    /// The domain's name on its host.
    pub(crate) fn instance_name(&self) -> String {
        format!("instance-{}", self.id)
    }

    /// The image that this server's own root disk is, where it has one.
    pub(crate) fn local_disk_name(id: &str) -> String {
        format!("{id}_disk")
    }

    pub(crate) fn config_drive_name(id: &str) -> String {
        format!("{id}_disk.config")
    }

    /// Whether a rebuild or resize is to grow the partition too, which guests do by themselves nowadays.
    pub(crate) fn disk_config(&self) -> &str {
        self.system_metadata.get("disk_config").map_or("MANUAL", String::as_str)
    }

    pub(crate) fn set_disk_config(&mut self, word: &str) {
        self.system_metadata.insert("disk_config".into(), word.into());
    }

    pub(crate) fn is_deleting(&self) -> bool {
        self.task_state == Some(TaskState::Deleting) || self.deleted_at.is_some()
    }

    pub(crate) fn disk_of(&self, volume_id: &str) -> Option<&Disk> {
        self.disks.iter().find(|d| d.volume_id() == Some(volume_id))
    }

    /// The host has more to do.
    pub(crate) fn bump(&mut self) {
        self.intent.generation += 1;
    }

    /// Asks the host for a power state; `boot` makes it a new boot of the guest.
    pub(crate) fn want(&mut self, power: Power, boot: bool, graceful: bool) {
        self.intent.power = power;
        self.intent.graceful = graceful;
        self.intent.incarnation += i64::from(boot);
        self.bump();
    }

    pub(crate) fn fail(&mut self, code: u16, message: impl Into<String>) {
        self.fault = Some(Fault { code, message: message.into(), created_at: Timestamp::now() });
    }
}

/// A group of servers that are to be together or apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerGroup {
    pub id: String,
    pub name: String,
    pub project_id: String,
    pub user_id: String,
    /// `affinity`, `anti-affinity`, `soft-affinity`, `soft-anti-affinity`
    pub policy: String,
    pub max_server_per_host: Option<i64>,
}

/// Hosts that have something in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Aggregate {
    pub id: i64,
    pub uuid: String,
    pub name: String,
    pub hosts: BTreeSet<String>,
    pub metadata: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
}

/// A hypervisor and its agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Host {
    /// The hypervisor's id, which is also its resource provider's.
    pub id: String,
    pub service_id: String,
    pub name: String,
    pub zone: String,
    pub disabled: bool,
    pub disabled_reason: Option<String>,
    pub forced_down: bool,
    pub facts: Option<crate::wire::HostFacts>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// When the agent was last heard; a column of its own, written often.
    #[serde(skip, default = "never")]
    pub seen_at: Timestamp,
}

fn never() -> Timestamp {
    Timestamp(0)
}
