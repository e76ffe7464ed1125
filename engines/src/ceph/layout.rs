//! What a cluster consists of on disk, below `ceph/` of the data directory: its plan, its configuration,
//! its keys.
//!
//! `cluster.toml` is written first and `complete` last: a cluster without the second was never ready and
//! holds nothing.

use super::{Bind, Options};
use crate::error::{EngineError, Result};
use crate::files;
use base64::Engine as _;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The user that services and guests log in as.
pub(super) const USER: &str = "aquifer";
const LARGEST_DEFAULT: u64 = 100 << 30;
/// BlueStore's own overhead leaves nothing useful below this.
const SMALLEST: u64 = 2 << 30;
/// Ports that one cluster's daemons may take, after its monitor's.
const PORTS: u16 = 64;

/// Ceph's own but for the sizes of the buffers, which are 256 MiB and 1 GiB there.
const ROCKSDB: &str = "compression=kNoCompression,max_write_buffer_number=4,min_write_buffer_number_to_merge=1,\
    recycle_log_file_num=4,write_buffer_size=16777216,writable_file_max_buffer_size=0,\
    compaction_readahead_size=2097152,max_background_compactions=2,max_total_wal_size=134217728";

pub(super) struct Pool {
    pub(super) name: &'static str,
    pub(super) pgs: u32,
    pub(super) application: &'static str,
}

pub(super) const POOLS: [Pool; 5] = [
    Pool { name: "images", pgs: 8, application: "rbd" },
    Pool { name: "volumes", pgs: 16, application: "rbd" },
    Pool { name: "vms", pgs: 8, application: "rbd" },
    Pool { name: "objects", pgs: 16, application: "aquifer" },
    Pool { name: "objects.index", pgs: 8, application: "aquifer" },
];

/// The plan of a cluster, fixed when it is made.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) fsid: Uuid,
    pub(super) address: Ipv4Addr,
    pub(super) port: u16,
    /// Bytes, each OSD.
    pub(super) osd_size: u64,
    /// Each OSD's own id, by number.
    pub(super) osds: Vec<Uuid>,
}

impl Cluster {
    pub(super) fn plan(dir: &Path, options: &Options) -> Result<Self> {
        let count = options.osds.max(1);
        let (address, port) = match options.bind {
            Bind::Loopback => (Ipv4Addr::LOCALHOST, free_ports()?),
            Bind::Namespace { address, .. } => (address, 3300),
        };
        let free = free_space(dir)?;
        let default = (free / 4 * 3 / u64::from(count)).min(LARGEST_DEFAULT);
        let osd_size = options.osd_size.unwrap_or(default) & !0xf_ffff;
        if osd_size < SMALLEST {
            let needed = SMALLEST / 3 * 4 * u64::from(count);
            return Err(EngineError::DiskSpace { dir: dir.to_owned(), free, needed });
        }
        let osds = (0..count).map(|_| Uuid::new_v4()).collect();
        Ok(Self { fsid: Uuid::new_v4(), address, port, osd_size, osds })
    }

    fn path(dir: &Path) -> PathBuf {
        dir.join("ceph/cluster.toml")
    }

    pub(super) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = Self::path(dir);
        let Some(text) = files::read_if_there(&path)? else { return Ok(None) };
        let parsed = toml::from_str(&text);
        parsed.map(Some).map_err(|error| EngineError::Corrupt { path, reason: error.to_string() })
    }

    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let path = Self::path(dir);
        let text = toml::to_string(self)
            .map_err(|error| EngineError::Corrupt { path: path.clone(), reason: error.to_string() })?;
        files::write_atomic(&path, &text, 0o600)
    }

    pub(super) fn mon_address(&self) -> String {
        format!("[v2:{}:{}]", self.address, self.port)
    }
}

pub(super) fn conf(dir: &Path) -> PathBuf {
    dir.join("ceph/ceph.conf")
}

pub(super) fn keyring(dir: &Path, entity: &str) -> PathBuf {
    dir.join("ceph").join(format!("{entity}.keyring"))
}

/// Every key and what it may do: what the monitor is made with.
pub(super) fn all_keys(dir: &Path) -> PathBuf {
    dir.join("ceph/all.keyring")
}

