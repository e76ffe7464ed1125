//! The engines: a private Ceph, OVN/OVS and libvirtd as supervised children in one data directory and
//! one network namespace.
//!
//! `aquifer up` owns nothing that it does not start itself. Every daemon runs in the foreground of a
//! session of its own, with its sockets, logs and data below the data directory, so that two clouds
//! run side by side and the host's own libvirt, Open vSwitch, Ceph and firewall are never touched.
//!
//! Engines outlive a crash of the process that started them: [`Engines::up`] first looks whether the
//! daemon that a pid file names is still that daemon, and takes it up again instead of starting a
//! second one. [`Running::stop`] ends them in the right order; [`stop`] does the same for what a
//! crashed process left behind.
//!
//! This crate knows no service. It hands out [`Endpoints`], and whoever connects does so by them.

pub mod ceph;
mod cloud;
mod config;
pub mod doctor;
mod error;
mod files;
mod kvm;
mod libvirt;
mod netns;
mod ovn;
mod process;
mod progress;
pub mod test_image;
mod up;

pub use config::EnginesConfig;
pub use doctor::{Check, CheckState, ceph_reachable, doctor};
pub use error::EngineError;
pub use kvm::{Kvm, kvm_works};
pub use netns::PublicNetwork;
pub use process::{EngineState, EngineStatus};
pub use progress::{Progress, Silent};
pub use up::{Endpoints, Engines, Running, observe, stop};
