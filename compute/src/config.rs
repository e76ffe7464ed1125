//! What an operator may set: of the controller and of a host's agent.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The controller: the API, Placement and the scheduler.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The tier in which servers' own root disks are made.
    pub tier: String,
    /// The availability zone of hosts that are in no aggregate with another.
    pub availability_zone: String,
    /// Appended to a server's name in what metadata calls its hostname; empty for nothing.
    pub dhcp_domain: String,
    /// Virtual CPUs promised per physical one, for hosts that register from now on.
    pub cpu_allocation_ratio: f64,
    /// Memory promised per byte of a host's, for hosts that register from now on.
    pub ram_allocation_ratio: f64,
    /// A host that was not heard for so many seconds is down, and gets no new servers.
    pub host_down_secs: u64,
    /// Seconds that a guest gets to shut down when a user stops or soft-reboots it.
    pub shutdown_secs: u64,
    /// What a project may have, by resource: instances, cores, ram (MiB), key_pairs, metadata_items,
    /// server_groups, server_group_members; -1 is without limit. What is left out has upstream's default.
    pub quota: BTreeMap<String, i64>,
    /// Block devices at most on one server.
    pub max_disks: usize,
    /// Every new server gets a config drive, asked for or not.
    pub force_config_drive: bool,
    /// Replaces default policy rules.
    pub policy_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            tier: "vms".into(),
            availability_zone: "nova".into(),
            dhcp_domain: "novalocal".into(),
            cpu_allocation_ratio: 4.0,
            ram_allocation_ratio: 1.0,
            host_down_secs: 60,
            shutdown_secs: 60,
            quota: BTreeMap::new(),
            max_disks: 26,
            force_config_drive: false,
            policy_file: None,
        }
    }
}

/// Whether guests run under KVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// As `AgentConfig::kvm_works` says.
    #[default]
    Auto,
    Kvm,
    /// QEMU's own emulation.
    Tcg,
}

/// How a host reaches one Ceph cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CephAccess {
    /// The cluster's name, the same as in the controller's configuration.
    pub name: String,
    /// `ceph.conf`; QEMU reads it too.
    pub conf: PathBuf,
    /// The user, without `client.`.
    #[serde(default = "CephAccess::admin")]
    pub user: String,
    /// Where the user's key is; by default where `conf` says.
    #[serde(default)]
    pub keyring: Option<PathBuf>,
}

impl CephAccess {
    fn admin() -> String {
        "admin".into()
    }
}

/// A host's agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The controller's base URL, such as `http://127.0.0.1:5000`.
    pub controller: String,
    /// This host's name.
    pub host: String,
    /// A file with the secret that the controller gave this host. Only its first line counts.
    pub secret_file: PathBuf,
    /// `qemu:///system`, or `qemu+unix:///system?socket=…` for a private libvirtd.
    pub libvirt_uri: String,
    /// Every cluster in which guests of this host have disks.
    pub ceph: Vec<CephAccess>,
    /// Console logs and the like.
    pub state_dir: PathBuf,
    /// Whether guests run under KVM.
    #[serde(default)]
    pub accelerator: Accelerator,
    /// What a probe by booting has found; `auto` goes by it.
    #[serde(skip)]
    pub kvm_works: bool,
    /// The CPU that guests see: `host-passthrough`, `host-model`, `maximum` or a model's name. By default
    /// `host-passthrough` under KVM and `maximum` under emulation.
    #[serde(default)]
    pub cpu: Option<String>,
    /// Memory kept for the host itself, in MiB.
    #[serde(default = "AgentConfig::reserved")]
    pub reserved_memory_mib: u64,
    /// The address that other hosts reach this one by.
    #[serde(default = "AgentConfig::loopback")]
    pub address: String,
    /// The bridge that guests' interfaces are plugged into.
    #[serde(default = "AgentConfig::bridge")]
    pub bridge: String,
    /// Open vSwitch's database.
    #[serde(default = "AgentConfig::ovs")]
    pub ovs: String,
    /// The network namespace in which Open vSwitch runs, by its `ip netns` name; none for the host's own.
    #[serde(default)]
    pub network_namespace: Option<String>,
    /// PCI slots kept free for disks and interfaces that come later.
    #[serde(default = "AgentConfig::spare_ports")]
    pub spare_ports: u32,
}

impl AgentConfig {
    /// A host's agent with every default; `ceph` is still empty.
    pub fn new(
        controller: &str,
        host: &str,
        secret_file: PathBuf,
        libvirt_uri: &str,
        state_dir: PathBuf,
    ) -> Self {
        AgentConfig {
            controller: controller.to_owned(),
            host: host.to_owned(),
            secret_file,
            libvirt_uri: libvirt_uri.to_owned(),
            ceph: Vec::new(),
            state_dir,
            accelerator: Accelerator::Auto,
            kvm_works: false,
            cpu: None,
            reserved_memory_mib: Self::reserved(),
            address: Self::loopback(),
            bridge: Self::bridge(),
            ovs: Self::ovs(),
            network_namespace: None,
            spare_ports: Self::spare_ports(),
        }
    }

    fn reserved() -> u64 {
        512
    }

    fn loopback() -> String {
        "127.0.0.1".into()
    }

    fn bridge() -> String {
        "br-int".into()
    }

    fn ovs() -> String {
        "unix:/run/openvswitch/db.sock".into()
    }

    fn spare_ports() -> u32 {
        12
    }
}
