//! Limits that an administrator set.

use std::collections::BTreeMap;

use sqlx::{Any, Executor, Row as _};
use state::Tx;

use crate::NetError;

pub(crate) async fn of<'e>(
    db: impl Executor<'e, Database = Any>,
    project: &str,
) -> Result<BTreeMap<String, i64>, NetError> {
    let rows = sqlx::query("SELECT resource, amount FROM net_quotas WHERE project_id = $1")
        .bind(project.to_owned())
        .fetch_all(db)
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get("resource").map_err(NetError::from)?, row.try_get("amount")?)))
        .collect()
}

/// The projects that have limits of their own.
pub(crate) async fn projects<'e>(db: impl Executor<'e, Database = Any>) -> Result<Vec<String>, NetError> {
    Ok(sqlx::query_scalar("SELECT DISTINCT project_id FROM net_quotas ORDER BY project_id")
        .fetch_all(db)
        .await?)
}

pub(crate) async fn set(tx: &mut Tx, project: &str, resource: &str, limit: i64) -> Result<(), NetError> {
    sqlx::query(
        "INSERT INTO net_quotas (project_id, resource, amount) VALUES ($1, $2, $3) \
         ON CONFLICT (project_id, resource) DO UPDATE SET amount = excluded.amount",
    )
    .bind(project.to_owned())
    .bind(resource.to_owned())
    .bind(limit)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn reset(tx: &mut Tx, project: &str) -> Result<(), NetError> {
    sqlx::query("DELETE FROM net_quotas WHERE project_id = $1")
        .bind(project.to_owned())
        .execute(tx.conn())
        .await?;
    Ok(())
}
