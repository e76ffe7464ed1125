//! What this host is made of, for the scheduler and for `hypervisor show`.

use super::domain::Machine;
use super::hypervisor::Hypervisor;
use super::xml::El;
use crate::ComputeError;
use crate::config::AgentConfig;
use crate::wire::{HostFacts, Topology};

pub(crate) async fn gather(
    hypervisor: &Hypervisor,
    config: &AgentConfig,
    machine: &Machine,
) -> Result<HostFacts, ComputeError> {
    let (node, version, capabilities) = hypervisor
        .call("node information", |c| Ok((c.node_info()?, c.hyp_version()?, c.capabilities()?)))
        .await?;
    let meminfo = tokio::fs::read_to_string("/proc/meminfo").await.unwrap_or_default();
    let uptime = tokio::fs::read_to_string("/proc/uptime").await.unwrap_or_default();
    let load = tokio::fs::read_to_string("/proc/loadavg").await.unwrap_or_default();
    let disk = nix::sys::statvfs::statvfs(&config.state_dir).ok();
    let gib = |blocks: u64, unit: u64| blocks.saturating_mul(unit) >> 30;
    let cpu = El::parse(&capabilities).and_then(|c| c.at(&["host", "cpu"]).cloned()).unwrap_or_default();
    let text = |name: &str| cpu.child(name).map(|e| e.text.clone()).unwrap_or_default();
    Ok(HostFacts {
        vcpus: node.cpus,
        memory_mib: node.memory >> 10,
        reserved_memory_mib: config.reserved_memory_mib,
        free_memory_mib: kib(&meminfo, "MemAvailable") >> 10,
        disk_gib: disk.map_or(0, |d| gib(d.blocks(), d.fragment_size())),
        free_disk_gib: disk.map_or(0, |d| gib(d.blocks_available(), d.fragment_size())),
        arch: node.model,
        cpu_model: text("model"),
        cpu_vendor: text("vendor"),
        topology: Topology { sockets: node.sockets, cores: node.cores, threads: node.threads },
        virt_type: if machine.kvm { "kvm".into() } else { "qemu".into() },
        hypervisor_version: version,
        agent_version: env!("CARGO_PKG_VERSION").into(),
        address: config.address.clone(),
        uptime_secs: uptime.split('.').next().and_then(|s| s.parse().ok()).unwrap_or(0),
        load: load.split(' ').take(3).collect::<Vec<_>>().join(", "),
    })
}

fn kib(meminfo: &str, name: &str) -> u64 {
    let line = meminfo.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
