//! Compute: servers, and everything a server needs said about it; Placement, where there is room for one; the
//! scheduler between the two; and the host agent, which makes libvirt's guests what the servers are to be.
//!
//! - A server is a row with an intent (what its host is to make true, with a generation) and what the host last
//!   saw. `states::settle` brings the states a user sees into line with that; nothing else ends a task.
//! - What needs other services (ports, volumes, clones) is a durable task (`tasks`), committed together with
//!   the row it serves. Ids are made before the first side effect, so every step may run twice.
//! - The [`Agent`] is told the whole desired state of its host over a long poll and reports the whole observed
//!   state ([`wire`]). Whoever of the two dies and comes back just goes on.
//! - Placement's inventories and allocations are rows of this crate: the scheduler's choice and its claim are one
//!   transaction.
//!
//! [`router`] serves `/compute/v2.1`, `/placement` and the agents' door.

mod agent;
mod aggregates;
mod config;
mod config_drive;
mod devices;
mod error;
mod flavors;
mod groups;
mod growth;
mod hosts;
mod http;
mod iso9660;
mod keypairs;
mod metadata;
mod model;
mod moves;
mod neighbours;
mod observe;
mod placement;
mod policy;
mod quotas;
mod scheduler;
mod servers;
mod states;
mod store;
mod tasks;
pub mod wire;

pub use agent::Agent;
pub use config::{Accelerator, AgentConfig, CephAccess, Config};
pub use error::ComputeError;
pub use http::{router, routes};
pub use policy::table as policy;
pub use tasks::operations;

use api::{Context, Links, Policy};
use pool::Tiers;
use state::{Db, Migrations};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3600);
/// A deleted server is remembered for ninety days, for usage and for its record of actions.
const KEEP_DELETED_MICROS: i64 = 90 * 24 * 3600 * 1_000_000;

/// The tables of this crate.
pub const MIGRATIONS: Migrations = Migrations {
    service: "compute",
    steps: &[
        ("0001_compute", include_str!("../migrations/0001_compute.sql")),
        ("0002_placement", include_str!("../migrations/0002_placement.sql")),
    ],
};

/// The service object: everything the APIs, the tasks and the agents' door ask of servers.
pub struct Compute {
    pub(crate) db: Db,
    pub(crate) tiers: Tiers,
    pub(crate) images: Arc<imagestore::Images>,
    pub(crate) volumes: Arc<blockstore::Volumes>,
    pub(crate) networks: netagent::Networks,
    pub(crate) links: Links,
    pub(crate) config: Config,
    pub(crate) policy: Policy,
}

impl Compute {
    /// The tables must be there ([`MIGRATIONS`]). Fails where the configuration names a tier that is not there, or a
    /// policy file that cannot be used.
    pub async fn new(
        db: Db,
        tiers: Tiers,
        images: Arc<imagestore::Images>,
        volumes: Arc<blockstore::Volumes>,
        networks: netagent::Networks,
        config: Config,
        links: Links,
    ) -> Result<Arc<Compute>, ComputeError> {
        let policy = policy::table(config.policy_file.as_deref())?;
        tiers.get(&config.tier)?;
        placement::ensure_standard(&db).await?;
        let compute = Arc::new(Compute { db, tiers, images, volumes, networks, links, config, policy });
        let servers: Weak<Compute> = Arc::downgrade(&compute);
        compute.volumes.use_servers(servers);
        Ok(compute)
    }

    /// Makes the flavors of a new cloud, from m1.nano (1 vCPU, 192 MiB, 1 GiB) up, where there is none yet.
    pub async fn bootstrap(&self) -> Result<(), ComputeError> {
        self.bootstrap_flavors().await
    }

    /// Makes a hypervisor known and gives its agent a secret; a known one gets another. The secret is stored
    /// hashed only.
    pub async fn register_host(&self, name: &str) -> Result<api::Secret, ComputeError> {
        hosts::register(self, name).await
    }

    /// Returns once the host's agent was heard and said what the host has, so that servers can be placed there.
    pub async fn host_is_up(&self, name: &str) -> Result<(), ComputeError> {
        hosts::await_up(self, name).await
    }

    /// The background work, until `stop`: servers that were deleted long ago are forgotten. Any number of
    /// processes may.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            if let Err(e) = self.forget_deleted().await {
                tracing::warn!(error = %e, "deleted servers cannot be forgotten; trying again later");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(HOUR) => {}
            }
        }
    }

    async fn forget_deleted(&self) -> Result<(), ComputeError> {
        let before = state::Timestamp(state::Timestamp::now().0 - KEEP_DELETED_MICROS);
        let mut tx = self.db.begin().await?;
        store::servers::forget_deleted(&mut tx, before).await?;
        Ok(tx.commit().await?)
    }

    /// Refuses with 403 unless the caller may do `rule` to what this project owns.
    pub(crate) fn may(&self, ctx: &Context, rule: &str, project_id: &str) -> Result<(), ComputeError> {
        self.policy.enforce(ctx, rule, &[("project_id", project_id)]).map_err(ComputeError::Refused)
    }

    /// Refuses with 403 unless the caller may do `rule` in its own project.
    pub(crate) fn may_at_home(&self, ctx: &Context, rule: &str) -> Result<(), ComputeError> {
        let home = ctx.project().map(|p| p.id.as_str()).unwrap_or_default();
        self.may(ctx, rule, home)
    }

    pub(crate) fn allows(&self, ctx: &Context, rule: &str, project_id: &str) -> bool {
        self.policy.allows(&ctx.caller, rule, &[("project_id", project_id)])
    }
}
