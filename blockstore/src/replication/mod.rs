//! Volumes that are kept in a second cluster too, and served from there when the first is lost: Cinder's replication v2.1
//! as its RBD driver does it, by rbd-mirror and journals.
//!
//! - The configuration gives a tier a secondary one, a pool of the same name in another cluster. Volumes of types with
//!   `replication_enabled='<is> True'` are mirrored there; a clone is flattened first, so that it stands alone.
//! - A failover (`failover`) turns each of them round, and its row says then that its bytes are in the secondary tier, and
//!   which one it belongs to: everything else follows the row. What is not replicated becomes `error` until the failback.
//! - An image is demoted where it is before it is promoted where it goes, and is promoted without force only: nothing that
//!   was written is lost. Only where the cluster it is in does not answer is it promoted by force, if its copy was seen to
//!   be whole. A failback never forces: copies that were left behind are brought anew first.
//!
//! `mirror` is what is done to images, `upkeep` the work that follows a volume's type, `groups` what is done to a group at
//! once, `store` the rows.

mod failover;
mod groups;
mod mirror;
mod store;
mod upkeep;

pub(crate) use failover::Failover;
pub(crate) use groups::ReplicateGroup;
pub(crate) use store::Backend;
pub(crate) use upkeep::{Follow, Forget, Replicate};

use crate::model::{Volume, VolumeType};
use crate::status::ReplicationStatus;
use crate::{VolumeError, Volumes};
use api::Context;
use pool::{Tier, Tiers};
use serde::{Deserialize, Serialize};
use state::Tx;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The name that stands for the tier itself among the targets of a failover.
const DEFAULT: &str = "default";

/// Where the volumes of a tier are mirrored to. In TOML:
///
/// ```toml
/// [[volume.replication]]
/// tier = "volumes"
/// secondary = "volumes-far"
/// patience_s = 300
/// ```
///
/// An rbd-mirror must run beside each of the two clusters. Pools that are no peers of each other yet are made so, which
/// needs users that may make users (`client.admin`); otherwise `rbd mirror pool peer bootstrap` does it before.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replication {
    /// The tier that types name, or that volumes get by default.
    pub tier: String,
    /// Its replica: a tier in another cluster, with a pool (and namespace) of the same name. Operators name it as the
    /// `backend_id` of a failover.
    pub secondary: String,
    /// Seconds that a failover waits for a copy to have everything before it gives that volume up (a failback: all).
    #[serde(default = "patience")]
    pub patience_s: u64,
}

fn patience() -> u64 {
    300
}

/// A tier and its replica.
#[derive(Debug)]
pub(crate) struct Replica {
    home: Tier,
    secondary: Tier,
    patience: Duration,
    /// Whether the two pools are known to be peers.
    met: Mutex<bool>,
    turns: Turns,
}

/// Whose turn it is on an image: of what follows a volume and what changes its mirroring, one at a time has it open. (Of
/// two, one takes its lock from the other, whose journal closes in the middle of a change: librbd 16.2 may lock up there.)
#[derive(Debug, Default)]
struct Turns(std::sync::Mutex<BTreeMap<String, Weak<Mutex<()>>>>);

impl Turns {
    async fn of(&self, image: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, turn| turn.strong_count() > 0);
            let there = all.get(image).and_then(Weak::upgrade);
            let turn = there.unwrap_or_default();
            all.insert(image.to_owned(), Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }
}

impl Replica {
    fn new(tiers: &Tiers, config: &Replication) -> Result<Self, VolumeError> {
        let wrong = |why: &str| {
            VolumeError::Config(format!("replication of {} to {}: {why}", config.tier, config.secondary))
        };
        let tier = |name: &str| tiers.get(name).map_err(|e| wrong(&e.to_string()));
        let (home, secondary) = (tier(&config.tier)?, tier(&config.secondary)?);
        if home.same_cluster(&secondary) {
            return Err(wrong("both are in one cluster"));
        }
        if (home.pool.name(), home.pool.namespace()) != (secondary.pool.name(), secondary.pool.namespace()) {
            return Err(wrong("their pools have different names"));
        }
        let patience = Duration::from_secs(config.patience_s);
        Ok(Replica { home, secondary, patience, met: Mutex::new(false), turns: Turns::default() })
    }

    /// The tier that serves a volume which is in `here`, and the one that has its copy.
    fn sides(&self, here: &str) -> (&Tier, &Tier) {
        if here == self.secondary.name {
            (&self.secondary, &self.home)
        } else {
            (&self.home, &self.secondary)
        }
    }

