//! The `compute_quotas` table: what differs from the configured limits.

use crate::ComputeError;
use state::{Db, Tx};
use std::collections::BTreeMap;

/// The owner of limits that hold for every project without its own.
pub(crate) const DEFAULT: &str = "class:default";

pub(crate) async fn of(db: &Db, owner: &str) -> Result<BTreeMap<String, i64>, ComputeError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(OF).bind(owner).fetch_all(db.read()).await?;
    Ok(rows.into_iter().collect())
}

pub(crate) async fn of_tx(tx: &mut Tx, owner: &str) -> Result<BTreeMap<String, i64>, ComputeError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(OF).bind(owner).fetch_all(tx.conn()).await?;
    Ok(rows.into_iter().collect())
}

const OF: &str = "SELECT resource, hard_limit FROM compute_quotas WHERE owner = $1";

pub(crate) async fn set(tx: &mut Tx, owner: &str, resource: &str, limit: i64) -> Result<(), ComputeError> {
    sqlx::query(
        "INSERT INTO compute_quotas (owner, resource, hard_limit) VALUES ($1, $2, $3) \
         ON CONFLICT (owner, resource) DO UPDATE SET hard_limit = excluded.hard_limit",
    )
    .bind(owner)
    .bind(resource)
    .bind(limit)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn clear(tx: &mut Tx, owner: &str) -> Result<(), ComputeError> {
    sqlx::query("DELETE FROM compute_quotas WHERE owner = $1").bind(owner).execute(tx.conn()).await?;
    Ok(())
}
