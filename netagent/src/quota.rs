//! Quotas: upstream's defaults, an administrator's changes, and usage counted from rows in the transaction
//! that spends it.

use std::collections::BTreeMap;

use state::Tx;

use crate::store::{self, quotas};
use crate::{Context, NetError, Networks};

/// Resource, its table, which of its rows count, and the default limit; -1 is without limit.
const RESOURCES: &[(&str, &str, &str, i64)] = &[
    ("network", "net_networks", "project_id = $1", 100),
    ("subnet", "net_subnets", "project_id = $1", 100),
    // what a network makes for itself is not the tenant's spending
    (
        "port",
        "net_ports",
        "project_id = $1 AND device_owner NOT IN ('network:distributed', 'network:dhcp')",
        500,
    ),
    ("router", "net_routers", "project_id = $1", 10),
    ("floatingip", "net_floating_ips", "project_id = $1", 50),
    ("security_group", "net_security_groups", "project_id = $1", 10),
    ("security_group_rule", "net_security_group_rules", "project_id = $1", 100),
];

/// The names of what is limited.
pub(crate) fn resources() -> impl Iterator<Item = &'static str> {
    RESOURCES.iter().map(|(name, ..)| *name)
}

pub(crate) fn defaults() -> BTreeMap<String, i64> {
    RESOURCES.iter().map(|(name, _, _, limit)| ((*name).to_owned(), *limit)).collect()
}

/// Refuses what `adding` more of a resource would overdraw. Holds the project's quota until the transaction
/// ends, so that two requests never spend the same rest.
pub(crate) async fn spend(tx: &mut Tx, project: &str, resource: &str, adding: i64) -> Result<(), NetError> {
    let Some((_, table, condition, default)) = RESOURCES.iter().find(|(name, ..)| *name == resource) else {
        return Ok(());
    };
    tx.lock(&format!("net-quota:{project}")).await?;
    let limit = quotas::of(tx.conn(), project).await?.get(resource).copied().unwrap_or(*default);
    if limit < 0 {
        return Ok(());
    }
    let used = store::count(tx.conn(), table, condition, &[project]).await?;
    if used + adding > limit { Err(NetError::over_quota(resource)) } else { Ok(()) }
}

/// Limit and usage of one resource.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub limit: i64,
    pub used: i64,
}

impl Networks {
    /// The limits and the usage of a project, by resource.
    pub async fn quota_usage(
        &self,
        ctx: &Context,
        project: &str,
    ) -> Result<BTreeMap<String, Usage>, NetError> {
        self.enforce(ctx, "get_quota", &[("project_id", project)])?;
        let own = quotas::of(self.db().read(), project).await?;
        let mut usage = BTreeMap::new();
        for (name, table, condition, default) in RESOURCES {
            let used = store::count(self.db().read(), table, condition, &[project]).await?;
            let limit = own.get(*name).copied().unwrap_or(*default);
            usage.insert((*name).to_owned(), Usage { limit, used });
        }
        Ok(usage)
    }

    /// The projects with limits of their own, each with all its limits.
    pub(crate) async fn quota_list(
        &self,
        ctx: &Context,
    ) -> Result<Vec<(String, BTreeMap<String, i64>)>, NetError> {
        self.enforce(ctx, "list_quotas", &[])?;
        let mut list = Vec::new();
        for project in quotas::projects(self.db().read()).await? {
            let mut limits = defaults();
            limits.extend(quotas::of(self.db().read(), &project).await?);
            list.push((project, limits));
        }
        Ok(list)
    }

    pub(crate) async fn quota_set(
        &self,
        ctx: &Context,
        project: &str,
        limits: &BTreeMap<String, i64>,
    ) -> Result<(), NetError> {
        self.enforce(ctx, "update_quota", &[])?;
        let mut tx = self.db().begin().await?;
        for (resource, limit) in limits {
            quotas::set(&mut tx, project, resource, *limit).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    pub(crate) async fn quota_reset(&self, ctx: &Context, project: &str) -> Result<(), NetError> {
        self.enforce(ctx, "delete_quota", &[])?;
        let mut tx = self.db().begin().await?;
        quotas::reset(&mut tx, project).await?;
        tx.commit().await?;
        Ok(())
    }
}
