//! The part of the network that runs on every hypervisor: OVN's own controller moves the packets; this
//! answers metadata requests inside the tenants' networks, and says how a guest is plugged in.
//!
//! For every network with a guest here there is a namespace with one interface, bound to the network's
//! metadata port (an OVN localport: every chassis has it, none announces it). In it listens a socket at
//! 169.254.169.254:80, served by this process. So tenants' overlapping addresses never meet, and a request
//! says by its socket which network it comes from.
//!
//! [`NetAgent::reconcile`] is level-triggered: it is told what should be, looks at what is (OVS, namespaces,
//! its own sockets), and closes the difference. It may be called as often as one likes.

mod door;
mod namespace;
mod plug;
mod switch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::NetError;
use crate::ovsdb::Remote;

pub use plug::GuestInterface;

/// What the agent needs to know of its host.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Open vSwitch's database, such as `unix:/run/openvswitch/db.sock`.
    pub ovs: String,
    /// The integration bridge, `br-int`.
    pub bridge: String,
    /// The network namespace in which Open vSwitch runs, by its `ip netns` name; none for the host's own.
    pub namespace: Option<String>,
}

/// A network that has a guest on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNetwork {
    pub network_id: String,
    /// The `network:distributed` port.
    pub metadata_port_id: String,
    pub mac: String,
    /// The metadata port's addresses with their subnets' prefix lengths: `10.0.0.2/24`.
    pub addresses: Vec<IpNet>,
    /// Bytes of an IP packet on this network; 0 where unknown.
    #[serde(default)]
    pub mtu: u32,
}

/// A guest's request, as it came in at the door of its network.
#[derive(Debug, Clone)]
pub struct MetadataRequest {
    pub network_id: String,
    /// The guest's fixed address: what upstream's agent sends as `X-Forwarded-For`.
    pub source: IpAddr,
    pub method: Method,
    /// Path and query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Who knows the answers: the compute controller, asked over HTTP by the host agent.
#[async_trait]
pub trait MetadataSource: Send + Sync + 'static {
    async fn respond(&self, request: MetadataRequest) -> Response<Bytes>;
}

/// The agent. One a host; cheap to clone.
#[derive(Clone)]
pub struct NetAgent(Arc<Inner>);

struct Inner {
    switch: switch::Switch,
    namespace: Option<String>,
    source: Arc<dyn MetadataSource>,
    /// The doors that this process serves.
    doors: Mutex<BTreeMap<String, Door>>,
}

struct Door {
    network: HostNetwork,
    server: door::Server,
}

impl NetAgent {
    /// Makes the agent; it connects to Open vSwitch in the background.
    pub fn start(config: AgentConfig, source: Arc<dyn MetadataSource>) -> Result<Self, NetError> {
        let switch = switch::Switch::start(Remote::list(&config.ovs)?, config.bridge);
        let doors = Mutex::new(BTreeMap::new());
        Ok(Self(Arc::new(Inner { switch, namespace: config.namespace, source, doors })))
    }

    /// Waits until Open vSwitch is connected.
    pub async fn ready(&self, within: Duration) -> Result<(), NetError> {
        self.0.switch.ready(within).await
    }

    /// How libvirt plugs a guest's interface in for a port.
    pub fn guest_interface(&self, port_id: &str, mac: &str, mtu: u32) -> GuestInterface {
        GuestInterface {
            bridge: self.0.switch.bridge().to_owned(),
            port_id: port_id.to_owned(),
            mac: mac.to_owned(),
            mtu,
            userspace_datapath: self.0.switch.is_userspace(),
        }
    }

    /// Brings the doors to exactly these networks. Every network is tried; the first failure is the answer.
    pub async fn reconcile(&self, desired: &[HostNetwork]) -> Result<(), NetError> {
        let mut doors = self.0.doors.lock().await;
        let wanted: BTreeSet<&str> = desired.iter().map(|n| n.network_id.as_str()).collect();
        let mut outcome = Ok(());
        let known = doors.keys().cloned().chain(self.0.switch.networks()).collect::<BTreeSet<String>>();
        for id in known.iter().filter(|id| !wanted.contains(id.as_str())) {
            if let Some(door) = doors.remove(id) {
                door.server.stop().await;
            }
            outcome = outcome.and(self.close(id).await);
        }
        for network in desired {
            let opened = self.open(&mut doors, network).await;
            if let Err(error) = &opened {
                tracing::warn!(network = %network.network_id, %error, "metadata is not served yet");
            }
            outcome = outcome.and(opened);
        }
        outcome
    }

    async fn open(&self, doors: &mut BTreeMap<String, Door>, network: &HostNetwork) -> Result<(), NetError> {
        let id = &network.network_id;
        let plugged = self.0.switch.is_plugged(id, &network.metadata_port_id);
        if plugged && doors.get(id).is_some_and(|d| d.network == *network && d.server.is_alive()) {
            return Ok(());
        }
        let there = namespace::ensure(self.0.namespace.as_deref(), network).await?;
        self.0.switch.plug(id, &there.outside, &network.metadata_port_id).await?;
        if let Some(door) = doors.get_mut(id)
            && door.server.is_alive()
            && !there.made
        {
            door.network = network.clone();
            return Ok(());
        }
        if let Some(old) = doors.remove(id) {
            old.server.stop().await;
        }
        let server = door::Server::start(&there.name, id, self.0.source.clone()).await?;
        doors.insert(id.clone(), Door { network: network.clone(), server });
        tracing::info!(network = %id, "metadata is served");
        Ok(())
    }

    async fn close(&self, id: &str) -> Result<(), NetError> {
        self.0.switch.unplug(id).await?;
        namespace::remove(self.0.namespace.as_deref(), id).await?;
        tracing::info!(network = %id, "metadata is no longer served");
        Ok(())
    }

    /// Stops serving, and leaves the namespaces as they are for the next process.
    pub async fn stop(&self) {
        let doors = std::mem::take(&mut *self.0.doors.lock().await);
        for door in doors.into_values() {
            door.server.stop().await;
        }
    }
}
