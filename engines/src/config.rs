//! What a cloud's engines may be told. Everything has a default that suits one machine.

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// How the engines of one cloud are made. Sizes are bytes.
///
/// `osds` and `osd_size` count on the first start only: a cluster that exists keeps its disks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnginesConfig {
    /// How many OSDs the private Ceph has. With more than one, pools keep min(3, osds) copies.
    pub osds: u32,
    /// How large each OSD's sparse file may grow. Default: three quarters of the free disk divided by
    /// the number of OSDs, at most 100 GiB each.
    pub osd_size: Option<u64>,
    /// How much memory each OSD's BlueStore cache may take.
    pub osd_cache: u64,
    /// The range of the external network `public`. Default: the first free 172.24.x.0/24.
    pub public_cidr: Option<Ipv4Net>,
}

impl Default for EnginesConfig {
    fn default() -> Self {
        Self { osds: 1, osd_size: None, osd_cache: 64 << 20, public_cidr: None }
    }
}