    /// The tier that a failover of what is `away` already, or not, goes to. What was left half failed over (`broken`) may
    /// go to either.
    fn target(&self, backend_id: Option<&str>, away: bool, broken: bool) -> Result<&Tier, VolumeError> {
        match backend_id {
            Some(DEFAULT) if away || broken => Ok(&self.home),
            Some(id) if id == self.secondary.name && (!away || broken) => Ok(&self.secondary),
            None if !away => Ok(&self.secondary),
            other => Err(VolumeError::InvalidInput(format!(
                "Invalid failover target: {}",
                other.unwrap_or("RBD: No available failover target host.")
            ))),
        }
    }

    /// Sees to it that both pools mirror to each other. They are asked once.
    async fn meet(&self) -> Result<(), pool::Error> {
        let mut met = self.met.lock().await;
        if !*met {
            mirror::ensure_peers(&self.home, &self.secondary).await?;
            *met = true;
        }
        Ok(())
    }
}

/// The tiers that have a replica, by name.
#[derive(Debug, Default)]
pub(crate) struct Replicas(BTreeMap<String, Replica>);

impl Replicas {
    /// Refuses what could not work: unknown tiers, one cluster for both, a tier that is in two of them.
    pub(crate) fn new(tiers: &Tiers, configs: &[Replication]) -> Result<Self, VolumeError> {
        let mut all = BTreeMap::new();
        let mut seen = Vec::new();
        for config in configs {
            for name in [&config.tier, &config.secondary] {
                if seen.contains(&name) {
                    return Err(VolumeError::Config(format!("two replications have the tier {name}")));
                }
                seen.push(name);
            }
            all.insert(config.tier.clone(), Replica::new(tiers, config)?);
        }
        Ok(Replicas(all))
    }

    /// The replica of a tier; a secondary tier has none of its own.
    pub(crate) fn of(&self, tier: &str) -> Option<&Replica> {
        self.0.get(tier)
    }

    /// The pair of tiers that this is one of.
    fn with(&self, tier: &str) -> Option<&Replica> {
        self.0.values().find(|r| r.home.name == tier || r.secondary.name == tier)
    }
}

impl Volume {
    /// The tier it belongs to, also while that one's replica serves it.
    pub fn home(&self) -> &str {
        self.home_tier.as_deref().unwrap_or(&self.tier)
    }

    /// Whether it has a copy in another cluster, or should.
    pub(crate) fn is_replicated(&self) -> bool {
        use ReplicationStatus as R;
        !matches!(self.replication_status, None | Some(R::Disabled | R::NotCapable))
    }

    /// Whether a failover could not take it along.
    pub(crate) fn is_lost(&self) -> bool {
        self.replication_status == Some(ReplicationStatus::FailoverError)
    }
}

impl VolumeType {
    /// Whether its volumes are mirrored (`replication_enabled` is `<is> True`).
    pub fn replicated(&self) -> bool {
        self.extra_specs.get("replication_enabled").is_some_and(|v| v.eq_ignore_ascii_case("<is> true"))
    }
}

impl Volumes {
    /// The names of the tiers that a tier's volumes can fail over to.
    pub(crate) fn replication_targets(&self, tier: &str) -> Vec<String> {
        self.replicas.of(tier).map(|r| r.secondary.name.clone()).into_iter().collect()
    }

    /// What is known of every tier's replication that something was ever done to.
    pub(crate) async fn backends(&self) -> Result<Vec<Backend>, VolumeError> {
        store::all(self.db.read()).await
    }

    /// Where volumes that go to a tier are made, and which tier they belong to, if that is another: while it is failed over
    /// its replica takes those that are replicated, and there is no place for others.
    pub(crate) async fn serving(
        &self,
        tier: String,
        kind: &VolumeType,
    ) -> Result<(Option<String>, Option<String>), VolumeError> {
        let active = match self.replicas.of(&tier) {
            Some(_) => store::get(self.db.read(), &tier).await?.and_then(|b| b.serves_instead()),
            None => None,
        };
        Ok(match active {
            None => (Some(tier), None),
            Some(active) if kind.replicated() => (Some(active), Some(tier)),
            Some(_) => (None, None),
        })
    }

    /// The tier of a volume service's host, or upstream's 400.
    fn replicated_host(&self, host: &str) -> Result<String, VolumeError> {
        let tier = self.tier_of_host(host).filter(|t| self.backend(t) == host);
        tier.ok_or_else(|| VolumeError::InvalidInput(format!("No service found with host={host}")))
    }

