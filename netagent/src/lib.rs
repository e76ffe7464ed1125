//! Networks: the Neutron v2.0 API over OVN.
//!
//! [`Networks`] is the service: rules over rows in SQL, and a reconciler that makes OVN's northbound database
//! say the same ([`ovn`]). Other services call its Rust functions in process; `http` is the API for clients.
//! [`agent::NetAgent`] is the part that runs on every hypervisor: it answers guests' metadata requests inside
//! the tenants' networks.

pub mod agent;
mod attr;
mod bootstrap;
pub mod error;
mod floating_ip;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod http;
mod ipam;
pub mod model;
mod network;
pub mod ovn;
pub mod ovsdb;
mod policy;
mod port;
mod quota;
mod router;
mod security_group;
mod service;
mod store;
mod subnet;
mod tags;

pub use api::Context;
pub use bootstrap::PublicNetwork;
pub use error::{NetError, Noun, Refusal};
pub use floating_ip::FloatingIpFields;
pub use ipam::WantedIp;
pub use network::NetworkFields;
pub use ovn::agents::Agent;
pub use policy::policy;
pub use port::{Binding, NewPort, PortFields};
pub use quota::Usage;
pub use router::{Interface, RouterFields, WantedGateway};
pub use security_group::{GroupFields, NewRule};
pub use service::{Config, Networks};
pub use store::MIGRATIONS;
pub use subnet::SubnetFields;

/// The topic that is woken when a port's status changes.
pub(crate) fn port_topic(id: &str) -> String {
    format!("network-port:{id}")
}
