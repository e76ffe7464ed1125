//! One unit: read the rows, look at the replica, send the difference.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::plan::Plan;
use super::{Ovn, Unit, units};
use crate::NetError;

/// How often a transaction may lose against other writers before the unit waits for the next pass.
const ATTEMPTS: usize = 8;

impl Ovn {
    /// Brings a unit's rows in OVN to what SQL says, with whatever it depends on. Safe to repeat; on success
    /// the difference is closed as of some moment after the call began.
    pub(crate) async fn reconcile(&self, unit: &Unit) -> Result<(), NetError> {
        if !self.nb.is_connected() {
            return Err(NetError::OvsdbDown(super::tables::NB));
        }
        for _ in 0..ATTEMPTS {
            // Nested units are done before this unit's lock is taken, so locks never nest.
            for needed in units::missing(self, unit).await? {
                Box::pin(self.reconcile(&needed)).await?;
            }
            match self.attempt(unit).await {
                Err(error) if error.is_lost_race() => {
                    tracing::debug!(?unit, %error, "another writer was faster; looking again");
                }
                other => return other,
            }
        }
        Err(NetError::OvsdbRefused {
            error: "contention".into(),
            details: format!("{unit:?} lost {ATTEMPTS} times"),
        })
    }

    async fn attempt(&self, unit: &Unit) -> Result<(), NetError> {
        let mut hasher = DefaultHasher::new();
        unit.hash(&mut hasher);
        let shard = usize::try_from(hasher.finish() % 64).unwrap_or(0);
        let _writer = self.locks[shard].lock().await;
        let mut plan = Plan::default();
        match unit {
            Unit::Network(id) => units::network(self, id, &mut plan).await?,
            Unit::SecurityGroup(id) => units::security_group(self, id, &mut plan).await?,
            Unit::Router(id) => units::router(self, id, &mut plan).await?,
            Unit::Port(id) => units::port(self, id, &mut plan).await?,
        }
        if plan.is_empty() {
            return Ok(());
        }
        self.nb.transact(plan.into_ops()).await.map(drop)
    }
}
