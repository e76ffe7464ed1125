//! The parts of the cloud that a process can run.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// One part. Every process holds all services as libraries; a role decides which routes are mounted and
/// which workers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Identity: tokens and the catalogue.
    Api,
    /// Block storage (Cinder).
    Volume,
    /// Images (Glance).
    Image,
    /// Object storage: Swift, and S3 on a listener of its own.
    Object,
    /// Compute controller (Nova, Placement) and its scheduler.
    Compute,
    /// Networks (Neutron over OVN).
    Network,
    /// The host agent: one on every hypervisor.
    Agent,
}

impl Role {
    pub(crate) const ALL: [Role; 7] =
        [Role::Api, Role::Volume, Role::Image, Role::Object, Role::Compute, Role::Network, Role::Agent];
}
