//! Rows of `object_graves`: deleted containers that may have left something in storage.

use crate::ObjectError;
use crate::names::ContainerId;
use crate::store::containers::Row;
use state::{Db, StateError, Timestamp, Tx};

pub(crate) struct Grave {
    pub(crate) id: ContainerId,
    pub(crate) policy: String,
    pub(crate) generation: u32,
    pub(crate) shards: u32,
}

pub(crate) async fn insert(tx: &mut Tx, row: &Row, now: Timestamp) -> Result<(), ObjectError> {
    sqlx::query(
        "INSERT INTO object_graves (container_id, policy, generation, shards, deleted_at) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (container_id) DO NOTHING",
    )
    .bind(row.id.to_string())
    .bind(row.policy.clone())
    .bind(i64::from(row.generation) + i64::from(row.growing > 0))
    .bind(i64::from(row.shards.max(row.growing)))
    .bind(now)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Graves from before `before`.
pub(crate) async fn due(db: &Db, before: Timestamp) -> Result<Vec<Grave>, ObjectError> {
    let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
        "SELECT container_id, policy, generation, shards FROM object_graves WHERE deleted_at < $1 \
         ORDER BY deleted_at LIMIT 1000",
    )
    .bind(before)
    .fetch_all(db.read())
    .await?;
    let corrupt = || StateError::Corrupt("object_graves".into());
    rows.into_iter()
        .map(|(id, policy, generation, shards)| {
            Ok(Grave {
                id: ContainerId::parse(&id).ok_or_else(corrupt)?,
                policy,
                generation: u32::try_from(generation).map_err(|_| corrupt())?,
                shards: u32::try_from(shards).map_err(|_| corrupt())?,
            })
        })
        .collect()
}

pub(crate) async fn delete(tx: &mut Tx, id: ContainerId) -> Result<(), ObjectError> {
    sqlx::query("DELETE FROM object_graves WHERE container_id = $1")
        .bind(id.to_string())
        .execute(tx.conn())
        .await?;
    Ok(())
}
