//! Limits that differ from the defaults, and what a project uses: always counted, never stored.

use crate::VolumeError;
use sqlx::{Any, Executor};
use state::Tx;
use std::collections::BTreeMap;

/// Limits by resource; -1 is none.
pub(crate) type Limits = BTreeMap<String, i64>;

pub(crate) async fn of_project<'e>(
    db: impl Executor<'e, Database = Any>,
    project_id: &str,
) -> Result<Limits, VolumeError> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT resource, hard_limit FROM volume_quotas WHERE project_id = $1")
            .bind(project_id)
            .fetch_all(db)
            .await?;
    Ok(rows.into_iter().collect())
}

pub(crate) async fn of_class<'e>(
    db: impl Executor<'e, Database = Any>,
    class: &str,
) -> Result<Limits, VolumeError> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT resource, hard_limit FROM volume_quota_classes WHERE class = $1")
            .bind(class)
            .fetch_all(db)
            .await?;
    Ok(rows.into_iter().collect())
}

pub(crate) async fn set_project(
    tx: &mut Tx,
    project_id: &str,
    resource: &str,
    limit: i64,
) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO volume_quotas (project_id, resource, hard_limit) VALUES ($1, $2, $3) \
         ON CONFLICT (project_id, resource) DO UPDATE SET hard_limit = excluded.hard_limit",
    )
    .bind(project_id)
    .bind(resource)
    .bind(limit)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn set_class(
    tx: &mut Tx,
    class: &str,
    resource: &str,
    limit: i64,
) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO volume_quota_classes (class, resource, hard_limit) VALUES ($1, $2, $3) \
         ON CONFLICT (class, resource) DO UPDATE SET hard_limit = excluded.hard_limit",
    )
    .bind(class)
    .bind(resource)
    .bind(limit)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn forget_project(tx: &mut Tx, project_id: &str) -> Result<(), VolumeError> {
    sqlx::query("DELETE FROM volume_quotas WHERE project_id = $1")
        .bind(project_id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// A deleted type's limits go with it.
pub(crate) async fn forget_type(tx: &mut Tx, type_name: &str) -> Result<(), VolumeError> {
    for resource in ["volumes", "gigabytes", "snapshots"] {
        let resource = format!("{resource}_{type_name}");
        for sql in [
            "DELETE FROM volume_quotas WHERE resource = $1",
            "DELETE FROM volume_quota_classes WHERE resource = $1",
        ] {
            sqlx::query(sql).bind(resource.clone()).execute(tx.conn()).await?;
        }
    }
    Ok(())
}

/// What a project uses of one type.
#[derive(Debug, Clone, Default)]
pub(crate) struct Used {
    pub(crate) volumes: i64,
    pub(crate) volume_gib: i64,
    pub(crate) snapshots: i64,
    pub(crate) snapshot_gib: i64,
}

/// What a project uses, by type id. What is being deleted is given back already.
pub(crate) async fn used(tx: &mut Tx, project_id: &str) -> Result<BTreeMap<String, Used>, VolumeError> {
    let rows: Vec<(i64, String, i64, i64)> = sqlx::query_as(
        "SELECT CAST(0 AS BIGINT), type_id, CAST(COUNT(*) AS BIGINT), CAST(SUM(size + growth) AS BIGINT) \
         FROM volumes WHERE project_id = $1 AND status <> 'deleting' GROUP BY type_id \
         UNION ALL SELECT CAST(1 AS BIGINT), type_id, CAST(COUNT(*) AS BIGINT), CAST(SUM(size) AS BIGINT) \
         FROM snapshots WHERE project_id = $1 AND status <> 'deleting' GROUP BY type_id",
    )
    .bind(project_id)
    .fetch_all(tx.conn())
    .await?;
    let mut used: BTreeMap<String, Used> = BTreeMap::new();
    for (kind, type_id, n, gib) in rows {
        let of = used.entry(type_id).or_default();
        if kind == 0 {
            (of.volumes, of.volume_gib) = (n, gib);
        } else {
            (of.snapshots, of.snapshot_gib) = (n, gib);
        }
    }
    Ok(used)
}