pub(super) fn is_complete(dir: &Path) -> bool {
    dir.join("ceph/complete").exists()
}

pub(super) fn set_complete(dir: &Path) -> Result<()> {
    files::write_atomic(&dir.join("ceph/complete"), "", 0o600)
}

/// An empty `ceph/`.
pub(super) fn wipe(dir: &Path) -> Result<()> {
    files::remove_dir(&dir.join("ceph"))?;
    files::make_dir(&dir.join("ceph"))
}

/// The bytes that may still be written in `dir`.
pub(crate) fn free_space(dir: &Path) -> Result<u64> {
    let stat = nix::sys::statvfs::statvfs(dir).map_err(|errno| EngineError::file(dir)(errno.into()))?;
    Ok(stat.blocks_available() * stat.fragment_size())
}

/// The first of a block of ports that nobody listens on, below the range that the kernel hands out.
fn free_ports() -> Result<u16> {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let start = rand::random::<u16>() % 150;
    let blocks = (0..150).map(|n| 20_000 + (start + n) % 150 * (PORTS + 1));
    let mut found = blocks.filter(|first| (*first..=first + PORTS).all(free));
    found.next().ok_or(EngineError::NoRange { what: "Ceph's ports", tried: "127.0.0.1:20000-29750" })
}

/// Written anew on every start, so that a newer version of ours configures an older cluster too.
pub(super) fn write_conf(dir: &Path, cluster: &Cluster, options: &Options) -> Result<()> {
    let copies = cluster.osds.len().min(3);
    let enough = if copies == 3 { 2 } else { 1 };
    let lease = if copies == 1 { "100" } else { "0.8" };
    let (first, last) = match options.bind {
        Bind::Loopback => (cluster.port + 1, cluster.port + PORTS),
        Bind::Namespace { .. } => (6800, 7300),
    };
    let Cluster { fsid, address, osd_size, .. } = cluster;
    let (mon, cache) = (cluster.mon_address(), options.osd_cache);
    let d = dir.display();
    let text = format!(
        "# Written by aquifer on every start; changes are lost.
[global]
fsid = {fsid}
mon_host = {mon}
mon_initial_members = a
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
keyring = {d}/ceph/$name.keyring
run_dir = {d}/run
admin_socket = {d}/run/ceph-$name.asok
crash_dir = {d}/ceph/crash
public_network = {address}/32
public_addr = {address}
ms_bind_msgr1 = false
ms_bind_port_min = {first}
ms_bind_port_max = {last}
ms_async_op_threads = 2
log_file = {d}/log/ceph-$name.log
log_max_recent = 500
debug_rocksdb = 1/1
debug_bluestore = 0/1
debug_bluefs = 0/1
debug_bdev = 0/1
osd_crush_chooseleaf_type = 0
osd_pool_default_size = {copies}
osd_pool_default_min_size = {enough}
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
mon_osd_initial_require_min_compat_client = mimic
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_max_pg_per_osd = 4000
mon_warn_on_pool_no_redundancy = false
# All OSDs are on one machine: one of them is witness enough that another is gone.
mon_osd_min_down_reporters = 1
mon_osd_reporter_subtree_level = osd
mon_osd_adjust_heartbeat_grace = false
mon_data_avail_warn = 5
mon_data_avail_crit = 1

[mon]
mon_data = {d}/ceph/mon
mon_cluster_log_file = {d}/log/ceph-cluster.log
rocksdb_cache_size = 16777216
# A snapshot is a monitor's commit: with the usual second between commits it takes a second.
paxos_propose_interval = 0.05
paxos_min_wait = 0.01

[mgr]
mgr_data = {d}/ceph/mgr
# No Python modules: a sixth of the memory.
mgr_module_path = {d}/ceph/mgr-modules
mgr_initial_modules =

[osd]
osd_data = {d}/ceph/osd$id
osd_objectstore = bluestore
bluestore_block_size = {osd_size}
bluestore_block_create = true
bluestore_cache_autotune = false
bluestore_cache_size = {cache}
# Always the smallest room that fits, which is where something was before: first come, first served goes through the
# whole sparse file before it comes back, and what a file once took the disk never gets again.
bluestore_avl_alloc_bf_threshold = {osd_size}
# What a cluster of hundreds of OSDs wants costs a machine of one half a gigabyte after its first busy hour:
# smaller write buffers and placement group logs.
bluestore_rocksdb_options = {ROCKSDB}
osd_target_pg_log_entries_per_osd = 30000
bdev_aio_poll_ms = 50
crush_location = root=default host=aquifer
osd_crush_initial_weight = 1
osd_fast_shutdown_notify_mon = true
osd_heartbeat_interval = 2
osd_heartbeat_grace = 8
# A read lease keeps an OSD that was cut off from serving what another has overwritten. With one copy there is
# no other, and a lease that ran out while the OSD was paused would never be renewed (seen with 16.2).
osd_pool_default_read_lease_ratio = {lease}
osd_op_num_shards = 2
osd_op_num_threads_per_shard = 2
osd_class_load_list = *
osd_class_default_list = *

[client]
log_to_file = false
admin_socket =
# How soon a client asks for the new map when an OSD has moved or come back.
objecter_tick_interval = 1
objecter_timeout = 3
"
    );
    files::make_dir(&dir.join("ceph/mgr-modules"))?;
    files::make_dir(&dir.join("ceph/mgr"))?;
    for id in 0..cluster.osds.len() {
        files::make_dir(&dir.join(format!("ceph/osd{id}")))?;
    }
    files::write_atomic(&conf(dir), &text, 0o644)
}

