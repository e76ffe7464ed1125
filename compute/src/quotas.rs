//! What a project may have. Usage is counted from rows in the transaction that spends it.

use crate::store::{groups, keypairs, quotas as store, servers};
use crate::{Compute, ComputeError};
use state::{Db, Tx};
use std::collections::BTreeMap;

/// Upstream's resources and defaults.
pub(crate) const DEFAULTS: [(&str, i64); 7] = [
    ("instances", 10),
    ("cores", 20),
    ("ram", 51200),
    ("metadata_items", 128),
    ("key_pairs", 100),
    ("server_groups", 10),
    ("server_group_members", 10),
];

/// Resources of old microversions that nothing counts any more.
pub(crate) const LEGACY: [(&str, i64); 8] = [
    ("injected_files", 5),
    ("injected_file_content_bytes", 10240),
    ("injected_file_path_bytes", 255),
    ("fixed_ips", -1),
    ("floating_ips", -1),
    ("security_groups", -1),
    ("security_group_rules", -1),
    ("networks", 3),
];

pub(crate) type Limits = BTreeMap<String, i64>;

/// What is about to be spent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spend {
    pub(crate) instances: i64,
    pub(crate) cores: i64,
    pub(crate) ram: i64,
}

impl Compute {
    /// The limits that hold where a project has none of its own.
    pub(crate) async fn default_limits(&self) -> Result<Limits, ComputeError> {
        let mut limits = self.configured();
        limits.extend(store::of(&self.db, store::DEFAULT).await?);
        Ok(limits)
    }

    pub(crate) async fn limits(&self, project: &str) -> Result<Limits, ComputeError> {
        let mut limits = self.default_limits().await?;
        limits.extend(store::of(&self.db, project).await?);
        Ok(limits)
    }

    async fn limits_tx(&self, tx: &mut Tx, project: &str) -> Result<Limits, ComputeError> {
        let mut limits = self.configured();
        limits.extend(store::of_tx(tx, store::DEFAULT).await?);
        limits.extend(store::of_tx(tx, project).await?);
        Ok(limits)
    }

    fn configured(&self) -> Limits {
        let mut limits: Limits = DEFAULTS.iter().chain(&LEGACY).map(|(k, v)| ((*k).to_owned(), *v)).collect();
        limits.extend(self.config.quota.iter().map(|(k, v)| (k.clone(), *v)));
        limits
    }

    /// Refuses with upstream's 403 what would exceed the project's limits. The transaction then holds the
    /// project's quota until it ends.
    pub(crate) async fn spend(&self, tx: &mut Tx, project: &str, spend: Spend) -> Result<(), ComputeError> {
        tx.lock(&format!("compute-quota:{project}")).await?;
        let limits = self.limits_tx(tx, project).await?;
        let (instances, cores, ram) = servers::usage(tx, project).await?;
        let asked = [
            ("instances", spend.instances, instances),
            ("cores", spend.cores, cores),
            ("ram", spend.ram, ram),
        ];
        let limit = |name: &str| limits.get(name).copied().unwrap_or(-1);
        let over: Vec<_> = asked
            .iter()
            .filter(|(name, more, used)| limit(name) >= 0 && *more > 0 && used + more > limit(name))
            .collect();
        if over.is_empty() {
            return Ok(());
        }
        let join = |f: &dyn Fn(&(&str, i64, i64)) -> String| {
            over.iter().map(|o| f(o)).collect::<Vec<_>>().join(", ")
        };
        Err(ComputeError::Forbidden(format!(
            "Quota exceeded for {}: Requested {}, but already used {} of {} {}",
            join(&|o| o.0.to_owned()),
            join(&|o| o.1.to_string()),
            join(&|o| o.2.to_string()),
            join(&|o| limit(o.0).to_string()),
            join(&|o| o.0.to_owned()),
        )))
    }

    /// Refuses more metadata items than a project may put on one thing.
    pub(crate) async fn room_for_metadata(&self, project: &str, items: usize) -> Result<(), ComputeError> {
        let most = self.limits(project).await?.get("metadata_items").copied().unwrap_or(-1);
        if most >= 0 && i64::try_from(items).unwrap_or(i64::MAX) > most {
            return Err(ComputeError::Forbidden(format!("Maximum number of metadata items exceeds {most}")));
        }
        Ok(())
    }

    pub(crate) async fn room_for_keypair(&self, tx: &mut Tx, user: &str) -> Result<(), ComputeError> {
        tx.lock(&format!("keypairs:{user}")).await?;
        let limit = self.limits_tx(tx, "").await?.get("key_pairs").copied().unwrap_or(-1);
        if limit >= 0 && keypairs::count(tx, user).await? >= limit {
            return Err(ComputeError::Forbidden("Quota exceeded, too many key pairs.".into()));
        }
        Ok(())
    }

    pub(crate) async fn room_for_group(&self, tx: &mut Tx, project: &str) -> Result<(), ComputeError> {
        tx.lock(&format!("compute-quota:{project}")).await?;
        let limit = self.limits_tx(tx, project).await?.get("server_groups").copied().unwrap_or(-1);
        if limit >= 0 && groups::count(tx, project).await? >= limit {
            return Err(ComputeError::Forbidden("Quota exceeded, too many server groups.".into()));
        }
        Ok(())
    }

    pub(crate) async fn room_in_group(
        &self,
        tx: &mut Tx,
        project: &str,
        members: usize,
        more: i64,
    ) -> Result<(), ComputeError> {
        let limit = self.limits_tx(tx, project).await?.get("server_group_members").copied().unwrap_or(-1);
        if limit >= 0 && i64::try_from(members).unwrap_or(i64::MAX).saturating_add(more) > limit {
            return Err(ComputeError::Forbidden("Quota exceeded, too many servers in group".into()));
        }
        Ok(())
    }
}

/// What a project's servers use now: by resource.
pub(crate) async fn used(db: &Db, project: &str) -> Result<Limits, ComputeError> {
    let (instances, cores, ram) = servers::usage_read(db, project).await?;
    let groups = groups::list(db, Some(project)).await?.len();
    Ok([
        ("instances", instances),
        ("cores", cores),
        ("ram", ram),
        ("server_groups", i64::try_from(groups).unwrap_or(0)),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v))
    .collect())
}