    async fn hold_backend(&self, host: &str) -> Result<(Tx, Backend), VolumeError> {
        let tier = self.replicated_host(host)?;
        let mut tx = self.db.begin().await?;
        tx.lock(&store::lock_key(&tier)).await?;
        let backend = match store::get(tx.conn(), &tier).await? {
            Some(backend) => backend,
            None => Backend::untouched(&tier, self.replicas.of(&tier).is_some()),
        };
        Ok((tx, backend))
    }

    /// Refuses to change what is mirrored in a tier while its backend is failed over: that takes along what it has found.
    /// Until the transaction ends, none begins.
    pub(crate) async fn stands(&self, tx: &mut Tx, tier: &str) -> Result<(), VolumeError> {
        tx.lock(&store::lock_key(tier)).await?;
        match store::get(tx.conn(), tier).await?.map(|b| b.status) {
            Some(ReplicationStatus::FailingOver) => Err(VolumeError::InvalidVolume(
                "Replication cannot change while the volume's backend is failing over.".into(),
            )),
            _ => Ok(()),
        }
    }

    /// `failover_host`: has another cluster serve a backend's replicated volumes; with `default` its own again.
    pub(crate) async fn fail_over(
        &self,
        ctx: &Context,
        host: &str,
        backend_id: Option<&str>,
    ) -> Result<(), VolumeError> {
        self.may(ctx, "volume:failover_host", "")?;
        let (mut tx, mut backend) = self.hold_backend(host).await?;
        use ReplicationStatus as R;
        let before = backend.status;
        // Unlike upstream, one whose failover ended in an error may try again: nobody else could mend it.
        let replica = self.replicas.of(&backend.tier);
        let (Some(replica), R::Enabled | R::FailedOver | R::FailoverError) = (replica, before) else {
            return Err(VolumeError::InvalidInput(format!(
                "No service could be changed: replication_status in ['{host}'] must be enabled or failed-over and must \
                 be up to failover."
            )));
        };
        let away = backend.serves_instead().is_some();
        let broken = before == R::FailoverError;
        let to = replica.target(backend_id, away, broken)?;
        backend.status = R::FailingOver;
        backend.task = Some(failover::spawn(&mut tx, &backend.tier, &to.name, before).await?);
        store::put(&mut tx, &backend).await?;
        Ok(tx.commit().await?)
    }

    /// Upstream's 400 while nothing may be changed in a tier: its backend is frozen.
    pub(crate) async fn thawed(&self, tx: &mut Tx, tier: &str) -> Result<(), VolumeError> {
        match self.is_frozen(tx, tier).await? {
            true => Err(VolumeError::InvalidInput(
                "Modification operations are not allowed on frozen storage backends.".into(),
            )),
            false => Ok(()),
        }
    }

    pub(crate) async fn is_frozen(&self, tx: &mut Tx, tier: &str) -> Result<bool, VolumeError> {
        Ok(store::get(tx.conn(), tier).await?.is_some_and(|b| b.frozen))
    }

    /// As [`Volumes::thawed`], for a group: none of its volumes is in a frozen tier.
    pub(crate) async fn all_thawed(&self, tx: &mut Tx, group: &[Volume]) -> Result<(), VolumeError> {
        for tier in group.iter().map(Volume::home).collect::<BTreeSet<_>>() {
            self.thawed(tx, tier).await?;
        }
        Ok(())
    }

    /// `freeze` and `thaw`: nothing new is put into a frozen backend, and what is there is only read and written.
    pub(crate) async fn freeze(&self, ctx: &Context, host: &str, frozen: bool) -> Result<(), VolumeError> {
        self.may(ctx, if frozen { "volume:freeze_host" } else { "volume:thaw_host" }, "")?;
        let (mut tx, mut backend) = self.hold_backend(host).await?;
        if backend.frozen == frozen {
            let expected = if frozen { "False" } else { "True" };
            return Err(VolumeError::InvalidInput(format!(
                "No service could be changed: frozen in ['{host}'] must be {expected} to failover."
            )));
        }
        backend.frozen = frozen;
        store::put(&mut tx, &backend).await?;
        self.show_backend(&mut tx, &backend).await?;
        Ok(tx.commit().await?)
    }

    /// Switches the volume service of a backend on or off, as its state wants it.
    async fn show_backend(&self, tx: &mut Tx, backend: &Backend) -> Result<(), VolumeError> {
        let host = self.backend(&backend.tier);
        let reason = match (backend.serves_instead(), backend.frozen) {
            (Some(_), _) => "failed-over",
            (None, true) => "frozen",
            (None, false) => {
                return crate::store::services::enable(tx, "cinder-volume", &host).await;
            }
        };
        crate::store::services::disable(tx, "cinder-volume", &host, Some(reason)).await
    }
}