/// Makes every key, writes a keyring for each user and one with all for the monitor.
pub(super) fn write_keys(dir: &Path, cluster: &Cluster) -> Result<()> {
    let osd_pools: Vec<String> = POOLS.iter().map(|pool| format!("allow rwx pool={}", pool.name)).collect();
    let osd_pools = format!("allow class-read object_prefix rbd_children, {}", osd_pools.join(", "));
    let mut users: Vec<(String, Vec<(&str, &str)>)> = vec![
        ("mon.".into(), vec![("mon", "allow *")]),
        ("client.admin".into(), vec![("mon", "allow *"), ("osd", "allow *"), ("mgr", "allow *")]),
        ("mgr.a".into(), vec![("mon", "allow profile mgr"), ("osd", "allow *")]),
        (
            format!("client.{USER}"),
            vec![("mon", "profile rbd, allow r"), ("osd", &osd_pools), ("mgr", "profile rbd, allow r")],
        ),
    ];
    let osd = [("mon", "allow profile osd"), ("mgr", "allow profile osd"), ("osd", "allow *")];
    users.extend((0..cluster.osds.len()).map(|id| (format!("osd.{id}"), osd.to_vec())));
    let mut all = String::new();
    for (user, caps) in users {
        let own = format!("[{user}]\n\tkey = {}\n", new_key());
        all.push_str(&own);
        caps.iter().for_each(|(daemon, cap)| all.push_str(&format!("\tcaps {daemon} = \"{cap}\"\n")));
        if user != "mon." {
            files::write_atomic(&keyring(dir, &user), &own, 0o600)?;
        }
    }
    files::write_atomic(&all_keys(dir), &all, 0o600)
}

/// A cephx key: type 1 (AES), creation time, length, sixteen random bytes; little-endian, base64.
fn new_key() -> String {
    let now = chrono::Utc::now();
    let mut key = Vec::with_capacity(28);
    key.extend(1u16.to_le_bytes());
    key.extend(u32::try_from(now.timestamp()).unwrap_or(0).to_le_bytes());
    key.extend(now.timestamp_subsec_nanos().to_le_bytes());
    key.extend(16u16.to_le_bytes());
    key.extend(rand::random::<[u8; 16]>());
    base64::engine::general_purpose::STANDARD.encode(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_ceph_s_form() {
        let key = base64::engine::general_purpose::STANDARD.decode(new_key()).unwrap();
        assert_eq!(key.len(), 28);
        assert_eq!((key[0], key[1], key[10], key[11]), (1, 0, 16, 0));
    }

    #[test]
    fn too_small_a_disk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { osd_size: Some(1 << 20), ..Options::default() };
        assert!(matches!(Cluster::plan(dir.path(), &options), Err(EngineError::DiskSpace { .. })));
    }
}
